/* faults_test.c - driver calls that fail while an engine is made, runs and ends, on two GPUs: every time there is a status,
 * the host lives, nothing is left on any GPU, and the next engine gives the right tokens. The test takes a sample of calls
 * spread over all of them; with the argument "all" each call fails with each code. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

static const struct {
    int code;
    berth_status status; /* once a context exists */
} codes[] = {{1, BERTH_DEVICE_ERROR},  {2, BERTH_OUT_OF_MEMORY}, {46, BERTH_DEVICE_LOST}, {214, BERTH_DEVICE_LOST},
             {700, BERTH_DEVICE_LOST}, {719, BERTH_DEVICE_LOST}, {999, BERTH_DEVICE_LOST}};
enum { N_CODES = sizeof codes / sizeof codes[0], SAMPLES = 40, TOKENS = 2 };

static bool takes_all;

static const asked pipeline = {.devices = "cuda:0,cuda:1",
                               .strategy = "balanced",
                               .transport = "staged",
                               .plan = {.dtype = BERTH_PLAN_FP32},
                               .max_new = TOKENS,
                               .logits = true,
                               .time_copies = true};

static void check_error(const berth_error *err, int which, uint64_t call)
{
    bool other = err->status == BERTH_NOT_FOUND || err->status == BERTH_DOES_NOT_FIT ||
                 err->status == BERTH_DEVICE_ERROR || err->status == BERTH_UNSUPPORTED;
    if (err->status != codes[which].status && !other)
        fail_msg("call %llu, code %d: status %d: %s", (unsigned long long)call, codes[which].code, (int)err->status,
                 err->message);
    if (strlen(err->message) < 20 || !strstr(err->message, "cuda"))
        fail_msg("call %llu, code %d: \"%s\"", (unsigned long long)call, codes[which].code, err->message);
}

/* Whether it failed. */
static bool fail_at(const golden_model *g, uint64_t call, int which)
{
    char config[96], what[64];
    snprintf(config, sizeof config, "gpus=2;mem=32MiB;seed=%llu;fail=%llu:%d", (unsigned long long)call,
             (unsigned long long)call, codes[which].code);
    snprintf(what, sizeof what, "call %llu, code %d", (unsigned long long)call, codes[which].code);
    world_reset(config);
    berth_core_result r;
    berth_error err = {0};
    berth_status st = world_ask(g, &pipeline, &r, &err);
    if (st != BERTH_OK) {
        assert_int_equal(err.status, st);
        check_error(&err, which, call);
    } else {
        for (int32_t i = 0; i < TOKENS; i++) assert_int_equal(r.ids[i], g->cases[0].greedy[i]);
        berth_core_result_deinit(&r);
    }
    world_is_empty(what);
    return st != BERTH_OK;
}

static void each_call_may_fail(void **state)
{
    (void)state;
    golden_model g;
    golden_open(&g, "ivl-rms-qknorm");
    world_reset("gpus=2;mem=32MiB");
    world_gives_golden(&g, &pipeline);
    uint64_t n_calls = world_report().calls, step = takes_all ? 1 : n_calls / SAMPLES + 1, n_failed = 0, n = 0;
    assert_true(n_calls > 1000);
    for (uint64_t call = 1; call <= n_calls; call += step) {
        for (int which = 0; which < N_CODES; which++) {
            if (!takes_all && call / step % N_CODES != (uint64_t)which) continue;
            n_failed += fail_at(&g, call, which);
            n++;
        }
    }
    print_message("%llu of %llu calls failed, %llu failures seen\n", (unsigned long long)n, (unsigned long long)n_calls,
                  (unsigned long long)n_failed);
    assert_true(n_failed > n / 2);
    world_reset("gpus=2;mem=32MiB");
    world_gives_golden(&g, &pipeline);
    golden_close(&g);
}

/* Requests of an engine whose GPU is lost end with DEVICE_LOST and the device's name, each of them, and so does the next. */
static void a_lost_gpu_fails_its_requests(void **state)
{
    (void)state;
    golden_model g;
    golden_engine e;
    berth_error err = {0};
    golden_open(&g, "ivl-rms-qknorm");
    world_reset("gpus=2;mem=32MiB");
    world_gives_golden(&g, &pipeline);
    char config[96];
    /* some way before the end: in a step */
    snprintf(config, sizeof config, "gpus=2;mem=32MiB;fail=%llu:700",
             (unsigned long long)(world_report().calls * 8 / 10));
    world_reset(config);
    golden_must(golden_plan(&e, &g, pipeline.devices, pipeline.strategy, &pipeline.plan, &err), &err, "plan");
    golden_must(golden_start(&e, NULL, &err), &err, "start");
    for (int i = 0; i < 3; i++) {
        berth_core_request q = golden_request(&g.cases[0], TOKENS);
        berth_core_result r = {0};
        memset(&err, 0, sizeof err);
        berth_status st = berth_core_run(e.core, &q, &r, &err);
        if (st == BERTH_OK && i == 0) { /* transports differ, so may the call */
            berth_core_result_deinit(&r);
            continue;
        }
        if (st != BERTH_DEVICE_LOST) fail_msg("request %d: status %d: %s", i, (int)st, err.message);
        assert_non_null(strstr(err.message, "cuda:"));
        assert_int_equal(err.native_code, 700);
        assert_true(err.device == 0 || err.device == 1);
        assert_null(r.ids);
    }
    golden_stop(&e);
    world_is_empty("an engine with a lost GPU");
    golden_close(&g);
}

int main(int argc, char **argv)
{
    takes_all = argc > 1 && strcmp(argv[1], "all") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_may_fail),
        cmocka_unit_test(a_lost_gpu_fails_its_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
