/* options.c - the option and command tables, and parsing by them. */
#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"

#define C(name) (1u << CMD_##name)
#define MANY    (C(BATCH) | C(EVAL))             /* many requests at once, from a file */
#define ANSWERS (C(RUN) | C(CHAT) | MANY)        /* generate what a user asked for */
#define ENGINES (ANSWERS | C(TRACE) | C(BENCH))  /* load weights */
#define PLANS   (ENGINES | C(PLAN) | C(EXPLAIN)) /* place */
#define ALL     ((1u << CMD_COUNT) - 1)

const char *const cli_group_names[GROUP_COUNT] = {"Model and input", "Generation", "Placement",
                                                  "Values",          "Measuring",  "Output"};

const cli_command_row cli_commands[CMD_COUNT] = {
    [CMD_RUN] = {"run", "berth run -m DIR [-i IMAGE]... -p TEXT [options]", "answer a prompt about pictures, streaming",
                 NULL},
    [CMD_CHAT] = {"chat", "berth chat -m DIR [-i IMAGE]... [options]", "talk with the model in the terminal", NULL},
    [CMD_BATCH] = {"batch", "berth batch -m DIR --in FILE [--out FILE] [--prompts FILE] [--ordered] [options]",
                   "answer a file of requests, many at once; goes on where it was stopped", NULL},
    [CMD_EVAL] = {"eval", "berth eval -m DIR --labels FILE [--strategy A,B,...] [--devices LIST]... [options]",
                  "answer a labelled set and count what is right, per placement", NULL},
    [CMD_BENCH] = {"bench", "berth bench -m DIR [-p N,...] [-n N,...] [-b N,...] [-r N] [-o FORMAT] [options]",
                   "measure prompt processing, generation and serving, per placement", NULL},
    [CMD_PLAN] = {"plan", "berth plan -m DIR [--devices LIST] [--strategy NAME] [options]",
                  "show where everything would live, without loading weights", NULL},
    [CMD_EXPLAIN] = {"explain", "berth explain MODULE|VALUE|OP -m DIR [--devices LIST] [--strategy NAME] [options]",
                     "say why a part of the plan is where it is", "NAME"},
    [CMD_TRACE] = {"trace",
                   "berth trace -m DIR (--inputs FILE | -i IMAGE -p TEXT | --messages FILE) --out FILE [options]",
                   "write every named value of a run", NULL},
    [CMD_TOKENIZE] = {"tokenize", "berth tokenize -m DIR [--special] [--jsonl] < TEXT",
                      "text on standard input to token ids", NULL},
    [CMD_DETOKENIZE] = {"detokenize", "berth detokenize -m DIR [--jsonl] < IDS", "token ids on standard input to text",
                        NULL},
    [CMD_PREPROCESS] = {"preprocess", "berth preprocess -m DIR -i IMAGE --out FILE | berth preprocess --jsonl < ROWS",
                        "pictures to the exact pixel values", NULL},
    [CMD_DEVICES] = {"devices", "berth devices [--devices LIST] [--probe] [--measure] [--save FILE] [--json]",
                     "show this computer and the devices a list names", NULL},
    [CMD_STRATEGIES] = {"strategies", "berth strategies [--strategy-dir DIR] [--json]", "list the placement strategies",
                        NULL},
    [CMD_COMPLETIONS] = {"completions", "berth completions bash|zsh|fish", "print a completion script", "SHELL"},
    [CMD_MAN] = {"man", "berth man", "print the manual page (roff)", NULL},
};

