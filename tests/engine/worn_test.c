/* worn_test.c - virtual devices that wear a profile: what they compute in, what they hold, what they refuse, and that
 * where things lie changes nothing. */
#include "golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- runs ------------------------------------------------------------------------------------------------------- */

enum { NEW = 6 };

typedef struct answer {
    int32_t ids[NEW], n;
    float *logits; /* [n, vocab] */
    int32_t vocab;
} answer;

static bool keep(void *user, int32_t index, int32_t id, const float *logits)
{
    answer *a = user;
    a->ids[index] = id;
    memcpy(a->logits + (size_t)index * (size_t)a->vocab, logits, (size_t)a->vocab * sizeof *logits);
    a->n = index + 1;
    return true;
}

static answer ask(const golden_model *g, const char *devices, const char *strategy, const berth_plan_config *config,
                  bool strict)
{
    golden_engine e;
    berth_error err = {0};
    golden_must(golden_plan(&e, g, devices, strategy, config, &err), &err, devices);
    const berth_core_options options = {.strict = strict};
    golden_must(golden_start(&e, &options, &err), &err, devices); /* compares what is allocated with what was planned */
    answer a = {.vocab = berth_model_data_config(g->data)->text.vocab};
    a.logits = calloc((size_t)NEW * (size_t)a.vocab, sizeof *a.logits);
    berth_core_request q = golden_request(&g->cases[0], NEW);
    q.on_token = keep;
    q.wants_logits = true;
    q.user = &a;
    berth_core_result result;
    golden_must(berth_core_run(e.core, &q, &result, &err), &err, devices);
    berth_core_result_deinit(&result);
    golden_stop(&e);
    return a;
}

static double distance(const answer *a, const answer *b) /* largest, of the first token's logits */
{
    double worst = 0;
    for (int32_t i = 0; i < a->vocab; i++) worst = fmax(worst, fabs((double)a->logits[i] - (double)b->logits[i]));
    return worst;
}

static bool same_bits(const answer *a, const answer *b)
{
    return a->n == b->n && memcmp(a->ids, b->ids, sizeof a->ids) == 0 &&
           memcmp(a->logits, b->logits, (size_t)a->n * (size_t)a->vocab * sizeof *a->logits) == 0;
}

/* ---- numbers ---------------------------------------------------------------------------------------------------- */

/* Devices of one policy give the same bits however many they are; policies differ from fp32 by their roundings,
 * bf16's being eight times coarser than fp16's. */
static void where_things_lie_changes_no_bit(void **state)
{
    (void)state;
    static const struct {
        const char *one, *many[3];
        double least, most; /* distance from fp32 */
    } cases[] = {
        {"A10", {"2xA10", "4xL4", "H200,A100-40GB,L40S"}, 1e-4, 0.6},
        {"T4", {"4xV100-SXM2-16GB", "2xT4", "V100-PCIe-32GB,T4,T4"}, 1e-5, 0.1},
    };
    for (int m = 0; golden_names[m]; m++) {
        golden_model g;
        golden_open(&g, golden_names[m]);
        answer plain = ask(&g, "cpu", "single", NULL, false);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            answer one = ask(&g, cases[i].one, "single", NULL, false);
            double d = distance(&one, &plain);
            if (!(d >= cases[i].least && d <= cases[i].most))
                fail_msg("%s on %s: %g from fp32", g.name, cases[i].one, d);
            for (int k = 0; k < 3; k++) {
                answer many = ask(&g, cases[i].many[k], k ? "balanced_low_0" : "balanced",
                                  &(berth_plan_config){.chunk = 7}, k == 1);
                if (!same_bits(&one, &many)) fail_msg("%s: %s and %s differ", g.name, cases[i].one, cases[i].many[k]);
                free(many.logits);
            }
            free(one.logits);
        }
        free(plain.logits);
        golden_close(&g);
    }
}

