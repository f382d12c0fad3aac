/* grid.c - into how many tiles a picture is cut.
 *
 * The grid whose shape is nearest to the picture's; among equally near ones a larger grid wins if the picture has more than
 * half its pixels. Easy to get wrong: shapes are compared as doubles (exact fractions choose otherwise at ordinary sizes),
 * and with min_tiles > 1 the order among grids of equal count decides too. The reference iterates a Python set there, so
 * CPython's set is rebuilt: its order depends on nothing but the pairs and how they were added.
 * Source: InternVL, dynamic_preprocess and find_closest_aspect_ratio; CPython 3.8 to 3.13, setobject.c and tupleobject.c. */
#include <math.h>
#include <stdlib.h>

#include "image/image.h"

enum { max_tiles_limit = 1024, linear_probes = 9, perturb_shift = 5 };

typedef struct pair {
    uint64_t hash;
    int32_t columns, rows; /* columns 0: an empty place */
} pair;

typedef struct pair_set {
    pair *table; /* owned, [mask + 1] */
    uint64_t mask;
    size_t used;
} pair_set;

/* The hash of a tuple of two small integers. */
static uint64_t hash_pair(uint64_t a, uint64_t b)
{
    const uint64_t prime1 = UINT64_C(11400714785074694791), prime2 = UINT64_C(14029467366897019727),
                   prime5 = UINT64_C(2870177450012600261);
    uint64_t lanes[2] = {a, b}, acc = prime5;
    for (int i = 0; i < 2; i++) {
        acc += lanes[i] * prime2;
        acc = (acc << 31 | acc >> 33) * prime1;
    }
    acc += 2 ^ (prime5 ^ UINT64_C(3527539));
    return acc == UINT64_MAX ? UINT64_C(1546275796) : acc;
}

/* Puts a pair that is not there yet into the first free place of its probe sequence. */
static void place_pair(pair *table, uint64_t mask, pair p)
{
    uint64_t perturb = p.hash, i = p.hash & mask;
    for (;;) {
        uint64_t probes = i + linear_probes <= mask ? linear_probes : 0;
        for (uint64_t k = 0; k <= probes; k++) {
            if (table[i + k].columns != 0) continue;
            table[i + k] = p;
            return;
        }
        perturb >>= perturb_shift;
        i = (i * 5 + 1 + perturb) & mask;
    }
}

static bool add_pair(pair_set *set, int32_t columns, int32_t rows)
{
    pair p = {hash_pair((uint64_t)columns, (uint64_t)rows), columns, rows};
    place_pair(set->table, set->mask, p);
    set->used++;
    if (set->used * 5 < set->mask * 3) return true;
    uint64_t size = 8;
    while (size <= set->used * 4) size <<= 1;
    pair *table = calloc(size, sizeof *table);
    if (!table) return false;
    for (uint64_t i = 0; i <= set->mask; i++) {
        if (set->table[i].columns != 0) place_pair(table, size - 1, set->table[i]);
    }
    free(set->table);
    set->table = table;
    set->mask = size - 1;
    return true;
}

/* Adds the pairs as the reference's loops do: n from min_tiles up, both sides at most n, a pair once. */
static bool add_grids(pair_set *set, int32_t min_tiles, int32_t max_tiles)
{
    for (int32_t n = min_tiles; n <= max_tiles; n++) {
        for (int32_t i = 1; i <= n; i++) {
            bool row_is_new = i == n || n == min_tiles; /* else only j = n is */
            for (int32_t j = row_is_new ? 1 : n; j <= n && i * j <= max_tiles; j++) {
                if (i * j >= min_tiles && !add_pair(set, i, j)) return false;
            }
        }
    }
    return true;
}

static int by_product(const void *a, const void *b)
{
    const pair *p = a, *q = b;
    int32_t x = p->columns * p->rows, y = q->columns * q->rows;
    if (x != y) return x < y ? -1 : 1;
    return p->hash < q->hash ? -1 : 1; /* here the place in the set, see sort_grids */
}

/* The set's pairs in its order, sorted by product and stable, at the front of its table. Returns their count. */
static size_t sort_grids(pair_set *set)
{
    size_t n = 0;
    for (uint64_t i = 0; i <= set->mask; i++) {
        if (set->table[i].columns == 0) continue;
        pair p = set->table[i];
        p.hash = n;
        set->table[n++] = p;
    }
    qsort(set->table, n, sizeof *set->table, by_product);
    return n;
}

static pair nearest(const pair *grids, size_t n, int32_t w, int32_t h, int32_t tile)
{
    double shape = (double)w / h, area = (double)w * h, least = INFINITY;
    pair best = {.columns = 1, .rows = 1};
    for (size_t k = 0; k < n; k++) {
        int32_t i = grids[k].columns, j = grids[k].rows;
        double d = fabs(shape - (double)i / j);
        if (d < least || (d == least && area > 0.5 * tile * tile * i * j)) {
            best = grids[k];
            least = d;
        }
    }
    return best;
}

berth_status berth_grid_choose(int32_t w, int32_t h, int32_t tile, int32_t min_tiles, int32_t max_tiles, bool thumbnail,
                               berth_grid *out, berth_error *err)
{
    *out = (berth_grid){0};
    if (w < 1 || h < 1 || tile < 1) {
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "no tile grid for %d x %d pixels in tiles of %d: sizes begin at 1", w, h, tile);
    }
    if (min_tiles < 1 || min_tiles > max_tiles || max_tiles > max_tiles_limit || tile > INT32_MAX / max_tiles) {
        return BERTH_FAIL(
            err, BERTH_INVALID_ARGUMENT,
            "%d to %d tiles of %d pixels asked for; needed is 1 <= min <= max <= %d, and a side below 2^31", min_tiles,
            max_tiles, tile, max_tiles_limit);
    }
    pair_set set = {.table = calloc(8, sizeof *set.table), .mask = 7};
    if (!set.table || !add_grids(&set, min_tiles, max_tiles)) {
        free(set.table);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory to choose a tile grid");
    }
    pair best = nearest(set.table, sort_grids(&set), w, h, tile);
    free(set.table);
    int32_t n = best.columns * best.rows;
    bool has_thumbnail = thumbnail && n > 1;
    *out = (berth_grid){.columns = best.columns,
                        .rows = best.rows,
                        .n_tiles = n + has_thumbnail,
                        .width = best.columns * tile,
                        .height = best.rows * tile,
                        .has_thumbnail = has_thumbnail};
    return BERTH_OK;
}