const cli_option_row cli_options[OPT_COUNT] = {
    [OPT_MODEL] = {"model", 'm', CLI_TEXT, GROUP_INPUT, "DIR", 0, 0,
                   PLANS | C(TOKENIZE) | C(DETOKENIZE) | C(PREPROCESS), "model directory (Hugging Face layout)"},
    [OPT_IMAGE] = {"image", 'i', CLI_LIST, GROUP_INPUT, "FILE", 0, 0,
                   C(RUN) | C(CHAT) | C(TRACE) | C(BENCH) | C(PREPROCESS),
                   "a picture (PNG, JPEG, WebP, GIF, BMP); may be repeated; run, trace: - is standard input"},
    [OPT_PROMPT] = {"prompt", 'p', CLI_TEXT, GROUP_INPUT, "TEXT", 0, 0, C(RUN) | C(TRACE) | MANY,
                    "the question; batch and eval: of lines that have none"},
    [OPT_PROMPT_FILE] = {"prompt-file", 0, CLI_TEXT, GROUP_INPUT, "FILE", 0, 0, C(RUN) | C(TRACE),
                         "read the question from a file; - is standard input"},
    [OPT_SYSTEM] = {"system", 0, CLI_TEXT, GROUP_INPUT, "TEXT", 0, 0, ANSWERS | C(TRACE), "system message"},
    [OPT_MESSAGES] = {"messages", 0, CLI_TEXT, GROUP_INPUT, "FILE", 0, 0, C(RUN) | C(TRACE),
                      "a whole conversation as JSON in OpenAI's form; image parts name files"},
    [OPT_MAX_TILES] = {"max-tiles", 0, CLI_INT, GROUP_INPUT, "N", 1, 1024, PLANS | C(PREPROCESS),
                       "most tiles a picture is cut into (default: the model's)"},
    [OPT_PROMPTS] = {"prompts", 0, CLI_TEXT, GROUP_INPUT, "FILE", 0, 0, C(RUN) | MANY,
                     "named prompts, YAML: to each name a text, or user, system, max_tokens, temperature and fields"},
    [OPT_PROMPT_NAME] = {"prompt-name", 0, CLI_TEXT, GROUP_INPUT, "NAME", 0, 0, C(RUN) | MANY,
                         "which of --prompts (default: the only one; batch and eval: of lines that name none)"},
    [OPT_IN] = {"in", 0, CLI_TEXT, GROUP_INPUT, "FILE", 0, 0, C(BATCH),
                "requests, a JSON object a line; - is standard input"},
    [OPT_LABELS] = {"labels", 0, CLI_TEXT, GROUP_INPUT, "FILE", 0, 0, C(EVAL),
                    "pictures with their true fields, a JSON object a line"},
    [OPT_LIMIT] = {"limit", 0, CLI_INT, GROUP_INPUT, "N", 1, 1 << 30, C(EVAL), "take only the first N lines"},
    [OPT_HISTORY_FILE] = {"history-file", 0, CLI_TEXT, GROUP_INPUT, "FILE", 0, 0, C(CHAT),
                          "keep what was typed in a file, for the next conversation (default: in memory only)"},
    [OPT_MAX_TOKENS] = {"max-tokens", 'n', CLI_INT, GROUP_GENERATION, "N", 1, 1 << 24, ANSWERS | C(TRACE),
                        "most new tokens (default 512; trace: 0)"},
    [OPT_SAMPLE] = {"sample", 0, CLI_FLAG, GROUP_GENERATION, NULL, 0, 0, ANSWERS,
                    "draw tokens instead of taking the most likely one"},
    [OPT_TEMPERATURE] = {"temperature", 0, CLI_REAL, GROUP_GENERATION, "X", 0, 0, ANSWERS,
                         "divides the logits (default 1); implies --sample, 0 alone means greedy"},
    [OPT_TOP_K] = {"top-k", 0, CLI_INT, GROUP_GENERATION, "N", 0, 1 << 24, ANSWERS,
                   "keep the N most likely tokens; 0 = all"},
    [OPT_TOP_P] = {"top-p", 0, CLI_REAL, GROUP_GENERATION, "X", 0, 0, ANSWERS,
                   "keep the most likely tokens up to this probability"},
    [OPT_MIN_P] = {"min-p", 0, CLI_REAL, GROUP_GENERATION, "X", 0, 0, ANSWERS,
                   "drop tokens below this share of the most likely one's probability"},
    [OPT_REPETITION_PENALTY] = {"repetition-penalty", 0, CLI_REAL, GROUP_GENERATION, "X", 0, 0, ANSWERS,
                                "penalty on tokens seen before; 1 = none"},
    [OPT_SEED] = {"seed", 0, CLI_U64, GROUP_GENERATION, "N", 0, 0, ANSWERS | C(BENCH), "seed of the draws (default 0)"},
    [OPT_IGNORE_STOP] = {"ignore-stop", 0, CLI_FLAG, GROUP_GENERATION, NULL, 0, 0, ANSWERS,
                         "go on past the end of the turn"},
    [OPT_DEVICES] = {"devices", 'd', CLI_LIST, GROUP_PLACEMENT, "LIST", 0, 0, PLANS | C(DEVICES),
                     "devices, for example cpu*4/mem=8GiB or 4xV100-SXM2-16GB (default cpu); eval, bench: may be "
                     "repeated; bench: without -d"},
    [OPT_STRATEGY] =
        {"strategy", 's', CLI_TEXT, GROUP_PLACEMENT, "NAME", 0, 0, PLANS,
         "placement strategy (default auto); see `berth strategies`; a path such as ./mine.so is a plug-in"},
    [OPT_STRATEGY_DIR] = {"strategy-dir", 0, CLI_TEXT, GROUP_PLACEMENT, "DIR", 0, 0, PLANS | C(STRATEGIES),
                          "folder of plug-ins: its mine.so is the strategy mine"},
    [OPT_ISOLATED] = {"isolated", 0, CLI_FLAG, GROUP_PLACEMENT, NULL, 0, 0, PLANS | C(STRATEGIES),
                      "run a plug-in in a process of its own, with a time limit"},
    [OPT_STRATEGY_TIMEOUT] = {"strategy-timeout", 0, CLI_INT, GROUP_PLACEMENT, "MS", 1, 3600000, PLANS | C(STRATEGIES),
                              "milliseconds that an isolated plug-in may take (default 5000)"},
    [OPT_STRATEGY_HOST] = {"strategy-host", 0, CLI_TEXT, GROUP_PLACEMENT, "FILE", 0, 0, PLANS | C(STRATEGIES),
                           "the program berth-strategy-host (default: beside berth, or where it was installed)"},
    [OPT_DEVICE_MAP] = {"device-map", 0, CLI_TEXT, GROUP_PLACEMENT, "FILE", 0, 0, PLANS,
                        "Hugging Face device map (JSON) instead of a strategy"},
    [OPT_PLACE] = {"place", 0, CLI_LIST, GROUP_PLACEMENT, "GLOB=DEVICE", 0, 0, PLANS,
                   "put modules elsewhere, for example 'vision.*=cpu:1'; may be repeated, the last that fits wins"},
    [OPT_SPLIT] = {"split", 0, CLI_TEXT, GROUP_PLACEMENT, "W,W,...", 0, 0, PLANS,
                   "share of the decoder layers for each device, by llama.cpp's rule, for example 3,1"},
    [OPT_LAYERS] =
        {"layers", 0, CLI_TEXT, GROUP_PLACEMENT, "N,N,...", 0, 0, PLANS,
         "decoder layers on each device, exactly; the embedding goes with the first, the head with the last"},
    [OPT_VISION_DEVICE] = {"vision-device", 0, CLI_TEXT, GROUP_PLACEMENT, "DEVICE", 0, 0, PLANS,
                           "device of the vision tower and the projector"},
    [OPT_MAX_MEMORY] = {"max-memory", 0, CLI_TEXT, GROUP_PLACEMENT, "LIST", 0, 0, PLANS,
                        "memory limits, for example 0=10GiB,cpu:1=8GiB"},
    [OPT_THREADS] = {"threads", 't', CLI_INT, GROUP_PLACEMENT, "N", 1, 4096, PLANS,
                     "cores that all cpu devices together may use"},
    [OPT_DTYPE] = {"dtype", 0, CLI_TEXT, GROUP_PLACEMENT, "T", 0, 0, PLANS,
                   "what devices compute in: auto, fp32, fp16, bf16"},
    [OPT_PROFILE_DIR] = {"profile-dir", 0, CLI_TEXT, GROUP_PLACEMENT, "DIR", 0, 0, PLANS | C(DEVICES),
                         "folder of profiles and machines that --devices may name, before the built-in ones"},
    [OPT_CONTEXT] = {"context", 'c', CLI_INT, GROUP_PLACEMENT, "N", 1, 1 << 24, PLANS,
                     "tokens of one conversation (default: the model's, at most 4096)"},
    [OPT_BATCH] = {"batch", 'b', CLI_INT, GROUP_PLACEMENT, "N", 1, 4096, C(PLAN) | C(EXPLAIN),
                   "conversations kept at once (default 1)"},
    [OPT_PARALLEL] = {"parallel", 0, CLI_INT, GROUP_PLACEMENT, "N", 1, 4096, MANY,
                      "requests that run at once (default 4)"},
    [OPT_CHUNK] = {"chunk", 0, CLI_INT, GROUP_PLACEMENT, "N", 1, 65536, PLANS,
                   "prompt tokens of one pass (default 512); bench: also -ub"},
    [OPT_KV_TOKENS] = {"kv-tokens", 0, CLI_INT, GROUP_PLACEMENT, "N", 1, 1 << 26, PLANS,
                       "KV tokens of all conversations together (default: conversations x context)"},
    [OPT_PASSES] = {"passes", 0, CLI_INT, GROUP_PLACEMENT, "N", 1, 64, PLANS,
                    "passes in flight at once (default: as many as devices in a row, at most the conversations)"},
    [OPT_SPECULATE] = {"speculate", 0, CLI_INT, GROUP_PLACEMENT, "N", 0, 64, PLANS,
                       "tokens guessed ahead from the prompt's own words; the answer stays the same (default 0)"},
    [OPT_TILES] = {"tiles", 0, CLI_INT, GROUP_PLACEMENT, "N", 1, 1024, PLANS,
                   "image tiles of one pass of the vision encoder (default 4)"},
    [OPT_KERNELS] = {"kernels", 0, CLI_TEXT, GROUP_PLACEMENT, "NAME", 0, 0, PLANS,
                     "kernel set: ref, generic, avx2, avx512 (default: the fastest here)"},
    [OPT_TRANSPORT] =
        {"transport", 0, CLI_TEXT, GROUP_PLACEMENT, "NAME", 0, 0, ENGINES,
         "how bytes move between devices: local, staged, peer or nccl (default: the best each two allow)"},
    [OPT_BATCH_INVARIANT] = {"batch-invariant", 0, CLI_FLAG, GROUP_PLACEMENT, NULL, 0, 0, PLANS,
                             "on GPUs, a token's numbers never depend on what else a pass carries (slower prefill)"},
    [OPT_STRICT] = {"strict", 0, CLI_FLAG, GROUP_PLACEMENT, NULL, 0, 0, ENGINES,
                    "make other devices' memory unreadable while an op runs (slow)"},
    [OPT_NVTX] = {"nvtx", 0, CLI_FLAG, GROUP_PLACEMENT, NULL, 0, 0, ENGINES,
                  "name each op on a GPU, with its requests, for NVIDIA's tools (under nsys)"},
    [OPT_TIME_COPIES] = {"time-copies", 0, CLI_FLAG, GROUP_PLACEMENT, NULL, 0, 0, C(RUN),
                         "time copies on GPUs too, for --json; --show does (some microseconds a copy)"},
    [OPT_INPUTS] = {"inputs", 0, CLI_TEXT, GROUP_VALUES, "FILE", 0, 0, C(TRACE),
                    "safetensors with input_ids and pixel_values"},
    [OPT_OUT] = {"out", 'o', CLI_TEXT, GROUP_VALUES, "FILE", 0, 0, C(TRACE) | C(PREPROCESS) | C(BATCH),
                 "file to write: safetensors, or for batch the answers (default standard output)"},
    [OPT_VALUES] = {"values", 0, CLI_TEXT, GROUP_VALUES, "GLOB,...", 0, 0, C(TRACE),
                    "values to write (default: those with a public name)"},
    [OPT_JSONL] = {"jsonl", 0, CLI_FLAG, GROUP_VALUES, NULL, 0, 0, C(TOKENIZE) | C(DETOKENIZE) | C(PREPROCESS),
                   "JSON rows in and out"},
    [OPT_SPECIAL] = {"special", 0, CLI_FLAG, GROUP_VALUES, NULL, 0, 0, C(TOKENIZE),
                     "text such as <|im_end|> becomes a special token"},
    [OPT_TILE_SIZE] = {"tile", 0, CLI_INT, GROUP_VALUES, "S", 1, 16384, C(PREPROCESS),
                       "side of a tile, pixels (default: the model's)"},
    [OPT_MIN_TILES] = {"min-tiles", 0, CLI_INT, GROUP_VALUES, "N", 1, 1024, C(PREPROCESS),
                       "fewest tiles (default: the model's)"},
    [OPT_NO_THUMBNAIL] = {"no-thumbnail", 0, CLI_FLAG, GROUP_VALUES, NULL, 0, 0, C(PREPROCESS),
                          "leave out the tile that shows the whole picture"},
    [OPT_RESIZE_ORDER] = {"resize-order", 0, CLI_TEXT, GROUP_VALUES, "V", 0, 0, C(PREPROCESS),
                          "order of the resize passes: pillow13 (default) or pillow12"},
    [OPT_N_PROMPT] = {"n-prompt", 'p', CLI_LIST, GROUP_MEASURING, "N,...", 0, 0, C(BENCH),
                      "tests of prompts this long, tokens (default 512); also first-last, first-last+step, 0 = none"},
    [OPT_N_GEN] = {"n-gen", 'n', CLI_LIST, GROUP_MEASURING, "N,...", 0, 0, C(BENCH),
                   "tests of so many generated tokens (default 128); 0 = none"},
    [OPT_PG] = {"pg", 0, CLI_LIST, GROUP_MEASURING, "PP,TG", 0, 0, C(BENCH),
                "a test of a prompt and then generated tokens; may be repeated; also -pg"},
    [OPT_N_DEPTH] = {"n-depth", 'd', CLI_LIST, GROUP_MEASURING, "N,...", 0, 0, C(BENCH),
                     "tests with so many tokens in the context before they begin (default 0)"},
    [OPT_BATCH_SIZE] = {"batch-size", 'b', CLI_LIST, GROUP_MEASURING, "N,...", 0, 0, C(BENCH),
                        "requests at once (default 1)"},
    [OPT_REPETITIONS] = {"repetitions", 'r', CLI_INT, GROUP_MEASURING, "N", 1, 100000, C(BENCH),
                         "times each test is run (default 5)"},
    [OPT_DELAY] = {"delay", 0, CLI_REAL, GROUP_MEASURING, "SECONDS", 0, 0, C(BENCH), "pause before each test"},
    [OPT_NO_WARMUP] = {"no-warmup", 0, CLI_FLAG, GROUP_MEASURING, NULL, 0, 0, C(BENCH),
                       "no run before those that count"},
    [OPT_REQUEST_RATE] = {"request-rate", 0, CLI_TEXT, GROUP_MEASURING, "R,...", 0, 0, C(BENCH),
                          "serve requests that arrive so often a second, at random; inf = all at once"},
    [OPT_NUM_PROMPTS] = {"num-prompts", 0, CLI_INT, GROUP_MEASURING, "N", 1, 1 << 20, C(BENCH),
                         "with --request-rate: how many requests (default 100)"},
    [OPT_MAX_CONCURRENCY] = {"max-concurrency", 0, CLI_INT, GROUP_MEASURING, "N", 1, 1 << 20, C(BENCH),
                             "with --request-rate: most requests under way; later ones wait outside"},
    [OPT_OUTPUT] = {"output", 'o', CLI_TEXT, GROUP_MEASURING, "FORMAT", 0, 0, C(BENCH),
                    "md (default), csv, json, jsonl or sql"},
    [OPT_OUTPUT_ERR] = {"output-err", 0, CLI_TEXT, GROUP_MEASURING, "FORMAT", 0, 0, C(BENCH),
                        "the results on standard error too, in a form of their own; also -oe"},
    [OPT_PROGRESS] = {"progress", 0, CLI_FLAG, GROUP_MEASURING, NULL, 0, 0, C(BENCH),
                      "say on standard error which test and run is under way"},
    [OPT_MEASURE] = {"measure", 0, CLI_FLAG, GROUP_MEASURING, NULL, 0, 0, C(DEVICES),
                     "measure the devices (default: all of this computer) and the ways between them; --save keeps it"},
    [OPT_PROBE] = {"probe", 0, CLI_FLAG, GROUP_MEASURING, NULL, 0, 0, C(DEVICES),
                   "send a pattern over each ordered pair of GPUs and compare what arrives"},
    [OPT_ORDERED] = {"ordered", 0, CLI_FLAG, GROUP_OUTPUT, NULL, 0, 0, C(BATCH),
                     "answers in the order of the requests (default: as they are done)"},
    [OPT_SYNC] = {"sync", 0, CLI_TEXT, GROUP_OUTPUT, "WHEN", 0, 0, C(BATCH),
                  "force answers onto the disk: line, second (default) or end"},
    [OPT_RETRY_FAILED] = {"retry-failed", 0, CLI_FLAG, GROUP_OUTPUT, NULL, 0, 0, C(BATCH),
                          "take the failed lines out of --out first, and ask them again"},
    [OPT_MODULES] = {"modules", 0, CLI_TEXT, GROUP_PLACEMENT, "FILE", 0, 0, C(PLAN),
                     "a module tree (JSON) instead of a model, with --compat accelerate"},
    [OPT_COMPAT] = {"compat", 0, CLI_TEXT, GROUP_PLACEMENT, "NAME", 0, 0, PLANS,
                    "decide exactly as another tool does: accelerate"},
    [OPT_NO_SPLIT] = {"no-split", 0, CLI_TEXT, GROUP_PLACEMENT, "CLASS,...", 0, 0, C(PLAN),
                      "with --modules: classes that are never divided"},
    [OPT_BYTES_PER_WEIGHT] = {"bytes-per-weight", 0, CLI_REAL, GROUP_PLACEMENT, "X", 0, 0, C(PLAN),
                              "with --modules: load floats in this many bytes each, at most their own size"},
    [OPT_FALLBACK] = {"fallback-allocation", 0, CLI_FLAG, GROUP_PLACEMENT, NULL, 0, 0, C(PLAN),
                      "with --modules: look for a smaller module where the next one does not fit"},
    [OPT_JSON] = {"json", 0, CLI_FLAG, GROUP_OUTPUT, NULL, 0, 0,
                  C(RUN) | C(EVAL) | C(TRACE) | C(PLAN) | C(EXPLAIN) | C(DEVICES) | C(STRATEGIES) | C(PREPROCESS),
                  "one JSON object on standard output"},
    [OPT_COMPARE] = {"compare", 0, CLI_TEXT, GROUP_OUTPUT, "NAME,NAME,...", 0, 0, C(PLAN),
                     "strategies side by side, for example accelerate,optimal,internvl"},
    [OPT_PROGRAM] = {"program", 0, CLI_FLAG, GROUP_OUTPUT, NULL, 0, 0, C(PLAN), "print the placed program, op by op"},
    [OPT_DOT] = {"dot", 0, CLI_FLAG, GROUP_OUTPUT, NULL, 0, 0, C(PLAN), "print the plan as a Graphviz drawing"},
    [OPT_DEVICE_MAP_OUT] = {"print-device-map", 0, CLI_FLAG, GROUP_OUTPUT, NULL, 0, 0, C(PLAN),
                            "print the placement as a Hugging Face device map"},
    [OPT_REPLICA] = {"replica", 0, CLI_INT, GROUP_OUTPUT, "N", 0, 63, C(PLAN) | C(EXPLAIN),
                     "only this replica, from 0 (default: all; --print-device-map: 0)"},
    [OPT_SAVE] = {"save", 0, CLI_TEXT, GROUP_OUTPUT, "FILE", 0, 0, C(DEVICES),
                  "write the devices, their links and this computer's facts as a machine file"},
    [OPT_REPORT] = {"report", 0, CLI_TEXT, GROUP_OUTPUT, "FILE", 0, 0, C(RUN), "also write the JSON result to a file"},
    [OPT_SHOW] = {"show", 0, CLI_FLAG, GROUP_OUTPUT, NULL, 0, 0, C(RUN),
                  "show devices, placement, data paths and timings around the answer"},
    [OPT_QUIET] = {"quiet", 'q', CLI_FLAG, GROUP_OUTPUT, NULL, 0, 0, ALL, "no progress and no notes on standard error"},
    [OPT_COLOR] = {"color", 0, CLI_TEXT, GROUP_OUTPUT, "WHEN", 0, 0, ALL,
                   "auto, always or never (NO_COLOR is honoured)"},
    [OPT_HELP] = {"help", 'h', CLI_FLAG, GROUP_OUTPUT, NULL, 0, 0, ALL, "show help"},
    [OPT_VERSION] = {"version", 'V', CLI_FLAG, GROUP_OUTPUT, NULL, 0, 0, ALL, "show the version"},
};

