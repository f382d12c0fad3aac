/* capture_test.c - the emulator's stream capture from below: what it must refuse and with which code, and what it must
 * let pass. Each row captures on GPU 0's stream before it acts. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "world.h"

static emu_control emulator;
static void *image;

static berth_cu_stream new_stream(world *w, unsigned flags)
{
    berth_cu_stream s = NULL;
    assert_int_equal(w->cu.cuStreamCreate(&s, flags), 0);
    return s;
}

static int finish(world *w, berth_cu_graph_exec *out)
{
    berth_cu_graph graph = NULL;
    const int code = w->cu.cuStreamEndCapture(w->stream[0], &graph);
    if (code) {
        assert_null(graph);
        return code;
    }
    assert_int_equal(w->cu.cuGraphInstantiate(out, graph, 0), 0);
    return w->cu.cuGraphDestroy(graph);
}

static int fill(world *w, berth_cu_stream s)
{
    return w->cu.cuMemsetD8Async(w->memory[0], 1, 4, s);
}

/* `other` follows the captured stream. */
static int fork_to(world *w, berth_cu_stream other)
{
    const int code = w->cu.cuEventRecord(w->event[0], w->stream[0]);
    return code ? code : w->cu.cuStreamWaitEvent(other, w->event[0], 0);
}

/* ---- refused while it is captured: the call's code; the end says 901 ------------------------------------------------- */

static int wait_for_the_stream(world *w)
{
    return w->cu.cuStreamSynchronize(w->stream[0]);
}

static int ask_the_stream(world *w)
{
    return w->cu.cuStreamQuery(w->stream[0]);
}

static int wait_for_another_stream(world *w)
{
    return w->cu.cuStreamSynchronize(new_stream(w, 1));
}

static int ask_an_event_of_it(world *w)
{
    w->cu.cuEventRecord(w->event[0], w->stream[0]);
    return w->cu.cuEventQuery(w->event[0]);
}

static int wait_for_an_event_of_it(world *w)
{
    w->cu.cuEventRecord(w->event[0], w->stream[0]);
    return w->cu.cuEventSynchronize(w->event[0]);
}

static int ask_an_event_from_before(world *w)
{
    return w->cu.cuEventQuery(w->event[1]);
}

static int allocate(world *w)
{
    berth_cu_ptr p;
    return w->cu.cuMemAlloc(&p, 4);
}

static int give_back(world *w)
{
    return w->cu.cuMemFree(w->memory[0]);
}

static int pin(world *w)
{
    void *p;
    return w->cu.cuMemHostAlloc(&p, 4, 0);
}

static int load(world *w)
{
    return w->cu.cuModuleLoadData(&w->module, image);
}

static int upload_from_unpinned(world *w)
{
    return w->cu.cuMemcpyHtoDAsync(w->memory[0], "abcd", 4, w->stream[0]);
}

static int download_to_unpinned(world *w)
{
    char local[4];
    return w->cu.cuMemcpyDtoHAsync(local, w->memory[0], 4, w->stream[0]);
}

static int await_an_event_from_outside(world *w)
{
    const berth_cu_stream other = new_stream(w, 1);
    w->cu.cuEventRecord(w->event[0], other);
    return w->cu.cuStreamWaitEvent(w->stream[0], w->event[0], 0);
}

static int await_an_event_of_another_capture(world *w)
{
    const berth_cu_stream other = new_stream(w, 1);
    w->cu.cuStreamBeginCapture(other, BERTH_CU_CAPTURE_THREAD_LOCAL);
    w->cu.cuEventRecord(w->event[0], other);
    return w->cu.cuStreamWaitEvent(w->stream[0], w->event[0], 0);
}

static int default_stream_joins(world *w)
{
    return fork_to(w, NULL);
}

static int end_on_the_joined_stream(world *w)
{
    const berth_cu_stream other = new_stream(w, 1);
    berth_cu_graph graph;
    fork_to(w, other);
    return w->cu.cuStreamEndCapture(other, &graph);
}

typedef struct caller {
    world *w;
    int (*act)(world *w);
    int code;
} caller;

static void *call(void *arg)
{
    caller *c = arg;
    assert_int_equal(c->w->cu.cuCtxPushCurrent(c->w->context[0]), 0);
    c->code = c->act(c->w);
    return NULL;
}

static int in_a_thread(world *w, int (*act)(world *w))
{
    pthread_t thread;
    caller c = {w, act, 0};
    assert_int_equal(pthread_create(&thread, NULL, call, &c), 0);
    pthread_join(thread, NULL);
    return c.code;
}

static int fill_it(world *w)
{
    return fill(w, w->stream[0]);
}

static int another_thread_adds(world *w)
{
    return in_a_thread(w, fill_it);
}

