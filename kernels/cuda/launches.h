/* launches.h - from an op's call to the CUDA kernels that carry it out: names, grids, shared bytes and arguments. Plain C, no CUDA type, touches no
 * device: the backend hands each launch to the driver in order, the tests hand it to the emulator.
 * Pointers of the call are device memory, 16-byte aligned, weights too. Activations are fp32, fp16 or bf16, each operand for itself (a layer's stream may be
 * fp32 beside fp16 values); so are weights. Sums are in fp32, and products of fp32 operands too. k, v and their cache share a dtype; LOGIT_STATS and
 * LOGIT_BEST give fp32, and LOGIT_BEST's scales are;
 * ROPE_TABLE gives and ROPE takes a table in fp32. */
#ifndef BERTH_KERNELS_CUDA_LAUNCHES_H
#define BERTH_KERNELS_CUDA_LAUNCHES_H

#include "kernels/ops.h"

enum { BERTH_CUDA_MAX_LAUNCHES = 2, BERTH_CUDA_ARGS_BYTES = 256 };

typedef struct berth_cuda_launch {
    char kernel[40]; /* an extern "C" symbol of kernels/cuda */
    uint32_t grid[3], block[3];
    uint32_t shared_bytes; /* above 48 KiB the function must be allowed it first */
    uint32_t args_bytes;   /* the kernel's only parameter is the struct in args */
    _Alignas(16) unsigned char args[BERTH_CUDA_ARGS_BYTES];
} berth_cuda_launch;

/* Fills `out` with the launches of a call on a GPU of this capability (86 = 8.6), in order, and returns their number: 0 where there is nothing to do, -1
 * where no kernel takes these dtypes or shapes (head_dim above 128, more than 2^31 - 1 rows, LOGIT_BEST of more than 524,288 columns, a COPY). */
int32_t berth_cuda_launches(const berth_op_call *call, int32_t capability,
                            berth_cuda_launch out[BERTH_CUDA_MAX_LAUNCHES]);

/* The same of ops that may be carried out as one: 1 with the launch of the kernel that does it, with the bits of the ops apart; -1 where there is none for
 * these shapes and dtypes, or the ops are better apart (more rows than a decode of few requests has). Needs no scratch. Data pointers are looked at to tell
 * operands apart. */
int32_t berth_cuda_fused_launch(const berth_fused_call *call, int32_t capability, berth_cuda_launch *out);

/* Bytes of scratch on the device for these shapes, whatever the GPU. Monotone in every dimension. */
size_t berth_cuda_workspace(const berth_op_call *shapes);

#endif
