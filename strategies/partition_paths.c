/* partition_paths.c - the best way through sets of devices, cuts and the hops between them: a table over (set, last
 * device, atoms done).
 *
 * Devices that can be exchanged without a change to anything - same room, same rates, same hops to all others - make a
 * class; a set is how many of each class. Where that still makes too many sets, only some classes are counted and the
 * others taken as endless, at a price for each device taken. The best way is then a bound, the best that prices can
 * make it; and where it takes no class more often than there are devices and none is paid for in vain, it is the
 * answer. Else the class it overuses most is counted too, and so on. Beside it the same table
 * is filled with ways that do take only what there is, but of which just one is kept a cell: a way that can be gone.
 * Sources: Held & Karp, J. SIAM 10 (1962) 196-210 (sets); Righini & Salani, Networks 51 (2008) 155-170 (counting some
 * of them, and more as needed); Held & Karp, Mathematical Programming 1 (1971) 6-25 (prices). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/partition_internal.h"
#include "strategies/words.h"

#define ONE_HOP  0x1p48 /* of PATH_HOPS: above the time of all hops together */
#define HOP_UNIT 16     /* picoseconds */

enum {
    MOST_CELLS = 1 << 23,
    MOST_CELLS_OF_MANY = 1 << 20, /* more than MANY devices */
    MOST_CELLS_AT_ONCE = 1 << 16, /* of sums: beyond it is quicker to count only the classes that must be */
    LITTLE = 1 << 13,             /* cells: a quarter of a millisecond */
    N_PRICES = 48,
    MANY = 12,
    MOST = BERTH_PARTITION_MOST_DEVICES
};

typedef struct classes {
    int32_t n;
    int32_t of[MOST];    /* of each device */
    int32_t first[MOST]; /* device */
    int32_t second[MOST];
    int32_t count[MOST];
    uint64_t members[MOST];
} classes;

typedef struct cell {
    double value;   /* INFINITY = cannot be */
    int32_t from;   /* where the last stage begins */
    int32_t before; /* the class before; -1 = none */
} cell;

typedef struct paths {
    const berth_partition_problem *p;
    berth_path_end end;
    double limit;
    classes k;
    int32_t n_atoms;
    size_t width;                 /* atoms + 1 */
    bool is_counted[MOST];        /* of each class */
    double price[MOST];           /* of each class: what one of its devices costs besides */
    size_t stride[MOST];          /* 0 where it is not counted */
    size_t n_sets;                /* of counted classes */
    bool is_exact, keeps_to_used; /* all are counted; no way takes more than there is */
    cell *cells;                  /* [set][last class][atoms done] */
    uint64_t *used;               /* [as cells] devices, where keeps_to_used */
    int32_t *same_as;             /* [class] the first with such devices */
    int32_t *longest;             /* [class][width] end of the longest run, of classes like no earlier one */
    int32_t *least;  /* [n_devices + 1] with m devices left, fewer atoms done than this cannot be finished */
    double *seconds; /* [class][width][width] of those, for runs that fit; not for PATH_HOPS */
} paths;

/* ---- classes ---- */

/* Whether a and b can change places: every hop to and from the others is the same, and those between them. */
static bool are_alike(const berth_partition_problem *p, int32_t a, int32_t b)
{
    if (!berth_same_device(&p->devices[a], &p->devices[b])) return false;
    if (!p->hops || p->hops->is_uniform) return true;
    size_t n = (size_t)p->n_devices;
    for (size_t kind = 0; kind < BERTH_CUT_KINDS; kind++) {
        const double *hop = p->hops->picoseconds + kind * n * n;
        if (hop[(size_t)a * n + (size_t)b] != hop[(size_t)b * n + (size_t)a]) return false;
        for (size_t x = 0; x < n; x++) {
            if (x == (size_t)a || x == (size_t)b) continue;
            if (hop[(size_t)a * n + x] != hop[(size_t)b * n + x] || hop[x * n + (size_t)a] != hop[x * n + (size_t)b])
                return false;
        }
    }
    return true;
}

static void read_classes(const berth_partition_problem *p, classes *k)
{
    k->n = 0;
    for (int32_t d = 0; d < p->n_devices; d++) {
        int32_t c = 0;
        while (c < k->n && !are_alike(p, k->first[c], d)) c++;
        if (c == k->n) {
            k->n++;
            k->first[c] = d;
            k->count[c] = 0;
            k->members[c] = 0;
        }
        if (k->count[c] == 1) k->second[c] = d;
        k->count[c]++;
        k->members[c] |= (uint64_t)1 << d;
        k->of[d] = c;
    }
}

