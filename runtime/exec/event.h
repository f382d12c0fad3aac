/* event.h - a counter that only grows and that threads wait on: they spin briefly, then sleep in the kernel; a gate.
 *
 * Lanes, teams and queues are built on it. Values wrap at 2^32 and are compared by distance, so no two that are
 * compared may lie 2^31 apart. All calls are thread-safe; what was written before an advance is seen after the wait for
 * it. An event must outlive the calls of advance, not only what they make happen. */
#ifndef BERTH_EXEC_EVENT_H
#define BERTH_EXEC_EVENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct berth_event {
    _Alignas(64) _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
} berth_event;

void berth_event_init(berth_event *e);
void berth_event_advance(berth_event *e, uint32_t by);

/* Returns when the value has reached `target`. Spins for at most `spin_ns` first (0 = sleep at once). */
void berth_event_wait(berth_event *e, uint32_t target, int64_t spin_ns);

/* As above, but at the latest at `deadline_ns` of berth_now_ns (a past one: at once). Whether the target was reached. */
bool berth_event_wait_until(berth_event *e, uint32_t target, int64_t spin_ns, int64_t deadline_ns);

/* Only spins, till `until_ns` of berth_now_ns, and lets others have the core now and then. Whether the target was reached. */
bool berth_event_spin_until(berth_event *e, uint32_t target, int64_t until_ns);

static inline uint32_t berth_event_value(berth_event *e)
{
    return atomic_load_explicit(&e->value, memory_order_acquire);
}
static inline bool berth_event_reached(berth_event *e, uint32_t target)
{
    return (int32_t)(berth_event_value(e) - target) >= 0;
}

/* A gate: closed by its owner, opened once by another thread, which touches it no more after that: the owner may free
 * it as soon as its wait returns (an event would be touched again). */
typedef struct berth_gate {
    _Atomic uint32_t state;
} berth_gate;

void berth_gate_init(berth_gate *g); /* open */
void berth_gate_close(berth_gate *g);
void berth_gate_open(berth_gate *g);
void berth_gate_wait(berth_gate *g); /* what was written before the opening is seen after it */

#endif
