/* event.c - the counter of event.h over a futex. The one thing easy to get wrong is the sleeper's race with an advance:
 * the sleeper announces itself before it looks at the value again, the advance changes the value before it looks for
 * sleepers, and both in one total order. */
#include "engine/event.h"

#include <linux/futex.h>
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

void berth_event_wait(berth_event *e, uint32_t target, int64_t spin_ns)
{
    if (berth_event_reached(e, target) || (spin_ns > 0 && spin_until(e, target, spin_ns))) return;
    atomic_fetch_add(&e->sleepers, 1);
    for (;;) {
        uint32_t seen = atomic_load(&e->value);
        if ((int32_t)(seen - target) >= 0) break;
        syscall(SYS_futex, &e->value, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    }
    atomic_fetch_sub(&e->sleepers, 1);
}
