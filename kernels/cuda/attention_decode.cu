/* attention_decode.cu - attention over a paged key-value cache for few tokens: the context is cut into splits of fixed length, each block takes one, and a
 * second kernel merges them. Splits do not depend on the call's other tokens, so neither do a token's bits. Reading keys and values is the limit; each
 * is read once for all query heads of its group, eight at a time.
 * Source: the split-KV scheme of Flash-Decoding; the merge is the online softmax's (Milakov & Gimelshein 2018). */
#include "kernels/cuda/device.cuh"

enum { KEY_LANES = 8 };

/* Where position `pos` of the token's sequence lies in the cache: its k row; the v row is `part` elements behind. */
template <class K> struct paged_rows {
    const K *base; /* of the kv head */
    const int *table;
    int block, d;
    long long block_elements; /* of k and v together */

    __device__ __forceinline__ const K *key(int pos) const
    {
        return base + (long long)table[pos / block] * block_elements + (long long)(pos % block) * d;
    }
};

/* Shared memory: q [HEADS, d], scores [HEADS, SPLIT]. */
struct decode_shared {
    float *q, *scores;
};

/* Scores of `count` positions: eight lanes a position, each with every eighth run of d, so four positions a warp are in flight and a sum is three shuffles. */
template <class K>
__device__ __forceinline__ void decode_scores(const decode_shared &s, const paged_rows<K> &rows, int first, int count,
                                              int n_heads, float scale)
{
    const int part = (int)threadIdx.x % KEY_LANES, d = rows.d, step = (int)blockDim.x / KEY_LANES;
    for (int p0 = 0; p0 < count; p0 += step) { /* the whole block alike: its lanes meet in shuffles */
        const int p = p0 + (int)threadIdx.x / KEY_LANES;
        const K *k = rows.key(first + min(p, count - 1));
        float sums[BERTH_CUDA_HEADS] = {};
        for (int i = part * RUN; i < d; i += KEY_LANES * RUN) {
            float x[RUN];
            if (d % RUN == 0)
                load_whole_run(k + i, x);
            else
                for (int j = 0; j < RUN; j++) x[j] = i + j < d ? widen(k[i + j]) : 0.0f;
#pragma unroll
            for (int h = 0; h < BERTH_CUDA_HEADS; h++)
#pragma unroll
                for (int j = 0; j < RUN; j++)
                    if (h < n_heads && i + j < d) sums[h] = fmaf(s.q[h * d + i + j], x[j], sums[h]);
        }
#pragma unroll
        for (int h = 0; h < BERTH_CUDA_HEADS; h++) {
            if (h >= n_heads) break;
#pragma unroll
            for (int lanes = KEY_LANES / 2; lanes > 0; lanes /= 2)
                sums[h] += __shfl_xor_sync(0xffffffffu, sums[h], lanes);
            if (part == 0 && p < count) s.scores[h * BERTH_CUDA_SPLIT + p] = sums[h] * scale;
        }
    }
}

/* Turns scores into exp(score - max), a warp a head, and leaves max and sum behind the head's partial result. */
__device__ __forceinline__ void decode_weights(const decode_shared &s, int count, int n_heads, float *partial,
                                               long long head_stride, int d)
{
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    for (int h = warp; h < n_heads; h += (int)blockDim.x / 32) {
        float *scores = s.scores + h * BERTH_CUDA_SPLIT, top = -1.0f / 0.0f, sum = 0;
        for (int p = lane; p < count; p += 32) top = fmaxf(top, scores[p]);
        for (int lanes = 16; lanes > 0; lanes /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, lanes));
        for (int p = lane; p < count; p += 32) {
            const float e = expf(scores[p] - top);
            scores[p] = e;
            sum += e;
        }
        sum = warp_sum(sum);
        if (lane == 0) partial[h * head_stride + d] = top, partial[h * head_stride + d + 1] = sum;
    }
}

