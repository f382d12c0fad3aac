/* chat_rows.c - conversations out of rows, handed to text/chat. */
#include "cli/chat_rows.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "cli/rows.h"
#include "text/chat.h"

/* What a row's conversation is made of; texts are borrowed from the row. */
typedef struct conversation {
    berth_message *messages;
    berth_internvl_turn *history;
    berth_part *parts;
    int32_t *tiles;
    int32_t n_messages, n_history;
} conversation;

static void conversation_deinit(conversation *c)
{
    free(c->messages);
    free(c->history);
    free(c->parts);
    free(c->tiles);
}

bool cli_is_chat_row(const berth_json_node *row)
{
    return berth_json_get(row, "layout") != NULL;
}

static berth_status no_memory(berth_error *err)
{
    return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a conversation");
}

static berth_status form_of(const berth_json_node *row, berth_chat_form *out, berth_error *err)
{
    static const struct {
        const char *name;
        berth_chat_form form;
    } forms[] = {{"internvl2_5", BERTH_CHAT_INTERNVL2_5},
                 {"native", BERTH_CHAT_NATIVE},
                 {"qwen2.5", BERTH_CHAT_QWEN2_5},
                 {"qwen3", BERTH_CHAT_QWEN3}};
    const char *name = berth_json_as_string(berth_json_get(row, "layout"));
    for (size_t i = 0; name != NULL && i < sizeof forms / sizeof forms[0]; i++) {
        if (strcmp(name, forms[i].name) != 0) continue;
        *out = forms[i].form;
        return BERTH_OK;
    }
    return BERTH_FAIL(err, BERTH_BAD_FILE, "layout \"%s\" is not one of internvl2_5, native, qwen2.5 and qwen3",
                      name != NULL ? name : "(not a string)");
}

static berth_status text_part(const berth_json_node *node, const char *what, berth_part *out, berth_error *err)
{
    const char *text = berth_json_as_string(node);
    if (text == NULL) return BERTH_FAIL(err, BERTH_BAD_FILE, "%s must be a string", what);
    *out = (berth_part){.kind = BERTH_PART_TEXT, .text = text, .len = strlen(text)};
    return BERTH_OK;
}

static berth_status read_tiles(const berth_json_node *row, conversation *c, berth_prompt_options *o, berth_error *err)
{
    const berth_json_node *list = berth_json_get(row, "tiles");
    const size_t n = berth_json_size(list);
    if (list != NULL && berth_json_type_of(list) != BERTH_JSON_ARRAY)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "tiles must be an array: the tiles of each picture");
    c->tiles = calloc(n + 1, sizeof *c->tiles);
    if (c->tiles == NULL) return no_memory(err);
    for (const berth_json_node *p = berth_json_first(list); p != NULL; p = berth_json_next(p)) {
        int64_t tiles;
        if (!berth_json_as_i64(p, &tiles) || tiles < 1 || tiles > 1 << 20)
            return BERTH_FAIL(err, BERTH_BAD_FILE, "tiles must be whole numbers between 1 and 1048576");
        c->tiles[o->n_images++] = (int32_t)tiles;
    }
    o->tiles = c->tiles;
    o->tokens_per_tile = 256; /* of the published InternVL3 models */
    return cli_row_int(row, "tokens_per_tile", 1, 1 << 20, &o->tokens_per_tile, err);
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static berth_status read_part(const berth_json_node *node, berth_part *out, berth_error *err)
{
    const char *type = berth_json_as_string(berth_json_get(node, "type"));
    if (type != NULL && strcmp(type, "text") == 0)
        return text_part(berth_json_get(node, "text"), "the text of a text part", out, err);
    *out = (berth_part){.kind = BERTH_PART_IMAGE};
    if (type != NULL && strcmp(type, "image") == 0) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_BAD_FILE, "a message's part is of type \"text\" or \"image\"");
}

