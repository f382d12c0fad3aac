/* nfc.c - text is copied as it is, but for stretches that hold a character NFC can touch: each such stretch, together
 * with the character before it, is decomposed, ordered and composed by itself. Easy to get wrong: a stretch may not be
 * cut inside, so its length is the text's to choose, and every step here must bear that. */
#include "text/nfc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/checked.h"
#include "base/utf8.h"
#include "text/unicode_table.h"

#define EXPANSION 4 /* code points in the longest full canonical decomposition (U+1F82 and the like) */

/* One code point of a stretch with its combining class (0 = starter). */
typedef struct mark {
    uint32_t cp;
    uint32_t ccc;
} mark;

static bool is_apart(uint32_t cp)
{
    for (size_t i = 0; i < berth_unicode_n_apart; i++)
        if (berth_unicode_apart[i] == cp) return true;
    return false;
}

static uint32_t combining_class(uint32_t cp)
{
    if (!berth_unicode_is_lively(cp)) return 0;
    for (size_t i = 0; i < berth_unicode_n_blind_marks && berth_unicode_blind_marks[2 * i] <= cp; i++)
        if (cp <= berth_unicode_blind_marks[2 * i + 1]) return 0;
    return (uint32_t)utf8proc_get_property((utf8proc_int32_t)cp)->combining_class;
}

/* Appends the canonical decomposition of cp at d; returns how many code points that is (at most EXPANSION). */
static size_t decompose(uint32_t cp, mark *d)
{
    utf8proc_int32_t parts[EXPANSION];
    int last_class = 0;
    utf8proc_ssize_t n = 0;
    if (cp >= 0xC0 && !is_apart(cp))
        n = utf8proc_decompose_char((utf8proc_int32_t)cp, parts, EXPANSION, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE,
                                    &last_class);
    if (n <= 0 || n > EXPANSION) {
        parts[0] = (utf8proc_int32_t)cp;
        n = 1;
    }
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        d[i].cp = (uint32_t)parts[i];
        d[i].ccc = combining_class(d[i].cp);
    }
    return (size_t)n;
}

/* The primary composite of a and b, or 0. */
static uint32_t compose(uint32_t a, uint32_t b)
{
    if (b == 0x11A7) return 0; /* no trailing consonant, though utf8proc takes it for one */
    utf8proc_int32_t pair[2] = {(utf8proc_int32_t)a, (utf8proc_int32_t)b};
    if (utf8proc_normalize_utf32(pair, 2, UTF8PROC_COMPOSE | UTF8PROC_STABLE) != 1) return 0;
    return is_apart((uint32_t)pair[0]) ? 0 : (uint32_t)pair[0];
}

/* Orders a run of marks by class, keeping the order within a class: a counting sort, through `tmp` of the same length. */
static void order(mark *run, size_t n, mark *tmp)
{
    size_t start[257] = {0};
    for (size_t i = 0; i < n; i++) start[(run[i].ccc & 255) + 1]++;
    for (size_t c = 1; c < 257; c++) start[c] += start[c - 1];
    for (size_t i = 0; i < n; i++) tmp[start[run[i].ccc & 255]++] = run[i];
    memcpy(run, tmp, n * sizeof *run);
}

/* Two or three marks are the usual case: not worth the counting. */
static void order_few(mark *run, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        mark m = run[i];
        size_t j = i;
        for (; j && run[j - 1].ccc > m.ccc; j--) run[j] = run[j - 1];
        run[j] = m;
    }
}

static void order_all(mark *d, size_t n, mark *tmp)
{
    for (size_t i = 0; i < n;) {
        size_t j = i;
        while (j < n && d[j].ccc) j++;
        if (j - i > 16)
            order(d + i, j - i, tmp);
        else
            order_few(d + i, j - i);
        i = j > i ? j : i + 1;
    }
}

/* Composes in place; returns the new length. Source: Unicode 16, section 3.11, D117. */
static size_t compose_all(mark *d, size_t n)
{
    size_t len = 0, starter = SIZE_MAX;
    uint32_t last = 0; /* class of the latest mark kept behind the starter */
    for (size_t i = 0; i < n; i++) {
        if (starter != SIZE_MAX && (last < d[i].ccc || (last == 0 && starter + 1 == len))) {
            uint32_t both = compose(d[starter].cp, d[i].cp);
            if (both) {
                d[starter].cp = both;
                continue;
            }
        }
        if (d[i].ccc == 0) starter = len;
        last = d[i].ccc;
        d[len++] = d[i];
    }
    return len;
}

static bool put(berth_buffer *out, uint32_t cp)
{
    char bytes[4];
    return berth_buffer_append(out, bytes, berth_utf8_encode(cp, bytes));
}

static bool normalise_stretch(const char *s, size_t n, size_t n_chars, berth_buffer *out)
{
    mark few[3 * 16], *d = few;
    size_t room, bytes;
    if (!berth_mul_size(n_chars, 2 * EXPANSION, &room) || !berth_mul_size(room, sizeof *d, &bytes)) return false;
    if (room > sizeof few / sizeof *few && !(d = malloc(bytes))) return false;
    size_t len = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += (size_t)berth_utf8_decode(s + i, n - i, &cp, NULL);
        len += decompose(cp, d + len);
    }
    order_all(d, len, d + len);
    len = compose_all(d, len);
    bool ok = true;
    for (size_t i = 0; i < len && ok; i++) ok = put(out, d[i].cp);
    if (d != few) free(d);
    return ok;
}

/* The next character at s[i], i < n, of valid text: its length, and whether NFC can touch it. */
static inline size_t look(const char *s, size_t n, size_t i, bool *lively)
{
    uint32_t cp;
    if ((unsigned char)s[i] < 0xCC) { /* below U+0300 nothing is touched */
        *lively = false;
        return (unsigned char)s[i] < 0x80 ? 1 : 2;
    }
    int len = berth_utf8_decode(s + i, n - i, &cp, NULL);
    *lively = berth_unicode_is_lively(cp);
    return len > 0 ? (size_t)len : 1;
}

bool berth_nfc_is_plain(const char *text, size_t n)
{
    bool lively = false;
    for (size_t i = 0; i < n && !lively;) i += look(text, n, i, &lively);
    return !lively;
}

bool berth_nfc(const char *text, size_t n, berth_buffer *out)
{
    size_t done = 0, before = 0; /* text[0, done) is out; `before`: where the latest untouched character begins */
    for (size_t i = 0; i < n;) {
        bool lively;
        size_t len = look(text, n, i, &lively);
        if (!lively) {
            before = i;
            i += len;
            continue;
        }
        size_t first = i > before ? before : i, n_chars = 1;
        while (i < n && lively) {
            i += len;
            n_chars++;
            if (i < n) len = look(text, n, i, &lively);
        }
        if (!berth_buffer_append(out, text + done, first - done) ||
            !normalise_stretch(text + first, i - first, n_chars, out))
            return false;
        done = before = i;
    }
    return berth_buffer_append(out, text + done, n - done);
}
