/* launches_internal.h - what the files that build launches share. */
#ifndef BERTH_KERNELS_CUDA_LAUNCHES_INTERNAL_H
#define BERTH_KERNELS_CUDA_LAUNCHES_INTERNAL_H

#include "kernels/cuda/args.h"
#include "kernels/cuda/launches.h"

/* A float tensor as a kernel is given it. */
berth_cuda_in berth_cuda_input(const berth_tensor *t);
berth_cuda_out berth_cuda_output(const berth_tensor *t);
berth_cuda_in berth_cuda_optional_input(const berth_op_call *call,
                                        int32_t i); /* NULL data where the call has no such input */

static inline uint32_t berth_cuda_blocks(int64_t items, int64_t per_block)
{
    return (uint32_t)((items + per_block - 1) / per_block);
}

__attribute__((format(printf, 2, 3))) void berth_cuda_name(berth_cuda_launch *l, const char *format, ...);

/* Fill a launch but for its name; both return 1. */
int32_t berth_cuda_launch_1d(berth_cuda_launch *l, uint32_t blocks, uint32_t threads, const void *args, size_t bytes);
int32_t berth_cuda_launch_3d(berth_cuda_launch *l, const uint32_t grid[3], uint32_t threads, uint32_t shared_bytes,
                             const void *args, size_t bytes);

/* Threads of a row's norm: they make the order of its sums, which is the row length's alone. */
uint32_t berth_cuda_norm_threads(int32_t c);

/* Families with files of their own; results as berth_cuda_launches. */
int32_t berth_cuda_move_launches(const berth_op_call *call, berth_cuda_launch *out);
int32_t berth_cuda_attention_launches(const berth_op_call *call, int32_t capability, berth_cuda_launch *out);
int32_t berth_cuda_linear_launches(const berth_op_call *call, int32_t capability, berth_cuda_launch *out);
size_t berth_cuda_attention_workspace(const berth_op_call *shapes);

/* The kernels of LINEAR: any operands; fp32 products of a few rows; tensor cores for a few rows, and in tiles of 64 and 128 rows and outputs. */
typedef enum berth_cuda_linear_kind {
    BERTH_CUDA_LINEAR_ANY,
    BERTH_CUDA_LINEAR_FEW,
    BERTH_CUDA_LINEAR_THIN,
    BERTH_CUDA_LINEAR_64,
    BERTH_CUDA_LINEAR_128
} berth_cuda_linear_kind;

/* The call by that kernel, whether or not it is the one for this shape; -1 where the kernel cannot take it. */
int32_t berth_cuda_linear_launch(const berth_op_call *call, berth_cuda_linear_kind kind, int32_t capability,
                                 berth_cuda_launch *out);

#endif
