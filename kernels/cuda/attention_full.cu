/* attention_full.cu - softmax attention inside each tile, keys in tiles with the online softmax, fp32 products on the ordinary units.
 * Source: Dao et al. 2022 (FlashAttention), algorithm 1. */
#include "kernels/cuda/device.cuh"

enum {
    TILE = BERTH_CUDA_TILE,
    OF_ROW = BERTH_CUDA_ATTENTION_THREADS / BERTH_CUDA_TILE,
    COLUMNS = BERTH_CUDA_MAX_HEAD / OF_ROW
};

/* Rows [first, first + TILE) of one head into shared memory [TILE, d + 1]; rows past the end are 0. The odd pitch keeps a column's reads off one bank. */
__device__ __forceinline__ void load_tile(float *to, const berth_cuda_in &from, long long base, int first, int rows,
                                          int d, int row_stride)
{
    const int runs = (d + RUN - 1) / RUN;
    for (int i = (int)threadIdx.x; i < TILE * runs; i += (int)blockDim.x) {
        const int row = i / runs, column = i % runs * RUN, left = first + row < rows ? d - column : 0;
        float v[RUN];
        load_run(from, base + (long long)(first + row) * row_stride + column, left, d % RUN == 0, v);
#pragma unroll
        for (int j = 0; j < RUN; j++)
            if (column + j < d) to[row * (d + 1) + column + j] = v[j];
    }
}

__device__ __forceinline__ float row_max(float v)
{
    for (int lanes = OF_ROW / 2; lanes > 0; lanes /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, lanes));
    return v;
}

__device__ __forceinline__ float row_sum(float v)
{
    for (int lanes = OF_ROW / 2; lanes > 0; lanes /= 2) v += __shfl_xor_sync(0xffffffffu, v, lanes);
    return v;
}

/* Four neighbouring threads hold a query's state: its maximum, its denominator, and every fourth column of its output. */
struct online_row {
    float top, sum, o[COLUMNS];
};

/* Scores of one tile of keys for this thread's query (keys part, part + 4, ...), into weights; the output so far is scaled to the new maximum. */
__device__ __forceinline__ void take_scores(online_row &r, const float *q, const float *keys, float *weights,
                                            int n_keys, int d, int part, float scale)
{
    float scores[TILE / OF_ROW], top = r.top, sum = 0;
#pragma unroll
    for (int j = 0; j < TILE / OF_ROW; j++) {
        const float *k = keys + (part + j * OF_ROW) * (d + 1);
        float s = 0;
        for (int i = 0; i < d; i++) s = fmaf(q[i], k[i], s);
        scores[j] = part + j * OF_ROW < n_keys ? s * scale : -1.0f / 0.0f;
        top = fmaxf(top, scores[j]);
    }
    top = row_max(top); /* finite: a tile has at least one key */
#pragma unroll
    for (int j = 0; j < TILE / OF_ROW; j++) {
        const float e = expf(scores[j] - top);
        weights[part + j * OF_ROW] = e;
        sum += e;
    }
    const float old = expf(r.top - top);
    r.sum = fmaf(r.sum, old, row_sum(sum));
    r.top = top;
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) r.o[c] *= old;
}

__device__ __forceinline__ void take_values(online_row &r, const float *weights, const float *values, int n_keys, int d,
                                            int part)
{
    for (int p = 0; p < n_keys; p++) {
        const float w = weights[p];
#pragma unroll
        for (int c = 0; c < COLUMNS; c++)
            if (part + c * OF_ROW < d) r.o[c] = fmaf(w, values[p * (d + 1) + part + c * OF_ROW], r.o[c]);
    }
}

/* Block (tile of queries, head, image tile), 128 threads. Shared: q, keys or values [TILE, d + 1] each, weights [TILE, TILE + 1]. Barriers: the tile
 * of keys before it is used, and before values replace it; weights belong to the four threads of a query, all in one warp. */
BERTH_KERNEL(attention_full_any, berth_cuda_attention_full)
{
    float *q = (float *)berth_shared, *tile = q + TILE * (a.d + 1), *all_weights = tile + TILE * (a.d + 1);
    const int row = (int)threadIdx.x / OF_ROW, part = (int)threadIdx.x % OF_ROW, first = (int)blockIdx.x * TILE;
    const int row_stride = a.heads * a.d;
    const long long base = (long long)blockIdx.z * a.rows * row_stride + (long long)blockIdx.y * a.d;
    float *weights = all_weights + row * (TILE + 1);
    online_row r = {-1.0f / 0.0f, 0, {}};
    load_tile(q, a.q, base, first, a.rows, a.d, row_stride);
    for (int key = 0; key < a.rows; key += TILE) {
        const int n_keys = min(a.rows - key, (int)TILE);
        load_tile(tile, a.k, base, key, a.rows, a.d, row_stride);
        __syncthreads();
        take_scores(r, q + row * (a.d + 1), tile, weights, n_keys, a.d, part, a.scale);
        __syncthreads();
        load_tile(tile, a.v, base, key, a.rows, a.d, row_stride);
        __syncthreads();
        take_values(r, weights, tile, n_keys, a.d, part);
        __syncthreads();
    }
    if (first + row >= a.rows) return;
    const long long o = base + (long long)(first + row) * row_stride;
#pragma unroll
    for (int c = 0; c < COLUMNS; c++)
        if (part + c * OF_ROW < a.d) store_one(a.o, o + part + c * OF_ROW, r.o[c] / r.sum);
}
