/* partition_paths.c - the best way through sets of devices, cuts and the hops between them: an exact table over
 * (set, last device, atoms done).
 *
 * Source: the dynamic program of Held & Karp (J. SIAM 10 (1962) 196-210) over sets, with the chain's cuts as a
 * second coordinate. */
#include <math.h>
#include <stdlib.h>

#include "strategies/partition_internal.h"
#include "strategies/words.h"

#define ONE_HOP  0x1p48 /* of PATH_HOPS: above the time of all hops together */
#define HOP_UNIT 16     /* picoseconds */

enum { MOST_CELLS = 1 << 23, MOST_DEVICES = BERTH_PARTITION_FREE_ORDER };

typedef struct cell {
    double value;   /* INFINITY = cannot be */
    int32_t from;   /* where the last stage begins */
    int32_t before; /* the device before; -1 = none */
} cell;

typedef struct paths {
    const berth_partition_problem *p;
    berth_path_end end;
    double limit;
    int32_t n;        /* devices */
    size_t width;     /* atoms + 1 */
    cell *cells;      /* [set][last][atoms done] */
    int32_t *same_as; /* [n] the first device like it */
    int32_t *longest; /* [n][width] end of the longest run, of devices like no earlier one */
    int32_t *least;   /* [n + 1] with m devices left, fewer atoms done than this cannot be finished */
    double *seconds;  /* [n][width][width] of those, for runs that fit; not for PATH_HOPS */
} paths;

bool berth_path_is_small(const berth_partition_problem *p)
{
    int32_t n = p->n_devices;
    return n <= MOST_DEVICES && ((size_t)n << n) * ((size_t)p->chain->n + 1) <= MOST_CELLS &&
           (size_t)n * ((size_t)p->chain->n + 1) * ((size_t)p->chain->n + 1) <= MOST_CELLS;
}

static cell *row_of(const paths *t, uint32_t set, int32_t last)
{
    return t->cells + ((size_t)set * (size_t)t->n + (size_t)last) * t->width;
}

/* What each kind of device can take from where, and in what time. */
static void measure_runs(paths *t)
{
    int32_t n_atoms = t->p->chain->n;
    for (int32_t d = 0; d < t->n; d++) {
        t->same_as[d] = 0;
        while (!berth_same_device(&t->p->devices[t->same_as[d]], &t->p->devices[d])) t->same_as[d]++;
        if (t->same_as[d] < d) continue;
        for (int32_t from = 0, to = 0; from < n_atoms; from++) { /* a later start ends no earlier */
            double *row = t->seconds ? t->seconds + ((size_t)d * t->width + (size_t)from) * t->width : NULL;
            if (to < from) to = from;
            while (to < n_atoms && berth_chain_bytes(t->p->chain, from, to + 1) <= t->p->devices[d].room &&
                   (row || berth_stage_seconds(t->p, d, from, to + 1) <= t->limit))
                to++;
            t->longest[(size_t)d * t->width + (size_t)from] = to;
            for (int32_t i = from + 1; row && i <= to; i++) row[i] = berth_stage_seconds(t->p, d, from, i);
        }
    }
}

/* What m devices can finish, whichever they are. */
static void find_least(paths *t)
{
    t->least[0] = t->p->chain->n;
    for (int32_t m = 1; m <= t->n; m++) {
        int32_t at = t->least[m - 1];
        for (int32_t d = 0; d < t->n; d++) {
            if (t->same_as[d] < d) continue;
            const int32_t *row = t->longest + (size_t)d * t->width;
            while (at > 0 && row[at - 1] >= t->least[m - 1]) at--; /* an earlier start ends no later */
        }
        t->least[m] = at;
    }
}

static double with_hop(const paths *t, double value, int32_t from, int32_t to, int32_t cut)
{
    double ps = t->p->hops ? berth_hop(t->p->hops, from, to, cut) : 0;
    switch (t->end) {
    case BERTH_PATH_SUM: return value + 1e-12 * ps;
    case BERTH_PATH_SLOWEST: return value > 1e-12 * ps ? value : 1e-12 * ps;
    case BERTH_PATH_HOPS: break;
    }
    return 1e-12 * ps > t->limit ? INFINITY : value + ONE_HOP + floor(ps / HOP_UNIT);
}

/* The best way to have atoms [0, from) done by just the devices of `rest` and go on with device d. */
static cell best_before(const paths *t, uint32_t rest, int32_t d, int32_t from)
{
    cell best = {.value = rest == 0 && from == 0 ? 0 : INFINITY, .from = from, .before = -1};
    for (int32_t b = t->n - 1; b >= 0; b--) { /* from the last one down: among equals the order as given */
        if (!(rest >> b & 1)) continue;
        double before = row_of(t, rest, b)[from].value;
        if (!(before < best.value)) continue;
        double value = with_hop(t, before, b, d, from);
        if (value < best.value) best = (cell){.value = value, .from = from, .before = b};
    }
    return best;
}

