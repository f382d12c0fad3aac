/* broken.cu - kernels with one fault each, which the emulator must find, and a whole one of each kind, which it must let pass. */
#include "kernels/cuda/device.cuh"

struct broken_args {
    const float *x;
    float *y;
    int n;
};

/* Turns a block's values round through shared memory. */
__device__ __forceinline__ void reverse(const broken_args &a, bool barrier)
{
    float *s = (float *)berth_shared;
    s[threadIdx.x] = a.x[threadIdx.x];
    if (barrier) __syncthreads();
    a.y[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
}
BERTH_KERNEL(whole_reverse, broken_args)
{
    reverse(a, true);
}
BERTH_KERNEL(no_barrier, broken_args)
{
    reverse(a, false);
}

/* Within a warp a barrier of the warp is enough; across warps it is not. */
BERTH_KERNEL(warp_barrier, broken_args)
{
    float *s = (float *)berth_shared;
    s[threadIdx.x] = a.x[threadIdx.x];
    __syncwarp();
    a.y[threadIdx.x] = s[threadIdx.x ^ 31];
}
BERTH_KERNEL(warp_barrier_for_a_block, broken_args)
{
    float *s = (float *)berth_shared;
    s[threadIdx.x] = a.x[threadIdx.x];
    __syncwarp();
    a.y[threadIdx.x] = s[threadIdx.x ^ 32];
}

/* The second barrier is missing: a fast thread writes the next round while a slow one reads this one. */
__device__ __forceinline__ void rounds(const broken_args &a, bool second)
{
    float *s = (float *)berth_shared, sum = 0;
    for (int i = 0; i < 3; i++) {
        s[threadIdx.x] = a.x[threadIdx.x] + (float)i;
        __syncthreads();
        sum += s[(threadIdx.x + 37) % blockDim.x];
        if (second) __syncthreads();
    }
    a.y[threadIdx.x] = sum;
}
BERTH_KERNEL(whole_rounds, broken_args)
{
    rounds(a, true);
}
BERTH_KERNEL(write_after_read, broken_args)
{
    rounds(a, false);
}

BERTH_KERNEL(same_address, broken_args)
{
    float *s = (float *)berth_shared;
    s[threadIdx.x / 2] = (float)threadIdx.x;
    __syncthreads();
    a.y[threadIdx.x] = s[threadIdx.x / 2];
}

BERTH_KERNEL(barrier_in_a_branch, broken_args)
{
    if (threadIdx.x < 40) __syncthreads();
    a.y[threadIdx.x] = a.x[threadIdx.x];
}
BERTH_KERNEL(two_barriers, broken_args)
{
    if (threadIdx.x < 40)
        __syncthreads();
    else
        __syncthreads();
    a.y[threadIdx.x] = a.x[threadIdx.x];
}
BERTH_KERNEL(barrier_after_return, broken_args)
{
    if ((int)threadIdx.x >= a.n) return;
    __syncthreads();
    a.y[threadIdx.x] = a.x[threadIdx.x];
}

BERTH_KERNEL(whole_shuffle, broken_args)
{
    float v = a.x[threadIdx.x];
    for (int lanes = 16; lanes > 0; lanes /= 2) v += __shfl_xor_sync(0xffffffffu, v, lanes);
    const unsigned votes = __ballot_sync(0xffffffffu, threadIdx.x % 2);
    a.y[threadIdx.x] =
        votes == 0xaaaaaaaau ? v + __shfl_down_sync(0xffffffffu, v, 1) - __shfl_sync(0xffffffffu, v, 3) : -1.0f;
}
BERTH_KERNEL(shuffle_in_a_branch, broken_args)
{
    float v = a.x[threadIdx.x];
    if (threadIdx.x % 32 < 16) v += __shfl_xor_sync(0xffffffffu, v, 1);
    a.y[threadIdx.x] = v;
}
BERTH_KERNEL(shuffle_after_return, broken_args)
{
    if (threadIdx.x % 32 == 31) return;
    a.y[threadIdx.x] = __shfl_down_sync(0xffffffffu, a.x[threadIdx.x], 1);
}
BERTH_KERNEL(shuffle_from_outside, broken_args)
{
    float v = a.x[threadIdx.x];
    if (threadIdx.x % 32 < 16) v = __shfl_xor_sync(0x0000ffffu, v, 16);
    a.y[threadIdx.x] = v;
}
BERTH_KERNEL(shuffle_without_oneself, broken_args)
{
    a.y[threadIdx.x] = __shfl_sync(0x0000ffffu, a.x[threadIdx.x], 0);
}

BERTH_KERNEL(read_past_the_end, broken_args)
{
    a.y[threadIdx.x] = a.x[threadIdx.x + 1];
}
BERTH_KERNEL(write_past_the_end, broken_args)
{
    a.y[threadIdx.x + 1] = 1;
}
BERTH_KERNEL(write_an_input, broken_args)
{
    ((float *)a.x)[threadIdx.x] = 1;
}
BERTH_KERNEL(read_misaligned, broken_args)
{
    uint4 u = load_16_bytes(a.x + threadIdx.x % 4);
    a.y[threadIdx.x] = __uint_as_float(u.x);
}
BERTH_KERNEL(past_shared, broken_args)
{
    float *s = (float *)berth_shared;
    s[threadIdx.x + 1] = a.x[threadIdx.x];
    __syncthreads();
    a.y[threadIdx.x] = s[threadIdx.x + 1];
}
BERTH_KERNEL(unwritten_shared, broken_args)
{
    float *s = (float *)berth_shared;
    if ((int)threadIdx.x < a.n) s[threadIdx.x] = a.x[threadIdx.x];
    __syncthreads();
    a.y[threadIdx.x] = s[threadIdx.x];
}

/* One product of fragments, filled by the definition of mma.m16n8k16: x holds a [16, 16] then b [16, 8]; y is c [16, 8], added to. */
template <class T> __device__ __forceinline__ unsigned pair(float low, float high)
{
    T l, h;
    narrow(low, l), narrow(high, h);
    return l.bits | (unsigned)h.bits << 16;
}
BERTH_KERNEL(fragments, broken_args)
{
    const int group = (int)threadIdx.x / 4, t = (int)threadIdx.x % 4;
    const float *b = a.x + 256;
    unsigned fa[4], fb[2];
    float d[4];
    for (int i = 0; i < 4; i++) {
        const float *p = a.x + (group + 8 * (i & 1)) * 16 + 2 * t + 8 * (i >> 1);
        fa[i] = a.n ? pair<bf16>(p[0], p[1]) : pair<f16>(p[0], p[1]);
        d[i] = 1;
    }
    for (int i = 0; i < 2; i++) {
        const float *p = b + (2 * t + 8 * i) * 8 + group;
        fb[i] = a.n ? pair<bf16>(p[0], p[8]) : pair<f16>(p[0], p[8]);
    }
    if (a.n)
        mma_16816(bf16(), d, fa, fb);
    else
        mma_16816(f16(), d, fa, fb);
    for (int i = 0; i < 4; i++) a.y[(group + 8 * (i >> 1)) * 8 + 2 * t + (i & 1)] = d[i];
}

/* Copies on their way: thread i brings four floats (as 16 bytes of them) and reads those of its neighbour in the block. */
__device__ __forceinline__ void copy_and_read(const broken_args &a, bool wait, bool barrier, int behind)
{
    float *s = (float *)berth_shared;
    const int n = (int)blockDim.x / 4, i = (int)threadIdx.x;
    if (i < n) copy_async_16(s + 4 * i, a.x + 4 * i, i == n - 1 ? 8 : 16);
    if (i < n) copies_commit();
    if (i < n && wait) copies_wait<0>();
    if (barrier) __syncthreads();
    a.y[i] = s[blockDim.x - 1 - i];
    if (behind && i == 40) copy_async_16(s, a.x, 16), copies_commit();
    if (behind) copies_wait<0>();
}
BERTH_KERNEL(whole_copy, broken_args)
{
    copy_and_read(a, true, true, 0);
}
BERTH_KERNEL(copy_not_waited, broken_args)
{
    copy_and_read(a, false, true, 0);
}
BERTH_KERNEL(copy_without_barrier, broken_args)
{
    copy_and_read(a, true, false, 0);
}
BERTH_KERNEL(copy_over_readers, broken_args)
{
    copy_and_read(a, true, true, 1);
}
/* Two groups, of which the wait lets the newer one be. */
BERTH_KERNEL(copy_of_a_later_group, broken_args)
{
    float *s = (float *)berth_shared;
    const int i = (int)threadIdx.x % 4 * 4;
    if (threadIdx.x < 4) copy_async_16(s + i, a.x, 16), copies_commit();
    if (threadIdx.x < 4) copy_async_16(s + 16 + i, a.x, 16), copies_commit();
    copies_wait<1>();
    __syncthreads();
    a.y[threadIdx.x] = s[threadIdx.x < 4 ? threadIdx.x : 16];
    copies_wait<0>();
}

/* ldmatrix .x4.trans: matrix m [8, 8] holds 64m + 8 row + column. */
BERTH_KERNEL(turned_matrices, broken_args)
{
    f16 *s = (f16 *)berth_shared;
    const int lane = (int)threadIdx.x % 32;
    for (int i = (int)threadIdx.x; i < 96; i += (int)blockDim.x) ((float *)s)[i] = 0;
    __syncthreads();
    for (int i = (int)threadIdx.x; i < 96; i += (int)blockDim.x) narrow((float)i, s[i]);
    __syncthreads();
    if (threadIdx.x >= 32) return;
    unsigned got[4];
    load_turned_matrices(got, s + lane % 8 * 8 + (lane / 8 == 1) * 32);
    for (int i = 0; i < 3; i++) a.y[3 * lane + i] = f16_bits_to_float((unsigned short)(i < 2 ? got[i] : got[1] >> 16));
}
