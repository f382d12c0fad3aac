/* text_test.c - UTF-8, and the small rules of text: sizes, globs, quotes, how far two words are apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/utf8.h"

static void utf8_round_trip_of_every_scalar(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp < 0x110400; cp++) {
        char s[4];
        size_t n = berth_utf8_encode(cp, s);
        if (cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000)) {
            if (n != 0) fail_msg("U+%X was encoded", cp);
            continue;
        }
        uint32_t back;
        bool incomplete;
        if (berth_utf8_decode(s, n, &back, &incomplete) != (int)n || back != cp || incomplete)
            fail_msg("U+%X came back wrong", cp);
        for (size_t cut = 1; cut < n; cut++)
            if (berth_utf8_decode(s, cut, &back, &incomplete) != -(int)cut || !incomplete || back != 0xFFFD)
                fail_msg("U+%X cut to %zu bytes", cp, cut);
    }
}

static void utf8_maximal_subparts(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        int n, incomplete;
    } cases[] = {
        {"\x80", -1, 0},
        {"\xBF", -1, 0},
        {"\xC0\x80", -1, 0},
        {"\xC1\xBF", -1, 0},
        {"\xC2", -1, 1},
        {"\xC2"
         "A",
         -1, 0},
        {"\xE0\x9F\x80", -1, 0},
        {"\xE0\xA0", -2, 1},
        {"\xE0\xA0"
         "A",
         -2, 0},
        {"\xED\xA0\x80", -1, 0},
        {"\xED\x9F", -2, 1},
        {"\xEF\xBF\xBF", 3, 0},
        {"\xF0\x8F\xBF\xBF", -1, 0},
        {"\xF0\x90\x80", -3, 1},
        {"\xF0\x90\x80"
         "A",
         -3, 0},
        {"\xF4\x8F\xBF\xBF", 4, 0},
        {"\xF4\x90\x80\x80", -1, 0},
        {"\xF5\x80\x80\x80", -1, 0},
        {"\xFE", -1, 0},
        {"\xFF", -1, 0},
        {"\xF1\x80\xE1\x80", -2, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t cp;
        bool incomplete;
        assert_int_equal(berth_utf8_decode(cases[i].bytes, strlen(cases[i].bytes), &cp, &incomplete), cases[i].n);
        assert_int_equal(incomplete, cases[i].incomplete);
        assert_int_equal(cp == 0xFFFD, cases[i].n < 0);
        char padded[40]; /* the eight-byte path before, at and behind the fault */
        for (size_t lead = 0; lead <= 20; lead++) {
            memset(padded, 'a', sizeof padded);
            memcpy(padded + lead, cases[i].bytes, strlen(cases[i].bytes));
            assert_int_equal(berth_utf8_valid(padded, sizeof padded), cases[i].n > 0);
            assert_true(berth_utf8_valid(padded, lead));
        }
    }
    assert_true(berth_utf8_valid("", 0));
    assert_true(berth_utf8_valid("\0", 1));
}

static void text_parses_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"4096", 4096},
        {"512B", 512},
        {"512b", 512},
        {"32K", 32768},
        {"32k", 32768},
        {"32KiB", 32768},
        {"32kib", 32768},
        {"32Ki", 32768},
        {"32KB", 32000},
        {"10GiB", 10737418240u},
        {"1.5GB", 1500000000},
        {"1.5G", 1610612736},
        {"0.1K", 102},
        {"2TiB", 2199023255552u},
        {"2TB", 2000000000000u},
        {"3M", 3145728},
        {"3MB", 3000000},
        {"18446744073709551615", UINT64_MAX},
        {"0.5000000000000000000000000M", 524288},
        {"16777215T", 16777215ull << 40},
    };
    static const char *const bad[] = {"",          " 1",
                                      "1 ",        "1 K",
                                      "-1",        "+1",
                                      "K",         ".5G",
                                      "5.G",       "1.5",
                                      "1.5B",      "1e9",
                                      "0x10",      "1KK",
                                      "1KiBs",     "1P",
                                      "1BB",       "18446744073709551616",
                                      "16777216T", "99999999999999999999999",
                                      "inf",       "nan",
                                      "1,5G",      "1iB"};
    uint64_t bytes;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (!berth_parse_bytes(good[i].text, &bytes) || bytes != good[i].bytes) fail_msg("%s", good[i].text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (berth_parse_bytes(bad[i], &bytes)) fail_msg("'%s' was taken", bad[i]);
    assert_false(berth_parse_bytes(NULL, &bytes));
}

static void text_formats_bytes(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {{0, "0 B"},
                 {512, "512 B"},
                 {1023, "1023 B"},
                 {1024, "1.00 KiB"},
                 {1536, "1.50 KiB"},
                 {1048575, "1.00 MiB"},
                 {1048576, "1.00 MiB"},
                 {3511134617u, "3.27 GiB"},
                 {UINT64_MAX, "16.00 EiB"},
                 {1040000, "1015.63 KiB"}};
    char out[32];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(berth_format_bytes(cases[i].bytes, out, sizeof out), cases[i].text);
    assert_string_equal(berth_format_bytes(1536, out, 4), "1.5");
}

