/* graph_test.c - graphs over device.h: a step on two GPUs and four streams, captured once and replayed, gives right
 * data in 200 orders and does not without any one of its waits; every call of it fails with each of seven codes;
 * threads capture side by side; timed events. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pipeline.h"

static emu_control emulator;
static void *image;

enum { N = 32, BYTES = N * 4, STEPS = 4, SEEDS = 200 };
enum { MAIN, LEFT, RIGHT, FAR, N_STREAMS };

/* Leaving out any of these must give wrong data on some seed. */
typedef enum join { JOIN_LEFT, JOIN_RIGHT, JOIN_FAR, JOIN_HOST, N_JOINS } join;

typedef struct step {
    int dropped; /* a join, or -1 */
    berth_gpu *gpu[2];
    berth_gpu_stream *stream[N_STREAMS];
    berth_gpu_event *reached[N_STREAMS], *done;
    berth_gpu_module *module[2];
    berth_gpu_kernel scale[2];
    berth_gpu_ptr x, y, z, far;
    uint32_t *in, *out; /* pinned; [N] */
    berth_gpu_graph *graph;
} step;

static berth_status set_up(step *p, berth_cuda *cuda, int first, int second, berth_error *err)
{
    berth_status st = BERTH_OK;
    for (int g = 0; g < 2 && st == BERTH_OK; g++) {
        st = berth_gpu_open(cuda, g == 0 ? first : second, 4096, &p->gpu[g], err);
        if (st == BERTH_OK) st = berth_gpu_module_load(p->gpu[g], image, &p->module[g], err);
        if (st == BERTH_OK) st = berth_gpu_kernel_find(p->module[g], "scale", 0, &p->scale[g], err);
    }
    if (st == BERTH_OK) st = berth_gpu_take(p->gpu[0], BYTES, &p->x, err);
    if (st == BERTH_OK) st = berth_gpu_take(p->gpu[0], BYTES, &p->y, err);
    if (st == BERTH_OK) st = berth_gpu_take(p->gpu[0], BYTES, &p->z, err);
    if (st == BERTH_OK) st = berth_gpu_take(p->gpu[1], BYTES, &p->far, err);
    for (int i = 0; i < N_STREAMS && st == BERTH_OK; i++) {
        st = berth_gpu_stream_create(p->gpu[i == FAR], &p->stream[i], err);
        if (st == BERTH_OK) st = berth_gpu_event_create(p->gpu[i == FAR], &p->reached[i], err);
    }
    if (st == BERTH_OK) st = berth_gpu_event_create_as(p->gpu[0], BERTH_GPU_EVENT_SLEEPS, &p->done, err);
    void *memory = NULL;
    if (st == BERTH_OK) st = berth_gpu_pin(p->gpu[0], 2 * (size_t)BYTES, &memory, err);
    p->in = memory;
    p->out = memory ? p->in + N : NULL;
    return st;
}

static void tear_down(step *p)
{
    for (int i = 0; i < N_STREAMS; i++) berth_gpu_stream_destroy(p->stream[i]);
    berth_gpu_graph_destroy(p->graph);
    for (int i = 0; i < N_STREAMS; i++) berth_gpu_event_destroy(p->reached[i]);
    berth_gpu_event_destroy(p->done);
    if (p->in) berth_gpu_unpin(p->gpu[0], p->in);
    for (int i = 0; i < 2; i++) berth_gpu_module_unload(p->module[i]);
    for (int i = 0; i < 2; i++) berth_gpu_close(p->gpu[i]);
}

/* to = from * a + b; `from` and `to` may be one. The arguments are gone when the kernel runs. */
static berth_status scale(step *p, int stream, berth_gpu_ptr from, berth_gpu_ptr to, uint32_t a, uint32_t b,
                          berth_error *err)
{
    uint32_t n = N;
    void *params[] = {&from, &to, &a, &b, &n};
    const berth_gpu_grid grid = {.blocks = {1}, .threads = {32}};
    const berth_status st = berth_gpu_launch(p->stream[stream], &p->scale[stream == FAR], &grid, params, err);
    from = to = 0;
    a = b = n = 0;
    return st;
}

/* `stream` awaits what `other` has queued so far. */
static berth_status follow(step *p, int dropped, int stream, int other, berth_error *err)
{
    if (p->dropped == dropped) return BERTH_OK;
    const berth_status st = berth_gpu_event_record(p->reached[other], p->stream[other], err);
    return st == BERTH_OK ? berth_gpu_stream_await(p->stream[stream], p->reached[other], err) : st;
}

