/* set.h - everything that is compiled once per vector width, and the table it makes. The including file defines
 * BERTH_LANES, BERTH_SET (the table's symbol) and BERTH_SET_NAME, and includes nothing else. */
#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_paged.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/logit_best.h"
#include "kernels/cpu/logit_stats.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/round.h"

const berth_kernels BERTH_SET = {
    .name = BERTH_SET_NAME,
    .run =
        {
            [BERTH_OP_PATCHIFY] = berth_cpu_patchify,
            [BERTH_OP_LINEAR] = linear,
            [BERTH_OP_VISION_EMBED] = berth_cpu_vision_embed,
            [BERTH_OP_LAYER_NORM] = layer_norm,
            [BERTH_OP_RMS_NORM] = rms_norm,
            [BERTH_OP_ATTENTION_FULL] = attention_full,
            [BERTH_OP_SCALE_ADD] = scale_add,
            [BERTH_OP_ADD] = add,
            [BERTH_OP_GELU] = gelu,
            [BERTH_OP_SILU_MUL] = silu_mul,
            [BERTH_OP_DROP_CLS] = berth_cpu_drop_cls,
            [BERTH_OP_PIXEL_SHUFFLE] = berth_cpu_pixel_shuffle,
            [BERTH_OP_EMBED] = berth_cpu_embed,
            [BERTH_OP_SCATTER_ROWS] = berth_cpu_scatter_rows,
            [BERTH_OP_GATHER_ROWS] = berth_cpu_gather_rows,
            [BERTH_OP_STORE_ROWS] = berth_cpu_store_rows,
            [BERTH_OP_ROPE_TABLE] = berth_cpu_rope_table,
            [BERTH_OP_ROPE] = rope,
            [BERTH_OP_KV_APPEND] = berth_cpu_kv_append,
            [BERTH_OP_ATTENTION_PAGED] = attention_paged,
            [BERTH_OP_LOGIT_STATS] = logit_stats,
            [BERTH_OP_LOGIT_BEST] = logit_best,
        },
    .workspace =
        {
            [BERTH_OP_LINEAR] = linear_workspace,
            [BERTH_OP_VISION_EMBED] = berth_cpu_vision_embed_workspace,
            [BERTH_OP_LAYER_NORM] = norm_workspace,
            [BERTH_OP_RMS_NORM] = norm_workspace,
            [BERTH_OP_ATTENTION_FULL] = attention_full_workspace,
            [BERTH_OP_SCALE_ADD] = scale_add_workspace,
            [BERTH_OP_ATTENTION_PAGED] = attention_paged_workspace,
            [BERTH_OP_LOGIT_BEST] = logit_best_workspace,
        },
    .round = round_weights,
};
