/* json_reader.c - the strict walk over a JSON text. See json.h.
 *
 * One pass, no recursion, no copy except of strings with escapes. Strings are scanned eight bytes at a time, because a
 * tokenizer is some 600,000 of them. Source of the grammar: RFC 8259. */
#include <limits.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

enum state { VALUE, VALUE_OR_END, KEY, KEY_OR_END, AFTER_VALUE, OVER, BROKEN };
enum container { ARRAY, OBJECT };

void berth_json_reader_init(berth_json_reader *r, const char *begin, size_t n)
{
    *r = (berth_json_reader){.begin = begin, .at = begin, .end = begin + n, .state = VALUE};
}

void berth_json_reader_deinit(berth_json_reader *r)
{
    berth_buffer_deinit(&r->scratch);
    *r = (berth_json_reader){.state = BROKEN, .error = "the reader is closed"};
}

static berth_json_event fail(berth_json_reader *r, const char *why)
{
    r->state = BROKEN;
    r->error = why;
    return BERTH_JSON_ERROR;
}

static void skip_space(berth_json_reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t')) r->at++;
}

/* ---- strings ---- */

/* 0x80 in each byte of `word` that is '"', '\\', below 0x20, or not ASCII. Bytes above the first such may be marked wrongly
 * (borrows run upwards), so only the lowest mark counts. */
static inline uint64_t special_bytes(uint64_t word)
{
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\');
    return ((quote - ones) | (slash - ones) | (word - ones * 0x20) | word) & tops;
}

/* Goes over bytes that stand for themselves; stops at '"', '\\' or the text's end. False at what may not stand in a
 * string. */
static bool skip_plain(berth_json_reader *r)
{
    const char *p = r->at, *end = r->end;
    bool ok = true;
    for (;;) {
        uint64_t word;
        while ((size_t)(end - p) >= sizeof word) {
            memcpy(&word, p, sizeof word);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
            uint64_t special = special_bytes(word);
            if (special) {
                p += __builtin_ctzll(special) >> 3;
                break;
            }
            p += sizeof word;
#else
            if (special_bytes(word)) break;
            p += sizeof word;
#endif
        }
        if (p == end) break;
        unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\') break;
        if (c < 0x20) {
            ok = false;
            break;
        }
        if (c < 0x80) {
            p++;
        } else if (c >= 0xC2 && c < 0xE0 && end - p >= 2 && ((unsigned char)p[1] & 0xC0) == 0x80) {
            p += 2; /* byte-level vocabularies are full of these */
        } else {
            uint32_t cp;
            int length = berth_utf8_decode(p, (size_t)(end - p), &cp, NULL);
            ok = length > 0;
            if (!ok) break;
            p += length;
        }
    }
    r->at = p;
    return ok;
}

/* Four hex digits at s, or -1. */
static int32_t hex4(const char *s, const char *end)
{
    if (end - s < 4) return -1;
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = s[i];
        int digit;
        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if (c >= 'a' && c <= 'f')
            digit = c - 'a' + 10;
        else if (c >= 'A' && c <= 'F')
            digit = c - 'A' + 10;
        else
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* The \u escape at r->at (on the 'u'), appended to scratch. NULL, or what is wrong. */
static const char *read_unicode_escape(berth_json_reader *r, bool is_key)
{
    int32_t cp = hex4(r->at + 1, r->end);
    if (cp < 0) return "\\u wants four hexadecimal digits";
    if (cp == 0 && is_key) return "a NUL character (U+0000) in a key";
    if (cp >= 0xDC00 && cp < 0xE000) return "a lone low surrogate (\\uDC00-\\uDFFF without a high one before it)";
    const char *next = r->at + 5;
    if (cp >= 0xD800 && cp < 0xDC00) {
        int32_t low = r->end - next >= 6 && next[0] == '\\' && next[1] == 'u' ? hex4(next + 2, r->end) : -1;
        if (low < 0xDC00 || low > 0xDFFF) return "a lone high surrogate (\\uD800-\\uDBFF without a low one behind it)";
        cp = 0x10000 + ((cp - 0xD800) << 10) + (low - 0xDC00);
        next += 6;
    }
    char bytes[4];
    berth_buffer_append(&r->scratch, bytes, berth_utf8_encode((uint32_t)cp, bytes));
    r->at = next;
    return NULL;
}

/* The escape at r->at (on the backslash), appended to scratch. NULL, or what is wrong. */
static const char *read_escape(berth_json_reader *r, bool is_key)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (++r->at == r->end) return "the text ends inside a string";
    if (*r->at == 'u') return read_unicode_escape(r, is_key);
    const char *found = *r->at ? strchr(from, *r->at) : NULL;
    if (!found) return "an escape that JSON does not have";
    berth_buffer_putc(&r->scratch, to[found - from]);
    r->at++;
    return NULL;
}

