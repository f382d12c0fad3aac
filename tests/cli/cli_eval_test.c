/* cli_eval_test.c - berth eval: how answers are scored, and the command over placements. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/eval_score.h"
#include "program.h"

#define TINY   "-m " BERTH_SOURCE_DIR "/models/receipt-tiny"
#define LABELS BERTH_SOURCE_DIR "/models/receipt-tiny/receipts/labels.jsonl"

/* ---- scoring ----------------------------------------------------------------------------------------------------- */

typedef struct score_case {
    const char *labels, *answer;
    int slots, same, labelled, answered, right, exact, object;
} score_case;

static const score_case score_cases[] = {
    {"{\"A\":\"x\",\"B\":\"y\"}", "{\"A\": \"x\", \"B\": \"y\"}", 2, 2, 2, 2, 2, 1, 1},
    {"{\"A\":\"x\",\"B\":\"y\"}", "{\"A\": \" x \", \"B\": \"z\"}", 2, 1, 2, 2, 1, 0, 1},
    {"{\"A\":\"x\",\"B\":\"y\"}", "{\"A\": \"x\"}", 2, 1, 2, 1, 1, 0, 1},
    {"{\"A\":\"x\",\"B\":\"y\"}", "{\"A\": \"x\", \"B\": null}", 2, 1, 2, 1, 1, 0, 1},
    {"{\"A\":\"x\",\"B\":\"\"}", "{\"A\": \"x\"}", 2, 2, 1, 1, 1, 1, 1},
    {"{\"A\":\"x\",\"B\":null}", "{\"A\": \"x\", \"B\": \"y\"}", 2, 1, 1, 2, 1, 0, 1},
    {"{\"A\":\"x\"}", "{\"A\": \"x\", \"C\": \"y\"}", 1, 1, 1, 2, 1, 0, 1},
    {"{\"A\":\"x\"}", "{\"A\": \"x\", \"C\": \"\"}", 1, 1, 1, 1, 1, 1, 1},
    {"{\"A\":\"x\"}", "Here it is:\n```json\n{\"A\": \"x\"}\n```", 1, 1, 1, 1, 1, 1, 1},
    {"{\"A\":\"x\"}", "x", 1, 0, 1, 0, 0, 0, 0},
    {"{\"A\":\"x\"}", "} {", 1, 0, 1, 0, 0, 0, 0},
    {"{\"A\":\"x\"}", "{\"A\": \"x\"", 1, 0, 1, 0, 0, 0, 0},
    {"{\"A\":\"x\"}", "", 1, 0, 1, 0, 0, 0, 0},
    {"{\"A\":[1,{\"b\":2}]}", "{\"A\": [1.0, {\"b\": 2}]}", 1, 1, 1, 1, 1, 1, 1},
    {"{\"A\":[1,{\"b\":2}]}", "{\"A\": [1, {\"b\": 3}]}", 1, 0, 1, 1, 0, 0, 1},
    {"{\"A\":[1,2]}", "{\"A\": [1]}", 1, 0, 1, 1, 0, 0, 1},
    {"{\"A\":{\"x\":1}}", "{\"A\": {\"x\":1,\"y\":2}}", 1, 0, 1, 1, 0, 0, 1},
    {"{\"A\":true}", "{\"A\": true}", 1, 1, 1, 1, 1, 1, 1},
    {"{\"A\":\"21\"}", "{\"A\": 21}", 1, 0, 1, 1, 0, 0, 1},
};

static void add(eval_score *s, const char *labels, const char *want, const char *answer, char *const *only, int n)
{
    berth_json *json;
    assert_int_equal(berth_json_parse(labels, strlen(labels), "labels", &json, NULL), BERTH_OK);
    assert_int_equal(eval_score_add(s, berth_json_root(json), want, answer, only, n, NULL), BERTH_OK);
    berth_json_destroy(json);
}

