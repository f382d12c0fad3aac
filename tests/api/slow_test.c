/* slow_test.c - many readers that do not read, beside one that does: queues that nobody drains, queues that are drained a
 * token now and then, callbacks that block. The one that reads is as fast as beside readers that keep up, the memory for
 * what waits is bounded, and nothing is lost. `slow_test full`: 1,000 of them, with figures. */
#include "hold.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

enum { MOST_READERS = 1000, MOST_FAST = 4, MOST_ROUNDS = 3, FAST_TOKENS = 24 };

static int32_t n_readers = 12, n_fast = 2, n_rounds = 1;

/* Of a reader's answer: more than there is time for while the fast ones are asked. */
static int32_t slow_tokens(void)
{
    return n_readers == MOST_READERS ? 1200 : 120;
}

typedef enum manner { UNREAD, SELDOM, CALLBACK, N_MANNERS } manner;

typedef struct reader {
    manner manner;
    berth_queue *queue; /* NULL: by callback */
    int32_t n_tokens;
    size_t n_bytes;
    bool out_of_order;
    atomic_int n_ends;
    berth_status status;
    int32_t end_tokens;
    bool is_same; /* the answer is the reference's, as far as it goes */
    uint64_t id;
} reader;

typedef struct crowd {
    fixture f;
    berth_result want; /* what each of them is told in the end */
    reader *readers;   /* [n_readers] */
    atomic_bool is_slow, is_over;
    int epoll;
    pthread_t thread; /* that reads queues */
} crowd;

static crowd *the_crowd; /* of callbacks, which know their reader only */

static void hear_token(reader *r, const berth_token *t)
{
    r->out_of_order = r->out_of_order || t->index != r->n_tokens || atomic_load(&r->n_ends) > 0;
    r->n_tokens++;
    r->n_bytes += t->text_size;
}

static void hear_end(reader *r, berth_status st, const berth_result *result)
{
    const berth_result *want = &the_crowd->want;
    r->status = st;
    if (st == BERTH_OK) {
        r->end_tokens = result->n_tokens;
        r->is_same = result->n_tokens <= want->n_tokens &&
                     memcmp(result->token_ids, want->token_ids, (size_t)result->n_tokens * sizeof(int32_t)) == 0;
    }
    atomic_fetch_add(&r->n_ends, 1);
}

static int32_t on_token(void *user, const berth_token *t)
{
    while (atomic_load(&the_crowd->is_slow)) sleep_us(1000);
    hear_token(user, t);
    return 1;
}

static void on_end(void *user, uint64_t id, berth_status st, const berth_result *r, const berth_error *why)
{
    (void)id, (void)why;
    hear_end(user, st, r);
}

/* False: nothing was there. */
static bool take_one(reader *r)
{
    berth_error err = {0};
    berth_completion c = {.struct_size = sizeof c};
    must(berth_queue_next(r->queue, 0, &c, &err), &err, "next");
    const bool any = c.kind != BERTH_COMPLETION_NONE;
    if (c.kind == BERTH_COMPLETION_TOKEN) hear_token(r, &c.token);
    if (c.kind == BERTH_COMPLETION_END) hear_end(r, c.status, c.result);
    berth_completion_deinit(&c);
    return any;
}

/* Reads the queues of all: at once, or while the crowd is slow a token of those that are read now and then. */
static void *read_body(void *arg)
{
    crowd *c = arg;
    int32_t next = 0;
    while (!atomic_load(&c->is_over)) {
        if (atomic_load(&c->is_slow)) {
            reader *r = &c->readers[next++ % n_readers];
            if (r->manner == SELDOM) take_one(r);
            sleep_us(10000);
            continue;
        }
        struct epoll_event events[64];
        const int n = epoll_wait(c->epoll, events, 64, 5);
        for (int i = 0; i < n; i++)
            while (take_one(events[i].data.ptr)) {
            }
    }
    return NULL;
}

/* ---- a round --------------------------------------------------------------------------------------------------------- */

