/* simd.h - vectors of BERTH_LANES floats. With simd_*.h beside it the only place that knows instructions.
 *
 * The including file defines BERTH_LANES (4, 8 or 16) and is compiled for the instructions it may use. Arithmetic is
 * written with the compilers' vector types; what they have no operator for (fused multiply-add, widening of fp16) comes
 * from simd_*.h. 16 lanes also compile for AVX2, as two halves: so the 16-lane logic is tested on machines without
 * AVX-512.
 *
 * AVX-512's bf16 dot product (vdpbf16ps) is left out on purpose: it takes both factors as bf16, so fp32 activations
 * would have to be rounded first, and it flushes denormals. fp32 products of bf16 weights are exact; those are not. */
#ifndef BERTH_KERNELS_CPU_SIMD_H
#define BERTH_KERNELS_CPU_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/dtype.h"

#define BERTH_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define BERTH_UNROLL _Pragma("unroll")
#else
#define BERTH_UNROLL _Pragma("GCC unroll 16")
#endif

typedef float vf __attribute__((vector_size(4 * BERTH_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * BERTH_LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * BERTH_LANES)));
typedef uint16_t vh __attribute__((vector_size(2 * BERTH_LANES)));
typedef float vf4 __attribute__((vector_size(16)));
/* the same at any address */
typedef float vf_at __attribute__((vector_size(4 * BERTH_LANES), aligned(1), may_alias));
typedef uint16_t vh_at __attribute__((vector_size(2 * BERTH_LANES), aligned(1), may_alias));
typedef float vf4_at __attribute__((vector_size(16), aligned(1), may_alias));

BERTH_INLINE vf v_load(const void *p)
{
    return *(const vf_at *)p;
}
BERTH_INLINE void v_store(void *p, vf v)
{
    *(vf_at *)p = v;
}
/* All lanes alike. (0 + f is not f for -0, so that the compiler would have to add.) */
BERTH_INLINE vf v_set(float f)
{
    return f - (vf){0};
}

/* The first n < BERTH_LANES floats, zeros behind them. */
BERTH_INLINE vf v_load_part(const void *p, size_t n)
{
    float lanes[BERTH_LANES] = {0};
    memcpy(lanes, p, n * sizeof lanes[0]);
    return v_load(lanes);
}

BERTH_INLINE void v_store_part(void *p, vf v, size_t n)
{
    float lanes[BERTH_LANES];
    v_store(lanes, v);
    memcpy(p, lanes, n * sizeof lanes[0]);
}

BERTH_INLINE vf v_select(vi mask, vf yes, vf no)
{
    return (vf)(((vi)yes & mask) | ((vi)no & ~mask));
}

/* Each gives v_fma (a * b + c, rounded once where the processor can), v_max (the greater; b where either is NaN),
 * v_widen_bf16, v_widen_f16; where there is F16C, v_round_f16 (to nearest even) and v_pack (lanes under 65536). */
#if BERTH_LANES == 16 && defined(__AVX512F__)
#include "kernels/cpu/simd_avx512.h"
#elif BERTH_LANES == 16 && defined(__AVX2__)
#include "kernels/cpu/simd_halves.h"
#elif BERTH_LANES == 8 && defined(__AVX2__)
#include "kernels/cpu/simd_avx2.h"
#else
#include "kernels/cpu/simd_plain.h"
#endif

/* BERTH_LANES weights of a dtype at any address. */
BERTH_INLINE vf v_load_weights(const void *p, berth_dtype dtype)
{
    if (dtype == BERTH_F32) return v_load(p);
    vh h = *(const vh_at *)p;
    return dtype == BERTH_BF16 ? v_widen_bf16(h) : v_widen_f16(h);
}

/* The first n < BERTH_LANES weights, zeros behind them. */
BERTH_INLINE vf v_load_weights_part(const void *p, berth_dtype dtype, size_t n)
{
    unsigned char bytes[4 * BERTH_LANES] = {0};
    memcpy(bytes, p, n * (dtype == BERTH_F32 ? 4 : 2));
    return v_load_weights(bytes, dtype);
}

#if BERTH_LANES == 4
#define BERTH_PAIR_SUMS(a, b) (__builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7))
BERTH_INLINE vf4 v_fold(vf v)
{
    return v;
}
#elif BERTH_LANES == 8
#define BERTH_PAIR_SUMS(a, b)                                                                                          \
    (__builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14) +                                                        \
     __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15))
BERTH_INLINE vf4 v_fold(vf v)
{
    return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
}
#else
#define BERTH_PAIR_SUMS(a, b)                                                                                          \
    (__builtin_shufflevector(a, b, 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30) +                        \
     __builtin_shufflevector(a, b, 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31))
BERTH_INLINE vf4 v_fold(vf v)
{
    return (__builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 8, 9, 10, 11)) +
           (__builtin_shufflevector(v, v, 4, 5, 6, 7) + __builtin_shufflevector(v, v, 12, 13, 14, 15));
}
#endif

/* The sums of the lanes of four vectors. A vector's sum does not depend on its neighbours: pairs, then pairs of pairs,
 * then quarters. */
BERTH_INLINE vf4 v_sum4(vf a, vf b, vf c, vf d)
{
    vf ab = BERTH_PAIR_SUMS(a, b), cd = BERTH_PAIR_SUMS(c, d);
    return v_fold(BERTH_PAIR_SUMS(ab, cd));
}

BERTH_INLINE float v_sum(vf a)
{
    return v_sum4(a, a, a, a)[0];
}

BERTH_INLINE float v_top(vf v)
{
    float best = v[0];
    for (int i = 1; i < BERTH_LANES; i++) best = v[i] > best ? v[i] : best;
    return best;
}

/* e^x as p * 2^n: n = bits << 23, p near 1. 2^n * e^r with |r| <= ln 2 / 2; the polynomial is the Taylor series to r^7,
 * whose remainder there is under 2^-27 of the value. */
BERTH_INLINE vf v_exp_parts(vf x, vu *bits)
{
    const vf shift = v_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
    vf rounded = v_fma(x, v_set(1.44269504f), shift);
    vf n = rounded - shift;
    vf r = v_fma(n, v_set(-0.693359375f), x); /* ln 2 in two parts, the first with few bits */
    r = v_fma(n, v_set(2.12194440e-4f), r);
    vf p = v_fma(v_set(1.0f / 5040), r, v_set(1.0f / 720));
    p = v_fma(p, r, v_set(1.0f / 120));
    p = v_fma(p, r, v_set(1.0f / 24));
    p = v_fma(p, r, v_set(1.0f / 6));
    p = v_fma(p, r, v_set(0.5f));
    p = v_fma(p, r, v_set(1.0f));
    p = v_fma(p, r, v_set(1.0f));
    *bits = (vu)rounded;
    return p;
}

/* e^x: at most 2 ulp; 0 below -86, infinity above 88.72, NaN for NaN. */
BERTH_INLINE vf v_exp(vf x)
{
    vu bits;
    vf p = v_exp_parts(x, &bits);
    vf scale = (vf)((bits << 23) + (126u << 23)); /* 2^(n-1), so that n = 128 does not overflow */
    vf y = v_select(x < -86.0f, v_set(0.0f), p * scale * 2.0f);
    return v_select(x > 88.7228317f, v_set(__builtin_inff()), y);
}

/* The same for x <= 0 and NaN. */
BERTH_INLINE vf v_exp_falling(vf x)
{
    vu bits;
    vf p = v_exp_parts(x, &bits);
    vf y = p * (vf)((bits << 23) + (127u << 23));
    return (vf)((vi)y & ~(x < -86.0f));
}

#endif
