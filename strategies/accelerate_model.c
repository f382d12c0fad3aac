/* accelerate_model.c - see accelerate_model.h. */
#include "strategies/accelerate_model.h"

#include <stdlib.h>
#include <string.h>

#include "strategies/words.h"

enum { MOST_LEVELS = 64, MOST_CLASSES = 64, UNKNOWN_RANK = 1000 };

/* Children in the order of registration. Sources: InternVL, modeling_internvl_chat.py and modeling_intern_vit.py;
 * transformers, models/internvl/modeling_internvl.py,
 * models/qwen2/modeling_qwen2.py, models/qwen3/modeling_qwen3.py. */
static const struct {
    const char *class_name, *children;
} registered[] = {
    {"InternVLChatModel", "vision_model language_model mlp1"},
    {"InternVisionEncoderLayer", "attn mlp norm1 norm2 drop_path1 drop_path2"},
    {"InternAttention", "qkv attn_drop proj_drop q_norm k_norm proj"},
    {"InternMLP", "act fc1 fc2"},
    {"InternVLModel", "vision_tower multi_modal_projector language_model"},
    {"InternVLVisionLayer", "attention mlp layernorm_before layernorm_after dropout"},
    {"InternVLVisionAttention", "q_proj k_proj v_proj projection_layer projection_dropout q_norm k_norm"},
    {"InternVLVisionMLP", "activation_fn fc1 fc2"},
    {"Qwen2Model", "embed_tokens layers norm rotary_emb"},
    {"Qwen3Model", "embed_tokens layers norm rotary_emb"},
    {"Qwen2DecoderLayer", "self_attn mlp input_layernorm post_attention_layernorm"},
    {"Qwen3DecoderLayer", "self_attn mlp input_layernorm post_attention_layernorm"},
    {"Qwen3Attention", "q_proj k_proj v_proj o_proj q_norm k_norm"},
    {"Qwen2MLP", "gate_proj up_proj down_proj act_fn"},
    {"Qwen3MLP", "gate_proj up_proj down_proj act_fn"},
};

static const char *children_of(const char *class_name)
{
    for (size_t i = 0; i < sizeof registered / sizeof *registered; i++)
        if (strcmp(registered[i].class_name, class_name) == 0) return registered[i].children;
    return NULL;
}

/* Which word of `words` it is. */
static int32_t rank_of(const char *words, const char *name)
{
    size_t n = strlen(name);
    for (int32_t rank = 0; *words; rank++) {
        size_t len = strcspn(words, " ");
        if (len == n && memcmp(words, name, n) == 0) return rank;
        words += len + (words[len] == ' ');
    }
    return UNKNOWN_RANK;
}

