/* partition.h - exact cuts of a chain by time: for one device order, or for the best of all orders.
 *
 * A stage's time is its bytes by its device's rate (decoding reads every weight once a token). What a run needs must have room. Devices may stay empty. */
#ifndef BERTH_STRATEGIES_PARTITION_H
#define BERTH_STRATEGIES_PARTITION_H

#include "strategies/chain.h"

enum { BERTH_PARTITION_FREE_ORDER = 12 }; /* devices for which all orders are looked at */

typedef struct berth_partition_device {
    uint64_t room;
    double rate; /* bytes per second, or relative; > 0 */
} berth_partition_device;

typedef struct berth_partition {
    int32_t *order;  /* owned; [n_devices] stage s runs on device order[s] */
    int32_t *bounds; /* owned; [n_devices + 1] stage s holds atoms [bounds[s], bounds[s + 1]) */
    int32_t n_devices;
    double value; /* seconds of the slowest stage; or of all stages and hops; or tokens of context */
} berth_partition;

void berth_partition_deinit(berth_partition *p);

/* The least slowest stage; among equals the leftmost devices as full as that allows. Device order as given, or free (n <= BERTH_PARTITION_FREE_ORDER), which is
 * chosen only where it is better. BERTH_DOES_NOT_FIT without message when there is none; BERTH_OUT_OF_MEMORY. */
berth_status berth_partition_throughput(const berth_chain *c, const berth_partition_device *devices, int32_t n,
                                        bool free_order, berth_partition *out, berth_error *err);

/* The least sum of stage times and hops: hop_seconds[from * n + to] for each step to the next device that is not empty. Free order up to 8 devices. */
berth_status berth_partition_latency(const berth_chain *c, const berth_partition_device *devices,
                                     const double *hop_seconds, int32_t n, berth_partition *out, berth_error *err);

/* The largest context (at least c->context_tokens, at most limit) for which there is a cut, and the cut for it. */
berth_status berth_partition_capacity(const berth_chain *c, const berth_partition_device *devices, int32_t n,
                                      bool free_order, int64_t limit, berth_partition *out, berth_error *err);

#endif
