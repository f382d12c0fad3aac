/* encode.c - text to ids: added tokens out of the raw text, NFC on each gap, pieces, merges.
 *
 * Added tokens are found before normalisation: an accent after one does not join it, and "<" with a stroke over it
 * begins none. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/nfc.h"
#include "text/tokenizer_internal.h"

#define TEXT_MAX ((size_t)1 << 30) /* positions in a piece are 32 bits */

typedef struct encoding {
    const berth_tokenizer *t;
    berth_match match;
    berth_ids *ids;
} encoding;

/* A piece of normalised text that no merge may leave. False: out of memory. */
static bool encode_piece(encoding *e, const char *piece, size_t n)
{
    const berth_tokenizer *t = e->t;
    if (t->ignore_merges) {
        int64_t entry = berth_vocab_find(&t->vocab, piece, n, false);
        if (entry >= 0) return berth_ids_push(e->ids, t->vocab.entries[entry].id);
    }
    if (!berth_ids_reserve(e->ids, n)) return false;
    int32_t *ids = e->ids->data + e->ids->len;
    for (size_t i = 0; i < n; i++) ids[i] = t->byte_id[(unsigned char)piece[i]];
    size_t left = berth_merges_apply(&t->merges, ids, n);
    if (left == SIZE_MAX) return false;
    e->ids->len += left;
    return true;
}

static bool encode_pieces(encoding *e, const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t len = e->t->cut->next(text + i, n - i);
        if (!encode_piece(e, text + i, len)) return false;
        i += len;
    }
    return true;
}

typedef bool (*encode_fn)(encoding *e, const char *text, size_t n);

/* Gives each gap between the tokens of `trie` to `gap`. A special token that is not wanted is passed over whole, as text. */
static bool encode_around(encoding *e, const berth_trie *trie, const char *text, size_t n, encode_fn gap)
{
    size_t done = 0, at, len;
    int32_t token;
    for (size_t i = 0; berth_trie_search(trie, text, n, i, &at, &len, &token);) {
        const berth_added_token *a = &e->t->added.tokens[token];
        i = at + len;
        if (e->match == BERTH_MATCH_NONSPECIAL && a->special) continue;
        if (!gap(e, text + done, at - done) || !berth_ids_push(e->ids, a->id)) return false;
        done = i;
    }
    return gap(e, text + done, n - done);
}

static bool encode_normal(encoding *e, const char *text, size_t n)
{
    if (e->match == BERTH_MATCH_NONE || !e->t->added.normalized.n_edges) return encode_pieces(e, text, n);
    return encode_around(e, &e->t->added.normalized, text, n, encode_pieces);
}

static bool encode_gap(encoding *e, const char *text, size_t n)
{
    if (!e->t->nfc || berth_nfc_is_plain(text, n)) return encode_normal(e, text, n);
    berth_buffer normal = {0};
    bool ok = berth_nfc(text, n, &normal) && encode_normal(e, normal.data, normal.len);
    berth_buffer_deinit(&normal);
    return ok;
}

berth_status berth_tokenizer_encode(const berth_tokenizer *t, const char *text, size_t n, berth_match match,
                                    berth_ids *ids, berth_error *err)
{
    size_t before = ids->len;
    if (n > TEXT_MAX)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "a text of %zu bytes is too long to encode at once (1 GiB)", n);
    if (!berth_utf8_valid(text, n))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "the text is not valid UTF-8; replace what is broken, or convert it from its encoding");
    encoding e = {.t = t, .match = match, .ids = ids};
    bool ok =
        match == BERTH_MATCH_NONE ? encode_gap(&e, text, n) : encode_around(&e, &t->added.plain, text, n, encode_gap);
    if (ok) return BERTH_OK;
    ids->len = before;
    return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory to encode a text of %zu bytes", n);
}

bool berth_text_repair(const char *bytes, size_t n, berth_buffer *out)
{
    size_t run = 0; /* start of bytes that need no change */
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        int len = berth_utf8_decode(bytes + i, n - i, &cp, NULL);
        if (len < 0) {
            if (!berth_buffer_append(out, bytes + run, i - run) || !berth_buffer_append(out, "\xEF\xBF\xBD", 3))
                return false;
            len = -len;
            run = i + (size_t)len;
        }
        i += (size_t)len;
    }
    return berth_buffer_append(out, bytes + run, n - run);
}
