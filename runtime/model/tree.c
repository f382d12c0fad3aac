/* tree.c - the module tree and the tensors a configuration asks for, out of a layout's table; sums over the tree. */
#include "model/model_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

#define MAX_PATH 256 /* the deepest path of any table is some 80 bytes */

static uint32_t facts_of(const berth_model_config *c)
{
    uint32_t facts = 0;
    if (c->has_vision) {
        facts |= c->vision.norm == BERTH_NORM_LAYER ? BERTH_WHEN_LAYER_NORM : BERTH_WHEN_RMS_NORM;
        facts |= c->vision.qk_norm ? BERTH_WHEN_VISION_QK_NORM : BERTH_WHEN_NO_VISION_QK_NORM;
        if (c->vision.qkv_bias) facts |= BERTH_WHEN_VISION_BIAS;
    }
    if (c->text.qkv_bias) facts |= BERTH_WHEN_TEXT_BIAS;
    if (c->text.qk_norm) facts |= BERTH_WHEN_TEXT_QK_NORM;
    return facts;
}

/* Room for one more element of `size` bytes; `cap` counts elements. */
static bool make_room(void **array, int32_t *cap, int32_t n, size_t size)
{
    if (n < *cap) return true;
    int32_t grown_cap = *cap ? *cap * 2 : 512; /* bounded by the tables times BERTH_MAX_LAYERS */
    void *grown = realloc(*array, berth_mul_sat((size_t)grown_cap, size));
    if (!grown) return false;
    *array = grown;
    *cap = grown_cap;
    return true;
}

/* "%Attention" -> "Qwen2Attention". */
static const char *class_of(berth_model_data *m, const char *class_name)
{
    const char *percent = strchr(class_name, '%');
    if (!percent) return class_name;
    char text[MAX_PATH];
    int n = snprintf(text, sizeof text, "%.*sQwen%d%s", (int)(percent - class_name), class_name,
                     m->config.text.qk_norm ? 3 : 2, percent + 1);
    return berth_strings_add(&m->strings, text, (size_t)n);
}

static const char *path_of(berth_model_data *m, const berth_layout_row *row, int32_t parent, int32_t layer)
{
    char text[MAX_PATH];
    const char *prefix = parent < 0 ? "" : m->nodes[parent].path;
    const char *dot = *prefix ? "." : "";
    int n = row->name ? snprintf(text, sizeof text, "%s%s%s", prefix, dot, row->name)
                      : snprintf(text, sizeof text, "%s%s%d", prefix, dot, layer);
    return n < (int)sizeof text ? berth_strings_add(&m->strings, text, (size_t)n) : NULL;
}

static int32_t add_node(berth_model_data *m, const berth_layout_row *row, int32_t parent, int32_t layer)
{
    int32_t i = m->n_nodes, at = 0;
    if (!make_room((void **)&m->nodes, &m->cap_nodes, i, sizeof *m->nodes)) return -1;
    const char *path = path_of(m, row, parent, layer);
    const char *class_name = row->class_name ? class_of(m, row->class_name) : "";
    if (!path || !class_name || !berth_names_add(&m->paths, path, i, &at)) return -1;
    m->nodes[i] =
        (berth_node_view){.path = path, .class_name = class_name, .parent = parent, .flags = row->flags, .tied_to = -1};
    m->n_nodes++;
    return i;
}

static bool add_spec(berth_model_data *m, const berth_layout_row *row, int32_t node, int32_t layer)
{
    if (!make_room((void **)&m->specs, &m->cap_specs, m->n_specs, sizeof *m->specs)) return false;
    berth_tensor_spec *s = &m->specs[m->n_specs++];
    *s = (berth_tensor_spec){.row = row, .node = node, .layer = layer, .shard = -1};
    for (const char *letter = row->shape; *letter; letter++)
        s->dims[s->n_dims++] = berth_layout_dim(&m->config, *letter);
    return true;
}

static bool add_leaf(berth_model_data *m, const berth_layout_row *row, int32_t parent, int32_t layer)
{
    int32_t node = add_node(m, row, parent, layer);
    if (node < 0) return false;
    if (row->kind != BERTH_ROW_BUFFER) {
        m->nodes[node].flags |= BERTH_NODE_TENSOR;
        return add_spec(m, row, node, layer);
    }
    m->nodes[node].flags |= BERTH_NODE_BUFFER;
    m->nodes[node].n_elements = berth_layout_dim(&m->config, row->shape[0]);
    m->nodes[node].element_bits = 32; /* rotary tables are fp32 whatever the weights are */
    return true;
}

static bool emit(berth_model_data *m, berth_layout_table t, int32_t begin, int32_t end, int32_t parent, int32_t layer);

static bool emit_module(berth_model_data *m, berth_layout_table t, int32_t row, int32_t end, int32_t parent,
                        int32_t layer)
{
    int32_t node = add_node(m, &t.rows[row], parent, layer);
    if (node < 0 || !emit(m, t, row + 1, end, node, layer)) return false;
    m->nodes[node].n_descendants = m->n_nodes - node - 1;
    if (t.rows[row].role) m->module_of[(t.rows[row].role - 1) * m->layer_stride + layer + 1] = node;
    return true;
}

static bool emit_layers(berth_model_data *m, berth_layout_table t, int32_t row, int32_t end, int32_t parent,
                        int32_t n_layers)
{
    for (int32_t layer = 0; layer < n_layers; layer++) {
        if (!emit_module(m, t, row, end, parent, layer)) return false;
    }
    return true;
}

