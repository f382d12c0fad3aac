/* strategies_alloc_test.c - every strategy, the module tree and accelerate's engine while the n-th allocation fails,
 * for every n: always "out of memory", never a fault or a leak (sanitizers look). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/accelerate_model.h"
#include "strategies/partition.h"
#include "strategies/registry.h"
#include "tests/failing.h"

enum { N_LAYERS = 6, N_NODES = 1 + 2 * N_LAYERS, N_DEVICES = 3 };

/* Layers with KV cache, of which the last shares the first one's tensor; devices that differ, so that orders are
 * searched. */
static berth_strategy_input make_input(berth_node_view nodes[N_NODES], berth_device_view devices[N_DEVICES],
                                       uint64_t budget)
{
    nodes[0] =
        (berth_node_view){.path = "", .class_name = "Model", .parent = -1, .n_descendants = N_NODES - 1, .tied_to = -1};
    for (int32_t i = 0; i < N_LAYERS; i++) {
        bool is_tied = i == N_LAYERS - 1;
        nodes[1 + 2 * i] = (berth_node_view){.path = "layer",
                                             .class_name = "Layer",
                                             .n_descendants = 1,
                                             .flags = BERTH_NODE_NO_SPLIT,
                                             .tied_to = -1,
                                             .weight_bytes = is_tied ? 0 : 10,
                                             .kv_bytes_per_token = 1};
        nodes[2 + 2 * i] = (berth_node_view){.path = "weight",
                                             .class_name = "",
                                             .parent = 1 + 2 * i,
                                             .flags = BERTH_NODE_TENSOR,
                                             .tied_to = is_tied ? 2 : -1,
                                             .weight_bytes = is_tied ? 0 : 10,
                                             .n_elements = 10};
    }
    for (int32_t d = 0; d < N_DEVICES; d++)
        devices[d] =
            (berth_device_view){.name = "cpu:0", .budget_bytes = budget + (uint64_t)d, .bytes_per_second = 1 + d};
    return (berth_strategy_input){.struct_size = sizeof(berth_strategy_input),
                                  .nodes = nodes,
                                  .node_size = sizeof *nodes,
                                  .n_nodes = N_NODES,
                                  .devices = devices,
                                  .device_size = sizeof *devices,
                                  .n_devices = N_DEVICES,
                                  .context_tokens = 1};
}

static void add_work(berth_strategy_input *in, berth_node_view nodes[N_NODES], berth_device_view devices[N_DEVICES])
{
    static const berth_link_view links[] = {{0, 1, 1e6, 5}, {1, 2, 2e6, 5}};
    for (int32_t i = 0; i < N_NODES; i++) nodes[i].flops_per_token = i == 0 ? 20.0 * N_LAYERS : 20;
    for (int32_t d = 0; d < N_DEVICES; d++) devices[d].flops = 100 * (1 + d);
    in->links = links;
    in->link_size = sizeof *links;
    in->n_links = 2;
    in->request_prompt_tokens = 10;
    in->request_new_tokens = 10;
    in->hidden_bytes_per_token = 4;
}

typedef struct job {
    const berth_strategy *strategy;
    const berth_strategy_input *in;
    bool fits;
} job;

/* BERTH_OK where the answer is as it should be: a placement, or that it does not fit. */
static berth_status place(void *arg, berth_error *err)
{
    const job *j = arg;
    int32_t device_of[N_DEVICES * N_NODES];
    memset(device_of, 0xFF, sizeof device_of);
    berth_strategy_output out = {.struct_size = sizeof out, .device_of = device_of, .max_replicas = N_DEVICES};
    berth_status st = j->strategy->check ? j->strategy->check(j->in, err) : BERTH_OK;
    if (st == BERTH_OK) st = j->strategy->place(j->in, &out, err);
    if (st == BERTH_OUT_OF_MEMORY) return st;
    if (st != (j->fits ? BERTH_OK : BERTH_DOES_NOT_FIT)) fail_msg("%s: %s", j->strategy->name, err->message);
    return BERTH_OK;
}

static void strategies_run_out_of_memory(void **state)
{
    (void)state;
    static const char *const more[] = {"replicate=2", "optimal=latency", "optimal=capacity",
                                       "vllm=2,2,2",  "layer=1,1,1",     "deepspeed=uniform"};
    berth_node_view nodes[N_NODES];
    berth_device_view devices[N_DEVICES];
    int32_t n = berth_strategy_count() + (int32_t)(sizeof more / sizeof *more);
    for (int32_t i = 0; i < n; i++) {
        const char *name = i < berth_strategy_count() ? berth_strategy_at(i)->name : more[i - berth_strategy_count()];
        for (int fits = 0; fits < 3; fits++) { /* 2: and the work of a request is known */
            berth_strategy_input in = make_input(nodes, devices, fits ? 1000 : 3);
            if (fits == 2) add_work(&in, nodes, devices);
            job j = {.in = &in, .fits = fits > 0};
            j.strategy = berth_strategy_find(name, &in.argument);
            assert_true(failing_each(name, place, &j) > 0);
        }
    }
}

/* The bounded searches, which so few devices come to only when told to: no set, no table is small enough. */
typedef struct search {
    const berth_strategy_input *in;
    char end; /* of the pipeline: throughput, latency or capacity */
} search;