void cli_env_name(cli_option option, char *out, size_t n)
{
    const char *name = cli_options[option].name;
    size_t k = 0;
    for (const char *p = "BERTH_"; *p && k + 1 < n; p++) out[k++] = *p;
    for (const char *p = name; *p && k + 1 < n; p++) out[k++] = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    out[k] = '\0';
}

/* ---- values ---------------------------------------------------------------------------------------------------------- */

static berth_status bad_value(cli_option o, const char *value, const char *wants, berth_error *err)
{
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--%s %s: expected %s", cli_options[o].name,
                      *value ? value : "(empty)", wants);
}

static berth_status take_int(cli_args *a, cli_option o, const char *value, berth_error *err)
{
    const cli_option_row *row = &cli_options[o];
    uint64_t magnitude = 0;
    char *end = NULL;
    errno = 0;
    const bool suffixed = *value && isdigit((unsigned char)*value) && strchr("kKmM", value[strlen(value) - 1]) != NULL;
    long long n = 0;
    bool ok;
    if (suffixed) { /* 32K tokens */
        ok = berth_parse_bytes(value, &magnitude) && magnitude <= INT64_MAX;
        n = (long long)magnitude;
    } else {
        n = strtoll(value, &end, 10);
        ok = end != value && *end == '\0' && errno == 0 && !isspace((unsigned char)*value);
    }
    if (!ok || n < row->min || n > row->max) {
        char wants[96];
        snprintf(wants, sizeof wants, "a whole number between %lld and %lld", (long long)row->min, (long long)row->max);
        return bad_value(o, value, wants, err);
    }
    a->number[o] = n;
    return BERTH_OK;
}

