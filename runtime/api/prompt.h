/* prompt.h - a conversation turned into what the engine runs: pictures read, cut and named, and the prompt around them. */
#ifndef BERTH_API_PROMPT_H
#define BERTH_API_PROMPT_H

#include "api/api.h"

/* More pictures than any context holds; bounds what a request may make berth allocate. */
enum { BERTH_MOST_PICTURES = 1024, BERTH_MOST_TURNS = 65536, BERTH_MOST_CONTENT = 65536, BERTH_MOST_TILES = 1024 };

/* Is this a conversation at all: kinds, sizes, counts? BERTH_INVALID_ARGUMENT. The counts may be NULL. */
berth_status berth_turns_check(const berth_turn *turns, int32_t n_turns, int32_t *out_contents, int32_t *out_pictures,
                               berth_error *err);

typedef struct berth_picture {  /* of a prepared conversation */
    int32_t n_tiles, max_tiles; /* max_tiles as asked for, 0 = the model's */
    uint8_t digest[32];         /* of source and preprocessing; with wants_digests */
    char *bytes;                /* owned; the file, when it came from one and keeps_bytes */
    size_t size;
    int32_t first; /* index of its first tile in `pixels`; negative: not there */
} berth_picture;

typedef struct berth_prepare_job {
    const berth_model *model;
    const berth_tokenizer *tokenizer;
    const berth_turn *turns;
    int32_t n_turns;
    int32_t max_tiles; /* per new picture; 0 = the model's */
    bool wants_digests, keeps_bytes;
    /* The first pictures of the conversation are known from before, n_tiles, max_tiles and digest: their pixels are made
     * only where `session` does not hold what became of them */
    const berth_picture *known;
    int32_t n_known;
    berth_core_session *session;
    int32_t image_token_id;
    bool (*may_go_on)(void *user); /* asked between pictures; false: BERTH_CANCELLED. NULL = yes */
    void *user;
} berth_prepare_job;

typedef struct berth_prepared {
    berth_ids ids;
    float *pixels; /* owned; f32 [n_packed, 3, S, S] or NULL: all tiles in order, unless tile_pixels says otherwise */
    int32_t n_tiles, n_packed;
    const float **tile_pixels; /* owned; [n_tiles], NULL for tiles that are not needed; NULL when all are there */
    uint8_t (*digests)[32];    /* owned; [n_tiles], or NULL */
    berth_picture *pictures;   /* owned; [n_pictures] */
    int32_t n_pictures;
    int64_t image_ns, tokenize_ns;
    int64_t decode_ns, tiles_ns; /* of image_ns: reading and decoding pictures; scaling and cutting them */
    size_t cap_tiles;            /* for which `pixels` has room */
    bool pinned;                 /* the session keeps what was found until its next submit, or unpin */
    berth_core_session *session;
} berth_prepared;

/* On failure `out` is empty. Errors: of the pictures' files, BERTH_INVALID_ARGUMENT (roles, text), BERTH_CANCELLED. */
berth_status berth_prepare(const berth_prepare_job *job, berth_prepared *out, berth_error *err);
void berth_prepared_deinit(berth_prepared *p);

/* picture.c: appends one picture's tiles to p->pixels and fills what `out` tells. */
berth_status berth_picture_add(const berth_prepare_job *job, const berth_content *source, berth_picture *out,
                               berth_prepared *p, berth_error *err);
/* The digest of bytes or pixels that are cut into out->max_tiles. False: the hash failed. */
bool berth_picture_digest(const berth_model *model, const berth_content *source, berth_picture *out);
/* What tile i of a picture is. False: the hash failed. */
bool berth_picture_tile_digest(const berth_picture *picture, int32_t tile, uint8_t out[32]);

#endif
