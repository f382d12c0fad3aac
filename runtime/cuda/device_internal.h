/* device_internal.h - what the files behind device.h share: the structs, and the way of a call to the driver. */
#ifndef BERTH_CUDA_DEVICE_INTERNAL_H
#define BERTH_CUDA_DEVICE_INTERNAL_H

#include <stdatomic.h>

#include "cuda/device.h"
#include "cuda/driver.h"

typedef struct berth_gpu_slot { /* one physical GPU; its context is shared by the logical devices on it */
    berth_gpu_info info;
    berth_cu_device device;
    _Atomic berth_cu_result lost; /* the first sticky code; 0 = none */
} berth_gpu_slot;

struct berth_cuda {
    berth_cu_driver cu;
    berth_gpu_slot *slots; /* owned; [cu.n_gpus] */
    bool *peer;            /* owned; [n_gpus * n_gpus], row = from */
};

struct berth_gpu {
    berth_cuda *cuda; /* borrowed */
    berth_gpu_slot *slot;
    berth_cu_context context;
    berth_cu_ptr arena; /* 0 = none */
    size_t arena_bytes, arena_used;
};

struct berth_gpu_stream {
    berth_gpu *gpu; /* borrowed, as in all below */
    berth_cu_stream handle;
};

struct berth_gpu_event {
    berth_gpu *gpu;
    berth_cu_event handle;
    bool recorded;
};

struct berth_gpu_module {
    berth_gpu *gpu;
    berth_cu_module handle;
};

/* Makes the GPU's context the thread's. After BERTH_OK, berth_gpu_leave ends it with the call's own outcome. */
berth_status berth_gpu_enter(berth_gpu *gpu, berth_error *err);

/* Takes the context off again. The status of `code`, the result of `call` in between; if that is success, of the taking
 * off. Marks the GPU lost on sticky codes. */
berth_status berth_gpu_leave(berth_gpu *gpu, berth_cu_result code, const char *call, berth_error *err);

/* For what gives things up: works on a lost GPU too, and tries twice, since what is not given up is leaked. False: the
 * driver refuses the context. */
bool berth_gpu_enter_to_end(berth_gpu *gpu);
void berth_gpu_leave_from_end(berth_gpu *gpu, berth_cu_result code); /* notes a sticky code */

/* A way for bytes to cross from one GPU to another: queues a copy of the first `bytes` on `s`, a stream of the second. */
typedef struct berth_gpu_crossing {
    const char *what; /* for the message: "copies" */
    berth_status (*copy)(void *user, berth_gpu_stream *s, size_t bytes, berth_error *err);
    void *user;
} berth_gpu_crossing;

/* berth_gpu_prove for any way. */
berth_status berth_gpu_prove_by(const berth_gpu_crossing *by, berth_gpu *from, berth_gpu_ptr src, berth_gpu *to,
                                berth_gpu_ptr dst, size_t bytes, berth_error *err);

#endif
