/* faults_test.c - every call of the pipeline fails once, with each of seven codes: the status says so, nothing crashes,
 * nothing is left behind, and the next run is right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pipeline.h"

static emu_control emulator;
static void *image;

/* What the pipeline does not use: a ring with fewer slots than uploads, and the proof of a link. */
static berth_status ring_and_proof(berth_cuda *cuda, berth_error *err)
{
    enum { BYTES = 5000 };
    berth_gpu *gpu[2] = {0};
    berth_gpu_ptr at[2] = {0};
    berth_gpu_stream *s = NULL;
    berth_gpu_ring *ring = NULL;
    berth_status st = BERTH_OK;
    for (int g = 0; g < 2 && st == BERTH_OK; g++) {
        st = berth_gpu_open(cuda, g, BYTES, &gpu[g], err);
        if (st == BERTH_OK) st = berth_gpu_take(gpu[g], BYTES, &at[g], err);
    }
    if (st == BERTH_OK) st = berth_gpu_prove(gpu[0], at[0], gpu[1], at[1], BYTES, err);
    if (st == BERTH_OK) st = berth_gpu_stream_create(gpu[0], &s, err);
    if (st == BERTH_OK) st = berth_gpu_ring_create(gpu[0], 2, 64, &ring, err);
    for (int i = 0; i < 3 && st == BERTH_OK; i++) {
        void *slot;
        st = berth_gpu_ring_next(ring, &slot, err);
        if (st == BERTH_OK) st = berth_gpu_ring_send(ring, s, at[0], 64, err);
    }
    berth_gpu_ring_destroy(ring);
    berth_gpu_stream_destroy(s);
    for (int g = 0; g < 2; g++) berth_gpu_close(gpu[g]);
    return st;
}

static berth_status run(uint64_t call, int code, bool *out_right, emu_report *out, berth_error *err)
{
    char config[96];
    snprintf(config, sizeof config, "gpus=2;mem=1MiB;fail=%llu:%d", (unsigned long long)call, code);
    emulator.reset(config);
    berth_cuda *cuda = NULL;
    *out_right = false;
    const pipeline_options o = {.dropped = -1, .first = 0, .second = 1, .image = image};
    const berth_status st = berth_cuda_open(NULL, &cuda, err);
    berth_status ran = st == BERTH_OK ? pipeline_run(cuda, &o, out_right, err) : st;
    if (ran == BERTH_OK) ran = ring_and_proof(cuda, err);
    berth_cuda_close(cuda);
    emulator.report(out);
    return ran;
}

static void check_error(const berth_error *err, int which, uint64_t call)
{
    const int code = fault_codes[which].code;
    const bool other = err->status == BERTH_NOT_FOUND || err->status == BERTH_DOES_NOT_FIT;
    if (err->status != fault_codes[which].status && err->status != BERTH_DEVICE_ERROR && !other)
        fail_msg("call %llu, code %d: status %d: %s", (unsigned long long)call, code, (int)err->status, err->message);
    if (err->native_code != code)
        fail_msg("call %llu, code %d: native code %d: %s", (unsigned long long)call, code, (int)err->native_code,
                 err->message);
    assert_string_equal(err->native_api, "cuda");
    assert_true(strlen(err->message) > 20);
}

static void each_call_may_fail(void **state)
{
    (void)state;
    emu_report r;
    berth_error err = {0};
    bool right;
    assert_int_equal(run(0, 0, &right, &r, &err), BERTH_OK);
    assert_true(right);
    const uint64_t n_calls = r.calls;
    assert_true(n_calls > 100);
    uint64_t n_failed = 0;
    for (uint64_t call = 1; call <= n_calls; call++) {
        for (int which = 0; which < N_FAULT_CODES; which++) {
            char what[64];
            memset(&err, 0, sizeof err);
            const berth_status st = run(call, fault_codes[which].code, &right, &r, &err);
            n_failed += st != BERTH_OK;
            if (st == BERTH_OK)
                assert_true(right); /* it failed while things were given back */
            else
                check_error(&err, which, call);
            snprintf(what, sizeof what, "call %llu, code %d", (unsigned long long)call, fault_codes[which].code);
            emu_control_tidy(&emulator, what);
        }
    }
    assert_true(n_failed > n_calls * N_FAULT_CODES / 2);
    print_message("%llu calls x %d codes: %llu failures seen\n", (unsigned long long)n_calls, N_FAULT_CODES,
                  (unsigned long long)n_failed);
}

/* After a sticky error the GPU is lost at once, the other one works, and no call is wasted on the lost one. */
static void a_lost_gpu_stays_lost(void **state)
{
    (void)state;
    emulator.reset("gpus=2;mem=1MiB");
    berth_cuda *cuda = NULL;
    berth_gpu *lost = NULL, *fine = NULL;
    berth_gpu_stream *s = NULL, *t = NULL;
    berth_gpu_module *m = NULL;
    berth_gpu_kernel trap;
    berth_error err = {0};
    assert_int_equal(berth_cuda_open(NULL, &cuda, &err), BERTH_OK);
    assert_int_equal(berth_gpu_open(cuda, 0, 4096, &lost, &err), BERTH_OK);
    assert_int_equal(berth_gpu_open(cuda, 1, 4096, &fine, &err), BERTH_OK);
    assert_int_equal(berth_gpu_stream_create(lost, &s, &err), BERTH_OK);
    assert_int_equal(berth_gpu_stream_create(fine, &t, &err), BERTH_OK);
    assert_int_equal(berth_gpu_module_load(lost, image, &m, &err), BERTH_OK);
    assert_int_equal(berth_gpu_kernel_find(m, "trap", 0, &trap, &err), BERTH_OK);
    int32_t code = 719;
    void *params[] = {&code};
    assert_int_equal(berth_gpu_launch(s, &trap, &(berth_gpu_grid){{1}, {1}, 0}, params, &err), BERTH_OK);
    assert_false(berth_gpu_is_lost(lost));
    assert_int_equal(berth_gpu_stream_wait(s, &err), BERTH_DEVICE_LOST);
    assert_int_equal(err.native_code, 719);
    assert_int_equal(err.device, 0);
    assert_non_null(strstr(err.message, "cuStreamSynchronize"));
    assert_non_null(strstr(err.message, "CUDA_ERROR_LAUNCH_FAILED"));
    assert_true(berth_gpu_is_lost(lost));
    emu_report before, after;
    emulator.report(&before);
    for (int i = 0; i < 1000; i++) assert_int_equal(berth_gpu_stream_wait(s, &err), BERTH_DEVICE_LOST);
    assert_int_equal(err.native_code, 719);
    emulator.report(&after);
    assert_int_equal(before.calls, after.calls);
    assert_int_equal(berth_gpu_stream_wait(t, &err), BERTH_OK);
    berth_gpu_stream_destroy(s);
    berth_gpu_stream_destroy(t);
    berth_gpu_module_unload(m);
    berth_gpu_close(lost);
    berth_gpu *again = NULL;
    assert_int_equal(berth_gpu_open(cuda, 0, 0, &again, &err), BERTH_DEVICE_LOST);
    berth_gpu_close(fine);
    berth_cuda_close(cuda);
    emu_control_tidy(&emulator, "a lost GPU");
}

int main(void)
{
    image = read_image(TEST_KERNELS);
    emu_control_open(&emulator);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_may_fail),
        cmocka_unit_test(a_lost_gpu_stays_lost),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    emu_control_close(&emulator);
    free(image);
    return failed;
}