/* Cells of a table over all sets, saturated. */
static size_t cells_of_all(const classes *k, size_t width)
{
    size_t cells = (size_t)k->n * width;
    for (int32_t c = 0; c < k->n && cells <= MOST_CELLS; c++) cells *= (size_t)k->count[c] + 1;
    return cells;
}

static bool has_possible_size(size_t n_classes, size_t width)
{
    return width <= MOST_CELLS / n_classes && width * width <= MOST_CELLS / n_classes;
}

bool berth_path_is_possible(const berth_partition_problem *p)
{
    if (p->n_devices > MOST) return false;
    return has_possible_size((size_t)p->n_devices, (size_t)p->chain->n + 1);
}

static size_t limit_of_cells(const berth_partition_problem *p, size_t most_cells)
{
    size_t limit = p->effort.most_cells   ? p->effort.most_cells
                   : p->n_devices <= MANY ? (size_t)MOST_CELLS
                                          : (size_t)MOST_CELLS_OF_MANY;
    return most_cells && most_cells < limit ? most_cells : limit;
}

bool berth_path_is_exact(const berth_partition_problem *p, size_t most_cells)
{
    classes k;
    if (!berth_path_is_possible(p)) return false;
    read_classes(p, &k);
    return cells_of_all(&k, (size_t)p->chain->n + 1) <= limit_of_cells(p, most_cells);
}

/* ---- runs ---- */

static cell *row_of(const paths *t, size_t set, int32_t last)
{
    return t->cells + (set * (size_t)t->k.n + (size_t)last) * t->width;
}

/* What each class of devices can take from where, and in what time. */
static void measure_runs(paths *t)
{
    for (int32_t k = 0; k < t->k.n; k++) {
        int32_t device = t->k.first[k];
        t->same_as[k] = 0;
        while (!berth_same_device(&t->p->devices[t->k.first[t->same_as[k]]], &t->p->devices[device])) t->same_as[k]++;
        if (t->same_as[k] < k) continue;
        for (int32_t from = 0, to = 0; from < t->n_atoms; from++) { /* a later start ends no earlier */
            double *row = t->seconds ? t->seconds + ((size_t)k * t->width + (size_t)from) * t->width : NULL;
            if (to < from) to = from;
            while (to < t->n_atoms && berth_chain_bytes(t->p->chain, from, to + 1) <= t->p->devices[device].room &&
                   (row || berth_stage_seconds(t->p, device, from, to + 1) <= t->limit))
                to++;
            t->longest[(size_t)k * t->width + (size_t)from] = to;
            for (int32_t i = from + 1; row && i <= to; i++) row[i] = berth_stage_seconds(t->p, device, from, i);
        }
    }
}

/* What m devices can finish, whichever they are. */
static void find_least(paths *t)
{
    t->least[0] = t->n_atoms;
    for (int32_t m = 1; m <= t->p->n_devices; m++) {
        int32_t at = t->least[m - 1];
        for (int32_t k = 0; k < t->k.n; k++) {
            if (t->same_as[k] < k) continue;
            const int32_t *row = t->longest + (size_t)k * t->width;
            while (at > 0 && row[at - 1] >= t->least[m - 1]) at--; /* an earlier start ends no later */
        }
        t->least[m] = at;
    }
}

/* ---- the table ---- */

static double with_hop(const paths *t, double value, int32_t from, int32_t to, int32_t cut)
{
    int32_t a = t->k.first[from], b = from == to ? t->k.second[to] : t->k.first[to];
    double ps = t->p->hops ? berth_hop(t->p->hops, a, b, cut) : 0;
    switch (t->end) {
    case BERTH_PATH_SUM: return value + 1e-12 * ps;
    case BERTH_PATH_SLOWEST: return value > 1e-12 * ps ? value : 1e-12 * ps;
    case BERTH_PATH_HOPS: break;
    }
    return 1e-12 * ps > t->limit ? INFINITY : value + ONE_HOP + floor(ps / HOP_UNIT);
}

/* The best way to have atoms [0, from) done by the devices of `rest` and go on with class k; *used: the devices of it. */
static cell best_before(const paths *t, size_t rest, int32_t k, int32_t from, uint64_t *used)
{
    cell best = {.value = rest == 0 && from == 0 ? 0 : INFINITY, .from = from, .before = -1};
    *used = 0;
    for (int32_t b = t->k.n - 1; from > 0 && b >= 0;
         b--) { /* from the last one down: among equals the order as given */
        const cell *row = row_of(t, rest, b);
        double before = row[from].value;
        if (!(before < best.value) || (b == k && t->k.count[k] < 2)) continue;
        uint64_t gone = t->keeps_to_used ? t->used[&row[from] - t->cells] : 0;
        if ((gone & t->k.members[k]) == t->k.members[k]) continue;
        double value = with_hop(t, before, b, k, from);
        if (!(value < best.value)) continue;
        best = (cell){.value = value, .from = from, .before = b};
        *used = gone;
    }
    return best;
}

