/* tokenizer.h - byte-level BPE as Qwen2's tokenizer.json describes it: text to ids, ids to text, and streaming text.
 *
 * Owns vocabulary, merges, added tokens, NFC and the pre-tokenizer. Immutable after open and safe to share between
 * threads. No regular expression out of a file is run: the known patterns are matched by hand (cut.h). Easy to get
 * wrong: user text must be encoded with BERTH_MATCH_NONE, so that it can never become a special token. */
#ifndef BERTH_TEXT_TOKENIZER_H
#define BERTH_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/status.h"

typedef struct berth_tokenizer berth_tokenizer;

/* Reads `tokenizer.json` of folder `dir`, or else vocab.json + merges.txt + added_tokens.json / tokenizer_config.json
 * (the slow form). The chat template beside them is looked at, and judged only where it matters (berth_chat_check).
 * Errors: BERTH_NOT_FOUND, BERTH_BAD_FILE (names file and rule), BERTH_UNSUPPORTED (another kind of tokenizer),
 * BERTH_IO_ERROR, BERTH_OUT_OF_MEMORY. */
berth_status berth_tokenizer_open(const char *dir, berth_tokenizer **out, berth_error *err);
void berth_tokenizer_close(berth_tokenizer *t);

int32_t berth_tokenizer_size(const berth_tokenizer *t);                            /* largest id + 1 */
int32_t berth_tokenizer_special_id(const berth_tokenizer *t, const char *content); /* an added token's id; -1 */
/* The token's content: an added token's text, or the bytes a base token stands for; NULL for ids nobody owns. */
const char *berth_tokenizer_token(const berth_tokenizer *t, int32_t id, size_t *out_len, bool *out_special);

typedef enum berth_match {
    BERTH_MATCH_NONE = 0,   /* no added token is seen */
    BERTH_MATCH_NONSPECIAL, /* those with special=false; a special one is passed over whole, as text */
    BERTH_MATCH_ALL,
} berth_match;

typedef struct berth_ids {
    int32_t *data; /* owned; free with berth_ids_deinit */
    size_t len, cap;
} berth_ids;
void berth_ids_deinit(berth_ids *ids);
bool berth_ids_push(berth_ids *ids, int32_t id);
bool berth_ids_reserve(berth_ids *ids, size_t extra); /* room for `extra` more */

/* Appends the ids of `n` bytes of UTF-8 text. Time is linear in n up to a logarithm, whatever the text. Errors:
 * BERTH_INVALID_ARGUMENT (the text is not valid UTF-8, or over 1 GiB; nothing is appended), BERTH_OUT_OF_MEMORY. */
berth_status berth_tokenizer_encode(const berth_tokenizer *t, const char *text, size_t n, berth_match match,
                                    berth_ids *ids, berth_error *err);

/* Appends `n` bytes with each maximal subpart that is not UTF-8 replaced by U+FFFD, for those who would rather encode a
 * broken text than refuse it. False: out of memory. */
bool berth_text_repair(const char *bytes, size_t n, berth_buffer *out);

/* Appends the text of ids: skipped special tokens vanish before bytes are joined; broken UTF-8 becomes U+FFFD per
 * maximal subpart; ids nobody owns print nothing. */
berth_status berth_tokenizer_decode(const berth_tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                                    berth_buffer *out, berth_error *err);

/* Streaming: feed ids one by one; what may be shown is appended to `out`. The held-back bytes are at most 3. */
typedef struct berth_stream_decoder {
    const berth_tokenizer *tokenizer;
    bool skip_special;
    unsigned char held[4];
    int n_held;
} berth_stream_decoder;
void berth_stream_decoder_init(berth_stream_decoder *d, const berth_tokenizer *t, bool skip_special);
bool berth_stream_decoder_push(berth_stream_decoder *d, int32_t id, berth_buffer *out); /* false: out of memory */
bool berth_stream_decoder_flush(berth_stream_decoder *d, berth_buffer *out);

#endif
