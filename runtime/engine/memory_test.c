/* memory_test.c - arenas and their limits, blocks and tables, the batch descriptor of several sequences, rope
 * frequencies, page protection. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/batch.h"
#include "engine/rope.h"
#include "exec/arena.h"
#include "exec/strict.h"

/* ---- arenas ----------------------------------------------------------------------------------------------------- */

static void an_arena_keeps_its_limit(void **state)
{
    (void)state;
    berth_arena a;
    berth_error err = {0};
    assert_int_equal(berth_arena_init(&a, "cpu:3", 1000, 5000, NULL, &err), BERTH_OK);
    assert_int_equal(berth_arena_charge(&a, 4000, &err), BERTH_OK);
    assert_int_equal(berth_arena_charge(&a, 7, &err), BERTH_DOES_NOT_FIT);
    assert_non_null(strstr(err.message, "cpu:3"));
    assert_non_null(strstr(err.message, "7 bytes are missing"));
    assert_int_equal(berth_arena_charge(&a, UINT64_MAX, &err), BERTH_DOES_NOT_FIT);
    assert_int_equal(a.charged, 5000);
    berth_arena_deinit(&a);
    assert_int_equal(berth_arena_init(&a, "cpu:3", 5001, 5000, NULL, &err), BERTH_DOES_NOT_FIT);
    assert_null(a.base);
    berth_arena_deinit(&a);
}

static void what_is_taken_is_aligned_and_within(void **state)
{
    (void)state;
    berth_arena a;
    berth_error err = {0};
    void *p, *q, *none;
    assert_int_equal(berth_arena_init(&a, "cpu:0", 256, 4096, NULL, &err), BERTH_OK);
    assert_int_equal(berth_arena_take(&a, 1, &p, &err), BERTH_OK);
    assert_int_equal(berth_arena_take(&a, 0, &none, &err), BERTH_OK);
    assert_non_null(none);
    assert_int_equal(berth_arena_take(&a, 192, &q, &err), BERTH_OK);
    assert_int_equal((char *)q - (char *)p, 64);
    memset(q, 1, 192);
    assert_int_equal(berth_arena_take(&a, 1, &q, &err), BERTH_INTERNAL);
    berth_arena_deinit(&a);
}

/* ---- blocks ----------------------------------------------------------------------------------------------------- */

static void tables_share_blocks_without_overlap(void **state)
{
    (void)state;
    berth_blocks b;
    berth_block_table one, two;
    assert_int_equal(berth_blocks_init(&b, 8, 4, NULL), BERTH_OK);
    assert_int_equal(berth_block_table_init(&one, &b, 100, NULL), BERTH_OK);
    assert_int_equal(berth_block_table_init(&two, &b, 9, NULL), BERTH_OK);
    bool used[32] = {false};
    for (int64_t rows = 1; rows <= 12; rows++) {
        assert_true(berth_block_table_grow(&one, &b, rows));
        if (rows <= 9) assert_true(berth_block_table_grow(&two, &b, rows));
    }
    assert_int_equal(one.n_blocks, 3);
    assert_int_equal(two.n_blocks, 3);
    for (int64_t i = 0; i < 12; i++) {
        int32_t slot = berth_block_table_slot(&one, i);
        assert_false(used[slot]);
        used[slot] = true;
        slot = berth_block_table_slot(&two, i);
        assert_false(used[slot]);
        used[slot] = true;
    }
    assert_false(berth_block_table_grow(&two, &b, 13)); /* its table is full */
    assert_false(berth_block_table_grow(&one, &b, 21)); /* three blocks wanted, two there */
    assert_int_equal(b.n_free, 2);
    assert_true(berth_block_table_grow(&one, &b, 20));
    berth_block_table_give_back(&one, &b);
    berth_block_table_give_back(&two, &b);
    assert_int_equal(b.n_free, 8);
    berth_block_table_deinit(&one);
    berth_block_table_deinit(&two);
    berth_blocks_deinit(&b);
}

