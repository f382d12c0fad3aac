/* config.c - config.json of every layout into one form, see config.h. Decides the layout; the parts are read by
 * config_text.c, config_vision.c and config_side.c. */
#include "model/config.h"

#include <string.h>

#include "model/config_internal.h"

/* The language models berth runs, as `model_type` and as `architectures` name them. */
static const struct {
    const char *model_type, *architecture;
    bool is_qwen3;
} text_models[] = {
    {"qwen2", "Qwen2ForCausalLM", false},
    {"qwen3", "Qwen3ForCausalLM", true},
};

static bool find_text_model(const char *name, bool *is_qwen3)
{
    for (size_t i = 0; name && i < sizeof text_models / sizeof *text_models; i++) {
        if (strcmp(name, text_models[i].model_type) == 0 || strcmp(name, text_models[i].architecture) == 0) {
            *is_qwen3 = text_models[i].is_qwen3;
            return true;
        }
    }
    return false;
}

static const char *first_architecture(const berth_fields *f)
{
    return berth_json_as_string(berth_json_first(berth_json_get(f->node, "architectures")));
}

static berth_fields section(berth_fields *top, const char *key, const char *prefix)
{
    berth_fields f = {.file = top->file,
                      .prefix = prefix,
                      .node = berth_field_object(top, key),
                      .status = top->status,
                      .err = top->err};
    if (!f.node) berth_field_fail(top, BERTH_BAD_FILE, "%s is missing", key);
    return f;
}

/* tie_word_embeddings of the top level counts where the language model's own part is silent. */
static void inherit_tie(berth_fields *top, const berth_fields *text, berth_model_config *out)
{
    bool tie = berth_field_bool(top, "tie_word_embeddings", false);
    if (!berth_field_has(text, "tie_word_embeddings")) out->text.tie_embeddings = tie;
}

static void read_chat(berth_fields *top, berth_fields *text, berth_model_config *out)
{
    out->layout = BERTH_LAYOUT_INTERNVL_CHAT;
    out->chat = BERTH_CHAT_INTERNVL2_5;
    out->has_vision = true;
    bool is_qwen3 = false;
    const char *name = first_architecture(text); /* what the remote code goes by */
    if (!name) name = berth_field_string(text, "model_type", "qwen2");
    if (!find_text_model(name, &is_qwen3)) {
        berth_field_fail(
            text, BERTH_UNSUPPORTED,
            "architectures: language model \"%.80s\" is not supported; Qwen2ForCausalLM and Qwen3ForCausalLM are",
            name);
    }
    berth_config_text(text, is_qwen3, &out->text);
    berth_fields vision = section(top, "vision_config", "vision_config.");
    berth_config_vision_chat(top, &vision, &out->vision);
    berth_field_must_be(top, "template", "internvl2_5", "");
}

static void read_native(berth_fields *top, berth_fields *text, berth_model_config *out)
{
    out->layout = BERTH_LAYOUT_INTERNVL;
    out->chat = BERTH_CHAT_NATIVE;
    out->has_vision = true;
    bool is_qwen3 = false;
    const char *name = berth_field_string(text, "model_type", "qwen2");
    if (!find_text_model(name, &is_qwen3)) {
        berth_field_fail(text, BERTH_UNSUPPORTED,
                         "model_type \"%.80s\" is not supported as a language model; \"qwen2\" and \"qwen3\" are",
                         name);
    }
    berth_config_text(text, is_qwen3, &out->text);
    berth_fields vision = section(top, "vision_config", "vision_config.");
    berth_config_vision_native(top, &vision, &out->vision);
}

static void read_dtype(berth_fields *top, berth_fields *text, berth_model_config *out)
{
    static const struct {
        const char *name;
        berth_dtype dtype;
    } names[] = {{"float32", BERTH_F32}, {"float16", BERTH_F16}, {"bfloat16", BERTH_BF16}};
    const char *name = berth_field_string(top, "dtype", berth_field_string(top, "torch_dtype", NULL));
    if (!name) name = berth_field_string(text, "dtype", berth_field_string(text, "torch_dtype", "float32"));
    out->stated_dtype = BERTH_DTYPE_COUNT;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i].name, name) == 0) out->stated_dtype = names[i].dtype;
    }
}

static void read_image_token(berth_fields *top, berth_model_config *out)
{
    out->image_token_id = -1;
    if (!out->has_vision || !berth_field_has(top, "image_token_id")) return;
    out->image_token_id = berth_field_int(top, "image_token_id", 0, INT32_MAX, 0);
    if (out->image_token_id >= out->text.vocab) {
        berth_field_fail(top, BERTH_BAD_FILE, "image_token_id %d is out of the range of the vocabulary (vocab_size %d)",
                         out->image_token_id, out->text.vocab);
    }
}

static void refuse_quantized(berth_fields *top)
{
    const berth_json_node *q = berth_field_object(top, "quantization_config");
    if (!q || berth_json_size(q) == 0) return;
    const char *method = berth_json_as_string(berth_json_get(q, "quant_method"));
    berth_field_fail(top, BERTH_UNSUPPORTED,
                     "quantization_config: quantized weights (%.80s) are not supported; use F32, F16 or BF16 weights",
                     method ? method : "no quant_method given");
}

static berth_status read_all(const char *dir, berth_fields *top, berth_model_config *out)
{
    const char *type = berth_field_string(top, "model_type", "");
    berth_fields text = *top;
    bool is_qwen3 = false;
    if (strcmp(type, "internvl_chat") == 0) {
        text = section(top, "llm_config", "llm_config.");
        read_chat(top, &text, out);
        inherit_tie(top, &text, out);
    } else if (strcmp(type, "internvl") == 0) {
        text = section(top, "text_config", "text_config.");
        read_native(top, &text, out);
        inherit_tie(top, &text, out);
    } else if (find_text_model(type, &is_qwen3)) {
        out->layout = is_qwen3 ? BERTH_LAYOUT_QWEN3 : BERTH_LAYOUT_QWEN2;
        out->chat = is_qwen3 ? BERTH_CHAT_QWEN3 : BERTH_CHAT_QWEN2_5;
        berth_config_text(&text, is_qwen3, &out->text);
    } else {
        berth_field_fail(top, BERTH_UNSUPPORTED,
                         "model_type \"%.80s\" is not supported; internvl_chat, internvl, qwen2 and qwen3 are", type);
    }
    read_dtype(top, &text, out);
    read_image_token(top, out);
    refuse_quantized(top);
    if (*top->status != BERTH_OK) return *top->status;
    berth_status st = berth_config_generation(dir, &text, &out->generation, top->err);
    if (st != BERTH_OK) return st;
    return berth_config_preprocess(dir, top, out, &out->preprocess, top->err);
}

berth_status berth_config_read(const char *dir, berth_model_config *out, berth_error *err)
{
    *out = (berth_model_config){0};
    berth_json *json = NULL;
    berth_status st = berth_config_load(dir, "config.json", false, &json, err);
    if (st != BERTH_OK) return st;
    berth_status fields = BERTH_OK;
    berth_fields top = {
        .file = "config.json", .prefix = "", .node = berth_json_root(json), .status = &fields, .err = err};
    st = read_all(dir, &top, out);
    berth_json_destroy(json);
    if (st != BERTH_OK) *out = (berth_model_config){0};
    return st;
}
