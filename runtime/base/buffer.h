/* buffer.h - a growable byte buffer, for text and small tables. After a failed append the buffer is unchanged and
 * `failed` is set, so that a chain of appends may be checked once at its end. */
#ifndef BERTH_BASE_BUFFER_H
#define BERTH_BASE_BUFFER_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct berth_buffer {
    char *data; /* owned; NUL follows the last byte whenever data is not NULL */
    size_t len, cap;
    bool failed;
} berth_buffer;

void berth_buffer_deinit(berth_buffer *b); /* frees; {0} afterwards */
bool berth_buffer_reserve(berth_buffer *b, size_t extra);
bool berth_buffer_append(berth_buffer *b, const void *bytes, size_t n);
bool berth_buffer_puts(berth_buffer *b, const char *text);
bool berth_buffer_putc(berth_buffer *b, char c);
bool berth_buffer_printf(berth_buffer *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool berth_buffer_vprintf(berth_buffer *b, const char *fmt, va_list args);
char *berth_buffer_take(
    berth_buffer *b); /* the caller owns the text (never NULL unless failed); the buffer is {0} again */

/* Appends `text` as a JSON string with quotes; bytes that are not UTF-8 become U+FFFD. */
bool berth_buffer_json_string(berth_buffer *b, const char *text, size_t n);

#endif
