/* kv.h - blocks of a store (KV cache, image features) and the table that says which blocks a sequence has.
 *
 * A store is n_blocks blocks of `block` rows; a table maps the i-th row of its sequence to a slot. Numbers only: the
 * memory lies on the devices, one store a layer or kind, all with the same block numbers. Taking and giving allocate
 * nothing. Not thread-safe: used under the replica's lock. */
#ifndef BERTH_ENGINE_KV_H
#define BERTH_ENGINE_KV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct berth_blocks {
    int32_t *free; /* owned; [n_blocks], the last n_free are to be had, from the end */
    int32_t n_free, n_blocks, block;
} berth_blocks;

berth_status berth_blocks_init(berth_blocks *b, int32_t n_blocks, int32_t block, berth_error *err);
void berth_blocks_deinit(berth_blocks *b);

typedef struct berth_block_table {
    int32_t *blocks; /* owned; [cap] */
    int32_t n_blocks, cap, block;
} berth_block_table;

/* A table for up to `max_rows` rows of sequences in `b`. */
berth_status berth_block_table_init(berth_block_table *t, const berth_blocks *b, int64_t max_rows, berth_error *err);
void berth_block_table_deinit(berth_block_table *t); /* give back first */

/* Takes blocks until rows 0 .. n_rows-1 have slots; false (and nothing taken) when the store or the table has too few.
 * */
bool berth_block_table_grow(berth_block_table *t, berth_blocks *b, int64_t n_rows);
void berth_block_table_give_back(berth_block_table *t, berth_blocks *b); /* all of them */

static inline int32_t berth_block_table_slot(const berth_block_table *t, int64_t row)
{
    return t->blocks[row / t->block] * t->block + (int32_t)(row % t->block);
}

#endif