/* x = in; left: y = 3x + 1; right: z = 5x, then z = 2y once y is made; far = z on the other GPU, far = 7 far; z = far;
 * out = z */
static berth_status queue_step(step *p, berth_error *err)
{
    berth_status st = berth_gpu_upload(p->stream[MAIN], p->x, p->in, BYTES, err);
    if (st == BERTH_OK) st = follow(p, -2, LEFT, MAIN, err);
    if (st == BERTH_OK) st = follow(p, -2, RIGHT, MAIN, err);
    if (st == BERTH_OK) st = follow(p, -2, FAR, MAIN, err);
    if (st == BERTH_OK) st = scale(p, LEFT, p->x, p->y, 3, 1, err);
    if (st == BERTH_OK) st = scale(p, RIGHT, p->x, p->z, 5, 0, err);
    if (st == BERTH_OK) st = follow(p, JOIN_LEFT, RIGHT, LEFT, err);
    if (st == BERTH_OK) st = scale(p, RIGHT, p->y, p->z, 2, 0, err);
    if (st == BERTH_OK) st = follow(p, JOIN_RIGHT, FAR, RIGHT, err);
    if (st == BERTH_OK) st = berth_gpu_copy_peer(p->stream[FAR], p->gpu[1], p->far, p->gpu[0], p->z, BYTES, err);
    if (st == BERTH_OK) st = scale(p, FAR, p->far, p->far, 7, 0, err);
    if (st == BERTH_OK) st = follow(p, JOIN_FAR, MAIN, FAR, err);
    if (st == BERTH_OK) st = berth_gpu_copy_peer(p->stream[MAIN], p->gpu[0], p->z, p->gpu[1], p->far, BYTES, err);
    if (st == BERTH_OK) st = berth_gpu_download(p->stream[MAIN], p->out, p->z, BYTES, err);
    /* All come back, whatever was left out: a capture needs it. */
    for (int i = LEFT; i <= FAR && st == BERTH_OK; i++) st = follow(p, -2, MAIN, i, err);
    return st;
}

static berth_status capture(step *p, berth_error *err)
{
    berth_status st = berth_gpu_capture_begin(p->stream[MAIN], err);
    if (st != BERTH_OK) return st;
    const berth_status queued = queue_step(p, err);
    st = berth_gpu_capture_end(p->stream[MAIN], &p->graph, queued == BERTH_OK ? err : NULL);
    return queued == BERTH_OK ? st : queued;
}

static berth_status replay(step *p, bool *out_right, berth_error *err)
{
    berth_status st = BERTH_OK;
    *out_right = true;
    for (uint32_t s = 0; s < STEPS && st == BERTH_OK; s++) {
        for (uint32_t i = 0; i < N; i++) p->in[i] = s * 1000 + i;
        st = berth_gpu_graph_launch(p->stream[MAIN], p->graph, err);
        if (st == BERTH_OK) st = berth_gpu_event_record(p->done, p->stream[MAIN], err);
        if (st == BERTH_OK && p->dropped != JOIN_HOST) st = berth_gpu_event_wait_asking(p->done, 3, err);
        for (uint32_t i = 0; i < N && st == BERTH_OK; i++)
            *out_right = *out_right && p->out[i] == ((s * 1000 + i) * 3 + 1) * 2 * 7;
    }
    return st;
}

static berth_status run_step(berth_cuda *cuda, int first, int second, int dropped, bool *out_right, berth_error *err)
{
    step p = {.dropped = dropped};
    *out_right = false;
    berth_status st = set_up(&p, cuda, first, second, err);
    if (st == BERTH_OK) st = capture(&p, err);
    if (st == BERTH_OK) st = replay(&p, out_right, err);
    tear_down(&p);
    return st;
}

static void assert_tidy(emu_report *r)
{
    emulator.report(r);
    if (r->misuses) fail_msg("%s", r->misuse);
    assert_int_equal(r->contexts + r->allocations + r->pinned + r->streams + r->events + r->modules + r->graphs, 0);
}

/* True: the data is right. */
static bool run(int seed, int dropped, int second, const char *more)
{
    char config[128];
    snprintf(config, sizeof config, "gpus=2;mem=1MiB;seed=%d;%s", seed, more);
    emulator.reset(config);
    berth_error err = {0};
    berth_cuda *cuda = NULL;
    bool right = false;
    berth_status st = berth_cuda_open(NULL, &cuda, &err);
    if (st == BERTH_OK) st = run_step(cuda, 0, second, dropped, &right, &err);
    if (st != BERTH_OK) fail_msg("part %d: %s", dropped, err.message);
    berth_cuda_close(cuda);
    emu_report r;
    assert_tidy(&r);
    return right;
}

