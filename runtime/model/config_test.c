/* config_test.c - configurations: every spelling, every range, and damaged text. Starts from the published forms in
 * tests/golden. */
#include "model/model_fixture.h"

#include "model/config.h"
#include "tests/random.h"

typedef struct config_case {
    const char *file, *from, *to;
    const char *words; /* all of them in the message, '|' between */
    berth_status status;
} config_case;

static void run_cases(const char *base, const config_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const config_case *c = &cases[i];
        fixture f = fixture_copy_configs(base);
        fixture_replace(&f, c->file, c->from, c->to);
        berth_model_config config;
        berth_error err = {0};
        berth_status status = berth_config_read(f.dir, &config, &err);
        if (status != c->status) {
            fail_msg("%s -> %s: %s, expected %s: %s", c->from, c->to, berth_status_name(status),
                     berth_status_name(c->status), err.message);
        }
        assert_true(strstr(err.message, c->file) != NULL);
        for (const char *word = c->words; *word;) {
            size_t len = strcspn(word, "|");
            if (!memmem(err.message, strlen(err.message), word, len))
                fail_msg("%s -> %s: no \"%.*s\" in: %s", c->from, c->to, (int)len, word, err.message);
            word += len + (word[len] == '|');
        }
        fixture_destroy(&f);
    }
}

#define PRE "preprocessor_config.json"
#define GEN "generation_config.json"

