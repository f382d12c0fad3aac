/* cli_bench_test.c - berth bench: its statistics, its five forms, what it refuses, and that placements must agree. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/bench.h"
#include "program.h"

#define NATIVE "-m " GOLDEN "models/ivl-native"
#define TINY   BERTH_SOURCE_DIR "/models/receipt-tiny"

/* ---- statistics -------------------------------------------------------------------------------------------------- */

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-9 * (1 + fabs(b));
}

/* numpy 2.2: mean, std(ddof=1), std(), percentile(q) of these. */
static void statistics_are_numpys(void **state)
{
    (void)state;
    static const double values[] = {4, 1.5, 9, 2, 7.25, 3, 3, 11};
    bench_samples s = {0};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) bench_add(&s, values[i]);
    assert_true(near(bench_mean(&s), 5.09375));
    assert_true(near(bench_deviation(&s), 3.530321464520921));
    assert_true(near(bench_spread(&s), 3.3023133463528263));
    assert_true(near(bench_percentile(&s, 50), 3.5));
    assert_true(near(bench_percentile(&s, 90), 9.6));
    assert_true(near(bench_percentile(&s, 99), 10.86));
    assert_true(near(bench_percentile(&s, 0), 1.5));
    assert_true(near(bench_percentile(&s, 100), 11));
    bench_samples_deinit(&s);
    assert_true(bench_mean(&s) == 0 && bench_deviation(&s) == 0 && bench_percentile(&s, 50) == 0);
    bench_add(&s, 3);
    assert_true(bench_deviation(&s) == 0 && bench_percentile(&s, 99) == 3);
    bench_samples_deinit(&s);
}

static void arrivals_are_poisson_and_the_seeds(void **state)
{
    (void)state;
    bench_random a = {42}, b = {42}, c = {43};
    double sum = 0, squares = 0;
    int differ = 0;
    enum { N = 200000 };
    for (int i = 0; i < N; i++) {
        const double x = bench_exponential(&a, 4);
        assert_true(x >= 0 && x == bench_exponential(&b, 4));
        differ += x != bench_exponential(&c, 4);
        sum += x;
        squares += x * x;
    }
    assert_true(differ > N / 2);
    assert_true(fabs(sum / N - 0.25) < 0.003);      /* mean 1 / rate */
    assert_true(fabs(squares / N - 0.125) < 0.004); /* 2 / rate^2 */
}

/* ---- records ----------------------------------------------------------------------------------------------------- */

static char *written(bench_format format)
{
    bench_record r = {0};
    bench_samples s = {0};
    berth_buffer out = {0};
    bench_add(&s, 1.5);
    bench_add(&s, 2);
    for (size_t i = 0; i < 2; i++) {
        bench_put_text(&r, "name", "name", "it's \"a\"");
        bench_put(&r, "number", "number", BENCH_NUMBER, "%d", 7 + (int)i);
        bench_put_samples(&r, "list", &s);
        bench_put(&r, NULL, "md", BENCH_LIST, "one \u00b1 two");
        assert_false(r.failed);
        bench_write(&r, format, i, "t", &out);
        bench_record_deinit(&r);
    }
    bench_write_end(format, 2, &out);
    bench_samples_deinit(&s);
    return berth_buffer_take(&out);
}

static void records_are_written_in_five_forms(void **state)
{
    (void)state;
    static const char *const forms[] = {
        [BENCH_MD] = "| name           |     number |                   md |\n"
                     "| -------------- | ---------: | -------------------: |\n"
                     "| it's \"a\"       |          7 |            one \u00b1 two |\n"
                     "| it's \"a\"       |          8 |            one \u00b1 two |\n",
        [BENCH_CSV] =
            "name,number,list\n\"it's \"\"a\"\"\",\"7\",\"[1.5, 2]\"\n\"it's \"\"a\"\"\",\"8\",\"[1.5, 2]\"\n",
        [BENCH_JSON] = "[\n  {\"name\": \"it's \\\"a\\\"\",\n    \"number\": 7,\n    \"list\": [1.5, 2]},\n  "
                       "{\"name\": \"it's \\\"a\\\"\",\n    \"number\": 8,\n    \"list\": [1.5, 2]}\n]\n",
        [BENCH_JSONL] = "{\"name\": \"it's \\\"a\\\"\", \"number\": 7, \"list\": [1.5, 2]}\n"
                        "{\"name\": \"it's \\\"a\\\"\", \"number\": 8, \"list\": [1.5, 2]}\n",
        [BENCH_SQL] = "CREATE TABLE IF NOT EXISTS t (\n  name TEXT,\n  number REAL,\n  list TEXT\n);\n\n"
                      "INSERT INTO t (name, number, list) VALUES ('it''s \"a\"', '7', '[1.5, 2]');\n"
                      "INSERT INTO t (name, number, list) VALUES ('it''s \"a\"', '8', '[1.5, 2]');\n",
    };
    for (int f = BENCH_MD; f <= BENCH_SQL; f++) {
        char *text = written((bench_format)f);
        assert_string_equal(text, forms[f]);
        free(text);
    }
}

