/* test_kernels.c - kernels of the emulator's own tests, as an image of its form (emu.h). */
#include <stddef.h>

#include "emu.h"

/* y[i] = x[i] * a + b, uint32 [n], one thread an element */
static int32_t run_scale(const emu_launch *l, void **params)
{
    const uint32_t *x = *(const uint32_t **)params[0];
    uint32_t *y = *(uint32_t **)params[1];
    const uint32_t a = *(uint32_t *)params[2], b = *(uint32_t *)params[3], n = *(uint32_t *)params[4];
    for (uint32_t i = 0; i < n && i < l->grid[0] * l->block[0]; i++) y[i] = x[i] * a + b;
    return 0;
}

static int32_t run_trap(const emu_launch *l, void **params)
{
    (void)l;
    return *(int32_t *)params[0];
}

static const uint32_t scale_bytes[] = {8, 8, 4, 4, 4}, trap_bytes[] = {4};

__attribute__((visibility("default"))) const emu_kernel emu_kernel_scale = {run_scale, 5, scale_bytes, 256, 70};
__attribute__((visibility("default"))) const emu_kernel emu_kernel_trap = {run_trap, 1, trap_bytes, 0, 70};
__attribute__((visibility("default"))) const char *const emu_image_kernels[] = {"scale", "trap", NULL};