/* From a way that goes on with class k at here.from, all runs that this may take. */
static void extend(const paths *t, size_t set, int32_t k, cell here, uint64_t used, int32_t first_to)
{
    cell *row = row_of(t, set, k);
    size_t kind_row = (size_t)t->same_as[k] * t->width + (size_t)here.from;
    const double *seconds = t->seconds ? t->seconds + kind_row * t->width : NULL;
    double so_far = here.value;
    for (int32_t to = here.from < first_to ? first_to : here.from + 1; to <= t->longest[kind_row]; to++) {
        if (t->end == BERTH_PATH_SUM) here.value = so_far + seconds[to];
        if (t->end == BERTH_PATH_SLOWEST) here.value = so_far > seconds[to] ? so_far : seconds[to];
        /* Among equals the later start: the devices before it are as full as can be. */
        if (!(here.value < row[to].value || (t->end != BERTH_PATH_SUM && here.value == row[to].value))) continue;
        row[to] = here;
        if (t->keeps_to_used) t->used[&row[to] - t->cells] = used;
    }
}

/* The rows of one set, one for each class that may be the last; smaller sets are filled already. A class that is not
 * counted leads from the set to itself, so atoms are gone through in order. */
static void fill_set(const paths *t, size_t set)
{
    int32_t n_used = 0, first_from = 0, first_to = 0;
    bool has[MOST];
    for (int32_t k = 0; k < t->k.n; k++) {
        int32_t digit = t->is_counted[k] ? (int32_t)(set / t->stride[k] % ((size_t)t->k.count[k] + 1)) : 0;
        has[k] = !t->is_counted[k] || digit > 0;
        n_used += digit;
    }
    if (t->is_exact && n_used > 0) {
        first_from = t->least[t->p->n_devices - n_used + 1];
        first_to = t->least[t->p->n_devices - n_used];
    }
    for (int32_t k = 0; k < t->k.n; k++)
        for (size_t i = (size_t)first_to; i < t->width; i++)
            row_of(t, set, k)[i] = (cell){.value = INFINITY, .before = -1};
    for (int32_t from = first_from; from < t->n_atoms; from++) {
        for (int32_t k = 0; k < t->k.n; k++) {
            uint64_t used;
            if (!has[k]) continue;
            size_t rest = set - t->stride[k];
            if (t->is_exact && rest == 0 && from > 0) continue;
            cell here = best_before(t, rest, k, from, &used);
            if (!(here.value < INFINITY)) continue;
            here.value += t->price[k];
            uint64_t left = t->k.members[k] & ~used;
            extend(t, set, k, here, used | (left & (~left + 1)), first_to);
        }
    }
}

/* ---- ways ---- */

typedef struct way {
    size_t set;
    int32_t last; /* class; -1 = none */
    double value;
} way;

/* Fills the table for the classes that are counted. Error: out of memory. */
static bool fill_table(paths *t, bool keeps_to_used, way *out)
{
    *out = (way){.last = -1, .value = INFINITY};
    t->n_sets = 1;
    t->is_exact = true;
    for (int32_t k = 0; k < t->k.n; k++) {
        t->stride[k] = t->is_counted[k] ? t->n_sets : 0;
        if (t->is_counted[k]) t->n_sets *= (size_t)t->k.count[k] + 1;
        t->is_exact = t->is_exact && t->is_counted[k];
    }
    t->keeps_to_used = keeps_to_used;
    size_t n_cells = t->n_sets * (size_t)t->k.n * t->width;
    free(t->cells);
    free(t->used);
    t->cells = malloc(n_cells * sizeof *t->cells);
    t->used = keeps_to_used ? malloc(n_cells * sizeof *t->used) : NULL;
    if (!t->cells || (keeps_to_used && !t->used)) return false;
    for (size_t set = 0; set < t->n_sets; set++) {
        fill_set(t, set);
        for (int32_t k = t->k.n - 1; k >= 0; k--) {
            double value = row_of(t, set, k)[t->n_atoms].value;
            if (!(value < out->value * (1 - 1e-12))) continue; /* sums in another order differ in the last bits */
            if (!(out->value < INFINITY) && !(value < INFINITY)) continue;
            *out = (way){.set = set, .last = k, .value = value};
        }
    }
    return true;
}

