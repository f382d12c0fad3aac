/* nccl.c - between two GPUs by NCCL's kernels, over whatever link NCCL finds best. The engine's group holds a communicator
 * for each edge that goes this way. */
#include "cuda/group.h"
#include "transport/transport_internal.h"

static berth_status nccl_copy(const berth_copy *c, berth_error *err)
{
    if (!c->group)
        return BERTH_FAIL(err, BERTH_INTERNAL, "nccl transport: no group was made for device %d to device %d",
                          (int)c->from, (int)c->to);
    return berth_gpu_group_copy(c->group, c->from, berth_transport_at_gpu(c->src), c->to,
                                berth_transport_at_gpu(c->dst), c->bytes, c->stream, err);
}

const berth_transport berth_transport_nccl = {
    .name = "nccl",
    .about = "between GPUs by NCCL",
    .edges = 1u << BERTH_EDGE_INSIDE | 1u << BERTH_EDGE_BETWEEN,
    .groups = true,
    .copy = nccl_copy,
};
