/* options.h - the one table of options and commands, from which parsing, help, man page and completions come.
 *
 * To add an option: an id here and a row in options.c. To add a command: an id, a row, and a file cmd_NAME.c. */
#ifndef BERTH_CLI_OPTIONS_H
#define BERTH_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "berth/status.h"

typedef enum cli_command {
    CMD_RUN,
    CMD_CHAT,
    CMD_BATCH,
    CMD_EVAL,
    CMD_BENCH,
    CMD_PLAN,
    CMD_EXPLAIN,
    CMD_TRACE,
    CMD_TOKENIZE,
    CMD_DETOKENIZE,
    CMD_PREPROCESS,
    CMD_DEVICES,
    CMD_STRATEGIES,
    CMD_COMPLETIONS,
    CMD_MAN,
    CMD_COUNT
} cli_command;

typedef enum cli_option {
    /* model and input */
    OPT_MODEL,
    OPT_IMAGE,
    OPT_PROMPT,
    OPT_PROMPT_FILE,
    OPT_SYSTEM,
    OPT_MESSAGES,
    OPT_MAX_TILES,
    OPT_PROMPTS,
    OPT_PROMPT_NAME,
    OPT_IN,
    OPT_LABELS,
    OPT_LIMIT,
    OPT_HISTORY_FILE,
    /* generation */
    OPT_MAX_TOKENS,
    OPT_SAMPLE,
    OPT_TEMPERATURE,
    OPT_TOP_K,
    OPT_TOP_P,
    OPT_MIN_P,
    OPT_REPETITION_PENALTY,
    OPT_SEED,
    OPT_IGNORE_STOP,
    /* placement */
    OPT_DEVICES,
    OPT_STRATEGY,
    OPT_STRATEGY_DIR,
    OPT_ISOLATED,
    OPT_STRATEGY_TIMEOUT,
    OPT_STRATEGY_HOST,
    OPT_DEVICE_MAP,
    OPT_PLACE,
    OPT_SPLIT,
    OPT_LAYERS,
    OPT_VISION_DEVICE,
    OPT_MAX_MEMORY,
    OPT_THREADS,
    OPT_DTYPE,
    OPT_PROFILE_DIR,
    OPT_CONTEXT,
    OPT_BATCH,
    OPT_PARALLEL,
    OPT_CHUNK,
    OPT_KV_TOKENS,
    OPT_PASSES,
    OPT_SPECULATE,
    OPT_TILES,
    OPT_KERNELS,
    OPT_TRANSPORT,
    OPT_BATCH_INVARIANT,
    OPT_STRICT,
    OPT_NVTX,
    OPT_TIME_COPIES,
    /* trace, tokenize, preprocess */
    OPT_INPUTS,
    OPT_OUT,
    OPT_VALUES,
    OPT_JSONL,
    OPT_SPECIAL,
    OPT_TILE_SIZE,
    OPT_MIN_TILES,
    OPT_NO_THUMBNAIL,
    OPT_RESIZE_ORDER,
    /* bench */
    OPT_N_PROMPT,
    OPT_N_GEN,
    OPT_PG,
    OPT_N_DEPTH,
    OPT_BATCH_SIZE,
    OPT_REPETITIONS,
    OPT_DELAY,
    OPT_NO_WARMUP,
    OPT_REQUEST_RATE,
    OPT_NUM_PROMPTS,
    OPT_MAX_CONCURRENCY,
    OPT_OUTPUT,
    OPT_OUTPUT_ERR,
    OPT_PROGRESS,
    /* devices */
    OPT_MEASURE,
    OPT_PROBE,
    /* batch */
    OPT_ORDERED,
    OPT_SYNC,
    OPT_RETRY_FAILED,
    /* plan over a module tree from a file */
    OPT_MODULES,
    OPT_COMPAT,
    OPT_NO_SPLIT,
    OPT_BYTES_PER_WEIGHT,
    OPT_FALLBACK,
    /* output */
    OPT_JSON,
    OPT_COMPARE,
    OPT_PROGRAM,
    OPT_DOT,
    OPT_DEVICE_MAP_OUT,
    OPT_REPLICA,
    OPT_SAVE,
    OPT_REPORT,
    OPT_SHOW,
    OPT_QUIET,
    OPT_COLOR,
    OPT_HELP,
    OPT_VERSION,
    OPT_COUNT
} cli_option;

typedef enum cli_type { CLI_FLAG, CLI_TEXT, CLI_LIST, CLI_INT, CLI_REAL, CLI_BYTES, CLI_U64 } cli_type;
typedef enum cli_group {
    GROUP_INPUT,
    GROUP_GENERATION,
    GROUP_PLACEMENT,
    GROUP_VALUES,
    GROUP_MEASURING,
    GROUP_OUTPUT,
    GROUP_COUNT
} cli_group;

typedef struct cli_option_row {
    const char *name; /* long name without dashes; its environment twin is BERTH_ + upper case with '_' */
    char letter;      /* 0 = none */
    cli_type type;
    cli_group group;
    const char *arg;   /* what the value is called in help; NULL for flags */
    int64_t min, max;  /* CLI_INT */
    uint32_t commands; /* bit set of cli_command */
    const char *help;
} cli_option_row;

typedef struct cli_command_row {
    const char *name, *usage, *about;
    const char *operand; /* what stands without dashes; NULL = nothing may */
} cli_command_row;

extern const cli_option_row cli_options[OPT_COUNT];
extern const cli_command_row cli_commands[CMD_COUNT];
extern const char *const cli_group_names[GROUP_COUNT];

/* A parsed command line. Text is borrowed from argv or the environment. */
typedef struct cli_args {
    cli_command command;
    bool set[OPT_COUNT];                 /* given on the command line or in the environment */
    bool from_environment[OPT_COUNT];    /* by its twin, and not on the command line */
    const char *text[OPT_COUNT];         /* the last value as written */
    int64_t number[OPT_COUNT];           /* CLI_INT */
    uint64_t unsigned_number[OPT_COUNT]; /* CLI_BYTES, CLI_U64 */
    double real[OPT_COUNT];              /* CLI_REAL */
    const char **list[OPT_COUNT];        /* CLI_LIST: owned array, in order */
    int32_t n_list[OPT_COUNT];
    const char **operands; /* owned array */
    int32_t n_operands;
} cli_args;

/* argv[1] is the command. Errors: BERTH_INVALID_ARGUMENT naming the option, what was given and what it takes; unknown names come with the nearest known one. */
berth_status cli_parse(int argc, char **argv, cli_args *out, berth_error *err);
void cli_args_deinit(cli_args *a);

/* The option's letter as the command knows it; 0 = none: the letter may be another option's there. */
char cli_letter(cli_option option, cli_command command);

/* "BERTH_MAX_TOKENS" for an option; at most n bytes. */
void cli_env_name(cli_option option, char *out, size_t n);

#endif
