/* endings_test.c - requests that end early, among others and with their engine or queue: each ends once, and nobody else
 * notices. */
#include "heard.h"
#include "hold.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>

#define PICTURE FIXTURE_MODELS "ivl-native/images/main-1.png"

/* ---- ended early ----------------------------------------------------------------------------------------------------- */

static const fixture_options long_context = {.context = 4096};

static void zero_from_on_token_ends_with_that_token(void **state)
{
    (void)state;
    fixture f = fixture_open(&long_context);
    asking a;
    ask(&a, "What is the total?", 3000);
    for (int way = 0; way < 2; way++) {
        static heard h;
        memset(&h, 0, sizeof h);
        h.stop_after = 3;
        a.request.on_token = on_token;
        a.request.on_token_user = &h;
        if (way == 0) {
            berth_result r = run_request(f.engine, &a.request);
            hear_end(&h, BERTH_OK, &r);
            berth_result_deinit(&r);
        } else {
            start(&f, &a, &h);
            await_end(&h);
        }
        assert_int_equal(h.n_ids, 3);
        assert_int_equal(h.end_tokens, 3);
        assert_string_equal(h.finish, "cancelled");
        assert_int_equal(strncmp(h.end_text, h.text, h.n_text), 0);
    }
    fixture_close(&f);
}

static void a_deadline_ends_with_what_there_is(void **state)
{
    (void)state;
    fixture f = fixture_open(&long_context);
    berth_queue *q = new_queue(&f);
    asking a;
    ask(&a, "What is the total?", 4000);
    a.request.quiet = 1;
    for (int64_t ms = 1; ms <= 16;
         ms *= 4) { /* 4,000 tokens take longer anywhere: each goes from thread to thread and back */
        a.request.deadline_ms = ms;
        berth_completion c = wait_end(q, submit(&f, &a, q, NULL));
        assert_int_equal(c.status, BERTH_OK);
        assert_string_equal(c.result->finish_reason, "deadline");
        assert_true(c.result->n_tokens < 4000);
        assert_non_null(c.result->text);
        assert_non_null(c.result->edge_bytes);
        assert_true(c.result->timings.total_ns >= ms * 1000000);
        berth_completion_deinit(&c);
    }
    a.request.deadline_ms = INT64_MAX;
    a.request.max_new_tokens = 3;
    berth_completion c = wait_end(q, submit(&f, &a, q, NULL));
    assert_string_equal(c.result->finish_reason, "length");
    berth_completion_deinit(&c);
    berth_queue_destroy(q);
    fixture_close(&f);
}

/* The ends of the next `n`. */
static void expect_cancelled(berth_queue *q, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        berth_completion c = wait_end(q, 0);
        assert_int_equal(c.status, BERTH_OK);
        assert_string_equal(c.result->finish_reason, "cancelled");
        berth_completion_deinit(&c);
    }
}

/* Behind requests that fill the engine and all places ahead of it: no thread takes one more up before the first of those is
 * over, and what ends early is told all the same. */
static void who_waits_for_a_thread_is_told_its_end_at_once(void **state)
{
    (void)state;
    enum { N = 5 }; /* one runs, and 2 * n_seqs + host_threads = 3 places are ahead */
    fixture_options o = long_context;
    o.engine.host_threads = 1;
    fixture f = hold_open(&o);
    berth_queue *q = new_queue(&f);
    berth_error err = {0};
    asking a;
    uint64_t ids[N];
    static volatile int flag;
    flag = 0;
    ask(&a, "What is the total?", 1000);
    a.request.quiet = 1;
    hold(); /* none of them ends */
    for (int i = 0; i < N; i++) ids[i] = submit(&f, &a, q, NULL);
    for (int way = 0; way < 3; way++) {
        a.request.deadline_ms = way == 0 ? 30 : 0;
        a.request.cancel = way == 1 ? &flag : NULL;
        const uint64_t id = submit(&f, &a, q, NULL);
        sleep_us(2000); /* it may be looked at before it is to end */
        if (way == 1) __atomic_store_n((int *)(uintptr_t)&flag, 1, __ATOMIC_RELEASE);
        if (way == 2) must(berth_engine_cancel(f.engine, id, &err), &err, "cancel");
        berth_completion c = {.struct_size = sizeof c};
        must(berth_queue_next(q, -1, &c, &err), &err, "next");
        assert_true(c.kind == BERTH_COMPLETION_END && c.id == id); /* before any of those ahead of it */
        assert_int_equal(c.status, BERTH_OK);
        assert_string_equal(c.result->finish_reason, way == 0 ? "deadline" : "cancelled");
        assert_int_equal(c.result->n_tokens, 0);
        assert_string_equal(c.result->text, "");
        assert_true(way != 0 || c.result->timings.total_ns >= 30000000);
        berth_completion_deinit(&c);
    }
    for (int i = 0; i < N; i++) must(berth_engine_cancel(f.engine, ids[i], &err), &err, "cancel");
    let_go();
    expect_cancelled(q, N);
    berth_queue_destroy(q);
    fixture_close(&f);
}

