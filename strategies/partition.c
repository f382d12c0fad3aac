/* partition.c - see partition.h: the slowest stage as fast as can be, and the longest context.
 *
 * All rests on one thing: a run never needs less than a part of it. So for a given limit the longest run that a
 * device can take is found by halving, and of a set of devices it is enough to know the farthest that they can reach
 * in some order; of devices that do not differ it is enough to know how many are in the set. The least limit is
 * closed in on from both sides by values that stages really take, so it is met exactly.
 * Sources: Pinar & Aykanat, JPDC 64 (2004) 974-996 (one order); Pinar, Tabak & Aykanat, JPDC 68 (2008) 1473-1486
 * (orders are hard, hence sets of devices). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/partition_internal.h"
#include "strategies/words.h"

enum { MOST_STATES = 1 << 16 };

typedef struct search {
    const berth_partition_problem *p;
    const berth_chain *c;
    int32_t n; /* devices */
    /* Kinds of devices. Of each, members are used from the first on; a state is how many, in mixed radix. In one
     * order every device is a kind, and a state how many of all were used. */
    int32_t n_kinds;
    int32_t *kind_size, *members; /* [n_kinds]; [n_kinds * n] */
    int32_t *stride;              /* [n_kinds] */
    size_t n_states;
    bool is_free;
    int32_t *reach; /* [n_states]: the farthest atom */
    int32_t *last;  /* the device that got there */
    int32_t *last_kind;
    double above;   /* the least value over the limit that a longer stage would have taken */
    double slowest; /* of the stages of the last cut read */
} search;

bool berth_same_device(const berth_partition_device *a, const berth_partition_device *b)
{
    return a->room == b->room && a->rate == b->rate && a->flops == b->flops;
}

double berth_stage_seconds(const berth_partition_problem *p, int32_t device, int32_t from, int32_t to)
{
    const berth_partition_device *d = &p->devices[device];
    if (p->work) return berth_work_seconds(p->work, from, to, d->flops, d->rate);
    return (double)berth_chain_bytes(p->chain, from, to) / d->rate; /* bytes are exact in a double below 2^53 */
}

/* Sorts the devices into kinds; false when the orders of these are too many to look at. */
static bool read_kinds(search *s)
{
    const berth_partition_device *devices = s->p->devices;
    s->n_states = 1;
    for (int32_t d = 0; d < s->n; d++) {
        int32_t k = 0;
        while (k < s->n_kinds && !berth_same_device(&devices[s->members[(size_t)k * (size_t)s->n]], &devices[d])) k++;
        s->n_kinds += k == s->n_kinds;
        s->members[(size_t)k * (size_t)s->n + (size_t)s->kind_size[k]++] = d;
    }
    for (int32_t k = 0; k < s->n_kinds; k++) {
        s->stride[k] = (int32_t)s->n_states;
        s->n_states *= (size_t)s->kind_size[k] + 1;
        if (s->n_states > MOST_STATES) return false;
    }
    return true;
}

static bool search_init(search *s, const berth_partition_problem *p, bool free_order)
{
    size_t n = (size_t)p->n_devices;
    *s = (search){.p = p, .c = p->chain, .n = p->n_devices};
    s->kind_size = calloc(n, sizeof *s->kind_size);
    s->members = calloc(n * n, sizeof *s->members);
    s->stride = calloc(n, sizeof *s->stride);
    if (!s->kind_size || !s->members || !s->stride) return false;
    s->is_free = read_kinds(s) && free_order && s->n_kinds > 1;
    if (!s->is_free) s->n_states = n + 1;
    s->reach = calloc(s->n_states, sizeof *s->reach);
    s->last = calloc(s->n_states, sizeof *s->last);
    s->last_kind = calloc(s->n_states, sizeof *s->last_kind);
    return s->reach && s->last && s->last_kind;
}

static void search_deinit(search *s)
{
    free(s->kind_size);
    free(s->members);
    free(s->stride);
    free(s->reach);
    free(s->last);
    free(s->last_kind);
}

static bool can_take(search *s, int32_t device, int32_t from, int32_t to, double limit)
{
    if (berth_chain_bytes(s->c, from, to) > s->p->devices[device].room) return false;
    double seconds = berth_stage_seconds(s->p, device, from, to);
    if (seconds <= limit) return true;
    if (seconds < s->above) s->above = seconds;
    return false;
}

