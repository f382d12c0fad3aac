/* code_internal.h - what the files behind code.h share: images of all units for one GPU, from NVRTC or from the cache
 * folder. */
#ifndef BERTH_CUDA_CODE_INTERNAL_H
#define BERTH_CUDA_CODE_INTERNAL_H

#include "base/buffer.h"
#include "cuda/code.h"
#include "cuda/gemm.h"
#include "kernels/cuda/units.h"

/* Images of all units in one piece of memory. */
typedef struct berth_gpu_images {
    berth_buffer bytes;
    size_t *offsets; /* owned; [n + 1], multiples of 64; an image begins at each but the last */
    int32_t n;
} berth_gpu_images;

void berth_gpu_images_deinit(berth_gpu_images *images);

/* Images of `units` for `gpu`: those that an earlier call left in the cache folder, unless they are to be made
 * `anew`, else compiled now and left there. Sets origin, nvrtc_version and note of the facts. Errors as of
 * berth_gpu_code_load. */
berth_status berth_gpu_images_make(berth_gpu *gpu, const berth_cuda_units *units, const berth_gpu_code_options *options,
                                   bool anew, berth_gpu_images *out, berth_gpu_code_facts *facts, berth_error *err);

/* A place in the cache folder for images that are made of what `made_of` says (any text). */
typedef struct berth_gpu_cache {
    char path[4096]; /* of the file; "" = there is no cache */
    char key[65];    /* SHA-256 of made_of, lower-case hex */
} berth_gpu_cache;

/* `dir` as cache_dir of berth_gpu_code_options. Reads the environment, touches no file. */
void berth_gpu_cache_init(berth_gpu_cache *cache, const char *dir, int32_t capability, const char *made_of);

/* False: there is no such file, or it is damaged or of something else; *out is {0} then. */
bool berth_gpu_cache_read(const berth_gpu_cache *cache, int32_t n, berth_gpu_images *out);

/* Makes the folder too. Whole or not at all: other processes may read and write the same file meanwhile. */
berth_status berth_gpu_cache_write(const berth_gpu_cache *cache, const berth_gpu_images *images, berth_error *err);

/* LINEAR by cuBLAS: whether, its scratch (0 where not), and its queueing. */
bool berth_gpu_linear_is_gemm(const berth_op_call *call, const berth_gpu_code_target *target);
size_t berth_gpu_linear_workspace(const berth_op_call *shapes, const berth_gpu_code_target *target);
berth_status berth_gpu_linear_run(berth_gpu_code *code, berth_gemm *gemm, int32_t capability, berth_gpu_stream *s,
                                  const berth_op_call *call, berth_error *err);

/* As berth_gpu_code_run, by our own kernels only. */
berth_status berth_gpu_code_launch(berth_gpu_code *code, berth_gpu_stream *s, const berth_op_call *call,
                                   berth_error *err);

/* As berth_gpu_code_load, of other units than this build's. */
berth_status berth_gpu_code_load_units(berth_gpu *gpu, const berth_cuda_units *units,
                                       const berth_gpu_code_options *options, berth_gpu_code **out, berth_error *err);

#endif
