/* linear.cu - y = x w^T + bias in fp32 on the ordinary units, which keep whole products: a warp takes two outputs and up to eight rows.
 * Lane l takes runs l, l + 32, ... of the inputs and the lanes' sums meet in a fixed tree, so a row's bits do not depend on how many rows stand beside it.
 * Narrow operands go to linear_tensor.cu; many rows in fp32 to cuBLAS. The launch takes any number of rows, eight at a time. */
#include "kernels/cuda/norm.cuh"

/* What becomes of output `out` of a row: its bias, and what is added to it. */
__device__ __forceinline__ void put(const berth_cuda_linear &a, int row, int out, float sum)
{
    const long long at = (long long)row * a.n_out + out;
    if (a.bias.at) sum += load_one(a.bias, out);
    if (a.plus.at) sum = load_one(a.plus, at) + rounded(sum, a.product_dtype);
    store_one(a.y, at, sum);
}

/* Block (outputs, rows): 4 warps; no shared memory. n_in is a multiple of a run. */
template <class T, class W, int R> __device__ __forceinline__ void linear_thin(const berth_cuda_linear &a)
{
    const int OUTS = BERTH_CUDA_LINEAR_WARP_OUTS, lane = (int)threadIdx.x % 32;
    const int first_out = ((int)blockIdx.x * ((int)blockDim.x / 32) + (int)threadIdx.x / 32) * OUTS;
    const int first_row = (int)blockIdx.y * R, last_row = a.rows - 1, last_out = a.n_out - 1;
    if (first_out >= a.n_out) return; /* a whole warp */
    float sums[R][OUTS] = {};
    for (int i = lane * RUN; i < a.n_in; i += 32 * RUN) {
        float w[OUTS][RUN], x[RUN];
#pragma unroll
        for (int o = 0; o < OUTS; o++) /* past the last output: the last one again, not written */
            load_whole_run((const W *)a.w.at + (long long)min(first_out + o, last_out) * a.n_in + i, w[o]);
#pragma unroll
        for (int r = 0; r < R; r++) {
            load_whole_run((const T *)a.x.at + (long long)min(first_row + r, last_row) * a.n_in + i, x);
#pragma unroll
            for (int o = 0; o < OUTS; o++)
#pragma unroll
                for (int j = 0; j < RUN; j++) sums[r][o] = fmaf(x[j], w[o][j], sums[r][o]);
        }
    }
    float own = 0; /* of the one output that the lane writes */
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int o = 0; o < OUTS; o++) {
            const float sum = warp_sum(sums[r][o]);
            if (lane == r * OUTS + o) own = sum;
        }
    const int row = first_row + lane / OUTS, out = first_out + lane % OUTS;
    if (lane < R * OUTS && row <= last_row && out <= last_out) put(a, row, out, own);
}

/* Products of normed rows, as many threads as the norm has; a warp's two weight rows are neighbours of one product, or, GATED, the same of two. Shared: the
 * normed rows, the norm's sums. It lacks the choice of w's dtype by the kernel's name: fp32 is for exactness. */
template <int R, bool GATED> __device__ __forceinline__ void linear_normed(const berth_cuda_normed_linear &a)
{
    const int OUTS = BERTH_CUDA_LINEAR_WARP_OUTS, lane = (int)threadIdx.x % 32, block = (int)blockIdx.x;
    const int begins = GATED ? 0 : product_begin(a, block), pitch = normed_pitch(a.n_in, sizeof(float));
    const berth_cuda_product p = GATED ? a.of[0] : product_of(a, block);
    const int first_out = ((block - begins) * ((int)blockDim.x / 32) + (int)threadIdx.x / 32) * (GATED ? 1 : OUTS);
    char *rows = (char *)berth_shared;
    norm_rows<float>(rows, (float *)(rows + a.rows * pitch), a.x, a.scale, a.rows, a.n_in, a.eps);
    if (first_out >= p.n_out) return; /* a whole warp, and no barrier follows */
    float sums[R][OUTS] = {};
    for (int i = lane * RUN; i < a.n_in; i += 32 * RUN) {
        float w[OUTS][RUN], x[RUN];
#pragma unroll
        for (int o = 0; o < OUTS; o++) {
            const int out = GATED ? first_out : min(first_out + o, p.n_out - 1);
            load_run(GATED && o ? a.of[1].w : p.w, (long long)out * a.n_in + i, RUN, true, w[o]);
        }
#pragma unroll
        for (int r = 0; r < R; r++) {
            load_whole_run((const float *)(rows + min(r, a.rows - 1) * pitch) + i, x);
#pragma unroll
            for (int o = 0; o < OUTS; o++)
#pragma unroll
                for (int j = 0; j < RUN; j++) sums[r][o] = fmaf(x[j], w[o][j], sums[r][o]);
        }
    }
    float own[OUTS] = {}; /* of the row that the lane writes */
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int o = 0; o < OUTS; o++) {
            const float sum = warp_sum(sums[r][o]);
            if (lane == r) own[o] = sum;
        }
    if (lane >= R || lane >= a.rows) return;
