/* golden_models_test.c - every golden model and case on 1 to 4 devices, under every strategy, with both kinds of
 * kernels: every recorded value within its tolerance in the order of computation, greedy tokens and both penalty lists
 * equal, and what was planned is what is allocated. */
#include "golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/registry.h"

/* ---- seeing values ---------------------------------------------------------------------------------------------- */

typedef struct seen { /* one golden tensor as the engine made it, pass after pass */
    const char *name;
    float *data;
    size_t n, cap;
} seen;

typedef struct album {
    const golden_case *c;
    seen values[64];
    int32_t n_values;
    bool closed;  /* the prompt is over */
    float *steps; /* [n_steps, vocab] logits of each choice */
    int32_t n_steps, vocab;
} album;

static bool want(void *user, const char *name)
{
    const album *a = user;
    return golden_find(a->c, name) != NULL;
}

static void see(void *user, const char *program, const char *name, int64_t pass, const berth_tensor *t)
{
    album *a = user;
    (void)program;
    (void)pass;
    if (a->closed) return;
    int32_t i = 0;
    while (i < a->n_values && strcmp(a->values[i].name, name) != 0) i++;
    if (i == a->n_values) {
        assert_true(a->n_values < 64);
        a->values[a->n_values++] = (seen){.name = name};
    }
    seen *v = &a->values[i];
    size_t n = (size_t)berth_tensor_elements(t);
    v->data = realloc(v->data, (v->n + n + 1) * sizeof *v->data);
    memcpy(v->data + v->n, t->data, n * sizeof *v->data);
    v->n += n;
}

static bool on_token(void *user, int32_t index, int32_t id, const float *logits)
{
    album *a = user;
    (void)id;
    a->closed = true;
    a->steps = realloc(a->steps, (size_t)(index + 1) * (size_t)a->vocab * sizeof *a->steps);
    memcpy(a->steps + (size_t)index * (size_t)a->vocab, logits, (size_t)a->vocab * sizeof *logits);
    a->n_steps = index + 1;
    return true;
}

static void album_deinit(album *a)
{
    for (int32_t i = 0; i < a->n_values; i++) free(a->values[i].data);
    free(a->steps);
}

/* ---- comparing -------------------------------------------------------------------------------------------------- */

static void compare(const char *what, const golden_case *c, const char *tensor, double tolerance, const float *got,
                    size_t n_got)
{
    const berth_safetensor *t = golden_find(c, tensor);
    assert_non_null(t);
    float *wanted = golden_read(c, t);
    size_t n = t->n_bytes / sizeof *wanted;
    if (n != n_got) fail_msg("%s: %s has %zu values, not %zu", what, tensor, n_got, n);
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)wanted[i]);
        if (!(d <= worst)) worst = d;
    }
    free(wanted);
    if (!(worst <= tolerance)) fail_msg("%s: %s is off by %.3g, tolerance %.3g", what, tensor, worst, tolerance);
}

static void compare_album(const char *what, const golden_case *c, const album *a)
{
    int32_t n_compared = 0;
    const berth_json_node *tolerances = berth_json_get(c->node, "tolerance");
    for (const berth_json_node *t = berth_json_first(tolerances); t; t = berth_json_next(t)) {
        const char *name = berth_json_key(t);
        double tolerance = golden_tolerance(c, name);
        if (strcmp(name, "logits.step") == 0) {
            for (int32_t k = 0; k < a->n_steps; k++) {
                char step[32];
                snprintf(step, sizeof step, "logits.step.%d", k);
                if (!golden_find(c, step)) continue;
                compare(what, c, step, tolerance, a->steps + (size_t)k * (size_t)a->vocab, (size_t)a->vocab);
                n_compared++;
            }
            continue;
        }
        int32_t i = 0;
        while (i < a->n_values && strcmp(a->values[i].name, name) != 0) i++;
        if (i == a->n_values) fail_msg("%s: no value %s was seen", what, name);
        compare(what, c, name, tolerance, a->values[i].data, a->values[i].n);
        n_compared++;
    }
    assert_true(n_compared >= 10);
}

static void compare_ids(const char *what, const char *list, const int32_t *got, int32_t n_got, const int32_t *wanted,
                        int32_t n)
{
    if (n_got != n) fail_msg("%s: %s: %d tokens, not %d", what, list, n_got, n);
    for (int32_t i = 0; i < n; i++)
        if (got[i] != wanted[i]) fail_msg("%s: %s: token %d is %d, not %d", what, list, i, got[i], wanted[i]);
}

static void check_greedy(const char *what, berth_core *core, const golden_case *c, int32_t vocab, bool traced)
{
    berth_error err = {0};
    album a = {.c = c, .vocab = vocab};
    const berth_tap tap = {.want = want, .see = see, .user = &a};
    berth_core_request q = golden_request(c, c->n_greedy);
    berth_core_result result;
    if (traced) {
        q.tap = &tap;
        q.on_token = on_token;
        q.wants_logits = true;
        q.user = &a;
    }
    golden_must(berth_core_run(core, &q, &result, &err), &err, what);
    if (traced) compare_album(what, c, &a);
    compare_ids(what, "greedy", result.ids, result.n_ids, c->greedy, c->n_greedy);
    assert_int_equal(result.finish, BERTH_FINISH_LENGTH);
    berth_core_result_deinit(&result);
    album_deinit(&a);
}

