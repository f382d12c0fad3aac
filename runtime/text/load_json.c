/* load_json.c - tokenizer.json, read once from front to back without a tree: its vocabulary and merges are 300,000
 * strings.
 *
 * What berth does not do exactly as the file asks is refused here by name; keys without effect on ids and text are left
 * alone. Merges may stand before the vocabulary they refer to; then they are read again at the end. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "text/tokenizer_internal.h"

#define FILE_NAME "tokenizer.json"

enum { SEEN_VERSION = 1, SEEN_ADDED = 2, SEEN_MODEL = 4, SEEN_VOCAB = 8, SEEN_MERGES = 16, SEEN_TYPE = 32 };

typedef struct reading {
    berth_json_reader r;
    berth_tokenizer *t;
    berth_error *err;
    berth_buffer scratch, left;
    unsigned seen;
    const char *late_merges; /* the value of model.merges, when it came before the vocabulary */
    size_t n_late_merges;
    unsigned seen_rules; /* bit per rule key */
} reading;

static berth_status bad_json(reading *rd)
{
    size_t line, column;
    berth_json_where(&rd->r, &line, &column);
    if (rd->r.end - rd->r.begin > 8 && memcmp(rd->r.begin, "version ", 8) == 0)
        return BERTH_FAIL(rd->err, BERTH_BAD_FILE,
                          FILE_NAME ": is a Git LFS pointer, not JSON; fetch the file itself (git lfs pull)");
    return BERTH_FAIL(rd->err, BERTH_BAD_FILE, FILE_NAME ":%zu:%zu: %s", line, column, rd->r.error);
}

static berth_status expected(reading *rd, const char *key, const char *what)
{
    if (rd->r.error) return bad_json(rd);
    size_t line, column;
    berth_json_where(&rd->r, &line, &column);
    return BERTH_FAIL(rd->err, BERTH_BAD_FILE, FILE_NAME ":%zu:%zu: %s is not %s", line, column, key, what);
}

static bool at(const reading *rd, const char *text)
{
    return rd->r.len == strlen(text) && memcmp(rd->r.text, text, rd->r.len) == 0;
}

static berth_status first_time(reading *rd, unsigned bit, const char *key)
{
    if (rd->seen & bit) return BERTH_FAIL(rd->err, BERTH_BAD_FILE, FILE_NAME ": the key %s occurs twice", key);
    rd->seen |= bit;
    return BERTH_OK;
}

static berth_status skip(reading *rd)
{
    return berth_json_skip(&rd->r) ? BERTH_OK : bad_json(rd);
}

static berth_status unsupported(reading *rd, const char *key, const char *has, const char *wants)
{
    return BERTH_FAIL(rd->err, BERTH_UNSUPPORTED, FILE_NAME ": %s %s is unsupported; berth runs %s", key, has, wants);
}

/* ---- model ---- */

static berth_status read_vocab(reading *rd)
{
    if (berth_json_read(&rd->r) != BERTH_JSON_BEGIN_OBJECT) return expected(rd, "model.vocab", "an object");
    for (;;) {
        berth_json_event event = berth_json_read(&rd->r);
        if (event == BERTH_JSON_END_OBJECT) break;
        if (event != BERTH_JSON_KEY) return bad_json(rd);
        const char *token = rd->r.text; /* a number does not disturb a decoded key */
        size_t len = rd->r.len;
        if (berth_json_read(&rd->r) != BERTH_JSON_NUM) {
            char shown[64];
            if (rd->r.error) return bad_json(rd);
            return BERTH_FAIL(rd->err, BERTH_BAD_FILE,
                              FILE_NAME ": the id of token \"%s\" in the vocabulary is no number",
                              berth_quote(shown, sizeof shown, token, len));
        }
        berth_status st = berth_load_token(rd->t, FILE_NAME, token, len, rd->r.text, rd->r.len, rd->err);
        if (st != BERTH_OK) return st;
    }
    return berth_load_index_vocab(rd->t, FILE_NAME, rd->err);
}

