/* engine_test.c - what a request may ask and how it ends; bytes over edges; limits; weights that lie at odd places;
 * many threads. */
#include "golden.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "plan/plan_internal.h"
#include "plan/store.h"

typedef struct setup {
    golden_model g;
    golden_engine e;
} setup;

static void start(setup *s, const char *model, const char *devices, const char *strategy,
                  const berth_plan_config *config, const berth_core_options *options)
{
    berth_error err = {0};
    golden_open(&s->g, model);
    golden_must(golden_plan(&s->e, &s->g, devices, strategy, config, &err), &err, model);
    golden_must(golden_start(&s->e, options, &err), &err, model);
}

static void stop(setup *s)
{
    golden_stop(&s->e);
    golden_close(&s->g);
}

/* ---- how a request ends ----------------------------------------------------------------------------------------- */

typedef struct listener {
    int32_t n, stop_after;
    int *cancel; /* set after `cancel_after` tokens */
    int32_t cancel_after;
    bool wrong;
} listener;

static bool listen(void *user, int32_t index, int32_t id, const float *logits)
{
    listener *l = user;
    if (index != l->n || id < 0 || !logits) l->wrong = true;
    l->n++;
    if (l->cancel && l->n == l->cancel_after) __atomic_store_n(l->cancel, 1, __ATOMIC_RELEASE);
    return l->n != l->stop_after;
}

