/* layout_internvl_chat.c - InternVL as the authors' own code names it (model_type internvl_chat): vision_model,
 * mlp1, fused qkv.
 * Source: InternVL, modeling_internvl_chat.py and modeling_intern_vit.py. InternVisionModel is on transformers'
 * list of modules not to be split. */
#include "model/layout.h"

#define COUNT(x) ((int32_t)(sizeof(x) / sizeof *(x)))

/* clang-format off */
static const berth_layout_row rows[] = {
    {0, BERTH_ROW_MODULE, "", "InternVLChatModel"},
    {1, BERTH_ROW_MODULE, "vision_model", "InternVisionModel", .role = 1 + BERTH_M_VISION, .flags = BERTH_NODE_NO_SPLIT},
    {2, BERTH_ROW_MODULE, "embeddings", "InternVisionEmbeddings", .role = 1 + BERTH_M_VISION_EMBED},
    {3, BERTH_ROW_TENSOR, "class_embedding", .shape = "11C", .role = BERTH_V_CLS},
    {3, BERTH_ROW_TENSOR, "position_embedding", .shape = "1PC", .role = BERTH_V_POS},
    {3, BERTH_ROW_MODULE, "patch_embedding", "Conv2d"},
    {4, BERTH_ROW_TENSOR, "weight", .shape = "C3pp", .role = BERTH_V_PATCH_W},
    {4, BERTH_ROW_TENSOR, "bias", .shape = "C", .role = BERTH_V_PATCH_B},
    {2, BERTH_ROW_MODULE, "encoder", "InternVisionEncoder"},
    {3, BERTH_ROW_MODULE, "layers", "ModuleList"},
    {4, BERTH_ROW_VISION_LAYER, NULL, "InternVisionEncoderLayer", .role = 1 + BERTH_M_VISION_LAYER, .flags = BERTH_NODE_NO_SPLIT},
    {5, BERTH_ROW_TENSOR, "ls1", .shape = "C", .role = BERTH_V_LS1},
    {5, BERTH_ROW_TENSOR, "ls2", .shape = "C", .role = BERTH_V_LS2},
    {5, BERTH_ROW_MODULE, "norm1", "LayerNorm", .when = BERTH_WHEN_LAYER_NORM},
    {6, BERTH_ROW_TENSOR, "weight", .shape = "C", .role = BERTH_V_NORM1_W},
    {6, BERTH_ROW_TENSOR, "bias", .shape = "C", .role = BERTH_V_NORM1_B},
    {5, BERTH_ROW_MODULE, "norm1", "InternRMSNorm", .when = BERTH_WHEN_RMS_NORM},
    {6, BERTH_ROW_TENSOR, "weight", .shape = "C", .role = BERTH_V_NORM1_W},
    {5, BERTH_ROW_MODULE, "attn", "InternAttention", .role = 1 + BERTH_M_VISION_ATTN},
    {6, BERTH_ROW_MODULE, "qkv", "Linear"},
    {7, BERTH_ROW_FUSED, "weight", .shape = "QC", .role = BERTH_V_Q_W},
    {7, BERTH_ROW_FUSED, "bias", .shape = "Q", .role = BERTH_V_Q_B, .when = BERTH_WHEN_VISION_BIAS},
    {6, BERTH_ROW_MODULE, "attn_drop", "Dropout"},
    {6, BERTH_ROW_MODULE, "proj_drop", "Dropout"},
    {6, BERTH_ROW_MODULE, "q_norm", "InternRMSNorm", .when = BERTH_WHEN_VISION_QK_NORM},
    {7, BERTH_ROW_TENSOR, "weight", .shape = "C", .role = BERTH_V_QNORM_W},
    {6, BERTH_ROW_MODULE, "k_norm", "InternRMSNorm", .when = BERTH_WHEN_VISION_QK_NORM},
    {7, BERTH_ROW_TENSOR, "weight", .shape = "C", .role = BERTH_V_KNORM_W},
    {6, BERTH_ROW_MODULE, "proj", "Linear"},
    {7, BERTH_ROW_TENSOR, "weight", .shape = "CC", .role = BERTH_V_O_W},
    {7, BERTH_ROW_TENSOR, "bias", .shape = "C", .role = BERTH_V_O_B},
    {5, BERTH_ROW_MODULE, "drop_path1", "Identity"},
    {5, BERTH_ROW_MODULE, "norm2", "LayerNorm", .when = BERTH_WHEN_LAYER_NORM},
    {6, BERTH_ROW_TENSOR, "weight", .shape = "C", .role = BERTH_V_NORM2_W},
    {6, BERTH_ROW_TENSOR, "bias", .shape = "C", .role = BERTH_V_NORM2_B},
    {5, BERTH_ROW_MODULE, "norm2", "InternRMSNorm", .when = BERTH_WHEN_RMS_NORM},
    {6, BERTH_ROW_TENSOR, "weight", .shape = "C", .role = BERTH_V_NORM2_W},
    {5, BERTH_ROW_MODULE, "mlp", "InternMLP", .role = 1 + BERTH_M_VISION_MLP},
    {6, BERTH_ROW_MODULE, "fc1", "Linear"},
    {7, BERTH_ROW_TENSOR, "weight", .shape = "FC", .role = BERTH_V_FC1_W},
    {7, BERTH_ROW_TENSOR, "bias", .shape = "F", .role = BERTH_V_FC1_B},
    {6, BERTH_ROW_MODULE, "act", "GELUActivation"},
    {6, BERTH_ROW_MODULE, "fc2", "Linear"},
    {7, BERTH_ROW_TENSOR, "weight", .shape = "CF", .role = BERTH_V_FC2_W},
    {7, BERTH_ROW_TENSOR, "bias", .shape = "C", .role = BERTH_V_FC2_B},
    {5, BERTH_ROW_MODULE, "drop_path2", "Identity"},
    {1, BERTH_ROW_MODULE, "mlp1", "Sequential", .role = 1 + BERTH_M_PROJECTOR},
    {2, BERTH_ROW_MODULE, "0", "LayerNorm"},
    {3, BERTH_ROW_TENSOR, "weight", .shape = "M", .role = BERTH_P_NORM_W},
    {3, BERTH_ROW_TENSOR, "bias", .shape = "M", .role = BERTH_P_NORM_B},
    {2, BERTH_ROW_MODULE, "1", "Linear"},
    {3, BERTH_ROW_TENSOR, "weight", .shape = "DM", .role = BERTH_P_FC1_W},
    {3, BERTH_ROW_TENSOR, "bias", .shape = "D", .role = BERTH_P_FC1_B},
    {2, BERTH_ROW_MODULE, "2", "GELU"},
    {2, BERTH_ROW_MODULE, "3", "Linear"},
    {3, BERTH_ROW_TENSOR, "weight", .shape = "DD", .role = BERTH_P_FC2_W},
    {3, BERTH_ROW_TENSOR, "bias", .shape = "D", .role = BERTH_P_FC2_B},
    {1, BERTH_ROW_MODULE, "language_model", "%ForCausalLM"},
    {2, BERTH_ROW_MODULE, "model", "%Model", .role = 1 + BERTH_M_TEXT},
    {3, BERTH_ROW_INCLUDE, .include = &berth_layout_qwen_rows},
    {2, BERTH_ROW_MODULE, "lm_head", "Linear", .role = 1 + BERTH_M_HEAD},
    {3, BERTH_ROW_TENSOR, "weight", .shape = "VD", .role = BERTH_T_HEAD},
};
/* clang-format on */

static const berth_layout_rename renames[] = {{NULL, NULL}};

const berth_layout_desc berth_layout_internvl_chat = {
    "the internvl_chat (remote code) layout", {rows, COUNT(rows)}, renames};
