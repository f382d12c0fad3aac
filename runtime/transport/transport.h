/* transport.h - moving bytes between the memories of devices, behind one table.
 *
 * One file per transport and a line in transport.c. A transport knows addresses and sizes, no program. It runs on the
 * lane that carries out the copy. */
#ifndef BERTH_TRANSPORT_TRANSPORT_H
#define BERTH_TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

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
} berth_copy;

typedef struct berth_transport {
    const char *name; /* "local" */
    const char *about;
    size_t staging_bytes; /* host memory wanted per lane; 0 = none */
    berth_status (*copy)(const berth_copy *c, berth_error *err);
} berth_transport;

int32_t berth_transport_count(void);
const berth_transport *berth_transport_at(int32_t i);
const berth_transport *berth_transport_find(const char *name); /* NULL: no such transport */

#endif
