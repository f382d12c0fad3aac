/* measure_test.c - what an engine takes of emulated GPUs' memory by the driver's count, beside the plan. */
#include <string.h>

#include "cuda/device.h"
#include "fixture.h"

enum { LIBRARIES = 1 << 20 }; /* what emulated libraries take, at most */

static const berth_plan_config fp32 = {.dtype = BERTH_PLAN_FP32};

typedef struct other { /* takes memory while an engine is made */
    berth_cuda *cuda;
    berth_gpu *gpu;
    size_t bytes;
} other;

static void take_some(void *user, uint64_t done, uint64_t total)
{
    other *o = user;
    berth_error err = {0};
    (void)done;
    (void)total;
    if (o->gpu) return;
    golden_must(berth_cuda_open(NULL, &o->cuda, &err), &err, "driver");
    golden_must(berth_gpu_open(o->cuda, 1, o->bytes, &o->gpu, &err), &err, "another's memory");
}

static void start(golden_engine *e, const golden_model *g, other *o)
{
    berth_error err = {0};
    const berth_core_options options = {.progress = o ? take_some : NULL, .progress_user = o};
    world_reset("gpus=2;mem=512MiB;context_mem=10MiB");
    golden_must(golden_plan(e, g, "cuda:0*2,cuda:1", "balanced", &fp32, &err), &err, "plan");
    golden_must(golden_start(e, &options, &err), &err, "start");
}

static void what_is_taken_is_what_was_planned(void **state)
{
    (void)state;
    golden_model g;
    golden_engine e;
    golden_open(&g, "ivl-rms-qknorm");
    start(&e, &g, NULL);
    const berth_core_plan *plan = berth_core_get_plan(e.core);
    const uint64_t both = plan->devices[0].total + plan->devices[1].total, third = plan->devices[2].total;
    assert_true(both > 0 && third > 0);
    assert_in_range(plan->measured[0].taken, both, both + LIBRARIES);
    assert_int_equal(plan->measured[1].taken, plan->measured[0].taken);
    assert_in_range(plan->measured[2].taken, third, third + LIBRARIES);
    for (int d = 0; d < 3; d++) assert_int_equal(plan->measured[d].used_before, 10 << 20);
    assert_string_equal(berth_core_notes(e.core), "");
    golden_stop(&e);
    world_is_empty("measured");
    golden_close(&g);
}

static void much_more_is_a_note(void **state)
{
    (void)state;
    golden_model g;
    golden_engine e;
    other o = {.bytes = 200 << 20};
    golden_open(&g, "ivl-rms-qknorm");
    start(&e, &g, &o);
    const berth_core_plan *plan = berth_core_get_plan(e.core);
    const uint64_t known = plan->devices[2].total + o.bytes;
    assert_in_range(plan->measured[2].taken, known, known + LIBRARIES);
    const char *notes = berth_core_notes(e.core);
    if (!strstr(notes, "cuda:1: ") || !strstr(notes, "another program took some") || strstr(notes, "cuda:0: "))
        fail_msg("\"%s\"", notes);
    golden_stop(&e);
    berth_gpu_close(o.gpu);
    berth_cuda_close(o.cuda);
    world_is_empty("measured");
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_taken_is_what_was_planned),
        cmocka_unit_test(much_more_is_a_note),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
