/* unload_test.c - libberth.so as a plug-in of somebody else's program: loaded, used, unloaded and loaded again, and two
 * copies of it at once. Nothing of it stays behind: no thread, no mapping, no signal handler, no descriptor. */
#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "berth/berth.h"

#define MODEL BERTH_SOURCE_DIR "/tests/golden/models/ivl-native"

enum { N_NEW = 12 };

/* The functions of one loaded library. */
#define FUNCTIONS(X)                                                                                                   \
    X(berth_runtime_create)                                                                                            \
    X(berth_runtime_destroy)                                                                                           \
    X(berth_model_open)                                                                                                \
    X(berth_model_close)                                                                                               \
    X(berth_plan_create)                                                                                               \
    X(berth_engine_create)                                                                                             \
    X(berth_engine_destroy)                                                                                            \
    X(berth_request_init)                                                                                              \
    X(berth_engine_run) X(berth_result_deinit) X(berth_engine_submit) X(berth_queue_create) X(berth_queue_destroy)

#define POINTER(name) __typeof__(&name) name;
typedef struct library {
    void *handle;
    FUNCTIONS(POINTER)
} library;

static library load(const char *path)
{
    library l = {.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL)};
    if (l.handle == NULL) fail_msg("%s", dlerror());
#define FIND(name)                                                                                                     \
    {                                                                                                                  \
        void *at = dlsym(l.handle, #name);                                                                             \
        if (at == NULL) fail_msg("%s has no %s", path, #name);                                                         \
        memcpy(&l.name, &at, sizeof at);                                                                               \
    }
    FUNCTIONS(FIND)
    return l;
}

static void must(berth_status st, const berth_error *err)
{
    if (st != BERTH_OK) fail_msg("%s", err->message);
}

typedef struct host { /* what a program has of berth */
    berth_runtime *rt;
    berth_model *model;
    berth_engine *engine;
    berth_queue *queue;
} host;

static host open_host(const library *l, int strict)
{
    host h = {0};
    berth_error err = {0};
    berth_plan *plan = NULL;
    const berth_plan_options options = {
        .struct_size = sizeof options, .devices = "cpu*2", .strategy = "balanced", .context = 1024};
    const berth_engine_options engine = {.struct_size = sizeof engine, .strict = strict};
    must(l->berth_runtime_create(NULL, &h.rt, &err), &err);
    must(l->berth_model_open(h.rt, MODEL, NULL, &h.model, &err), &err);
    must(l->berth_plan_create(h.model, &options, &plan, &err), &err);
    must(l->berth_engine_create(plan, &engine, &h.engine, &err), &err);
    must(l->berth_queue_create(h.rt, &h.queue, &err), &err);
    return h;
}

static void close_host(const library *l, host *h)
{
    l->berth_engine_destroy(h->engine);
    l->berth_queue_destroy(h->queue);
    l->berth_model_close(h->model);
    l->berth_runtime_destroy(h->rt);
}

/* Tokens of an answer; `lasting` leaves a long one under way besides. */
static void ask(const library *l, const host *h, bool lasting, int32_t out[N_NEW])
{
    const berth_content content[] = {
        {.kind = BERTH_CONTENT_IMAGE_FILE, .data = MODEL "/images/main-0.png"},
        {.kind = BERTH_CONTENT_TEXT, .data = "What is the total?", .size = strlen("What is the total?")}};
    const berth_turn turn = {.role = "user", .content = content, .n_content = 2};
    berth_request r;
    berth_result result = {.struct_size = sizeof result};
    berth_error err = {0};
    l->berth_request_init(&r);
    r.turns = &turn;
    r.n_turns = 1;
    r.max_new_tokens = 600;
    r.ignore_stop = 1;
    if (lasting) must(l->berth_engine_submit(h->engine, &r, h->queue, NULL, NULL, &err), &err);
    r.max_new_tokens = N_NEW;
    must(l->berth_engine_run(h->engine, &r, &result, &err), &err);
    assert_int_equal(result.n_tokens, N_NEW);
    memcpy(out, result.token_ids, N_NEW * sizeof *out);
    l->berth_result_deinit(&result);
}

static int entries(const char *folder)
{
    DIR *d = opendir(folder);
    int n = 0;
    assert_non_null(d);
    while (readdir(d) != NULL) n++;
    closedir(d);
    return n;
}

/* A thread that was joined is in /proc for a while yet: waits until no more than `most` are, and gives their number. */
static int await_threads(int most)
{
    for (int64_t i = 1;; i++) {
        const int n = entries("/proc/self/task");
        if (n <= most) return n;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        if (i % 10000 == 0) print_message("%d threads are there still, not %d\n", n, most);
    }
}

static bool is_mapped(const char *path)
{
    char line[1024];
    bool found = false;
    FILE *f = fopen("/proc/self/maps", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) found = found || strstr(line, path) != NULL;
    fclose(f);
    return found;
}

static void it_is_unloaded_without_a_trace(void **state)
{
    (void)state;
    int32_t first[N_NEW], tokens[N_NEW];
    struct sigaction before, after;
    assert_int_equal(sigaction(SIGSEGV, NULL, &before), 0);
    int n_threads = 0, n_descriptors = 0;
    for (int i = 0; i < 12; i++) {
        library l = load(BERTH_LIBRARY);
        host h = open_host(&l, i % 4 == 3);
        ask(&l, &h, i % 2 == 1, i == 0 ? first : tokens);
        close_host(&l, &h);
        assert_int_equal(dlclose(l.handle), 0);
        if (i == 0) {                               /* what the libraries behind it took for good, they have taken */
            n_threads = entries("/proc/self/task"); /* and perhaps some that are about to go */
            n_descriptors = entries("/proc/self/fd");
            continue;
        }
        assert_memory_equal(tokens, first, sizeof first);
        assert_false(is_mapped(BERTH_LIBRARY));
        n_threads = await_threads(n_threads);
        assert_int_equal(entries("/proc/self/fd"), n_descriptors);
        assert_int_equal(sigaction(SIGSEGV, NULL, &after), 0);
        assert_true(after.sa_handler == before.sa_handler);
    }
}

static void copy_file(const char *from, const char *to)
{
    char bytes[65536];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_true(in != NULL && out != NULL);
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, in)) > 0;) assert_int_equal(fwrite(bytes, 1, n, out), n);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

