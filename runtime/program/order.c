/* order.c - happens-before as the executor keeps it: lanes are in order, and an op starts when the ops it waits for
 * are done.
 *
 * Used by the checkers only, and made from the recorded waits alone, so that it proves what waits.c set instead of
 * repeating it. */
#include <stdlib.h>
#include <string.h>

#include "program/program_internal.h"

void berth_order_deinit(berth_order *o)
{
    free(o->at);
    free(o->lane);
    free(o->done);
    memset(o, 0, sizeof *o);
}

/* What op i knows beside what it was given: that `on`, and all that `on` knew, is done. */
static void learn(berth_order *o, int32_t i, int32_t on)
{
    size_t lanes = (size_t)o->n_lanes;
    int32_t *mine = &o->done[(size_t)i * lanes];
    const int32_t *theirs = &o->done[(size_t)on * lanes];
    for (size_t k = 0; k < lanes; k++)
        if (theirs[k] > mine[k]) mine[k] = theirs[k];
    if (o->at[on] > mine[o->lane[on]]) mine[o->lane[on]] = o->at[on];
}

bool berth_order_init(berth_order *o, const berth_program *p)
{
    size_t n = (size_t)p->n_ops, lanes = (size_t)p->n_devices;
    int32_t last[BERTH_MAX_DEVICES];
    *o = (berth_order){.n_ops = p->n_ops, .n_lanes = p->n_devices};
    o->at = calloc(n + 1, sizeof *o->at);
    o->lane = calloc(n + 1, sizeof *o->lane);
    o->done = calloc(n * lanes + 1, sizeof *o->done);
    if (!o->at || !o->lane || !o->done) {
        berth_order_deinit(o);
        return false;
    }
    for (size_t k = 0; k < lanes; k++) last[k] = -1;
    for (int32_t i = 0; i < p->n_ops; i++) {
        const berth_op *op = &p->ops[i];
        int32_t before = last[op->device];
        o->lane[i] = op->device;
        o->at[i] = before < 0 ? 1 : o->at[before] + 1;
        if (before >= 0) learn(o, i, before);
        for (int32_t w = 0; w < op->n_waits; w++) learn(o, i, p->waits[op->first_wait + w]);
        last[op->device] = i;
    }
    return true;
}

bool berth_order_before(const berth_order *o, int32_t first, int32_t then)
{
    return o->done[(size_t)then * (size_t)o->n_lanes + (size_t)o->lane[first]] >= o->at[first];
}
