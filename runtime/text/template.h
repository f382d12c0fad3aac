/* template.h - judging a model's chat template. berth runs no template: a template is a stranger's program. The prompt
 * forms of chat.h are written in C, and a template is only looked at to tell whether it is of the family those forms
 * belong to (ChatML). */
#ifndef BERTH_TEXT_TEMPLATE_H
#define BERTH_TEXT_TEMPLATE_H

#include <stddef.h>

#include "base/status.h"

/* The system turn that a template of Qwen2's generation writes where the conversation begins without one. */
typedef enum berth_template_system {
    BERTH_TEMPLATE_QWEN2_5 =
        0, /* "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."; also where there is no template */
    BERTH_TEMPLATE_QWEN2,  /* "You are a helpful assistant." */
    BERTH_TEMPLATE_SILENT, /* none */
} berth_template_system;

/* Judges chat_template.jinja of folder `dir`, or else `chat_template` of tokenizer_config.json; none at all, or an
 * empty one, is fine. `out_system` is told by the sentences it holds. Errors: BERTH_UNSUPPORTED (of another family, or
 * doing what none of that family does), BERTH_BAD_FILE, BERTH_IO_ERROR. */
berth_status berth_template_check(const char *dir, berth_template_system *out_system, berth_error *err);

/* The same for a template's text; `what` names it in errors. */
berth_status berth_template_check_text(const char *text, size_t n, const char *what, berth_error *err);

#endif