/* A merge spelled ["left", "right"]; the '[' has been read. */
static berth_status read_pair(reading *rd)
{
    if (berth_json_read(&rd->r) != BERTH_JSON_TEXT) return expected(rd, "a merge", "a pair of strings");
    const char *left = rd->r.text;
    size_t n_left = rd->r.len;
    if (left == rd->r.scratch.data) { /* the next string may overwrite it */
        rd->left.len = 0;
        if (!berth_buffer_append(&rd->left, left, n_left))
            return BERTH_FAIL(rd->err, BERTH_OUT_OF_MEMORY, FILE_NAME ": no memory for a merge");
        left = rd->left.data;
    }
    if (berth_json_read(&rd->r) != BERTH_JSON_TEXT) return expected(rd, "a merge", "a pair of strings");
    berth_status st = berth_load_merge(rd->t, FILE_NAME, left, n_left, rd->r.text, rd->r.len, &rd->scratch, rd->err);
    if (st != BERTH_OK) return st;
    return berth_json_read(&rd->r) == BERTH_JSON_END_ARRAY ? BERTH_OK : expected(rd, "a merge", "a pair of strings");
}

static berth_status read_merges(reading *rd)
{
    if (berth_json_read(&rd->r) != BERTH_JSON_BEGIN_ARRAY) return expected(rd, "model.merges", "an array of merges");
    for (;;) {
        berth_status st;
        switch (berth_json_read(&rd->r)) {
        case BERTH_JSON_END_ARRAY: return BERTH_OK;
        case BERTH_JSON_BEGIN_ARRAY: st = read_pair(rd); break;
        case BERTH_JSON_TEXT:
            st = berth_load_merge_line(rd->t, FILE_NAME, rd->r.text, rd->r.len, &rd->scratch, rd->err);
            break;
        default: return expected(rd, "a merge", "a string or a pair of strings");
        }
        if (st != BERTH_OK) return st;
    }
}

static berth_status read_late_merges(reading *rd)
{
    berth_json_reader outer = rd->r;
    berth_json_reader_init(&rd->r, rd->late_merges, rd->n_late_merges);
    berth_status st = read_merges(rd);
    berth_json_reader_deinit(&rd->r);
    rd->r = outer;
    return st;
}

static berth_status read_model_type(reading *rd)
{
    char shown[64];
    if (berth_json_read(&rd->r) != BERTH_JSON_TEXT) return expected(rd, "model.type", "a string");
    if (at(rd, "BPE")) return BERTH_OK;
    return unsupported(rd, "model type", berth_quote(shown, sizeof shown, rd->r.text, rd->r.len), "byte-level BPE");
}

/* Settings that must have their usual value, or be absent or null. */
static berth_status read_plain_setting(reading *rd, const char *key)
{
    berth_json_event event = berth_json_read(&rd->r);
    bool usual = event == BERTH_JSON_NIL || event == BERTH_JSON_FALSE || (event == BERTH_JSON_TEXT && !rd->r.len) ||
                 (event == BERTH_JSON_NUM && (at(rd, "0") || at(rd, "0.0")));
    if (usual) return BERTH_OK;
    if (event == BERTH_JSON_BEGIN_ARRAY || event == BERTH_JSON_BEGIN_OBJECT || rd->r.error)
        return expected(rd, key, "a plain value");
    char shown[64] = "true";
    if (event != BERTH_JSON_TRUE) berth_quote(shown, sizeof shown, rd->r.text, rd->r.len);
    return unsupported(rd, key, shown, "byte-level BPE without it");
}

static berth_status read_flag(reading *rd, const char *key, bool *out)
{
    berth_json_event event = berth_json_read(&rd->r);
    *out = event == BERTH_JSON_TRUE;
    if (event == BERTH_JSON_TRUE || event == BERTH_JSON_FALSE || event == BERTH_JSON_NIL) return BERTH_OK;
    return expected(rd, key, "true or false");
}

static berth_status read_model_merges(reading *rd)
{
    berth_status st = first_time(rd, SEEN_MERGES, "model.merges");
    if (st != BERTH_OK || rd->seen & SEEN_VOCAB) return st != BERTH_OK ? st : read_merges(rd);
    rd->late_merges = rd->r.at;
    st = skip(rd);
    rd->n_late_merges = (size_t)(rd->r.at - rd->late_merges);
    return st;
}