static void dtypes_that_are_asked_for(void **state)
{
    (void)state;
    golden_model g;
    golden_open(&g, "ivl-native");
    const berth_plan_config fp32 = {.dtype = BERTH_PLAN_FP32}, fp16 = {.dtype = BERTH_PLAN_FP16},
                            bf16 = {.dtype = BERTH_PLAN_BF16};
    const struct {
        const char *a, *b;
        const berth_plan_config *a_config, *b_config;
        bool same;
    } cases[] = {
        {"cpu", "cpu", NULL, &fp32, true},   {"cpu", "4xV100-SXM2-16GB", NULL, &fp32, true},
        {"cpu", "A10", NULL, &fp32, true},   {"A10", "cpu", NULL, &bf16, true},
        {"T4", "cpu*2", NULL, &fp16, true},  {"V100", "H200", NULL, &fp16, true},
        {"V100", "H200", NULL, NULL, false}, {"cpu", "V100", NULL, NULL, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        answer a = ask(&g, cases[i].a, "balanced", cases[i].a_config, false);
        answer b = ask(&g, cases[i].b, "balanced", cases[i].b_config, false);
        if (same_bits(&a, &b) != cases[i].same) fail_msg("case %zu: %s and %s", i, cases[i].a, cases[i].b);
        free(a.logits);
        free(b.logits);
    }
    golden_close(&g);
}

/* fp32 on a device without bf16 reads a bf16 file as it is stored, as any fp32 device does. */
static void bf16_files_are_widened_where_that_is_asked_for(void **state)
{
    (void)state;
    golden_model g;
    golden_open(&g, "ivl-tied");
    const berth_plan_config fp32 = {.dtype = BERTH_PLAN_FP32};
    answer a = ask(&g, "cpu", "balanced", &fp32, false), b = ask(&g, "4xV100-SXM2-16GB", "balanced", &fp32, false);
    assert_true(same_bits(&a, &b));
    free(a.logits);
    free(b.logits);
    golden_close(&g);
}

/* Devices of three policies in one pipeline, in both orders, each op seeing only its own device's memory. */
static void policies_mix(void **state)
{
    (void)state;
    static const char *const lists[] = {"A10,V100,cpu", "cpu,V100,A10", "V100,A10,T4,cpu"};
    for (int m = 0; golden_names[m]; m++) {
        golden_model g;
        golden_open(&g, golden_names[m]);
        answer plain = ask(&g, "cpu", "single", NULL, false);
        for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
            answer a = ask(&g, lists[i], "balanced", NULL, true),
                   b = ask(&g, lists[i], "balanced", &(berth_plan_config){.chunk = 5}, false);
            if (!same_bits(&a, &b)) fail_msg("%s on %s: chunks change bits", g.name, lists[i]);
            double d = distance(&a, &plain);
            if (!(d > 0 && d < 0.6)) fail_msg("%s on %s: %g from fp32", g.name, lists[i], d);
            free(a.logits);
            free(b.logits);
        }
        free(plain.logits);
        golden_close(&g);
    }
}

static void bf16_is_refused_where_it_would_be_emulated(void **state)
{
    (void)state;
    golden_model g;
    golden_open(&g, "ivl-native");
    static const char *const lists[] = {"V100", "2xT4", "A10,V100-PCIe-16GB"};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        golden_engine e;
        berth_error err = {0};
        const berth_plan_config config = {.dtype = BERTH_PLAN_BF16};
        assert_int_equal(golden_plan(&e, &g, lists[i], "balanced", &config, &err), BERTH_UNSUPPORTED);
        if (!strstr(err.message, "no bf16 of its own") || !strstr(err.message, "use fp16")) fail_msg("%s", err.message);
    }
    golden_close(&g);
}

/* ---- bytes ------------------------------------------------------------------------------------------------------ */

static void bytes_are_those_of_the_dtype(void **state)
{
    (void)state;
    golden_model g;
    golden_open(&g, "ivl-native");
    golden_engine plain, worn;
    berth_error err = {0};
    golden_must(golden_plan(&plain, &g, "cpu", "single", NULL, &err), &err, "cpu");
    golden_must(golden_plan(&worn, &g, "A10", "single", NULL, &err), &err, "A10");
    const berth_device_bytes *p = &plain.plan->devices[0], *w = &worn.plan->devices[0];
    assert_int_equal(w->kv * 2, p->kv);
    assert_int_equal(w->features * 2, p->features);
    assert_int_equal(w->kv_per_token * 2, p->kv_per_token);
    assert_true(w->activations < p->activations);
    assert_int_equal(w->context, UINT64_C(500) << 20);
    assert_int_equal(w->limit, UINT64_C(23609475072) - w->context);
    int64_t elements = 0;
    for (int32_t i = 0; i < berth_model_data_n_params(g.data); i++) {
        const berth_param *x = berth_model_data_param(g.data, i);
        elements += (int64_t)(x->n_bytes / berth_dtype_size(x->dtype));
    }
    assert_true(w->weights >= (uint64_t)elements * 2 && w->weights < (uint64_t)elements * 2 + 64 * 200);
    golden_stop(&plain);
    golden_stop(&worn);
    golden_close(&g);
}

