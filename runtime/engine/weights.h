/* weights.h - the weights that live on one device: mapped from their files and used in place.
 *
 * Each device maps what it needs for itself (so that its weights can be closed apart from another's), and all mappings
 * of a file share the page cache: two engines of one process, or of two, hold its bytes once. A tensor whose place in
 * the file is not a multiple of its element's size is copied into the device's arena instead. A file that is cut short
 * by someone else while an engine lives ends in SIGBUS when its lost pages are touched, as with any mapping. */
#ifndef BERTH_ENGINE_WEIGHTS_H
#define BERTH_ENGINE_WEIGHTS_H

#include "engine/arena.h"
#include "model/model.h"

typedef struct berth_weight_map {
    uint8_t *base; /* owned mapping, read-only */
    size_t length;
    size_t offset; /* of base in the file */
} berth_weight_map;

typedef struct berth_weights {
    const berth_model_data *model; /* borrowed */
    berth_weight_map *maps;        /* owned; [n_shards]; base NULL where the device needs nothing of it */
    int32_t n_maps;
    const void **data;   /* owned; [n_params]; NULL = not on this device */
    uint64_t bytes;      /* of the parameters on this device, each stored one once */
    berth_dtype compute; /* F16, BF16: weights stored otherwise are rounded to it; F32: read as stored */
} berth_weights;

/* Bytes of the parameters flagged in `wanted` [n_params]: `out_bytes` in all (bytes that two parameters share count
 * once), `out_copied` those of them that have to be copied; a copy is rounded up to the arena's alignment. `compute`: F32
 * reads weights as stored, F16 and BF16 hold them in that dtype. Pure: what a plan says and what init then does. */
void berth_weights_measure(const berth_model_data *model, const bool *wanted, berth_dtype compute, uint64_t *out_bytes,
                           uint64_t *out_copied);

/* Maps the wanted parameters and charges those used in place to the arena; copies come out of it. `seen` is called with
 * bytes as they are asked for; may be NULL. Errors: BERTH_BAD_FILE (a shard is shorter than when it was opened),
 * BERTH_IO_ERROR, BERTH_DOES_NOT_FIT, BERTH_UNSUPPORTED (a weight that fp16 cannot hold). */
berth_status berth_weights_init(berth_weights *w, const berth_model_data *model, const bool *wanted,
                                berth_dtype compute, berth_arena *arena, void (*seen)(void *user, uint64_t bytes),
                                void *user, berth_error *err);
void berth_weights_deinit(berth_weights *w);

#endif