static void text_matches_globs(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool matches;
    } cases[] = {
        {"", "", true},
        {"", "a", false},
        {"*", "", true},
        {"*", "a.b/c", true},
        {"**", "x", true},
        {"a*", "a", true},
        {"a*c", "abcbc", true},
        {"a*c", "abcb", false},
        {"?", "", false},
        {"?", "\xC3\xA9", true},
        {"??", "\xC3\xA9", false},
        {"?", "\xFF", true},
        {"text.layer.*", "text.layer.0", true},
        {"*.layer.[0-3]", "text.layer.2", true},
        {"*.layer.[0-3]", "text.layer.4", false},
        {"[!a-c]", "d", true},
        {"[!a-c]", "b", false},
        {"[^a]", "a", false},
        {"[]a]", "]", true},
        {"[]", "[]", true},
        {"[a", "[a", true},
        {"[a-]", "-", true},
        {"[\xC3\xA0-\xC3\xBF]", "\xC3\xA9", true},
        {"[\xC3\xA0-\xC3\xBF]", "e", false},
        {"\\*", "*", true},
        {"\\*", "a", false},
        {"\\", "\\", true},
        {"*a*b*c", "xxaxxbxxc", true},
        {"*a*b*c", "xxaxxcxxb", false},
        {"a", "A", false},
        {"*[", "x[", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (berth_glob_match(cases[i].pattern, cases[i].name) != cases[i].matches)
            fail_msg("%s on %s", cases[i].pattern, cases[i].name);
    char pattern[201], name[4001]; /* would never end in a matcher that tries every star */
    for (size_t i = 0; i < 100; i++) memcpy(pattern + 2 * i, "*a", 2);
    pattern[199] = 'b';
    pattern[200] = '\0';
    memset(name, 'a', 4000);
    name[4000] = '\0';
    assert_false(berth_glob_match(pattern, name));
}

static void text_quotes_within_its_room(void **state)
{
    (void)state;
    static const char hostile[] = "ab\x1B\xE2\x80\xAE\xF0\x9F\x98\x80\xC3\n\0z";
    char out[64];
    assert_string_equal(berth_quote(out, sizeof out, hostile, sizeof hostile - 1),
                        "ab\\x1B\\u{202E}\xF0\x9F\x98\x80\\xC3\\x0A\\x00z");
    assert_string_equal(berth_quote(out, 8, "1234567", 7), "1234567");
    assert_string_equal(berth_quote(out, 8, "12345678", 8), "1234...");
    assert_string_equal(berth_quote(out, 8, "123\xF0\x9F\x98\x80", 7), "123\xF0\x9F\x98\x80");
    assert_string_equal(berth_quote(out, 8,
                                    "123\xF0\x9F\x98\x80"
                                    "4",
                                    8),
                        "123...");
    for (size_t n = 8; n < sizeof out; n++) {
        char *exact = malloc(n);
        berth_quote(exact, n, hostile, sizeof hostile - 1);
        assert_true(strlen(exact) < n && berth_utf8_valid(exact, strlen(exact)));
        free(exact);
    }
    assert_string_equal(berth_quote(out, 8, "", 0), "");
}

static void text_edit_distance(void **state)
{
    (void)state;
    assert_int_equal(berth_edit_distance("kitten", "sitting", 9), 3);
    assert_int_equal(berth_edit_distance("balanced", "balanced", 9), 0);
    assert_int_equal(berth_edit_distance("", "abc", 9), 3);
    assert_int_equal(berth_edit_distance("abc", "", 2), 2);
    assert_int_equal(berth_edit_distance("abcdef", "uvwxyz", 3), 3);
    assert_int_equal(berth_edit_distance("ab", "ba", 9), 2);
    assert_int_equal(berth_edit_distance("a", "a", 0), 0);
    char long_a[400], long_b[400];
    memset(long_a, 'a', sizeof long_a);
    memset(long_b, 'a', sizeof long_b);
    long_a[399] = long_b[399] = '\0';
    assert_int_equal(berth_edit_distance(long_a, long_b, 3), 0);
    long_b[5] = 'b';
    assert_int_equal(berth_edit_distance(long_a, long_b, 3), 3);
    assert_int_equal(berth_misspelling_limit("T4"), 2);  /* one letter off */
    assert_int_equal(berth_misspelling_limit("rnu"), 3); /* run */
    assert_int_equal(berth_misspelling_limit("balansed"), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_round_trip_of_every_scalar),
        cmocka_unit_test(utf8_maximal_subparts),
        cmocka_unit_test(text_parses_bytes),
        cmocka_unit_test(text_formats_bytes),
        cmocka_unit_test(text_matches_globs),
        cmocka_unit_test(text_quotes_within_its_room),
        cmocka_unit_test(text_edit_distance),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
