/* sessions_test.c - what is kept between requests: a next turn computes only what is new, also after an edit, in a fork,
 * from a saved session under another placement; what idle sessions hold is given up when it is needed; equal beginnings
 * and pictures of different requests are computed once; tiles of several requests share a pass. */
#include "golden.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"

enum { CONTEXT = 1024, BLOCK = BERTH_DEFAULT_BLOCK, N_NEW = 8 };

typedef struct scene {
    golden_model g;
    golden_engine e, alone; /* alone: one device, nothing kept */
} scene;

static void open_scene(scene *s, const char *model, const char *devices, const char *strategy,
                       const berth_plan_config *config)
{
    berth_error err = {0};
    const berth_plan_config plain = {.context = CONTEXT};
    const berth_core_options forgetful = {.no_prefix_cache = true};
    golden_open(&s->g, model);
    golden_must(golden_plan(&s->e, &s->g, devices, strategy, config, &err), &err, "plan");
    golden_must(golden_start(&s->e, NULL, &err), &err, "engine");
    golden_must(golden_plan(&s->alone, &s->g, "cpu", "single", &plain, &err), &err, "plan");
    golden_must(golden_start(&s->alone, &forgetful, &err), &err, "engine");
}

static void close_scene(scene *s)
{
    golden_stop(&s->e);
    golden_stop(&s->alone);
    golden_close(&s->g);
}

static berth_core_session *new_session(scene *s)
{
    berth_core_session *session = NULL;
    berth_error err = {0};
    golden_must(berth_core_session_create(s->e.core, &session, &err), &err, "session");
    return session;
}

static berth_core_request text(const int32_t *ids, int32_t n)
{
    return (berth_core_request){
        .ids = ids, .n_ids = n, .image_token_id = -1, .max_new = N_NEW, .sampling = BERTH_SAMPLING_GREEDY};
}

/* Runs q, compares with the request alone, gives the prompt tokens that were reused; `answer` [N_NEW] may be NULL. */
static int32_t turn(scene *s, const berth_core_request *q, int32_t *answer)
{
    berth_core_result result, want;
    berth_error err = {0};
    berth_core_request plain = *q;
    plain.session = NULL;
    golden_must(berth_core_run(s->e.core, q, &result, &err), &err, "turn");
    golden_must(berth_core_run(s->alone.core, &plain, &want, &err), &err, "alone");
    assert_int_equal(result.n_ids, want.n_ids);
    assert_memory_equal(result.ids, want.ids, (size_t)want.n_ids * sizeof *want.ids);
    int32_t reused = result.n_reused;
    if (answer) memcpy(answer, result.ids, N_NEW * sizeof *answer);
    assert_int_equal(want.n_reused, 0);
    berth_core_result_deinit(&result);
    berth_core_result_deinit(&want);
    return reused;
}

static void fill(int32_t *ids, int32_t n, int32_t from)
{
    for (int32_t i = 0; i < n; i++) ids[i] = (i * 37 + from) % 400;
}

static berth_core_stats stats_of(const scene *s)
{
    berth_core_stats st;
    berth_core_get_stats(s->e.core, &st);
    return st;
}

/* ---- a conversation --------------------------------------------------------------------------------------------- */

static void next_turn_computes_what_is_new(void **state)
{
    (void)state;
    scene s;
    int32_t ids[400];
    const berth_plan_config config = {.context = CONTEXT};
    open_scene(&s, "qwen2-text", "cpu*2", "balanced", &config);
    berth_core_session *session = new_session(&s);
    fill(ids, 400, 3);
    berth_core_request q = text(ids, 100);
    q.session = session;
    assert_int_equal(turn(&s, &q, ids + 100), 0);
    assert_int_equal(berth_core_session_get_info(session).n_tokens,
                     100 + N_NEW - 1); /* the last one's KV is not made */
    q.n_ids = 150;
    assert_int_equal(turn(&s, &q, ids + 150), 100 + N_NEW - 1);
    /* the same again: all but the last token, whose logits are wanted */
    assert_int_equal(turn(&s, &q, NULL), 149);
    /* the last turn edited in its midst */
    ids[130] = (ids[130] + 1) % 400;
    assert_in_range(turn(&s, &q, NULL), 130 / BLOCK * BLOCK, 130);
    /* a shorter one */
    q.n_ids = 40;
    assert_in_range(turn(&s, &q, NULL), 39 / BLOCK * BLOCK, 39);
    berth_core_session_destroy(session);
    assert_int_equal(stats_of(&s).n_sessions, 0);
    close_scene(&s);
}

