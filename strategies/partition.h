/* partition.h - exact cuts of a chain by time: for one device order, or for the best of all orders.
 *
 * A stage's time is its bytes by its device's rate (decoding reads every weight once a token), or what
 * strategies/work.h says of a whole request. It never grows when atoms are taken away. What a run needs must have
 * room. Devices may stay empty. */
#ifndef BERTH_STRATEGIES_PARTITION_H
#define BERTH_STRATEGIES_PARTITION_H

#include "strategies/work.h"

enum {
    BERTH_PARTITION_FREE_ORDER = 12, /* devices for which all orders are looked at, however different they are */
    BERTH_PARTITION_FREE_LATENCY = 8
};

typedef struct berth_partition_device {
    uint64_t room;
    double rate;  /* bytes per second, or relative; > 0 */
    double flops; /* operations per second; > 0 where there is work */
} berth_partition_device;

typedef struct berth_partition_problem {
    const berth_chain *chain;
    const berth_partition_device *devices;
    int32_t n_devices;
    const berth_work *work; /* NULL = a stage's time is its bytes by its device's rate */
    const berth_hops *hops; /* NULL = hops take no time */
} berth_partition_problem;

typedef struct berth_partition {
    int32_t *order;  /* owned; [n_devices] stage s runs on device order[s] */
    int32_t *bounds; /* owned; [n_devices + 1] stage s holds atoms [bounds[s], bounds[s + 1]) */
    int32_t n_devices;
    double value;    /* seconds of the slowest stage or hop; or of all stages and hops; or tokens of context */
    bool all_orders; /* every order of the devices was looked at */
} berth_partition;

void berth_partition_deinit(berth_partition *p);

/* The least slowest stage or hop. Order as given: among equals the leftmost devices as full as that allows. Free
 * order: chosen where it is better; among equals with the fewest hops, then the
 * least time in hops (up to BERTH_PARTITION_FREE_ORDER devices), then as above. BERTH_DOES_NOT_FIT without message
 * when there is none; BERTH_OUT_OF_MEMORY. */
berth_status berth_partition_throughput(const berth_partition_problem *p, bool free_order, berth_partition *out,
                                        berth_error *err);

/* The least sum of stage times and hops. Free order up to BERTH_PARTITION_FREE_LATENCY devices; more:
 * BERTH_UNSUPPORTED. */
berth_status berth_partition_latency(const berth_partition_problem *p, berth_partition *out, berth_error *err);

/* The largest context (at least chain->context_tokens, at most limit) for which there is a cut, and the cut for it. */
berth_status berth_partition_capacity(const berth_partition_problem *p, bool free_order, int64_t limit,
                                      berth_partition *out, berth_error *err);

#endif
