/* transport.h - moving bytes between the memories of devices, behind one table.
 *
 * One file per transport and a line in transport.c. A transport knows addresses and sizes, no program. It runs on the
 * lane that carries out the copy: between memories of the host the copy is done when it returns, where a GPU is one side
 * it is queued. */
#ifndef BERTH_TRANSPORT_TRANSPORT_H
#define BERTH_TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda/group.h"
#include "transport/relay.h"

enum { BERTH_COPY_CLOSE_ALL = -2 }; /* as the device of `open`: no memory is open any more */

typedef struct berth_copy {
    int32_t from, to; /* device index; -1 = host */
    const void *src;
    void *dst;
    size_t bytes;
    void *staging; /* host memory of the lane, at least staging_bytes; for transports that need it */
    size_t staging_bytes;
    /* strict mode: called by the transport before each half of the copy so that only the memories in use are open:
     * opens device's memory (-1 = host) besides those already open, or closes all (BERTH_COPY_CLOSE_ALL). NULL
     * otherwise */
    void (*open)(void *user, int32_t device, bool writable);
    void *open_user;
    /* The GPU that a side lies on, its address then a device pointer; NULL: memory that the host reaches. */
    berth_gpu *from_gpu, *to_gpu;
    berth_gpu_stream *stream; /* of to_gpu, or of from_gpu when that is the only one: the copy is queued on it */
    berth_relay *relay;       /* of to_gpu; NULL: none was made */
    berth_gpu_group *group;   /* NCCL's, where device numbers are members; NULL: none was made */
} berth_copy;

/* The ways from one memory to another, for the choice between them. */
typedef enum berth_edge_kind {
    BERTH_EDGE_HOST,    /* both sides are memory that the host reaches */
    BERTH_EDGE_UP_DOWN, /* one side is on a GPU */
    BERTH_EDGE_INSIDE,  /* two logical devices of one GPU */
    BERTH_EDGE_BETWEEN  /* two GPUs */
} berth_edge_kind;

typedef struct berth_transport {
    const char *name; /* "local" */
    const char *about;
    size_t staging_bytes; /* host memory wanted per lane; 0 = none */
    uint32_t edges;       /* bit k: it can do berth_edge_kind k */
    bool relays;          /* between GPUs it needs the receiving lane's relay */
    bool groups;          /* it needs a group of NCCL's with the edge */
    bool reaches;         /* between GPUs it needs a copy engine that reaches the other, and a proof that it does */
    berth_status (*copy)(const berth_copy *c, berth_error *err);
} berth_transport;

int32_t berth_transport_count(void);
const berth_transport *berth_transport_at(int32_t i);
const berth_transport *berth_transport_find(const char *name); /* NULL: no such transport */

#endif
