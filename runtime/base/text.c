/* text.c - see text.h. Nothing here depends on the locale. */
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* ---- byte sizes ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char to_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* "", "b", "k", "kb", "ki", "kib" and so on; 0 for anything else. */
static uint64_t unit_bytes(const char *unit)
{
    static const char letters[] = "kmgt";
    char first = to_lower(unit[0]);
    if (first == '\0' || (first == 'b' && !unit[1])) return 1;
    const char *letter = strchr(letters, first);
    if (!letter) return 0;
    uint64_t base = 1024;
    unit++;
    if (to_lower(*unit) == 'i') {
        unit++;
        if (to_lower(*unit) == 'b') unit++;
    } else if (to_lower(*unit) == 'b') {
        base = 1000;
        unit++;
    }
    if (*unit) return 0;
    uint64_t bytes = base;
    for (const char *l = letters; l < letter; l++) bytes *= base;
    return bytes;
}

bool berth_parse_bytes(const char *text, uint64_t *out_bytes)
{
    if (!text || !is_digit(*text)) return false;
    uint64_t whole = 0, fraction = 0, scale = 1;
    for (; is_digit(*text); text++)
        if (__builtin_mul_overflow(whole, 10, &whole) || __builtin_add_overflow(whole, *text - '0', &whole))
            return false;
    bool has_fraction = *text == '.';
    if (has_fraction) {
        if (!is_digit(*++text)) return false;
        for (; is_digit(*text); text++) {
            if (scale >= 1000000000000) continue; /* twelve digits tell a terabyte's bytes apart */
            fraction = fraction * 10 + (uint64_t)(*text - '0');
            scale *= 10;
        }
    }
    uint64_t unit = unit_bytes(text);
    if (!unit || (has_fraction && unit == 1)) return false;
    unsigned __int128 bytes = (unsigned __int128)whole * unit + (unsigned __int128)fraction * unit / scale;
    if (bytes > UINT64_MAX) return false;
    *out_bytes = (uint64_t)bytes;
    return true;
}

const char *berth_format_bytes(uint64_t bytes, char *out, size_t n)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(out, n, "%u B", (unsigned)bytes);
        return out;
    }
    size_t unit = 0;
    unsigned __int128 hundredths;
    for (;; unit++) { /* whole numbers only: "%f" would follow the host's locale */
        unsigned shift = 10 * ((unsigned)unit + 1);
        hundredths = (((unsigned __int128)bytes * 100) + ((unsigned __int128)1 << (shift - 1))) >> shift;
        if (hundredths < 102400 || unit + 1 == sizeof units / sizeof *units) break;
    }
    snprintf(out, n, "%u.%02u %s", (unsigned)(hundredths / 100), (unsigned)(hundredths % 100), units[unit]);
    return out;
}

/* ---- globs ---- */

/* The next character of a text that may not be UTF-8: a broken byte stands for itself, apart from all characters. */
static uint32_t next_char(const char **s)
{
    uint32_t cp;
    int length = berth_utf8_decode(*s, strnlen(*s, 4), &cp, NULL);
    if (length < 0) {
        cp = 0x110000u + (unsigned char)**s;
        length = 1;
    }
    *s += length;
    return cp;
}

/* `set` stands behind '['. NULL when the set is never closed (the '[' is then an ordinary character); else the place
 * behind ']'. */
static const char *match_set(const char *set, uint32_t c, bool *matched)
{
    bool negated = *set == '!' || *set == '^';
    bool found = false;
    if (negated) set++;
    for (bool first = true; *set && (first || *set != ']'); first = false) {
        uint32_t low = next_char(&set), high = low;
        if (set[0] == '-' && set[1] && set[1] != ']') {
            set++;
            high = next_char(&set);
        }
        found = found || (c >= low && c <= high);
    }
    *matched = found != negated;
    return *set == ']' ? set + 1 : NULL;
}