static void fork_shares_and_goes_its_own_way(void **state)
{
    (void)state;
    scene s;
    int32_t a[200], b[200];
    berth_error err = {0};
    const berth_plan_config config = {.context = CONTEXT, .n_seqs = 2};
    open_scene(&s, "ivl-qwen3", "cpu*2", "sequential", &config);
    berth_core_session *first = new_session(&s), *second = NULL;
    fill(a, 200, 5);
    fill(b, 200, 5);
    b[120] = 7;
    berth_core_request q = text(a, 100);
    q.session = first;
    turn(&s, &q, NULL);
    golden_must(berth_core_session_fork(first, &second, &err), &err, "fork");
    assert_int_equal(berth_core_session_get_info(second).n_tokens, (100 + N_NEW - 1) / BLOCK * BLOCK);
    q.n_ids = 160;
    assert_in_range(turn(&s, &q, NULL), 100 / BLOCK * BLOCK, 100);
    q.ids = b;
    q.session = second;
    assert_in_range(turn(&s, &q, NULL), 100 / BLOCK * BLOCK, 100);
    q.ids = a;
    q.session = first; /* what the fork wrote did not touch it */
    assert_int_equal(turn(&s, &q, NULL), 159);
    berth_core_session_destroy(first);
    berth_core_session_destroy(second);
    close_scene(&s);
}

static void saved_session_goes_on_elsewhere(void **state)
{
    (void)state;
    scene s, t;
    int32_t ids[200];
    uint8_t *bytes = NULL;
    size_t size = 0;
    berth_error err = {0};
    const berth_plan_config config = {.context = CONTEXT};
    open_scene(&s, "ivl-native", "cpu*3", "balanced", &config);
    berth_core_session *session = new_session(&s), *loaded = NULL;
    fill(ids, 200, 11);
    berth_core_request q = text(ids, 90);
    q.session = session;
    turn(&s, &q, ids + 90);
    golden_must(berth_core_session_save(session, &bytes, &size, &err), &err, "save");
    berth_core_session_destroy(session);
    close_scene(&s);
    const berth_plan_config other = {.context = CONTEXT, .n_seqs = 3};
    open_scene(&t, "ivl-native", "cpu*2", "replicate", &other);
    golden_must(berth_core_session_load(t.e.core, bytes, size, &loaded, &err), &err, "load");
    assert_int_equal(berth_core_session_get_info(loaded).n_tokens, 90 + N_NEW - 1);
    q = text(ids, 140);
    q.session = loaded;
    assert_int_equal(turn(&t, &q, NULL), 90 + N_NEW - 1);
    berth_core_session_destroy(loaded);
    for (size_t cut = 0; cut < size; cut += 1 + size / 40) /* what is cut off is refused */
        assert_int_not_equal(berth_core_session_load(t.e.core, bytes, cut, &loaded, &err), BERTH_OK);
    for (size_t at = 0; at < 64 && at < size; at++) { /* and every changed byte of the head */
        bytes[at] ^= 0x40;
        assert_int_not_equal(berth_core_session_load(t.e.core, bytes, size, &loaded, &err), BERTH_OK);
        bytes[at] ^= 0x40;
    }
    close_scene(&t);
    open_scene(&t, "qwen2-text", "cpu", "single", &config);
    assert_int_equal(berth_core_session_load(t.e.core, bytes, size, &loaded, &err), BERTH_UNSUPPORTED);
    assert_non_null(strstr(err.message, "another model"));
    close_scene(&t);
    free(bytes);
}

static void idle_sessions_make_room(void **state)
{
    (void)state;
    scene s;
    int32_t ids[600];
    const berth_plan_config config = {.context = 512, .n_seqs = 4, .kv_tokens = 1024};
    open_scene(&s, "qwen2-text", "cpu", "single", &config);
    berth_core_session *sessions[3];
    for (int i = 0; i < 3; i++) { /* 3 x 408 rows do not fit into 1024 */
        sessions[i] = new_session(&s);
        fill(ids, 600, 50 * i);
        berth_core_request q = text(ids, 400);
        q.session = sessions[i];
        assert_int_equal(turn(&s, &q, NULL), 0);
    }
    assert_int_equal(berth_core_session_get_info(sessions[0]).n_tokens, 0); /* the oldest gave way */
    assert_int_equal(berth_core_session_get_info(sessions[2]).n_tokens, 400 + N_NEW - 1);
    fill(ids, 600, 0);
    berth_core_request q = text(ids, 420);
    q.session = sessions[0];
    turn(&s, &q, NULL); /* and says the same all the same */
    for (int i = 0; i < 3; i++) berth_core_session_destroy(sessions[i]);
    close_scene(&s);
}

