/* nccl_order_test.c - pipelines over 2, 4 and 8 GPUs give right data in every order of execution, from one thread and
 * from many; sums are right in each dtype; each wait that is left out, in the program or in the group, is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/dtype.h"
#include "nccl_chain.h"

static emu_control emulator;
static nccl_control nccl;
static void *image;

static chain_outcome run(chain_options o, const char *driver_more, const char *nccl_more, int seed)
{
    char driver[160], of_nccl[160];
    snprintf(driver, sizeof driver, "gpus=%d;mem=1MiB;seed=%d;%s", o.n_gpus, seed, driver_more);
    snprintf(of_nccl, sizeof of_nccl, "seed=%d;%s", seed, nccl_more);
    o.image = image;
    return chain_try(&emulator, &nccl, &o, driver, of_nccl);
}

static void check(const chain_outcome *o)
{
    if (o->status != BERTH_OK) fail_msg("%s", o->error.message);
    if (o->driver.misuses) fail_msg("misuse: %s", o->driver.misuse);
    assert_true(o->right);
    assert_int_equal(o->nccl.aborted, 0);
}

static void every_order_gives_right_data(void **state)
{
    (void)state;
    for (int seed = 0; seed < 60; seed++) {
        for (int n = 2; n <= 8; n *= 2) {
            const chain_outcome o = run((chain_options){.n_gpus = n, .n_batches = 3, .sum = seed % 2}, "", "", seed);
            check(&o);
            assert_int_equal(o.nccl.exchanges, 4 * (n - 1) + 2 * (seed % 2)); /* one of each to connect */
        }
    }
}

static void every_thread_may_queue_its_own(void **state)
{
    (void)state;
    for (int seed = 0; seed < 12; seed++) {
        for (int n = 2; n <= 8; n *= 2) {
            const chain_outcome o = run((chain_options){.n_gpus = n, .n_batches = 4, .threads = true}, "", "", seed);
            check(&o);
        }
    }
}

/* Each wait of a stream for an event, the program's and the group's own, by whatever seed: the emulator sees to it that
 * what was not waited for comes last. The making of the group is left alone: it waits on the host, so its streams'
 * waits change nothing. */
static void each_wait_left_out_is_found(void **state)
{
    (void)state;
    const chain_options o = {
        .n_gpus = 3, .n_batches = 3, .timeout_ns = 3000000000}; /* where it shows by standing still */
    const chain_outcome whole = run(o, "lazy=1", "", 0);
    check(&whole);
    const int n_waits = (int)whole.driver.n_waits, n_of_making = 2 * (o.n_gpus - 1);
    assert_true(n_waits > 30);
    for (int wait = n_of_making + 1; wait <= n_waits; wait++) {
        char more[32];
        snprintf(more, sizeof more, "skip_wait=%d", wait);
        const chain_outcome got = run(o, more, "", wait);
        if (got.status == BERTH_OK && got.right && !got.driver.misuses)
            fail_msg("wait %d of %d was left out and nothing shows it", wait, n_waits);
    }
}

/* ---- sums ------------------------------------------------------------------------------------------------------------ */

enum { N_SUM = 37 };

typedef struct sum {
    int n;
    berth_gpu *gpus[MAX_CHAIN];
    berth_gpu_stream *streams[MAX_CHAIN];
    berth_gpu_ptr from[MAX_CHAIN], to[MAX_CHAIN];
    berth_gpu_group *group;
} sum;

static void ok(berth_status st, const berth_error *err)
{
    if (st != BERTH_OK) fail_msg("%s", err->message);
}

