/* lane.h - a device's in-order queue: one worker thread that carries out items one after another, and a counter of
 * those done that others wait on.
 *
 * A job is a function called for items 0 .. n_items-1. Submitting gives the count that stands before its first item:
 * item i is over when the lane's `done` has reached base + i + 1, failed or not. Submitting allocates nothing and takes
 * no lock. One thread at a time may submit to a lane; who shares a lane (replicas on one device) orders that itself,
 * the same way for all lanes: see submit in executor.c. */
#ifndef BERTH_ENGINE_LANE_H
#define BERTH_ENGINE_LANE_H

#include "base/status.h"
#include "engine/event.h"

typedef void (*berth_lane_fn)(void *arg, int32_t item);

enum { BERTH_LANE_JOBS = 128 }; /* queued at most; the submitter waits beyond */

typedef struct berth_lane_job {
    berth_lane_fn fn; /* NULL: the thread ends */
    void *arg;        /* the submitter's, until the last item is over */
    int32_t n_items;
} berth_lane_job;

typedef struct berth_lane {
    berth_event queued, taken, done; /* jobs, jobs, items */
    berth_lane_job jobs[BERTH_LANE_JOBS];
    uint32_t n_submitted; /* jobs; the submitter's */
    uint32_t n_issued;    /* items; the submitter's */
    int64_t spin_ns;
    unsigned long thread;
    bool runs;
} berth_lane;

/* Starts the worker, bound to `cores`. Error: BERTH_DEVICE_ERROR. The lane must not move in memory afterwards. */
berth_status berth_lane_init(berth_lane *lane, const int32_t *cores, int32_t n_cores, int64_t spin_ns,
                             berth_error *err);
void berth_lane_deinit(berth_lane *lane); /* carries out what is queued first */

uint32_t berth_lane_submit(berth_lane *lane, berth_lane_fn fn, void *arg, int32_t n_items);
static inline void berth_lane_wait(berth_lane *lane, uint32_t done, int64_t spin_ns)
{
    berth_event_wait(&lane->done, done, spin_ns);
}

#endif
