/* prompt.h - building a prompt piece by piece: plain text, template tokens, pictures. The forms in chat.c are written
 * in these words.
 *
 * Calls after a failed one do nothing; its status comes out of berth_prompt_end. */
#ifndef BERTH_TEXT_PROMPT_H
#define BERTH_TEXT_PROMPT_H

#include "text/chat.h"

typedef struct berth_prompt {
    const berth_tokenizer *t;
    const berth_prompt_options *options;
    berth_ids *ids;
    size_t n_ids_before;
    int32_t *image_at; /* may be NULL */
    int32_t next_image;
    bool tags_take_images;   /* "<image>" in text is a picture */
    const char *placeholder; /* how a picture is spelled in out_spelled */
    berth_buffer pending;    /* plain text since the last token */
    berth_status status;
    berth_error *err;
} berth_prompt;

void berth_prompt_begin(berth_prompt *p, const berth_tokenizer *t, const berth_prompt_options *options, berth_ids *ids,
                        int32_t *image_at, berth_error *err);
void berth_prompt_text(berth_prompt *p, const char *text, size_t n);
void berth_prompt_puts(berth_prompt *p, const char *text);
void berth_prompt_token(berth_prompt *p, const char *content); /* an added token; BERTH_BAD_FILE where there is none */
void berth_prompt_image(berth_prompt *p);                      /* the next picture */
void berth_prompt_fail(berth_prompt *p, berth_status status, const char *why);

/* Writes what is pending and frees; on failure ids are cut back. */
berth_status berth_prompt_end(berth_prompt *p);

#endif
