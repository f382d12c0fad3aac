/* lane.c - the worker thread of a lane. It looks at the wake count before it looks for work: what becomes ready after
 * that look changes the count, so the wait for it ends at once. */
#include "exec/lane.h"

#include "base/clock.h"

static berth_share *append_added(berth_lane *lane, berth_share *first)
{
    berth_share *newest = atomic_exchange_explicit(&lane->added, NULL, memory_order_acquire), *oldest = NULL;
    while (newest) {
        berth_share *s = newest;
        newest = s->next;
        s->next = oldest;
        oldest = s;
    }
    berth_share **end = &first;
    while (*end) end = &(*end)->next;
    *end = oldest;
    return first;
}

/* One item of the oldest share that is ready; false: none is. */
static bool carry_out_one(berth_share **first)
{
    for (berth_share **at = first; *at; at = &(*at)->next) {
        berth_share *s = *at;
        if (!s->is_ready(s)) continue;
        if (--s->n_left == 0) *at = s->next; /* out of the list before its owner may use it again */
        s->carry_out(s);
        return true;
    }
    return false;
}

static void wait_for_work(berth_lane *lane, uint32_t seen)
{
    int64_t until = atomic_load_explicit(&lane->awake_until, memory_order_relaxed);
    if (until && berth_event_spin_until(&lane->wake, seen + 1, until)) return;
    berth_event_wait(&lane->wake, seen + 1, lane->spin_ns);
}

static void *lane_body(void *arg)
{
    berth_lane *lane = arg;
    berth_share *first = NULL;
    for (;;) {
        uint32_t seen = berth_event_value(&lane->wake);
        bool stop = atomic_load_explicit(&lane->stop, memory_order_acquire);
        if (atomic_load_explicit(&lane->added, memory_order_relaxed)) first = append_added(lane, first);
        if (carry_out_one(&first)) continue;
        if (stop && !first) return NULL;
        wait_for_work(lane, seen);
    }
}

berth_status berth_lane_init(berth_lane *lane, const int32_t *cores, int32_t n_cores, int64_t spin_ns,
                             const berth_thread_label *label, berth_error *err)
{
    *lane = (berth_lane){.spin_ns = spin_ns};
    berth_event_init(&lane->wake);
    atomic_init(&lane->added, NULL);
    atomic_init(&lane->stop, false);
    atomic_init(&lane->awake_until, 0);
    berth_status st = berth_thread_start(&lane->thread, lane_body, lane, cores, n_cores, label, err);
    lane->runs = st == BERTH_OK;
    return st;
}

void berth_lane_add(berth_lane *lane, berth_share *share)
{
    share->next = atomic_load_explicit(&lane->added, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&lane->added, &share->next, share, memory_order_release,
                                                  memory_order_relaxed)) {
    }
    berth_lane_wake(lane);
}

void berth_lane_expect(berth_lane *lane, int64_t until_ns)
{
    if (lane->spin_ns == 0) return;
    atomic_store_explicit(&lane->awake_until, until_ns, memory_order_relaxed);
    berth_lane_wake(lane);
}

void berth_lane_deinit(berth_lane *lane)
{
    if (!lane->runs) return;
    atomic_store(&lane->stop, true);
    berth_lane_wake(lane);
    berth_thread_join(lane->thread);
    lane->runs = false;
}
