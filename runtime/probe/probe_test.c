/* probe_test.c - the probes themselves: that they measure, give all back, and see copies that lie. On the emulated driver,
 * whose figures mean nothing: a rate is above zero or it was not measured. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "probe/cpu.h"
#include "probe/gpu.h"
#include "tests/cuda_emu/emu.h"

static void *function_of(const char *name)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    if (!library) library = dlopen("libcuda.so.1", RTLD_NOW);
    assert_non_null(library);
    void *f = dlsym(library, name);
    if (!f) fail_msg("libcuda.so.1 is not the emulated one: run with its folder in LD_LIBRARY_PATH");
    return f;
}

static void reset(const char *config)
{
    emu_reset_fn *f;
    void *symbol = function_of("emu_reset");
    memcpy(&f, &symbol, sizeof f);
    f(config);
}

static void nothing_is_left(void)
{
    emu_report_fn *f;
    emu_report r;
    void *symbol = function_of("emu_get_report");
    memcpy(&f, &symbol, sizeof f);
    f(&r);
    if (r.misuses) fail_msg("%s", r.misuse);
    assert_int_equal(r.contexts + r.allocations + r.pinned + r.streams + r.events, 0);
}

static berth_cuda *open_cuda(const char *config)
{
    berth_cuda *cuda;
    berth_error err = {0};
    reset(config);
    if (berth_cuda_open(NULL, &cuda, &err) != BERTH_OK) fail_msg("%s", err.message);
    return cuda;
}

static void rates_of_a_gpu(void **state)
{
    (void)state;
    berth_cuda *cuda = open_cuda("gpus=1;mem=16MiB");
    berth_gpu_probe *p;
    berth_gpu_rates r;
    assert_int_equal(berth_gpu_probe_open(cuda, 0, &p, NULL), BERTH_OK);
    assert_int_equal(berth_gpu_probe_rates(p, &r, NULL), BERTH_OK);
    assert_true(r.upload > 0 && r.download > 0 && r.both_ways > 0 && r.copy > 0 && r.fill > 0);
    assert_true(r.queue_ns > 0 && r.turn_ns > 0);
    berth_gpu_probe_close(p);
    berth_cuda_close(cuda);
    nothing_is_left();
}

static void ways_between_gpus(void **state)
{
    (void)state;
    berth_cuda *cuda = open_cuda("gpus=3;mem=4MiB;peer.0.1=0;lie.1.2=1;lie.2.1=3");
    berth_gpu_probe *p[3];
    static const struct {
        int from, to;
        berth_status status;
        bool is_direct;
    } cases[] = {{0, 1, BERTH_OK, false}, {1, 0, BERTH_OK, true},       {0, 2, BERTH_OK, true},
                 {2, 0, BERTH_OK, true},  {1, 2, BERTH_MISMATCH, true}, {2, 1, BERTH_MISMATCH, true}};
    for (int i = 0; i < 3; i++) assert_int_equal(berth_gpu_probe_open(cuda, i, &p[i], NULL), BERTH_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        berth_way_rates r;
        berth_error err = {0};
        const berth_status st = berth_gpu_probe_way(p[cases[i].from], p[cases[i].to], &r, &err);
        if (st != cases[i].status) fail_msg("%d to %d: %s", cases[i].from, cases[i].to, err.message);
        assert_int_equal(berth_gpu_probe_prove(p[cases[i].from], p[cases[i].to], NULL), cases[i].status);
        assert_int_equal(r.is_direct, cases[i].is_direct);
        assert_int_equal(r.copy > 0 && r.turn_ns > 0, st == BERTH_OK);
    }
    for (int i = 0; i < 3; i++) berth_gpu_probe_close(p[i]);
    berth_cuda_close(cuda);
    nothing_is_left();
}

static void products_and_launches(void **state)
{
    (void)state;
    berth_cuda *cuda = open_cuda("gpus=1;mem=16MiB;cap=86");
    berth_gpu_probe *p;
    berth_launch_costs costs;
    double ns;
    berth_error err = {0};
    const berth_gemm_shape small = {64, 48, 32, BERTH_BF16, BERTH_BF16, BERTH_BF16};
    const berth_gemm_shape large = {1 << 20, 1 << 20, 1 << 20, BERTH_BF16, BERTH_BF16, BERTH_BF16};
    assert_int_equal(berth_gpu_probe_open(cuda, 0, &p, NULL), BERTH_OK);
    if (berth_gpu_probe_gemm(p, &small, &ns, &err) != BERTH_OK) fail_msg("%s", err.message);
    assert_true(ns > 0);
    assert_int_equal(berth_gpu_probe_gemm(p, &large, &ns, &err), BERTH_DOES_NOT_FIT);
    if (berth_gpu_probe_launches(p, &costs, &err) != BERTH_OK) fail_msg("%s", err.message);
    assert_true(costs.queue_ns > 0 && costs.kernel_ns > 0 && costs.node_ns > 0);
    berth_gpu_probe_close(p);
    berth_cuda_close(cuda);
    nothing_is_left();
}

/* Whichever driver call fails: an error, nothing lost. */
static void every_call_may_fail(void **state)
{
    (void)state;
    berth_status st = BERTH_DEVICE_ERROR;
    int n = 0;
    for (int call = 8; st != BERTH_OK; call += 1 + call / 40) { /* all of opening, then fewer and fewer of the rounds */
        char config[80];
        berth_cuda *cuda;
        berth_gpu_probe *p[2] = {NULL, NULL};
        berth_gpu_rates rates;
        berth_way_rates way;
        berth_error err = {0};
        snprintf(config, sizeof config, "gpus=2;mem=64KiB;fail=%d:%d", call, call % 2 ? 2 : 999);
        reset(config);
        st = berth_cuda_open(NULL, &cuda, &err);
        for (int i = 0; st == BERTH_OK && i < 2; i++) st = berth_gpu_probe_open(cuda, i, &p[i], &err);
        if (st == BERTH_OK) st = berth_gpu_probe_rates(p[0], &rates, &err);
        if (st == BERTH_OK) st = berth_gpu_probe_way(p[0], p[1], &way, &err);
        if (st != BERTH_OK) assert_true(err.message[0]);
        n += st != BERTH_OK;
        berth_gpu_probe_close(p[0]);
        berth_gpu_probe_close(p[1]);
        berth_cuda_close(cuda);
        if (call % 2) nothing_is_left(); /* a lost context keeps what is in it */
    }
    assert_true(n > 100);
}

