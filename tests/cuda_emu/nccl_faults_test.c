/* nccl_faults_test.c - what goes wrong inside NCCL: every call fails once with each code, exchanges fail later, hang,
 * or lie; GPUs die meanwhile. The status says so, the group is lost and says why, nothing is left behind, and the
 * GPUs that live go on. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "nccl_chain.h"
#include "tests/failing.h"

static emu_control emulator;
static nccl_control nccl;
static void *image;

static void reset(const char *driver, const char *of_nccl)
{
    char config[160];
    snprintf(config, sizeof config, "mem=1MiB;%s", driver);
    emulator.reset(config);
    nccl.reset(of_nccl);
}

static chain_outcome run(const chain_options *o, const char *driver, const char *of_nccl)
{
    char config[160];
    snprintf(config, sizeof config, "mem=1MiB;%s", driver);
    const chain_outcome out = chain_try(&emulator, &nccl, o, config, of_nccl);
    if (out.driver.misuses) fail_msg("%s, %s: misuse: %s", driver, of_nccl, out.driver.misuse);
    return out;
}

/* The time-out says how soon the watching thread looks, and how long a test waits for what will not come. What does come
 * is not late on a busy machine: it is seen to be under way 32 times before that, and each time the emulated GPUs, being
 * asked, do a piece or two of what is queued, some sixty in the whole of a run. */
static chain_options two_gpus(void)
{
    return (chain_options){.n_gpus = 2, .n_batches = 2, .sum = true, .image = image, .timeout_ns = 40000000};
}

/* ---- each call ------------------------------------------------------------------------------------------------------- */

/* How many calls there are depends on how often the watching thread looks, and that on the machine: so each run says whether
 * its call came, and the first number that does not come ends it. */
typedef struct tally {
    int n_came, n_failed;
} tally;

static bool count(tally *t, const chain_outcome *got, int32_t came)
{
    assert_in_range(came, 0, 1);
    if (got->status != BERTH_OK && !came) fail_msg("nothing failed, and yet: %s", got->error.message);
    t->n_came += came;
    t->n_failed += got->status != BERTH_OK;
    return came > 0;
}

static void each_nccl_call_may_fail(void **state)
{
    (void)state;
    const chain_options o = two_gpus();
    tally t = {0};
    bool any = true;
    for (int call = 1; any; call++) {
        any = false;
        for (int code = 1; code <= 6; code++) {
            char config[64];
            snprintf(config, sizeof config, "progress=1;fail=%d:%d", call, code);
            const chain_outcome got = run(&o, "gpus=2", config);
            any |= count(&t, &got, got.nccl.n_failed);
            if (got.status == BERTH_OK) { /* it failed while things were given back, or not at all */
                assert_true(got.right);
                continue;
            }
            if (got.status != BERTH_DEVICE_ERROR || got.error.native_code != code ||
                strcmp(got.error.native_api, "nccl") != 0 || !strstr(got.error.message, "told to fail"))
                fail_msg("%s: status %d: %s", config, (int)got.status, got.error.message);
        }
    }
    assert_true(t.n_came > 60 * 6 && t.n_failed > t.n_came / 2);
    print_message("%d calls failed with 6 codes: %d failures seen\n", t.n_came, t.n_failed);
}

/* The driver fails, inside NCCL's calls too. */
static void each_driver_call_may_fail(void **state)
{
    (void)state;
    const chain_options o = two_gpus();
    tally t = {0};
    bool any = true;
    for (int call = 1; any; call++) {
        any = false;
        for (int i = 0; i < N_FAULT_CODES; i++) {
            char config[64];
            snprintf(config, sizeof config, "gpus=2;fail=%d:%d", call, fault_codes[i].code);
            const chain_outcome got = run(&o, config, "progress=0");
            any |= count(&t, &got, got.driver.n_failed);
            if (got.status == BERTH_OK && !got.right) fail_msg("%s: wrong data", config);
            if (got.status != BERTH_OK && (!got.error.native_api || strlen(got.error.message) < 20))
                fail_msg("%s: status %d: %s", config, (int)got.status, got.error.message);
        }
    }
    assert_true(t.n_came > 200 * 7 && t.n_failed > t.n_came / 7 * 4);
    print_message("%d calls failed with 7 codes: %d failures seen\n", t.n_came, t.n_failed);
}

