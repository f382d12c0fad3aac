/* resize.c - an 8-bit RGB picture to another size, as Pillow does it, byte for byte.
 *
 * Owns the two passes and their order. Both passes are one inner loop over rows of bytes (blend.c): the horizontal one
 * works on 32 rows at a time, turned so that a pixel's channel in 32 rows lies together. Easy to get wrong: each pass
 * rounds and clamps to bytes, so the order of the passes shows; an axis that keeps its size is left out.
 * Source: Pillow 13.0's Resample.c, ImagingResample. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "image/image_internal.h"

enum {
    band_rows = 32,     /* rows that are turned together */
    block_columns = 64, /* output columns made from one turned block */
    turn = 16           /* bytes on a side of the square that is turned at once */
};

typedef uint8_t bytes16 __attribute__((vector_size(16)));

#define INTERLEAVE_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define INTERLEAVE_HIGH(a, b)                                                                                          \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)

/* to[i][k] = from[k][i] for a square of 16 x 16 bytes: four rounds of the perfect shuffle. */
static void turn_square(uint8_t *to, size_t to_stride, const uint8_t *const from[turn])
{
    bytes16 a[turn], b[turn];
#pragma GCC unroll 16 /* else gcc keeps the square in memory */
    for (int i = 0; i < turn; i++) memcpy(&a[i], from[i], turn);
#pragma GCC unroll 2
    for (int round = 0; round < 2; round++) {
#pragma GCC unroll 8
        for (int i = 0; i < turn / 2; i++) {
            b[2 * i] = INTERLEAVE_LOW(a[i], a[i + turn / 2]);
            b[2 * i + 1] = INTERLEAVE_HIGH(a[i], a[i + turn / 2]);
        }
#pragma GCC unroll 8
        for (int i = 0; i < turn / 2; i++) {
            a[2 * i] = INTERLEAVE_LOW(b[i], b[i + turn / 2]);
            a[2 * i + 1] = INTERLEAVE_HIGH(b[i], b[i + turn / 2]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < turn; i++) memcpy(to + (size_t)i * to_stride, &a[i], turn);
}

/* to[i][r] = row[r][i] for i < n and the band's rows. */
static void turn_in(uint8_t *to, const uint8_t *const rows[band_rows], size_t n)
{
    size_t i = 0;
    for (; n >= turn && i < n; i += turn) {
        if (i + turn > n) i = n - turn; /* the last square overlaps the one before */
        for (int r = 0; r < band_rows; r += turn) {
            const uint8_t *from[turn];
            for (int k = 0; k < turn; k++) from[k] = rows[r + k] + i;
            turn_square(to + i * band_rows + r, band_rows, from);
        }
    }
    for (; i < n; i++) {
        for (int r = 0; r < band_rows; r++) to[i * band_rows + (size_t)r] = rows[r][i];
    }
}

/* to[r][i] = from[i][r] for i < n, r < n_rows; the rows of `to` are to_stride apart. */
static void turn_out(uint8_t *to, size_t to_stride, const uint8_t *from, size_t n, size_t n_rows)
{
    size_t i = 0;
    for (; n_rows == band_rows && n >= turn && i < n; i += turn) {
        if (i + turn > n) i = n - turn;
        for (size_t r = 0; r < band_rows; r += turn) {
            const uint8_t *columns[turn];
            for (size_t k = 0; k < turn; k++) columns[k] = from + (i + k) * band_rows + r;
            turn_square(to + r * to_stride + i, to_stride, columns);
        }
    }
    for (; i < n; i++) {
        for (size_t r = 0; r < n_rows; r++) to[r * to_stride + i] = from[i * band_rows + r];
    }
}

/* First input column of the block at x, and the number of columns it reads. Windows only move to the right. */
static int32_t block_span(const berth_axis *axis, int32_t x, int32_t n, int32_t *out_from)
{
    int32_t last = x + n - 1;
    *out_from = axis->first[x];
    return axis->first[last] + axis->count[last] - axis->first[x];
}

static int32_t block_size(const berth_axis *axis, int32_t x)
{
    return axis->n_out - x < block_columns ? axis->n_out - x : block_columns;
}

/* Up to band_rows rows, y on: the horizontal pass. `turned` holds the largest block, `made` one block of output. */
static void resize_band(const berth_image *in, const berth_axis *axis, int32_t y, uint8_t *turned, uint8_t *made,
                        berth_blend_fn *blend, berth_image *out)
{
    const size_t pixel_bytes = 3 * band_rows;
    size_t in_stride = (size_t)in->width * 3, out_stride = (size_t)out->width * 3;
    int32_t n_rows = in->height - y < band_rows ? in->height - y : band_rows;
    for (int32_t x = 0; x < axis->n_out; x += block_columns) {
        int32_t n = block_size(axis, x), from;
        int32_t span = block_span(axis, x, n, &from);
        const uint8_t *rows[band_rows];
        for (int32_t r = 0; r < band_rows; r++) { /* a short band repeats its last row */
            rows[r] = in->rgb + (size_t)(y + (r < n_rows ? r : n_rows - 1)) * in_stride + (size_t)from * 3;
        }
        turn_in(turned, rows, (size_t)span * 3);
        for (int32_t k = 0; k < n; k++) {
            size_t w = (size_t)(x + k) * (size_t)axis->stride;
            blend(made + (size_t)k * pixel_bytes, turned + (size_t)(axis->first[x + k] - from) * pixel_bytes,
                  pixel_bytes, axis->weights + w, axis->split + 2 * w, axis->count[x + k], pixel_bytes);
        }
        turn_out(out->rgb + (size_t)y * out_stride + (size_t)x * 3, out_stride, made, (size_t)n * 3, (size_t)n_rows);
    }
}

static berth_status resize_horizontal(const berth_image *in, const berth_axis *axis, berth_image *out, berth_error *err)
{
    int32_t widest = 1, from;
    for (int32_t x = 0; x < axis->n_out; x += block_columns) {
        int32_t span = block_span(axis, x, block_size(axis, x), &from);
        if (span > widest) widest = span;
    }
    uint8_t *turned = malloc((size_t)widest * 3 * band_rows);
    uint8_t *made = malloc((size_t)block_columns * 3 * band_rows);
    berth_status st = BERTH_OK;
    if (turned && made) {
        berth_blend_fn *blend = berth_blend_choose();
        for (int32_t y = 0; y < in->height; y += band_rows) resize_band(in, axis, y, turned, made, blend, out);
    } else {
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory to resize %d x %d pixels", in->width, in->height);
    }
    free(turned);
    free(made);
    return st;
}

static void resize_vertical(const berth_image *in, const berth_axis *axis, berth_image *out)
{
    berth_blend_fn *blend = berth_blend_choose();
    size_t stride = (size_t)in->width * 3;
    for (int32_t y = 0; y < axis->n_out; y++) {
        size_t w = (size_t)y * (size_t)axis->stride;
        blend(out->rgb + (size_t)y * stride, in->rgb + (size_t)axis->first[y] * stride, stride, axis->weights + w,
              axis->split + 2 * w, axis->count[y], stride);
    }
}

/* One pass: `in` to w x h, of which one is its own. */
static berth_status resize_axis(const berth_image *in, int32_t w, int32_t h, berth_filter filter, berth_image *out,
                                berth_error *err)
{
    bool horizontal = w != in->width;
    size_t bytes;
    *out = (berth_image){.width = w, .height = h};
    if (!berth_mul_size((size_t)w * 3, (size_t)h, &bytes) || bytes > PTRDIFF_MAX) {
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "a picture of %d x %d pixels is too large", w, h);
    }
    berth_axis axis;
    berth_status st = berth_axis_init(&axis, horizontal ? in->width : in->height, horizontal ? w : h, filter, err);
    if (st != BERTH_OK) return st;
    out->rgb = malloc(bytes);
    if (!out->rgb) {
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %d x %d pixels", w, h);
    } else if (horizontal) {
        st = resize_horizontal(in, &axis, out, err);
    } else {
        resize_vertical(in, &axis, out);
    }
    berth_axis_deinit(&axis);
    if (st != BERTH_OK) berth_image_deinit(out);
    return st;
}

static berth_status copy_image(const berth_image *in, berth_image *out, berth_error *err)
{
    size_t bytes = (size_t)in->width * 3 * (size_t)in->height;
    *out = (berth_image){.width = in->width, .height = in->height, .rgb = malloc(bytes)};
    if (!out->rgb) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %d x %d pixels", in->width, in->height);
    memcpy(out->rgb, in->rgb, bytes);
    return BERTH_OK;
}

/* Pillow 13.0 shrinks tall pictures vertically first; up to 12.3 the horizontal pass always came first. */
static bool vertical_first(const berth_image *in, int32_t w, int32_t h, berth_pass_order order)
{
    int64_t less_rows = (int64_t)in->height - h, less_columns = (int64_t)in->width - w;
    return order == BERTH_PILLOW_13 && less_rows > 0 && less_rows > 2 * less_columns;
}

/* With the old order a tall picture grows before it shrinks: that may take no more than this many pixels (1 GiB). */
static const int64_t max_between_pixels = (INT64_C(1) << 30) / 3;

berth_status berth_image_resize(const berth_image *in, int32_t w, int32_t h, berth_filter filter,
                                berth_pass_order order, berth_image *out, berth_error *err)
{
    *out = (berth_image){0};
    if (w < 1 || h < 1 || !in->rgb || in->width < 1 || in->height < 1) {
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "cannot resize %d x %d pixels to %d x %d: sizes begin at 1",
                          in->width, in->height, w, h);
    }
    if ((int)filter < 0 || filter > BERTH_FILTER_LANCZOS) {
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "unknown resize filter %d", (int)filter);
    }
    if (w == in->width && h == in->height) return copy_image(in, out, err);
    if (w == in->width || h == in->height) return resize_axis(in, w, h, filter, out, err);
    bool tall = vertical_first(in, w, h, order);
    int32_t between_w = tall ? in->width : w, between_h = tall ? h : in->height;
    if ((int64_t)between_w * between_h > max_between_pixels) {
        return BERTH_FAIL(
            err, BERTH_UNSUPPORTED,
            "resizing %d x %d pixels to %d x %d needs %d x %d between the passes, which is too large; use the "
            "default order of passes",
            in->width, in->height, w, h, between_w, between_h);
    }
    berth_image between;
    berth_status st = resize_axis(in, between_w, between_h, filter, &between, err);
    if (st != BERTH_OK) return st;
    st = resize_axis(&between, w, h, filter, out, err);
    berth_image_deinit(&between);
    return st;
}
