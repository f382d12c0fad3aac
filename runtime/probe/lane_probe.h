/* lane_probe.h - what the machine itself can do, to which kernels are compared: products in registers, and plain reads.
 * lane_probe_width.h is compiled once per vector width into one of these tables. */
#ifndef BERTH_PROBE_LANE_PROBE_H
#define BERTH_PROBE_LANE_PROBE_H

#include <stddef.h>

typedef struct berth_lane_probe {
    const char *name;
    /* rounds x 24 fused multiply-adds of whole vectors, in registers only; gives their sum and the operations done. */
    float (*fma)(size_t rounds, double *out_flops);
    /* Reads n bytes (a multiple of 4096, 64-byte aligned) and gives a sum of sorts; way: 0 plain, 1 with prefetch, 2 as
     * four streams. */
    float (*read)(const void *data, size_t n, int way);
} berth_lane_probe;

enum { BERTH_READ_WAYS = 3 };

extern const berth_lane_probe berth_lane_probe_generic, berth_lane_probe_avx2, berth_lane_probe_avx512;

#endif
