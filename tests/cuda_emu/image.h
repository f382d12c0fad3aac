/* image.h - the form of a kernel image for the emulated driver: a shared object of this processor, handed to
 * cuModuleLoadData as bytes, which exports one emu_image named "emu_image". */
#ifndef CUDA_EMU_IMAGE_H
#define CUDA_EMU_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct
    emu_image_range { /* memory that the launch may touch: what is allocated on its GPU and on enabled peers */
    void *base;
    size_t bytes;
} emu_image_range;

typedef struct emu_image_launch {
    uint32_t grid[3], block[3];
    uint32_t shared_bytes; /* dynamic */
    int32_t capability;    /* 80 = 8.0 */
    uint64_t seed;         /* for orders that are free within the launch */
    const emu_image_range *ranges;
    size_t n_ranges;
    char *error; /* [error_bytes], for `run` to say what was broken; empty when it begins */
    size_t error_bytes;
} emu_image_launch;

typedef struct emu_image_kernel emu_image_kernel;
struct emu_image_kernel {
    const char *name;
    /* Runs the whole grid; params[i] points to the i-th argument. 0, or the CUresult the context dies of. */
    int32_t (*run)(const emu_image_kernel *self, const emu_image_launch *launch, void **params);
    const void *user; /* the image's */
    uint32_t n_params;
    const uint32_t *param_bytes; /* [n_params], as the device ABI has them */
    uint32_t max_threads;        /* of a block; 0 = 1024 */
};

/* An image of a unit of berth's device code carries the unit's text, which must be that of the driver's own build, and is
 * stamped by who makes a cubin of it: the emulated NVRTC finds the stamp in the bytes and fills the capability in. The
 * driver then loads it where hardware loads a cubin: same major capability, no lower minor one. */
typedef struct emu_image_stamp {
    char mark[16];      /* EMU_IMAGE_MARK */
    int32_t capability; /* 0 = for none */
} emu_image_stamp;
#define EMU_IMAGE_MARK "emu cubin stamp"

typedef struct emu_image {
    int32_t min_capability; /* below it, loading fails as on hardware: CUDA_ERROR_NO_BINARY_FOR_GPU */
    const emu_image_kernel *(*find)(const char *name); /* NULL: no such kernel; lives as long as the image */
    const char *source;                                /* of a unit; NULL: of none, and the stamp does not count */
    const emu_image_stamp *stamp;                      /* not NULL where source is not */
} emu_image;

#endif
