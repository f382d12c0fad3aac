/* prompts.h - named prompts from a YAML file, for document extraction:
 *
 *     receipt: Extract the fields as JSON.
 *     invoice:
 *       system: You read documents.
 *       user: |
 *         Extract these fields as JSON.
 *       max_tokens: 200
 *       temperature: 0
 *       fields: [TOTAL_AMOUNT, INVOICE_DATE]
 *
 * A mapping of names to a text or to these members; `user` is required, nothing else is known. */
#ifndef BERTH_CLI_PROMPTS_H
#define BERTH_CLI_PROMPTS_H

#include <stdbool.h>

#include "berth/status.h"

typedef struct cli_prompt {
    char *name, *user;
    char *system;       /* NULL = none */
    int32_t max_tokens; /* 0 = not said */
    bool has_temperature;
    double temperature;
    char **fields; /* names of the answer's fields */
    int32_t n_fields;
} cli_prompt;

typedef struct cli_prompts {
    cli_prompt *list; /* owned, with all in it */
    int32_t n;
    const char *file; /* borrowed */
} cli_prompts;

/* Errors: as reading a file; BERTH_BAD_FILE with the line for what is no such mapping. */
berth_status cli_prompts_read(const char *file, cli_prompts *out, berth_error *err);
void cli_prompts_deinit(cli_prompts *p);

/* The prompt of that name; with name NULL the only one of the file. Errors: BERTH_INVALID_ARGUMENT with the nearest name. */
berth_status cli_prompts_find(const cli_prompts *p, const char *name, const cli_prompt **out, berth_error *err);

#endif
