/* gpu_internal.h - a GPU with memory to measure with, for the files that do. */
#ifndef BERTH_PROBE_GPU_INTERNAL_H
#define BERTH_PROBE_GPU_INTERNAL_H

#include "probe/gpu.h"

struct berth_gpu_probe {
    berth_cuda *cuda;  /* borrowed */
    berth_gpu *keeper; /* what is free is known only behind an open context; this keeps it until the arena is there */
    berth_gpu *gpu;
    berth_gpu_stream *stream, *other;
    berth_gpu_ptr a, b; /* `bytes` each; a: random values */
    void *host, *back;  /* pinned */
    size_t bytes, pinned;
    int32_t ordinal;
};

typedef berth_gpu_probe bed;

#endif
