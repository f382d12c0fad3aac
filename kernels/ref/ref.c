/* ref.c - the table of the reference kernels. */
#include "kernels/cpu/cpu_internal.h"
#include "kernels/ref/ref_internal.h"

static const berth_kernels ref_kernels = {
    .name = "ref",
    .run =
        {
            [BERTH_OP_PATCHIFY] = berth_ref_patchify,
            [BERTH_OP_LINEAR] = berth_ref_linear,
            [BERTH_OP_VISION_EMBED] = berth_ref_vision_embed,
            [BERTH_OP_LAYER_NORM] = berth_ref_layer_norm,
            [BERTH_OP_RMS_NORM] = berth_ref_rms_norm,
            [BERTH_OP_ATTENTION_FULL] = berth_ref_attention_full,
            [BERTH_OP_SCALE_ADD] = berth_ref_scale_add,
            [BERTH_OP_ADD] = berth_ref_add,
            [BERTH_OP_GELU] = berth_ref_gelu,
            [BERTH_OP_SILU_MUL] = berth_ref_silu_mul,
            [BERTH_OP_DROP_CLS] = berth_ref_drop_cls,
            [BERTH_OP_PIXEL_SHUFFLE] = berth_ref_pixel_shuffle,
            [BERTH_OP_EMBED] = berth_ref_embed,
            [BERTH_OP_SCATTER_ROWS] = berth_ref_scatter_rows,
            [BERTH_OP_GATHER_ROWS] = berth_ref_gather_rows,
            [BERTH_OP_STORE_ROWS] = berth_ref_store_rows,
            [BERTH_OP_ROPE_TABLE] = berth_ref_rope_table,
            [BERTH_OP_ROPE] = berth_ref_rope,
            [BERTH_OP_KV_APPEND] = berth_ref_kv_append,
            [BERTH_OP_ATTENTION_PAGED] = berth_ref_attention_paged,
            [BERTH_OP_LOGIT_STATS] = berth_ref_logit_stats,
            [BERTH_OP_LOGIT_BEST] = berth_ref_logit_best,
        },
    .workspace =
        {
            [BERTH_OP_ATTENTION_FULL] = berth_ref_attention_full_workspace,
            [BERTH_OP_ATTENTION_PAGED] = berth_ref_attention_paged_workspace,
        },
    .round = berth_cpu_round,
};

const berth_kernels *berth_kernels_ref(void)
{
    return &ref_kernels;
}
