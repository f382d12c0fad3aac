/* partition.h - cuts of a chain by time: for one device order, or for the best of all orders.
 *
 * A stage's time is its bytes by its device's rate (decoding reads every weight once a token), or what
 * strategies/work.h says of a whole request. It never grows when atoms are taken away. What a run needs must have
 * room. Devices may stay empty.
 *
 * Every answer carries its own proof: `bound` is a value that no cut in any order passes. Where the two are equal the
 * answer is the best there is; the best order of many devices that all differ is a hard problem (partition.c), and
 * there the two may be apart. */
#ifndef BERTH_STRATEGIES_PARTITION_H
#define BERTH_STRATEGIES_PARTITION_H

#include "strategies/work.h"

enum { BERTH_PARTITION_MOST_DEVICES = 64 }; /* whose orders are searched; of more, the order given */

typedef struct berth_partition_device {
    uint64_t room;
    double rate;  /* bytes per second, or relative; > 0 */
    double flops; /* operations per second; > 0 where there is work */
} berth_partition_device;

/* How far exact methods go before bounded ones take over; 0 = the default. */
typedef struct berth_partition_effort {
    size_t most_states; /* sets of devices that are all looked at: 65,536 */
    size_t most_cells;  /* of a table over sets, last devices and cuts: 2^23, of more than 12 devices 2^20 */
    int64_t most_steps; /* of one search that may be given up: 20,000 */
} berth_partition_effort;

typedef struct berth_partition_problem {
    const berth_chain *chain;
    const berth_partition_device *devices;
    int32_t n_devices;
    const berth_work *work; /* NULL = a stage's time is its bytes by its device's rate */
    const berth_hops *hops; /* NULL = hops take no time */
    berth_partition_effort effort;
} berth_partition_problem;

typedef struct berth_partition {
    int32_t *order;  /* owned; [n_devices] stage s runs on device order[s] */
    int32_t *bounds; /* owned; [n_devices + 1] stage s holds atoms [bounds[s], bounds[s + 1]) */
    int32_t n_devices;
    double value;        /* seconds of the slowest stage or hop; or of all stages and hops; or tokens of context */
    double bound;        /* no cut (of those asked for: in this order, or in any) is below it; above it, of context */
    bool hops_are_least; /* throughput: of cuts as good, none has fewer or shorter hops */
} berth_partition;

void berth_partition_deinit(berth_partition *p);

/* The least slowest stage or hop. Order as given: among equals the leftmost devices as full as that allows. Free
 * order: chosen where it is better; among equals with the fewest hops, then the least time in hops, then as above.
 * BERTH_DOES_NOT_FIT without message when there is none; BERTH_UNSUPPORTED where the search was given up without
 * having found one; BERTH_OUT_OF_MEMORY. */
berth_status berth_partition_throughput(const berth_partition_problem *p, bool free_order, berth_partition *out,
                                        berth_error *err);

/* The least sum of stage times and hops, over all orders. BERTH_UNSUPPORTED also for more than
 * BERTH_PARTITION_MOST_DEVICES devices, and for thousands of atoms. */
berth_status berth_partition_latency(const berth_partition_problem *p, berth_partition *out, berth_error *err);

/* The largest context (at least chain->context_tokens, at most limit) for which there is a cut, and the cut for it. */
berth_status berth_partition_capacity(const berth_partition_problem *p, bool free_order, int64_t limit,
                                      berth_partition *out, berth_error *err);

#endif
