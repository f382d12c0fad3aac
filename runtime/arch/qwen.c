/* qwen.c - Qwen2 and Qwen3 language models alone: one program, `step`. */
#include "arch/arch_internal.h"

static bool can(const berth_model_config *config)
{
    return !config->has_vision && (config->layout == BERTH_LAYOUT_QWEN2 || config->layout == BERTH_LAYOUT_QWEN3);
}

static berth_status build(const berth_model_data *m, const berth_build_options *options, berth_programs *out,
                          berth_error *err)
{
    return berth_build_decoder(m, options, &out->step, err);
}

const berth_arch berth_arch_qwen = {
    .name = "qwen",
    .about = "Qwen2, Qwen2.5 and Qwen3 language models (text only)",
    .can = can,
    .build = build,
};
