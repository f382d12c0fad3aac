/* numeric_test.c - bad numbers end a request with the op where they began, and never with a token; healthy models are
 * not accused. */
#include "golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct damage {
    const char *model;
    berth_role role;
    int32_t layer;
    int64_t index; /* of the element; -1 = all */
    float value;
    const char *words[6]; /* all of them in the message */
} damage;

static const damage damages[] = {
    {"ivl-native",
     BERTH_T_UP_W,
     1,
     77,
     NAN,
     {"text.layer.1.up", "linear", "layer 1", "up_proj.weight", "holds 1 such", "NaN"}},
    {"ivl-native", BERTH_T_HEAD, -1, 5, INFINITY, {"logits", "lm_head", "infinite", "holds 1 such"}},
    {"ivl-native", BERTH_T_HEAD, -1, -1, 0.0f, {"constant: all 490 are 0", "nothing before the logits", "lm_head"}},
    {"ivl-native", BERTH_T_NORM_W, -1, -1, 0.0f, {"constant", "rms_norm", "text.norm"}},
    {"ivl-remote", BERTH_V_FC1_B, 1, 3, NAN, {"vision.layer.1.fc1", "program encode", "layer 1", "fc1.bias"}},
    {"ivl-remote", BERTH_V_CLS, -1, 0, -INFINITY, {"vision.embed", "program encode", "class_embedding"}},
    {"ivl-rms-qknorm", BERTH_P_FC2_W, -1, 9, INFINITY, {"projector.out", "program encode"}},
    {"ivl-qwen3", BERTH_T_KNORM_W, 0, 1, NAN, {"text.layer.0.k_norm", "layer 0"}},
    {"qwen2-text", BERTH_T_NORM1_W, 2, 0, NAN, {"text.layer.2.norm1", "rms_norm", "input_layernorm"}},
};

static bool count_token(void *user, int32_t index, int32_t id, const float *logits)
{
    (void)index;
    (void)id;
    (void)logits;
    ++*(int *)user;
    return true;
}

static void check_damage(const damage *d, const char *devices, const berth_plan_config *config, bool strict)
{
    char dir[64];
    golden_model g;
    golden_engine e;
    berth_error err = {0};
    golden_copy(d->model, dir);
    golden_patch(dir, d->role, d->layer, d->index, d->value);
    golden_open_at(&g, d->model, dir);
    golden_must(golden_plan(&e, &g, devices, "balanced", config, &err), &err, d->model);
    const berth_core_options options = {.strict = strict};
    golden_must(golden_start(&e, &options, &err), &err, d->model);
    int n_tokens = 0;
    berth_core_request q = golden_request(&g.cases[0], 4);
    q.on_token = count_token;
    q.user = &n_tokens;
    berth_core_result result;
    assert_int_equal(berth_core_run(e.core, &q, &result, &err), BERTH_NUMERIC);
    assert_int_equal(n_tokens, 0);
    assert_null(result.ids);
    for (int i = 0; i < 6 && d->words[i]; i++)
        if (!strstr(err.message, d->words[i]))
            fail_msg("%s %s: no \"%s\" in: %s", d->model, devices, d->words[i], err.message);
    if (err.device < 0 || !strstr(err.message, e.machine.devices[err.device].name))
        fail_msg("%s: %s", d->model, err.message);
    golden_stop(&e);
    golden_close(&g);
    golden_remove(dir);
}

static void the_first_bad_op_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        check_damage(&damages[i], "cpu", &(berth_plan_config){0}, false);
        check_damage(&damages[i], "cpu*3", &(berth_plan_config){.chunk = 9, .tiles = 2}, false);
        check_damage(&damages[i], "cpu*2", &(berth_plan_config){.kernels_ref = true}, true);
    }
}

/* A row of the embedding that only a generated token reads: the error comes in a decode step, after good tokens. */
static void bad_numbers_in_a_decode_step(void **state)
{
    (void)state;
    char dir[64];
    golden_model g;
    golden_engine e;
    berth_error err = {0};
    golden_copy("ivl-native", dir);
    golden_open_at(&g, "ivl-native", dir);
    const golden_case *c = &g.cases[0];
    int32_t bad_id = c->greedy[2], hidden = berth_model_data_config(g.data)->text.hidden;
    for (int32_t i = 0; i < c->n_ids; i++) assert_true(c->ids[i] != bad_id);
    golden_patch(dir, BERTH_T_EMBED, -1, (int64_t)bad_id * hidden + 1, NAN);
    golden_must(golden_plan(&e, &g, "cpu*2", "balanced", NULL, &err), &err, "plan");
    golden_must(golden_start(&e, NULL, &err), &err, "start");
    int n_tokens = 0;
    berth_core_request q = golden_request(c, 8);
    q.on_token = count_token;
    q.user = &n_tokens;
    berth_core_result result;
    assert_int_equal(berth_core_run(e.core, &q, &result, &err), BERTH_NUMERIC);
    assert_int_equal(n_tokens, 3);
    if (!strstr(err.message, "text.tokens") || !strstr(err.message, "while generating")) fail_msg("%s", err.message);
    golden_stop(&e);
    golden_close(&g);
    golden_remove(dir);
}

static void bad_pixels_are_told_from_bad_weights(void **state)
{
    (void)state;
    golden_model g;
    golden_engine e;
    berth_error err = {0};
    golden_open(&g, "ivl-native");
    golden_must(golden_plan(&e, &g, "cpu*2", "balanced", NULL, &err), &err, "plan");
    golden_must(golden_start(&e, NULL, &err), &err, "start");
    g.cases[0].pixels[11] = NAN;
    berth_core_request q = golden_request(&g.cases[0], 2);
    berth_core_result result;
    assert_int_equal(berth_core_run(e.core, &q, &result, &err), BERTH_NUMERIC);
    if (!strstr(err.message, "patchify") || !strstr(err.message, "pixel_values itself holds 1"))
        fail_msg("%s", err.message);
    golden_stop(&e);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_bad_op_is_named),
        cmocka_unit_test(bad_numbers_in_a_decode_step),
        cmocka_unit_test(bad_pixels_are_told_from_bad_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
