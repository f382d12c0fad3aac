/* prompt.c - a request's conversation to ids and pixel values: pictures loaded and cut on the host, then the prompt around them. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/status.h"

/* More pictures than any context holds; bounds the arrays below. */
enum { MAX_PICTURES = 1024, MAX_TURNS = 65536, MAX_CONTENT = 65536 };

static berth_status check_turns(const berth_turn *turns, int32_t n_turns, int32_t *out_parts, int32_t *out_pictures,
                                berth_error *err)
{
    if (turns == NULL || n_turns < 1 || n_turns > MAX_TURNS)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "the conversation has %d turns; give 1 to %d", (int)n_turns,
                          MAX_TURNS);
    int64_t parts = 0, pictures = 0;
    for (int32_t i = 0; i < n_turns; i++) {
        if (turns[i].role == NULL || turns[i].n_content < 0 || turns[i].n_content > MAX_CONTENT ||
            (turns[i].n_content > 0 && turns[i].content == NULL)) {
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "turn %d has no role or a wrong content list", (int)i);
        }
        for (int32_t k = 0; k < turns[i].n_content; k++) {
            const berth_content *c = &turns[i].content[k];
            if (c->kind < BERTH_CONTENT_TEXT || c->kind > BERTH_CONTENT_IMAGE_BYTES ||
                (c->data == NULL && (c->kind != BERTH_CONTENT_TEXT || c->size > 0))) {
                return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "turn %d, content %d: neither text nor a picture",
                                  (int)i, (int)k);
            }
            pictures += c->kind != BERTH_CONTENT_TEXT;
        }
        parts += turns[i].n_content;
    }
    if (pictures > MAX_PICTURES || parts > MAX_CONTENT)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%lld pictures in one conversation; at most %d",
                          (long long)pictures, MAX_PICTURES);
    *out_parts = (int32_t)parts;
    *out_pictures = (int32_t)pictures;
    return BERTH_OK;
}

static berth_status load_picture(const berth_content *c, berth_image *out, berth_error *err)
{
    if (c->kind == BERTH_CONTENT_IMAGE_FILE) return berth_image_load(c->data, NULL, out, err);
    return berth_image_decode(c->data, c->size, NULL, out, err);
}

