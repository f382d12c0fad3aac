/* model_test.c - whole directories: the golden models, every spelling of their names, the module tree, and what
 * must be refused. */
#include "model/model_fixture.h"

#include <sys/stat.h>

#include "model/model_internal.h"

#define CONFIG  "config.json"
#define WEIGHTS "model.safetensors"

static const char *const goldens[] = {
    "models/ivl-native", "models/ivl-remote", "models/ivl-remote-6b", "models/ivl-rms-qknorm", "models/ivl-tied",
    "models/ivl-qwen3",  "models/qwen2-text", "hostile/bases/hf",     "hostile/bases/shards",  "hostile/bases/remote"};
#define N_GOLDENS (sizeof goldens / sizeof *goldens)

static berth_model_data *open_golden(const char *name)
{
    char dir[512];
    snprintf(dir, sizeof dir, "%s%s", GOLDEN, name);
    berth_model_data *m = NULL;
    berth_error err = {0};
    if (berth_model_data_open(dir, NULL, &m, &err) != BERTH_OK) fail_msg("%s: %s", name, err.message);
    return m;
}

/* The values of a parameter, widened (caller frees). */
static float *values_of(const berth_model_data *m, const berth_param *p, size_t *out_n)
{
    *out_n = 0;
    if (!p) return NULL;
    size_t n = p->n_bytes / berth_dtype_size(p->dtype);
    void *bytes = malloc(p->n_bytes);
    float *values = malloc(n * sizeof *values);
    assert_true(bytes && values);
    assert_int_equal(pread(berth_model_data_shard(m, p->shard)->fd, bytes, p->n_bytes, (off_t)p->offset), p->n_bytes);
    berth_widen_f32(values, bytes, p->dtype, n);
    free(bytes);
    *out_n = n;
    return values;
}

/* Same roles, same shapes, same values. */
static void assert_same_weights(const berth_model_data *a, const berth_model_data *b)
{
    assert_int_equal(berth_model_data_n_params(a), berth_model_data_n_params(b));
    for (int32_t i = 0; i < berth_model_data_n_params(a); i++) {
        const berth_param *p = berth_model_data_param(a, i);
        const berth_param *q = berth_model_data_param(b, berth_model_data_find(b, p->role, p->layer));
        if (!q || p->n_dims != q->n_dims || memcmp(p->dims, q->dims, sizeof p->dims) != 0)
            fail_msg("%s: other shape", p->tensor);
        size_t n = 0, k = 0;
        float *x = values_of(a, p, &n), *y = values_of(b, q, &k);
        assert_int_equal(n, k);
        if (memcmp(x, y, n * sizeof *x) != 0) fail_msg("%s and %s differ", p->tensor, q->tensor);
        free(x);
        free(y);
    }
}

static void golden_models_open(void **state)
{
    (void)state;
    for (size_t g = 0; g < N_GOLDENS; g++) {
        berth_model_data *m = open_golden(goldens[g]);
        uint64_t stored = 0, covered = 0;
        for (int32_t s = 0; s < m->files.n; s++) {
            for (size_t i = 0; i < berth_safetensors_count(m->files.shards[s]); i++)
                stored += berth_safetensors_at(m->files.shards[s], i)->n_bytes;
        }
        for (int32_t i = 0; i < berth_model_data_n_params(m); i++) {
            const berth_param *p = berth_model_data_param(m, i);
            const berth_model_shard *shard = berth_model_data_shard(m, p->shard);
            assert_non_null(shard);
            assert_true(p->offset <= shard->size && p->n_bytes <= shard->size - p->offset);
            assert_int_equal(p->n_bytes, (size_t)(p->dims[0] * p->dims[1]) * berth_dtype_size(p->dtype));
            assert_int_equal(berth_model_data_find(m, p->role, p->layer), i);
            assert_true(berth_model_data_nodes(m)[p->node].flags & BERTH_NODE_TENSOR);
            if (berth_model_data_nodes(m)[p->node].tied_to < 0) covered += p->n_bytes;
        }
        assert_int_equal(stored, covered); /* every byte of the file is some parameter's */
        assert_int_equal(berth_model_data_nodes(m)[0].weight_bytes, stored);
        berth_model_data_release(m);
    }
}

static void layouts_hold_the_same_values(void **state)
{
    (void)state;
    berth_model_data *native = open_golden("hostile/bases/hf");
    berth_model_data *remote = open_golden("hostile/bases/remote"), *shards = open_golden("hostile/bases/shards");
    assert_same_weights(native, remote); /* so the fused rows are cut in the right order */
    assert_same_weights(native, shards);
    const berth_param *q = berth_model_data_param(remote, berth_model_data_find(remote, BERTH_V_Q_W, 1));
    const berth_param *k = berth_model_data_param(remote, berth_model_data_find(remote, BERTH_V_K_W, 1));
    assert_string_equal(q->tensor, "vision_model.encoder.layers.1.attn.qkv.weight");
    assert_int_equal(q->node, k->node);
    assert_int_equal(k->offset, q->offset + q->n_bytes);
    assert_int_equal(k->dims[0], 32);
    const berth_param *patch = berth_model_data_param(remote, berth_model_data_find(remote, BERTH_V_PATCH_W, -1));
    assert_int_equal(patch->n_dims, 2);
    assert_int_equal(patch->dims[1], 3 * 14 * 14);
    const berth_param *cls = berth_model_data_param(remote, berth_model_data_find(remote, BERTH_V_CLS, -1));
    assert_int_equal(cls->n_dims, 1);
    assert_int_equal(cls->dims[0], 32);
    berth_model_data_release(native);
    berth_model_data_release(remote);
    berth_model_data_release(shards);
}

