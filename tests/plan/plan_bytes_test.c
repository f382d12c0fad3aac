/* plan_bytes_test.c - planned bytes are allocated bytes: every strategy with and without arguments, accelerate's own
 * answers, every golden model, plain devices and worn ones, several replicas and several conversations.
 *
 * The engine's account is added up from its arenas and mappings; it is compared here field by field with what the plan
 * said, and each device's total with its limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "strategies/registry.h"
#include "tests/engine/golden.h"

static const char *const machines[] = {
    "cpu", "cpu*3", "4xV100-SXM2-16GB", "A10,T4,cpu/mem=2GiB", "2xA10,2xT4",
};

/* Beside the plain names of the registry. */
static const char *const with_arguments[] = {
    "replicate=1",       "replicate=2", "optimal=latency",           "optimal=capacity",
    "deepspeed=uniform", "accelerate",  "accelerate=balanced_low_0", "accelerate=sequential",
};

static int n_compared, n_worn, n_replicas;

static void compare(const char *what, const golden_engine *e)
{
    for (int32_t d = 0; d < e->machine.n_devices; d++) {
        const berth_device_bytes got = berth_core_allocated(e->core, d), *plan = &e->plan->devices[d];
        const struct {
            const char *name;
            uint64_t planned, allocated;
        } rows[] = {{"weights", plan->weights, got.weights},       {"KV", plan->kv, got.kv},
                    {"features", plan->features, got.features},    {"activations", plan->activations, got.activations},
                    {"workspace", plan->workspace, got.workspace}, {"total", plan->total, got.total}};
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            if (rows[i].planned != rows[i].allocated)
                fail_msg("%s, %s: %llu bytes of %s planned, %llu allocated", what, e->machine.devices[d].name,
                         (unsigned long long)rows[i].planned, rows[i].name, (unsigned long long)rows[i].allocated);
        assert_true(got.total <= e->machine.devices[d].memory_bytes);
        n_worn += e->machine.devices[d].profile[0] && got.weights > 0;
    }
    n_replicas += e->plan->placement->n_replicas > 1;
    n_compared++;
}

/* A strategy may refuse a machine or model, for a reason; that is not this test's business. */
static void check(const golden_model *g, const char *devices, const char *strategy)
{
    static const berth_plan_config configs[] = {{0}, {.n_seqs = 3, .context = 96, .chunk = 33, .tiles = 2}};
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        golden_engine e;
        berth_error err = {0};
        char what[256];
        snprintf(what, sizeof what, "%s, %s, %s, %d sequences", g->name, devices, strategy, (int)configs[i].n_seqs);
        const berth_status st = golden_plan(&e, g, devices, strategy, &configs[i], &err);
        if (st == BERTH_UNSUPPORTED || st == BERTH_INVALID_ARGUMENT || st == BERTH_DOES_NOT_FIT) continue;
        golden_must(st, &err, what);
        golden_must(golden_start(&e, &(berth_core_options){0}, &err), &err, what);
        compare(what, &e);
        golden_stop(&e);
    }
}

static void planned_bytes_are_allocated_bytes(void **state)
{
    (void)state;
    for (const char *const *name = golden_names; *name; name++) {
        golden_model g;
        golden_open(&g, *name);
        for (size_t m = 0; m < sizeof machines / sizeof machines[0]; m++) {
            for (int32_t i = 0; i < berth_strategy_count(); i++) check(&g, machines[m], berth_strategy_at(i)->name);
            for (size_t i = 0; i < sizeof with_arguments / sizeof with_arguments[0]; i++)
                check(&g, machines[m], with_arguments[i]);
        }
        golden_close(&g);
    }
    print_message("%d engines compared; %d worn devices with weights; %d engines of several replicas\n", n_compared,
                  n_worn, n_replicas);
    assert_true(n_compared > 1000 && n_worn > 1000 && n_replicas > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(planned_bytes_are_allocated_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