/* ---- agreement --------------------------------------------------------------------------------------------------- */

static void a_token_that_differs_is_a_mismatch(void **state)
{
    (void)state;
    static const int32_t ids[] = {5, 6, 7}, other[] = {5, 9, 7};
    bench_reference ref = {0};
    berth_error err = {0};
    assert_int_equal(bench_reference_take(&ref, 1, "A", ids, 3, &err), BERTH_OK);
    assert_int_equal(bench_reference_take(&ref, 0, "A", other, 3, &err), BERTH_OK);
    assert_int_equal(bench_reference_take(&ref, 1, "B", ids, 3, &err), BERTH_OK);
    assert_int_equal(bench_reference_take(&ref, 1, "C", other, 3, &err), BERTH_MISMATCH);
    assert_non_null(strstr(err.message, "C gives 9 where A gives 6 (prompt 2, token 2 of the answer)"));
    assert_int_equal(bench_reference_take(&ref, 1, "D", ids, 2, &err), BERTH_MISMATCH);
    assert_non_null(strstr(err.message, "D gives 2 tokens where A gives 3"));
    bench_reference_deinit(&ref);
}

/* ---- command ----------------------------------------------------------------------------------------------------- */

static berth_json *run_json(const char *arguments)
{
    berth_json *json;
    program_result r = program_expect(NULL, 0, arguments);
    assert_int_equal(berth_json_parse(r.out, r.out_size, "the output", &json, NULL), BERTH_OK);
    program_deinit(&r);
    return json;
}

static double number(const berth_json_node *object, const char *key)
{
    double x = NAN;
    if (!berth_json_as_f64(berth_json_get(object, key), &x)) fail_msg("no number %s", key);
    return x;
}

static void every_test_runs_on_every_placement_and_batch(void **state)
{
    (void)state;
    static const char *const names[] = {"pp20", "pp40", "tg3", "tg5", "pp24+tg4"};
    berth_json *json =
        run_json("bench " NATIVE " -p 20-40+20 -n 3,5 -pg 24,4 -b 1,2 -r 2 --strategy sequential,balanced "
                 "--devices cpu --devices cpu*2 -o json -q");
    const berth_json_node *row = berth_json_first(berth_json_root(json));
    int n = 0;
    for (; row != NULL; row = berth_json_next(row), n++) {
        assert_string_equal(berth_json_as_string(berth_json_get(row, "test")), names[n % 5]);
        assert_true(number(row, "n_batch") == (n / 5) % 2 + 1);
        assert_string_equal(berth_json_as_string(berth_json_get(row, "strategy")),
                            (n / 10) % 2 ? "balanced" : "sequential");
        assert_string_equal(berth_json_as_string(berth_json_get(row, "devices")), n < 20 ? "cpu" : "cpu*2");
        assert_true(number(row, "avg_ts") > 0 && number(row, "avg_ns") > 0 && number(row, "stddev_ns") >= 0);
        assert_int_equal(berth_json_size(berth_json_get(row, "samples_ns")), 2);
        assert_non_null(berth_json_as_string(berth_json_get(row, "cpu_info")));
    }
    assert_int_equal(n, 40);
    berth_json_destroy(json);
}