static void check_penalty(const char *what, berth_core *core, const golden_case *c, bool skips_prompt)
{
    berth_error err = {0};
    berth_core_request q = golden_request(c, c->n_greedy);
    berth_core_result result;
    q.sampling.repetition_penalty = 1.3f;
    q.sampling.penalty_skips_prompt = skips_prompt;
    golden_must(berth_core_run(core, &q, &result, &err), &err, what);
    compare_ids(what, skips_prompt ? "penalty over generated" : "penalty over all", result.ids, result.n_ids,
                skips_prompt ? c->penalty_new : c->penalty_all, c->n_greedy);
    berth_core_result_deinit(&result);
}

/* What was planned is what was allocated, on every device, to the byte; and what strategies were told to keep free for
 * activations was enough, where each device serves one replica. */
static void check_bytes(const char *what, const golden_engine *e)
{
    uint64_t weights = 0;
    berth_error err = {0};
    berth_strategy_input in;
    golden_must(berth_strategy_input_init(e->plan->model, &e->machine, &e->plan->config, &in, &err), &err, what);
    for (int32_t d = 0; d < e->machine.n_devices; d++) {
        berth_device_bytes got = berth_core_allocated(e->core, d);
        if (memcmp(&got, &e->plan->devices[d], sizeof got) != 0)
            fail_msg("%s: device %d: plan and bytes differ", what, d);
        assert_true(got.total == got.weights + got.kv + got.features + got.activations + got.workspace);
        weights += got.weights;
        uint64_t passing = got.activations + got.workspace + got.features;
        if (passing > berth_device_at(&in, d)->reserved_bytes)
            fail_msg("%s: device %d needs %llu bytes besides weights and KV; %llu were reserved", what, d,
                     (unsigned long long)passing, (unsigned long long)berth_device_at(&in, d)->reserved_bytes);
    }
    berth_strategy_input_deinit(&in);
    assert_true(weights > 0);
}

/* ---- campaigns -------------------------------------------------------------------------------------------------- */

typedef struct setting {
    const char *devices, *strategy;
    berth_plan_config config;
    berth_core_options options;
    bool penalties;
} setting;

static void check_model(const golden_model *g, const setting *s)
{
    golden_engine e;
    berth_error err = {0};
    char what[256];
    snprintf(what, sizeof what, "%s, %s, %s", g->name, s->devices, s->strategy);
    golden_must(golden_plan(&e, g, s->devices, s->strategy, &s->config, &err), &err, what);
    golden_must(golden_start(&e, &s->options, &err), &err, what);
    check_bytes(what, &e);
    int32_t vocab = berth_model_data_config(g->data)->text.vocab;
    for (int32_t i = 0; i < g->n_cases; i++) {
        const golden_case *c = &g->cases[i];
        snprintf(what, sizeof what, "%s %s, %s, %s, %s", g->name, c->name, s->devices, s->strategy,
                 e.plan->kernels->name);
        check_greedy(what, e.core, c, vocab, s->config.trace);
        if (!s->penalties) continue;
        check_penalty(what, e.core, c, false);
        check_penalty(what, e.core, c, true);
    }
    golden_stop(&e);
}

static void check_all_models(const setting *s)
{
    for (const char *const *name = golden_names; *name; name++) {
        golden_model g;
        golden_open(&g, *name);
        check_model(&g, s);
        golden_close(&g);
    }
}

static void reference_kernels_on_one_device(void **state)
{
    (void)state;
    check_all_models(&(setting){"cpu", "single", {.trace = true, .kernels_ref = true}, .penalties = true});
}

static void fast_kernels_on_one_device(void **state)
{
    (void)state;
    check_all_models(&(setting){"cpu", "single", {.trace = true}, .penalties = true});
}

static void fast_kernels_on_four_devices(void **state)
{
    (void)state;
    check_all_models(&(setting){"cpu*4", "balanced_low_0", {.trace = true}, .penalties = true});
}

static void every_strategy_on_one_to_four_devices(void **state)
{
    (void)state;
    static const char *const machines[] = {"cpu", "cpu*2", "cpu*3", "cpu*4"};
    for (int32_t m = 0; m < 4; m++)
        for (int32_t i = 0; i < berth_strategy_count(); i++)
            check_all_models(&(setting){machines[m], berth_strategy_at(i)->name, {.trace = true}});
}

static void small_chunks_and_staged_copies(void **state)
{
    (void)state;
    check_all_models(&(setting){"cpu*3", "balanced", {.trace = true, .chunk = 7, .tiles = 1}, {.transport = "staged"}});
    check_all_models(
        &(setting){"cpu*2", "balanced", {.chunk = 16, .tiles = 2, .kernels_ref = true}, .penalties = true});
}

static void strict_mode_gives_the_same(void **state)
{
    (void)state;
    check_all_models(&(setting){"cpu*4", "balanced", {.trace = true, .chunk = 50}, {.strict = true}});
    check_all_models(&(setting){"cpu*3", "balanced_low_0", {.trace = true}, {.strict = true, .transport = "staged"}});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_kernels_on_one_device), cmocka_unit_test(fast_kernels_on_one_device),
        cmocka_unit_test(fast_kernels_on_four_devices),    cmocka_unit_test(every_strategy_on_one_to_four_devices),
        cmocka_unit_test(small_chunks_and_staged_copies),  cmocka_unit_test(strict_mode_gives_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
