/* facts.c - see facts.h. */
#include "api/facts.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/text.h"

static void indent(berth_facts *f)
{
    for (int i = 1; i < f->depth; i++) berth_buffer_puts(f->out, "  ");
}

/* The key of what follows, with all that stands before it. */
static void key_of(berth_facts *f, const char *key)
{
    if (f->is_json) {
        if (!f->is_first) berth_buffer_puts(f->out, f->in_row ? ", " : ",\n");
        if (key != NULL) {
            berth_buffer_json_string(f->out, key, strlen(key));
            berth_buffer_puts(f->out, ": ");
        }
    } else if (f->in_row) {
        if (!f->is_first) berth_buffer_puts(f->out, ", ");
        if (key != NULL) berth_buffer_printf(f->out, "%s ", key);
    } else {
        indent(f);
        if (key != NULL) berth_buffer_printf(f->out, "%s: ", key);
    }
    f->is_first = false;
}

static void end_of(berth_facts *f)
{
    if (!f->is_json && !f->in_row) berth_buffer_putc(f->out, '\n');
}

static void begin(berth_facts *f, const char *key, char bracket)
{
    if (f->is_json) {
        if (f->depth > 0) key_of(f, key);
        berth_buffer_putc(f->out, bracket);
    } else if (key != NULL) {
        indent(f);
        berth_buffer_printf(f->out, "%s\n", key);
    }
    f->depth++;
    f->is_first = true;
}

static void end(berth_facts *f, char bracket)
{
    if (f->is_json) berth_buffer_putc(f->out, bracket);
    f->depth--;
    f->is_first = false;
}

void berth_facts_open(berth_facts *f, const char *key)
{
    begin(f, key, '{');
}
void berth_facts_close(berth_facts *f)
{
    end(f, '}');
    if (f->depth == 0 && f->is_json) berth_buffer_putc(f->out, '\n');
}
void berth_facts_list(berth_facts *f, const char *key)
{
    begin(f, key, '[');
}
void berth_facts_list_end(berth_facts *f)
{
    if (f->is_first && !f->is_json) {
        indent(f);
        berth_buffer_puts(f->out, "none\n");
    }
    end(f, ']');
}

void berth_facts_row(berth_facts *f)
{
    key_of(f, NULL);
    if (f->is_json) berth_buffer_putc(f->out, '{');
    f->in_row = true;
    f->is_first = true;
}
void berth_facts_row_end(berth_facts *f)
{
    f->in_row = false;
    f->is_first = false;
    berth_buffer_putc(f->out, f->is_json ? '}' : '\n');
}

void berth_facts_text(berth_facts *f, const char *key, const char *fmt, ...)
{
    berth_buffer text = {0};
    va_list args;
    va_start(args, fmt);
    berth_buffer_vprintf(&text, fmt, args);
    va_end(args);
    key_of(f, key);
    if (f->is_json)
        berth_buffer_json_string(f->out, text.data != NULL ? text.data : "", text.len);
    else
        berth_buffer_append(f->out, text.data != NULL ? text.data : "", text.len);
    if (text.failed) f->out->failed = true;
    berth_buffer_deinit(&text);
    end_of(f);
}

void berth_facts_number(berth_facts *f, const char *key, int64_t n)
{
    key_of(f, key);
    berth_buffer_printf(f->out, "%" PRId64, n);
    end_of(f);
}

void berth_facts_bytes(berth_facts *f, const char *key, uint64_t n)
{
    char text[32];
    key_of(f, key);
    if (f->is_json)
        berth_buffer_printf(f->out, "%" PRIu64, n);
    else
        berth_buffer_puts(f->out, berth_format_bytes(n, text, sizeof text));
    end_of(f);
}
