/* override_test.c - overrides over placements of all kinds, against a plain re-telling of the rule; and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"
#include "program/override.h"
#include "program/toy.h"

static const berth_alias aliases[] = {
    {"vision", TOY_VISION},       {"projector", TOY_PROJ},      {"text", TOY_TEXT},
    {"text.layer.0", TOY_LAYER0}, {"text.layer.1", TOY_LAYER1}, {"head", TOY_HEAD},
};
enum { N_ALIASES = sizeof aliases / sizeof aliases[0] };

static berth_status apply(const berth_override *o, const int32_t *layers, const berth_placement *base,
                          berth_placement **out, berth_error *err)
{
    const berth_strategy_input in = toy_input();
    *err = (berth_error){0};
    return berth_override_apply(o, layers, 2, aliases, N_ALIASES, base, &in, out, err);
}

static int32_t device_of(const berth_placement *p, int32_t node)
{
    const berth_strategy_input in = toy_input();
    return berth_placement_device(p, &in, 0, node, NULL);
}

static void the_last_rule_that_fits_wins(void **state)
{
    (void)state;
    berth_placement *base = toy_split(0, 1, 2), *p;
    berth_error err;
    const char *const place[] = {"vision_model.*=cpu:1", "text.layer.*=0", "language_model.layers.1.norm=cpu:2",
                                 "head=1", NULL};
    const berth_override o = {.place = place};
    assert_int_equal(apply(&o, NULL, base, &p, &err), BERTH_OK);
    const int32_t want[][2] = {{TOY_PROJ_W, 1}, {TOY_PROJ_B, 1},  {TOY_NORM0_W, 0},
                               {TOY_LAYER0, 0}, {TOY_NORM1_W, 2}, {TOY_HEAD_W, 1}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) assert_int_equal(device_of(p, want[i][0]), want[i][1]);
    assert_string_equal(p->strategy, base->strategy);
    assert_non_null(strstr(p->note, "head=1 moved 1 tensors"));
    berth_placement_destroy(p);
    berth_placement_destroy(base);
}

static void errors_and_explanations_name_the_rule(void **state)
{
    (void)state;
    berth_placement *base = toy_split(0, 1, 2), *p;
    berth_error err;
    const char *const place[] = {"text.layer.1=cpu:0", NULL};
    const berth_override o = {.place = place};
    const berth_strategy_input in = toy_input();
    berth_buffer b = {0};
    assert_int_equal(apply(&o, NULL, base, &p, &err), BERTH_OK);
    assert_true(berth_placement_why(p, &in, 0, TOY_NORM1_W, &b));
    assert_string_equal(b.data, "place text.layer.1=cpu:0 put language_model.layers.1 on cpu:0");
    berth_buffer_deinit(&b);
    assert_true(berth_placement_why(p, &in, 0, TOY_NORM0_W, &b));
    assert_non_null(strstr(b.data, "strategy toy put"));
    berth_buffer_deinit(&b);
    berth_pass_env env = toy_env(p);
    berth_program_destroy(toy_routed(&env));
    berth_placement_destroy(p);
    berth_placement_destroy(base);
}

static void layers_and_vision_move_as_told(void **state)
{
    (void)state;
    berth_placement *base = toy_split(0, 0, 0), *p;
    berth_error err;
    const int32_t layers[] = {1, 1, 2, 2};
    const berth_override o = {.layers = "0,1,1", .vision_device = "cpu:2"};
    assert_int_equal(apply(&o, layers, base, &p, &err), BERTH_OK);
    assert_int_equal(device_of(p, TOY_PROJ_W), 2);
    assert_int_equal(device_of(p, TOY_LAYER0), 1);
    assert_int_equal(device_of(p, TOY_LAYER1), 2);
    assert_int_equal(device_of(p, TOY_HEAD), 2);
    berth_placement_destroy(p);
    berth_placement_destroy(base);
}

static void what_means_nothing_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *rule, *says;
    } cases[] = {
        {"visoin=0", "no module or tensor of the model fits \"visoin\"; the nearest name is \"vision\""},
        {"text.layer.2=0", "\"text.layer.2\"; the nearest name is \"text.layer.0\""},
        {"vision=cpu:3", "\"cpu:3\" is not a device here; there are cpu:0, cpu:1, cpu:2"},
        {"vision=3", "\"3\" is not a device here"},
        {"vision=-1", "\"-1\" is not a device here"},
        {"vision=", "expected GLOB=DEVICE"},
        {"=0", "expected GLOB=DEVICE"},
        {"vision", "expected GLOB=DEVICE"},
        {"", "expected GLOB=DEVICE"},
    };
    berth_placement *base = toy_split(0, 1, 2), *p;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const place[] = {"head=0", cases[i].rule, NULL};
        const berth_override o = {.place = place};
        berth_error err;
        assert_int_equal(apply(&o, NULL, base, &p, &err), BERTH_INVALID_ARGUMENT);
        assert_null(p);
        if (strstr(err.message, cases[i].says) == NULL) fail_msg("%s: %s", cases[i].rule, err.message);
    }
    berth_placement_destroy(base);
}

/* Any rules over any placement: every tensor is where the last rule that names it, or a module above it, says. */
static void random_rules_agree_with_the_plain_rule(void **state)
{
    (void)state;
    static const char *const globs[] = {"*",       "vision*",   "vision.*",     "language_model",
                                        "*.norm",  "*.weight",  "text.layer.?", "text.layer.0.*",
                                        "lm_head", "projector", "*layers.[01]"};
    const berth_strategy_input in = toy_input();
    unsigned seed = 1;
    for (int round = 0; round < 3000; round++) {
        char rules[4][64];
        const char *place[5] = {0};
        int32_t device[4], n = 0;
        for (int k = 0; k < 4; k++) {
            seed = seed * 1103515245u + 12345u;
            const char *glob = globs[(seed >> 8) % (sizeof globs / sizeof globs[0])];
            device[n] = (int32_t)((seed >> 20) % 3);
            snprintf(rules[n], sizeof rules[n], "%s=%d", glob, (int)device[n]);
            place[n] = rules[n];
            n++;
            if ((seed >> 24) % 3 == 0) break;
        }
        berth_placement *base =
            toy_split((int32_t)(seed >> 5) % 3, (int32_t)(seed >> 9) % 3, (int32_t)(seed >> 13) % 3);
        berth_placement *p;
        berth_error err;
        const berth_override o = {.place = place};
        if (apply(&o, NULL, base, &p, &err) != BERTH_OK) fail_msg("%s", err.message);
        for (int32_t t = 0; t < in.n_nodes; t++) {
            if (!(toy_nodes[t].flags & BERTH_NODE_TENSOR)) continue;
            int32_t want = device_of(base, t);
            for (int32_t k = 0; k < n; k++) {
                char glob[64];
                snprintf(glob, sizeof glob, "%.*s", (int)(strrchr(rules[k], '=') - rules[k]), rules[k]);
                for (int32_t i = t; i >= 0; i = toy_nodes[i].parent) {
                    bool fits = berth_glob_match(glob, toy_nodes[i].path);
                    for (int32_t j = i; j >= 0; j = toy_nodes[j].parent) { /* by every alias on the way up */
                        int32_t a = 0;
                        while (a < N_ALIASES && aliases[a].node != j) a++;
                        if (a == N_ALIASES) continue;
                        char name[200];
                        snprintf(name, sizeof name, "%s%s", aliases[a].name,
                                 toy_nodes[i].path + strlen(toy_nodes[j].path));
                        fits = fits || berth_glob_match(glob, name);
                    }
                    if (fits) want = device[k];
                }
            }
            if (device_of(p, t) != want) fail_msg("%s, first rule %s", toy_nodes[t].path, place[0]);
        }
        berth_placement_destroy(p);
        berth_placement_destroy(base);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_rule_that_fits_wins),
        cmocka_unit_test(errors_and_explanations_name_the_rule),
        cmocka_unit_test(layers_and_vision_move_as_told),
        cmocka_unit_test(what_means_nothing_is_refused),
        cmocka_unit_test(random_rules_agree_with_the_plain_rule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
