/* failing_allocations_test.c - the n-th allocation or mapping fails, for every n, once: planning, making an engine and
 * running a request give a status, leak nothing and leave nothing behind that a second try would trip over. */
#include "golden.h"

#include "tests/failing.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef struct scene {
    const char *model, *devices, *strategy;
    bool strict;
    const char *transport;
} scene;

/* One whole life; the status of the first call that failed. Where it got to is in *out_stage. */
static berth_status live(const golden_model *g, const berth_machine *machine, const scene *s, int *out_stage,
                         berth_error *err)
{
    const berth_plan_config config = {.context = g->cases[0].n_ids + 8};
    const berth_core_options options = {.strict = s->strict, .transport = s->transport};
    berth_core_plan *plan = NULL;
    berth_core *core = NULL;
    *out_stage = 0;
    berth_status st = berth_core_plan_create(g->data, machine, s->strategy, NULL, 0, &config, &plan, err);
    if (st != BERTH_OK) return st;
    *out_stage = 1;
    st = berth_core_create(plan, &options, &core, err);
    if (st != BERTH_OK) return st;
    *out_stage = 2;
    berth_core_request q = golden_request(&g->cases[0], 3);
    berth_core_result result;
    st = berth_core_run(core, &q, &result, err);
    if (st == BERTH_OK && memcmp(result.ids, g->cases[0].greedy, 3 * sizeof(int32_t)) != 0) st = BERTH_MISMATCH;
    berth_core_result_deinit(&result);
    berth_core_destroy(core);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const scene scenes[] = {
        {"ivl-rms-qknorm", "cpu*2", "balanced", true, "staged"},
        {"qwen2-text", "cpu", "single", false, NULL},
        {"ivl-native", "A10,V100", "balanced", false, NULL},
    };
    for (size_t k = 0; k < sizeof scenes / sizeof scenes[0]; k++) {
        golden_model g;
        berth_machine machine;
        berth_error err = {0};
        int reached[3] = {0};
        golden_open(&g, scenes[k].model);
        golden_must(berth_machine_parse(scenes[k].devices, &machine, &err), &err, "machine");
        for (int64_t n = 0;; n++) {
            int stage;
            faults.n_calls = 0;
            faults.fail_at = (long)n + 1;
            berth_status st = live(&g, &machine, &scenes[k], &stage, &err);
            faults.fail_at = 0;
            if (faults.n_calls <= n) {
                assert_int_equal(st, BERTH_OK);
                assert_true(n > 50);
                break;
            }
            reached[stage]++;
            if (st != BERTH_OUT_OF_MEMORY && st != BERTH_IO_ERROR && st != BERTH_DEVICE_ERROR)
                fail_msg("%s: allocation %lld failed in stage %d: %s: %s", scenes[k].model, (long long)n, stage,
                         berth_status_name(st), err.message);
        }
        for (int i = 0; i < 3; i++) assert_true(reached[i] > 0);
        berth_machine_deinit(&machine);
        golden_close(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