static berth_status take_u64(cli_args *a, cli_option o, const char *value, berth_error *err)
{
    char *end = NULL;
    errno = 0;
    a->unsigned_number[o] = strtoull(value, &end, 10);
    if (!isdigit((unsigned char)*value) || *end != '\0' || errno != 0)
        return bad_value(o, value, "a whole number between 0 and 18446744073709551615", err);
    return BERTH_OK;
}

static berth_status take_real(cli_args *a, cli_option o, const char *value, berth_error *err)
{
    char *end = NULL;
    a->real[o] = strtod(value, &end);
    if (end == value || *end != '\0' || isspace((unsigned char)*value) || !isfinite(a->real[o]))
        return bad_value(o, value, "a finite number", err);
    return BERTH_OK;
}

static berth_status push(const char ***list, int32_t *n, const char *value, berth_error *err)
{
    const char **more = realloc(*list, ((size_t)*n + 1) * sizeof *more);
    if (more == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the command line");
    *list = more;
    more[(*n)++] = value;
    return BERTH_OK;
}

/* Texts that may be empty: the question behind a picture, and no system message. Any other empty one is a script's mistake. */
static bool may_be_empty(cli_option o)
{
    return cli_options[o].type != CLI_TEXT || o == OPT_PROMPT || o == OPT_SYSTEM ||
           o == OPT_MODEL; /* the last says so itself */
}

static berth_status take(cli_args *a, cli_option o, const char *value, berth_error *err)
{
    if (*value == '\0' && !may_be_empty(o))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--%s is empty; give a value (%s), or leave it out",
                          cli_options[o].name, cli_options[o].arg);
    a->set[o] = true;
    a->text[o] = value;
    switch (cli_options[o].type) {
    case CLI_INT: return take_int(a, o, value, err);
    case CLI_REAL: return take_real(a, o, value, err);
    case CLI_U64: return take_u64(a, o, value, err);
    case CLI_BYTES:
        return berth_parse_bytes(value, &a->unsigned_number[o])
                   ? BERTH_OK
                   : bad_value(o, value, "a size such as 512MiB or 8GiB", err);
    case CLI_LIST: return push(&a->list[o], &a->n_list[o], value, err);
    default: return BERTH_OK;
    }
}

