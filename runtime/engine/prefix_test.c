/* prefix_test.c - keys of texts and images, the digest chain, and sequences that share their beginnings through a small
 * store, in long random runs in which every slot remembers what was computed into it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/sha256.h"
#include "engine/prefix.h"

enum { DIGEST = BERTH_BLOCK_DIGEST, IMG = 7 };

static uint32_t roll(uint64_t *seed, uint32_t n)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33) % n;
}

/* ---- keys ------------------------------------------------------------------------------------------------------- */

static const int32_t prompt[] = {1, 2, IMG, IMG, IMG, IMG, 3, IMG, IMG, 4}; /* tiles of two tokens: a, b; c */
enum { N_PROMPT = sizeof prompt / sizeof prompt[0] };

static void keys_of(const char *tiles, uint64_t nonce, uint64_t out[N_PROMPT])
{
    uint8_t digests[3][DIGEST];
    for (int i = 0; tiles && i < 3; i++) assert_true(berth_sha256(&tiles[i], 1, digests[i]));
    const berth_prefix_tokens tokens = {.ids = prompt,
                                        .n = N_PROMPT,
                                        .image_id = IMG,
                                        .tile_digests = tiles ? (const uint8_t(*)[DIGEST])digests : NULL,
                                        .n_tiles = 3,
                                        .tokens_per_tile = 2,
                                        .nonce = nonce};
    assert_int_equal(berth_prefix_keys(&tokens, out, NULL), BERTH_OK);
}

static void equal_images_have_equal_keys(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        uint64_t nonce_a, nonce_b;
        int64_t common;
    } cases[] = {
        {"abc", "abc", 1, 2, N_PROMPT}, /* the nonce counts without digests only */
        {"abc", "abd", 0, 0, 7},        /* another last picture */
        {"abc", "bac", 0, 0, 2},        /* the tiles in another order */
        {"aaa", "aab", 0, 0, 7},        {"xbc", "abc", 0, 0, 2},
        {NULL, NULL, 1, 2, 2},          {NULL, NULL, 5, 5, N_PROMPT}, /* one request with itself */
        {NULL, "abc", 1, 1, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t a[N_PROMPT], b[N_PROMPT];
        keys_of(cases[i].a, cases[i].nonce_a, a);
        keys_of(cases[i].b, cases[i].nonce_b, b);
        assert_int_equal(berth_prefix_common(a, N_PROMPT, b, N_PROMPT), cases[i].common);
        for (int k = 0; k < N_PROMPT; k++) {
            assert_int_equal(a[k] >> 63, prompt[k] == IMG); /* an image token is no text */
            if (prompt[k] != IMG) assert_int_equal(a[k], prompt[k]);
        }
    }
    uint64_t a[N_PROMPT], b[N_PROMPT];
    keys_of("aab", 0, a);
    assert_int_equal(a[2], a[4]); /* the same tile twice, */
    assert_int_equal(a[3], a[5]);
    assert_int_not_equal(a[2], a[3]); /* whose tokens are not the same, */
    assert_int_not_equal(a[2], a[7]); /* and another one */
    keys_of("aba", 0, b);
    assert_int_equal(a[2], b[7]);
    keys_of(NULL, 9, a);
    for (int i = 0; i < N_PROMPT; i++)
        for (int j = 0; j < i; j++)
            if (prompt[i] == IMG) assert_int_not_equal(a[i], a[j]);
}

static void common_stops_at_the_shorter_one(void **state)
{
    (void)state;
    static const uint64_t a[] = {1, 2, 3, 4}, b[] = {1, 2, 9, 4};
    assert_int_equal(berth_prefix_common(a, 4, a, 4), 4);
    assert_int_equal(berth_prefix_common(a, 4, a, 2), 2);
    assert_int_equal(berth_prefix_common(a, 1, b, 4), 1);
    assert_int_equal(berth_prefix_common(a, 4, b, 4), 2);
    assert_int_equal(berth_prefix_common(a, 0, b, 4), 0);
    assert_int_equal(berth_prefix_common(NULL, 0, NULL, 0), 0);
}

