/* layout.h - the description tables: which modules and tensors a layout has, under which names.
 *
 * A table lists modules and tensors in pre-order; a row's children are the rows behind it with a greater depth.
 * Siblings stand in execution order. Everything that differs between two files of one layout is a condition (`when`)
 * over the configuration; everything that differs between two spellings of one name is a rename. Nothing else in berth
 * knows a tensor's name. */
#ifndef BERTH_MODEL_LAYOUT_H
#define BERTH_MODEL_LAYOUT_H

#include "model/model.h"

typedef enum berth_row_kind {
    BERTH_ROW_MODULE,
    BERTH_ROW_VISION_LAYER, /* a module repeated per vision block; its name is the number */
    BERTH_ROW_TEXT_LAYER,   /* per decoder layer */
    BERTH_ROW_TENSOR,
    /* A tensor holding the parameters of the next roles too: q, k, v (weights or biases), in equal slices of rows. */
    BERTH_ROW_FUSED,
    BERTH_ROW_BUFFER,  /* computed, never stored */
    BERTH_ROW_INCLUDE, /* the rows of table `include`, here */
} berth_row_kind;

/* Conditions on the configuration. A row is there when all its bits hold. */
enum {
    BERTH_WHEN_LAYER_NORM = 1,
    BERTH_WHEN_RMS_NORM = 2,
    BERTH_WHEN_VISION_BIAS = 4, /* of q, k and v */
    BERTH_WHEN_VISION_QK_NORM = 8,
    BERTH_WHEN_NO_VISION_QK_NORM = 16,
    BERTH_WHEN_TEXT_BIAS = 32,
    BERTH_WHEN_TEXT_QK_NORM = 64,
};

typedef struct berth_layout_row berth_layout_row;
typedef struct berth_layout_table {
    const berth_layout_row *rows;
    int32_t n;
} berth_layout_table;

struct berth_layout_row {
    uint8_t depth;
    berth_row_kind kind;
    const char *name;       /* last component of the path; unused in repeated rows */
    const char *class_name; /* modules; '%' is the language model's family, "Qwen2" or "Qwen3" */
    const char *shape;      /* tensors: one letter a dimension, see berth_layout_dim */
    int16_t role;           /* tensors: berth_role; modules: 1 + berth_module_role, 0 = none */
    uint16_t when;          /* BERTH_WHEN_* */
    uint16_t flags;         /* BERTH_NODE_* */
    const berth_layout_table *include;
};

typedef struct
    berth_layout_rename { /* a name that begins with `from` begins with `to` in the tree; the first that fits counts */
    const char *from, *to;
} berth_layout_rename;

typedef struct berth_layout_desc {
    const char *about; /* for errors: "the internvl (native) layout" */
    berth_layout_table table;
    const berth_layout_rename *renames; /* ends with from == NULL */
} berth_layout_desc;

/* The size that a letter of `shape` stands for:
 *   1, 3   themselves           C  vision hidden       F  vision ffn         P  1 + n_patches     p  patch     Q  3
 * * C
 *   M  downsample^2 * C         D  text hidden         I  text ffn           V  vocabulary
 *   q  n_heads * head_dim       k  n_kv_heads * head_dim                     h  head_dim          r  head_dim / 2 */
int64_t berth_layout_dim(const berth_model_config *config, char letter);

const berth_layout_desc *berth_layout_of(berth_layout layout);

extern const berth_layout_desc berth_layout_internvl_chat, berth_layout_internvl, berth_layout_qwen;
extern const berth_layout_table berth_layout_qwen_rows; /* inside Qwen2Model: embed_tokens ... norm, from depth 0 */

#endif
