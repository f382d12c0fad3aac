/* ends_test.c - the ways a request ends among others: cancelled within a step, at its deadline, by bad numbers, refused at
 * a full queue; and nobody else notices. */
#include "golden.h"

#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define MODEL "ivl-native" /* its head is not tied to the embedding */

enum { CONTEXT = 512, N_NEW = 12, MOST = 64 };

/* Who began when. The first to begin keeps the engine's loop, and so its place, until it may go on. */
typedef struct start_line {
    _Atomic int32_t n_begun;
    _Atomic bool may_go_on;
} start_line;

typedef struct asked {
    berth_core *core;
    berth_core_request q;
    int32_t ids[40];
    uint64_t id;
    int32_t cancel_at; /* token after which it cancels itself, from the callback; -1 = never */
    start_line *line;  /* or NULL */
    int32_t place;     /* on the line: 0 = it began first */
    int32_t answer[CONTEXT];
    _Atomic int32_t n_told;
    berth_status status;
    berth_finish finish;
    _Atomic bool is_over;
    berth_core_stats at_end; /* as its end was told */
    char message[BERTH_ERROR_MESSAGE_SIZE];
} asked;

static void begin(asked *a)
{
    a->place = atomic_fetch_add(&a->line->n_begun, 1);
    while (a->place == 0 && !atomic_load(&a->line->may_go_on)) sched_yield();
}

static bool hear_token(void *user, int32_t index, int32_t id, const float *logits)
{
    asked *a = user;
    (void)logits;
    a->answer[index] = id;
    a->n_told = index + 1;
    if (index == a->cancel_at) assert_true(berth_core_cancel(a->core, a->id));
    if (index == 0 && a->line) begin(a);
    return true;
}

static void hear_end(void *user, berth_status st, berth_core_result *result, const berth_error *why)
{
    asked *a = user;
    a->status = st;
    a->finish = result->finish;
    if (st != BERTH_OK) memcpy(a->message, why->message, sizeof a->message);
    berth_core_get_stats(a->core, &a->at_end);
    berth_core_result_deinit(result);
    atomic_store(&a->is_over, true);
}

static void prepare(asked *a, berth_core *core, int32_t kind)
{
    memset(a, 0, sizeof *a);
    a->core = core;
    a->cancel_at = -1;
    for (int32_t i = 0; i < 40; i++) a->ids[i] = (kind * 53 + i * 11) % 300;
    a->q = (berth_core_request){.ids = a->ids,
                                .n_ids = 40,
                                .image_token_id = -1,
                                .max_new = N_NEW,
                                .sampling = BERTH_SAMPLING_GREEDY,
                                .on_token = hear_token,
                                .on_end = hear_end,
                                .user = a};
}

static void submit(asked *a)
{
    berth_error err = {0};
    golden_must(berth_core_submit(a->core, &a->q, &a->id, &err), &err, "submit");
}

static void await(asked *a)
{
    while (!atomic_load(&a->is_over)) sched_yield();
}

typedef struct scene {
    golden_model g;
    golden_engine e;
    asked *all;
} scene;

static void open_scene(scene *s, const char *dir, const berth_plan_config *config, const berth_core_options *options)
{
    berth_error err = {0};
    if (dir)
        golden_open_at(&s->g, MODEL, dir);
    else
        golden_open(&s->g, MODEL);
    golden_must(golden_plan(&s->e, &s->g, "cpu*2", "balanced", config, &err), &err, "plan");
    golden_must(golden_start(&s->e, options, &err), &err, "engine");
    s->all = calloc(MOST, sizeof *s->all);
}

static void close_scene(scene *s)
{
    golden_stop(&s->e);
    golden_close(&s->g);
    free(s->all);
}

static void cancel_takes_one_step(void **state)
{
    (void)state;
    scene s;
    open_scene(&s, NULL, &(berth_plan_config){.context = CONTEXT, .n_seqs = 4}, NULL);
    for (int32_t at = 0; at < 30; at++) {
        asked *one = &s.all[0], *other = &s.all[1];
        prepare(one, s.e.core, 1);
        prepare(other, s.e.core, 2);
        one->q.max_new = 400;
        one->cancel_at = at;
        submit(other);
        submit(one);
        await(one);
        await(other);
        assert_int_equal(one->status, BERTH_OK);
        assert_int_equal(one->finish, BERTH_FINISH_CANCELLED);
        assert_in_range(one->n_told, at + 1, at + 2);
        assert_int_equal(other->finish, BERTH_FINISH_LENGTH);
        assert_int_equal(other->n_told, N_NEW);
        assert_false(berth_core_cancel(s.e.core, one->id)); /* over */
    }
    assert_false(berth_core_cancel(s.e.core, 0));
    assert_false(berth_core_cancel(s.e.core, UINT64_MAX));
    close_scene(&s);
}