static void one_request_at_a_time(void **state)
{
    (void)state;
    scene s;
    int32_t ids[64];
    berth_error err = {0};
    berth_core_result result;
    const berth_plan_config config = {.context = CONTEXT, .n_seqs = 2};
    open_scene(&s, "qwen2-text", "cpu", "single", &config);
    berth_core_session *session = new_session(&s);
    fill(ids, 64, 1);
    berth_core_request q = text(ids, 64);
    q.session = session;
    q.sampling.temperature = -1; /* refused before it takes the session */
    q.sampling.sample = true;
    assert_int_equal(berth_core_run(s.e.core, &q, &result, &err), BERTH_INVALID_ARGUMENT);
    assert_false(berth_core_session_get_info(session).busy);
    berth_core_session_destroy(session);
    close_scene(&s);
}

/* ---- different requests ----------------------------------------------------------------------------------------- */

static void common_beginning_is_computed_once(void **state)
{
    (void)state;
    scene s;
    int32_t ids[300];
    const berth_plan_config config = {.context = CONTEXT, .n_seqs = 2};
    open_scene(&s, "qwen2-text", "cpu*2", "balanced_low_0", &config);
    fill(ids, 300, 9);
    berth_core_request q = text(ids, 200);
    assert_int_equal(turn(&s, &q, NULL), 0);
    for (int32_t i = 120; i < 200; i++) ids[i] = (ids[i] + 3) % 400;
    assert_int_equal(turn(&s, &q, NULL), 120 / BLOCK * BLOCK);
    q.no_prefix_cache = true;
    assert_int_equal(turn(&s, &q, NULL), 0);
    close_scene(&s);
}

static void picture_is_encoded_once(void **state)
{
    (void)state;
    scene s;
    const berth_plan_config config = {.context = CONTEXT, .n_seqs = 2};
    open_scene(&s, "ivl-native", "cpu*2", "balanced", &config);
    const golden_case *c = &s.g.cases[0];
    for (int32_t i = 0; i < s.g.n_cases && c->n_tiles == 0; i++) c = &s.g.cases[i];
    assert_true(c->n_tiles > 0);
    size_t side = (size_t)berth_model_data_config(s.g.data)->vision.image_size, tile = 3 * side * side;
    uint8_t(*digests)[32] = calloc((size_t)c->n_tiles, 32);
    for (int32_t t = 0; t < c->n_tiles; t++)
        assert_true(berth_sha256(c->pixels + (size_t)t * tile, tile * sizeof(float), digests[t]));
    int32_t *ids = calloc((size_t)c->n_ids + 1, sizeof *ids);
    berth_core_request q = golden_request(c, N_NEW);
    q.tile_digests = (const uint8_t(*)[32])digests;
    turn(&s, &q, NULL);
    assert_int_equal(stats_of(&s).n_tiles, c->n_tiles);
    ids[0] = 17; /* another beginning: the KV is another, the picture is not */
    memcpy(ids + 1, c->ids, (size_t)c->n_ids * sizeof *ids);
    q.ids = ids;
    q.n_ids = c->n_ids + 1;
    assert_int_equal(turn(&s, &q, NULL), 0);
    assert_int_equal(stats_of(&s).n_tiles, c->n_tiles);
    assert_int_equal(stats_of(&s).n_tiles_reused, c->n_tiles);
    q.tile_digests = NULL; /* not known to be the same: encoded again */
    turn(&s, &q, NULL);
    assert_int_equal(stats_of(&s).n_tiles, 2 * c->n_tiles);
    free(ids);
    free(digests);
    close_scene(&s);
}

typedef struct waiting {
    _Atomic int32_t n_over, n_bad;
} waiting;

static void note_end(void *user, berth_status st, berth_core_result *result, const berth_error *why)
{
    waiting *w = user;
    (void)why;
    atomic_fetch_add(&w->n_bad, st != BERTH_OK);
    atomic_fetch_add(&w->n_over, 1);
    berth_core_result_deinit(result);
}

static void hold(void *user, const char *program, const char *name, int64_t pass, const berth_tensor *tensor)
{
    _Atomic bool *go = user;
    (void)program, (void)name, (void)pass, (void)tensor;
    while (!atomic_load(go)) sched_yield();
}

