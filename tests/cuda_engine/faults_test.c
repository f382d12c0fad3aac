/* faults_test.c - driver calls that fail while an engine is made, serves and ends, on two GPUs: every time there is a status,
 * the host lives, nothing is left on any GPU, and the next engine gives the right tokens. The test takes a sample of calls
 * spread over all of them; with the argument "all" each call fails with each code, with "every N from K" a part of that. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "fixture.h"

enum { SAMPLES = 40, TOKENS = 2 };

static slice taken;

static const asked pipeline = {.devices = "cuda:0,cuda:1",
                               .strategy = "balanced",
                               .transport = "staged",
                               .plan = {.dtype = BERTH_PLAN_FP32},
                               .max_new = TOKENS,
                               .logits = true,
                               .time_copies = true};

typedef struct scene { /* a request with one picture tile */
    golden_model g;
    small_request asks;
    int32_t answer[TOKENS];
} scene;

static void open_scene(scene *s)
{
    memset(s, 0, sizeof *s);
    golden_open(&s->g, "ivl-rms-qknorm");
    world_reset("gpus=2;mem=32MiB");
    world_gives_golden(&s->g, &pipeline);
    small_request_init(&s->asks, &s->g, 1, TOKENS);
}

static void close_scene(scene *s)
{
    world_reset("gpus=2;mem=32MiB");
    world_gives_golden(&s->g, &pipeline);
    golden_close(&s->g);
}

static void check_error(const berth_error *err, int which, const char *what)
{
    bool other = err->status == BERTH_NOT_FOUND || err->status == BERTH_DOES_NOT_FIT ||
                 err->status == BERTH_DEVICE_ERROR || err->status == BERTH_UNSUPPORTED;
    if (err->status != fault_codes[which].status && !other)
        fail_msg("%s: status %d: %s", what, (int)err->status, err->message);
    if (strlen(err->message) < 20 || !strcasestr(err->message, "cuda")) fail_msg("%s: \"%s\"", what, err->message);
}

/* Whether it came, and whether it was an error then. */
static void fail_at(const scene *s, world_stage stage, uint64_t call, int which, uint64_t *n_came, uint64_t *n_failed)
{
    static const char *const stages[N_STAGES] = {"making", "serving", "ending"};
    char config[96], what[64];
    snprintf(config, sizeof config, "gpus=2;mem=32MiB;seed=%llu", (unsigned long long)call);
    snprintf(what, sizeof what, "%s, call %llu, code %d", stages[stage], (unsigned long long)call,
             fault_codes[which].code);
    world_reset(config);
    asked a = pipeline;
    a.request = &s->asks.request;
    a.fails_in = stage;
    a.fails_after = call;
    a.fails_with = fault_codes[which].code;
    berth_core_result r;
    berth_error err = {0};
    berth_status st = world_ask(&s->g, &a, &r, &err);
    const bool came = world_report().n_failed > 0;
    if (st != BERTH_OK) {
        assert_int_equal(err.status, st);
        check_error(&err, which, what);
        if (!came || stage == ENDING) fail_msg("%s: an error without its cause: %s", what, err.message);
    } else {
        assert_memory_equal(r.ids, s->answer, sizeof s->answer);
        berth_core_result_deinit(&r);
    }
    world_is_empty(what);
    *n_came += came && stage != ENDING;
    *n_failed += st != BERTH_OK;
}

static void each_call_may_fail(void **state)
{
    (void)state;
    scene s;
    open_scene(&s);
    uint64_t n_calls[N_STAGES], n = 0, n_came = 0, n_failed = 0, index = 0;
    asked a = pipeline;
    berth_core_result r;
    berth_error err = {0};
    a.request = &s.asks.request;
    a.out_calls = n_calls;
    golden_must(world_ask(&s.g, &a, &r, &err), &err, "undisturbed");
    memcpy(s.answer, r.ids, sizeof s.answer);
    berth_core_result_deinit(&r);
    const uint64_t all = n_calls[MAKING] + n_calls[SERVING] + n_calls[ENDING], step = all / SAMPLES + 1;
    assert_true(all > 1000 && n_calls[SERVING] > 100);
    for (int stage = 0; stage < N_STAGES; stage++) {
        for (uint64_t call = 1; call <= n_calls[stage]; call++) {
            for (int which = 0; which < N_FAULT_CODES; which++, index++) {
                const bool is_sample = index / N_FAULT_CODES % step == 0 &&
                                       index / N_FAULT_CODES / step % N_FAULT_CODES == (uint64_t)which;
                if (taken.step ? index % taken.step != (taken.first - 1) % taken.step : !is_sample) continue;
                fail_at(&s, stage, call, which, &n_came, &n_failed);
                n++;
            }
        }
    }
    print_message("%llu failures, one a run of %llu calls; %llu came while an engine was made or served: %llu errors\n",
                  (unsigned long long)n, (unsigned long long)all, (unsigned long long)n_came,
                  (unsigned long long)n_failed);
    /* What gives things back has no status; and a sample's call need not come, as readers ask more or less often. */
    assert_true(n_failed * 10 > n_came * 9 && n_came * 2 > n);
    close_scene(&s);
}

/* Requests of an engine whose GPU is lost end with DEVICE_LOST and the device's name, each of them, and so does the next. */
static void a_lost_gpu_fails_its_requests(void **state)
{
    (void)state;
    scene s;
    golden_engine e;
    berth_error err = {0};
    int32_t n_lost = 0;
    open_scene(&s);
    world_reset("gpus=2;mem=32MiB");
    golden_must(golden_plan(&e, &s.g, pipeline.devices, pipeline.strategy, &pipeline.plan, &err), &err, "plan");
    golden_must(golden_start(&e, NULL, &err), &err, "start");
    world_fail_after(300, 700); /* in a step: of the first request, or of one behind it */
    while (n_lost < 3) {
        berth_core_result r = {0};
        memset(&err, 0, sizeof err);
        const bool is_lost = world_report().n_failed > 0; /* already; else it may come with what ends the request */
        berth_status st = berth_core_run(e.core, &s.asks.request, &r, &err);
        if (st == BERTH_OK) {
            if (is_lost) fail_msg("a lost GPU served a request");
            berth_core_result_deinit(&r);
            continue;
        }
        if (st != BERTH_DEVICE_LOST) fail_msg("request %d: status %d: %s", (int)n_lost, (int)st, err.message);
        assert_non_null(strstr(err.message, "cuda:"));
        assert_int_equal(err.native_code, 700);
        assert_true(err.device == 0 || err.device == 1);
        assert_null(r.ids);
        n_lost++;
    }
    golden_stop(&e);
    world_is_empty("an engine with a lost GPU");
    close_scene(&s);
}

int main(int argc, char **argv)
{
    taken = slice_of(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_may_fail),
        cmocka_unit_test(a_lost_gpu_fails_its_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
