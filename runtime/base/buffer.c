/* buffer.c - see buffer.h. Once an append has failed, later ones are refused too: a text never has a hole in it. */
#include "base/buffer.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/utf8.h"

void berth_buffer_deinit(berth_buffer *b)
{
    free(b->data);
    *b = (berth_buffer){0};
}

bool berth_buffer_reserve(berth_buffer *b, size_t extra)
{
    if (b->failed) return false;
    size_t need;
    if (!berth_add_size(b->len, extra, &need) || !berth_add_size(need, 1, &need)) {
        b->failed = true;
        return false;
    }
    if (need <= b->cap) return true;
    size_t cap = b->cap ? berth_mul_sat(b->cap, 2) : 64;
    if (cap < need) cap = need;
    char *data = realloc(b->data, cap);
    if (!data) {
        b->failed = true;
        return false;
    }
    data[b->len] = '\0';
    b->data = data;
    b->cap = cap;
    return true;
}

bool berth_buffer_append(berth_buffer *b, const void *bytes, size_t n)
{
    if (!berth_buffer_reserve(b, n)) return false;
    if (n) memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = '\0';
    return true;
}

bool berth_buffer_puts(berth_buffer *b, const char *text)
{
    return berth_buffer_append(b, text, strlen(text));
}

bool berth_buffer_putc(berth_buffer *b, char c)
{
    return berth_buffer_append(b, &c, 1);
}

bool berth_buffer_printf(berth_buffer *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    bool ok = berth_buffer_vprintf(b, fmt, args);
    va_end(args);
    return ok;
}

bool berth_buffer_vprintf(berth_buffer *b, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    char small[256];
    int n = vsnprintf(small, sizeof small, fmt, args);
    bool ok = n >= 0 && !b->failed;
    if (ok && (size_t)n < sizeof small) {
        ok = berth_buffer_append(b, small, (size_t)n);
    } else if (ok && (ok = berth_buffer_reserve(b, (size_t)n))) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    if (!ok) b->failed = true;
    va_end(again);
    return ok;
}

char *berth_buffer_take(berth_buffer *b)
{
    char *text = NULL;
    if (berth_buffer_reserve(b, 0)) {
        text = b->data;
        b->data = NULL;
    }
    berth_buffer_deinit(b);
    return text;
}

/* The escape of an ASCII character inside a JSON string, or NULL where it stands for itself. */
static const char *json_escape(unsigned char c, char scratch[8])
{
    switch (c) {
    case '"': return "\\\"";
    case '\\': return "\\\\";
    case '\b': return "\\b";
    case '\f': return "\\f";
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default: break;
    }
    if (c >= 0x20 && c != 0x7F) return NULL;
    snprintf(scratch, 8, "\\u%04x", c);
    return scratch;
}

bool berth_buffer_json_string(berth_buffer *b, const char *text, size_t n)
{
    size_t old_len = b->len;
    size_t run = 0; /* start of the bytes that need no change */
    bool ok = berth_buffer_putc(b, '"');
    for (size_t i = 0; ok && i < n;) {
        char scratch[8];
        const char *instead = NULL;
        uint32_t cp;
        int length = berth_utf8_decode(text + i, n - i, &cp, NULL);
        if (length < 0) {
            instead = "\xEF\xBF\xBD";
            length = -length;
        } else if (cp < 0x80) {
            instead = json_escape((unsigned char)cp, scratch);
        }
        if (instead) {
            ok = berth_buffer_append(b, text + run, i - run) && berth_buffer_puts(b, instead);
            run = i + (size_t)length;
        }
        i += (size_t)length;
    }
    ok = ok && berth_buffer_append(b, text + run, n - run) && berth_buffer_putc(b, '"');
    if (!ok && b->data) { /* leave nothing of a half-written string */
        b->len = old_len;
        b->data[old_len] = '\0';
    }
    return ok;
}
