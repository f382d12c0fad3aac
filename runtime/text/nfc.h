/* nfc.h - Unicode normalisation form C as the reference tokenizer does it: Unicode 9's rules, in time n log n whatever
 * the marks.
 *
 * utf8proc supplies combining classes, decompositions and compositions; ordering and the walk are our own because
 * utf8proc's ordering is quadratic in a run of marks, and because it swallows U+11A7 after a Hangul syllable. */
#ifndef BERTH_TEXT_NFC_H
#define BERTH_TEXT_NFC_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"

/* True when nothing in the text can be changed by NFC, by a look at each character alone. */
bool berth_nfc_is_plain(const char *text, size_t n);

/* Appends the NFC of `n` bytes of valid UTF-8 to `out`. False: out of memory. */
bool berth_nfc(const char *text, size_t n, berth_buffer *out);

#endif
