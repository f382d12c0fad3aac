/* cpu.c - which set of CPU kernels this process uses. */
#include <string.h>

#include "kernels/ops.h"

const berth_kernels *berth_kernels_cpu(const char *want)
{
    if (want && strcmp(want, "ref") != 0) return NULL;
    return berth_kernels_ref();
}
