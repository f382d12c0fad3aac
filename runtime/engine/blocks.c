/* blocks.c - see blocks.h. The known blocks are in an open-addressing hash table with linear probing, at most half
 * full, where a removal moves later entries up, so that it needs no tombstones and never slows down with use. */
#include "engine/blocks.h"

#include <stdlib.h>
#include <string.h>

enum { NONE = -1 };

berth_status berth_blocks_init(berth_blocks *b, int32_t n_blocks, int32_t block, berth_error *err)
{
    *b = (berth_blocks){.free = NONE, .oldest = NONE, .newest = NONE};
    if (n_blocks < 0 || block < 0 || (int64_t)n_blocks * block > INT32_MAX)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "a store of %d blocks of %d rows; a store has at most %d rows, give it less memory",
                          (int)n_blocks, (int)block, (int)INT32_MAX);
    size_t n_slots = 2;
    while (n_slots < 2 * (size_t)n_blocks) n_slots *= 2;
    b->blocks = calloc((size_t)n_blocks + 1, sizeof *b->blocks);
    b->known = calloc(n_slots, sizeof *b->known);
    if (!b->blocks || !b->known) {
        berth_blocks_deinit(b);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "list of %d blocks", (int)n_blocks);
    }
    b->n_blocks = b->n_free = n_blocks;
    b->block = block;
    b->known_mask = n_slots - 1;
    for (size_t i = 0; i < n_slots; i++) b->known[i] = NONE;
    for (int32_t i = 0; i < n_blocks; i++) b->blocks[i].next = i + 1 < n_blocks ? i + 1 : NONE;
    b->free = n_blocks > 0 ? 0 : NONE;
    return BERTH_OK;
}

void berth_blocks_deinit(berth_blocks *b)
{
    free(b->blocks);
    free(b->known);
    *b = (berth_blocks){.free = NONE, .oldest = NONE, .newest = NONE};
}

/* ---- known blocks ----------------------------------------------------------------------------------------------- */

static size_t home_of(const berth_blocks *b, const uint8_t *digest)
{
    uint64_t h;
    memcpy(&h, digest, sizeof h);
    return (size_t)h & b->known_mask;
}

/* Where the block with this digest is, or the empty place where it would be. */
static size_t place_of(const berth_blocks *b, const uint8_t *digest)
{
    size_t at = home_of(b, digest);
    while (b->known[at] != NONE && memcmp(b->blocks[b->known[at]].digest, digest, BERTH_BLOCK_DIGEST) != 0)
        at = (at + 1) & b->known_mask;
    return at;
}

/* Empties a place and moves up what probing would no longer reach behind the hole. */
static void remove_known(berth_blocks *b, size_t hole)
{
    const size_t mask = b->known_mask;
    for (size_t at = (hole + 1) & mask; b->known[at] != NONE; at = (at + 1) & mask) {
        size_t home = home_of(b, b->blocks[b->known[at]].digest);
        if (((at - home) & mask) < ((at - hole) & mask)) continue;
        b->known[hole] = b->known[at];
        hole = at;
    }
    b->known[hole] = NONE;
}

/* ---- idle blocks ------------------------------------------------------------------------------------------------ */

static void put_free(berth_blocks *b, int32_t i)
{
    b->blocks[i].next = b->free;
    b->free = i;
    b->n_free++;
}

static void put_cached(berth_blocks *b, int32_t i)
{
    b->blocks[i].prev = b->newest;
    b->blocks[i].next = NONE;
    if (b->newest == NONE)
        b->oldest = i;
    else
        b->blocks[b->newest].next = i;
    b->newest = i;
    b->n_cached++;
}

static void unlink_cached(berth_blocks *b, int32_t i)
{
    const berth_block *e = &b->blocks[i];
    if (e->prev == NONE)
        b->oldest = e->next;
    else
        b->blocks[e->prev].next = e->next;
    if (e->next == NONE)
        b->newest = e->prev;
    else
        b->blocks[e->next].prev = e->prev;
    b->n_cached--;
}

/* ---- taking and giving ------------------------------------------------------------------------------------------ */

int32_t berth_blocks_take(berth_blocks *b)
{
    if (b->free == NONE && b->oldest != NONE) {
        berth_blocks_unpublish(b, b->oldest);
        b->n_evictions++;
    }
    int32_t i = b->free;
    if (i == NONE) return NONE;
    b->free = b->blocks[i].next;
    b->n_free--;
    b->blocks[i].n_users = 1;
    return i;
}

