/* life_test.c - handles through whole lives: ended in any order, opened and closed many times, in the child of a fork,
 * under a storm of signals, and used from callbacks. `life_test full` makes the cycles of a campaign. */
#include "fixture.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is_full;

/* The address sanitizer keeps freed memory for a while. */
#ifdef __SANITIZE_ADDRESS__
enum { MOST_MORE = 256 << 20 };
#else
enum { MOST_MORE = 1 << 20 };
#endif

/* ---- ended in any order ---------------------------------------------------------------------------------------------- */

enum kind { RUNTIME, MODEL, PLAN, ENGINE, SESSION, QUEUE, N_KINDS };

static void make_all(void *out[N_KINDS])
{
    fixture f = fixture_open(NULL);
    berth_error err = {0};
    out[RUNTIME] = f.rt;
    out[MODEL] = f.model;
    out[ENGINE] = f.engine;
    const berth_plan_options o = {.struct_size = sizeof o, .context = 64};
    must(berth_plan_create(f.model, &o, (berth_plan **)&out[PLAN], &err), &err, "plan");
    must(berth_session_create(f.engine, (berth_session **)&out[SESSION], &err), &err, "session");
    must(berth_queue_create(f.rt, (berth_queue **)&out[QUEUE], &err), &err, "queue");
}

static void end_one(void *h, enum kind kind)
{
    switch (kind) {
    case RUNTIME: berth_runtime_destroy(h); break;
    case MODEL: berth_model_close(h); break;
    case PLAN: berth_plan_destroy(h); break;
    case ENGINE: berth_engine_destroy(h); break;
    case SESSION: berth_session_destroy(h); break;
    default: berth_queue_destroy(h); break;
    }
}

static void in_order(const int *order)
{
    void *all[N_KINDS];
    make_all(all);
    berth_error err = {0};
    asking a;
    ask(&a, "What is the total?", 100);
    must(berth_engine_submit(all[ENGINE], &a.request, all[QUEUE], NULL, NULL, &err), &err, "submit");
    a.request.session = all[SESSION];
    must(berth_engine_submit(all[ENGINE], &a.request, all[QUEUE], NULL, NULL, &err), &err, "submit");
    for (int i = 0; i < N_KINDS; i++) {
        end_one(all[order[i]], (enum kind)order[i]);
        if (i < N_KINDS - 1) end_one(all[order[i]], (enum kind)order[i]); /* twice is once, while the runtime lives */
    }
}

static int32_t permute(int *order, int n, int32_t every, int32_t count)
{
    if (n == 1) {
        if (count % every == 0) in_order(order);
        return count + 1;
    }
    for (int i = 0; i < n; i++) {
        count = permute(order, n - 1, every, count);
        const int k = n % 2 == 0 ? i : 0, swap = order[k]; /* Heap's algorithm */
        order[k] = order[n - 1];
        order[n - 1] = swap;
    }
    return count;
}

static void handles_end_in_any_order(void **state)
{
    (void)state;
    int order[N_KINDS] = {0, 1, 2, 3, 4, 5};
    assert_int_equal(permute(order, N_KINDS, is_full ? 1 : 11, 0), 720);
}

/* ---- many lives ------------------------------------------------------------------------------------------------------ */

static void runtime_life(void *unused)
{
    (void)unused;
    berth_runtime *rt = NULL;
    berth_queue *q = NULL;
    berth_error err = {0};
    must(berth_runtime_create(NULL, &rt, &err), &err, "runtime");
    must(berth_queue_create(rt, &q, &err), &err, "queue");
    berth_runtime_destroy(rt);
    berth_queue_destroy(q);
}

/* In a runtime that stays: what is ended goes through its quarantine. */
static void queue_life(void *rt)
{
    berth_queue *q = NULL;
    berth_error err = {0};
    must(berth_queue_create(rt, &q, &err), &err, "queue");
    berth_queue_destroy(q);
    assert_int_equal(berth_queue_descriptor(q), -1);
}

static void session_life(void *engine)
{
    berth_session *s = NULL;
    berth_error err = {0};
    must(berth_session_create(engine, &s, &err), &err, "session");
    berth_session_destroy(s);
}

static void plan_life(void *model)
{
    berth_plan *plan = NULL;
    berth_error err = {0};
    const berth_plan_options o = {.struct_size = sizeof o, .context = 64};
    must(berth_plan_create(model, &o, &plan, &err), &err, "plan");
    berth_plan_destroy(plan);
}

