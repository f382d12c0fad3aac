/* rope.cu - rotary positions: the table of a pass, and its use on queries and keys; one pair a thread.
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

/* y may be x: both of a pair are read before either is written, by one thread. */
template <class T> __device__ __forceinline__ void rope(const berth_cuda_rope &a)
{
    long long i = global_thread();
    if (i >= a.n) return;
    const int j = (int)(i % a.half);
    const long long head = i / a.half, t = head / a.heads;
    const float cosine = a.table[2 * t * a.half + j], sine = a.table[(2 * t + 1) * a.half + j];
    const T *x = (const T *)a.x + 2 * head * a.half + j;
    T *y = (T *)a.y + 2 * head * a.half + j;
    const float low = widen(x[0]), high = widen(x[a.half]);
    narrow(fmaf(low, cosine, -high * sine), y[0]);
    narrow(fmaf(high, cosine, low * sine), y[a.half]);
}

#define ROPE(T)                                                                                                        \
    BERTH_KERNEL(rope_##T, berth_cuda_rope)                                                                            \
    {                                                                                                                  \
        rope<T>(a);                                                                                                    \
    }
BERTH_FOR_DTYPES(ROPE)
