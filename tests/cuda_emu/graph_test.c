/* graph_test.c - graphs over device.h: a step on two GPUs and four streams, captured once and replayed, gives right
 * data in 200 orders and does not without any one of its waits; every call of it fails with each of seven codes;
 * timed events tell a link. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control.h"
#include "graph_step.h"

static emu_control emulator;
static void *image;

enum { SEEDS = 200 };

/* True: the data is right. */
static bool run(int seed, int dropped, int second, const char *more)
{
    char config[128];
    snprintf(config, sizeof config, "gpus=2;mem=1MiB;seed=%d;%s", seed, more);
    emulator.reset(config);
    berth_error err = {0};
    berth_cuda *cuda = NULL;
    bool right = false;
    berth_status st = berth_cuda_open(NULL, &cuda, &err);
    if (st == BERTH_OK) st = step_run(cuda, image, 0, second, dropped, &right, &err);
    if (st != BERTH_OK) fail_msg("part %d: %s", dropped, err.message);
    berth_cuda_close(cuda);
    emu_control_tidy(&emulator, config);
    return right;
}

static void every_order_gives_right_data(void **state)
{
    (void)state;
    for (int seed = 0; seed < SEEDS; seed++) {
        assert_true(run(seed, -1, 1, ""));
        assert_true(run(seed, -1, 0, "peer=0")); /* logical devices on one GPU */
    }
}

static void every_wait_left_out_is_found(void **state)
{
    (void)state;
    for (int part = 0; part < N_JOINS; part++) {
        int first_wrong = -1;
        for (int seed = 0; seed < SEEDS && first_wrong < 0; seed++) {
            if (!run(seed, part, 1, "")) first_wrong = seed;
        }
        if (first_wrong < 0) fail_msg("part %d was left out and no seed shows it", part);
    }
}

/* ---- errors ---------------------------------------------------------------------------------------------------------- */

static void each_call_may_fail(void **state)
{
    (void)state;
    uint64_t n_calls = 1, n_failed = 0;
    for (uint64_t call = 0; call <= n_calls; call++) {
        for (int c = 0; c < N_FAULT_CODES; c++) {
            const int code = fault_codes[c].code;
            char config[96];
            snprintf(config, sizeof config, "gpus=2;mem=1MiB;fail=%llu:%d", (unsigned long long)call, code);
            emulator.reset(config);
            berth_cuda *cuda = NULL;
            berth_error err = {0};
            bool right = false;
            berth_status st = berth_cuda_open(NULL, &cuda, &err);
            if (st == BERTH_OK) st = step_run(cuda, image, 0, 1, -1, &right, &err);
            berth_cuda_close(cuda);
            const emu_report r = emu_control_tidy(&emulator, config);
            if (call == 0) n_calls = r.calls;
            n_failed += st != BERTH_OK;
            const bool is_told = err.native_code == code || err.native_code == 901; /* a failure voids the capture */
            if (st == BERTH_OK ? !right : !is_told)
                fail_msg("call %llu, code %d: status %d, native %d: %s", (unsigned long long)call, code, (int)st,
                         (int)err.native_code, err.message);
        }
    }
    assert_true(n_calls > 100 && n_failed > n_calls * 4);
}