static void count_uses(const paths *t, const way *w, int32_t *uses)
{
    int32_t at = t->n_atoms;
    size_t set = w->set;
    memset(uses, 0, MOST * sizeof *uses);
    for (int32_t k = w->last; k >= 0;) {
        const cell *here = &row_of(t, set, k)[at];
        uses[k]++;
        set -= t->stride[k];
        at = here->from;
        k = here->before;
    }
}

/* The way as a cut: of each class the first device first. */
static void read_way(const paths *t, const way *w, berth_partition *out)
{
    int32_t last[MOST], ends[MOST], n = 0, at = t->n_atoms, k = w->last;
    size_t set = w->set;
    uint64_t unused = t->p->n_devices == MOST ? ~(uint64_t)0 : ((uint64_t)1 << t->p->n_devices) - 1;
    while (k >= 0) {
        const cell *here = &row_of(t, set, k)[at];
        last[n] = k;
        ends[n++] = at;
        set -= t->stride[k];
        at = here->from;
        k = here->before;
    }
    for (int32_t stage = 0; stage < n; stage++) {
        int32_t device = __builtin_ctzll(unused & t->k.members[last[n - 1 - stage]]);
        unused &= ~((uint64_t)1 << device);
        out->order[stage] = device;
        out->bounds[stage + 1] = ends[n - 1 - stage];
    }
    for (; unused; unused &= unused - 1) { /* the others stay empty, behind */
        out->order[n] = __builtin_ctzll(unused);
        out->bounds[++n] = t->n_atoms;
    }
}

/* ---- sums, where sets are too many ---- */

/* Takes the bound that the way is, and the way itself where it can be gone. False: out of memory. */
static bool look_once(paths *t, bool keeps_to_used, berth_partition *out, int32_t *uses, bool *is_refuted)
{
    way w;
    bool can_be = true;
    if (!fill_table(t, keeps_to_used, &w)) return false;
    *is_refuted = w.last < 0 && !keeps_to_used;
    if (w.last < 0) return true;
    count_uses(t, &w, uses);
    double value = w.value, bound = w.value;
    for (int32_t k = 0; k < t->k.n; k++) {
        can_be = can_be && uses[k] <= t->k.count[k];
        value -= t->price[k] * uses[k];
        bound -= t->price[k] * t->k.count[k];
    }
    if (!keeps_to_used && bound > out->bound) out->bound = bound;
    if (can_be && value < out->value) {
        out->value = value;
        read_way(t, &w, out);
    }
    return true;
}

static bool is_met(const berth_partition *out)
{
    return out->value <= out->bound * (1 + 1e-12);
}

/* Prices for the classes: a way pays for each device that it takes, and gets back what all of them would pay. What it
 * overuses becomes dearer, so the bound grows. Keeps the best prices. */
static bool move_prices(paths *t, berth_partition *out, bool *is_refuted)
{
    double best[MOST] = {0}, pull = 1;
    int32_t uses[MOST], since = 0;
    for (int step = 0; step < N_PRICES && !is_met(out); step++) {
        double before = out->bound, square = 0;
        if (step % 4 == 0 && !look_once(t, true, out, uses, is_refuted)) return false;
        if (!look_once(t, false, out, uses, is_refuted)) return false;
        if (*is_refuted) return true;
        since = out->bound > before ? 0 : since + 1;
        if (since == 0) memcpy(best, t->price, sizeof best);
        if (since == 4) pull /= 2;
        if (since == 4) since = 0;
        for (int32_t k = 0; k < t->k.n; k++) {
            double over = uses[k] - t->k.count[k];
            square += over > 0 || t->price[k] > 0 ? over * over : 0;
        }
        if (square == 0) break;
        double target = out->value < INFINITY ? out->value : out->bound * 1.2;
        double by = pull * (target - out->bound + 0.01 * target) / square;
        for (int32_t k = 0; k < t->k.n; k++) {
            t->price[k] += by * (uses[k] - t->k.count[k]);
            if (t->price[k] < 0) t->price[k] = 0;
        }
    }
    memcpy(t->price, best, sizeof best);
    return true;
}

/* The class to count next: the one overused most; else the one that pays most for what is not used; -1 = none. */
static int32_t choose_class(const paths *t, const int32_t *uses)
{
    int32_t worst = -1;
    double most = 0;
    for (int32_t k = 0; k < t->k.n; k++) {
        double over = uses[k] - t->k.count[k];
        if (t->is_counted[k]) continue;
        if (over < 0) over = -over * t->price[k] * 1e-9; /* after all that are overused */
        if (over > most) worst = k;
        if (over > most) most = over;
    }
    return worst;
}

