/* chat.h - from a conversation to prompt ids: the forms of InternVL's remote code, of the native processor, and of
 * Qwen.
 *
 * The prompt is built of template tokens as ids, user text encoded without added tokens, and image runs as ids, never
 * as one string that user text could escape from. Text between two template tokens is cut and merged as one, so that
 * the ids equal those of the reference libraries whenever the text spells no added token. Pure; knows tile counts, not
 * pixels.
 *
 * How a list of messages maps to each form:
 *   internvl2_5   A first "system" message replaces InternVL's own system text (without one that is written, even for
 *                 an empty list). A message's pictures stand before its text, as "<image>\n" each, in part order,
 *                 wherever its image parts stand; its text parts are joined as they are. A message without text and
 *                 pictures is a bare role header, without end.
 *   native        No system turn unless given. Parts stand in their order; a picture is followed by a newline. An empty
 *                 message keeps its end.
 *   qwen2.5       Qwen's default system text unless the first message is a system one, which may be empty. Qwen2.5's
 *                 and Qwen2's differ: the model's template tells which (template.h).
 *   qwen3         No system turn unless given. "<think>" parts of answers before the last user message are dropped, as
 *                 its template does.
 * A picture is <img>, tokens_per_tile * tiles times <IMG_CONTEXT>, </img>. Qwen's forms take no pictures.
 * Source: InternVL conversation.py `internvl2_5` and modeling_internvl_chat.py chat(); the published
 * chat_template.jinja files. */
#ifndef BERTH_TEXT_CHAT_H
#define BERTH_TEXT_CHAT_H

#include "model/config.h"
#include "text/tokenizer.h"

typedef enum berth_part_kind { BERTH_PART_TEXT, BERTH_PART_IMAGE } berth_part_kind;
typedef struct berth_part {
    berth_part_kind kind;
    const char *text; /* TEXT: UTF-8, borrowed */
    size_t len;
} berth_part;

typedef struct berth_message {
    const char *role; /* "system", "user", "assistant" */
    const berth_part *parts;
    int32_t n_parts;
} berth_message;

typedef struct berth_prompt_options {
    berth_chat_form form;
    const int32_t *tiles; /* [n_images] tiles of each picture, in the order the image parts occur */
    int32_t n_images;
    int32_t tokens_per_tile;
    /* The reference libraries' behaviour, for comparison with them: text is scanned for added tokens and, in
     * internvl2_5, for "<image>": each one, also in system text and answers, takes the next picture; a message whose
     * text holds "<image>" gets none put before it; surplus pictures are lost, surplus tags stay text. */
    bool text_may_hold_tokens;
    bool no_generation_prompt; /* leave out the assistant's header at the end */
    bool no_thinking; /* qwen3: begin the answer with an empty <think> block (the template's enable_thinking=false) */
    /* Where the prompt is spelled out, NULL = not wanted: with one placeholder per picture (<image> or <IMG_CONTEXT>),
     * and in full. */
    berth_buffer *out_spelled, *out_expanded;
} berth_prompt_options;

/* Appends the ids of the whole prompt, up to and including the assistant's header. `out_image_at` (may be NULL)
 * receives the index in ids of the first image token of each picture, [n_images]; -1 for one that was lost. On failure
 * ids are as before. Errors: BERTH_INVALID_ARGUMENT (an image too few or too many, an unknown role, text that is not
 * UTF-8), BERTH_BAD_FILE (the tokenizer lacks a token of this form), BERTH_UNSUPPORTED (the chat template, see
 * berth_chat_check), BERTH_OUT_OF_MEMORY. */
berth_status berth_prompt_ids(const berth_tokenizer *t, const berth_message *messages, int32_t n_messages,
                              const berth_prompt_options *options, berth_ids *ids, int32_t *out_image_at,
                              berth_error *err);

/* What InternVL's chat() is called with, for exactly its prompt: texts are scanned for added tokens and "<image>" as it
 * does it. "<image>\n" is put before the question only where there is no history (an empty list is one), there are
 * pictures, and the question has no "<image>". Only `tiles`, `n_images`, `tokens_per_tile` and the out_ buffers of
 * `options` are used. */
typedef struct berth_internvl_turn {
    berth_part question, answer; /* TEXT */
} berth_internvl_turn;

typedef struct berth_internvl_chat {
    const berth_part *system; /* TEXT; NULL = the default */
    bool has_history;         /* false: None */
    const berth_internvl_turn *history;
    int32_t n_history;
    berth_part question; /* TEXT */
} berth_internvl_chat;

berth_status berth_internvl_chat_ids(const berth_tokenizer *t, const berth_internvl_chat *chat,
                                     const berth_prompt_options *options, berth_ids *ids, int32_t *out_image_at,
                                     berth_error *err);

/* Can this tokenizer write this form (with pictures)? To be asked at load. Errors: BERTH_BAD_FILE (a token is missing),
 * or what is wrong with the chat template; internvl2_5 does not use the template and does not ask. */
berth_status berth_chat_check(const berth_tokenizer *t, berth_chat_form form, bool has_images, berth_error *err);

/* The id that an image row replaces, <IMG_CONTEXT>; -1 when the tokenizer has none. */
int32_t berth_chat_image_id(const berth_tokenizer *t);

/* The ids at which an answer ends in this form, beside generation_config's eos: appended to `ids`. */
berth_status berth_chat_stop_ids(const berth_tokenizer *t, berth_chat_form form, berth_ids *ids, berth_error *err);

/* An answer as InternVL's chat() returns it: cut at the first spelled-out <|im_end|>, stripped of white space as Python
 * strips. Edits in place. */
void berth_answer_strip(berth_buffer *text);

#endif