static void every_order_gives_right_data(void **state)
{
    (void)state;
    for (int seed = 0; seed < SEEDS; seed++) {
        assert_true(run(seed, -1, 1, ""));
        assert_true(run(seed, -1, 0, "peer=0")); /* logical devices on one GPU */
    }
}

static void every_wait_left_out_is_found(void **state)
{
    (void)state;
    for (int part = 0; part < N_JOINS; part++) {
        int first_wrong = -1;
        for (int seed = 0; seed < SEEDS && first_wrong < 0; seed++) {
            if (!run(seed, part, 1, "")) first_wrong = seed;
        }
        if (first_wrong < 0) fail_msg("part %d was left out and no seed shows it", part);
    }
}

/* ---- errors ---------------------------------------------------------------------------------------------------------- */

static void each_call_may_fail(void **state)
{
    (void)state;
    static const int codes[] = {1, 2, 46, 214, 700, 719, 999};
    emu_report r;
    uint64_t n_calls = 1, n_failed = 0;
    for (uint64_t call = 0; call <= n_calls; call++) {
        for (size_t c = 0; c < sizeof codes / sizeof codes[0]; c++) {
            char config[96];
            snprintf(config, sizeof config, "gpus=2;mem=1MiB;fail=%llu:%d", (unsigned long long)call, codes[c]);
            emulator.reset(config);
            berth_cuda *cuda = NULL;
            berth_error err = {0};
            bool right = false;
            berth_status st = berth_cuda_open(NULL, &cuda, &err);
            if (st == BERTH_OK) st = run_step(cuda, 0, 1, -1, &right, &err);
            berth_cuda_close(cuda);
            assert_tidy(&r);
            if (call == 0) n_calls = r.calls;
            n_failed += st != BERTH_OK;
            const bool is_told =
                err.native_code == codes[c] || err.native_code == 901; /* a failure voids the capture */
            if (st == BERTH_OK ? !right : !is_told)
                fail_msg("call %llu, code %d: status %d, native %d: %s", (unsigned long long)call, codes[c], (int)st,
                         (int)err.native_code, err.message);
        }
    }
    assert_true(n_calls > 100 && n_failed > n_calls * 4);
}

/* A broken rule: the status and the line say so, and the stream works as before. */
static void a_broken_rule_ends_the_capture_only(void **state)
{
    (void)state;
    emulator.reset("gpus=2;mem=1MiB");
    berth_cuda *cuda = NULL;
    berth_error err = {0};
    step p = {.dropped = -1};
    bool right = false;
    assert_int_equal(berth_cuda_open(NULL, &cuda, &err), BERTH_OK);
    assert_int_equal(set_up(&p, cuda, 0, 1, &err), BERTH_OK);
    assert_int_equal(berth_gpu_capture_begin(p.stream[MAIN], &err), BERTH_OK);
    assert_int_equal(berth_gpu_stream_wait(p.stream[MAIN], &err), BERTH_DEVICE_ERROR);
    assert_int_equal(err.native_code, 900);
    assert_int_equal(scale(&p, MAIN, p.x, p.x, 1, 1, &err), BERTH_DEVICE_ERROR);
    assert_int_equal(berth_gpu_capture_end(p.stream[MAIN], &p.graph, &err), BERTH_DEVICE_ERROR);
    assert_null(p.graph);
    assert_non_null(strstr(err.message, "CAPTURE_INVALIDATED (901); what waits"));
    assert_int_equal(berth_gpu_capture_begin(p.stream[MAIN], &err), BERTH_OK);
    assert_int_equal(follow(&p, -2, LEFT, MAIN, &err), BERTH_OK);
    assert_int_equal(scale(&p, LEFT, p.x, p.y, 1, 1, &err), BERTH_OK);
    assert_int_equal(berth_gpu_capture_end(p.stream[MAIN], &p.graph, &err), BERTH_DEVICE_ERROR);
    assert_non_null(strstr(err.message, "let the first stream await"));
    assert_int_equal(capture(&p, &err), BERTH_OK);
    assert_int_equal(replay(&p, &right, &err), BERTH_OK);
    assert_true(right);
    tear_down(&p);
    berth_cuda_close(cuda);
    emu_report r;
    emulator.report(&r);
    assert_int_equal(r.misuses, 2);
    assert_int_equal(r.contexts + r.allocations + r.pinned + r.streams + r.events + r.modules + r.graphs, 0);
}

