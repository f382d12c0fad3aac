/* peer.c - straight from one GPU's memory into another's, by the receiver's copy engine. For pairs that reach each other and
 * have proved it (berth_gpu_prove): there are machines whose copies report success and bring something else. */
#include "transport/transport_internal.h"

static berth_status peer_copy(const berth_copy *c, berth_error *err)
{
    if (!c->from_gpu || !c->to_gpu)
        return BERTH_FAIL(err, BERTH_INTERNAL, "peer transport: device %d to device %d are not two GPUs", (int)c->from,
                          (int)c->to);
    return berth_gpu_copy_peer(c->stream, c->to_gpu, berth_transport_at_gpu(c->dst), c->from_gpu,
                               berth_transport_at_gpu(c->src), c->bytes, err);
}

const berth_transport berth_transport_peer = {
    .name = "peer",
    .about = "straight between two GPUs that reach each other and proved it",
    .edges = 1u << BERTH_EDGE_BETWEEN,
    .reaches = true,
    .copy = peer_copy,
};
