/* event.c - the counter of event.h over a futex. The one thing easy to get wrong is the sleeper's race with an advance:
 * the sleeper announces itself before it looks at the value again, the advance changes the value before it looks for
 * sleepers, and both in one total order. */
#include "exec/event.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

enum { PAUSES_PER_LOOK = 32 }; /* pauses between two looks at the clock */

static inline void pause_core(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("" ::: "memory");
#endif
}

void berth_event_init(berth_event *e)
{
    atomic_init(&e->value, 0);
    atomic_init(&e->sleepers, 0);
}

void berth_event_advance(berth_event *e, uint32_t by)
{
    atomic_fetch_add(&e->value, by);
    if (atomic_load(&e->sleepers)) syscall(SYS_futex, &e->value, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static bool spin_until(berth_event *e, uint32_t target, int64_t spin_ns)
{
    int64_t end = berth_now_ns() + spin_ns;
    do {
        for (int i = 0; i < PAUSES_PER_LOOK; i++) {
            if (berth_event_reached(e, target)) return true;
            pause_core();
        }
    } while (berth_now_ns() < end);
    return false;
}

bool berth_event_spin_until(berth_event *e, uint32_t target, int64_t until_ns)
{
    while (!berth_event_reached(e, target)) {
        if (berth_now_ns() >= until_ns) return false;
        sched_yield(); /* a thread with something to do may have been put on this core */
        for (int i = 0; i < PAUSES_PER_LOOK; i++) pause_core();
    }
    return true;
}

bool berth_event_wait_until(berth_event *e, uint32_t target, int64_t spin_ns, int64_t deadline_ns)
{
    if (berth_event_reached(e, target)) return true;
    if (deadline_ns < 0) deadline_ns = 0;
    if (spin_ns > 0) {
        int64_t left = deadline_ns - berth_now_ns();
        if (spin_until(e, target, left < spin_ns ? left : spin_ns)) return true;
    }
    const struct timespec at = {.tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000};
    bool reached, is_late = false;
    atomic_fetch_add(&e->sleepers, 1);
    for (;;) {
        uint32_t seen = atomic_load(&e->value);
        reached = (int32_t)(seen - target) >= 0;
        if (reached || is_late) break;
        /* the bitset call takes an absolute time of the monotonic clock */
        long rc = syscall(SYS_futex, &e->value, FUTEX_WAIT_BITSET_PRIVATE, seen, deadline_ns == INT64_MAX ? NULL : &at,
                          NULL, FUTEX_BITSET_MATCH_ANY);
        is_late = rc != 0 && errno == ETIMEDOUT;
    }
    atomic_fetch_sub(&e->sleepers, 1);
    return reached;
}

void berth_event_wait(berth_event *e, uint32_t target, int64_t spin_ns)
{
    berth_event_wait_until(e, target, spin_ns, INT64_MAX);
}

/* ---- gates ------------------------------------------------------------------------------------------------------ */

enum { GATE_OPEN, GATE_CLOSED, GATE_WAITED_FOR };

void berth_gate_init(berth_gate *g)
{
    atomic_init(&g->state, GATE_OPEN);
}

void berth_gate_close(berth_gate *g)
{
    atomic_store(&g->state, GATE_CLOSED);
}

void berth_gate_open(berth_gate *g)
{
    /* The wake may come when the gate is no more: it takes the address as a number, and whoever sleeps there by then
     * looks again. */
    if (atomic_exchange(&g->state, GATE_OPEN) == GATE_WAITED_FOR)
        syscall(SYS_futex, &g->state, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void berth_gate_wait(berth_gate *g)
{
    uint32_t state = GATE_CLOSED;
    if (atomic_compare_exchange_strong(&g->state, &state, GATE_WAITED_FOR)) state = GATE_WAITED_FOR;
    while (state != GATE_OPEN) {
        syscall(SYS_futex, &g->state, FUTEX_WAIT_PRIVATE, GATE_WAITED_FOR, NULL, NULL, 0);
        state = atomic_load(&g->state);
    }
}
