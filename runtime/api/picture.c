/* picture.c - one picture of a conversation: from a file, bytes or pixels to tiles, and the digest that names them.
 *
 * A digest covers the source's bytes and everything that decides how tiles are made of them, so equal digests mean equal
 * tiles in this model; the same picture under another name or in another request is the same. */
#include <stdlib.h>
#include <string.h>

#include "api/prompt.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/status.h"

enum { MOST_FILE_BYTES = 160 << 20 };

static berth_preprocess_options options_of(const berth_model *model, int32_t max_tiles)
{
    const berth_model_config *config = berth_model_data_config(model->data);
    berth_preprocess_options o = {.tile = config->vision.image_size,
                                  .min_tiles = config->preprocess.min_tiles,
                                  .max_tiles = config->preprocess.max_tiles,
                                  .thumbnail = config->preprocess.thumbnail,
                                  .order = BERTH_PILLOW_13};
    memcpy(o.mean, config->preprocess.mean, sizeof o.mean);
    memcpy(o.std, config->preprocess.std, sizeof o.std);
    if (max_tiles > 0) {
        o.max_tiles = max_tiles;
        if (o.min_tiles > max_tiles) o.min_tiles = max_tiles;
    }
    return o;
}

/* SHA-256 of the source's own digest and the numbers around it. */
static bool make_digest(const berth_content *c, const void *bytes, size_t size, const berth_preprocess_options *o,
                        uint8_t out[32])
{
    struct {
        uint8_t source[32];
        int32_t is_pixels, width, height, tile, min_tiles, max_tiles, thumbnail, order;
        float mean[3], std[3];
    } all;
    memset(&all, 0, sizeof all);
    if (!berth_sha256(bytes, size, all.source)) return false;
    all.is_pixels = c->kind == BERTH_CONTENT_PIXELS;
    all.width = all.is_pixels ? c->width : 0;
    all.height = all.is_pixels ? c->height : 0;
    all.tile = o->tile;
    all.min_tiles = o->min_tiles;
    all.max_tiles = o->max_tiles;
    all.thumbnail = o->thumbnail;
    all.order = (int32_t)o->order;
    memcpy(all.mean, o->mean, sizeof all.mean);
    memcpy(all.std, o->std, sizeof all.std);
    return berth_sha256(&all, sizeof all, out);
}

bool berth_picture_digest(const berth_model *model, const berth_content *source, berth_picture *out)
{
    const berth_preprocess_options o = options_of(model, out->max_tiles);
    return make_digest(source, source->data, source->size, &o, out->digest);
}

bool berth_picture_tile_digest(const berth_picture *picture, int32_t tile, uint8_t out[32])
{
    uint8_t both[36];
    memcpy(both, picture->digest, 32);
    memcpy(both + 32, &tile, 4);
    return berth_sha256(both, sizeof both, out);
}

/* Room for `extra` more tiles; at least doubled, so that many pictures do not move the pixels again and again. */
static berth_status reserve_tiles(berth_prepared *p, int32_t extra, size_t tile_floats, berth_error *err)
{
    const size_t n = (size_t)p->n_packed + (size_t)extra;
    if (n <= p->cap_tiles) return BERTH_OK;
    const size_t cap = n > 2 * p->cap_tiles ? n : 2 * p->cap_tiles;
    float *more =
        cap <= SIZE_MAX / sizeof(float) / tile_floats ? realloc(p->pixels, cap * tile_floats * sizeof(float)) : NULL;
    if (more == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %zu image tiles", n);
    p->pixels = more;
    p->cap_tiles = cap;
    return BERTH_OK;
}

/* The tiles of `img`, behind those that are there. */
static berth_status cut(const berth_image *img, const berth_preprocess_options *o, berth_picture *out,
                        berth_prepared *p, berth_error *err)
{
    const int64_t begin = berth_now_ns();
    berth_grid grid;
    berth_status st =
        berth_grid_choose(img->width, img->height, o->tile, o->min_tiles, o->max_tiles, o->thumbnail, &grid, err);
    if (st != BERTH_OK) return st;
    const size_t tile_floats = (size_t)3 * (size_t)o->tile * (size_t)o->tile;
    st = reserve_tiles(p, grid.n_tiles, tile_floats, err);
    if (st == BERTH_OK) st = berth_image_tiles(img, o, &grid, NULL, p->pixels + (size_t)p->n_packed * tile_floats, err);
    p->tiles_ns += berth_now_ns() - begin;
    if (st != BERTH_OK) return st;
    out->first = p->n_packed;
    out->n_tiles = grid.n_tiles;
    p->n_packed += grid.n_tiles;
    return BERTH_OK;
}

static berth_status cut_encoded(const void *bytes, size_t size, const berth_preprocess_options *o, berth_picture *out,
                                berth_prepared *p, berth_error *err)
{
    const int64_t begin = berth_now_ns();
    berth_image img = {0};
    berth_status st = berth_image_decode(bytes, size, NULL, &img, err);
    p->decode_ns += berth_now_ns() - begin;
    if (st == BERTH_OK) st = cut(&img, o, out, p, err);
    berth_image_deinit(&img);
    return st;
}

berth_status berth_picture_add(const berth_prepare_job *job, const berth_content *c, berth_picture *out,
                               berth_prepared *p, berth_error *err)
{
    const berth_preprocess_options o = options_of(job->model, out->max_tiles);
    const char *bytes = c->data;
    size_t size = c->size;
    char *file = NULL;
    berth_status st = BERTH_OK;
    if (c->kind == BERTH_CONTENT_IMAGE_FILE) {
        const int64_t begin = berth_now_ns();
        st = berth_file_read(c->data, MOST_FILE_BYTES, &file, &size, err);
        bytes = file;
        p->decode_ns += berth_now_ns() - begin;
    }
    if (st == BERTH_OK && c->kind == BERTH_CONTENT_PIXELS) {
        const berth_image img = {.width = c->width, .height = c->height, .rgb = (uint8_t *)(uintptr_t)bytes};
        st = cut(&img, &o, out, p, err);
    } else if (st == BERTH_OK) {
        st = cut_encoded(bytes, size, &o, out, p, err);
        if (st != BERTH_OK && file != NULL) berth_error_prefix(err, "%s: ", c->data);
    }
    if (st == BERTH_OK && job->wants_digests && !make_digest(c, bytes, size, &o, out->digest))
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory to hash a picture");
    if (st == BERTH_OK && job->keeps_bytes && file != NULL) {
        out->bytes = file;
        out->size = size;
        file = NULL;
    }
    free(file);
    return st;
}