static void tokens_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const int32_t ids[] = {1, IMG, IMG, 3}, negative[] = {1, -5, IMG, IMG};
    static const uint8_t digests[2][DIGEST];
    const struct {
        const int32_t *ids;
        int32_t n_tiles, tokens_per_tile;
        berth_status want;
    } cases[] = {
        {ids, 1, 2, BERTH_OK},
        {ids, 2, 1, BERTH_OK},
        {ids, 2, 2, BERTH_INVALID_ARGUMENT},
        {ids, 1, 1, BERTH_INVALID_ARGUMENT},
        {ids, 0, 2, BERTH_INVALID_ARGUMENT},
        {ids, -1, -2, BERTH_INVALID_ARGUMENT},
        {ids, INT32_MAX, INT32_MAX, BERTH_INVALID_ARGUMENT},
        {negative, 1, 2, BERTH_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t keys[4];
        berth_error err = {0};
        berth_prefix_tokens tokens = {.ids = cases[i].ids,
                                      .n = 4,
                                      .image_id = IMG,
                                      .tile_digests = digests,
                                      .n_tiles = cases[i].n_tiles,
                                      .tokens_per_tile = cases[i].tokens_per_tile};
        assert_int_equal(berth_prefix_keys(&tokens, keys, &err), cases[i].want);
        assert_int_equal(err.message[0] != '\0', cases[i].want != BERTH_OK);
        tokens.image_id = -1; /* plain text, then; with no tiles */
        tokens.n_tiles = tokens.tokens_per_tile = 0;
        assert_int_equal(berth_prefix_keys(&tokens, keys, NULL),
                         cases[i].ids == negative ? BERTH_INVALID_ARGUMENT : BERTH_OK);
    }
}

/* ---- the chain -------------------------------------------------------------------------------------------------- */

/* By the definition, from the root. */
static void digest_by_hand(const char *salt, const uint64_t *keys, size_t block, size_t i, uint8_t out[DIGEST])
{
    uint8_t message[DIGEST + 64 * sizeof *keys];
    assert_true(berth_sha256(salt, strlen(salt), out));
    for (size_t k = 0; k <= i; k++) {
        memcpy(message, out, DIGEST);
        memcpy(message + DIGEST, keys + k * block, block * sizeof *keys);
        assert_true(berth_sha256(message, DIGEST + block * sizeof *keys, out));
    }
}

static void a_chain_is_the_same_however_it_is_cut(void **state)
{
    (void)state;
    uint64_t keys[100], seed = 5;
    for (int i = 0; i < 100; i++) keys[i] = roll(&seed, 1000);
    for (int32_t block = 1; block <= 32; block++) {
        const berth_block_table t = {.cap = 100 / block - 1, .block = block};
        berth_prefix_chain c;
        assert_int_equal(berth_prefix_chain_init(&c, &t, "salt", 4, NULL), BERTH_OK);
        for (int64_t rows = 0; rows <= 100;) {
            int32_t want = (int32_t)(rows / block) < t.cap ? (int32_t)(rows / block) : t.cap;
            assert_int_equal(berth_prefix_chain_extend(&c, keys, rows), want);
            rows += 1 + roll(&seed, 20);
        }
        berth_prefix_chain_extend(&c, keys, 100);
        assert_int_equal(c.n, t.cap);
        uint8_t want[DIGEST];
        for (int32_t i = 0; i < c.n; i++) {
            digest_by_hand("salt", keys, (size_t)block, (size_t)i, want);
            assert_memory_equal(c.digests[i], want, DIGEST);
        }
        berth_prefix_chain_keep(&c, 100);
        assert_int_equal(c.n, t.cap);
        berth_prefix_chain_keep(&c, 2 * block - 1);
        assert_int_equal(c.n, t.cap < 1 ? t.cap : 1);
        berth_prefix_chain_keep(&c, -1);
        assert_int_equal(c.n, 0);
        assert_true(berth_prefix_chain_restart(&c, "pepper", 6));
        assert_int_equal(berth_prefix_chain_extend(&c, keys, 100), t.cap);
        digest_by_hand("pepper", keys, (size_t)block, (size_t)t.cap - 1, want);
        assert_memory_equal(c.digests[t.cap - 1], want, DIGEST);
        berth_prefix_chain_deinit(&c);
    }
}