/* Matches one non-star pattern item against one character; gives the place behind the item, NULL on mismatch. */
static const char *match_one(const char *pattern, uint32_t c)
{
    if (*pattern == '?') return pattern + 1;
    if (*pattern == '[') {
        bool matched;
        const char *rest = match_set(pattern + 1, c, &matched);
        if (rest) return matched ? rest : NULL;
    }
    if (*pattern == '\\' && pattern[1]) pattern++;
    return *pattern && next_char(&pattern) == c ? pattern : NULL;
}

bool berth_glob_match(const char *pattern, const char *name)
{
    const char *star = NULL, *star_name = NULL; /* only the last star ever needs to take more: no exponential case */
    while (*name) {
        if (*pattern == '*') {
            star = ++pattern;
            star_name = name;
            continue;
        }
        const char *next = name;
        const char *rest = match_one(pattern, next_char(&next));
        if (rest) {
            pattern = rest;
            name = next;
        } else if (star) {
            next_char(&star_name);
            pattern = star;
            name = star_name;
        } else {
            return false;
        }
    }
    while (*pattern == '*') pattern++;
    return !*pattern;
}

/* ---- escaping ---- */

/* Characters that could move the cursor, break the line or reorder what stands around them on a terminal. */
static bool is_unprintable(uint32_t cp)
{
    return cp < 0x20 || (cp >= 0x7F && cp < 0xA0) || cp == 0x2028 || cp == 0x2029 || (cp >= 0x202A && cp <= 0x202E) ||
           (cp >= 0x2066 && cp <= 0x2069) || cp == 0x200E || cp == 0x200F || cp == 0x061C;
}

size_t berth_escape(char *out, size_t n, const char *text, size_t len, bool keep_newlines, size_t *out_used)
{
    size_t used = 0, written = 0;
    while (used < len) {
        char one[12];
        uint32_t cp;
        int length = berth_utf8_decode(text + used, len - used, &cp, NULL);
        int size = length;
        if (length < 0) {
            length = 1;
            size = snprintf(one, sizeof one, "\\x%02X", (unsigned char)text[used]);
        } else if (!is_unprintable(cp) || (cp == '\n' && keep_newlines)) {
            memcpy(one, text + used, (size_t)length);
        } else {
            size = snprintf(one, sizeof one, cp < 0x80 ? "\\x%02X" : "\\u{%X}", cp);
        }
        if ((size_t)size >= n - written) break;
        memcpy(out + written, one, (size_t)size);
        written += (size_t)size;
        used += (size_t)length;
    }
    out[written] = '\0';
    if (out_used) *out_used = used;
    return written;
}

const char *berth_quote(char *out, size_t n, const char *text, size_t len)
{
    size_t used;
    berth_escape(out, n, text, len, false, &used);
    if (used < len) memcpy(out + berth_escape(out, n - 3, text, len, false, NULL), "...", 4);
    return out;
}

/* ---- did you mean ---- */

enum { LONGEST_WORD = 255 };

int berth_edit_distance(const char *a, const char *b, int limit)
{
    size_t n_a = strlen(a), n_b = strlen(b);
    size_t difference = n_a > n_b ? n_a - n_b : n_b - n_a;
    if (limit <= 0) return 0;
    if (difference >= (size_t)limit) return limit;
    if (n_a > LONGEST_WORD || n_b > LONGEST_WORD) return strcmp(a, b) == 0 ? 0 : limit;
    int row[LONGEST_WORD + 1];
    for (size_t j = 0; j <= n_b; j++) row[j] = (int)j;
    for (size_t i = 1; i <= n_a; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= n_b; j++) {
            int replace = diagonal + (a[i - 1] != b[j - 1]);
            int shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = replace < shorter ? replace : shorter;
        }
    }
    return row[n_b] < limit ? row[n_b] : limit;
}

int berth_misspelling_limit(const char *name)
{
    const size_t n = strlen(name);
    return n < 3 ? 2 : n < 5 ? 3 : 4;
}
