/* cut_qwen2.c - the pattern of Qwen2's tokenizer.json, alternative by alternative, in its order:
 *
 *     (?i:'s|'t|'re|'ve|'m|'ll|'d)        contraction
 *     [^\r\n\p{L}\p{N}]?\p{L}+            word, with one character before it
 *     \p{N}                               number: one character
 *      ?[^\s\p{L}\p{N}]+[\r\n]*           signs
 *     \s*[\r\n]+                          white space through its last line end
 *     \s+(?!\S)|\s+                       white space, but for the last one before something else
 *
 * Each alternative looks at most once over the piece it finds and over one run of white space behind it, so cutting is
 * linear. */
#include "text/cut_qwen2.h"

#include <stdbool.h>

#include "base/utf8.h"
#include "text/unicode_table.h"

/* One character of the text; at the end len is 0 and cls belongs to none of the classes. */
typedef struct letter {
    uint32_t cp;
    size_t len;
    unsigned cls;
} letter;

#define NO_CLASS 9u

static inline letter peek(const char *text, size_t n, size_t i)
{
    if (i >= n) return (letter){0, 0, NO_CLASS};
    unsigned char c = (unsigned char)text[i];
    if (c < 0x80) return (letter){c, 1, berth_unicode_class(c)};
    letter l = {0};
    int len = berth_utf8_decode(text + i, n - i, &l.cp, NULL);
    l.len = len > 0 ? (size_t)len : (size_t)-len;
    l.cls = berth_unicode_class(l.cp);
    return l;
}

static inline bool is_line_end(letter l)
{
    return l.len && (l.cp == '\n' || l.cp == '\r');
}

/* The end of the run of characters of class `cls` that begins at i. */
static size_t run_end(const char *text, size_t n, size_t i, unsigned cls)
{
    for (;;) {
        letter l = peek(text, n, i);
        if (l.cls != cls) return i;
        i += l.len;
    }
}

/* Case folding as the pattern needs it: U+017F (long s) folds to s. */
static char fold(letter l)
{
    if (l.cp == 0x17F) return 's';
    if (l.len != 1) return 0;
    return l.cp >= 'A' && l.cp <= 'Z' ? (char)(l.cp + 32) : (char)l.cp;
}

static size_t contraction(const char *text, size_t n)
{
    letter one = peek(text, n, 1);
    char a = fold(one);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 1 + one.len;
    if (a != 'r' && a != 'v' && a != 'l') return 0;
    letter two = peek(text, n, 1 + one.len);
    char b = fold(two);
    return b == (a == 'l' ? 'l' : 'e') ? 1 + one.len + two.len : 0;
}

static size_t signs(const char *text, size_t n, letter first)
{
    size_t begin = first.cp == ' ' ? 1 : 0;
    size_t i = run_end(text, n, begin, BERTH_UNICODE_OTHER);
    if (i == begin) return 0;
    while (i < n && (text[i] == '\n' || text[i] == '\r')) i++;
    return i;
}

static size_t white_space(const char *text, size_t n)
{
    size_t i = 0, last_begin = 0, line_end = 0;
    for (;;) {
        letter l = peek(text, n, i);
        if (l.cls != BERTH_UNICODE_SPACE) break;
        last_begin = i;
        i += l.len;
        if (is_line_end(l)) line_end = i;
    }
    if (line_end) return line_end;
    return i == n || last_begin == 0 ? i : last_begin;
}

size_t berth_cut_next_qwen2(const char *text, size_t n)
{
    letter first = peek(text, n, 0);
    if (first.cp == '\'') {
        size_t len = contraction(text, n);
        if (len) return len;
    }
    if (first.cls == BERTH_UNICODE_LETTER) return run_end(text, n, first.len, BERTH_UNICODE_LETTER);
    if (first.cls == BERTH_UNICODE_NUMBER) return first.len;
    if (!is_line_end(first) && peek(text, n, first.len).cls == BERTH_UNICODE_LETTER)
        return run_end(text, n, first.len, BERTH_UNICODE_LETTER);
    size_t len = signs(text, n, first);
    return len ? len : white_space(text, n);
}