/* A broken rule: the status and the line say so, and the stream works as before. */
static void a_broken_rule_ends_the_capture_only(void **state)
{
    (void)state;
    emulator.reset("gpus=2;mem=1MiB");
    berth_cuda *cuda = NULL;
    berth_error err = {0};
    step p = {.image = image, .dropped = -1};
    bool right = false;
    assert_int_equal(berth_cuda_open(NULL, &cuda, &err), BERTH_OK);
    assert_int_equal(step_set_up(&p, cuda, 0, 1, &err), BERTH_OK);
    assert_int_equal(berth_gpu_capture_begin(p.stream[MAIN], &err), BERTH_OK);
    assert_int_equal(berth_gpu_stream_wait(p.stream[MAIN], &err), BERTH_DEVICE_ERROR);
    assert_int_equal(err.native_code, 900);
    assert_int_equal(step_scale(&p, MAIN, p.x, p.x, 1, 1, &err), BERTH_DEVICE_ERROR);
    assert_int_equal(berth_gpu_capture_end(p.stream[MAIN], &p.graph, &err), BERTH_DEVICE_ERROR);
    assert_null(p.graph);
    assert_non_null(strstr(err.message, "CAPTURE_INVALIDATED (901); what waits"));
    assert_int_equal(berth_gpu_capture_begin(p.stream[MAIN], &err), BERTH_OK);
    assert_int_equal(step_follow(&p, -2, LEFT, MAIN, &err), BERTH_OK);
    assert_int_equal(step_scale(&p, LEFT, p.x, p.y, 1, 1, &err), BERTH_OK);
    assert_int_equal(berth_gpu_capture_end(p.stream[MAIN], &p.graph, &err), BERTH_DEVICE_ERROR);
    assert_non_null(strstr(err.message, "let the first stream await"));
    assert_int_equal(step_capture(&p, &err), BERTH_OK);
    assert_int_equal(step_replay(&p, &right, &err), BERTH_OK);
    assert_true(right);
    step_tear_down(&p);
    berth_cuda_close(cuda);
    emu_report r;
    emulator.report(&r);
    assert_int_equal(r.misuses, 2);
    assert_int_equal(r.contexts + r.allocations + r.pinned + r.streams + r.events + r.modules + r.graphs, 0);
}

/* ---- time ------------------------------------------------------------------------------------------------------------ */

static void timed_events_tell_the_link(void **state)
{
    (void)state;
    enum { MIB = 1 << 20 };
    emulator.reset("gpus=1;mem=4MiB;host_gbps=4");
    berth_cuda *cuda = NULL;
    berth_error err = {0};
    berth_gpu *gpu = NULL;
    berth_gpu_stream *s = NULL;
    berth_gpu_event *from = NULL, *to = NULL;
    berth_gpu_ptr at = 0;
    void *pinned = NULL;
    int64_t ns = 0;
    assert_int_equal(berth_cuda_open(NULL, &cuda, &err), BERTH_OK);
    assert_int_equal(berth_gpu_open(cuda, 0, MIB, &gpu, &err), BERTH_OK);
    assert_int_equal(berth_gpu_take(gpu, MIB, &at, &err), BERTH_OK);
    assert_int_equal(berth_gpu_stream_create(gpu, &s, &err), BERTH_OK);
    assert_int_equal(berth_gpu_event_create_as(gpu, BERTH_GPU_EVENT_TIMED, &from, &err), BERTH_OK);
    assert_int_equal(berth_gpu_event_create_as(gpu, BERTH_GPU_EVENT_TIMED | BERTH_GPU_EVENT_SLEEPS, &to, &err),
                     BERTH_OK);
    assert_int_equal(berth_gpu_pin(gpu, MIB, &pinned, &err), BERTH_OK);
    assert_int_equal(berth_gpu_event_record(from, s, &err), BERTH_OK);
    assert_int_equal(berth_gpu_upload(s, at, pinned, MIB, &err), BERTH_OK);
    assert_int_equal(berth_gpu_event_record(to, s, &err), BERTH_OK);
    assert_int_equal(berth_gpu_event_elapsed(from, to, &ns, &err), BERTH_DEVICE_ERROR); /* not over */
    assert_int_equal(err.native_code, 600);
    assert_int_equal(berth_gpu_event_wait_asking(to, 1, &err), BERTH_OK);
    assert_int_equal(berth_gpu_event_elapsed(from, to, &ns, &err), BERTH_OK);
    assert_in_range(ns, MIB / 4 + 4000, MIB / 4 + 6000);
    berth_gpu_unpin(gpu, pinned);
    berth_gpu_event_destroy(from);
    berth_gpu_event_destroy(to);
    berth_gpu_stream_destroy(s);
    berth_gpu_close(gpu);
    berth_cuda_close(cuda);
    emu_control_tidy(&emulator, "a link");
}

int main(void)
{
    image = read_image(TEST_KERNELS);
    emu_control_open(&emulator);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_order_gives_right_data),
        cmocka_unit_test(every_wait_left_out_is_found),
        cmocka_unit_test(each_call_may_fail),

        cmocka_unit_test(a_broken_rule_ends_the_capture_only),
        cmocka_unit_test(timed_events_tell_the_link),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    emu_control_close(&emulator);
    free(image);
    return failed;
}
