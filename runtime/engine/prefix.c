/* prefix.c - see prefix.h. */
#include "engine/prefix.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

enum { DIGEST = BERTH_BLOCK_DIGEST };

static const uint64_t IMAGE_BIT = UINT64_C(1) << 63;

/* ---- hashing ---------------------------------------------------------------------------------------------------- */

/* A state for any number of hashes, so that the algorithm is looked up once; NULL when there is none to be had. */
static EVP_MD_CTX *create_hash(void)
{
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    if (hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL)) return hash;
    EVP_MD_CTX_free(hash);
    return NULL;
}

/* out = SHA-256(a || b); out may be a. */
static bool hash_two(EVP_MD_CTX *hash, const void *a, size_t n_a, const void *b, size_t n_b, uint8_t out[DIGEST])
{
    return EVP_DigestInit_ex(hash, NULL, NULL) && (n_a == 0 || EVP_DigestUpdate(hash, a, n_a)) &&
           (n_b == 0 || EVP_DigestUpdate(hash, b, n_b)) && EVP_DigestFinal_ex(hash, out, NULL);
}

/* ---- keys ------------------------------------------------------------------------------------------------------- */

/* The key of the j-th image token under `seed`, which is a tile's digest or stands for a nonce. */
static bool image_key(EVP_MD_CTX *hash, const uint8_t seed[DIGEST], int64_t j, uint64_t *out_key)
{
    uint8_t digest[DIGEST];
    if (!hash_two(hash, seed, DIGEST, &j, sizeof j, digest)) return false;
    memcpy(out_key, digest, sizeof *out_key);
    *out_key |= IMAGE_BIT;
    return true;
}

/* The seed for images whose digests are not known. No tile's digest is one: a tile's bytes are far more than these. */
static bool nonce_seed(EVP_MD_CTX *hash, uint64_t nonce, uint8_t out_seed[DIGEST])
{
    static const char what[] = "an image without a digest";
    return hash_two(hash, what, sizeof what, &nonce, sizeof nonce, out_seed);
}

static berth_status check_tokens(const berth_prefix_tokens *k, berth_error *err)
{
    int64_t n_image = 0;
    for (int64_t i = 0; i < k->n; i++) {
        if (k->ids[i] < 0)
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "token %lld has the id %d; ids start at 0", (long long)i,
                              (int)k->ids[i]);
        n_image += k->ids[i] == k->image_id;
    }
    const bool has_sizes = k->n_tiles >= 0 && k->tokens_per_tile >= 0;
    if (k->tile_digests && (!has_sizes || n_image != (int64_t)k->n_tiles * k->tokens_per_tile))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "%lld image tokens for %d tiles of %d; give as many as the tiles have", (long long)n_image,
                          (int)k->n_tiles, (int)k->tokens_per_tile);
    return BERTH_OK;
}

berth_status berth_prefix_keys(const berth_prefix_tokens *tokens, uint64_t *out_keys, berth_error *err)
{
    berth_status st = check_tokens(tokens, err);
    if (st != BERTH_OK) return st;
    uint8_t seed[DIGEST];
    EVP_MD_CTX *hash = create_hash();
    bool ok = hash && nonce_seed(hash, tokens->nonce, seed);
    int64_t at = 0; /* of the image tokens */
    for (int64_t i = 0; ok && i < tokens->n; i++) {
        if (tokens->ids[i] != tokens->image_id) {
            out_keys[i] = (uint64_t)tokens->ids[i];
            continue;
        }
        const int64_t tile = tokens->tile_digests ? at / tokens->tokens_per_tile : 0;
        const uint8_t *from = tokens->tile_digests ? tokens->tile_digests[tile] : seed;
        ok = image_key(hash, from, at - tile * tokens->tokens_per_tile, &out_keys[i]);
        at++;
    }
    EVP_MD_CTX_free(hash);
    return ok ? BERTH_OK
              : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "hashing the keys of %lld tokens", (long long)tokens->n);
}

int64_t berth_prefix_common(const uint64_t *a, int64_t n_a, const uint64_t *b, int64_t n_b)
{
    int64_t n = 0;
    while (n < n_a && n < n_b && a[n] == b[n]) n++;
    return n;
}

/* ---- the chain -------------------------------------------------------------------------------------------------- */

berth_status berth_prefix_chain_init(berth_prefix_chain *c, const berth_block_table *t, const void *salt, size_t n_salt,
                                     berth_error *err)
{
    *c = (berth_prefix_chain){.cap = t->cap, .block = t->block};
    c->digests = calloc((size_t)t->cap + 1, sizeof *c->digests);
    c->hash = create_hash();
    if (c->digests && c->hash && berth_prefix_chain_restart(c, salt, n_salt)) return BERTH_OK;
    berth_prefix_chain_deinit(c);
    return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "digests of %d blocks", (int)t->cap);
}

void berth_prefix_chain_deinit(berth_prefix_chain *c)
{
    free(c->digests);
    EVP_MD_CTX_free(c->hash);
    *c = (berth_prefix_chain){0};
}

bool berth_prefix_chain_restart(berth_prefix_chain *c, const void *salt, size_t n_salt)
{
    c->n = 0;
    if (hash_two(c->hash, salt, n_salt, NULL, 0, c->root)) return true;
    c->cap = 0;
    return false;
}

int32_t berth_prefix_chain_extend(berth_prefix_chain *c, const uint64_t *keys, int64_t n_rows)
{
    const size_t bytes = (size_t)c->block * sizeof *keys;
    while (c->n < c->cap && (int64_t)(c->n + 1) * c->block <= n_rows) {
        const uint8_t *before = c->n > 0 ? c->digests[c->n - 1] : c->root;
        const uint64_t *rows = keys + (size_t)c->n * (size_t)c->block;
        if (!hash_two(c->hash, before, DIGEST, rows, bytes, c->digests[c->n])) break;
        c->n++;
    }
    return c->n;
}

void berth_prefix_chain_keep(berth_prefix_chain *c, int64_t n_rows)
{
    if (n_rows < (int64_t)c->n * c->block) c->n = n_rows > 0 ? (int32_t)(n_rows / c->block) : 0;
}

/* ---- finding and publishing ------------------------------------------------------------------------------------- */

int64_t berth_prefix_match(berth_blocks *b, berth_block_table *t, berth_prefix_chain *c, const uint64_t *keys,
                           int64_t max_rows)
{
    for (;;) {
        const int64_t n_rows = (int64_t)(t->n_blocks + 1) * t->block;
        if (t->n_blocks == t->cap || n_rows > max_rows) break;
        if (berth_prefix_chain_extend(c, keys, n_rows) <= t->n_blocks) break;
        const int32_t block = berth_blocks_find(b, c->digests[t->n_blocks]);
        if (block < 0) break;
        berth_block_table_adopt(t, block); /* there is room */
    }
    return (int64_t)t->n_blocks * t->block;
}

void berth_prefix_publish(berth_blocks *b, const berth_block_table *t, berth_prefix_chain *c, const uint64_t *keys,
                          int64_t first_row, int64_t n_rows)
{
    if (t->block == 0) return;
    int64_t known = berth_prefix_chain_extend(c, keys, n_rows);
    if (known > n_rows / t->block) known = n_rows / t->block;
    for (int64_t i = first_row / t->block; i < known; i++) berth_blocks_publish(b, t->blocks[i], c->digests[i]);
}