static void engine_life(void *model)
{
    static const fixture_options o = {.context = 64};
    berth_engine_destroy(fixture_engine(model, &o));
}

static void model_life(void *rt)
{
    berth_model *model = NULL;
    berth_error err = {0};
    must(berth_model_open(rt, FIXTURE_MODELS "qwen2-text", NULL, &model, &err), &err, "model");
    berth_model_close(model);
}

static void request_life(void *engine)
{
    asking a;
    ask(&a, "What is the total?", 2);
    berth_result r = run_request(engine, &a.request);
    berth_result_deinit(&r);
}

static void many_lives_take_no_memory(void **state)
{
    (void)state;
    fixture f = fixture_open(NULL);
    const struct {
        const char *name;
        void (*life)(void *arg);
        void *arg;
        int32_t n, n_full;
    } rows[] = {
        {"runtime and queue", runtime_life, NULL, 5000, 100000},
        {"queue", queue_life, f.rt, 5000, 100000},
        {"session", session_life, f.engine, 5000, 100000},
        {"plan", plan_life, f.model, 200, 10000},
        {"model", model_life, f.rt, 200, 10000},
        {"engine", engine_life, f.model, 100, 2000},
        {"request", request_life, f.engine, 500, 100000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const int32_t n = is_full ? rows[i].n_full : rows[i].n;
        /* Allocator and quarantine take what they will ever take: that holds 1,024 handles. */
        const int32_t warm_up = n / 5 > 1200 ? n / 5 : n < 1200 ? n : 1200;
        for (int32_t k = 0; k < warm_up; k++) rows[i].life(rows[i].arg);
        const int32_t descriptors = open_descriptors();
        int64_t more = MOST_MORE + 1;
        /* What lives keep they keep each time; an allocator's arena that a thread is the first to fill grows once. */
        for (int32_t round = 0; round < 4 && more > MOST_MORE; round++) {
            const int64_t bytes = resident_bytes();
            for (int32_t k = 0; k < n; k++) rows[i].life(rows[i].arg);
            more = resident_bytes() - bytes;
            print_message("%s: %d lives, %lld KiB more\n", rows[i].name, (int)n, (long long)more / 1024);
        }
        assert_int_equal(open_descriptors(), descriptors);
        if (more > MOST_MORE) fail_msg("%s: %d lives took %lld bytes", rows[i].name, (int)n, (long long)more);
    }
    fixture_close(&f);
}

/* ---- fork ------------------------------------------------------------------------------------------------------------ */

/* In the child: what it gets from every handle of its parent; 0 = refused all. */
static int child_of(void *all[N_KINDS], const asking *a)
{
    berth_error err;
    berth_result r = {.struct_size = sizeof r};
    berth_completion c = {.struct_size = sizeof c};
    berth_model *model;
    berth_plan *plan;
    int bad = berth_engine_run(all[ENGINE], &a->request, &r, &err) != BERTH_INVALID_ARGUMENT;
    bad += berth_engine_submit(all[ENGINE], &a->request, all[QUEUE], NULL, NULL, &err) != BERTH_INVALID_ARGUMENT;
    bad += berth_engine_cancel(all[ENGINE], 1, &err) != BERTH_INVALID_ARGUMENT;
    bad += berth_queue_next(all[QUEUE], 0, &c, &err) != BERTH_INVALID_ARGUMENT;
    bad += berth_model_open(all[RUNTIME], FIXTURE_MODELS "qwen2-text", NULL, &model, &err) != BERTH_INVALID_ARGUMENT;
    bad += berth_plan_create(all[MODEL], NULL, &plan, &err) != BERTH_INVALID_ARGUMENT;
    bad += berth_plan_n_devices(all[PLAN]) != 0;
    bad += berth_session_rewind(all[SESSION], 0, &err) != BERTH_INVALID_ARGUMENT;
    for (int k = 0; k < N_KINDS; k++) end_one(all[k], (enum kind)k); /* does nothing */
    berth_runtime *own = NULL;                                       /* its own it may make */
    bad += berth_runtime_create(NULL, &own, &err) != BERTH_OK;
    berth_runtime_destroy(own);
    return bad;
}

static void a_child_is_refused_and_its_parent_unharmed(void **state)
{
    (void)state;
    void *all[N_KINDS];
    make_all(all);
    berth_error err = {0};
    asking a, long_one;
    ask(&a, "What is the total?", 8);
    ask(&long_one, "What is the total?", 200);
    long_one.request.quiet = 1;
    berth_result want = run_request(all[ENGINE], &a.request);
    const int n = is_full ? 1000 : 30;
    for (int i = 0; i < n; i++) {
        must(berth_engine_submit(all[ENGINE], &long_one.request, all[QUEUE], NULL, NULL, &err), &err, "submit");
        sleep_us(i * 37 % 1000);
        const pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) _exit(child_of(all, &a));
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        berth_completion c = wait_end(all[QUEUE], 0);
        assert_int_equal(c.status, BERTH_OK);
        assert_int_equal(c.result->n_tokens, 200);
        berth_completion_deinit(&c);
    }
    berth_result r = run_request(all[ENGINE], &a.request);
    assert_string_equal(r.text, want.text);
    berth_result_deinit(&r);
    berth_result_deinit(&want);
    for (int k = 0; k < N_KINDS; k++) end_one(all[k], (enum kind)k);
}