static int join_it(world *w)
{
    return w->cu.cuStreamWaitEvent(new_stream(w, 1), w->event[0], 0);
}

static int another_thread_joins(world *w)
{
    w->cu.cuEventRecord(w->event[0], w->stream[0]);
    return in_a_thread(w, join_it);
}

static int end_it(world *w)
{
    berth_cu_graph graph;
    return w->cu.cuStreamEndCapture(w->stream[0], &graph);
}

static int another_thread_ends(world *w)
{
    return in_a_thread(w, end_it);
}

static int launch_a_graph(world *w)
{
    berth_cu_graph_exec exec = NULL;
    fill(w, w->stream[0]);
    assert_int_equal(finish(w, &exec), 0);
    assert_int_equal(w->cu.cuStreamBeginCapture(w->stream[0], BERTH_CU_CAPTURE_THREAD_LOCAL), 0);
    return w->cu.cuGraphLaunch(exec, w->stream[0]);
}

static const struct {
    const char *name;
    int (*act)(world *w);
    int code;
} refused[] = {
#define ROW(name, code)                                                                                                \
    {                                                                                                                  \
#name, name, code                                                                                              \
    }
    ROW(wait_for_the_stream, 900),
    ROW(ask_the_stream, 900),
    ROW(wait_for_another_stream, 900),
    ROW(ask_an_event_of_it, 907),
    ROW(wait_for_an_event_of_it, 907),
    ROW(ask_an_event_from_before, 900),
    ROW(allocate, 900),
    ROW(give_back, 900),
    ROW(pin, 900),
    ROW(load, 900),
    ROW(upload_from_unpinned, 900),
    ROW(download_to_unpinned, 900),
    ROW(await_an_event_from_outside, 905),
    ROW(await_an_event_of_another_capture, 902),
    ROW(default_stream_joins, 900),
    ROW(end_on_the_joined_stream, 903),
    ROW(another_thread_adds, 908),
    ROW(another_thread_joins, 908),
    ROW(another_thread_ends, 908),
    ROW(launch_a_graph, 900),
};

static void what_is_refused_ends_the_capture(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        world w;
        berth_cu_graph_exec exec = NULL;
        int status = -1;
        emu_report r;
        world_begin(&w, &emulator, "gpus=2;mem=1MiB", image);
        assert_int_equal(w.cu.cuStreamBeginCapture(w.stream[0], BERTH_CU_CAPTURE_THREAD_LOCAL), 0);
        const int code = refused[i].act(&w);
        emulator.report(&r);
        if (code != refused[i].code || r.misuses == 0)
            fail_msg("%s: code %d, %d misuses", refused[i].name, code, r.misuses);
        assert_int_equal(w.cu.cuStreamIsCapturing(w.stream[0], &status), 0);
        assert_int_equal(status, BERTH_CU_CAPTURE_VOID);
        assert_int_equal(w.cu.cuEventRecord(w.event[0], w.stream[0]), 901);
        if (finish(&w, &exec) != 901) fail_msg("%s: the end did not say so", refused[i].name);
        assert_int_equal(w.cu.cuStreamIsCapturing(w.stream[0], &status), 0);
        assert_int_equal(status, BERTH_CU_CAPTURE_NONE);
        world_end(&w, &emulator);
    }
}

/* ---- refused at its beginning and its end ---------------------------------------------------------------------------- */

static int a_stream_that_does_not_come_back(world *w)
{
    berth_cu_graph_exec exec;
    const berth_cu_stream other = new_stream(w, 1);
    fork_to(w, other);
    fill(w, other);
    return finish(w, &exec);
}

static int twice(world *w)
{
    return w->cu.cuStreamBeginCapture(w->stream[0], BERTH_CU_CAPTURE_THREAD_LOCAL);
}

static int of_the_default_stream(world *w)
{
    return w->cu.cuStreamBeginCapture(NULL, BERTH_CU_CAPTURE_THREAD_LOCAL);
}

static int an_end_without_a_beginning(world *w)
{
    berth_cu_graph graph;
    return w->cu.cuStreamEndCapture(new_stream(w, 1), &graph);
}

static int global_mode(world *w)
{
    return w->cu.cuStreamBeginCapture(new_stream(w, 1), 0);
}

static int default_stream_beside_a_blocking_one(world *w)
{
    const berth_cu_stream blocking = new_stream(w, 0);
    w->cu.cuStreamBeginCapture(blocking, BERTH_CU_CAPTURE_THREAD_LOCAL);
    return fill(w, NULL);
}

static int a_stream_destroyed_meanwhile(world *w)
{
    w->cu.cuStreamDestroy(w->stream[0]);
    return fill(w, w->stream[0]);
}

