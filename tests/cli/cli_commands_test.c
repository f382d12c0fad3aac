/* cli_commands_test.c - what commands say and how they end: exit codes, messages on standard error alone, plain text in
 * and out, rows that fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "model/safetensors.h"
#include "program.h"

#define MIXED  "-m " GOLDEN "text/mixed"
#define NATIVE "-m " GOLDEN "models/ivl-native"

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

static const program_refusal refusals[] = {
    {"", 2, "no command given"},
    {"tokenise", 2, "did you mean \"tokenize\""},
    {"tokenize", 2, "-m DIR"},
    {"tokenize " MIXED " --jsonl=1", 2, "takes no value"},
    {"tokenize " MIXED " --inputs x", 2, "not an option of `berth tokenize`"},
    {"tokenize " MIXED " text", 2, "takes no operands"},
    {"tokenize -m " GOLDEN "text", 3, "tokenizer.json"},
    {"tokenize -m " GOLDEN "nowhere", 3, "nowhere"},
    {"tokenize -m " GOLDEN "text/mixed/tokenizer.json", 3, "not a directory"},
    {"detokenize", 2, "-m DIR"},
    {"preprocess", 2, "no picture given"},
    {"preprocess -i x.png", 2, "no model given"},
    {"preprocess --tile 448 -i " GOLDEN "nowhere.png", 3, "nowhere.png"},
    {"preprocess --tile 0 -i x.png", 2, "--tile"},
    {"preprocess --tile 448 --resize-order pillow11 -i x.png", 2, "pillow11"},
    {"preprocess --tile 448 --min-tiles 9 --max-tiles 4 -i " GOLDEN "image/files/png-rgb8.png", 2, "9"},
    {"preprocess --tile 16384 --min-tiles 1024 --max-tiles 1024 -i " GOLDEN "image/files/png-rgb8.png --out /tmp/x", 2,
     "8 GiB"},
    {"preprocess -m " GOLDEN "models/qwen2-text -i x.png", 3, "text-only"},
    {"preprocess --jsonl --out x", 2, "--out"},
    {"preprocess --jsonl -i " GOLDEN "image/files/png-rgb8.png", 2, "folder"},
    {"preprocess --tile 28 -i " GOLDEN "image/files/png-rgb8.png --out " GOLDEN "nowhere/x", 3, "nowhere"},
    {"devices --devices 4xV10", 2, "did you mean V100-"},
    {"devices --devices ./nowhere.json", 3, "nowhere.json"},
    {"devices --save " GOLDEN "nowhere/m.json", 3, "nowhere"},
    {"plan " NATIVE " --devices 2xT4 --dtype bf16", 3, "no bf16 of its own"},
    {"plan " NATIVE " --dtype fp8", 2, "use auto, fp32, fp16 or bf16"},
    {"plan " NATIVE " --devices X --profile-dir " GOLDEN "nowhere", 2, "no profile or machine"},
    {"trace", 2, "-m DIR"},
    {"trace " NATIVE, 2, "--out"},
    {"trace " NATIVE " --out x", 2, "one input"},
    {"trace " NATIVE " --out x --inputs y -p z", 2, "one input"},
    {"trace " NATIVE " --out x -i y.png", 2, "prompt"},
    {"trace " NATIVE " --out x --inputs " GOLDEN "nowhere", 3, "nowhere"},
    {"trace " NATIVE " --out x --inputs " GOLDEN "models/ivl-native/model.safetensors", 3, "input_ids"},
    {"trace " NATIVE " --out x --inputs " GOLDEN "models/ivl-native/golden.safetensors --values text.layr.*", 2,
     "text.layr.*"},
    {"trace " NATIVE " --out x --inputs " GOLDEN "models/ivl-rms-qknorm/golden.safetensors", 3, "tiles of 28 pixels"},
    {"trace " NATIVE " --out " GOLDEN "nowhere/x --inputs " GOLDEN "models/ivl-native/golden.text.safetensors", 3,
     "nowhere"},
    {"trace " NATIVE " --temperature 1 --out x --inputs y", 2, "--temperature"},
    {"devices --devices cpu*0", 2, "cpu*0"},
    {"devices --devices gpu", 2, "or GPUs, as in cuda:0 or all"},
    {"plan " NATIVE " --strategy foo", 2, "optimal, internvl, layer, vllm, sglang, deepspeed\n"},
    {"plan " NATIVE " --strategy=", 2, "--strategy is empty"},
    {"run " NATIVE " --strategy balanced --device-map x.json -p x", 2, "replaces the strategy; leave out --strategy"},
    {"run " NATIVE " --temp 1 -p x", 2, "did you mean --temperature?"},
    {"run " NATIVE " -i - -i - -p x", 2, "standard input (-) holds one thing"},
    {"run " NATIVE " -i - --prompt-file -", 2, "standard input (-) holds one thing"},
    {"run " NATIVE " -i - -p x", 3, "not a picture: the file is empty"},
    {"run " NATIVE " -p x --report " GOLDEN "nowhere/x", 3, "cannot create a file beside"},
    {"foo", 2, "unknown command \"foo\"; `berth --help` lists them"},
    {"help foo", 2, "unknown command \"foo\""},
    {"devices --devices=", 2, "empty"},
    {"strategies --jsn", 2, "did you mean --json"},
    {"completions", 2, "bash, zsh or fish"},
    {"completions powershell", 2, "powershell"},
};

static void mistakes_are_refused_with_a_sentence(void **state)
{
    (void)state;
    program_expect_refusals(refusals, sizeof refusals / sizeof refusals[0]);
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

static void user_text_becomes_no_special_token(void **state)
{
    (void)state;
    const program_run run = {.stdin_text = "<|im_end|>"};
    program_result plain = program_expect(&run, 0, "tokenize " MIXED);
    program_result special = program_expect(&run, 0, "tokenize " MIXED " --special");
    assert_string_equal(plain.out, "27 91 72 76 62 809 91 29\n");
    assert_string_equal(special.out, "2258\n");
    program_deinit(&plain);
    program_deinit(&special);
}

static void text_survives_both_ways(void **state)
{
    (void)state;
    static const char text[] = "Total:\t12.50\r\n\n  \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x98\x80\0<img>\n";
    const program_run there = {.stdin_text = text, .stdin_size = sizeof text - 1};
    program_result ids = program_expect(&there, 0, "tokenize " MIXED);
    const program_run back = {.stdin_text = ids.out};
    program_result again = program_expect(&back, 0, "detokenize " MIXED);
    assert_int_equal(again.out_size, sizeof text - 1);
    assert_memory_equal(again.out, text, sizeof text - 1);
    program_deinit(&ids);
    program_deinit(&again);
}

static void nothing_gives_an_empty_line_and_nothing(void **state)
{
    (void)state;
    program_result ids = program_expect(NULL, 0, "tokenize " MIXED);
    program_result text = program_expect(NULL, 0, "detokenize " MIXED);
    assert_string_equal(ids.out, "\n");
    assert_string_equal(text.out, "");
    program_deinit(&ids);
    program_deinit(&text);
}

static void broken_text_and_ids_are_refused(void **state)
{
    (void)state;
    const program_run broken = {.stdin_text = "a\xff"}, words = {.stdin_text = "12 x"},
                      large = {.stdin_text = "2147483648"}, joined = {.stdin_text = "1,2;3"};
    program_result a = program_expect(&broken, 3, "tokenize " MIXED);
    program_result b = program_expect(&words, 3, "detokenize " MIXED);
    program_result c = program_expect(&large, 3, "detokenize " MIXED);
    program_result d = program_expect(&joined, 3, "detokenize " MIXED);
    assert_non_null(strstr(a.err, "UTF-8"));
    assert_non_null(strstr(b.err, "byte 3"));
    assert_non_null(strstr(c.err, "byte 0"));
    program_deinit(&a);
    program_deinit(&b);
    program_deinit(&c);
    program_deinit(&d);
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static void a_row_that_fails_spoils_no_other(void **state)
{
    (void)state;
    const program_run run = {.stdin_text = "{\"text\":\"a\"}\n"
                                           "{\"text\":\n"
                                           "\n"
                                           "{\"match\":\"all\"}\n"
                                           "[1]\r\n"
                                           "{\"hex\":\"6\"}\n"
                                           "{\"parts\":[[\"61\",1000000000000]]}\n"
                                           "{\"text\":\"a\",\"hex\":\"61\"}\n"
                                           "{\"text\":\"a\",\"match\":\"some\"}\n"
                                           "{\"text\":\"\\u0000\"}\n"
                                           "{\"hex\":\"ff\"}\n"
                                           "{\"layout\":\"llama\"}\n"
                                           "{\"text\":\"b\"}"};
    static const char *const answers[] = {"{\"ids\":[64]}",  "row 2",          "row 4: a row needs",
                                          "row 5",           "row 6: hex",     "row 7: parts",
                                          "row 8:",          "row 9: match",   "row 10",
                                          "\"valid\":false", "row 12: layout", "{\"ids\":[65]}"};
    enum { N = sizeof answers / sizeof answers[0] };
    program_result r = program_expect(&run, 1, "tokenize " MIXED " --jsonl");
    size_t i = 0;
    for (char *rest = NULL, *line = strtok_r(r.out, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest), i++) {
        assert_true(i < N);
        if (strstr(line, answers[i]) == NULL) fail_msg("answer %zu: \"%s\" is not in %s", i, answers[i], line);
        if (strncmp(answers[i], "row", 3) == 0) assert_memory_equal(line, "{\"error\":", 9);
    }
    assert_int_equal(i, N);
    assert_non_null(strstr(r.err, "9 of 12 rows failed"));
    program_deinit(&r);
}

static void rows_of_ids_are_checked(void **state)
{
    (void)state;
    const program_run run = {.stdin_text = "{\"ids\":[64]}\n{\"ids\":[-1]}\n{\"ids\":[1.5]}\n{\"ids\":\"1\"}\n{}\n"
                                           "{\"ids\":[2147483648]}\n{\"ids\":[64],\"skip_special\":0}\n"
                                           "{\"ids\":[160,121,254,188],\"skip_special\":true}\n"};
    program_result r = program_expect(&run, 1, "detokenize " MIXED " --jsonl");
    assert_non_null(strstr(r.out, "{\"text\":\"a\",\"steps\":[1],\"flush\":0}\n"));
    assert_non_null(strstr(r.out, "{\"text_hex\":\"e4bda000\",\"steps\":[0,0,3,1],\"flush\":0}\n"));
    assert_non_null(strstr(r.err, "6 of 8 rows failed"));
    program_deinit(&r);
}

static void output_rows_are_ascii(void **state)
{
    (void)state;
    const program_run run = {.stdin_text = "{\"ids\":[158,222,101,2258,172,253,246,222]}\n"}; /* U+2028, an emoji */
    program_result r = program(&run, "detokenize " MIXED " --jsonl");
    assert_int_equal(r.code, 0);
    for (size_t i = 0; i < r.out_size; i++) assert_true((unsigned char)r.out[i] < 0x80);
    program_deinit(&r);
}

