/* utf8.h - strict UTF-8: one definition of "valid" and of "maximal subpart" for the whole tree.
 * Source: Unicode 16, table 3-7 and section 3.9 (U+FFFD substitution of maximal subparts). */
#ifndef BERTH_BASE_UTF8_H
#define BERTH_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decodes the character at s (n > 0 bytes left). Returns its length 1..4 and sets *cp; or, where no character stands
 * there, the negated length of the maximal subpart to be replaced by one U+FFFD (-1..-3), *cp = 0xFFFD. `*incomplete`
 * (may be NULL) is set when the bytes end inside a character that more bytes could complete. */
int berth_utf8_decode(const char *s, size_t n, uint32_t *cp, bool *incomplete);

size_t berth_utf8_encode(uint32_t cp, char out[4]); /* 1..4 bytes; 0 for surrogates and cp > 0x10FFFF */
bool berth_utf8_valid(const char *s, size_t n);

#endif