/* ---- parsing --------------------------------------------------------------------------------------------------------- */

static berth_status unknown_option(const char *given, size_t len, cli_command command, berth_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(len < 60 ? len : 60), given);
    int best = berth_misspelling_limit(name);
    const char *near = NULL;
    for (int o = 0; o < OPT_COUNT; o++) {
        if (!(cli_options[o].commands & (1u << command))) continue;
        const bool cut_short = len > 2 && strncmp(name, cli_options[o].name, strlen(name)) == 0; /* --temp */
        const int d = cut_short ? 0 : berth_edit_distance(name, cli_options[o].name, best);
        if (d < best) {
            best = d;
            near = cli_options[o].name;
        }
    }
    if (near != NULL)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "unknown option --%s; did you mean --%s?", name, near);
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "unknown option --%s; `berth %s --help` lists them", name,
                      cli_commands[command].name);
}

static int find_long(const char *name, size_t len)
{
    for (int o = 0; o < OPT_COUNT; o++) {
        if (strlen(cli_options[o].name) == len && memcmp(cli_options[o].name, name, len) == 0) return o;
    }
    return -1;
}

/* A letter may mean one thing to most commands and another to `bench`, which has llama-bench's: an option of one command
 * alone goes before those that it shares. */
static int find_letter(char letter, cli_command command)
{
    int found = -1, shared = -1;
    for (int o = 0; o < OPT_COUNT; o++) {
        if (cli_options[o].letter != letter || letter == 0) continue;
        if (cli_options[o].commands == 1u << command) return o;
        if (shared < 0 && (cli_options[o].commands & (1u << command)) != 0) shared = o;
        if (found < 0) found = o;
    }
    return shared >= 0 ? shared : found;
}

