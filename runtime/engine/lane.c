/* lane.c - the worker thread and ring of a lane. Ring slots are plain memory: `queued` orders their filling before
 * their reading, `taken` their reading before their next filling. */
#include "engine/lane.h"

#include "engine/team.h"

static void *lane_body(void *arg)
{
    berth_lane *lane = arg;
    for (uint32_t n = 0;; n++) {
        berth_event_wait(&lane->queued, n + 1, lane->spin_ns);
        berth_lane_job job = lane->jobs[n % BERTH_LANE_JOBS];
        berth_event_advance(&lane->taken, 1);
        if (!job.fn) return NULL;
        for (int32_t i = 0; i < job.n_items; i++) {
            job.fn(job.arg, i);
            berth_event_advance(&lane->done, 1);
        }
    }
}

berth_status berth_lane_init(berth_lane *lane, const int32_t *cores, int32_t n_cores, int64_t spin_ns, berth_error *err)
{
    *lane = (berth_lane){.spin_ns = spin_ns};
    berth_event_init(&lane->queued);
    berth_event_init(&lane->taken);
    berth_event_init(&lane->done);
    berth_status st = berth_thread_start(&lane->thread, lane_body, lane, cores, n_cores, err);
    lane->runs = st == BERTH_OK;
    return st;
}

uint32_t berth_lane_submit(berth_lane *lane, berth_lane_fn fn, void *arg, int32_t n_items)
{
    uint32_t base = lane->n_issued;
    if (n_items == 0 && fn) return base;
    berth_event_wait(&lane->taken, lane->n_submitted - BERTH_LANE_JOBS + 1, 0);
    lane->jobs[lane->n_submitted % BERTH_LANE_JOBS] = (berth_lane_job){fn, arg, n_items};
    lane->n_submitted++;
    lane->n_issued += (uint32_t)n_items;
    berth_event_advance(&lane->queued, 1);
    return base;
}

void berth_lane_deinit(berth_lane *lane)
{
    if (!lane->runs) return;
    berth_lane_submit(lane, NULL, NULL, 0);
    berth_thread_join(lane->thread);
    lane->runs = false;
}
