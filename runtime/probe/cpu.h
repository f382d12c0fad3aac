/* cpu.h - what cores really do, on all threads of a team: products in registers, and a plain read of given bytes, each in
 * two clocks. */
#ifndef BERTH_PROBE_CPU_H
#define BERTH_PROBE_CPU_H

#include "kernels/ops.h"
#include "probe/lane_probe.h"

enum { BERTH_PROBE_THREADS = 64 };

typedef struct berth_elapsed {
    double wall; /* seconds */
    double own;  /* processor seconds of all threads of the process: what other processes take is not in it */
} berth_elapsed;

berth_elapsed berth_elapsed_now(void);
berth_elapsed berth_elapsed_since(berth_elapsed begin);

typedef struct berth_cpu_probe {
    berth_team *team; /* borrowed; at most BERTH_PROBE_THREADS */
    const berth_lane_probe *probe;
    const char *data; /* borrowed; 64-byte aligned */
    size_t bytes;     /* read in whole pages, each thread a part */
    int read_way;
    double flops[BERTH_PROBE_THREADS]; /* of each thread */
    float sums[BERTH_PROBE_THREADS];   /* what the probes compute, so that it is wanted */
} berth_cpu_probe;

/* The widest that this processor has. */
const berth_lane_probe *berth_lane_probe_widest(void);

/* Picks the widest probe and the fastest way to read (three tries of each). */
void berth_cpu_probe_init(berth_cpu_probe *p, berth_team *team, const void *data, size_t bytes);
berth_elapsed berth_cpu_probe_read(berth_cpu_probe *p);
berth_elapsed berth_cpu_probe_fma(berth_cpu_probe *p, double *out_flops); /* two operations for each multiply-add */

#endif
