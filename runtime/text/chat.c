/* chat.c - the prompt forms, each a paragraph of template. See chat.h for what they mean. */
#include "text/chat.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "text/prompt.h"
#include "text/tokenizer_internal.h"

#define START "<|im_start|>"
#define END   "<|im_end|>"

/* Source: InternVL conversation.py, `internvl2_5`; 58 characters. */
static const char internvl_system[] =
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。";
/* Source: tokenizer_config.json of Qwen2.5-Instruct and of Qwen2-Instruct. */
static const char qwen2_5_system[] = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
static const char qwen2_system[] = "You are a helpful assistant.";

static void open_turn(berth_prompt *p, const char *role)
{
    berth_prompt_token(p, START);
    berth_prompt_puts(p, role);
    berth_prompt_puts(p, "\n");
}

static void close_turn(berth_prompt *p)
{
    berth_prompt_token(p, END);
    berth_prompt_puts(p, "\n");
}

static void put_turn(berth_prompt *p, const char *role, const char *text)
{
    open_turn(p, role);
    berth_prompt_puts(p, text);
    close_turn(p);
}

static bool is_role(const berth_message *m, const char *role)
{
    return strcmp(m->role, role) == 0;
}

static bool begins_with_system(const berth_message *messages, int32_t n)
{
    return n > 0 && is_role(&messages[0], "system");
}

static void put_text_parts(berth_prompt *p, const berth_message *m)
{
    for (int32_t i = 0; i < m->n_parts; i++)
        if (m->parts[i].kind == BERTH_PART_TEXT) berth_prompt_text(p, m->parts[i].text, m->parts[i].len);
}

/* All text parts as one, appended. */
static bool gather_text(const berth_message *m, berth_buffer *out)
{
    bool ok = berth_buffer_append(out, "", 0);
    for (int32_t i = 0; i < m->n_parts && ok; i++)
        if (m->parts[i].kind == BERTH_PART_TEXT) ok = berth_buffer_append(out, m->parts[i].text, m->parts[i].len);
    return ok;
}

/* ---- internvl2_5 ---- */

static bool has_tag(berth_prompt *p, const berth_message *m)
{
    berth_buffer text = {0};
    if (!gather_text(m, &text)) berth_prompt_fail(p, BERTH_OUT_OF_MEMORY, "no memory for the prompt");
    bool found = text.len && memmem(text.data, text.len, "<image>", 7);
    berth_buffer_deinit(&text);
    return found;
}

static void put_internvl_content(berth_prompt *p, const berth_message *m)
{
    bool tagged = p->tags_take_images && has_tag(p, m);
    for (int32_t i = 0; i < m->n_parts && !tagged; i++) {
        if (m->parts[i].kind != BERTH_PART_IMAGE) continue;
        berth_prompt_image(p);
        berth_prompt_puts(p, "\n");
    }
    put_text_parts(p, m);
}

static void put_internvl_turn(berth_prompt *p, const berth_message *m)
{
    bool empty = true;
    for (int32_t i = 0; i < m->n_parts; i++) empty = empty && m->parts[i].kind == BERTH_PART_TEXT && !m->parts[i].len;
    open_turn(p, m->role);
    if (empty && !is_role(m, "system")) return;
    put_internvl_content(p, m);
    close_turn(p);
}

static void put_internvl(berth_prompt *p, const berth_message *messages, int32_t n)
{
    if (!begins_with_system(messages, n)) put_turn(p, "system", internvl_system);
    for (int32_t i = 0; i < n; i++) put_internvl_turn(p, &messages[i]);
}

/* ---- native, qwen2.5, qwen3 ---- */

static void put_native(berth_prompt *p, const berth_message *messages, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        const berth_message *m = &messages[i];
        open_turn(p, m->role);
        for (int32_t k = 0; k < m->n_parts; k++) {
            if (m->parts[k].kind == BERTH_PART_TEXT) {
                berth_prompt_text(p, m->parts[k].text, m->parts[k].len);
            } else {
                berth_prompt_image(p);
                berth_prompt_puts(p, "\n");
            }
        }
        close_turn(p);
    }
}

static void put_qwen2_5(berth_prompt *p, const berth_message *messages, int32_t n)
{
    const berth_template_system system = p->t->template_system;
    if (!begins_with_system(messages, n) && system != BERTH_TEMPLATE_SILENT)
        put_turn(p, "system", system == BERTH_TEMPLATE_QWEN2 ? qwen2_system : qwen2_5_system);
    for (int32_t i = 0; i < n; i++) {
        open_turn(p, messages[i].role);
        put_text_parts(p, &messages[i]);
        close_turn(p);
    }
}