char cli_letter(cli_option option, cli_command command)
{
    const char letter = cli_options[option].letter;
    return letter != 0 && find_letter(letter, command) == (int)option ? letter : 0;
}

static berth_status check_command(const cli_args *a, int o, berth_error *err)
{
    if (cli_options[o].commands & (1u << a->command)) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--%s is not an option of `berth %s`", cli_options[o].name,
                      cli_commands[a->command].name);
}

/* llama-bench's names of two letters behind one dash; -1 = none of them. */
static int find_pair(const cli_args *a, const char *s)
{
    static const struct {
        const char *name;
        cli_option o;
    } pairs[] = {{"pg", OPT_PG}, {"oe", OPT_OUTPUT_ERR}, {"ub", OPT_CHUNK}};
    if (a->command != CMD_BENCH || s[0] != '-' || strcspn(s + 1, "=") != 2) return -1;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        if (memcmp(s + 1, pairs[i].name, 2) == 0) return pairs[i].o;
    return -1;
}

/* One argument (and its value, which may be the next argument). */
static berth_status parse_long(cli_args *a, int argc, char **argv, int *i, berth_error *err)
{
    const char *given = argv[*i] + strspn(argv[*i], "-");
    const char *equals = strchr(given, '=');
    const size_t len = equals != NULL ? (size_t)(equals - given) : strlen(given);
    const int pair = find_pair(a, argv[*i]), o = pair >= 0 ? pair : find_long(given, len);
    if (o < 0) return unknown_option(given, len, a->command, err);
    berth_status st = check_command(a, o, err);
    if (st != BERTH_OK) return st;
    if (cli_options[o].type == CLI_FLAG) {
        if (equals != NULL) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--%s takes no value", cli_options[o].name);
        return take(a, (cli_option)o, "1", err);
    }
    if (equals != NULL) return take(a, (cli_option)o, equals + 1, err);
    if (*i + 1 >= argc)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--%s needs a value: %s", cli_options[o].name,
                          cli_options[o].arg);
    return take(a, (cli_option)o, argv[++*i], err);
}