/* ---- batches ---------------------------------------------------------------------------------------------------- */

enum { T = 16, S = 3, M = 4, H = 2 };

typedef struct memory {
    int32_t ids[T], positions[T], token_seq[T], slots[T], table[S * M], src[T], dst[T], rows[T], best[T];
    float inv_freq[S * H], scales[T];
} memory;

static berth_batch_inputs inputs_of(memory *m)
{
    berth_batch_inputs in = {.max_blocks = M, .half_dim = H, .vocab = 100};
    in.data[BERTH_INPUT_TOKEN_IDS] = m->ids;
    in.data[BERTH_INPUT_POSITIONS] = m->positions;
    in.data[BERTH_INPUT_TOKEN_SEQ] = m->token_seq;
    in.data[BERTH_INPUT_SLOTS] = m->slots;
    in.data[BERTH_INPUT_BLOCK_TABLE] = m->table;
    in.data[BERTH_INPUT_INV_FREQ] = m->inv_freq;
    in.data[BERTH_INPUT_IMAGE_SRC] = m->src;
    in.data[BERTH_INPUT_IMAGE_DST] = m->dst;
    in.data[BERTH_INPUT_LOGIT_ROWS] = m->rows;
    in.data[BERTH_INPUT_BEST_ROWS] = m->best;
    in.data[BERTH_INPUT_BEST_SCALES] = m->scales;
    in.bounds.value[BERTH_SYM_TOKENS] = T;
    in.bounds.value[BERTH_SYM_SEQS] = S;
    in.bounds.value[BERTH_SYM_IMAGE_ROWS] = T;
    in.bounds.value[BERTH_SYM_LOGITS] = in.bounds.value[BERTH_SYM_BEST] = S;
    return in;
}

/* A prefill chunk in the middle of a prompt with an image, a decode row, and a chunk that wants no logits. */
static void a_batch_of_three_sequences(void **state)
{
    (void)state;
    int32_t kv_a[] = {5, 2}, kv_b[] = {7}, kv_c[] = {0, 1, 3}, feature_tiles[] = {1, 0};
    const berth_block_table a = {.blocks = kv_a, .n_blocks = 2, .cap = 2, .block = 4},
                            b = {.blocks = kv_b, .n_blocks = 1, .cap = 1, .block = 4},
                            c = {.blocks = kv_c, .n_blocks = 3, .cap = 3, .block = 4},
                            features = {.blocks = feature_tiles, .n_blocks = 2, .cap = 2, .block = 3};
    const int32_t ids_a[] = {9, 200, 200, 11}, ids_b[] = {33}, ids_c[] = {1, 2};
    const float f_a[] = {1, 2}, f_b[] = {3, 4}, f_c[] = {5, 6};
    const berth_batch_item items[] = {
        {.ids = ids_a,
         .n_tokens = 4,
         .position = 3,
         .kv = &a,
         .inv_freq = f_a,
         .image_token_id = 200,
         .features = &features,
         .first_feature = 2,
         .logits = BERTH_LOGITS_LAST},
        {.ids = ids_b,
         .n_tokens = 1,
         .position = 2,
         .kv = &b,
         .inv_freq = f_b,
         .image_token_id = -1,
         .logits = BERTH_LOGITS_LAST},
        {.ids = ids_c, .n_tokens = 2, .position = 8, .kv = &c, .inv_freq = f_c, .image_token_id = -1},
    };
    memory m;
    memset(&m, 0x55, sizeof m);
    berth_batch_inputs in = inputs_of(&m);
    berth_sizes sizes;
    assert_int_equal(berth_batch_fill(&in, items, 3, &sizes, NULL), BERTH_OK);
    assert_int_equal(sizes.value[BERTH_SYM_ONE], 1);
    assert_int_equal(sizes.value[BERTH_SYM_TOKENS], 7);
    assert_int_equal(sizes.value[BERTH_SYM_SEQS], 3);
    assert_int_equal(sizes.value[BERTH_SYM_IMAGE_ROWS], 2);
    assert_int_equal(sizes.value[BERTH_SYM_LOGITS], 2);
    static const int32_t ids[] = {9, 0, 0, 11, 33, 1, 2}, positions[] = {3, 4, 5, 6, 2, 8, 9},
                         seqs[] = {0, 0, 0, 0, 1, 2, 2}, slots[] = {23, 8, 9, 10, 30, 12, 13}, src[] = {5, 0},
                         dst[] = {1, 2}, rows[] = {3, 4}, table[] = {5, 2, 0, 0, 7, 0, 0, 0, 0, 1, 3, 0};
    assert_memory_equal(m.ids, ids, sizeof ids);
    assert_memory_equal(m.positions, positions, sizeof positions);
    assert_memory_equal(m.token_seq, seqs, sizeof seqs);
    assert_memory_equal(m.slots, slots, sizeof slots);
    assert_memory_equal(m.src, src, sizeof src);
    assert_memory_equal(m.dst, dst, sizeof dst);
    assert_memory_equal(m.rows, rows, sizeof rows);
    assert_memory_equal(m.table, table, sizeof table);
    static const float inv_freq[] = {1, 2, 3, 4, 5, 6};
    assert_memory_equal(m.inv_freq, inv_freq, sizeof inv_freq);
}

