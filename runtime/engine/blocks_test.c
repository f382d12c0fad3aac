/* blocks_test.c - blocks against a model of them, in long random runs; the order of eviction, equal digests, what
 * keep() gives up, tables that are full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/blocks.h"

/* The digest of a number. Its hash table place is one of four, in turn the first, the last, the last but one of any
 * table, and one in the middle, so that entries collide and probing wraps. */
static const uint8_t *digest_of(int32_t id, uint8_t out[BERTH_BLOCK_DIGEST])
{
    static const uint64_t homes[] = {0, UINT64_MAX, UINT64_MAX - 1, 9};
    memset(out, 0x5a, BERTH_BLOCK_DIGEST);
    memcpy(out, &homes[id % 4], sizeof homes[0]);
    memcpy(out + BERTH_BLOCK_DIGEST - sizeof id, &id, sizeof id);
    return out;
}

static int32_t find(berth_blocks *b, int32_t id)
{
    uint8_t d[BERTH_BLOCK_DIGEST];
    return berth_blocks_find(b, digest_of(id, d));
}

static int32_t publish(berth_blocks *b, int32_t block, int32_t id)
{
    uint8_t d[BERTH_BLOCK_DIGEST];
    return berth_blocks_publish(b, block, digest_of(id, d));
}

/* ---- the order of things ---------------------------------------------------------------------------------------- */

static void sizes_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const int32_t bad[][2] = {{-1, 16}, {4, -1}, {INT32_MAX, 2}, {1 << 16, 1 << 15}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        berth_blocks b;
        assert_int_equal(berth_blocks_init(&b, bad[i][0], bad[i][1], NULL), BERTH_INVALID_ARGUMENT);
        berth_blocks_deinit(&b);
    }
    static const int32_t empty[][2] = {{0, 16}, {0, 0}, {4, 0}};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        berth_blocks b;
        berth_block_table t;
        assert_int_equal(berth_blocks_init(&b, empty[i][0], empty[i][1], NULL), BERTH_OK);
        assert_int_equal(berth_block_table_init(&t, &b, 100, NULL), BERTH_OK);
        assert_true(berth_block_table_grow(&t, &b, 0));
        assert_false(berth_block_table_grow(&t, &b, 1));
        assert_int_equal(berth_block_table_keep(&t, &b, 5), 0);
        assert_int_equal(find(&b, 1), -1);
        berth_blocks_forget_all(&b);
        berth_block_table_deinit(&t);
        berth_blocks_deinit(&b);
    }
}

static void the_least_recently_used_goes_first(void **state)
{
    (void)state;
    berth_blocks b;
    int32_t got[6];
    assert_int_equal(berth_blocks_init(&b, 6, 4, NULL), BERTH_OK);
    for (int32_t i = 0; i < 6; i++) {
        got[i] = berth_blocks_take(&b);
        if (i != 3) assert_int_equal(publish(&b, got[i], i), got[i]);
    }
    assert_int_equal(berth_blocks_take(&b), -1);
    static const int32_t order[] = {4, 1, 3, 5, 0, 2};
    for (int i = 0; i < 6; i++) berth_blocks_release(&b, got[order[i]]);
    assert_int_equal(b.n_free, 1);
    assert_int_equal(b.n_cached, 5);
    assert_int_equal(berth_blocks_available(&b), 6);
    assert_int_equal(find(&b, 1), got[1]); /* used again, so the last to go */
    berth_blocks_release(&b, got[1]);
    static const int32_t want[] = {3, 4, 5, 0, 2, 1}; /* the free one before any cached one */
    for (int i = 0; i < 6; i++) {
        assert_int_equal(berth_blocks_take(&b), got[want[i]]);
        assert_int_equal(find(&b, want[i]), -1);
    }
    assert_int_equal(berth_blocks_take(&b), -1);
    assert_int_equal(b.n_evictions, 5);
    assert_int_equal(b.n_hits, 1);
    berth_blocks_deinit(&b);
}