static void an_answer_is_scored_field_by_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof score_cases / sizeof score_cases[0]; i++) {
        const score_case *c = &score_cases[i];
        eval_score s = {0};
        add(&s, c->labels, NULL, c->answer, NULL, 0);
        const int got[] = {(int)s.all.n_slots, (int)s.all.n_same, (int)s.all.n_labelled, (int)s.all.n_answered,
                           (int)s.all.n_right, (int)s.n_exact,    (int)s.n_objects};
        const int want[] = {c->slots, c->same, c->labelled, c->answered, c->right, c->exact, c->object};
        for (int k = 0; k < 7; k++) {
            if (got[k] != want[k])
                fail_msg("%s for %s: count %d is %d, not %d", c->answer, c->labels, k, got[k], want[k]);
        }
        eval_score_deinit(&s);
    }
}

static void rates_are_taken_over_all_answers(void **state)
{
    (void)state;
    eval_score s = {0};
    add(&s, "{\"A\":\"x\",\"B\":\"y\"}", "{\"A\": \"x\"}", "{\"A\": \"x\"}", NULL, 0);
    add(&s, "{\"A\":\"x\",\"B\":\"\"}", "other", "{\"A\": \"z\", \"B\": \"w\", \"C\": \"v\"}", NULL, 0);
    assert_int_equal(s.n_fields, 2);
    assert_string_equal(s.fields[0].name, "A");
    assert_true(fabs(eval_accuracy(&s.all) - 1.0 / 4) < 1e-12);
    assert_true(fabs(eval_precision(&s.all) - 1.0 / 4) < 1e-12);
    assert_true(fabs(eval_recall(&s.all) - 1.0 / 3) < 1e-12);
    assert_true(fabs(eval_f1(&s.all) - 2.0 / 7) < 1e-12);
    assert_true(fabs(eval_f1(&s.fields[0]) - 0.5) < 1e-12);
    assert_true(eval_f1(&s.fields[1]) == 0);
    assert_int_equal(s.others.n_answered, 1);
    assert_int_equal(s.n_exact_text, 1);
    assert_int_equal(s.n_with_text, 2);
    eval_score_deinit(&s);
}

static void only_named_fields_count(void **state)
{
    (void)state;
    char *const only[] = {(char *)"A"};
    eval_score s = {0};
    add(&s, "{\"A\":\"x\",\"B\":\"y\"}", NULL, "{\"A\": \"x\", \"C\": \"z\"}", only, 1);
    assert_int_equal(s.all.n_slots, 1);
    assert_int_equal(s.n_exact, 1);
    eval_score_deinit(&s);
}

/* ---- command ----------------------------------------------------------------------------------------------------- */

static double number(const berth_json_node *object, const char *key)
{
    double x = NAN;
    if (!berth_json_as_f64(berth_json_get(object, key), &x)) fail_msg("no number %s", key);
    return x;
}