/* ---- sequences that share --------------------------------------------------------------------------------------- */

enum { BLOCK = 4, N_BLOCKS = 40, N_SEQS = 9, MAX_ROWS = 61, N_OPS = 100000 };

typedef struct sequence {
    uint64_t keys[MAX_ROWS]; /* of the prompt and what followed */
    int64_t n_prompt, n_rows;
    const char *salt;
    berth_block_table table;
    berth_prefix_chain chain;
    bool is_open;
} sequence;

typedef struct world {
    berth_blocks blocks;
    sequence seqs[N_SEQS];
    uint64_t memory[N_BLOCKS * BLOCK]; /* what was computed into each slot: depends on all rows before it */
    uint64_t seed;
    int64_t n_matched, n_computed, n_kept_less, n_full, n_forks;
} world;

/* What attention makes of a row: a function of its key and of all before. */
static uint64_t value_after(uint64_t before, uint64_t key)
{
    uint64_t v = (before ^ key) * UINT64_C(0x9e3779b97f4a7c15) + 1;
    return v ^ v >> 29;
}

static uint64_t value_of_salt(const sequence *s)
{
    return s->salt[0] == 'a' ? 11 : 13;
}

static void check_contents(const world *w)
{
    int32_t users[N_BLOCKS] = {0};
    for (int i = 0; i < N_SEQS; i++) {
        const sequence *s = &w->seqs[i];
        if (!s->is_open) continue;
        assert_in_range(s->n_rows, 0, (int64_t)s->table.n_blocks * BLOCK);
        uint64_t v = value_of_salt(s);
        for (int64_t row = 0; row < s->n_rows; row++) {
            v = value_after(v, s->keys[row]);
            if (w->memory[berth_block_table_slot(&s->table, row)] != v)
                fail_msg("sequence %d has another's row %d", i, (int)row);
        }
        for (int32_t k = 0; k < s->table.n_blocks; k++) users[s->table.blocks[k]]++;
    }
    int32_t n_idle = 0;
    for (int32_t i = 0; i < N_BLOCKS; i++) {
        assert_int_equal(w->blocks.blocks[i].n_users, users[i]);
        n_idle += users[i] == 0;
    }
    assert_int_equal(berth_blocks_available(&w->blocks), n_idle);
}

/* Computes rows up to n_rows, publishing as one does after a pass; no slot that is written is anyone else's, or known.
 */
static void compute(world *w, sequence *s, int64_t n_rows)
{
    if (!berth_block_table_grow(&s->table, &w->blocks, n_rows)) {
        w->n_full++;
        return;
    }
    const int64_t first = s->n_rows;
    uint64_t v = value_of_salt(s);
    for (int64_t row = 0; row < n_rows; row++) {
        v = value_after(v, s->keys[row]);
        if (row < first) continue;
        const int32_t slot = berth_block_table_slot(&s->table, row);
        const berth_block *block = &w->blocks.blocks[slot / BLOCK];
        assert_int_equal(block->n_users, 1);
        assert_false(block->is_published);
        w->memory[slot] = v;
        w->n_computed++;
    }
    s->n_rows = n_rows;
    berth_prefix_publish(&w->blocks, &s->table, &s->chain, s->keys, first, n_rows);
}

/* Keys that often begin like others: of few kinds. */
static void invent(world *w, uint64_t *keys, int64_t from, int64_t to)
{
    const uint32_t kind = roll(&w->seed, 3), change = roll(&w->seed, 4) ? MAX_ROWS : roll(&w->seed, MAX_ROWS);
    for (int64_t i = from; i < to; i++) keys[i] = (uint64_t)i * 10 + kind + (i >= change ? 5 : 0);
}

