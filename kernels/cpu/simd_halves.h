/* simd_halves.h - 16 lanes as two halves of AVX2, for tests; part of simd.h. */
#include <immintrin.h>

typedef union simd_halves {
    vf v;
    __m256 half[2];
} simd_halves;

BERTH_INLINE vf v_fma(vf a, vf b, vf c)
{
    simd_halves x = {.v = a}, y = {.v = b}, z = {.v = c};
    z.half[0] = _mm256_fmadd_ps(x.half[0], y.half[0], z.half[0]);
    z.half[1] = _mm256_fmadd_ps(x.half[1], y.half[1], z.half[1]);
    return z.v;
}

BERTH_INLINE vf v_max(vf a, vf b)
{
    return v_select(a > b, a, b);
}

BERTH_INLINE vf v_widen_bf16(vh h)
{
    return (vf)(__builtin_convertvector(h, vu) << 16);
}

BERTH_INLINE vf v_widen_f16(vh h)
{
    union {
        vh h;
        __m128i half[2];
    } in = {.h = h};
    simd_halves out = {.half = {_mm256_cvtph_ps(in.half[0]), _mm256_cvtph_ps(in.half[1])}};
    return out.v;
}

BERTH_INLINE vh v_round_f16(vf x)
{
    simd_halves in = {.v = x};
    union {
        vh h;
        __m128i half[2];
    } out = {.half = {_mm256_cvtps_ph(in.half[0], _MM_FROUND_TO_NEAREST_INT),
                      _mm256_cvtps_ph(in.half[1], _MM_FROUND_TO_NEAREST_INT)}};
    return out.h;
}

BERTH_INLINE vh v_pack(vu u)
{
    return __builtin_convertvector(u, vh);
}
