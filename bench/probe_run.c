/* probe_run.c - see probe_run.h. */
#include "bench/probe_run.h"

#include <time.h>

enum { PAGE = 4096, FMA_ROUNDS = 20000000 };

static volatile float sink; /* so that the probes' results are wanted */

static void fma_thread(void *arg, int32_t thread, int32_t n_threads)
{
    (void)n_threads;
    probe_run *p = arg;
    sink = p->probe->fma(FMA_ROUNDS, &p->flops[thread]);
}

static void read_thread(void *arg, int32_t thread, int32_t n_threads)
{
    probe_run *p = arg;
    size_t pages = p->bytes / PAGE, begin = pages * (size_t)thread / (size_t)n_threads;
    size_t end = pages * (size_t)(thread + 1) / (size_t)n_threads;
    sink = p->probe->read(p->data + begin * PAGE, (end - begin) / 4 * 4 * PAGE, p->read_way);
}

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

elapsed elapsed_now(void)
{
    return (elapsed){seconds_of(CLOCK_MONOTONIC), seconds_of(CLOCK_PROCESS_CPUTIME_ID)};
}

elapsed elapsed_since(elapsed begin)
{
    elapsed now = elapsed_now();
    return (elapsed){now.wall - begin.wall, now.own - begin.own};
}

static elapsed timed(probe_run *p, void (*fn)(void *, int32_t, int32_t))
{
    elapsed begin = elapsed_now();
    p->team->run(p->team, fn, p);
    return elapsed_since(begin);
}

static const struct { /* widest first */
    const char *set;
    const kernel_probe *probe;
} probes[] = {
#if defined(__x86_64__)
    {"avx512", &kernel_probe_avx512},
    {"avx2", &kernel_probe_avx2},
#endif
    {"generic", &kernel_probe_generic},
};

static const kernel_probe *widest_probe(void)
{
    size_t i = 0;
    while (!berth_kernels_cpu(probes[i].set)) i++;
    return probes[i].probe;
}

void probe_run_init(probe_run *p, berth_team *team, const void *data, size_t bytes)
{
    *p = (probe_run){.team = team, .probe = widest_probe(), .data = data, .bytes = bytes};
    double best = 1e9;
    int best_way = 0;
    for (int round = 0; round < 3; round++)
        for (p->read_way = 0; p->read_way < KERNEL_READ_WAYS; p->read_way++) {
            double seconds = timed(p, read_thread).own;
            if (seconds < best) best = seconds, best_way = p->read_way;
        }
    p->read_way = best_way;
}

elapsed probe_read(probe_run *p)
{
    return timed(p, read_thread);
}

elapsed probe_fma(probe_run *p, double *out_flops)
{
    elapsed time = timed(p, fma_thread);
    *out_flops = 0;
    for (int32_t i = 0; i < p->team->n_threads; i++) *out_flops += p->flops[i];
    return time;
}
