/* units.h - berth's device code as this build carries it: one unit a .cu file. Its text is always there, so that
 * it can be compiled where it runs; an image for the GPUs of BERTH_CUDA_ARCHS only when the build had nvcc. Made
 * by cmake/EmbedCudaCode.cmake; plain data, read-only. */
#ifndef BERTH_KERNELS_CUDA_UNITS_H
#define BERTH_KERNELS_CUDA_UNITS_H

#include <stddef.h>
#include <stdint.h>

typedef struct berth_cuda_unit {
    const char *name;           /* "linear.cu" */
    const char *source;         /* its text with the headers in their places: NUL-terminated, needs no other file */
    const char *digest;         /* of source: SHA-256, lower-case hex */
    const void *image;          /* a fatbin; NULL: none in this build */
    size_t image_bytes;         /* 0 = none */
    const char *const *kernels; /* names of all kernels that some architecture has, the last one NULL */
} berth_cuda_unit;

typedef struct berth_cuda_units {
    const berth_cuda_unit *units;
    int32_t n_units;
    int32_t toolkit;    /* of the images: 13000 = 13.0; 0: there are none */
    const char *digest; /* of all sources: SHA-256, lower-case hex */
} berth_cuda_units;

extern const berth_cuda_units berth_cuda_embedded;

#endif
