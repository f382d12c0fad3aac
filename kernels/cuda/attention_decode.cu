/* attention_decode.cu - attention over a paged key-value cache on the ordinary units, for what tensor cores do not take: a token's context is cut into splits of
 * fixed length, each block takes one, and a second kernel joins them in order, those of attention_tensor.cu too. Calls of many tokens give all splits of a token to one block, which joins them in
 * the same order. Splits do not depend on the call's other tokens, so neither do a token's bits. Reading keys and values is the limit; each is read once for all
 * query heads of its group, eight at a time.
 * Source: the split-KV scheme of Flash-Decoding. */
#include "kernels/cuda/softmax.cuh"

enum { KEY_LANES = 8, AHEAD = 4 }; /* positions of a thread that are read before the first is used */

/* Where position `pos` of the token's sequence lies in the cache: its k row; the v row is half a block's elements behind. */
template <class K> struct paged_rows {
    const K *base; /* of the kv head */
    const int *table;
    int block, d;
    unsigned per_block;
    long long block_elements; /* of k and v together */

    __device__ __forceinline__ const K *key(int pos) const
    {
        const int nth = per_block ? (int)__umulhi((unsigned)pos, per_block) : pos; /* pos / block */
        return base + (long long)table[nth] * block_elements + (long long)(pos - nth * block) * d;
    }
    __device__ __forceinline__ const K *value(int pos) const { return key(pos) + block_elements / 2; }

    /* Eight elements of a row from column i on; those past its end are 0. */
    __device__ __forceinline__ void load(const K *row, int i, float (&x)[RUN]) const
    {
        if (d % RUN == 0)
            load_whole_run(row + i, x);
        else
            for (int j = 0; j < RUN; j++) x[j] = i + j < d ? widen(row[i + j]) : 0.0f;
    }
};

/* Shared memory: q [HEADS, pitch], scores [HEADS, SPLIT], what each head saw of the split, two heads' sums of values [threads, RUN]. `pitch`: d in whole runs, the
 * rest of q is 0. */
struct decode_shared {
    float *q, *scores, *sums;
    softmax_seen *seen;
    int pitch;
};

/* Scores of `count` positions: eight lanes a position, each with every eighth run of d, so a sum is three shuffles. */
template <class K>
__device__ __forceinline__ void decode_scores(const decode_shared &s, const paged_rows<K> &rows, int first, int count,
                                              int n_heads, float scale)
{
    const int part = (int)threadIdx.x % KEY_LANES, step = (int)blockDim.x / KEY_LANES;
    for (int p0 = 0; p0 < count; p0 += AHEAD * step) { /* the whole block alike: its lanes meet in shuffles */
        const int p = p0 + (int)threadIdx.x / KEY_LANES;
        const K *keys[AHEAD];
        float sums[AHEAD][BERTH_CUDA_HEADS] = {};
#pragma unroll
        for (int n = 0; n < AHEAD; n++) keys[n] = rows.key(first + min(p + n * step, count - 1));
        for (int i = part * RUN; i < s.pitch; i += KEY_LANES * RUN) {
            float x[AHEAD][RUN], q[RUN];
#pragma unroll
            for (int n = 0; n < AHEAD; n++) rows.load(keys[n], i, x[n]);
#pragma unroll
            for (int h = 0; h < BERTH_CUDA_HEADS; h++) {
                if (h >= n_heads) break;
                load_whole_run(s.q + h * s.pitch + i, q);
#pragma unroll
                for (int n = 0; n < AHEAD; n++)
#pragma unroll
                    for (int j = 0; j < RUN; j++) sums[n][h] = fmaf(q[j], x[n][j], sums[n][h]);
            }
        }
#pragma unroll
        for (int h = 0; h < BERTH_CUDA_HEADS; h++) {
            if (h >= n_heads) break;
#pragma unroll
            for (int n = 0; n < AHEAD; n++) {
#pragma unroll
                for (int lanes = KEY_LANES / 2; lanes > 0; lanes /= 2)
                    sums[n][h] += __shfl_xor_sync(0xffffffffu, sums[n][h], lanes);
                if (part == 0 && p + n * step < count)
                    s.scores[h * BERTH_CUDA_SPLIT + p + n * step] = sums[n][h] * scale;
            }
        }
    }
}

