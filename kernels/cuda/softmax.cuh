/* softmax.cuh - joining what two stretches of keys gave a row: the one formula, so that every kernel that joins the same stretches in the same order gives the same
 * bits. Source: Milakov & Gimelshein 2018 (the online softmax). */
#ifndef BERTH_CUDA_SOFTMAX_CUH
#define BERTH_CUDA_SOFTMAX_CUH

#include "kernels/cuda/device.cuh"

/* Of some keys: the largest score (-infinity: no key was seen) and the sum of exp(score - largest). */
struct softmax_seen {
    float top, sum;
};
/* What the outputs of the earlier and of the later stretch are multiplied with. */
struct softmax_factors {
    float earlier, later;
};

__device__ __forceinline__ softmax_seen softmax_nothing()
{
    const softmax_seen s = {-1.0f / 0.0f, 0};
    return s;
}

/* What scores are compared with: 0 where there is none, so that nothing stays nothing. */
__device__ __forceinline__ float softmax_base(float top)
{
    return top == -1.0f / 0.0f ? 0.0f : top;
}

/* Adds the later stretch. One in which the row saw no key changes nothing: the factors are then 1 and 0. */
__device__ __forceinline__ softmax_factors softmax_join(softmax_seen &s, const softmax_seen &later)
{
    const float top = fmaxf(s.top, later.top), base = softmax_base(top);
    const softmax_factors f = {expf(s.top - base), expf(later.top - base)};
    s.sum = fmaf(s.sum, f.earlier, later.sum * f.later);
    s.top = top;
    return f;
}

__device__ __forceinline__ float softmax_joined(const softmax_factors &f, float earlier, float later)
{
    return fmaf(earlier, f.earlier, later * f.later);
}

#endif
