/* cmd_tokenize.c - `berth tokenize` and `berth detokenize`: text to ids and back, plain or as JSON rows.
 *
 * Plain text is what a user would type, so no special token is seen in it unless --special asks for that; a row says
 * itself what it wants. Text that is not UTF-8 is refused when plain; in a row its broken parts become U+FFFD and the
 * answer says "valid": false. */
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "base/status.h"
#include "base/utf8.h"
#include "cli/chat_rows.h"
#include "cli/rows.h"
#include "model/model.h"
#include "text/chat.h"
#include "text/tokenizer.h"

enum {
    MANY_IDS = 400, /* from here on a row's answer also has their count, hash and ends */
    ENDS = 8,
};
#define STDIN_MAX_BYTES ((size_t)1 << 30)

static berth_status open_tokenizer(const cli_args *a, berth_tokenizer **out, berth_error *err)
{
    *out = NULL;
    if (a->set[OPT_MODEL]) {
        berth_status st = berth_model_dir_check(a->text[OPT_MODEL], err);
        return st == BERTH_OK ? berth_tokenizer_open(a->text[OPT_MODEL], out, err) : st;
    }
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                      "no tokenizer given; -m DIR names a folder with tokenizer.json\nusage: %s",
                      cli_commands[a->command].usage);
}

/* ---- tokenize ---------------------------------------------------------------------------------------------------- */

static berth_status match_of(const berth_json_node *row, berth_match *out, berth_error *err)
{
    static const char *const names[] = {
        [BERTH_MATCH_NONE] = "none", [BERTH_MATCH_NONSPECIAL] = "nonspecial", [BERTH_MATCH_ALL] = "all"};
    bool special = true;
    berth_status st = cli_row_bool(row, "special", &special, err);
    if (st != BERTH_OK) return st;
    const berth_json_node *node = berth_json_get(row, "match");
    *out = special ? BERTH_MATCH_ALL : BERTH_MATCH_NONSPECIAL;
    if (node == NULL) return BERTH_OK;
    const char *text = berth_json_as_string(node);
    for (size_t i = 0; text != NULL && i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) != 0) continue;
        *out = (berth_match)i;
        return BERTH_OK;
    }
    return BERTH_FAIL(err, BERTH_BAD_FILE, "match is one of \"all\", \"nonspecial\" and \"none\"");
}

/* Ids as little-endian uint32, hashed. */
static berth_status put_ids_hash(const berth_ids *ids, berth_buffer *out, berth_error *err)
{
    char hex[65];
    unsigned char *bytes = malloc(ids->len * 4);
    if (bytes == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory to hash %zu ids", ids->len);
    for (size_t i = 0; i < ids->len; i++) {
        for (int k = 0; k < 4; k++) bytes[4 * i + (size_t)k] = (unsigned char)((uint32_t)ids->data[i] >> 8 * k);
    }
    const bool hashed = berth_sha256_hex(bytes, ids->len * 4, hex);
    free(bytes);
    if (!hashed) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "hashing %zu ids failed", ids->len);
    berth_buffer_printf(out, ",\"ids_sha256\":\"%s\"", hex);
    return BERTH_OK;
}

static berth_status put_ids(const berth_ids *ids, berth_buffer *out, berth_error *err)
{
    berth_buffer_puts(out, "\"ids\":");
    cli_put_ints(out, ids->data, ids->len);
    if (ids->len <= MANY_IDS) return BERTH_OK;
    berth_buffer_printf(out, ",\"n_ids\":%zu", ids->len);
    berth_status st = put_ids_hash(ids, out, err);
    berth_buffer_puts(out, ",\"ids_head\":");
    cli_put_ints(out, ids->data, ENDS);
    berth_buffer_puts(out, ",\"ids_tail\":");
    cli_put_ints(out, ids->data + ids->len - ENDS, ENDS);
    return st;
}

static berth_status encode_row(const berth_tokenizer *t, const berth_json_node *row, const berth_buffer *text,
                               berth_buffer *out, berth_error *err)
{
    berth_match match;
    berth_ids ids = {0};
    berth_buffer repaired = {0};
    const bool valid = text->len == 0 || berth_utf8_valid(text->data, text->len);
    berth_status st = match_of(row, &match, err);
    if (st == BERTH_OK && !valid && !berth_text_repair(text->data, text->len, &repaired))
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory to repair a text of %zu bytes", text->len);
    const berth_buffer *used = valid ? text : &repaired;
    if (st == BERTH_OK)
        st = berth_tokenizer_encode(t, used->data != NULL ? used->data : "", used->len, match, &ids, err);
    if (st == BERTH_OK) st = put_ids(&ids, out, err);
    if (!valid) berth_buffer_puts(out, ",\"valid\":false");
    berth_buffer_deinit(&repaired);
    berth_ids_deinit(&ids);
    return st;
}