/* ---- exchanges ------------------------------------------------------------------------------------------------------- */

/* Which exchange: 1 and 2 connect the edge and the sum, 3 and 4 are the batches, 5 is the sum. */
enum { N_EXCHANGES = 5 };

static void an_exchange_may_fail_later(void **state)
{
    (void)state;
    const chain_options o = two_gpus();
    for (int which = 1; which <= N_EXCHANGES; which++) {
        for (int code = 1; code <= 6; code++) {
            char config[64];
            snprintf(config, sizeof config, "async=%d:%d", which, code);
            const chain_outcome got = run(&o, "gpus=2", config);
            if (got.status == BERTH_OK && got.right)
                fail_msg("%s is not seen, and the data is said to be right", config);
            if (got.status != BERTH_OK) {
                assert_int_equal(got.status, BERTH_DEVICE_ERROR);
                assert_int_equal(got.error.native_code, code);
                assert_string_equal(got.error.native_api, "nccl");
            }
        }
    }
}

static void what_hangs_is_aborted(void **state)
{
    (void)state;
    chain_options o = two_gpus();
    for (int which = 1; which <= N_EXCHANGES; which++) {
        for (int threads = 0; threads < 2; threads++) {
            char config[64];
            snprintf(config, sizeof config, "hang=%d", which);
            o.threads = threads;
            const chain_outcome got = run(&o, "gpus=2", config);
            assert_int_equal(got.status, BERTH_DEVICE_ERROR);
            assert_string_equal(got.error.native_api, "nccl");
            assert_true(got.nccl.aborted > 0);
            if (!strstr(got.error.message, "was not over") || !strstr(got.error.message, " ms") ||
                !strstr(got.error.message, "cuda:0") || !strstr(got.error.message, "cuda:1") ||
                !strstr(got.error.message, which == 3 || which == 4 ? "copy of 256 bytes" : " bytes"))
                fail_msg("%s: %s", config, got.error.message);
        }
    }
}

/* Three GPUs: the edge from 1 to 2 hangs. GPU 0 and what it computes are as they were, and so is the whole program. */
static void gpus_outlive_their_group(void **state)
{
    (void)state;
    chain_options o = {.n_gpus = 3, .n_batches = 1, .image = image, .timeout_ns = 40000000};
    berth_cuda *cuda = NULL;
    berth_error err = {0};
    bool right;
    reset("gpus=3", "hang=4");
    assert_int_equal(berth_cuda_open(NULL, &cuda, NULL), BERTH_OK);
    assert_int_equal(chain_run(cuda, &o, &right, &err), BERTH_DEVICE_ERROR);
    assert_non_null(strstr(err.message, "cuda:1 to cuda:2"));
    nccl.reset("");
    memset(&err, 0, sizeof err);
    if (chain_run(cuda, &o, &right, &err) != BERTH_OK) fail_msg("%s", err.message);
    assert_true(right);
    berth_cuda_close(cuda);
}

static void communicators_that_never_stand_are_given_up(void **state)
{
    (void)state;
    chain_options o = two_gpus();
    o.timeout_ns = 5000000;
    const chain_outcome got = run(&o, "gpus=2", "absent=1");
    assert_int_equal(got.status, BERTH_DEVICE_ERROR);
    assert_non_null(strstr(got.error.message, "making the communicators"));
    assert_non_null(strstr(got.error.message, "NCCL_SOCKET_IFNAME"));
    assert_int_equal(got.nccl.aborted, 2);
}

/* ---- one group by hand ----------------------------------------------------------------------------------------------- */

enum { ROOM = 256 << 10 };

typedef struct pair {
    berth_cuda *cuda;
    berth_gpu *gpus[2];
    berth_gpu_ptr at[2];
    berth_gpu_stream *s;
    berth_gpu_group *group;
} pair;

static void ok(berth_status st, const berth_error *err)
{
    if (st != BERTH_OK) fail_msg("%s", err->message);
}

