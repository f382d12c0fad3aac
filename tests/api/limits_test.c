/* limits_test.c - a process that may open few files, or start few threads: whatever step of a life that hits, it is an
 * error that says so, nothing is left over, and with the limit raised the same process gives the same answer. */
#include "fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MODEL   FIXTURE_MODELS "ivl-native"
#define PICTURE FIXTURE_MODELS "ivl-native/images/main-1.png"

enum { N_NEW = 4, GAVE_UP = 7 };

typedef struct life { /* a program's, as far as it came */
    berth_runtime *rt;
    berth_model *model;
    berth_plan *plan;
    berth_engine *engine;
    berth_queue *queue;
    berth_result result;
} life;

static berth_status live(life *l, berth_error *err)
{
    const berth_plan_options plan = {
        .struct_size = sizeof plan, .devices = "cpu*2", .strategy = "balanced", .context = 512};
    asking a;
    ask_picture(&a, PICTURE, "What is the total?", N_NEW);
    *l = (life){.result = {.struct_size = sizeof l->result}};
    berth_status st = berth_runtime_create(NULL, &l->rt, err);
    if (st == BERTH_OK) st = berth_model_open(l->rt, MODEL, NULL, &l->model, err);
    if (st == BERTH_OK) st = berth_plan_create(l->model, &plan, &l->plan, err);
    if (st == BERTH_OK) {
        st = berth_engine_create(l->plan, NULL, &l->engine, err);
        l->plan = NULL;
    }
    if (st == BERTH_OK) st = berth_queue_create(l->rt, &l->queue, err);
    if (st == BERTH_OK) st = berth_engine_run(l->engine, &a.request, &l->result, err);
    return st;
}

static void end_life(life *l)
{
    berth_result_deinit(&l->result);
    berth_engine_destroy(l->engine);
    berth_queue_destroy(l->queue);
    berth_plan_destroy(l->plan);
    berth_model_close(l->model);
    berth_runtime_destroy(l->rt);
}

/* Lives under limits that are raised one by one until one is enough; in a child, which cannot be hurt. Its exit code: the
 * lives that were refused, at most 100; 200 and more: something was wrong. */
static int lives_under(int resource, rlim_t first)
{
    struct rlimit limit;
    berth_error err = {0};
    life l;
    int n_refused = 0;
    if (getrlimit(resource, &limit) != 0) return 200;
    const rlim_t whole = limit.rlim_cur;
    for (rlim_t n = first;; n++) {
        const int32_t before = open_descriptors();
        limit.rlim_cur = n;
        if (setrlimit(resource, &limit) != 0) return 201;
        memset(&err, 0, sizeof err);
        const berth_status st = live(&l, &err);
        if (st == BERTH_OK && l.result.n_tokens != N_NEW) return 202;
        end_life(&l);
        limit.rlim_cur = whole;
        if (setrlimit(resource, &limit) != 0) return 203;
        if (open_descriptors() != before) return 204;
        if (st == BERTH_OK) return n_refused;
        if (err.status != st || err.message[0] == '\0' || err.native_code == 0 ||
            (resource == RLIMIT_NPROC && strstr(err.message, "thread \"") == NULL)) {
            fprintf(stderr, "limit %d: %s: %s\n", (int)n, berth_status_name(st), err.message);
            return 205;
        }
        if (++n_refused == 100) return 206;
        if (n_refused % 8 != 1) continue;
        if (live(&l, &err) != BERTH_OK) return 207; /* the same process, without the limit */
        end_life(&l);
    }
}

/* As a user of its own, for whom the limit on threads counts (root is not held to it): of all its processes, so that of
 * another run beside this one must be another. */
static int few_threads(void)
{
    const uid_t own = 20000 + (uid_t)(getpid() % 40000);
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(own) != 0)) return GAVE_UP;
    if (access(MODEL "/config.json", R_OK) != 0 || access(PICTURE, R_OK) != 0) return GAVE_UP;
    const struct rlimit many = {.rlim_cur = 4096, .rlim_max = 4096};
    life l;
    berth_error err = {0};
    if (setrlimit(RLIMIT_NPROC, &many) != 0 || live(&l, &err) != BERTH_OK) return GAVE_UP;
    end_life(&l);
    return 100 + lives_under(RLIMIT_NPROC, 1);
}

static int few_descriptors(void)
{
    return 100 + lives_under(RLIMIT_NOFILE, 3); /* those that every program has */
}

static int code_of_child(int (*body)(void))
{
    fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) _exit(body());
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) assert_int_equal(errno, EINTR);
    if (!WIFEXITED(status)) fail_msg("ended by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

static void few_descriptors_are_an_error(void **state)
{
    (void)state;
    const int code = code_of_child(few_descriptors);
    print_message("%d limits were too low\n", code - 100);
    assert_in_range(code, 102, 199);
}

static void few_threads_are_an_error(void **state)
{
    (void)state;
    const int code = code_of_child(few_threads);
    if (code == GAVE_UP) {
        print_message("skipped: threads cannot be limited here\n");
        skip();
    }
    print_message("%d limits were too low\n", code - 100);
    assert_in_range(code, 103, 199);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_descriptors_are_an_error),
        cmocka_unit_test(few_threads_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
