/* names_test.c - the names, shapes and dtypes in a weight file: every spelling that opens, and every difference that must
 * be refused. */
#include "model/model_fixture.h"
#include "model/safetensors.h"

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
        berth_model_data *want = fixture_golden(sets[s].base);
        for (size_t i = 0; i < sets[s].n; i++) {
            fixture f = fixture_copy(sets[s].base);
            rewrite_weights(&f, &sets[s].r[i]);
            berth_model_data *m = fixture_accepted(&f, sets[s].r[i].from[0]);
            fixture_same_weights(m, want);
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
    berth_model_data *want = fixture_golden("hostile/bases/hf");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        fixture f = fixture_copy("hostile/bases/hf");
        rewrite_weights(&f, &(rewrite){.extra = names[i]});
        berth_model_data *m = fixture_accepted(&f, names[i]);
        fixture_same_weights(m, want);
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
    berth_model_data *m = fixture_golden("models/ivl-tied");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_spelling_of_names_opens), cmocka_unit_test(leftovers_and_strangers_are_passed_over),
        cmocka_unit_test(differences_are_refused),       cmocka_unit_test(shapes_and_dtypes_are_checked),
        cmocka_unit_test(heads_are_tied_when_absent),
    };
    return cmocka_run_group_tests_name("model_names", tests, NULL, NULL);
}
