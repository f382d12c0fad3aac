/* config_text.c - the language model's part of a configuration: Qwen2 and Qwen3, transformers 4 and 5 spellings.
 * Source: transformers, models/qwen2 and models/qwen3 (defaults), modeling_rope_utils (rope forms). */
#include "model/config_internal.h"

#include <stdio.h>
#include <string.h>

#define QWEN_THETA 10000.0 /* class default where a file gives none */

/* transformers 4: rope_theta and rope_scaling {type or rope_type, factor}; transformers 5: rope_parameters with all
 * of them. */
static void read_rope(berth_fields *f, berth_text_config *out)
{
    bool is_new = berth_field_has(f, "rope_parameters");
    const char *key = is_new ? "rope_parameters" : "rope_scaling";
    char prefix[64];
    out->rope_theta = berth_field_number(f, "rope_theta", 1.0, 1e15, QWEN_THETA);
    out->rope_scaling = BERTH_ROPE_PLAIN;
    out->rope_factor = 1.0;
    const berth_json_node *node = berth_field_object(f, key);
    if (!node) return;
    snprintf(prefix, sizeof prefix, "%s%s.", f->prefix, key);
    berth_fields rope = {.file = f->file, .prefix = prefix, .node = node, .status = f->status, .err = f->err};
    out->rope_theta = berth_field_number(&rope, "rope_theta", 1.0, 1e15, out->rope_theta);
    const char *type = berth_field_string(&rope, "rope_type", berth_field_string(&rope, "type", "default"));
    if (strcmp(type, "dynamic") == 0) {
        out->rope_scaling = BERTH_ROPE_DYNAMIC;
    } else if (strcmp(type, "linear") == 0) {
        out->rope_scaling = BERTH_ROPE_LINEAR;
    } else if (strcmp(type, "default") != 0) {
        berth_field_fail(&rope, BERTH_UNSUPPORTED,
                         "rope_type \"%.80s\" is not supported; \"default\", \"dynamic\" and \"linear\" are", type);
    }
    if (out->rope_scaling != BERTH_ROPE_PLAIN) {
        if (!berth_field_has(&rope, "factor")) berth_field_fail(&rope, BERTH_BAD_FILE, "factor is missing");
        out->rope_factor = berth_field_number(&rope, "factor", 1.0, 1e6, 1.0);
    }
    if (berth_field_number(&rope, "partial_rotary_factor", 0.0, 1.0, 1.0) != 1.0) {
        berth_field_fail(&rope, BERTH_UNSUPPORTED, "partial_rotary_factor other than 1 is not supported");
    }
}

/* Sliding windows and biases on other projections exist in the model families, but in none that berth runs. */
static void refuse_variants(berth_fields *f, bool is_qwen3, int32_t n_layers)
{
    berth_field_must_be(f, "hidden_act", "silu", "silu");
    bool slides = berth_field_bool(f, "use_sliding_window", false) && berth_field_has(f, "sliding_window");
    if (slides && berth_field_int(f, "max_window_layers", 0, INT32_MAX, 28) < n_layers) {
        berth_field_fail(f, BERTH_UNSUPPORTED,
                         "use_sliding_window is not supported: every layer must attend to all positions");
    }
    const berth_json_node *types = berth_json_get(f->node, "layer_types");
    for (const berth_json_node *t = berth_json_first(types); t; t = berth_json_next(t)) {
        const char *type = berth_json_as_string(t);
        if (!type || strcmp(type, "full_attention") != 0) {
            berth_field_fail(f, BERTH_UNSUPPORTED, "layer_types other than \"full_attention\" are not supported");
            break;
        }
    }
    if (is_qwen3 && berth_field_bool(f, "attention_bias", false)) {
        berth_field_fail(f, BERTH_UNSUPPORTED, "attention_bias true is not supported in a Qwen3 language model");
    }
}

static void read_heads(berth_fields *f, bool is_qwen3, berth_text_config *out)
{
    out->n_heads = berth_field_int(f, "num_attention_heads", 1, BERTH_MAX_HEADS, BERTH_REQUIRED);
    out->n_kv_heads = berth_field_int(f, "num_key_value_heads", 1, BERTH_MAX_HEADS, out->n_heads);
    if (berth_field_has(f, "head_dim")) {
        out->head_dim = berth_field_int(f, "head_dim", 1, BERTH_MAX_HEAD_DIM, 1);
    } else if (is_qwen3) {
        out->head_dim = 128; /* Qwen3Config's default, whatever hidden_size / num_attention_heads is */
    } else {
        if (out->hidden % out->n_heads != 0) {
            berth_field_fail(f, BERTH_BAD_FILE, "hidden_size %d is not divisible by num_attention_heads %d",
                             out->hidden, out->n_heads);
        }
        out->head_dim = out->hidden / out->n_heads;
    }
    if (out->n_heads % out->n_kv_heads != 0) {
        berth_field_fail(f, BERTH_BAD_FILE, "num_attention_heads %d is not divisible by num_key_value_heads %d",
                         out->n_heads, out->n_kv_heads);
    }
    if (out->head_dim < 2 || out->head_dim % 2 != 0 || out->head_dim > BERTH_MAX_HEAD_DIM) {
        berth_field_fail(
            f, BERTH_BAD_FILE,
            "head_dim is %d; rotary pairs need an even number of at most %d (hidden_size / num_attention_heads)",
            out->head_dim, BERTH_MAX_HEAD_DIM);
    }
}

void berth_config_text(berth_fields *f, bool is_qwen3, berth_text_config *out)
{
    out->hidden = berth_field_int(f, "hidden_size", 1, BERTH_MAX_HIDDEN, BERTH_REQUIRED);
    out->n_layers = berth_field_int(f, "num_hidden_layers", 1, BERTH_MAX_LAYERS, BERTH_REQUIRED);
    out->ffn = berth_field_int(f, "intermediate_size", 1, BERTH_MAX_FFN, BERTH_REQUIRED);
    out->vocab = berth_field_int(f, "vocab_size", 1, BERTH_MAX_VOCAB, BERTH_REQUIRED);
    out->max_positions = berth_field_int(f, "max_position_embeddings", 1, BERTH_MAX_POSITIONS, 32768);
    out->rms_eps = (float)berth_field_number(f, "rms_norm_eps", 0.0, 1.0, 1e-6);
    out->tie_embeddings = berth_field_bool(f, "tie_word_embeddings", false);
    out->qkv_bias = !is_qwen3;
    out->qk_norm = is_qwen3;
    read_heads(f, is_qwen3, out);
    read_rope(f, out);
    refuse_variants(f, is_qwen3, out->n_layers);
}
