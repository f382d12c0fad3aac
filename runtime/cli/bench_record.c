/* bench_record.c - measurements as records, and the five forms they are written in. The machine forms have every cell and llama-bench's
 * names where it has one; md shows the cells with a title. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "cli/bench.h"

berth_status bench_format_read(cli_option o, const char *name, bench_format *out, berth_error *err)
{
    static const char *const names[] = {"md", "csv", "json", "jsonl", "sql"};
    for (int i = 0; i < 5; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (bench_format)i;
            return BERTH_OK;
        }
    }
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--%s %s: expected md, csv, json, jsonl or sql", cli_options[o].name,
                      name);
}

/* ---- cells ----------------------------------------------------------------------------------------------------------- */

static void put_cell(bench_record *r, const char *key, const char *title, bench_kind kind, char *take_value)
{
    if (take_value == NULL || r->n == BENCH_CELLS) {
        r->failed = true;
        free(take_value);
        return;
    }
    r->cells[r->n++] = (bench_cell){.key = key, .title = title, .kind = kind, .value = take_value};
}

void bench_put_text(bench_record *r, const char *key, const char *title, const char *value)
{
    put_cell(r, key, title, BENCH_TEXT, strdup(value));
}

void bench_put(bench_record *r, const char *key, const char *title, bench_kind kind, const char *fmt, ...)
{
    berth_buffer b = {0};
    va_list args;
    va_start(args, fmt);
    berth_buffer_vprintf(&b, fmt, args);
    va_end(args);
    put_cell(r, key, title, kind, berth_buffer_take(&b));
}

void bench_put_samples(bench_record *r, const char *key, const bench_samples *s)
{
    berth_buffer b = {0};
    berth_buffer_putc(&b, '[');
    for (size_t i = 0; i < s->n; i++) berth_buffer_printf(&b, "%s%.10g", i ? ", " : "", s->list[i]);
    berth_buffer_putc(&b, ']');
    put_cell(r, key, NULL, BENCH_LIST, berth_buffer_take(&b));
}

void bench_record_deinit(bench_record *r)
{
    for (int32_t i = 0; i < r->n; i++) free(r->cells[i].value);
    *r = (bench_record){0};
}

/* ---- forms ----------------------------------------------------------------------------------------------------------- */

/* With quotes of one kind, doubled inside, as csv and sql have them. */
static void put_quoted(berth_buffer *out, const char *text, char quote)
{
    berth_buffer_putc(out, quote);
    for (const char *p = text; *p; p++) {
        if (*p == quote) berth_buffer_putc(out, quote);
        berth_buffer_putc(out, *p);
    }
    berth_buffer_putc(out, quote);
}

/* Bytes of UTF-8 that take no column. */
static int continuations(const char *text)
{
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) == 0x80;
    return n;
}

/* Columns are as wide as what usually stands in them, since lines are written before the next ones are known. */
static int md_width(const bench_cell *c)
{
    const int usual = c->kind == BENCH_TEXT ? 14 : c->kind == BENCH_LIST ? 20 : 10, title = (int)strlen(c->title);
    return title > usual ? title : usual;
}

static void write_md(const bench_record *r, size_t index, berth_buffer *out)
{
    for (int line = index == 0 ? 0 : 2; line < 3; line++) {
        for (int32_t i = 0; i < r->n; i++) {
            const bench_cell *c = &r->cells[i];
            if (c->title == NULL) continue;
            const int width = md_width(c);
            if (line == 0) {
                berth_buffer_printf(out, c->kind == BENCH_TEXT ? "| %-*s " : "| %*s ", width, c->title);
            } else if (line == 1) {
                berth_buffer_printf(out, "| %.*s%s ", width - (c->kind != BENCH_TEXT),
                                    "----------------------------------------", c->kind == BENCH_TEXT ? "" : ":");
            } else {
                const int padded = width + continuations(c->value); /* printf counts bytes */
                berth_buffer_printf(out, c->kind == BENCH_TEXT ? "| %-*s " : "| %*s ", padded, c->value);
            }
        }
        berth_buffer_puts(out, "|\n");
    }
}

/* The next cell at or behind i with a key; r->n: none. */
static int32_t keyed(const bench_record *r, int32_t i)
{
    while (i < r->n && r->cells[i].key == NULL) i++;
    return i;
}

static void write_csv(const bench_record *r, size_t index, berth_buffer *out)
{
    const int32_t first = keyed(r, 0);
    for (int32_t i = first; index == 0 && i < r->n; i = keyed(r, i + 1))
        berth_buffer_printf(out, "%s%s", i > first ? "," : "", r->cells[i].key);
    if (index == 0) berth_buffer_putc(out, '\n');
    for (int32_t i = first; i < r->n; i = keyed(r, i + 1)) {
        if (i > first) berth_buffer_putc(out, ',');
        put_quoted(out, r->cells[i].value, '"');
    }
    berth_buffer_putc(out, '\n');
}

static void write_object(const bench_record *r, const char *separator, berth_buffer *out)
{
    const int32_t first = keyed(r, 0);
    berth_buffer_puts(out, "{");
    for (int32_t i = first; i < r->n; i = keyed(r, i + 1)) {
        const bench_cell *c = &r->cells[i];
        berth_buffer_printf(out, "%s\"%s\": ", i > first ? separator : "", c->key);
        if (c->kind == BENCH_TEXT) {
            berth_buffer_json_string(out, c->value, strlen(c->value));
        } else {
            berth_buffer_puts(out, c->value);
        }
    }
    berth_buffer_puts(out, "}");
}

static void write_sql(const bench_record *r, size_t index, const char *table, berth_buffer *out)
{
    const int32_t first = keyed(r, 0);
    if (index == 0) berth_buffer_printf(out, "CREATE TABLE IF NOT EXISTS %s (\n", table);
    for (int32_t i = first; index == 0 && i < r->n; i = keyed(r, i + 1)) {
        berth_buffer_printf(out, "%s  %s %s", i > first ? ",\n" : "", r->cells[i].key,
                            r->cells[i].kind == BENCH_NUMBER ? "REAL" : "TEXT");
    }
    if (index == 0) berth_buffer_puts(out, "\n);\n\n");
    berth_buffer_printf(out, "INSERT INTO %s (", table);
    for (int32_t i = first; i < r->n; i = keyed(r, i + 1))
        berth_buffer_printf(out, "%s%s", i > first ? ", " : "", r->cells[i].key);
    berth_buffer_puts(out, ") VALUES (");
    for (int32_t i = first; i < r->n; i = keyed(r, i + 1)) {
        if (i > first) berth_buffer_puts(out, ", ");
        put_quoted(out, r->cells[i].value, '\'');
    }
    berth_buffer_puts(out, ");\n");
}

void bench_write(const bench_record *r, bench_format format, size_t index, const char *table, berth_buffer *out)
{
    switch (format) {
    case BENCH_MD: write_md(r, index, out); break;
    case BENCH_CSV: write_csv(r, index, out); break;
    case BENCH_SQL: write_sql(r, index, table, out); break;
    case BENCH_JSONL:
        write_object(r, ", ", out);
        berth_buffer_puts(out, "\n");
        break;
    case BENCH_JSON:
        berth_buffer_puts(out, index == 0 ? "[\n  " : ",\n  ");
        write_object(r, ",\n    ", out);
        break;
    }
}

void bench_write_end(bench_format format, size_t n, berth_buffer *out)
{
    if (format == BENCH_JSON) berth_buffer_puts(out, n > 0 ? "\n]\n" : "[]\n");
}