/* ---- the tree ---- */

static void trees_are_well_formed(void **state)
{
    (void)state;
    for (size_t g = 0; g < N_GOLDENS; g++) {
        berth_model_data *m = open_golden(goldens[g]);
        const berth_node_view *nodes = berth_model_data_nodes(m);
        int32_t n = berth_model_data_n_nodes(m);
        assert_string_equal(nodes[0].path, "");
        assert_int_equal(nodes[0].parent, -1);
        assert_int_equal(nodes[0].n_descendants, n - 1);
        for (int32_t i = 1; i < n; i++) {
            const berth_node_view *p = &nodes[nodes[i].parent];
            assert_true(nodes[i].parent < i && i + nodes[i].n_descendants <= nodes[i].parent + p->n_descendants);
            assert_int_equal(strncmp(nodes[i].path, p->path, strlen(p->path)), 0);
            assert_int_equal(berth_model_data_find_node(m, nodes[i].path), i);
            bool is_leaf = (nodes[i].flags & (BERTH_NODE_TENSOR | BERTH_NODE_BUFFER)) != 0;
            assert_int_equal(is_leaf, nodes[i].class_name[0] == '\0');
            assert_int_equal(is_leaf, nodes[i].n_elements > 0);
            if (is_leaf) assert_int_equal(nodes[i].n_descendants, 0);
        }
        for (int32_t i = 0; i < n; i++) {
            berth_node_view sum = {0};
            for (int32_t c = i + 1; c <= i + nodes[i].n_descendants; c += 1 + nodes[c].n_descendants) {
                assert_int_equal(nodes[c].parent, i);
                sum.weight_bytes += nodes[c].weight_bytes;
                sum.kv_bytes_per_token += nodes[c].kv_bytes_per_token;
            }
            if (nodes[i].n_descendants == 0) continue;
            assert_int_equal(nodes[i].weight_bytes, sum.weight_bytes);
            if (!strstr(nodes[i].class_name, "Attention"))
                assert_int_equal(nodes[i].kv_bytes_per_token, sum.kv_bytes_per_token);
        }
        berth_model_data_release(m);
    }
}