/* The fourth token is told until the deadline is over. */
static bool outlast_deadline(void *user, int32_t index, int32_t id, const float *logits)
{
    const asked *a = user;
    while (index == 3 && berth_now_ns() < a->q.deadline_ns) sched_yield();
    return hear_token(user, index, id, logits);
}

static void deadline_ends_waiting_and_running(void **state)
{
    (void)state;
    scene s;
    open_scene(&s, NULL, &(berth_plan_config){.context = CONTEXT}, NULL);
    asked *runs = &s.all[0], *waits = &s.all[1], *late = &s.all[2];
    prepare(runs, s.e.core, 1);
    prepare(waits, s.e.core, 2);
    prepare(late, s.e.core, 3);
    const int64_t now = berth_now_ns();
    runs->q.max_new = 400;
    runs->q.on_token = outlast_deadline;
    runs->q.deadline_ns = now + 20000000;
    waits->q.deadline_ns = now + 1000000; /* behind the first, which has the only place */
    late->q.deadline_ns = 1;
    submit(runs);
    submit(waits);
    submit(late);
    await(runs);
    await(waits);
    await(late);
    assert_int_equal(late->finish, BERTH_FINISH_DEADLINE);
    assert_int_equal(late->n_told, 0);
    assert_int_equal(waits->finish, BERTH_FINISH_DEADLINE);
    assert_int_equal(waits->n_told, 0);
    assert_int_equal(runs->finish, BERTH_FINISH_DEADLINE);
    assert_in_range(runs->n_told, 0, 4); /* fewer where it has begun too late for four */
    close_scene(&s);
}

/* Ended by its length, cancelled or too late: its end finds it counted, and what it held given back. */
static void an_end_is_counted_when_it_is_told(void **state)
{
    (void)state;
    enum { N = 6 };
    scene s;
    open_scene(&s, NULL, &(berth_plan_config){.context = CONTEXT}, NULL);
    for (int32_t i = 0; i < N; i++) {
        asked *a = &s.all[i];
        prepare(a, s.e.core, i);
        if (i % 3 == 1) a->cancel_at = 2;
        if (i % 3 == 2) a->q.deadline_ns = 1; /* before it begins */
        submit(a);
        await(a);
        assert_int_equal(a->at_end.n_submitted, i + 1);
        assert_int_equal(a->at_end.n_finished, i + 1);
        assert_int_equal(a->at_end.n_waiting, 0);
        assert_int_equal(a->at_end.n_running, 0);
        assert_int_equal(a->at_end.kv_used, 0);
    }
    close_scene(&s);
}

static bool is_said(const asked *all, int32_t n, int32_t id)
{
    for (int32_t i = 0; i < n; i++)
        for (int32_t k = 0; k < all[i].n_told; k++)
            if (all[i].answer[k] == id) return true;
    return false;
}

/* One token's embedding is not a number: who says it fails with the op's name, who does not is not touched, though they
 * share passes, and take over each other's blocks. */
static void bad_numbers_stay_with_their_request(void **state)
{
    (void)state;
    enum { KINDS = 5, N = 24 };
    char dir[64];
    scene s, good;
    int32_t bad_id = 300; /* one that no prompt and no answer has */
    open_scene(&good, NULL, &(berth_plan_config){.context = CONTEXT}, NULL);
    for (int32_t i = 0; i < KINDS; i++) {
        prepare(&good.all[i], good.e.core, i);
        submit(&good.all[i]);
        await(&good.all[i]);
    }
    while (is_said(good.all, KINDS, bad_id)) bad_id++;
    int32_t hidden = berth_model_data_config(good.g.data)->text.hidden;
    golden_copy(MODEL, dir);
    golden_patch(dir, BERTH_T_EMBED, -1, (int64_t)bad_id * hidden, NAN);
    open_scene(&s, dir, &(berth_plan_config){.context = CONTEXT, .n_seqs = 4, .chunk = 16}, NULL);
    for (int round = 0; round < 3; round++) {
        for (int32_t i = 0; i < N; i++) {
            prepare(&s.all[i], s.e.core, i % KINDS);
            if (i % 3 == 0) s.all[i].ids[7] = bad_id;
            submit(&s.all[i]);
        }
        for (int32_t i = 0; i < N; i++) {
            asked *a = &s.all[i], *want = &good.all[i % KINDS];
            await(a);
            if (i % 3 == 0) {
                assert_int_equal(a->status, BERTH_NUMERIC);
                if (!strstr(a->message, "op embed (text.tokens")) fail_msg("%s", a->message);
                continue;
            }
            if (a->status != BERTH_OK) fail_msg("request %d of round %d: %s", (int)i, round, a->message);
            assert_int_equal(a->n_told, want->n_told);
            assert_memory_equal(a->answer, want->answer, sizeof(int32_t) * (size_t)want->n_told);
        }
    }
    close_scene(&s);
    close_scene(&good);
    golden_remove(dir);
}

