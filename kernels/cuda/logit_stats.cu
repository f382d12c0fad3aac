/* logit_stats.cu - what must be known of a row of logits before it may choose a token: the columns of berth_logit_stat. A block takes 8,192
 * logits of a row (a row of 151,936 so keeps 19 blocks busy), and a second kernel joins what they saw; the order of joining does not matter. */
#include "kernels/cuda/device.cuh"

typedef berth_cuda_logit_seen logit_seen;

/* Positions start past the end, and the smallest and largest as NaN: nothing seen. */
__device__ __forceinline__ logit_seen nothing_seen()
{
    const float nothing = __uint_as_float(0x7fc00000u);
    const logit_seen s = {0, 0, 0x7fffffff, 0x7fffffff, nothing, nothing};
    return s;
}

/* Keeps the larger value, and of equal ones the lower index, so the order of joining does not matter. */
__device__ __forceinline__ void join(logit_seen &s, const logit_seen &o)
{
    s.n_nan += o.n_nan;
    s.n_inf += o.n_inf;
    s.first_nan = min(s.first_nan, o.first_nan);
    if (o.low < s.low || s.low != s.low) s.low = o.low;
    if (o.high > s.high || s.high != s.high || (o.high == s.high && o.best < s.best)) s.high = o.high, s.best = o.best;
}

__device__ __forceinline__ logit_seen from_lane(const logit_seen &s, int lanes)
{
    logit_seen o;
    o.n_nan = __shfl_xor_sync(0xffffffffu, s.n_nan, lanes);
    o.n_inf = __shfl_xor_sync(0xffffffffu, s.n_inf, lanes);
    o.first_nan = __shfl_xor_sync(0xffffffffu, s.first_nan, lanes);
    o.best = __shfl_xor_sync(0xffffffffu, s.best, lanes);
    o.low = __shfl_xor_sync(0xffffffffu, s.low, lanes);
    o.high = __shfl_xor_sync(0xffffffffu, s.high, lanes);
    return o;
}

__device__ __forceinline__ void see(logit_seen &s, float x, int at)
{
    const bool is_nan = x != x, is_inf = x == 1.0f / 0.0f || x == -1.0f / 0.0f;
    const logit_seen one = {is_nan, is_inf, is_nan ? at : 0x7fffffff, is_nan ? 0x7fffffff : at, x, x};
    join(s, one);
}

/* Joins what the block's threads saw, in thread 0. shared: one logit_seen a warp; the barrier makes them seen by thread 0. */
__device__ __forceinline__ void join_block(logit_seen &s)
{
    logit_seen *of_warp = (logit_seen *)berth_shared;
    for (int lanes = 16; lanes > 0; lanes /= 2) join(s, from_lane(s, lanes));
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = s;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (unsigned w = 1; w < blockDim.x / 32; w++) join(s, of_warp[w]);
}

/* Block (part, row). */
BERTH_KERNEL(logit_stats_parts, berth_cuda_logit_stats)
{
    const int first = (int)blockIdx.x * BERTH_CUDA_LOGITS, end = min(first + (int)BERTH_CUDA_LOGITS, a.v);
    logit_seen s = nothing_seen();
    for (int i = first + (int)threadIdx.x * RUN; i < end; i += (int)blockDim.x * RUN) {
        float v[RUN];
        load_run(a.x, (long long)blockIdx.y * a.v + i, end - i, a.v % RUN == 0, v);
#pragma unroll
        for (int j = 0; j < RUN; j++)
            if (i + j < end) see(s, v[j], i + j);
    }
    join_block(s);
    if (threadIdx.x == 0) a.parts[(long long)blockIdx.y * a.n_parts + blockIdx.x] = s;
}

/* Block (row): one warp. */
BERTH_KERNEL(logit_stats_join, berth_cuda_logit_stats)
{
    logit_seen s = nothing_seen();
    for (int i = (int)threadIdx.x; i < a.n_parts; i += (int)blockDim.x)
        join(s, a.parts[(long long)blockIdx.x * a.n_parts + i]);
    join_block(s);
    if (threadIdx.x != 0) return;
    const float columns[8] = {
        (float)s.n_nan, (float)s.n_inf, s.low, s.high, (float)(s.n_nan ? s.first_nan : s.best), 0, 0, 0};
    const berth_cuda_out y = {a.y, BERTH_CUDA_F32};
    store_run(y, 8LL * blockIdx.x, RUN, true, columns);
}
