/* base_test.c - errors, buffers, element types, UTF-8, small text rules, SHA-256. JSON and files have tests of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/dtype.h"
#include "base/sha256.h"
#include "base/status.h"
#include "base/text.h"
#include "base/utf8.h"

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

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

/* ---- element types ---- */

/* The value of a half by its definition: (-1)^s * 2^(e-15) * 1.m, or 2^-14 * 0.m. */
static double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31;
    double m = h & 0x3FF;
    double v = exponent ? ldexp(1024 + m, exponent - 25) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}

static double bf16_value(uint16_t h)
{
    int exponent = h >> 7 & 255;
    double m = h & 0x7F;
    double v = exponent ? ldexp(128 + m, exponent - 134) : ldexp(m, -133);
    return h & 0x8000 ? -v : v;
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static void dtype_widens_every_16_bit_value(void **state)
{
    (void)state;
    enum { N = 65536 };
    char *src = malloc(2 * N + 1);
    float *half = malloc(N * sizeof *half), *brain = malloc(N * sizeof *brain);
    for (uint32_t i = 0; i < N; i++) memcpy(src + 1 + 2 * i, &(uint16_t){(uint16_t)i}, 2); /* odd address on purpose */
    berth_widen_f32(half, src + 1, BERTH_F16, N);
    berth_widen_f32(brain, src + 1, BERTH_BF16, N);
    for (uint32_t i = 0; i < N; i++) {
        uint16_t h = (uint16_t)i;
        assert_int_equal(bits_of(half[i]), bits_of(berth_f16_to_f32(h))); /* fast and plain agree, NaN payloads too */
        assert_int_equal(bits_of(brain[i]), i << 16);
        assert_int_equal(bits_of(berth_bf16_to_f32(h)), i << 16);
        if ((h & 0x7C00) == 0x7C00) {
            assert_true(h & 0x3FF ? isnan(half[i]) : isinf(half[i]));
            assert_int_equal(berth_f32_to_f16(half[i]), h & 0x3FF ? h | 0x200 : h);
        } else {
            assert_true(half[i] == half_value(h) && !signbit(half[i]) == !(h & 0x8000));
            assert_int_equal(berth_f32_to_f16(half[i]), h);
        }
        bool is_nan = (h & 0x7FFF) > 0x7F80;
        assert_int_equal(berth_f32_to_bf16(brain[i]), is_nan ? h | 0x40 : h);
    }
    for (size_t n = 0; n < 40; n++) { /* tails */
        float out[41];
        for (int i = 0; i <= 40; i++) out[i] = 77.0f;
        berth_widen_f32(out, src + 1 + 2 * 0x3C00, BERTH_F16, n);
        for (size_t i = 0; i <= 40; i++) assert_true(out[i] == (i < n ? half[0x3C00 + i] : 77.0f));
        berth_widen_f32(out, src + 1 + 2 * 0x3F80, BERTH_BF16, n);
        for (size_t i = 0; i < n; i++) assert_true(out[i] == brain[0x3F80 + i]);
        assert_true(out[n] == 77.0f || n == 40);
    }
    berth_widen_f32(half, brain, BERTH_F32, N);
    assert_memory_equal(half, brain, N * sizeof *half);
    berth_widen_f32(half, half, BERTH_F32, N);
    free(src);
    free(half);
    free(brain);
}

/* `got` is the nearest of its neighbours to f, and the even one of two that are equally near. */
static void check_nearest(float f, uint16_t got, double (*value_of)(uint16_t), uint16_t infinity)
{
    double here = fabs((double)f - value_of(got));
    uint16_t magnitude = got & 0x7FFF;
    assert_int_equal(got >> 15, signbit(f) != 0);
    if (magnitude > 0) {
        double below = fabs((double)f - value_of((uint16_t)(got - 1)));
        assert_true(here < below || (here == below && !(got & 1)));
    }
    if (magnitude < infinity) { /* infinity stands for the next power of two, as rounding sees it */
        double above = fabs((double)f - value_of((uint16_t)(got + 1)));
        assert_true(here < above || (here == above && !(got & 1)));
    }
}

static void dtype_narrows_to_nearest_even(void **state)
{
    (void)state;
    static const struct {
        float in;
        uint16_t half, brain;
    } cases[] = {
        {0.0f, 0, 0},
        {-0.0f, 0x8000, 0x8000},
        {1.0f, 0x3C00, 0x3F80},
        {65504.0f, 0x7BFF, 0x4780},
        {65519.996f, 0x7BFF, 0x4780},
        {65520.0f, 0x7C00, 0x4780},
        {3.4028235e38f, 0x7C00, 0x7F80},
        {-INFINITY, 0xFC00, 0xFF80},
        {0x1p-24f, 1, 0x3380},
        {0x1p-25f, 0, 0x3300},
        {0x1.000002p-25f, 1, 0x3300},
        {0x1.8p-24f, 2, 0x33C0},
        {0x1p-14f, 0x0400, 0x3880},
        {0x1.ff8p-15f, 0x03FF, 0x3880},
        {0x1.ffcp-15f, 0x0400, 0x3880},
        {0x1p-149f, 0, 0},
        {0x1p-133f, 0, 1},
        {1.00390625f, 0x3C04, 0x3F80},    /* a tie for bf16: to even, down */
        {1.01171875f, 0x3C0C, 0x3F82},    /* a tie for bf16: to even, up */
        {1.00048828125f, 0x3C00, 0x3F80}, /* a tie for fp16 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(berth_f32_to_f16(cases[i].in), cases[i].half);
        assert_int_equal(berth_f32_to_bf16(cases[i].in), cases[i].brain);
    }
    assert_int_equal(berth_f32_to_f16(float_of(0x7F800001)), 0x7E00);
    assert_int_equal(berth_f32_to_bf16(float_of(0xFF800001)), 0xFFC0);
    uint64_t random = 7;
    for (int i = 0; i < 100000; i++) {
        float f = float_of((uint32_t)next_random(&random));
        if (isnan(f)) continue;
        if (!isinf(f)) check_nearest(f, berth_f32_to_bf16(f), bf16_value, 0x7F80);
        float small =
            ldexpf(f, -((int)(bits_of(f) >> 23 & 255) - 127)) * ldexpf(1.0f, (int)(next_random(&random) % 44) - 27);
        if (isfinite(small)) check_nearest(small, berth_f32_to_f16(small), half_value, 0x7C00);
    }
}

static void dtype_tables(void **state)
{
    (void)state;
    static const struct {
        berth_dtype dtype;
        size_t size;
        const char *name;
        bool is_float;
    } cases[] = {{BERTH_F32, 4, "f32", true},  {BERTH_F16, 2, "f16", true},  {BERTH_BF16, 2, "bf16", true},
                 {BERTH_I32, 4, "i32", false}, {BERTH_I64, 8, "i64", false}, {BERTH_U8, 1, "u8", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(berth_dtype_size(cases[i].dtype), cases[i].size);
        assert_string_equal(berth_dtype_name(cases[i].dtype), cases[i].name);
        assert_int_equal(berth_dtype_is_float(cases[i].dtype), cases[i].is_float);
    }
    assert_string_equal(berth_dtype_name(BERTH_DTYPE_COUNT), "unknown");
    size_t out;
    assert_true(berth_round_up(13, 8, &out) && out == 16);
    assert_true(berth_round_up(16, 8, &out) && out == 16);
    assert_false(berth_round_up(SIZE_MAX - 2, 64, &out));
    assert_true(berth_mul_sat(SIZE_MAX / 2, 3) == SIZE_MAX);
    int64_t before = berth_now_ns();
    assert_true(berth_now_ns() >= before);
}

/* ---- UTF-8 ---- */

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

/* ---- text ---- */

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
        cmocka_unit_test(error_escapes_strangers_names),
        cmocka_unit_test(error_is_cut_at_a_character),
        cmocka_unit_test(error_notes_and_errno),
        cmocka_unit_test(buffer_grows_and_is_taken),
        cmocka_unit_test(buffer_failure_is_kept),
        cmocka_unit_test(buffer_writes_json_strings),
        cmocka_unit_test(dtype_widens_every_16_bit_value),
        cmocka_unit_test(dtype_narrows_to_nearest_even),
        cmocka_unit_test(dtype_tables),
        cmocka_unit_test(utf8_round_trip_of_every_scalar),
        cmocka_unit_test(utf8_maximal_subparts),
        cmocka_unit_test(text_parses_bytes),
        cmocka_unit_test(text_formats_bytes),
        cmocka_unit_test(text_matches_globs),
        cmocka_unit_test(text_quotes_within_its_room),
        cmocka_unit_test(text_edit_distance),
        cmocka_unit_test(sha256_of_known_texts),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
