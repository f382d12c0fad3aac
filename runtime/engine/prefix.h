/* prefix.h - what a sequence's rows are made of, so that KV computed once is found again.
 *
 * Every row has a 64-bit key: of a text token its id; of the j-th image token of a tile the top bit and 63 bits of a
 * hash of the tile's digest and j. Two rows with equal keys after equal rows have equal KV, given the same model and
 * rotary frequencies: those are the chain's salt. The chain has a digest for each complete block of rows, hashed over
 * the digest of the block before, so that a digest stands for the whole sequence up to there. All hashes are SHA-256;
 * keys go in as they lie in memory, digests are worth nothing in another process.
 *
 * Easy to get wrong: rotary frequencies that depend on the length of a prompt (dynamic scaling past the model's
 * positions) belong into the salt. */
#ifndef BERTH_ENGINE_PREFIX_H
#define BERTH_ENGINE_PREFIX_H

#include <stddef.h>

#include "engine/blocks.h"

/* ---- keys ------------------------------------------------------------------------------------------------------- */

typedef struct berth_prefix_tokens {
    const int32_t *ids; /* [n]; from 0 on */
    int64_t n;
    int32_t image_id; /* ids that are image tokens; -1 = none */
    const uint8_t (
        *tile_digests)[BERTH_BLOCK_DIGEST]; /* [n_tiles], in the order of the image tokens; NULL = not known */
    int32_t n_tiles, tokens_per_tile;       /* read with tile_digests only */
    uint64_t nonce; /* read without: the image tokens' keys are those of no other nonce; from the caller's counter */
} berth_prefix_tokens;

/* Fills out_keys [n]. From any thread. BERTH_INVALID_ARGUMENT when there are not n_tiles * tokens_per_tile image tokens
 * (and tile_digests is given) or an id is negative, BERTH_OUT_OF_MEMORY. */
berth_status berth_prefix_keys(const berth_prefix_tokens *tokens, uint64_t *out_keys, berth_error *err);

/* The number of leading keys that are equal. */
int64_t berth_prefix_common(const uint64_t *a, int64_t n_a, const uint64_t *b, int64_t n_b);

/* ---- the chain -------------------------------------------------------------------------------------------------- */

typedef struct berth_prefix_chain {
    uint8_t root[BERTH_BLOCK_DIGEST];
    uint8_t (*digests)[BERTH_BLOCK_DIGEST]; /* owned; [cap], the first n are known */
    int32_t n, cap, block;
    void *hash; /* owned; the library's state */
} berth_prefix_chain;

/* A chain for tables like `t`. `salt` is whatever else the KV depends on; two chains match only with the same salt. */
berth_status berth_prefix_chain_init(berth_prefix_chain *c, const berth_block_table *t, const void *salt, size_t n_salt,
                                     berth_error *err);
void berth_prefix_chain_deinit(berth_prefix_chain *c);

/* Empties the chain and gives it another salt; false (no digest is ever known) when hashing fails. */
bool berth_prefix_chain_restart(berth_prefix_chain *c, const void *salt, size_t n_salt);

/* Hashes the blocks that rows 0 .. n_rows-1 complete and that are not known yet; keys [n_rows] is the whole sequence
 * each time. Returns c->n; less than n_rows / block only past the chain's room or when hashing fails, as it may when
 * memory is short: OpenSSL 3.0 takes and frees some hundred bytes for each hash. */
int32_t berth_prefix_chain_extend(berth_prefix_chain *c, const uint64_t *keys, int64_t n_rows);

void berth_prefix_chain_keep(berth_prefix_chain *c, int64_t n_rows); /* the rows from n_rows on will be others */

/* ---- finding and publishing ------------------------------------------------------------------------------------- */

/* Appends to `t`, which has whole blocks of computed rows or none, the known blocks that continue the sequence, as long
 * as they are within rows 0 .. max_rows-1 of keys [max_rows]. Returns the rows that t covers. Someone has to compute
 * the last row of a prompt for its logits: max_rows is at most its length less one. */
int64_t berth_prefix_match(berth_blocks *b, berth_block_table *t, berth_prefix_chain *c, const uint64_t *keys,
                           int64_t max_rows);

/* Publishes the blocks of `t` that rows first_row .. n_rows-1, computed now, have completed; keys [n_rows]. */
void berth_prefix_publish(berth_blocks *b, const berth_block_table *t, berth_prefix_chain *c, const uint64_t *keys,
                          int64_t first_row, int64_t n_rows);

#endif
