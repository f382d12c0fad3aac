/* staged.c - through host memory, piece by piece: the source is read into the lane's staging buffer, then the buffer is
 * written to the destination. At no time does one side see the other's memory. Between GPUs the lane's relay does it.
 * Twice the traffic of local. */
#include <string.h>

#include "transport/transport_internal.h"

enum { STAGING_BYTES = 1 << 20 }; /* stays in a core's L2 on today's machines, so the detour costs no memory traffic */

static berth_status staged_copy(const berth_copy *c, berth_error *err)
{
    if (c->from_gpu && c->to_gpu) {
        if (!c->relay) return BERTH_FAIL(err, BERTH_INTERNAL, "staged transport: no relay between GPUs was made");
        return berth_relay_copy(c->relay, c->stream, berth_transport_at_gpu(c->dst), c->from_gpu,
                                berth_transport_at_gpu(c->src), c->bytes, err);
    }
    if (c->from_gpu || c->to_gpu) return berth_transport_up_or_down(c, err);
    if (c->bytes && (!c->staging || c->staging_bytes == 0))
        return BERTH_FAIL(err, BERTH_INTERNAL, "staged transport: no staging memory for %zu bytes", c->bytes);
    for (size_t at = 0; at < c->bytes;) {
        size_t n = c->bytes - at < c->staging_bytes ? c->bytes - at : c->staging_bytes;
        if (c->open) {
            c->open(c->open_user, BERTH_COPY_CLOSE_ALL, false);
            c->open(c->open_user, c->from, false);
        }
        memcpy(c->staging, (const char *)c->src + at, n);
        if (c->open) {
            c->open(c->open_user, BERTH_COPY_CLOSE_ALL, false);
            c->open(c->open_user, c->to, true);
        }
        memcpy((char *)c->dst + at, c->staging, n);
        at += n;
    }
    return BERTH_OK;
}

const berth_transport berth_transport_staged = {
    .name = "staged",
    .about = "through host memory in pieces, as between devices that cannot see each other",
    .staging_bytes = STAGING_BYTES,
    .edges = 1u << BERTH_EDGE_HOST | 1u << BERTH_EDGE_UP_DOWN | 1u << BERTH_EDGE_INSIDE | 1u << BERTH_EDGE_BETWEEN,
    .relays = true,
    .copy = staged_copy,
};