static void a_full_gpu_is_told(void **state)
{
    (void)state;
    berth_cuda *cuda = open_cuda("gpus=1;mem=4KiB");
    berth_gpu_probe *p;
    berth_error err = {0};
    assert_int_equal(berth_gpu_probe_open(cuda, 0, &p, &err), BERTH_DOES_NOT_FIT);
    assert_null(p);
    assert_non_null(strstr(err.message, "cuda:0 has no memory left"));
    berth_cuda_close(cuda);
    nothing_is_left();
}

static void run_alone(berth_team *team, void (*fn)(void *, int32_t, int32_t), void *arg)
{
    (void)team;
    fn(arg, 0, 1);
}

static void cores(void **state)
{
    (void)state;
    enum { BYTES = 4 << 20 };
    berth_team team = {.n_threads = 1, .run = run_alone};
    berth_cpu_probe probe;
    void *data = aligned_alloc(4096, BYTES);
    assert_non_null(data);
    memset(data, 1, BYTES);
    berth_cpu_probe_init(&probe, &team, data, BYTES);
    assert_true(berth_cpu_probe_read(&probe).wall > 0);
    assert_non_null(berth_lane_probe_widest()->name);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_of_a_gpu),        cmocka_unit_test(ways_between_gpus),
        cmocka_unit_test(products_and_launches), cmocka_unit_test(every_call_may_fail),
        cmocka_unit_test(a_full_gpu_is_told),    cmocka_unit_test(cores),
    };
    return cmocka_run_group_tests_name("probes", tests, NULL, NULL);
}
