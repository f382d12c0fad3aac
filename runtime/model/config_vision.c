/* config_vision.c - the vision tower's and the projector's part of a configuration, in both layouts. Source: InternVL
 * configuration_intern_vit.py and configuration_internvl_chat.py (defaults of `internvl_chat`); transformers,
 * models/internvl (defaults of `internvl`). The same key can be absent in both and mean different things: each layout
 * has its own table. */
#include "model/config_internal.h"

#include <math.h>
#include <string.h>

typedef struct defaults {
    int32_t hidden, n_layers, n_heads, ffn, image_size;
    const char *norm_type;
    bool qk_norm;
    const char *qkv_bias_key, *qk_norm_key;
} defaults;

static const defaults chat_defaults = {3200, 48, 25, 12800, 224, "rms_norm", true, "qkv_bias", "qk_normalization"};
static const defaults native_defaults = {1024, 24, 16, 4096, 448, "layer_norm", false, "attention_bias", "use_qk_norm"};

static void read_tower(berth_fields *f, const defaults *d, berth_vision_config *out)
{
    out->hidden = berth_field_int(f, "hidden_size", 1, BERTH_MAX_HIDDEN, d->hidden);
    out->n_layers_file = berth_field_int(f, "num_hidden_layers", 1, BERTH_MAX_LAYERS, d->n_layers);
    out->n_heads = berth_field_int(f, "num_attention_heads", 1, BERTH_MAX_HEADS, d->n_heads);
    out->ffn = berth_field_int(f, "intermediate_size", 1, BERTH_MAX_FFN, d->ffn);
    out->image_size = berth_field_side(f, "image_size", BERTH_MAX_IMAGE, d->image_size);
    out->patch = berth_field_side(f, "patch_size", BERTH_MAX_PATCH, 14);
    out->qkv_bias = berth_field_bool(f, d->qkv_bias_key, false);
    out->qk_norm = berth_field_bool(f, d->qk_norm_key, d->qk_norm);
    out->norm_eps = (float)berth_field_number(f, "layer_norm_eps", 0.0, 1.0, 1e-6);
    out->projector_eps = 1e-5F; /* torch's LayerNorm default: no file states it */
    const char *norm = berth_field_string(f, "norm_type", d->norm_type);
    out->norm = strcmp(norm, "rms_norm") == 0 ? BERTH_NORM_RMS : BERTH_NORM_LAYER;
    if (out->norm == BERTH_NORM_LAYER && strcmp(norm, "layer_norm") != 0) {
        berth_field_fail(f, BERTH_UNSUPPORTED,
                         "norm_type \"%.80s\" is not supported; \"layer_norm\" and \"rms_norm\" are", norm);
    }
    berth_field_must_be(f, "hidden_act", "gelu", "gelu");
    if (berth_field_int(f, "num_channels", 1, 1024, 3) != 3)
        berth_field_fail(f, BERTH_UNSUPPORTED, "num_channels must be 3 (RGB)");
    if (out->hidden % out->n_heads != 0) {
        berth_field_fail(f, BERTH_BAD_FILE, "hidden_size %d is not divisible by num_attention_heads %d", out->hidden,
                         out->n_heads);
    }
    out->head_dim = out->hidden / out->n_heads;
    if (out->head_dim < 1 || out->head_dim > BERTH_MAX_HEAD_DIM) {
        berth_field_fail(f, BERTH_BAD_FILE, "hidden_size / num_attention_heads is %d, out of the range 1 to %d",
                         out->head_dim, BERTH_MAX_HEAD_DIM);
    }
}

/* downsample_ratio 1/s, and a grid of patches that s divides. */
static void read_grid(berth_fields *top, berth_fields *f, berth_vision_config *out)
{
    double ratio = berth_field_number(top, "downsample_ratio", 1e-3, 1.0, 0.5), side = round(1.0 / ratio);
    if (fabs(side * ratio - 1.0) > 1e-6 || side > 8) {
        berth_field_fail(top, BERTH_UNSUPPORTED, "downsample_ratio %g is not supported; it must be 1, 1/2, 1/3 ... 1/8",
                         ratio);
        side = 1;
    }
    out->downsample = (int32_t)side;
    int32_t multiple = out->downsample * out->patch;
    if (out->image_size % multiple != 0) {
        berth_field_fail(f, BERTH_BAD_FILE, "image_size %d is not a multiple of %d (patch_size %d / downsample_ratio)",
                         out->image_size, multiple, out->patch);
    }
    int32_t grid = out->image_size / out->patch;
    out->n_patches = grid * grid;
    out->tokens_per_tile = out->n_patches / (out->downsample * out->downsample);
    if ((int64_t)out->hidden * out->downsample * out->downsample > 64 * (int64_t)BERTH_MAX_HIDDEN ||
        out->n_patches > 65536) {
        berth_field_fail(f, BERTH_BAD_FILE, "image_size %d with patch_size %d gives %d patches, over the limit",
                         out->image_size, out->patch, out->n_patches);
    }
}

/* The stream whose blocks are counted: k >= 0 is "after k blocks", -1 after the last, -2 after the one before it. */
static void read_select(berth_fields *top, const char *key, berth_vision_config *out)
{
    int32_t n = out->n_layers_file, select = berth_field_int(top, key, -(int64_t)n - 1, n, -1);
    out->n_layers = select >= 0 ? select : n + 1 + select;
}

void berth_config_vision_chat(berth_fields *top, berth_fields *f, berth_vision_config *out)
{
    read_tower(f, &chat_defaults, out);
    out->qk_norm_eps = out->norm_eps;
    if (berth_field_has(top, "force_image_size")) {
        int32_t force = berth_field_side(top, "force_image_size", BERTH_MAX_IMAGE, 1);
        if (force != out->image_size) {
            berth_field_fail(top, BERTH_UNSUPPORTED,
                             "force_image_size %d differs from vision_config.image_size %d; resampling the position "
                             "table is not supported",
                             force, out->image_size);
        }
    }
    read_grid(top, f, out);
    read_select(top, "select_layer", out);
    const char *version = berth_field_string(top, "ps_version", "v1"); /* the class default */
    out->shuffle_transposed = strcmp(version, "v1") == 0;
    if (!out->shuffle_transposed && strcmp(version, "v2") != 0) {
        berth_field_fail(top, BERTH_UNSUPPORTED, "ps_version \"%.80s\" is not supported; \"v1\" and \"v2\" are",
                         version);
    }
}

void berth_config_vision_native(berth_fields *top, berth_fields *f, berth_vision_config *out)
{
    read_tower(f, &native_defaults, out);
    out->qk_norm_eps = 1e-6F; /* the norm's class default: layer_norm_eps is not handed to it */
    read_grid(top, f, out);
    const berth_json_node *layer = berth_json_get(top->node, "vision_feature_layer");
    if (berth_json_type_of(layer) == BERTH_JSON_ARRAY) {
        berth_field_fail(top, BERTH_UNSUPPORTED, "vision_feature_layer is a list; only a single layer is supported");
    } else {
        read_select(top, "vision_feature_layer", out);
    }
    berth_field_must_be(top, "vision_feature_select_strategy", "default", "default");
    berth_field_must_be(top, "projector_hidden_act", "gelu", "gelu");
    if (!berth_field_bool(f, "use_absolute_position_embeddings", true)) {
        berth_field_fail(f, BERTH_UNSUPPORTED, "use_absolute_position_embeddings false is not supported");
    }
    if (!berth_field_bool(f, "use_mean_pooling", true)) {
        berth_field_fail(f, BERTH_UNSUPPORTED, "use_mean_pooling false (a final norm) is not supported");
    }
}
