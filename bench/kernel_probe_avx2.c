/* kernel_probe_avx2.c - the probes with vectors of 8. */
#define BERTH_LANES  8
#define KERNEL_PROBE kernel_probe_avx2
#include "bench/kernel_probe_lanes.h"
