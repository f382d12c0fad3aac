/* probe_run.h - the machine's probes on all threads of a team: products in registers, and a plain read of given bytes,
 * each in two clocks. */
#ifndef BERTH_BENCH_PROBE_RUN_H
#define BERTH_BENCH_PROBE_RUN_H

#include "bench/kernel_probe.h"
#include "kernels/ops.h"

typedef struct elapsed {
    double wall; /* seconds */
    double own;  /* processor seconds of all threads of the process: what other processes take is not in it */
} elapsed;

elapsed elapsed_now(void);
elapsed elapsed_since(elapsed begin);

typedef struct probe_run {
    berth_team *team; /* borrowed; at most 64 threads */
    const kernel_probe *probe;
    const char *data; /* borrowed; 64-byte aligned */
    size_t bytes;     /* read in whole pages, each thread a part */
    int read_way;
    double flops[64]; /* of each thread */
} probe_run;

/* Picks the widest probe and the fastest way to read (three tries of each). */
void probe_run_init(probe_run *p, berth_team *team, const void *data, size_t bytes);
elapsed probe_read(probe_run *p);
elapsed probe_fma(probe_run *p, double *out_flops); /* two operations for each multiply-add */

#endif
