/* request.c - see request.h. */
#include "api/request.h"

#include <stdlib.h>
#include <string.h>

#include "api/prompt.h"
#include "base/checked.h"
#include "base/status.h"

enum { DEFAULT_NEW_TOKENS = 512 };

void berth_request_init(berth_request *r)
{
    if (r == NULL) return;
    *r = (berth_request){.struct_size = sizeof *r, .temperature = 1.0f, .top_p = 1.0f, .repetition_penalty = 1.0f};
}

static berth_status check_numbers(const berth_request *r, berth_error *err)
{
    if (r->max_new_tokens < 0)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "max_new_tokens = %d; give at least 1, or 0 for %d",
                          (int)r->max_new_tokens, DEFAULT_NEW_TOKENS);
    if (r->max_tiles < 0 || r->max_tiles > BERTH_MOST_TILES)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "max_tiles = %d; give 1 to %d, or 0 for the model's",
                          (int)r->max_tiles, BERTH_MOST_TILES);
    if (r->deadline_ms < 0)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "deadline_ms = %lld; give milliseconds, or 0 for none",
                          (long long)r->deadline_ms);
    if (r->speculate > 0 && r->sample)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "speculate and sample exclude each other: tokens are guessed ahead for greedy answers only");
    return BERTH_OK;
}

berth_status berth_request_read(const berth_request *given, berth_request *out, berth_sampling *out_sampling,
                                berth_error *err)
{
    if (given == NULL) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "the request is NULL");
    berth_status st = berth_options_copy(out, sizeof *out, given, "berth_request", err);
    if (st == BERTH_OK) st = check_numbers(out, err);
    if (st == BERTH_OK) st = berth_turns_check(out->turns, out->n_turns, NULL, NULL, err);
    if (st != BERTH_OK) return st;
    if (out->max_new_tokens == 0) out->max_new_tokens = DEFAULT_NEW_TOKENS;
    *out_sampling = (berth_sampling){.sample = out->sample != 0,
                                     .temperature = out->temperature,
                                     .top_k = out->top_k,
                                     .top_p = out->top_p,
                                     .min_p = out->min_p,
                                     .repetition_penalty = out->repetition_penalty,
                                     .seed = out->seed};
    return berth_sampling_check(out_sampling, err);
}

/* ---- the copy ------------------------------------------------------------------------------------------------------ */

static size_t bytes_of(const berth_content *c)
{
    return c->kind == BERTH_CONTENT_IMAGE_FILE ? strlen(c->data) : c->size;
}

/* Bytes of everything that turns point to; texts get a NUL. False: more than can be. */
static bool measure(const berth_turn *turns, int32_t n_turns, size_t *out)
{
    size_t n = (size_t)n_turns * sizeof *turns;
    bool ok = true;
    for (int32_t i = 0; i < n_turns; i++) {
        ok = ok && berth_add_size(n, (size_t)turns[i].n_content * sizeof(berth_content), &n);
        ok = ok && berth_add_size(n, strlen(turns[i].role) + 1, &n);
        for (int32_t k = 0; k < turns[i].n_content; k++) {
            ok = ok && berth_add_size(n, bytes_of(&turns[i].content[k]), &n);
            ok = ok && berth_add_size(n, 1, &n);
        }
    }
    *out = n;
    return ok;
}

static char *put(char **at, const char *bytes, size_t n)
{
    char *begin = *at;
    if (n > 0) memcpy(begin, bytes, n);
    begin[n] = '\0';
    *at = begin + n + 1;
    return begin;
}

/* Structs first, so that all are aligned; then the bytes. */
static void fill(const berth_turn *turns, int32_t n_turns, berth_turn *copy)
{
    berth_content *contents = (berth_content *)(void *)(copy + n_turns);
    berth_content *c = contents;
    for (int32_t i = 0; i < n_turns; i++) c += turns[i].n_content;
    char *at = (char *)c;
    c = contents;
    for (int32_t i = 0; i < n_turns; i++) {
        copy[i] = (berth_turn){.content = c, .n_content = turns[i].n_content};
        copy[i].role = put(&at, turns[i].role, strlen(turns[i].role));
        for (int32_t k = 0; k < turns[i].n_content; k++, c++) {
            *c = turns[i].content[k];
            c->data = put(&at, turns[i].content[k].data, bytes_of(&turns[i].content[k]));
        }
    }
}

berth_status berth_turns_copy(const berth_turn *turns, int32_t n_turns, berth_turn **out, berth_error *err)
{
    size_t n = 0;
    *out = measure(turns, n_turns, &n) ? malloc(n) : NULL;
    if (*out == NULL)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a copy of a conversation of %d turns (%zu bytes)",
                          (int)n_turns, n);
    fill(turns, n_turns, *out);
    return BERTH_OK;
}