static void ends_of_an_answer(void **state)
{
    (void)state;
    setup s;
    berth_error err = {0};
    start(&s, "ivl-native", "cpu*2", "balanced", NULL, NULL);
    const golden_case *c = &s.g.cases[0];
    int cancel = 0;
    const int32_t stops[] = {99999, c->greedy[3]};
    int32_t first_stop = 0;
    while (c->greedy[first_stop] != c->greedy[3]) first_stop++;
    const struct {
        int32_t max_new, n_stop, stop_after, cancel_after, n;
        berth_finish finish;
    } rows[] = {
        {0, 0, 0, 0, 0, BERTH_FINISH_LENGTH},  {5, 0, 0, 0, 5, BERTH_FINISH_LENGTH},
        {1, 0, 0, 0, 1, BERTH_FINISH_LENGTH},  {20, 2, 0, 0, first_stop + 1, BERTH_FINISH_STOP},
        {20, 0, 3, 0, 3, BERTH_FINISH_CALLER}, {20, 0, 0, 2, 2, BERTH_FINISH_CANCELLED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        listener l = {.stop_after = rows[i].stop_after, .cancel = &cancel, .cancel_after = rows[i].cancel_after};
        cancel = 0;
        berth_core_request q = golden_request(c, rows[i].max_new);
        q.stop_ids = stops;
        q.n_stop = rows[i].n_stop;
        q.on_token = listen;
        q.wants_logits = true;
        q.user = &l;
        q.cancel = &cancel;
        berth_core_result result;
        golden_must(berth_core_run(s.e.core, &q, &result, &err), &err, "run");
        assert_int_equal(result.finish, rows[i].finish);
        assert_int_equal(result.n_ids, rows[i].n);
        assert_int_equal(l.n, rows[i].n);
        assert_false(l.wrong);
        assert_memory_equal(result.ids, c->greedy, (size_t)rows[i].n * sizeof *c->greedy);
        assert_true(result.timing.total_ns >=
                    result.timing.encode_ns + result.timing.prefill_ns + result.timing.decode_ns);
        berth_core_result_deinit(&result);
    }
    cancel = 1; /* before anything ran */
    berth_core_request q = golden_request(c, 3);
    q.cancel = &cancel;
    berth_core_result result;
    golden_must(berth_core_run(s.e.core, &q, &result, &err), &err, "run");
    assert_int_equal(result.finish, BERTH_FINISH_CANCELLED);
    assert_int_equal(result.n_ids, 0);
    berth_core_result_deinit(&result);
    stop(&s);
}

static void forced_ids_are_continued(void **state)
{
    (void)state;
    setup s;
    berth_error err = {0};
    start(&s, "qwen2-text", "cpu", "single", NULL, NULL);
    const golden_case *c = &s.g.cases[0];
    berth_core_request q = golden_request(c, 8);
    int32_t longer[512];
    memcpy(longer, c->ids, (size_t)c->n_ids * sizeof *longer);
    const int32_t forced[] = {7, 300, 2};
    memcpy(longer + c->n_ids, forced, sizeof forced);
    q.forced = forced;
    q.n_forced = 3;
    q.stop_ids = forced; /* a forced id ends nothing */
    q.n_stop = 1;
    berth_core_result with, plain;
    golden_must(berth_core_run(s.e.core, &q, &with, &err), &err, "forced");
    assert_int_equal(with.n_ids, 8);
    assert_memory_equal(with.ids, forced, sizeof forced);
    berth_core_request p = golden_request(c, 5);
    p.ids = longer;
    p.n_ids = c->n_ids + 3;
    golden_must(berth_core_run(s.e.core, &p, &plain, &err), &err, "prompt");
    assert_memory_equal(with.ids + 3, plain.ids, 5 * sizeof *plain.ids);
    berth_core_result_deinit(&with);
    berth_core_result_deinit(&plain);
    stop(&s);
}

static void the_context_bounds_the_answer(void **state)
{
    (void)state;
    setup s;
    berth_error err = {0};
    golden_model g;
    golden_open(&g, "qwen2-text");
    int32_t n = g.cases[0].n_ids;
    golden_close(&g);
    start(&s, "qwen2-text", "cpu", "single", &(berth_plan_config){.context = n + 4}, NULL);
    berth_core_request q = golden_request(&s.g.cases[0], INT32_MAX);
    berth_core_result result;
    golden_must(berth_core_run(s.e.core, &q, &result, &err), &err, "run");
    assert_int_equal(result.finish, BERTH_FINISH_LENGTH);
    assert_int_equal(result.n_ids, 5); /* the last one need not be kept */
    assert_memory_equal(result.ids, s.g.cases[0].greedy, 5 * sizeof *result.ids);
    berth_core_result_deinit(&result);
    stop(&s);
}

static void requests_that_cannot_be_meant(void **state)
{
    (void)state;
    setup s;
    start(&s, "ivl-native", "cpu*2", "balanced", NULL, NULL);
    const golden_case *c = &s.g.cases[0];
    int32_t *ids = malloc(5000 * sizeof *ids);
    for (int i = 0; i < 5000; i++) ids[i] = 5;
    berth_core_request rows[12];
    const char *words[12];
    int n = 0;
    for (int i = 0; i < 12; i++) rows[i] = golden_request(c, 2);
    rows[n].n_ids = 0, words[n++] = "empty";
    rows[n].ids = ids, rows[n].n_ids = 5000, rows[n].n_tiles = 0, rows[n].pixels = NULL, words[n++] = "too long";
    rows[n].n_tiles = c->n_tiles - 1, words[n++] = "image tokens";
    rows[n].pixels = NULL, words[n++] = "without pixels";
    rows[n].n_tiles = 0, rows[n].pixels = NULL, words[n++] = "image tokens";
    rows[n].image_token_id = -1, words[n++] = "image tokens";
    rows[n].n_tiles = 1000, words[n++] = "1000 tiles";
    rows[n].max_new = -1, words[n++] = "negative";
    rows[n].sampling.top_k = -1, words[n++] = "top-k";
    static const int32_t far[] = {490};
    rows[n].forced = far, rows[n].n_forced = 1, words[n++] = "vocabulary of 490";
    static const int32_t below[] = {3, -1};
    rows[n].ids = below, rows[n].n_ids = 2, rows[n].n_tiles = 0, rows[n].pixels = NULL, words[n++] = "position 1";
    for (int i = 0; i < n; i++) {
        berth_error err = {0};
        berth_core_result result;
        assert_int_equal(berth_core_run(s.e.core, &rows[i], &result, &err), BERTH_INVALID_ARGUMENT);
        if (!strstr(err.message, words[i])) fail_msg("row %d: %s", i, err.message);
        assert_null(result.ids);
    }
    free(ids);
    stop(&s);
}

static void two_requests_do_not_know_each_other(void **state)
{
    (void)state;
    setup s;
    berth_error err = {0};
    start(&s, "ivl-tied", "cpu*2", "balanced", NULL, NULL);
    for (int32_t round = 0; round < 6; round++) { /* long, short, long ...: rope and blocks start anew */
        const golden_case *c = &s.g.cases[(round * 2) % s.g.n_cases];
        berth_core_request q = golden_request(c, c->n_greedy);
        berth_core_result result;
        golden_must(berth_core_run(s.e.core, &q, &result, &err), &err, c->name);
        assert_memory_equal(result.ids, c->greedy, (size_t)c->n_greedy * sizeof *c->greedy);
        berth_core_result_deinit(&result);
    }
    stop(&s);
}

/* ---- plans and bytes -------------------------------------------------------------------------------------------- */

static void edges_carry_what_the_program_says(void **state)
{
    (void)state;
    setup s;
    berth_error err = {0};
    enum { D = 4, E = (D + 1) * (D + 1) };
    start(&s, "ivl-native", "cpu*3", "balanced", NULL, NULL);
    const golden_case *c = &s.g.cases[0];
    const berth_replica_plan *r = &s.e.plan->replicas[0];
    const berth_vision_config *v = &berth_model_data_config(s.g.data)->vision;
    berth_sizes encode = r->encode->bounds, step = r->step->bounds;
    encode.value[BERTH_SYM_TILES] = c->n_tiles;
    encode.value[BERTH_SYM_FEATURES] = (int64_t)c->n_tiles * v->tokens_per_tile;
    step.value[BERTH_SYM_TOKENS] = c->n_ids;
    step.value[BERTH_SYM_SEQS] = step.value[BERTH_SYM_LOGITS] = 1;
    step.value[BERTH_SYM_IMAGE_ROWS] = (int64_t)c->n_tiles * v->tokens_per_tile;
    step.value[BERTH_SYM_BEST] = 0;
    uint64_t a[E] = {0}, b[E] = {0}, sum = 0;
    berth_program_edges(r->encode, &encode, a);
    berth_program_edges(r->step, &step, b);
    berth_core_request q = golden_request(c, 0);
    berth_core_result result;
    golden_must(berth_core_run(s.e.core, &q, &result, &err), &err, "run");
    for (int i = 0; i < 16; i++) {
        assert_int_equal(result.edge_bytes[i], a[i] + b[i]);
        assert_int_equal(result.edge_ns[i] > 0, result.edge_bytes[i] > 0);
        sum += result.edge_bytes[i];
    }
    assert_true(sum > 0);
    berth_core_result_deinit(&result);
    stop(&s);
}

static void what_does_not_fit_is_refused_with_the_missing_bytes(void **state)
{
    (void)state;
    golden_model g;
    golden_engine e;
    berth_error err = {0};
    golden_open(&g, "ivl-native");
    golden_must(golden_plan(&e, &g, "cpu", "single", NULL, &err), &err, "plan");
    uint64_t total = e.plan->devices[0].total;
    golden_stop(&e);
    static const char map[] = "{\"\": 0}";
    const struct {
        uint64_t limit;
        bool fits;
    } rows[] = {{total, true}, {total - 1, false}, {total / 2, false}};
    for (int i = 0; i < 3; i++) {
        char devices[64];
        memset(&e, 0, sizeof e);
        snprintf(devices, sizeof devices, "cpu/mem=%llu", (unsigned long long)rows[i].limit);
        golden_must(berth_machine_parse(devices, &e.machine, &err), &err, devices);
        berth_plan_config config = {.context = g.cases[0].n_ids + g.cases[0].n_greedy};
        golden_must(berth_core_plan_create(g.data, &e.machine, NULL, map, sizeof map - 1, &config, &e.plan, &err), &err,
                    "map");
        assert_int_equal(e.plan->fits, rows[i].fits);
        assert_int_equal(e.plan->missing_bytes, total - rows[i].limit);
        berth_status st = golden_start(&e, NULL, &err);
        assert_int_equal(st, rows[i].fits ? BERTH_OK : BERTH_DOES_NOT_FIT);
        char missing[64];
        snprintf(missing, sizeof missing, "%llu bytes are missing", (unsigned long long)(total - rows[i].limit));
        if (!rows[i].fits && !strstr(err.message, missing)) fail_msg("%s", err.message);
        golden_stop(&e);
    }
    golden_close(&g);
}

static void settings_out_of_range_are_refused(void **state)
{
    (void)state;
    static const struct {
        berth_plan_config config;
        const char *strategy, *word;
        berth_status status;
    } rows[] = {
        {{.context = 1000000000000}, "single", "context 1000000000000", BERTH_INVALID_ARGUMENT},
        {{.context = -5}, "single", "context -5", BERTH_INVALID_ARGUMENT},
        {{.n_seqs = -1}, "single", "n_seqs", BERTH_INVALID_ARGUMENT},
        {{.chunk = -1}, "single", "chunk", BERTH_INVALID_ARGUMENT},
        {{.max_tiles = -3}, "single", "tiles", BERTH_INVALID_ARGUMENT},
        {{.kernels = "quantum"}, "single", "quantum", BERTH_INVALID_ARGUMENT},
        {{.chunk = 0}, "balansed", "did you mean balanced", BERTH_INVALID_ARGUMENT},
        {{.chunk = 0}, "", NULL, BERTH_OK},
        {{.chunk = 0}, NULL, NULL, BERTH_OK},
    };
    golden_model g;
    golden_open(&g, "ivl-native");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        golden_engine e;
        berth_error err = {0};
        berth_status st = golden_plan(&e, &g, "cpu*2", rows[i].strategy, &rows[i].config, &err);
        if (st != rows[i].status) fail_msg("row %zu: %s %s", i, berth_status_name(st), err.message);
        if (rows[i].word && !strstr(err.message, rows[i].word)) fail_msg("row %zu: %s", i, err.message);
        if (st == BERTH_OK) golden_stop(&e);
    }
    golden_engine e;
    berth_error err = {0};
    golden_must(golden_plan(&e, &g, "cpu", NULL, NULL, &err), &err, "plan");
    assert_int_equal(golden_start(&e, &(berth_core_options){.transport = "pigeon"}, &err), BERTH_INVALID_ARGUMENT);
    golden_stop(&e);
    golden_close(&g);
}

