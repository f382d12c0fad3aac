/* misuse_test.c - the emulator itself: what it must refuse, that it orders work as hardware may, and that memory on a GPU
 * is out of the host's reach. Speaks to the driver's functions directly. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "world.h"

static emu_control emulator;
static void *image;

enum { N = WORLD_N, BYTES = WORLD_BYTES };

static void begin(world *w, const char *config)
{
    world_begin(w, &emulator, config, image);
}

static void end(world *w)
{
    world_end(w, &emulator);
}

/* ---- what must be refused -------------------------------------------------------------------------------------------- */

static int free_twice(world *w)
{
    w->cu.cuMemFree(w->memory[0]);
    return w->cu.cuMemFree(w->memory[0]);
}

static int free_of_the_other_gpu(world *w)
{
    return w->cu.cuMemFree(w->memory[1]);
}

static int free_inside(world *w)
{
    return w->cu.cuMemFree(w->memory[0] + 16);
}

static int free_in_use(world *w)
{
    w->cu.cuMemsetD8Async(w->memory[0], 1, 4, w->stream[0]);
    return w->cu.cuMemFree(w->memory[0]);
}

static int free_of_what_a_queued_kernel_names(world *w)
{
    world_launch(w, w->stream[0], w->memory[0], w->memory[0], 1);
    return w->cu.cuMemFree(w->memory[0]);
}

static int unpin_in_use(world *w)
{
    void *pinned;
    w->cu.cuMemHostAlloc(&pinned, 64, 0);
    w->cu.cuMemcpyHtoDAsync(w->memory[0], pinned, 64, w->stream[0]);
    return w->cu.cuMemFreeHost(pinned);
}

static int unpin_what_is_not(world *w)
{
    int here;
    return w->cu.cuMemFreeHost(&here);
}

static int copy_past_the_end(world *w)
{
    return w->cu.cuMemsetD8Async(w->memory[0] + 1, 0, BYTES, w->stream[0]);
}

static int copy_to_freed(world *w)
{
    w->cu.cuMemFree(w->memory[0]);
    return w->cu.cuMemsetD8Async(w->memory[0], 0, 4, w->stream[0]);
}

static int upload_to_the_other_gpu(world *w)
{
    return w->cu.cuMemcpyHtoDAsync(w->memory[1], "abcd", 4, w->stream[0]);
}

static int copy_between_gpus_as_if_one(world *w)
{
    return w->cu.cuMemcpyDtoDAsync(w->memory[0], w->memory[1], 4, w->stream[0]);
}

static int peer_copy_with_contexts_swapped(world *w)
{
    return w->cu.cuMemcpyPeerAsync(w->memory[0], w->context[1], w->memory[1], w->context[0], 4, w->stream[0]);
}

static int stream_of_the_other_gpu(world *w)
{
    return w->cu.cuStreamSynchronize(w->stream[1]);
}

static int launch_on_the_other_gpu(world *w)
{
    berth_cu_context popped;
    w->cu.cuCtxPopCurrent(&popped); /* GPU 1 is current now */
    return world_launch(w, w->stream[1], w->memory[1], w->memory[1], 1);
}

static int record_on_the_other_gpu(world *w)
{
    return w->cu.cuEventRecord(w->event[1], w->stream[0]);
}

static int wait_for_what_was_never_recorded(world *w)
{
    w->cu.cuStreamWaitEvent(w->stream[0], w->event[0], 0);
    return 1; /* hardware lets it pass: counted, not refused */
}

static int destroyed_stream(world *w)
{
    w->cu.cuStreamDestroy(w->stream[0]);
    return w->cu.cuStreamSynchronize(w->stream[0]);
}

static int destroyed_event(world *w)
{
    w->cu.cuEventDestroy(w->event[0]);
    return w->cu.cuEventRecord(w->event[0], w->stream[0]);
}

static int event_as_stream(world *w)
{
    return w->cu.cuStreamSynchronize((berth_cu_stream)(void *)w->event[0]);
}