/* ---- pictures ---------------------------------------------------------------------------------------------------- */

static void pixel_values_of_several_pictures_stand_in_order(void **state)
{
    (void)state;
    char file[128], arguments[1024];
    snprintf(file, sizeof file, "%s/pixels.safetensors", test_folder());
    snprintf(arguments, sizeof arguments,
             "preprocess " NATIVE " -i " GOLDEN "models/ivl-native/images/main-0.png -i " GOLDEN
             "models/ivl-native/images/main-1.png --out %s",
             file);
    program_result r = program_expect(NULL, 0, arguments);
    berth_safetensors *got, *want;
    assert_int_equal(berth_safetensors_open(NULL, file, &got, NULL), BERTH_OK);
    assert_int_equal(berth_safetensors_open(NULL, GOLDEN "models/ivl-native/golden.safetensors", &want, NULL),
                     BERTH_OK);
    const berth_safetensor *a = berth_safetensors_find(want, "pixel_values"),
                           *b = berth_safetensors_find(got, "pixel_values");
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(a->n_bytes, b->n_bytes);
    float *x = malloc(a->n_bytes), *y = malloc(b->n_bytes);
    assert_int_equal(berth_safetensors_read(want, a, x, NULL), BERTH_OK);
    assert_int_equal(berth_safetensors_read(got, b, y, NULL), BERTH_OK);
    for (size_t i = 0; i < a->n_bytes / sizeof *x; i++) assert_float_equal(x[i], y[i], 1e-6);
    assert_non_null(strstr(r.out, "main-0.png\",\"w\":"));
    assert_non_null(strstr(r.out, "\"n\":3}\n"));
    assert_non_null(strstr(r.out, "\"n\":1}\n"));
    free(x);
    free(y);
    berth_safetensors_close(got);
    berth_safetensors_close(want);
    program_deinit(&r);
}