static void open_gpus(pair *p, int second)
{
    berth_error err = {0};
    ok(berth_cuda_open(NULL, &p->cuda, &err), &err);
    for (int i = 0; i < 2; i++) {
        ok(berth_gpu_open(p->cuda, i == 0 ? 0 : second, ROOM, &p->gpus[i], &err), &err);
        ok(berth_gpu_take(p->gpus[i], ROOM, &p->at[i], &err), &err);
    }
    ok(berth_gpu_stream_create(p->gpus[1], &p->s, &err), &err);
}

static berth_status open_group(pair *p, int64_t timeout_ns, berth_error *err)
{
    const berth_gpu_edge edge = {0, 1};
    return berth_gpu_group_create(
        p->gpus, 2, &edge, 1, &(berth_gpu_group_options){.timeout_ns = timeout_ns, .proof_bytes = 128}, &p->group, err);
}

static void close_pair(pair *p)
{
    berth_gpu_group_destroy(p->group);
    berth_gpu_stream_destroy(p->s);
    for (int i = 0; i < 2; i++) berth_gpu_close(p->gpus[i]);
    berth_cuda_close(p->cuda);
    emu_control_tidy(&emulator, "a pair of GPUs");
}

/* From its making on: exchange 3 is the proof's last size. */
static void no_group_is_made_over_a_link_that_lies(void **state)
{
    (void)state;
    pair p = {0};
    berth_error err = {0};
    const berth_gpu_edge edge = {0, 1};
    reset("gpus=2;mem=8MiB", "lie=3:3");
    open_gpus(&p, 1);
    assert_int_equal(berth_gpu_group_create(p.gpus, 2, &edge, 1, NULL, &p.group, &err), BERTH_MISMATCH);
    assert_non_null(strstr(err.message, "NCCL's copies from cuda:0 to cuda:1 lie: of 262144 bytes 1 are wrong"));
    assert_null(p.group);
    close_pair(&p);
}

static void a_link_that_lies_is_proven_so(void **state)
{
    (void)state;
    static const char *const words[] = {"", "zeros arrived", "nothing arrived", "other bytes arrived"};
    for (int how = 0; how < 4; how++) {
        char config[32];
        pair p = {0};
        berth_error err = {0};
        snprintf(config, sizeof config, "lie=4:%d", how); /* 1 connects; 2, 3, 4 are the proof's sizes */
        reset("gpus=2", config);
        open_gpus(&p, 1);
        ok(open_group(&p, 0, &err), &err);
        const berth_status st = berth_gpu_group_prove(p.group, 0, p.at[0], 1, p.at[1], ROOM, &err);
        assert_int_equal(st, how ? BERTH_MISMATCH : BERTH_OK);
        if (how && (!strstr(err.message, words[how]) || !strstr(err.message, "NCCL's copies from cuda:0 to cuda:1")))
            fail_msg("%s", err.message);
        const berth_gpu_edge_stats stats = berth_gpu_group_stats(p.group, 0, 1);
        assert_int_equal(stats.n_copies, 4);
        assert_int_equal(stats.bytes, 128 + (4 << 10) + (64 << 10) + ROOM);
        assert_int_equal(berth_gpu_group_prove(p.group, 1, p.at[1], 0, p.at[0], ROOM, &err), BERTH_INVALID_ARGUMENT);
        close_pair(&p);
    }
}

/* One stream goes on after another thread aborted; calls after that take no driver call. */
static void *abort_it(void *arg)
{
    berth_gpu_group_abort(arg);
    return NULL;
}