static void trees_have_the_names_of_the_reference(void **state)
{
    (void)state;
    static const struct {
        const char *model, *path, *class_name;
        uint32_t flags;
    } rows[] = {
        {"hostile/bases/remote", "", "InternVLChatModel", 0},
        {"hostile/bases/remote", "vision_model", "InternVisionModel", BERTH_NODE_NO_SPLIT},
        {"hostile/bases/remote", "vision_model.encoder.layers.1", "InternVisionEncoderLayer", BERTH_NODE_NO_SPLIT},
        {"hostile/bases/remote", "vision_model.encoder.layers.1.drop_path2", "Identity", 0},
        {"hostile/bases/remote", "vision_model.embeddings.patch_embedding.bias", "", BERTH_NODE_TENSOR},
        {"hostile/bases/remote", "mlp1.3.weight", "", BERTH_NODE_TENSOR},
        {"hostile/bases/remote", "language_model", "Qwen2ForCausalLM", 0},
        {"hostile/bases/remote", "language_model.model.layers.0", "Qwen2DecoderLayer", BERTH_NODE_NO_SPLIT},
        {"hostile/bases/remote", "language_model.model.rotary_emb.inv_freq", "", BERTH_NODE_BUFFER},
        {"hostile/bases/remote", "language_model.lm_head", "Linear", 0},
        {"hostile/bases/hf", "", "InternVLForConditionalGeneration", 0},
        {"hostile/bases/hf", "model", "InternVLModel", 0},
        {"hostile/bases/hf", "model.vision_tower", "InternVLVisionModel", 0},
        {"hostile/bases/hf", "model.vision_tower.encoder.layer.0", "InternVLVisionLayer", BERTH_NODE_NO_SPLIT},
        {"hostile/bases/hf", "model.vision_tower.encoder.layer.0.attention.q_norm", "Identity", 0},
        {"hostile/bases/hf", "model.vision_tower.layernorm", "Identity", 0},
        {"hostile/bases/hf", "model.multi_modal_projector.linear_2", "Linear", 0},
        {"hostile/bases/hf", "model.language_model", "Qwen2Model", 0},
        {"hostile/bases/hf", "lm_head.weight", "", BERTH_NODE_TENSOR},
        {"models/ivl-rms-qknorm", "model.vision_tower.encoder.layer.0.attention.q_norm", "InternVLVisionRMSNorm", 0},
        {"models/ivl-rms-qknorm", "model.vision_tower.encoder.layer.0.layernorm_after", "InternVLVisionRMSNorm", 0},
        {"models/ivl-remote-6b", "vision_model.encoder.layers.0.norm1", "InternRMSNorm", 0},
        {"models/ivl-qwen3", "model.language_model.layers.2.self_attn", "Qwen3Attention", 0},
        {"models/ivl-qwen3", "model.language_model.layers.2.self_attn.q_norm", "Qwen3RMSNorm", 0},
        {"models/qwen2-text", "", "Qwen2ForCausalLM", 0},
        {"models/qwen2-text", "model.layers.2.mlp.gate_proj", "Linear", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        berth_model_data *m = open_golden(rows[i].model);
        int32_t node = berth_model_data_find_node(m, rows[i].path);
        if (node < 0) fail_msg("%s has no %s", rows[i].model, rows[i].path);
        assert_string_equal(berth_model_data_nodes(m)[node].class_name, rows[i].class_name);
        assert_int_equal(berth_model_data_nodes(m)[node].flags, rows[i].flags);
        berth_model_data_release(m);
    }
}

static void modules_stand_in_execution_order(void **state)
{
    (void)state;
    for (size_t g = 0; g < N_GOLDENS; g++) {
        berth_model_data *m = open_golden(goldens[g]);
        const berth_model_config *c = berth_model_data_config(m);
        int32_t last = -1;
        const berth_module_role front[] = {BERTH_M_VISION, BERTH_M_VISION_EMBED, BERTH_M_PROJECTOR, BERTH_M_EMBED};
        for (size_t i = 0; i < 4; i++) {
            int32_t node = berth_model_data_module(m, front[i], -1);
            assert_int_equal(node >= 0, c->has_vision || front[i] == BERTH_M_EMBED);
            assert_true(node < 0 || node > last);
            if (node >= 0) last = node;
        }
        for (int32_t layer = 0; layer < c->text.n_layers; layer++) {
            int32_t whole = berth_model_data_module(m, BERTH_M_TEXT_LAYER, layer),
                    attn = berth_model_data_module(m, BERTH_M_TEXT_ATTN, layer);
            int32_t mlp = berth_model_data_module(m, BERTH_M_TEXT_MLP, layer);
            assert_true(last < whole && whole < attn && attn < mlp);
            last = mlp;
        }
        int32_t norm = berth_model_data_module(m, BERTH_M_TEXT_NORM, -1),
                head = berth_model_data_module(m, BERTH_M_HEAD, -1);
        assert_true(last < norm && norm < head);
        assert_int_equal(berth_model_data_module(m, BERTH_M_TEXT_LAYER, c->text.n_layers), -1);
        assert_int_equal(berth_model_data_module(m, BERTH_M_VISION_LAYER, 0) >= 0, c->has_vision);
        assert_int_equal(berth_model_data_find(m, BERTH_T_Q_W, -1), -1);
        assert_int_equal(berth_model_data_find(m, BERTH_T_Q_W, 100000), -1);
        assert_int_equal(berth_model_data_find(m, BERTH_ROLE_COUNT, -1), -1);
        berth_model_data_release(m);
    }
}

/* Arithmetic of InternVL3-8B for 13 tiles and 3448 tokens: 0.722 TFLOP a tile (patches apart), 47.4 to read the prompt. */
static void work_is_that_of_the_arithmetic(void **state)
{
    (void)state;
    const berth_model_data_options config_only = {.allow_missing_weights = true};
    berth_model_data *m;
    berth_error err = {0};
    char path[512];
    snprintf(path, sizeof path, "%splan/internvl3-8b", GOLDEN);
    if (berth_model_data_open(path, &config_only, &m, &err) != BERTH_OK) fail_msg("%s", err.message);
    const berth_node_view *nodes = berth_model_data_nodes(m), *all = &nodes[0],
                          *vision = &nodes[berth_model_data_module(m, BERTH_M_VISION, -1)],
                          *head = &nodes[berth_model_data_module(m, BERTH_M_HEAD, -1)];
    assert_true(vision->attention_flops_per_tile == 24 * 4.0 * 1024 * 1025 * 1025);
    assert_true(all->attention_flops_per_pair == 28 * 4.0 * 3584);
    double tile = vision->flops_per_tile + vision->attention_flops_per_tile, prompt = 3448;
    double body = (all->flops_per_token - head->flops_per_token) * prompt,
           scores = all->attention_flops_per_pair * prompt * (prompt + 1) / 2;
    assert_true(tile > 0.722e12 && tile < 0.724e12);
    assert_true(body + scores > 47.35e12 && body + scores < 47.45e12);
    berth_model_data_release(m);
}

static void older_spellings_name_the_same_module(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"vision_tower", "model.vision_tower"},
        {"vision_tower.encoder.layer.1", "model.vision_tower.encoder.layer.1"},
        {"multi_modal_projector", "model.multi_modal_projector"},
        {"language_model", "model.language_model"},
        {"language_model.model", "model.language_model"},
        {"language_model.model.layers.1", "model.language_model.layers.1"},
        {"language_model.lm_head", "lm_head"},
    };
    berth_model_data *m = open_golden("hostile/bases/hf");
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        int32_t node = berth_model_data_find_node(m, pairs[i][0]);
        assert_true(node > 0);
        assert_string_equal(berth_model_data_nodes(m)[node].path, pairs[i][1]);
    }
    assert_int_equal(berth_model_data_find_node(m, "vision_tower.encoder.layer.2"), -1);
    assert_int_equal(berth_model_data_find_node(m, "vision_tower."), -1);
    assert_int_equal(berth_model_data_find_node(m, "."), -1);
    berth_model_data_release(m);
}

/* ---- published sizes, without weights
 * -------------------------------------------------------------------------------- */

typedef struct published {
    const char *name;
    int32_t hidden, n_layers, n_heads, n_kv, ffn; /* of the language model */
    bool is_6b;                                   /* the large vision tower */
    uint64_t n_params;
    int32_t n_tensors_remote, n_tensors_native;
    uint64_t kv_2_bytes; /* bytes of a token's keys and values in a two-byte dtype */
} published;

