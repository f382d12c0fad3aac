/* waits.c - from what must come before what, to the fewest waits that say so.
 *
 * Works with vector clocks: for every op, how far each lane is known to be when the op is done. Ops are visited in
 * list order, an op's candidates newest first: a newer op can imply an older one and never the other way round, so
 * what is kept is minimal. */
#include <stdlib.h>
#include <string.h>

#include "program/program_internal.h"

bool berth_wait_list_add(berth_wait_list *list, int32_t op, int32_t on)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 64;
        berth_wait_pair *bigger = realloc(list->pairs, cap * sizeof *bigger);
        if (!bigger) return false;
        list->pairs = bigger;
        list->cap = cap;
    }
    list->pairs[list->n++] = (berth_wait_pair){.op = op, .on = on};
    return true;
}

static int by_op_newest_first(const void *a, const void *b)
{
    const berth_wait_pair *x = a, *y = b;
    if (x->op != y->op) return x->op < y->op ? -1 : 1;
    return x->on == y->on ? 0 : x->on > y->on ? -1 : 1;
}

/* The waits of op i out of pairs[*next..]; `clock` is the op's row, rows[k * lanes] that of op k. */
static bool assign_op(berth_program *p, int32_t i, const berth_wait_list *list, size_t *next, const int32_t *at,
                      int32_t *rows)
{
    size_t lanes = (size_t)p->n_devices;
    int32_t *clock = &rows[(size_t)i * lanes];
    for (; *next < list->n && list->pairs[*next].op == i; ++*next) {
        int32_t on = list->pairs[*next].on, lane = p->ops[on].device;
        if (clock[lane] >= at[on]) continue;
        if (!berth_program_add_wait(p, i, on)) return false;
        const int32_t *theirs = &rows[(size_t)on * lanes];
        for (size_t k = 0; k < lanes; k++)
            if (theirs[k] > clock[k]) clock[k] = theirs[k];
    }
    clock[p->ops[i].device] = at[i];
    return true;
}

bool berth_waits_assign(berth_program *p, berth_wait_list *list)
{
    size_t lanes = (size_t)p->n_devices, n = (size_t)p->n_ops;
    int32_t *rows = calloc(n * lanes + 1, sizeof *rows);
    int32_t *at = calloc(n + 1, sizeof *at);
    int32_t last[BERTH_MAX_DEVICES], count[BERTH_MAX_DEVICES] = {0};
    bool ok = rows && at;
    if (ok && list->n) qsort(list->pairs, list->n, sizeof *list->pairs, by_op_newest_first);
    for (size_t k = 0; k < lanes; k++) last[k] = -1;
    p->n_waits = 0;
    for (size_t i = 0; ok && i < n; i++) p->ops[i].first_wait = p->ops[i].n_waits = 0;
    size_t next = 0;
    for (int32_t i = 0; ok && i < p->n_ops; i++) {
        int32_t lane = p->ops[i].device;
        at[i] = ++count[lane];
        if (last[lane] >= 0) memcpy(&rows[(size_t)i * lanes], &rows[(size_t)last[lane] * lanes], lanes * sizeof *rows);
        last[lane] = i;
        ok = assign_op(p, i, list, &next, at, rows);
    }
    free(rows);
    free(at);
    return ok;
}