static void a_sequence_is_evicted_from_its_end(void **state)
{
    (void)state;
    berth_blocks b;
    berth_block_table t, other;
    assert_int_equal(berth_blocks_init(&b, 4, 2, NULL), BERTH_OK);
    assert_int_equal(berth_block_table_init(&t, &b, 8, NULL), BERTH_OK);
    assert_int_equal(berth_block_table_init(&other, &b, 8, NULL), BERTH_OK);
    assert_true(berth_block_table_grow(&t, &b, 8));
    for (int32_t i = 0; i < 4; i++) publish(&b, t.blocks[i], i);
    berth_block_table_give_back(&t, &b);
    for (int32_t left = 3; left >= 0; left--) {
        assert_true(berth_block_table_grow(&other, &b, 2 * (4 - left)));
        for (int32_t i = 0; i < 4; i++) {
            int32_t block = find(&b, i);
            assert_int_equal(block >= 0, i < left);
            if (block >= 0) berth_blocks_release(&b, block);
            if (block >= 0 && i == left - 1) /* back to the order of giving back */
                for (int32_t j = left - 2; j >= 0; j--) berth_blocks_release(&b, find(&b, j));
        }
    }
    berth_block_table_give_back(&other, &b);
    berth_block_table_deinit(&t);
    berth_block_table_deinit(&other);
    berth_blocks_deinit(&b);
}

static void the_first_of_equal_digests_stays_known(void **state)
{
    (void)state;
    berth_blocks b;
    assert_int_equal(berth_blocks_init(&b, 4, 4, NULL), BERTH_OK);
    int32_t one = berth_blocks_take(&b), two = berth_blocks_take(&b);
    assert_int_equal(publish(&b, one, 7), one);
    assert_int_equal(publish(&b, one, 7), one);
    assert_int_equal(publish(&b, two, 7), one);
    assert_int_equal(publish(&b, one, 8), one); /* it keeps the digest it has */
    assert_int_equal(find(&b, 8), -1);
    berth_blocks_release(&b, two);
    assert_int_equal(b.n_cached, 0); /* the other is nobody's */
    assert_int_equal(b.n_free, 3);
    two = berth_blocks_take(&b);
    berth_blocks_unpublish(&b, one);
    berth_blocks_unpublish(&b, one);
    assert_int_equal(find(&b, 7), -1);
    assert_int_equal(publish(&b, two, 7), two); /* now it is known */
    berth_blocks_release(&b, two);
    assert_int_equal(b.n_cached, 1);
    assert_int_equal(publish(&b, one, 7), two); /* also while idle */
    berth_blocks_unpublish(&b, two);
    assert_int_equal(b.n_cached, 0);
    assert_int_equal(b.n_free, 3);
    berth_blocks_release(&b, one);
    berth_blocks_deinit(&b);
}

static void forgotten_blocks_are_kept_by_their_users_only(void **state)
{
    (void)state;
    berth_blocks b;
    assert_int_equal(berth_blocks_init(&b, 8, 4, NULL), BERTH_OK);
    for (int32_t i = 0; i < 6; i++) publish(&b, berth_blocks_take(&b), i);
    for (int32_t i = 0; i < 3; i++) berth_blocks_release(&b, i);
    berth_blocks_forget_all(&b);
    for (int32_t i = 0; i < 6; i++) assert_int_equal(find(&b, i), -1);
    assert_int_equal(b.n_cached, 0);
    assert_int_equal(b.n_free, 5);
    for (int32_t i = 3; i < 6; i++) berth_blocks_release(&b, i);
    assert_int_equal(b.n_free, 8);
    assert_int_equal(b.n_evictions, 0);
    berth_blocks_deinit(&b);
}

/* ---- tables ----------------------------------------------------------------------------------------------------- */

typedef enum last_block { PRIVATE, PUBLISHED, SHARED, BOTH } last_block;

