/* batch.h - the batch descriptor: which tokens of which sequences one step computes, and how it becomes the step
 * program's inputs.
 *
 * A step takes any number of items, each a run of consecutive tokens of one sequence: prefill chunks and decode rows
 * stand side by side. All that differs between them (lengths, positions, tables, image spans) is data in the inputs
 * filled here; the program stays the same. Fills memory it is given; allocates nothing. */
#ifndef BERTH_ENGINE_BATCH_H
#define BERTH_ENGINE_BATCH_H

#include "engine/blocks.h"
#include "program/program.h"

typedef enum berth_want_logits { BERTH_LOGITS_NONE, BERTH_LOGITS_LAST, BERTH_LOGITS_ALL } berth_want_logits;

typedef struct berth_batch_item {
    const int32_t *ids; /* [n_tokens] */
    int32_t n_tokens;
    int64_t position;                  /* of ids[0] */
    const berth_block_table *kv;       /* has slots for all positions up to position + n_tokens */
    const float *inv_freq;             /* [half_dim] */
    int32_t image_token_id;            /* rows with this id take image features; -1 = none */
    const berth_block_table *features; /* the sequence's rows in the feature store */
    int64_t first_feature;             /* image tokens of the sequence before ids[0] */
    berth_want_logits logits;
    int32_t n_best;   /* of the rows whose logits are wanted, as many last ones get their best logits too */
    float best_scale; /* LOGIT_BEST's scale of those */
} berth_batch_item;

/* Where a step's inputs lie (host memory of the program) and how much they hold. */
typedef struct berth_batch_inputs {
    void *data[BERTH_INPUT_COUNT]; /* NULL: the program has no such input */
    berth_sizes bounds;
    int32_t max_blocks; /* columns of BLOCK_TABLE */
    int32_t half_dim;   /* columns of INV_FREQ */
    int32_t vocab;      /* ids are in [0, vocab) or the image token */
} berth_batch_inputs;

/* Fills the inputs and the sizes of this step. BERTH_INTERNAL when the items exceed the bounds. */
berth_status berth_batch_fill(const berth_batch_inputs *in, const berth_batch_item *items, int32_t n_items,
                              berth_sizes *out_sizes, berth_error *err);

int64_t berth_count_id(const int32_t *ids, int64_t n, int32_t id);

#endif
