/* partition_cover.h - one question at one limit, between partition_cover.c (what each device can take, islands, the answer),
 * partition_prices.c (proofs that there is no cover) and partition_orders.c (looking for one). */
#ifndef BERTH_STRATEGIES_PARTITION_COVER_H
#define BERTH_STRATEGIES_PARTITION_COVER_H

#include "strategies/partition_internal.h"

#define BERTH_COVER_NEARLY_0 1e-9
enum {
    BERTH_COVER_MOST = BERTH_PARTITION_MOST_DEVICES,
    BERTH_COVER_MEMO_SIZE = 1 << 15, /* slots; a set that finds none is not remembered */
};

typedef struct berth_cover_memo {
    uint64_t set;            /* 0 = free */
    int32_t left, right, by; /* by: of walks, the last device + 1; else 0 */
} berth_cover_memo;

struct berth_cover {
    const berth_partition_problem *p;
    int32_t n, n_atoms, n_kinds;
    int32_t kind_of[BERTH_COVER_MOST];
    int32_t *rows;  /* [n_kinds][n_atoms + 1] end of the longest run from there */
    int32_t *backs; /* the same: start of the longest run to there */
    double limit, above;
    /* Of the island at hand: */
    int32_t n_groups;
    int32_t count[BERTH_COVER_MOST];
    int32_t kind[BERTH_COVER_MOST]; /* of a group's first device: the one whose row counts */
    uint64_t members[BERTH_COVER_MOST];
    uint64_t worse[BERTH_COVER_MOST]; /* of each group, the groups that are nowhere ahead of it */
    double price[BERTH_COVER_MOST];
    double *rest; /* [n_atoms + 1] what the way from there to the end costs at least, by prices */
    double *mean; /* [n_atoms + 1] */
    double best_price[BERTH_COVER_MOST], *best_rest;
    double best_excess; /* best_rest[0] over what all devices are worth; above 0: no cover */
    berth_cover_memo *memo;
    int64_t steps, most_steps;
    int32_t heads[BERTH_COVER_MOST], n_heads; /* devices taken from the left */
    int32_t tails[BERTH_COVER_MOST], n_tails; /* and from the right */
    bool is_found, is_cut;                    /* is_cut: a walk did not look at all ends */
    int32_t order[BERTH_COVER_MOST], ends[BERTH_COVER_MOST], n_order;
};

/* The row of a group: where its longest run ends, for each start; and the same from behind. */
static inline const int32_t *berth_cover_row(const berth_cover *c, int32_t group)
{
    return c->rows + (size_t)c->kind[group] * ((size_t)c->n_atoms + 1);
}

static inline const int32_t *berth_cover_back(const berth_cover *c, int32_t group)
{
    return c->backs + (size_t)c->kind[group] * ((size_t)c->n_atoms + 1);
}

/* Seconds of a hop for one kind of what flows. */
static inline double berth_cover_hop(const berth_cover *c, int32_t kind, int32_t from, int32_t to)
{
    size_t n = (size_t)c->n;
    return 1e-12 * c->p->hops->picoseconds[((size_t)kind * n + (size_t)from) * n + (size_t)to];
}

/* Looks for prices by which the groups at hand have no cover: then true. Leaves the best it found in best_price,
 * best_rest and best_excess. */
bool berth_cover_prices_prove(berth_cover *c);

/* These three leave a cover in order, ends and n_order where is_found; the first two go by the best prices.
 *
 * From both ends, groups in turn, hops left out. False: proven that there is none; true: found, or given up. */
bool berth_cover_branch(berth_cover *c);
/* From the left, devices in turn, no hop over the limit. As above, but false proves nothing where is_cut. */
bool berth_cover_walk(berth_cover *c, uint64_t island);
/* From any order, two devices change places as long as that gets no less far. Hops left out. */
void berth_cover_exchange(berth_cover *c, uint64_t island);

#endif
