/* transport_internal.h - the transports, one a file, for the list in transport.c. */
#ifndef BERTH_TRANSPORT_TRANSPORT_INTERNAL_H
#define BERTH_TRANSPORT_TRANSPORT_INTERNAL_H

#include "transport/transport.h"

extern const berth_transport berth_transport_local;
extern const berth_transport berth_transport_staged;

#endif