/* A row whose token a sampler chooses, a greedy one, and three rows of guesses of which the last two are sampled. */
static void rows_whose_best_are_wanted_are_named(void **state)
{
    (void)state;
    int32_t blocks[] = {0}, ids[3] = {1, 2, 3};
    const float f[] = {1, 1};
    const berth_block_table kv = {.blocks = blocks, .n_blocks = 1, .cap = 1, .block = 8};
    const berth_batch_item one = {
        .ids = ids, .n_tokens = 1, .kv = &kv, .inv_freq = f, .image_token_id = -1, .logits = BERTH_LOGITS_LAST};
    berth_batch_item items[] = {one, one, one};
    items[0].n_best = 1, items[0].best_scale = 2;
    items[2].n_tokens = 3, items[2].logits = BERTH_LOGITS_ALL, items[2].n_best = 2, items[2].best_scale = 0.5f;
    memory m;
    memset(&m, 0x55, sizeof m);
    berth_batch_inputs in = inputs_of(&m);
    berth_sizes sizes;
    in.bounds.value[BERTH_SYM_LOGITS] = 5;
    assert_int_equal(berth_batch_fill(&in, items, 3, &sizes, NULL), BERTH_OK);
    assert_int_equal(sizes.value[BERTH_SYM_LOGITS], 5);
    assert_int_equal(sizes.value[BERTH_SYM_BEST], 3);
    static const int32_t best[] = {0, 3, 4};
    static const float scales[] = {2, 0.5f, 0.5f};
    assert_memory_equal(m.best, best, sizeof best);
    assert_memory_equal(m.scales, scales, sizeof scales);
    in.bounds.value[BERTH_SYM_BEST] = 2;
    assert_int_equal(berth_batch_fill(&in, items, 3, &sizes, NULL), BERTH_INTERNAL);
    items[0].n_best = 2; /* of one row */
    assert_int_equal(berth_batch_fill(&in, items, 1, &sizes, NULL), BERTH_INTERNAL);
}

static void a_batch_over_its_bounds_is_refused(void **state)
{
    (void)state;
    int32_t blocks[] = {0, 1, 2, 3, 4}, ids[32] = {0};
    const float f[] = {1, 1};
    const berth_block_table kv = {.blocks = blocks, .n_blocks = 5, .cap = 5, .block = 8};
    memory m;
    berth_batch_inputs in = inputs_of(&m);
    berth_sizes sizes;
    berth_batch_item item = {.ids = ids, .n_tokens = 4, .kv = &kv, .inv_freq = f, .image_token_id = -1};
    assert_int_equal(berth_batch_fill(&in, &item, 1, &sizes, NULL), BERTH_INTERNAL); /* five blocks, a table of four */
    in.max_blocks = 5;
    item.n_tokens = T + 1;
    assert_int_equal(berth_batch_fill(&in, &item, 1, &sizes, NULL), BERTH_INTERNAL);
    item.n_tokens = 4;
    item.logits = BERTH_LOGITS_ALL;
    assert_int_equal(berth_batch_fill(&in, &item, 1, &sizes, NULL), BERTH_INTERNAL);
    const berth_batch_item many[] = {item, item, item, item};
    assert_int_equal(berth_batch_fill(&in, many, 4, &sizes, NULL), BERTH_INTERNAL);
}

