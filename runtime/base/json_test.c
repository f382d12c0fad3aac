/* json_test.c - the strict reader and the tree above it: what is taken, what is refused and why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static const char *const accepted[] = {
    "0",
    "-0",
    "1",
    "-1.5e-3",
    "1E400",
    "123456789012345678901234567890",
    "true",
    "false",
    "null",
    "\"\"",
    "[]",
    "{}",
    " [ ] ",
    "\t{\r}\n",
    "[1,2,3]",
    "[[],[[]],{}]",
    "{\"a\":1,\"b\":{\"a\":2},\"c\":[{\"a\":3},{\"a\":4}]}",
    "[0.0, 1e5, 1e+5, 1E-5, 0e0]",
    "{\"\":0}",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\uD83D\\uDE00\\ud83d\\ude00\\uFFFF\"",
    "\"\x7F\"",
    "\"\xC2\x80\xEF\xBF\xBF\xF4\x8F\xBF\xBF\"",
    "\"\xE2\x80\xA8\"",
    "[\"0123456\",\"01234567\",\"012345678\",\"0123456\xC3\xA9\",\"01234567\\n\"]",
};

static const char *const refused[] = {
    "",
    " ",
    "[",
    "]",
    "{",
    "}",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1,,2]",
    "[1 2]",
    "[1}",
    "{1}",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{,}",
    "{\"a\" 1}",
    "{\"a\":1 \"b\":2}",
    "{\"a\":1]",
    "{\"a\":1,\"b\"}",
    "{a:1}",
    "{'a':1}",
    "[] []",
    "[]x",
    "1 2",
    "nul",
    "nulL",
    "tru",
    "TRUE",
    "None",
    "NaN",
    "Infinity",
    "-Infinity",
    "-",
    "+1",
    "01",
    "-01",
    "00",
    "1.",
    ".5",
    "-.5",
    "1.e3",
    "1e",
    "1e+",
    "1e-",
    "0x10",
    "1_000",
    "1,5",
    "\"",
    "\"a",
    "\"\\",
    "\"\\\"",
    "\"\\x41\"",
    "\"\\u\"",
    "\"\\u12\"",
    "\"\\u12G4\"",
    "\"\\u 041\"",
    "\"\\u+041\"",
    "\"\\'\"",
    "\"\n\"",
    "\"\t\"",
    "\"\x01\"",
    "\"\x1F\"",
    "'a'",
    "\"\\ud800\"",
    "\"\\ud800x\"",
    "\"\\ud800\\n\"",
    "\"\\ud800\\u0041\"",
    "\"\\udc00\"",
    "\"\\ud800\\ud800\"",
    "\"\\ude00\\ud83d\"",
    "\"\xFF\"",
    "\"\x80\"",
    "\"\xC0\x80\"",
    "\"\xED\xA0\x80\"",
    "\"\xF4\x90\x80\x80\"",
    "\"\xE2\x80\"",
    "\"\xC3\"",
    "\"0123456\xC3\"",
    "\"01234567\xFF\"",
    "{\"\\u0000\":1}",
    "{\"a\\u0000b\":1}",
    "\xEF\xBB\xBF[]",
    "[\x0C]",
    "[\xC2\xA0]",
    "/* */ 1",
    "1 // x",
    "[1]\xFF",
    "{\"a\":1}}",
};

/* A copy in memory of exactly its size, so that the sanitizer sees one byte too far. */
static char *exact_copy(const char *text, size_t n)
{
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, text, n);
    return copy;
}

static bool reader_accepts(const char *text, size_t n)
{
    berth_json_reader r;
    berth_json_reader_init(&r, text, n);
    berth_json_event event;
    do event = berth_json_read(&r);
    while (event != BERTH_JSON_END && event != BERTH_JSON_ERROR);
    assert_int_equal(berth_json_read(&r), event); /* the last word stays the last */
    if (event == BERTH_JSON_ERROR) assert_true(r.error && *r.error);
    assert_true(r.at >= text && r.at <= text + n);
    berth_json_reader_deinit(&r);
    return event == BERTH_JSON_END;
}

static berth_status parse(const char *text, size_t n, berth_json **out, berth_error *err)
{
    char *copy = exact_copy(text, n);
    berth_status status = berth_json_parse(copy, n, "text", out, err);
    free(copy); /* the tree keeps nothing of the text */
    return status;
}