static void who_takes_nothing_is_ended(void **state)
{
    (void)state;
    fixture_options o = long_context;
    o.engine.consumer_bytes = 1000;
    fixture f = fixture_open(&o);
    berth_queue *q = new_queue(&f);
    asking a;
    ask(&a, "What is the total?", 2000);
    const uint64_t slow = submit(&f, &a, q, NULL);
    struct pollfd p = {.fd = berth_queue_descriptor(q), .events = POLLIN};
    assert_int_equal(poll(&p, 1, -1), 1);
    asking other; /* has its turn only when the first is over */
    ask(&other, "What is the total?", 1);
    berth_result r = run_request(f.engine, &other.request);
    berth_result_deinit(&r);
    berth_completion c;
    berth_error err = {0};
    size_t bytes = 0;
    for (;;) {
        c = (berth_completion){.struct_size = sizeof c};
        must(berth_queue_next(q, -1, &c, &err), &err, "next");
        if (c.kind == BERTH_COMPLETION_END) break;
        bytes += c.token.text_size;
        berth_completion_deinit(&c);
    }
    assert_true(c.id == slow);
    assert_int_equal(c.status, BERTH_SLOW_CONSUMER);
    assert_true(bytes < 1000);
    berth_completion_deinit(&c);
    a.request.quiet = 1; /* the end alone is never too much */
    a.request.max_new_tokens = 300;
    c = wait_end(q, submit(&f, &a, q, NULL));
    assert_int_equal(c.status, BERTH_OK);
    assert_int_equal(c.result->n_tokens, 300);
    berth_completion_deinit(&c);
    berth_queue_destroy(q);
    fixture_close(&f);
}

static void a_blocked_callback_ends_only_its_own_request(void **state)
{
    (void)state;
    fixture_options o = long_context;
    o.engine.consumer_bytes = 400;
    fixture f = fixture_open(&o);
    static heard slow;
    memset(&slow, 0, sizeof slow);
    slow.blocks = true;
    asking a;
    ask(&a, "What is the total?", 1000);
    start(&f, &a, &slow);
    while (atomic_load(&slow.n_heard) == 0) sleep_us(100); /* it runs */
    ask(&a, "What is the total?", 50);
    berth_result r = run_request(f.engine, &a.request);
    assert_int_equal(r.n_tokens, 50);
    berth_result_deinit(&r);
    await_running(&f, 0); /* the blocked one is ended too, though nobody takes its tokens */
    slow.blocks = false;
    await_end(&slow);
    assert_int_equal(slow.status, BERTH_SLOW_CONSUMER);
    assert_true(slow.in_order && slow.n_ids > 0 && slow.n_ids < 1000);
    fixture_close(&f);
}

static void a_full_queue_is_busy(void **state)
{
    (void)state;
    enum { QUEUE = 3, N = 1 + QUEUE }; /* one runs */
    fixture_options o = long_context;
    o.engine.queue = QUEUE;
    fixture f = hold_open(&o);
    berth_queue *q = new_queue(&f);
    asking a;
    ask(&a, "What is the total?", 1000);
    a.request.quiet = 1;
    uint64_t ids[N], none = 0;
    berth_error err = {0};
    hold(); /* what runs, runs on */
    ids[0] = submit(&f, &a, q, NULL);
    await_running(&f, 1);
    for (int32_t i = 1; i < N; i++) ids[i] = submit(&f, &a, q, NULL);
    const berth_status submitted = berth_engine_submit(f.engine, &a.request, q, NULL, &none, &err);
    berth_result r = {.struct_size = sizeof r};
    const berth_status run = berth_engine_run(f.engine, &a.request, &r, &err);
    berth_result_deinit(&r);
    assert_int_equal(submitted, BERTH_BUSY);
    assert_int_equal(run, BERTH_BUSY);
    assert_null(r.text);
    for (int32_t i = 0; i < N; i++) must(berth_engine_cancel(f.engine, ids[i], &err), &err, "cancel");
    let_go();
    expect_cancelled(q, N);
    for (int32_t i = 0; i < N; i++) assert_int_equal(berth_engine_cancel(f.engine, ids[i], &err), BERTH_NOT_FOUND);
    assert_int_equal(berth_engine_cancel(f.engine, 0, &err), BERTH_NOT_FOUND);
    assert_int_equal(berth_engine_cancel(f.engine, UINT64_MAX, &err), BERTH_NOT_FOUND);
    a.request.max_new_tokens = 2;
    r = run_request(f.engine, &a.request);
    berth_result_deinit(&r);
    berth_queue_destroy(q);
    fixture_close(&f);
}