static const published releases[] = {
    {"1B", 896, 24, 14, 2, 4864, false, 938193024, 637, 733, 12288},
    {"2B", 1536, 28, 12, 2, 8960, false, 2088957440, 685, 781, 28672},
    {"8B", 3584, 28, 28, 4, 18944, false, 7944373760, 685, 781, 57344},
    {"14B", 5120, 48, 40, 8, 13824, false, 15117256704, 925, 1021, 196608},
    {"38B", 5120, 64, 40, 8, 27648, true, 38388164992, 1366, 1456, 262144},
    {"78B", 8192, 80, 64, 8, 29568, true, 78408318336, 1558, 1648, 327680},
};

static void write_published(const fixture *f, const published *p, bool is_remote)
{
    char text[2048];
    snprintf(text, sizeof text,
             "{\"model_type\": \"%s\", \"torch_dtype\": \"bfloat16\", \"template\": \"internvl2_5\", \"ps_version\": "
             "\"v2\", \"tie_word_embeddings\": false,"
             "\"%s\": {\"model_type\": \"qwen2\", \"hidden_size\": %d, \"num_hidden_layers\": %d, "
             "\"num_attention_heads\": %d, \"num_key_value_heads\": %d,"
             "\"intermediate_size\": %d, \"vocab_size\": 151674}, \"vision_config\": {\"hidden_size\": %d, "
             "\"num_hidden_layers\": %d,"
             "\"num_attention_heads\": %d, \"intermediate_size\": %d, \"image_size\": 448, \"norm_type\": \"%s\", "
             "\"%s\": %s, \"%s\": %s}}",
             is_remote ? "internvl_chat" : "internvl", is_remote ? "llm_config" : "text_config", p->hidden, p->n_layers,
             p->n_heads, p->n_kv, p->ffn, p->is_6b ? 3200 : 1024, p->is_6b ? 45 : 24, p->is_6b ? 25 : 16,
             p->is_6b ? 12800 : 4096, p->is_6b ? "rms_norm" : "layer_norm", is_remote ? "qkv_bias" : "attention_bias",
             p->is_6b ? "false" : "true", is_remote ? "qk_normalization" : "use_qk_norm", p->is_6b ? "true" : "false");
    fixture_text(f, CONFIG, text);
}

static berth_model_data *open_planned(const fixture *f)
{
    const berth_model_data_options options = {.allow_missing_weights = true};
    berth_model_data *m = NULL;
    berth_error err = {0};
    if (berth_model_data_open(f->dir, &options, &m, &err) != BERTH_OK) fail_msg("%s", err.message);
    return m;
}

static void published_sizes_come_out(void **state)
{
    (void)state;
    fixture f = fixture_create();
    for (size_t i = 0; i < 2 * sizeof releases / sizeof *releases; i++) {
        const published *p = &releases[i / 2];
        bool is_remote = i % 2 == 0;
        write_published(&f, p, is_remote);
        fixture_refused(&f, "no weights", BERTH_NOT_FOUND, "no weights|model.safetensors");
        berth_model_data *m = open_planned(&f);
        const berth_node_view *nodes = berth_model_data_nodes(m);
        int32_t n_tensors = 0;
        for (int32_t k = 0; k < berth_model_data_n_nodes(m); k++)
            n_tensors += (nodes[k].flags & BERTH_NODE_TENSOR) != 0;
        assert_int_equal(n_tensors, is_remote ? p->n_tensors_remote : p->n_tensors_native);
        assert_int_equal(nodes[0].weight_bytes, 2 * p->n_params);
        assert_int_equal(nodes[0].kv_bytes_per_token, p->kv_2_bytes / 2 * BERTH_KV_ELEMENT_BYTES);
        assert_int_equal(berth_model_data_n_shards(m), 0);
        assert_int_equal(berth_model_data_param(m, 0)->shard, -1);
        berth_model_data_release(m);
    }
    fixture_destroy(&f);
}

static void parts_of_the_8b_come_out(void **state)
{
    (void)state;
    fixture f = fixture_create();
    write_published(&f, &releases[2], true);
    berth_model_data *m = open_planned(&f);
    static const struct {
        const char *path;
        uint64_t bytes;
    } parts[] = {
        {"vision_model", 608024576},
        {"vision_model.embeddings", 3307520},
        {"vision_model.encoder.layers.7", 25196544},
        {"mlp1", 55080960},
        {"mlp1.0", 16384},
        {"mlp1.1", 29367296},
        {"mlp1.2", 0},
        {"language_model.model.embed_tokens", 1087199232},
        {"language_model.model.rotary_emb", 0},
        {"language_model.model.layers.27", 466115584},
        {"language_model.model.norm", 7168},
        {"language_model.lm_head", 1087199232},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int32_t node = berth_model_data_find_node(m, parts[i].path);
        assert_true(node > 0);
        assert_int_equal(berth_model_data_nodes(m)[node].weight_bytes, parts[i].bytes);
    }
    const berth_node_view *root = berth_model_data_nodes(m);
    double layer = 2.0 * (2 * 3584.0 * 3584 + 2 * 3584.0 * 512 + 3 * 3584.0 * 18944), head = 2.0 * 151674 * 3584;
    assert_true(root->flops_per_token == 28 * layer + head);
    double block = 2.0 * (4 * 1024.0 * 1024 + 2 * 1024.0 * 4096) * 1025, patches = 2.0 * 1024 * 588 * 1024;
    double projector = 2.0 * (4096.0 * 3584 + 3584.0 * 3584) * 256;
    assert_true(root->flops_per_tile == 24 * block + patches + projector);
    berth_model_data_release(m);
    fixture_destroy(&f);
}

