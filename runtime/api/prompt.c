/* prompt.c - see prompt.h. New pictures first, because the prompt needs their tile counts; then the prompt; then those
 * old pictures that must be computed again. */
#include "api/prompt.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/status.h"

/* ---- checks -------------------------------------------------------------------------------------------------------- */

/* As the pictures that are decoded; of a text no more than the tokenizer takes. */
enum { MOST_SIDE = 1000000, MOST_PIXELS = 1 << 26, MOST_BYTES = 1 << 30, MOST_PATH = 4096 };

static bool content_is_right(const berth_content *c)
{
    if (c->data == NULL) return c->kind == BERTH_CONTENT_TEXT && c->size == 0;
    switch (c->kind) {
    case BERTH_CONTENT_TEXT:
    case BERTH_CONTENT_IMAGE_BYTES: return c->size <= MOST_BYTES;
    case BERTH_CONTENT_IMAGE_FILE: return strnlen(c->data, MOST_PATH) < MOST_PATH;
    case BERTH_CONTENT_PIXELS:
        return c->width >= 1 && c->height >= 1 && c->width <= MOST_SIDE && c->height <= MOST_SIDE &&
               (int64_t)c->width * c->height <= MOST_PIXELS && c->size == (size_t)c->width * (size_t)c->height * 3;
    default: return false;
    }
}

berth_status berth_turns_check(const berth_turn *turns, int32_t n_turns, int32_t *out_contents, int32_t *out_pictures,
                               berth_error *err)
{
    if (turns == NULL || n_turns < 1 || n_turns > BERTH_MOST_TURNS)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "the conversation has %d turns; give 1 to %d", (int)n_turns,
                          BERTH_MOST_TURNS);
    int64_t contents = 0, pictures = 0;
    for (int32_t i = 0; i < n_turns; i++) {
        if (turns[i].role == NULL || turns[i].n_content < 0 || turns[i].n_content > BERTH_MOST_CONTENT ||
            (turns[i].n_content > 0 && turns[i].content == NULL)) {
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "turn %d has no role or a wrong content list", (int)i);
        }
        for (int32_t k = 0; k < turns[i].n_content; k++) {
            if (!content_is_right(&turns[i].content[k]))
                return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                                  "turn %d, content %d: neither text nor a picture, or of a size that cannot be",
                                  (int)i, (int)k);
            pictures += turns[i].content[k].kind != BERTH_CONTENT_TEXT;
        }
        contents += turns[i].n_content;
    }
    if (pictures > BERTH_MOST_PICTURES || contents > BERTH_MOST_CONTENT)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "%lld pictures and %lld contents in one conversation; at most %d and %d", (long long)pictures,
                          (long long)contents, BERTH_MOST_PICTURES, BERTH_MOST_CONTENT);
    if (out_contents != NULL) *out_contents = (int32_t)contents;
    if (out_pictures != NULL) *out_pictures = (int32_t)pictures;
    return BERTH_OK;
}

/* ---- pictures ------------------------------------------------------------------------------------------------------ */

static berth_status may_go_on(const berth_prepare_job *job, berth_error *err)
{
    if (job->may_go_on == NULL || job->may_go_on(job->user)) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_CANCELLED, "the request was ended while its pictures were read");
}

/* Calls for each picture of the conversation, in order. */
typedef berth_status (*picture_fn)(const berth_prepare_job *job, const berth_content *source, int32_t index,
                                   berth_prepared *out, berth_error *err);

static berth_status each_picture(const berth_prepare_job *job, picture_fn fn, berth_prepared *out, berth_error *err)
{
    int32_t index = 0;
    for (int32_t i = 0; i < job->n_turns; i++) {
        for (int32_t k = 0; k < job->turns[i].n_content; k++) {
            const berth_content *c = &job->turns[i].content[k];
            if (c->kind == BERTH_CONTENT_TEXT) continue;
            berth_status st = fn(job, c, index++, out, err);
            if (st != BERTH_OK) return st;
        }
    }
    return BERTH_OK;
}