/* The header one byte longer: no tensor lies at a multiple of its element's size any more. */
static void weights_at_odd_places_are_used_all_the_same(void **state)
{
    (void)state;
    static const char *const models[] = {"ivl-native", "ivl-tied"};
    for (int i = 0; i < 2; i++) {
        char dir[64], path[128], *data = NULL;
        size_t n = 0;
        berth_error err = {0};
        golden_copy(models[i], dir);
        snprintf(path, sizeof path, "%s/model.safetensors", dir);
        golden_must(berth_file_read(path, 64 << 20, &data, &n, &err), &err, path);
        uint64_t header;
        memcpy(&header, data, 8);
        char *odd = malloc(n + 1);
        memcpy(odd, data, 8 + header);
        odd[8 + header] = ' ';
        memcpy(odd + 9 + header, data + 8 + header, n - 8 - header);
        header++;
        memcpy(odd, &header, 8);
        golden_must(berth_file_write(path, odd, n + 1, &err), &err, path);
        golden_model g;
        golden_engine e;
        golden_open_at(&g, models[i], dir);
        assert_int_equal(berth_model_data_param(g.data, 0)->offset % 2, 1);
        golden_must(golden_plan(&e, &g, "cpu*2", "balanced", NULL, &err), &err, "plan");
        const berth_core_options options = {.strict = i == 1, .n_readers = 3, .piece_bytes = 512};
        golden_must(golden_start(&e, &options, &err), &err, "start");
        for (int32_t d = 0; d < 2; d++) {
            berth_device_bytes got = berth_core_allocated(e.core, d);
            assert_memory_equal(&got, &e.plan->devices[d], sizeof got);
        }
        const golden_case *c = &g.cases[0];
        berth_core_request q = golden_request(c, c->n_greedy);
        berth_core_result result;
        golden_must(berth_core_run(e.core, &q, &result, &err), &err, "run");
        assert_memory_equal(result.ids, c->greedy, (size_t)c->n_greedy * sizeof *c->greedy);
        berth_core_result_deinit(&result);
        golden_stop(&e);
        golden_close(&g);
        golden_remove(dir);
        free(data);
        free(odd);
    }
}

