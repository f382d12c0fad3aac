/* partition.c - see partition.h: the slowest stage as fast as can be, and the longest context.
 *
 * All rests on one thing: a run never needs less than a part of it. So for a given limit the longest run that a
 * device can take is found by halving, and of a set of devices it is enough to know the farthest that they can reach
 * in some order; of devices that do not differ it is enough to know how many are in the set. The least limit is
 * closed in on from both sides by values that stages really take, so it is met exactly. Of too many kinds of devices
 * the sets are too many: partition_search.c.
 * Sources: Pinar & Aykanat, JPDC 64 (2004) 974-996 (one order); Pinar, Tabak & Aykanat, JPDC 68 (2008) 1473-1486
 * (orders are hard, hence sets of devices). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/partition_internal.h"
#include "strategies/words.h"

enum {
    MOST_STATES = 1 << 16,
    MOST_CELLS_FOR_HOPS = 1 << 14, /* of more than MANY devices; or a request to plan would wait for them */
    MANY = 12,
};

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
        if (s->n_states > (s->p->effort.most_states ? s->p->effort.most_states : (size_t)MOST_STATES)) return false;
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

void berth_partition_move(berth_partition *to, berth_partition *from)
{
    *to = *from;
    *from = (berth_partition){0};
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

/* Without hops. *is_exact: no other order is better, if it is free: devices do not differ, or all orders were looked
 * at. */
static berth_status least_stage(const berth_partition_problem *p, bool free_order, berth_partition *out, bool *is_exact,
                                berth_error *err)
{
    search s;
    berth_status st = search_init(&s, p, free_order)
                          ? least_slowest(&s, out, err)
                          : berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the search");
    *is_exact = s.is_free || s.n_kinds == 1;
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

double berth_slowest_stage(const berth_partition_problem *p, const berth_partition *cut)
{
    double most = 0;
    for (int32_t s = 0; s < cut->n_devices; s++) {
        double seconds = berth_stage_seconds(p, cut->order[s], cut->bounds[s], cut->bounds[s + 1]);
        if (seconds > most) most = seconds;
    }
    return most;
}

double berth_slowest_hop(const berth_partition_problem *p, const berth_partition *cut)
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

/* Of the stages that hold something: hops between them, and seconds in these. */
static void count_hops(const berth_partition_problem *p, const berth_partition *cut, int32_t *out_n,
                       double *out_seconds)
{
    *out_n = 0;
    *out_seconds = 0;
    for (int32_t s = 0, before = -1; s < cut->n_devices; s++) {
        if (cut->bounds[s] == cut->bounds[s + 1]) continue;
        if (before >= 0) {
            ++*out_n;
            *out_seconds += 1e-12 * berth_hop(p->hops, before, cut->order[s], cut->bounds[s]);
        }
        before = cut->order[s];
    }
}

/* The same slowest stage or hop with fewer and shorter hops; where a table of all orders is too large, what one way
 * a place gives. */
static berth_status shorten_hops(const berth_partition_problem *p, berth_partition *best, berth_error *err)
{
    if (!berth_path_is_possible(p)) return BERTH_OK;
    berth_partition other;
    size_t most_cells = p->n_devices > MANY ? MOST_CELLS_FOR_HOPS : 0;
    berth_status st = berth_path_find(p, BERTH_PATH_HOPS, best->value, most_cells, &other, err);
    if (st != BERTH_OK) return st == BERTH_DOES_NOT_FIT ? BERTH_OK : st;
    int32_t n_before, n_now;
    double before, now;
    count_hops(p, best, &n_before, &before);
    count_hops(p, &other, &n_now, &now);
    if (other.hops_are_least || n_now < n_before || (n_now == n_before && now < before)) {
        other.bound = best->bound;
        berth_partition_deinit(best);
        berth_partition_move(best, &other);
    }
    berth_partition_deinit(&other);
    return BERTH_OK;
}

/* Where a hop is slower than every stage of a best cut: the best of both, from a table of all orders. */
static berth_status least_of_both(const berth_partition_problem *p, berth_partition *best, berth_error *err)
{
    berth_partition other;
    berth_status st = berth_path_find(p, BERTH_PATH_SLOWEST, INFINITY, 0, &other, err);
    if (st != BERTH_OK) return st;
    berth_partition_deinit(best);
    berth_partition_move(best, &other);
    return BERTH_OK;
}

/* Among all orders. `out` holds the best in the order given, or nothing. */
static berth_status least_of_all(const berth_partition_problem *p, bool differ, berth_status in_order,
                                 berth_partition *out, berth_error *err)
{
    berth_partition other = {0};
    berth_status st = in_order;
    bool is_exact = true;
    if (differ) {
        berth_status other_st = least_stage(p, true, &other, &is_exact, err);
        keep_better(out, &st, &other, other_st);
        if (st == BERTH_OUT_OF_MEMORY || (st == BERTH_DOES_NOT_FIT && is_exact)) return st;
    }
    out->bound = is_exact ? out->value : 0;
    bool hops_bind = p->hops && st == BERTH_OK && berth_slowest_hop(p, out) > out->value;
    if (is_exact && !hops_bind) return st;
    if (is_exact && berth_path_is_exact(p, 0)) return least_of_both(p, out, err);
    if (p->n_devices <= BERTH_PARTITION_MOST_DEVICES) return berth_partition_close_in(p, out, err);
    if (hops_bind) out->value = berth_slowest_hop(p, out);
    return st; /* the order given, with no bound */
}

berth_status berth_partition_throughput(const berth_partition_problem *p, bool free_order, berth_partition *out,
                                        berth_error *err)
{
    bool ignored, differ = false;
    *out = (berth_partition){0};
    berth_status st = least_stage(p, false, out, &ignored, err);
    out->bound = out->value;
    if (!free_order || (st != BERTH_OK && st != BERTH_DOES_NOT_FIT)) return st;
    for (int32_t d = 1; d < p->n_devices; d++) differ |= !berth_same_device(&p->devices[0], &p->devices[d]);
    if (st != BERTH_OK && !differ) return st;
    double in_order = out->value;
    st = least_of_all(p, differ, st, out, err);
    bool hops_matter = p->hops && (differ || !p->hops->is_uniform || out->value != in_order);
    if (st == BERTH_OK) out->hops_are_least = !hops_matter;
    if (st == BERTH_OK && hops_matter) st = shorten_hops(p, out, err);
    if (st != BERTH_OK) berth_partition_deinit(out);
    return st;
}

/* ---- capacity ---- */

/* By halving over contexts; *is_exact as in least_stage. BERTH_DOES_NOT_FIT where not even the least fits. */
static berth_status most_context(search *s, berth_chain *c, int64_t limit, berth_partition *out)
{
    int64_t low = c->context_tokens, high = limit > low ? limit : low;
    if (!can_reach_end(s, INFINITY)) return BERTH_DOES_NOT_FIT;
    while (low < high) {
        c->context_tokens = high - (high - low) / 2;
        if (can_reach_end(s, INFINITY))
            low = c->context_tokens;
        else
            high = c->context_tokens - 1;
    }
    c->context_tokens = low;
    can_reach_end(s, INFINITY);
    read_cut(s, out);
    out->value = out->bound = (double)low;
    return BERTH_OK;
}

berth_status berth_partition_capacity(const berth_partition_problem *problem, bool free_order, int64_t limit,
                                      berth_partition *out, berth_error *err)
{
    berth_chain c = *problem->chain; /* shares the arrays, changes the context only */
    berth_partition_problem p = *problem;
    search s;
    p.chain = &c;
    *out = (berth_partition){0};
    berth_status st = BERTH_OUT_OF_MEMORY;
    if (!search_init(&s, &p, free_order) || !berth_partition_init(out, p.n_devices))
        berth_refuse(err, st, "no memory for the search");
    else
        st = most_context(&s, &c, limit, out);
    bool is_exact = !free_order || s.is_free || s.n_kinds == 1;
    search_deinit(&s);
    if (st != BERTH_OK) berth_partition_deinit(out);
    if (is_exact || (st != BERTH_OK && st != BERTH_DOES_NOT_FIT)) return st;
    if (st == BERTH_OK) out->bound = (double)limit;
    if (p.n_devices > BERTH_PARTITION_MOST_DEVICES) return st;
    return berth_partition_close_in_context(
        problem, st == BERTH_OK ? (int64_t)out->value : problem->chain->context_tokens, limit, out, err);
}

/* ---- latency ---- */

/* Where no short way was found: any that fits, so that there is an answer; out->bound stays. */
static berth_status any_cut(const berth_partition_problem *p, berth_partition *out, berth_error *err)
{
    berth_partition_problem without_hops = *p;
    double bound = out->bound, hops;
    int32_t n_hops;
    without_hops.hops = NULL;
    berth_status st = berth_partition_throughput(&without_hops, true, out, err);
    if (st != BERTH_OK) return st;
    out->value = 0;
    for (int32_t s = 0; s < p->n_devices; s++)
        out->value += berth_stage_seconds(p, out->order[s], out->bounds[s], out->bounds[s + 1]);
    if (p->hops) count_hops(p, out, &n_hops, &hops);
    if (p->hops) out->value += hops;
    out->bound = bound;
    return BERTH_OK;
}

berth_status berth_partition_latency(const berth_partition_problem *p, berth_partition *out, berth_error *err)
{
    *out = (berth_partition){0};
    if (p->n_devices > BERTH_PARTITION_MOST_DEVICES)
        return berth_refuse(err, BERTH_UNSUPPORTED, "latency is minimised over up to %d devices, and %d were given",
                            BERTH_PARTITION_MOST_DEVICES, p->n_devices);
    if (!berth_path_is_possible(p))
        return berth_refuse(err, BERTH_UNSUPPORTED,
                            "latency is not minimised over %d parts on %d devices; use fewer devices", p->chain->n,
                            p->n_devices);
    berth_status st = berth_path_find(p, BERTH_PATH_SUM, INFINITY, 0, out, err);
    if (st != BERTH_DOES_NOT_FIT || !(out->bound < INFINITY)) return st;
    return any_cut(p, out, err);
}
