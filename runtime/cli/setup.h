/* setup.h - from options to handles: what run, plan and trace do before their own work. */
#ifndef BERTH_CLI_SETUP_H
#define BERTH_CLI_SETUP_H

#include "cli/cli.h"

typedef struct cli_setup {
    berth_runtime *rt;
    berth_model *model;
    berth_plan *plan;           /* NULL once an engine took it */
    berth_buffer devices;       /* the device list after --threads and --max-memory */
    char *device_map;           /* owned text of --device-map, or NULL */
    const char **place;         /* owned; --place, NULL-terminated */
    berth_plan_options options; /* what `plan` was made from; borrows from the above and the arguments */
} cli_setup;

/* Opens the model of --model and reads the placement options, without a plan. The plan's options show what does not fit. */
berth_status cli_setup_read(const cli_args *a, bool allow_missing_weights, bool trace, int64_t context,
                            int32_t max_tiles, cli_setup *out, berth_error *err);

/* What --max-tiles means for a plan: room for two such pictures. */
int32_t cli_max_tiles(const cli_args *a);

/* Opens the model of --model and makes the plan that the placement options ask for. */
berth_status cli_setup_open(const cli_args *a, bool allow_missing_weights, bool trace, int64_t context,
                            int32_t max_tiles, cli_setup *out, berth_error *err);
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
} cli_conversation;

/* From --prompt, --prompt-file, --system and --image, or from --messages. */
berth_status cli_conversation_read(const cli_args *a, cli_conversation *out, berth_error *err);
void cli_conversation_deinit(cli_conversation *c);

#endif
