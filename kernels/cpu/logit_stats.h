/* logit_stats.h - one pass over a row of logits. Compiled once per vector width; see simd.h. */
#ifndef BERTH_KERNELS_CPU_LOGIT_STATS_H
#define BERTH_KERNELS_CPU_LOGIT_STATS_H

#include <math.h>

#include "kernels/cpu/cpu_internal.h"
#include "kernels/cpu/simd.h"

typedef struct logit_stats_job {
    const float *x; /* [n, v] */
    float *y;       /* [n, BERTH_LOGIT_STATS] */
    size_t v;
} logit_stats_job;

/* What is known after some elements: counts, extremes of what is not NaN, the first place of the greatest. */
typedef struct logit_summary {
    size_t n_nan, n_inf, best;
    float low, high;
} logit_summary;

/* The whole vectors of a row. Counts are gathered negated: a true comparison is -1. */
static logit_summary logit_stats_vectors(const float *x, size_t n)
{
    vi lanes, n_nan = {0}, n_inf = {0}, best = {0};
    for (int l = 0; l < BERTH_LANES; l++) lanes[l] = l;
    vf low = v_set(__builtin_inff()), high = v_set(-__builtin_inff());
    for (size_t i = 0; i + BERTH_LANES <= n; i += BERTH_LANES) {
        vf v = v_load(x + i);
        vi greater = v > high;
        n_nan += v != v;
        n_inf += (vf)((vu)v & 0x7FFFFFFF) == __builtin_inff();
        low = v_select(v < low, v, low);
        high = v_select(greater, v, high);
        best = ((lanes + (int32_t)i) & greater) | (best & ~greater);
    }
    logit_summary s = {.low = low[0], .high = high[0], .best = (size_t)best[0]};
    for (int l = 0; l < BERTH_LANES; l++) {
        s.n_nan += (size_t)-n_nan[l];
        s.n_inf += (size_t)-n_inf[l];
        s.low = low[l] < s.low ? low[l] : s.low;
        if (high[l] > s.high || (high[l] == s.high && (size_t)best[l] < s.best))
            s.high = high[l], s.best = (size_t)best[l];
    }
    return s;
}

static void logit_stats_rows(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const logit_stats_job *job = arg;
    for (size_t t = begin; t < end; t++) {
        const float *x = job->x + t * job->v;
        float *y = job->y + t * BERTH_LOGIT_STATS;
        logit_summary s = logit_stats_vectors(x, job->v);
        for (size_t i = job->v / BERTH_LANES * BERTH_LANES; i < job->v; i++) {
            s.n_nan += isnan(x[i]) != 0;
            s.n_inf += isinf(x[i]) != 0;
            if (x[i] < s.low) s.low = x[i];
            if (x[i] > s.high) s.high = x[i], s.best = i;
        }
        if (s.n_nan)
            for (s.best = 0; !isnan(x[s.best]);) s.best++;
        if (s.n_nan == job->v) s.low = s.high = __builtin_nanf("");
        memset(y, 0, BERTH_LOGIT_STATS * sizeof *y);
        y[BERTH_STAT_NAN] = (float)s.n_nan;
        y[BERTH_STAT_INF] = (float)s.n_inf;
        y[BERTH_STAT_MIN] = s.low;
        y[BERTH_STAT_MAX] = s.high;
        y[BERTH_STAT_ARGMAX] = (float)s.best;
    }
}

static void logit_stats(const berth_op_call *call)
{
    logit_stats_job job = {call->in[0].data, call->out.data, (size_t)berth_tensor_last(&call->in[0])};
    berth_cpu_parallel(call, (size_t)berth_tensor_rows(&call->in[0]), 1 + BERTH_CPU_GRAIN / (job.v + 1),
                       logit_stats_rows, &job);
}

#endif