static void open_sum(sum *s, berth_cuda *cuda, bool in_place)
{
    berth_error err = {0};
    for (int i = 0; i < s->n; i++) {
        ok(berth_gpu_open(cuda, i, 4096, &s->gpus[i], &err), &err);
        ok(berth_gpu_take(s->gpus[i], N_SUM * 4, &s->from[i], &err), &err);
        ok(berth_gpu_take(s->gpus[i], N_SUM * 4, &s->to[i], &err), &err);
        if (in_place) s->to[i] = s->from[i];
        ok(berth_gpu_stream_create(s->gpus[i], &s->streams[i], &err), &err);
    }
    ok(berth_gpu_group_create(s->gpus, s->n, NULL, 0,
                              &(berth_gpu_group_options){.all_reduce = true, .proof_bytes = 128}, &s->group, &err),
       &err);
}

static void close_sum(sum *s)
{
    berth_gpu_group_destroy(s->group);
    for (int i = 0; i < s->n; i++) {
        berth_gpu_stream_destroy(s->streams[i]);
        berth_gpu_close(s->gpus[i]);
    }
}

static float term(int member, int k, int round)
{
    return (float)((member * 31 + k * 7 + round * 13) % 101 - 50) / 16.0f;
}

/* Every partial sum is rounded: half a last place of at most |sum| <= n * 50 / 16 each time. */
static float allowed(berth_dtype dtype, int n)
{
    const float last_place = dtype == BERTH_F32 ? 0x1p-23f : dtype == BERTH_F16 ? 0x1p-10f : 0x1p-7f;
    return (float)n * (float)n * 3.2f * last_place;
}

static void add_and_compare(sum *s, berth_dtype dtype, int round)
{
    berth_error err = {0};
    float x[N_SUM], want[N_SUM] = {0}, first[N_SUM];
    uint8_t raw[N_SUM * 4];
    for (int i = 0; i < s->n; i++) {
        for (int k = 0; k < N_SUM; k++) want[k] += x[k] = term(i, k, round);
        berth_narrow_f32(raw, x, dtype, N_SUM);
        ok(berth_gpu_upload(s->streams[i], s->from[i], raw, N_SUM * berth_dtype_size(dtype), &err), &err);
    }
    ok(berth_gpu_group_all_reduce(s->group, s->from, s->to, N_SUM, dtype, s->streams, &err), &err);
    for (int i = 0; i < s->n; i++) {
        ok(berth_gpu_download(s->streams[i], raw, s->to[i], N_SUM * berth_dtype_size(dtype), &err), &err);
        berth_widen_f32(x, raw, dtype, N_SUM);
        if (i == 0) memcpy(first, x, sizeof x);
        assert_memory_equal(first, x, sizeof x);
        for (int k = 0; k < N_SUM; k++) assert_float_equal(x[k], want[k], allowed(dtype, s->n));
    }
}

static void sums_are_right_in_each_dtype(void **state)
{
    (void)state;
    static const berth_dtype dtypes[] = {BERTH_F32, BERTH_F16, BERTH_BF16};
    for (int seed = 0; seed < 16; seed++) {
        for (int n = 2; n <= 8; n *= 2) {
            char config[64];
            snprintf(config, sizeof config, "gpus=%d;mem=1MiB;seed=%d", n, seed);
            emulator.reset(config);
            snprintf(config, sizeof config, "seed=%d", seed);
            nccl.reset(config);
            berth_cuda *cuda = NULL;
            sum s = {.n = n};
            assert_int_equal(berth_cuda_open(NULL, &cuda, NULL), BERTH_OK);
            open_sum(&s, cuda, seed % 2);
            for (int round = 0; round < 3; round++) add_and_compare(&s, dtypes[round], round);
            close_sum(&s);
            berth_cuda_close(cuda);
            emu_report r;
            emulator.report(&r);
            assert_int_equal(r.misuses + r.handles + r.contexts, 0);
        }
    }
}

int main(void)
{
    image = read_image(TEST_KERNELS);
    emu_control_open(&emulator);
    nccl_control_open(&nccl);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_order_gives_right_data),
        cmocka_unit_test(every_thread_may_queue_its_own),
        cmocka_unit_test(each_wait_left_out_is_found),
        cmocka_unit_test(sums_are_right_in_each_dtype),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    emu_control_close(&emulator);
    free(image);
    return failed;
}
