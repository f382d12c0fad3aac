/* base_test.c - errors, buffers, sizes, the clock, SHA-256. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/sha256.h"
#include "base/status.h"
#include "base/utf8.h"

/* ---- errors ---- */

static void error_escapes_strangers_names(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "plain"},
        {"two\nlines", "two\nlines"},
        {"\x1B[2J", "\\x1B[2J"},
        {"a\tb\rc\x7F", "a\\x09b\\x0Dc\\x7F"},
        {"\xC2\x85", "\\u{85}"},                              /* C1 */
        {"\xE2\x80\xA8\xE2\x80\xA9", "\\u{2028}\\u{2029}"},   /* line and paragraph separators */
        {"\xE2\x80\xAAx\xE2\x80\xAE", "\\u{202A}x\\u{202E}"}, /* bidi embeddings */
        {"\xE2\x81\xA6x\xE2\x81\xA9", "\\u{2066}x\\u{2069}"}, /* bidi isolates */
        {"\xE2\x80\x8E\xD8\x9C", "\\u{200E}\\u{61C}"},        /* bidi marks */
        {"\xFFz\xC3", "\\xFFz\\xC3"},                         /* not UTF-8 */
        {"\xED\xA0\x80", "\\xED\\xA0\\x80"},                  /* a surrogate */
        {"\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x98\x80", "\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x98\x80"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        berth_error err;
        memset(&err, 0xA5, sizeof err);
        assert_int_equal(BERTH_FAIL(&err, BERTH_BAD_FILE, "%s", cases[i].in), BERTH_BAD_FILE);
        assert_string_equal(err.message, cases[i].out);
        assert_int_equal(err.status, BERTH_BAD_FILE);
        assert_int_equal(err.device, -1);
        assert_int_equal(err.native_code, 0);
        assert_null(err.native_api);
        assert_true(err.line > 0);
        assert_non_null(strstr(err.file, "base_test.c"));
    }
    assert_int_equal(BERTH_FAIL(NULL, BERTH_BUSY, "nobody listens"), BERTH_BUSY);
    assert_int_equal(BERTH_FAIL_ERRNO(NULL, BERTH_IO_ERROR, EIO, "nobody listens"), BERTH_IO_ERROR);
}

static void error_is_cut_at_a_character(void **state)
{
    (void)state;
    char *text = malloc(20000);
    static const char *const units[] = {"x", "\xC3\xA9", "\xE6\xBC\xA2", "\xF0\x9F\x98\x80", "\x01", "\xFF"};
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        for (size_t lead = 0; lead < 5; lead++) {
            size_t len = lead;
            memset(text, 'a', lead);
            while (len < 5000) {
                memcpy(text + len, units[u], strlen(units[u]));
                len += strlen(units[u]);
            }
            text[len] = '\0';
            berth_error err;
            BERTH_FAIL(&err, BERTH_BAD_FILE, "%s", text);
            size_t got = strlen(err.message);
            assert_in_range(got, BERTH_ERROR_MESSAGE_SIZE - 9, BERTH_ERROR_MESSAGE_SIZE - 1);
            assert_true(berth_utf8_valid(err.message, got));
            if (u < 4) assert_memory_equal(err.message, text, got); /* nothing escaped: no character was halved */
            berth_error_append(&err, " more %s", text);
            berth_error_prefix(&err, "%s: ", "file");
            assert_true(strlen(err.message) < BERTH_ERROR_MESSAGE_SIZE);
            assert_true(berth_utf8_valid(err.message, strlen(err.message)));
            assert_memory_equal(err.message, "file: a", lead ? 7 : 6);
        }
    }
    free(text);
}

static void error_notes_and_errno(void **state)
{
    (void)state;
    berth_error err = {0};
    assert_int_equal(BERTH_FAIL_ERRNO(&err, BERTH_IO_ERROR, EACCES, "cannot open %s", "x"), BERTH_IO_ERROR);
    assert_string_equal(err.message, "cannot open x: Permission denied");
    assert_int_equal(err.native_code, EACCES);
    assert_string_equal(err.native_api, "errno");
    BERTH_FAIL_ERRNO(&err, BERTH_IO_ERROR, 99999, "cannot");
    assert_string_equal(err.message, "cannot: errno 99999");
    BERTH_FAIL(&err, BERTH_BAD_FILE, "wrong");
    BERTH_FAIL(&err, BERTH_BAD_FILE, "%s and %s", err.message, err.message); /* its own text as an argument */
    assert_string_equal(err.message, "wrong and wrong");
    berth_error_prefix(&err, "in %s: ", "a\x07");
    berth_error_append(&err, "; %d more", 3);
    assert_string_equal(err.message, "in a\\x07: wrong and wrong; 3 more");
    berth_error_prefix(NULL, "x");
    berth_error_append(NULL, "x");
    for (int s = 0; s < BERTH_STATUS_COUNT; s++) {
        assert_string_not_equal(berth_status_name((berth_status)s), "unknown");
        for (int t = 0; t < s; t++)
            assert_string_not_equal(berth_status_name((berth_status)s), berth_status_name((berth_status)t));
    }
    assert_string_equal(berth_status_name(BERTH_STATUS_COUNT), "unknown");
}