/* 1,000 requests (`full`: 10,000), cancelled after a time of their own by one of two means: each ends once, and what is not
 * cancelled in time says the same as ever. Of eight one is left alone, and one cancelled before it is submitted. */
static bool is_full;

enum { LEFT_ALONE, NEVER_BEGUN, VICTIMS, KINDS = 8 }; /* of a request's number % KINDS; victims from there on */

static void expect_end_of_kind(const berth_result *r, const berth_result *whole, int32_t kind)
{
    const bool is_whole = strcmp(r->finish_reason, "length") == 0;
    if (r->n_tokens > 0) assert_memory_equal(r->token_ids, whole->token_ids, (size_t)r->n_tokens * sizeof(int32_t));
    if (is_whole) assert_int_equal(r->n_tokens, whole->n_tokens);
    if (!is_whole) assert_string_equal(r->finish_reason, "cancelled");
    if (kind == LEFT_ALONE) assert_true(is_whole);
    if (kind == NEVER_BEGUN) assert_true(!is_whole && r->n_tokens == 0);
}

/* Who was told every end finds nothing waiting, running or held. */
static void expect_nothing_under_way(const fixture *f)
{
    const berth_stats s = stats_of(f);
    assert_int_equal(s.n_waiting, 0);
    assert_int_equal(s.n_running, 0);
    assert_int_equal(s.kv_used, 0);
    assert_int_equal(s.n_finished, s.n_submitted);
    assert_int_equal(s.n_refused, 0);
}

static void cancelling_at_any_moment(void **state)
{
    (void)state;
    enum { MOST = 10000, AT_ONCE = 8 };
    const int32_t N = is_full ? MOST : 1000;
    const fixture_options o = {.model = "ivl-native"};
    fixture f = fixture_open(&o);
    berth_queue *q = new_queue(&f);
    asking a;
    ask_picture(&a, PICTURE, "What is the total?", 6);
    berth_result r = run_request(f.engine, &a.request);
    static volatile int flags[MOST];
    static int32_t ends[MOST];
    static uint64_t ids[MOST];
    berth_error err = {0};
    const int32_t descriptors = open_descriptors();
    uint32_t seed = 7;
    int32_t n_sent = 0, n_over = 0, n_whole = 0;
    while (n_over < N) {
        if (n_sent < N && n_sent - n_over < AT_ONCE) {
            flags[n_sent] = n_sent % KINDS == NEVER_BEGUN;
            a.request.cancel = &flags[n_sent];
            ids[n_sent] = submit(&f, &a, q, (void *)(uintptr_t)n_sent);
            n_sent++;
        }
        seed = seed * 1664525u + 1013904223u;
        const int32_t victim = n_sent - 1 - (int32_t)(seed >> 8) % AT_ONCE;
        const uint32_t means = victim >= 0 && victim % KINDS >= VICTIMS ? seed >> 29 : KINDS;
        if (means == 0) __atomic_store_n((int *)(uintptr_t)&flags[victim], 1, __ATOMIC_RELEASE);
        if (means == 1) berth_engine_cancel(f.engine, ids[victim], &err);
        berth_completion c = {.struct_size = sizeof c};
        must(berth_queue_next(q, n_sent < N && n_sent - n_over < AT_ONCE ? 0 : 5, &c, &err), &err, "next");
        if (c.kind == BERTH_COMPLETION_END) {
            assert_int_equal(c.status, BERTH_OK);
            ends[(uintptr_t)c.user]++;
            n_over++;
            n_whole += strcmp(c.result->finish_reason, "length") == 0;
            expect_end_of_kind(c.result, &r, (int32_t)((uintptr_t)c.user % KINDS));
        }
        berth_completion_deinit(&c);
    }
    for (int32_t i = 0; i < N; i++) assert_int_equal(ends[i], 1);
    print_message("%d of %d went on to the end\n", (int)n_whole, (int)N);
    expect_nothing_under_way(&f);
    assert_int_equal(open_descriptors(), descriptors);
    a.request.cancel = NULL;
    berth_result again = run_request(f.engine, &a.request);
    assert_int_equal(again.n_tokens, 6);
    assert_memory_equal(again.token_ids, r.token_ids, 6 * sizeof(int32_t));
    berth_result_deinit(&again);
    berth_result_deinit(&r);
    berth_queue_destroy(q);
    fixture_close(&f);
}

