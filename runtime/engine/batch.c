#include "engine/batch.h"

#include <string.h>

typedef struct cursor { /* what is filled so far */
    int64_t tokens, image_rows, logits, best;
} cursor;

int64_t berth_count_id(const int32_t *ids, int64_t n, int32_t id)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) count += ids[i] == id;
    return count;
}

static berth_status check_bounds(const berth_batch_inputs *in, const berth_batch_item *items, int32_t n_items,
                                 berth_error *err)
{
    const int64_t *max = in->bounds.value;
    int64_t tokens = 0, rows = 0, logits = 0, best = 0;
    for (int32_t s = 0; s < n_items; s++) {
        const berth_batch_item *it = &items[s];
        tokens += it->n_tokens;
        if (it->image_token_id >= 0) rows += berth_count_id(it->ids, it->n_tokens, it->image_token_id);
        int64_t of_item = it->logits == BERTH_LOGITS_ALL ? it->n_tokens : it->logits == BERTH_LOGITS_LAST ? 1 : 0;
        if (it->n_best < 0 || it->n_best > of_item || (it->n_best > 0 && !in->data[BERTH_INPUT_BEST_ROWS]))
            return BERTH_FAIL(err, BERTH_INTERNAL, "the best logits of %d rows of a step that makes %lld",
                              (int)it->n_best, (long long)of_item);
        logits += of_item;
        best += it->n_best;
        if (it->kv->n_blocks > in->max_blocks)
            return BERTH_FAIL(err, BERTH_INTERNAL, "sequence %d of a step has %d KV blocks, its table %d", (int)s,
                              (int)it->kv->n_blocks, (int)in->max_blocks);
    }
    if (n_items > max[BERTH_SYM_SEQS] || tokens > max[BERTH_SYM_TOKENS] || logits > max[BERTH_SYM_LOGITS] ||
        best > max[BERTH_SYM_BEST] || (in->data[BERTH_INPUT_IMAGE_SRC] && rows > max[BERTH_SYM_IMAGE_ROWS]))
        return BERTH_FAIL(err, BERTH_INTERNAL,
                          "a step of %d sequences, %lld tokens, %lld image rows, %lld logit rows is "
                          "over the program's bounds",
                          (int)n_items, (long long)tokens, (long long)rows, (long long)logits);
    return BERTH_OK;
}

static void fill_tokens(const berth_batch_inputs *in, const berth_batch_item *it, int32_t seq, cursor *at)
{
    int32_t *ids = in->data[BERTH_INPUT_TOKEN_IDS], *positions = in->data[BERTH_INPUT_POSITIONS];
    int32_t *token_seq = in->data[BERTH_INPUT_TOKEN_SEQ], *slots = in->data[BERTH_INPUT_SLOTS];
    int32_t *src = in->data[BERTH_INPUT_IMAGE_SRC], *dst = in->data[BERTH_INPUT_IMAGE_DST];
    int64_t feature = it->first_feature;
    for (int32_t i = 0; i < it->n_tokens; i++) {
        int64_t row = at->tokens + i;
        bool is_image = it->image_token_id >= 0 && it->ids[i] == it->image_token_id;
        /* an image token's own embedding is overwritten, and may not even exist */
        ids[row] = is_image && it->ids[i] >= in->vocab ? 0 : it->ids[i];
        positions[row] = (int32_t)(it->position + i);
        token_seq[row] = seq;
        slots[row] = berth_block_table_slot(it->kv, it->position + i);
        if (!is_image || !src) continue;
        src[at->image_rows] = berth_block_table_slot(it->features, feature++);
        dst[at->image_rows++] = (int32_t)row;
    }
}

static void fill_logits(const berth_batch_inputs *in, const berth_batch_item *it, cursor *at)
{
    int32_t *logit_rows = in->data[BERTH_INPUT_LOGIT_ROWS], *best_rows = in->data[BERTH_INPUT_BEST_ROWS];
    float *scales = in->data[BERTH_INPUT_BEST_SCALES];
    int32_t first = it->logits == BERTH_LOGITS_ALL ? 0 : it->n_tokens - 1;
    if (it->logits == BERTH_LOGITS_NONE) return;
    for (int32_t i = first; i < it->n_tokens; i++) {
        if (it->n_tokens - i <= it->n_best) {
            best_rows[at->best] = (int32_t)at->logits;
            scales[at->best++] = it->best_scale;
        }
        logit_rows[at->logits++] = (int32_t)(at->tokens + i);
    }
}

berth_status berth_batch_fill(const berth_batch_inputs *in, const berth_batch_item *items, int32_t n_items,
                              berth_sizes *out_sizes, berth_error *err)
{
    berth_status st = check_bounds(in, items, n_items, err);
    if (st != BERTH_OK) return st;
    int32_t *table = in->data[BERTH_INPUT_BLOCK_TABLE];
    float *inv_freq = in->data[BERTH_INPUT_INV_FREQ];
    cursor at = {0};
    for (int32_t s = 0; s < n_items; s++) {
        const berth_batch_item *it = &items[s];
        fill_tokens(in, it, s, &at);
        int32_t *row = table + (size_t)s * (size_t)in->max_blocks;
        memset(row, 0, (size_t)in->max_blocks * sizeof *row);
        memcpy(row, it->kv->blocks, (size_t)it->kv->n_blocks * sizeof *row);
        memcpy(inv_freq + (size_t)s * (size_t)in->half_dim, it->inv_freq, (size_t)in->half_dim * sizeof *inv_freq);
        fill_logits(in, it, &at);
        at.tokens += it->n_tokens;
    }
    *out_sizes = in->bounds;
    out_sizes->value[BERTH_SYM_ONE] = 1;
    out_sizes->value[BERTH_SYM_TOKENS] = at.tokens;
    out_sizes->value[BERTH_SYM_SEQS] = n_items;
    out_sizes->value[BERTH_SYM_IMAGE_ROWS] = at.image_rows;
    out_sizes->value[BERTH_SYM_LOGITS] = at.logits;
    out_sizes->value[BERTH_SYM_BEST] = at.best;
    return BERTH_OK;
}
