/* image_internal.h - what the files of runtime/image share: limits, pixel memory, the decoders, resize weights. */
#ifndef BERTH_IMAGE_INTERNAL_H
#define BERTH_IMAGE_INTERNAL_H

#include "image/image.h"

/* No side of a picture is longer. It bounds the resize weights (about four per input sample). Source: libpng's
 * PNG_USER_WIDTH_MAX. */
#define BERTH_IMAGE_MAX_SIDE 1000000

/* Checks a declared size against the limits, then takes its pixel memory (not cleared). Errors: BERTH_BAD_FILE,
 * BERTH_OUT_OF_MEMORY. `format` names the file's kind in errors. */
berth_status berth_image_init(berth_image *img, uint64_t width, uint64_t height, const berth_image_limits *limits,
                              const char *format, berth_error *err);

/* One decoder a format. `limits` has no zeros; `out` is zeroed at entry and freed by the caller on failure. */
typedef berth_status berth_image_decoder(const uint8_t *data, size_t n, const berth_image_limits *limits,
                                         berth_image *out, berth_error *err);
berth_image_decoder berth_png_decode, berth_jpeg_decode, berth_webp_decode, berth_gif_decode, berth_bmp_decode;

static inline uint32_t berth_le16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}
static inline uint32_t berth_le32(const uint8_t *p)
{
    return berth_le16(p) | berth_le16(p + 2) << 16;
}
static inline uint32_t berth_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* ---- resize ----------------------------------------------------------------------------------------------------- */

/* How one axis of n_in samples becomes n_out: output x is the sum of weights[x * stride + t] * input[first[x] + t],
 * t < count[x], in 22-bit fixed point. */
typedef struct berth_axis {
    int32_t n_in, n_out, stride; /* stride: even, at least every count */
    int32_t *first, *count;      /* owned, [n_out] */
    int32_t *weights;            /* owned, [n_out][stride], zeros behind count */
    int16_t *split; /* owned, [n_out][stride / 2][4]: high, high, low, low parts of two weights: high * 2^15 + low */
} berth_axis;

berth_status berth_axis_init(berth_axis *axis, int32_t n_in, int32_t n_out, berth_filter filter, berth_error *err);
void berth_axis_deinit(berth_axis *axis);

/* dst[i] = clamp((2^21 + sum_t weights[t] * src[t * stride + i]) >> 22), i < width; `split` holds the same weights. All
 * versions give the same bytes. dst does not overlap src. */
typedef void berth_blend_fn(uint8_t *dst, const uint8_t *src, size_t stride, const int32_t *weights,
                            const int16_t *split, int32_t n, size_t width);
berth_blend_fn berth_blend_plain, berth_blend_avx2;
berth_blend_fn *berth_blend_choose(void); /* the fastest one that this machine has */

#endif