static void an_aborted_group_says_so_for_ever(void **state)
{
    (void)state;
    pair p = {0};
    berth_error err = {0};
    pthread_t thread;
    emu_report before, after;
    reset("gpus=2", "hang=2");
    open_gpus(&p, 1);
    ok(open_group(&p, 0, &err), &err);
    ok(berth_gpu_group_state(p.group, &err), &err);
    ok(berth_gpu_group_copy(p.group, 0, p.at[0], 1, p.at[1], 64, p.s, &err), &err);
    assert_int_equal(pthread_create(&thread, NULL, abort_it, p.group), 0);
    ok(berth_gpu_stream_wait(p.s, &err), &err); /* it ends, and the state says that what arrived is void */
    pthread_join(thread, NULL);
    emulator.report(&before);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(berth_gpu_group_state(p.group, &err), BERTH_CANCELLED);
        assert_int_equal(berth_gpu_group_copy(p.group, 0, p.at[0], 1, p.at[1], 64, p.s, &err), BERTH_CANCELLED);
        berth_gpu_group_abort(p.group);
    }
    assert_non_null(strstr(err.message, "on request"));
    emulator.report(&after);
    assert_int_equal(before.calls, after.calls);
    close_pair(&p);
}

/* When nothing is under way the watching thread asks nothing: its looks are calls of the driver, every millisecond here. */
static void an_idle_group_sleeps(void **state)
{
    (void)state;
    pair p = {0};
    berth_error err = {0};
    emu_report before, after = {0};
    reset("gpus=2", "");
    open_gpus(&p, 1);
    ok(open_group(&p, 30000000, &err), &err);
    ok(berth_gpu_group_copy(p.group, 0, p.at[0], 1, p.at[1], 64, p.s, &err), &err);
    ok(berth_gpu_stream_wait(p.s, &err), &err);
    do {
        emulator.report(&before);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        emulator.report(&after);
    } while (before.calls != after.calls);
    close_pair(&p);
}

static void kill_gpu(berth_gpu *gpu)
{
    berth_error err = {0};
    berth_gpu_module *m = NULL;
    berth_gpu_kernel trap;
    berth_gpu_stream *dying = NULL;
    int32_t code = 719;
    void *params[] = {&code};
    ok(berth_gpu_stream_create(gpu, &dying, &err), &err);
    ok(berth_gpu_module_load(gpu, image, &m, &err), &err);
    ok(berth_gpu_kernel_find(m, "trap", 0, &trap, &err), &err);
    ok(berth_gpu_launch(dying, &trap, &(berth_gpu_grid){{1}, {1}, 0}, params, &err), &err);
    assert_int_equal(berth_gpu_stream_wait(dying, &err), BERTH_DEVICE_LOST);
    berth_gpu_stream_destroy(dying);
    berth_gpu_module_unload(m);
}

/* A GPU dies while a copy from it is under way: the receiver's stream is freed, with the GPU's error. */
static void a_dead_gpu_takes_its_group_with_it(void **state)
{
    (void)state;
    pair p = {0};
    berth_error err = {0};
    reset("gpus=2", "");
    open_gpus(&p, 1);
    ok(open_group(&p, 60000000, &err), &err);
    ok(berth_gpu_group_copy(p.group, 0, p.at[0], 1, p.at[1], 64, p.s, &err), &err);
    kill_gpu(p.gpus[0]);
    ok(berth_gpu_stream_wait(p.s, &err), &err); /* the copy was over before, or is aborted */
    const berth_status later = berth_gpu_group_copy(p.group, 0, p.at[0], 1, p.at[1], 64, p.s, &err);
    assert_int_equal(later, BERTH_DEVICE_LOST);
    assert_int_equal(err.device, 0);
    close_pair(&p);
}

/* With a copy under way that a GPU took with it, and with none: the end waits for nobody, least of all for a deadline of an
 * hour. */
static void a_group_with_a_dead_gpu_ends_at_once(void **state)
{
    (void)state;
    for (int which = 0; which < 4; which++) {
        pair p = {0};
        berth_error err = {0};
        reset("gpus=2", "hang=2");
        open_gpus(&p, 1);
        ok(open_group(&p, 3600000000000, &err), &err);
        if (which < 2) ok(berth_gpu_group_copy(p.group, 0, p.at[0], 1, p.at[1], 64, p.s, &err), &err);
        kill_gpu(p.gpus[which % 2]);
        close_pair(&p);
    }
}

/* ---- what cannot be -------------------------------------------------------------------------------------------------- */

