/* gpu.h - what GPUs really do: copies to and from pinned memory, within a GPU, between two, and what queueing costs.
 *
 * Rates are the best of several rounds, each of several copies queued at once, in the host's time; a round's end is waited for.
 * On emulated GPUs the same calls run and the figures mean nothing. */
#ifndef BERTH_PROBE_GPU_H
#define BERTH_PROBE_GPU_H

#include "cuda/device.h"

/* Bytes a second, unless a name says ns. */
typedef struct berth_gpu_rates {
    double upload, download; /* pinned host memory, one way at a time */
    double both_ways;        /* the two at once, their bytes together */
    double copy;             /* within the GPU: bytes read and bytes written */
    double fill;             /* bytes written */
    double queue_ns;         /* of the issuing thread, for one small piece of work among many */
    double turn_ns;          /* a small copy from the GPU, queued and waited for */
    uint64_t free_bytes;     /* before the probe took any */
    size_t bytes;            /* of one copy within the GPU */
} berth_gpu_rates;

/* Opens the GPU, takes at most half of what is free there and at most 512 MiB of pinned memory, measures, gives all back.
 * Errors: those of device.h. */
berth_status berth_gpu_probe(berth_cuda *cuda, int32_t ordinal, berth_gpu_rates *out, berth_error *err);

typedef struct berth_pair_rates {
    double copy;    /* bytes a second, from the first to the second */
    double turn_ns; /* a small copy, queued and waited for */
    bool is_direct; /* a copy engine reaches the other GPU; else the driver goes by way of the host */
} berth_pair_rates;

/* Between two GPUs, one way. BERTH_MISMATCH: the copies do not bring what was sent (berth_gpu_prove), nothing is measured. */
berth_status berth_pair_probe(berth_cuda *cuda, int32_t from, int32_t to, berth_pair_rates *out, berth_error *err);

#endif