/* Sums of weight * value: a thread a column, all heads at once. */
template <class K>
__device__ __forceinline__ void decode_values(const decode_shared &s, const paged_rows<K> &rows, int first, int count,
                                              int n_heads, float *partial, long long head_stride)
{
    const long long to_value = rows.block_elements / 2;
    for (int i = (int)threadIdx.x; i < rows.d; i += (int)blockDim.x) {
        float sums[BERTH_CUDA_HEADS] = {};
        for (int p = 0; p < count; p++) {
            const float v = widen(rows.key(first + p)[to_value + i]);
#pragma unroll
            for (int h = 0; h < BERTH_CUDA_HEADS; h++)
                if (h < n_heads) sums[h] = fmaf(s.scores[h * BERTH_CUDA_SPLIT + p], v, sums[h]);
        }
#pragma unroll
        for (int h = 0; h < BERTH_CUDA_HEADS; h++)
            if (h < n_heads) partial[h * head_stride + i] = sums[h];
    }
}

/* Block (split, kv head, token). Barriers: q before scores, scores before weights, weights before values, values before the next heads' q. */
template <class K> __device__ __forceinline__ void decode_split(const berth_cuda_attention_paged &a)
{
    const int split = (int)blockIdx.x, kv_head = (int)blockIdx.y, token = (int)blockIdx.z, group = a.heads / a.kv_heads;
    const int first = split * BERTH_CUDA_SPLIT, count = min(a.positions[token] + 1 - first, (int)BERTH_CUDA_SPLIT);
    if (count <= 0) return; /* the whole block: the sequence ends before this split */
    const decode_shared s = {(float *)berth_shared, (float *)berth_shared + BERTH_CUDA_HEADS * a.d};
    const long long head_elements = (long long)a.block * a.d;
    const paged_rows<K> rows = {(const K *)a.kv + kv_head * head_elements,
                                a.block_table + (long long)a.token_seq[token] * a.max_blocks, a.block, a.d,
                                2 * a.kv_heads * head_elements};
    const long long head_stride = (long long)a.n_splits * (a.d + 2);
    for (int h = 0; h < group; h += BERTH_CUDA_HEADS) {
        const int n_heads = min(group - h, (int)BERTH_CUDA_HEADS);
        const long long head = (long long)token * a.heads + kv_head * group + h;
        float *partial = a.partial + head * head_stride + (long long)split * (a.d + 2);
        for (int i = (int)threadIdx.x; i < n_heads * a.d; i += (int)blockDim.x) s.q[i] = load_one(a.q, head * a.d + i);
        __syncthreads();
        decode_scores(s, rows, first, count, n_heads, a.scale);
        __syncthreads();
        decode_weights(s, count, n_heads, partial, head_stride, a.d);
        __syncthreads();
        decode_values(s, rows, first, count, n_heads, partial, head_stride);
        __syncthreads();
    }
}

/* Block (head, token), a thread a column: splits in order, each scaled to the largest maximum. */
BERTH_KERNEL(attention_merge, berth_cuda_attention_paged)
{
    const int n = a.positions[blockIdx.y] / BERTH_CUDA_SPLIT + 1, stride = a.d + 2;
    const long long head = (long long)blockIdx.y * a.heads + blockIdx.x;
    const float *partial = a.partial + head * a.n_splits * stride;
    float top = -1.0f / 0.0f, sum = 0;
    for (int i = 0; i < n; i++) top = fmaxf(top, partial[(long long)i * stride + a.d]);
    for (int i = 0; i < n; i++)
        sum = fmaf(partial[(long long)i * stride + a.d + 1], expf(partial[(long long)i * stride + a.d] - top), sum);
    for (int c = (int)threadIdx.x; c < a.d; c += (int)blockDim.x) {
        float o = 0;
        for (int i = 0; i < n; i++)
            o = fmaf(partial[(long long)i * stride + c], expf(partial[(long long)i * stride + a.d] - top), o);
        store_one(a.o, head * a.d + c, o / sum);
    }
}

#define DECODE(K)                                                                                                      \
    BERTH_KERNEL(attention_decode_##K, berth_cuda_attention_paged)                                                     \
    {                                                                                                                  \
        decode_split<K>(a);                                                                                            \
    }
BERTH_FOR_DTYPES(DECODE)