static void text_values_have_ranges(void **state)
{
    (void)state;
    static const config_case cases[] = {
        {CONFIG, "\"hidden_size\": 48", "\"hidden_size\": 0", "text_config.hidden_size is 0|range", BERTH_BAD_FILE},
        {CONFIG, "\"hidden_size\": 48", "\"hidden_size\": 65537", "text_config.hidden_size|range", BERTH_BAD_FILE},
        {CONFIG, "\"hidden_size\": 48", "\"hidden_size\": 4294967344", "text_config.hidden_size|range", BERTH_BAD_FILE},
        {CONFIG, "\"hidden_size\": 48", "\"hidden_size\": 9223372036854775808", "text_config.hidden_size|range",
         BERTH_BAD_FILE},
        {CONFIG, "\"hidden_size\": 48", "\"hidden_size\": 48.5", "text_config.hidden_size|not an integer",
         BERTH_BAD_FILE},
        {CONFIG, "\"hidden_size\": 48", "\"hidden_size\": \"48\"", "text_config.hidden_size|an integer|a string",
         BERTH_BAD_FILE},
        {CONFIG, "\"hidden_size\": 48", "\"hidden_size\": 1e999", "text_config.hidden_size|out of range",
         BERTH_BAD_FILE},
        {CONFIG, "\"hidden_size\": 48", "\"hidden_size\": null", "text_config.hidden_size is missing", BERTH_BAD_FILE},
        {CONFIG, "\"hidden_size\": 48", "\"hidden_size\": 50", "num_attention_heads", BERTH_BAD_FILE},
        {CONFIG, "\"hidden_size\": 48", "\"hidden_size\": 48, \"hidden_size\": 48", "duplicate", BERTH_BAD_FILE},
        {CONFIG, "\"num_attention_heads\": 4", "\"num_attention_heads\": -4", "num_attention_heads|range",
         BERTH_BAD_FILE},
        {CONFIG, "\"num_attention_heads\": 4", "\"num_attention_heads\": 16", "head_dim is 3", BERTH_BAD_FILE},
        {CONFIG, "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 0", "num_key_value_heads|range",
         BERTH_BAD_FILE},
        {CONFIG, "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "num_key_value_heads 3", BERTH_BAD_FILE},
        {CONFIG, "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 8", "num_key_value_heads 8", BERTH_BAD_FILE},
        {CONFIG, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1025", "text_config.num_hidden_layers|range",
         BERTH_BAD_FILE},
        {CONFIG, "\"intermediate_size\": 96", "\"intermediate_size\": -1", "text_config.intermediate_size|range",
         BERTH_BAD_FILE},
        {CONFIG, "\"vocab_size\": 320", "\"vocab_size\": 1000000000", "text_config.vocab_size|range", BERTH_BAD_FILE},
        {CONFIG, "\"vocab_size\": 320", "\"vocab_size\": 319", "image_token_id 319|vocabulary", BERTH_BAD_FILE},
        {CONFIG, "\"vocab_size\": 320", "\"vocab_size\": 320, \"head_dim\": 7", "head_dim is 7", BERTH_BAD_FILE},
        {CONFIG, "\"vocab_size\": 320", "\"vocab_size\": 320, \"head_dim\": 0", "head_dim is 0", BERTH_BAD_FILE},
        {CONFIG, "\"max_position_embeddings\": 2048", "\"max_position_embeddings\": 0", "max_position_embeddings",
         BERTH_BAD_FILE},
        {CONFIG, "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": -1e-06", "rms_norm_eps", BERTH_BAD_FILE},
        {CONFIG, "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": NaN", "JSON", BERTH_BAD_FILE},
        {CONFIG, "\"rope_theta\": 1000000.0", "\"rope_theta\": -1.0", "rope_theta", BERTH_BAD_FILE},
        {CONFIG, "\"rope_theta\": 1000000.0", "\"rope_theta\": 0", "rope_theta", BERTH_BAD_FILE},
        {CONFIG, "\"rope_theta\": 1000000.0", "\"rope_theta\": \"1e6\"", "rope_theta|a number|a string",
         BERTH_BAD_FILE},
        {CONFIG, "\"factor\": 2.0", "\"factor\": 0", "rope_scaling.factor", BERTH_BAD_FILE},
        {CONFIG, "\"factor\": 2.0", "\"x\": 0", "rope_scaling.factor is missing", BERTH_BAD_FILE},
        {CONFIG, "\"rope_type\": \"dynamic\"", "\"rope_type\": \"yarn\"", "rope_type \"yarn\"", BERTH_UNSUPPORTED},
        {CONFIG, "\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu\"", "text_config.hidden_act \"relu\"",
         BERTH_UNSUPPORTED},
        {CONFIG, "\"hidden_act\": \"silu\"", "\"hidden_act\": 3", "text_config.hidden_act|a string", BERTH_BAD_FILE},
        {CONFIG, "\"use_sliding_window\": false",
         "\"use_sliding_window\": true, \"max_window_layers\": 1, \"sliding_window\": 7", "duplicate", BERTH_BAD_FILE},
        {CONFIG, "\"model_type\": \"qwen2\"", "\"model_type\": \"llama\"", "model_type \"llama\"|qwen3",
         BERTH_UNSUPPORTED},
        {CONFIG, "\"model_type\": \"qwen2\"", "\"layer_types\": [\"sliding_attention\"]", "layer_types",
         BERTH_UNSUPPORTED},
        {CONFIG, "\"model_type\": \"qwen2\"", "\"model_type\": \"qwen3\", \"attention_bias\": true", "attention_bias",
         BERTH_UNSUPPORTED},
    };
    run_cases("hostile/bases/hf", cases, sizeof cases / sizeof *cases);
}

static void vision_values_have_ranges(void **state)
{
    (void)state;
    static const config_case cases[] = {
        {CONFIG, "\"hidden_size\": 32", "\"hidden_size\": 0", "vision_config.hidden_size is 0", BERTH_BAD_FILE},
        {CONFIG, "\"num_attention_heads\": 2,", "\"num_attention_heads\": 3,",
         "vision_config.hidden_size 32 is not divisible", BERTH_BAD_FILE},
        {CONFIG, "\"num_attention_heads\": 2,", "\"num_attention_heads\": 1000000000,",
         "vision_config.num_attention_heads|range", BERTH_BAD_FILE},
        {CONFIG, "\"patch_size\": [\n      14,\n      14", "\"patch_size\": [\n      0,\n      0",
         "vision_config.patch_size is 0", BERTH_BAD_FILE},
        {CONFIG, "\"patch_size\": [\n      14,\n      14", "\"patch_size\": [\n      10,\n      10",
         "image_size 28 is not a multiple of 20", BERTH_BAD_FILE},
        {CONFIG, "\"image_size\": [\n      28,\n      28", "\"image_size\": [\n      28,\n      56",
         "vision_config.image_size is 28 x 56", BERTH_UNSUPPORTED},
        {CONFIG, "\"image_size\": [\n      28,\n      28", "\"image_size\": [\n      28",
         "vision_config.image_size|two", BERTH_BAD_FILE},
        {CONFIG, "\"image_size\": [\n      28,\n      28", "\"image_size\": [\n      2147483648,\n 2147483648",
         "vision_config.image_size|range", BERTH_BAD_FILE},
        {CONFIG, "\"image_size\": [\n      28,\n      28", "\"image_size\": [\n      \"28\",\n 28",
         "vision_config.image_size|an integer", BERTH_BAD_FILE},
        {CONFIG, "\"num_channels\": 3", "\"num_channels\": 4", "num_channels", BERTH_UNSUPPORTED},
        {CONFIG, "\"norm_type\": \"layer_norm\"", "\"norm_type\": \"batch_norm\"", "norm_type \"batch_norm\"",
         BERTH_UNSUPPORTED},
        {CONFIG, "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"gelu_new\"", "vision_config.hidden_act \"gelu_new\"",
         BERTH_UNSUPPORTED},
        {CONFIG, "\"use_mean_pooling\": true", "\"use_mean_pooling\": false", "use_mean_pooling", BERTH_UNSUPPORTED},
        {CONFIG, "\"use_absolute_position_embeddings\": true", "\"use_absolute_position_embeddings\": 1",
         "use_absolute_position_embeddings must be true or false", BERTH_BAD_FILE},
        {CONFIG, "\"downsample_ratio\": 0.5", "\"downsample_ratio\": -0.5", "downsample_ratio", BERTH_BAD_FILE},
        {CONFIG, "\"downsample_ratio\": 0.5", "\"downsample_ratio\": 1e-300", "downsample_ratio", BERTH_BAD_FILE},
        {CONFIG, "\"downsample_ratio\": 0.5", "\"downsample_ratio\": 0", "downsample_ratio", BERTH_BAD_FILE},
        {CONFIG, "\"downsample_ratio\": 0.5", "\"downsample_ratio\": 2.0", "downsample_ratio", BERTH_BAD_FILE},
        {CONFIG, "\"downsample_ratio\": 0.5", "\"downsample_ratio\": 0.4", "downsample_ratio", BERTH_UNSUPPORTED},
        {CONFIG, "\"downsample_ratio\": 0.5", "\"downsample_ratio\": 0.25", "image_size 28 is not a multiple",
         BERTH_BAD_FILE},
        {CONFIG, "\"vision_feature_layer\": -1", "\"vision_feature_layer\": 3", "vision_feature_layer is 3",
         BERTH_BAD_FILE},
        {CONFIG, "\"vision_feature_layer\": -1", "\"vision_feature_layer\": -4", "vision_feature_layer is -4",
         BERTH_BAD_FILE},
        {CONFIG, "\"vision_feature_layer\": -1", "\"vision_feature_layer\": [-2, -1]", "vision_feature_layer",
         BERTH_UNSUPPORTED},
        {CONFIG, "\"vision_feature_select_strategy\": \"default\"", "\"vision_feature_select_strategy\": \"full\"",
         "vision_feature_select_strategy", BERTH_UNSUPPORTED},
        {CONFIG, "\"projector_hidden_act\": \"gelu\"", "\"projector_hidden_act\": \"relu\"", "projector_hidden_act",
         BERTH_UNSUPPORTED},
        {CONFIG, "\"vision_config\": {", "\"vision_config\": null, \"x\": {", "vision_config is missing",
         BERTH_BAD_FILE},
        {CONFIG, "\"text_config\": {", "\"text_config\": [], \"x\": {", "text_config must be an object",
         BERTH_BAD_FILE},
        {CONFIG, "\"model_type\": \"internvl\"", "\"model_type\": \"bogus\"", "model_type \"bogus\"|internvl_chat",
         BERTH_UNSUPPORTED},
        {CONFIG, "\"model_type\": \"internvl\"", "\"model_type\": null", "model_type", BERTH_UNSUPPORTED},
        {CONFIG, "\"image_token_id\": 319", "\"image_token_id\": -1", "image_token_id", BERTH_BAD_FILE},
        {CONFIG, "\"image_token_id\": 319",
         "\"image_token_id\": 319, \"quantization_config\": {\"quant_method\": \"gptq\"}", "quantization_config|gptq",
         BERTH_UNSUPPORTED},
    };
    run_cases("hostile/bases/hf", cases, sizeof cases / sizeof *cases);
}

static void side_files_have_ranges(void **state)
{
    (void)state;
    static const config_case cases[] = {
        {GEN, "\"eos_token_id\": 316", "\"eos_token_id\": -1", "eos_token_id", BERTH_BAD_FILE},
        {GEN, "\"eos_token_id\": 316", "\"eos_token_id\": [1, \"2\"]", "eos_token_id", BERTH_BAD_FILE},
        {GEN, "\"eos_token_id\": 316", "\"eos_token_id\": [1, 2, 3, 4, 5, 6, 7, 8, 9]", "eos_token_id",
         BERTH_UNSUPPORTED},
        {GEN, "{", "[", "JSON", BERTH_BAD_FILE},
        {PRE, "0.485,", "", "image_mean|three", BERTH_BAD_FILE},
        {PRE, "0.229", "0.0", "image_std[0]", BERTH_BAD_FILE},
        {PRE, "0.224", "\"1\"", "image_std[1]", BERTH_BAD_FILE},
        {PRE, "\"max_patches\": 12", "\"max_patches\": 0", "max_patches", BERTH_BAD_FILE},
        {PRE, "\"max_patches\": 12", "\"max_patches\": 1000000", "max_patches", BERTH_BAD_FILE},
        {PRE, "\"min_patches\": 1", "\"min_patches\": 13", "min_patches 13", BERTH_BAD_FILE},
        {PRE, "\"do_normalize\": true", "\"do_normalize\": false", "do_normalize", BERTH_UNSUPPORTED},
        {PRE, "\"height\": 28", "\"height\": 448", "448 x 28", BERTH_UNSUPPORTED},
        {PRE, "\"height\": 28", "\"height\": 0", "size.height", BERTH_BAD_FILE},
    };
    run_cases("hostile/bases/hf", cases, sizeof cases / sizeof *cases);
}

static void remote_values_have_ranges(void **state)
{
    (void)state;
    static const config_case cases[] = {
        {CONFIG, "\"ps_version\": \"v2\"", "\"ps_version\": \"v9\"", "ps_version \"v9\"", BERTH_UNSUPPORTED},
        {CONFIG, "\"select_layer\": -1", "\"select_layer\": 99", "select_layer is 99", BERTH_BAD_FILE},
        {CONFIG, "\"force_image_size\": 28", "\"force_image_size\": 0", "force_image_size is 0", BERTH_BAD_FILE},
        {CONFIG, "\"force_image_size\": 28", "\"force_image_size\": 56", "force_image_size 56|28", BERTH_UNSUPPORTED},
        {CONFIG, "\"template\": \"internvl2_5\"", "\"template\": \"bogus\"", "template \"bogus\"", BERTH_UNSUPPORTED},
        {CONFIG, "\"llm_config\": {", "\"llm_config\": null, \"x\": {", "llm_config is missing", BERTH_BAD_FILE},
        {CONFIG, "Qwen2ForCausalLM", "InternLM2ForCausalLM", "InternLM2ForCausalLM", BERTH_UNSUPPORTED},
        {CONFIG, "\"max_dynamic_patch\": 12", "\"max_dynamic_patch\": 0", "max_dynamic_patch", BERTH_BAD_FILE},
        {CONFIG, "\"min_dynamic_patch\": 1", "\"min_dynamic_patch\": 13", "min_dynamic_patch 13", BERTH_BAD_FILE},
    };
    run_cases("hostile/bases/remote", cases, sizeof cases / sizeof *cases);
}

static void config_text_is_json(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word;
    } cases[] = {{"", "JSON"},
                 {" \n", "JSON"},
                 {"[]", "an object was expected"},
                 {"\"internvl\"", "an object was expected"},
                 {"{} {}", "JSON"},
                 {"{\"a\": NaN}", "JSON"},
                 {"\xef\xbb\xbf{}", "JSON"}};
    fixture f = fixture_create();
    berth_model_config config;
    berth_error err = {0};
    assert_int_equal(berth_config_read(f.dir, &config, &err), BERTH_NOT_FOUND);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture_text(&f, CONFIG, cases[i].text);
        assert_int_equal(berth_config_read(f.dir, &config, &err), BERTH_BAD_FILE);
        if (!strstr(err.message, "config.json") || !strstr(err.message, cases[i].word))
            fail_msg("%s: %s", cases[i].text, err.message);
    }
    fixture_destroy(&f);
}

static berth_model_config read_config(const fixture *f)
{
    berth_model_config config;
    berth_error err = {0};
    if (berth_config_read(f->dir, &config, &err) != BERTH_OK) fail_msg("%s", err.message);
    return config;
}

/* One edit of a base, and what must come out of it. */
static berth_model_config edited(const char *base, const char *file, const char *from, const char *to)
{
    fixture f = fixture_copy_configs(base);
    if (file) fixture_replace(&f, file, from, to);
    berth_model_config config = read_config(&f);
    fixture_destroy(&f);
    return config;
}

static void reads_the_native_form(void **state)
{
    (void)state;
    berth_model_config c = edited("hostile/bases/hf", NULL, NULL, NULL);
    assert_int_equal(c.layout, BERTH_LAYOUT_INTERNVL);
    assert_int_equal(c.chat, BERTH_CHAT_NATIVE);
    assert_true(c.has_vision);
    assert_int_equal(c.vision.n_layers, 2);
    assert_int_equal(c.vision.head_dim, 16);
    assert_int_equal(c.vision.n_patches, 4);
    assert_int_equal(c.vision.tokens_per_tile, 1);
    assert_int_equal(c.vision.downsample, 2);
    assert_int_equal(c.vision.norm, BERTH_NORM_LAYER);
    assert_true(c.vision.qkv_bias && !c.vision.qk_norm && !c.vision.shuffle_transposed);
    assert_true(c.vision.norm_eps == 1e-6F && c.vision.qk_norm_eps == 1e-6F && c.vision.projector_eps == 1e-5F);
    assert_int_equal(c.text.head_dim, 12);
    assert_int_equal(c.text.max_positions, 2048);
    assert_int_equal(c.text.rope_scaling, BERTH_ROPE_DYNAMIC);
    assert_true(c.text.rope_factor == 2.0 && c.text.rope_theta == 1e6 && c.text.rms_eps == 1e-6F);
    assert_true(c.text.qkv_bias && !c.text.qk_norm && !c.text.tie_embeddings);
    assert_int_equal(c.generation.n_eos, 1);
    assert_int_equal(c.generation.eos_ids[0], 316);
    assert_int_equal(c.preprocess.max_tiles, 12);
    assert_true(c.preprocess.thumbnail && c.preprocess.mean[0] == 0.485F && c.preprocess.std[2] == 0.225F);
    assert_int_equal(c.image_token_id, 319);
    assert_int_equal(c.stated_dtype, BERTH_BF16);
}

/* All that a configuration says, as text (structs have padding: bytes are no measure). */
static const char *describe(const berth_model_config *c, char out[1024])
{
    const berth_vision_config *v = &c->vision;
    const berth_text_config *t = &c->text;
    const berth_preprocess_config *p = &c->preprocess;
    int n =
        snprintf(out, 1024, "%d %d %d %d %d ", c->layout, c->has_vision, c->chat, c->image_token_id, c->stated_dtype);
    n += snprintf(out + n, 1024 - (size_t)n, "v %d %d %d %d %d %d %d %d %d %d %d %d %d %g %g %d %d %g ", v->n_layers,
                  v->n_layers_file, v->hidden, v->n_heads, v->head_dim, v->ffn, v->image_size, v->patch, v->n_patches,
                  v->downsample, v->shuffle_transposed, v->tokens_per_tile, v->norm, (double)v->norm_eps,
                  (double)v->qk_norm_eps, v->qkv_bias, v->qk_norm, (double)v->projector_eps);
    n += snprintf(out + n, 1024 - (size_t)n, "t %d %d %d %d %d %d %d %d %g %.17g %d %g %d %d %d ", t->n_layers,
                  t->hidden, t->n_heads, t->n_kv_heads, t->head_dim, t->ffn, t->vocab, t->max_positions,
                  (double)t->rms_eps, t->rope_theta, t->rope_scaling, t->rope_factor, t->qkv_bias, t->qk_norm,
                  t->tie_embeddings);
    n += snprintf(out + n, 1024 - (size_t)n, "p %d %d %d", p->min_tiles, p->max_tiles, p->thumbnail);
    for (int i = 0; i < 3; i++)
        n += snprintf(out + n, 1024 - (size_t)n, " %g %g", (double)p->mean[i], (double)p->std[i]);
    n += snprintf(out + n, 1024 - (size_t)n, " g");
    for (int i = 0; i < c->generation.n_eos; i++)
        n += snprintf(out + n, 1024 - (size_t)n, " %d", c->generation.eos_ids[i]);
    return out;
}

static void both_spellings_mean_the_same(void **state)
{
    (void)state;
    static const struct {
        const char *file, *from, *to;
    } same[] = {
        {CONFIG, "\"rope_theta\": 1000000.0", "\"rope_theta\": 1000000"},
        {CONFIG, "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": 0.0000010"},
        {CONFIG, "\"rope_type\": \"dynamic\",", ""},
        {CONFIG, "\"rope_scaling\": {", "\"rope_parameters\": {\"rope_theta\": 1e6,"},
        {CONFIG, "\"image_size\": [\n      28,\n      28\n    ]", "\"image_size\": 28"},
        {CONFIG, "\"hidden_size\": 48", "\"hidden_size\": 48.0"},
        {CONFIG, "\"downsample_ratio\": 0.5", "\"downsample_ratio\": 5e-1"},
        {CONFIG, "\"num_channels\": 3,", ""},
        {CONFIG, "\"vision_feature_layer\": -1", "\"vision_feature_layer\": 2"},
        {CONFIG, "\"vision_feature_layer\": -1", "\"vision_feature_layer\": null"},
        {CONFIG, "\"layer_norm_eps\": 1e-06,", ""},
        {CONFIG, "\"tie_word_embeddings\": false,", ""},
        {CONFIG, "\"image_token_id\": 319", "\"image_token_id\": 319, \"quantization_config\": null"},
        {CONFIG, "\"vocab_size\": 320", "\"vocab_size\": 320, \"head_dim\": 12"},
        {GEN, "\"eos_token_id\": 316", "\"eos_token_id\": [316, 316]"},
        {PRE, "\"min_patches\": 1,", ""},
    };
    berth_model_config base = edited("hostile/bases/hf", NULL, NULL, NULL);
    char want[1024], have[1024];
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        berth_model_config c = edited("hostile/bases/hf", same[i].file, same[i].from, same[i].to);
        if (strcmp(describe(&c, have), describe(&base, want)) != 0)
            fail_msg("%s -> %s changes the configuration", same[i].from, same[i].to);
    }
}

static void reads_the_remote_form(void **state)
{
    (void)state;
    berth_model_config c = edited("models/ivl-remote-6b", NULL, NULL, NULL);
    assert_int_equal(c.layout, BERTH_LAYOUT_INTERNVL_CHAT);
    assert_int_equal(c.chat, BERTH_CHAT_INTERNVL2_5);
    assert_int_equal(c.vision.norm, BERTH_NORM_RMS);
    assert_true(c.vision.qk_norm && !c.vision.qkv_bias && !c.vision.shuffle_transposed);
    assert_int_equal(c.generation.n_eos,
                     0); /* the file is there and says nothing: the template's stop token is all there is */
    assert_int_equal(c.image_token_id, -1);
    c = edited("models/ivl-remote-6b", CONFIG, "\"norm_type\": \"rms_norm\",", "");
    assert_int_equal(c.vision.norm, BERTH_NORM_RMS); /* the class default of this layout */
    c = edited("models/ivl-remote", CONFIG, "\"ps_version\": \"v2\"", "\"ps_version\": \"v1\"");
    assert_true(c.vision.shuffle_transposed);
    c = edited("models/ivl-remote", CONFIG, "\"dynamic_image_size\": true", "\"dynamic_image_size\": false");
    assert_int_equal(c.preprocess.max_tiles, 1);
    c = edited("models/ivl-remote", CONFIG, "\"select_layer\": -1", "\"select_layer\": -2");
    assert_int_equal(c.vision.n_layers, 1);
    assert_int_equal(c.vision.n_layers_file, 2);
    c = edited("models/ivl-remote", CONFIG, "Qwen2ForCausalLM", "Qwen3ForCausalLM");
    assert_true(c.text.qk_norm && !c.text.qkv_bias);
    assert_int_equal(c.text.head_dim, 128); /* Qwen3's default is no quotient */
}

static void reads_text_only_forms(void **state)
{
    (void)state;
    berth_model_config c = edited("models/qwen2-text", NULL, NULL, NULL);
    assert_int_equal(c.layout, BERTH_LAYOUT_QWEN2);
    assert_int_equal(c.chat, BERTH_CHAT_QWEN2_5);
    assert_true(!c.has_vision && c.text.tie_embeddings);
    assert_int_equal(c.vision.hidden, 0);
    assert_int_equal(c.generation.n_eos, 2);
    assert_int_equal(c.generation.eos_ids[0], 486);
    assert_int_equal(c.generation.eos_ids[1], 484);
    c = edited("models/qwen2-text", CONFIG, "\"model_type\": \"qwen2\"", "\"model_type\": \"qwen3\", \"head_dim\": 16");
    assert_int_equal(c.layout, BERTH_LAYOUT_QWEN3);
    assert_int_equal(c.chat, BERTH_CHAT_QWEN3);
    c = edited("models/ivl-qwen3", NULL, NULL, NULL);
    assert_true(c.text.qk_norm && !c.text.qkv_bias);
    assert_int_equal(c.text.head_dim, 20);
    assert_int_equal(c.text.rope_scaling, BERTH_ROPE_PLAIN);
}

static void absent_side_files_have_defaults(void **state)
{
    (void)state;
    fixture f = fixture_copy_configs("hostile/bases/hf");
    berth_model_config base = read_config(&f);
    fixture_remove(&f, GEN);
    fixture_remove(&f, PRE);
    fixture_remove(&f, "processor_config.json");
    berth_model_config c = read_config(&f);
    char want[1024], have[1024];
    assert_string_equal(describe(&c, have),
                        describe(&base, want)); /* the eos of text_config, the published tile rules */
    fixture_text(&f, "processor_config.json",
                 "{\"image_processor\": {\"max_patches\": 6, \"size\": {\"height\": 28, \"width\": 28}}}");
    c = read_config(&f);
    assert_int_equal(c.preprocess.max_tiles, 6);
    fixture_destroy(&f);
}

/* Damaged configurations: a status and no fault, and whatever is accepted may be divided by. */
static void damaged_configs_are_safe(void **state)
{
    (void)state;
    static const char *const bases[] = {"hostile/bases/hf", "hostile/bases/remote"};
    uint64_t seed = 0x2545f491;
    for (size_t b = 0; b < 2; b++) {
        fixture f = fixture_copy_configs(bases[b]);
        size_t n = 0;
        char *whole = fixture_read(&f, CONFIG, &n), *copy = malloc(n);
        assert_non_null(copy);
        for (int round = 0; round < 1500; round++) {
            memcpy(copy, whole, n);
            for (int k = 0; k < 2; k++) {
                static const char likely[] = "0123456789,:[]{}\"-e.n";
                size_t at = test_random(&seed) % n;
                copy[at] = likely[test_random(&seed) % (sizeof likely - 1)];
            }
            fixture_write(&f, CONFIG, copy, n);
            berth_model_config c;
            berth_error err = {0};
            if (berth_config_read(f.dir, &c, &err) != BERTH_OK) {
                assert_true(err.message[0] != '\0');
                continue;
            }
            assert_true(c.text.hidden > 0 && c.text.n_heads % c.text.n_kv_heads == 0 && c.text.head_dim % 2 == 0);
            assert_true(c.vision.image_size % (c.vision.patch * c.vision.downsample) == 0 &&
                        c.vision.tokens_per_tile > 0);
            assert_true(c.vision.hidden == c.vision.n_heads * c.vision.head_dim &&
                        c.vision.n_layers <= c.vision.n_layers_file);
            assert_true(c.preprocess.min_tiles >= 1 && c.preprocess.min_tiles <= c.preprocess.max_tiles);
        }
        free(copy);
        free(whole);
        fixture_destroy(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_values_have_ranges),      cmocka_unit_test(vision_values_have_ranges),
        cmocka_unit_test(side_files_have_ranges),       cmocka_unit_test(remote_values_have_ranges),
        cmocka_unit_test(config_text_is_json),          cmocka_unit_test(reads_the_native_form),
        cmocka_unit_test(both_spellings_mean_the_same), cmocka_unit_test(reads_the_remote_form),
        cmocka_unit_test(reads_text_only_forms),        cmocka_unit_test(absent_side_files_have_defaults),
        cmocka_unit_test(damaged_configs_are_safe),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
