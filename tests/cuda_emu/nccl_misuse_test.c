/* nccl_misuse_test.c - the emulated NCCL itself: what a program does wrong with NCCL is found, named and refused, and
 * what would hang on hardware comes to an end. A lenient emulator would prove nothing about the group. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cuda/device_internal.h"
#include "cuda/nccl.h"
#include "nccl_chain.h"

static emu_control emulator;
static nccl_control control;

enum { ROOM = 4096, N = 64 };

typedef struct bed { /* two GPUs, a stream on each, a pair of communicators */
    berth_cuda *cuda;
    berth_gpu *gpus[2];
    berth_gpu_stream *streams[2];
    berth_gpu_ptr at[2];
    berth_nccl nccl;
    berth_nccl_comm comms[2];
} bed;

static void ok(berth_status st, const berth_error *err)
{
    if (st != BERTH_OK) fail_msg("%s", err->message);
}

static berth_nccl_config config_of(bool blocking)
{
    return (berth_nccl_config){.size = sizeof(berth_nccl_config),
                               .magic = BERTH_NCCL_CONFIG_MAGIC,
                               .version = 21800,
                               .blocking = blocking,
                               .cga_cluster = BERTH_NCCL_UNSET,
                               .min_ctas = BERTH_NCCL_UNSET,
                               .max_ctas = BERTH_NCCL_UNSET,
                               .split_share = BERTH_NCCL_UNSET};
}

static void enter(const bed *b, int i)
{
    assert_int_equal(berth_gpu_enter(b->gpus[i], NULL), BERTH_OK);
}

static void leave(const bed *b, int i)
{
    assert_int_equal(berth_gpu_leave(b->gpus[i], BERTH_CU_SUCCESS, "", NULL), BERTH_OK);
}

/* With a context of GPU 0 current from here on. */
static int connect_pair(bed *b, berth_nccl_comm *comms, bool blocking, int second_rank)
{
    berth_nccl_id id;
    berth_nccl_config config = config_of(blocking);
    assert_int_equal(b->nccl.ncclGetUniqueId(&id), 0);
    assert_int_equal(b->nccl.ncclGroupStart(), 0);
    for (int i = 0; i < 2; i++) {
        enter(b, i);
        (void)b->nccl.ncclCommInitRankConfig(&comms[i], 2, id, i == 0 ? 0 : second_rank, &config);
        leave(b, i);
    }
    return b->nccl.ncclGroupEnd();
}

static void open_bed(bed *b, const char *of_nccl, bool blocking)
{
    berth_error err = {0};
    *b = (bed){0};
    emulator.reset("gpus=2;mem=1MiB");
    control.reset(of_nccl);
    ok(berth_cuda_open(NULL, &b->cuda, &err), &err);
    ok(berth_nccl_open(&b->nccl, NULL, &err), &err);
    for (int i = 0; i < 2; i++) {
        ok(berth_gpu_open(b->cuda, i, ROOM, &b->gpus[i], &err), &err);
        ok(berth_gpu_take(b->gpus[i], ROOM, &b->at[i], &err), &err);
        ok(berth_gpu_stream_create(b->gpus[i], &b->streams[i], &err), &err);
    }
    enter(b, 0);
    const int code = connect_pair(b, b->comms, blocking, 1);
    assert_true(code == 0 || (!blocking && code == BERTH_NCCL_IN_PROGRESS));
}

/* The context that open_bed left current is taken off; what the test left behind goes with the next reset. */
static void close_bed(bed *b, const char *words)
{
    emu_report r;
    emulator.report(&r);
    if (words && (r.misuses == 0 || !strstr(r.misuse, words)))
        fail_msg("wanted \"%s\", got %d: %s", words, r.misuses, r.misuse);
    if (!words && r.misuses) fail_msg("misuse: %s", r.misuse);
    for (int i = 0; i < 2; i++) {
        if (b->comms[i]) (void)b->nccl.ncclCommAbort(b->comms[i]);
    }
    leave(b, 0);
    for (int i = 0; i < 2; i++) berth_gpu_stream_destroy(b->streams[i]);
    for (int i = 0; i < 2; i++) berth_gpu_close(b->gpus[i]);
    berth_nccl_close(&b->nccl);
    berth_cuda_close(b->cuda);
    emulator.report(&r);
    assert_int_equal(r.contexts + r.streams + r.allocations, 0);
}