static void keep_gives_up_what_others_read(void **state)
{
    (void)state;
    static const struct {
        int64_t n_rows;  /* asked of a table of three blocks of four */
        last_block last; /* how block n_rows / 4 stands */
        int64_t kept;
        int32_t n_blocks;
        bool is_known; /* that block, afterwards */
    } cases[] = {
        {12, PRIVATE, 12, 3, false}, {99, BOTH, 12, 3, false},
        {0, BOTH, 0, 0, true},       {-3, PRIVATE, 0, 0, false},
        {11, PRIVATE, 11, 3, false}, {11, PUBLISHED, 11, 3, false},
        {11, SHARED, 8, 2, false},   {9, BOTH, 8, 2, true},
        {8, PRIVATE, 8, 2, false},   {8, PUBLISHED, 8, 2, true},
        {8, BOTH, 8, 2, true},       {5, PUBLISHED, 5, 2, false},
        {5, SHARED, 4, 1, false},    {1, PUBLISHED, 1, 1, false},
        {1, BOTH, 0, 0, true},       {INT64_MIN, PUBLISHED, 0, 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        berth_blocks b;
        berth_block_table t;
        assert_int_equal(berth_blocks_init(&b, 5, 4, NULL), BERTH_OK);
        assert_int_equal(berth_block_table_init(&t, &b, 12, NULL), BERTH_OK);
        assert_true(berth_block_table_grow(&t, &b, 12));
        const int64_t at = cases[i].n_rows / 4;
        int32_t block = at >= 0 && at < 3 ? t.blocks[at] : -1;
        const bool is_shared = block >= 0 && (cases[i].last == SHARED || cases[i].last == BOTH);
        if (block >= 0 && (cases[i].last == PUBLISHED || cases[i].last == BOTH)) publish(&b, block, 1);
        if (is_shared) berth_blocks_retain(&b, block);
        assert_int_equal(berth_block_table_keep(&t, &b, cases[i].n_rows), cases[i].kept);
        assert_int_equal(t.n_blocks, cases[i].n_blocks);
        int32_t known = find(&b, 1);
        assert_int_equal(known, cases[i].is_known ? block : -1);
        if (known >= 0) berth_blocks_release(&b, known);
        berth_block_table_give_back(&t, &b);
        if (is_shared) berth_blocks_release(&b, block);
        assert_int_equal(berth_blocks_available(&b), 5);
        berth_block_table_deinit(&t);
        berth_blocks_deinit(&b);
    }
}

static void a_full_table_takes_nothing(void **state)
{
    (void)state;
    berth_blocks b;
    berth_block_table t, wide;
    assert_int_equal(berth_blocks_init(&b, 8, 4, NULL), BERTH_OK);
    assert_int_equal(berth_block_table_init(&t, &b, 9, NULL), BERTH_OK);
    assert_int_equal(berth_block_table_init(&wide, &b, INT64_MAX, NULL), BERTH_OK);
    assert_int_equal(t.cap, 3);
    assert_int_equal(wide.cap, 8); /* no table needs more than there are */
    static const int64_t too_many[] = {13, INT32_MAX, (int64_t)INT32_MAX * 8, INT64_MAX};
    for (size_t i = 0; i < sizeof too_many / sizeof too_many[0]; i++)
        assert_false(berth_block_table_grow(&t, &b, too_many[i]));
    assert_int_equal(t.n_blocks, 0);
    assert_true(berth_block_table_grow(&t, &b, 12));
    int32_t one = berth_blocks_take(&b);
    assert_false(berth_block_table_adopt(&t, one));      /* still ours */
    assert_false(berth_block_table_grow(&wide, &b, 17)); /* five wanted, four there: all or nothing */
    assert_int_equal(wide.n_blocks, 0);
    assert_int_equal(b.n_free, 4);
    berth_blocks_release(&b, one);
    assert_true(berth_block_table_grow(&wide, &b, 17));
    assert_int_equal(berth_blocks_available(&b), 0);
    berth_block_table_give_back(&t, &b);
    berth_block_table_give_back(&wide, &b);
    berth_block_table_give_back(&wide, &b);
    assert_int_equal(b.n_free, 8);
    berth_block_table_deinit(&t);
    berth_block_table_deinit(&wide);
    berth_blocks_deinit(&b);
}

static void a_table_evicts_as_it_grows(void **state)
{
    (void)state;
    berth_blocks b;
    berth_block_table t;
    assert_int_equal(berth_blocks_init(&b, 4, 1, NULL), BERTH_OK);
    assert_int_equal(berth_block_table_init(&t, &b, 4, NULL), BERTH_OK);
    assert_true(berth_block_table_grow(&t, &b, 3));
    for (int32_t i = 0; i < 3; i++) publish(&b, t.blocks[i], i);
    berth_block_table_give_back(&t, &b);
    int32_t first = find(&b, 0);
    assert_true(berth_block_table_adopt(&t, first));
    assert_true(berth_block_table_grow(&t, &b, 4)); /* one free, two evicted, the adopted one not */
    assert_int_equal(t.blocks[0], first);
    assert_int_equal(b.n_evictions, 2);
    assert_int_equal(b.n_hits, 1);
    berth_block_table_give_back(&t, &b);
    assert_int_equal(b.n_cached, 1);
    berth_block_table_deinit(&t);
    berth_blocks_deinit(&b);
}

static void a_fork_shares_whole_blocks(void **state)
{
    (void)state;
    static const struct {
        int64_t n_rows, cap, want;
    } cases[] = {{0, 12, 0}, {3, 12, 0}, {4, 12, 4}, {11, 12, 8}, {12, 12, 12}, {99, 12, 12}, {12, 5, 8}, {-4, 12, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        berth_blocks b;
        berth_block_table from, t;
        assert_int_equal(berth_blocks_init(&b, 6, 4, NULL), BERTH_OK);
        assert_int_equal(berth_block_table_init(&from, &b, 12, NULL), BERTH_OK);
        assert_int_equal(berth_block_table_init(&t, &b, cases[i].cap, NULL), BERTH_OK);
        assert_true(berth_block_table_grow(&from, &b, 12));
        assert_int_equal(berth_block_table_fork(&t, &b, &from, cases[i].n_rows), cases[i].want);
        for (int64_t row = 0; row < cases[i].want; row++)
            assert_int_equal(berth_block_table_slot(&t, row), berth_block_table_slot(&from, row));
        assert_int_equal(b.n_free, 3);
        berth_block_table_give_back(&from, &b);
        assert_int_equal(b.n_free, 6 - cases[i].want / 4);
        berth_block_table_give_back(&t, &b);
        assert_int_equal(b.n_free, 6);
        berth_block_table_deinit(&from);
        berth_block_table_deinit(&t);
        berth_blocks_deinit(&b);
    }
}

/* ---- long random runs ------------------------------------------------------------------------------------------- */

enum { N = 41, N_IDS = 60, N_OPS = 100000 };

typedef struct model {
    int32_t users[N], id[N]; /* id: -1 = not published */
    int64_t used[N];         /* when it was last idled or found */
    int64_t now, hits, evictions;
    int32_t n_idle; /* how many have no users */
} model;

static uint32_t roll(uint64_t *seed, uint32_t n)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33) % n;
}

