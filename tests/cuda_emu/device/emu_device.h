/* emu_device.h - the CUDA language for a host compiler, included before a .cu file: qualifiers, built-in variables, warp and block functions, and the
 * functions of kernels/cuda/ptx.cuh, which on a GPU are instructions. Shared memory is the launch's dynamic one only. */
#ifndef BERTH_TESTS_CUDA_EMU_DEVICE_H
#define BERTH_TESTS_CUDA_EMU_DEVICE_H

#include <math.h>
#include <string.h>

#include "tests/cuda_emu/device/emu.h"
#include "tests/cuda_emu/device/emu_internal.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__    __attribute__((noinline))
#define __restrict__ __restrict
#define __shared__
#define __launch_bounds__(...)

#define threadIdx (emu_thread_idx())
#define blockIdx  (emu_block_idx())
#define blockDim  (emu_block_dim())
#define gridDim   (emu_grid_dim())

#define __syncthreads()                emu_block_barrier(__FILE__, __LINE__)
#define __syncwarp()                   emu_warp_meet("__syncwarp", __FILE__, __LINE__, 0xffffffffu, nullptr, nullptr, 1)
#define __shfl_sync(mask, value, lane) emu_shuffle("__shfl_sync", __FILE__, __LINE__, mask, value, (int)(lane), 0)
#define __shfl_xor_sync(mask, value, lanes)                                                                            \
    emu_shuffle("__shfl_xor_sync", __FILE__, __LINE__, mask, value, (int)(emu_lane() ^ (lanes)), 0)
#define __shfl_down_sync(mask, value, by)                                                                              \
    emu_shuffle("__shfl_down_sync", __FILE__, __LINE__, mask, value, (int)(emu_lane() + (by)), 1)
#define __ballot_sync(mask, vote) emu_ballot(__FILE__, __LINE__, mask, (vote) != 0)

inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((unsigned long long)a * b >> 32);
}

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

struct emu_shuffle_payload {
    uint64_t value, result;
    int from, keep_outside; /* keep_outside: a source past the warp's end gives the caller's own value */
};

__attribute__((no_sanitize("thread"))) inline void emu_combine_shuffle(void *const payloads[32])
{
    for (int l = 0; l < 32; l++) {
        auto *p = (emu_shuffle_payload *)payloads[l];
        if (!p) continue;
        if (p->keep_outside && p->from > 31) {
            p->result = p->value;
            continue;
        }
        if (!payloads[p->from & 31])
            emu_fail("shuffle: lane %d reads lane %d, which is not in the mask", l, p->from & 31);
        p->result = ((emu_shuffle_payload *)payloads[p->from & 31])->value;
    }
}

template <class T>
inline T emu_shuffle(const char *what, const char *file, int line, uint32_t mask, T value, int from, int keep_outside)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "as in CUDA");
    emu_shuffle_payload p = {0, 0, from, keep_outside};
    __builtin_memcpy(&p.value, &value, sizeof value);
    emu_warp_meet(what, file, line, mask, &p, emu_combine_shuffle, 0);
    __builtin_memcpy(&value, &p.result, sizeof value);
    return value;
}

__attribute__((no_sanitize("thread"))) inline void emu_combine_ballot(void *const payloads[32])
{
    uint64_t votes = 0;
    for (int l = 0; l < 32; l++)
        if (payloads[l] && ((emu_shuffle_payload *)payloads[l])->value) votes |= uint64_t{1} << l;
    for (int l = 0; l < 32; l++)
        if (payloads[l]) ((emu_shuffle_payload *)payloads[l])->result = votes;
}

inline unsigned emu_ballot(const char *file, int line, uint32_t mask, bool vote)
{
    emu_shuffle_payload p = {vote, 0, 0, 0};
    emu_warp_meet("__ballot_sync", file, line, mask, &p, emu_combine_ballot, 0);
    return (unsigned)p.result;
}

inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
inline float __uint_as_float(unsigned u)
{
    float f;
    __builtin_memcpy(&f, &u, sizeof f);
    return f;
}
inline unsigned __float_as_uint(float f)
{
    unsigned u;
    __builtin_memcpy(&u, &f, sizeof u);
    return u;
}
template <class T> inline T min(T a, T b)
{
    return b < a ? b : a;
}
template <class T> inline T max(T a, T b)
{
    return a < b ? b : a;
}

#include "tests/cuda_emu/device/emu_ptx.h"

/* A kernel that takes one struct, entered in the table that emu_find_kernel reads. */
#define BERTH_KERNEL(name, args_type)                                                                                  \
    extern "C" void name(const args_type a);                                                                           \
    static void emu_run_##name(const void *args)                                                                       \
    {                                                                                                                  \
        name(*(const args_type *)args);                                                                                \
    }                                                                                                                  \
    static const emu_kernel emu_kernel_##name = {#name, emu_run_##name, sizeof(args_type)};                            \
    __attribute__((used, section("emu_kernels"))) static const emu_kernel *const emu_entry_##name =                    \
        &emu_kernel_##name;                                                                                            \
    extern "C" void name(const args_type a)

#endif