/* ---- refused of graphs ----------------------------------------------------------------------------------------------- */

static int await_outside_what_was_recorded_inside(world *w)
{
    berth_cu_graph_exec exec;
    w->cu.cuEventRecord(w->event[0], w->stream[0]);
    assert_int_equal(finish(w, &exec), 0);
    return w->cu.cuStreamWaitEvent(w->stream[0], w->event[0], 0);
}

static int launch_with_memory_freed(world *w)
{
    berth_cu_graph_exec exec;
    fill(w, w->stream[0]);
    assert_int_equal(finish(w, &exec), 0);
    w->cu.cuMemFree(w->memory[0]);
    return w->cu.cuGraphLaunch(exec, w->stream[0]);
}

static int launch_with_a_kernels_memory_freed(world *w)
{
    berth_cu_graph_exec exec;
    world_launch(w, w->stream[0], w->memory[0], w->memory[0], 1);
    assert_int_equal(finish(w, &exec), 0);
    w->cu.cuMemFree(w->memory[0]);
    return w->cu.cuGraphLaunch(exec, w->stream[0]);
}

static int launch_with_the_kernel_unloaded(world *w)
{
    berth_cu_graph_exec exec;
    world_launch(w, w->stream[0], w->memory[0], w->memory[0], 1);
    assert_int_equal(finish(w, &exec), 0);
    w->cu.cuModuleUnload(w->module);
    return w->cu.cuGraphLaunch(exec, w->stream[0]);
}

static int free_while_a_graph_is_queued(world *w)
{
    berth_cu_graph_exec exec;
    world_launch(w, w->stream[0], w->memory[0], w->memory[0], 1);
    assert_int_equal(finish(w, &exec), 0);
    w->cu.cuGraphLaunch(exec, w->stream[0]);
    return w->cu.cuMemFree(w->memory[0]);
}

static int destroy_while_it_is_queued(world *w)
{
    berth_cu_graph_exec exec;
    fill(w, w->stream[0]);
    assert_int_equal(finish(w, &exec), 0);
    w->cu.cuGraphLaunch(exec, w->stream[0]);
    return w->cu.cuGraphExecDestroy(exec);
}

static int launch_of_what_was_destroyed(world *w)
{
    berth_cu_graph_exec exec;
    assert_int_equal(finish(w, &exec), 0);
    w->cu.cuGraphExecDestroy(exec);
    return w->cu.cuGraphLaunch(exec, w->stream[0]);
}

static int launch_on_the_other_gpu(world *w)
{
    berth_cu_graph_exec exec;
    berth_cu_context popped;
    assert_int_equal(finish(w, &exec), 0);
    w->cu.cuCtxPopCurrent(&popped);
    return w->cu.cuGraphLaunch(exec, w->stream[1]);
}

static const struct {
    const char *name;
    int (*act)(world *w);
    int code; /* 0: any */
} misuses[] = {
    ROW(a_stream_that_does_not_come_back, 904),
    ROW(twice, 401),
    ROW(of_the_default_stream, 900),
    ROW(an_end_without_a_beginning, 401),
    ROW(global_mode, 1),
    ROW(default_stream_beside_a_blocking_one, 906),
    ROW(a_stream_destroyed_meanwhile, 400),
    ROW(await_outside_what_was_recorded_inside, 907),
    ROW(launch_with_memory_freed, 1),
    ROW(launch_with_a_kernels_memory_freed, 1),
    ROW(launch_with_the_kernel_unloaded, 400),
    ROW(free_while_a_graph_is_queued, 700),
    ROW(destroy_while_it_is_queued, 401),
    ROW(launch_of_what_was_destroyed, 400),
    ROW(launch_on_the_other_gpu, 201),
#undef ROW
};

static void each_misuse_is_refused_and_counted(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof misuses / sizeof misuses[0]; i++) {
        world w;
        emu_report r;
        world_begin(&w, &emulator, "gpus=2;mem=1MiB", image);
        assert_int_equal(w.cu.cuStreamBeginCapture(w.stream[0], BERTH_CU_CAPTURE_THREAD_LOCAL), 0);
        const int code = misuses[i].act(&w);
        emulator.report(&r);
        if (code != misuses[i].code || r.misuses == 0)
            fail_msg("%s: code %d, %d misuses", misuses[i].name, code, r.misuses);
        world_end(&w, &emulator);
    }
}

/* ---- what must pass -------------------------------------------------------------------------------------------------- */

static int wait_and_allocate(world *w)
{
    const berth_cu_stream s = new_stream(w, 1);
    berth_cu_ptr p = 0;
    int code = w->cu.cuMemAlloc(&p, 64);
    if (code == 0) code = w->cu.cuMemsetD8Async(p, 1, 64, s);
    if (code == 0) code = w->cu.cuStreamSynchronize(s);
    return code ? code : w->cu.cuMemFree(p);
}