void berth_blocks_retain(berth_blocks *b, int32_t i)
{
    b->blocks[i].n_users++;
}

void berth_blocks_release(berth_blocks *b, int32_t i)
{
    if (--b->blocks[i].n_users > 0) return;
    if (b->blocks[i].is_published)
        put_cached(b, i);
    else
        put_free(b, i);
}

int32_t berth_blocks_publish(berth_blocks *b, int32_t i, const uint8_t *digest)
{
    berth_block *e = &b->blocks[i];
    size_t at = place_of(b, digest);
    if (b->known[at] != NONE) return b->known[at];
    if (e->is_published) return i;
    memcpy(e->digest, digest, sizeof e->digest);
    e->is_published = true;
    b->known[at] = i;
    return i;
}

void berth_blocks_unpublish(berth_blocks *b, int32_t i)
{
    berth_block *e = &b->blocks[i];
    if (!e->is_published) return;
    remove_known(b, place_of(b, e->digest));
    e->is_published = false;
    if (e->n_users > 0) return;
    unlink_cached(b, i);
    put_free(b, i);
}

int32_t berth_blocks_find(berth_blocks *b, const uint8_t *digest)
{
    int32_t i = b->known[place_of(b, digest)];
    if (i == NONE) return NONE;
    if (b->blocks[i].n_users == 0) unlink_cached(b, i);
    b->blocks[i].n_users++;
    b->n_hits++;
    return i;
}

void berth_blocks_forget_all(berth_blocks *b)
{
    for (int32_t i = 0; i < b->n_blocks; i++) berth_blocks_unpublish(b, i);
}

/* ---- tables ----------------------------------------------------------------------------------------------------- */

/* Blocks that n_rows rows begin; the sum of n_rows and the block might overflow. */
static int64_t blocks_of(int64_t n_rows, int32_t block)
{
    return block > 0 && n_rows > 0 ? (n_rows - 1) / block + 1 : 0;
}

berth_status berth_block_table_init(berth_block_table *t, const berth_blocks *b, int64_t max_rows, berth_error *err)
{
    int64_t cap = blocks_of(max_rows, b->block);
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
    int64_t want = blocks_of(n_rows, t->block);
    if (t->block == 0 || want > t->cap || want - t->n_blocks > berth_blocks_available(b)) return false;
    while (t->n_blocks < want) t->blocks[t->n_blocks++] = berth_blocks_take(b);
    return true;
}

bool berth_block_table_adopt(berth_block_table *t, int32_t block)
{
    if (t->n_blocks == t->cap) return false;
    t->blocks[t->n_blocks++] = block;
    return true;
}

int64_t berth_block_table_fork(berth_block_table *t, berth_blocks *b, const berth_block_table *from, int64_t n_rows)
{
    for (int32_t i = 0; i < from->n_blocks && (int64_t)(i + 1) * from->block <= n_rows; i++) {
        if (!berth_block_table_adopt(t, from->blocks[i])) break;
        berth_blocks_retain(b, from->blocks[i]);
    }
    return (int64_t)t->n_blocks * t->block;
}

/* Gives back all but the first n blocks, the last first. */
static void cut(berth_block_table *t, berth_blocks *b, int64_t n)
{
    while (t->n_blocks > n) berth_blocks_release(b, t->blocks[--t->n_blocks]);
}

int64_t berth_block_table_keep(berth_block_table *t, berth_blocks *b, int64_t n_rows)
{
    const int64_t have = (int64_t)t->n_blocks * t->block;
    if (n_rows >= have) return have;
    if (n_rows <= 0) {
        cut(t, b, 0);
        return 0;
    }
    const int64_t whole = n_rows / t->block;
    if (n_rows % t->block == 0) {
        cut(t, b, whole);
        return n_rows;
    }
    cut(t, b, whole + 1);
    int32_t last = t->blocks[whole];
    if (b->blocks[last].n_users > 1) {
        cut(t, b, whole);
        return whole * t->block;
    }
    berth_blocks_unpublish(b, last);
    return n_rows;
}

void berth_block_table_give_back(berth_block_table *t, berth_blocks *b)
{
    cut(t, b, 0);
}