static void picture_options_and_rows_are_checked(void **state)
{
    (void)state;
    const program_run run = {.stdin_text =
                                 "{\"w\":800,\"h\":600}\n{\"w\":800}\n{\"w\":0,\"h\":1}\n{\"file\":\"nowhere.png\"}\n"
                                 "{\"w\":10,\"h\":10,\"min\":5,\"max\":4}\n{\"w\":10,\"h\":10,\"tile\":1e9}\n"};
    program_result r = program_expect(&run, 1, "preprocess --jsonl --max-tiles 6 --no-thumbnail --tile 56");
    assert_memory_equal(r.out, "{\"w\":800,\"h\":600,\"tile\":56,\"cols\":3,\"rows\":2,\"target\":[168,112],\"n\":6}\n",
                        70);
    assert_non_null(strstr(r.out, "nowhere.png"));
    assert_non_null(strstr(r.err, "5 of 6 rows failed"));
    program_deinit(&r);
}

/* ---- lists ------------------------------------------------------------------------------------------------------- */

static berth_json *parse(const program_result *r)
{
    berth_json *json;
    berth_error err = {0};
    if (berth_json_parse(r->out, r->out_size, "the output", &json, &err) != BERTH_OK) fail_msg("%s", err.message);
    return json;
}

static void devices_are_listed_with_limits(void **state)
{
    (void)state;
    program_result text = program_expect(NULL, 0, "devices --devices cpu*3/mem=1GiB");
    program_result r = program_expect(NULL, 0, "devices --json --devices cpu*3/mem=1GiB");
    assert_non_null(strstr(text.out, "cpu:2"));
    assert_non_null(strstr(text.out, "1.00 GiB"));
    berth_json *json = parse(&r);
    const berth_json_node *devices = berth_json_get(berth_json_root(json), "devices");
    assert_int_equal(berth_json_size(devices), 3);
    for (const berth_json_node *d = berth_json_first(devices); d != NULL; d = berth_json_next(d)) {
        int64_t bytes;
        assert_true(berth_json_as_i64(berth_json_get(d, "memory_bytes"), &bytes));
        assert_int_equal(bytes, 1 << 30);
        assert_true(berth_json_size(berth_json_get(d, "cores")) >= 1);
    }
    assert_non_null(berth_json_get(berth_json_get(berth_json_root(json), "kernels"), "default"));
    assert_true(berth_json_size(berth_json_get(berth_json_root(json), "transports")) >= 2);
    berth_json_destroy(json);
    program_deinit(&text);
    program_deinit(&r);
}

