/* stress_test.c - many threads at once on one engine: blocking calls, callbacks, queues that come and go, sessions,
 * cancels. Each request ends once, and each that went to its end says what it says alone. `stress_test full`: 10,000
 * requests at once for a queue of 1,024. */
#include "hold.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_THREADS = 8, N_QUESTIONS = 4, N_NEW = 6 };

static bool is_full;

static const char *const questions[N_QUESTIONS] = {"What is the total?", "Who sold it?", "And the date?",
                                                   "How much is the tax?"};

typedef struct shared {
    fixture f;
    berth_result want[N_QUESTIONS];
    berth_queue *q; /* of all threads */
    atomic_int n_started, n_whole, n_cancelled, n_refused, n_wrong;
    atomic_int n_rounds;
} shared;

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* An end: counted, and compared with what the question says alone. */
static void judge(shared *s, int32_t question, berth_status st, const berth_result *r)
{
    if (st != BERTH_OK) {
        atomic_fetch_add(&s->n_wrong, 1);
        return;
    }
    const bool is_whole = strcmp(r->finish_reason, "length") == 0;
    const berth_result *want = &s->want[question];
    if ((is_whole && r->n_tokens != want->n_tokens) ||
        (r->n_tokens > 0 && memcmp(r->token_ids, want->token_ids, (size_t)r->n_tokens * sizeof(int32_t)) != 0))
        atomic_fetch_add(&s->n_wrong, 1);
    atomic_fetch_add(is_whole ? &s->n_whole : &s->n_cancelled, 1);
}

typedef struct pending {
    shared *s;
    int32_t question;
} pending;

static void on_end(void *user, uint64_t id, berth_status st, const berth_result *r, const berth_error *why)
{
    pending *p = user;
    (void)id, (void)why;
    judge(p->s, p->question, st, r);
    free(p);
}

static void ask_blocking(shared *s, const asking *a, int32_t question)
{
    berth_result r = {.struct_size = sizeof r};
    const berth_status st = berth_engine_run(s->f.engine, &a->request, &r, NULL);
    judge(s, question, st, &r);
    berth_result_deinit(&r);
}

static void ask_back(shared *s, const asking *a, int32_t question, bool cancels)
{
    pending *p = malloc(sizeof *p);
    *p = (pending){s, question};
    uint64_t id = 0;
    if (berth_engine_start(s->f.engine, &a->request, on_end, p, &id, NULL) != BERTH_OK) {
        free(p);
        atomic_fetch_add(&s->n_wrong, 1);
        return;
    }
    if (cancels) berth_engine_cancel(s->f.engine, id, NULL);
}

/* One end of anybody's out of the common queue. */
static void take_one(shared *s)
{
    for (;;) {
        berth_completion c = {.struct_size = sizeof c};
        if (berth_queue_next(s->q, -1, &c, NULL) != BERTH_OK) atomic_fetch_add(&s->n_wrong, 1);
        const bool is_end = c.kind == BERTH_COMPLETION_END;
        if (is_end) judge(s, (int32_t)(intptr_t)c.user, c.status, c.result);
        berth_completion_deinit(&c);
        if (is_end) return;
    }
}

static void ask_queue(shared *s, const asking *a, int32_t question)
{
    if (berth_engine_submit(s->f.engine, &a->request, s->q, (void *)(intptr_t)question, NULL, NULL) == BERTH_OK)
        take_one(s);
    else
        atomic_fetch_add(&s->n_wrong, 1);
}

/* A queue of its own, given up with its requests in it. */
static void ask_and_leave(shared *s, const asking *a)
{
    berth_queue *q = NULL;
    if (berth_queue_create(s->f.rt, &q, NULL) != BERTH_OK ||
        berth_engine_submit(s->f.engine, &a->request, q, NULL, NULL, NULL) != BERTH_OK)
        atomic_fetch_add(&s->n_wrong, 1);
    atomic_fetch_add(&s->n_cancelled, 1);
    berth_queue_destroy(q);
}

static void ask_session(shared *s, asking *a, int32_t question)
{
    berth_session *session = NULL, *fork = NULL;
    if (berth_session_create(s->f.engine, &session, NULL) != BERTH_OK) atomic_fetch_add(&s->n_wrong, 1);
    a->request.session = session;
    ask_blocking(s, a, question);
    berth_session_info info = {.struct_size = sizeof info};
    if (berth_session_fork(session, &fork, NULL) != BERTH_OK || berth_session_rewind(fork, 0, NULL) != BERTH_OK ||
        berth_session_get_info(session, &info, NULL) != BERTH_OK || info.n_turns != 2)
        atomic_fetch_add(&s->n_wrong, 1);
    berth_session_destroy(session);
    a->request.session = fork;
    pending *p = malloc(sizeof *p);
    *p = (pending){s, question};
    atomic_fetch_add(&s->n_started, 1);
    if (berth_engine_start(s->f.engine, &a->request, on_end, p, NULL, NULL) != BERTH_OK)
        atomic_fetch_add(&s->n_wrong, 1);
    berth_session_destroy(fork); /* under its request */
}

typedef struct asker {
    shared *s;
    uint32_t seed;
    pthread_t thread;
} asker;

