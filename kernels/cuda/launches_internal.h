/* launches_internal.h - what the files that build launches share. */
#ifndef BERTH_KERNELS_CUDA_LAUNCHES_INTERNAL_H
#define BERTH_KERNELS_CUDA_LAUNCHES_INTERNAL_H

#include "kernels/cuda/args.h"
#include "kernels/cuda/launches.h"

/* A float tensor as a kernel is given it. */
berth_cuda_in berth_cuda_input(const berth_tensor *t);
berth_cuda_out berth_cuda_output(const berth_tensor *t);

__attribute__((format(printf, 2, 3))) void berth_cuda_name(berth_cuda_launch *l, const char *format, ...);

/* Fill a launch but for its name; both return 1. */
int32_t berth_cuda_launch_1d(berth_cuda_launch *l, uint32_t blocks, uint32_t threads, const void *args, size_t bytes);
int32_t berth_cuda_launch_3d(berth_cuda_launch *l, const uint32_t grid[3], uint32_t threads, uint32_t shared_bytes,
                             const void *args, size_t bytes);

/* Families with files of their own; results as berth_cuda_launches. */
int32_t berth_cuda_move_launches(const berth_op_call *call, berth_cuda_launch *out);
int32_t berth_cuda_attention_launches(const berth_op_call *call, int32_t capability, berth_cuda_launch *out);
size_t berth_cuda_attention_workspace(const berth_op_call *shapes);

#endif
