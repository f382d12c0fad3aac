/* utf8.c - see utf8.h. The decoder follows Unicode 16 table 3-7 row by row: only the second byte's range depends on
 * the first byte. */
#include "base/utf8.h"

#include <string.h>

/* How many bytes the first byte announces, and the range its second byte must lie in; 0 where no character begins. */
static int lead_length(unsigned char lead, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (lead < 0x80) return 1;
    if (lead < 0xC2) return 0;
    if (lead < 0xE0) return 2;
    if (lead < 0xF0) {
        if (lead == 0xE0) *low = 0xA0;
        if (lead == 0xED) *high = 0x9F; /* no surrogates */
        return 3;
    }
    if (lead > 0xF4) return 0;
    if (lead == 0xF0) *low = 0x90;
    if (lead == 0xF4) *high = 0x8F; /* nothing over U+10FFFF */
    return 4;
}

int berth_utf8_decode(const char *s, size_t n, uint32_t *cp, bool *incomplete)
{
    const unsigned char *p = (const unsigned char *)s;
    unsigned char low, high;
    int length = lead_length(p[0], &low, &high);
    if (incomplete) *incomplete = false;
    *cp = 0xFFFD;
    if (length == 0) return -1;
    if (length == 1) {
        *cp = p[0];
        return 1;
    }
    uint32_t value = p[0] & (0x7Fu >> length);
    for (int i = 1; i < length; i++) {
        if ((size_t)i == n) {
            if (incomplete) *incomplete = true;
            return -i;
        }
        if (p[i] < low || p[i] > high) return -i;
        value = value << 6 | (p[i] & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    *cp = value;
    return length;
}

size_t berth_utf8_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        if (cp >= 0xD800 && cp < 0xE000) return 0;
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    if (cp > 0x10FFFF) return 0;
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

bool berth_utf8_valid(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t word;
        if (n - i >= sizeof word) { /* eight ASCII bytes at a time */
            memcpy(&word, s + i, sizeof word);
            if ((word & 0x8080808080808080u) == 0) {
                i += sizeof word;
                continue;
            }
        }
        uint32_t cp;
        int length = berth_utf8_decode(s + i, n - i, &cp, NULL);
        if (length < 0) return false;
        i += (size_t)length;
    }
    return true;
}
