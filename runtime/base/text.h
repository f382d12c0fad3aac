/* text.h - small text rules that users meet everywhere: byte sizes, globs, printable quoting. */
#ifndef BERTH_BASE_TEXT_H
#define BERTH_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "10GiB", "32K", "1.5GB", "4096": KiB/MiB/GiB/TiB and K/M/G/T are powers of 1024, KB/MB/GB/TB of 1000;
 * case-insensitive, an optional B at the end. False on anything else, on negatives and on overflow. */
bool berth_parse_bytes(const char *text, uint64_t *out_bytes);

/* "3.27 GiB", "512 B": at most `n` bytes into out, always terminated. */
const char *berth_format_bytes(uint64_t bytes, char *out, size_t n);

/* Shell-like match of a whole name: * any run, ? one character, [a-z] a set. */
bool berth_glob_match(const char *pattern, const char *name);

/* Copies `len` bytes of a stranger's name into out (n bytes, n >= 8) so that it may be printed: control characters,
 * bidi controls and bytes that are not UTF-8 become \xNN or \u{N}; cut with "..." when long. Returns out. */
const char *berth_quote(char *out, size_t n, const char *text, size_t len);

/* Levenshtein distance in bytes, or `limit` when it is that or more; for "did you mean". */
int berth_edit_distance(const char *a, const char *b, int limit);

/* The distance at which another name is no longer a likely misspelling of `name`: fewer letters, fewer mistakes. */
int berth_misspelling_limit(const char *name);

/* The rule behind berth_quote and every error message: writes as many whole characters of `text`, escaped, as fit before a
 * NUL into out[n], n > 0. A newline stays when keep_newlines. Gives the bytes written; *out_used (may be NULL) is the
 * bytes of `text` taken, less than `len` when it was cut. */
size_t berth_escape(char *out, size_t n, const char *text, size_t len, bool keep_newlines, size_t *out_used);

#endif