/* ---- names in the file
 * ------------------------------------------------------------------------------------------------ */

typedef struct rewrite {         /* what is changed when a weight file is written anew */
    const char *from[2], *to[2]; /* prefixes of names */
    const char *drop;            /* a name that is left out */
    const char *extra;           /* a name that is added, one U8 */
} rewrite;

static void rewrite_weights(const fixture *f, const rewrite *r)
{
    berth_safetensors *file = NULL;
    berth_error err = {0};
    assert_int_equal(berth_safetensors_open(f->dir, WEIGHTS, &file, &err), BERTH_OK);
    size_t n = berth_safetensors_count(file), k = 0;
    berth_safetensors_entry *entries = calloc(n + 1, sizeof *entries);
    char(*names)[256] = calloc(n + 1, sizeof *names);
    void **data = calloc(n + 1, sizeof *data);
    assert_true(entries && names && data);
    for (size_t i = 0; i < n; i++) {
        const berth_safetensor *t = berth_safetensors_at(file, i);
        if (r->drop && strcmp(t->name, r->drop) == 0) continue;
        snprintf(names[k], sizeof *names, "%s", t->name);
        for (int p = 1; p >= 0; p--) {
            size_t len = r->from[p] ? strlen(r->from[p]) : 0;
            if (len && strncmp(t->name, r->from[p], len) == 0)
                snprintf(names[k], sizeof *names, "%s%s", r->to[p], t->name + len);
        }
        data[k] = malloc(t->n_bytes);
        assert_non_null(data[k]);
        assert_int_equal(berth_safetensors_read(file, t, data[k], &err), BERTH_OK);
        entries[k] = (berth_safetensors_entry){
            .name = names[k], .dtype = t->dtype, .n_dims = t->n_dims, .data = data[k], .n_bytes = t->n_bytes};
        memcpy(entries[k].dims, t->dims, sizeof t->dims);
        k++;
    }
    if (r->extra)
        entries[k++] = (berth_safetensors_entry){.name = r->extra, .dtype = BERTH_U8, .data = "x", .n_bytes = 1};
    char path[512];
    fixture_path(f, WEIGHTS, path);
    berth_safetensors_close(file);
    if (berth_safetensors_write(path, entries, k, &err) != BERTH_OK) fail_msg("%s", err.message);
    for (size_t i = 0; i < k; i++) free(data[i]);
    free(entries);
    free(names);
    free(data);
}

static void every_spelling_of_names_opens(void **state)
{
    (void)state;
    static const rewrite native[] = {
        {.from = {"language_model.model.", "vision_tower."},
         .to = {"model.language_model.", "model.vision_tower."}}, /* half and half */
        {.from = {"language_model.model.", "language_model.lm_head."},
         .to = {"language_model.", "lm_head."}}, /* without the inner model */
        {.from = {"language_model.", "multi_modal_projector."},
         .to = {"model.language_model.", "model.multi_modal_projector."}},
    };
    static const rewrite text[] = {{.from = {"model."}, .to = {""}}}; /* the bare Qwen2Model */
    const struct {
        const char *base;
        const rewrite *r;
        size_t n;
    } sets[] = {{"hostile/bases/hf", native, 3}, {"models/qwen2-text", text, 1}};
    for (size_t s = 0; s < 2; s++) {
        berth_model_data *want = open_golden(sets[s].base);
        for (size_t i = 0; i < sets[s].n; i++) {
            fixture f = fixture_copy(sets[s].base);
            rewrite_weights(&f, &sets[s].r[i]);
            berth_model_data *m = fixture_accepted(&f, sets[s].r[i].from[0]);
            assert_same_weights(m, want);
            berth_model_data_release(m);
            fixture_destroy(&f);
        }
        berth_model_data_release(want);
    }
}

static void leftovers_and_strangers_are_passed_over(void **state)
{
    (void)state;
    static const char *const names[] = {"language_model.model.layers.0.self_attn.rotary_emb.inv_freq",
                                        "model.language_model.rotary_emb.inv_freq",
                                        "vision_tower.embeddings.mask_token",
                                        "zz",
                                        "\xc3\xa9",
                                        "optimizer.step",
                                        "models.x"};
    berth_model_data *want = open_golden("hostile/bases/hf");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        fixture f = fixture_copy("hostile/bases/hf");
        rewrite_weights(&f, &(rewrite){.extra = names[i]});
        berth_model_data *m = fixture_accepted(&f, names[i]);
        assert_same_weights(m, want);
        berth_model_data_release(m);
        fixture_destroy(&f);
    }
    berth_model_data_release(want);
}

