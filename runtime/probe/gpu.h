/* gpu.h - what GPUs really do: copies to and from pinned memory, within a GPU, between two, and what queueing costs.
 *
 * Rates are the best of several rounds, each of several copies queued at once, in the host's time; a round's end is waited for.
 * On emulated GPUs the same calls run and the figures mean nothing. One thread at a time. Errors: those of device.h. */
#ifndef BERTH_PROBE_GPU_H
#define BERTH_PROBE_GPU_H

#include "cuda/device.h"
#include "cuda/gemm.h"

typedef struct berth_gpu_probe berth_gpu_probe; /* a GPU with memory to measure with */

/* Takes at most half of what is free on the GPU and at most 2 GiB, and at most 128 MiB of pinned memory. `cuda` is borrowed until
 * close. Besides: BERTH_DOES_NOT_FIT (nothing is free). */
berth_status berth_gpu_probe_open(berth_cuda *cuda, int32_t ordinal, berth_gpu_probe **out, berth_error *err);
void berth_gpu_probe_close(berth_gpu_probe *p);

/* Bytes a second, unless a name says ns. */
typedef struct berth_gpu_rates {
    double upload, download; /* pinned host memory, one way at a time */
    double both_ways;        /* the two at once, their bytes together */
    double copy;             /* within the GPU: bytes read and bytes written */
    double fill;             /* bytes written */
    double queue_ns;         /* of the issuing thread, for one small piece of work among many */
    double turn_ns;          /* a small copy from the GPU, queued and waited for */
} berth_gpu_rates;

berth_status berth_gpu_probe_rates(const berth_gpu_probe *p, berth_gpu_rates *out, berth_error *err);

/* Sends a pattern from one GPU to the other and compares what arrives (berth_gpu_prove). BERTH_MISMATCH: it does not. */
berth_status berth_gpu_probe_prove(const berth_gpu_probe *from, const berth_gpu_probe *to, berth_error *err);

typedef struct berth_way_rates {
    double copy;    /* bytes a second */
    double turn_ns; /* a small copy, queued and waited for */
    bool is_direct; /* by peer copy; else the driver goes by way of the host */
} berth_way_rates;

/* From one GPU to the other, after proving it: BERTH_MISMATCH, and nothing is measured. */
berth_status berth_gpu_probe_way(const berth_gpu_probe *from, const berth_gpu_probe *to, berth_way_rates *out,
                                 berth_error *err);

/* One product of cuBLAS on random values, in nanoseconds of the GPU: the best of several. Besides: BERTH_NOT_FOUND (no cuBLAS),
 * BERTH_DOES_NOT_FIT (operands larger than the probe's memory). */
berth_status berth_gpu_probe_gemm(const berth_gpu_probe *p, const berth_gemm_shape *shape, double *out_ns,
                                  berth_error *err);

/* Operations a second that a square product of side 4096 reaches, or of a smaller one where memory or patience ends there. Errors
 * as above. */
berth_status berth_gpu_probe_flops(const berth_gpu_probe *p, berth_dtype dtype, double *out, berth_error *err);

/* One of berth's smallest kernels, among many. */
typedef struct berth_launch_costs {
    double queue_ns;  /* of the issuing thread */
    double kernel_ns; /* of the GPU, one after the other in a stream */
    double node_ns;   /* of the GPU, one after the other in a graph */
} berth_launch_costs;

/* Besides: BERTH_UNSUPPORTED (no image for this GPU and no NVRTC). */
berth_status berth_gpu_probe_launches(const berth_gpu_probe *p, berth_launch_costs *out, berth_error *err);

#endif
