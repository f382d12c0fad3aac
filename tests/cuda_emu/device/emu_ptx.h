/* emu_ptx.h - what kernels/cuda/ptx.cuh does with instructions, on the host. */
#ifndef BERTH_TESTS_CUDA_EMU_PTX_H
#define BERTH_TESTS_CUDA_EMU_PTX_H

#define BERTH_CUDA_PTX_CUH /* this file stands for it */

#include "kernels/cuda/halves.cuh"

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

inline uint4 ask_16_bytes(const void *p)
{
    return load_16_bytes(p);
}
inline uint4 ask_16_bytes_once(const void *p)
{
    return load_16_bytes(p);
}

/* Stricter than hardware, where asking for what is not there does nothing. */
inline void ask_line(const void *p)
{
    emu_access(p, 1, 0, 1);
}

#if __CUDA_ARCH__ >= 800
inline void copy_async_16(void *to, const void *from, int bytes)
{
    emu_copy_async(to, from, 16, (size_t)bytes);
}
inline void copy_async_8(void *to, const void *from, int bytes)
{
    emu_copy_async(to, from, 8, (size_t)bytes);
}
inline void copies_commit()
{
    emu_copies_commit();
}
template <int N> inline void copies_wait()
{
    emu_copies_wait(N);
}
#endif

/* ---- products of fragments ---------------------------------------------------------------------------------------------- */

/* What a lane brings: registers of two halves each, and where its sums lie. */
struct emu_mma_payload {
    float *d;
    const unsigned *a, *b;
    bool is_bf16;
};

__attribute__((no_sanitize("thread"))) inline float emu_half_of(const unsigned *words, int at, bool is_bf16)
{
    unsigned short bits = (unsigned short)(words[at / 2] >> 16 * (at % 2));
    return is_bf16 ? berth_bf16_to_f32(bits) : berth_f16_to_f32(bits);
}

/* PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point types" and "... mma.m16n8k8": lane = 4 * group + t. A's register i holds row
 * group + 8 * (i & 1), columns 2t, 2t + 1 + 8 * (i >> 1); B's register i rows 2t, 2t + 1 + 8i of column group; C's element i row group + 8 * (i >> 1), column
 * 2t + (i & 1). */
template <int K> __attribute__((no_sanitize("thread"))) inline void emu_combine_16x8(void *const payloads[32])
{
    float a[16][K], b[K][8];
    for (int l = 0; l < 32; l++) {
        const emu_mma_payload *p = (const emu_mma_payload *)payloads[l];
        int group = l / 4, t = l % 4;
        for (int i = 0; i < K / 4; i++)
            for (int h = 0; h < 2; h++)
                a[group + 8 * (i & 1)][2 * t + h + 8 * (i >> 1)] = emu_half_of(p->a, 2 * i + h, p->is_bf16);
        for (int i = 0; i < K / 8; i++)
            for (int h = 0; h < 2; h++) b[2 * t + h + 8 * i][group] = emu_half_of(p->b, 2 * i + h, p->is_bf16);
    }
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) {
            int row = l / 4 + 8 * (i >> 1), column = 2 * (l % 4) + (i & 1);
            float sum = 0;
            for (int k = 0; k < K; k++) sum += a[row][k] * b[k][column];
            ((emu_mma_payload *)payloads[l])->d[i] += sum;
        }
}

/* "Matrix Fragments for mma.m8n8k4 with .f16 floating point type": quarter q of the warp is lanes 4q .. 4q + 3 and those + 16. In each, A (row) has row and B (col)
 * column lane % 4, + 4 from lane 16 on, all four k's; B (row) has k lane % 4, columns 0 to 3, + 4 from lane 16 on; C's element i is row (lane & 1) + (i & 2), + 4
 * from lane 16 on, column (i & 4) + (lane & 2) + (i & 1). */