static void *thread_body(void *arg)
{
    shared *s = ((asker *)arg)->s;
    uint32_t seed = ((asker *)arg)->seed;
    for (int32_t i = 0; i < 12; i++) {
        const int32_t question = (int32_t)(next_random(&seed) % N_QUESTIONS);
        const uint32_t way = next_random(&seed) % 6;
        asking a;
        ask(&a, questions[question], N_NEW);
        a.request.priority = (int32_t)(next_random(&seed) % 3);
        a.request.no_prefix_cache = next_random(&seed) % 4 == 0;
        atomic_fetch_add(&s->n_started, 1);
        switch (way) {
        case 0: ask_blocking(s, &a, question); break;
        case 1: ask_back(s, &a, question, false); break;
        case 2: ask_back(s, &a, question, true); break;
        case 3: ask_queue(s, &a, question); break;
        case 4: ask_and_leave(s, &a); break;
        default: ask_session(s, &a, question); break;
        }
        berth_stats stats = {.struct_size = sizeof stats};
        berth_engine_get_stats(s->f.engine, &stats, NULL);
    }
    return NULL;
}

static void open_shared(shared *s, const fixture_options *o)
{
    memset(s, 0, sizeof *s);
    s->f = hold_open(o);
    berth_error err = {0};
    must(berth_queue_create(s->f.rt, &s->q, &err), &err, "queue");
    for (int32_t i = 0; i < N_QUESTIONS; i++) {
        asking a;
        ask(&a, questions[i], N_NEW);
        s->want[i] = run_request(s->f.engine, &a.request);
    }
}

static void close_shared(shared *s)
{
    berth_engine_destroy(s->f.engine); /* every callback has come */
    s->f.engine = NULL;
    berth_queue_destroy(s->q);
    for (int32_t i = 0; i < N_QUESTIONS; i++) berth_result_deinit(&s->want[i]);
    fixture_close(&s->f);
}

static void many_threads_on_one_engine(void **state)
{
    (void)state;
    static const fixture_options engines[] = {{.n_seqs = 4},
                                              {.n_seqs = 2, .devices = "cpu*2", .strategy = "replicate"},
                                              {.n_seqs = 4, .devices = "cpu*2", .strategy = "balanced"}};
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        static shared s;
        open_shared(&s, &engines[i]);
        static asker askers[N_THREADS];
        for (uint32_t t = 0; t < N_THREADS; t++) {
            askers[t] = (asker){.s = &s, .seed = 1000 * (uint32_t)i + t};
            assert_int_equal(pthread_create(&askers[t].thread, NULL, thread_body, &askers[t]), 0);
        }
        for (int t = 0; t < N_THREADS; t++) pthread_join(askers[t].thread, NULL);
        close_shared(&s);
        print_message("%d asked, %d whole, %d cancelled\n", atomic_load(&s.n_started), atomic_load(&s.n_whole),
                      atomic_load(&s.n_cancelled));
        assert_int_equal(atomic_load(&s.n_wrong), 0);
        assert_int_equal(atomic_load(&s.n_whole) + atomic_load(&s.n_cancelled), atomic_load(&s.n_started));
        assert_true(atomic_load(&s.n_whole) > N_THREADS);
    }
}

/* More at once than the queue takes: each is completed, refused or cancelled, and none is lost. The first half finds an engine
 * that ends none of them. */
static void ten_thousand_at_once(void **state)
{
    (void)state;
    const int32_t n = is_full ? 10000 : 1500;
    static shared s;
    const fixture_options o = {.n_seqs = 8, .engine = {.queue = is_full ? 1024 : 256}};
    open_shared(&s, &o);
    const int64_t before = resident_bytes();
    uint64_t *ids = calloc((size_t)n, sizeof *ids);
    int32_t n_in = 0;
    uint32_t seed = 3;
    hold();
    for (int32_t i = 0; i < n; i++) {
        if (i == n / 2) let_go();
        asking a;
        const int32_t question = i % N_QUESTIONS;
        ask(&a, questions[question], N_NEW);
        a.request.quiet = 1;
        berth_error err = {0};
        const berth_status st =
            berth_engine_submit(s.f.engine, &a.request, s.q, (void *)(intptr_t)question, &ids[n_in], &err);
        if (st == BERTH_OK && next_random(&seed) % 10 == 0) berth_engine_cancel(s.f.engine, ids[n_in], NULL);
        if (st == BERTH_BUSY)
            atomic_fetch_add(&s.n_refused, 1);
        else
            must(st, &err, "submit");
        n_in += st == BERTH_OK;
    }
    for (int32_t i = 0; i < n_in; i++) take_one(&s);
    const int64_t more = resident_bytes() - before;
    print_message("%d at once: %d whole, %d cancelled, %d refused, %lld MiB more\n", (int)n, atomic_load(&s.n_whole),
                  atomic_load(&s.n_cancelled), atomic_load(&s.n_refused), (long long)more >> 20);
    assert_int_equal(atomic_load(&s.n_wrong), 0);
    assert_int_equal(atomic_load(&s.n_whole) + atomic_load(&s.n_cancelled) + atomic_load(&s.n_refused), n);
    assert_true(atomic_load(&s.n_refused) > 0 && atomic_load(&s.n_whole) > 0);
    assert_true(more < (int64_t)256 << 20);
    const berth_stats stats = stats_of(&s.f);
    assert_int_equal(stats.n_waiting, 0);
    assert_int_equal(stats.n_running, 0);
    assert_int_equal(stats.n_refused, atomic_load(&s.n_refused));
    free(ids);
    close_shared(&s);
}

int main(int argc, char **argv)
{
    is_full = argc > 1 && strcmp(argv[1], "full") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_threads_on_one_engine),
        cmocka_unit_test(ten_thousand_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
