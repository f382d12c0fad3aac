/* partition_cover.c - can these devices, in some order, take the whole chain with no stage over a limit?
 *
 * At a limit a device is the row of where its longest run ends, for each start; devices with one row are a group, and
 * a group is better than another where its row is nowhere behind. Three things are tried, in this order:
 *   prices: each group has a price, and all devices together are worth the sum of them. If the cheapest way to the end
 *   - groups taken as often as one likes - costs more than that, there is no cover: a proof. The prices are moved to
 *   make it so (the linear program's dual, by steps along the subgradient);
 *   branches: groups are taken one after the other, depth first. What a step costs beyond what it brings by those
 *   prices is waste, and there is only so much to waste; a set of devices is not looked at again from a place no
 *   farther; a group is not taken where a worse one that is left gets as far. To the end, that is a proof as well;
 *   it is given up after a number of steps;
 *   walks, where hops over the limit keep devices of an island apart: branches from the left, device by device;
 *   exchanges: from the order that got farthest, two devices change places while that gets farther.
 * Sources: Held & Karp, Mathematical Programming 1 (1971) 6-25 (moving prices); Pinar, Tabak & Aykanat, JPDC 68 (2008)
 * 1473-1486 (the order is the hard part). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/partition_internal.h"

#define NEARLY_0 1e-9
enum {
    MOST = BERTH_PARTITION_MOST_DEVICES,
    MOST_STEPS = 20000,
    HARDER = 4,
    N_PASSES = 3,
    N_PRICES = 60,       /* steps of prices */
    MEMO_SIZE = 1 << 15, /* slots; a set that finds none is not remembered */
    MEMO_PROBES = 8,
    MOST_ENDS = 8, /* of one run, in walks */
};

typedef struct memo_slot {
    uint64_t set;            /* 0 = free */
    int32_t left, right, by; /* by: of walks, the last device + 1; else 0 */
} memo_slot;

struct berth_cover {
    const berth_partition_problem *p;
    int32_t n, n_atoms, n_kinds;
    int32_t kind_of[MOST];
    int32_t *rows;  /* [n_kinds][n_atoms + 1] end of the longest run from there */
    int32_t *backs; /* the same: start of the longest run to there */
    double limit, above;
    /* of the island at hand */
    int32_t n_groups, count[MOST], kind[MOST]; /* a group's first kind is the one whose row counts */
    uint64_t members[MOST];
    uint64_t worse[MOST]; /* of each group, the groups that are nowhere ahead of it */
    double price[MOST];
    double *rest; /* [n_atoms + 1] what the way from there to the end costs at least, by prices */
    double *mean; /* [n_atoms + 1] */
    double best_price[MOST], *best_rest;
    double best_excess; /* best_rest[0] over what all devices are worth; above 0: no cover */
    memo_slot *memo;
    int64_t steps, most_steps;
    int32_t heads[MOST], n_heads, tails[MOST], n_tails; /* devices taken from the left, and from the right */
    bool is_found, is_cut;                              /* is_cut: a walk did not look at all ends */
    int32_t order[MOST], ends[MOST], n_order;
};

berth_cover *berth_cover_create(const berth_partition_problem *p)
{
    size_t width = (size_t)p->chain->n + 1;
    berth_cover *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->p = p;
    c->n = p->n_devices;
    c->n_atoms = p->chain->n;
    c->most_steps = p->effort.most_steps ? p->effort.most_steps : MOST_STEPS;
    for (int32_t d = 0; d < c->n; d++) {
        int32_t e = 0;
        while (!berth_same_device(&p->devices[e], &p->devices[d])) e++;
        c->kind_of[d] = e < d ? c->kind_of[e] : c->n_kinds++;
    }
    c->rows = calloc((size_t)c->n_kinds * width, sizeof *c->rows);
    c->backs = calloc((size_t)c->n_kinds * width, sizeof *c->backs);
    c->rest = calloc(width, sizeof *c->rest);
    c->mean = calloc(width, sizeof *c->mean);
    c->best_rest = calloc(width, sizeof *c->best_rest);
    c->memo = calloc(MEMO_SIZE, sizeof *c->memo);
    if (c->rows && c->backs && c->rest && c->mean && c->best_rest && c->memo) return c;
    berth_cover_destroy(c);
    return NULL;
}