static void a_file_cut_short_after_opening_is_noticed(void **state)
{
    (void)state;
    char dir[64], path[128];
    golden_model g;
    golden_engine e;
    berth_error err = {0};
    golden_copy("qwen2-text", dir);
    golden_open_at(&g, "qwen2-text", dir);
    golden_must(golden_plan(&e, &g, "cpu", "single", NULL, &err), &err, "plan");
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    FILE *f = fopen(path, "wb"); /* truncates the very file that is open */
    assert_non_null(f);
    fclose(f);
    assert_int_equal(golden_start(&e, NULL, &err), BERTH_BAD_FILE);
    assert_non_null(strstr(err.message, "model.safetensors"));
    golden_stop(&e);
    golden_close(&g);
    golden_remove(dir);
}

/* ---- threads ---------------------------------------------------------------------------------------------------- */

typedef struct asker {
    setup *s;
    int32_t first, n_wrong;
    _Atomic uint32_t *answered; /* bit set of the replicas that did */
    uint32_t replicas;          /* those that shall */
} asker;

static void *ask(void *arg)
{
    asker *a = arg;
    for (int32_t i = 0; i < 4 || atomic_load(a->answered) != a->replicas; i++) {
        const golden_case *c = &a->s->g.cases[(a->first + i) % a->s->g.n_cases];
        berth_core_request q = golden_request(c, 12);
        berth_core_result result;
        berth_error err = {0};
        if (berth_core_run(a->s->e.core, &q, &result, &err) != BERTH_OK || result.n_ids != 12 ||
            memcmp(result.ids, c->greedy, 12 * sizeof *c->greedy) != 0)
            a->n_wrong++;
        atomic_fetch_or(a->answered, 1u << result.replica);
        berth_core_result_deinit(&result);
    }
    return NULL;
}