/* ---- rope ------------------------------------------------------------------------------------------------------- */

static void rope_frequencies(void **state)
{
    (void)state;
    berth_text_config c = {.head_dim = 8, .max_positions = 100, .rope_theta = 10000, .rope_factor = 2};
    float plain[4], other[4];
    berth_rope_inv_freq(&c, 500, plain);
    for (int j = 0; j < 4; j++) assert_true(fabs((double)plain[j] - pow(10000, -2.0 * j / 8)) < 1e-7);
    c.rope_scaling = BERTH_ROPE_LINEAR;
    berth_rope_inv_freq(&c, 1, other);
    for (int j = 0; j < 4; j++) assert_true(other[j] == plain[j] / 2);
    c.rope_scaling = BERTH_ROPE_DYNAMIC;
    berth_rope_inv_freq(&c, 100, other);
    assert_memory_equal(plain, other, sizeof plain);
    berth_rope_inv_freq(&c, 150, other); /* theta' = theta * 2^(8/6) */
    for (int j = 0; j < 4; j++)
        assert_true(fabs((double)other[j] / pow(10000 * pow(2, 8.0 / 6), -2.0 * j / 8) - 1) < 1e-6);
}

/* ---- protection ------------------------------------------------------------------------------------------------- */

static void touch(void *arg)
{
    ++*(volatile char *)arg;
}

static void protection_stops_and_names_the_owner(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *mem[2];
    berth_strict *s = NULL;
    assert_int_equal(berth_strict_create(2, &s, NULL), BERTH_OK);
    for (int d = 0; d < 2; d++) {
        mem[d] = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(mem[d] != MAP_FAILED);
        assert_int_equal(berth_strict_add(s, d, mem[d], page, true, NULL), BERTH_OK);
    }
    void *at = NULL;
    int32_t owner = -9;
    for (int round = 0; round < 3; round++) { /* a fault caught once is caught again */
        berth_strict_only(s, 0);
        assert_true(berth_strict_guard(touch, mem[0] + 5, &at));
        assert_false(berth_strict_guard(touch, mem[1] + 9, &at));
        assert_ptr_equal(at, mem[1] + 9);
        assert_true(berth_strict_owner(s, at, &owner));
        assert_int_equal(owner, 1);
        berth_strict_open(s, 1, false);
        assert_false(berth_strict_guard(touch, mem[1] + 9, &at));
        berth_strict_open(s, 1, true);
        assert_true(berth_strict_guard(touch, mem[1] + 9, &at));
        berth_strict_close_all(s);
        assert_false(berth_strict_guard(touch, mem[0], &at));
    }
    assert_false(berth_strict_owner(s, &owner, &owner));
    berth_strict_destroy(s);
    assert_int_equal(mem[1][9], 3); /* open again, and written three times */
    munmap(mem[0], page);
    munmap(mem[1], page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_arena_keeps_its_limit),
        cmocka_unit_test(what_is_taken_is_aligned_and_within),
        cmocka_unit_test(tables_share_blocks_without_overlap),
        cmocka_unit_test(a_batch_of_three_sequences),
        cmocka_unit_test(rows_whose_best_are_wanted_are_named),
        cmocka_unit_test(a_batch_over_its_bounds_is_refused),
        cmocka_unit_test(rope_frequencies),
        cmocka_unit_test(protection_stops_and_names_the_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
