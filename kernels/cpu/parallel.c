/* parallel.c - sharing a range of work among the threads of a team. */
#include <stdatomic.h>

#include "kernels/cpu/cpu_internal.h"

typedef struct shared_range {
    berth_cpu_range_fn fn;
    void *arg;
    size_t n, grain;
    atomic_size_t next;
} shared_range;

static void take_pieces(void *arg, int32_t thread, int32_t n_threads)
{
    (void)n_threads;
    shared_range *range = arg;
    for (;;) {
        size_t begin = atomic_fetch_add_explicit(&range->next, range->grain, memory_order_relaxed);
        if (begin >= range->n) return;
        range->fn(range->arg, begin, berth_cpu_min(begin + range->grain, range->n), thread);
    }
}

void berth_cpu_parallel(const berth_op_call *call, size_t n, size_t grain, berth_cpu_range_fn fn, void *arg)
{
    if (!n) return;
    if (!grain) grain = 1;
    shared_range range = {.fn = fn, .arg = arg, .n = n, .grain = grain};
    atomic_init(&range.next, 0);
    if (n <= grain || berth_cpu_threads(call) < 2)
        take_pieces(&range, 0, 1);
    else
        call->team->run(call->team, take_pieces, &range);
}
