/* norm.h - LayerNorm and RMSNorm over rows. Compiled once per vector width; see simd.h.
 * Sums in fp32 lanes, mean first and squares of the differences second, so that a large mean costs no digits. */
#ifndef BERTH_KERNELS_CPU_NORM_H
#define BERTH_KERNELS_CPU_NORM_H

#include <math.h>

#include "kernels/cpu/cpu_internal.h"
#include "kernels/cpu/simd.h"

typedef struct norm_job {
    const float *x, *w, *b; /* [n, c], [c], [c] */
    float *y;
    size_t c;
    float eps;
} norm_job;

/* Sum of f(x[i]) for f = identity, or the square of x - centre. Lanes behind the end count nothing. */
BERTH_INLINE float norm_sum(const float *x, size_t c, const bool squares, float centre)
{
    vf sum[2] = {{0}, {0}};
    size_t i = 0;
    for (; i + 2 * BERTH_LANES <= c; i += 2 * BERTH_LANES) {
        vf a = v_load(x + i) - centre, b = v_load(x + i + BERTH_LANES) - centre;
        sum[0] = squares ? v_fma(a, a, sum[0]) : sum[0] + a;
        sum[1] = squares ? v_fma(b, b, sum[1]) : sum[1] + b;
    }
    for (; i + BERTH_LANES <= c; i += BERTH_LANES) {
        vf a = v_load(x + i) - centre;
        sum[0] = squares ? v_fma(a, a, sum[0]) : sum[0] + a;
    }
    float total = v_sum(sum[0] + sum[1]);
    for (; i < c; i++) total += squares ? (x[i] - centre) * (x[i] - centre) : x[i] - centre;
    return total;
}

static void layer_norm_rows(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const norm_job *job = arg;
    for (size_t t = begin; t < end; t++) {
        const float *x = job->x + t * job->c;
        float *y = job->y + t * job->c;
        float mean = norm_sum(x, job->c, false, 0) / (float)job->c;
        float scale = 1.0f / sqrtf(norm_sum(x, job->c, true, mean) / (float)job->c + job->eps);
        size_t i = 0;
        for (; i + BERTH_LANES <= job->c; i += BERTH_LANES)
            v_store(y + i, v_fma((v_load(x + i) - mean) * scale, v_load(job->w + i), v_load(job->b + i)));
        for (; i < job->c; i++) y[i] = (x[i] - mean) * scale * job->w[i] + job->b[i];
    }
}

static void rms_norm_rows(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const norm_job *job = arg;
    for (size_t t = begin; t < end; t++) {
        const float *x = job->x + t * job->c;
        float *y = job->y + t * job->c;
        float scale = 1.0f / sqrtf(norm_sum(x, job->c, true, 0) / (float)job->c + job->eps);
        size_t i = 0;
        for (; i + BERTH_LANES <= job->c; i += BERTH_LANES) v_store(y + i, v_load(x + i) * scale * v_load(job->w + i));
        for (; i < job->c; i++) y[i] = x[i] * scale * job->w[i];
    }
}

/* Both weights as fp32. */
static size_t norm_workspace(const berth_op_call *shapes, int32_t n_threads)
{
    (void)n_threads;
    return 2 * berth_cpu_line((size_t)berth_tensor_last(&shapes->in[0]) * sizeof(float));
}

static void norm(const berth_op_call *call, berth_cpu_range_fn rows)
{
    size_t c = (size_t)berth_tensor_last(&call->in[0]);
    float *w = call->workspace, *b = (float *)(void *)((char *)call->workspace + berth_cpu_line(c * sizeof(float)));
    berth_widen_f32(w, call->in[1].data, call->in[1].dtype, c);
    if (call->n_in > 2) berth_widen_f32(b, call->in[2].data, call->in[2].dtype, c);
    norm_job job = {call->in[0].data, w, b, call->out.data, c, call->attrs->eps};
    berth_cpu_parallel(call, (size_t)berth_tensor_rows(&call->in[0]), 1 + BERTH_CPU_GRAIN / (c + 1), rows, &job);
}

static void layer_norm(const berth_op_call *call)
{
    norm(call, layer_norm_rows);
}

static void rms_norm(const berth_op_call *call)
{
    norm(call, rms_norm_rows);
}

#endif