/* The context is filled first and not counted: each test has the tokens it is named for, whatever is there before. */
static void tests_at_a_depth_count_what_is_new(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int n_prompt, n_gen, n_depth;
    } want[] = {{"pp40", 40, 0, 0},          {"tg4", 0, 4, 0},          {"pp40+tg3", 40, 3, 0},
                {"pp40 @ d70", 40, 0, 70},   {"tg4 @ d70", 0, 4, 70},   {"pp40+tg3 @ d70", 40, 3, 70},
                {"pp40 @ d129", 40, 0, 129}, {"tg4 @ d129", 0, 4, 129}, {"pp40+tg3 @ d129", 40, 3, 129}};
    enum { N = sizeof want / sizeof want[0] };
    program_result r = program_expect(NULL, 0,
                                      "bench " NATIVE " -p 40 -n 4 -pg 40,3 -d 0,70 -d 129 -b 1,3 -r 2 -q "
                                      "--strategy balanced,replicate --devices cpu*2 -o md -oe jsonl");
    const char *line = r.err, *shown = r.out;
    for (int n = 0; n < 4 * N; n++) {
        const char *end = strchr(line, '\n');
        assert_non_null(end);
        berth_json *json;
        assert_int_equal(berth_json_parse(line, (size_t)(end - line), "a row", &json, NULL), BERTH_OK);
        const berth_json_node *row = berth_json_root(json);
        assert_string_equal(berth_json_as_string(berth_json_get(row, "test")), want[n % N].name);
        assert_true(number(row, "n_prompt") == want[n % N].n_prompt && number(row, "n_gen") == want[n % N].n_gen);
        assert_true(number(row, "n_depth") == want[n % N].n_depth && number(row, "avg_ts") > 0);
        assert_null(berth_json_get(row, "t/s"));
        /* What was timed is so many tokens: the rate times the time. */
        const double tokens = number(row, "n_batch") * (want[n % N].n_prompt + want[n % N].n_gen);
        double first_ns = 0, first_ts = 0;
        assert_true(berth_json_as_f64(berth_json_first(berth_json_get(row, "samples_ns")), &first_ns));
        assert_true(berth_json_as_f64(berth_json_first(berth_json_get(row, "samples_ts")), &first_ts));
        const double counted = first_ts * first_ns / 1e9;
        const bool is_pair = want[n % N].n_prompt > 0 && want[n % N].n_gen > 0; /* its first token is the prefill's */
        assert_true(fabs(counted - tokens + (is_pair ? number(row, "n_batch") : 0)) < 1e-3 * tokens);
        char cell[80];
        snprintf(cell, sizeof cell, "| %s ", want[n % N].name);
        shown = strstr(shown, cell);
        assert_non_null(shown);
        line = end + 1;
        berth_json_destroy(json);
    }
    assert_string_equal(line, "");
    program_deinit(&r);
}

static void progress_is_said_when_asked_for(void **state)
{
    (void)state;
    program_result r =
        program_expect(NULL, 0, "bench " NATIVE " -p 16 -p 20 -n 0 -b 1 -b 2 -ub 8 -r 2 -q --progress -o csv");
    assert_non_null(strstr(r.err, "berth: test 1/4: pp16: warm-up\nberth: test 1/4: pp16: run 1/2\n"));
    assert_non_null(strstr(r.err, "berth: test 4/4: pp20: run 2/2\n"));
    program_deinit(&r);
}

static void a_picture_is_timed_by_stage(void **state)
{
    (void)state;
    berth_json *json = run_json("bench -m " TINY " -p 0 -n 4 -r 1 -i " TINY "/receipts/receipt-02.png -o json -q");
    const berth_json_node *row = berth_json_next(berth_json_first(berth_json_root(json)));
    assert_string_equal(berth_json_as_string(berth_json_get(row, "test")), "image+tg4");
    assert_true(number(row, "n_tiles") == 5);
    assert_true(number(row, "decode_image_ms") > 0 && number(row, "tiles_ms") > 0);
    assert_true(number(row, "encode_ms") > 0 && number(row, "project_ms") > 0);
    assert_true(number(row, "prefill_ms") > 0 && number(row, "decode_ms") > 0);
    berth_json_destroy(json);
}

