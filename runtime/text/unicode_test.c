/* unicode_test.c - the class table against the reference's ranges; cutting and NFC against other libraries, where those
 * are right. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "text/cut.h"
#include "text/golden_rows.h"
#include "text/nfc.h"
#include "text/test_folder.h"
#include "text/unicode_table.h"

static const char pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static void mark_ranges(const berth_json_node *list, unsigned char *of, unsigned char value)
{
    for (const berth_json_node *r = berth_json_first(list); r; r = berth_json_next(r)) {
        int64_t first, last;
        assert_true(berth_json_as_i64(berth_json_first(r), &first));
        assert_true(berth_json_as_i64(berth_json_next(berth_json_first(r)), &last));
        for (int64_t c = first; c <= last; c++) of[c] = value;
    }
}

static void classes_are_the_references(void **state)
{
    (void)state;
    size_t n;
    berth_json *tree = NULL;
    char *data = test_read(GOLDEN_TEXT "unicode.json", &n);
    assert_int_equal(berth_json_parse(data, n, "unicode.json", &tree, NULL), BERTH_OK);
    unsigned char *of = calloc(0x110000, 1);
    mark_ranges(berth_json_get(berth_json_root(tree), "letter"), of, BERTH_UNICODE_LETTER);
    mark_ranges(berth_json_get(berth_json_root(tree), "number"), of, BERTH_UNICODE_NUMBER);
    mark_ranges(berth_json_get(berth_json_root(tree), "space"), of, BERTH_UNICODE_SPACE);
    int n_wrong = 0;
    for (uint32_t c = 0; c < 0x110000; c++) n_wrong += berth_unicode_class(c) != of[c];
    assert_int_equal(n_wrong, 0);
    free(of);
    free(data);
    berth_json_destroy(tree);
}

/* ---- against PCRE2 and utf8proc, on what their older tables agree about ---- */

typedef struct dice {
    uint64_t state;
} dice;

static uint32_t roll(dice *d, uint32_t n)
{
    d->state = d->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(d->state >> 33) % n;
}

/* Code points of every kind that all versions since Unicode 9 see alike. */
static uint32_t random_char(dice *d)
{
    static const uint32_t pool[] = {
        ' ',    ' ',    '\n',   '\r',    '\t',   '\'', 's',    'T',    'l',    'r',    'e',     '1',    '!',    '<',
        0x85,   0xA0,   0x3000, 0x2028,  0x17F,  0xE9, 0x301,  0x323,  0x660,  0xBD,   0x4F60,  0x1100, 0x1161, 0x11A8,
        0xAC00, 0x0E33, 0x200D, 0x1F600, 0x212B, 0x1C, 0xFEFF, 0x0915, 0x093C, 0x0958, 0x1D15E, 0x0344, 0xFB2C};
    switch (roll(d, 6)) {
    case 0: return 0x20 + roll(d, 0x5F);
    case 1: return 0xC0 + roll(d, 0x180);
    case 2: return 0x300 + roll(d, 0x4F);
    default: return pool[roll(d, sizeof pool / sizeof *pool)];
    }
}

static void random_text(dice *d, berth_buffer *out)
{
    out->len = 0;
    for (uint32_t n = 1 + roll(d, 24); n; n--) {
        char bytes[4];
        assert_true(berth_buffer_append(out, bytes, berth_utf8_encode(random_char(d), bytes)));
    }
}

static void cutting_agrees_with_pcre2(void **state)
{
    (void)state;
    int code;
    PCRE2_SIZE where;
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &where, NULL);
    assert_non_null(re);
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    berth_buffer text = {0};
    dice d = {1};
    for (int i = 0; i < 20000; i++) {
        random_text(&d, &text);
        for (size_t at = 0; at < text.len;) {
            assert_int_equal(pcre2_match(re, (PCRE2_SPTR)text.data, text.len, at, PCRE2_NO_UTF_CHECK, match, NULL), 1);
            const PCRE2_SIZE *ov = pcre2_get_ovector_pointer(match);
            assert_int_equal(ov[0], at);
            size_t len = berth_cut_qwen2()->next(text.data + at, text.len - at);
            assert_int_equal(len, ov[1] - ov[0]);
            at += len;
        }
    }
    berth_buffer_deinit(&text);
    pcre2_match_data_free(match);
    pcre2_code_free(re);
}

static void nfc_agrees_with_utf8proc(void **state)
{
    (void)state;
    berth_buffer text = {0}, got = {0};
    dice d = {2};
    for (int i = 0; i < 20000; i++) {
        random_text(&d, &text);
        utf8proc_uint8_t *want = NULL;
        utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text.data, (utf8proc_ssize_t)text.len, &want,
                                          UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        got.len = 0;
        assert_true(n >= 0 && berth_nfc(text.data, text.len, &got));
        assert_int_equal(got.len, n);
        assert_memory_equal(got.data, want, (size_t)n);
        free(want);
    }
    berth_buffer_deinit(&text);
    berth_buffer_deinit(&got);
}

static void known_patterns_only(void **state)
{
    (void)state;
    assert_ptr_equal(berth_cut_find(pattern), berth_cut_qwen2());
    assert_null(berth_cut_find("(a+)+b"));
    assert_null(berth_cut_find(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_are_the_references),
        cmocka_unit_test(cutting_agrees_with_pcre2),
        cmocka_unit_test(nfc_agrees_with_utf8proc),
        cmocka_unit_test(known_patterns_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
