/* emu_image.h - images of device code, from the bytes given to cuModuleLoadData to kernels of the host. */
#ifndef CUDA_EMU_EMU_IMAGE_H
#define CUDA_EMU_EMU_IMAGE_H

#include <stddef.h>

#include "image.h"

typedef struct emu_opened {
    void *handle; /* dlclose it, then close fd */
    int fd;
    const emu_image *image;
} emu_opened;

/* An image for a GPU of this capability: a shared object as in image.h, or a fatbin of berth's that this build
 * made itself, for which the host's objects of the same unit stand in. What hardware would refuse, and every image
 * that is not byte for byte this build's, is a CUresult. */
int emu_image_open(const void *image, int capability, int driver_version, emu_opened *out);

/* See emu.h. */
void emu_image_know(const char *unit, const void *image, size_t bytes, int toolkit);
int emu_image_architecture(void);

/* Dynamic shared bytes that a block may be allowed on a GPU of this capability (CUDA C++ Programming Guide, "Technical
 * Specifications per Compute Capability"). */
int emu_max_shared(int capability);

/* The bytes of the host's object of a unit ("linear.cu") for GPUs of this architecture (86 = sm_86), from the folder
 * "units" beside the library this is linked into. malloc'd; NULL: it is not there. */
void *emu_unit_bytes(const char *name, int architecture, size_t *out_bytes);

#endif