/* By a device map, which asks no strategy whether it fits. */
static void limits_hold_to_the_byte(void **state)
{
    (void)state;
    static const char map[] = "{\"\": 0}", *const worn[] = {"V100", "H200", "4xL4"};
    golden_model g;
    golden_open(&g, "ivl-native");
    for (size_t i = 0; i < sizeof worn / sizeof *worn; i++) {
        uint64_t need = 0;
        for (int round = 0; round < 3; round++) {
            golden_engine e = {0};
            berth_error err = {0};
            char list[64], says[64];
            snprintf(list, sizeof list, need ? "%s/mem=%llu" : "%s", worn[i], (unsigned long long)need - (round == 2));
            golden_must(berth_machine_parse(list, &e.machine, &err), &err, list);
            golden_must(berth_core_plan_create(g.data, &e.machine, NULL, map, sizeof map - 1, NULL, &e.plan, &err),
                        &err, list);
            bool fits = round < 2;
            need = e.plan->devices[0].total; /* the limit of the next round; of the last, one byte less */
            snprintf(says, sizeof says, "%s:0: 1 bytes are missing", e.machine.devices[0].profile);
            assert_int_equal(e.plan->fits, fits);
            berth_status st = golden_start(&e, NULL, &err);
            assert_int_equal(st, fits ? BERTH_OK : BERTH_DOES_NOT_FIT);
            if (!fits && !strstr(err.message, says)) fail_msg("%s", err.message);
            golden_stop(&e);
        }
    }
    golden_close(&g);
}

/* ---- range ------------------------------------------------------------------------------------------------------ */

static berth_status run_damaged(const char *dir, const char *devices, berth_error *err)
{
    golden_model g;
    golden_engine e;
    golden_open_at(&g, "ivl-native", dir);
    golden_must(golden_plan(&e, &g, devices, "balanced", NULL, err), err, devices);
    berth_status st = golden_start(&e, NULL, err);
    berth_core_request q = golden_request(&g.cases[0], 2);
    berth_core_result result = {0};
    if (st == BERTH_OK) st = berth_core_run(e.core, &q, &result, err);
    berth_core_result_deinit(&result);
    golden_stop(&e);
    golden_close(&g);
    return st;
}

/* A weight row scaled up so that one layer's products pass 65520: infinite in fp16, and named; within range in bf16
 * and fp32. */
static void an_overflow_in_fp16_is_named(void **state)
{
    (void)state;
    char dir[64];
    berth_error err = {0};
    golden_copy("ivl-native", dir);
    golden_patch(dir, BERTH_T_UP_W, 1, -1, 20000.0f);
    golden_patch(dir, BERTH_T_NORM2_W, 1, -1, 1.0f);
    golden_patch(dir, BERTH_T_NORM2_W, 1, 0, 60000.0f);
    assert_int_equal(run_damaged(dir, "4xV100-SXM2-16GB", &err), BERTH_NUMERIC);
    if (!strstr(err.message, "text.layer.1.") || !strstr(err.message, "infinite") || !strstr(err.message, "layer 1") ||
        !strstr(err.message, "V100-SXM2-16GB:"))
        fail_msg("%s", err.message);
    golden_must(run_damaged(dir, "A10", &err), &err, "bf16 has the range");
    golden_must(run_damaged(dir, "cpu", &err), &err, "fp32 has the range");
    golden_remove(dir);
}

static void a_weight_that_fp16_cannot_hold_is_refused(void **state)
{
    (void)state;
    char dir[64];
    berth_error err = {0};
    golden_copy("ivl-native", dir);
    golden_patch(dir, BERTH_T_DOWN_W, 0, 3, -70000.0f);
    assert_int_equal(run_damaged(dir, "T4", &err), BERTH_UNSUPPORTED);
    if (!strstr(err.message, "layers.0.mlp.down_proj.weight") || !strstr(err.message, "1 of its") ||
        !strstr(err.message, "65504"))
        fail_msg("%s", err.message);
    golden_must(run_damaged(dir, "A10", &err), &err, "bf16 holds it");
    golden_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_things_lie_changes_no_bit),
        cmocka_unit_test(dtypes_that_are_asked_for),
        cmocka_unit_test(bf16_files_are_widened_where_that_is_asked_for),
        cmocka_unit_test(policies_mix),
        cmocka_unit_test(bf16_is_refused_where_it_would_be_emulated),
        cmocka_unit_test(bytes_are_those_of_the_dtype),
        cmocka_unit_test(limits_hold_to_the_byte),
        cmocka_unit_test(an_overflow_in_fp16_is_named),
        cmocka_unit_test(a_weight_that_fp16_cannot_hold_is_refused),
    };
    return cmocka_run_group_tests_name("worn devices", tests, NULL, NULL);
}