static void full_queue_refuses_at_once(void **state)
{
    (void)state;
    enum { QUEUE = 3, N = 20 };
    scene s;
    berth_error err = {0};
    start_line line = {0};
    const berth_core_options options = {.queue = QUEUE};
    open_scene(&s, NULL, &(berth_plan_config){.context = CONTEXT}, &options);
    for (int32_t i = 0; i < N; i++) {
        prepare(&s.all[i], s.e.core, i);
        s.all[i].q.max_new = 200;
        s.all[i].line = &line;
        berth_status st = berth_core_submit(s.e.core, &s.all[i].q, &s.all[i].id, &err);
        while (i == 0 && atomic_load(&line.n_begun) == 0) sched_yield(); /* it has the place */
        if (i <= QUEUE) {
            assert_int_equal(st, BERTH_OK);
            continue;
        }
        assert_int_equal(st, BERTH_BUSY);
        assert_non_null(strstr(err.message, "3 requests wait"));
        atomic_store(&s.all[i].is_over, true);
    }
    for (int32_t i = 0; i < N; i++) berth_core_cancel(s.e.core, s.all[i].id);
    atomic_store(&line.may_go_on, true);
    for (int32_t i = 0; i < N; i++) await(&s.all[i]);
    berth_core_stats stats;
    berth_core_get_stats(s.e.core, &stats);
    assert_int_equal(stats.n_submitted, 1 + QUEUE);
    assert_int_equal(stats.n_finished, 1 + QUEUE);
    assert_int_equal(stats.n_refused, N - 1 - QUEUE);
    assert_int_equal(berth_core_reserve(s.e.core, &err), BERTH_OK);
    berth_core_unreserve(s.e.core);
    close_scene(&s);
}

/* With the only place taken, what waits starts by priority, then by age, or by length where that is asked for. */
static void order_of_starting(void **state)
{
    (void)state;
    enum { N = 6 };
    for (int longest = 0; longest < 2; longest++) {
        scene s;
        start_line line = {0};
        const berth_core_options options = {.longest_first = longest};
        static const int32_t priority[N] = {0, 0, 5, 0, 5, -1}, length[N] = {400, 2, 4, 8, 6, 9};
        static const int32_t order[2][N] = {{0, 2, 4, 1, 3, 5}, {0, 4, 2, 3, 1, 5}};
        open_scene(&s, NULL, &(berth_plan_config){.context = CONTEXT}, &options);
        for (int32_t i = 0; i < N; i++) {
            prepare(&s.all[i], s.e.core, i);
            s.all[i].q.priority = priority[i];
            s.all[i].q.max_new = length[i];
            s.all[i].line = &line;
            submit(&s.all[i]);
            while (i == 0 && atomic_load(&line.n_begun) == 0) sched_yield(); /* it has the place */
        }
        atomic_store(&line.may_go_on, true);
        for (int32_t i = 0; i < N; i++) await(&s.all[i]);
        for (int32_t k = 0; k < N; k++) assert_int_equal(s.all[order[longest][k]].place, k);
        close_scene(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cancel_takes_one_step),
        cmocka_unit_test(deadline_ends_waiting_and_running),
        cmocka_unit_test(an_end_is_counted_when_it_is_told),
        cmocka_unit_test(bad_numbers_stay_with_their_request),
        cmocka_unit_test(full_queue_refuses_at_once),
        cmocka_unit_test(order_of_starting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