static berth_status open_picture(const berth_prepare_job *job, const berth_content *source, int32_t index,
                                 berth_prepared *out, berth_error *err)
{
    berth_picture *p = &out->pictures[index];
    p->first = -1;
    if (index < job->n_known) {
        p->n_tiles = job->known[index].n_tiles;
        p->max_tiles = job->known[index].max_tiles;
        memcpy(p->digest, job->known[index].digest, sizeof p->digest);
    } else {
        p->max_tiles = job->max_tiles;
        berth_status st = may_go_on(job, err);
        if (st == BERTH_OK) st = berth_picture_add(job, source, p, out, err);
        if (st != BERTH_OK) return st;
    }
    out->n_tiles += p->n_tiles;
    return BERTH_OK;
}

static berth_status name_tiles(const berth_prepare_job *job, berth_prepared *out, berth_error *err)
{
    if (!job->wants_digests || out->n_tiles == 0) return BERTH_OK;
    out->digests = calloc((size_t)out->n_tiles, sizeof *out->digests);
    bool ok = out->digests != NULL;
    for (int32_t i = 0, tile = 0; ok && i < out->n_pictures; i++)
        for (int32_t k = 0; ok && k < out->pictures[i].n_tiles; k++)
            ok = berth_picture_tile_digest(&out->pictures[i], k, out->digests[tile++]);
    return ok ? BERTH_OK
              : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the digests of %d tiles", (int)out->n_tiles);
}

/* ---- what the session holds already -------------------------------------------------------------------------------- */

enum { NOT_THERE = -1, NOT_NEEDED = -2 };

/* Tiles whose tokens all lie in the first `covered` tokens of the prompt. */
static int32_t tiles_within(const berth_prepare_job *job, const berth_prepared *p, int32_t covered)
{
    const int32_t per_tile = berth_model_data_config(job->model->data)->vision.tokens_per_tile;
    int32_t n = 0;
    for (int32_t i = 0; i < covered; i++) n += p->ids.data[i] == job->image_token_id;
    return per_tile > 0 ? n / per_tile : 0;
}

static berth_status reopen_picture(const berth_prepare_job *job, const berth_content *source, int32_t index,
                                   berth_prepared *out, berth_error *err)
{
    berth_picture *p = &out->pictures[index];
    if (index >= job->n_known || p->first != NOT_THERE) return BERTH_OK;
    const int32_t expected = p->n_tiles;
    berth_status st = may_go_on(job, err);
    if (st == BERTH_OK) st = berth_picture_add(job, source, p, out, err);
    if (st == BERTH_OK && p->n_tiles != expected) /* a loaded session said otherwise */
        st = BERTH_FAIL(err, BERTH_BAD_FILE, "a remembered picture has %d tiles instead of %d", (int)p->n_tiles,
                        (int)expected);
    return st;
}

/* Marks known pictures that lie wholly in what the session holds, makes the tiles of the others, and lists all. */
static berth_status complete_pixels(const berth_prepare_job *job, berth_prepared *out, berth_error *err)
{
    if (job->session == NULL || out->n_tiles == 0) return BERTH_OK;
    const berth_core_request prompt = {.ids = out->ids.data,
                                       .n_ids = (int32_t)out->ids.len,
                                       .image_token_id = job->image_token_id,
                                       .n_tiles = out->n_tiles,
                                       .tile_digests = (const uint8_t(*)[32])out->digests};
    const int32_t held = tiles_within(job, out, berth_core_session_covers(job->session, &prompt, true));
    out->pinned = true;
    out->session = job->session;
    for (int32_t i = 0, tile = 0; i < out->n_pictures; i++) {
        tile += out->pictures[i].n_tiles;
        if (i < job->n_known && tile <= held) out->pictures[i].first = NOT_NEEDED;
    }
    berth_status st = each_picture(job, reopen_picture, out, err);
    if (st != BERTH_OK) return st;
    out->tile_pixels = calloc((size_t)out->n_tiles, sizeof *out->tile_pixels);
    if (out->tile_pixels == NULL)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %d image tiles", (int)out->n_tiles);
    const size_t side = (size_t)berth_model_data_config(job->model->data)->vision.image_size;
    for (int32_t i = 0, tile = 0; i < out->n_pictures; i++)
        for (int32_t k = 0; k < out->pictures[i].n_tiles; k++, tile++)
            if (out->pictures[i].first >= 0)
                out->tile_pixels[tile] = out->pixels + (size_t)(out->pictures[i].first + k) * 3 * side * side;
    return BERTH_OK;
}

