/* device.cuh - what the kernels share: the three float types, runs of eight elements, and sums over a warp and a block.
 * A kernel is extern "C", takes one struct of args.h, and uses the launch's dynamic shared memory only. */
#ifndef BERTH_CUDA_DEVICE_CUH
#define BERTH_CUDA_DEVICE_CUH

#include "kernels/cuda/args.h"
#include "kernels/cuda/ptx.cuh"

#ifndef BERTH_KERNEL /* the emulator has its own, which also enters the kernel in a table */
#define BERTH_KERNEL(name, args_type) extern "C" __global__ void name(const args_type a)
#endif

struct f16 {
    unsigned short bits;
};
struct bf16 {
    unsigned short bits;
};
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

/* Eight elements from p, of which `left` exist (the rest are 0). `aligned`: p is a multiple of 16 bytes, the same answer for every thread of a kernel. */
template <class T> __device__ __forceinline__ void load_run(const T *p, long long left, bool aligned, float (&out)[RUN])
{
    if (aligned && left >= RUN) {
        load_whole_run(p, out);
        return;
    }
#pragma unroll
    for (int i = 0; i < RUN; i++) out[i] = i < left ? widen(p[i]) : 0.0f;
}

template <class T> __device__ __forceinline__ void store_run(T *p, long long left, bool aligned, const float (&in)[RUN])
{
    const int step = 16 / (int)sizeof(T);
    if (aligned && left >= RUN) {
#pragma unroll
        for (int i = 0; i < RUN; i += step) store_16_bytes(p + i, pack(in + i, p));
        return;
    }
#pragma unroll
    for (int i = 0; i < RUN; i++)
        if (i < left) narrow(in[i], p[i]);
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
#define BERTH_FOR_DTYPE_PAIRS(X)                                                                                       \
    X(f32, f32) X(f32, f16) X(f32, bf16) X(f16, f32) X(f16, f16) X(f16, bf16) X(bf16, f32) X(bf16, f16) X(bf16, bf16)

#endif