static bool tree_accepts(const char *text, size_t n)
{
    berth_json *j;
    berth_error err;
    berth_status status = parse(text, n, &j, &err);
    if (status != BERTH_OK) assert_null(j);
    berth_json_destroy(j);
    return status == BERTH_OK;
}

static void reader_and_tree_judge_alike(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof accepted / sizeof *accepted; i++) {
        size_t n = strlen(accepted[i]);
        char *copy = exact_copy(accepted[i], n);
        if (!reader_accepts(copy, n) || !tree_accepts(copy, n)) fail_msg("refused: %s", accepted[i]);
        free(copy);
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        size_t n = strlen(refused[i]);
        char *copy = exact_copy(refused[i], n);
        if (reader_accepts(copy, n) || tree_accepts(copy, n)) fail_msg("accepted: %s", refused[i]);
        free(copy);
    }
    assert_false(reader_accepts("1\0", 2));
    assert_false(reader_accepts("\"a\0b\"", 5));
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    static const char text[] = "{\"k\\u00e9y\": [1.5e3, \"\\ud83d\\ude00 \xF0\x9F\x98\x80 long enough for words\", "
                               "true, false, null, {}], \"z\": []}";
    for (size_t n = 0; n <= sizeof text - 1; n++) {
        char *copy = exact_copy(text, n);
        assert_int_equal(reader_accepts(copy, n), n == sizeof text - 1);
        assert_int_equal(tree_accepts(copy, n), n == sizeof text - 1);
        free(copy);
    }
}

static void depth_ends_at_64(void **state)
{
    (void)state;
    static const struct {
        const char *open, *close;
    } kinds[] = {{"[", "]"}, {"{\"a\":", "}"}};
    for (size_t k = 0; k < 2; k++) {
        for (int depth = BERTH_JSON_DEPTH - 1; depth <= BERTH_JSON_DEPTH + 1; depth++) {
            berth_buffer b = {0};
            for (int i = 0; i < depth; i++) berth_buffer_puts(&b, kinds[k].open);
            berth_buffer_puts(&b, "0");
            for (int i = 0; i < depth; i++) berth_buffer_puts(&b, kinds[k].close);
            assert_int_equal(reader_accepts(b.data, b.len), depth <= BERTH_JSON_DEPTH);
            assert_int_equal(tree_accepts(b.data, b.len), depth <= BERTH_JSON_DEPTH);
            berth_buffer_deinit(&b);
        }
    }
    berth_buffer b = {0}; /* a million brackets cost no stack */
    for (int i = 0; i < 1000000; i++) berth_buffer_putc(&b, '[');
    assert_false(tree_accepts(b.data, b.len));
    berth_buffer_deinit(&b);
}

static void reader_gives_every_event(void **state)
{
    (void)state;
    static const char text[] = " {\"a\\n\": [-1.50e+2, \"x\xC3\xA9\\u0000\\\"y\", true], \"plain\": {\"n\": null, "
                               "\"f\": false}, \"\": {}, \"e\": []} ";
    static const struct {
        berth_json_event event;
        const char *text;
        size_t len;
    } expected[] = {
        {BERTH_JSON_BEGIN_OBJECT, NULL, 0},
        {BERTH_JSON_KEY, "a\n", 2},
        {BERTH_JSON_BEGIN_ARRAY, NULL, 0},
        {BERTH_JSON_NUM, "-1.50e+2", 8},
        {BERTH_JSON_TEXT, "x\xC3\xA9\0\"y", 6},
        {BERTH_JSON_TRUE, NULL, 0},
        {BERTH_JSON_END_ARRAY, NULL, 0},
        {BERTH_JSON_KEY, "plain", 5},
        {BERTH_JSON_BEGIN_OBJECT, NULL, 0},
        {BERTH_JSON_KEY, "n", 1},
        {BERTH_JSON_NIL, NULL, 0},
        {BERTH_JSON_KEY, "f", 1},
        {BERTH_JSON_FALSE, NULL, 0},
        {BERTH_JSON_END_OBJECT, NULL, 0},
        {BERTH_JSON_KEY, "", 0},
        {BERTH_JSON_BEGIN_OBJECT, NULL, 0},
        {BERTH_JSON_END_OBJECT, NULL, 0},
        {BERTH_JSON_KEY, "e", 1},
        {BERTH_JSON_BEGIN_ARRAY, NULL, 0},
        {BERTH_JSON_END_ARRAY, NULL, 0},
        {BERTH_JSON_END_OBJECT, NULL, 0},
        {BERTH_JSON_END, NULL, 0},
    };
    berth_json_reader r;
    berth_json_reader_init(&r, text, sizeof text - 1);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        assert_int_equal(berth_json_read(&r), expected[i].event);
        if (!expected[i].text) continue;
        assert_int_equal(r.len, expected[i].len);
        assert_memory_equal(r.text, expected[i].text, r.len);
        bool escaped = memchr(expected[i].text, '\n', r.len) || memchr(expected[i].text, '"', r.len);
        if (r.len) assert_int_equal(r.text >= text && r.text < text + sizeof text, !escaped); /* no copy without need */
    }
    berth_json_reader_deinit(&r);
}