/* A token of the template that older tokenizers of the family spell as text. */
static void put_mark(berth_prompt *p, const char *mark)
{
    if (berth_tokenizer_special_id(p->t, mark) >= 0)
        berth_prompt_token(p, mark);
    else
        berth_prompt_puts(p, mark);
}

typedef struct span {
    const char *at;
    size_t len;
} span;

static span strip_newlines(span s, bool front, bool back)
{
    while (front && s.len && s.at[0] == '\n') s = (span){s.at + 1, s.len - 1};
    while (back && s.len && s.at[s.len - 1] == '\n') s.len--;
    return s;
}

/* The place behind the last `mark` in s, or NULL. */
static const char *behind_last(span s, const char *mark)
{
    const char *found = NULL;
    size_t n = strlen(mark);
    for (const char *at = s.at; (at = memmem(at, (size_t)(s.at + s.len - at), mark, n)); at += n) found = at + n;
    return found;
}

/* An answer with its thinking taken apart. Source: Qwen3 chat_template: content.split('</think>'), and so on. */
static void put_qwen3_answer(berth_prompt *p, span text, bool behind_last_query, bool last)
{
    span thought = {text.at, 0}, said = text;
    const char *said_at = behind_last(text, "</think>");
    if (said_at) {
        said = strip_newlines((span){said_at, (size_t)(text.at + text.len - said_at)}, true, false);
        const char *end = memmem(text.at, text.len, "</think>", 8);
        thought.len = (size_t)(end - text.at);
        thought = strip_newlines(thought, false, true);
        const char *begin = behind_last(thought, "<think>");
        if (begin) thought = (span){begin, (size_t)(thought.at + thought.len - begin)};
        thought = strip_newlines(thought, true, true);
    }
    if (behind_last_query && (last || thought.len)) {
        put_mark(p, "<think>");
        berth_prompt_puts(p, "\n");
        berth_prompt_text(p, thought.at, thought.len);
        berth_prompt_puts(p, "\n");
        put_mark(p, "</think>");
        berth_prompt_puts(p, "\n\n");
        said = strip_newlines(said, true, false);
    }
    berth_prompt_text(p, said.at, said.len);
}

static void put_qwen3(berth_prompt *p, const berth_message *messages, int32_t n)
{
    int32_t last_query = n - 1;
    while (last_query > 0 && !is_role(&messages[last_query], "user")) last_query--;
    for (int32_t i = 0; i < n; i++) {
        berth_buffer text = {0};
        open_turn(p, messages[i].role);
        if (!gather_text(&messages[i], &text))
            berth_prompt_fail(p, BERTH_OUT_OF_MEMORY, "no memory for the prompt");
        else if (is_role(&messages[i], "assistant"))
            put_qwen3_answer(p, (span){text.data, text.len}, i > last_query, i + 1 == n);
        else
            berth_prompt_text(p, text.data, text.len);
        berth_buffer_deinit(&text);
        close_turn(p);
    }
}

static void put_generation_prompt(berth_prompt *p)
{
    open_turn(p, "assistant");
    if (p->options->form != BERTH_CHAT_QWEN3 || !p->options->no_thinking) return;
    put_mark(p, "<think>");
    berth_prompt_puts(p, "\n\n");
    put_mark(p, "</think>");
    berth_prompt_puts(p, "\n\n");
}

/* ---- the door ---- */

static berth_status check_messages(const berth_message *messages, int32_t n, const berth_prompt_options *o,
                                   berth_error *err)
{
    int64_t n_images = 0;
    for (int32_t i = 0; i < n; i++) {
        const berth_message *m = &messages[i];
        if (!m->role) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "message %" PRId32 " has no role", i + 1);
        if (!is_role(m, "system") && !is_role(m, "user") && !is_role(m, "assistant")) {
            char shown[64];
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                              "message %" PRId32 " has the role \"%s\"; roles are system, user, assistant", i + 1,
                              berth_quote(shown, sizeof shown, m->role, strlen(m->role)));
        }
        for (int32_t k = 0; k < m->n_parts; k++) n_images += m->parts[k].kind == BERTH_PART_IMAGE;
    }
    if (n_images && (o->form == BERTH_CHAT_QWEN2_5 || o->form == BERTH_CHAT_QWEN3))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "this model reads text only; the messages have %" PRId64 " pictures", n_images);
    if (n_images != o->n_images)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "the messages have %" PRId64 " image parts, but %" PRId32 " pictures were given", n_images,
                          o->n_images);
    return BERTH_OK;
}

