/* config.h - what a model directory says about itself, checked and in one form for all layouts.
 *
 * Owns reading config.json, generation_config.json and the preprocessor files into plain numbers with every range
 * checked, so that later code divides, shifts and allocates by them without asking again. Knows no tensor. Source:
 * spec of the published InternVL3 and Qwen2 configurations (both `internvl_chat` and `internvl`), transformers 4.x and
 * 5.x spellings. */
#ifndef BERTH_MODEL_CONFIG_H
#define BERTH_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/status.h"

typedef enum berth_layout {
    BERTH_LAYOUT_INTERNVL_CHAT, /* remote code: vision_model., mlp1., fused qkv */
    BERTH_LAYOUT_INTERNVL,      /* native ("-hf"): vision_tower., multi_modal_projector. */
    BERTH_LAYOUT_QWEN2,         /* Qwen2ForCausalLM, text only */
    BERTH_LAYOUT_QWEN3,         /* Qwen3ForCausalLM, text only */
} berth_layout;

typedef enum berth_norm { BERTH_NORM_LAYER, BERTH_NORM_RMS } berth_norm;

typedef struct berth_vision_config {
    int32_t n_layers;      /* blocks to run: select_layer is already applied */
    int32_t n_layers_file; /* blocks the file holds */
    int32_t hidden, n_heads, head_dim, ffn;
    int32_t image_size, patch; /* pixels of a tile's side, of a patch's side; image_size is a multiple of 2 * patch */
    int32_t n_patches;         /* (image_size / patch)^2 */
    int32_t downsample;        /* side of the pixel-shuffle square: 2 */
    bool shuffle_transposed;   /* ps_version v1 */
    int32_t tokens_per_tile;   /* n_patches / downsample^2 */
    berth_norm norm;
    float norm_eps, qk_norm_eps;
    bool qkv_bias, qk_norm;
    float projector_eps; /* 1e-5 */
} berth_vision_config;

typedef enum berth_rope_scaling { BERTH_ROPE_PLAIN, BERTH_ROPE_DYNAMIC, BERTH_ROPE_LINEAR } berth_rope_scaling;

typedef struct berth_text_config {
    int32_t n_layers, hidden, n_heads, n_kv_heads, head_dim, ffn, vocab;
    int32_t max_positions;
    float rms_eps;
    double rope_theta;
    berth_rope_scaling rope_scaling;
    double rope_factor;  /* for DYNAMIC and LINEAR */
    bool qkv_bias;       /* Qwen2 */
    bool qk_norm;        /* Qwen3: RMS norm of each head's q and k */
    bool tie_embeddings; /* as written; a head tensor in the file wins */
} berth_text_config;

/* Bytes of one token's keys and values in one layer, of elements of so many bytes. */
static inline uint64_t berth_text_kv_bytes(const berth_text_config *t, size_t element_bytes)
{
    return 2 * (uint64_t)t->n_kv_heads * (uint64_t)t->head_dim * element_bytes;
}

typedef struct berth_preprocess_config {
    int32_t min_tiles, max_tiles;
    bool thumbnail;
    float mean[3], std[3];
} berth_preprocess_config;

typedef struct berth_generation_config { /* generation_config.json; only what berth honours */
    int32_t eos_ids[8];
    int32_t n_eos; /* chat stop tokens are added by text/, see chat.h */
} berth_generation_config;

typedef enum berth_chat_form {
    BERTH_CHAT_INTERNVL2_5, /* remote code's conversation template */
    BERTH_CHAT_NATIVE,      /* the native processor's template */
    BERTH_CHAT_QWEN2_5,     /* Qwen2.5's template, default system message */
    BERTH_CHAT_QWEN3,
} berth_chat_form;

typedef struct berth_model_config {
    berth_layout layout;
    bool has_vision;
    berth_vision_config vision; /* zero unless has_vision */
    berth_text_config text;
    berth_preprocess_config preprocess;
    berth_generation_config generation;
    berth_chat_form chat;
    int32_t image_token_id; /* as config.json states it, below text.vocab; -1 = not stated */
    /* dtype or torch_dtype (F32 where absent); BERTH_DTYPE_COUNT for a name berth does not know. The files win. */
    berth_dtype stated_dtype;
} berth_model_config;

/* Reads the configuration files of folder `dir`. Unknown keys are left alone; known keys of a wrong type or out of
 * range are BERTH_BAD_FILE naming file and key; architectures berth cannot run are BERTH_UNSUPPORTED naming what it
 * can. */
berth_status berth_config_read(const char *dir, berth_model_config *out, berth_error *err);

#endif
