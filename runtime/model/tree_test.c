/* tree_test.c - the module tree: its shape and its names, the bytes and the work of its nodes, sizes as published. */
#include "model/model_fixture.h"
#include "model/model_internal.h"

static void trees_are_well_formed(void **state)
{
    (void)state;
    for (size_t g = 0; fixture_goldens[g]; g++) {
        berth_model_data *m = fixture_golden(fixture_goldens[g]);
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
        berth_model_data *m = fixture_golden(rows[i].model);
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
    for (size_t g = 0; fixture_goldens[g]; g++) {
        berth_model_data *m = fixture_golden(fixture_goldens[g]);
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
    berth_model_data *m = fixture_golden("hostile/bases/hf");
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

/* Arithmetic of InternVL3-8B for 13 tiles and 3448 tokens: 0.722 TFLOP a tile (patches apart), 47.4 to read the prompt. */
static void work_is_that_of_the_arithmetic(void **state)
{
    (void)state;
    const fixture f = {GOLDEN "plan/internvl3-8b"};
    berth_model_data *m = fixture_planned(&f);
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

/* ---- published sizes, without weights ---- */

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

static void published_sizes_come_out(void **state)
{
    (void)state;
    fixture f = fixture_create();
    for (size_t i = 0; i < 2 * sizeof releases / sizeof *releases; i++) {
        const published *p = &releases[i / 2];
        bool is_remote = i % 2 == 0;
        write_published(&f, p, is_remote);
        fixture_refused(&f, "no weights", BERTH_NOT_FOUND, "no weights|model.safetensors");
        berth_model_data *m = fixture_planned(&f);
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
    berth_model_data *m = fixture_planned(&f);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trees_are_well_formed),
        cmocka_unit_test(trees_have_the_names_of_the_reference),
        cmocka_unit_test(modules_stand_in_execution_order),
        cmocka_unit_test(older_spellings_name_the_same_module),
        cmocka_unit_test(work_is_that_of_the_arithmetic),
        cmocka_unit_test(published_sizes_come_out),
        cmocka_unit_test(parts_of_the_8b_come_out),
    };
    return cmocka_run_group_tests_name("model_tree", tests, NULL, NULL);
}
