/* load_slow.c - the slow form of a Qwen2 tokenizer: vocab.json, merges.txt, and added tokens in added_tokens.json and
 * tokenizer_config.json, either of which is enough. The files name no normalizer and no pattern: they are Qwen2's.
 *
 * An added token that no file describes is taken as special, which is what the older files mean. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "text/tokenizer_internal.h"

#define VOCAB  "vocab.json"
#define MERGES "merges.txt"
#define ADDED  "added_tokens.json"
#define CONFIG "tokenizer_config.json"

/* ---- vocab.json ---- */

static berth_status vocab_error(const berth_json_reader *r, berth_error *err)
{
    size_t line, column;
    berth_json_where(r, &line, &column);
    return BERTH_FAIL(err, BERTH_BAD_FILE, VOCAB ":%zu:%zu: %s", line, column,
                      r->error ? r->error : "a vocabulary is an object of tokens and integer ids");
}

static berth_status read_vocab(berth_tokenizer *t, berth_json_reader *r, berth_error *err)
{
    if (berth_json_read(r) != BERTH_JSON_BEGIN_OBJECT) return vocab_error(r, err);
    for (;;) {
        berth_json_event event = berth_json_read(r);
        if (event == BERTH_JSON_END_OBJECT) break;
        if (event != BERTH_JSON_KEY) return vocab_error(r, err);
        const char *token = r->text;
        size_t len = r->len;
        if (berth_json_read(r) != BERTH_JSON_NUM) return vocab_error(r, err);
        berth_status st = berth_load_token(t, VOCAB, token, len, r->text, r->len, err);
        if (st != BERTH_OK) return st;
    }
    return berth_json_read(r) == BERTH_JSON_END ? berth_load_index_vocab(t, VOCAB, err) : vocab_error(r, err);
}

static berth_status load_vocab(const char *dir, berth_tokenizer *t, berth_error *err)
{
    char *data = NULL;
    size_t size = 0;
    berth_status st = berth_file_read_in(dir, VOCAB, BERTH_TOKENIZER_FILE_MAX, &data, &size, err);
    if (st != BERTH_OK) return st;
    berth_json_reader r;
    berth_json_reader_init(&r, data, size);
    st = read_vocab(t, &r, err);
    berth_json_reader_deinit(&r);
    free(data);
    return st;
}

/* ---- merges.txt ---- */

/* Only the first line may be a comment: '#' begins real merges too. */
static berth_status read_merges(berth_tokenizer *t, const char *data, size_t size, berth_error *err)
{
    berth_buffer scratch = {0};
    berth_status st = BERTH_OK;
    const char *end = data + size;
    for (const char *line = data; line < end && st == BERTH_OK;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        size_t n = (size_t)((stop ? stop : end) - line);
        const char *next = stop ? stop + 1 : end;
        if (n && line[n - 1] == '\r') n--;
        bool is_version = line == data && n >= 9 && memcmp(line, "#version:", 9) == 0;
        if (n && !is_version) st = berth_load_merge_line(t, MERGES, line, n, &scratch, err);
        line = next;
    }
    berth_buffer_deinit(&scratch);
    return st;
}

static berth_status load_merges(const char *dir, berth_tokenizer *t, berth_error *err)
{
    char *data = NULL;
    size_t size = 0;
    berth_status st = berth_file_read_in(dir, MERGES, BERTH_TOKENIZER_FILE_MAX, &data, &size, err);
    if (st != BERTH_OK) return st;
    st = read_merges(t, data, size, err);
    free(data);
    return st;
}

/* ---- added tokens ---- */

static berth_status read_tree(const char *dir, const char *name, berth_json **out, berth_error *err)
{
    char *data = NULL;
    size_t size = 0;
    *out = NULL;
    if (!berth_file_exists_in(dir, name)) return BERTH_OK;
    berth_status st = berth_file_read_in(dir, name, BERTH_TOKENIZER_FILE_MAX, &data, &size, err);
    if (st == BERTH_OK) st = berth_json_parse(data, size, name, out, err);
    free(data);
    return st;
}

static berth_status flag_of(const berth_json_node *token, const char *key, bool *out, berth_error *err)
{
    const berth_json_node *node = berth_json_get(token, key);
    *out = false;
    if (!node || berth_json_as_bool(node, out)) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_BAD_FILE, CONFIG ": %s of an added token is not true or false", key);
}