/* A conversation's ids, its prompt with a placeholder a picture, and the hash of the prompt in full. */
static berth_status chat_row(const berth_tokenizer *t, const berth_json_node *row, berth_buffer *out, berth_error *err)
{
    berth_ids ids = {0};
    berth_buffer spelled = {0}, expanded = {0};
    char hex[65];
    berth_status st = cli_chat_row_ids(t, row, &ids, &spelled, &expanded, err);
    if (st == BERTH_OK) st = put_ids(&ids, out, err);
    if (st == BERTH_OK && !berth_sha256_hex(expanded.data, expanded.len, hex))
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "hashing a prompt of %zu bytes failed", expanded.len);
    if (st == BERTH_OK) {
        berth_buffer_puts(out, ",\"prompt\":");
        cli_put_string(out, spelled.data, spelled.len);
        berth_buffer_printf(out, ",\"expanded_sha256\":\"%s\"", hex);
    }
    berth_buffer_deinit(&spelled);
    berth_buffer_deinit(&expanded);
    berth_ids_deinit(&ids);
    return st;
}

static berth_status tokenize_row(void *user, const berth_json_node *row, berth_buffer *out, berth_error *err)
{
    const berth_tokenizer *t = user;
    berth_buffer text = {0};
    bool found;
    berth_status st = cli_row_bytes(row, &text, &found, err);
    if (st == BERTH_OK && found) {
        st = encode_row(t, row, &text, out, err);
    } else if (st == BERTH_OK && cli_is_chat_row(row)) {
        st = chat_row(t, row, out, err);
    } else if (st == BERTH_OK) {
        st = BERTH_FAIL(err, BERTH_BAD_FILE, "a row needs text, hex or parts, or layout with a conversation");
    }
    berth_buffer_deinit(&text);
    return st;
}

/* Standard input, every byte of it (a newline at its end too), to one line of ids. */
static berth_status tokenize_stdin(const berth_tokenizer *t, bool special, berth_buffer *out, berth_error *err)
{
    char *text;
    size_t n;
    berth_ids ids = {0};
    berth_status st = cli_read_stdin(STDIN_MAX_BYTES, &text, &n, err);
    if (st != BERTH_OK) return st;
    st = berth_tokenizer_encode(t, text, n, special ? BERTH_MATCH_ALL : BERTH_MATCH_NONE, &ids, err);
    if (st == BERTH_INVALID_ARGUMENT) { /* the text's fault, not the command line's */
        st = err->status = BERTH_BAD_FILE;
        berth_error_prefix(err, "standard input: ");
    }
    for (size_t i = 0; st == BERTH_OK && i < ids.len; i++)
        berth_buffer_printf(out, "%s%d", i ? " " : "", (int)ids.data[i]);
    berth_buffer_putc(out, '\n');
    berth_ids_deinit(&ids);
    free(text);
    return st == BERTH_OK ? cli_put_check(out, err) : st;
}

cli_exit cmd_tokenize(const cli_args *a)
{
    berth_error err = {0};
    berth_tokenizer *t;
    if (open_tokenizer(a, &t, &err) != BERTH_OK) return cli_fail(&err);
    cli_exit code;
    if (a->set[OPT_JSONL]) {
        code = cli_rows(tokenize_row, t);
    } else {
        berth_buffer out = {0};
        if (tokenize_stdin(t, a->set[OPT_SPECIAL], &out, &err) != BERTH_OK) {
            code = cli_fail(&err);
        } else {
            code = cli_write(out.data, out.len) ? EXIT_OK : EXIT_RUN;
        }
        berth_buffer_deinit(&out);
    }
    berth_tokenizer_close(t);
    return code;
}

/* ---- detokenize -------------------------------------------------------------------------------------------------- */

static berth_status ids_of(const berth_json_node *row, berth_ids *out, berth_error *err)
{
    const berth_json_node *list = berth_json_get(row, "ids");
    if (berth_json_type_of(list) != BERTH_JSON_ARRAY)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "a row needs ids, an array of numbers");
    if (!berth_ids_reserve(out, berth_json_size(list)))
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for ids");
    size_t i = 0;
    for (const berth_json_node *n = berth_json_first(list); n != NULL; n = berth_json_next(n), i++) {
        int64_t id;
        if (!berth_json_as_i64(n, &id) || id < 0 || id > INT32_MAX)
            return BERTH_FAIL(err, BERTH_BAD_FILE, "ids[%zu] is not a whole number between 0 and 2147483647", i);
        berth_ids_push(out, (int32_t)id);
    }
    return BERTH_OK;
}

/* The bytes of the tokens joined, where they are not the text's own (broken UTF-8). */
static void put_bytes(const berth_tokenizer *t, const berth_ids *ids, bool skip_special, const berth_buffer *text,
                      berth_buffer *out)
{
    berth_buffer bytes = {0};
    for (size_t i = 0; i < ids->len; i++) {
        size_t len;
        bool special;
        const char *token = berth_tokenizer_token(t, ids->data[i], &len, &special);
        if (token != NULL && !(special && skip_special)) berth_buffer_append(&bytes, token, len);
    }
    if (bytes.failed) out->failed = true;
    const char *spelled = bytes.data != NULL ? bytes.data : "", *shown = text->data != NULL ? text->data : "";
    if (bytes.len != text->len || memcmp(spelled, shown, bytes.len) != 0) {
        berth_buffer_puts(out, ",\"bytes\":");
        cli_put_hex(out, spelled, bytes.len);
    }
    berth_buffer_deinit(&bytes);
}

