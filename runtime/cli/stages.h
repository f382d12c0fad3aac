/* stages.h - the stages of a request as berth's commands tell them: apart from each other, in their order. */
#ifndef BERTH_CLI_STAGES_H
#define BERTH_CLI_STAGES_H

#include "berth/berth.h"

typedef enum cli_stage {
    CLI_DECODE_IMAGE, /* reading and decoding pictures */
    CLI_TILES,        /* scaling pictures and cutting tiles */
    CLI_TOKENIZE,     /* building the prompt */
    CLI_ENCODE,       /* the vision tower */
    CLI_PROJECT,      /* the projector behind it */
    CLI_PREFILL,      /* the prompt, up to the first token */
    CLI_DECODE,       /* further tokens */
    CLI_N_STAGES
} cli_stage;

extern const char *const cli_stage_names[CLI_N_STAGES];  /* "decode_image": a key */
extern const char *const cli_stage_titles[CLI_N_STAGES]; /* "decode image": for people */

void cli_stages_of(const berth_result *r, int64_t out_ns[CLI_N_STAGES]);

#endif
