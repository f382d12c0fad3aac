/* round.h - weights rounded to 16 bits, a vector at a time; part of set.h. F16C's own rounding gives berth_f32_to_f16's
 * bits: to nearest even by its operand whatever the thread's mode, subnormals always, a NaN quiet with its upper bits. */
#include "kernels/cpu/cpu_internal.h"
#include "kernels/cpu/simd.h"

#if defined(__F16C__)

/* As berth_f32_to_bf16. */
BERTH_INLINE vh round_bf16(vf x)
{
    const vu u = (vu)x;
    const vu is_nan = (vu)((vi)(u & 0x7FFFFFFF) > 0x7F800000);
    const vu plain = (u + 0x7FFF + (u >> 16 & 1)) >> 16;
    return v_pack(((u >> 16 | 0x40) & is_nan) | (plain & ~is_nan));
}

BERTH_INLINE bool round_from(char *dst, berth_dtype to, const char *src, berth_dtype from, size_t n)
{
    const size_t size = from == BERTH_F32 ? 4 : 2;
    vi any = {0};
    size_t i = 0;
    for (; i + BERTH_LANES <= n; i += BERTH_LANES) {
        const vf x = v_load_weights(src + i * size, from);
        any |= ((vi)x & 0x7FFFFFFF) > 0x477FE000; /* the bits of 65504 */
        *(vh_at *)(dst + 2 * i) = to == BERTH_F16 ? v_round_f16(x) : round_bf16(x);
    }
    int32_t found = 0;
    for (int k = 0; k < BERTH_LANES; k++) found |= any[k];
    return berth_cpu_round(dst + 2 * i, to, src + i * size, from, n - i) || found;
}

/* A loop for each pair of dtypes. */
static bool round_weights(void *dst, berth_dtype to, const void *src, berth_dtype from, size_t n)
{
    if (to == BERTH_F16) {
        if (from == BERTH_BF16) return round_from(dst, BERTH_F16, src, BERTH_BF16, n);
        if (from == BERTH_F16) return round_from(dst, BERTH_F16, src, BERTH_F16, n);
        return round_from(dst, BERTH_F16, src, BERTH_F32, n);
    }
    if (from == BERTH_BF16) return round_from(dst, BERTH_BF16, src, BERTH_BF16, n);
    if (from == BERTH_F16) return round_from(dst, BERTH_BF16, src, BERTH_F16, n);
    return round_from(dst, BERTH_BF16, src, BERTH_F32, n);
}

#else

static bool round_weights(void *dst, berth_dtype to, const void *src, berth_dtype from, size_t n)
{
    return berth_cpu_round(dst, to, src, from, n);
}

#endif