void berth_cover_destroy(berth_cover *c)
{
    if (!c) return;
    free(c->rows);
    free(c->backs);
    free(c->rest);
    free(c->mean);
    free(c->best_rest);
    free(c->memo);
    free(c);
}

void berth_cover_try_harder(berth_cover *c)
{
    c->most_steps *= HARDER;
}

static const int32_t *row_of(const berth_cover *c, int32_t group)
{
    return c->rows + (size_t)c->kind[group] * ((size_t)c->n_atoms + 1);
}

static const int32_t *back_of(const berth_cover *c, int32_t group)
{
    return c->backs + (size_t)c->kind[group] * ((size_t)c->n_atoms + 1);
}

/* ---- what each device can take ---- */

static void measure_rows(berth_cover *c)
{
    for (int32_t d = 0, kinds = 0; d < c->n; d++) {
        if (c->kind_of[d] < kinds) continue;
        size_t at = (size_t)kinds++ * ((size_t)c->n_atoms + 1);
        int32_t *row = c->rows + at, *back = c->backs + at, to = 0;
        for (int32_t from = 0; from < c->n_atoms; from++) { /* a later start ends no earlier */
            if (to < from) to = from;
            for (; to < c->n_atoms; to++) {
                if (berth_chain_bytes(c->p->chain, from, to + 1) > c->p->devices[d].room) break;
                double seconds = berth_stage_seconds(c->p, d, from, to + 1);
                if (seconds <= c->limit) continue;
                if (seconds < c->above) c->above = seconds;
                break;
            }
            row[from] = to;
        }
        row[c->n_atoms] = c->n_atoms;
        for (int32_t i = 0, from = 0; i <= c->n_atoms; i++) {
            while (from < i && row[from] < i) from++;
            back[i] = from;
        }
    }
}

static bool is_row_behind(const berth_cover *c, int32_t a, int32_t b)
{
    const int32_t *x = row_of(c, a), *y = row_of(c, b);
    for (int32_t i = 0; i < c->n_atoms; i++)
        if (x[i] > y[i]) return false;
    return true;
}

static void read_groups(berth_cover *c, uint64_t island)
{
    size_t width = (size_t)c->n_atoms + 1;
    c->n_groups = 0;
    for (uint64_t left = island; left; left &= left - 1) {
        int32_t d = __builtin_ctzll(left), g = 0;
        const int32_t *row = c->rows + (size_t)c->kind_of[d] * width;
        while (g < c->n_groups && memcmp(row_of(c, g), row, width * sizeof *row) != 0) g++;
        if (g == c->n_groups) {
            c->n_groups++;
            c->kind[g] = c->kind_of[d];
            c->count[g] = 0;
            c->members[g] = 0;
        }
        c->count[g]++;
        c->members[g] |= (uint64_t)1 << d;
    }
    for (int32_t g = 0; g < c->n_groups; g++) {
        c->worse[g] = 0;
        for (int32_t h = 0; h < c->n_groups; h++)
            if (g != h && is_row_behind(c, h, g)) c->worse[g] |= (uint64_t)1 << h;
    }
}

/* ---- prices ---- */

/* What the cheapest way to the end costs from everywhere, groups taken as often as one likes; uses[g] of the one from
 * the start. The shorter way is nowhere the dearer, so the longest run is always the one to take. */
