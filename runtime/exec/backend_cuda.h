/* backend_cuda.h - what the choice of transports asks of units that are GPUs, besides the table. */
#ifndef BERTH_EXEC_BACKEND_CUDA_H
#define BERTH_EXEC_BACKEND_CUDA_H

#include "cuda/group.h"
#include "exec/backend.h"

/* NULL: not a GPU (or no unit: the host). */
berth_gpu *berth_unit_gpu(const berth_unit *u);

/* Lets copies of u's lane come from these GPUs [n] by way of pinned host memory. Once, before the unit starts; ends with
 * the unit. Errors: those of device.h. */
berth_status berth_unit_add_relay(berth_unit *u, berth_gpu *const *from, int32_t n, berth_error *err);

/* What goes by NCCL to and from u goes over this group, which outlives its runs; NULL takes it away. Before runs start. */
void berth_unit_set_group(berth_unit *u, berth_gpu_group *group);

#endif
