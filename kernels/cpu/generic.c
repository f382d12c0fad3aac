/* generic.c - the set for any processor: vectors of 4, compiled for the architecture's baseline. */
#define BERTH_LANES    4
#define BERTH_SET      berth_cpu_set_generic
#define BERTH_SET_NAME "cpu-generic"
#include "kernels/cpu/set.h"
