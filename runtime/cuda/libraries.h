/* libraries.h - which of NVIDIA's other libraries are there for the GPUs of this computer, and of what version; for people who
 * look. Whoever uses one opens it himself. */
#ifndef BERTH_CUDA_LIBRARIES_H
#define BERTH_CUDA_LIBRARIES_H

#include "cuda/device.h"

typedef struct berth_cuda_library {
    char version[24]; /* "12.4.5"; "" = not told */
    berth_error why;  /* status BERTH_OK: it is there and would do; else what is missing and what to do */
} berth_cuda_library;

typedef struct berth_cuda_libraries {
    berth_cuda_library cublas, nccl, nvrtc;
} berth_cuda_libraries;

/* Opens each as berth would for the oldest GPU, asks for its version, closes it. No GPU is touched. */
void berth_cuda_find_libraries(const berth_cuda *cuda, berth_cuda_libraries *out);

#endif