static int function_of_an_unloaded_module(world *w)
{
    w->cu.cuModuleUnload(w->module);
    return world_launch(w, w->stream[0], w->memory[0], w->memory[0], 1);
}

static int unload_with_a_kernel_queued(world *w)
{
    world_launch(w, w->stream[0], w->memory[0], w->memory[0], 1);
    return w->cu.cuModuleUnload(w->module);
}

static int no_context(world *w)
{
    berth_cu_context popped;
    w->cu.cuCtxPopCurrent(&popped);
    w->cu.cuCtxPopCurrent(&popped);
    return w->cu.cuMemAlloc(&w->memory[0], 4);
}

static int pop_too_often(world *w)
{
    berth_cu_context popped;
    w->cu.cuCtxPopCurrent(&popped);
    w->cu.cuCtxPopCurrent(&popped);
    return w->cu.cuCtxPopCurrent(&popped);
}

static int release_too_often(world *w)
{
    w->cu.cuDevicePrimaryCtxRelease(1);
    return w->cu.cuDevicePrimaryCtxRelease(1);
}

static int kernel_writes_behind_its_memory(world *w)
{
    world_launch(w, w->stream[0], w->memory[0], w->memory[0], N + 4);
    return w->cu.cuStreamSynchronize(w->stream[0]);
}

static int copy_onto_itself(world *w)
{
    return w->cu.cuMemcpyDtoDAsync(w->memory[0], w->memory[0] + 4, 8, w->stream[0]);
}

static int copy_from_partly_pinned(world *w)
{
    void *pinned;
    w->cu.cuMemHostAlloc(&pinned, 64, 0);
    return w->cu.cuMemcpyHtoDAsync(w->memory[0], (uint8_t *)pinned + 32, 64, w->stream[0]);
}

static int kernel_writes_before_its_memory(world *w)
{
    world_launch(w, w->stream[0], w->memory[0] - 16, w->memory[0] - 16, 8);
    return w->cu.cuStreamSynchronize(w->stream[0]);
}

static int unknown_attribute(world *w)
{
    int value;
    return w->cu.cuDeviceGetAttribute(&value, 9999, 0);
}

static const struct {
    const char *name;
    int (*act)(world *w);
} misuses[] = {
#define ROW(name)                                                                                                      \
    {                                                                                                                  \
#name, name                                                                                                    \
    }
    ROW(free_twice),
    ROW(free_of_the_other_gpu),
    ROW(free_inside),
    ROW(free_in_use),
    ROW(free_of_what_a_queued_kernel_names),
    ROW(unpin_in_use),
    ROW(unpin_what_is_not),
    ROW(copy_past_the_end),
    ROW(copy_to_freed),
    ROW(upload_to_the_other_gpu),
    ROW(copy_between_gpus_as_if_one),
    ROW(peer_copy_with_contexts_swapped),
    ROW(stream_of_the_other_gpu),
    ROW(launch_on_the_other_gpu),
    ROW(record_on_the_other_gpu),
    ROW(wait_for_what_was_never_recorded),
    ROW(destroyed_stream),
    ROW(destroyed_event),
    ROW(event_as_stream),
    ROW(function_of_an_unloaded_module),
    ROW(unload_with_a_kernel_queued),
    ROW(no_context),
    ROW(pop_too_often),
    ROW(release_too_often),
    ROW(kernel_writes_behind_its_memory),
    ROW(kernel_writes_before_its_memory),
    ROW(copy_onto_itself),
    ROW(copy_from_partly_pinned),
    ROW(unknown_attribute),
#undef ROW
};

static void each_misuse_is_refused_and_counted(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof misuses / sizeof misuses[0]; i++) {
        world w;
        begin(&w, "gpus=2;mem=1MiB");
        emu_report r;
        emulator.report(&r);
        assert_int_equal(r.misuses, 0);
        const int code = misuses[i].act(&w);
        emulator.report(&r);
        if (code == 0 || r.misuses == 0) fail_msg("%s: code %d, %d misuses", misuses[i].name, code, r.misuses);
        end(&w);
    }
}

