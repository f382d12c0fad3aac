/* elementwise.h - sums, GELU, gated SiLU, rotary positions. Compiled once per vector width; see simd.h. */
#ifndef BERTH_KERNELS_CPU_ELEMENTWISE_H
#define BERTH_KERNELS_CPU_ELEMENTWISE_H

#include "kernels/cpu/cpu_internal.h"
#include "kernels/cpu/simd.h"

typedef struct elementwise_job {
    const float *a, *b, *scale; /* scale: [c] or unused */
    float *y;
    size_t c;
} elementwise_job;

/* erf(x) to 1 ulp or so (measured: 1.2e-7 absolute). Near 0 an odd polynomial; further out 1 - e^-p(|x|).
 * Both are minimax fits by N. Juffa (stackoverflow.com/a/35966695, "my_erff"). */
BERTH_INLINE vf v_erf(vf x)
{
    vf t = (vf)((vu)x & 0x7FFFFFFF), s = x * x;
    vf far = v_fma(v_set(-1.72853470e-5f), t, v_set(3.83197126e-4f));
    vf far_high = v_fma(v_set(-3.88396438e-3f), t, v_set(2.42546219e-2f));
    far = v_fma(far, s, far_high);
    far = v_fma(far, t, v_set(-1.06777877e-1f));
    far = v_fma(far, t, v_set(-6.34846687e-1f));
    far = v_fma(far, t, v_set(-1.28717512e-1f));
    far = v_fma(far, t, -t);
    far = 1.0f - v_exp(far);
    far = v_select(t > 4.0f, v_set(1.0f), far); /* rounds to 1; the polynomial must not be followed further out */
    far = (vf)((vu)far | ((vu)x & 0x80000000));
    vf near = v_fma(v_set(-5.96761703e-4f), s, v_set(4.99119423e-3f));
    near = v_fma(near, s, v_set(-2.67681349e-2f));
    near = v_fma(near, s, v_set(1.12819925e-1f));
    near = v_fma(near, s, v_set(-3.76125336e-1f));
    near = v_fma(near, s, v_set(1.28379166e-1f));
    near = v_fma(near, x, x);
    return v_select(t > 0.927734375f, far, near);
}

BERTH_INLINE vf v_gelu(vf x)
{
    return 0.5f * x * (1.0f + v_erf(x * 0.70710678f));
}

BERTH_INLINE vf v_silu_mul(vf gate, vf up)
{
    return gate / (1.0f + v_exp(-gate)) * up;
}

static void gelu_range(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const elementwise_job *job = arg;
    size_t i = begin;
    for (; i + BERTH_LANES <= end; i += BERTH_LANES) v_store(job->y + i, v_gelu(v_load(job->a + i)));
    if (i < end) v_store_part(job->y + i, v_gelu(v_load_part(job->a + i, end - i)), end - i);
}

static void silu_mul_range(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const elementwise_job *job = arg;
    size_t i = begin;
    for (; i + BERTH_LANES <= end; i += BERTH_LANES)
        v_store(job->y + i, v_silu_mul(v_load(job->a + i), v_load(job->b + i)));
    if (i < end)
        v_store_part(job->y + i, v_silu_mul(v_load_part(job->a + i, end - i), v_load_part(job->b + i, end - i)),
                     end - i);
}

static void add_range(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const elementwise_job *job = arg;
    size_t i = begin;
    for (; i + BERTH_LANES <= end; i += BERTH_LANES) v_store(job->y + i, v_load(job->a + i) + v_load(job->b + i));
    for (; i < end; i++) job->y[i] = job->a[i] + job->b[i];
}

static void scale_add_rows(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const elementwise_job *job = arg;
    for (size_t t = begin; t < end; t++) {
        const float *x = job->a + t * job->c, *delta = job->b + t * job->c;
        float *y = job->y + t * job->c;
        size_t i = 0;
        for (; i + BERTH_LANES <= job->c; i += BERTH_LANES)
            v_store(y + i, v_fma(v_load(job->scale + i), v_load(delta + i), v_load(x + i)));
        for (; i < job->c; i++) y[i] = x[i] + job->scale[i] * delta[i];
    }
}

static void each_element(const berth_op_call *call, berth_cpu_range_fn range)
{
    elementwise_job job = {.a = call->in[0].data, .b = call->in[1].data, .y = call->out.data};
    berth_cpu_parallel(call, (size_t)berth_tensor_elements(&call->in[0]), BERTH_CPU_GRAIN, range, &job);
}

static void gelu(const berth_op_call *call)
{
    each_element(call, gelu_range);
}

static void silu_mul(const berth_op_call *call)
{
    each_element(call, silu_mul_range);
}

static void add(const berth_op_call *call)
{
    each_element(call, add_range);
}

static size_t scale_add_workspace(const berth_op_call *shapes, int32_t n_threads)
{
    (void)n_threads;
    return berth_cpu_line((size_t)berth_tensor_last(&shapes->in[0]) * sizeof(float));
}

static void scale_add(const berth_op_call *call)
{
    size_t c = (size_t)berth_tensor_last(&call->in[0]);
    berth_widen_f32(call->workspace, call->in[2].data, call->in[2].dtype, c);
    elementwise_job job = {call->in[0].data, call->in[1].data, call->workspace, call->out.data, c};
    berth_cpu_parallel(call, (size_t)berth_tensor_rows(&call->in[0]), 1 + BERTH_CPU_GRAIN / (c + 1), scale_add_rows,
                       &job);
}

/* ---- rope ------------------------------------------------------------------------------------------------------- */

typedef struct rope_job {
    const float *x, *table; /* [n, heads, 2 * half], [n, 2, half] */
    float *y;
    size_t heads, half;
} rope_job;

static void rope_tokens(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const rope_job *job = arg;
    size_t half = job->half;
    for (size_t row = begin * job->heads; row < end * job->heads; row++) {
        const float *cosine = job->table + row / job->heads * 2 * half, *sine = cosine + half;
        const float *x = job->x + row * 2 * half;
        float *y = job->y + row * 2 * half;
        size_t j = 0;
        for (; j + BERTH_LANES <= half; j += BERTH_LANES) {
            vf a = v_load(x + j), b = v_load(x + half + j), c = v_load(cosine + j), s = v_load(sine + j);
            v_store(y + j, v_fma(a, c, -(b * s)));
            v_store(y + half + j, v_fma(b, c, a * s));
        }
        for (; j < half; j++) {
            float a = x[j], b = x[half + j];
            y[j] = a * cosine[j] - b * sine[j];
            y[half + j] = b * cosine[j] + a * sine[j];
        }
    }
}

static void rope(const berth_op_call *call)
{
    size_t n = (size_t)call->in[1].dims[0], half = (size_t)berth_tensor_last(&call->in[1]);
    if (!n) return;
    size_t heads = (size_t)berth_tensor_elements(&call->in[0]) / (n * 2 * half);
    rope_job job = {call->in[0].data, call->in[1].data, call->out.data, heads, half};
    berth_cpu_parallel(call, n, 1 + BERTH_CPU_GRAIN / (1 + heads * 2 * half), rope_tokens, &job);
}

#endif