static berth_status read_messages(const berth_json_node *list, conversation *c, berth_error *err)
{
    size_t n_parts = 0;
    for (const berth_json_node *m = berth_json_first(list); m != NULL; m = berth_json_next(m))
        n_parts += 1 + berth_json_size(berth_json_get(m, "content"));
    c->messages = calloc(berth_json_size(list) + 1, sizeof *c->messages);
    c->parts = calloc(n_parts + 1, sizeof *c->parts);
    if (c->messages == NULL || c->parts == NULL) return no_memory(err);
    berth_part *next = c->parts;
    for (const berth_json_node *m = berth_json_first(list); m != NULL; m = berth_json_next(m)) {
        const berth_json_node *content = berth_json_get(m, "content");
        berth_message *message = &c->messages[c->n_messages++];
        *message = (berth_message){.role = berth_json_as_string(berth_json_get(m, "role")), .parts = next};
        if (message->role == NULL) return BERTH_FAIL(err, BERTH_BAD_FILE, "every message needs a role");
        berth_status st = BERTH_OK;
        if (berth_json_type_of(content) != BERTH_JSON_ARRAY) {
            st = text_part(content, "a message's content (or an array of parts)", next++, err);
        } else {
            for (const berth_json_node *p = berth_json_first(content); st == BERTH_OK && p; p = berth_json_next(p))
                st = read_part(p, next++, err);
        }
        if (st != BERTH_OK) return st;
        message->n_parts = (int32_t)(next - message->parts);
    }
    return BERTH_OK;
}

/* ---- chat()'s arguments ------------------------------------------------------------------------------------------ */

static berth_status read_history(const berth_json_node *list, conversation *c, berth_error *err)
{
    if (berth_json_type_of(list) != BERTH_JSON_ARRAY)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "history must be null or an array of [question, answer]");
    c->history = calloc(berth_json_size(list) + 1, sizeof *c->history);
    if (c->history == NULL) return no_memory(err);
    for (const berth_json_node *p = berth_json_first(list); p != NULL; p = berth_json_next(p)) {
        const berth_json_node *question = berth_json_first(p);
        berth_internvl_turn *turn = &c->history[c->n_history++];
        if (berth_json_type_of(p) != BERTH_JSON_ARRAY || berth_json_size(p) != 2)
            return BERTH_FAIL(err, BERTH_BAD_FILE, "history must be null or an array of [question, answer]");
        berth_status st = text_part(question, "a question of history", &turn->question, err);
        if (st == BERTH_OK) st = text_part(berth_json_next(question), "an answer of history", &turn->answer, err);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

static berth_status chat_call_ids(const berth_tokenizer *t, const berth_json_node *row, conversation *c,
                                  const berth_prompt_options *o, berth_ids *ids, berth_error *err)
{
    const berth_json_node *system = berth_json_get(row, "system"), *history = berth_json_get(row, "history");
    berth_internvl_chat chat = {.has_history = berth_json_type_of(history) != BERTH_JSON_NULL};
    berth_part system_part;
    berth_status st = text_part(berth_json_get(row, "question"), "question", &chat.question, err);
    if (st == BERTH_OK && berth_json_type_of(system) != BERTH_JSON_NULL) {
        st = text_part(system, "system", &system_part, err);
        chat.system = &system_part;
    }
    if (st == BERTH_OK && chat.has_history) st = read_history(history, c, err);
    chat.history = c->history;
    chat.n_history = c->n_history;
    return st == BERTH_OK ? berth_internvl_chat_ids(t, &chat, o, ids, NULL, err) : st;
}

berth_status cli_chat_row_ids(const berth_tokenizer *t, const berth_json_node *row, berth_ids *ids,
                              berth_buffer *spelled, berth_buffer *expanded, berth_error *err)
{
    conversation c = {0};
    berth_prompt_options o = {.text_may_hold_tokens = true, .out_spelled = spelled, .out_expanded = expanded};
    bool generation_prompt = true;
    const berth_json_node *messages = berth_json_get(row, "messages");
    berth_status st = form_of(row, &o.form, err);
    if (st == BERTH_OK) st = read_tiles(row, &c, &o, err);
    if (st == BERTH_OK) st = cli_row_bool(row, "generation_prompt", &generation_prompt, err);
    o.no_generation_prompt = !generation_prompt;
    if (st != BERTH_OK) {
    } else if (messages == NULL && o.form == BERTH_CHAT_INTERNVL2_5) {
        st = chat_call_ids(t, row, &c, &o, ids, err);
    } else if (berth_json_type_of(messages) != BERTH_JSON_ARRAY) {
        st = BERTH_FAIL(err, BERTH_BAD_FILE, "a conversation needs messages, an array");
    } else {
        st = read_messages(messages, &c, err);
        if (st == BERTH_OK) st = berth_prompt_ids(t, c.messages, c.n_messages, &o, ids, NULL, err);
    }
    conversation_deinit(&c);
    return st;
}
