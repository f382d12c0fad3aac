/* partition_internal.h - between partition.c and partition_paths.c. */
#ifndef BERTH_STRATEGIES_PARTITION_INTERNAL_H
#define BERTH_STRATEGIES_PARTITION_INTERNAL_H

#include "strategies/partition.h"

bool berth_partition_init(berth_partition *p, int32_t n_devices);

/* A run of no bytes takes no time. */
double berth_stage_seconds(const berth_partition_problem *p, int32_t device, int32_t from, int32_t to);
bool berth_same_device(const berth_partition_device *a, const berth_partition_device *b);

/* Least over all orders and cuts of a value that stages and hops make up. */
typedef enum berth_path_end {
    BERTH_PATH_SUM,     /* all seconds */
    BERTH_PATH_SLOWEST, /* the most seconds of any */
    BERTH_PATH_HOPS     /* none over `limit`: the number of hops, then the time in them */
} berth_path_end;

/* Whether the table for that many devices and atoms is of a size to be made. */
bool berth_path_is_small(const berth_partition_problem *p);
/* BERTH_DOES_NOT_FIT without message where there is none. out->value: of PATH_HOPS the limit, else seconds. */
berth_status berth_path_find(const berth_partition_problem *p, berth_path_end end, double limit, berth_partition *out,
                             berth_error *err);

#endif