static void *pointer(berth_gpu_ptr at)
{
    return (void *)(uintptr_t)at; // NOLINT(performance-no-int-to-ptr)
}

static int send_it(const bed *b, berth_nccl_comm comm, int rank, size_t n, berth_nccl_dtype dtype)
{
    return b->nccl.ncclSend(pointer(b->at[rank]), n, dtype, 1 - rank, comm, b->streams[rank]->handle);
}

static int receive(const bed *b, berth_nccl_comm comm, int rank, size_t n, berth_nccl_dtype dtype)
{
    return b->nccl.ncclRecv(pointer(b->at[rank] + ROOM / 2), n, dtype, 1 - rank, comm, b->streams[rank]->handle);
}

static int add_up(const bed *b, int rank, size_t n)
{
    void *at = pointer(b->at[rank]);
    return b->nccl.ncclAllReduce(at, at, n, BERTH_NCCL_F32, BERTH_NCCL_SUM, b->comms[rank], b->streams[rank]->handle);
}

/* What is queued comes to an end, whatever it is. */
static void wait_for_both(const bed *b)
{
    for (int i = 0; i < 2; i++) (void)berth_gpu_stream_wait(b->streams[i], NULL);
}

/* ---- what does not meet ---------------------------------------------------------------------------------------------- */