static berth_status read_model_member(reading *rd)
{
    berth_status st;
    if (at(rd, "type")) return (st = first_time(rd, SEEN_TYPE, "model.type")) != BERTH_OK ? st : read_model_type(rd);
    if (at(rd, "vocab")) return (st = first_time(rd, SEEN_VOCAB, "model.vocab")) != BERTH_OK ? st : read_vocab(rd);
    if (at(rd, "merges")) return read_model_merges(rd);
    if (at(rd, "dropout")) return read_plain_setting(rd, "model.dropout");
    if (at(rd, "continuing_subword_prefix")) return read_plain_setting(rd, "model.continuing_subword_prefix");
    if (at(rd, "end_of_word_suffix")) return read_plain_setting(rd, "model.end_of_word_suffix");
    if (at(rd, "byte_fallback")) return read_plain_setting(rd, "model.byte_fallback");
    if (at(rd, "ignore_merges")) return read_flag(rd, "model.ignore_merges", &rd->t->ignore_merges);
    return skip(rd);
}

static berth_status read_model(reading *rd)
{
    if (berth_json_read(&rd->r) != BERTH_JSON_BEGIN_OBJECT) return expected(rd, "model", "an object");
    for (;;) {
        berth_json_event event = berth_json_read(&rd->r);
        if (event == BERTH_JSON_END_OBJECT) break;
        if (event != BERTH_JSON_KEY) return bad_json(rd);
        berth_status st = read_model_member(rd);
        if (st != BERTH_OK) return st;
    }
    if (!(rd->seen & SEEN_VOCAB)) return BERTH_FAIL(rd->err, BERTH_BAD_FILE, FILE_NAME ": model.vocab is missing");
    if (!(rd->seen & SEEN_MERGES)) return BERTH_FAIL(rd->err, BERTH_BAD_FILE, FILE_NAME ": model.merges is missing");
    return rd->late_merges ? read_late_merges(rd) : BERTH_OK;
}

/* ---- added tokens ---- */

typedef struct added_fields {
    int64_t id;
    bool has_id, has_content, has_special, special, normalized, spaces;
} added_fields;

static berth_status read_added_member(reading *rd, added_fields *f)
{
    berth_status st;
    bool flag;
    if (at(rd, "id")) {
        if (berth_json_read(&rd->r) != BERTH_JSON_NUM || !berth_json_parse_u63(rd->r.text, rd->r.len, &f->id))
            return expected(rd, "the id of an added token", "an integer that is not negative");
        f->has_id = true;
        return BERTH_OK;
    }
    if (at(rd, "content")) {
        if (berth_json_read(&rd->r) != BERTH_JSON_TEXT)
            return expected(rd, "the content of an added token", "a string");
        rd->left.len = 0;
        f->has_content = true;
        return berth_buffer_append(&rd->left, rd->r.text, rd->r.len)
                   ? BERTH_OK
                   : BERTH_FAIL(rd->err, BERTH_OUT_OF_MEMORY, FILE_NAME ": no memory for an added token");
    }
    if (at(rd, "special")) {
        f->has_special = true;
        return read_flag(rd, "special of an added token", &f->special);
    }
    if (at(rd, "normalized")) return read_flag(rd, "normalized of an added token", &f->normalized);
    if (!at(rd, "lstrip") && !at(rd, "rstrip") && !at(rd, "single_word")) return skip(rd);
    st = read_flag(rd, "lstrip, rstrip or single_word of an added token", &flag);
    f->spaces = f->spaces || flag;
    return st;
}

/* One added token; its '{' has been read. */
static berth_status read_added_token(reading *rd)
{
    added_fields f = {0};
    char shown[64];
    for (;;) {
        berth_json_event event = berth_json_read(&rd->r);
        if (event == BERTH_JSON_END_OBJECT) break;
        if (event != BERTH_JSON_KEY) return bad_json(rd);
        berth_status st = read_added_member(rd, &f);
        if (st != BERTH_OK) return st;
    }
    if (!f.has_content || !f.has_id || !f.has_special)
        return BERTH_FAIL(rd->err, BERTH_BAD_FILE, FILE_NAME ": %s is missing from an added token",
                          !f.has_content ? "content"
                          : !f.has_id    ? "id"
                                         : "special");
    if (f.spaces)
        return unsupported(rd, "lstrip, rstrip or single_word of added token",
                           berth_quote(shown, sizeof shown, rd->left.data, rd->left.len), "added tokens without them");
    return berth_load_added(rd->t, FILE_NAME, rd->left.data, rd->left.len, f.id, f.special, f.normalized, rd->err);
}