/* Turns scores into exp(score - max), a warp a head. */
__device__ __forceinline__ void decode_weights(const decode_shared &s, int count, int n_heads)
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
        if (lane == 0) s.seen[h].top = top, s.seen[h].sum = sum;
    }
}

/* Sums of weight * value of all heads: a thread has a run of columns of every so many-th position. */
template <class K>
__device__ __forceinline__ void decode_runs(const decode_shared &s, const paged_rows<K> &rows, int first, int count,
                                            int n_heads, float (&sums)[BERTH_CUDA_HEADS][RUN])
{
    const int runs = s.pitch / RUN, step = (int)blockDim.x / runs, i = (int)threadIdx.x % runs * RUN;
    const int group = (int)threadIdx.x / runs;
    for (int p0 = group < step ? group : count; p0 < count; p0 += AHEAD * step) {
        float x[AHEAD][RUN];
#pragma unroll
        for (int n = 0; n < AHEAD; n++) rows.load(rows.value(first + min(p0 + n * step, count - 1)), i, x[n]);
#pragma unroll
        for (int n = 0; n < AHEAD; n++) {
            if (p0 + n * step >= count) break;
#pragma unroll
            for (int h = 0; h < BERTH_CUDA_HEADS; h++) {
                if (h >= n_heads) break;
                const float weight = s.scores[h * BERTH_CUDA_SPLIT + p0 + n * step];
#pragma unroll
                for (int j = 0; j < RUN; j++) sums[h][j] = fmaf(weight, x[n][j], sums[h][j]);
            }
        }
    }
}

/* The sums of column threadIdx.x. Two heads' runs are in shared memory in turn: the barrier makes a head's seen by all, and says that all are done with the head
 * before it. */
template <class K>
__device__ __forceinline__ void decode_values(const decode_shared &s, const paged_rows<K> &rows, int first, int count,
                                              int n_heads, float (&sums)[BERTH_CUDA_HEADS])
{
    const int groups = (int)blockDim.x / (s.pitch / RUN), column = (int)threadIdx.x;
    float runs[BERTH_CUDA_HEADS][RUN] = {};
    decode_runs(s, rows, first, count, n_heads, runs);
#pragma unroll
    for (int h = 0; h < BERTH_CUDA_HEADS; h++) {
        if (h >= n_heads) break;
        float *all = s.sums + h % 2 * (int)blockDim.x * RUN;
        store_16_bytes(all + threadIdx.x * RUN, pack(runs[h], (const float *)0));
        store_16_bytes(all + threadIdx.x * RUN + 4, pack(runs[h] + 4, (const float *)0));
        __syncthreads();
        sums[h] = 0;
        for (int g = 0; g < groups && column < rows.d; g++) sums[h] += all[g * s.pitch + column];
    }
}

/* What a thread holds of its column: outputs so far, and what they come from (the same in all threads). */
struct decode_column {
    float o[BERTH_CUDA_HEADS];
    softmax_seen seen[BERTH_CUDA_HEADS];
};

/* One split for up to eight heads from `head` on. Barriers: q or the last split's values before scores, scores before weights, weights before values. */
template <class K>
__device__ __forceinline__ void decode_split(const berth_cuda_attention_paged &a, const decode_shared &s,
                                             const paged_rows<K> &rows, int split, int n_keys, int n_heads,
                                             long long head, decode_column &c)
{
    const int first = split * BERTH_CUDA_SPLIT, count = min(n_keys - first, (int)BERTH_CUDA_SPLIT);
    const int i = (int)threadIdx.x;
    float sums[BERTH_CUDA_HEADS] = {};
    __syncthreads();
    decode_scores(s, rows, first, count, n_heads, a.scale);
    __syncthreads();
    decode_weights(s, count, n_heads);
    __syncthreads();
    decode_values(s, rows, first, count, n_heads, sums);
    if (i >= a.d) return;
#pragma unroll
    for (int h = 0; h < BERTH_CUDA_HEADS; h++) {
        if (h >= n_heads) break;
        c.o[h] = softmax_joined(softmax_join(c.seen[h], s.seen[h]), c.o[h], sums[h]);
        if (a.whole) continue;
        float *partial = a.partial + ((head + h) * a.n_splits + split) * (a.d + 2);
        partial[i] = sums[h];
        if (i == 0) partial[a.d] = s.seen[h].top, partial[a.d + 1] = s.seen[h].sum;
    }
}