/* The string at r->at (on the quote). False: the reader is broken. */
static bool read_string(berth_json_reader *r, bool is_key)
{
    const char *run = ++r->at;
    bool decoded = false;
    r->scratch.len = 0;
    for (;;) {
        if (!skip_plain(r)) {
            fail(r, (unsigned char)*r->at < 0x20 ? "a control character inside a string" : "bytes that are not UTF-8");
            return false;
        }
        if (r->at == r->end) {
            fail(r, "the text ends inside a string");
            return false;
        }
        if (*r->at == '"' && !decoded) {
            r->text = run;
            r->len = (size_t)(r->at++ - run);
            return true;
        }
        berth_buffer_append(&r->scratch, run, (size_t)(r->at - run));
        if (*r->at == '"') break;
        const char *wrong = read_escape(r, is_key);
        if (wrong) {
            fail(r, wrong);
            return false;
        }
        run = r->at;
        decoded = true;
    }
    if (r->scratch.failed) {
        fail(r, "no memory for a string");
        return false;
    }
    r->at++;
    r->text = r->scratch.data;
    r->len = r->scratch.len;
    return true;
}

/* ---- values ---- */

static bool skip_digits(berth_json_reader *r)
{
    const char *first = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return r->at > first;
}

static berth_json_event read_number(berth_json_reader *r)
{
    const char *first = r->at;
    if (*r->at == '-') r->at++;
    if (r->at < r->end && *r->at == '0')
        r->at++;
    else if (!skip_digits(r))
        return fail(r, "a minus sign without digits");
    if (r->at < r->end && *r->at == '.') {
        r->at++;
        if (!skip_digits(r)) return fail(r, "a decimal point without digits behind it");
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-')) r->at++;
        if (!skip_digits(r)) return fail(r, "an exponent without digits");
    }
    r->text = first;
    r->len = (size_t)(r->at - first);
    return BERTH_JSON_NUM;
}

static berth_json_event read_word(berth_json_reader *r, const char *word, berth_json_event event)
{
    size_t n = strlen(word);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0)
        return fail(r, "a word that is not true, false or null");
    r->at += n;
    return event;
}

static berth_json_event open_container(berth_json_reader *r, enum container kind)
{
    if (r->depth == BERTH_JSON_DEPTH) return fail(r, "nested too deeply (more than 64 levels)");
    r->at++;
    r->stack[r->depth++] = (uint8_t)kind;
    r->state = kind == OBJECT ? KEY_OR_END : VALUE_OR_END;
    return kind == OBJECT ? BERTH_JSON_BEGIN_OBJECT : BERTH_JSON_BEGIN_ARRAY;
}

static berth_json_event close_container(berth_json_reader *r)
{
    r->at++;
    r->depth--;
    r->state = AFTER_VALUE;
    return r->stack[r->depth] == OBJECT ? BERTH_JSON_END_OBJECT : BERTH_JSON_END_ARRAY;
}