static void reader_skips_values(void **state)
{
    (void)state;
    static const char text[] = "{\"a\": {\"b\": [1, {\"c\": \"}\"}], \"d\": 2}, \"e\": 5, \"f\": [}";
    berth_json_reader r;
    berth_json_reader_init(&r, text, sizeof text - 1);
    assert_int_equal(berth_json_read(&r), BERTH_JSON_BEGIN_OBJECT);
    assert_int_equal(berth_json_read(&r), BERTH_JSON_KEY);
    assert_true(berth_json_skip(&r));
    assert_int_equal(berth_json_read(&r), BERTH_JSON_KEY);
    assert_memory_equal(r.text, "e", 1);
    assert_true(berth_json_skip(&r));
    assert_int_equal(berth_json_read(&r), BERTH_JSON_KEY);
    assert_false(berth_json_skip(&r));
    assert_int_equal(berth_json_read(&r), BERTH_JSON_ERROR);
    size_t line, column;
    berth_json_where(&r, &line, &column);
    assert_int_equal(line, 1);
    assert_int_equal(column, sizeof text - 1);
    berth_json_reader_deinit(&r);
    berth_json_reader_init(&r, "[]", 2);
    assert_true(berth_json_skip(&r));
    assert_int_equal(berth_json_read(&r), BERTH_JSON_END);
    assert_false(berth_json_skip(&r));
    berth_json_reader_deinit(&r);
    assert_int_equal(berth_json_read(&r), BERTH_JSON_ERROR);
}

