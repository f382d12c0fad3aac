/* partition.c - see partition.h.
 *
 * All rests on one thing: a run never needs less than a part of it. So for a given limit the longest run that a device can take is found by halving, and of a set of devices
 * it is enough to know the farthest that they can reach in some order. The least limit is closed in on from both sides by values that stages really take, so it is met exactly.
 * Sources: Pinar & Aykanat, JPDC 64 (2004) 974-996 (one order); Pinar, Tabak & Aykanat, JPDC 68 (2008) 1473-1486 (orders are hard, hence sets of up to 12). */
#include "strategies/partition.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/words.h"

enum { LATENCY_FREE_ORDER = 8, LATENCY_CELLS = 1 << 23 };

typedef struct search {
    const berth_chain *c;
    const berth_partition_device *devices;
    int32_t n;
    bool is_free;
    int32_t *
        reach; /* [number of states]: the farthest atom; a state is a set of devices, or in one order how many were used */
    int32_t *last;  /* the device that got there */
    double above;   /* the least value over the limit that a longer stage would have taken */
    double slowest; /* of the stages of the last cut read */
} search;

static bool search_init(search *s, const berth_chain *c, const berth_partition_device *devices, int32_t n,
                        bool free_order)
{
    *s =
        (search){.c = c, .devices = devices, .n = n, .is_free = free_order && n <= BERTH_PARTITION_FREE_ORDER && n > 1};
    size_t n_states = s->is_free ? (size_t)1 << n : (size_t)n + 1;
    s->reach = calloc(n_states, sizeof *s->reach);
    s->last = calloc(n_states, sizeof *s->last);
    return s->reach && s->last;
}

static void search_deinit(search *s)
{
    free(s->reach);
    free(s->last);
}

/* A run of no bytes takes no time, so that rates of 0 would not matter for it; bytes are exact in a double below 2^53. */
static double stage_seconds(const search *s, int32_t device, int32_t from, int32_t to)
{
    return (double)berth_chain_bytes(s->c, from, to) / s->devices[device].rate;
}

static bool can_take(search *s, int32_t device, int32_t from, int32_t to, double limit)
{
    if (berth_chain_bytes(s->c, from, to) > s->devices[device].room) return false;
    double seconds = stage_seconds(s, device, from, to);
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

/* Whether the chain can be cut so that no stage takes longer than the limit. */
static bool can_reach_end(search *s, double limit)
{
    s->above = INFINITY;
    s->reach[0] = 0;
    if (!s->is_free) {
        for (int32_t d = 0; d < s->n; d++) {
            s->reach[d + 1] = longest(s, d, s->reach[d], limit);
            s->last[d + 1] = d;
        }
        return s->reach[s->n] == s->c->n;
    }
    for (uint32_t set = 1; set < (uint32_t)1 << s->n; set++) {
        s->reach[set] = -1;
        for (int32_t d = s->n - 1; d >= 0; d--) { /* from the last one down: among equals the order as given */
            if (!(set >> d & 1)) continue;
            int32_t end = longest(s, d, s->reach[set & ~((uint32_t)1 << d)], limit);
            if (end <= s->reach[set]) continue;
            s->reach[set] = end;
            s->last[set] = d;
        }
    }
    return s->reach[((uint32_t)1 << s->n) - 1] == s->c->n;
}

static bool partition_init(berth_partition *p, int32_t n)
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
    size_t state = s->is_free ? ((size_t)1 << s->n) - 1 : (size_t)s->n;
    s->slowest = 0;
    out->bounds[s->n] = s->c->n;
    for (int32_t stage = s->n - 1; stage >= 0; stage--) {
        int32_t device = s->last[state];
        state = s->is_free ? state & ~((size_t)1 << device) : state - 1;
        out->order[stage] = device;
        out->bounds[stage] = s->reach[state];
        double seconds = stage_seconds(s, device, s->reach[state], out->bounds[stage + 1]);
        if (seconds > s->slowest) s->slowest = seconds;
    }
}

/* ---- throughput ---- */

