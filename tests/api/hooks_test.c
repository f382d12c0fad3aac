/* hooks_test.c - what a program around berth gives and wants to know: memory, threads, messages; and two runtimes that
 * know nothing of each other. */
#include "fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_THREADS = 64 };

typedef struct host {
    atomic_llong bytes;
    atomic_int n_taken, n_given_back;
    int fail_from; /* the first allocation that fails; -1 = none */
    size_t offset; /* of what is given, from a page */
    pthread_mutex_t lock;
    char names[MOST_THREADS][32];
    pthread_t threads[MOST_THREADS];
    int32_t n_begun, n_ended;
    atomic_int n_messages;
} host;

static void *allocate(void *user, size_t size)
{
    host *h = user;
    if (h->fail_from >= 0 && atomic_load(&h->n_taken) >= h->fail_from) return NULL;
    char *p = aligned_alloc(4096, size + 4096);
    if (p == NULL) return NULL;
    memset(p, 0xa5, size + 4096); /* what is there is nobody's to rely on */
    atomic_fetch_add(&h->bytes, (long long)size);
    atomic_fetch_add(&h->n_taken, 1);
    return p + h->offset;
}

static void release(void *user, void *memory, size_t size)
{
    host *h = user;
    atomic_fetch_sub(&h->bytes, (long long)size);
    atomic_fetch_add(&h->n_given_back, 1);
    free((char *)memory - h->offset);
}

static void begin(void *user, const char *name)
{
    host *h = user;
    pthread_mutex_lock(&h->lock);
    assert_true(h->n_begun < MOST_THREADS);
    snprintf(h->names[h->n_begun], sizeof h->names[0], "%s", name);
    h->threads[h->n_begun++] = pthread_self();
    pthread_mutex_unlock(&h->lock);
}

static void end(void *user, const char *name)
{
    host *h = user;
    bool found = false;
    pthread_mutex_lock(&h->lock);
    for (int32_t i = 0; i < h->n_begun; i++)
        found = found || (pthread_equal(h->threads[i], pthread_self()) && strcmp(h->names[i], name) == 0);
    h->n_ended += found;
    pthread_mutex_unlock(&h->lock);
}

static void log_message(void *user, berth_log_level level, const char *message)
{
    host *h = user;
    (void)level;
    assert_true(strlen(message) > 0);
    atomic_fetch_add(&h->n_messages, 1);
}

static berth_runtime *runtime_of(host *h, bool memory, bool threads)
{
    memset(h, 0, sizeof *h);
    h->fail_from = -1;
    pthread_mutex_init(&h->lock, NULL);
    berth_runtime_options o = {.struct_size = sizeof o, .log = log_message, .log_user = h};
    if (memory) o.allocate = allocate, o.release = release, o.memory_user = h;
    if (threads) o.thread_begin = begin, o.thread_end = end, o.thread_user = h;
    berth_runtime *rt = NULL;
    berth_error err = {0};
    must(berth_runtime_create(&o, &rt, &err), &err, "runtime");
    return rt;
}

static fixture open_on(berth_runtime *rt, const char *devices)
{
    fixture f = {.rt = rt};
    berth_error err = {0};
    must(berth_model_open(rt, FIXTURE_MODELS "ivl-native", NULL, &f.model, &err), &err, "model");
    const fixture_options o = {.model = "ivl-native", .devices = devices, .strategy = "balanced"};
    f.engine = fixture_engine(f.model, &o);
    return f;
}

static bool has_thread(const host *h, const char *name)
{
    for (int32_t i = 0; i < h->n_begun; i++)
        if (strcmp(h->names[i], name) == 0) return true;
    return false;
}

static void arenas_come_from_the_program(void **state)
{
    (void)state;
    static host h;
    fixture plain = fixture_open(&(fixture_options){.model = "ivl-native"});
    asking a;
    ask_picture(&a, FIXTURE_MODELS "ivl-native/images/main-1.png", "What is the total?", 12);
    berth_result want = run_request(plain.engine, &a.request);
    fixture_close(&plain);
    fixture f = open_on(runtime_of(&h, true, false), "cpu*2");
    assert_int_equal(atomic_load(&h.n_taken), 2);
    uint64_t planned = 0;
    for (int32_t d = 0; d < 2; d++) {
        berth_plan_device device = {.struct_size = sizeof device};
        berth_error err = {0};
        must(berth_plan_get_device(berth_engine_plan(f.engine), d, &device, &err), &err, "device");
        planned += device.kv + device.features + device.activations + device.workspace;
    }
    assert_true((uint64_t)atomic_load(&h.bytes) >= planned);
    berth_result r = run_request(f.engine, &a.request);
    assert_int_equal(r.n_tokens, want.n_tokens);
    assert_memory_equal(r.token_ids, want.token_ids, (size_t)r.n_tokens * sizeof(int32_t));
    berth_result_deinit(&r);
    berth_result_deinit(&want);
    fixture_close(&f);
    assert_int_equal(atomic_load(&h.n_given_back), 2);
    assert_int_equal(atomic_load(&h.bytes), 0);
}

