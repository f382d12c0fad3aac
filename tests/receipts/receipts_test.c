/* receipts_test.c - the bundled model answers every bundled receipt with the reference's tokens, wherever its parts
 * live.
 *
 * The reference is tests/golden/receipts/answers.jsonl, made with transformers by models/receipt-tiny/make/check.py.
 * Each row runs on one device, and a few rows run under every strategy and device count. Everything goes through the
 * public interface, as an embedder would. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "berth/berth.h"

#define MODEL   BERTH_SOURCE_DIR "/models/receipt-tiny"
#define ANSWERS BERTH_SOURCE_DIR "/tests/golden/receipts/answers.jsonl"

enum { MAX_ROWS = 256, MAX_IDS = 512 };

typedef struct row {
    char file[512], question[128];
    int32_t ids[MAX_IDS], n_ids, n_prompt;
} row;

static row rows[MAX_ROWS];
static int32_t n_rows;

static void read_row(const char *line, size_t len)
{
    berth_error err = {0};
    berth_json *json = NULL;
    assert_int_equal(berth_json_parse(line, len, "answers.jsonl", &json, &err), BERTH_OK);
    const berth_json_node *root = berth_json_root(json);
    row *r = &rows[n_rows++];
    snprintf(r->file, sizeof r->file, "%s/receipts/%s", MODEL, berth_json_as_string(berth_json_get(root, "file")));
    snprintf(r->question, sizeof r->question, "%s", berth_json_as_string(berth_json_get(root, "question")));
    int64_t n = 0;
    assert_true(berth_json_as_i64(berth_json_get(root, "n_prompt"), &n));
    r->n_prompt = (int32_t)n;
    const berth_json_node *id = berth_json_first(berth_json_get(root, "ids"));
    for (; id != NULL && r->n_ids < MAX_IDS; id = berth_json_next(id)) {
        assert_true(berth_json_as_i64(id, &n));
        r->ids[r->n_ids++] = (int32_t)n;
    }
    berth_json_destroy(json);
}

static int read_rows(void **state)
{
    (void)state;
    berth_error err = {0};
    char *text;
    size_t size;
    if (berth_file_read(ANSWERS, 1 << 24, &text, &size, &err) != BERTH_OK) return -1;
    for (char *line = text; *line && n_rows < MAX_ROWS;) {
        const size_t len = strcspn(line, "\n");
        read_row(line, len);
        line += len + (line[len] == '\n');
    }
    free(text);
    return n_rows > 0 ? 0 : -1;
}

static berth_engine *open_engine(berth_model *model, const char *devices, const char *strategy, int32_t strict)
{
    berth_error err = {0};
    berth_plan *plan = NULL;
    berth_engine *engine = NULL;
    const berth_plan_options options = {.struct_size = sizeof options, .devices = devices, .strategy = strategy};
    if (berth_plan_create(model, &options, &plan, &err) != BERTH_OK)
        fail_msg("%s on %s: %s", strategy, devices, err.message);
    const berth_engine_options engine_options = {.struct_size = sizeof engine_options, .strict = strict};
    if (berth_engine_create(plan, &engine_options, &engine, &err) != BERTH_OK)
        fail_msg("%s on %s: %s", strategy, devices, err.message);
    return engine;
}

static berth_result answer_of(berth_engine *engine, const row *r, const char *where)
{
    const berth_content content[2] = {{.kind = BERTH_CONTENT_IMAGE_FILE, .data = r->file, .size = strlen(r->file)},
                                      {.kind = BERTH_CONTENT_TEXT, .data = r->question, .size = strlen(r->question)}};
    const berth_turn turn = {.role = "user", .content = content, .n_content = 2};
    berth_request request;
    berth_request_init(&request);
    request.turns = &turn;
    request.n_turns = 1;
    request.max_new_tokens = 160;
    berth_result result = {.struct_size = sizeof result};
    berth_error err = {0};
    if (berth_engine_run(engine, &request, &result, &err) != BERTH_OK)
        fail_msg("%s, %s: %s", where, r->file, err.message);
    assert_int_equal(result.n_prompt_tokens, r->n_prompt);
    return result;
}

static bool is_reference(const berth_result *a, const row *r)
{
    return a->n_tokens == r->n_ids && memcmp(a->token_ids, r->ids, (size_t)r->n_ids * sizeof r->ids[0]) == 0;
}

static void expect_answer(berth_engine *engine, const row *r, const char *where)
{
    berth_result result = answer_of(engine, r, where);
    if (!is_reference(&result, r)) {
        fail_msg("%s, %s, \"%s\": other tokens than the reference: %s", where, r->file, r->question, result.text);
    }
    berth_result_deinit(&result);
}

typedef struct opened {
    berth_runtime *rt;
    berth_model *model;
} opened;

static opened open_model(void)
{
    berth_error err = {0};
    opened o = {0};
    assert_int_equal(berth_runtime_create(NULL, &o.rt, &err), BERTH_OK);
    if (berth_model_open(o.rt, MODEL, NULL, &o.model, &err) != BERTH_OK) fail_msg("%s", err.message);
    return o;
}

static void close_model(opened o)
{
    berth_model_close(o.model);
    berth_runtime_destroy(o.rt);
}

static void every_receipt_and_question_on_one_device(void **state)
{
    (void)state;
    const opened o = open_model();
    berth_engine *engine = open_engine(o.model, "cpu", "single", 0);
    for (int32_t i = 0; i < n_rows; i++) expect_answer(engine, &rows[i], "single");
    berth_engine_destroy(engine);
    close_model(o);
}

static void every_strategy_on_every_device_count(void **state)
{
    (void)state;
    static const char *const strategies[] = {"single", "replicate", "sequential", "balanced", "balanced_low_0", "auto"};
    const opened o = open_model();
    for (size_t s = 0; s < sizeof strategies / sizeof strategies[0]; s++) {
        for (int32_t n = 1; n <= 8; n++) {
            char devices[32], where[64];
            snprintf(devices, sizeof devices, "cpu*%d", (int)n);
            snprintf(where, sizeof where, "%s on %s", strategies[s], devices);
            berth_engine *engine = open_engine(o.model, devices, strategies[s], 0);
            expect_answer(engine, &rows[(size_t)(n - 1) * 6 % (size_t)n_rows], where);
            berth_engine_destroy(engine);
        }
    }
    close_model(o);
}

/* Coarser arithmetic: a few receipts may read otherwise than in the reference's fp32, most must not; one stage or
 * four is all the same. */
