/* setup.h - from options to handles: what run, plan and trace do before their own work. */
#ifndef BERTH_CLI_SETUP_H
#define BERTH_CLI_SETUP_H

#include "base/json.h"
#include "cli/cli.h"
#include "cli/prompts.h"

typedef struct cli_setup {
    berth_runtime *rt;
    berth_model *model;
    berth_plan *plan;           /* NULL once an engine took it */
    berth_buffer devices;       /* the device list after --threads and --max-memory */
    char *device_map;           /* owned text of --device-map, or NULL */
    const char **place;         /* owned; --place, NULL-terminated */
    berth_plan_options options; /* what `plan` was made from; borrows from the above and the arguments */
} cli_setup;

/* Set on the command line: a variable of the environment stands for every call and need not fit each. */
bool cli_is_given(const cli_args *a, cli_option o);

/* Opens the model of --model and reads the placement options, without a plan. The plan's options show what does not fit. */
berth_status cli_setup_read(const cli_args *a, bool allow_missing_weights, bool trace, int64_t context,
                            int32_t max_tiles, cli_setup *out, berth_error *err);

/* What --max-tiles means for a plan: room for two such pictures. */
int32_t cli_max_tiles(const cli_args *a);

/* Tiles to keep room for when n requests, each with a picture, run at once. */
int32_t cli_parallel_tiles(const cli_args *a, int32_t n);

/* Opens the model of --model and makes the plan that the placement options ask for. */
berth_status cli_setup_open(const cli_args *a, bool allow_missing_weights, bool trace, int64_t context,
                            int32_t max_tiles, cli_setup *out, berth_error *err);
/* The replicas asked for: that of --replica, or all, [*first, *end). BERTH_INVALID_ARGUMENT where there is none of that number. */
berth_status cli_replicas(const cli_args *a, const berth_plan *plan, int32_t *first, int32_t *end, berth_error *err);

void cli_setup_close(cli_setup *s);

/* The device list of --devices with --threads and --max-memory worked in. */
berth_status cli_device_list(const cli_args *a, berth_buffer *out, berth_error *err);
const char *cli_profile_dir(const cli_args *a); /* of --profile-dir; NULL */

/* Loads the plan's model; a progress bar on a terminal. The setup's plan belongs to the engine afterwards. Refuses a plan that does not fit (BERTH_DOES_NOT_FIT). */
berth_status cli_engine_open(const cli_args *a, cli_setup *s, berth_engine **out, berth_error *err);

/* ---- conversations --------------------------------------------------------------------------------------------------- */

typedef struct cli_conversation {
    berth_turn *turns; /* owned */
    int32_t n_turns;
    berth_content *content; /* owned, all turns' */
    char **texts;           /* owned strings that content points to */
    int32_t n_texts;
    /* what a named prompt says of the answer; options of the command line stand over it */
    int32_t max_tokens; /* 0 = nothing */
    bool has_temperature;
    double temperature;
} cli_conversation;

/* From --prompt, --prompt-file or --prompts, --system and --image, or from --messages. */
berth_status cli_conversation_read(const cli_args *a, cli_conversation *out, berth_error *err);

/* From a list of messages in OpenAI's form, found in `file`: pictures are looked for as given, then beside it. */
berth_status cli_conversation_parse(const berth_json_node *list, const char *file, cli_conversation *out,
                                    berth_error *err);

/* One turn of the user's: pictures (paths), then the text; a system message before it where `system` is not NULL. All is copied. */
berth_status cli_conversation_make(const char *system, const char *const *images, int32_t n_images, const char *prompt,
                                   size_t prompt_size, cli_conversation *out, berth_error *err);
void cli_conversation_deinit(cli_conversation *c);

/* The path (owned) of a picture named in `file`: as given when it is absolute or there, else beside that file. NULL: no
 * memory. */
char *cli_picture_path(const char *file, const char *given);
bool cli_is_url(const char *name); /* nothing is fetched, and data: URLs are not taken apart */

int32_t cli_conversation_pictures(const cli_conversation *c);

/* The numbers of a named prompt to the conversation made of it. */
void cli_conversation_advise(cli_conversation *c, const cli_prompt *p);

/* ---- requests -------------------------------------------------------------------------------------------------------- */

/* Generation options that cannot be meant, found before the model is touched. */
berth_status cli_request_check(const cli_args *a, berth_error *err);

/* The conversation with the numbers of the generation options; it borrows from the conversation. */
void cli_request_init(const cli_args *a, const cli_conversation *c, berth_request *r);

#endif