static bool any_value(void *user, const char *name)
{
    (void)user, (void)name;
    return true;
}

static void tiles_of_several_requests_share_a_pass(void **state)
{
    (void)state;
    scene s;
    waiting w = {0};
    _Atomic bool go = false;
    const berth_plan_config config = {.context = CONTEXT, .n_seqs = 5, .tiles = 64, .max_tiles = 64};
    open_scene(&s, "ivl-native", "cpu", "single", &config);
    const golden_case *c = &s.g.cases[0];
    for (int32_t i = 0; i < s.g.n_cases && c->n_tiles == 0; i++) c = &s.g.cases[i];
    const berth_tap tap = {.want = any_value, .see = hold, .user = &go};
    int32_t one = 5;
    berth_core_request first = text(&one, 1), q = golden_request(c, 2);
    first.tap = &tap; /* holds the lane until all others wait */
    first.max_new = 0;
    first.on_end = q.on_end = note_end;
    first.user = q.user = &w;
    berth_error err = {0};
    golden_must(berth_core_submit(s.e.core, &first, NULL, &err), &err, "first");
    for (int i = 0; i < 4; i++) golden_must(berth_core_submit(s.e.core, &q, NULL, &err), &err, "next");
    atomic_store(&go, true);
    while (atomic_load(&w.n_over) < 5) sched_yield();
    assert_int_equal(w.n_bad, 0);
    assert_int_equal(stats_of(&s).n_tiles, 4 * c->n_tiles);
    assert_int_equal(stats_of(&s).n_encode_passes, 1);
    close_scene(&s);
}

/* What a session holds for its next request is not taken from it, so the request in front would wait for ever if it were
 * not let by. */
static void request_behind_may_hold_the_room(void **state)
{
    (void)state;
    scene s;
    waiting w = {0};
    int32_t ids[480], other[480];
    berth_error err = {0};
    const berth_plan_config config = {.context = 512, .n_seqs = 2, .kv_tokens = 512};
    open_scene(&s, "qwen2-text", "cpu", "single", &config);
    berth_core_session *session = new_session(&s);
    fill(ids, 480, 3);
    fill(other, 480, 200);
    berth_core_request q = text(ids, 400), large = text(other, 480);
    q.session = session;
    turn(&s, &q, NULL);
    assert_true(berth_core_session_covers(session, &q, true) > 0);
    q.n_ids = 420;
    q.on_end = large.on_end = note_end;
    q.user = large.user = &w;
    golden_must(berth_core_submit(s.e.core, &large, NULL, &err), &err, "large");
    golden_must(berth_core_submit(s.e.core, &q, NULL, &err), &err, "session's");
    while (atomic_load(&w.n_over) < 2) sched_yield();
    assert_int_equal(w.n_bad, 0);
    berth_core_session_destroy(session);
    close_scene(&s);
}

/* Blocks that a fork shares do not come free when one of the two goes another way. */
static void shared_blocks_are_not_counted_twice(void **state)
{
    (void)state;
    scene s;
    int32_t ids[480];
    berth_error err = {0};
    const berth_plan_config config = {.context = 512, .n_seqs = 2, .kv_tokens = 512};
    open_scene(&s, "qwen2-text", "cpu", "single", &config);
    berth_core_session *a = new_session(&s), *b = NULL;
    fill(ids, 480, 3);
    berth_core_request q = text(ids, 300);
    q.session = a;
    turn(&s, &q, NULL);
    golden_must(berth_core_session_fork(a, &b, &err), &err, "fork");
    fill(ids, 480, 100);
    q.n_ids = 480;
    assert_int_equal(turn(&s, &q, NULL), 0);
    berth_core_session_destroy(a);
    berth_core_session_destroy(b);
    close_scene(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(next_turn_computes_what_is_new),
        cmocka_unit_test(fork_shares_and_goes_its_own_way),
        cmocka_unit_test(saved_session_goes_on_elsewhere),
        cmocka_unit_test(idle_sessions_make_room),
        cmocka_unit_test(one_request_at_a_time),
        cmocka_unit_test(common_beginning_is_computed_once),
        cmocka_unit_test(picture_is_encoded_once),
        cmocka_unit_test(tiles_of_several_requests_share_a_pass),
        cmocka_unit_test(request_behind_may_hold_the_room),
        cmocka_unit_test(shared_blocks_are_not_counted_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
