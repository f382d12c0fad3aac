/* accelerate_model_test.c - InternVL3-8B opened from its config.json alone, in both layouts, placed as accelerate
 * itself placed it (tests/golden/placement). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/model.h"
#include "strategies/accelerate_model.h"
#include "strategies/placement_golden.h"

static berth_json *golden;

static int load_golden(void **state)
{
    (void)state;
    golden = golden_open(PLACEMENT_GOLDEN("placement_golden.json"));
    return golden ? 0 : 1;
}

static int drop_golden(void **state)
{
    (void)state;
    berth_json_destroy(golden);
    return 0;
}

/* The published configurations, as far as they say what the model is. */
#define VISION_SIZES                                                                                                   \
    "\"hidden_size\":1024,\"num_hidden_layers\":24,\"num_attention_heads\":16,\"intermediate_size\":4096,"             \
    "\"image_size\":448,\"patch_size\":14"
#define TEXT_SIZES                                                                                                     \
    "\"hidden_size\":3584,\"num_hidden_layers\":28,\"num_attention_heads\":28,\"num_key_value_heads\":4,"              \
    "\"intermediate_size\":18944,\"vocab_size\":151674,\"max_position_embeddings\":32768,\"rms_norm_eps\":1e-06,"      \
    "\"rope_theta\":1000000.0,\"tie_word_embeddings\":false,\"hidden_act\":\"silu\""
static const char remote[] =
    "{\"model_type\":\"internvl_chat\",\"architectures\":[\"InternVLChatModel\"],\"torch_dtype\":\"bfloat16\","
    "\"downsample_ratio\":0.5,\"ps_version\":\"v2\",\"select_layer\":-1,\"force_image_size\":448,"
    "\"template\":\"internvl2_5\",\"dynamic_image_size\":true,\"min_dynamic_patch\":1,\"max_dynamic_patch\":12,\"use_"
    "thumbnail\":true,"
    "\"llm_config\":{\"architectures\":[\"Qwen2ForCausalLM\"],\"model_type\":\"qwen2\"," TEXT_SIZES "},"
    "\"vision_config\":{\"architectures\":[\"InternVisionModel\"],\"model_type\":\"intern_vit_6b\"," VISION_SIZES
    ",\"norm_type\":\"layer_norm\",\"qkv_bias\":true,\"qk_normalization\":false,\"hidden_act\":\"gelu\"}}";
static const char native[] =
    "{\"model_type\":\"internvl\",\"architectures\":[\"InternVLForConditionalGeneration\"],"
    "\"torch_dtype\":\"bfloat16\",\"downsample_ratio\":0.5,\"image_token_id\":151667,\"image_seq_length\":256,"
    "\"projector_hidden_act\":\"gelu\",\"vision_feature_layer\":-1,\"tie_word_embeddings\":false,"
    "\"text_config\":{\"model_type\":\"qwen2\"," TEXT_SIZES "},"
    "\"vision_config\":{\"model_type\":\"internvl_vision\"," VISION_SIZES
    ",\"norm_type\":\"layer_norm\",\"attention_bias\":true,\"use_qk_norm\":false,\"hidden_act\":\"gelu\"}}";

static berth_model_data *open_config(const char *text)
{
    char dir[] = "/tmp/berth-accelerate-XXXXXX", path[64];
    berth_error err = {0};
    berth_model_data *m = NULL;
    const berth_model_data_options options = {.allow_missing_weights = true};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(text, 1, strlen(text), f) == strlen(text));
    assert_int_equal(fclose(f), 0);
    berth_status st = berth_model_data_open(dir, &options, &m, &err);
    unlink(path);
    rmdir(dir);
    if (st != BERTH_OK) fail_msg("%s", err.message);
    return m;
}

