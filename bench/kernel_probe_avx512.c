/* kernel_probe_avx512.c - the probes with vectors of 16. */
#define BERTH_LANES  16
#define KERNEL_PROBE kernel_probe_avx512
#include "bench/kernel_probe_lanes.h"
