/* weights.h - where the weights of one device lie: mapped from their files and used in place, or in the device's arena,
 * where load.h brings them.
 *
 * Each device maps what it needs for itself (so that its weights can be closed apart from another's), and all mappings
 * of a file share the page cache: two engines of one process, or of two, hold its bytes once. A tensor whose place in
 * the file is not a multiple of its element's size, or whose dtype the device changes, gets a place in the arena instead. A file that is cut short
 * by someone else while an engine lives ends in SIGBUS when its lost pages are touched, as with any mapping. */
#ifndef BERTH_EXEC_WEIGHTS_H
#define BERTH_EXEC_WEIGHTS_H

#include "exec/arena.h"
#include "model/model.h"

typedef struct berth_load_watch { /* told of bytes as they are loaded */
    void (*seen)(void *user, uint64_t bytes);
    void *user;
} berth_load_watch;

/* How a kind of device holds weights. */
typedef struct berth_weight_rules {
    bool copies_all; /* nothing is used in place */
    size_t align;    /* copies are rounded up to it */
} berth_weight_rules;

typedef struct berth_weight_map {
    uint8_t *base; /* owned mapping, read-only */
    size_t length;
    size_t offset; /* of base in the file */
} berth_weight_map;

typedef struct berth_weights {
    const berth_model_data *model; /* borrowed */
    berth_weight_map *maps;        /* owned; [n_shards]; base NULL where nothing of it is used in place */
    int32_t n_maps;
    const void **data;               /* owned; [n_params]; NULL = not on this device */
    bool *own_place;                 /* owned; [n_params] data is no mapping: its bytes are put there, see load.h */
    const berth_weight_rules *rules; /* borrowed */
    uint64_t bytes;                  /* of the parameters on this device, each stored one once */
    berth_dtype compute;             /* F16, BF16: weights stored otherwise are rounded to it; F32: read as stored */
} berth_weights;

/* Bytes of the parameters flagged in `wanted` [n_params]: `out_bytes` in all (bytes that two parameters share count
 * once), `out_copied` those of them that have to be copied, by `rules`. `compute`: F32 reads weights as stored, F16 and
 * BF16 hold them in that dtype. Pure: what a plan says and what init then does. */
void berth_weights_measure(const berth_model_data *model, const bool *wanted, berth_dtype compute,
                           const berth_weight_rules *rules, uint64_t *out_bytes, uint64_t *out_copied);

/* Gives every wanted parameter its place: a mapping of its file, charged to the arena, or memory of the arena, which
 * nothing is written to yet. `watch` (may be NULL) is told of bytes used in place as they are asked for. Errors:
 * BERTH_INVALID_ARGUMENT (the model has no weights), BERTH_BAD_FILE (a shard is shorter than when it was opened),
 * BERTH_IO_ERROR, BERTH_DOES_NOT_FIT. */
berth_status berth_weights_init(berth_weights *w, const berth_model_data *model, const bool *wanted,
                                berth_dtype compute, const berth_weight_rules *rules, berth_arena *arena,
                                const berth_load_watch *watch, berth_error *err);
void berth_weights_deinit(berth_weights *w);

berth_dtype berth_weights_dtype(const berth_weights *w, const berth_param *p); /* on the device */

#endif