static int32_t known_to(const model *m, int32_t id)
{
    for (int32_t i = 0; i < N; i++)
        if (m->id[i] == id) return i;
    return -1;
}

/* The block that has to go: -1 = there is a free one, or none at all. */
static int32_t victim_of(const model *m)
{
    int32_t oldest = -1;
    for (int32_t i = 0; i < N; i++) {
        if (m->users[i] > 0) continue;
        if (m->id[i] < 0) return -1;
        if (oldest < 0 || m->used[i] < m->used[oldest]) oldest = i;
    }
    return oldest;
}

/* Each block is in exactly one of: free list, cached list, use; each list is whole both ways; each published block,
 * and nothing else, is in the hash table, where its digest finds it. */
static void check(const berth_blocks *b, const model *m)
{
    int seen[N] = {0};
    int32_t n_free = 0, n_cached = 0, n_used = 0, n_known = 0, prev = -1;
    for (int32_t i = b->free; i >= 0; i = b->blocks[i].next, n_free++) {
        assert_int_equal(seen[i]++, 0);
        assert_true(m->users[i] == 0 && m->id[i] < 0);
    }
    for (int32_t i = b->oldest; i >= 0; prev = i, i = b->blocks[i].next, n_cached++) {
        assert_int_equal(seen[i]++, 0);
        assert_true(m->users[i] == 0 && m->id[i] >= 0);
        assert_int_equal(b->blocks[i].prev, prev);
        if (prev >= 0) assert_true(m->used[prev] < m->used[i]);
    }
    assert_int_equal(b->newest, prev);
    for (int32_t i = 0; i < N; i++) {
        assert_int_equal(b->blocks[i].n_users, m->users[i]);
        assert_int_equal(b->blocks[i].is_published, m->id[i] >= 0);
        if (m->users[i] == 0) continue;
        assert_int_equal(seen[i], 0);
        n_used++;
    }
    assert_int_equal(b->n_free, n_free);
    assert_int_equal(b->n_cached, n_cached);
    assert_int_equal(n_free + n_cached + n_used, N);
    assert_int_equal(berth_blocks_available(b), N - n_used);
    for (size_t k = 0; k <= b->known_mask; k++) {
        if (b->known[k] < 0) continue;
        assert_true(m->id[b->known[k]] >= 0);
        n_known++;
    }
    for (int32_t i = 0; i < N; i++) n_known -= m->id[i] >= 0;
    assert_int_equal(n_known, 0);
    assert_int_equal(b->n_hits, m->hits);
    assert_int_equal(b->n_evictions, m->evictions);
}