/* ---- the prompt ---------------------------------------------------------------------------------------------------- */

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

static berth_status write_prompt(const berth_prepare_job *job, int32_t n_contents, berth_prepared *out,
                                 berth_error *err)
{
    const berth_model_config *config = berth_model_data_config(job->model->data);
    int32_t *tiles = calloc((size_t)out->n_pictures + 1, sizeof *tiles);
    berth_message *messages = calloc((size_t)job->n_turns, sizeof *messages);
    berth_part *parts = calloc((size_t)n_contents + 1, sizeof *parts);
    berth_status st = BERTH_OK;
    if (tiles == NULL || messages == NULL || parts == NULL) {
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a conversation of %d turns", (int)job->n_turns);
    } else {
        for (int32_t i = 0; i < out->n_pictures; i++) tiles[i] = out->pictures[i].n_tiles;
        fill_messages(job->turns, job->n_turns, messages, parts);
        const berth_prompt_options options = {.form = config->chat,
                                              .tiles = tiles,
                                              .n_images = out->n_pictures,
                                              .tokens_per_tile =
                                                  config->has_vision ? config->vision.tokens_per_tile : 0};
        st = berth_prompt_ids(job->tokenizer, messages, job->n_turns, &options, &out->ids, NULL, err);
    }
    free(parts);
    free(messages);
    free(tiles);
    return st;
}

static berth_status prepare(const berth_prepare_job *job, berth_prepared *out, berth_error *err)
{
    int32_t n_contents = 0;
    berth_status st = berth_turns_check(job->turns, job->n_turns, &n_contents, &out->n_pictures, err);
    if (st != BERTH_OK) return st;
    if (out->n_pictures > 0 && !berth_model_data_config(job->model->data)->has_vision) {
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "a picture was given, but this model reads text only (no vision tower in %s)",
                          berth_model_data_dir(job->model->data));
    }
    out->pictures = calloc((size_t)out->n_pictures + 1, sizeof *out->pictures);
    if (out->pictures == NULL)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %d pictures", (int)out->n_pictures);
    const int64_t t0 = berth_now_ns();
    st = each_picture(job, open_picture, out, err);
    if (st == BERTH_OK) st = name_tiles(job, out, err);
    const int64_t t1 = berth_now_ns();
    if (st == BERTH_OK) st = write_prompt(job, n_contents, out, err);
    const int64_t t2 = berth_now_ns();
    if (st == BERTH_OK) st = complete_pixels(job, out, err);
    out->image_ns = t1 - t0 + berth_now_ns() - t2;
    out->tokenize_ns = t2 - t1;
    return st;
}

berth_status berth_prepare(const berth_prepare_job *job, berth_prepared *out, berth_error *err)
{
    *out = (berth_prepared){0};
    berth_status st = prepare(job, out, err);
    if (st != BERTH_OK) berth_prepared_deinit(out);
    return st;
}

void berth_prepared_deinit(berth_prepared *p)
{
    if (p->pinned) berth_core_session_unpin(p->session);
    for (int32_t i = 0; p->pictures != NULL && i < p->n_pictures; i++) free(p->pictures[i].bytes);
    free(p->pictures);
    free(p->pixels);
    free(p->tile_pixels);
    free(p->digests);
    berth_ids_deinit(&p->ids);
    *p = (berth_prepared){0};
}