/* Other threads wait, allocate and free; a fork without work comes back by itself; an empty graph is one too. */
static void what_is_allowed_passes(void **state)
{
    (void)state;
    world w;
    berth_cu_graph_exec exec = NULL, empty = NULL;
    world_begin(&w, &emulator, "gpus=2;mem=1MiB", image);
    const berth_cu_stream other = new_stream(&w, 1);
    assert_int_equal(fill(&w, other), 0); /* before the capture: not in it */
    assert_int_equal(w.cu.cuStreamBeginCapture(w.stream[0], BERTH_CU_CAPTURE_THREAD_LOCAL), 0);
    assert_int_equal(fill(&w, w.stream[0]), 0);
    assert_int_equal(fork_to(&w, other), 0);
    assert_int_equal(in_a_thread(&w, wait_and_allocate), 0);
    assert_int_equal(finish(&w, &exec), 0);
    assert_int_equal(w.cu.cuStreamSynchronize(other), 0);
    assert_int_equal(w.cu.cuStreamBeginCapture(w.stream[0], BERTH_CU_CAPTURE_THREAD_LOCAL), 0);
    assert_int_equal(finish(&w, &empty), 0);
    emu_report before, after;
    emulator.report(&before);
    assert_int_equal(before.graphs, 2);
    assert_int_equal(w.cu.cuGraphLaunch(empty, w.stream[0]), 0);
    assert_int_equal(w.cu.cuGraphLaunch(exec, w.stream[0]), 0);
    assert_int_equal(w.cu.cuGraphLaunch(exec, other), 0);
    assert_int_equal(w.cu.cuStreamSynchronize(other), 0);
    assert_int_equal(w.cu.cuStreamSynchronize(w.stream[0]), 0);
    assert_int_equal(w.cu.cuGraphExecDestroy(exec), 0);
    assert_int_equal(w.cu.cuGraphExecDestroy(empty), 0);
    emulator.report(&after);
    assert_int_equal(after.misuses, 0);
    assert_int_equal(after.graphs, 0);
    world_end(&w, &emulator);
}

/* Launches of one graph come one after the other, whatever their streams: x = x + 1, on two streams in turn. */
static void launches_of_a_graph_are_in_order(void **state)
{
    (void)state;
    enum { LAUNCHES = 6, SEEDS = 50 };
    for (int seed = 0; seed < SEEDS; seed++) {
        char config[64];
        snprintf(config, sizeof config, "gpus=2;mem=1MiB;seed=%d", seed);
        world w;
        berth_cu_graph_exec exec = NULL;
        uint32_t seen = 0;
        world_begin(&w, &emulator, config, image);
        const berth_cu_stream other = new_stream(&w, 1);
        assert_int_equal(w.cu.cuMemsetD8Async(w.memory[0], 0, 8, w.stream[0]), 0);
        assert_int_equal(w.cu.cuStreamSynchronize(w.stream[0]), 0);
        assert_int_equal(w.cu.cuStreamBeginCapture(w.stream[0], BERTH_CU_CAPTURE_THREAD_LOCAL), 0);
        assert_int_equal(w.cu.cuMemcpyDtoDAsync(w.memory[0] + 4, w.memory[0], 4, w.stream[0]), 0);
        assert_int_equal(world_launch(&w, w.stream[0], w.memory[0] + 4, w.memory[0] + 4, 1), 0);
        assert_int_equal(w.cu.cuMemcpyDtoDAsync(w.memory[0], w.memory[0] + 4, 4, w.stream[0]), 0);
        assert_int_equal(finish(&w, &exec), 0);
        for (int i = 0; i < LAUNCHES; i++) assert_int_equal(w.cu.cuGraphLaunch(exec, i % 2 ? other : w.stream[0]), 0);
        assert_int_equal(w.cu.cuStreamSynchronize(w.stream[0]), 0);
        assert_int_equal(w.cu.cuStreamSynchronize(other), 0);
        assert_int_equal(w.cu.cuMemcpyDtoHAsync(&seen, w.memory[0], 4, other), 0);
        assert_int_equal(seen, LAUNCHES);
        world_end(&w, &emulator);
    }
}

int main(void)
{
    image = read_image(TEST_KERNELS);
    emu_control_open(&emulator);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_refused_ends_the_capture),
        cmocka_unit_test(each_misuse_is_refused_and_counted),
        cmocka_unit_test(what_is_allowed_passes),
        cmocka_unit_test(launches_of_a_graph_are_in_order),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    emu_control_close(&emulator);
    free(image);
    return failed;
}