static void check_line(berth_status st, berth_status want, const berth_error *err, const char *words)
{
    if (st != want || !strstr(err->message, words) || strchr(err->message, '\n'))
        fail_msg("status %d: %s", (int)st, err->message);
}

static void what_nccl_cannot_is_one_line(void **state)
{
    (void)state;
    pair p = {0};
    berth_error err = {0};
    const berth_gpu_edge edge = {0, 1};
    reset("gpus=2", "version=21703");
    open_gpus(&p, 1);
    check_line(open_group(&p, 0, &err), BERTH_UNSUPPORTED, &err, "21703, and 21800 (2.18) is needed");
    nccl.reset("");
    static const struct {
        const char *path;
        berth_status status;
        const char *words;
    } libraries[] = {{"no/such/libnccl.so.2", BERTH_NOT_FOUND, "NCCL was to be no/such/libnccl.so.2"},
                     {EMU_LIBRARY, BERTH_UNSUPPORTED, "NCCL has no function nccl"},
                     {TEST_KERNELS ".not", BERTH_NOT_FOUND, "NCCL was to be"}};
    for (size_t i = 0; i < sizeof libraries / sizeof libraries[0]; i++) {
        const berth_gpu_group_options o = {.nccl = libraries[i].path};
        check_line(berth_gpu_group_create(p.gpus, 2, &edge, 1, &o, &p.group, &err), libraries[i].status, &err,
                   libraries[i].words);
        assert_null(p.group);
        check_line(berth_gpu_group_can(p.gpus[0], p.gpus[1], o.nccl, &err), libraries[i].status, &err,
                   libraries[i].words);
    }
    ok(berth_gpu_group_can(p.gpus[0], p.gpus[1], NULL, &err), &err);
    close_pair(&p);
}

/* Two logical devices on one GPU. */
static void a_gpu_may_be_two_ranks_from_2_30_on(void **state)
{
    (void)state;
    for (int multi = 0; multi < 2; multi++) {
        for (int version = 22809; version <= 23003; version += 194) {
            pair p = {0};
            berth_error err = {0};
            char config[32];
            snprintf(config, sizeof config, "version=%d", version);
            reset("gpus=1", config);
            if (multi)
                setenv("NCCL_MULTI_RANK_GPU_ENABLE", "1", 1);
            else
                unsetenv("NCCL_MULTI_RANK_GPU_ENABLE");
            open_gpus(&p, 0);
            const berth_status can = berth_gpu_group_can(p.gpus[0], p.gpus[1], NULL, &err);
            if (version < 23000)
                check_line(can, BERTH_UNSUPPORTED, &err, "cannot use NCCL 2.28.9, which takes each GPU once");
            else if (!multi)
                check_line(can, BERTH_UNSUPPORTED, &err, "NCCL_MULTI_RANK_GPU_ENABLE=1");
            else
                ok(can, &err);
            const berth_status made = open_group(&p, 0, &err);
            assert_int_equal(made, can);
            if (made == BERTH_OK) ok(berth_gpu_group_prove(p.group, 0, p.at[0], 1, p.at[1], ROOM, &err), &err);
            if (made == BERTH_OK) assert_int_equal(berth_gpu_group_version(p.group), 23003);
            close_pair(&p);
        }
    }
    unsetenv("NCCL_MULTI_RANK_GPU_ENABLE");
}

/* From a GPU to itself: what can be tried where there is one. */
static void one_gpu_sends_to_itself(void **state)
{
    (void)state;
    pair p = {0};
    berth_error err = {0};
    const berth_gpu_edge self = {0, 0};
    reset("gpus=2", "");
    open_gpus(&p, 1);
    const berth_gpu_group_options o = {.proof_bytes = 128};
    ok(berth_gpu_group_create(p.gpus, 1, &self, 1, &o, &p.group, &err), &err);
    ok(berth_gpu_group_prove(p.group, 0, p.at[0], 0, p.at[0] + ROOM / 2, ROOM / 2, &err), &err);
    close_pair(&p);
}