/* ---- signals --------------------------------------------------------------------------------------------------------- */

static atomic_int n_signals;

static void count_signal(int number)
{
    (void)number;
    atomic_fetch_add(&n_signals, 1);
}

static void signals_change_nothing(void **state)
{
    (void)state;
    fixture f = fixture_open(&(fixture_options){.model = "ivl-native", .devices = "cpu*2", .strategy = "balanced"});
    berth_queue *q = NULL;
    berth_error err = {0};
    must(berth_queue_create(f.rt, &q, &err), &err, "queue");
    asking a;
    ask_picture(&a, FIXTURE_MODELS "ivl-native/images/main-0.png", "What is the total?", 24);
    berth_result want = run_request(f.engine, &a.request);
    struct sigaction before, action = {.sa_handler = count_signal}; /* no SA_RESTART */
    sigaction(SIGALRM, &action, &before);
    const struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 40 || atomic_load(&n_signals) <= 5; i++) {
        berth_result r = run_request(f.engine, &a.request);
        assert_string_equal(r.text, want.text);
        berth_result_deinit(&r);
        must(berth_engine_submit(f.engine, &a.request, q, NULL, NULL, &err), &err, "submit");
        berth_completion c = wait_end(q, 0);
        must(c.status, c.error, "end");
        assert_string_equal(c.result->text, want.text);
        berth_completion_deinit(&c);
        berth_model *model = NULL; /* reads files */
        must(berth_model_open(f.rt, FIXTURE_MODELS "ivl-native", NULL, &model, &err), &err, "model");
        berth_model_close(model);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    struct sigaction now;
    sigaction(SIGALRM, &before, &now);
    assert_true(now.sa_handler == count_signal); /* nobody took it */
    print_message("%d signals\n", atomic_load(&n_signals));
    berth_result_deinit(&want);
    berth_queue_destroy(q);
    fixture_close(&f);
}

/* ---- from callbacks -------------------------------------------------------------------------------------------------- */

typedef struct inside {
    fixture f;
    berth_queue *q;
    asking a;         /* a short one */
    atomic_int depth; /* requests still to be started from callbacks, which come on two threads */
    atomic_int n_calls, n_ends;
    char problem[256];
} inside;

static void expect(inside *in, bool ok, const char *what)
{
    if (!ok) snprintf(in->problem, sizeof in->problem, "%s", what);
}

static void end_inside(void *user, uint64_t id, berth_status st, const berth_result *r, const berth_error *why);