/* What a kernel says of itself is counted too; it may touch the one allocation of its GPU. */
static void what_a_kernel_says_is_counted(void **state)
{
    (void)state;
    world w;
    berth_cu_function complain;
    begin(&w, "gpus=2;mem=1MiB");
    assert_int_equal(w.cu.cuModuleGetFunction(&complain, w.module, "nothing"), BERTH_CU_NOT_FOUND);
    assert_int_equal(w.cu.cuModuleGetFunction(&complain, w.module, "complain"), 0);
    assert_int_equal(w.cu.cuLaunchKernel(complain, 1, 1, 1, 1, 1, 1, 0, w.stream[0], NULL, NULL), 0);
    assert_int_equal(w.cu.cuStreamSynchronize(w.stream[0]), 0);
    emu_report r;
    emulator.report(&r);
    assert_int_equal(r.misuses, 1);
    assert_string_equal(r.misuse, "kernel complain: complain was given 1 ranges");
    end(&w);
}

static void what_is_left_behind_is_counted(void **state)
{
    (void)state;
    world w;
    begin(&w, "gpus=2;mem=1MiB");
    emu_report r;
    emulator.report(&r);
    assert_int_equal(r.contexts, 2);
    assert_int_equal(r.allocations, 2);
    assert_int_equal(r.streams, 2);
    assert_int_equal(r.events, 2);
    assert_int_equal(r.modules, 1);
    assert_int_equal(w.cu.cuDevicePrimaryCtxRelease(0), 0);
    emulator.report(&r);
    assert_int_equal(r.misuses, 1); /* its memory, stream, event and module went with it */
    assert_int_equal(r.contexts, 1);
    assert_int_equal(r.allocations, 1);
    end(&w);
}

/* ---- order ----------------------------------------------------------------------------------------------------------- */

enum { SEEDS = 100 };

/* On how many of the seeds does `act` see what it wants? */
static int count(bool (*act)(world *w))
{
    int n = 0;
    for (int seed = 0; seed < SEEDS; seed++) {
        world w;
        char config[64];
        snprintf(config, sizeof config, "gpus=2;mem=1MiB;seed=%d", seed);
        begin(&w, config);
        n += act(&w);
        end(&w);
    }
    return n;
}

/* Writes 1 on one stream, then 2 on another: is the last one what stays? */
static bool last_stays(world *w, berth_cu_stream first, berth_cu_stream second)
{
    uint8_t seen = 0;
    assert_int_equal(w->cu.cuMemsetD8Async(w->memory[0], 1, 1, first), 0);
    assert_int_equal(w->cu.cuMemsetD8Async(w->memory[0], 2, 1, second), 0);
    w->cu.cuStreamSynchronize(first);
    w->cu.cuStreamSynchronize(second);
    assert_int_equal(w->cu.cuMemcpyDtoHAsync(&seen, w->memory[0], 1, first), 0);
    return seen == 2;
}

static bool one_stream(world *w)
{
    return last_stays(w, w->stream[0], w->stream[0]);
}

static bool two_streams(world *w)
{
    berth_cu_stream other;
    assert_int_equal(w->cu.cuStreamCreate(&other, BERTH_CU_STREAM_NON_BLOCKING), 0);
    return last_stays(w, other, w->stream[0]);
}

static bool blocking_then_default(world *w)
{
    berth_cu_stream blocking;
    assert_int_equal(w->cu.cuStreamCreate(&blocking, 0), 0);
    return last_stays(w, blocking, NULL);
}

static bool default_then_blocking(world *w)
{
    berth_cu_stream blocking;
    assert_int_equal(w->cu.cuStreamCreate(&blocking, 0), 0);
    return last_stays(w, NULL, blocking);
}

static bool default_and_non_blocking(world *w)
{
    return last_stays(w, NULL, w->stream[0]);
}

