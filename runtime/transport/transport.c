/* transport.c - the list. */
#include <string.h>

#include "transport/transport_internal.h"

static const berth_transport *const transports[] = {&berth_transport_local, &berth_transport_staged,
                                                    &berth_transport_peer, &berth_transport_nccl};

berth_status berth_transport_up_or_down(const berth_copy *c, berth_error *err)
{
    if (c->to_gpu) return berth_gpu_upload(c->stream, berth_transport_at_gpu(c->dst), c->src, c->bytes, err);
    return berth_gpu_download(c->stream, c->dst, berth_transport_at_gpu(c->src), c->bytes, err);
}

int32_t berth_transport_count(void)
{
    return (int32_t)(sizeof transports / sizeof transports[0]);
}

const berth_transport *berth_transport_at(int32_t i)
{
    return i >= 0 && i < berth_transport_count() ? transports[i] : NULL;
}

const berth_transport *berth_transport_find(const char *name)
{
    for (int32_t i = 0; i < berth_transport_count(); i++)
        if (strcmp(transports[i]->name, name) == 0) return transports[i];
    return NULL;
}