typedef struct user {
    const library *of;
    const host *host;
    int32_t tokens[8][N_NEW];
} user;

static void *use(void *arg)
{
    user *u = arg;
    for (int i = 0; i < 8; i++) ask(u->of, u->host, i == 3, u->tokens[i]);
    return NULL;
}

static void two_copies_know_nothing_of_each_other(void **state)
{
    (void)state;
    char folder[] = "/tmp/berth-copy-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/libother.so", folder);
    copy_file(BERTH_LIBRARY, path);
    library a = load(BERTH_LIBRARY), b = load(path);
    assert_true(a.berth_engine_run != b.berth_engine_run);
    host first = open_host(&a, 0), second = open_host(&b, 0), third = open_host(&b, 1);
    static user users[3];
    users[0] = (user){.of = &a, .host = &first};
    users[1] = (user){.of = &b, .host = &second};
    users[2] = (user){.of = &b, .host = &third};
    pthread_t running[3];
    for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&running[i], NULL, use, &users[i]), 0);
    for (int i = 0; i < 3; i++) pthread_join(running[i], NULL);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 8; k++)
            assert_memory_equal(users[i].tokens[k], users[0].tokens[0], sizeof users[0].tokens[0]);
    close_host(&a, &first);
    assert_int_equal(dlclose(a.handle), 0); /* the other goes on */
    use(&users[1]);
    for (int k = 0; k < 8; k++) assert_memory_equal(users[1].tokens[k], users[0].tokens[0], sizeof users[0].tokens[0]);
    close_host(&b, &second);
    close_host(&b, &third);
    assert_int_equal(dlclose(b.handle), 0);
    assert_false(is_mapped(path));
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_unloaded_without_a_trace),
        cmocka_unit_test(two_copies_know_nothing_of_each_other),
    };
    return cmocka_run_group_tests_name("unload", tests, NULL, NULL);
}
