/* transport.c - the list. */
#include <string.h>

#include "transport/transport_internal.h"

static const berth_transport *const transports[] = {&berth_transport_local, &berth_transport_staged};

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
