/* nvtx_test.c - what a tool is told of an engine on emulated GPUs: each op by its name, layer, device and request, each
 * pass; nothing where it was not asked for; and a note where no tool listens. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cuda/nvtx.h"
#include "fixture.h"
#include "nvtx_tool.h"

enum { TOKENS = 2 };

static const berth_plan_config fp32 = {.dtype = BERTH_PLAN_FP32};

static const nvtx_tool_report *report(void)
{
    void *lib = dlopen(NVTX_TOOL, RTLD_NOW | RTLD_LOCAL);
    if (!lib) fail_msg("%s", dlerror());
    void *symbol = dlsym(lib, "nvtx_tool_get_report");
    nvtx_tool_report_fn *get;
    assert_non_null(symbol);
    memcpy(&get, &symbol, sizeof get);
    return get();
}

/* Two requests; the notes of the engine are copied to `notes`. */
static void run(bool nvtx, char *notes, size_t room)
{
    golden_model g;
    golden_engine e;
    berth_error err = {0};
    const berth_core_options options = {.nvtx = nvtx};
    golden_open(&g, "ivl-rms-qknorm");
    world_reset("gpus=2;mem=32MiB");
    golden_must(golden_plan(&e, &g, "cuda:0,cuda:1", "balanced", &fp32, &err), &err, "plan");
    golden_must(golden_start(&e, &options, &err), &err, "start");
    snprintf(notes, room, "%s", berth_core_notes(e.core));
    for (int i = 0; i < 2; i++) {
        berth_core_request q = golden_request(&g.cases[0], TOKENS);
        berth_core_result r = {0};
        golden_must(berth_core_run(e.core, &q, &r, &err), &err, "run");
        for (int32_t t = 0; t < TOKENS; t++) assert_int_equal(r.ids[t], g.cases[0].greedy[t]);
        berth_core_result_deinit(&r);
    }
    golden_stop(&e);
    world_is_empty("ranges");
    golden_close(&g);
}

static int32_t count(const char (*names)[NVTX_TOOL_NAME], int32_t n, const char *a, const char *b)
{
    int32_t found = 0;
    for (int32_t i = 0; i < n; i++) found += strstr(names[i], a) && strstr(names[i], b);
    return found;
}

static void each_op_is_named(void **state)
{
    (void)state;
    char notes[512];
    const nvtx_tool_report *t = report();
    setenv("NVTX_INJECTION64_PATH", NVTX_TOOL, 1);
    run(false, notes, sizeof notes);
    assert_int_equal(t->n_pushed + t->n_started, 0);
    run(true, notes, sizeof notes);
    assert_string_equal(notes, "");
    assert_in_range(t->n_pushed, 100, NVTX_TOOL_MOST);
    assert_int_equal(t->n_popped, t->n_pushed);
    assert_int_equal(t->n_ended, t->n_started);
    assert_int_equal(t->n_wrong, 0);
    for (int request = 1; request <= 2; request++) {
        const char *who = request == 1 ? ", requests 1" : ", requests 2";
        assert_in_range(count(t->started, t->n_started, "encode, ", who), 1, 10);
        assert_in_range(count(t->started, t->n_started, "step, ", who), TOKENS, 10);
        assert_in_range(count(t->pushed, t->n_pushed, "linear text.layer.0.", who), 1, 50);
        assert_in_range(count(t->pushed, t->n_pushed, " cuda:0, ", who), 20, 10000);
        assert_in_range(count(t->pushed, t->n_pushed, " cuda:1, ", who), 20, 10000);
        assert_in_range(count(t->pushed, t->n_pushed, "encode, ", who), 20, 10000);
    }
}

/* In a process of its own: a tool is looked for once. */
static void without_a_tool_there_is_a_note(void **state)
{
    (void)state;
    static const char *const paths[] = {"", "/nowhere/tool.so", "libm.so.6"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            berth_error err = {0};
            setenv("NVTX_INJECTION64_PATH", paths[i], 1);
            bool is_right = berth_nvtx_open(&err) == BERTH_NOT_FOUND && strstr(err.message, "nsys") &&
                            strstr(err.message, i == 0 ? "no tool listens" : paths[i]);
            berth_nvtx_push("nobody");
            berth_nvtx_pop();
            berth_nvtx_end(berth_nvtx_start("nobody"));
            _exit(is_right ? 0 : 1);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_tool_there_is_a_note),
        cmocka_unit_test(each_op_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
