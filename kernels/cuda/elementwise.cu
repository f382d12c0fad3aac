/* elementwise.cu - ops in which an output depends on the inputs at its own place only. A thread takes one run of eight; memory bandwidth is the limit. */
#include "kernels/cuda/device.cuh"

struct gelu_of {
    static __device__ __forceinline__ float at(float x, float)
    {
        return 0.5f * x * erfcf(-x * 0.70710678118654752440f);
    }
};
struct silu_mul_of {
    static __device__ __forceinline__ float at(float gate, float up) { return silu_mul(gate, up); }
};
struct add_of {
    static __device__ __forceinline__ float at(float a, float b) { return a + b; }
};
struct same {
    static __device__ __forceinline__ float at(float x, float) { return x; }
};

/* y = F(a). y may be a, here and below: a thread reads its run before it writes it. */
template <class F> __device__ __forceinline__ void map_runs(const berth_cuda_elementwise &a)
{
    const long long i = global_thread() * RUN;
    if (i >= a.n) return;
    float x[RUN];
    load_run(a.a, i, a.n - i, true, x);
#pragma unroll
    for (int j = 0; j < RUN; j++) x[j] = F::at(x[j], 0);
    store_run(a.y, i, a.n - i, true, x);
}

/* y = F(a, b). */
template <class F> __device__ __forceinline__ void join_runs(const berth_cuda_elementwise &a)
{
    const long long i = global_thread() * RUN;
    if (i >= a.n) return;
    float x[RUN], second[RUN];
    load_two_runs(a.a, a.b, i, a.n - i, x, second);
#pragma unroll
    for (int j = 0; j < RUN; j++) x[j] = F::at(x[j], second[j]);
    store_run(a.y, i, a.n - i, true, x);
}

BERTH_KERNEL(gelu_any, berth_cuda_elementwise)
{
    map_runs<gelu_of>(a);
}
BERTH_KERNEL(convert_any, berth_cuda_elementwise)
{
    map_runs<same>(a);
}
BERTH_KERNEL(silu_mul_any, berth_cuda_elementwise)
{
    join_runs<silu_mul_of>(a);
}
BERTH_KERNEL(add_any, berth_cuda_elementwise)
{
    join_runs<add_of>(a);
}

/* y = a + w[column] * b. */
BERTH_KERNEL(scale_add_any, berth_cuda_elementwise)
{
    const long long i = global_thread() * RUN;
    if (i >= a.n) return;
    float x[RUN], delta[RUN], w[RUN];
    load_two_runs(a.a, a.b, i, a.n - i, x, delta);
    int column = (int)(i % a.c);
    if (a.c % RUN == 0)
        load_run(a.w, column, RUN, true, w);
    else
        for (int j = 0; j < RUN; j++, column = column + 1 == a.c ? 0 : column + 1) w[j] = load_one(a.w, column);
#pragma unroll
    for (int j = 0; j < RUN; j++) x[j] = fmaf(w[j], delta[j], x[j]);
    store_run(a.y, i, a.n - i, true, x);
}
