/* device.cuh - what the kernels share: the three float types, runs of eight elements, and sums over a warp and a block.
 * A kernel is extern "C", takes one struct of args.h, and uses the launch's dynamic shared memory only. */
#ifndef BERTH_CUDA_DEVICE_CUH
#define BERTH_CUDA_DEVICE_CUH

#include "kernels/cuda/args.h"
#include "kernels/cuda/ptx.cuh"

#ifndef BERTH_KERNEL /* the emulator has its own, which also enters the kernel in a table */
#define BERTH_KERNEL(name, args_type) extern "C" __global__ void name(const args_type a)
#endif

typedef float f32;

__device__ __forceinline__ float widen(float f)
{
    return f;
}
__device__ __forceinline__ float widen(f16 h)
{
    return f16_bits_to_float(h.bits);
}
__device__ __forceinline__ float widen(bf16 h)
{
    return __uint_as_float((unsigned)h.bits << 16);
}

__device__ __forceinline__ void narrow(float f, float &to)
{
    to = f;
}
__device__ __forceinline__ void narrow(float f, f16 &to)
{
    to.bits = float_to_f16_bits(f);
}
__device__ __forceinline__ void narrow(float f, bf16 &to)
{
    to.bits = float_to_bf16_bits(f);
}

/* A run: eight neighbouring elements, one thread's piece of a row. 16 bytes of a 16-bit type, twice 16 of fp32. */
enum { RUN = 8 };

__device__ __forceinline__ void unpack(uint4 u, const float *, float *out)
{
    out[0] = __uint_as_float(u.x), out[1] = __uint_as_float(u.y);
    out[2] = __uint_as_float(u.z), out[3] = __uint_as_float(u.w);
}
template <class T> __device__ __forceinline__ void unpack(uint4 u, const T *, float *out)
{
    const unsigned words[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        T low, high;
        low.bits = (unsigned short)words[i], high.bits = (unsigned short)(words[i] >> 16);
        out[2 * i] = widen(low), out[2 * i + 1] = widen(high);
    }
}

__device__ __forceinline__ uint4 pack(const float *in, const float *)
{
    uint4 u = {__float_as_uint(in[0]), __float_as_uint(in[1]), __float_as_uint(in[2]), __float_as_uint(in[3])};
    return u;
}
template <class T> __device__ __forceinline__ uint4 pack(const float *in, const T *)
{
    unsigned words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        T low, high;
        narrow(in[2 * i], low), narrow(in[2 * i + 1], high);
        words[i] = low.bits | (unsigned)high.bits << 16;
    }
    uint4 u = {words[0], words[1], words[2], words[3]};
    return u;
}

/* Eight elements from p, a multiple of 16 bytes. */
template <class T> __device__ __forceinline__ void load_whole_run(const T *p, float (&out)[RUN])
{
    const int step = 16 / (int)sizeof(T);
#pragma unroll
    for (int i = 0; i < RUN; i += step) unpack(load_16_bytes(p + i), p, out + i);
}

/* ---- operands whose dtype is known when the kernel runs ---------------------------------------------------------------- */

/* A run as it was read: fetched from several operands first and widened after, so that their reads wait for memory together. */
struct raw_run {
    uint4 low, high; /* high: of fp32 only */
};

__device__ __forceinline__ raw_run fetch_run(const berth_cuda_in &x, long long i) /* its address is a multiple of 16 */
{
    const char *p = (const char *)x.at + i * (x.dtype == BERTH_CUDA_F32 ? 4 : 2);
    raw_run r = {load_16_bytes(p), {0, 0, 0, 0}};
    if (x.dtype == BERTH_CUDA_F32) r.high = load_16_bytes(p + 16);
    return r;
}

__device__ __forceinline__ void widen_run(const raw_run &r, int dtype, float (&out)[RUN])
{
    if (dtype == BERTH_CUDA_F32)
        unpack(r.low, (const float *)0, out), unpack(r.high, (const float *)0, out + 4);
    else if (dtype == BERTH_CUDA_F16)
        unpack(r.low, (const f16 *)0, out);
    else
        unpack(r.low, (const bf16 *)0, out);
}