static void counts_and_types_must_be_the_same(void **state)
{
    (void)state;
    static const struct {
        size_t n[2];
        berth_nccl_dtype dtype[2];
        const char *words;
    } cases[] = {{{64, 64}, {0, 0}, NULL},
                 {{64, 63}, {0, 0}, "64 elements of type 0 meet 63"},
                 {{64, 65}, {0, 0}, "64 elements of type 0 meet 65"},
                 {{64, 16}, {BERTH_NCCL_INT8, BERTH_NCCL_F32}, "meet 16 of type 7"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bed b;
        open_bed(&b, "", true);
        assert_int_equal(b.nccl.ncclGroupStart(), 0);
        assert_int_equal(send_it(&b, b.comms[0], 0, cases[i].n[0], cases[i].dtype[0]), 0);
        assert_int_equal(receive(&b, b.comms[1], 1, cases[i].n[1], cases[i].dtype[1]), 0);
        assert_int_equal(b.nccl.ncclGroupEnd(), cases[i].words ? BERTH_NCCL_INVALID_USAGE : 0);
        wait_for_both(&b);
        close_bed(&b, cases[i].words);
    }
}

static void sums_in_another_order_do_not_meet(void **state)
{
    (void)state;
    bed b;
    open_bed(&b, "", true);
    assert_int_equal(add_up(&b, 0, 8), 0);
    assert_int_equal(add_up(&b, 0, 16), 0);
    assert_int_equal(add_up(&b, 1, 16), BERTH_NCCL_INVALID_USAGE);
    wait_for_both(&b);
    close_bed(&b, "waits to add 64 bytes, and nobody calls the other side"); /* the second sum of rank 0 */
}

/* ---- what never ends on hardware ------------------------------------------------------------------------------------- */

static void a_side_that_is_not_called_is_a_deadlock(void **state)
{
    (void)state;
    for (int which = 0; which < 3; which++) {
        bed b;
        open_bed(&b, "", true);
        if (which == 0) assert_int_equal(send_it(&b, b.comms[0], 0, N, 0), 0);
        if (which == 1) assert_int_equal(receive(&b, b.comms[1], 1, N, 0), 0);
        if (which == 2) assert_int_equal(add_up(&b, 1, N), 0);
        wait_for_both(&b);
        close_bed(&b, "and nobody calls the other side");
    }
}

/* Each sends first, and a send may wait for its receiver. */
static void both_sending_first_is_a_deadlock(void **state)
{
    (void)state;
    for (int grouped = 0; grouped < 2; grouped++) {
        bed b;
        open_bed(&b, "", true);
        for (int rank = 0; rank < 2; rank++) {
            if (grouped) assert_int_equal(b.nccl.ncclGroupStart(), 0);
            assert_int_equal(send_it(&b, b.comms[rank], rank, N, 0), 0);
            assert_int_equal(receive(&b, b.comms[rank], rank, N, 0), 0);
            if (grouped) assert_int_equal(b.nccl.ncclGroupEnd(), 0);
        }
        wait_for_both(&b);
        close_bed(&b, grouped ? NULL : "the other side waits too");
    }
}

/* Two communicators between the same GPUs, used in one order on one GPU and in the other on the other. */
static void communicators_in_another_order_are_a_deadlock(void **state)
{
    (void)state;
    for (int crossed = 0; crossed < 2; crossed++) {
        bed b;
        berth_nccl_comm second[2];
        open_bed(&b, "", true);
        assert_int_equal(connect_pair(&b, second, true, 1), 0);
        assert_int_equal(send_it(&b, b.comms[0], 0, N, 0), 0);
        assert_int_equal(send_it(&b, second[0], 0, N, 0), 0);
        assert_int_equal(receive(&b, crossed ? second[1] : b.comms[1], 1, N, 0), 0);
        assert_int_equal(receive(&b, crossed ? b.comms[1] : second[1], 1, N, 0), 0);
        wait_for_both(&b);
        for (int i = 0; i < 2; i++) (void)b.nccl.ncclCommAbort(second[i]);
        close_bed(&b, crossed ? "the other side waits too" : NULL);
    }
}

static void a_rank_alone_would_wait_for_ever(void **state)
{
    (void)state;
    bed b;
    berth_nccl_id id;
    berth_nccl_comm comm = NULL;
    berth_nccl_config config = config_of(true);
    open_bed(&b, "", true);
    assert_int_equal(b.nccl.ncclGetUniqueId(&id), 0);
    assert_int_equal(b.nccl.ncclCommInitRankConfig(&comm, 2, id, 0, &config), BERTH_NCCL_INTERNAL_ERROR);
    (void)b.nccl.ncclCommAbort(comm);
    close_bed(&b, "would wait for ever");
}

/* ---- what is called wrongly ------------------------------------------------------------------------------------------ */

static int of_other_memory(bed *b)
{
    return b->nccl.ncclSend(pointer(b->at[1]), N, 0, 1, b->comms[0], b->streams[0]->handle);
}

static int past_the_end(bed *b)
{
    return b->nccl.ncclSend(pointer(b->at[0]), ROOM + 1, 0, 1, b->comms[0], b->streams[0]->handle);
}

static int on_the_other_stream(bed *b)
{
    return b->nccl.ncclSend(pointer(b->at[0]), N, 0, 1, b->comms[0], b->streams[1]->handle);
}

static int on_no_stream(bed *b)
{
    return b->nccl.ncclSend(pointer(b->at[0]), N, 0, 1, b->comms[0], NULL);
}

static int to_no_peer(bed *b)
{
    return b->nccl.ncclSend(pointer(b->at[0]), N, 0, 2, b->comms[0], b->streams[0]->handle);
}

static int of_nothing(bed *b)
{
    return b->nccl.ncclSend(pointer(b->at[0]), 0, 0, 1, b->comms[0], b->streams[0]->handle);
}

static int of_a_strange_type(bed *b)
{
    return send_it(b, b->comms[0], 0, N, 8);
}

static int without_context(bed *b)
{
    leave(b, 0);
    const int code = send_it(b, b->comms[0], 0, N, 0);
    enter(b, 0);
    return code;
}

static int end_without_start(bed *b)
{
    return b->nccl.ncclGroupEnd();
}

static int on_two_streams(bed *b)
{
    berth_gpu_stream *other = NULL;
    assert_int_equal(berth_gpu_stream_create(b->gpus[0], &other, NULL), BERTH_OK);
    assert_int_equal(b->nccl.ncclGroupStart(), 0);
    assert_int_equal(send_it(b, b->comms[0], 0, N, 0), 0);
    const int code = b->nccl.ncclRecv(pointer(b->at[0]), N, 0, 1, b->comms[0], other->handle);
    assert_int_equal(b->nccl.ncclGroupEnd(), code); /* all or nothing */
    berth_gpu_stream_destroy(other);
    return code;
}

static int after_abort(bed *b)
{
    assert_int_equal(b->nccl.ncclCommAbort(b->comms[0]), 0);
    const int code = send_it(b, b->comms[0], 0, N, 0);
    b->comms[0] = NULL;
    return code;
}

static int destroyed_unfinalized(bed *b)
{
    const int code = b->nccl.ncclCommDestroy(b->comms[0]);
    b->comms[0] = NULL;
    return code;
}

static int a_strange_id(bed *b)
{
    berth_nccl_id id = {{0}};
    berth_nccl_comm comm;
    berth_nccl_config config = config_of(false);
    return b->nccl.ncclCommInitRankConfig(&comm, 2, id, 0, &config);
}

static int a_blank_configuration(bed *b)
{
    berth_nccl_id id;
    berth_nccl_comm comm;
    berth_nccl_config config = {0};
    assert_int_equal(b->nccl.ncclGetUniqueId(&id), 0);
    return b->nccl.ncclCommInitRankConfig(&comm, 2, id, 0, &config);
}

static int one_rank_twice(bed *b)
{
    berth_nccl_comm comms[2] = {0};
    const int code = connect_pair(b, comms, false, 0);
    (void)b->nccl.ncclCommAbort(comms[0]);
    return code;
}

static void wrong_calls_are_refused(void **state)
{
    (void)state;
    static const struct {
        int (*call)(bed *b);
        int code;
        const char *words; /* NULL: an error, no misuse */
    } cases[] = {{of_other_memory, BERTH_NCCL_INVALID_ARGUMENT, "in no allocation of GPU 0"},
                 {past_the_end, BERTH_NCCL_INVALID_ARGUMENT, "in no allocation of GPU 0"},
                 {on_the_other_stream, BERTH_NCCL_INVALID_ARGUMENT, "a stream of GPU 1 for a rank on GPU 0"},
                 {on_no_stream, BERTH_NCCL_INVALID_ARGUMENT, "is none of kind"},
                 {to_no_peer, BERTH_NCCL_INVALID_ARGUMENT, NULL},
                 {of_nothing, BERTH_NCCL_INVALID_ARGUMENT, "0 elements"},
                 {of_a_strange_type, BERTH_NCCL_INVALID_ARGUMENT, "of type 8"},
                 {without_context, BERTH_NCCL_INVALID_USAGE, "without a current context"},
                 {end_without_start, BERTH_NCCL_INVALID_USAGE, "without ncclGroupStart"},
                 {on_two_streams, BERTH_NCCL_INVALID_USAGE, "two streams"},
                 {after_abort, BERTH_NCCL_INVALID_ARGUMENT, "was destroyed"},
                 {destroyed_unfinalized, BERTH_NCCL_INVALID_USAGE, "not finalized"},
                 {a_strange_id, BERTH_NCCL_INVALID_ARGUMENT, "an id that ncclGetUniqueId did not make"},
                 {a_blank_configuration, BERTH_NCCL_INVALID_ARGUMENT, "not initialised"},
                 {one_rank_twice, BERTH_NCCL_INVALID_USAGE, "joined twice"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bed b;
        open_bed(&b, "", true);
        const int code = cases[i].call(&b);
        if (code != cases[i].code) fail_msg("case %zu: %d", i, code);
        for (int k = 0; k < 2; k++) { /* nothing was queued */
            bool over;
            assert_int_equal(berth_gpu_stream_over(b.streams[k], &over, NULL), BERTH_OK);
            assert_true(over);
        }
        close_bed(&b, cases[i].words);
    }
}

static void what_is_in_progress_is_left_alone(void **state)
{
    (void)state;
    int n_seen = 0;
    for (int seed = 0; seed < 20; seed++) {
        bed b;
        char config[32];
        snprintf(config, sizeof config, "progress=5;seed=%d", seed);
        open_bed(&b, config, false);
        int error = BERTH_NCCL_IN_PROGRESS;
        assert_int_equal(b.nccl.ncclCommGetAsyncError(b.comms[0], &error), 0);
        const bool busy = error == BERTH_NCCL_IN_PROGRESS;
        n_seen += busy;
        if (busy) assert_int_equal(send_it(&b, b.comms[0], 0, N, 0), BERTH_NCCL_INVALID_USAGE);
        close_bed(&b, busy ? "ncclSend on a communicator that is in progress" : NULL);
    }
    assert_true(n_seen > 5);
}

/* An event that is recorded too early, before NCCL has queued anything, is over too early. */
static void nothing_is_queued_before_it_is_done(void **state)
{
    (void)state;
    int n_late = 0;
    for (int seed = 0; seed < 20; seed++) {
        bed b;
        bool over;
        char config[32];
        snprintf(config, sizeof config, "progress=5;seed=%d", seed);
        open_bed(&b, config, false);
        for (int i = 0, error = BERTH_NCCL_IN_PROGRESS; i < 2; error = BERTH_NCCL_IN_PROGRESS, i++) {
            while (error == BERTH_NCCL_IN_PROGRESS) (void)b.nccl.ncclCommGetAsyncError(b.comms[i], &error);
        }
        assert_int_equal(b.nccl.ncclGroupStart(), 0);
        assert_int_equal(send_it(&b, b.comms[0], 0, N, 0), 0);
        assert_int_equal(receive(&b, b.comms[1], 1, N, 0), 0);
        const int code = b.nccl.ncclGroupEnd();
        assert_int_equal(berth_gpu_stream_over(b.streams[1], &over, NULL), BERTH_OK);
        if (code == BERTH_NCCL_IN_PROGRESS) assert_true(over);
        n_late += over;
        close_bed(&b, NULL);
    }
    assert_true(n_late > 5);
}

static void what_is_left_is_counted(void **state)
{
    (void)state;
    bed b;
    emu_report r;
    emu_nccl_report n;
    open_bed(&b, "", true);
    emulator.report(&r);
    control.report(&n);
    assert_int_equal(r.handles, 2);
    assert_int_equal(n.comms, 2);
    for (int i = 0; i < 2; i++) assert_int_equal(b.nccl.ncclCommAbort(b.comms[i]), 0);
    b.comms[0] = b.comms[1] = NULL;
    emulator.report(&r);
    control.report(&n);
    assert_int_equal(r.handles, 0);
    assert_int_equal(n.comms, 0);
    assert_int_equal(n.aborted, 2);
    close_bed(&b, NULL);
}

int main(void)
{
    emu_control_open(&emulator);
    nccl_control_open(&control);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_and_types_must_be_the_same),
        cmocka_unit_test(sums_in_another_order_do_not_meet),
        cmocka_unit_test(a_side_that_is_not_called_is_a_deadlock),
        cmocka_unit_test(both_sending_first_is_a_deadlock),
        cmocka_unit_test(communicators_in_another_order_are_a_deadlock),
        cmocka_unit_test(a_rank_alone_would_wait_for_ever),
        cmocka_unit_test(wrong_calls_are_refused),
        cmocka_unit_test(what_is_in_progress_is_left_alone),
        cmocka_unit_test(nothing_is_queued_before_it_is_done),
        cmocka_unit_test(what_is_left_is_counted),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    emu_control_close(&emulator);
    return failed;
}