/* The end of the longest run from `from` that the device takes. */
static int32_t longest(search *s, int32_t device, int32_t from, double limit)
{
    int32_t low = from, high = s->c->n;
    while (low < high) {
        int32_t middle = low + (high - low + 1) / 2;
        if (can_take(s, device, from, middle, limit))
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* The farthest that the devices of a state reach; states with fewer are known. */
static void reach_state(search *s, size_t state, double limit)
{
    s->reach[state] = -1;
    for (int32_t k = 0; k < s->n_kinds; k++) {
        size_t used = state / (size_t)s->stride[k] % ((size_t)s->kind_size[k] + 1);
        if (used == 0) continue;
        int32_t device = s->members[(size_t)k * (size_t)s->n + used - 1];
        int32_t end = longest(s, device, s->reach[state - (size_t)s->stride[k]], limit);
        if (end < s->reach[state] || (end == s->reach[state] && device < s->last[state])) continue;
        s->reach[state] = end; /* among equals the last device goes last: the order as given */
        s->last[state] = device;
        s->last_kind[state] = k;
    }
}

/* Whether the chain can be cut so that no stage takes longer than the limit. */
static bool can_reach_end(search *s, double limit)
{
    s->above = INFINITY;
    s->reach[0] = 0;
    for (size_t state = 1; state < s->n_states; state++) {
        if (s->is_free) {
            reach_state(s, state, limit);
            continue;
        }
        s->reach[state] = longest(s, (int32_t)state - 1, s->reach[state - 1], limit);
        s->last[state] = (int32_t)state - 1;
    }
    return s->reach[s->n_states - 1] == s->c->n;
}

bool berth_partition_init(berth_partition *p, int32_t n)
{
    *p = (berth_partition){.order = calloc((size_t)n, sizeof *p->order),
                           .bounds = calloc((size_t)n + 1, sizeof *p->bounds),
                           .n_devices = n};
    return p->order && p->bounds;
}

void berth_partition_deinit(berth_partition *p)
{
    free(p->order);
    free(p->bounds);
    *p = (berth_partition){0};
}

/* The cut that the last can_reach_end found. */
static void read_cut(search *s, berth_partition *out)
{
    size_t state = s->n_states - 1;
    s->slowest = 0;
    out->bounds[s->n] = s->c->n;
    for (int32_t stage = s->n - 1; stage >= 0; stage--) {
        int32_t device = s->last[state];
        state -= s->is_free ? (size_t)s->stride[s->last_kind[state]] : 1;
        out->order[stage] = device;
        out->bounds[stage] = s->reach[state];
        double seconds = berth_stage_seconds(s->p, device, s->reach[state], out->bounds[stage + 1]);
        if (seconds > s->slowest) s->slowest = seconds;
    }
}

/* ---- throughput ---- */

/* Closes in on the least limit: what is reached becomes the upper end, the next value that a stage could take the
 * lower. */
static berth_status least_slowest(search *s, berth_partition *out, berth_error *err)
{
    if (!can_reach_end(s, INFINITY)) return BERTH_DOES_NOT_FIT;
    if (!berth_partition_init(out, s->n)) return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the cut");
    read_cut(s, out);
    double low = 0, high = s->slowest; /* high is reached; less than low is not */
    while (low < high) {
        double middle = low + (high - low) / 2;
        if (!(middle < high)) middle = low;
        if (can_reach_end(s, middle)) {
            read_cut(s, out);
            high = s->slowest;
        } else {
            low = s->above;
        }
    }
    can_reach_end(s, high);
    read_cut(s, out);
    out->value = s->slowest;
    return BERTH_OK;
}

/* Without hops. *all_orders: devices do not differ, or all their orders were looked at. */
static berth_status least_stage(const berth_partition_problem *p, bool free_order, berth_partition *out,
                                bool *all_orders, berth_error *err)
{
    search s;
    berth_status st = search_init(&s, p, free_order)
                          ? least_slowest(&s, out, err)
                          : berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the search");
    *all_orders = s.is_free || s.n_kinds == 1;
    search_deinit(&s);
    return st;
}

static void keep_better(berth_partition *best, berth_status *st, berth_partition *other, berth_status other_st)
{
    bool is_better = other_st == BERTH_OK && (*st != BERTH_OK || other->value < best->value);
    if (is_better || (other_st != BERTH_OK && other_st != BERTH_DOES_NOT_FIT)) {
        berth_partition swap = *best;
        *best = *other;
        *other = swap;
        *st = other_st;
    }
    berth_partition_deinit(other);
}

static double slowest_hop(const berth_partition_problem *p, const berth_partition *cut)
{
    double most = 0;
    for (int32_t s = 0, before = -1; s < cut->n_devices; s++) {
        if (cut->bounds[s] == cut->bounds[s + 1]) continue;
        double hop = before < 0 ? 0 : 1e-12 * berth_hop(p->hops, before, cut->order[s], cut->bounds[s]);
        if (hop > most) most = hop;
        before = cut->order[s];
    }
    return most;
}

/* The same slowest stage with fewer and shorter hops; or, where a hop would be slower than every stage, the best of
 * both. */
static berth_status shorten_hops(const berth_partition_problem *p, bool differ, berth_partition *best, berth_error *err)
{
    bool hops_bind = slowest_hop(p, best) > best->value;
    if (!berth_path_is_small(p) || (p->hops->is_uniform && !differ && !hops_bind)) {
        if (hops_bind) best->value = slowest_hop(p, best);
        best->all_orders &= !hops_bind;
        return BERTH_OK;
    }
    berth_partition other = {0};
    berth_status st = berth_path_find(p, BERTH_PATH_HOPS, best->value, &other, err);
    if (st == BERTH_DOES_NOT_FIT) {
        st = berth_path_find(p, BERTH_PATH_SLOWEST, INFINITY, &other, err);
        double limit = other.value;
        berth_partition_deinit(&other);
        if (st == BERTH_OK) st = berth_path_find(p, BERTH_PATH_HOPS, limit, &other, err);
    }
    if (st != BERTH_OK) return st;
    other.all_orders = best->all_orders;
    berth_partition_deinit(best);
    *best = other;
    return BERTH_OK;
}

berth_status berth_partition_throughput(const berth_partition_problem *p, bool free_order, berth_partition *out,
                                        berth_error *err)
{
    berth_partition other = {0};
    bool all_orders;
    *out = (berth_partition){0};
    berth_status st = least_stage(p, false, out, &all_orders, err);
    if (!free_order || (st != BERTH_OK && st != BERTH_DOES_NOT_FIT)) return st;
    bool differ = false;
    for (int32_t d = 1; d < p->n_devices; d++) differ |= !berth_same_device(&p->devices[0], &p->devices[d]);
    if (differ) {
        berth_status other_st = least_stage(p, true, &other, &all_orders, err);
        keep_better(out, &st, &other, other_st);
    }
    if (st != BERTH_OK) return st;
    out->all_orders = all_orders;
    if (p->hops) st = shorten_hops(p, differ, out, err);
    if (st != BERTH_OK) berth_partition_deinit(out);
    return st;
}

/* ---- capacity ---- */

berth_status berth_partition_capacity(const berth_partition_problem *problem, bool free_order, int64_t limit,
                                      berth_partition *out, berth_error *err)
{
    berth_chain c = *problem->chain; /* shares the arrays, changes the context only */
    berth_partition_problem p = *problem;
    search s;
    p.chain = &c;
    *out = (berth_partition){0};
    berth_status st = BERTH_OUT_OF_MEMORY;
    int64_t low = c.context_tokens, high = limit > low ? limit : low;
    if (!search_init(&s, &p, free_order) || !berth_partition_init(out, p.n_devices)) {
        berth_refuse(err, st, "no memory for the search");
        goto out;
    }
    st = BERTH_DOES_NOT_FIT;
    if (!can_reach_end(&s, INFINITY)) goto out;
    while (low < high) {
        c.context_tokens = high - (high - low) / 2;
        if (can_reach_end(&s, INFINITY))
            low = c.context_tokens;
        else
            high = c.context_tokens - 1;
    }
    c.context_tokens = low;
    can_reach_end(&s, INFINITY);
    read_cut(&s, out);
    out->value = (double)low;
    out->all_orders = s.is_free || s.n_kinds == 1;
    st = BERTH_OK;
out:
    search_deinit(&s);
    if (st != BERTH_OK) berth_partition_deinit(out);
    return st;
}