static berth_status parse_short(cli_args *a, int argc, char **argv, int *i, berth_error *err)
{
    for (const char *p = argv[*i] + 1; *p; p++) {
        const int o = find_letter(*p, a->command);
        if (o < 0)
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "unknown option -%c; `berth %s --help` lists them", *p,
                              cli_commands[a->command].name);
        berth_status st = check_command(a, o, err);
        if (st != BERTH_OK) return st;
        if (cli_options[o].type == CLI_FLAG) {
            st = take(a, (cli_option)o, "1", err);
            if (st != BERTH_OK) return st;
            continue;
        }
        if (p[1] != '\0') return take(a, (cli_option)o, p + 1, err);
        if (*i + 1 >= argc)
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "-%c needs a value: %s", *p, cli_options[o].arg);
        return take(a, (cli_option)o, argv[++*i], err);
    }
    return BERTH_OK;
}

static berth_status find_command(const char *name, cli_args *a, berth_error *err)
{
    int best = berth_misspelling_limit(name);
    const char *near = NULL;
    for (int c = 0; c < CMD_COUNT; c++) {
        if (strcmp(cli_commands[c].name, name) == 0) {
            a->command = (cli_command)c;
            return BERTH_OK;
        }
        const int d = berth_edit_distance(name, cli_commands[c].name, best);
        if (d < best) {
            best = d;
            near = cli_commands[c].name;
        }
    }
    if (near != NULL)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "unknown command \"%s\"; did you mean \"%s\"?", name, near);
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "unknown command \"%s\"; `berth --help` lists them", name);
}

