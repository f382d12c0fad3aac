/* finish.c - what can be judged only when a tokenizer's parts are all read: no id with two owners, no id so far out
 * that a table by id would be mostly holes, a token for every byte; and the tables that encoding and decoding use. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "text/tokenizer_internal.h"

static const char *quote_entry(const berth_tokenizer *t, size_t entry, char *out, size_t n)
{
    const berth_vocab_entry *e = &t->vocab.entries[entry];
    return berth_quote(out, n, t->vocab.bytes.data + e->begin, e->len);
}

static const char *quote_added(const berth_tokenizer *t, size_t index, char *out, size_t n)
{
    const berth_added_token *a = &t->added.tokens[index];
    return berth_quote(out, n, t->added.bytes.data + a->begin, a->len);
}

static berth_status make_owners(berth_tokenizer *t, const berth_load_files *files, berth_error *err)
{
    int32_t last = -1;
    bool last_is_added = false;
    for (size_t i = 0; i < t->vocab.n_entries; i++)
        if (t->vocab.entries[i].id > last) last = t->vocab.entries[i].id;
    for (size_t i = 0; i < t->added.n; i++) {
        if (t->added.tokens[i].id <= last) continue;
        last = t->added.tokens[i].id;
        last_is_added = true;
    }
    size_t n = t->vocab.n_entries + t->added.n;
    if (last < 0) return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: the vocabulary holds no token", files->vocab);
    if ((size_t)last >= 65536 + 4 * n)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: token id %" PRId32 " is out of range for %zu tokens",
                          last_is_added ? files->added : files->vocab, last, n);
    t->size = last + 1;
    t->owner = calloc((size_t)t->size, sizeof *t->owner);
    return t->owner ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%s: no memory for a table by id", files->vocab);
}

static berth_status own_base(berth_tokenizer *t, const berth_load_files *files, berth_error *err)
{
    for (size_t i = 0; i < t->vocab.n_entries; i++) {
        int32_t *owner = &t->owner[t->vocab.entries[i].id];
        if (*owner) {
            char a[64], b[64];
            return BERTH_FAIL(err, BERTH_BAD_FILE,
                              "%s: the vocabulary gives id %" PRId32 " to two tokens, \"%s\" and \"%s\"", files->vocab,
                              t->vocab.entries[i].id, quote_entry(t, (size_t)*owner - 1, a, sizeof a),
                              quote_entry(t, i, b, sizeof b));
        }
        *owner = (int32_t)i + 1;
    }
    return BERTH_OK;
}

/* An added token may repeat a base token, with the same id and text; it is then an added one. */
static berth_status own_added(berth_tokenizer *t, const berth_load_files *files, berth_error *err)
{
    char a[64], b[64];
    for (size_t k = 0; k < t->added.n; k++) {
        const berth_added_token *token = &t->added.tokens[k];
        const char *content = t->added.bytes.data + token->begin;
        int32_t *owner = &t->owner[token->id];
        int64_t same = berth_vocab_find(&t->vocab, content, token->len, false);
        if (same >= 0 && t->vocab.entries[same].id != token->id)
            return BERTH_FAIL(err, BERTH_BAD_FILE,
                              "%s: added token \"%s\" has id %" PRId32 ", but the vocabulary says %" PRId32,
                              files->added, quote_added(t, k, a, sizeof a), token->id, t->vocab.entries[same].id);
        if (*owner && *owner != (int32_t)same + 1)
            return BERTH_FAIL(err, BERTH_BAD_FILE,
                              "%s: id %" PRId32 " is given to two tokens, \"%s\" and added token \"%s\"", files->added,
                              token->id,
                              *owner > 0 ? quote_entry(t, (size_t)*owner - 1, a, sizeof a)
                                         : quote_added(t, (size_t) - *owner - 1, a, sizeof a),
                              quote_added(t, k, b, sizeof b));
        *owner = -(int32_t)k - 1;
    }
    return BERTH_OK;
}

static berth_status find_bytes(berth_tokenizer *t, const berth_load_files *files, berth_error *err)
{
    for (int b = 0; b < 256; b++) {
        char byte = (char)b;
        int64_t entry = berth_vocab_find(&t->vocab, &byte, 1, false);
        if (entry < 0)
            return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: the vocabulary has no token for the single byte 0x%02x",
                              files->vocab, (unsigned)b);
        t->byte_id[b] = t->vocab.entries[entry].id;
    }
    return BERTH_OK;
}

berth_status berth_load_finish(berth_tokenizer *t, const berth_load_files *files, berth_error *err)
{
    char shown[64];
    size_t twice;
    berth_status st = make_owners(t, files, err);
    if (st != BERTH_OK) return st;
    if (!berth_added_index(&t->added, &twice)) {
        if (twice == t->added.n)
            return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%s: no memory for the added tokens", files->added);
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: added token \"%s\" occurs twice", files->added,
                          quote_added(t, twice, shown, sizeof shown));
    }
    if (!berth_merges_index(&t->merges, &twice)) {
        if (twice == t->merges.n)
            return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%s: no memory for the merges", files->merges);
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: merge %zu joins a pair that an earlier merge joins already",
                          files->merges, twice);
    }
    st = own_base(t, files, err);
    if (st == BERTH_OK) st = own_added(t, files, err);
    if (st == BERTH_OK) st = find_bytes(t, files, err);
    return st;
}
