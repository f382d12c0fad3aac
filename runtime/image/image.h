/* image.h - pictures to pixel values: decode, tile grid, resize, normalise.
 *
 * Owns everything between a file's bytes and float32 [n_tiles, 3, S, S]. Bit exact with Pillow (`convert("RGB")`, bicubic);
 * the order of passes of Pillow 13.0 is the default. Alpha is dropped, never blended; orientation, gamma and colour profiles
 * are ignored, as InternVL does. Sizes are checked from the header before any pixel memory is taken. No global state, any
 * thread; decoders' errors become statuses. Source: Pillow's Resample.c; InternVL's load_image. */
#ifndef BERTH_IMAGE_IMAGE_H
#define BERTH_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct berth_image {
    int32_t width, height;
    uint8_t *rgb; /* owned, [height][width][3] */
} berth_image;

typedef struct berth_image_limits { /* zero = default */
    uint64_t max_pixels;   /* of the decoded picture; default 8192 * 8192. No side may exceed 1,000,000 in any case */
    size_t max_file_bytes; /* default 160 MiB. With the defaults file, pixels and decoder together stay under 1 GiB */
} berth_image_limits;

/* PNG, JPEG, WebP, GIF or BMP by content; of an animation the first frame. `out` is made (owned by the caller), zero on
 * failure. Errors: BERTH_BAD_FILE (malformed, truncated, over a limit, no picture), BERTH_UNSUPPORTED (another format,
 * named), BERTH_OUT_OF_MEMORY; berth_image_load also those of berth_file_read. */
berth_status berth_image_decode(const void *data, size_t n, const berth_image_limits *limits, berth_image *out,
                                berth_error *err);
berth_status berth_image_load(const char *path, const berth_image_limits *limits, berth_image *out, berth_error *err);
void berth_image_deinit(berth_image *img);

typedef struct berth_grid {
    int32_t columns, rows; /* of tiles */
    int32_t n_tiles;       /* columns * rows, plus one when a thumbnail is added */
    int32_t width, height; /* columns * tile, rows * tile */
    bool has_thumbnail;
} berth_grid;

/* The tile grid for a picture of w x h pixels, as InternVL's own code chooses it. Requires 1 <= min_tiles <= max_tiles
 * <= 1024, tile >= 1, w, h >= 1; else BERTH_INVALID_ARGUMENT. */
berth_status berth_grid_choose(int32_t w, int32_t h, int32_t tile, int32_t min_tiles, int32_t max_tiles, bool thumbnail,
                               berth_grid *out, berth_error *err);

typedef enum berth_filter { BERTH_FILTER_BICUBIC, BERTH_FILTER_BILINEAR, BERTH_FILTER_LANCZOS } berth_filter;
typedef enum berth_pass_order { BERTH_PILLOW_13, BERTH_PILLOW_12 } berth_pass_order; /* which axis is resized first */

/* Resizes 8-bit RGB as Pillow does. `out` is made (owned by the caller), zero on failure. Errors: BERTH_INVALID_ARGUMENT
 * (sizes), BERTH_UNSUPPORTED (the older order would need over 1 GiB between the passes), BERTH_OUT_OF_MEMORY. */
berth_status berth_image_resize(const berth_image *in, int32_t w, int32_t h, berth_filter filter,
                                berth_pass_order order, berth_image *out, berth_error *err);

typedef struct berth_preprocess_options {
    int32_t tile, min_tiles, max_tiles;
    bool thumbnail;
    float mean[3], std[3];
    berth_pass_order order;
} berth_preprocess_options;

/* Cuts and normalises one picture: `out_u8` [n_tiles][tile][tile][3], `out_f32` [n_tiles][3][tile][tile], n_tiles as
 * berth_grid_choose says, caller's storage; either may be NULL. The thumbnail stands last. Errors: BERTH_INVALID_ARGUMENT (a
 * grid of another tile size, a std of 0), and those of berth_image_resize. */
berth_status berth_image_tiles(const berth_image *img, const berth_preprocess_options *options, const berth_grid *grid,
                               uint8_t *out_u8, float *out_f32, berth_error *err);

#endif
