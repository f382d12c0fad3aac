/* simd_avx2.h - 8 lanes with AVX2, FMA and F16C; part of simd.h. */
#include <immintrin.h>

BERTH_INLINE vf v_fma(vf a, vf b, vf c)
{
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}

BERTH_INLINE vf v_max(vf a, vf b)
{
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
}

/* gcc 12 makes four instructions of __builtin_convertvector here. */
BERTH_INLINE vf v_widen_bf16(vh h)
{
    return (vf)((vu)_mm256_cvtepu16_epi32((__m128i)h) << 16);
}

BERTH_INLINE vf v_widen_f16(vh h)
{
    return (vf)_mm256_cvtph_ps((__m128i)h);
}

BERTH_INLINE vh v_round_f16(vf x)
{
    return (vh)_mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT);
}

BERTH_INLINE vh v_pack(vu u)
{
    const __m256i v = (__m256i)u;
    return (vh)_mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}
