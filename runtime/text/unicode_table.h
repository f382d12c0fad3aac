/* unicode_table.h - what the tokenizer asks about a code point: its class in the pre-tokenizer's pattern and whether NFC can touch it.
 *
 * The classes are those of the reference tokenizer (Unicode 16: \p{L}, \p{N}, White_Space); its NFC knows Unicode 9 only. Library
 * tables differ from both (PCRE2 10.42 has Unicode 14 and calls U+180E a space), so the classes are a table of our own. */
#ifndef BERTH_TEXT_UNICODE_TABLE_H
#define BERTH_TEXT_UNICODE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BERTH_UNICODE_OTHER = 0, BERTH_UNICODE_LETTER, BERTH_UNICODE_NUMBER, BERTH_UNICODE_SPACE };

extern const uint8_t berth_unicode_page[];
extern const uint8_t berth_unicode_bits[];
extern const uint32_t berth_unicode_blind_marks[]; /* [2 * n]: first, last; ascending */
extern const size_t berth_unicode_n_blind_marks;
extern const uint32_t berth_unicode_apart[]; /* ascending */
extern const size_t berth_unicode_n_apart;

/* cp <= 0x10FFFF */
static inline unsigned berth_unicode_nibble(uint32_t cp)
{
    return berth_unicode_bits[(size_t)berth_unicode_page[cp >> 8] * 128 + (cp >> 1 & 127)] >> (cp & 1) * 4 & 15;
}

static inline unsigned berth_unicode_class(uint32_t cp)
{
    return berth_unicode_nibble(cp) & 3;
}

/* NFC may change this code point, or join it to what stands before it. */
static inline bool berth_unicode_is_lively(uint32_t cp)
{
    return (berth_unicode_nibble(cp) & 4) != 0;
}

#endif
