/* partition_internal.h - between partition.c and the files named partition_*.c. */
#ifndef BERTH_STRATEGIES_PARTITION_INTERNAL_H
#define BERTH_STRATEGIES_PARTITION_INTERNAL_H

#include "strategies/partition.h"

bool berth_partition_init(berth_partition *p, int32_t n_devices);
/* Takes what `from` owns. */
void berth_partition_move(berth_partition *to, berth_partition *from);

/* A run of no bytes takes no time. */
double berth_stage_seconds(const berth_partition_problem *p, int32_t device, int32_t from, int32_t to);
bool berth_same_device(const berth_partition_device *a, const berth_partition_device *b);
/* Of a cut. */
double berth_slowest_stage(const berth_partition_problem *p, const berth_partition *cut);
double berth_slowest_hop(const berth_partition_problem *p, const berth_partition *cut);

/* ---- partition_paths.c ---- */

/* Least over all orders and cuts of a value that stages and hops make up. */
typedef enum berth_path_end {
    BERTH_PATH_SUM,     /* all seconds */
    BERTH_PATH_SLOWEST, /* the most seconds of any */
    BERTH_PATH_HOPS     /* none over `limit`: the number of hops, then the time in them */
} berth_path_end;

/* Whether a table for that many devices and atoms can be made at all. */
bool berth_path_is_possible(const berth_partition_problem *p);
/* Whether berth_path_find looks at all orders, in a table of at most `most_cells` (0 = the default). */
bool berth_path_is_exact(const berth_partition_problem *p, size_t most_cells);
/* BERTH_DOES_NOT_FIT without message where there is none, or, where it is not exact, none was found: out->bound is
 * INFINITY then if there is none, else less. out->value: of PATH_HOPS the limit, else seconds; out->bound: of PATH_SUM
 * always true, of the others only where it is exact (else 0). */
berth_status berth_path_find(const berth_partition_problem *p, berth_path_end end, double limit, size_t most_cells,
                             berth_partition *out, berth_error *err);

/* ---- partition_cover.c ---- */

typedef enum berth_cover_answer {
    BERTH_COVER_NONE, /* proven: there is no cut */
    BERTH_COVER_FOUND,
    BERTH_COVER_OPEN, /* given up */
} berth_cover_answer;

typedef struct berth_cover berth_cover;

berth_cover *berth_cover_create(const berth_partition_problem *p); /* NULL: out of memory */
void berth_cover_destroy(berth_cover *c);
/* From here on gives up later. */
void berth_cover_try_harder(berth_cover *c);
/* Is there an order and a cut whose stages take no longer than `limit`, and fit? (Hops over the limit divide the
 * devices into islands; within one they are left out.) The cut goes to `out` (initialised) where found. *above: up to
 * that limit, that included not, the answer is the same. */
berth_cover_answer berth_cover_try(berth_cover *c, double limit, berth_partition *out, double *above);

/* ---- partition_search.c ---- */

/* Throughput by bounds from both sides. `best`: the best cut known, or {0}; its `bound` is known to hold. */
berth_status berth_partition_close_in(const berth_partition_problem *p, berth_partition *best, berth_error *err);
/* Capacity the same way; context and bound lie in [low, high], where low is known to have `best` if that is there. */
berth_status berth_partition_close_in_context(const berth_partition_problem *p, int64_t low, int64_t high,
                                              berth_partition *best, berth_error *err);

#endif