static berth_json_event read_value(berth_json_reader *r)
{
    skip_space(r);
    if (r->at == r->end) return fail(r, "the text ends where a value should stand");
    if (*r->at == ']' && r->state == VALUE_OR_END) return close_container(r);
    r->state = AFTER_VALUE;
    switch (*r->at) {
    case '{': return open_container(r, OBJECT);
    case '[': return open_container(r, ARRAY);
    case '"': return read_string(r, false) ? BERTH_JSON_TEXT : BERTH_JSON_ERROR;
    case 't': return read_word(r, "true", BERTH_JSON_TRUE);
    case 'f': return read_word(r, "false", BERTH_JSON_FALSE);
    case 'n': return read_word(r, "null", BERTH_JSON_NIL);
    default: break;
    }
    if (*r->at == '-' || (*r->at >= '0' && *r->at <= '9')) return read_number(r);
    return fail(r, "something that begins no value");
}

static berth_json_event read_key(berth_json_reader *r)
{
    skip_space(r);
    if (r->at == r->end) return fail(r, "the text ends inside an object");
    if (*r->at == '}' && r->state == KEY_OR_END) return close_container(r);
    if (*r->at != '"') return fail(r, "a key in double quotes should stand here");
    if (!read_string(r, true)) return BERTH_JSON_ERROR;
    skip_space(r);
    if (r->at == r->end || *r->at != ':') return fail(r, "a colon should follow the key");
    r->at++;
    r->state = VALUE;
    return BERTH_JSON_KEY;
}

static berth_json_event read_after_value(berth_json_reader *r)
{
    skip_space(r);
    if (r->depth == 0) {
        if (r->at < r->end) return fail(r, "something follows the end of the JSON text");
        r->state = OVER;
        return BERTH_JSON_END;
    }
    bool in_object = r->stack[r->depth - 1] == OBJECT;
    if (r->at == r->end) return fail(r, in_object ? "the text ends inside an object" : "the text ends inside an array");
    if (*r->at == (in_object ? '}' : ']')) return close_container(r);
    if (*r->at != ',')
        return fail(r, in_object ? "a comma or '}' should stand here" : "a comma or ']' should stand here");
    r->at++;
    r->state = in_object ? KEY : VALUE;
    return in_object ? read_key(r) : read_value(r);
}

berth_json_event berth_json_read(berth_json_reader *r)
{
    switch ((enum state)r->state) {
    case VALUE:
    case VALUE_OR_END: return read_value(r);
    case KEY:
    case KEY_OR_END: return read_key(r);
    case AFTER_VALUE: return read_after_value(r);
    case OVER: return BERTH_JSON_END;
    case BROKEN: break;
    }
    return BERTH_JSON_ERROR;
}

bool berth_json_skip(berth_json_reader *r)
{
    int depth = r->depth;
    switch (berth_json_read(r)) {
    case BERTH_JSON_BEGIN_OBJECT:
    case BERTH_JSON_BEGIN_ARRAY: break;
    case BERTH_JSON_TEXT:
    case BERTH_JSON_NUM:
    case BERTH_JSON_TRUE:
    case BERTH_JSON_FALSE:
    case BERTH_JSON_NIL: return true;
    default: return false;
    }
    while (r->depth > depth)
        if (berth_json_read(r) == BERTH_JSON_ERROR) return false;
    return true;
}

void berth_json_where(const berth_json_reader *r, size_t *line, size_t *column)
{
    *line = *column = 1;
    for (const char *p = r->begin; p < r->at; p++) {
        if (*p == '\n') {
            ++*line;
            *column = 1;
        } else if (((unsigned char)*p & 0xC0) != 0x80) { /* characters, not bytes */
            ++*column;
        }
    }
}

bool berth_json_parse_u63(const char *text, size_t len, int64_t *out)
{
    if (len == 0 || len > 19 || (len > 1 && text[0] == '0')) return false;
    int64_t value = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, text[i] - '0', &value))
            return false;
    }
    *out = value;
    return true;
}
