/* stages.c - see stages.h. The library gives totals and parts of them; here a stage holds nothing of another. */
#include "cli/stages.h"

const char *const cli_stage_names[CLI_N_STAGES] = {"decode_image", "tiles",   "tokenize", "encode",
                                                   "project",      "prefill", "decode"};
const char *const cli_stage_titles[CLI_N_STAGES] = {"decode image", "tiles",   "tokenize", "encode",
                                                    "project",      "prefill", "decode"};

void cli_stages_of(const berth_result *r, int64_t out_ns[CLI_N_STAGES])
{
    const berth_timings *t = &r->timings;
    out_ns[CLI_DECODE_IMAGE] = r->decode_image_ns;
    out_ns[CLI_TILES] = r->tiles_ns;
    out_ns[CLI_TOKENIZE] = t->tokenize_ns;
    out_ns[CLI_ENCODE] = t->encode_ns - r->project_ns;
    out_ns[CLI_PROJECT] = r->project_ns;
    out_ns[CLI_PREFILL] = t->prefill_ns;
    out_ns[CLI_DECODE] = t->decode_ns;
}
