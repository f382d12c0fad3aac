/* local.c - one copy, no detour: between memories of this process, inside a GPU, or between a GPU and the host. */
#include <string.h>

#include "transport/transport_internal.h"

static berth_status local_copy(const berth_copy *c, berth_error *err)
{
    if (c->from_gpu && c->to_gpu)
        return berth_gpu_copy(c->stream, berth_transport_at_gpu(c->dst), berth_transport_at_gpu(c->src), c->bytes, err);
    if (c->from_gpu || c->to_gpu) return berth_transport_up_or_down(c, err);
    if (c->open) {
        c->open(c->open_user, BERTH_COPY_CLOSE_ALL, false);
        c->open(c->open_user, c->from, false);
        c->open(c->open_user, c->to, true);
    }
    memcpy(c->dst, c->src, c->bytes);
    return BERTH_OK;
}

const berth_transport berth_transport_local = {
    .name = "local",
    .about = "one copy: between memories of this process, inside a GPU, between a GPU and the host",
    .edges = 1u << BERTH_EDGE_HOST | 1u << BERTH_EDGE_UP_DOWN | 1u << BERTH_EDGE_INSIDE,
    .copy = local_copy,
};
