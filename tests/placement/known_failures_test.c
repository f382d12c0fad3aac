/* known_failures_test.c - device maps under which a model dispatched by accelerate fails, or wastes memory: here
 * each runs and gives the same greedy tokens, or is refused in these words.
 *
 * What PyTorch says to each is in docs/affinity.md, "Maps that fail elsewhere"; the rows here stand in that order. */
#include "../engine/golden.h"

#include <stdlib.h>
#include <string.h>

/* ---- maps that run ---- */

typedef struct failure {
    const char *name, *model, *map;
    int32_t least_copies; /* device to device, in both programs */
} failure;

static const failure runs[] = {
    {"tied head away from the embedding", "ivl-tied",
     "{\"model.vision_tower\": 0, \"model.multi_modal_projector\": 0, \"model.language_model.embed_tokens\": 0,"
     " \"model.language_model.rotary_emb\": 0, \"model.language_model.layers.0\": 0,"
     " \"model.language_model.layers.1\": 1, \"model.language_model.norm\": 1, \"lm_head\": 1}",
     1},
    {"vision block cut in the middle", "ivl-remote",
     "{\"vision_model\": 0, \"vision_model.encoder.layers.1.attn\": 1, \"mlp1\": 1, \"language_model\": 0}", 4},
    {"embedding away from the inputs", "ivl-native", "{\"\": 0, \"model.language_model.embed_tokens\": 1}", 2},
    {"rotary buffers left behind", "ivl-native",
     "{\"model.vision_tower\": 0, \"model.multi_modal_projector\": 0, \"model.language_model.embed_tokens\": 0,"
     " \"model.language_model.layers\": 1, \"model.language_model.norm\": 1, \"lm_head\": 1}",
     1},
    {"masks and positions on another device", "ivl-native",
     "{\"\": 0, \"model.language_model.layers.0\": 1, \"model.language_model.layers.2\": 1}", 4},
    {"keys and values on another device", "ivl-native", "{\"\": 0, \"model.language_model.layers.1.self_attn\": 1}", 2},
};

static berth_status plan_map(golden_engine *e, const golden_model *g, const char *map, berth_error *err)
{
    memset(e, 0, sizeof *e);
    berth_plan_config config = {.context = 64};
    for (int32_t i = 0; i < g->n_cases; i++)
        if (g->cases[i].n_ids + g->cases[i].n_greedy > config.context)
            config.context = g->cases[i].n_ids + g->cases[i].n_greedy;
    golden_must(berth_machine_parse("cpu*2", &e->machine, err), err, "cpu*2");
    berth_status st = berth_core_plan_create(g->data, &e->machine, NULL, map, strlen(map), &config, &e->plan, err);
    if (st != BERTH_OK) berth_machine_deinit(&e->machine);
    return st;
}

static int32_t count_copies(const berth_program *p)
{
    int32_t n = 0;
    for (int32_t i = 0; p && i < p->n_ops; i++) {
        const berth_op *op = &p->ops[i];
        n += op->kind == BERTH_OP_COPY && p->values[op->in[0]].device >= 0 && p->values[op->out].device >= 0;
    }
    return n;
}

static void same_tokens_as_on_one_device(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        golden_model g;
        golden_engine e;
        berth_error err = {0};
        golden_open(&g, runs[i].model);
        golden_must(plan_map(&e, &g, runs[i].map, &err), &err, runs[i].name);
        int32_t n_copies = count_copies(e.plan->replicas[0].encode) + count_copies(e.plan->replicas[0].step);
        if (n_copies < runs[i].least_copies) fail_msg("%s: %d copies between devices", runs[i].name, n_copies);
        const berth_core_options options = {.strict = true}; /* a read of the other device's memory would be seen */
        golden_must(golden_start(&e, &options, &err), &err, runs[i].name);
        for (int32_t k = 0; k < g.n_cases; k++) {
            berth_core_request q = golden_request(&g.cases[k], g.cases[k].n_greedy);
            berth_core_result result;
            golden_must(berth_core_run(e.core, &q, &result, &err), &err, runs[i].name);
            assert_int_equal(result.n_ids, g.cases[k].n_greedy);
            assert_memory_equal(result.ids, g.cases[k].greedy, (size_t)result.n_ids * sizeof *result.ids);
            berth_core_result_deinit(&result);
        }
        golden_stop(&e);
        golden_close(&g);
    }
}