/* ---- threads --------------------------------------------------------------------------------------------------------- */

typedef struct job {
    berth_cuda *cuda;
    int first, n_right;
} job;

enum { ROUNDS = 10 };

static void *work(void *arg)
{
    job *j = arg;
    for (int i = 0; i < ROUNDS; i++) {
        bool right = false;
        if (run_step(j->cuda, j->first, j->first + 1, -1, &right, NULL) == BERTH_OK) j->n_right += right;
    }
    return NULL;
}

/* One allocates, loads and waits while the other captures. */
static void threads_capture_side_by_side(void **state)
{
    (void)state;
    emulator.reset("gpus=4;mem=1MiB");
    berth_cuda *cuda = NULL;
    assert_int_equal(berth_cuda_open(NULL, &cuda, NULL), BERTH_OK);
    job jobs[2] = {{cuda, 0, 0}, {cuda, 2, 0}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, work, &jobs[i]), 0);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) assert_int_equal(jobs[i].n_right, ROUNDS);
    berth_cuda_close(cuda);
    emu_report r;
    assert_tidy(&r);
}

/* ---- time ------------------------------------------------------------------------------------------------------------ */

static void timed_events_tell_the_link(void **state)
{
    (void)state;
    enum { MIB = 1 << 20 };
    emulator.reset("gpus=1;mem=4MiB;host_gbps=4");
    berth_cuda *cuda = NULL;
    berth_error err = {0};
    berth_gpu *gpu = NULL;
    berth_gpu_stream *s = NULL;
    berth_gpu_event *from = NULL, *to = NULL;
    berth_gpu_ptr at = 0;
    void *pinned = NULL;
    int64_t ns = 0;
    assert_int_equal(berth_cuda_open(NULL, &cuda, &err), BERTH_OK);
    assert_int_equal(berth_gpu_open(cuda, 0, MIB, &gpu, &err), BERTH_OK);
    assert_int_equal(berth_gpu_take(gpu, MIB, &at, &err), BERTH_OK);
    assert_int_equal(berth_gpu_stream_create(gpu, &s, &err), BERTH_OK);
    assert_int_equal(berth_gpu_event_create_as(gpu, BERTH_GPU_EVENT_TIMED, &from, &err), BERTH_OK);
    assert_int_equal(berth_gpu_event_create_as(gpu, BERTH_GPU_EVENT_TIMED | BERTH_GPU_EVENT_SLEEPS, &to, &err),
                     BERTH_OK);
    assert_int_equal(berth_gpu_pin(gpu, MIB, &pinned, &err), BERTH_OK);
    assert_int_equal(berth_gpu_event_record(from, s, &err), BERTH_OK);
    assert_int_equal(berth_gpu_upload(s, at, pinned, MIB, &err), BERTH_OK);
    assert_int_equal(berth_gpu_event_record(to, s, &err), BERTH_OK);
    assert_int_equal(berth_gpu_event_elapsed(from, to, &ns, &err), BERTH_DEVICE_ERROR); /* not over */
    assert_int_equal(err.native_code, 600);
    assert_int_equal(berth_gpu_event_wait_asking(to, 1, &err), BERTH_OK);
    assert_int_equal(berth_gpu_event_elapsed(from, to, &ns, &err), BERTH_OK);
    assert_in_range(ns, MIB / 4 + 4000, MIB / 4 + 6000);
    berth_gpu_unpin(gpu, pinned);
    berth_gpu_event_destroy(from);
    berth_gpu_event_destroy(to);
    berth_gpu_stream_destroy(s);
    berth_gpu_close(gpu);
    berth_cuda_close(cuda);
    emu_report r;
    assert_tidy(&r);
}

int main(void)
{
    image = read_image(TEST_KERNELS);
    emu_control_open(&emulator);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_order_gives_right_data),
        cmocka_unit_test(every_wait_left_out_is_found),
        cmocka_unit_test(each_call_may_fail),
        cmocka_unit_test(threads_capture_side_by_side),
        cmocka_unit_test(a_broken_rule_ends_the_capture_only),
        cmocka_unit_test(timed_events_tell_the_link),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    emu_control_close(&emulator);
    free(image);
    return failed;
}