static void every_listed_strategy_can_be_asked_for(void **state)
{
    (void)state;
    program_result r = program_expect(NULL, 0, "strategies --json");
    program_result text = program_expect(NULL, 0, "strategies");
    berth_json *json = parse(&r);
    const berth_json_node *list = berth_json_get(berth_json_root(json), "strategies");
    assert_true(berth_json_size(list) >= 6);
    for (const berth_json_node *s = berth_json_first(list); s != NULL; s = berth_json_next(s)) {
        char arguments[512];
        const char *name = berth_json_as_string(berth_json_get(s, "name"));
        assert_non_null(strstr(text.out, name));
        assert_non_null(berth_json_as_string(berth_json_get(s, "about")));
        snprintf(arguments, sizeof arguments, "plan " NATIVE " --devices cpu*2 --strategy %s --json", name);
        program_result plan = program_expect(NULL, 0, arguments);
        assert_non_null(strstr(plan.out, name));
        program_deinit(&plan);
    }
    berth_json_destroy(json);
    program_deinit(&r);
    program_deinit(&text);
}

static void a_picture_may_come_through_a_pipe(void **state)
{
    (void)state;
    static const char file[] = GOLDEN "image/files/png-rgb8.png";
    char *data;
    size_t size;
    assert_int_equal(berth_file_read(file, 1 << 20, &data, &size, NULL), BERTH_OK);
    const program_run piped = {.stdin_text = data, .stdin_size = size};
    static const char *const orders[][2] = {{"-i -", "-i " GOLDEN "image/files/png-rgb8.png"},
                                            {"--system s -i " GOLDEN "image/files/gif-animated.gif -i -",
                                             "--system s -i " GOLDEN "image/files/gif-animated.gif -i " GOLDEN
                                             "image/files/png-rgb8.png"}};
    for (size_t i = 0; i < 2; i++) {
        char arguments[2][1024];
        for (int k = 0; k < 2; k++)
            snprintf(arguments[k], sizeof arguments[k], "run " NATIVE " -p x -n 4 %s", orders[i][k]);
        program_result a = program_expect(&piped, 0, arguments[0]), b = program_expect(NULL, 0, arguments[1]);
        assert_string_equal(a.out, b.out);
        program_deinit(&a);
        program_deinit(&b);
    }
    free(data);
}

