/* transport_internal.h - the transports, one a file, for the list in transport.c. */
#ifndef BERTH_TRANSPORT_TRANSPORT_INTERNAL_H
#define BERTH_TRANSPORT_TRANSPORT_INTERNAL_H

#include "transport/transport.h"

extern const berth_transport berth_transport_local;
extern const berth_transport berth_transport_staged;
extern const berth_transport berth_transport_peer;
extern const berth_transport berth_transport_nccl;

/* Queues a copy with one side on a GPU: its copy engine reads or writes host memory. */
berth_status berth_transport_up_or_down(const berth_copy *c, berth_error *err);

static inline berth_gpu_ptr berth_transport_at_gpu(const void *p)
{
    return (berth_gpu_ptr)(uintptr_t)p;
}

#endif