/* The wait is for the record before it, not for one made later. */
static bool wait_is_for_the_record_before(world *w)
{
    berth_cu_stream other;
    assert_int_equal(w->cu.cuStreamCreate(&other, BERTH_CU_STREAM_NON_BLOCKING), 0);
    assert_int_equal(w->cu.cuEventRecord(w->event[0], other), 0);
    assert_int_equal(w->cu.cuStreamWaitEvent(w->stream[0], w->event[0], 0), 0);
    assert_int_equal(w->cu.cuMemsetD8Async(w->memory[0], 1, 1, other), 0);
    assert_int_equal(w->cu.cuEventRecord(w->event[0], other), 0);
    assert_int_equal(w->cu.cuMemsetD8Async(w->memory[0], 2, 1, w->stream[0]), 0);
    w->cu.cuStreamSynchronize(w->stream[0]);
    w->cu.cuStreamSynchronize(other);
    uint8_t seen = 0;
    assert_int_equal(w->cu.cuMemcpyDtoHAsync(&seen, w->memory[0], 1, other), 0);
    return seen == 2;
}

static void streams_order_and_nothing_else_does(void **state)
{
    (void)state;
    assert_int_equal(count(one_stream), SEEDS);
    assert_int_equal(count(blocking_then_default), SEEDS);
    assert_int_equal(count(default_then_blocking), SEEDS);
    const int two = count(two_streams), non_blocking = count(default_and_non_blocking);
    assert_true(two > 0 && two < SEEDS);
    assert_true(non_blocking > 0 && non_blocking < SEEDS);
    const int record = count(wait_is_for_the_record_before);
    assert_true(record > 0 && record < SEEDS);
}

/* A source overwritten right after the call: harmless when it is unpinned, seen when it is pinned. */
static bool source_is_read_at_once(world *w, bool pinned)
{
    uint8_t local[16], seen[16] = {0};
    void *memory = local;
    if (pinned) assert_int_equal(w->cu.cuMemHostAlloc(&memory, sizeof local, 0), 0);
    memset(memory, 1, sizeof local);
    assert_int_equal(w->cu.cuMemcpyHtoDAsync(w->memory[0], memory, sizeof local, w->stream[0]), 0);
    memset(memory, 2, sizeof local);
    assert_int_equal(w->cu.cuMemcpyDtoHAsync(seen, w->memory[0], sizeof seen, w->stream[0]), 0); /* waits: unpinned */
    return seen[0] == 1 && seen[15] == 1;
}

static bool unpinned_source(world *w)
{
    return source_is_read_at_once(w, false);
}

static bool pinned_source(world *w)
{
    return source_is_read_at_once(w, true);
}

static void pinned_memory_is_read_late(void **state)
{
    (void)state;
    assert_int_equal(count(unpinned_source), SEEDS);
    assert_int_equal(count(pinned_source), 0);
}