static berth_status read_added_tokens(reading *rd)
{
    berth_json_event event = berth_json_read(&rd->r);
    if (event == BERTH_JSON_NIL) return BERTH_OK;
    if (event != BERTH_JSON_BEGIN_ARRAY) return expected(rd, "added_tokens", "an array");
    for (;;) {
        event = berth_json_read(&rd->r);
        if (event == BERTH_JSON_END_ARRAY) return BERTH_OK;
        if (event != BERTH_JSON_BEGIN_OBJECT) return expected(rd, "an added token", "an object");
        berth_status st = read_added_token(rd);
        if (st != BERTH_OK) return st;
    }
}

/* ---- the whole ---- */

static const char *const rule_keys[] = {"normalizer", "pre_tokenizer", "post_processor", "decoder"};
enum { N_RULE_KEYS = sizeof rule_keys / sizeof *rule_keys };

static berth_status read_rule(reading *rd, int which)
{
    if (rd->seen_rules & 1u << which)
        return BERTH_FAIL(rd->err, BERTH_BAD_FILE, FILE_NAME ": the key %s occurs twice", rule_keys[which]);
    rd->seen_rules |= 1u << which;
    const char *begin = rd->r.at;
    berth_status st = skip(rd);
    return st == BERTH_OK ? berth_load_rule(rd->t, rule_keys[which], begin, (size_t)(rd->r.at - begin), rd->err) : st;
}

static berth_status read_version(reading *rd)
{
    char shown[64];
    if (berth_json_read(&rd->r) != BERTH_JSON_TEXT) return expected(rd, "version", "a string");
    if (at(rd, "1.0")) return BERTH_OK;
    return unsupported(rd, "version", berth_quote(shown, sizeof shown, rd->r.text, rd->r.len), "version 1.0");
}

static berth_status read_member(reading *rd)
{
    berth_status st;
    for (int i = 0; i < N_RULE_KEYS; i++)
        if (at(rd, rule_keys[i])) return read_rule(rd, i);
    if (at(rd, "version")) return (st = first_time(rd, SEEN_VERSION, "version")) != BERTH_OK ? st : read_version(rd);
    if (at(rd, "model")) return (st = first_time(rd, SEEN_MODEL, "model")) != BERTH_OK ? st : read_model(rd);
    if (at(rd, "added_tokens"))
        return (st = first_time(rd, SEEN_ADDED, "added_tokens")) != BERTH_OK ? st : read_added_tokens(rd);
    return skip(rd);
}

static berth_status read_file(reading *rd)
{
    if (berth_json_read(&rd->r) != BERTH_JSON_BEGIN_OBJECT)
        return expected(rd, "the file", "a JSON object with a model");
    for (;;) {
        berth_json_event event = berth_json_read(&rd->r);
        if (event == BERTH_JSON_END_OBJECT) break;
        if (event != BERTH_JSON_KEY) return bad_json(rd);
        berth_status st = read_member(rd);
        if (st != BERTH_OK) return st;
    }
    if (berth_json_read(&rd->r) != BERTH_JSON_END) return bad_json(rd);
    if (!(rd->seen & SEEN_MODEL)) return BERTH_FAIL(rd->err, BERTH_BAD_FILE, FILE_NAME ": the key model is missing");
    for (int i = 1; i < N_RULE_KEYS; i += 2) /* without a pre-tokenizer or decoder it is not byte-level */
        if (!(rd->seen_rules & 1u << i))
            return BERTH_FAIL(rd->err, BERTH_UNSUPPORTED,
                              FILE_NAME ": the key %s is missing; berth runs byte-level BPE", rule_keys[i]);
    return BERTH_OK;
}

berth_status berth_tokenizer_load_json(const char *dir, berth_tokenizer *t, berth_error *err)
{
    char *data = NULL;
    size_t size = 0;
    berth_status st = berth_file_read_in(dir, FILE_NAME, BERTH_TOKENIZER_FILE_MAX, &data, &size, err);
    if (st != BERTH_OK) return st;
    reading rd = {.t = t, .err = err};
    berth_json_reader_init(&rd.r, data, size);
    st = read_file(&rd);
    berth_json_reader_deinit(&rd.r);
    berth_buffer_deinit(&rd.scratch);
    berth_buffer_deinit(&rd.left);
    free(data);
    static const berth_load_files files = {FILE_NAME, FILE_NAME, FILE_NAME};
    return st == BERTH_OK ? berth_load_finish(t, &files, err) : st;
}
