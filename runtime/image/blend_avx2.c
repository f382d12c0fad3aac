/* blend_avx2.c - the weighted sum of rows with AVX2, exact.
 *
 * A 22-bit weight is high * 2^15 + low, two signed 16-bit numbers, so that one pmaddwd multiplies and adds the bytes of two
 * rows for each half. Sums wrap around modulo 2^32 on the way, which changes nothing as the result fits. Easy to get wrong:
 * unpacking works within 128-bit halves, and packing puts the bytes back in the same order. */
#include "image/image_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>

enum { fraction_bits = 22, split_bits = 15, lane_bytes = 32 };

typedef struct sums {
    __m256i high[4], low[4]; /* 8 x int32 each: bytes 0-3, 4-7, 8-11, 12-15 of both halves */
} sums;

/* Adds rows a and b (32 bytes each) with two pairs of weights. */
static inline __attribute__((always_inline, target("avx2"))) void add_rows(sums *s, const uint8_t *a, const uint8_t *b,
                                                                           __m256i high, __m256i low)
{
    __m256i zero = _mm256_setzero_si256();
    __m256i va = _mm256_loadu_si256((const __m256i *)a), vb = _mm256_loadu_si256((const __m256i *)b);
    __m256i ab0 = _mm256_unpacklo_epi8(va, vb), ab1 = _mm256_unpackhi_epi8(va, vb);
    __m256i pairs[4] = {_mm256_unpacklo_epi8(ab0, zero), _mm256_unpackhi_epi8(ab0, zero),
                        _mm256_unpacklo_epi8(ab1, zero), _mm256_unpackhi_epi8(ab1, zero)};
#pragma GCC unroll 4 /* else gcc keeps the sums in memory */
    for (int k = 0; k < 4; k++) {
        s->high[k] = _mm256_add_epi32(s->high[k], _mm256_madd_epi16(pairs[k], high));
        s->low[k] = _mm256_add_epi32(s->low[k], _mm256_madd_epi16(pairs[k], low));
    }
}

static inline __attribute__((always_inline, target("avx2"))) void blend_lanes(uint8_t *dst, const uint8_t *src,
                                                                              size_t stride, const int16_t *split,
                                                                              int32_t n)
{
    sums s;
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        s.high[k] = _mm256_setzero_si256();
        s.low[k] = _mm256_set1_epi32(1 << (fraction_bits - 1));
    }
    int32_t t = 0;
    for (; t + 1 < n; t += 2, src += 2 * stride, split += 4) {
        __m256i both = _mm256_broadcastq_epi64(_mm_loadl_epi64((const __m128i *)split));
        add_rows(&s, src, src + stride, _mm256_shuffle_epi32(both, 0xa0), _mm256_shuffle_epi32(both, 0xf5));
    }
    if (t < n) { /* the second weight of the last pair is zero */
        __m256i both = _mm256_broadcastq_epi64(_mm_loadl_epi64((const __m128i *)split));
        add_rows(&s, src, src, _mm256_shuffle_epi32(both, 0xa0), _mm256_shuffle_epi32(both, 0xf5));
    }
    __m256i v[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        v[k] = _mm256_srai_epi32(_mm256_add_epi32(_mm256_slli_epi32(s.high[k], split_bits), s.low[k]), fraction_bits);
    }
    __m256i words0 = _mm256_packs_epi32(v[0], v[1]), words1 = _mm256_packs_epi32(v[2], v[3]);
    _mm256_storeu_si256((__m256i *)dst, _mm256_packus_epi16(words0, words1));
}

__attribute__((target("avx2"))) void berth_blend_avx2(uint8_t *dst, const uint8_t *src, size_t stride,
                                                      const int32_t *weights, const int16_t *split, int32_t n,
                                                      size_t width)
{
    size_t i = 0;
    for (; i + lane_bytes <= width; i += lane_bytes) blend_lanes(dst + i, src + i, stride, split, n);
    if (i == width) return;
    if (width < lane_bytes) {
        berth_blend_plain(dst, src, stride, weights, split, n, width);
    } else { /* once more over some bytes that are already there */
        blend_lanes(dst + width - lane_bytes, src + width - lane_bytes, stride, split, n);
    }
}
#endif
