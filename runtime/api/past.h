/* past.h - what a session remembers: turns with their texts and pictures as they were given, and how those were cut.
 * Contents are counted and shared between a session and its forks. Not thread-safe but for that. */
#ifndef BERTH_API_PAST_H
#define BERTH_API_PAST_H

#include "api/prompt.h"
#include "base/buffer.h"

typedef struct berth_blob { /* bytes that several may hold */
    atomic_int refs;
    size_t size;
    char *bytes; /* owned */
} berth_blob;

/* Takes `bytes`, also on failure. NULL: out of memory. */
berth_blob *berth_blob_create(char *take_bytes, size_t size);
void berth_blob_release(berth_blob *b);

typedef struct berth_past_content {
    berth_content_kind kind; /* files are remembered as their bytes */
    berth_blob *blob;
    int32_t width, height; /* PIXELS */
    berth_picture picture; /* n_tiles, max_tiles, digest */
} berth_past_content;

typedef struct berth_past_turn {
    const char *role; /* static */
    berth_past_content *contents;
    int32_t n_contents;
} berth_past_turn;

typedef struct berth_past {
    berth_past_turn *turns;
    int32_t n_turns;
} berth_past;

const char *berth_past_role(const char *role); /* the static name; NULL: none of the three */

void berth_past_deinit(berth_past *p);
void berth_past_cut(berth_past *p, int32_t n_turns); /* keeps the first */
berth_status berth_past_copy(const berth_past *p, berth_past *out, berth_error *err);

/* Remembers turns that were asked and their answer, all or nothing. `pictures` are those of the turns, in order; bytes
 * of files are taken out of them. */
berth_status berth_past_append(berth_past *p, const berth_turn *turns, int32_t n_turns, berth_picture *pictures,
                               const char *answer, size_t answer_size, berth_error *err);

/* The turns as a request has them, `more` behind them: one block, free() it; valid while `p` and `more` are as they
 * are. */
berth_status berth_past_view(const berth_past *p, const berth_turn *more, int32_t n_more, berth_turn **out,
                             berth_error *err);
/* The pictures in order, for berth_prepare_job.known: free() it. */
berth_status berth_past_pictures(const berth_past *p, berth_picture **out, int32_t *out_n, berth_error *err);

int32_t berth_past_n_pictures(const berth_past *p);
bool berth_past_text(const berth_past *p, int32_t turn, berth_buffer *out); /* pictures as "<image>" */

#endif