static berth_status engine_status(berth_runtime *rt, const char *devices, berth_error *err)
{
    berth_model *model = NULL;
    berth_plan *plan = NULL;
    berth_engine *engine = NULL;
    must(berth_model_open(rt, FIXTURE_MODELS "ivl-native", NULL, &model, err), err, "model");
    const berth_plan_options o = {.struct_size = sizeof o, .devices = devices, .strategy = "balanced", .context = 256};
    must(berth_plan_create(model, &o, &plan, err), err, "plan");
    const berth_status st = berth_engine_create(plan, NULL, &engine, err);
    berth_engine_destroy(engine);
    berth_model_close(model);
    return st;
}

static void memory_that_is_not_there_or_crooked_is_an_error(void **state)
{
    (void)state;
    static host h;
    berth_error err = {0};
    berth_runtime *rt = runtime_of(&h, true, false);
    for (int n = 0; n < 3; n++) {
        atomic_store(&h.n_taken, 0);
        atomic_store(&h.n_given_back, 0);
        h.fail_from = n;
        assert_int_equal(engine_status(rt, "cpu*3", &err), BERTH_OUT_OF_MEMORY);
        assert_int_equal(atomic_load(&h.n_given_back), n);
    }
    h.fail_from = -1;
    h.offset = 64;
    assert_int_equal(engine_status(rt, "cpu", &err), BERTH_INVALID_ARGUMENT);
    assert_int_equal(atomic_load(&h.bytes), 0);
    berth_runtime_destroy(rt);
    berth_runtime_options half = {.struct_size = sizeof half, .allocate = allocate};
    assert_int_equal(berth_runtime_create(&half, &rt, &err), BERTH_INVALID_ARGUMENT);
    assert_null(rt);
}

static void every_thread_is_told_and_ends(void **state)
{
    (void)state;
    static host h;
    berth_runtime *rt = runtime_of(&h, false, true);
    fixture f = open_on(rt, "cpu*2");
    asking a;
    ask(&a, "What is the total?", 4);
    berth_result r = run_request(f.engine, &a.request);
    berth_result_deinit(&r);
    fixture_close(&f);
    static const char *const names[] = {"lane cpu:0", "lane cpu:1", "loop 0",  "host 0",
                                        "host 1",     "deadlines",  "delivery"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!has_thread(&h, names[i])) fail_msg("no thread \"%s\" was told", names[i]);
    assert_int_equal(h.n_ended, h.n_begun);
}

/* Each speaks to its own program only, and the end of one is nothing to the other. */
static void two_runtimes_know_nothing_of_each_other(void **state)
{
    (void)state;
    static host one, two;
    fixture f = open_on(runtime_of(&one, true, true), "cpu"), g = open_on(runtime_of(&two, true, true), "cpu*2");
    asking a;
    ask(&a, "What is the total?", 6);
    berth_result r = run_request(f.engine, &a.request), s = run_request(g.engine, &a.request);
    assert_string_equal(r.text, s.text);
    berth_queue *q = NULL;
    berth_error err = {0};
    must(berth_queue_create(f.rt, &q, &err), &err, "queue");
    assert_int_equal(berth_engine_submit(g.engine, &a.request, q, NULL, NULL, &err), BERTH_INVALID_ARGUMENT);
    berth_queue_destroy(q);
    fixture_close(&f);
    assert_int_equal(one.n_ended, one.n_begun);
    assert_int_equal(two.n_ended, 0);
    berth_result_deinit(&s);
    s = run_request(g.engine, &a.request);
    assert_string_equal(r.text, s.text);
    berth_result_deinit(&r);
    berth_result_deinit(&s);
    fixture_close(&g);
    assert_int_equal(two.n_ended, two.n_begun);
    assert_int_equal(atomic_load(&two.bytes), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arenas_come_from_the_program),
        cmocka_unit_test(memory_that_is_not_there_or_crooked_is_an_error),
        cmocka_unit_test(every_thread_is_told_and_ends),
        cmocka_unit_test(two_runtimes_know_nothing_of_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
