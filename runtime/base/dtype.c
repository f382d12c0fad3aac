/* dtype.c - see dtype.h. The float conversions work on bits, so that they are exact whatever the rounding and denormal
 * modes of the calling thread are. */
#include "base/dtype.h"

size_t berth_dtype_size(berth_dtype dtype)
{
    switch (dtype) {
    case BERTH_F32: return 4;
    case BERTH_F16: return 2;
    case BERTH_BF16: return 2;
    case BERTH_I32: return 4;
    case BERTH_I64: return 8;
    case BERTH_U8: return 1;
    case BERTH_DTYPE_COUNT: break;
    }
    return 0;
}

const char *berth_dtype_name(berth_dtype dtype)
{
    static const char *const names[BERTH_DTYPE_COUNT] = {
        [BERTH_F32] = "f32", [BERTH_F16] = "f16", [BERTH_BF16] = "bf16",
        [BERTH_I32] = "i32", [BERTH_I64] = "i64", [BERTH_U8] = "u8",
    };
    return (unsigned)dtype < BERTH_DTYPE_COUNT ? names[dtype] : "unknown";
}

bool berth_dtype_is_float(berth_dtype dtype)
{
    return dtype == BERTH_F32 || dtype == BERTH_F16 || dtype == BERTH_BF16;
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

uint16_t berth_f32_to_bf16(float f)
{
    uint32_t u = bits_of(f);
    if ((u & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

float berth_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exponent = h >> 10 & 31, mantissa = h & 0x3FF;
    if (exponent == 31) return float_of(sign | 0x7F800000 | mantissa << 13 | (mantissa ? 0x400000 : 0));
    if (exponent) return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
    if (!mantissa) return float_of(sign);
    int shift = __builtin_clz(mantissa) - 21; /* brings the leading one to bit 10 */
    return float_of(sign | (uint32_t)(113 - shift) << 23 | (mantissa << shift & 0x3FF) << 13);
}

/* value >> shift, rounded to nearest even; 0 < shift < 32. */
static uint32_t shift_right_even(uint32_t value, int shift)
{
    uint32_t half = 1u << (shift - 1), kept = value >> shift, rest = value & ((half << 1) - 1);
    return kept + (rest > half || (rest == half && (kept & 1)));
}

uint16_t berth_f32_to_f16(float f)
{
    uint32_t u = bits_of(f), sign = u >> 16 & 0x8000, magnitude = u & 0x7FFFFFFF;
    if (magnitude > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
    if (magnitude >= 0x477FF000) return (uint16_t)(sign | 0x7C00); /* 65520 and up */
    if (magnitude >= 0x38800000)
        return (uint16_t)(sign | shift_right_even(magnitude - (112u << 23), 13)); /* 2^-14 and up */
    if (magnitude < 0x33000000) return (uint16_t)sign;                            /* under 2^-25 */
    uint32_t mantissa = (magnitude & 0x7FFFFF) | 0x800000;
    return (uint16_t)(sign | shift_right_even(mantissa, 126 - (int)(magnitude >> 23)));
}

/* ---- widening of arrays: four elements at a time; `src` may stand at any byte ---- */

typedef uint16_t u16x4 __attribute__((vector_size(8)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef float f32x4 __attribute__((vector_size(16)));

static void widen_bf16(float *dst, const char *src, size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        u16x4 h;
        memcpy(&h, src + 2 * i, sizeof h);
        u32x4 u = __builtin_convertvector(h, u32x4) << 16;
        memcpy(dst + i, &u, sizeof u);
    }
    for (; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, sizeof h);
        dst[i] = berth_bf16_to_f32(h);
    }
}

/* As berth_f16_to_f32, without branches. A subnormal m * 2^-24 is (0.5 + m * 2^-24) - 0.5: exact, and no fp32 subnormal. */
static void widen_f16(float *dst, const char *src, size_t n)
{
    const u32x4 rebias = {112u << 23, 112u << 23, 112u << 23, 112u << 23};
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        u16x4 h;
        memcpy(&h, src + 2 * i, sizeof h);
        u32x4 u = __builtin_convertvector(h, u32x4), magnitude = u & 0x7FFF;
        i32x4 order = (i32x4)magnitude; /* SSE2 compares signed numbers only */
        u32x4 is_small = (u32x4)(order < 0x400), is_special = (u32x4)(order > 0x7BFF), is_nan = (u32x4)(order > 0x7C00);
        u32x4 large = (magnitude << 13) + rebias + (rebias & is_special);
        u32x4 small = (u32x4)((f32x4)(magnitude | 0x3F000000) - 0.5f) & 0x7FFFFFFF;
        u32x4 bits = (small & is_small) | (large & ~is_small) | (is_nan & 0x400000) | (u & 0x8000) << 16;
        memcpy(dst + i, &bits, sizeof bits);
    }
    for (; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, sizeof h);
        dst[i] = berth_f16_to_f32(h);
    }
}

void berth_widen_f32(float *dst, const void *src, berth_dtype dtype, size_t n)
{
    if (dtype == BERTH_BF16) widen_bf16(dst, src, n);
    if (dtype == BERTH_F16) widen_f16(dst, src, n);
    if (dtype == BERTH_F32 && dst != src && n) memcpy(dst, src, n * sizeof *dst);
}

/* ---- rounding of arrays: four elements at a time, without branches ---- */

static u32x4 choose(u32x4 mask, u32x4 yes, u32x4 no)
{
    return (yes & mask) | (no & ~mask);
}

/* As berth_f32_to_bf16. */
static u32x4 round_bf16(u32x4 u)
{
    const i32x4 order = (i32x4)(u & 0x7FFFFFFF);
    const u32x4 is_nan = (u32x4)(order > 0x7F800000);
    return choose(is_nan, u >> 16 | 0x40, (u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

/* As berth_f32_to_f16. A result under 2^-14 is the low bits of |f| + 0.5, where one unit in the last place is 2^-24: the
 * addition rounds to nearest even. */
static u32x4 round_f16(u32x4 u)
{
    const u32x4 sign = u >> 16 & 0x8000, magnitude = u & 0x7FFFFFFF;
    const i32x4 order = (i32x4)magnitude;
    const u32x4 is_small = (u32x4)(order < 0x38800000), is_large = (u32x4)(order >= 0x477FF000);
    const u32x4 is_nan = (u32x4)(order > 0x7F800000);
    const u32x4 normal = (magnitude - (112u << 23) + 0xFFF + (magnitude >> 13 & 1)) >> 13;
    const u32x4 small = (u32x4)((f32x4)(magnitude & is_small) + 0.5f) - 0x3F000000;
    const u32x4 large = choose(is_nan, (magnitude >> 13 & 0x3FF) | 0x7E00, (u32x4){0x7C00, 0x7C00, 0x7C00, 0x7C00});
    return sign | choose(is_large, large, choose(is_small, small, normal));
}

static void narrow_four(char *out, const float *src, berth_dtype dtype)
{
    u32x4 u;
    memcpy(&u, src, sizeof u);
    const u16x4 h = __builtin_convertvector(dtype == BERTH_BF16 ? round_bf16(u) : round_f16(u), u16x4);
    memcpy(out, &h, sizeof h);
}

void berth_narrow_f32(void *dst, const float *src, berth_dtype dtype, size_t n)
{
    char *out = dst;
    if (dtype == BERTH_F32 && dst != src && n) memcpy(dst, src, n * sizeof *src);
    if (dtype == BERTH_F32) return;
    size_t i = 0;
    if (dtype == BERTH_BF16)
        for (; i + 4 <= n; i += 4) narrow_four(out + 2 * i, src + i, BERTH_BF16);
    else
        for (; i + 4 <= n; i += 4) narrow_four(out + 2 * i, src + i, BERTH_F16);
    for (; i < n; i++) {
        uint16_t h = dtype == BERTH_BF16 ? berth_f32_to_bf16(src[i]) : berth_f32_to_f16(src[i]);
        memcpy(out + 2 * i, &h, sizeof h);
    }
}
