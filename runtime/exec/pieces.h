/* pieces.h - what a device's weights take out of files, cut into pieces that fit into a reader's memory, in the order in
 * which they lie in the files: whoever takes one after the other reads them from end to end. */
#ifndef BERTH_EXEC_PIECES_H
#define BERTH_EXEC_PIECES_H

#include "exec/weights.h"

typedef struct berth_piece {
    int32_t param;     /* index */
    size_t first, n;   /* of its elements */
    size_t offset;     /* in its file */
    size_t file_bytes; /* there, as stored */
    uint8_t *dst;      /* on the device; the host may not reach it */
    size_t bytes;      /* there, in the device's dtype */
} berth_piece;

typedef struct berth_pieces {
    const berth_weights *weights; /* borrowed */
    berth_piece *list;            /* owned; [n] */
    int32_t n;
    bool converts; /* some are rounded to another dtype */
} berth_pieces;

/* Values that fp16 cannot hold. */
typedef struct berth_too_large {
    int64_t n;
    float largest;
} berth_too_large;

/* Of the parameters that have a place of their own on the device. `most_bytes`, of a piece there: at least 16. Errors:
 * BERTH_OUT_OF_MEMORY, BERTH_INVALID_ARGUMENT (the model has no weights). */
berth_status berth_pieces_init(berth_pieces *p, const berth_weights *w, size_t most_bytes, berth_error *err);
void berth_pieces_deinit(berth_pieces *p);

enum { BERTH_PIECE_SCRATCH = 256 << 10 };
/* Reads piece i as the device is to have it into `out`, and adds what does not fit to *too_large. `scratch`
 * [BERTH_PIECE_SCRATCH]: where p->converts. From any thread. Errors: BERTH_BAD_FILE (cut short meanwhile),
 * BERTH_IO_ERROR. */
berth_status berth_piece_read(const berth_pieces *p, int32_t i, uint8_t *scratch, uint8_t *out,
                              berth_too_large *too_large, berth_error *err);

/* Will reading it wait for a disk? A guess. */
bool berth_piece_is_cold(const berth_pieces *p, int32_t i);
/* Has the system begin to read it, and returns. */
void berth_piece_read_ahead(const berth_pieces *p, int32_t i);

/* BERTH_UNSUPPORTED: the parameter has such values. */
berth_status berth_too_large_check(const berth_pieces *p, int32_t param, const berth_too_large *t, berth_error *err);

#endif