/* How many bytes may be shown after each id, and at the end. */
static void put_steps(const berth_tokenizer *t, const berth_ids *ids, bool skip_special, berth_buffer *out)
{
    berth_stream_decoder decoder;
    berth_buffer fresh = {0};
    bool ok = true;
    berth_stream_decoder_init(&decoder, t, skip_special);
    berth_buffer_puts(out, ",\"steps\":[");
    for (size_t i = 0; i < ids->len; i++) {
        fresh.len = 0;
        ok = berth_stream_decoder_push(&decoder, ids->data[i], &fresh) && ok;
        berth_buffer_printf(out, "%s%zu", i ? "," : "", fresh.len);
    }
    fresh.len = 0;
    ok = berth_stream_decoder_flush(&decoder, &fresh) && ok;
    berth_buffer_printf(out, "],\"flush\":%zu", fresh.len);
    if (!ok) out->failed = true;
    berth_buffer_deinit(&fresh);
}

static berth_status put_answer(const berth_tokenizer *t, const berth_ids *ids, berth_buffer *out, berth_error *err)
{
    berth_buffer answer = {0};
    berth_status st = berth_tokenizer_decode(t, ids->data, ids->len, true, &answer, err);
    if (st == BERTH_OK) {
        berth_answer_strip(&answer);
        berth_buffer_puts(out, ",\"answer\":");
        cli_put_string(out, answer.data, answer.len);
    }
    berth_buffer_deinit(&answer);
    return st;
}

static berth_status detokenize_row(void *user, const berth_json_node *row, berth_buffer *out, berth_error *err)
{
    const berth_tokenizer *t = user;
    berth_ids ids = {0};
    berth_buffer text = {0};
    bool skip_special = false;
    berth_status st = cli_row_bool(row, "skip_special", &skip_special, err);
    if (st == BERTH_OK) st = ids_of(row, &ids, err);
    if (st == BERTH_OK) st = berth_tokenizer_decode(t, ids.data, ids.len, skip_special, &text, err);
    if (st == BERTH_OK) {
        const char *data = text.data != NULL ? text.data : "";
        const bool has_nul = memchr(data, '\0', text.len) != NULL;
        berth_buffer_puts(out, has_nul ? "\"text_hex\":" : "\"text\":");
        if (has_nul) {
            cli_put_hex(out, data, text.len);
        } else {
            cli_put_string(out, data, text.len);
        }
        put_bytes(t, &ids, skip_special, &text, out);
        put_steps(t, &ids, skip_special, out);
        if (berth_json_get(row, "answer") != NULL) st = put_answer(t, &ids, out, err);
    }
    berth_buffer_deinit(&text);
    berth_ids_deinit(&ids);
    return st;
}

/* Numbers set apart by blanks, newlines or commas. */
static berth_status read_ids(const char *text, size_t n, berth_ids *out, berth_error *err)
{
    size_t i = 0;
    while (i < n) {
        if (strchr(" \t\r\n,", text[i]) != NULL && text[i] != '\0') {
            i++;
            continue;
        }
        int64_t id = 0;
        const size_t begin = i;
        for (; i < n && text[i] >= '0' && text[i] <= '9' && id <= INT32_MAX; i++) id = id * 10 + (text[i] - '0');
        if (i == begin || id > INT32_MAX || (i < n && (text[i] == '\0' || strchr(" \t\r\n,", text[i]) == NULL))) {
            return BERTH_FAIL(err, BERTH_BAD_FILE,
                              "standard input: at byte %zu stands no token id (ids are whole numbers between 0 and "
                              "2147483647, set apart by blanks or commas)",
                              begin);
        }
        if (!berth_ids_push(out, (int32_t)id)) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for ids");
    }
    return BERTH_OK;
}

static berth_status detokenize_stdin(const berth_tokenizer *t, berth_buffer *out, berth_error *err)
{
    char *text;
    size_t n;
    berth_ids ids = {0};
    berth_status st = cli_read_stdin(STDIN_MAX_BYTES, &text, &n, err);
    if (st != BERTH_OK) return st;
    st = read_ids(text, n, &ids, err);
    if (st == BERTH_OK) st = berth_tokenizer_decode(t, ids.data, ids.len, false, out, err);
    berth_ids_deinit(&ids);
    free(text);
    return st;
}

cli_exit cmd_detokenize(const cli_args *a)
{
    berth_error err = {0};
    berth_tokenizer *t;
    if (open_tokenizer(a, &t, &err) != BERTH_OK) return cli_fail(&err);
    cli_exit code;
    if (a->set[OPT_JSONL]) {
        code = cli_rows(detokenize_row, t);
    } else {
        berth_buffer out = {0};
        if (detokenize_stdin(t, &out, &err) != BERTH_OK) {
            code = cli_fail(&err);
        } else {
            code = cli_write(out.data, out.len) ? EXIT_OK : EXIT_RUN;
        }
        berth_buffer_deinit(&out);
    }
    berth_tokenizer_close(t);
    return code;
}
