/* lane_bench.c - what lanes cost: programs whose ops do nothing, one run at a time.
 *
 *   lane_bench [spin_ns]
 *
 * Printed: best and median nanoseconds an op, over rounds. Then ops that keep a core for OP_NS, so that a lane which has
 * to wait for them sleeps: what a pass over two lanes takes longer than on one, for each hop. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "exec/toy_exec.h"

enum { ROUNDS = 200, OPS = 1000, OP_NS = 100000, STAGE_OPS = 10, PASSES = 60 };

static void nothing(const berth_op_call *call)
{
    (void)call;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(int32_t n_lanes, int32_t n_ops, int32_t run, int64_t spin_ns)
{
    const berth_kernels kernels = {.name = "nothing", .run = {[BERTH_OP_ADD] = nothing, [BERTH_OP_GELU] = nothing}};
    toy_exec t;
    toy_bound b;
    if (n_lanes > sysconf(_SC_NPROCESSORS_ONLN)) spin_ns = 0; /* as an engine whose devices share cores */
    toy_exec_init(&t, n_lanes, &kernels, spin_ns);
    berth_program *p = toy_chain(n_lanes, n_ops, run);
    toy_bind(&b, &t, p);
    berth_run *r = NULL;
    if (berth_run_create(&t.exec, UINT64_MAX, &r, NULL) != BERTH_OK) abort();
    static double ns[ROUNDS];
    uint64_t edges[(TOY_LANES + 1) * (TOY_LANES + 1)] = {0};
    for (int i = 0; i < ROUNDS; i++) {
        int64_t start = berth_now_ns();
        berth_run_program(r, &b.bound, &toy_sizes, NULL, edges, NULL);
        ns[i] = (double)(berth_now_ns() - start) / p->n_ops;
    }
    qsort(ns, ROUNDS, sizeof *ns, ascending);
    printf("%d lanes, %4d ops, %4d at a time: best %8.1f, median %8.1f ns an op\n", (int)n_lanes, (int)p->n_ops,
           (int)run, ns[0], ns[ROUNDS / 2]);
    berth_run_destroy(r);
    toy_unbind(&b);
    berth_program_destroy(p);
    toy_exec_deinit(&t);
}

static void busy(const berth_op_call *call)
{
    (void)call;
    int64_t end = berth_now_ns() + OP_NS;
    while (berth_now_ns() < end) {
    }
}

/* One pass after another, as tokens of one stream are; best and median nanoseconds of a pass. */
static void time_passes(int32_t n_lanes, int64_t spin_ns, double out[2])
{
    const berth_kernels kernels = {.name = "busy", .run = {[BERTH_OP_GELU] = busy}};
    toy_exec t;
    toy_bound b;
    toy_exec_init(&t, n_lanes, &kernels, spin_ns);
    berth_program *p = toy_chain(n_lanes, 2 * STAGE_OPS, STAGE_OPS);
    toy_bind(&b, &t, p);
    berth_run *r = NULL;
    if (berth_run_create(&t.exec, UINT64_MAX, &r, NULL) != BERTH_OK) abort();
    double ns[PASSES];
    for (int i = 0; i < PASSES; i++) {
        int64_t start = berth_now_ns();
        berth_run_program(r, &b.bound, &toy_sizes, NULL, NULL, NULL);
        ns[i] = (double)(berth_now_ns() - start);
    }
    qsort(ns, PASSES, sizeof *ns, ascending);
    out[0] = ns[0];
    out[1] = ns[PASSES / 2];
    berth_run_destroy(r);
    toy_unbind(&b);
    berth_program_destroy(p);
    toy_exec_deinit(&t);
}

int main(int argc, char **argv)
{
    int64_t spin_ns = argc > 1 ? atoll(argv[1]) : 50000;
    measure(1, 1, 1, spin_ns);
    measure(1, OPS, OPS, spin_ns);
    measure(2, OPS, 1, spin_ns);
    measure(2, OPS, 10, spin_ns);
    measure(4, OPS, 1, spin_ns);
    measure(4, OPS, 10, spin_ns);
    double one[2], two[2];
    time_passes(1, spin_ns, one);
    time_passes(2, spin_ns, two);
    printf("a pass of %d ops of %d us: 1 lane %.0f us, 2 lanes %.0f us (best); %.0f and %.0f us (median)\n",
           2 * STAGE_OPS, OP_NS / 1000, one[0] / 1e3, two[0] / 1e3, one[1] / 1e3, two[1] / 1e3);
    return 0;
}