static void take_one(berth_blocks *b, model *m)
{
    int32_t victim = victim_of(m), got = berth_blocks_take(b);
    assert_int_equal(got < 0, m->n_idle == 0);
    if (got < 0) return;
    assert_int_equal(m->users[got], 0);
    assert_int_equal(m->id[got] >= 0, victim >= 0);
    if (victim >= 0) assert_int_equal(got, victim);
    m->evictions += victim >= 0;
    m->id[got] = -1;
    m->users[got] = 1;
    m->n_idle--;
}

static void find_one(berth_blocks *b, model *m, int32_t id)
{
    int32_t want = known_to(m, id);
    assert_int_equal(find(b, id), want);
    if (want < 0) return;
    m->n_idle -= m->users[want]++ == 0;
    m->hits++;
}

static void publish_one(berth_blocks *b, model *m, int32_t i, int32_t id)
{
    int32_t known = known_to(m, id);
    assert_int_equal(publish(b, i, id), known >= 0 ? known : i);
    if (known < 0 && m->id[i] < 0) m->id[i] = id;
}

/* Now the store fills up, now it empties. */
static void random_op(berth_blocks *b, model *m, bool is_ebb, uint64_t *seed)
{
    const int32_t i = (int32_t)roll(seed, N), id = (int32_t)roll(seed, N_IDS);
    const uint32_t what = roll(seed, 16);
    m->now++;
    if (is_ebb && what < 7 && roll(seed, 4)) return;
    switch (what) {
    case 0:
    case 1:
    case 2:
    case 3: take_one(b, m); break;
    case 4:
    case 5: find_one(b, m, id); break;
    case 6:
        if (m->users[i] == 0) break;
        berth_blocks_retain(b, i);
        m->users[i]++;
        break;
    case 7:
    case 8:
    case 9:
        if (m->users[i] > 0) publish_one(b, m, i, id);
        break;
    case 10:
        if (roll(seed, 4)) break;
        berth_blocks_unpublish(b, i);
        m->id[i] = -1;
        break;
    case 11:
        if (roll(seed, 200)) break;
        berth_blocks_forget_all(b);
        for (int32_t k = 0; k < N; k++) m->id[k] = -1;
        break;
    default:
        if (m->users[i] == 0) break;
        berth_blocks_release(b, i);
        if (--m->users[i] > 0) break;
        m->n_idle++;
        m->used[i] = m->now;
    }
}

static void blocks_do_what_the_model_does(void **state)
{
    (void)state;
    berth_blocks b;
    model m = {.n_idle = N};
    for (int32_t i = 0; i < N; i++) m.id[i] = -1;
    uint64_t seed = 20240607;
    assert_int_equal(berth_blocks_init(&b, N, 16, NULL), BERTH_OK);
    int64_t n_none = 0, n_crowded = 0;
    for (int op = 0; op < N_OPS; op++) {
        random_op(&b, &m, op / 500 % 2 != 0, &seed);
        check(&b, &m);
        for (int32_t id = 0; op % 64 == 0 && id < N_IDS; id++) {
            int32_t want = known_to(&m, id), got = find(&b, id);
            assert_int_equal(got, want);
            if (got < 0) continue;
            bool was_idle = m.users[got] == 0;
            berth_blocks_release(&b, got);
            if (was_idle) m.used[got] = ++m.now;
            m.hits++;
        }
        n_none += m.n_idle == 0;
        n_crowded += b.n_cached > N / 3;
    }
    print_message("%lld hits, %lld evictions, full %lld and mostly cached %lld times of %d\n", (long long)m.hits,
                  (long long)m.evictions, (long long)n_none, (long long)n_crowded, N_OPS);
    assert_true(m.evictions > 1000 && n_none > 100 && n_crowded > 100); /* the run went where it hurts */
    berth_blocks_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_cannot_be_are_refused),
        cmocka_unit_test(the_least_recently_used_goes_first),
        cmocka_unit_test(a_sequence_is_evicted_from_its_end),
        cmocka_unit_test(the_first_of_equal_digests_stays_known),
        cmocka_unit_test(forgotten_blocks_are_kept_by_their_users_only),
        cmocka_unit_test(keep_gives_up_what_others_read),
        cmocka_unit_test(a_full_table_takes_nothing),
        cmocka_unit_test(a_table_evicts_as_it_grows),
        cmocka_unit_test(a_fork_shares_whole_blocks),
        cmocka_unit_test(blocks_do_what_the_model_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