/* ---- where things lie ---- */

static uint64_t weights_on(const golden_model *g, const char *map, uint64_t on[2], uint64_t kv_per_token[2])
{
    golden_engine e;
    berth_error err = {0};
    golden_must(plan_map(&e, g, map, &err), &err, map);
    for (int d = 0; d < 2; d++) {
        on[d] = e.plan->devices[d].weights;
        kv_per_token[d] = e.plan->devices[d].kv_per_token;
    }
    golden_stop(&e);
    return on[0] + on[1];
}

/* The head's matrix once more on its own device, and not a byte else. */
static void a_tied_head_is_held_twice(void **state)
{
    (void)state;
    golden_model g;
    uint64_t on[2], kv[2];
    golden_open(&g, "ivl-tied");
    const berth_param *embed = berth_model_data_param(g.data, berth_model_data_find(g.data, BERTH_T_EMBED, -1));
    uint64_t together = weights_on(&g, "{\"\": 0}", on, kv), apart = weights_on(&g, runs[0].map, on, kv);
    assert_true(on[0] > 0 && on[1] >= embed->n_bytes);
    assert_in_range(apart - together, embed->n_bytes,
                    embed->n_bytes + 4096); /* each weight begins at a page's start, or a line's */
    golden_close(&g);
}

/* The cache lies where the attention runs, layer by layer. */
static void a_cache_lies_with_its_attention(void **state)
{
    (void)state;
    golden_model g;
    uint64_t on[2], kv[2];
    golden_open(&g, "ivl-native");
    const berth_text_config *t = &berth_model_data_config(g.data)->text;
    weights_on(&g, runs[5].map, on, kv);
    assert_true(kv[1] > 0);
    assert_int_equal(kv[0], kv[1] * (uint64_t)(t->n_layers - 1));
    golden_close(&g);
}

/* ---- maps that are refused ---- */

static const struct {
    const char *map;
    berth_status status;
    const char *message;
} refused[] = {
    {"{\"\": 0, \"model.language_model.layers.1.self_attn.q_proj.bias\": 1}", BERTH_INVALID_ARGUMENT,
     "model.language_model.layers.1.self_attn.q_proj.weight and "
     "model.language_model.layers.1.self_attn.q_proj.bias are read by one op and cannot lie on two "
     "devices: op 20 linear \"text.layer.1.q\" (model.language_model.layers.1.self_attn.q_proj.weight, "
     "layer 1) runs on cpu:0, but device-map put model.language_model.layers.1.self_attn.q_proj.bias on "
     "cpu:1; place model.language_model.layers.1.self_attn.q_proj as a whole"},
    {"{\"\": 0, \"lm_head\": \"disk\"}", BERTH_INVALID_ARGUMENT,
     "device map: \"lm_head\" is put on \"disk\"; berth keeps every weight in a device's memory and does "
     "not offload: name a device"},
    {"{\"model.vision_tower\": 0, \"model.multi_modal_projector\": 0, \"model.language_model.embed_tokens\": 0,"
     " \"model.language_model.layers\": 1, \"lm_head\": 1}",
     BERTH_INVALID_ARGUMENT,
     "device map put tensor model.language_model.norm.weight on no device; every tensor, or a module above"
     " it, needs one"},
    {"{\"model.vision_tower\": 0, \"model.language_model.embed_tokns\": 0}", BERTH_INVALID_ARGUMENT,
     "device map: the model has no module or tensor \"model.language_model.embed_tokns\"; the nearest name"
     " is \"model.language_model.embed_tokens\""},
};

static void refused_in_these_words(void **state)
{
    (void)state;
    golden_model g;
    golden_open(&g, "ivl-native");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        golden_engine e;
        berth_error err = {0};
        assert_int_equal(plan_map(&e, &g, refused[i].map, &err), refused[i].status);
        assert_string_equal(err.message, refused[i].message);
    }
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_tokens_as_on_one_device),
        cmocka_unit_test(a_tied_head_is_held_twice),
        cmocka_unit_test(a_cache_lies_with_its_attention),
        cmocka_unit_test(refused_in_these_words),
    };
    return cmocka_run_group_tests_name("known_failures", tests, NULL, NULL);
}
