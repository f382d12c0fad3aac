/* partition_prices.c - proofs that no cover of a chain is possible; see partition_cover.h.
 *
 * Each group has a price, and all devices together are worth the sum of them. If the cheapest way to the end - groups taken
 * as often as one likes - costs more than that, there is no cover. The prices are moved to make it so: the linear program's
 * dual, by steps along the subgradient. Source: Held & Karp, Mathematical Programming 1 (1971) 6-25. */
#include <math.h>
#include <string.h>

#include "strategies/partition_cover.h"

enum {
    MOST = BERTH_COVER_MOST,
    N_PASSES = 3,
    N_PRICES = 60, /* steps of prices */
};

/* What the cheapest way to the end costs from everywhere, groups taken as often as one likes; uses[g] of the one from
 * the start. The shorter way is nowhere the dearer, so the longest run is always the one to take. */
static void find_rest(berth_cover *c, int32_t *uses)
{
    int32_t from = 0;
    c->rest[c->n_atoms] = 0;
    for (int32_t i = c->n_atoms - 1; i >= 0; i--) {
        c->rest[i] = INFINITY;
        for (int32_t g = 0; g < c->n_groups; g++) {
            int32_t to = berth_cover_row(c, g)[i];
            if (to > i && c->price[g] + c->rest[to] < c->rest[i]) c->rest[i] = c->price[g] + c->rest[to];
        }
    }
    memset(uses, 0, (size_t)c->n_groups * sizeof *uses);
    while (from < c->n_atoms && c->rest[from] < INFINITY) {
        int32_t best = -1;
        for (int32_t g = 0; g < c->n_groups; g++) {
            int32_t to = berth_cover_row(c, g)[from];
            if (to > from && c->price[g] + c->rest[to] <= c->rest[from]) best = g;
        }
        if (best < 0) return;
        uses[best]++;
        from = berth_cover_row(c, best)[from];
    }
}

/* Takes what is left to do from each place on as its worth (of the whole: 1): a group's price is then the most that a
 * run of it is worth. Gives by how much the whole is worth more than all devices; keeps the best. */
static double weigh(berth_cover *c, const double *rest)
{
    double excess = 1;
    for (int32_t g = 0; g < c->n_groups; g++) {
        const int32_t *row = berth_cover_row(c, g);
        double most = 0;
        for (int32_t i = 0; i < c->n_atoms; i++)
            if (rest[i] - rest[row[i]] > most) most = rest[i] - rest[row[i]];
        c->price[g] = most;
        excess -= most * c->count[g];
    }
    if (excess <= c->best_excess) return excess;
    c->best_excess = excess;
    memcpy(c->best_rest, rest, ((size_t)c->n_atoms + 1) * sizeof *rest);
    memcpy(c->best_price, c->price, sizeof c->price);
    return excess;
}

static void scale(double *rest, int32_t n, double by)
{
    for (int32_t i = 0; i <= n; i++) rest[i] *= by;
}

/* What there is to do, as a device of the group sees it alone; or by bytes (-1); or by number (-2). */
static void weigh_as(berth_cover *c, int32_t group)
{
    int32_t device = group < 0 ? 0 : __builtin_ctzll(c->members[group]);
    c->rest[c->n_atoms] = 0;
    for (int32_t i = c->n_atoms - 1; i >= 0; i--) {
        double atom = group == -1  ? (double)berth_chain_bytes(c->p->chain, i, i + 1)
                      : group < -1 ? 1
                                   : berth_stage_seconds(c->p, device, i, i + 1);
        c->rest[i] = c->rest[i + 1] + atom;
    }
    if (!(c->rest[0] > 0)) return;
    scale(c->rest, c->n_atoms, 1 / c->rest[0]);
    weigh(c, c->rest);
}

/* Moves prices along the subgradient. What each group's price times its devices adds up to, against the cheapest way:
 * a bound that grows, though not at every step. */
static void move_prices(berth_cover *c)
{
    int32_t uses[MOST], since = 0;
    double target = 0.02;
    memset(c->mean, 0, ((size_t)c->n_atoms + 1) * sizeof *c->mean);
    memcpy(c->price, c->best_price, sizeof c->price);
    for (int step = 0; step < N_PRICES && c->best_excess <= BERTH_COVER_NEARLY_0; step++) {
        find_rest(c, uses);
        if (!(c->rest[0] > 0)) return;
        scale(c->rest, c->n_atoms, 1 / c->rest[0]);
        /* One by one they jump from run to run; the mean of them is smooth. */
        double share = 2.0 / (step + 2), square = 0, before = c->best_excess;
        for (int32_t i = 0; i <= c->n_atoms; i++) c->mean[i] += share * (c->rest[i] - c->mean[i]);
        weigh(c, c->mean);
        double excess = weigh(c, c->rest);
        since = c->best_excess > before ? 0 : since + 1;
        if (since == 5) target /= 2;
        if (since == 5) since = 0;
        for (int32_t g = 0; g < c->n_groups; g++) square += (double)(uses[g] - c->count[g]) * (uses[g] - c->count[g]);
        if (square == 0) return; /* the way itself is a cover */
        double by = (target + c->best_excess - excess) / square;
        for (int32_t g = 0; g < c->n_groups; g++) {
            c->price[g] += by * (uses[g] - c->count[g]);
            if (c->price[g] < 0) c->price[g] = 0;
        }
    }
}

/* Makes the work of one atom after the other more or less worth, where that is better. */
static void move_worths(berth_cover *c)
{
    static const double factors[] = {0, 0.5, 0.9, 1.1, 2};
    double before = -INFINITY;
    for (int pass = 0; pass < N_PASSES && c->best_excess <= BERTH_COVER_NEARLY_0 && c->best_excess > before + 1e-4;
         pass++) {
        before = c->best_excess;
        for (int32_t a = 0; a < c->n_atoms; a++) {
            double worth = c->best_rest[a] - c->best_rest[a + 1];
            for (size_t k = 0; k < sizeof factors / sizeof *factors && worth > 0; k++) {
                double changed = worth * factors[k];
                for (int32_t i = 0; i <= c->n_atoms; i++) c->rest[i] = c->best_rest[i];
                double more = changed - (c->rest[a] - c->rest[a + 1]);
                for (int32_t i = 0; i <= a; i++) c->rest[i] += more;
                if (!(c->rest[0] > 0)) continue;
                scale(c->rest, c->n_atoms, 1 / c->rest[0]);
                weigh(c, c->rest);
            }
        }
    }
}

bool berth_cover_prices_prove(berth_cover *c)
{
    for (int32_t i = 0; i < c->n_atoms; i++) {
        bool can_be = false;
        for (int32_t g = 0; g < c->n_groups && !can_be; g++) can_be = berth_cover_row(c, g)[i] > i;
        if (!can_be) return true; /* an atom that no device takes */
    }
    memcpy(c->rest, c->best_rest, ((size_t)c->n_atoms + 1) * sizeof *c->rest); /* what was best for another limit */
    bool has_last = c->rest[0] > 0;
    c->best_excess = -INFINITY;
    if (has_last) weigh(c, c->rest);
    for (int32_t g = -2; g < c->n_groups; g++) weigh_as(c, g);
    if (c->best_excess > BERTH_COVER_NEARLY_0) return true;
    if (!(c->best_excess > -INFINITY)) return false; /* nothing to do */
    move_prices(c);
    move_worths(c);
    return c->best_excess > BERTH_COVER_NEARLY_0;
}
