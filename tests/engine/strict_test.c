/* strict_test.c - a missing copy is luck between virtual devices that share a process, and a named fault in strict
 * mode. */
#include "golden.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The k-th routed copy between devices is dropped: its readers read the original. False: there is no such copy. */
static bool drop_copy(berth_program *p, int32_t k, int32_t *out_op, char *reader, size_t reader_size)
{
    for (int32_t i = 0; p && i < p->n_ops; i++) {
        const berth_op *copy = &p->ops[i];
        if (copy->kind != BERTH_OP_COPY || p->values[copy->out].device < 0) continue;
        if (k-- > 0) continue;
        for (int32_t j = i + 1; j < p->n_ops; j++) {
            for (int32_t n = 0; n < p->ops[j].n_in; n++) {
                if (p->ops[j].in[n] != copy->out) continue;
                p->ops[j].in[n] = copy->in[0];
                if (!reader[0]) snprintf(reader, reader_size, "%s", p->values[p->ops[j].out].name);
            }
        }
        *out_op = i;
        return true;
    }
    return false;
}

/* Penalised, so that also what is told of the best logits is copied. */
static berth_core_request request_of(const golden_model *g)
{
    berth_core_request q = golden_request(&g->cases[0], 2);
    q.sampling.repetition_penalty = 1.3f;
    return q;
}

static void run_once(golden_engine *e, const golden_model *g, const berth_core_options *options,
                     berth_status *out_status, berth_core_result *result, berth_error *err)
{
    golden_must(golden_start(e, options, err), err, "start");
    berth_core_request q = request_of(g);
    *out_status = berth_core_run(e->core, &q, result, err);
}

static int32_t drop_each_copy(const golden_model *g, int which, const char *transport)
{
    for (int32_t k = 0;; k++) {
        golden_engine e;
        berth_error err = {0};
        golden_must(golden_plan(&e, g, "cpu*3", "balanced", NULL, &err), &err, "plan");
        berth_replica_plan *r = &e.plan->replicas[0];
        berth_program *p = which == 0 ? r->encode : r->step;
        int32_t op;
        char reader[BERTH_VALUE_NAME] = "", original[BERTH_VALUE_NAME];
        bool dropped = drop_copy(p, k, &op, reader, sizeof reader);
        if (!dropped) {
            golden_stop(&e);
            return k;
        }
        snprintf(original, sizeof original, "%s", p->values[p->ops[op].in[0]].name);
        int32_t owner = p->values[p->ops[op].in[0]].device;
        const char *owner_name = owner < 0 ? "the host" : e.machine.devices[owner].name;
        const berth_core_options options = {.strict = true, .transport = transport};
        berth_status st;
        berth_core_result result;
        run_once(&e, g, &options, &st, &result, &err);
        if (st != BERTH_DEVICE_ERROR)
            fail_msg("%s: copy %d of %s went unnoticed: status %d", g->name, k, original, (int)st);
        if (!strstr(err.message, original) || !strstr(err.message, owner_name) || !strstr(err.message, reader))
            fail_msg("%s missing, read by %s: %s", original, reader, err.message);
        assert_in_range(err.device, 0, 2);
        /* the engine is not hurt: lanes run on, and the next request fails in the same way */
        berth_core_request q = request_of(g);
        berth_error again = {0};
        assert_int_equal(berth_core_run(e.core, &q, &result, &again), BERTH_DEVICE_ERROR);
        assert_string_equal(again.message, err.message);
        golden_stop(&e);
    }
}

static void every_missing_copy_is_a_named_fault(void **state)
{
    (void)state;
    golden_model g;
    golden_open(&g, "ivl-rms-qknorm");
    assert_true(drop_each_copy(&g, 0, "local") >= 3);
    assert_true(drop_each_copy(&g, 1, "staged") >= 6);
    golden_close(&g);
}

static void save_logits(void *user, const char *program, const char *name, int64_t pass, const berth_tensor *t)
{
    (void)program;
    (void)name;
    (void)pass;
    float **all = user;
    size_t n = (size_t)berth_tensor_elements(t), have = *all ? (size_t)(*all)[0] : 1;
    *all = realloc(*all, (have + n) * sizeof **all);
    memcpy(*all + have, t->data, n * sizeof **all);
    (*all)[0] = (float)(have + n); /* exact: far below 2^24 */
}

static bool want_logits(void *user, const char *name)
{
    (void)user;
    return strcmp(name, "logits") == 0;
}

/* Sampled by temperature alone: each token is chosen from a whole row, which strict mode opens for that. */
static float *logits_of(const golden_model *g, bool strict)
{
    golden_engine e;
    berth_error err = {0};
    float *all = NULL;
    golden_must(golden_plan(&e, g, "cpu*3", "balanced", &(berth_plan_config){.trace = true}, &err), &err, "plan");
    golden_must(golden_start(&e, &(berth_core_options){.strict = strict}, &err), &err, "start");
    const berth_tap tap = {.want = want_logits, .see = save_logits, .user = &all};
    berth_core_request q = golden_request(&g->cases[0], 8);
    q.tap = &tap;
    q.sampling = (berth_sampling){.sample = true, .temperature = 0.9f, .top_p = 1, .repetition_penalty = 1, .seed = 1};
    berth_core_result result;
    golden_must(berth_core_run(e.core, &q, &result, &err), &err, "run");
    berth_core_result_deinit(&result);
    golden_stop(&e);
    return all;
}

static void the_bits_are_those_of_the_plain_mode(void **state)
{
    (void)state;
    for (const char *const *name = golden_names; *name; name++) {
        golden_model g;
        golden_open(&g, *name);
        float *plain = logits_of(&g, false), *strict = logits_of(&g, true);
        assert_true(plain[0] == strict[0] && plain[0] > 1000);
        assert_memory_equal(plain, strict, (size_t)plain[0] * sizeof *plain);
        free(plain);
        free(strict);
        golden_close(&g);
    }
}

static void the_fault_handler_leaves_with_the_last_engine(void **state)
{
    (void)state;
    struct sigaction before, during, after;
    golden_model g;
    golden_engine a, b;
    berth_error err = {0};
    const berth_core_options options = {.strict = true};
    golden_open(&g, "qwen2-text");
    sigaction(SIGSEGV, NULL, &before);
    golden_must(golden_plan(&a, &g, "cpu", "single", NULL, &err), &err, "plan");
    golden_must(golden_plan(&b, &g, "cpu", "single", NULL, &err), &err, "plan");
    golden_must(golden_start(&a, &options, &err), &err, "start");
    golden_must(golden_start(&b, &options, &err), &err, "start");
    golden_stop(&a);
    sigaction(SIGSEGV, NULL, &during);
    golden_stop(&b);
    sigaction(SIGSEGV, NULL, &after);
    assert_true(during.sa_sigaction != before.sa_sigaction);
    assert_true(after.sa_sigaction == before.sa_sigaction);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_missing_copy_is_a_named_fault),
        cmocka_unit_test(the_bits_are_those_of_the_plain_mode),
        cmocka_unit_test(the_fault_handler_leaves_with_the_last_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