static void put_form(berth_prompt *p, const berth_message *messages, int32_t n)
{
    switch (p->options->form) {
    case BERTH_CHAT_INTERNVL2_5: put_internvl(p, messages, n); break;
    case BERTH_CHAT_NATIVE: put_native(p, messages, n); break;
    case BERTH_CHAT_QWEN2_5: put_qwen2_5(p, messages, n); break;
    case BERTH_CHAT_QWEN3: put_qwen3(p, messages, n); break;
    default: berth_prompt_fail(p, BERTH_INVALID_ARGUMENT, "no such prompt form"); break;
    }
}

berth_status berth_prompt_ids(const berth_tokenizer *t, const berth_message *messages, int32_t n_messages,
                              const berth_prompt_options *options, berth_ids *ids, int32_t *out_image_at,
                              berth_error *err)
{
    berth_status st = berth_chat_check(t, options->form, options->n_images > 0, err);
    if (st == BERTH_OK) st = check_messages(messages, n_messages, options, err);
    if (st != BERTH_OK) return st;
    berth_prompt p;
    berth_prompt_begin(&p, t, options, ids, out_image_at, err);
    put_form(&p, messages, n_messages);
    if (!options->no_generation_prompt) put_generation_prompt(&p);
    return berth_prompt_end(&p);
}

static void put_internvl_text(berth_prompt *p, const char *role, const berth_part *part)
{
    put_internvl_turn(p, &(berth_message){.role = role, .parts = part, .n_parts = 1});
}

berth_status berth_internvl_chat_ids(const berth_tokenizer *t, const berth_internvl_chat *chat,
                                     const berth_prompt_options *options, berth_ids *ids, int32_t *out_image_at,
                                     berth_error *err)
{
    berth_prompt_options o = *options;
    o.form = BERTH_CHAT_INTERNVL2_5;
    o.text_may_hold_tokens = true;
    berth_status st = berth_chat_check(t, o.form, o.n_images > 0, err);
    if (st != BERTH_OK) return st;
    static const berth_part default_system = {BERTH_PART_TEXT, internvl_system, sizeof internvl_system - 1};
    const berth_part *q = &chat->question;
    bool tagged = q->len && memmem(q->text, q->len, "<image>", 7);
    berth_prompt p;
    berth_prompt_begin(&p, t, &o, ids, out_image_at, err);
    put_internvl_text(&p, "system", chat->system ? chat->system : &default_system);
    for (int32_t i = 0; i < chat->n_history; i++) {
        put_internvl_text(&p, "user", &chat->history[i].question);
        put_internvl_text(&p, "assistant", &chat->history[i].answer);
    }
    if (!chat->has_history && o.n_images && !tagged) {
        const berth_part parts[] = {{.kind = BERTH_PART_TEXT, .text = "<image>\n", .len = 8}, *q};
        put_internvl_turn(&p, &(berth_message){.role = "user", .parts = parts, .n_parts = 2});
    } else {
        put_internvl_text(&p, "user", q);
    }
    open_turn(&p, "assistant");
    return berth_prompt_end(&p);
}

/* ---- what a form needs of a tokenizer ---- */

berth_status berth_chat_check(const berth_tokenizer *t, berth_chat_form form, bool has_images, berth_error *err)
{
    static const char *const needs[] = {START, END, "<img>", "</img>", "<IMG_CONTEXT>"};
    for (int i = 0; i < (has_images ? 5 : 2); i++)
        if (berth_tokenizer_special_id(t, needs[i]) < 0)
            return BERTH_FAIL(err, BERTH_BAD_FILE,
                              "tokenizer: the special token %s is missing, which this model's prompt needs", needs[i]);
    if (form == BERTH_CHAT_INTERNVL2_5 || t->template_error.status == BERTH_OK) return BERTH_OK;
    if (err) *err = t->template_error;
    return t->template_error.status;
}

int32_t berth_chat_image_id(const berth_tokenizer *t)
{
    return berth_tokenizer_special_id(t, "<IMG_CONTEXT>");
}

berth_status berth_chat_stop_ids(const berth_tokenizer *t, berth_chat_form form, berth_ids *ids, berth_error *err)
{
    int32_t end = berth_tokenizer_special_id(t, END), text_end = berth_tokenizer_special_id(t, "<|endoftext|>");
    bool qwen = form == BERTH_CHAT_QWEN2_5 || form == BERTH_CHAT_QWEN3;
    if (end < 0)
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "tokenizer: the special token " END " is missing, at which this model's answers end");
    if (!berth_ids_push(ids, end) || (qwen && text_end >= 0 && !berth_ids_push(ids, text_end)))
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the stop tokens");
    return BERTH_OK;
}