static void serving_is_measured_in_vllms_words(void **state)
{
    (void)state;
    static const char *const metrics[] = {"ttft", "tpot", "itl", "e2el"};
    berth_json *json = run_json("bench " NATIVE " -p 24 -n 5 -b 3 --request-rate 400,inf --num-prompts 12 "
                                "--max-concurrency 4 --seed 3 -o json -q");
    assert_int_equal(berth_json_size(berth_json_root(json)), 2);
    const berth_json_node *row = berth_json_first(berth_json_root(json));
    assert_true(number(row, "request_rate") == 400);
    assert_string_equal(berth_json_as_string(berth_json_get(berth_json_next(row), "request_rate")), "inf");
    for (; row != NULL; row = berth_json_next(row)) {
        assert_true(number(row, "completed") == 12 && number(row, "failed") == 0);
        assert_true(number(row, "total_input_tokens") == 12 * 24 && number(row, "total_output_tokens") == 12 * 5);
        for (int i = 0; i < 4; i++) {
            char key[5][32];
            static const char *const kinds[] = {"mean", "median", "std", "p90", "p99"};
            for (int k = 0; k < 5; k++) snprintf(key[k], sizeof key[k], "%s_%s_ms", kinds[k], metrics[i]);
            assert_true(number(row, key[0]) > 0 && number(row, key[1]) <= number(row, key[3]));
            assert_true(number(row, key[3]) <= number(row, key[4]) && number(row, key[2]) >= 0);
        }
        assert_true(number(row, "mean_ttft_ms") <= number(row, "mean_e2el_ms"));
    }
    berth_json_destroy(json);
}

static const program_refusal refusals[] = {
    {"bench", 2, "-m DIR"},
    {"bench " NATIVE " -o xml", 2, "md, csv, json, jsonl or sql"},
    {"bench " NATIVE " -oe xml", 2, "--output-err xml: expected md, csv, json, jsonl or sql"},
    {"bench " NATIVE " -d cpu*2", 2, "--n-depth cpu*2"},
    {"bench " NATIVE " -p 8 -n 0 -d 1 -q", 2, "what stands before a message alone has"},
    {"bench " NATIVE " -d 8 --request-rate 1", 2, "--n-depth is for tests"},
    {"bench " NATIVE " -p 1-250 -n 1-250 -d 0-200", 2, "more than 4096 tests"},
    {"run " NATIVE " -oe md", 2, "--out is not an option"},
    {"bench " NATIVE " -p x", 2, "--n-prompt x"},
    {"bench " NATIVE " -p 8,", 2, "--n-prompt 8,"},
    {"bench " NATIVE " -p 16-8", 2, "first-last"},
    {"bench " NATIVE " -p 1-1000", 2, "--n-prompt"},
    {"bench " NATIVE " -b 0", 2, "--batch-size"},
    {"bench " NATIVE " -b 1-8*1", 2, "--batch-size"},
    {"bench " NATIVE " -p 0 -n 0", 2, "nothing to measure"},
    {"bench " NATIVE " -pg 5", 2, "PROMPT,GENERATED"},
    {"bench " NATIVE " -pg=5,0", 2, "PROMPT,GENERATED"},
    {"bench " NATIVE " -px", 2, "--n-prompt x"},
    {"bench " NATIVE " --request-rate 0", 2, "--request-rate"},
    {"bench " NATIVE " --num-prompts 5", 2, "--request-rate"},
    {"bench " NATIVE " --request-rate 5 -n 0", 2, "serving needs"},
    {"bench " NATIVE " --delay -1", 2, "--delay"},
    {"bench " NATIVE " --delay nan", 2, "--delay"},
    {"bench " NATIVE " -p 3 -q", 2, "the model's chat form alone takes"},
    {"bench " NATIVE " -i a.png -i b.png", 2, "one --image"},
    {"bench " NATIVE " -i " GOLDEN "nowhere.png -p 0 -n 2 -r 1 -q", 3, "nowhere.png"},
    {"bench " NATIVE " --devices cpu/mem=1KiB -q", 4, "not"},
    {"bench " NATIVE " --temperature 1", 2, "not an option of `berth bench`"},
    {"run " NATIVE " -pg 1,2", 2, "takes no operands"},
};

static void mistakes_are_refused_with_a_sentence(void **state)
{
    (void)state;
    program_expect_refusals(refusals, sizeof refusals / sizeof refusals[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statistics_are_numpys),
        cmocka_unit_test(arrivals_are_poisson_and_the_seeds),
        cmocka_unit_test(records_are_written_in_five_forms),
        cmocka_unit_test(a_token_that_differs_is_a_mismatch),
        cmocka_unit_test(every_test_runs_on_every_placement_and_batch),
        cmocka_unit_test(tests_at_a_depth_count_what_is_new),
        cmocka_unit_test(progress_is_said_when_asked_for),
        cmocka_unit_test(a_picture_is_timed_by_stage),
        cmocka_unit_test(serving_is_measured_in_vllms_words),
        cmocka_unit_test(mistakes_are_refused_with_a_sentence),
    };
    return cmocka_run_group_tests_name("cli_bench", tests, NULL, NULL);
}
