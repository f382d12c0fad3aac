/* code_internal.h - what the files behind code.h share: images of all units for one GPU, from the build, from NVRTC or from the cache folder. */
#ifndef BERTH_CUDA_CODE_INTERNAL_H
#define BERTH_CUDA_CODE_INTERNAL_H

#include "base/buffer.h"
#include "cuda/code.h"
#include "kernels/cuda/units.h"

/* Images of all units in one piece of memory. */
typedef struct berth_gpu_images {
    berth_buffer bytes;
    size_t *offsets; /* owned; [n + 1], multiples of 64; an image begins at each but the last */
    int32_t n;
} berth_gpu_images;

void berth_gpu_images_deinit(berth_gpu_images *images);

/* Images of `units` for `gpu`: those that an earlier call left in the cache folder, else compiled now and left there. Sets the facts but for n_kernels and load_ns.
 * Errors as of berth_gpu_code_load. */
berth_status berth_gpu_images_make(berth_gpu *gpu, const berth_cuda_units *units, const berth_gpu_code_options *options,
                                   berth_gpu_images *out, berth_gpu_code_facts *facts, berth_error *err);

/* As berth_gpu_code_load, of other units than this build's. */
berth_status berth_gpu_code_load_units(berth_gpu *gpu, const berth_cuda_units *units,
                                       const berth_gpu_code_options *options, berth_gpu_code **out, berth_error *err);

#endif
