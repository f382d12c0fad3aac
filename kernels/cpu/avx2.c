/* avx2.c - the set for processors with AVX2, FMA and F16C: vectors of 8. */
#define BERTH_LANES    8
#define BERTH_SET      berth_cpu_set_avx2
#define BERTH_SET_NAME "cpu-avx2"
#include "kernels/cpu/set.h"
