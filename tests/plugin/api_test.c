/* api_test.c - plug-ins through the embedder's interface, on a real model: by path and by folder, in process and
 * isolated, with the same plan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "berth/berth.h"

#define PLUGIN(name) PLUGIN_DIR "/" name ".so"
#define MODEL        BERTH_SOURCE_DIR "/tests/golden/models/ivl-native"

static berth_runtime *rt;
static berth_model *model;

static int open_model(void **state)
{
    (void)state;
    berth_error err;
    if (berth_runtime_create(NULL, &rt, &err) != BERTH_OK) return 1;
    return berth_model_open(rt, MODEL, NULL, &model, &err) == BERTH_OK ? 0 : 1;
}

static int close_model(void **state)
{
    (void)state;
    berth_model_close(model);
    berth_runtime_destroy(rt);
    return 0;
}

static berth_plan_options options(const char *strategy)
{
    return (berth_plan_options){.struct_size = sizeof(berth_plan_options),
                                .devices = "cpu*3/mem=1GiB",
                                .strategy = strategy,
                                .strategy_dir = PLUGIN_DIR,
                                .strategy_timeout_ms = 600000,
                                .strategy_host = STRATEGY_HOST};
}

static char *map_of(berth_plan_options o)
{
    berth_plan *plan;
    berth_error err;
    if (berth_plan_create(model, &o, &plan, &err) != BERTH_OK) fail_msg("%s: %s", o.strategy, err.message);
    assert_true(berth_plan_fits(plan, NULL, NULL));
    char *map = berth_plan_device_map(plan, 0);
    assert_non_null(map);
    berth_plan_destroy(plan);
    return map;
}

static void every_way_gives_the_same_plan(void **state)
{
    (void)state;
    static const char *const names[] = {PLUGIN("good"), "good"};
    char *first = map_of(options(names[0]));
    assert_non_null(strstr(first, ": 1"));
    assert_non_null(strstr(first, ": 0"));
    for (int n = 0; n < 2; n++) {
        for (int isolated = 0; isolated < 2; isolated++) {
            berth_plan_options o = options(names[n]);
            o.isolated = isolated;
            char *map = map_of(o);
            assert_string_equal(map, first);
            berth_free(map);
        }
    }
    berth_free(first);
    char *single = map_of(options("single=0")), *plugin = map_of(options("good=1"));
    assert_string_equal(plugin, single);
    berth_free(single);
    berth_free(plugin);
}

static void refuse(berth_plan_options o, berth_status status, const char *says)
{
    berth_plan *plan;
    berth_error err;
    berth_status st = berth_plan_create(model, &o, &plan, &err);
    if (st != status || !strstr(err.message, says)) fail_msg("%s: %d: %s", o.strategy, st, err.message);
    assert_null(plan);
}

static void errors_reach_the_embedder(void **state)
{
    (void)state;
    berth_plan_options o = options("bad=crash");
    o.isolated = 1;
    refuse(o, BERTH_BAD_FILE, "bad.so crashed in place: signal 11");
    o.strategy = "bad=loop";
    o.strategy_timeout_ms = 150;
    refuse(o, BERTH_DEADLINE, "gave no answer within 150 ms");
    o.strategy_timeout_ms = -5;
    refuse(o, BERTH_INVALID_ARGUMENT, "strategy_timeout_ms = -5");
    refuse(options("bad=nothing"), BERTH_INVALID_ARGUMENT, "strategy bad (" PLUGIN_DIR "/bad.so) put tensor");
    refuse(options("bad=write-node"), BERTH_BAD_FILE, "wrote to its inputs");
    refuse(options("goood"), BERTH_INVALID_ARGUMENT, "did you mean good?");
    refuse(options("./nowhere.so"), BERTH_NOT_FOUND, "nowhere.so");
    o = options("goood");
    o.strategy_dir = "/nowhere";
    refuse(o, BERTH_NOT_FOUND, "strategy folder /nowhere cannot be read");
    o = options("good");
    o.devices = "cpu*3/mem=1MiB";
    refuse(o, BERTH_DOES_NOT_FIT, "missing: ");
}

/* A program built before plug-ins knew a shorter struct. */
static void older_programs_plan_as_before(void **state)
{
    (void)state;
    struct {
        berth_plan_options o;
    } caller;
    memset(&caller, 0xAA, sizeof caller);
    memset(&caller, 0, offsetof(berth_plan_options, strategy_dir));
    caller.o.struct_size = offsetof(berth_plan_options, strategy_dir);
    caller.o.devices = "cpu*2";
    char *map = map_of(caller.o);
    berth_free(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_gives_the_same_plan),
        cmocka_unit_test(errors_reach_the_embedder),
        cmocka_unit_test(older_programs_plan_as_before),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
