/* model_json.c - what a model is, as JSON. The schema is docs/embedding.md; change both together. */
#include <inttypes.h>
#include <string.h>

#include "api/api.h"
#include "base/buffer.h"

#define MODEL_SCHEMA "berth.model/1"

static void put_text(berth_buffer *b, const char *key, const char *text)
{
    berth_buffer_printf(b, "\"%s\": ", key);
    berth_buffer_json_string(b, text, strlen(text));
}

static const char *layout_name(berth_layout layout)
{
    switch (layout) {
    case BERTH_LAYOUT_INTERNVL_CHAT: return "internvl_chat";
    case BERTH_LAYOUT_INTERNVL: return "internvl";
    case BERTH_LAYOUT_QWEN2: return "qwen2";
    case BERTH_LAYOUT_QWEN3: return "qwen3";
    }
    return "unknown";
}

static const char *chat_name(berth_chat_form form)
{
    switch (form) {
    case BERTH_CHAT_INTERNVL2_5: return "internvl2_5";
    case BERTH_CHAT_NATIVE: return "native";
    case BERTH_CHAT_QWEN2_5: return "qwen2.5";
    case BERTH_CHAT_QWEN3: return "qwen3";
    }
    return "unknown";
}

static void put_language(berth_buffer *b, const berth_text_config *t)
{
    berth_buffer_printf(b,
                        "  \"text\": {\"n_layers\": %d, \"hidden\": %d, \"n_heads\": %d, \"n_kv_heads\": %d, "
                        "\"head_dim\": %d, \"ffn\": %d, \"vocab\": %d, \"context\": %d, \"tied_embeddings\": %s}",
                        (int)t->n_layers, (int)t->hidden, (int)t->n_heads, (int)t->n_kv_heads, (int)t->head_dim,
                        (int)t->ffn, (int)t->vocab, (int)t->max_positions, t->tie_embeddings ? "true" : "false");
}

static void put_vision(berth_buffer *b, const berth_model_config *c)
{
    const berth_vision_config *v = &c->vision;
    const berth_preprocess_config *p = &c->preprocess;
    if (!c->has_vision) {
        berth_buffer_puts(b, ",\n  \"vision\": null,\n  \"images\": null");
        return;
    }
    berth_buffer_printf(b,
                        ",\n  \"vision\": {\"n_layers\": %d, \"hidden\": %d, \"n_heads\": %d, \"ffn\": %d, "
                        "\"patch\": %d, \"tokens_per_tile\": %d}",
                        (int)v->n_layers, (int)v->hidden, (int)v->n_heads, (int)v->ffn, (int)v->patch,
                        (int)v->tokens_per_tile);
    berth_buffer_printf(b,
                        ",\n  \"images\": {\"tile\": %d, \"min_tiles\": %d, \"max_tiles\": %d, \"thumbnail\": %s, "
                        "\"mean\": [%.9g, %.9g, %.9g], \"std\": [%.9g, %.9g, %.9g]}",
                        (int)v->image_size, (int)p->min_tiles, (int)p->max_tiles, p->thumbnail ? "true" : "false",
                        (double)p->mean[0], (double)p->mean[1], (double)p->mean[2], (double)p->std[0],
                        (double)p->std[1], (double)p->std[2]);
}

static void put_tensor(berth_buffer *b, const berth_param *p, bool is_first)
{
    berth_buffer_puts(b, is_first ? "\n    {" : ",\n    {");
    put_text(b, "name", p->tensor);
    berth_buffer_printf(b, ", \"dtype\": \"%s\", \"shape\": [%" PRId64, berth_dtype_name(p->dtype), p->dims[0]);
    if (p->n_dims > 1) berth_buffer_printf(b, ", %" PRId64, p->dims[1]);
    berth_buffer_printf(b, "], \"bytes\": %zu}", p->n_bytes);
}

/* A fused tensor's slices are parameters of their own; a tied head is the embedding's tensor again. */
static void put_tensors(berth_buffer *b, const berth_model_data *m)
{
    const int32_t n = berth_model_data_n_params(m), n_nodes = berth_model_data_n_nodes(m);
    const berth_node_view *nodes = berth_model_data_nodes(m);
    uint64_t bytes = n_nodes > 0 ? nodes[0].weight_bytes : 0;
    berth_buffer_printf(b, ",\n  \"weight_bytes\": %" PRIu64 ",\n  \"files\": [", bytes);
    for (int32_t i = 0; i < berth_model_data_n_shards(m); i++) {
        const berth_model_shard *s = berth_model_data_shard(m, i);
        berth_buffer_puts(b, i == 0 ? "{" : ", {");
        put_text(b, "name", s->name);
        berth_buffer_printf(b, ", \"bytes\": %zu}", s->size);
    }
    berth_buffer_puts(b, "],\n  \"parameters\": [");
    for (int32_t i = 0; i < n; i++) put_tensor(b, berth_model_data_param(m, i), i == 0);
    berth_buffer_puts(b, "]\n}\n");
}

char *berth_model_json(const berth_model *model)
{
    if (!berth_handle_is(model, BERTH_HANDLE_MODEL)) return NULL;
    const berth_model_config *c = berth_model_data_config(model->data);
    berth_buffer b = {0};
    berth_buffer_printf(&b, "{\n  \"schema\": \"%s\",\n  ", MODEL_SCHEMA);
    put_text(&b, "dir", berth_model_data_dir(model->data));
    berth_buffer_printf(&b, ",\n  \"layout\": \"%s\",\n  \"chat\": \"%s\",\n  \"dtype\": \"%s\",\n",
                        layout_name(c->layout), chat_name(c->chat),
                        c->stated_dtype < BERTH_DTYPE_COUNT ? berth_dtype_name(c->stated_dtype) : "other");
    put_language(&b, &c->text);
    put_vision(&b, c);
    put_tensors(&b, model->data);
    if (b.failed) {
        berth_buffer_deinit(&b);
        return NULL;
    }
    return berth_buffer_take(&b);
}
