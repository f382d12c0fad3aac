/* lane.h - a device's lane: one worker thread that carries out the items of all shares it was given, one at a time.
 *
 * A share is a run's list of items (ops) on this lane. Within a share items are in order; between shares there is none:
 * the worker takes the oldest share whose next item is ready. This is what one CUDA stream per device and run in
 * flight gives, with the device computing one op at a time: a run that waits for another lane holds nobody up.
 *
 * When nothing is ready the worker spins briefly and then sleeps until it is woken: whoever makes an item ready on
 * another thread says so. A sleeper takes some 0.1 ms to be there again, so whoever will make an item ready soon may say
 * that too. Nothing here allocates or locks. */
#ifndef BERTH_EXEC_LANE_H
#define BERTH_EXEC_LANE_H

#include "base/status.h"
#include "exec/event.h"
#include "exec/team.h"

typedef struct berth_share berth_share;
struct berth_share {
    bool (*is_ready)(berth_share *s);  /* on the worker; false: asked again after the next item or wake */
    void (*carry_out)(berth_share *s); /* the next item, on the worker; after the last one the share is the owner's */
    int32_t n_left;                    /* items; > 0 when it is added, then the worker's */
    berth_share *next;                 /* the lane's */
};

typedef struct berth_lane {
    berth_event wake;
    _Alignas(64) _Atomic(berth_share *) added; /* newest first; not yet seen by the worker */
    _Atomic bool stop;
    _Atomic int64_t awake_until; /* of berth_now_ns */
    int64_t spin_ns;
    unsigned long thread;
    bool runs;
} berth_lane;

/* Starts the worker, bound to `cores`. Error: BERTH_DEVICE_ERROR. The lane must not move in memory afterwards. */
berth_status berth_lane_init(berth_lane *lane, const int32_t *cores, int32_t n_cores, int64_t spin_ns,
                             const berth_thread_label *label, berth_error *err);
void berth_lane_deinit(berth_lane *lane); /* carries out what was added first */

/* From any thread. Shares added one after the other are seen in that order. Wakes the worker. */
void berth_lane_add(berth_lane *lane, berth_share *share);

/* From any thread, after what made an item ready. */
static inline void berth_lane_wake(berth_lane *lane)
{
    berth_event_advance(&lane->wake, 1);
}

/* From any thread: an item will be ready by `until_ns` of berth_now_ns. The worker is woken and stays awake till then. A
 * hint: nothing is done by it on a lane that never spins. */
void berth_lane_expect(berth_lane *lane, int64_t until_ns);

#endif
