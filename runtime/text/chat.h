/* chat.h - from a conversation to prompt ids: the forms of InternVL's remote code, of the native processor, and of Qwen.
 *
 * The prompt is built as segments (template text encoded with added tokens, user text without them, image runs as ids), never as one string that user
 * text could escape from. Pure; knows tile counts, not pixels. Source: InternVL conversation.py `internvl2_5`, the published chat_template.jinja files. */
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
    /* The reference libraries' behaviour, for comparison with them: text is scanned for added tokens and, in internvl2_5, for "<image>". */
    bool text_may_hold_tokens;
} berth_prompt_options;

/* Appends the ids of the whole prompt, up to and including the assistant's header. `out_image_at` (may be NULL) receives the index in ids of the first
 * image token of each picture, [n_images]. Errors: BERTH_INVALID_ARGUMENT (an image too few or too many, an unknown role), BERTH_BAD_FILE (the tokenizer lacks a token of this form). */
berth_status berth_prompt_ids(const berth_tokenizer *t, const berth_message *messages, int32_t n_messages, const berth_prompt_options *options, berth_ids *ids, int32_t *out_image_at, berth_error *err);

/* The ids at which an answer ends in this form, beside generation_config's eos: appended to `ids`. */
berth_status berth_chat_stop_ids(const berth_tokenizer *t, berth_chat_form form, berth_ids *ids, berth_error *err);

/* An answer as InternVL's chat() returns it: cut at the first spelled-out <|im_end|>, stripped of white space as Python strips. Edits in place. */
void berth_answer_strip(berth_buffer *text);

#endif