static void errors_name_the_place_and_the_reason(void **state)
{
    (void)state;
    static const struct {
        const char *text, *place, *reason;
    } cases[] = {
        {"{\n  \"a\": 1,\n  \"a\": 2}", "line 3, column 7", "already has"},
        {"{\"x\": {\"\\u0061\": 1, \"b\": 2, \"a\": 3}}", "line 1", "already has"},
        {"[\"\xC3\xA9\xC3\xA9\", x]", "line 1, column 8", "begins no value"},
        {"[1,\n\n  2", "line 3, column 4", "ends inside an array"},
        {"{\"a\": \"b\\u0000c\"}", "line 1", "U+0000"},
        {"{\"a\": \"\\ud800\"}", "line 1", "lone high surrogate"},
        {"{\"a\": \"\\udfff\"}", "line 1", "lone low surrogate"},
        {"\"\xFF\"", "line 1, column 2", "not UTF-8"},
        {"[] 1", "line 1, column 4", "follows the end"},
        {"NaN", "line 1, column 1", "begins no value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        berth_json *j;
        berth_error err;
        assert_int_equal(parse(cases[i].text, strlen(cases[i].text), &j, &err), BERTH_BAD_FILE);
        assert_null(j);
        if (strncmp(err.message, "text: ", 6) != 0 || !strstr(err.message, cases[i].place) ||
            !strstr(err.message, cases[i].reason))
            fail_msg("%s: %s", cases[i].text, err.message);
    }
}

static void tree_answers_typed_questions(void **state)
{
    (void)state;
    static const char text[] = "{\"int\": 9007199254740991, \"big\": 9007199254740993, \"neg\": -3.0, \"half\": 0.5, "
                               "\"huge\": 1e999, \"yes\": true,"
                               "\"no\": false, \"nil\": null, \"str\": \"a\xC3\xA9\\ud83d\\ude00\", \"arr\": [1, [2, "
                               "3], {}], \"Int\": 7, \"obj\": {}}";
    berth_json *j;
    assert_int_equal(parse(text, sizeof text - 1, &j, NULL), BERTH_OK);
    const berth_json_node *root = berth_json_root(j);
    int64_t i;
    double d;
    bool b;
    assert_int_equal(berth_json_size(root), 12);
    assert_true(berth_json_as_i64(berth_json_get(root, "int"), &i) && i == 9007199254740991);
    assert_false(berth_json_as_i64(berth_json_get(root, "big"), &i));
    assert_true(berth_json_as_i64(berth_json_get(root, "neg"), &i) && i == -3);
    assert_false(berth_json_as_i64(berth_json_get(root, "half"), &i));
    assert_false(berth_json_as_i64(berth_json_get(root, "huge"), &i));
    assert_false(berth_json_as_f64(berth_json_get(root, "huge"), &d));
    assert_false(berth_json_as_i64(berth_json_get(root, "yes"), &i));
    assert_true(berth_json_as_i64(berth_json_get(root, "Int"), &i) && i == 7); /* keys differ by case */
    assert_true(berth_json_as_f64(berth_json_get(root, "half"), &d) && d == 0.5);
    assert_true(berth_json_as_bool(berth_json_get(root, "yes"), &b) && b);
    assert_true(berth_json_as_bool(berth_json_get(root, "no"), &b) && !b);
    assert_false(berth_json_as_bool(berth_json_get(root, "int"), &b));
    assert_string_equal(berth_json_as_string(berth_json_get(root, "str")), "a\xC3\xA9\xF0\x9F\x98\x80");
    assert_null(berth_json_as_string(berth_json_get(root, "nil")));
    const berth_json_node *array = berth_json_get(root, "arr");
    assert_int_equal(berth_json_size(array), 3);
    const berth_json_node *second = berth_json_next(berth_json_first(array));
    assert_int_equal(berth_json_size(second), 2);
    assert_null(berth_json_key(second));
    assert_null(berth_json_next(berth_json_next(second)));
    assert_string_equal(berth_json_key(berth_json_first(root)), "int");
    static const struct {
        const char *key;
        berth_json_type type;
    } types[] = {{"nil", BERTH_JSON_NULL},   {"no", BERTH_JSON_BOOL},   {"int", BERTH_JSON_NUMBER},
                 {"str", BERTH_JSON_STRING}, {"arr", BERTH_JSON_ARRAY}, {"obj", BERTH_JSON_OBJECT},
                 {"absent", BERTH_JSON_NULL}};
    for (size_t k = 0; k < sizeof types / sizeof *types; k++)
        assert_int_equal(berth_json_type_of(berth_json_get(root, types[k].key)), types[k].type);
    assert_null(berth_json_get(root, NULL));
    assert_null(berth_json_get(array, "int"));
    assert_null(berth_json_get(NULL, "int"));
    assert_null(berth_json_first(berth_json_get(root, "str")));
    assert_int_equal(berth_json_size(NULL), 0);
    assert_null(berth_json_root(NULL));
    assert_null(berth_json_next(NULL));
    assert_null(berth_json_key(NULL));
    assert_string_equal(berth_json_type_name(BERTH_JSON_ARRAY), "an array");
    berth_json_destroy(j);
    berth_json_destroy(NULL);
}

static void duplicate_keys_among_many(void **state)
{
    (void)state;
    berth_buffer b = {0};
    berth_buffer_putc(&b, '{');
    for (int i = 0; i < 50000; i++) /* every third with an escape; the same names again one level down */
        berth_buffer_printf(&b, i % 3 ? "\"key%d\": {\"key%d\": 0}," : "\"k\\u0065y%d\": {\"k\\u0065y%d\": 0},", i, i);
    size_t len = b.len;
    berth_buffer_puts(&b, "\"other\": 1}");
    assert_true(tree_accepts(b.data, b.len));
    static const int picks[] = {0, 1, 2, 3, 777, 49998, 49999};
    for (size_t i = 0; i < sizeof picks / sizeof *picks; i++) {
        b.len = len;
        berth_buffer_printf(&b, i % 2 ? "\"key%d\": 1}" : "\"\\u006bey%d\": 1}", picks[i]);
        assert_false(tree_accepts(b.data, b.len));
    }
    berth_buffer_deinit(&b);
}

static void size_limits_hold(void **state)
{
    (void)state;
    berth_error err;
    berth_json *j;
    assert_int_equal(berth_json_parse("", ((size_t)64 << 20) + 1, "text", &j, &err),
                     BERTH_BAD_FILE); /* before any read */
    assert_null(j);
    size_t n_zeros = (size_t)1200000; /* 2.4 MB that would cost 100 MB as a tree */
    char *zeros = malloc(2 * n_zeros + 2);
    zeros[0] = '[';
    for (size_t i = 0; i < n_zeros; i++) memcpy(zeros + 1 + 2 * i, "0,", 2);
    zeros[2 * n_zeros] = ']';
    assert_true(reader_accepts(zeros, 2 * n_zeros + 1));
    assert_int_equal(berth_json_parse(zeros, 2 * n_zeros + 1, "text", &j, &err), BERTH_BAD_FILE);
    assert_non_null(strstr(err.message, "more values"));
    free(zeros);
}

static void integers_are_exact(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        int64_t value;
    } cases[] = {{"0", true, 0},
                 {"7", true, 7},
                 {"9007199254740993", true, 9007199254740993},
                 {"9223372036854775807", true, INT64_MAX},
                 {"9223372036854775808", false, 0},
                 {"18446744073709551616", false, 0},
                 {"00", false, 0},
                 {"01", false, 0},
                 {"-1", false, 0},
                 {"-0", false, 0},
                 {"1.0", false, 0},
                 {"1e3", false, 0},
                 {"", false, 0},
                 {" 1", false, 0},
                 {"9999999999999999999", false, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t value = -5;
        assert_int_equal(berth_json_parse_u63(cases[i].text, strlen(cases[i].text), &value), cases[i].ok);
        assert_int_equal(value, cases[i].ok ? cases[i].value : -5);
    }
}

static void numbers_of_any_length(void **state)
{
    (void)state;
    static const struct {
        const char *before, *repeated, *after;
        double value;
    } cases[] = {
        {"0.5", "0", "", 0.5},        {"-0.", "0", "25", -0.0}, /* 5,000 zeros: below the smallest double */
        {"0.", "0", "25e5000", 0.25}, {"12.5", "0", "e-1", 1.25}, {"1", "0", "e-5000", 1.0},
        {"0.", "3", "", 1.0 / 3.0},   {"1.", "0", "1e0", 1.0},    {"1e", "0", "2", 100.0},
        {"-2.5e-", "0", "1", -0.25},  {"0e", "9", "", 0.0},       {"0.0", "0", "", 0.0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        berth_buffer text = {0};
        berth_buffer_puts(&text, "{\"a\": [1, ");
        berth_buffer_puts(&text, cases[i].before);
        for (int k = 0; k < 5000; k++) berth_buffer_puts(&text, cases[i].repeated);
        berth_buffer_puts(&text, cases[i].after);
        berth_buffer_puts(&text, ", 7], \"b\": 8}");
        assert_false(text.failed);
        berth_json *j;
        double value = -1, seven = 0, eight = 0;
        assert_int_equal(parse(text.data, text.len, &j, NULL), BERTH_OK);
        const berth_json_node *second = berth_json_next(berth_json_first(berth_json_get(berth_json_root(j), "a")));
        assert_true(berth_json_as_f64(second, &value));
        assert_true(value == cases[i].value);
        assert_true(berth_json_as_f64(berth_json_next(second), &seven) && seven == 7);
        assert_true(berth_json_as_f64(berth_json_get(berth_json_root(j), "b"), &eight) && eight == 8);
        berth_json_destroy(j);
        berth_buffer_deinit(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reader_and_tree_judge_alike),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(depth_ends_at_64),
        cmocka_unit_test(reader_gives_every_event),
        cmocka_unit_test(reader_skips_values),
        cmocka_unit_test(errors_name_the_place_and_the_reason),
        cmocka_unit_test(tree_answers_typed_questions),
        cmocka_unit_test(duplicate_keys_among_many),
        cmocka_unit_test(size_limits_hold),
        cmocka_unit_test(integers_are_exact),
        cmocka_unit_test(numbers_of_any_length),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
