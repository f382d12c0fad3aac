/* cpu.c - see cpu.h. */
#include "probe/cpu.h"

#include <time.h>

enum { PAGE = 4096, FMA_ROUNDS = 20000000 };

static void fma_thread(void *arg, int32_t thread, int32_t n_threads)
{
    (void)n_threads;
    berth_cpu_probe *p = arg;
    p->sums[thread] = p->probe->fma(FMA_ROUNDS, &p->flops[thread]);
}

static void read_thread(void *arg, int32_t thread, int32_t n_threads)
{
    berth_cpu_probe *p = arg;
    size_t pages = p->bytes / PAGE, begin = pages * (size_t)thread / (size_t)n_threads;
    size_t end = pages * (size_t)(thread + 1) / (size_t)n_threads;
    p->sums[thread] = p->probe->read(p->data + begin * PAGE, (end - begin) / 4 * 4 * PAGE, p->read_way);
}

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

berth_elapsed berth_elapsed_now(void)
{
    return (berth_elapsed){seconds_of(CLOCK_MONOTONIC), seconds_of(CLOCK_PROCESS_CPUTIME_ID)};
}

berth_elapsed berth_elapsed_since(berth_elapsed begin)
{
    berth_elapsed now = berth_elapsed_now();
    return (berth_elapsed){now.wall - begin.wall, now.own - begin.own};
}

static berth_elapsed timed(berth_cpu_probe *p, void (*fn)(void *, int32_t, int32_t))
{
    berth_elapsed begin = berth_elapsed_now();
    p->team->run(p->team, fn, p);
    return berth_elapsed_since(begin);
}

static const struct { /* widest first */
    const char *set;
    const berth_lane_probe *probe;
} probes[] = {
#if defined(__x86_64__)
    {"avx512", &berth_lane_probe_avx512},
    {"avx2", &berth_lane_probe_avx2},
#endif
    {"generic", &berth_lane_probe_generic},
};

const berth_lane_probe *berth_lane_probe_widest(void)
{
    size_t i = 0;
    while (!berth_kernels_cpu(probes[i].set)) i++;
    return probes[i].probe;
}

void berth_cpu_probe_init(berth_cpu_probe *p, berth_team *team, const void *data, size_t bytes)
{
    *p = (berth_cpu_probe){.team = team, .probe = berth_lane_probe_widest(), .data = data, .bytes = bytes};
    double best = 1e9;
    int best_way = 0;
    for (int round = 0; round < 3; round++)
        for (p->read_way = 0; p->read_way < BERTH_READ_WAYS; p->read_way++) {
            double seconds = timed(p, read_thread).own;
            if (seconds < best) best = seconds, best_way = p->read_way;
        }
    p->read_way = best_way;
}

berth_elapsed berth_cpu_probe_read(berth_cpu_probe *p)
{
    return timed(p, read_thread);
}

berth_elapsed berth_cpu_probe_fma(berth_cpu_probe *p, double *out_flops)
{
    berth_elapsed time = timed(p, fma_thread);
    *out_flops = 0;
    for (int32_t i = 0; i < p->team->n_threads; i++) *out_flops += p->flops[i];
    return time;
}