static void worn_devices_read_most_receipts(void **state)
{
    (void)state;
    static const char *const lists[][2] = {{"A10", "4xL4"}, {"V100", "4xV100-SXM2-16GB"}};
    const opened o = open_model();
    for (size_t i = 0; i < 2; i++) {
        berth_engine *one = open_engine(o.model, lists[i][0], "single", 0),
                     *four = open_engine(o.model, lists[i][1], "balanced", 0);
        int32_t n_same = 0, n_asked = 0;
        for (int32_t k = 0; k < n_rows; k += 3, n_asked++) {
            berth_result a = answer_of(one, &rows[k], lists[i][0]), b = answer_of(four, &rows[k], lists[i][1]);
            n_same += is_reference(&a, &rows[k]);
            assert_int_equal(a.n_tokens, b.n_tokens);
            assert_memory_equal(a.token_ids, b.token_ids, (size_t)a.n_tokens * sizeof a.token_ids[0]);
            berth_result_deinit(&a);
            berth_result_deinit(&b);
        }
        print_message("%s: %d of %d answers are the reference's\n", lists[i][0], (int)n_same, (int)n_asked);
        assert_true(n_same * 10 >= n_asked * 8);
        berth_engine_destroy(one);
        berth_engine_destroy(four);
    }
    close_model(o);
}

static void strict_mode_gives_the_same_tokens(void **state)
{
    (void)state;
    const opened o = open_model();
    berth_engine *engine = open_engine(o.model, "cpu*4", "balanced_low_0", 1);
    expect_answer(engine, &rows[0], "strict");
    berth_engine_destroy(engine);
    close_model(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_receipt_and_question_on_one_device),
        cmocka_unit_test(every_strategy_on_every_device_count),
        cmocka_unit_test(worn_devices_read_most_receipts),
        cmocka_unit_test(strict_mode_gives_the_same_tokens),
    };
    return cmocka_run_group_tests(tests, read_rows, NULL);
}
