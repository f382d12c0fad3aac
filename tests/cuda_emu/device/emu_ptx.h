/* emu_ptx.h - what kernels/cuda/ptx.cuh does with instructions, on the host. */
#ifndef BERTH_TESTS_CUDA_EMU_PTX_H
#define BERTH_TESTS_CUDA_EMU_PTX_H

#define BERTH_CUDA_PTX_CUH /* this file stands for it */

extern "C" {
#include "base/dtype.h"
}

inline float f16_bits_to_float(unsigned short bits)
{
    return berth_f16_to_f32(bits);
}
inline unsigned short float_to_f16_bits(float f)
{
    return berth_f32_to_f16(f);
}
inline unsigned short float_to_bf16_bits(float f)
{
    return berth_f32_to_bf16(f);
}

/* The compiler may split a struct's copy into its members, so the width and its alignment are checked here. */
__attribute__((no_sanitize("thread"))) inline uint4 load_16_bytes(const void *p)
{
    uint4 u;
    emu_access(p, sizeof u, 0, sizeof u);
    __builtin_memcpy(&u, p, sizeof u);
    return u;
}
__attribute__((no_sanitize("thread"))) inline void store_16_bytes(void *p, uint4 u)
{
    emu_access(p, sizeof u, 1, sizeof u);
    __builtin_memcpy(p, &u, sizeof u);
}

struct emu_mma_payload {
    float *d;
    const unsigned *a, *b;
    bool is_bf16;
};

__attribute__((no_sanitize("thread"))) inline float emu_half_of(unsigned word, int which, bool is_bf16)
{
    unsigned short bits = (unsigned short)(word >> 16 * which);
    return is_bf16 ? berth_bf16_to_f32(bits) : berth_f16_to_f32(bits);
}

/* PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point types": lane = 4 * group + t. A's register i holds row group + 8 * (i & 1), columns
 * 2t, 2t + 1 + 8 * (i >> 1); B's register i rows 2t, 2t + 1 + 8i of column group; C's element i row group + 8 * (i >> 1), column 2t + (i & 1). */
__attribute__((no_sanitize("thread"))) inline void emu_combine_mma(void *const payloads[32])
{
    float a[16][16], b[16][8];
    for (int l = 0; l < 32; l++) {
        const emu_mma_payload *p = (const emu_mma_payload *)payloads[l];
        int group = l / 4, t = l % 4;
        for (int i = 0; i < 4; i++)
            for (int h = 0; h < 2; h++)
                a[group + 8 * (i & 1)][2 * t + h + 8 * (i >> 1)] = emu_half_of(p->a[i], h, p->is_bf16);
        for (int i = 0; i < 2; i++)
            for (int h = 0; h < 2; h++) b[2 * t + h + 8 * i][group] = emu_half_of(p->b[i], h, p->is_bf16);
    }
    for (int l = 0; l < 32; l++) {
        const emu_mma_payload *p = (const emu_mma_payload *)payloads[l];
        for (int i = 0; i < 4; i++) {
            int row = l / 4 + 8 * (i >> 1), column = 2 * (l % 4) + (i & 1);
            float sum = 0;
            for (int k = 0; k < 16; k++) sum += a[row][k] * b[k][column];
            p->d[i] += sum;
        }
    }
}

#define emu_mma(d, a, b, bf16)                                                                                         \
    do {                                                                                                               \
        emu_mma_payload payload_ = {d, a, b, bf16};                                                                    \
        emu_warp_meet("mma", __FILE__, __LINE__, 0xffffffffu, &payload_, emu_combine_mma, 0);                          \
    } while (0)

inline void mma_16816_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2])
{
    emu_mma(d, a, b, false);
}
inline void mma_16816_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2])
{
    emu_mma(d, a, b, true);
}

#endif