static void placements_are_counted_side_by_side(void **state)
{
    (void)state;
    program_result r = program_expect(NULL, 0,
                                      "eval " TINY " --labels " LABELS " --limit 2 --strategy balanced,sequential "
                                      "--devices cpu --devices cpu*2 --json");
    berth_json *json;
    assert_int_equal(berth_json_parse(r.out, r.out_size, "the output", &json, NULL), BERTH_OK);
    const berth_json_node *list = berth_json_get(berth_json_root(json), "placements");
    assert_int_equal(berth_json_size(list), 4);
    for (const berth_json_node *p = berth_json_first(list); p != NULL; p = berth_json_next(p)) {
        assert_true(number(p, "rows") == 2 && number(p, "failed") == 0 && number(p, "same_as_first") == 2);
        assert_true(number(p, "exact") == 2 && number(p, "f1") == 1.0 && number(p, "exact_text") == 2);
        assert_true(number(p, "images_per_minute") > 0);
        assert_int_equal(berth_json_size(berth_json_get(p, "fields")), 5);
    }
    berth_json_destroy(json);
    program_deinit(&r);
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void what_fails_is_said_and_the_rest_counted(void **state)
{
    (void)state;
    char path[128], arguments[512];
    snprintf(path, sizeof path, "%s/labels.jsonl", test_folder());
    put(path, "{\"file\": \"" BERTH_SOURCE_DIR "/models/receipt-tiny/receipts/receipt-01.png\", \"fields\": "
              "{\"SUPPLIER_NAME\": \"RIVER MARKET\", \"TOTAL_AMOUNT\": \"1.00\"}}\n\n"
              "{\"file\": \"nowhere.png\", \"fields\": {\"TOTAL_AMOUNT\": \"2\"}}\n");
    snprintf(arguments, sizeof arguments,
             "eval " TINY " --labels %s -p Extract\tthe\tfields\tas\tJSON. --devices cpu --devices cpu/mem=1MiB", path);
    program_result r = program_expect(NULL, 4, arguments);
    assert_non_null(strstr(r.out, "SUPPLIER_NAME               1.0000     1.0000   1.0000   1.0000\n"));
    assert_non_null(strstr(r.out, "TOTAL_AMOUNT                0.0000"));
    assert_non_null(strstr(r.out, "does not fit"));
    assert_non_null(strstr(r.err, "1 of 2 rows failed; the first: line 3: "));
    program_deinit(&r);
    snprintf(arguments, sizeof arguments, "eval " TINY " --labels %s", path);
    r = program_expect(NULL, 3, arguments); /* nothing is asked */
    assert_non_null(strstr(r.err, "line 1: no \"question\""));
    program_deinit(&r);
}

static void a_named_prompt_says_which_fields_count(void **state)
{
    (void)state;
    char path[128], arguments[512];
    snprintf(path, sizeof path, "%s/prompts.yaml", test_folder());
    put(path, "total:\n  user: Extract the fields as JSON.\n  fields: [TOTAL_AMOUNT, SUPPLIER_NAME]\n");
    snprintf(arguments, sizeof arguments, "eval " TINY " --labels " LABELS " --limit 1 --prompts %s --json", path);
    program_result r = program_expect(NULL, 0, arguments);
    assert_non_null(strstr(r.out, "\"exact\": 1"));
    assert_non_null(strstr(r.out, "\"TOTAL_AMOUNT\""));
    assert_non_null(strstr(r.out, "\"SUPPLIER_NAME\""));
    assert_null(strstr(r.out, "\"GST_AMOUNT\""));
    program_deinit(&r);
}

static const program_refusal refusals[] = {
    {"eval", 2, "-m DIR"},
    {"eval " TINY, 2, "--labels FILE is required"},
    {"eval " TINY " --labels " GOLDEN "nowhere.jsonl", 3, "nowhere.jsonl"},
    {"eval " TINY " --labels " GOLDEN "README-text-image.md", 3, "line 1"},
    {"eval " TINY " --labels /dev/null", 3, "no labels"},
    {"eval " TINY " --labels " LABELS " --strategy a,,b", 2, "an item of the list is empty"},
    {"eval " TINY " --labels " LABELS " --strategy ,", 2, "empty"},
    {"eval " TINY " --labels " LABELS " --strategy balanced,x --device-map y", 2, "replaces the strategy"},
    {"eval " TINY " --labels " LABELS " --limit 0", 2, "--limit"},
    {"eval " TINY " --labels " LABELS " -p x --prompts y", 2, "give one"},
    {"eval " TINY " --labels " LABELS " --prompt-name y", 2, "--prompts"},
};

static void mistakes_are_refused_with_a_sentence(void **state)
{
    (void)state;
    program_expect_refusals(refusals, sizeof refusals / sizeof refusals[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_scored_field_by_field),
        cmocka_unit_test(rates_are_taken_over_all_answers),
        cmocka_unit_test(only_named_fields_count),
        cmocka_unit_test(placements_are_counted_side_by_side),
        cmocka_unit_test(what_fails_is_said_and_the_rest_counted),
        cmocka_unit_test(a_named_prompt_says_which_fields_count),
        cmocka_unit_test(mistakes_are_refused_with_a_sentence),
    };
    return cmocka_run_group_tests_name("cli_eval", tests, NULL, NULL);
}