static void start(world *w, sequence *s, int i)
{
    s->salt = roll(&w->seed, 5) ? "a" : "b";
    s->n_prompt = 1 + roll(&w->seed, MAX_ROWS);
    invent(w, s->keys, 0, s->n_prompt);
    s->is_open = true;
    if (i % 2)
        assert_true(berth_prefix_chain_restart(&s->chain, s->salt, 1));
    else {
        berth_prefix_chain_deinit(&s->chain);
        assert_int_equal(berth_prefix_chain_init(&s->chain, &s->table, s->salt, 1, NULL), BERTH_OK);
    }
    s->n_rows = berth_prefix_match(&w->blocks, &s->table, &s->chain, s->keys, s->n_prompt - 1);
    assert_true(s->n_rows < s->n_prompt);
    assert_int_equal(s->n_rows % BLOCK, 0);
    w->n_matched += s->n_rows;
}

/* The next turn: some rows stay, others follow. */
static void edit(world *w, sequence *s)
{
    const int64_t same = roll(&w->seed, (uint32_t)s->n_rows + 1);
    const int64_t kept = berth_block_table_keep(&s->table, &w->blocks, same);
    assert_true(kept <= same && kept > same - BLOCK);
    w->n_kept_less += kept < same;
    s->n_rows = kept;
    berth_prefix_chain_keep(&s->chain, kept);
    s->n_prompt = same + 1 < MAX_ROWS ? same + 1 + roll(&w->seed, (uint32_t)(MAX_ROWS - same - 1) + 1) : MAX_ROWS;
    invent(w, s->keys, same, s->n_prompt);
    if (s->n_rows % BLOCK) return;
    s->n_rows = berth_prefix_match(&w->blocks, &s->table, &s->chain, s->keys, s->n_prompt - 1);
    w->n_matched += s->n_rows - kept;
}

static void fork_into(world *w, sequence *s, const sequence *from)
{
    memcpy(s->keys, from->keys, sizeof s->keys);
    s->n_prompt = from->n_prompt;
    s->salt = from->salt;
    s->is_open = true;
    assert_true(berth_prefix_chain_restart(&s->chain, s->salt, 1));
    s->n_rows = berth_block_table_fork(&s->table, &w->blocks, &from->table, from->n_rows);
    w->n_forks += s->n_rows > 0;
}

static void random_op(world *w)
{
    const int i = (int)roll(&w->seed, N_SEQS);
    sequence *s = &w->seqs[i];
    const sequence *other = &w->seqs[roll(&w->seed, N_SEQS)];
    if (!s->is_open) {
        if (other->is_open && roll(&w->seed, 3) == 0)
            fork_into(w, s, other);
        else
            start(w, s, i);
    } else if (roll(&w->seed, 12) == 0) {
        berth_block_table_give_back(&s->table, &w->blocks);
        s->is_open = false;
    } else if (roll(&w->seed, 6) == 0) {
        edit(w, s);
    } else if (roll(&w->seed, 2000) == 0) {
        berth_blocks_forget_all(&w->blocks);
    } else if (s->n_rows < MAX_ROWS) { /* a chunk of the prompt, then row by row */
        const int64_t left = s->n_prompt - s->n_rows;
        if (left <= 0) invent(w, s->keys, s->n_rows, s->n_rows + 1);
        compute(w, s, s->n_rows + (left > 0 ? 1 + roll(&w->seed, (uint32_t)left) : 1));
    }
}

