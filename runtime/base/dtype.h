/* dtype.h - element types of tensors, their sizes, and exact conversions between the 16-bit floats and fp32.
 * Knows no file format and no device. Narrowing rounds to nearest even; NaN stays a quiet NaN. */
#ifndef BERTH_BASE_DTYPE_H
#define BERTH_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum berth_dtype {
    BERTH_F32 = 0,
    BERTH_F16,
    BERTH_BF16,
    BERTH_I32,
    BERTH_I64,
    BERTH_U8,
    BERTH_DTYPE_COUNT
} berth_dtype;

size_t berth_dtype_size(berth_dtype dtype);      /* bytes of one element */
const char *berth_dtype_name(berth_dtype dtype); /* "f32", "f16", "bf16", "i32", "i64", "u8"; static */
bool berth_dtype_is_float(berth_dtype dtype);

static inline float berth_bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

uint16_t berth_f32_to_bf16(float f);
float berth_f16_to_f32(uint16_t h);
uint16_t berth_f32_to_f16(float f);

/* Widens n elements of `dtype` (F32, F16 or BF16) at `src` to fp32; src and dst do not overlap unless equal and F32. */
void berth_widen_f32(float *dst, const void *src, berth_dtype dtype, size_t n);

/* Rounds n fp32 elements to `dtype` (F32, F16 or BF16), each as berth_f32_to_f16 and berth_f32_to_bf16 do; dst may
 * stand at any byte, and does not overlap src unless equal and F32. */
void berth_narrow_f32(void *dst, const float *src, berth_dtype dtype, size_t n);

#endif
