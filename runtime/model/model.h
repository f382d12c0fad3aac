/* model.h - an opened model directory: configuration, parameters by role, the module tree, and the weight files.
 *
 * Owns the mapping from file names to parameters (one description table per layout, in layout_*.c) and the descriptors
 * of the weight files. Nothing else in berth knows a tensor's name. Opening reads headers only; every missing, extra or
 * misshapen tensor is listed in one error. Extra are names below the model's own modules; names that belong to nothing
 * of the model are left alone. Immutable after open, so any number of threads and engines may share it; retained by
 * each user. */
#ifndef BERTH_MODEL_MODEL_H
#define BERTH_MODEL_MODEL_H

#include "berth/strategy.h"

#include "base/dtype.h"
#include "model/config.h"

/* What a parameter is for. V_ = vision tower, P_ = projector, T_ = language model; *_B is a bias.
 * Shapes, row-major: C vision hidden, F vision ffn, D text hidden, I text ffn, V vocabulary, q = n_heads *
 * head_dim, k = n_kv_heads * head_dim. */
/* clang-format off */
typedef enum berth_role {
    BERTH_V_CLS,                       /* [C] */
    BERTH_V_POS,                       /* [1 + n_patches, C], row 0 = CLS */
    BERTH_V_PATCH_W, BERTH_V_PATCH_B,  /* [C, 3 * patch * patch] (channel, y, x), [C] */
    BERTH_V_NORM1_W, BERTH_V_NORM1_B,  /* [C]; per layer from here on; biases only for LayerNorm */
    /* [C, C], [C]; slices of a fused tensor where the file fuses */
    BERTH_V_Q_W, BERTH_V_Q_B, BERTH_V_K_W, BERTH_V_K_B, BERTH_V_V_W, BERTH_V_V_B,
    BERTH_V_QNORM_W, BERTH_V_KNORM_W,  /* [C] */
    BERTH_V_O_W, BERTH_V_O_B,          /* [C, C], [C] */
    BERTH_V_LS1, BERTH_V_LS2,          /* [C] */
    BERTH_V_NORM2_W, BERTH_V_NORM2_B,
    BERTH_V_FC1_W, BERTH_V_FC1_B, BERTH_V_FC2_W, BERTH_V_FC2_B, /* [F, C], [F], [C, F], [C] */
    BERTH_P_NORM_W, BERTH_P_NORM_B,    /* [4C] (downsample^2 * C) */
    BERTH_P_FC1_W, BERTH_P_FC1_B, BERTH_P_FC2_W, BERTH_P_FC2_B, /* [D, 4C], [D], [D, D], [D] */
    BERTH_T_EMBED,                     /* [V, D] */
    BERTH_T_NORM1_W,                   /* [D]; per layer from here on */
    BERTH_T_Q_W, BERTH_T_Q_B, BERTH_T_K_W, BERTH_T_K_B, BERTH_T_V_W, BERTH_T_V_B, /* [q, D], [q], [k, D], [k], ... */
    BERTH_T_QNORM_W, BERTH_T_KNORM_W,  /* [head_dim] */
    BERTH_T_O_W,                       /* [D, q] */
    BERTH_T_NORM2_W,
    BERTH_T_GATE_W, BERTH_T_UP_W, BERTH_T_DOWN_W, /* [I, D], [I, D], [D, I] */
    BERTH_T_NORM_W,                    /* [D] */
    BERTH_T_HEAD,                      /* [V, D]; when tied: the embedding's bytes again */
    BERTH_ROLE_COUNT
} berth_role;
/* clang-format on */

typedef struct berth_param {
    berth_role role;
    int32_t layer; /* -1 for those outside layers */
    /* Its tensor node in the module tree. A fused tensor's slices share one; a tied head has its own, tied_to the
     * embedding's. */
    int32_t node;
    const char *tensor; /* name in the file, borrowed from the model */
    berth_dtype dtype;
    int32_t n_dims;
    int64_t dims[2];        /* as in the role's table: flattened to at most two dimensions */
    int32_t shard;          /* index of its file; -1 in a model opened without weights */
    size_t offset, n_bytes; /* in that file, slice already applied */
} berth_param;

typedef struct berth_model_shard {
    const char *name; /* file name inside the directory */
    int fd;           /* borrowed */
    size_t size;
} berth_model_shard;

typedef struct berth_model_data berth_model_data;

typedef struct berth_model_data_options {
    /* A directory with config.json and no weight file is enough (planning); dtypes then come from torch_dtype. So are
     * weight files that end right behind their headers; their weights cannot be loaded. */
    bool allow_missing_weights;
} berth_model_data_options;

/* Opens folder `dir`. Errors: BERTH_NOT_FOUND, BERTH_BAD_FILE, BERTH_UNSUPPORTED (a GGUF path: one sentence),
 * BERTH_IO_ERROR. */
berth_status berth_model_data_open(const char *dir, const berth_model_data_options *options, berth_model_data **out,
                                   berth_error *err);

/* Is `dir` a folder at all? For those who read single files of it. The errors of opening: BERTH_UNSUPPORTED for a GGUF
 * file, BERTH_BAD_FILE, BERTH_NOT_FOUND, BERTH_IO_ERROR, BERTH_INVALID_ARGUMENT for an empty path. */
berth_status berth_model_dir_check(const char *dir, berth_error *err);

void berth_model_data_retain(berth_model_data *m);
void berth_model_data_release(berth_model_data *m); /* NULL is fine */

const char *berth_model_data_dir(const berth_model_data *m);
const berth_model_config *berth_model_data_config(const berth_model_data *m);

int32_t berth_model_data_n_params(const berth_model_data *m);
const berth_param *berth_model_data_param(const berth_model_data *m, int32_t i);
int32_t berth_model_data_find(const berth_model_data *m, berth_role role,
                              int32_t layer); /* O(1); -1 if the model has none */

int32_t berth_model_data_n_shards(const berth_model_data *m);
const berth_model_shard *berth_model_data_shard(const berth_model_data *m, int32_t i);

/* The module tree in execution order (vision, projector, embedding, layers, norm, head), with the names and classes the
 * reference library gives this layout's modules in memory. Includes modules that own no tensor but that users name
 * ("vision_model.encoder", "mlp1.2"), and rotary inv_freq as BERTH_NODE_BUFFER, which has no weight bytes: it is in no
 * file. Borrowed; node_view strings too. find_node takes the older spellings as well ("language_model.lm_head"). */
int32_t berth_model_data_n_nodes(const berth_model_data *m);
const berth_node_view *berth_model_data_nodes(const berth_model_data *m);
int32_t berth_model_data_find_node(const berth_model_data *m, const char *path); /* O(1); -1 */

/* Node of the module in which ops without a parameter of their own run: the parent module of parameter (role,
 * layer) and so on. */
typedef enum berth_module_role {
    BERTH_M_VISION,
    BERTH_M_VISION_EMBED,
    BERTH_M_VISION_LAYER,
    BERTH_M_VISION_ATTN,
    BERTH_M_VISION_MLP,
    BERTH_M_PROJECTOR,
    BERTH_M_TEXT,
    BERTH_M_EMBED,
    BERTH_M_TEXT_LAYER,
    BERTH_M_TEXT_ATTN,
    BERTH_M_TEXT_MLP,
    BERTH_M_TEXT_NORM,
    BERTH_M_HEAD
} berth_module_role;
int32_t berth_model_data_module(const berth_model_data *m, berth_module_role role, int32_t layer);

#endif