/* Everything that berth.h has. */
static void call_everything(inside *in)
{
    berth_error err;
    berth_engine *e = in->f.engine;
    berth_result r = {.struct_size = sizeof r};
    atomic_fetch_add(&in->n_calls, 1);
    expect(in, berth_engine_run(e, &in->a.request, &r, &err) == BERTH_BUSY, "run");
    berth_engine_destroy(e); /* does nothing here */
    expect(in, berth_engine_plan(e) != NULL, "engine_plan");
    berth_stats stats = {.struct_size = sizeof stats};
    expect(in, berth_engine_get_stats(e, &stats, &err) == BERTH_OK, "stats");
    expect(in, berth_engine_submit(e, &in->a.request, in->q, NULL, NULL, &err) == BERTH_OK, "submit");
    if (atomic_fetch_sub(&in->depth, 1) > 0)
        expect(in, berth_engine_start(e, &in->a.request, end_inside, in, NULL, &err) == BERTH_OK, "start");
    uint64_t id = 0;
    expect(in, berth_engine_submit(e, &in->a.request, in->q, NULL, &id, &err) == BERTH_OK, "submit");
    const berth_status st = berth_engine_cancel(e, id, &err);
    expect(in, st == BERTH_OK || st == BERTH_NOT_FOUND, "cancel");
    berth_queue *q = NULL;
    expect(in, berth_queue_create(in->f.rt, &q, &err) == BERTH_OK, "queue");
    expect(in, berth_engine_submit(e, &in->a.request, q, NULL, NULL, &err) == BERTH_OK, "submit");
    berth_completion c = {.struct_size = sizeof c};
    expect(in, berth_queue_next(q, 0, &c, &err) == BERTH_OK, "next");
    berth_completion_deinit(&c);
    berth_queue_destroy(q);
    berth_session *s = NULL, *t = NULL;
    expect(in, berth_session_create(e, &s, &err) == BERTH_OK, "session");
    expect(in, berth_session_fork(s, &t, &err) == BERTH_OK, "fork");
    expect(in, berth_session_rewind(s, 0, &err) == BERTH_OK, "rewind");
    berth_session_info info = {.struct_size = sizeof info};
    expect(in, berth_session_get_info(s, &info, &err) == BERTH_OK, "info");
    expect(in, berth_session_save(s, "/no/such/folder/file", &err) != BERTH_OK, "save");
    berth_session_destroy(s);
    berth_session_destroy(t);
    char *json = berth_model_json(in->f.model);
    expect(in, json != NULL, "json");
    berth_free(json);
    int32_t *ids = NULL, n;
    expect(in, berth_model_tokenize(in->f.model, "a b", 3, &ids, &n, &err) == BERTH_OK, "tokenize");
    berth_free(ids);
}

static void end_inside(void *user, uint64_t id, berth_status st, const berth_result *r, const berth_error *why)
{
    inside *in = user;
    (void)id, (void)r, (void)why;
    expect(in, st == BERTH_OK, "a request started inside");
    call_everything(in);
    atomic_fetch_add(&in->n_ends, 1);
}

static int32_t token_inside(void *user, const berth_token *token)
{
    if (token->index % 4 == 1) call_everything(user);
    return 1;
}

static void callbacks_may_call_everything(void **state)
{
    (void)state;
    static inside in;
    memset(&in, 0, sizeof in);
    in.f = fixture_open(&(fixture_options){.n_seqs = 2});
    berth_error err = {0};
    must(berth_queue_create(in.f.rt, &in.q, &err), &err, "queue");
    ask(&in.a, "What is the total?", 3);
    in.a.request.quiet = 1;
    in.depth = 10;
    asking a;
    ask(&a, "What is the total?", 12);
    a.request.on_token = token_inside;
    a.request.on_token_user = &in;
    berth_result r = run_request(in.f.engine, &a.request);
    assert_string_equal(in.problem, "");
    assert_int_equal(r.n_tokens, 12);
    must(berth_engine_start(in.f.engine, &a.request, end_inside, &in, NULL, &err), &err, "start");
    while (atomic_load(&in.n_ends) < 11) sleep_us(500);
    assert_string_equal(in.problem, "");
    assert_int_equal(atomic_load(&in.n_calls), 17);
    for (int i = 0; i < 2 * 17; i++) {
        berth_completion c = wait_end(in.q, 0);
        assert_int_equal(c.status, BERTH_OK);
        berth_completion_deinit(&c);
    }
    berth_result again = run_request(in.f.engine, &in.a.request);
    assert_memory_equal(again.token_ids, r.token_ids, 3 * sizeof(int32_t));
    berth_result_deinit(&again);
    berth_result_deinit(&r);
    berth_queue_destroy(in.q);
    fixture_close(&in.f);
}

int main(int argc, char **argv)
{
    is_full = argc > 1 && strcmp(argv[1], "full") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handles_end_in_any_order),
        cmocka_unit_test(many_lives_take_no_memory),
        cmocka_unit_test(signals_change_nothing),
        cmocka_unit_test(callbacks_may_call_everything),
        cmocka_unit_test(a_child_is_refused_and_its_parent_unharmed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
