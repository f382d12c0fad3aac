/* blend.c - the inner loop of a resize: a weighted sum of rows of bytes, and the choice between its versions. */
#include "image/image_internal.h"

enum { fraction_bits = 22, lane_bytes = 32 };

/* The sums stay within 32 bits for every filter here (the absolute weights add up to less than 2 * 2^22); they are taken
 * in unsigned so that nothing is undefined for others. */
static inline uint8_t finish(uint32_t sum)
{
    int32_t v = (int32_t)sum >> fraction_bits;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

void berth_blend_plain(uint8_t *dst, const uint8_t *src, size_t stride, const int32_t *weights, const int16_t *split,
                       int32_t n, size_t width)
{
    (void)split;
    size_t i = 0;
    for (; i + lane_bytes <= width; i += lane_bytes) {
        uint32_t sum[lane_bytes];
        for (size_t k = 0; k < lane_bytes; k++) sum[k] = 1u << (fraction_bits - 1);
        for (int32_t t = 0; t < n; t++) {
            const uint8_t *row = src + (size_t)t * stride + i;
            uint32_t w = (uint32_t)weights[t];
            for (size_t k = 0; k < lane_bytes; k++) sum[k] += w * row[k];
        }
        for (size_t k = 0; k < lane_bytes; k++) dst[i + k] = finish(sum[k]);
    }
    for (; i < width; i++) {
        uint32_t sum = 1u << (fraction_bits - 1);
        for (int32_t t = 0; t < n; t++) sum += (uint32_t)weights[t] * src[(size_t)t * stride + i];
        dst[i] = finish(sum);
    }
}

berth_blend_fn *berth_blend_choose(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) return berth_blend_avx2;
#endif
    return berth_blend_plain;
}
