#include "engine/kv.h"

#include <stdlib.h>

berth_status berth_blocks_init(berth_blocks *b, int32_t n_blocks, int32_t block, berth_error *err)
{
    *b = (berth_blocks){.n_free = n_blocks, .n_blocks = n_blocks, .block = block};
    b->free = calloc((size_t)n_blocks + 1, sizeof *b->free);
    if (!b->free) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "list of %d blocks", (int)n_blocks);
    for (int32_t i = 0; i < n_blocks; i++) b->free[i] = n_blocks - 1 - i;
    return BERTH_OK;
}

void berth_blocks_deinit(berth_blocks *b)
{
    free(b->free);
    *b = (berth_blocks){0};
}

berth_status berth_block_table_init(berth_block_table *t, const berth_blocks *b, int64_t max_rows, berth_error *err)
{
    int64_t cap = b->block > 0 ? (max_rows + b->block - 1) / b->block : 0;
    if (cap > b->n_blocks) cap = b->n_blocks;
    *t = (berth_block_table){.cap = (int32_t)cap, .block = b->block};
    t->blocks = calloc((size_t)cap + 1, sizeof *t->blocks);
    return t->blocks ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "table of %d blocks", (int)cap);
}

void berth_block_table_deinit(berth_block_table *t)
{
    free(t->blocks);
    *t = (berth_block_table){0};
}

bool berth_block_table_grow(berth_block_table *t, berth_blocks *b, int64_t n_rows)
{
    if (n_rows <= (int64_t)t->n_blocks * t->block) return true;
    int64_t want = (n_rows + t->block - 1) / t->block;
    if (want > t->cap || want - t->n_blocks > b->n_free) return false;
    while (t->n_blocks < want) t->blocks[t->n_blocks++] = b->free[--b->n_free];
    return true;
}

void berth_block_table_give_back(berth_block_table *t, berth_blocks *b)
{
    for (int32_t i = 0; i < t->n_blocks; i++) b->free[b->n_free++] = t->blocks[i];
    t->n_blocks = 0;
}