/* Room for `extra` more tiles; at least doubled, so that many pictures do not move the pixels again and again. */
static berth_status reserve_tiles(berth_prepared *p, int32_t extra, size_t tile_floats, berth_error *err)
{
    const size_t n = (size_t)p->n_tiles + (size_t)extra;
    if (n <= p->cap_tiles) return BERTH_OK;
    const size_t cap = n > 2 * p->cap_tiles ? n : 2 * p->cap_tiles;
    float *more =
        cap <= SIZE_MAX / sizeof(float) / tile_floats ? realloc(p->pixels, cap * tile_floats * sizeof(float)) : NULL;
    if (more == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %zu image tiles", n);
    p->pixels = more;
    p->cap_tiles = cap;
    return BERTH_OK;
}

/* Appends the tiles of one picture to `p`. */
static berth_status add_picture(const berth_content *c, const berth_preprocess_options *options, int32_t *out_tiles,
                                berth_prepared *p, berth_error *err)
{
    berth_image img = {0};
    berth_grid grid;
    berth_status st = load_picture(c, &img, err);
    if (st == BERTH_OK)
        st = berth_grid_choose(img.width, img.height, options->tile, options->min_tiles, options->max_tiles,
                               options->thumbnail, &grid, err);
    if (st == BERTH_OK) {
        const size_t tile_floats = (size_t)3 * (size_t)options->tile * (size_t)options->tile;
        st = reserve_tiles(p, grid.n_tiles, tile_floats, err);
        if (st == BERTH_OK)
            st = berth_image_tiles(&img, options, &grid, NULL, p->pixels + (size_t)p->n_tiles * tile_floats, err);
    }
    if (st == BERTH_OK) {
        p->n_tiles += grid.n_tiles;
        *out_tiles = grid.n_tiles;
    }
    berth_image_deinit(&img);
    return st;
}

static berth_status add_pictures(const berth_model_config *config, const berth_turn *turns, int32_t n_turns,
                                 int32_t max_tiles, int32_t *tiles, berth_prepared *p, berth_error *err)
{
    berth_preprocess_options options = {.tile = config->vision.image_size,
                                        .min_tiles = config->preprocess.min_tiles,
                                        .max_tiles = config->preprocess.max_tiles,
                                        .thumbnail = config->preprocess.thumbnail,
                                        .order = BERTH_PILLOW_13};
    memcpy(options.mean, config->preprocess.mean, sizeof options.mean);
    memcpy(options.std, config->preprocess.std, sizeof options.std);
    if (max_tiles > 0) {
        options.max_tiles = max_tiles;
        if (options.min_tiles > max_tiles) options.min_tiles = max_tiles;
    }
    int32_t picture = 0;
    for (int32_t i = 0; i < n_turns; i++) {
        for (int32_t k = 0; k < turns[i].n_content; k++) {
            if (turns[i].content[k].kind == BERTH_CONTENT_TEXT) continue;
            berth_status st = add_picture(&turns[i].content[k], &options, &tiles[picture++], p, err);
            if (st != BERTH_OK) return st;
        }
    }
    return BERTH_OK;
}

static void fill_messages(const berth_turn *turns, int32_t n_turns, berth_message *messages, berth_part *parts)
{
    for (int32_t i = 0; i < n_turns; i++) {
        messages[i] = (berth_message){.role = turns[i].role, .parts = parts, .n_parts = turns[i].n_content};
        for (int32_t k = 0; k < turns[i].n_content; k++, parts++) {
            const berth_content *c = &turns[i].content[k];
            *parts = (berth_part){.kind = BERTH_PART_IMAGE};
            if (c->kind == BERTH_CONTENT_TEXT)
                *parts = (berth_part){.kind = BERTH_PART_TEXT, .text = c->data != NULL ? c->data : "", .len = c->size};
        }
    }
}

berth_status berth_prepare(const berth_model *model, const berth_tokenizer *tokenizer, const berth_turn *turns,
                           int32_t n_turns, int32_t max_tiles, berth_prepared *out, berth_error *err)
{
    *out = (berth_prepared){0};
    int32_t n_parts = 0, n_pictures = 0;
    berth_status st = check_turns(turns, n_turns, &n_parts, &n_pictures, err);
    if (st != BERTH_OK) return st;
    const berth_model_config *config = berth_model_data_config(model->data);
    if (n_pictures > 0 && !config->has_vision) {
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "a picture was given, but this model reads text only (no vision tower in %s)",
                          berth_model_data_dir(model->data));
    }
    int32_t *tiles = calloc((size_t)n_pictures + 1, sizeof *tiles);
    berth_message *messages = calloc((size_t)n_turns, sizeof *messages);
    berth_part *parts = calloc((size_t)n_parts + 1, sizeof *parts);
    if (tiles == NULL || messages == NULL || parts == NULL) {
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a conversation of %d turns", (int)n_turns);
        goto done;
    }
    const int64_t t0 = berth_now_ns();
    if (n_pictures > 0) st = add_pictures(config, turns, n_turns, max_tiles, tiles, out, err);
    const int64_t t1 = berth_now_ns();
    if (st == BERTH_OK) {
        fill_messages(turns, n_turns, messages, parts);
        const berth_prompt_options options = {.form = config->chat,
                                              .tiles = tiles,
                                              .n_images = n_pictures,
                                              .tokens_per_tile =
                                                  config->has_vision ? config->vision.tokens_per_tile : 0};
        st = berth_prompt_ids(tokenizer, messages, n_turns, &options, &out->ids, NULL, err);
    }
    out->image_ns = t1 - t0;
    out->tokenize_ns = berth_now_ns() - t1;
done:
    free(parts);
    free(messages);
    free(tiles);
    if (st != BERTH_OK) berth_prepared_deinit(out);
    return st;
}

void berth_prepared_deinit(berth_prepared *p)
{
    free(p->pixels);
    berth_ids_deinit(&p->ids);
    *p = (berth_prepared){0};
}
