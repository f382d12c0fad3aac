/* rows.c - reading rows line by line, and the small forms of values in them. */
#include "cli/rows.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/status.h"
#include "base/utf8.h"
#include "cli/lines.h"

#define TEXT_MAX_BYTES ((size_t)1 << 30)

/* ---- rows ------------------------------------------------------------------------------------------------------- */

static berth_status serve_line(const cli_lines *r, size_t number, cli_row_fn serve, void *user, berth_buffer *out,
                               berth_error *err)
{
    if (r->too_long) return BERTH_FAIL(err, BERTH_BAD_FILE, "row %zu has more than %zu bytes", number, CLI_LINE_BYTES);
    char what[32];
    snprintf(what, sizeof what, "row %zu", number);
    berth_json *json = NULL;
    berth_status st = berth_json_parse(r->line.data, r->line.len, what, &json, err);
    if (st != BERTH_OK) return st;
    const berth_json_node *row = berth_json_root(json);
    if (berth_json_type_of(row) != BERTH_JSON_OBJECT) {
        st = BERTH_FAIL(err, BERTH_BAD_FILE, "row %zu is %s; a row is an object", number,
                        berth_json_type_name(berth_json_type_of(row)));
    } else {
        st = serve(user, row, out, err);
        if (st == BERTH_OK) st = cli_put_check(out, err);
        if (st != BERTH_OK) berth_error_prefix(err, "row %zu: ", number);
    }
    berth_json_destroy(json);
    return st;
}

/* Writes the row's answer, or its error in the answer's place. */
static bool write_answer(berth_buffer *out, berth_status st, const berth_error *err)
{
    if (st != BERTH_OK) {
        out->len = 0;
        out->failed = false;
        berth_buffer_puts(out, "{\"error\":");
        cli_put_string(out, err->message, strlen(err->message));
    }
    berth_buffer_puts(out, "}\n");
    if (!out->failed) return cli_write(out->data, out->len);
    fputs("berth: no memory for an answer\n", stderr);
    return false;
}

cli_exit cli_rows(cli_row_fn serve, void *user)
{
    static const char summary[] = "%zu of %zu rows failed; the first: %s";
    cli_lines reader = {.fd = STDIN_FILENO, .what = "rows from standard input"};
    berth_buffer out = {0};
    berth_error err = {0}, first = {0};
    size_t number = 0, failed = 0, served = 0;
    bool any;
    berth_status st = BERTH_OK;
    cli_exit code = EXIT_OK;
    while ((st = cli_lines_next(&reader, &any, &err)) == BERTH_OK && any) {
        number++;
        if (cli_lines_blank(&reader)) continue;
        served++;
        out.len = 0;
        berth_buffer_putc(&out, '{');
        berth_status row = serve_line(&reader, number, serve, user, &out, &err);
        if (row != BERTH_OK && failed++ == 0) first = err;
        if (!write_answer(&out, row, &err)) {
            code = EXIT_RUN;
            goto done;
        }
    }
    if (st != BERTH_OK) {
        code = cli_fail(&err);
    } else if (failed > 0) {
        BERTH_FAIL(&err, BERTH_INTERNAL, summary, failed, served, first.message);
        cli_fail(&err);
        code = EXIT_RUN;
    }
done:
    cli_lines_deinit(&reader);
    berth_buffer_deinit(&out);
    return code;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static berth_status add_hex(const char *hex, berth_buffer *out, berth_error *err)
{
    const size_t n = strlen(hex);
    if (!berth_buffer_reserve(out, n / 2)) return cli_put_check(out, err);
    for (size_t i = 0; i < n; i += 2) {
        const int high = hex_digit(hex[i]), low = high < 0 ? -1 : hex_digit(hex[i + 1]);
        if (low < 0) return BERTH_FAIL(err, BERTH_BAD_FILE, "hex takes pairs of digits 0-9 a-f");
        berth_buffer_putc(out, (char)(high << 4 | low));
    }
    return cli_put_check(out, err);
}

/* One [hex, times]. */
static berth_status add_part(const berth_json_node *part, berth_buffer *out, berth_error *err)
{
    const berth_json_node *first = berth_json_first(part);
    const char *hex = berth_json_as_string(first);
    int64_t times = 0;
    if (berth_json_type_of(part) != BERTH_JSON_ARRAY || berth_json_size(part) != 2 || hex == NULL ||
        !berth_json_as_i64(berth_json_next(first), &times) || times < 0) {
        return BERTH_FAIL(err, BERTH_BAD_FILE, "parts takes pairs [hex, times], for example [[\"61\",100]]");
    }
    berth_buffer unit = {0};
    berth_status st = add_hex(hex, &unit, err);
    size_t total = 0;
    if (st == BERTH_OK && (!berth_mul_size(unit.len, (size_t)times, &total) || total > TEXT_MAX_BYTES - out->len))
        st = BERTH_FAIL(err, BERTH_BAD_FILE, "parts make a text of more than %zu bytes", TEXT_MAX_BYTES);
    if (st == BERTH_OK && !berth_buffer_reserve(out, total)) st = cli_put_check(out, err);
    for (size_t done = 0; st == BERTH_OK && done < total; done += unit.len) {
        berth_buffer_append(out, unit.data, unit.len);
    }
    berth_buffer_deinit(&unit);
    return st;
}

berth_status cli_row_bytes(const berth_json_node *row, berth_buffer *out, bool *out_found, berth_error *err)
{
    const berth_json_node *text = berth_json_get(row, "text");
    const berth_json_node *hex = berth_json_get(row, "hex");
    const berth_json_node *parts = berth_json_get(row, "parts");
    *out_found = text != NULL || hex != NULL || parts != NULL;
    if ((text != NULL) + (hex != NULL) + (parts != NULL) > 1)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "text, hex and parts spell the same thing; give one of them");
    if ((text != NULL && berth_json_as_string(text) == NULL) || (hex != NULL && berth_json_as_string(hex) == NULL) ||
        (parts != NULL && berth_json_type_of(parts) != BERTH_JSON_ARRAY)) {
        return BERTH_FAIL(err, BERTH_BAD_FILE, "text and hex are strings, parts is an array");
    }
    if (hex != NULL) return add_hex(berth_json_as_string(hex), out, err);
    if (text != NULL) berth_buffer_puts(out, berth_json_as_string(text));
    berth_status st = cli_put_check(out, err);
    for (const berth_json_node *p = berth_json_first(parts); st == BERTH_OK && p != NULL; p = berth_json_next(p))
        st = add_part(p, out, err);
    return st;
}

