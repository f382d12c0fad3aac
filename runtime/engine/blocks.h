/* blocks.h - blocks of a store (KV cache, image features) and the table that says which blocks a sequence has.
 *
 * A store is n_blocks blocks of `block` rows; a table maps the i-th row of its sequence to a slot. Numbers only: the
 * memory lies on the devices, one store a layer or kind, all with the same block numbers.
 *
 * A block has users (tables, or whoever took it). One whose content is complete can be published under a digest of
 * that content, and is then found by it, while it has users and after. A block without users is idle: free, or cached
 * when it is published. Cached blocks are evicted when no free one is left, least recently used first.
 *
 * Easy to get wrong: a block must be neither released nor written again while a pass that reads it is under way, and
 * must be published only when the pass that wrote its last row is done.
 *
 * Taking and giving allocate nothing and take constant time a block. Not thread-safe: a replica's loop thread only. */
#ifndef BERTH_ENGINE_BLOCKS_H
#define BERTH_ENGINE_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum { BERTH_BLOCK_DIGEST = 32 }; /* bytes */

typedef struct berth_block {
    uint8_t digest[BERTH_BLOCK_DIGEST]; /* when published */
    int32_t n_users;
    int32_t prev, next; /* idle: its neighbours in the list of its kind, -1 = none; free ones have no prev */
    bool is_published;
} berth_block;

typedef struct berth_blocks {
    berth_block *blocks; /* owned; [n_blocks] */
    int32_t n_blocks, block;
    int32_t free, n_free;             /* first of the free blocks, -1 = none; how many */
    int32_t oldest, newest, n_cached; /* the idle published ones by last use */
    int32_t *known;                   /* owned; [known_mask + 1], published blocks hashed by digest; -1 = empty */
    size_t known_mask;
    int64_t n_hits, n_evictions; /* blocks found by digest, cached blocks given up for their room; since init */
} berth_blocks;

/* BERTH_INVALID_ARGUMENT when a count is negative or there are more than INT32_MAX rows, BERTH_OUT_OF_MEMORY. */
berth_status berth_blocks_init(berth_blocks *b, int32_t n_blocks, int32_t block, berth_error *err);
void berth_blocks_deinit(berth_blocks *b);

/* How many can be taken: the free and the cached ones. */
static inline int32_t berth_blocks_available(const berth_blocks *b)
{
    return b->n_free + b->n_cached;
}

/* A block with one user, the caller, of any content; -1 when every block has users. */
int32_t berth_blocks_take(berth_blocks *b);
void berth_blocks_retain(berth_blocks *b, int32_t i);  /* one user more, of a block that has one */
void berth_blocks_release(berth_blocks *b, int32_t i); /* one less, of a block that has one */

/* Makes block i (it has users, is complete and will not be written again) known under `digest` [32]. A block already
 * known under it stays the known one, a block published already keeps the digest it has. Returns the block known under
 * `digest`, or i. */
int32_t berth_blocks_publish(berth_blocks *b, int32_t i, const uint8_t *digest);
void berth_blocks_unpublish(berth_blocks *b, int32_t i); /* no longer found; free when idle. May be unpublished. */

/* The block known under `digest`, with the caller as one more user; -1 = none. */
int32_t berth_blocks_find(berth_blocks *b, const uint8_t *digest);

/* No block is known any longer; those with users keep them. For when the contents have lost their worth: new weights,
 * a failed pass. */
void berth_blocks_forget_all(berth_blocks *b);

/* ---- tables ----------------------------------------------------------------------------------------------------- */

typedef struct berth_block_table {
    int32_t *blocks; /* owned; [cap]; the table is a user of each */
    int32_t n_blocks, cap, block;
} berth_block_table;

/* A table for up to `max_rows` rows of sequences in `b`. */
berth_status berth_block_table_init(berth_block_table *t, const berth_blocks *b, int64_t max_rows, berth_error *err);
void berth_block_table_deinit(berth_block_table *t); /* give back first */

/* Takes blocks until rows 0 .. n_rows-1 have slots; false (and nothing taken) when the store or the table has too
 * few. Cached blocks are evicted as needed. */
bool berth_block_table_grow(berth_block_table *t, berth_blocks *b, int64_t n_rows);

/* Appends a block that the caller is a user of; the table is it from then on. False (the caller still is) when the
 * table is full. */
bool berth_block_table_adopt(berth_block_table *t, int32_t block);

/* Gives the empty table `t` the blocks that the first n_rows rows of `from` fill, as one more user of each. Returns the
 * rows covered: n_rows less what stands in an incomplete block, or beyond t's room. */
int64_t berth_block_table_fork(berth_block_table *t, berth_blocks *b, const berth_block_table *from, int64_t n_rows);

/* Shortens the table to at most n_rows rows, of which the last may be in the midst of a block that will be written
 * again. Returns the rows kept: where that block has other users it is given up too, and its rows with it; where it is
 * only published it is unpublished. */
int64_t berth_block_table_keep(berth_block_table *t, berth_blocks *b, int64_t n_rows);

/* All of them, the last first: so the start of a sequence, which others are likelier to share, is evicted last. */
void berth_block_table_give_back(berth_block_table *t, berth_blocks *b);

static inline int32_t berth_block_table_slot(const berth_block_table *t, int64_t row)
{
    return t->blocks[row / t->block] * t->block + (int32_t)(row % t->block);
}

#endif