static void differences_are_refused(void **state)
{
    (void)state;
    static const struct {
        rewrite r;
        const char *words;
    } cases[] = {
        {{.drop = "language_model.model.norm.weight"},
         "model.safetensors|1 tensor missing|language_model.norm.weight [48]"},
        {{.drop = "vision_tower.encoder.layer.1.lambda_2"}, "missing|vision_tower.encoder.layer.1.lambda_2 [32]"},
        {{.from = {"multi_modal_projector."}, .to = {"x."}}, "6 tensors missing|linear_1.weight [48, 128]|and 1 more"},
        {{.extra = "language_model.model.layers.01.input_layernorm.weight"}, "1 tensor not expected|layers.01."},
        {{.extra = "vision_tower.encoder.layer.0.attention.q_norm.weight"}, "not expected|q_norm.weight"},
        {{.extra = "lm_head.bias"}, "not expected|lm_head.bias"},
        {{.extra = "model.language_model.norm.weight"}, "two names|model.language_model.norm.weight"},
        {{.from = {"language_model.model.layers.1."}, .to = {"language_model.model.layers.2."}},
         "12 tensors missing|12 tensors not expected"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f = fixture_copy("hostile/bases/hf");
        rewrite_weights(&f, &cases[i].r);
        fixture_refused(&f, cases[i].words, BERTH_BAD_FILE, cases[i].words);
        fixture_destroy(&f);
    }
}

static void shapes_and_dtypes_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *file, *from, *to, *words; /* texts of equal length in a header */
    } cases[] = {
        {WEIGHTS, "\"shape\":[320,48]", "\"shape\":[48,320]", "wrong shape|has shape [48, 320], expected [320, 48]"},
        {WEIGHTS, "\"dtype\":\"BF16\"", "\"dtype\":\"U16\" ", "has dtype U16"},
        {CONFIG, "\"intermediate_size\": 96", "\"intermediate_size\": 95",
         "6 tensors of the wrong shape|gate_proj|expected [95, 48]"},
        {CONFIG, "\"downsample_ratio\": 0.5", "\"downsample_ratio\": 1.0",
         "multi_modal_projector.layer_norm.weight has shape [128], expected [32]"},
        {CONFIG, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "12 tensors not expected"},
        {CONFIG, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1000", "11976 tensors missing|and 11971 more"},
        {CONFIG, "\"attention_bias\": true", "\"attention_bias\": false", "6 tensors not expected"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f = fixture_copy("hostile/bases/hf");
        fixture_replace(&f, cases[i].file, cases[i].from, cases[i].to);
        fixture_refused(&f, cases[i].to, BERTH_BAD_FILE, cases[i].words);
        fixture_destroy(&f);
    }
}

static void heads_are_tied_when_absent(void **state)
{
    (void)state;
    berth_model_data *m = open_golden("models/ivl-tied");
    const berth_node_view *nodes = berth_model_data_nodes(m);
    const berth_param *embed = berth_model_data_param(m, berth_model_data_find(m, BERTH_T_EMBED, -1));
    const berth_param *head = berth_model_data_param(m, berth_model_data_find(m, BERTH_T_HEAD, -1));
    assert_int_equal(head->offset, embed->offset);
    assert_int_equal(head->n_bytes, embed->n_bytes);
    assert_string_equal(nodes[head->node].path, "lm_head.weight");
    assert_int_equal(nodes[head->node].tied_to, embed->node);
    assert_int_equal(nodes[head->node].weight_bytes, 0);
    assert_true(nodes[head->node].flops_per_token == 2.0 * 490 * 64);
    assert_int_equal(nodes[embed->node].weight_bytes, embed->n_bytes);
    berth_model_data_release(m);

    fixture f = fixture_copy("hostile/bases/hf");
    fixture_replace(&f, CONFIG, "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
    m = fixture_accepted(&f, "tied in words, a head in the file");
    int32_t node = berth_model_data_find_node(m, "lm_head.weight");
    assert_int_equal(berth_model_data_nodes(m)[node].tied_to, -1);
    berth_model_data_release(m);
    rewrite_weights(&f, &(rewrite){.drop = "language_model.lm_head.weight"});
    m = fixture_accepted(&f, "no head");
    assert_true(berth_model_data_nodes(m)[node].tied_to > 0);
    berth_model_data_release(m);
    fixture_destroy(&f);
}

/* A Qwen3 language model in the remote-code layout (InternVL3.5), written from what the tables ask for. */
static void qwen3_opens_in_the_remote_layout(void **state)
{
    (void)state;
    fixture f = fixture_copy_configs("models/ivl-remote");
    fixture_replace(&f, CONFIG, "Qwen2ForCausalLM", "Qwen3ForCausalLM");
    fixture_replace(&f, CONFIG, "\"vocab_size\": 490", "\"vocab_size\": 490, \"head_dim\": 20");
    berth_model_data *plan = open_planned(&f);
    berth_safetensors_entry *entries = calloc((size_t)plan->n_specs, sizeof *entries);
    void *zeros = calloc(1, 1 << 20);
    assert_true(entries && zeros);
    for (int32_t i = 0; i < plan->n_specs; i++) {
        const berth_tensor_spec *s = &plan->specs[i];
        entries[i] = (berth_safetensors_entry){
            .name = plan->nodes[s->node].path, .dtype = BERTH_F16, .n_dims = s->n_dims, .data = zeros};
        memcpy(entries[i].dims, s->dims, sizeof s->dims);
        entries[i].n_bytes = 2 * (size_t)plan->nodes[s->node].n_elements;
    }
    char path[512];
    fixture_path(&f, WEIGHTS, path);
    assert_int_equal(berth_safetensors_write(path, entries, (size_t)plan->n_specs, NULL), BERTH_OK);
    berth_model_data *m = fixture_accepted(&f, "qwen3");
    const berth_param *q = berth_model_data_param(m, berth_model_data_find(m, BERTH_T_Q_W, 0));
    assert_int_equal(q->dims[0], 4 * 20);
    assert_int_equal(berth_model_data_find(m, BERTH_T_Q_B, 0), -1);
    assert_int_equal(berth_model_data_param(m, berth_model_data_find(m, BERTH_T_QNORM_W, 2))->dims[0], 20);
    assert_string_equal(berth_model_data_nodes(m)[berth_model_data_find_node(m, "language_model")].class_name,
                        "Qwen3ForCausalLM");
    berth_model_data_release(m);
    berth_model_data_release(plan);
    free(entries);
    free(zeros);
    fixture_destroy(&f);
}

/* ---- shards ---- */

#define INDEX  "model.safetensors.index.json"
#define SHARD2 "model-00002-of-00003.safetensors"
#define SHARD3 "model-00003-of-00003.safetensors"

static void indexes_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *words;
    } cases[] = {
        {SHARD2, "/etc/passwd", "invalid shard name|/etc/passwd"},
        {SHARD2, "../" SHARD2, "invalid shard name"},
        {SHARD2, "sub/../" SHARD2, "invalid shard name"},
        {SHARD2, SHARD2 "/", "invalid shard name"},
        {SHARD2, ".", "invalid shard name"},
        {SHARD2, "..", "invalid shard name"},
        {SHARD2, "", "invalid shard name"},
        {SHARD2, "a\\u0000", "invalid shard name"},
        {SHARD2, "a\\n", "invalid shard name"},
        {SHARD2, " ", "index.json|shard"},
        {SHARD2, SHARD3, "not in the shard that is named|listed in " SHARD3 ", found in " SHARD2},
        {"\"" SHARD2 "\"", "2", "weight_map|string"},
        {"\"" SHARD2 "\"", "\"" SHARD2 "\", \"zz\": \"" SHARD2 "\"", "1 listed tensor missing|zz (" SHARD2},
        {"\"weight_map\"", "\"weight_mop\"", "weight_map is missing"},
        {"\"weight_map\": {", "\"weight_map\": {}, \"x\": {", "weight_map is empty"},
        {"\"weight_map\": {", "\"weight_map\": [], \"x\": {", "weight_map"},
        {"\"weight_map\": {", "\"weight_map\": {}, \"weight_map\": {", "duplicate"},
        {"{", "[", "an object with weight_map expected"},
        {"\"language_model.model.norm.weight\"", "\"language_model.lm_head.weight\"", "twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f = fixture_copy("hostile/bases/shards");
        fixture_replace(&f, INDEX, cases[i].from, cases[i].to);
        char path[512], words[512];
        fixture_path(&f, INDEX, path);
        snprintf(words, sizeof words, "%s|%s", INDEX, cases[i].words);
        berth_model_data *m = NULL;
        berth_error err;
        assert_true(fixture_open(&f, &m, &err) != BERTH_OK);
        fixture_refused(&f, cases[i].to, err.status, words);
        fixture_destroy(&f);
    }
}

static void sound_indexes_open(void **state)
{
    (void)state;
    berth_model_data *want = open_golden("hostile/bases/hf");
    static const char *const edits[][2] = {
        {"\"total_size\": ", "\"total_size\": 1"}, /* a wrong total is common and harmless */
        {"\"metadata\": {", "\"metadata\": {\"x\": [[]], "},
        {"    \"language_model.model.norm.weight\": \"" SHARD2 "\",\n", ""}, /* in a shard, though not listed */
    };
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        fixture f = fixture_copy("hostile/bases/shards");
        fixture_replace(&f, INDEX, edits[i][0], edits[i][1]);
        berth_model_data *m = fixture_accepted(&f, edits[i][0]);
        assert_int_equal(berth_model_data_n_shards(m), 3);
        assert_same_weights(m, want);
        berth_model_data_release(m);
        fixture_destroy(&f);
    }
    berth_model_data_release(want);
}

