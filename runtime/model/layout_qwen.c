/* layout_qwen.c - Qwen2 and Qwen3: the language model inside the other layouts, and the text-only directory.
 * Source: transformers, models/qwen2/modeling_qwen2.py, models/qwen3/modeling_qwen3.py. */
#include "model/layout.h"

#define COUNT(x) ((int32_t)(sizeof(x) / sizeof *(x)))

/* clang-format off */
static const berth_layout_row inside[] = {
    {0, BERTH_ROW_MODULE, "embed_tokens", "Embedding", .role = 1 + BERTH_M_EMBED},
    {1, BERTH_ROW_TENSOR, "weight", .shape = "VD", .role = BERTH_T_EMBED},
    {0, BERTH_ROW_MODULE, "rotary_emb", "%RotaryEmbedding"},
    {1, BERTH_ROW_BUFFER, "inv_freq", .shape = "r"},
    {0, BERTH_ROW_MODULE, "layers", "ModuleList"},
    {1, BERTH_ROW_TEXT_LAYER, NULL, "%DecoderLayer", .role = 1 + BERTH_M_TEXT_LAYER, .flags = BERTH_NODE_NO_SPLIT},
    {2, BERTH_ROW_MODULE, "input_layernorm", "%RMSNorm"},
    {3, BERTH_ROW_TENSOR, "weight", .shape = "D", .role = BERTH_T_NORM1_W},
    {2, BERTH_ROW_MODULE, "self_attn", "%Attention", .role = 1 + BERTH_M_TEXT_ATTN},
    {3, BERTH_ROW_MODULE, "q_proj", "Linear"},
    {4, BERTH_ROW_TENSOR, "weight", .shape = "qD", .role = BERTH_T_Q_W},
    {4, BERTH_ROW_TENSOR, "bias", .shape = "q", .role = BERTH_T_Q_B, .when = BERTH_WHEN_TEXT_BIAS},
    {3, BERTH_ROW_MODULE, "k_proj", "Linear"},
    {4, BERTH_ROW_TENSOR, "weight", .shape = "kD", .role = BERTH_T_K_W},
    {4, BERTH_ROW_TENSOR, "bias", .shape = "k", .role = BERTH_T_K_B, .when = BERTH_WHEN_TEXT_BIAS},
    {3, BERTH_ROW_MODULE, "v_proj", "Linear"},
    {4, BERTH_ROW_TENSOR, "weight", .shape = "kD", .role = BERTH_T_V_W},
    {4, BERTH_ROW_TENSOR, "bias", .shape = "k", .role = BERTH_T_V_B, .when = BERTH_WHEN_TEXT_BIAS},
    {3, BERTH_ROW_MODULE, "q_norm", "%RMSNorm", .when = BERTH_WHEN_TEXT_QK_NORM},
    {4, BERTH_ROW_TENSOR, "weight", .shape = "h", .role = BERTH_T_QNORM_W},
    {3, BERTH_ROW_MODULE, "k_norm", "%RMSNorm", .when = BERTH_WHEN_TEXT_QK_NORM},
    {4, BERTH_ROW_TENSOR, "weight", .shape = "h", .role = BERTH_T_KNORM_W},
    {3, BERTH_ROW_MODULE, "o_proj", "Linear"},
    {4, BERTH_ROW_TENSOR, "weight", .shape = "Dq", .role = BERTH_T_O_W},
    {2, BERTH_ROW_MODULE, "post_attention_layernorm", "%RMSNorm"},
    {3, BERTH_ROW_TENSOR, "weight", .shape = "D", .role = BERTH_T_NORM2_W},
    {2, BERTH_ROW_MODULE, "mlp", "%MLP", .role = 1 + BERTH_M_TEXT_MLP},
    {3, BERTH_ROW_MODULE, "gate_proj", "Linear"},
    {4, BERTH_ROW_TENSOR, "weight", .shape = "ID", .role = BERTH_T_GATE_W},
    {3, BERTH_ROW_MODULE, "up_proj", "Linear"},
    {4, BERTH_ROW_TENSOR, "weight", .shape = "ID", .role = BERTH_T_UP_W},
    {3, BERTH_ROW_MODULE, "act_fn", "SiLU"},
    {3, BERTH_ROW_MODULE, "down_proj", "Linear"},
    {4, BERTH_ROW_TENSOR, "weight", .shape = "DI", .role = BERTH_T_DOWN_W},
    {0, BERTH_ROW_MODULE, "norm", "%RMSNorm", .role = 1 + BERTH_M_TEXT_NORM},
    {1, BERTH_ROW_TENSOR, "weight", .shape = "D", .role = BERTH_T_NORM_W},
};
/* clang-format on */

const berth_layout_table berth_layout_qwen_rows = {inside, COUNT(inside)};

static const berth_layout_row rows[] = {
    {0, BERTH_ROW_MODULE, "", "%ForCausalLM"},
    {1, BERTH_ROW_MODULE, "model", "%Model", .role = 1 + BERTH_M_TEXT},
    {2, BERTH_ROW_INCLUDE, .include = &berth_layout_qwen_rows},
    {1, BERTH_ROW_MODULE, "lm_head", "Linear", .role = 1 + BERTH_M_HEAD},
    {2, BERTH_ROW_TENSOR, "weight", .shape = "VD", .role = BERTH_T_HEAD},
};

/* The bare Qwen2Model, as feature extractors save it. */
static const berth_layout_rename renames[] = {
    {"layers.", "model.layers."},
    {"embed_tokens.", "model.embed_tokens."},
    {"norm.", "model.norm."},
    {NULL, NULL},
};

const berth_layout_desc berth_layout_qwen = {"a Qwen2 or Qwen3 language model", {rows, COUNT(rows)}, renames};