/* Environment twins stand for options that the command line leaves out. */
static berth_status parse_environment(cli_args *a, berth_error *err)
{
    for (int o = 0; o < OPT_COUNT; o++) {
        if (a->set[o] || !(cli_options[o].commands & (1u << a->command)) || o == OPT_HELP || o == OPT_VERSION) continue;
        char name[64];
        cli_env_name((cli_option)o, name, sizeof name);
        const char *value = getenv(name);
        if (value == NULL || *value == '\0') continue;
        if (cli_options[o].type == CLI_FLAG && strcmp(value, "0") == 0) continue;
        berth_status st = take(a, (cli_option)o, value, err);
        a->from_environment[o] = true;
        if (st != BERTH_OK) {
            berth_error_prefix(err, "environment variable %s: ", name);
            return st;
        }
    }
    return BERTH_OK;
}

berth_status cli_parse(int argc, char **argv, cli_args *out, berth_error *err)
{
    *out = (cli_args){0};
    if (argc < 2) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "no command given; `berth --help` lists them");
    berth_status st = find_command(argv[1], out, err);
    bool options_over = false;
    for (int i = 2; i < argc && st == BERTH_OK; i++) {
        const char *s = argv[i];
        if (!options_over && strcmp(s, "--") == 0) {
            options_over = true;
        } else if (!options_over && s[0] == '-' && (s[1] == '-' || find_pair(out, s) >= 0)) {
            st = parse_long(out, argc, argv, &i, err);
        } else if (!options_over && s[0] == '-' && s[1] != '\0') {
            st = parse_short(out, argc, argv, &i, err);
        } else if (cli_commands[out->command].operand == NULL) {
            st = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "\"%s\" is not an option; `berth %s` takes no operands", s,
                            cli_commands[out->command].name);
        } else {
            st = push(&out->operands, &out->n_operands, s, err);
        }
    }
    if (st == BERTH_OK) st = parse_environment(out, err);
    if (st != BERTH_OK) cli_args_deinit(out);
    return st;
}

void cli_args_deinit(cli_args *a)
{
    for (int o = 0; o < OPT_COUNT; o++) {
        free(a->list[o]);
        a->list[o] = NULL;
        a->n_list[o] = 0;
    }
    free(a->operands);
    a->operands = NULL;
    a->n_operands = 0;
}
