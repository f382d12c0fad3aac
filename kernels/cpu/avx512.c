/* avx512.c - the set for processors with AVX-512 F, BW, VL and DQ: vectors of 16. */
#define BERTH_LANES    16
#define BERTH_SET      berth_cpu_set_avx512
#define BERTH_SET_NAME "cpu-avx512"
#include "kernels/cpu/set.h"