static void find_rest(berth_cover *c, int32_t *uses)
{
    int32_t from = 0;
    c->rest[c->n_atoms] = 0;
    for (int32_t i = c->n_atoms - 1; i >= 0; i--) {
        c->rest[i] = INFINITY;
        for (int32_t g = 0; g < c->n_groups; g++) {
            int32_t to = row_of(c, g)[i];
            if (to > i && c->price[g] + c->rest[to] < c->rest[i]) c->rest[i] = c->price[g] + c->rest[to];
        }
    }
    memset(uses, 0, (size_t)c->n_groups * sizeof *uses);
    while (from < c->n_atoms && c->rest[from] < INFINITY) {
        int32_t best = -1;
        for (int32_t g = 0; g < c->n_groups; g++) {
            int32_t to = row_of(c, g)[from];
            if (to > from && c->price[g] + c->rest[to] <= c->rest[from]) best = g;
        }
        if (best < 0) return;
        uses[best]++;
        from = row_of(c, best)[from];
    }
}

/* Takes what is left to do from each place on as its worth (of the whole: 1): a group's price is then the most that a
 * run of it is worth. Gives by how much the whole is worth more than all devices; keeps the best. */
static double weigh(berth_cover *c, const double *rest)
{
    double excess = 1;
    for (int32_t g = 0; g < c->n_groups; g++) {
        const int32_t *row = row_of(c, g);
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
    for (int step = 0; step < N_PRICES && c->best_excess <= NEARLY_0; step++) {
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
    for (int pass = 0; pass < N_PASSES && c->best_excess <= NEARLY_0 && c->best_excess > before + 1e-4; pass++) {
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

/* Looks for worths by which there is no cover. */
static bool prices_prove(berth_cover *c)
{
    for (int32_t i = 0; i < c->n_atoms; i++) {
        bool can_be = false;
        for (int32_t g = 0; g < c->n_groups && !can_be; g++) can_be = row_of(c, g)[i] > i;
        if (!can_be) return true; /* an atom that no device takes */
    }
    memcpy(c->rest, c->best_rest, ((size_t)c->n_atoms + 1) * sizeof *c->rest); /* what was best for another limit */
    bool has_last = c->rest[0] > 0;
    c->best_excess = -INFINITY;
    if (has_last) weigh(c, c->rest);
    for (int32_t g = -2; g < c->n_groups; g++) weigh_as(c, g);
    if (c->best_excess > NEARLY_0) return true;
    if (!(c->best_excess > -INFINITY)) return false; /* nothing to do */
    move_prices(c);
    move_worths(c);
    return c->best_excess > NEARLY_0;
}

/* ---- branches ---- */

static int32_t reach(const berth_cover *c, const int32_t *order, int32_t n, int32_t from)
{
    for (int32_t i = 0; i < n && from < c->n_atoms; i++)
        from = c->rows[(size_t)c->kind_of[order[i]] * ((size_t)c->n_atoms + 1) + (size_t)from];
    return from;
}

/* What is left to do: atoms [left, right), by the devices not in `used`. What goes on at either end has the same right
 * to be decided first. */
typedef struct rest_of {
    uint64_t used;
    int32_t left, right, by; /* by: as in the memo */
    double to_waste;
} rest_of;

typedef struct step_to {
    int32_t group; /* or, of walks, device */
    int32_t to;    /* the end of its run, or its start where it is taken at the right */
    double waste;
} step_to;

static void insert(step_to *steps, int32_t *n, step_to s)
{
    int32_t i = (*n)++;
    for (; i > 0 && steps[i - 1].waste > s.waste; i--) steps[i] = steps[i - 1];
    steps[i] = s;
}

/* Whether this set of devices had no more than this to do before; remembers it if not. */
static bool was_here(berth_cover *c, const rest_of *r)
{
    uint64_t hash = (r->used + (uint64_t)r->by) * 0x9E3779B97F4A7C15u;
    for (int probe = 0; probe < MEMO_PROBES; probe++) {
        memo_slot *slot = &c->memo[((hash >> 40) + (uint64_t)probe) % MEMO_SIZE];
        bool is_it = slot->set == r->used && slot->by == r->by;
        if (is_it && slot->left == r->left && slot->right == r->right) return true;
        if (is_it && !r->by && slot->left >= r->left && slot->right <= r->right) return true;
        if (slot->set != 0) continue;
        *slot = (memo_slot){.set = r->used, .left = r->left, .right = r->right, .by = r->by};
        return false;
    }
    return false;
}

/* Groups to take next at one end, the least waste first. */
static int32_t choose(const berth_cover *c, const rest_of *r, bool at_right, step_to *chosen)
{
    int32_t n = 0, at = at_right ? r->right : r->left;
    for (int32_t g = 0; g < c->n_groups; g++) {
        const int32_t *row = at_right ? back_of(c, g) : row_of(c, g);
        int32_t to = row[at];
        if (to == at || !(c->members[g] & ~r->used)) continue;
        bool has_worse = false, is_end = at_right ? to <= r->left : to >= r->right;
        for (uint64_t left = c->worse[g]; left && !has_worse; left &= left - 1) { /* that gets as far */
            int32_t h = __builtin_ctzll(left);
            const int32_t *other = at_right ? back_of(c, h) : row_of(c, h);
            has_worse = (c->members[h] & ~r->used) && other[at] == to;
        }
        double worth = at_right ? c->best_rest[to] - c->best_rest[at] : c->best_rest[at] - c->best_rest[to];
        double waste = c->best_price[g] - worth;
        if (has_worse || (waste > r->to_waste + NEARLY_0 && !is_end)) continue;
        insert(chosen, &n, (step_to){.group = g, .to = to, .waste = waste});
    }
    return n;
}

static void keep_branch(berth_cover *c)
{
    c->is_found = true;
    memcpy(c->order, c->heads, (size_t)c->n_heads * sizeof *c->order);
    for (int32_t i = 0; i < c->n_tails; i++) c->order[c->n_heads + i] = c->tails[c->n_tails - 1 - i];
    c->n_order = c->n_heads + c->n_tails;
    for (int32_t i = 0, at = 0; i < c->n_order; i++) c->ends[i] = at = reach(c, &c->order[i], 1, at);
}

/* Depth first. True: found, or given up. */
static bool branch(berth_cover *c, const rest_of *r)
{
    step_to heads[MOST], tails[MOST];
    if (r->left >= r->right) {
        keep_branch(c);
        return true;
    }
    if (++c->steps > c->most_steps) return true;
    if (r->used && was_here(c, r)) return false;
    int32_t n_heads = choose(c, r, false, heads), n_tails = choose(c, r, true, tails);
    if (n_heads == 0 || n_tails == 0) return false;
    bool at_right = tails[0].waste > heads[0].waste + NEARLY_0; /* the end that is harder to please */
    for (int32_t i = 0; i < (at_right ? n_tails : n_heads); i++) {
        const step_to *s = at_right ? &tails[i] : &heads[i];
        int32_t device = __builtin_ctzll(c->members[s->group] & ~r->used);
        rest_of next = {.used = r->used | (uint64_t)1 << device,
                        .left = at_right ? r->left : s->to,
                        .right = at_right ? s->to : r->right,
                        .to_waste = r->to_waste - s->waste};
        if (at_right)
            c->tails[c->n_tails++] = device;
        else
            c->heads[c->n_heads++] = device;
        bool is_over = branch(c, &next);
        *(at_right ? &c->n_tails : &c->n_heads) -= 1;
        if (is_over) return true;
    }
    return false;
}

/* ---- exchanges ---- */

/* From any order, two devices change places as long as that gets no less far. */
static void exchange(berth_cover *c, uint64_t island)
{
    uint64_t seed = 0x9E3779B97F4A7C15u;
    c->n_order = 0;
    for (; island; island &= island - 1) c->order[c->n_order++] = __builtin_ctzll(island);
    if (c->n_order < 2) return;
    int32_t far = reach(c, c->order, c->n_order, 0), n = c->n_order;
    for (int64_t k = 0; k < c->most_steps && far < c->n_atoms; k++) {
        seed ^= seed >> 12; /* xorshift64*: the same answer everywhere */
        seed ^= seed << 25;
        seed ^= seed >> 27;
        uint64_t drawn = seed * 0x2545F4914F6CDD1Du;
        int32_t i = (int32_t)((drawn >> 33) % (uint64_t)n), j = (int32_t)((drawn & 0xffffffff) % (uint64_t)n);
        int32_t a = c->order[i], b = c->order[j];
        if (c->kind_of[a] == c->kind_of[b]) continue;
        c->order[i] = b;
        c->order[j] = a;
        int32_t now = reach(c, c->order, n, 0);
        if (now >= far) {
            far = now;
            continue;
        }
        c->order[i] = a;
        c->order[j] = b;
    }
    c->is_found = far == c->n_atoms;
    for (int32_t i = 0, at = 0; i < n; i++) c->ends[i] = at = reach(c, &c->order[i], 1, at);
}

/* ---- walks ---- */

static double hop_of(const berth_cover *c, int32_t kind, int32_t from, int32_t to)
{
    size_t n = (size_t)c->n;
    return 1e-12 * c->p->hops->picoseconds[((size_t)kind * n + (size_t)from) * n + (size_t)to];
}

/* Devices to go on with where not each can follow each, and how far: not always as far as it gets, since one to pass
 * through on the way to others must be left something to do. */
static int32_t choose_walk(berth_cover *c, const rest_of *r, int32_t last, uint64_t island, step_to *chosen)
{
    int32_t n = 0;
    for (uint64_t left = island & ~r->used; left; left &= left - 1) {
        int32_t d = __builtin_ctzll(left), g = 0;
        if (last >= 0 && hop_of(c, c->p->hops->kind[r->left], last, d) > c->limit) continue;
        while (!(c->members[g] >> d & 1)) g++;
        for (int32_t far = row_of(c, g)[r->left], to = far; to > r->left; to--) {
            double waste = c->best_price[g] - (c->best_rest[r->left] - c->best_rest[to]);
            if (waste > r->to_waste + NEARLY_0 && to < c->n_atoms) break; /* less far wastes more */
            if (far - to == MOST_ENDS) c->is_cut = true;
            if (far - to == MOST_ENDS) break;
            insert(chosen, &n, (step_to){.group = d, .to = to, .waste = waste});
        }
    }
    return n;
}

/* Depth first, device by device, from the left. True: found, or given up. */
static bool walk(berth_cover *c, const rest_of *r, uint64_t island)
{
    step_to chosen[MOST * MOST_ENDS];
    int32_t last = c->n_heads > 0 ? c->heads[c->n_heads - 1] : -1;
    if (r->left == c->n_atoms) {
        c->is_found = true;
        memcpy(c->order, c->heads, sizeof c->order);
        c->n_order = c->n_heads;
        return true;
    }
    if (++c->steps > c->most_steps) return true;
    if (r->used && was_here(c, r)) return false;
    int32_t n = choose_walk(c, r, last, island, chosen);
    for (int32_t i = 0; i < n; i++) {
        int32_t d = chosen[i].group, to = chosen[i].to;
        rest_of next = {.used = r->used | (uint64_t)1 << d,
                        .left = to,
                        .right = r->right,
                        .by = 1 + d,
                        .to_waste = r->to_waste - chosen[i].waste};
        c->ends[c->n_heads] = to;
        c->heads[c->n_heads++] = d;
        bool is_over = walk(c, &next, island);
        c->n_heads--;
        if (is_over) return true;
    }
    return false;
}

/* ---- islands ---- */

/* Devices that hops within the limit join with `first`, one way or the other; *is_whole: each with each, for all that
 * flows. */
static uint64_t island_of(berth_cover *c, int32_t first, bool *is_whole)
{
    uint64_t island = (uint64_t)1 << first, looked_at = 0;
    *is_whole = true;
    if (!c->p->hops) return c->n == MOST ? ~(uint64_t)0 : ((uint64_t)1 << c->n) - 1;
    while (island & ~looked_at) {
        int32_t a = __builtin_ctzll(island & ~looked_at);
        looked_at |= (uint64_t)1 << a;
        for (int32_t b = 0; b < c->n; b++)
            for (int32_t kind = 0; kind < BERTH_CUT_KINDS && a != b; kind++) {
                double there = hop_of(c, kind, a, b), back = hop_of(c, kind, b, a);
                if (there <= c->limit || back <= c->limit) island |= (uint64_t)1 << b;
                if (there > c->limit && there < c->above) c->above = there;
            }
    }
    for (int32_t a = 0; a < c->n; a++)
        for (int32_t b = 0; b < c->n; b++)
            for (int32_t kind = 0; kind < BERTH_CUT_KINDS; kind++)
                if (a != b && (island >> a & 1) && (island >> b & 1) && hop_of(c, kind, a, b) > c->limit)
                    *is_whole = false;
    return island;
}

static void write_cut(const berth_cover *c, berth_partition *out)
{
    uint64_t unused = c->n == MOST ? ~(uint64_t)0 : ((uint64_t)1 << c->n) - 1;
    int32_t n = 0;
    out->bounds[0] = 0;
    for (; n < c->n_order; n++) {
        out->order[n] = c->order[n];
        unused &= ~((uint64_t)1 << c->order[n]);
        out->bounds[n + 1] = c->ends[n];
    }
    for (; unused; unused &= unused - 1) {
        out->order[n] = __builtin_ctzll(unused);
        out->bounds[++n] = c->n_atoms;
    }
}

/* Where hops over the limit keep some devices of an island apart. */
static berth_cover_answer try_walks(berth_cover *c, uint64_t island, berth_partition *out)
{
    berth_partition other;
    memset(c->memo, 0, MEMO_SIZE * sizeof *c->memo);
    c->steps = 0;
    c->n_heads = 0;
    c->is_found = false;
    c->is_cut = false;
    bool is_over = walk(c, &(rest_of){.right = c->n_atoms, .to_waste = -c->best_excess}, island);
    if (!is_over && !c->is_cut) return BERTH_COVER_NONE;
    if (c->is_found) {
        write_cut(c, out);
        return BERTH_COVER_FOUND;
    }
    if (!berth_path_is_possible(c->p) || berth_path_find(c->p, BERTH_PATH_HOPS, c->limit, 1, &other, NULL) != BERTH_OK)
        return BERTH_COVER_OPEN;
    berth_partition_deinit(out);
    berth_partition_move(out, &other);
    return BERTH_COVER_FOUND;
}

static berth_cover_answer try_island(berth_cover *c, uint64_t island, bool is_whole, berth_partition *out)
{
    read_groups(c, island);
    if (prices_prove(c)) return BERTH_COVER_NONE;
    memset(c->memo, 0, MEMO_SIZE * sizeof *c->memo);
    c->steps = 0;
    c->n_heads = c->n_tails = 0;
    c->is_found = false;
    if (!branch(c, &(rest_of){.right = c->n_atoms, .to_waste = -c->best_excess})) return BERTH_COVER_NONE;
    if (!c->is_found) exchange(c, island);
    if (!c->is_found) return BERTH_COVER_OPEN;
    write_cut(c, out);
    if (is_whole || berth_slowest_hop(c->p, out) <= c->limit) return BERTH_COVER_FOUND;
    return try_walks(c, island, out);
}

berth_cover_answer berth_cover_try(berth_cover *c, double limit, berth_partition *out, double *above)
{
    uint64_t all = c->n == MOST ? ~(uint64_t)0 : ((uint64_t)1 << c->n) - 1;
    berth_cover_answer answer = BERTH_COVER_NONE;
    c->limit = limit;
    c->above = INFINITY;
    measure_rows(c);
    while (all && answer != BERTH_COVER_FOUND) {
        bool is_whole;
        uint64_t island = island_of(c, __builtin_ctzll(all), &is_whole);
        all &= ~island;
        berth_cover_answer here = try_island(c, island, is_whole, out);
        if (here == BERTH_COVER_FOUND || here == BERTH_COVER_OPEN) answer = here;
    }
    *above = c->above;
    return answer;
}