static berth_status place_bounded(void *arg, berth_error *err)
{
    const berth_strategy_input *in = ((search *)arg)->in;
    const char end = ((search *)arg)->end;
    berth_chain c;
    berth_work w = {0};
    berth_hops h = {0};
    berth_partition cut = {0};
    berth_partition_device devices[N_DEVICES];
    berth_status st = berth_chain_init(&c, in, err);
    if (st != BERTH_OK) return st;
    for (int32_t d = 0; d < N_DEVICES; d++) {
        const berth_device_view *v = berth_device_at(in, d);
        devices[d] = (berth_partition_device){v->budget_bytes, v->bytes_per_second, v->flops};
    }
    st = berth_work_init(&w, &c, in, err);
    if (st == BERTH_OK) st = berth_hops_init(&h, &c, in, true, err);
    const berth_partition_problem p = {.chain = &c,
                                       .devices = devices,
                                       .n_devices = N_DEVICES,
                                       .work = &w,
                                       .hops = &h,
                                       .effort = {.most_states = 1, .most_cells = 1}};
    if (st == BERTH_OK && end == 't') st = berth_partition_throughput(&p, true, &cut, err);
    if (st == BERTH_OK && end == 'l') st = berth_partition_latency(&p, &cut, err);
    if (st == BERTH_OK && end == 'c') st = berth_partition_capacity(&p, true, 1000, &cut, err);
    berth_partition_deinit(&cut);
    berth_work_deinit(&w);
    berth_hops_deinit(&h);
    berth_chain_deinit(&c);
    return st;
}

static void bounded_searches_run_out_of_memory(void **state)
{
    (void)state;
    berth_node_view nodes[N_NODES];
    berth_device_view devices[N_DEVICES];
    berth_strategy_input in = make_input(nodes, devices, 40);
    add_work(&in, nodes, devices);
    for (const char *end = "tlc"; *end; end++)
        assert_true(failing_each("a bounded search", place_bounded, &(search){&in, *end}) > 10);
}

static berth_status build_and_place(void *arg, berth_error *err)
{
    (void)arg;
    berth_tree t = {0};
    berth_accelerate_result r = {0};
    static const char *const tied[] = {"e.w", "l.2.w"};
    static const berth_accelerate_budget budgets[] = {{0, 20}, {1, 24}, {2, 60}};
    static const char *const classes[] = {"L"};
    berth_status st = berth_tree_add_module(&t, "", "M", err);
    if (st == BERTH_OK) st = berth_tree_add_module(&t, "e", "E", err);
    if (st == BERTH_OK) st = berth_tree_add_tensor(&t, "w", 10, "u8", false, err);
    if (st == BERTH_OK) st = berth_tree_add_module(&t, "l", "ModuleList", err);
    if (st == BERTH_OK) st = berth_tree_add_module(&t, "l.0", "L", err);
    if (st == BERTH_OK) st = berth_tree_add_tensor(&t, "w", 10, "u8", false, err);
    if (st == BERTH_OK) st = berth_tree_repeat(&t, "l", 3, err);
    if (st == BERTH_OK) st = berth_tree_finish(&t, err);
    if (st == BERTH_OK) st = berth_tree_tie(&t, tied, 2, err);
    berth_accelerate_request req = {.tree = &t,
                                    .strategy = BERTH_ACCELERATE_BALANCED,
                                    .no_split = classes,
                                    .n_no_split = 1,
                                    .budgets = budgets,
                                    .n_budgets = 3,
                                    .fallback = true};
    for (int32_t flavour = 0; st == BERTH_OK && flavour < 3; flavour++) {
        req.flavour = (berth_accelerate_flavour)flavour;
        st = berth_accelerate_place(&req, &r, err);
        berth_accelerate_deinit(&r);
    }
    berth_tree_deinit(&t);
    return st;
}

static void accelerate_runs_out_of_memory(void **state)
{
    (void)state;
    assert_true(failing_each("accelerate", build_and_place, NULL) > 20);
}

/* A model's own tree: its nodes named apart, one tensor tied. */
static berth_status place_model(void *arg, berth_error *err)
{
    (void)arg;
    berth_node_view nodes[N_NODES];
    berth_device_view devices[N_DEVICES];
    char paths[N_NODES][16];
    berth_accelerate_model m;
    const berth_strategy_input in = make_input(nodes, devices, 1000);
    for (int32_t i = 1; i < N_NODES; i++) {
        snprintf(paths[i], sizeof paths[i], i % 2 ? "l%d" : "l%d.w", (i - 1) / 2);
        nodes[i].path = paths[i];
        if (i % 2 == 0) nodes[i].element_bits = 8;
    }
    berth_status st = berth_accelerate_for_input(&in, BERTH_ACCELERATE_BALANCED, 0, 1000, &m, err);
    if (st == BERTH_OK) assert_true(m.device_of[1] >= 0);
    berth_accelerate_model_deinit(&m);
    return st;
}

static void accelerate_of_a_model_runs_out_of_memory(void **state)
{
    (void)state;
    assert_true(failing_each("accelerate of a model", place_model, NULL) > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strategies_run_out_of_memory),
        cmocka_unit_test(bounded_searches_run_out_of_memory),
        cmocka_unit_test(accelerate_runs_out_of_memory),
        cmocka_unit_test(accelerate_of_a_model_runs_out_of_memory),
    };
    return cmocka_run_group_tests_name("strategies_alloc", tests, NULL, NULL);
}