#pragma unroll
    for (int o = 0; o < OUTS; o++) {
        const berth_cuda_in &bias = GATED && o ? a.of[1].bias : p.bias;
        if (bias.at) own[o] += load_one(bias, GATED ? first_out : min(first_out + o, p.n_out - 1));
    }
    const long long at = (long long)lane * p.n_out + first_out;
    if (GATED) {
        store_one(p.y, at, silu_mul(rounded(own[0], a.product_dtype), rounded(own[1], a.product_dtype)));
    } else {
#pragma unroll
        for (int o = 0; o < OUTS; o++)
            if (first_out + o < p.n_out) store_one(p.y, at + o, own[o]);
    }
}

/* Any n_in and any dtypes: a warp an output of one row, the same order of sums. No model's matrix needs it (nor bf16 on a GPU without it in its tensor cores);
 * it exists so that every call has a kernel. */
BERTH_KERNEL(linear_any, berth_cuda_linear)
{
    const int lane = (int)threadIdx.x % 32, row = (int)blockIdx.y;
    const int out = (int)blockIdx.x * ((int)blockDim.x / 32) + (int)threadIdx.x / 32;
    if (out >= a.n_out) return; /* a whole warp */
    const long long x = (long long)row * a.n_in, w = (long long)out * a.n_in;
    float sum = 0;
    for (int i = lane * RUN; i < a.n_in; i += 32 * RUN)
        for (int j = i; j < min(i + RUN, a.n_in); j++) sum = fmaf(load_one(a.x, x + j), load_one(a.w, w + j), sum);
    sum = warp_sum(sum);
    if (lane != 0) return;
    if (a.bias.at) sum += load_one(a.bias, out);
    store_one(a.y, (long long)row * a.n_out + out, sum);
}

#define LINEAR(T, W)                                                                                                   \
    BERTH_KERNEL(linear_1_##T##_##W, berth_cuda_linear)                                                                \
    {                                                                                                                  \
        linear_thin<T, W, 1>(a);                                                                                       \
    }                                                                                                                  \
    BERTH_KERNEL(linear_4_##T##_##W, berth_cuda_linear)                                                                \
    {                                                                                                                  \
        linear_thin<T, W, 4>(a);                                                                                       \
    }                                                                                                                  \
    BERTH_KERNEL(linear_8_##T##_##W, berth_cuda_linear)                                                                \
    {                                                                                                                  \
        linear_thin<T, W, 8>(a);                                                                                       \
    }
LINEAR(f32, f32)
LINEAR(f32, f16)
LINEAR(f32, bf16)

BERTH_KERNEL(linear_normed_f32_1, berth_cuda_normed_linear)
{
    linear_normed<1, false>(a);
}
BERTH_KERNEL(linear_normed_f32_4, berth_cuda_normed_linear)
{
    linear_normed<4, false>(a);
}
BERTH_KERNEL(linear_gated_f32_1, berth_cuda_normed_linear)
{
    linear_normed<1, true>(a);
}
BERTH_KERNEL(linear_gated_f32_4, berth_cuda_normed_linear)
{
    linear_normed<4, true>(a);
}
