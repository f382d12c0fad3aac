/* plan_misfit.c - what a strategy that refuses for want of memory would do with more of it, judged by the memory there is.
 *
 * All limits are raised by the smallest factor with which the strategy places the model; the shares between the devices
 * stay as they are, so that the part of the model on each is the one it had to refuse. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/status.h"

enum { SIXTEENTHS = 16, MOST_DOUBLINGS = 24, REFINEMENTS = 6 };

static void scale(berth_machine *m, const uint64_t *limits, uint64_t sixteenths)
{
    for (int32_t d = 0; d < m->n_devices; d++) {
        const unsigned __int128 raised = (unsigned __int128)limits[d] * sixteenths / SIXTEENTHS;
        m->devices[d].memory_bytes = raised > INT64_MAX ? INT64_MAX : (uint64_t)raised;
    }
}

/* Tries one factor; keeps the plan when it is placed. */
static berth_status try_factor(berth_plan *p, const berth_plan_options *o, const uint64_t *limits, uint64_t sixteenths,
                               berth_core_plan **best)
{
    berth_error ignored = {0};
    scale(&p->machine, limits, sixteenths);
    berth_status st = berth_plan_make_core(p, o, &ignored);
    if (st != BERTH_OK) return st;
    berth_core_plan_destroy(*best);
    *best = p->owned;
    p->owned = NULL;
    return BERTH_OK;
}

/* By doubling, then by halving the step between a factor that is refused and one that is not. */
static berth_status search(berth_plan *p, const berth_plan_options *o, const uint64_t *limits, berth_core_plan **best,
                           uint64_t *out_sixteenths)
{
    uint64_t low = SIXTEENTHS, high = SIXTEENTHS;
    berth_status st = BERTH_DOES_NOT_FIT;
    for (int k = 0; k < MOST_DOUBLINGS && st == BERTH_DOES_NOT_FIT; k++) {
        low = high;
        high *= 2;
        st = try_factor(p, o, limits, high, best);
    }
    for (int k = 0; k < REFINEMENTS && st == BERTH_OK && high - low > 1; k++) {
        const uint64_t middle = low + (high - low) / 2;
        const berth_status at = try_factor(p, o, limits, middle, best);
        if (at == BERTH_OK)
            high = middle;
        else if (at == BERTH_DOES_NOT_FIT)
            low = middle;
        else
            st = at;
    }
    *out_sixteenths = high;
    return st;
}

/* The strategy counts for activations what the largest device needs; where the exact bytes would fit, what it asked for
 * beyond the limits is what is missing. */
static void judge(berth_plan *p, const uint64_t *limits, uint64_t sixteenths)
{
    berth_core_plan *c = p->owned;
    berth_core_plan_judge(c);
    if (!c->fits) return;
    const char *kind;
    c->fits = false;
    c->worst_device = berth_plan_binds(p, &kind, NULL);
    const uint64_t limit = limits[c->worst_device];
    c->missing_bytes = (uint64_t)((unsigned __int128)limit * (sixteenths - SIXTEENTHS) / SIXTEENTHS);
    if (c->missing_bytes == 0) c->missing_bytes = 1;
}

berth_status berth_plan_make_misfit(berth_plan *p, const berth_plan_options *o, berth_error *err)
{
    const int32_t n = p->machine.n_devices;
    const berth_error refusal = *err;
    berth_core_plan *best = NULL;
    uint64_t limits[BERTH_MAX_DEVICES], sixteenths = SIXTEENTHS;
    for (int32_t d = 0; d < n; d++) limits[d] = p->machine.devices[d].memory_bytes;
    const berth_status st = search(p, o, limits, &best, &sixteenths);
    for (int32_t d = 0; d < n; d++) p->machine.devices[d].memory_bytes = limits[d];
    p->owned = best;
    p->core = best;
    *err = refusal;
    if (st != BERTH_OK || best == NULL) return refusal.status;
    p->refusal = strdup(refusal.message);
    if (p->refusal == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a plan handle");
    judge(p, limits, sixteenths);
    *err = (berth_error){0};
    return BERTH_OK;
}
