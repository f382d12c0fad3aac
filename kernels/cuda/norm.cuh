/* norm.cuh - a norm's sums and its elements, one text for norm.cu and for products that norm their rows themselves: the same order, the same roundings, so the
 * same bits. */
#ifndef BERTH_CUDA_NORM_CUH
#define BERTH_CUDA_NORM_CUH

#include "kernels/cuda/device.cuh"

/* A run's squares of the distance from `mean`, added to `sum` in order; only `left` elements are there. */
__device__ __forceinline__ float add_squares(float sum, const float (&v)[RUN], float mean, int left)
{
#pragma unroll
    for (int j = 0; j < RUN; j++)
        if (j < left) sum = fmaf(v[j] - mean, v[j] - mean, sum);
    return sum;
}

__device__ __forceinline__ float norm_scale(float squares, int c, float eps)
{
    return 1.0f / sqrtf(squares / (float)c + eps);
}

__device__ __forceinline__ float normed(float v, float mean, float scale, float w, float b)
{
    return fmaf((v - mean) * scale, w, b);
}

/* Bytes from one row to the next: four groups of banks further, so that the rows of one access of tensor cores' operands lie side by side. */
__device__ __forceinline__ int normed_pitch(int c, int element_bytes)
{
    return c * element_bytes + BERTH_CUDA_NORMED_PAD;
}

/* RMSNorm of x [rows, c] into shared memory, as T. c is a multiple of a run; the block has the threads that norm.cu would have. `scratch`: NORM_SUMS floats a row, free
 * again behind the last barrier, which also makes the rows seen. Rows go four at a time: their reads wait together, and the second ones find them in L1. */
template <class T>
__device__ __forceinline__ void norm_rows(char *to, float *scratch, const berth_cuda_in &x, const berth_cuda_in &w,
                                          int rows, int c, float eps)
{
    enum { TOGETHER = 4, WARPS = BERTH_CUDA_NORM_SUMS };
    const int step = (int)blockDim.x * RUN, begin = (int)threadIdx.x * RUN, pitch = normed_pitch(c, sizeof(T));
    const int warp = (int)threadIdx.x / 32, warps = (int)blockDim.x / 32;
    for (int first = 0; first < rows; first += TOGETHER) {
        float squares[TOGETHER] = {};
        for (int i = begin; i < c; i += step) {
            raw_run raw[TOGETHER];
#pragma unroll
            for (int r = 0; r < TOGETHER; r++)
                if (first + r < rows) raw[r] = fetch_run(x, (long long)(first + r) * c + i);
#pragma unroll
            for (int r = 0; r < TOGETHER; r++) {
                float v[RUN];
                if (first + r >= rows) continue;
                widen_run(raw[r], x.dtype, v);
                squares[r] = add_squares(squares[r], v, 0.0f, RUN);
            }
        }
#pragma unroll
        for (int r = 0; r < TOGETHER; r++) {
            squares[r] = warp_sum(squares[r]);
            if (threadIdx.x % 32 == 0 && first + r < rows) scratch[(first + r) * WARPS + warp] = squares[r];
        }
    }
    __syncthreads();
    for (int i = begin; i < c; i += step) {
        float of_w[RUN];
        load_run(w, i, RUN, true, of_w);
        for (int r = 0; r < rows; r++) {
            float sum = 0, v[RUN], y[RUN];
            for (int k = 0; k < warps; k++) sum += scratch[r * WARPS + k]; /* as block_sum */
            const float scale = norm_scale(sum, c, eps);
            load_run(x, (long long)r * c + i, RUN, true, v);
#pragma unroll
            for (int j = 0; j < RUN; j++) y[j] = normed(v[j], 0.0f, scale, of_w[j], 0.0f);
            T *at = (T *)(to + r * pitch) + i;
#pragma unroll
            for (int j = 0; j < RUN; j += 16 / (int)sizeof(T)) store_16_bytes(at + j, pack(y + j, at));
        }
    }
    __syncthreads();
}

/* The product that a block of linear_normed_* works for, and the first block that does. Chosen, not indexed: arguments lie in registers. */
__device__ __forceinline__ berth_cuda_product product_of(const berth_cuda_normed_linear &a, int block)
{
    return block < a.of[0].end_block ? a.of[0] : block < a.of[1].end_block ? a.of[1] : a.of[2];
}
__device__ __forceinline__ int product_begin(const berth_cuda_normed_linear &a, int block)
{
    return block < a.of[0].end_block ? 0 : block < a.of[1].end_block ? a.of[0].end_block : a.of[1].end_block;
}

#endif
