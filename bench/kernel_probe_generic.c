/* kernel_probe_generic.c - the probes with vectors of 4. */
#define BERTH_LANES  4
#define KERNEL_PROBE kernel_probe_generic
#include "bench/kernel_probe_lanes.h"
