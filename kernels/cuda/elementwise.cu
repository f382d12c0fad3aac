/* elementwise.cu - ops in which an output depends on the inputs at its own place only. A thread takes one run of eight; memory bandwidth is the limit. */
#include "kernels/cuda/device.cuh"

struct gelu_of {
    static __device__ __forceinline__ float at(float x, float)
    {
        return 0.5f * x * erfcf(-x * 0.70710678118654752440f);
    }
};
struct silu_mul_of {
    static __device__ __forceinline__ float at(float gate, float up) { return gate / (1.0f + expf(-gate)) * up; }
};
struct add_of {
    static __device__ __forceinline__ float at(float a, float b) { return a + b; }
};

/* y = F(a, b); b may be NULL. y may be a: a thread reads its run before it writes it. */
template <class T, class F> __device__ __forceinline__ void map_runs(const berth_cuda_elementwise &a)
{
    long long i = global_thread() * RUN;
    if (i >= a.n) return;
    float first[RUN], second[RUN] = {0};
    load_run((const T *)a.a + i, a.n - i, true, first);
    if (a.b) load_run((const T *)a.b + i, a.n - i, true, second);
#pragma unroll
    for (int j = 0; j < RUN; j++) first[j] = F::at(first[j], second[j]);
    store_run((T *)a.y + i, a.n - i, true, first);
}

/* y = a + w[column] * b. */
template <class T, class W> __device__ __forceinline__ void scale_add_runs(const berth_cuda_elementwise &a)
{
    long long i = global_thread() * RUN;
    if (i >= a.n) return;
    float x[RUN], delta[RUN];
    load_run((const T *)a.a + i, a.n - i, true, x);
    load_run((const T *)a.b + i, a.n - i, true, delta);
    int column = (int)(i % a.c);
#pragma unroll
    for (int j = 0; j < RUN; j++) {
        x[j] = fmaf(widen(((const W *)a.w)[column]), delta[j], x[j]);
        if (++column == a.c) column = 0;
    }
    store_run((T *)a.y + i, a.n - i, true, x);
}

template <class From, class To> __device__ __forceinline__ void convert_runs(const berth_cuda_elementwise &a)
{
    long long i = global_thread() * RUN;
    if (i >= a.n) return;
    float x[RUN];
    load_run((const From *)a.a + i, a.n - i, true, x);
    store_run((To *)a.y + i, a.n - i, true, x);
}

#define UNARY_AND_BINARY(T)                                                                                            \
    BERTH_KERNEL(gelu_##T, berth_cuda_elementwise)                                                                     \
    {                                                                                                                  \
        map_runs<T, gelu_of>(a);                                                                                       \
    }                                                                                                                  \
    BERTH_KERNEL(silu_mul_##T, berth_cuda_elementwise)                                                                 \
    {                                                                                                                  \
        map_runs<T, silu_mul_of>(a);                                                                                   \
    }                                                                                                                  \
    BERTH_KERNEL(add_##T, berth_cuda_elementwise)                                                                      \
    {                                                                                                                  \
        map_runs<T, add_of>(a);                                                                                        \
    }
BERTH_FOR_DTYPES(UNARY_AND_BINARY)

#define WITH_WEIGHT(T, W)                                                                                              \
    BERTH_KERNEL(scale_add_##T##_##W, berth_cuda_elementwise)                                                          \
    {                                                                                                                  \
        scale_add_runs<T, W>(a);                                                                                       \
    }                                                                                                                  \
    BERTH_KERNEL(convert_##T##_##W, berth_cuda_elementwise)                                                            \
    {                                                                                                                  \
        convert_runs<T, W>(a);                                                                                         \
    }
BERTH_FOR_DTYPE_PAIRS(WITH_WEIGHT)
