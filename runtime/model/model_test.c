/* model_test.c - whole directories: the golden models in both layouts, and what is no model directory. */
#include "model/model_fixture.h"

#include <sys/stat.h>

#include "model/model_internal.h"

static void golden_models_open(void **state)
{
    (void)state;
    for (size_t g = 0; fixture_goldens[g]; g++) {
        berth_model_data *m = fixture_golden(fixture_goldens[g]);
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
    berth_model_data *native = fixture_golden("hostile/bases/hf");
    berth_model_data *remote = fixture_golden("hostile/bases/remote"), *shards = fixture_golden("hostile/bases/shards");
    fixture_same_weights(native, remote); /* so the fused rows are cut in the right order */
    fixture_same_weights(native, shards);
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

/* A Qwen3 language model in the remote-code layout (InternVL3.5), written from what the tables ask for. */
static void qwen3_opens_in_the_remote_layout(void **state)
{
    (void)state;
    fixture f = fixture_copy_configs("models/ivl-remote");
    fixture_replace(&f, CONFIG, "Qwen2ForCausalLM", "Qwen3ForCausalLM");
    fixture_replace(&f, CONFIG, "\"vocab_size\": 490", "\"vocab_size\": 490, \"head_dim\": 20");
    berth_model_data *plan = fixture_planned(&f);
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
    berth_model_data *m = fixture_golden("hostile/bases/hf");
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
        cmocka_unit_test(qwen3_opens_in_the_remote_layout),
        cmocka_unit_test(other_paths_are_refused),
        cmocka_unit_test(weights_of_other_kinds_are_named),
        cmocka_unit_test(handles_are_counted),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
