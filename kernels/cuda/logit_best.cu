/* logit_best.cu - the largest logits of a row in order, and the sum of its exponentials: what choosing a token takes of a row whose rest stays on the GPU.
 *
 * A block takes 8,192 logits, 32 a thread, and a second kernel joins what the row's blocks found, by the same three steps. The 128th largest of 256 threads'
 * largest is a threshold that at least 128 logits reach; some 180 do where they lie by chance, and 128 threads' 32 at most, which is the room in shared memory.
 * Those are gathered by a sum over the block and sorted. A logit is compared by a key of 64 bits, its value above its place, so no two are equal and neither
 * the order of gathering nor that of blocks shows. */
#include "kernels/cuda/device.cuh"

typedef unsigned long long best_key;
enum { KEPT = (int)BERTH_CUDA_LOGITS / (int)BERTH_CUDA_THREADS, LIST = (int)BERTH_CUDA_BEST * KEPT };

/* Larger for larger values, and of equal ones for the lower index. Zeros have no sign; 0 is less than any. */
__device__ __forceinline__ best_key key_of(float x, int at)
{
    const unsigned u = __float_as_uint(x + 0.0f);
    return (best_key)(u >> 31 ? ~u : u | 0x80000000u) << 32 | ~(unsigned)at;
}
__device__ __forceinline__ float value_of(best_key key)
{
    const unsigned u = (unsigned)(key >> 32);
    return key ? __uint_as_float(u >> 31 ? u & 0x7fffffffu : ~u) : -1.0f / 0.0f;
}
__device__ __forceinline__ int place_of(best_key key)
{
    return key ? (int)~(unsigned)key : -1;
}

/* Bitonic; n is a power of two. Begins and ends with a barrier, and has one after each round, in which no two threads have a key in common. */
__device__ __forceinline__ void sort_descending(best_key *keys, int n)
{
    __syncthreads();
    for (int size = 2; size <= n; size *= 2)
        for (int stride = size / 2; stride > 0; stride /= 2) {
            for (int i = (int)threadIdx.x; i < n / 2; i += (int)blockDim.x) {
                const int low = 2 * i - (i & (stride - 1)), high = low + stride;
                const best_key a = keys[low], b = keys[high];
                if ((a < b) == ((low & size) == 0)) keys[low] = b, keys[high] = a;
            }
            __syncthreads();
        }
}

/* How many items the threads before this one have, and in *total all. `scratch` [blockDim / 32]; the first barrier makes the warps' sums seen, the second lets
 * scratch be used again. */
__device__ __forceinline__ int items_before(int items, int *scratch, int *total)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int upto = items, before = 0;
    for (int lanes = 1; lanes < 32; lanes *= 2) {
        const int o = __shfl_sync(0xffffffffu, upto, lane >= lanes ? lane - lanes : lane);
        if (lane >= lanes) upto += o;
    }
    if (lane == 31) scratch[warp] = upto;
    __syncthreads();
    *total = 0;
    for (int w = 0; w < (int)blockDim.x / 32; w++) {
        if (w < warp) before += scratch[w];
        *total += scratch[w];
    }
    __syncthreads();
    return before + upto - items;
}

/* The block's best keys to keys[0 .. BERTH_CUDA_BEST), in order, 0 behind the last; seen by all threads. own(i) is the thread's i-th key, 0: none. shared: LIST
 * keys, then 32 words. */
template <class F> __device__ __forceinline__ void keep_best(best_key *keys, F own)
{
    best_key most = 0;
#pragma unroll
    for (int i = 0; i < KEPT; i++) most = max(most, own(i));
    keys[threadIdx.x] = most;
    sort_descending(keys, (int)blockDim.x);
    const best_key threshold = max(keys[BERTH_CUDA_BEST - 1], (best_key)1);
    int items = 0, total;
#pragma unroll
    for (int i = 0; i < KEPT; i++) items += own(i) >= threshold;
    int at = items_before(items, (int *)(keys + LIST), &total); /* its barriers: all have read the threshold */
#pragma unroll
    for (int i = 0; i < KEPT; i++)
        if (own(i) >= threshold) keys[at++] = own(i);
    int n = BERTH_CUDA_BEST;
    while (n < total) n *= 2;
    for (int i = total + (int)threadIdx.x; i < n; i += (int)blockDim.x) keys[i] = 0;
    sort_descending(keys, n);
}

/* Block (part, row). */
BERTH_KERNEL(logit_best_parts, berth_cuda_logit_best)
{
    best_key *keys = (best_key *)berth_shared;
    const int first = (int)blockIdx.x * BERTH_CUDA_LOGITS + (int)threadIdx.x * RUN;
    const long long row = (long long)a.rows[blockIdx.y] * a.v, part = (long long)blockIdx.y * a.n_parts + blockIdx.x;
    float x[KEPT / RUN][RUN];
    const auto place = [&](int i) { return first + i / RUN * BERTH_CUDA_THREADS * RUN + i % RUN; };
#pragma unroll
    for (int k = 0; k < KEPT / RUN; k++)
        if (place(k * RUN) < a.v) load_run(a.x, row + place(k * RUN), a.v - place(k * RUN), a.v % RUN == 0, x[k]);
    keep_best(keys, [&](int i) { return place(i) < a.v ? key_of(x[i / RUN][i % RUN], place(i)) : (best_key)0; });
    if (threadIdx.x < BERTH_CUDA_BEST) a.keys[part * BERTH_CUDA_BEST + threadIdx.x] = keys[threadIdx.x];
    const float top = value_of(keys[0]), scale = a.scales[blockIdx.y];
    float sum = 0;
#pragma unroll
    for (int i = 0; i < KEPT; i++)
        if (place(i) < a.v) sum += expf((x[i / RUN][i % RUN] - top) * scale);
    sum = block_sum(sum, (float *)(keys + LIST));
    if (threadIdx.x == 0) a.seen[2 * part] = top, a.seen[2 * part + 1] = sum;
}

/* Block (row). */
BERTH_KERNEL(logit_best_join, berth_cuda_logit_best)
{
    best_key *keys = (best_key *)berth_shared;
    const int thread = (int)threadIdx.x, n = a.n_parts * BERTH_CUDA_BEST;
    const best_key *of_row = a.keys + (long long)blockIdx.x * n;
    const float *seen = a.seen + 2LL * blockIdx.x * a.n_parts;
    float *y = a.y + (long long)blockIdx.x * BERTH_CUDA_BEST_ROW;
    best_key own[KEPT];
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        const int at = i * BERTH_CUDA_THREADS + thread;
        own[i] = at < n ? of_row[at] : 0;
    }
    keep_best(keys, [&](int i) { return own[i]; });
    const float top = value_of(keys[0]);
    float sum = 0;
    if (thread < a.n_parts) sum = seen[2 * thread + 1] * expf((seen[2 * thread] - top) * a.scales[blockIdx.x]);
    sum = block_sum(sum, (float *)(keys + LIST));
    if (thread < BERTH_CUDA_BEST_HEAD) y[thread] = thread == 0 ? sum : 0.0f;
    if (thread >= BERTH_CUDA_BEST) return;
    y[BERTH_CUDA_BEST_HEAD + thread] = value_of(keys[thread]);
    y[BERTH_CUDA_BEST_HEAD + BERTH_CUDA_BEST + thread] = (float)place_of(keys[thread]);
}
