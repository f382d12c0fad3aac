/* rope.cu - rotary positions: the table of a pass, and its use on queries and keys.
 * Easy to get wrong: the angle is the fp32 product, and positions of 32k need cosf's full range reduction (never the fast intrinsics).
 * Source: transformers modeling_qwen2. */
#include "kernels/cuda/device.cuh"

BERTH_KERNEL(rope_table, berth_cuda_rope_table)
{
    long long i = global_thread();
    if (i >= a.n) return;
    const int t = (int)(i / a.half), j = (int)(i % a.half);
    float angle = (float)a.positions[t] * a.inv_freq[(long long)a.token_seq[t] * a.half + j];
    float *y = a.y + 2LL * t * a.half + j;
    y[0] = cosf(angle);
    y[a.half] = sinf(angle);
}

/* A thread takes a run of pairs. y may be x: both of a pair are read before either is written, by one thread. */
BERTH_KERNEL(rope_any, berth_cuda_rope)
{
    const long long i = global_thread();
    if (i >= a.n) return;
    const int runs = (a.half + RUN - 1) / RUN, j = (int)(i % runs) * RUN, left = a.half - j;
    const long long head = i / runs, t = head / a.heads, at = 2 * head * a.half + j;
    const bool aligned = a.half % RUN == 0;
    const berth_cuda_in table = {a.table, BERTH_CUDA_F32};
    float cosine[RUN], sine[RUN], low[RUN], high[RUN], turned[RUN];
    load_run(table, 2 * t * a.half + j, left, aligned, cosine);
    load_run(table, (2 * t + 1) * a.half + j, left, aligned, sine);
    load_run(a.x, at, left, aligned, low);
    load_run(a.x, at + a.half, left, aligned, high);
#pragma unroll
    for (int k = 0; k < RUN; k++) {
        turned[k] = fmaf(low[k], cosine[k], -high[k] * sine[k]);
        high[k] = fmaf(high[k], cosine[k], low[k] * sine[k]);
    }
    store_run(a.y, at, left, aligned, turned);
    store_run(a.y, at + a.half, left, aligned, high);
}
