/* answer.c - a generated text as InternVL's chat() returns it. */
#include <string.h>

#include "base/utf8.h"
#include "text/chat.h"
#include "text/unicode_table.h"

/* What Python's str.strip() takes: White_Space, and U+001C to U+001F. */
static bool is_blank(uint32_t cp)
{
    return (cp >= 0x1C && cp <= 0x1F) || berth_unicode_class(cp) == BERTH_UNICODE_SPACE;
}

static size_t blank_front(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint32_t cp;
        int len = berth_utf8_decode(s + i, n - i, &cp, NULL);
        if (len < 0 || !is_blank(cp)) break;
        i += (size_t)len;
    }
    return i;
}

static size_t without_blank_back(const char *s, size_t n)
{
    while (n) {
        size_t begin = n - 1;
        while (begin && n - begin < 4 && ((unsigned char)s[begin] & 0xC0) == 0x80) begin--;
        uint32_t cp;
        int len = berth_utf8_decode(s + begin, n - begin, &cp, NULL);
        if (len < 0 || begin + (size_t)len != n || !is_blank(cp)) break;
        n = begin;
    }
    return n;
}

void berth_answer_strip(berth_buffer *text)
{
    if (!text->len) return;
    const char *end = memmem(text->data, text->len, "<|im_end|>", 10);
    size_t n = end ? (size_t)(end - text->data) : text->len;
    n = without_blank_back(text->data, n);
    size_t front = blank_front(text->data, n);
    memmove(text->data, text->data + front, n - front);
    text->len = n - front;
    text->data[text->len] = '\0';
}
