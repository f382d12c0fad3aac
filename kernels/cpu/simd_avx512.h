/* simd_avx512.h - 16 lanes with AVX-512; part of simd.h. */
#include <immintrin.h>

BERTH_INLINE vf v_fma(vf a, vf b, vf c)
{
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}

BERTH_INLINE vf v_max(vf a, vf b)
{
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
}

BERTH_INLINE vf v_widen_bf16(vh h)
{
    return (vf)((vu)_mm512_cvtepu16_epi32((__m256i)h) << 16);
}

BERTH_INLINE vf v_widen_f16(vh h)
{
    return (vf)_mm512_cvtph_ps((__m256i)h);
}

BERTH_INLINE vh v_round_f16(vf x)
{
    return (vh)_mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT);
}

BERTH_INLINE vh v_pack(vu u)
{
    return (vh)_mm512_cvtepi32_epi16((__m512i)u);
}
