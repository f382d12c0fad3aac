/* test_kernels.c - kernels of the emulator's own tests, as an image of its form (image.h). */
#include <stdio.h>
#include <string.h>

#include "image.h"

/* y[i] = x[i] * a + b, uint32 [n], one thread an element */
static int32_t run_scale(const emu_image_kernel *self, const emu_image_launch *l, void **params)
{
    (void)self;
    const uint32_t *x = *(const uint32_t **)params[0];
    uint32_t *y = *(uint32_t **)params[1];
    const uint32_t a = *(uint32_t *)params[2], b = *(uint32_t *)params[3], n = *(uint32_t *)params[4];
    for (uint32_t i = 0; i < n && i < l->grid[0] * l->block[0]; i++) y[i] = x[i] * a + b;
    return 0;
}

static int32_t run_trap(const emu_image_kernel *self, const emu_image_launch *l, void **params)
{
    (void)self;
    (void)l;
    return *(int32_t *)params[0];
}

static int32_t run_complain(const emu_image_kernel *self, const emu_image_launch *l, void **params)
{
    (void)params;
    snprintf(l->error, l->error_bytes, "%s was given %zu ranges", self->name, l->n_ranges);
    return 0;
}

static const uint32_t scale_bytes[] = {8, 8, 4, 4, 4}, trap_bytes[] = {4};
static const emu_image_kernel kernels[] = {
    {.name = "scale", .run = run_scale, .n_params = 5, .param_bytes = scale_bytes, .max_threads = 256},
    {.name = "complain", .run = run_complain},
    {.name = "trap", .run = run_trap, .n_params = 1, .param_bytes = trap_bytes},
};

static const emu_image_kernel *find(const char *name)
{
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        if (strcmp(kernels[i].name, name) == 0) return &kernels[i];
    }
    return NULL;
}

extern const emu_image emu_image_of_tests __asm__("emu_image");
__attribute__((visibility("default"))) const emu_image emu_image_of_tests = {.min_capability = 70, .find = find};