/* ---- the end of engines and queues ----------------------------------------------------------------------------------- */

typedef struct blocked_run {
    const fixture *f;
    asking a;
    heard heard;
} blocked_run;

static void *run_body(void *arg)
{
    blocked_run *b = arg;
    berth_result r = {.struct_size = sizeof r};
    berth_error err = {0};
    b->a.request.on_token = on_token;
    b->a.request.on_token_user = &b->heard;
    const berth_status st = berth_engine_run(b->f->engine, &b->a.request, &r, &err);
    hear_end(&b->heard, st, &r);
    berth_result_deinit(&r);
    return NULL;
}

/* Begins a run and holds its engine when some of the answer was heard and much of it is still to be made. */
static pthread_t hold_in_its_midst(blocked_run *b, const fixture *f)
{
    for (;;) {
        pthread_t thread;
        memset(b, 0, sizeof *b);
        b->f = f;
        ask(&b->a, "What is the total?", 3000);
        const int64_t before = stats_of(f).n_new_tokens;
        assert_int_equal(pthread_create(&thread, NULL, run_body, b), 0);
        while (atomic_load(&b->heard.n_heard) == 0) sleep_us(100);
        hold();
        if (stats_of(f).n_new_tokens - before < 2000) return thread;
        let_go(); /* this thread was given no time for so long */
        pthread_join(thread, NULL);
    }
}

enum { N_BACK = 6 };

static void *let_go_after_all(void *arg)
{
    const heard *back = arg;
    for (int i = 0; i < N_BACK; i++) await_end(&back[i]);
    let_go();
    return NULL;
}

static void an_engine_ends_what_waits_and_runs(void **state)
{
    (void)state;
    fixture f = hold_open(&long_context);
    berth_queue *q = new_queue(&f);
    static heard back[N_BACK];
    static blocked_run blocked;
    memset(back, 0, sizeof back);
    asking a;
    pthread_t opener;
    const pthread_t thread = hold_in_its_midst(&blocked, &f);
    for (int i = 0; i < N_BACK; i++) {
        ask(&a, "What is the total?", 3000);
        start(&f, &a, &back[i]);
        a.request.quiet = 1;
        submit(&f, &a, q, NULL);
    }
    assert_int_equal(pthread_create(&opener, NULL, let_go_after_all, back), 0);
    berth_engine_destroy(f.engine);
    f.engine = NULL;
    for (int i = 0; i < N_BACK; i++) assert_int_equal(atomic_load(&back[i].n_ends), 1);
    pthread_join(thread, NULL);
    pthread_join(opener, NULL);
    assert_int_equal(atomic_load(&blocked.heard.n_ends), 1);
    assert_string_equal(blocked.heard.finish, "cancelled");
    expect_cancelled(q, N_BACK);
    assert_false(is_readable(q));
    fixture_close(&f);
    berth_queue_destroy(q);
}

static void a_queue_destroyed_cancels_its_requests(void **state)
{
    (void)state;
    fixture f = fixture_open(&long_context);
    asking a;
    for (int round = 0; round < 20; round++) { /* each after a time of its own */
        berth_queue *q = new_queue(&f);
        ask(&a, "What is the total?", 4000);
        for (int i = 0; i < 3; i++) submit(&f, &a, q, NULL);
        sleep_us(round * 300);
        berth_queue_destroy(q);
    }
    ask(&a, "What is the total?", 4); /* comes to its turn soon: 60 of 4000 tokens would not have let it */
    berth_result r = run_request(f.engine, &a.request);
    assert_int_equal(r.n_tokens, 4);
    berth_result_deinit(&r);
    fixture_close(&f);
}

int main(int argc, char **argv)
{
    is_full = argc > 1 && strcmp(argv[1], "full") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_from_on_token_ends_with_that_token),
        cmocka_unit_test(a_deadline_ends_with_what_there_is),
        cmocka_unit_test(who_waits_for_a_thread_is_told_its_end_at_once),
        cmocka_unit_test(who_takes_nothing_is_ended),
        cmocka_unit_test(a_blocked_callback_ends_only_its_own_request),
        cmocka_unit_test(a_full_queue_is_busy),
        cmocka_unit_test(cancelling_at_any_moment),
        cmocka_unit_test(an_engine_ends_what_waits_and_runs),
        cmocka_unit_test(a_queue_destroyed_cancels_its_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