/* One member of added_tokens_decoder: its key is the id. */
static berth_status add_described(berth_tokenizer *t, const berth_json_node *token, berth_error *err)
{
    char shown[64];
    int64_t id;
    const char *key = berth_json_key(token), *content = berth_json_as_string(berth_json_get(token, "content"));
    bool special, normalized, left, right, word;
    if (!berth_json_parse_u63(key, strlen(key), &id))
        return BERTH_FAIL(err, BERTH_BAD_FILE, CONFIG ": added_tokens_decoder has the key %s, which is no token id",
                          berth_quote(shown, sizeof shown, key, strlen(key)));
    if (!content) return BERTH_FAIL(err, BERTH_BAD_FILE, CONFIG ": added token %" PRId64 " has no content", id);
    berth_status st = flag_of(token, "special", &special, err);
    if (st == BERTH_OK) st = flag_of(token, "normalized", &normalized, err);
    if (st == BERTH_OK) st = flag_of(token, "lstrip", &left, err);
    if (st == BERTH_OK) st = flag_of(token, "rstrip", &right, err);
    if (st == BERTH_OK) st = flag_of(token, "single_word", &word, err);
    if (st != BERTH_OK) return st;
    if (left || right || word)
        return BERTH_FAIL(err, BERTH_UNSUPPORTED, CONFIG ": added token \"%s\" with lstrip, rstrip or single_word",
                          berth_quote(shown, sizeof shown, content, strlen(content)));
    return berth_load_added(t, CONFIG, content, strlen(content), id, special, normalized, err);
}

static berth_status add_decoder(berth_tokenizer *t, const berth_json_node *decoder, berth_error *err)
{
    if (decoder && berth_json_type_of(decoder) != BERTH_JSON_OBJECT)
        return BERTH_FAIL(err, BERTH_BAD_FILE, CONFIG ": added_tokens_decoder is %s, not an object",
                          berth_json_type_name(berth_json_type_of(decoder)));
    berth_status st = BERTH_OK;
    for (const berth_json_node *n = berth_json_first(decoder); n && st == BERTH_OK; n = berth_json_next(n))
        st = add_described(t, n, err);
    return st;
}

/* One member of added_tokens.json, unless tokenizer_config.json has described the same already. */
static berth_status add_listed(berth_tokenizer *t, const berth_json_node *token, size_t n_described, berth_error *err)
{
    char shown[64];
    int64_t id = -1;
    const char *content = berth_json_key(token);
    size_t len = strlen(content);
    if (!berth_json_as_i64(token, &id) || id < 0)
        return BERTH_FAIL(err, BERTH_BAD_FILE, ADDED ": the id of token \"%s\" is not an integer that fits",
                          berth_quote(shown, sizeof shown, content, len));
    int32_t known = n_described ? berth_added_find(&t->added, content, len) : -1;
    if (known < 0) return berth_load_added(t, ADDED, content, len, id, true, false, err);
    if (t->added.tokens[known].id == id) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_BAD_FILE, ADDED ": token \"%s\" has the id %" PRId64 ", but " CONFIG " says %" PRId32,
                      berth_quote(shown, sizeof shown, content, len), id, t->added.tokens[known].id);
}

static berth_status add_list(berth_tokenizer *t, const berth_json_node *list, berth_error *err)
{
    size_t twice, n_described = t->added.n;
    if (berth_json_type_of(list) != BERTH_JSON_OBJECT)
        return BERTH_FAIL(err, BERTH_BAD_FILE, ADDED ": is %s, not an object of tokens and ids",
                          berth_json_type_name(berth_json_type_of(list)));
    if (!berth_added_index(&t->added, &twice) && twice == t->added.n)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, ADDED ": no memory for the tokenizer's tables");
    berth_status st = BERTH_OK;
    for (const berth_json_node *n = berth_json_first(list); n && st == BERTH_OK; n = berth_json_next(n))
        st = add_listed(t, n, n_described, err);
    return st;
}

/* Other families keep the same files and another pattern. */
static berth_status check_class(const berth_json_node *config, berth_error *err)
{
    const char *name = berth_json_as_string(berth_json_get(config, "tokenizer_class"));
    char shown[64];
    if (!name || strncmp(name, "Qwen2Tokenizer", 14) == 0 || strncmp(name, "Qwen3Tokenizer", 14) == 0) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_UNSUPPORTED,
                      CONFIG
                      ": tokenizer_class %s is unsupported without a tokenizer.json; berth reads the slow files of "
                      "Qwen2Tokenizer",
                      berth_quote(shown, sizeof shown, name, strlen(name)));
}

static berth_status load_added(const char *dir, berth_tokenizer *t, berth_error *err)
{
    berth_json *config = NULL, *list = NULL;
    berth_status st = read_tree(dir, CONFIG, &config, err);
    if (st == BERTH_OK && config) st = check_class(berth_json_root(config), err);
    if (st == BERTH_OK && config)
        st = add_decoder(t, berth_json_get(berth_json_root(config), "added_tokens_decoder"), err);
    if (st == BERTH_OK) st = read_tree(dir, ADDED, &list, err);
    if (st == BERTH_OK && list) st = add_list(t, berth_json_root(list), err);
    berth_json_destroy(config);
    berth_json_destroy(list);
    return st;
}

berth_status berth_tokenizer_load_slow(const char *dir, berth_tokenizer *t, berth_error *err)
{
    static const berth_load_files files = {VOCAB, MERGES, ADDED};
    t->nfc = true;
    t->cut = berth_cut_qwen2();
    berth_status st = load_vocab(dir, t, err);
    if (st == BERTH_OK) st = load_merges(dir, t, err);
    if (st == BERTH_OK) st = load_added(dir, t, err);
    return st == BERTH_OK ? berth_load_finish(t, &files, err) : st;
}