/* Every thread gets the right tokens. They ask until the replicas of the bit set `replicas` have all answered: which of them
 * takes a request is whoever comes first. */
static void ask_from_four_threads(setup *s, uint32_t replicas)
{
    pthread_t threads[4];
    asker askers[4];
    _Atomic uint32_t answered = 0;
    for (int i = 0; i < 4; i++) {
        askers[i] = (asker){.s = s, .first = i, .answered = &answered, .replicas = replicas};
        assert_int_equal(pthread_create(&threads[i], NULL, ask, &askers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(askers[i].n_wrong, 0);
    }
    assert_int_equal(answered, replicas);
}

static void many_threads_ask_at_once(void **state)
{
    (void)state;
    static const struct {
        const char *devices, *strategy;
        bool strict;
        uint32_t replicas;
    } rows[] = {
        {"cpu*2", "balanced", false, 1},
        {"cpu*2", "replicate", false, 3},
        {"cpu*4", "replicate=2", false, 3},
        {"cpu*2", "replicate", true, 3},
    };
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        setup s;
        start(&s, "ivl-tied", rows[k].devices, rows[k].strategy, NULL, &(berth_core_options){.strict = rows[k].strict});
        ask_from_four_threads(&s, rows[k].replicas);
        stop(&s);
    }
}

/* Two replicas over the same two devices, in opposite orders: were their jobs to reach the lanes in different orders,
 * each would wait for the other for ever. */
static void add_mirrored_replica(berth_core_plan *plan)
{
    berth_placement *p = plan->placement;
    berth_error err = {0};
    size_t n = (size_t)p->n_nodes;
    p->device_of = realloc(p->device_of, 2 * n * sizeof *p->device_of);
    for (size_t i = 0; i < n; i++) p->device_of[n + i] = p->device_of[i] < 0 ? -1 : 1 - p->device_of[i];
    p->n_replicas = 2;
    plan->replicas = realloc(plan->replicas, 2 * sizeof *plan->replicas);
    const char *names[BERTH_MAX_DEVICES];
    berth_plan_device devices[2];
    for (int32_t d = 0; d < 2; d++) devices[d] = berth_plan_device_of(&plan->machine->devices[d]);
    berth_pass_env env = berth_core_plan_env(plan, 1, names);
    golden_must(berth_plan_programs(plan->model, &plan->config, &env, plan->kernels, devices, &plan->replicas[1], &err),
                &err, "second replica");
    golden_must(berth_plan_add_up(plan, &err), &err, "bytes");
    assert_true(plan->fits);
}

static void replicas_that_share_devices_never_wait_in_a_circle(void **state)
{
    (void)state;
    setup s;
    berth_error err = {0};
    golden_open(&s.g, "ivl-tied");
    golden_must(golden_plan(&s.e, &s.g, "cpu*2", "balanced", NULL, &err), &err, "plan");
    add_mirrored_replica(s.e.plan);
    golden_must(golden_start(&s.e, NULL, &err), &err, "start");
    ask_from_four_threads(&s, 3);
    stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_of_an_answer),
        cmocka_unit_test(forced_ids_are_continued),
        cmocka_unit_test(the_context_bounds_the_answer),
        cmocka_unit_test(requests_that_cannot_be_meant),
        cmocka_unit_test(two_requests_do_not_know_each_other),
        cmocka_unit_test(edges_carry_what_the_program_says),
        cmocka_unit_test(what_does_not_fit_is_refused_with_the_missing_bytes),
        cmocka_unit_test(settings_out_of_range_are_refused),
        cmocka_unit_test(weights_at_odd_places_are_used_all_the_same),
        cmocka_unit_test(a_file_cut_short_after_opening_is_noticed),
        cmocka_unit_test(many_threads_ask_at_once),
        cmocka_unit_test(replicas_that_share_devices_never_wait_in_a_circle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
