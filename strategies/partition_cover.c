/* partition_cover.c - can these devices, in some order, take the whole chain with no stage over a limit?
 *
 * At a limit a device is the row of where its longest run ends, for each start; devices with one row are a group, and
 * a group is better than another where its row is nowhere behind. First prices, which may prove that there is no cover
 * (partition_prices.c); then branches, which find one or prove that there is none, unless they are given up; then
 * exchanges; walks, where hops over the limit keep devices of an island apart (partition_orders.c). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/partition_cover.h"

enum { MOST = BERTH_COVER_MOST, MOST_STEPS = 20000, HARDER = 4 };

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
    c->memo = calloc(BERTH_COVER_MEMO_SIZE, sizeof *c->memo);
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
    const int32_t *x = berth_cover_row(c, a), *y = berth_cover_row(c, b);
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
        while (g < c->n_groups && memcmp(berth_cover_row(c, g), row, width * sizeof *row) != 0) g++;
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
                double there = berth_cover_hop(c, kind, a, b), back = berth_cover_hop(c, kind, b, a);
                if (there <= c->limit || back <= c->limit) island |= (uint64_t)1 << b;
                if (there > c->limit && there < c->above) c->above = there;
            }
    }
    for (int32_t a = 0; a < c->n; a++)
        for (int32_t b = 0; b < c->n; b++)
            for (int32_t kind = 0; kind < BERTH_CUT_KINDS; kind++)
                if (a != b && (island >> a & 1) && (island >> b & 1) && berth_cover_hop(c, kind, a, b) > c->limit)
                    *is_whole = false;
    return island;
}

/* ---- the answer ---- */

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
    bool is_over = berth_cover_walk(c, island);
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
    if (berth_cover_prices_prove(c) || !berth_cover_branch(c)) return BERTH_COVER_NONE;
    if (!c->is_found) berth_cover_exchange(c, island);
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