__device__ __forceinline__ float load_one(const berth_cuda_in &x, long long i)
{
    if (x.dtype == BERTH_CUDA_F32) return ((const float *)x.at)[i];
    return x.dtype == BERTH_CUDA_F16 ? widen(((const f16 *)x.at)[i]) : widen(((const bf16 *)x.at)[i]);
}

__device__ __forceinline__ void store_one(const berth_cuda_out &y, long long i, float v)
{
    if (y.dtype == BERTH_CUDA_F32)
        ((float *)y.at)[i] = v;
    else if (y.dtype == BERTH_CUDA_F16)
        narrow(v, ((f16 *)y.at)[i]);
    else
        narrow(v, ((bf16 *)y.at)[i]);
}

/* v as storing and reading it leaves it. */
__device__ __forceinline__ float rounded(float v, int dtype)
{
    f16 of_16;
    bf16 of_b16;
    if (dtype == BERTH_CUDA_F32) return v;
    narrow(v, of_16), narrow(v, of_b16);
    return dtype == BERTH_CUDA_F16 ? widen(of_16) : widen(of_b16);
}

__device__ __forceinline__ float silu_mul(float gate, float up)
{
    return gate / (1.0f + expf(-gate)) * up;
}

/* Eight elements from element i on, of which `left` exist (the rest are 0). `aligned`: rows begin at multiples of 16 bytes, the same answer for every
 * thread of a kernel. */
__device__ __forceinline__ void load_run(const berth_cuda_in &x, long long i, long long left, bool aligned,
                                         float (&out)[RUN])
{
    if (aligned && left >= RUN) {
        widen_run(fetch_run(x, i), x.dtype, out);
        return;
    }
#pragma unroll
    for (int j = 0; j < RUN; j++) out[j] = j < left ? load_one(x, i + j) : 0.0f;
}

/* The same of two operands, both read before either is waited for. */
__device__ __forceinline__ void load_two_runs(const berth_cuda_in &a, const berth_cuda_in &b, long long i,
                                              long long left, float (&of_a)[RUN], float (&of_b)[RUN])
{
    if (left >= RUN) {
        const raw_run ra = fetch_run(a, i), rb = fetch_run(b, i);
        widen_run(ra, a.dtype, of_a), widen_run(rb, b.dtype, of_b);
        return;
    }
    load_run(a, i, left, false, of_a), load_run(b, i, left, false, of_b);
}

__device__ __forceinline__ void store_run(const berth_cuda_out &y, long long i, long long left, bool aligned,
                                          const float (&in)[RUN])
{
    if (!aligned || left < RUN) {
#pragma unroll
        for (int j = 0; j < RUN; j++)
            if (j < left) store_one(y, i + j, in[j]);
    } else if (y.dtype == BERTH_CUDA_F32) {
        float *p = (float *)y.at + i;
        store_16_bytes(p, pack(in, p)), store_16_bytes(p + 4, pack(in + 4, p));
    } else if (y.dtype == BERTH_CUDA_F16)
        store_16_bytes((f16 *)y.at + i, pack(in, (const f16 *)0));
    else
        store_16_bytes((bf16 *)y.at + i, pack(in, (const bf16 *)0));
}

/* The launch's shared memory. */
extern __shared__ uint4 berth_shared[];

__device__ __forceinline__ float warp_sum(float v)
{
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) v += __shfl_xor_sync(0xffffffffu, v, lanes);
    return v;
}

/* The same sum in every thread. `scratch` [32] floats; the first barrier makes the warps' sums seen, the second lets scratch be used again. */
__device__ __forceinline__ float block_sum(float v, float *scratch)
{
    v = warp_sum(v);
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = v;
    __syncthreads();
    float sum = 0;
    for (unsigned i = 0; i < blockDim.x / 32; i++) sum += scratch[i];
    __syncthreads();
    return sum;
}

/* The kernel's place in a grid of one dimension. */
__device__ __forceinline__ long long global_thread()
{
    return (long long)blockIdx.x * blockDim.x + threadIdx.x;
}

#define BERTH_FOR_DTYPES(X) X(f32) X(f16) X(bf16)

#endif