/* Asking is enough for work to go on: a loop that polls ends. */
static void polling_ends(void **state)
{
    (void)state;
    world w;
    begin(&w, "gpus=2;mem=1MiB");
    for (int i = 0; i < 50; i++) assert_int_equal(w.cu.cuMemsetD8Async(w.memory[0], 1, 1, w.stream[0]), 0);
    assert_int_equal(w.cu.cuEventRecord(w.event[0], w.stream[0]), 0);
    assert_int_equal(w.cu.cuEventQuery(w.event[0]), BERTH_CU_NOT_READY);
    int code, n = 0;
    while ((code = w.cu.cuEventQuery(w.event[0])) == BERTH_CU_NOT_READY) n++;
    assert_int_equal(code, 0);
    assert_true(n > 1);
    assert_int_equal(w.cu.cuStreamQuery(w.stream[0]), 0);
    end(&w);
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

/* `act` in a process of its own: did it die of a fault? */
static bool faults(void (*act)(world *w), world *w)
{
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* not the sanitizer's */
        act(w);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static void host_reads(world *w)
{
    (void)*(volatile uint8_t *)(uintptr_t)w->memory[0]; // NOLINT(performance-no-int-to-ptr)
}

static void kernel_reads_the_other_gpu(world *w)
{
    world_launch(w, w->stream[0], w->memory[1], w->memory[0], N);
    w->cu.cuStreamSynchronize(w->stream[0]);
}

static void a_kernel_on_its_own_memory(world *w)
{
    world_launch(w, w->stream[0], w->memory[0], w->memory[0], N);
    w->cu.cuStreamSynchronize(w->stream[0]);
}

static void host_reads_after_a_kernel(world *w)
{
    a_kernel_on_its_own_memory(w);
    host_reads(w);
}

static void memory_of_a_gpu_is_out_of_reach(void **state)
{
    (void)state;
    world w;
    begin(&w, "gpus=2;mem=1MiB");
    assert_true(faults(host_reads, &w));
    assert_true(faults(host_reads_after_a_kernel, &w));
    assert_true(faults(kernel_reads_the_other_gpu, &w));
    assert_false(faults(a_kernel_on_its_own_memory, &w));
    assert_int_equal(w.cu.cuCtxEnablePeerAccess(w.context[1], 0), 0);
    assert_false(faults(kernel_reads_the_other_gpu, &w));
    end(&w);
}

/* A kernel that comes by a pointer in memory to what was freed meanwhile. */
static void a_kernel_on_freed_memory(world *w)
{
    berth_cu_ptr freed = 0;
    uint32_t n = 1, a = 1, b = 1;
    w->cu.cuMemAlloc(&freed, BYTES);
    void *params[] = {&freed, &w->memory[0], &a, &b, &n};
    w->cu.cuMemFree(freed);
    w->cu.cuLaunchKernel(w->scale, 1, 1, 1, 64, 1, 1, 0, w->stream[0], params, NULL);
    w->cu.cuStreamSynchronize(w->stream[0]);
}

static void freed_memory_is_out_of_reach(void **state)
{
    (void)state;
    world w;
    begin(&w, "gpus=2;mem=1MiB");
    assert_true(faults(a_kernel_on_freed_memory, &w));
    end(&w);
}

/* Another module's kernel on other memory holds nobody up. */
static void what_is_not_in_use_may_go(void **state)
{
    (void)state;
    world w;
    begin(&w, "gpus=2;mem=1MiB");
    berth_cu_ptr other = 0;
    berth_cu_module module = NULL;
    assert_int_equal(w.cu.cuMemAlloc(&other, BYTES), 0);
    assert_int_equal(w.cu.cuModuleLoadData(&module, image), 0);
    assert_int_equal(world_launch(&w, w.stream[0], w.memory[0], w.memory[0], 1), 0);
    assert_int_equal(w.cu.cuMemFree(other), 0);
    assert_int_equal(w.cu.cuModuleUnload(module), 0);
    assert_int_equal(w.cu.cuStreamSynchronize(w.stream[0]), 0);
    emu_report r;
    emulator.report(&r);
    assert_int_equal(r.misuses, 0);
    end(&w);
}

/* ---- the end of a process ---------------------------------------------------------------------------------------------- */

/* This program again, as `what`; its exit status. */
static int exit_status_as(const char *what)
{
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        setenv("CUDA_EMU", "gpus=2;exit=97", 1);
        execl("/proc/self/exe", "misuse_test", what, (char *)NULL);
        _exit(1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int be(const char *what)
{
    berth_cu_driver cu;
    berth_cu_context context;
    if (berth_cu_driver_open(&cu, NULL, NULL) != BERTH_OK || cu.cuDevicePrimaryCtxRetain(&context, 1) != 0) return 1;
    if (strcmp(what, "tidy") == 0 || strcmp(what, "misuser") == 0) cu.cuDevicePrimaryCtxRelease(1);
    if (strcmp(what, "misuser") == 0) cu.cuDevicePrimaryCtxRelease(1);
    if (strcmp(what, "leaker") != 0) berth_cu_driver_close(&cu);
    return 0;
}

static void the_end_of_a_process_tells(void **state)
{
    (void)state;
    assert_int_equal(exit_status_as("tidy"), 0);
    assert_int_equal(exit_status_as("leaker"), 97);
    assert_int_equal(exit_status_as("misuser"), 97);
}

/* What a context and cuBLAS take is missing then. */
static void a_context_takes_memory(void **state)
{
    (void)state;
    world w;
    berth_cu_context context;
    size_t free_bytes = 0, total = 0;
    begin(&w, "gpus=2;mem=1MiB;context_mem.0=64KiB;context_mem.1=4KiB");
    assert_int_equal(w.cu.cuMemGetInfo(&free_bytes, &total), 0);
    assert_int_equal(total, 1 << 20);
    assert_int_equal(free_bytes, (1 << 20) - (64 << 10) - BYTES);
    assert_int_equal(w.memory[0] % 512, 256); /* addresses are multiples of 256, and count on no more */
    end(&w);
    emulator.reset("mem=1MiB;context_mem=2MiB");
    assert_int_equal(berth_cu_driver_open(&w.cu, NULL, NULL), BERTH_OK);
    assert_int_equal(w.cu.cuDevicePrimaryCtxRetain(&context, 0), BERTH_CU_OUT_OF_MEMORY);
    end(&w);
}

static int ask_for_memory(const world *w)
{
    size_t free_bytes = 0, total = 0;
    return w->cu.cuMemGetInfo(&free_bytes, &total);
}

static int32_t told_failures(void)
{
    emu_report r;
    emulator.report(&r);
    return r.n_failed;
}

static void a_call_fails_when_it_is_told_to(void **state)
{
    (void)state;
    world w;
    begin(&w, "gpus=2;mem=1MiB;fail=1000000:2");
    emulator.fail_after(3, 2);
    for (int i = 0; i < 2; i++) assert_int_equal(ask_for_memory(&w), 0);
    assert_int_equal(told_failures(), 0);
    assert_int_equal(ask_for_memory(&w), 2);
    assert_int_equal(told_failures(), 1);
    for (int i = 0; i < 4; i++) assert_int_equal(ask_for_memory(&w), 0);
    emulator.fail_after(1, 2);
    emulator.fail_after(0, 0); /* never mind */
    assert_int_equal(ask_for_memory(&w), 0);
    emulator.fail_after(1, 700);
    for (int i = 0; i < 2; i++) assert_int_equal(ask_for_memory(&w), 700);
    assert_int_equal(told_failures(), 2); /* the last one is the dead context's */
    end(&w);
}

static void fresh_memory_is_not_zero(void **state)
{
    (void)state;
    world w;
    begin(&w, "gpus=2;mem=1MiB");
    uint8_t seen[BYTES] = {0};
    assert_int_equal(w.cu.cuMemcpyDtoHAsync(seen, w.memory[0], BYTES, w.stream[0]), 0);
    for (int i = 0; i < BYTES; i++) assert_int_not_equal(seen[i], 0);
    end(&w);
}

int main(int argc, char **argv)
{
    if (argc > 1) return be(argv[1]);
    image = read_image(TEST_KERNELS);
    emu_control_open(&emulator);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_misuse_is_refused_and_counted),
        cmocka_unit_test(what_is_left_behind_is_counted),
        cmocka_unit_test(what_a_kernel_says_is_counted),
        cmocka_unit_test(streams_order_and_nothing_else_does),
        cmocka_unit_test(pinned_memory_is_read_late),
        cmocka_unit_test(polling_ends),
        cmocka_unit_test(memory_of_a_gpu_is_out_of_reach),
        cmocka_unit_test(fresh_memory_is_not_zero),
        cmocka_unit_test(freed_memory_is_out_of_reach),
        cmocka_unit_test(what_is_not_in_use_may_go),
        cmocka_unit_test(a_call_fails_when_it_is_told_to),
        cmocka_unit_test(the_end_of_a_process_tells),
        cmocka_unit_test(a_context_takes_memory),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    emu_control_close(&emulator);
    free(image);
    return failed;
}