/* Block (split, kv head, token), or (0, kv head, token) for all splits of the token. A thread has a column. */
template <class K> __device__ __forceinline__ void decode(const berth_cuda_attention_paged &a)
{
    const int kv_head = (int)blockIdx.y, token = (int)blockIdx.z, group = a.heads / a.kv_heads;
    const int n_keys = a.positions[token] + 1, first = a.whole ? 0 : (int)blockIdx.x;
    const int end = a.whole ? (n_keys + BERTH_CUDA_SPLIT - 1) / BERTH_CUDA_SPLIT : first + 1;
    if (first * BERTH_CUDA_SPLIT >= n_keys) return; /* the whole block: the sequence ends before this split */
    const int pitch = (a.d + RUN - 1) / RUN * RUN;
    float *q = (float *)berth_shared, *scores = q + BERTH_CUDA_HEADS * pitch;
    float *seen = scores + BERTH_CUDA_HEADS * BERTH_CUDA_SPLIT;
    const decode_shared s = {q, scores, seen + 2 * BERTH_CUDA_HEADS, (softmax_seen *)seen, pitch};
    const long long head_elements = (long long)a.block * a.d;
    const paged_rows<K> rows = {(const K *)a.kv + kv_head * head_elements,
                                a.block_table + (long long)a.token_seq[token] * a.max_blocks,
                                a.block,
                                a.d,
                                a.per_block,
                                2 * a.kv_heads * head_elements};
    for (int h0 = 0; h0 < group; h0 += BERTH_CUDA_HEADS) {
        const int n_heads = min(group - h0, (int)BERTH_CUDA_HEADS);
        const long long head = (long long)token * a.heads + kv_head * group + h0;
        decode_column c;
#pragma unroll
        for (int h = 0; h < BERTH_CUDA_HEADS; h++) c.o[h] = 0, c.seen[h] = softmax_nothing();
        __syncthreads();
        for (int i = (int)threadIdx.x; i < n_heads * pitch; i += (int)blockDim.x)
            s.q[i] = i % pitch < a.d ? load_one(a.q, (head + i / pitch) * a.d + i % pitch) : 0.0f;
        for (int split = first; split < end; split++) decode_split(a, s, rows, split, n_keys, n_heads, head, c);
#pragma unroll
        for (int h = 0; h < BERTH_CUDA_HEADS; h++)
            if (a.whole && h < n_heads && (int)threadIdx.x < a.d)
                store_one(a.o, (head + h) * a.d + threadIdx.x, c.o[h] / c.seen[h].sum);
    }
}

#define DECODE(K)                                                                                                      \
    BERTH_KERNEL(attention_decode_##K, berth_cuda_attention_paged)                                                     \
    {                                                                                                                  \
        decode<K>(a);                                                                                                  \
    }
BERTH_FOR_DTYPES(DECODE)

/* Block (head, token), a thread a column: splits in order. */
BERTH_KERNEL(attention_merge, berth_cuda_attention_paged)
{
    const int n = a.positions[blockIdx.y] / BERTH_CUDA_SPLIT + 1, stride = a.d + 2;
    const long long head = (long long)blockIdx.y * a.heads + blockIdx.x;
    const float *partial = a.partial + head * a.n_splits * stride;
    for (int c = (int)threadIdx.x; c < a.d; c += (int)blockDim.x) {
        softmax_seen all = softmax_nothing();
        float o = 0;
#pragma unroll 4
        for (int i = 0; i < n; i++) { /* reads ahead of the sums, which wait for each other */
            const float *part = partial + (long long)i * stride;
            const softmax_seen seen = {part[a.d], part[a.d + 1]};
            o = softmax_joined(softmax_join(all, seen), o, part[c]);
        }
        store_one(a.o, head * a.d + c, o / all.sum);
    }
}