/* ---- buffers ---- */

static void buffer_grows_and_is_taken(void **state)
{
    (void)state;
    berth_buffer b = {0};
    char *empty = berth_buffer_take(&b);
    assert_string_equal(empty, "");
    free(empty);
    for (int i = 0; i < 1000; i++) assert_true(berth_buffer_printf(&b, "%d,", i));
    assert_true(berth_buffer_putc(&b, 'x') && berth_buffer_puts(&b, "yz") && berth_buffer_append(&b, NULL, 0));
    assert_int_equal(b.len, 3893);
    assert_int_equal(b.data[b.len], 0);
    assert_memory_equal(b.data + b.len - 7, "999,xyz", 7);
    assert_true(berth_buffer_printf(&b, "%0*d", 5000, 7)); /* longer than any stack buffer */
    assert_int_equal(b.len, 8893);
    char *text = berth_buffer_take(&b);
    assert_int_equal(strlen(text), 8893);
    assert_true(b.data == NULL && b.len == 0 && b.cap == 0 && !b.failed);
    free(text);
}

static void buffer_failure_is_kept(void **state)
{
    (void)state;
    berth_buffer b = {0};
    assert_true(berth_buffer_puts(&b, "kept"));
    assert_false(berth_buffer_reserve(&b, SIZE_MAX));
    assert_false(berth_buffer_puts(&b, "later"));
    assert_true(b.failed);
    assert_string_equal(b.data, "kept");
    assert_null(berth_buffer_take(&b));
    assert_true(b.data == NULL && !b.failed);
    berth_buffer_deinit(&b);
}

static void buffer_writes_json_strings(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t n;
        const char *out;
    } cases[] = {
        {"", 0, "\"\""},
        {"a\"b\\c/", 6, "\"a\\\"b\\\\c/\""},
        {"\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\""},
        {"\0\x1F\x7F", 3, "\"\\u0000\\u001f\\u007f\""},
        {"\xC3\xA9\xF0\x9F\x98\x80", 6, "\"\xC3\xA9\xF0\x9F\x98\x80\""},
        {"x\xFFy\xE6\xBC", 5, "\"x\xEF\xBF\xBDy\xEF\xBF\xBD\""}, /* one U+FFFD per maximal subpart */
        {"\xED\xA0\x80", 3, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        berth_buffer b = {0};
        assert_true(berth_buffer_json_string(&b, cases[i].in, cases[i].n));
        assert_string_equal(b.data, cases[i].out);
        berth_buffer_deinit(&b);
    }
}

/* ---- the rest ---- */

static void sizes_and_the_clock(void **state)
{
    (void)state;
    size_t out;
    assert_true(berth_round_up(13, 8, &out) && out == 16);
    assert_true(berth_round_up(16, 8, &out) && out == 16);
    assert_false(berth_round_up(SIZE_MAX - 2, 64, &out));
    assert_true(berth_mul_sat(SIZE_MAX / 2, 3) == SIZE_MAX);
    int64_t before = berth_now_ns();
    assert_true(berth_now_ns() >= before);
}

/* Source of the vectors: FIPS 180-2, appendix B. */
static void sha256_of_known_texts(void **state)
{
    (void)state;
    char hex[65];
    assert_true(berth_sha256_hex("abc", 3, hex));
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_true(berth_sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hex));
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    assert_true(berth_sha256_hex(NULL, 0, hex));
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_escapes_strangers_names), cmocka_unit_test(error_is_cut_at_a_character),
        cmocka_unit_test(error_notes_and_errno),         cmocka_unit_test(buffer_grows_and_is_taken),
        cmocka_unit_test(buffer_failure_is_kept),        cmocka_unit_test(buffer_writes_json_strings),
        cmocka_unit_test(sizes_and_the_clock),           cmocka_unit_test(sha256_of_known_texts),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