static void shards_are_checked(void **state)
{
    (void)state;
    fixture f = fixture_copy("hostile/bases/shards");
    char path[512], moved[512];
    size_t n = 0;
    char *shard = fixture_read(&f, SHARD2, &n);
    fixture_path(&f, SHARD2, path);
    fixture_write(&f, SHARD2, shard, n - 4097);
    fixture_refused(&f, "cut", BERTH_BAD_FILE, INDEX "|" SHARD2 "|short by");
    fixture_write(&f, SHARD2, "", 0);
    fixture_refused(&f, "empty", BERTH_BAD_FILE, INDEX "|" SHARD2 "|empty");
    fixture_remove(&f, SHARD2);
    fixture_refused(&f, "gone", BERTH_NOT_FOUND, INDEX "|" SHARD2);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    fixture_refused(&f, "outside", BERTH_BAD_FILE, INDEX "|" SHARD2);
    fixture_remove(&f, SHARD2);
    assert_int_equal(mkfifo(path, 0600), 0);
    fixture_refused(&f, "fifo", BERTH_BAD_FILE, INDEX "|" SHARD2 "|regular");
    fixture_remove(&f, SHARD2);
    fixture_write(&f, "blob", shard, n);
    assert_int_equal(symlink("blob", path), 0);
    berth_model_data_release(fixture_accepted(&f, "a link inside"));
    fixture_write(&f, "copy.safetensors", shard,
                  n); /* the second shard twice, and the index names one tensor of the copy */
    fixture_replace(&f, INDEX, SHARD2, "copy.safetensors");
    fixture_refused(&f, "twice", BERTH_BAD_FILE, INDEX "|in more than one shard|in both|copy.safetensors|" SHARD2);
    fixture_path(&f, INDEX, path);
    fixture_path(&f, "elsewhere.json", moved);
    assert_int_equal(rename(path, moved), 0);
    fixture_refused(&f, "no index", BERTH_NOT_FOUND, INDEX " is missing");
    free(shard);
    fixture_destroy(&f);
}