static void every_row_found_is_the_one_computed(void **state)
{
    (void)state;
    world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->seed = 77;
    assert_int_equal(berth_blocks_init(&w->blocks, N_BLOCKS, BLOCK, NULL), BERTH_OK);
    for (int i = 0; i < N_SEQS; i++) {
        sequence *s = &w->seqs[i];
        assert_int_equal(berth_block_table_init(&s->table, &w->blocks, MAX_ROWS, NULL), BERTH_OK);
        assert_int_equal(berth_prefix_chain_init(&s->chain, &s->table, "a", 1, NULL), BERTH_OK);
    }
    for (int op = 0; op < N_OPS; op++) {
        random_op(w);
        check_contents(w);
    }
    print_message("%lld rows computed, %lld found; %lld edits of shared blocks, %lld forks, %lld times full, %lld "
                  "evictions\n",
                  (long long)w->n_computed, (long long)w->n_matched, (long long)w->n_kept_less, (long long)w->n_forks,
                  (long long)w->n_full, (long long)w->blocks.n_evictions);
    assert_true(w->n_matched > 1000 && w->n_kept_less > 1000 && w->n_forks > 1000);
    assert_true(w->n_full > 1000 && w->blocks.n_evictions > 1000); /* the run went where it hurts */
    for (int i = 0; i < N_SEQS; i++) {
        berth_block_table_give_back(&w->seqs[i].table, &w->blocks);
        berth_block_table_deinit(&w->seqs[i].table);
        berth_prefix_chain_deinit(&w->seqs[i].chain);
    }
    assert_int_equal(berth_blocks_available(&w->blocks), N_BLOCKS);
    berth_blocks_deinit(&w->blocks);
    free(w);
}

/* A prompt again, whole: all but the block of its last row, and never that one. */
static void the_last_row_is_left_to_compute(void **state)
{
    (void)state;
    uint64_t keys[40];
    for (uint64_t i = 0; i < 40; i++) keys[i] = i;
    static const struct {
        int64_t first, again, want; /* rows published, length of the second prompt, rows it is spared */
    } cases[] = {
        {16, 16, 12}, {16, 17, 16}, {15, 16, 12}, {16, 13, 12}, {16, 12, 8},
        {3, 16, 0},   {16, 1, 0},   {16, 40, 12}}; /* the last: room for three blocks, though the chain has more */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        berth_blocks b;
        berth_block_table one, two;
        berth_prefix_chain c, d;
        assert_int_equal(berth_blocks_init(&b, 8, 4, NULL), BERTH_OK);
        assert_int_equal(berth_block_table_init(&one, &b, 16, NULL), BERTH_OK);
        assert_int_equal(berth_block_table_init(&two, &b, cases[i].again == 40 ? 12 : 32, NULL), BERTH_OK);
        assert_int_equal(berth_prefix_chain_init(&c, &one, NULL, 0, NULL), BERTH_OK);
        assert_int_equal(berth_prefix_chain_init(&d, &one, NULL, 0, NULL), BERTH_OK);
        assert_true(berth_block_table_grow(&one, &b, cases[i].first));
        berth_prefix_publish(&b, &one, &c, keys, 0, cases[i].first);
        assert_int_equal(berth_prefix_match(&b, &two, &d, keys, cases[i].again - 1), cases[i].want);
        assert_int_equal(b.n_hits, cases[i].want / 4);
        for (int64_t row = 0; row < cases[i].want; row++)
            assert_int_equal(berth_block_table_slot(&two, row), berth_block_table_slot(&one, row));
        berth_block_table_give_back(&one, &b);
        berth_block_table_give_back(&two, &b);
        assert_int_equal(berth_blocks_available(&b), 8);
        berth_block_table_deinit(&one);
        berth_block_table_deinit(&two);
        berth_prefix_chain_deinit(&c);
        berth_prefix_chain_deinit(&d);
        berth_blocks_deinit(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_images_have_equal_keys),      cmocka_unit_test(common_stops_at_the_shorter_one),
        cmocka_unit_test(tokens_that_cannot_be_are_refused), cmocka_unit_test(a_chain_is_the_same_however_it_is_cut),
        cmocka_unit_test(the_last_row_is_left_to_compute),   cmocka_unit_test(every_row_found_is_the_one_computed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