/* Counts more and more classes until the best way can be gone, or the table would be too large. */
static bool count_more(paths *t, size_t most_cells, berth_partition *out, bool *is_refuted)
{
    int32_t uses[MOST];
    while (!is_met(out)) {
        if (!look_once(t, true, out, uses, is_refuted) || !look_once(t, false, out, uses, is_refuted)) return false;
        int32_t next = *is_refuted || is_met(out) ? -1 : choose_class(t, uses);
        if (next < 0 || t->n_sets * ((size_t)t->k.count[next] + 1) > most_cells / ((size_t)t->k.n * t->width))
            return true;
        t->is_counted[next] = true;
        t->price[next] = 0; /* it cannot be overused any more */
    }
    return true;
}

/* First as far as it takes little; then from prices that say more. */
static berth_status bound_sum(paths *t, size_t most_cells, berth_partition *out, berth_error *err)
{
    bool is_refuted = false;
    out->bound = 0;
    out->value = INFINITY;
    bool ok = count_more(t, most_cells < LITTLE ? most_cells : LITTLE, out, &is_refuted);
    if (ok && !is_refuted && !is_met(out)) {
        memset(t->is_counted, 0, sizeof t->is_counted);
        ok = move_prices(t, out, &is_refuted);
        if (ok && !is_refuted) ok = count_more(t, most_cells, out, &is_refuted);
    }
    if (!ok) return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the search");
    if (is_refuted)
        out->bound = INFINITY;
    else if (out->bound > out->value)
        out->bound = out->value; /* sums in another order differ in the last bits */
    return out->value < INFINITY ? BERTH_OK : BERTH_DOES_NOT_FIT;
}

static berth_status fill_once(paths *t, bool is_exact, berth_partition *out, berth_error *err)
{
    way w;
    for (int32_t k = 0; k < t->k.n; k++) t->is_counted[k] = is_exact;
    if (!fill_table(t, !is_exact, &w)) return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the search");
    out->bound = is_exact ? w.value : 0;
    out->value = w.value;
    if (w.last < 0) return BERTH_DOES_NOT_FIT;
    read_way(t, &w, out);
    return BERTH_OK;
}

static bool allocate(paths *t)
{
    size_t n = (size_t)t->k.n;
    t->same_as = calloc(n, sizeof *t->same_as);
    t->least = calloc((size_t)t->p->n_devices + 1, sizeof *t->least);
    t->longest = calloc(n * t->width, sizeof *t->longest);
    if (t->end != BERTH_PATH_HOPS) t->seconds = malloc(n * t->width * t->width * sizeof *t->seconds);
    return t->same_as && t->least && t->longest && (t->seconds || t->end == BERTH_PATH_HOPS);
}

static void release(paths *t)
{
    free(t->cells);
    free(t->used);
    free(t->same_as);
    free(t->least);
    free(t->longest);
    free(t->seconds);
}

berth_status berth_path_find(const berth_partition_problem *p, berth_path_end end, double limit, size_t most_cells,
                             berth_partition *out, berth_error *err)
{
    paths t = {.p = p, .end = end, .limit = limit, .n_atoms = p->chain->n, .width = (size_t)p->chain->n + 1};
    read_classes(p, &t.k);
    most_cells = limit_of_cells(p, most_cells);
    *out = (berth_partition){0};
    berth_status st = BERTH_OUT_OF_MEMORY;
    if (!allocate(&t) || !berth_partition_init(out, p->n_devices)) {
        berth_refuse(err, st, "no memory for the search");
    } else {
        size_t at_once = end == BERTH_PATH_SUM && most_cells > MOST_CELLS_AT_ONCE ? MOST_CELLS_AT_ONCE : most_cells;
        bool is_exact = cells_of_all(&t.k, t.width) <= at_once;
        measure_runs(&t);
        find_least(&t);
        st =
            is_exact || end != BERTH_PATH_SUM ? fill_once(&t, is_exact, out, err) : bound_sum(&t, most_cells, out, err);
        if (end == BERTH_PATH_HOPS) {
            out->hops_are_least = is_exact;
            out->value = limit;
            out->bound = 0;
        }
    }
    release(&t);
    double bound = out->bound;
    if (st != BERTH_OK) berth_partition_deinit(out);
    out->bound = bound;
    return st;
}
