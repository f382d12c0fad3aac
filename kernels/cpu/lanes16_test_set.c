/* lanes16_test_set.c - for tests only: the 16-lane set compiled for AVX2, so that its logic runs where AVX-512 does not. */
#define BERTH_LANES    16
#define BERTH_SET      berth_cpu_set_lanes16
#define BERTH_SET_NAME "cpu-16-lanes-on-avx2"
#include "kernels/cpu/cpu_internal.h"

extern const berth_kernels berth_cpu_set_lanes16;

#include "kernels/cpu/set.h"