static void bad_arguments_are_refused(void **state)
{
    (void)state;
    pair p = {0};
    berth_error err = {0};
    static const struct {
        int32_t n, n_edges;
        berth_gpu_edge edges[2];
        int64_t timeout_ns;
        const char *words;
    } cases[] = {{0, 0, {{0}}, 0, "one GPU at least"},    {2, 1, {{0, 2}}, 0, "there are 2"},
                 {2, 1, {{-1, 0}}, 0, "there are 2"},     {2, 2, {{0, 1}, {0, 1}}, 0, "named twice"},
                 {2, -1, {{0}}, 0, "nothing below zero"}, {2, 1, {{0, 1}}, -1, "nothing below zero"}};
    reset("gpus=2", "");
    open_gpus(&p, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const berth_gpu_group_options o = {.timeout_ns = cases[i].timeout_ns};
        check_line(berth_gpu_group_create(p.gpus, cases[i].n, cases[i].edges, cases[i].n_edges, &o, &p.group, &err),
                   BERTH_INVALID_ARGUMENT, &err, cases[i].words);
    }
    ok(open_group(&p, 0, &err), &err);
    berth_gpu_stream *other = NULL;
    ok(berth_gpu_stream_create(p.gpus[0], &other, &err), &err);
    check_line(berth_gpu_group_copy(p.group, 1, p.at[1], 0, p.at[0], 64, other, &err), BERTH_INVALID_ARGUMENT, &err,
               "no edge from member 1 to member 0");
    check_line(berth_gpu_group_copy(p.group, 0, p.at[0], 1, p.at[1], 64, other, &err), BERTH_INVALID_ARGUMENT, &err,
               "a stream of the receiving GPU");
    check_line(berth_gpu_group_copy(p.group, 0, p.at[0], 1, p.at[1], 0, p.s, &err), BERTH_INVALID_ARGUMENT, &err,
               "give bytes");
    berth_gpu_stream *const streams[2] = {other, p.s};
    check_line(berth_gpu_group_all_reduce(p.group, p.at, p.at, 1, BERTH_F32, streams, &err), BERTH_INVALID_ARGUMENT,
               &err, "set all_reduce");
    ok(berth_gpu_group_state(p.group, &err), &err); /* none of it was under way */
    berth_gpu_stream_destroy(other);
    close_pair(&p);
}

static berth_status make_and_end(void *arg, berth_error *err)
{
    pair *p = arg;
    const berth_gpu_edge edge = {0, 1};
    const berth_gpu_group_options o = {.all_reduce = true, .proof_bytes = 128};
    const berth_status st = berth_gpu_group_create(p->gpus, 2, &edge, 1, &o, &p->group, err);
    berth_gpu_group_destroy(p->group);
    p->group = NULL;
    return st;
}

static void each_allocation_may_fail(void **state)
{
    (void)state;
    pair p = {0};
    reset("gpus=2", "progress=0");
    open_gpus(&p, 1);
    assert_true(failing_each("a group", make_and_end, &p) > 10);
    close_pair(&p);
}

int main(void)
{
    image = read_image(TEST_KERNELS);
    emu_control_open(&emulator);
    nccl_control_open(&nccl);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_nccl_call_may_fail),
        cmocka_unit_test(each_driver_call_may_fail),
        cmocka_unit_test(an_exchange_may_fail_later),
        cmocka_unit_test(what_hangs_is_aborted),
        cmocka_unit_test(gpus_outlive_their_group),
        cmocka_unit_test(communicators_that_never_stand_are_given_up),
        cmocka_unit_test(no_group_is_made_over_a_link_that_lies),
        cmocka_unit_test(a_link_that_lies_is_proven_so),
        cmocka_unit_test(an_aborted_group_says_so_for_ever),
        cmocka_unit_test(an_idle_group_sleeps),
        cmocka_unit_test(a_dead_gpu_takes_its_group_with_it),
        cmocka_unit_test(a_group_with_a_dead_gpu_ends_at_once),
        cmocka_unit_test(what_nccl_cannot_is_one_line),
        cmocka_unit_test(a_gpu_may_be_two_ranks_from_2_30_on),
        cmocka_unit_test(one_gpu_sends_to_itself),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(each_allocation_may_fail),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    emu_control_close(&emulator);
    free(image);
    return failed;
}
