/* golden_rows.h - for tests: walking a JSONL file of tests/golden/text, and reading the fields its rows share. */
#ifndef BERTH_TEXT_GOLDEN_ROWS_H
#define BERTH_TEXT_GOLDEN_ROWS_H

#include "base/buffer.h"
#include "base/json.h"
#include "text/tokenizer.h"

#define GOLDEN_TEXT BERTH_SOURCE_DIR "/tests/golden/text/"

/* Judges one row: true = as it should be. */
typedef bool (*golden_row_fn)(const berth_json_node *row, void *arg);

typedef struct golden_count {
    int n_rows, n_wrong; /* rows that must pass */
    int n_optional, n_optional_wrong;
} golden_count;

/* Calls `judge` on every row of GOLDEN_TEXT + name, names wrong rows on stderr, and counts. Fails the test when the
 * file is bad. */
golden_count golden_rows(const char *name, golden_row_fn judge, void *arg);

const char *golden_string(const berth_json_node *row, const char *key); /* NULL: absent */
int64_t golden_int(const berth_json_node *row, const char *key, int64_t by_default);
bool golden_bool(const berth_json_node *row, const char *key);

/* The bytes of "key" or, in hex, of "key_hex" (or "hex" where key is "text"), appended. False: neither is there. */
bool golden_bytes(const berth_json_node *row, const char *key, berth_buffer *out);
void golden_unhex(const char *hex, berth_buffer *out);

/* The row's input: text, hex, or parts. */
void golden_text(const berth_json_node *row, berth_buffer *out);

void golden_ids(const berth_json_node *list, berth_ids *out);
bool golden_same_ids(const berth_json_node *row,
                     const berth_ids *ids); /* against ids, or n_ids, ids_head, ids_tail, ids_sha256 */

/* The tokenizer of vocabulary "mixed", "mixed-pairs", "mixed-slow", "receipt", "qwen2" (the last from the folder that
 * BERTH_TEST_QWEN2 names; NULL when unset). */
berth_tokenizer *golden_tokenizer(const char *vocabulary);

#endif
