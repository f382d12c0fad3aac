/* load.c - the rules that every tokenizer file must keep, whatever its form: ids in range and used once, tokens and
 * merges once, merges between known tokens. Errors name the file, the token, and the rule. */
#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "text/tokenizer_internal.h"

#define SHOWN 64 /* bytes of a stranger's token in a message */

static berth_status no_memory(const char *file, berth_error *err)
{
    return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%s: no memory for the tokenizer's tables", file);
}

berth_status berth_load_token(berth_tokenizer *t, const char *file, const char *spelled, size_t len, const char *id,
                              size_t id_len, berth_error *err)
{
    char shown[SHOWN];
    int64_t number;
    if (len > BERTH_TOKEN_BYTES_MAX)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: a token of the vocabulary has %zu bytes, more than %d", file, len,
                          BERTH_TOKEN_BYTES_MAX);
    if (!berth_json_parse_u63(id, id_len, &number) || number >= INT32_MAX) {
        char shown_id[SHOWN];
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "%s: the vocabulary gives token \"%s\" the id %s; an id is an integer from 0 to %d", file,
                          berth_quote(shown, sizeof shown, spelled, len),
                          berth_quote(shown_id, sizeof shown_id, id, id_len), INT32_MAX - 1);
    }
    return berth_vocab_add(&t->vocab, spelled, len, (int32_t)number) ? BERTH_OK : no_memory(file, err);
}

berth_status berth_load_added(berth_tokenizer *t, const char *file, const char *content, size_t len, int64_t id,
                              bool special, bool normalized, berth_error *err)
{
    char shown[SHOWN];
    if (!len) return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: an added token with empty content", file);
    if (len > BERTH_ADDED_BYTES_MAX)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: an added token has %zu bytes, more than %d", file, len,
                          BERTH_ADDED_BYTES_MAX);
    if (id < 0 || id >= INT32_MAX)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: added token \"%s\" has the id %" PRId64 ", out of range 0 to %d",
                          file, berth_quote(shown, sizeof shown, content, len), id, INT32_MAX - 1);
    berth_added_token token = {.id = (int32_t)id, .special = special, .normalized = normalized};
    return berth_added_add(&t->added, content, len, token) ? BERTH_OK : no_memory(file, err);
}

berth_status berth_load_index_vocab(berth_tokenizer *t, const char *file, berth_error *err)
{
    size_t twice;
    switch (berth_vocab_index(&t->vocab, &twice)) {
    case BERTH_INDEX_OK: return BERTH_OK;
    case BERTH_INDEX_TWICE: break;
    default: return no_memory(file, err);
    }
    char shown[SHOWN];
    const berth_vocab_entry *e = &t->vocab.entries[twice];
    return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: the vocabulary holds token \"%s\" twice", file,
                      berth_quote(shown, sizeof shown, t->vocab.bytes.data + e->begin, e->len));
}

static berth_status unknown_in_merge(const char *file, const char *what, const char *s, size_t n, berth_error *err)
{
    char shown[SHOWN];
    return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: a merge %s \"%s\", which the vocabulary does not know", file, what,
                      berth_quote(shown, sizeof shown, s, n));
}

/* Entry of a token that a merge should have made. Files list merges in the order of the tokens they make, so the entry
 * behind the last merge's is tried before the table. */
static int64_t find_made(const berth_tokenizer *t, const char *bytes, size_t len, bool raw)
{
    const berth_vocab *v = &t->vocab;
    size_t guess = t->merges.n ? (size_t)t->merges.list[t->merges.n - 1].id + 1 : 256;
    if (guess < v->n_entries) {
        const berth_vocab_entry *e = &v->entries[guess];
        if (e->raw == raw && e->len == len && memcmp(v->bytes.data + e->begin, bytes, len) == 0) return (int64_t)guess;
    }
    return berth_vocab_find(v, bytes, len, raw);
}

/* The same for a merge with a token that no byte spells: what it makes is spelled by both together. */
static int64_t find_made_raw(const berth_tokenizer *t, const char *left, size_t n_left, const char *right,
                             size_t n_right, berth_buffer *scratch)
{
    scratch->len = 0;
    if (!berth_buffer_append(scratch, left, n_left) || !berth_buffer_append(scratch, right, n_right)) return -2;
    return find_made(t, scratch->data, scratch->len, true);
}

berth_status berth_load_merge(berth_tokenizer *t, const char *file, const char *left, size_t n_left, const char *right,
                              size_t n_right, berth_buffer *scratch, berth_error *err)
{
    const berth_vocab *v = &t->vocab;
    bool raw_left, raw_right;
    if (n_left > BERTH_TOKEN_BYTES_MAX || n_right > BERTH_TOKEN_BYTES_MAX)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: a merge of a token longer than %d bytes", file,
                          BERTH_TOKEN_BYTES_MAX);
    scratch->len = 0;
    if (!berth_vocab_unspell(left, n_left, scratch, &raw_left)) return no_memory(file, err);
    size_t len_left = scratch->len;
    if (!berth_vocab_unspell(right, n_right, scratch, &raw_right)) return no_memory(file, err);
    const char *bytes = scratch->data; /* both, one behind the other: what the merge makes */
    size_t len_right = scratch->len - len_left;
    uint64_t begun_left = berth_vocab_find_begin(v, bytes, len_left);
    uint64_t begun_right = berth_vocab_find_begin(v, bytes + len_left, len_right);
    int64_t a = berth_vocab_find_end(v, begun_left, bytes, len_left, raw_left);
    int64_t b = berth_vocab_find_end(v, begun_right, bytes + len_left, len_right, raw_right);
    if (a < 0) return unknown_in_merge(file, "joins", left, n_left, err);
    if (b < 0) return unknown_in_merge(file, "joins", right, n_right, err);
    int64_t c = raw_left || raw_right ? find_made_raw(t, left, n_left, right, n_right, scratch)
                                      : find_made(t, bytes, scratch->len, false);
    if (c == -1) return unknown_in_merge(file, "makes", scratch->data, scratch->len, err);
    if (c < 0) return no_memory(file, err);
    berth_merge merge = {v->entries[a].id, v->entries[b].id, v->entries[c].id};
    return berth_merges_add(&t->merges, merge) ? BERTH_OK : no_memory(file, err);
}

berth_status berth_load_merge_line(berth_tokenizer *t, const char *file, const char *line, size_t n,
                                   berth_buffer *scratch, berth_error *err)
{
    const char *space = n ? memchr(line, ' ', n) : NULL;
    size_t n_left = space ? (size_t)(space - line) : 0;
    if (!n_left || n_left + 1 == n || memchr(space + 1, ' ', n - n_left - 1)) {
        char shown[SHOWN];
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: the merge \"%s\" is not two tokens with one space between", file,
                          berth_quote(shown, sizeof shown, line, n));
    }
    return berth_load_merge(t, file, line, n_left, space + 1, n - n_left - 1, scratch, err);
}