static void begin_readers(crowd *c)
{
    berth_error err = {0};
    asking a;
    ask(&a, "What is the total?", slow_tokens());
    for (int32_t i = 0; i < n_readers; i++) {
        reader *r = &c->readers[i];
        *r = (reader){.manner = (manner)(i % N_MANNERS)};
        a.request.on_token = r->manner == CALLBACK ? on_token : NULL;
        a.request.on_token_user = r;
        if (r->manner == CALLBACK) {
            must(berth_engine_start(c->f.engine, &a.request, on_end, r, &r->id, &err), &err, "start");
            continue;
        }
        must(berth_queue_create(c->f.rt, &r->queue, &err), &err, "queue");
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = r};
        assert_int_equal(epoll_ctl(c->epoll, EPOLL_CTL_ADD, berth_queue_descriptor(r->queue), &event), 0);
        must(berth_engine_submit(c->f.engine, &a.request, r->queue, NULL, &r->id, &err), &err, "submit");
    }
}

/* Everybody is stopped, and reads what there is up to the end. */
static void end_readers(crowd *c)
{
    for (int32_t i = 0; i < n_readers; i++)
        berth_engine_cancel(c->f.engine, c->readers[i].id, NULL); /* or it is over */
    atomic_store(&c->is_slow, false);
    for (int32_t i = 0; i < n_readers; i++)
        while (atomic_load(&c->readers[i].n_ends) == 0) sleep_us(500);
    atomic_store(&c->is_over, true);
    pthread_join(c->thread, NULL);
    close(c->epoll);
    for (int32_t i = 0; i < n_readers; i++) berth_queue_destroy(c->readers[i].queue);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct speed {
    double first_ms[MOST_ROUNDS * MOST_FAST], token_ms[MOST_ROUNDS * MOST_FAST]; /* of each fast request */
    int32_t n;
    int64_t n_passes, loop_ns; /* of the engine meanwhile; the scheduler's own processor time */
    int64_t more_bytes;        /* at most, while everything waited */
    int32_t n_beside;          /* readers that ran still when the last of them was over, at least */
} speed;

static double median(double *list, int32_t n)
{
    qsort(list, (size_t)n, sizeof *list, ascending);
    return list[n / 2];
}

/* The fast ones, one after the other, while all the others run. */
static void run_fast(crowd *c, speed *out)
{
    asking a;
    const berth_stats before = stats_of(&c->f);
    ask(&a, "Who sold it?", FAST_TOKENS);
    a.request.no_prefix_cache = 1;
    for (int32_t i = 0; i < n_fast; i++) {
        berth_result r = run_request(c->f.engine, &a.request);
        assert_int_equal(r.n_tokens, FAST_TOKENS);
        out->first_ms[out->n] = (double)r.timings.first_token_ns / 1e6;
        out->token_ms[out->n++] = (double)r.timings.decode_ns / 1e6 / (FAST_TOKENS - 1);
        berth_result_deinit(&r);
    }
    const berth_stats after = stats_of(&c->f);
    out->n_passes += after.n_step_passes - before.n_step_passes;
    out->loop_ns += after.loop_ns - before.loop_ns;
}

static void run_round(crowd *c, bool is_slow, speed *out)
{
    const int64_t before = resident_bytes();
    atomic_store(&c->is_slow, is_slow);
    atomic_store(&c->is_over, false);
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    hold(); /* none is over before the last of them runs */
    begin_readers(c);
    assert_int_equal(pthread_create(&c->thread, NULL, read_body, c), 0);
    await_running(&c->f, n_readers);
    let_go();
    run_fast(c, out);
    const int32_t n_beside = stats_of(&c->f).n_running;
    if (out->n_beside > n_beside) out->n_beside = n_beside;
    const int64_t more = resident_bytes() - before;
    if (more > out->more_bytes) out->more_bytes = more;
    end_readers(c);
    for (int32_t i = 0; i < n_readers; i++) {
        const reader *r = &c->readers[i];
        assert_int_equal(r->status, BERTH_OK);
        assert_int_equal(atomic_load(&r->n_ends), 1);
        assert_int_equal(r->n_tokens, r->end_tokens); /* each was told */
        assert_true(r->is_same && !r->out_of_order);
    }
}

/* ---- tests ----------------------------------------------------------------------------------------------------------- */

/* Each queue is a descriptor. */
static void raise_limit(void)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur >= 2 * MOST_READERS || n_readers < 500) return;
    limit.rlim_cur = limit.rlim_max < 4 * MOST_READERS ? limit.rlim_max : 4 * MOST_READERS;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void open_crowd(crowd *c, int64_t consumer_bytes)
{
    memset(c, 0, sizeof *c);
    const fixture_options o = {.n_seqs = n_readers + 1,
                               .context = slow_tokens() + 64,
                               .engine = {.queue = 2 * MOST_READERS, .consumer_bytes = consumer_bytes}};
    c->f = hold_open(&o);
    c->readers = calloc((size_t)n_readers, sizeof *c->readers);
    assert_non_null(c->readers);
    asking a;
    ask(&a, "What is the total?", slow_tokens());
    c->want = run_request(c->f.engine, &a.request);
    the_crowd = c;
}