/* The rows of one set of devices, one for each that may be the last; smaller sets are filled already. */
static void fill_set(const paths *t, uint32_t set)
{
    int32_t n_used = __builtin_popcount(set), first_from = t->least[t->n - n_used + 1],
            first_to = t->least[t->n - n_used];
    for (int32_t d = 0; d < t->n; d++) {
        if (!(set >> d & 1)) continue;
        cell *row = row_of(t, set, d);
        uint32_t rest = set & ~((uint32_t)1 << d);
        for (size_t i = (size_t)first_to; i < t->width; i++) row[i] = (cell){.value = INFINITY, .before = -1};
        for (int32_t from = first_from; from < t->p->chain->n; from++) {
            if (rest == 0 && from > 0) break;
            cell here = best_before(t, rest, d, from);
            if (!(here.value < INFINITY)) continue;
            size_t kind_row = (size_t)t->same_as[d] * t->width + (size_t)from;
            const double *seconds = t->seconds ? t->seconds + kind_row * t->width : NULL;
            double so_far = here.value;
            for (int32_t to = from < first_to ? first_to : from + 1; to <= t->longest[kind_row]; to++) {
                if (t->end == BERTH_PATH_SUM) here.value = so_far + seconds[to];
                if (t->end == BERTH_PATH_SLOWEST) here.value = so_far > seconds[to] ? so_far : seconds[to];
                /* Among equals the later start: the devices before it are as full as can be. */
                if (here.value < row[to].value || (t->end != BERTH_PATH_SUM && here.value == row[to].value))
                    row[to] = here;
            }
        }
    }
}

static void read_path(const paths *t, uint32_t set, int32_t device, berth_partition *out)
{
    int32_t order[MOST_DEVICES], ends[MOST_DEVICES], n = 0, at = t->p->chain->n;
    uint32_t unused = (((uint32_t)1 << t->n) - 1) & ~set;
    while (device >= 0) {
        const cell *here = &row_of(t, set, device)[at];
        order[n] = device;
        ends[n++] = at;
        set &= ~((uint32_t)1 << device);
        at = here->from;
        device = here->before;
    }
    for (int32_t stage = 0; stage < n; stage++) {
        out->order[stage] = order[n - 1 - stage];
        out->bounds[stage + 1] = ends[n - 1 - stage];
    }
    for (int32_t d = 0; d < t->n; d++) { /* the others stay empty, behind */
        if (!(unused >> d & 1)) continue;
        out->order[n] = d;
        out->bounds[++n] = t->p->chain->n;
    }
}

static bool allocate(paths *t)
{
    t->cells = malloc(((size_t)t->n << t->n) * t->width * sizeof *t->cells);
    t->same_as = calloc((size_t)t->n, sizeof *t->same_as);
    t->least = calloc((size_t)t->n + 1, sizeof *t->least);
    t->longest = calloc((size_t)t->n * t->width, sizeof *t->longest);
    if (t->end != BERTH_PATH_HOPS) t->seconds = malloc((size_t)t->n * t->width * t->width * sizeof *t->seconds);
    return t->cells && t->same_as && t->least && t->longest && (t->seconds || t->end == BERTH_PATH_HOPS);
}

static void release(paths *t)
{
    free(t->cells);
    free(t->same_as);
    free(t->least);
    free(t->longest);
    free(t->seconds);
}

berth_status berth_path_find(const berth_partition_problem *p, berth_path_end end, double limit, berth_partition *out,
                             berth_error *err)
{
    paths t = {.p = p, .end = end, .limit = limit, .n = p->n_devices, .width = (size_t)p->chain->n + 1};
    double best = INFINITY;
    uint32_t best_set = 0;
    int32_t best_device = -1;
    *out = (berth_partition){0};
    if (!allocate(&t) || !berth_partition_init(out, t.n)) {
        release(&t);
        berth_partition_deinit(out);
        return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the search");
    }
    measure_runs(&t);
    find_least(&t);
    for (uint32_t set = 1; set < (uint32_t)1 << t.n; set++) {
        fill_set(&t, set);
        for (int32_t d = t.n - 1; d >= 0; d--) {
            if (!(set >> d & 1)) continue;
            double value = row_of(&t, set, d)[t.p->chain->n].value;
            if (!(value < best * (1 - 1e-12))) continue; /* sums in another order differ in the last bits */
            if (!(best < INFINITY) && !(value < INFINITY)) continue;
            best = value;
            best_set = set;
            best_device = d;
        }
    }
    if (best_device >= 0) read_path(&t, best_set, best_device, out);
    out->value = end == BERTH_PATH_HOPS ? limit : best;
    release(&t);
    if (best_device >= 0) return BERTH_OK;
    berth_partition_deinit(out);
    return BERTH_DOES_NOT_FIT;
}

berth_status berth_partition_latency(const berth_partition_problem *p, berth_partition *out, berth_error *err)
{
    *out = (berth_partition){0};
    if (p->n_devices > BERTH_PARTITION_FREE_LATENCY)
        return berth_refuse(err, BERTH_UNSUPPORTED, "latency is minimised over up to %d devices, and %d were given",
                            BERTH_PARTITION_FREE_LATENCY, p->n_devices);
    if (!berth_path_is_small(p))
        return berth_refuse(err, BERTH_UNSUPPORTED,
                            "latency is not minimised over %d parts on %d devices; use fewer devices", p->chain->n,
                            p->n_devices);
    berth_status st = berth_path_find(p, BERTH_PATH_SUM, INFINITY, out, err);
    if (st == BERTH_OK) out->all_orders = true;
    return st;
}
