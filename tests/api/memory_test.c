/* memory_test.c - the n-th allocation of a conversation fails, on whatever thread: requests and sessions end with a
 * status, each request ends once, and the next conversation says what it always says. */
#include "fixture.h"

#include "tests/failing.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PICTURE FIXTURE_MODELS "ivl-native/images/main-1.png"

typedef struct said { /* what the conversation should say */
    char first[512], second[512], third[512];
} said;

typedef struct stage {
    fixture *f;
    berth_queue *q;
    char path[64];
    atomic_int n_ends;
    berth_status back_status;
    char back_text[512];
} stage;

/* A status that stands for what is missing; others mean that something went on with less than it needed. */
static berth_status memory_only(berth_status st, const char *what)
{
    if (st != BERTH_OK && st != BERTH_OUT_OF_MEMORY) {
        print_message("%s: %s\n", what, berth_status_name(st));
        return BERTH_INTERNAL;
    }
    return st;
}

static berth_status by_queue(stage *s, const asking *a, char *out)
{
    uint64_t id = 0;
    berth_status st = berth_engine_submit(s->f->engine, &a->request, s->q, NULL, &id, NULL);
    for (int32_t n_ends = 0; st == BERTH_OK && n_ends == 0;) {
        berth_completion c = {.struct_size = sizeof c};
        if (berth_queue_next(s->q, -1, &c, NULL) != BERTH_OK) continue; /* no memory: it is still there */
        if (c.kind == BERTH_COMPLETION_END) {
            n_ends++;
            if (c.id != id) st = BERTH_INTERNAL;
            if (c.status != BERTH_OK) st = c.status;
            if (st == BERTH_OK) snprintf(out, 512, "%s", c.result->text);
        }
        berth_completion_deinit(&c);
    }
    return memory_only(st, "queue");
}

static void on_end(void *user, uint64_t id, berth_status st, const berth_result *r, const berth_error *why)
{
    stage *s = user;
    (void)id, (void)why;
    s->back_status = st;
    if (st == BERTH_OK) snprintf(s->back_text, sizeof s->back_text, "%s", r->text);
    atomic_fetch_add(&s->n_ends, 1);
}

static int32_t on_token(void *user, const berth_token *t)
{
    (void)user, (void)t;
    return 1;
}

static berth_status by_callback(stage *s, asking *a, char *out)
{
    a->request.on_token = on_token;
    atomic_store(&s->n_ends, 0);
    berth_status st = berth_engine_start(s->f->engine, &a->request, on_end, s, NULL, NULL);
    if (st != BERTH_OK) return memory_only(st, "start");
    while (atomic_load(&s->n_ends) == 0) sleep_us(100);
    memcpy(out, s->back_text, 512);
    return memory_only(s->back_status, "callback");
}

static berth_status by_call(stage *s, const asking *a, char *out)
{
    berth_result r = {.struct_size = sizeof r};
    const berth_status st = berth_engine_run(s->f->engine, &a->request, &r, NULL);
    if (st == BERTH_OK) snprintf(out, 512, "%s", r.text);
    berth_result_deinit(&r);
    return memory_only(st, "run");
}

/* Three turns, each asked in another way, with a save, a load and a fork between. */
static berth_status converse(stage *s, said *out)
{
    berth_session *a = NULL, *b = NULL, *c = NULL;
    asking q;
    berth_status st = memory_only(berth_session_create(s->f->engine, &a, NULL), "create");
    ask_picture(&q, PICTURE, "What is the total?", 6);
    q.request.session = a;
    if (st == BERTH_OK) st = by_queue(s, &q, out->first);
    if (st == BERTH_OK) st = memory_only(berth_session_save(a, s->path, NULL), "save");
    if (st == BERTH_OK) st = memory_only(berth_session_load(s->f->engine, s->path, &b, NULL), "load");
    ask(&q, "And the date?", 6);
    q.request.session = b;
    if (st == BERTH_OK) st = by_callback(s, &q, out->second);
    if (st == BERTH_OK) st = memory_only(berth_session_fork(b, &c, NULL), "fork");
    ask(&q, "Who sold it?", 6);
    q.request.session = c;
    if (st == BERTH_OK) st = by_call(s, &q, out->third);
    berth_session_destroy(a);
    berth_session_destroy(b);
    berth_session_destroy(c);
    return st;
}

static void every_allocation_of_a_conversation_may_fail(void **state)
{
    (void)state;
    const fixture_options o = {.model = "ivl-native", .context = 512, .n_seqs = 2};
    fixture f = fixture_open(&o);
    static stage s;
    static said want, got;
    berth_error err = {0};
    s.f = &f;
    snprintf(s.path, sizeof s.path, "/tmp/berth-session-XXXXXX");
    const int fd = mkstemp(s.path);
    assert_true(fd >= 0);
    close(fd);
    must(berth_queue_create(f.rt, &s.q, &err), &err, "queue");
    assert_int_equal(converse(&s, &want), BERTH_OK);
    int32_t n_failed = 0, n_went_on = 0;
    for (int64_t n = 0;; n++) {
        memset(&got, 0, sizeof got);
        faults.n_calls = 0;
        faults.fail_at = (long)n + 1;
        const berth_status st = converse(&s, &got);
        faults.fail_at = 0;
        if (st != BERTH_OK && st != BERTH_OUT_OF_MEMORY) fail_msg("allocation %lld", (long long)n);
        if (st == BERTH_OK) assert_memory_equal(&got, &want, sizeof want);
        if (faults.n_calls <= n) break;
        n_failed += st != BERTH_OK;
        n_went_on += st == BERTH_OK;
        if (n % 16 == 0) {
            assert_int_equal(converse(&s, &got), BERTH_OK);
            assert_memory_equal(&got, &want, sizeof want);
        }
    }
    print_message("%d allocations failed a conversation, %d did not matter\n", (int)n_failed, (int)n_went_on);
    assert_true(n_failed > 100);
    const berth_stats stats = stats_of(&f);
    assert_int_equal(stats.n_sessions, 0);
    assert_int_equal(stats.n_waiting, 0);
    unlink(s.path);
    berth_queue_destroy(s.q);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_of_a_conversation_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