template <bool B_IS_ROW> __attribute__((no_sanitize("thread"))) inline void emu_combine_884(void *const payloads[32])
{
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 8; i++) {
            int first = l / 4 % 4 * 4, row = (l & 1) + (i & 2) + l / 16 * 4, column = (i & 4) + (l & 2) + (i & 1);
            const emu_mma_payload *a = (const emu_mma_payload *)payloads[first + row % 4 + row / 4 * 16];
            float sum = 0;
            for (int k = 0; k < 4; k++) {
                int at = B_IS_ROW ? k : column % 4, element = B_IS_ROW ? column % 4 : k;
                const emu_mma_payload *b = (const emu_mma_payload *)payloads[first + at + column / 4 * 16];
                sum += emu_half_of(a->a, k, false) * emu_half_of(b->b, element, false);
            }
            ((emu_mma_payload *)payloads[l])->d[i] += sum;
        }
}

inline void emu_mma(const char *file, int line, float *d, const unsigned *a, const unsigned *b, bool is_bf16,
                    emu_combine combine)
{
    emu_mma_payload payload = {d, a, b, is_bf16};
    emu_warp_meet("mma", file, line, 0xffffffffu, &payload, combine, 0);
}

#if __CUDA_ARCH__ >= 800
inline void mma_16816(f16, float *d, const unsigned (&a)[4], const unsigned (&b)[2])
{
    emu_mma(__FILE__, __LINE__, d, a, b, false, emu_combine_16x8<16>);
}
inline void mma_16816(bf16, float *d, const unsigned (&a)[4], const unsigned (&b)[2])
{
    emu_mma(__FILE__, __LINE__, d, a, b, true, emu_combine_16x8<16>);
}
#elif __CUDA_ARCH__ >= 750
inline void mma_1688(f16, float *d, unsigned a0, unsigned a1, unsigned b)
{
    const unsigned a[2] = {a0, a1};
    emu_mma(__FILE__, __LINE__, d, a, &b, false, emu_combine_16x8<8>);
}
#else
inline void mma_884(f16, float *d, unsigned a0, unsigned a1, unsigned b0, unsigned b1)
{
    const unsigned a[2] = {a0, a1}, b[2] = {b0, b1};
    emu_mma(__FILE__, __LINE__, d, a, b, false, emu_combine_884<false>);
}
inline void mma_884_down(f16, float *d, unsigned a0, unsigned a1, unsigned b0, unsigned b1)
{
    const unsigned a[2] = {a0, a1}, b[2] = {b0, b1};
    emu_mma(__FILE__, __LINE__, d, a, b, false, emu_combine_884<true>);
}
#endif

/* ---- ldmatrix ----------------------------------------------------------------------------------------------------------- */

#if __CUDA_ARCH__ >= 750
struct emu_matrices_payload {
    unsigned short row[8]; /* the one whose address the lane gives */
    unsigned *to;
};

/* PTX ISA, ldmatrix .x4.trans: lanes 8i .. 8i + 7 give the rows of matrix i; lane l's register i then holds rows 2 (l % 4) and the next of column l / 4. */
__attribute__((no_sanitize("thread"))) inline void emu_combine_turned(void *const payloads[32])
{
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) {
            const auto *even = (const emu_matrices_payload *)payloads[8 * i + l % 4 * 2];
            const auto *odd = (const emu_matrices_payload *)payloads[8 * i + l % 4 * 2 + 1];
            ((emu_matrices_payload *)payloads[l])->to[i] = even->row[l / 4] | (unsigned)odd->row[l / 4] << 16;
        }
}

inline void load_turned_matrices(unsigned (&to)[4], const void *row)
{
    uint4 bytes = load_16_bytes(row);
    emu_matrices_payload payload = {{}, to};
    __builtin_memcpy(payload.row, &bytes, sizeof bytes);
    emu_warp_meet("ldmatrix", __FILE__, __LINE__, 0xffffffffu, &payload, emu_combine_turned, 0);
}
#endif

#endif