berth_status cli_row_bool(const berth_json_node *row, const char *key, bool *out, berth_error *err)
{
    const berth_json_node *node = berth_json_get(row, key);
    if (node == NULL || berth_json_as_bool(node, out)) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_BAD_FILE, "%s is %s; it must be true or false", key,
                      berth_json_type_name(berth_json_type_of(node)));
}

berth_status cli_row_int(const berth_json_node *row, const char *key, int64_t min, int64_t max, int32_t *out,
                         berth_error *err)
{
    const berth_json_node *node = berth_json_get(row, key);
    int64_t n;
    if (node == NULL) return BERTH_OK;
    if (!berth_json_as_i64(node, &n) || n < min || n > max) {
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s must be a whole number between %lld and %lld", key, (long long)min,
                          (long long)max);
    }
    *out = (int32_t)n;
    return BERTH_OK;
}

void cli_put_string(berth_buffer *out, const char *text, size_t n)
{
    berth_buffer json = {0};
    if (!berth_buffer_json_string(&json, text != NULL ? text : "", n)) out->failed = true;
    for (size_t i = 0; i < json.len;) {
        uint32_t cp;
        const int len = berth_utf8_decode(json.data + i, json.len - i, &cp, NULL);
        if (cp < 0x80) {
            berth_buffer_putc(out, (char)cp);
        } else if (cp < 0x10000) {
            berth_buffer_printf(out, "\\u%04x", (unsigned)cp);
        } else {
            berth_buffer_printf(out, "\\u%04x\\u%04x", (unsigned)(0xD800 + ((cp - 0x10000) >> 10)),
                                (unsigned)(0xDC00 + ((cp - 0x10000) & 0x3FF)));
        }
        i += (size_t)(len > 0 ? len : -len);
    }
    berth_buffer_deinit(&json);
}

void cli_put_hex(berth_buffer *out, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    berth_buffer_putc(out, '"');
    for (size_t i = 0; i < n; i++) {
        berth_buffer_putc(out, "0123456789abcdef"[p[i] >> 4]);
        berth_buffer_putc(out, "0123456789abcdef"[p[i] & 15]);
    }
    berth_buffer_putc(out, '"');
}

void cli_put_ints(berth_buffer *out, const int32_t *numbers, size_t n)
{
    berth_buffer_putc(out, '[');
    for (size_t i = 0; i < n; i++) berth_buffer_printf(out, "%s%d", i ? "," : "", (int)numbers[i]);
    berth_buffer_putc(out, ']');
}

berth_status cli_put_check(const berth_buffer *out, berth_error *err)
{
    return out->failed
               ? BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for an answer of more than %zu bytes", out->len)
               : BERTH_OK;
}
