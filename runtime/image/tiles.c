/* tiles.c - one picture to its tiles: resize to the grid, cut, normalise.
 *
 * Easy to get wrong: the thumbnail is made from the picture itself, not from the grid, and stands last; a value is
 * (p / 255 - mean) / std with two float32 divisions, where reciprocals change a third of the values. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "image/image_internal.h"

typedef struct value_table {
    float of[3][256];
} value_table;

static void fill_values(const berth_preprocess_options *o, value_table *t)
{
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < 256; v++) t->of[c][v] = ((float)v / 255.0f - o->mean[c]) / o->std[c];
    }
}

static berth_status check(const berth_image *img, const berth_preprocess_options *o, const berth_grid *g,
                          berth_error *err)
{
    for (int c = 0; c < 3; c++) {
        if (!isfinite(o->mean[c]) || !isfinite(o->std[c]) || o->std[c] == 0.0f) {
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                              "channel %d: mean %g and std %g cannot normalise; both finite and std not 0 is needed", c,
                              (double)o->mean[c], (double)o->std[c]);
        }
    }
    bool fits = img->rgb && o->tile >= 1 && g->columns >= 1 && g->rows >= 1 &&
                (int64_t)g->columns * o->tile == g->width && (int64_t)g->rows * o->tile == g->height &&
                (int64_t)g->columns * g->rows + g->has_thumbnail == g->n_tiles;
    if (fits) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                      "a grid of %d x %d tiles and %d x %d pixels is not one of tiles of %d", g->columns, g->rows,
                      g->width, g->height, o->tile);
}

typedef struct tile_output {
    uint8_t *u8; /* [n_tiles][tile][tile][3] or NULL */
    float *f32;  /* [n_tiles][3][tile][tile] or NULL */
    size_t tile;
    value_table values;
} tile_output;

/* Tile n of the output from column x, row y of `img`. */
static void cut_tile(const tile_output *out, size_t n, const berth_image *img, int32_t x, int32_t y)
{
    size_t tile = out->tile, plane = tile * tile;
    for (size_t r = 0; r < tile; r++) {
        const uint8_t *from = img->rgb + (((size_t)y + r) * (size_t)img->width + (size_t)x) * 3;
        if (out->u8) memcpy(out->u8 + (n * plane + r * tile) * 3, from, tile * 3);
        if (!out->f32) continue;
        float *to = out->f32 + n * plane * 3 + r * tile;
        for (size_t k = 0; k < tile; k++) {
            for (size_t c = 0; c < 3; c++) to[c * plane + k] = out->values.of[c][from[3 * k + c]];
        }
    }
}

berth_status berth_image_tiles(const berth_image *img, const berth_preprocess_options *o, const berth_grid *g,
                               uint8_t *out_u8, float *out_f32, berth_error *err)
{
    berth_status st = check(img, o, g, err);
    if (st != BERTH_OK) return st;
    tile_output out = {.u8 = out_u8, .f32 = out_f32, .tile = (size_t)o->tile};
    fill_values(o, &out.values);
    berth_image scaled;
    st = berth_image_resize(img, g->width, g->height, BERTH_FILTER_BICUBIC, o->order, &scaled, err);
    if (st != BERTH_OK) return st;
    size_t n = 0;
    for (int32_t row = 0; row < g->rows; row++) {
        for (int32_t column = 0; column < g->columns; column++) {
            cut_tile(&out, n++, &scaled, column * o->tile, row * o->tile);
        }
    }
    berth_image_deinit(&scaled);
    if (!g->has_thumbnail) return BERTH_OK;
    st = berth_image_resize(img, o->tile, o->tile, BERTH_FILTER_BICUBIC, o->order, &scaled, err);
    if (st != BERTH_OK) return st;
    cut_tile(&out, n, &scaled, 0, 0);
    berth_image_deinit(&scaled);
    return BERTH_OK;
}