/* Closes in on the least limit: what is reached becomes the upper end, the next value that a stage could take the lower. */
static berth_status least_slowest(search *s, berth_partition *out, berth_error *err)
{
    if (!can_reach_end(s, INFINITY)) return BERTH_DOES_NOT_FIT;
    if (!partition_init(out, s->n)) return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the cut");
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

berth_status berth_partition_throughput(const berth_chain *c, const berth_partition_device *devices, int32_t n,
                                        bool free_order, berth_partition *out, berth_error *err)
{
    search s;
    berth_partition other = {0};
    *out = (berth_partition){0};
    berth_status st = search_init(&s, c, devices, n, false)
                          ? least_slowest(&s, out, err)
                          : berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the search");
    search_deinit(&s);
    if (!free_order || (st != BERTH_OK && st != BERTH_DOES_NOT_FIT)) return st;
    berth_status other_st = search_init(&s, c, devices, n, true)
                                ? least_slowest(&s, &other, err)
                                : berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the search");
    search_deinit(&s);
    bool is_better = other_st == BERTH_OK && (st != BERTH_OK || other.value < out->value);
    if (is_better || (other_st != BERTH_OK && other_st != BERTH_DOES_NOT_FIT)) {
        berth_partition swap = *out;
        *out = other;
        other = swap;
        st = other_st;
    }
    berth_partition_deinit(&other);
    return st;
}

/* ---- capacity ---- */

berth_status berth_partition_capacity(const berth_chain *chain, const berth_partition_device *devices, int32_t n,
                                      bool free_order, int64_t limit, berth_partition *out, berth_error *err)
{
    berth_chain c = *chain; /* shares the arrays, changes the context only */
    search s;
    *out = (berth_partition){0};
    berth_status st = BERTH_OUT_OF_MEMORY;
    int64_t low = c.context_tokens, high = limit > low ? limit : low;
    if (!search_init(&s, &c, devices, n, free_order) || !partition_init(out, n)) {
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
    st = BERTH_OK;
out:
    search_deinit(&s);
    if (st != BERTH_OK) berth_partition_deinit(out);
    return st;
}

/* ---- latency ---- */

typedef struct step {
    double seconds; /* INFINITY = cannot be */
    int32_t from;   /* where the last stage begins */
    int32_t before; /* the device before; -1 = none */
} step;

/* The best way to have atoms [0, from) done by just the devices of `rest` and go on with device d. */
static step best_before(const search *s, const double *hop, const step *table, uint32_t rest, int32_t d, int32_t from)
{
    size_t width = (size_t)s->c->n + 1;
    step best = {.seconds = rest == 0 && from == 0 ? 0 : INFINITY, .from = from, .before = -1};
    for (int32_t b = 0; b < s->n; b++) {
        if (!(rest >> b & 1)) continue;
        double seconds =
            table[((size_t)rest * (size_t)s->n + (size_t)b) * width + (size_t)from].seconds + hop[b * s->n + d];
        if (seconds < best.seconds) best = (step){.seconds = seconds, .from = from, .before = b};
    }
    return best;
}

/* The rows of one set of devices, one for each that may be the last; smaller sets are filled already. */
static void fill_steps(search *s, const double *hop, uint32_t set, step *table)
{
    size_t width = (size_t)s->c->n + 1;
    for (int32_t d = 0; d < s->n; d++) {
        step *row = table + ((size_t)set * (size_t)s->n + (size_t)d) * width;
        for (size_t i = 0; i < width; i++) row[i] = (step){.seconds = INFINITY, .before = -1};
        if (!(set >> d & 1)) continue;
        for (int32_t from = 0; from < s->c->n; from++) {
            step here = best_before(s, hop, table, set & ~((uint32_t)1 << d), d, from);
            double so_far = here.seconds;
            for (int32_t to = from + 1; so_far < INFINITY && to <= s->c->n; to++) {
                if (berth_chain_bytes(s->c, from, to) > s->devices[d].room) break;
                here.seconds = so_far + stage_seconds(s, d, from, to);
                if (here.seconds < row[to].seconds) row[to] = here;
            }
        }
    }
}

static void read_steps(const search *s, const step *table, uint32_t set, int32_t device, berth_partition *out)
{
    size_t width = (size_t)s->c->n + 1, row_of_set = (size_t)s->n * width;
    int32_t order[LATENCY_FREE_ORDER], ends[LATENCY_FREE_ORDER], n = 0, at = s->c->n;
    uint32_t left = ((uint32_t)1 << s->n) - 1;
    while (device >= 0) {
        const step *here = &table[(size_t)set * row_of_set + (size_t)device * width + (size_t)at];
        order[n] = device;
        ends[n++] = at;
        left &= ~((uint32_t)1 << device);
        set &= ~((uint32_t)1 << device);
        at = here->from;
        device = here->before;
    }
    for (int32_t stage = 0; stage < n; stage++) {
        out->order[stage] = order[n - 1 - stage];
        out->bounds[stage + 1] = ends[n - 1 - stage];
    }
    for (int32_t d = 0; d < s->n; d++) { /* the others stay empty, behind */
        if (!(left >> d & 1)) continue;
        out->order[n] = d;
        out->bounds[++n] = s->c->n;
    }
}

berth_status berth_partition_latency(const berth_chain *c, const berth_partition_device *devices,
                                     const double *hop_seconds, int32_t n, berth_partition *out, berth_error *err)
{
    *out = (berth_partition){0};
    if (n > LATENCY_FREE_ORDER)
        return berth_refuse(err, BERTH_UNSUPPORTED, "latency is minimised over up to %d devices, and %d were given",
                            LATENCY_FREE_ORDER, n);
    if (((size_t)n << n) * ((size_t)c->n + 1) > LATENCY_CELLS)
        return berth_refuse(err, BERTH_UNSUPPORTED,
                            "latency is not minimised over %d parts on %d devices; use fewer devices", c->n, n);
    search s = {.c = c, .devices = devices, .n = n};
    uint32_t n_sets = (uint32_t)1 << n, best_set = 0;
    size_t width = (size_t)c->n + 1;
    int32_t best_device = -1;
    double best = INFINITY;
    step *table = malloc((size_t)n_sets * (size_t)n * width * sizeof *table);
    if (!table || !partition_init(out, n)) {
        free(table);
        return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the search");
    }
    for (uint32_t set = 0; set < n_sets; set++) {
        fill_steps(&s, hop_seconds, set, table);
        for (int32_t d = 0; d < n; d++) {
            const step *end = &table[((size_t)set * (size_t)n + (size_t)d) * width + (size_t)c->n];
            if (!(end->seconds < best)) continue;
            best = end->seconds;
            best_set = set;
            best_device = d;
        }
    }
    if (best_device >= 0) read_steps(&s, table, best_set, best_device, out);
    out->value = best;
    free(table);
    if (best_device >= 0) return BERTH_OK;
    berth_partition_deinit(out);
    return BERTH_DOES_NOT_FIT;
}