static void help_leaves_out_what_is_for_other_commands(void **state)
{
    (void)state;
    static const struct {
        const char *command, *says, *leaves;
    } cases[] = {
        {"run --help", "most new tokens (default 512)\n", "trace: 0"},
        {"trace --help", "most new tokens (default 512; trace: 0)\n", "eval, bench"},
        {"help run", "the question\n", "of lines that have none"},
        {"batch --help", "the question; batch and eval: of lines that have none\n", "also -ub"},
        {"bench --help", "prompt tokens of one pass (default 512); bench: also -ub\n", "run, trace"},
        {"plan --help", "(default: all; --print-device-map: 0)\n", "bench"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        program_result r = program_expect(NULL, 0, cases[i].command);
        if (strstr(r.out, cases[i].says) == NULL)
            fail_msg("berth %s does not say: %s", cases[i].command, cases[i].says);
        if (strstr(r.out, cases[i].leaves) != NULL) fail_msg("berth %s says: %s", cases[i].command, cases[i].leaves);
        program_deinit(&r);
    }
}

static void help_names_every_option_of_a_command(void **state)
{
    (void)state;
    static const char *const commands[] = {"run",     "chat",       "batch",       "eval",       "bench",
                                           "plan",    "trace",      "tokenize",    "detokenize", "preprocess",
                                           "devices", "strategies", "completions", "man"};
    program_result all = program_expect(NULL, 0, "--help");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        char arguments[64];
        snprintf(arguments, sizeof arguments, "%s --help", commands[i]);
        program_result r = program_expect(NULL, 0, arguments);
        assert_non_null(strstr(all.out, commands[i]));
        assert_non_null(strstr(r.out, "--help"));
        assert_non_null(strstr(r.out, "Usage: berth "));
        program_deinit(&r);
    }
    program_deinit(&all);
}

static void pages_are_written(void **state)
{
    (void)state;
    static const struct {
        const char *arguments, *holds;
    } pages[] = {{"man", ".TH BERTH 1"},
                 {"completions bash", "complete -F _berth berth"},
                 {"completions zsh", "#compdef berth"},
                 {"completions fish", "complete -c berth"},
                 {"--version", "berth 0."}};
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        program_result r = program_expect(NULL, 0, pages[i].arguments);
        assert_non_null(strstr(r.out, pages[i].holds));
        assert_string_equal(r.err, "");
        program_deinit(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_are_refused_with_a_sentence),
        cmocka_unit_test(user_text_becomes_no_special_token),
        cmocka_unit_test(text_survives_both_ways),
        cmocka_unit_test(nothing_gives_an_empty_line_and_nothing),
        cmocka_unit_test(broken_text_and_ids_are_refused),
        cmocka_unit_test(a_row_that_fails_spoils_no_other),
        cmocka_unit_test(rows_of_ids_are_checked),
        cmocka_unit_test(output_rows_are_ascii),
        cmocka_unit_test(pixel_values_of_several_pictures_stand_in_order),
        cmocka_unit_test(picture_options_and_rows_are_checked),
        cmocka_unit_test(devices_are_listed_with_limits),
        cmocka_unit_test(every_listed_strategy_can_be_asked_for),
        cmocka_unit_test(a_picture_may_come_through_a_pipe),
        cmocka_unit_test(help_leaves_out_what_is_for_other_commands),
        cmocka_unit_test(help_names_every_option_of_a_command),
        cmocka_unit_test(pages_are_written),
    };
    return cmocka_run_group_tests_name("cli_commands", tests, NULL, NULL);
}