/* Every case of the published model that is not about the fallback, with the tree of the opened one. */
static void opened_models_are_placed_as_accelerate_did(void **state)
{
    (void)state;
    static const struct {
        const char *model, *config;
        int32_t least;
    } layouts[] = {{"internvl3-8b", remote, 40}, {"internvl3-8b-hf", native, 6}};
    for (size_t k = 0; k < 2; k++) {
        berth_model_data *m = open_config(layouts[k].config);
        const berth_strategy_input in = {.struct_size = sizeof in,
                                         .nodes = berth_model_data_nodes(m),
                                         .node_size = sizeof(berth_node_view),
                                         .n_nodes = berth_model_data_n_nodes(m)};
        berth_tree tree;
        berth_error err = {0};
        if (berth_accelerate_tree(&in, &tree, &err) != BERTH_OK) fail_msg("%s", err.message);
        int32_t n = 0;
        const berth_json_node *c = berth_json_first(berth_json_get(berth_json_root(golden), "cases"));
        for (; c; c = berth_json_next(c)) {
            const char *id = berth_json_as_string(berth_json_get(c, "id")),
                       *name = berth_json_as_string(berth_json_get(c, "model"));
            if (!name || strcmp(name, layouts[k].model) != 0 || berth_json_get(c, "raises")) continue;
            golden_case g;
            golden_read(c, &tree, &g);
            berth_accelerate_result r;
            if (berth_accelerate_place(&g.req, &r, &err) != BERTH_OK) fail_msg("%s: %s", id, err.message);
            golden_check_map(id, berth_json_get(c, "map"), &tree, &r);
            berth_accelerate_deinit(&r);
            n++;
        }
        assert_true(n >= layouts[k].least);
        berth_tree_deinit(&tree);
        berth_model_data_release(m);
    }
}

/* The whole way, devices included: 4 of 16 GiB. */
static void four_devices(void **state)
{
    (void)state;
    static const struct {
        const char *config, *id, *head, *projector;
    } rows[] = {{remote, "8b/4x16/auto", "language_model.lm_head.weight", "mlp1.1.weight"},
                {native, NULL, "lm_head.weight", "model.multi_modal_projector.linear_1.weight"}};
    for (size_t k = 0; k < 2; k++) {
        berth_device_view devices[4];
        for (int32_t d = 0; d < 4; d++)
            devices[d] = (berth_device_view){.name = "gpu", .budget_bytes = (uint64_t)16 << 30, .physical = d};
        berth_model_data *m = open_config(rows[k].config);
        const berth_strategy_input in = {.struct_size = sizeof in,
                                         .nodes = berth_model_data_nodes(m),
                                         .node_size = sizeof(berth_node_view),
                                         .n_nodes = berth_model_data_n_nodes(m),
                                         .devices = devices,
                                         .device_size = sizeof *devices,
                                         .n_devices = 4};
        berth_accelerate_model a;
        berth_error err = {0};
        if (berth_accelerate_for_input(&in, BERTH_ACCELERATE_BALANCED, 16, (uint64_t)64 << 30, &a, &err) != BERTH_OK)
            fail_msg("%s", err.message);
        const berth_json_node *c = berth_json_first(berth_json_get(berth_json_root(golden), "cases"));
        for (; rows[k].id && c; c = berth_json_next(c))
            if (strcmp(berth_json_as_string(berth_json_get(c, "id")), rows[k].id) == 0)
                golden_check_map(rows[k].id, berth_json_get(c, "map"), &a.tree, &a.result);
        assert_int_equal(a.device_of[berth_model_data_find_node(m, rows[k].head)], 3);
        /* Registered behind the language model in one layout, before it in the other. */
        assert_int_equal(a.device_of[berth_model_data_find_node(m, rows[k].projector)], k == 0 ? 3 : 0);
        berth_accelerate_model_deinit(&a);
        berth_model_data_release(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opened_models_are_placed_as_accelerate_did),
        cmocka_unit_test(four_devices),
    };
    return cmocka_run_group_tests_name("accelerate_model", tests, load_golden, drop_golden);
}