static void close_crowd(crowd *c)
{
    berth_result_deinit(&c->want);
    free(c->readers);
    fixture_close(&c->f);
}

static void tell(speed *quick, speed *slow)
{
    const speed *both[] = {quick, slow};
    for (int i = 0; i < 2; i++)
        print_message("beside %s readers: %lld passes for %d tokens, %.1f us of the scheduler's own work in each\n",
                      i == 0 ? "quick" : "slow", (long long)both[i]->n_passes, (int)both[i]->n * FAST_TOKENS,
                      (double)both[i]->loop_ns / 1e3 / (double)both[i]->n_passes);
    const double quick_ms = median(quick->token_ms, quick->n), slow_ms = median(slow->token_ms, slow->n);
    print_message(
        "%d readers, %d answers of the one that reads: a token takes %.3f ms (the first %.2f) beside quick readers, "
        "%.3f ms (%.2f) beside slow ones, %.3f of the speed; %lld KiB for what waits; at least %d ran all the "
        "while\n",
        (int)n_readers, (int)slow->n, quick_ms, median(quick->first_ms, quick->n), slow_ms,
        median(slow->first_ms, slow->n), quick_ms / slow_ms, (long long)slow->more_bytes / 1024,
        (int)(slow->n_beside < quick->n_beside ? slow->n_beside : quick->n_beside));
}

static void slow_readers_hold_up_nobody(void **state)
{
    (void)state;
    static crowd c;
    static speed quick = {.n_beside = MOST_READERS}, slow = {.n_beside = MOST_READERS};
    raise_limit();
    open_crowd(&c, 0);
    for (int i = 0; i < n_rounds; i++) {
        run_round(&c, false, &quick);
        run_round(&c, true, &slow);
    }
    if (n_readers == MOST_READERS) tell(&quick, &slow); /* figures of a few say nothing */
    assert_true(slow.more_bytes < (int64_t)n_readers * (256 << 10) + (64 << 20));
    close_crowd(&c);
}

/* With little room for what is not taken: each is ended when that is full, and has what fitted, in order. */
static void who_never_reads_is_ended_at_its_limit(void **state)
{
    (void)state;
    enum { LIMIT = 512 };
    static crowd c;
    static speed beside;
    open_crowd(&c, LIMIT);
    atomic_store(&c.is_slow, true);
    c.epoll = epoll_create1(EPOLL_CLOEXEC);
    begin_readers(&c);
    run_fast(&c, &beside);
    await_running(&c.f, 0); /* every one is over, though nobody took a thing */
    assert_int_equal(pthread_create(&c.thread, NULL, read_body, &c), 0);
    end_readers(&c);
    for (int32_t i = 0; i < n_readers; i++) {
        const reader *r = &c.readers[i];
        assert_int_equal(r->status, BERTH_SLOW_CONSUMER);
        assert_int_equal(atomic_load(&r->n_ends), 1);
        assert_true(!r->out_of_order && r->n_tokens > 4 && r->n_tokens < slow_tokens());
        assert_true(r->n_bytes < LIMIT);
    }
    close_crowd(&c);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "full") == 0) {
        n_readers = MOST_READERS;
        n_fast = MOST_FAST;
        n_rounds = MOST_ROUNDS;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slow_readers_hold_up_nobody),
        cmocka_unit_test(who_never_reads_is_ended_at_its_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