static void damaged_indexes_are_safe(void **state)
{
    (void)state;
    fixture f = fixture_copy("hostile/bases/shards");
    size_t n = 0;
    char *whole = fixture_read(&f, INDEX, &n), *copy = malloc(n);
    assert_non_null(copy);
    uint32_t seed = 0x9e3779b9;
    for (int round = 0; round < 600; round++) {
        memcpy(copy, whole, n);
        for (int k = 0; k < 2; k++) {
            static const char likely[] = "0123456789,:[]{}\"\\/.-";
            seed = seed * 1664525 + 1013904223;
            copy[(seed >> 8) % n] = likely[(seed >> 3) % (sizeof likely - 1)];
        }
        fixture_write(&f, INDEX, copy, n);
        berth_model_data *m = NULL;
        berth_error err;
        berth_status status = fixture_open(&f, &m, &err);
        assert_true((status == BERTH_OK) == (m != NULL));
        if (status != BERTH_OK) assert_non_null(strstr(err.message, INDEX));
        berth_model_data_release(m);
    }
    free(copy);
    free(whole);
    fixture_destroy(&f);
}

/* ---- what is no model directory
 * ------------------------------------------------------------------------------------------ */

static void other_paths_are_refused(void **state)
{
    (void)state;
    fixture f = fixture_create();
    char path[512];
    berth_model_data *m = NULL;
    berth_error err = {0};
    fixture_refused(&f, "empty folder", BERTH_NOT_FOUND, "config.json is missing");
    assert_int_equal(berth_model_data_open("", NULL, &m, &err), BERTH_INVALID_ARGUMENT);
    assert_int_equal(berth_model_data_open("/nowhere/at/all", NULL, &m, &err), BERTH_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nowhere/at/all"));
    fixture_text(&f, "m.gguf", "GGUF....");
    fixture_refused(&f, "gguf folder", BERTH_UNSUPPORTED, "GGUF|m.gguf|not read yet|safetensors");
    fixture_path(&f, "m.gguf", path);
    assert_int_equal(berth_model_data_open(path, NULL, &m, &err), BERTH_UNSUPPORTED);
    assert_non_null(strstr(err.message, "GGUF is not read yet"));
    fixture_text(&f, "m.gguf", "text");
    assert_int_equal(berth_model_data_open(path, NULL, &m, &err), BERTH_BAD_FILE);
    assert_non_null(strstr(err.message, "is not a directory"));
    fixture_remove(&f, "m.gguf");
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(berth_model_data_open(path, NULL, &m, &err), BERTH_BAD_FILE);
    fixture_remove(&f, "m.gguf");
    fixture_destroy(&f);
}

static void weights_of_other_kinds_are_named(void **state)
{
    (void)state;
    fixture f = fixture_copy_configs("hostile/bases/hf");
    char path[512];
    fixture_text(&f, "pytorch_model.bin", "");
    fixture_refused(&f, "pickle", BERTH_NOT_FOUND, "no weights|pytorch_model.bin");
    fixture_text(&f, "x.gguf", "");
    fixture_refused(&f, "gguf", BERTH_UNSUPPORTED, "GGUF|x.gguf");
    fixture_path(&f, WEIGHTS, path);
    assert_int_equal(mkdir(path, 0700), 0);
    fixture_refused(&f, "folder", BERTH_BAD_FILE, "model.safetensors|regular");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink("model.safetensors", path), 0);
    fixture_refused(&f, "link to itself", BERTH_BAD_FILE, "model.safetensors");
    fixture_destroy(&f);
}

static void handles_are_counted(void **state)
{
    (void)state;
    berth_model_data *m = open_golden("hostile/bases/hf");
    berth_model_data_retain(m);
    berth_model_data_release(m);
    assert_non_null(strstr(berth_model_data_dir(m), "hostile/bases/hf"));
    berth_model_data_release(m);
    berth_model_data_release(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_models_open),
        cmocka_unit_test(layouts_hold_the_same_values),
        cmocka_unit_test(trees_are_well_formed),
        cmocka_unit_test(trees_have_the_names_of_the_reference),
        cmocka_unit_test(modules_stand_in_execution_order),
        cmocka_unit_test(work_is_that_of_the_arithmetic),
        cmocka_unit_test(older_spellings_name_the_same_module),
        cmocka_unit_test(published_sizes_come_out),
        cmocka_unit_test(parts_of_the_8b_come_out),
        cmocka_unit_test(every_spelling_of_names_opens),
        cmocka_unit_test(leftovers_and_strangers_are_passed_over),
        cmocka_unit_test(differences_are_refused),
        cmocka_unit_test(shapes_and_dtypes_are_checked),
        cmocka_unit_test(heads_are_tied_when_absent),
        cmocka_unit_test(qwen3_opens_in_the_remote_layout),
        cmocka_unit_test(indexes_are_checked),
        cmocka_unit_test(sound_indexes_open),
        cmocka_unit_test(shards_are_checked),
        cmocka_unit_test(damaged_indexes_are_safe),
        cmocka_unit_test(other_paths_are_refused),
        cmocka_unit_test(weights_of_other_kinds_are_named),
        cmocka_unit_test(handles_are_counted),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