static const char *last_name(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

static bool is_leaf(const berth_node_view *v)
{
    return v->flags & (BERTH_NODE_TENSOR | BERTH_NODE_BUFFER);
}

/* Only the width counts. */
static const char *dtype_of(const berth_node_view *v)
{
    switch (v->element_bits) {
    case 64: return "f64";
    case 32: return "f32";
    case 16: return "bf16";
    case 8: return "i8";
    case 4: return "i4";
    case 2: return "i2";
    default: return NULL;
    }
}

typedef struct builder {
    const berth_strategy_input *in;
    berth_tree *tree;
    int32_t *space;    /* [n_nodes] children of the modules that are being added: a level's are no other level's */
    int32_t *entry_of; /* [n_nodes] module, or ~tensor until the modules are counted */
    berth_error *err;
} builder;

static berth_status add_tensors(builder *b, int32_t module, bool buffers)
{
    const berth_strategy_input *in = b->in;
    berth_error *err = b->err;
    int32_t end = module + berth_node_at(in, module)->n_descendants;
    for (int32_t i = module + 1; i <= end; i += 1 + berth_node_at(in, i)->n_descendants) {
        const berth_node_view *v = berth_node_at(in, i);
        bool is_buffer = v->flags & BERTH_NODE_BUFFER;
        if (!is_leaf(v) || is_buffer != buffers) continue;
        const char *dtype = dtype_of(v);
        if (!dtype)
            return berth_refuse(err, BERTH_UNSUPPORTED, "%.200s has %d bits an element, a width accelerate has not",
                                v->path, v->element_bits);
        berth_status st = berth_tree_add_tensor(b->tree, last_name(v->path), v->n_elements, dtype, is_buffer, err);
        if (st != BERTH_OK) return st;
        b->entry_of[i] = ~(b->tree->n_tensors - 1);
    }
    return BERTH_OK;
}

/* The submodules of `module` into children, in registration order; gives how many. */
static int32_t collect_children(const berth_strategy_input *in, int32_t module, int32_t *children)
{
    const char *words = children_of(berth_node_at(in, module)->class_name);
    int32_t n = 0, end = module + berth_node_at(in, module)->n_descendants;
    for (int32_t i = module + 1; i <= end; i += 1 + berth_node_at(in, i)->n_descendants)
        if (!is_leaf(berth_node_at(in, i))) children[n++] = i;
    for (int32_t i = 1; words && i < n; i++) { /* a handful: the classes with words are no lists */
        int32_t child = children[i], at = i, rank = rank_of(words, last_name(berth_node_at(in, child)->path));
        for (; at > 0 && rank_of(words, last_name(berth_node_at(in, children[at - 1])->path)) > rank; at--)
            children[at] = children[at - 1];
        children[at] = child;
    }
    return n;
}

/* As deep as the tree, at most MOST_LEVELS. `space`: what is left of b->space. */
static berth_status add_module(builder *b, int32_t module, int level, int32_t *space)
{
    const berth_node_view *v = berth_node_at(b->in, module);
    if (level == MOST_LEVELS)
        return berth_refuse(b->err, BERTH_UNSUPPORTED, "%.200s lies %d modules deep", v->path, level);
    berth_status st = berth_tree_add_module(b->tree, v->path, v->class_name, b->err);
    b->entry_of[module] = b->tree->n_modules - 1;
    if (st == BERTH_OK) st = add_tensors(b, module, false);
    if (st == BERTH_OK) st = add_tensors(b, module, true);
    int32_t n = st == BERTH_OK ? collect_children(b->in, module, space) : 0;
    for (int32_t i = 0; st == BERTH_OK && i < n; i++) st = add_module(b, space[i], level + 1, space + n);
    return st;
}

static berth_status tie(const berth_strategy_input *in, berth_tree *t, berth_error *err)
{
    for (int32_t i = 0; i < in->n_nodes; i++) {
        const berth_node_view *v = berth_node_at(in, i);
        if (!(v->flags & BERTH_NODE_TENSOR) || v->tied_to < 0 || v->tied_to >= in->n_nodes) continue;
        const char *names[] = {berth_node_at(in, v->tied_to)->path, v->path};
        berth_status st = berth_tree_tie(t, names, 2, err);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

/* entry_of [n_nodes] is filled. */
static berth_status build(const berth_strategy_input *in, berth_tree *out, int32_t *entry_of, berth_error *err)
{
    builder b = {.in = in,
                 .tree = out,
                 .space = malloc((size_t)in->n_nodes * sizeof *b.space),
                 .entry_of = entry_of,
                 .err = err};
    if (!b.space) return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the model's modules");
    berth_status st = add_module(&b, 0, 0, b.space);
    free(b.space);
    for (int32_t i = 0; st == BERTH_OK && i < in->n_nodes; i++)
        if (entry_of[i] < 0) entry_of[i] = out->n_modules + ~entry_of[i];
    if (st == BERTH_OK) st = berth_tree_finish(out, err);
    return st == BERTH_OK ? tie(in, out, err) : st;
}

berth_status berth_accelerate_tree(const berth_strategy_input *in, berth_tree *out, berth_error *err)
{
    *out = (berth_tree){0};
    int32_t *entry_of = malloc((size_t)in->n_nodes * sizeof *entry_of);
    if (!entry_of) return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the model's modules");
    berth_status st = build(in, out, entry_of, err);
    free(entry_of);
    return st;
}

/* Class names of the outermost NO_SPLIT modules, each once. */
static int32_t collect_classes(const berth_strategy_input *in, const char **classes)
{
    int32_t n = 0;
    for (int32_t i = 0; i < in->n_nodes; i++) {
        const berth_node_view *v = berth_node_at(in, i);
        if (!(v->flags & BERTH_NODE_NO_SPLIT) || is_leaf(v)) continue;
        bool is_new = n < MOST_CLASSES;
        for (int32_t k = 0; k < n; k++) is_new = is_new && strcmp(classes[k], v->class_name) != 0;
        if (is_new) classes[n++] = v->class_name;
        i += v->n_descendants;
    }
    return n;
}

/* Each entry is covered by its own key, else as its parent is; parents come first. */
static berth_status read_devices(const berth_strategy_input *in, const int32_t *entry_of, berth_accelerate_model *out,
                                 berth_error *err)
{
    const berth_tree *t = &out->tree;
    int32_t n = t->n_modules + t->n_tensors;
    int32_t *device = malloc((size_t)n * sizeof *device);
    out->device_of = malloc((size_t)in->n_nodes * sizeof *out->device_of);
    if (!device || !out->device_of) {
        free(device);
        return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for accelerate's map");
    }
    for (int32_t i = 0; i < n; i++) device[i] = INT32_MIN;
    for (int32_t i = 0; i < out->result.n_map; i++) device[out->result.map[i].entry] = out->result.map[i].device;
    for (int32_t i = 1; i < n; i++)
        if (device[i] == INT32_MIN) device[i] = device[berth_tree_parent(t, i)];
    for (int32_t i = 0; i < in->n_nodes; i++) out->device_of[i] = device[entry_of[i]];
    free(device);
    return BERTH_OK;
}

berth_status berth_accelerate_for_input(const berth_strategy_input *in, berth_accelerate_strategy strategy,
                                        int32_t dtype_bits, uint64_t cpu_bytes, berth_accelerate_model *out,
                                        berth_error *err)
{
    const char *classes[MOST_CLASSES];
    *out = (berth_accelerate_model){0};
    berth_accelerate_budget *budgets = calloc((size_t)in->n_devices + 1, sizeof *budgets);
    int32_t *entry_of = malloc((size_t)in->n_nodes * sizeof *entry_of);
    if (!budgets || !entry_of) {
        free(budgets);
        free(entry_of);
        return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for %d budgets", in->n_devices);
    }
    for (int32_t d = 0; d < in->n_devices; d++)
        budgets[d] = (berth_accelerate_budget){.device = d, .bytes = (double)berth_device_at(in, d)->budget_bytes};
    budgets[in->n_devices] = (berth_accelerate_budget){.device = BERTH_ACCELERATE_CPU, .bytes = (double)cpu_bytes};
    const berth_accelerate_request req = {.tree = &out->tree,
                                          .strategy = strategy,
                                          .dtype_bits = dtype_bits,
                                          .no_split = classes,
                                          .n_no_split = collect_classes(in, classes),
                                          .budgets = budgets,
                                          .n_budgets = in->n_devices + (cpu_bytes > 0)};
    berth_status st = build(in, &out->tree, entry_of, err);
    if (st == BERTH_OK) st = berth_accelerate_place(&req, &out->result, err);
    if (st == BERTH_OK) st = read_devices(in, entry_of, out, err);
    free(budgets);
    free(entry_of);
    return st;
}

void berth_accelerate_model_deinit(berth_accelerate_model *m)
{
    free(m->device_of);
    berth_accelerate_deinit(&m->result);
    berth_tree_deinit(&m->tree);
    *m = (berth_accelerate_model){0};
}
