/* unit.c - a unit of device code, compiled for the host, as an image of the emulated driver (image.h). UNIT_TEXT
 * is the file that the object beside this one was compiled from, byte for byte what berth carries of it. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/cuda_emu/device/emu.h"
#include "tests/cuda_emu/image.h"

__asm__(".pushsection .rodata\nunit_text:\n.incbin \"" UNIT_TEXT "\"\n.byte 0\n.popsection\n");
extern __attribute__((visibility("hidden"))) const char unit_text[];

enum { ILLEGAL_ADDRESS = 700, MAX_KERNELS = 512 }; /* CUDA_ERROR_ILLEGAL_ADDRESS */

/* What device code does wrong is seen in no other way than that the context dies of it; the words go to the
 * emulator's account of misuse. */
static int32_t run(const emu_image_kernel *self, const emu_image_launch *l, void **params)
{
    emu_range *ranges = calloc(l->n_ranges + 1, sizeof *ranges);
    if (!ranges) abort();
    for (size_t i = 0; i < l->n_ranges; i++) ranges[i] = (emu_range){l->ranges[i].base, l->ranges[i].bytes, true};
    emu_launch_config config = {.kernel = self->user,
                                .grid = {l->grid[0], l->grid[1], l->grid[2]},
                                .block = {l->block[0], l->block[1], l->block[2]},
                                .shared_bytes = l->shared_bytes,
                                .args = params[0],
                                .ranges = ranges,
                                .n_ranges = l->n_ranges,
                                .seed = l->seed};
    char error[EMU_ERROR_BYTES];
    const bool ok = emu_launch(&config, error);
    if (!ok) snprintf(l->error, l->error_bytes, "%s", error);
    free(ranges);
    return ok ? 0 : ILLEGAL_ADDRESS;
}

/* Filled on demand under the driver's lock. */
static const emu_image_kernel *find(const char *name)
{
    static emu_image_kernel kernels[MAX_KERNELS];
    static uint32_t bytes[MAX_KERNELS], n;
    const emu_kernel *kernel = emu_find_kernel(name);
    if (!kernel) return NULL;
    for (uint32_t i = 0; i < n; i++)
        if (kernels[i].user == kernel) return &kernels[i];
    if (n == MAX_KERNELS) abort();
    bytes[n] = (uint32_t)kernel->args_bytes;
    kernels[n] =
        (emu_image_kernel){.name = kernel->name, .run = run, .user = kernel, .n_params = 1, .param_bytes = &bytes[n]};
    return &kernels[n++];
}

static const volatile emu_image_stamp stamp = {.mark = EMU_IMAGE_MARK};

extern const emu_image emu_image_of_unit __asm__("emu_image");
__attribute__((visibility("default"))) const emu_image emu_image_of_unit = {
    .min_capability = 70, .find = find, .source = unit_text, .stamp = (const emu_image_stamp *)&stamp};