static bool emit_row(berth_model_data *m, berth_layout_table t, int32_t row, int32_t end, int32_t parent, int32_t layer)
{
    const berth_layout_row *r = &t.rows[row];
    switch (r->kind) {
    case BERTH_ROW_MODULE: return emit_module(m, t, row, end, parent, layer);
    case BERTH_ROW_VISION_LAYER: return emit_layers(m, t, row, end, parent, m->config.vision.n_layers_file);
    case BERTH_ROW_TEXT_LAYER: return emit_layers(m, t, row, end, parent, m->config.text.n_layers);
    case BERTH_ROW_INCLUDE: return emit(m, *r->include, 0, r->include->n, parent, layer);
    case BERTH_ROW_TENSOR:
    case BERTH_ROW_FUSED:
    case BERTH_ROW_BUFFER: return add_leaf(m, r, parent, layer);
    }
    return false;
}

/* The sibling rows [begin, end) with all that is below them, under node `parent`. As deep as the tables are: under
 * ten levels. */
static bool emit(berth_model_data *m, berth_layout_table t, int32_t begin, int32_t end, int32_t parent, int32_t layer)
{
    uint32_t facts = facts_of(&m->config);
    for (int32_t row = begin, next; row < end; row = next) {
        for (next = row + 1; next < end && t.rows[next].depth > t.rows[row].depth; next++) {
        }
        if ((t.rows[row].when & ~facts) != 0) continue;
        if (!emit_row(m, t, row, next, parent, layer)) return false;
    }
    return true;
}

static int32_t *filled(size_t n)
{
    int32_t *a = malloc(n * sizeof *a);
    if (a) memset(a, 0xff, n * sizeof *a); /* -1 */
    return a;
}

berth_status berth_tree_build(berth_model_data *m, berth_error *err)
{
    int32_t layers = m->config.vision.n_layers_file > m->config.text.n_layers ? m->config.vision.n_layers_file
                                                                              : m->config.text.n_layers;
    m->layer_stride = layers + 1;
    m->module_of = filled((size_t)(BERTH_M_HEAD + 1) * (size_t)m->layer_stride);
    m->param_of = filled((size_t)BERTH_ROLE_COUNT * (size_t)m->layer_stride);
    bool built = m->module_of && m->param_of && emit(m, m->layout->table, 0, m->layout->table.n, -1, -1);
    if (built) m->spec_of_node = filled((size_t)m->n_nodes);
    if (!built || !m->spec_of_node) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the module tree of %s", m->dir);
    for (int32_t i = 0; i < m->n_specs; i++) m->spec_of_node[m->specs[i].node] = i;
    return BERTH_OK;
}

/* Multiply-adds * 2 that a weight matrix costs: per text token, or per image tile. */
static void add_work(const berth_model_config *c, const berth_tensor_spec *s, berth_node_view *node)
{
    if (s->n_dims < 2 || s->row->role == BERTH_T_EMBED || s->row->role == BERTH_V_CLS || s->row->role == BERTH_V_POS)
        return;
    double work = 2.0 * (double)node->n_elements;
    if (s->row->role >= BERTH_T_EMBED) {
        node->flops_per_token = work;
    } else if (s->row->role >= BERTH_P_NORM_W) {
        node->flops_per_tile = work * c->vision.tokens_per_tile;
    } else if (s->row->role == BERTH_V_PATCH_W) {
        node->flops_per_tile = work * c->vision.n_patches;
    } else if (s->layer < c->vision.n_layers) { /* blocks behind the selected one are stored, but never run */
        node->flops_per_tile = work * (1.0 + c->vision.n_patches);
    }
}

/* Of each attention module: a query by a key and a weight by a value, over all query heads. */
static void add_attention(berth_model_data *m)
{
    const berth_text_config *t = &m->config.text;
    const berth_vision_config *v = &m->config.vision;
    for (int32_t i = 0; i < t->n_layers; i++) {
        int32_t attn = m->module_of[BERTH_M_TEXT_ATTN * m->layer_stride + i + 1];
        m->nodes[attn].attention_flops_per_pair = 4.0 * t->n_heads * t->head_dim;
    }
    for (int32_t i = 0; m->config.has_vision && i < v->n_layers; i++) {
        int32_t attn = m->module_of[BERTH_M_VISION_ATTN * m->layer_stride + i + 1];
        double rows = 1.0 + v->n_patches; /* all with all */
        if (attn >= 0) m->nodes[attn].attention_flops_per_tile = 4.0 * v->n_heads * v->head_dim * rows * rows;
    }
}

void berth_tree_sum(berth_model_data *m)
{
    const berth_text_config *t = &m->config.text;
    for (int32_t i = 0; i < m->n_specs; i++) add_work(&m->config, &m->specs[i], &m->nodes[m->specs[i].node]);
    for (int32_t i = 0; i < t->n_layers; i++) {
        int32_t attn = m->module_of[BERTH_M_TEXT_ATTN * m->layer_stride + i + 1];
        m->nodes[attn].kv_bytes_per_token = berth_text_kv_bytes(t, BERTH_KV_ELEMENT_BYTES);
    }
    add_attention(m);
    for (int32_t i = m->n_nodes - 1; i > 0; i--) { /* pre-order: children stand behind their parent */
        const berth_node_view *n = &m->nodes[i];
        berth_node_view *parent = &m->nodes[n->parent];
        parent->weight_bytes += n->weight_bytes;
        parent->kv_bytes_per_token += n->kv_bytes_per_token;
        parent->flops_per_token += n->flops_per_token;
        parent->flops_per_tile += n->flops_per_tile;
        parent->attention_flops_per_pair += n->attention_flops_per_pair;
        parent->attention_flops_per_tile += n->attention_flops_per_tile;
    }
}
