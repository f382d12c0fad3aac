/* input.c - what a strategy is shown: the model's tree, the devices with their budgets, the links between them.
 *
 * What activations and workspace take is measured and not guessed: the programs are built, placed on one device and
 * allotted, and that is reserved on every device, since no device gets more of the activations than one that has all.
 * */
#include <stdlib.h>
#include <string.h>

#include "plan/plan_internal.h"
#include "plan/store.h"

static berth_status add_up_reserved(const berth_replica_plan *r, int32_t n_passes, uint64_t *out, berth_error *err)
{
    berth_store *stores = NULL;
    int32_t n = 0;
    berth_status st = berth_stores_collect(r, &stores, &n, err);
    if (st != BERTH_OK) return st;
    *out = (uint64_t)n_passes * berth_replica_activations(r, 0) +
           (uint64_t)berth_replica_workspaces(r, 0, n_passes) * berth_replica_workspace(r, 0);
    for (int32_t i = 0; i < n; i++)
        if (stores[i].key == BERTH_STATE_FEATURES) *out += stores[i].bytes;
    free(stores);
    return BERTH_OK;
}

static berth_status measure_reserved(const berth_model_data *model, const berth_plan_config *config,
                                     const berth_kernels *kernels, const berth_plan_device *device,
                                     const berth_dtype *compute, const berth_strategy_input *in, uint64_t *out,
                                     berth_error *err)
{
    static const char all_on_first[] = "{\"\": 0}";
    const char *name = berth_device_at(in, 0)->name;
    berth_strategy_input one = *in;
    one.n_devices = 1;
    berth_placement *placement = NULL;
    berth_replica_plan r = {0};
    berth_status st =
        berth_placement_from_map(all_on_first, sizeof all_on_first - 1, "one device", &one, &placement, err);
    if (st != BERTH_OK) return st;
    berth_pass_env env = {.nodes = in->nodes,
                          .n_nodes = in->n_nodes,
                          .n_devices = 1,
                          .device_names = &name,
                          .placement = placement,
                          .compute = compute};
    st = berth_plan_programs(model, config, &env, kernels, device, &r, err);
    int32_t n_passes = config->passes;
    if (n_passes == 0) n_passes = in->n_devices < config->n_seqs ? in->n_devices : config->n_seqs;
    if (st == BERTH_OK) st = add_up_reserved(&r, n_passes, out, err);
    berth_replica_plan_deinit(&r);
    berth_placement_destroy(placement);
    return st;
}

/* Devices and every pair's link. Behind the devices, in the same block, is room for nodes. */
static berth_status add_devices(const berth_machine *machine, const berth_dtype *compute, size_t n_nodes,
                                berth_strategy_input *out, berth_error *err)
{
    size_t n = (size_t)machine->n_devices;
    berth_device_view *devices = calloc(1, n * sizeof *devices + n_nodes * sizeof(berth_node_view));
    berth_link_view *links = calloc(n * n + 1, sizeof *links);
    out->devices = devices;
    out->links = links;
    if (!devices || !links) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%zu devices", n);
    out->device_size = sizeof *devices;
    out->link_size = sizeof *links;
    out->n_devices = machine->n_devices;
    for (int32_t d = 0; d < machine->n_devices; d++) {
        const berth_device *m = &machine->devices[d];
        devices[d] = (berth_device_view){.name = m->name,
                                         .budget_bytes = m->memory_bytes,
                                         .flops = m->flops[compute[d]],
                                         .bytes_per_second = m->bytes_per_second,
                                         .physical = m->physical};
        for (int32_t to = 0; to < machine->n_devices; to++) {
            if (to == d) continue;
            berth_link_rate rate = berth_machine_link(machine, d, to);
            links[out->n_links++] = (berth_link_view){
                .from = d, .to = to, .bytes_per_second = rate.bytes_per_second, .latency_ns = rate.latency_ns};
        }
    }
    return BERTH_OK;
}

/* The tree with the bytes that weights and keys take on the devices. Where devices differ: on the one that takes
 * most. */
static void add_nodes(const berth_model_data *model, const berth_dtype *compute, berth_strategy_input *out)
{
    const berth_node_view *stored = berth_model_data_nodes(model);
    int32_t n = berth_model_data_n_nodes(model), n_as_stored = 0;
    for (int32_t d = 0; d < out->n_devices; d++) n_as_stored += compute[d] == BERTH_F32;
    out->nodes = stored;
    out->node_size = sizeof *stored;
    out->n_nodes = n;
    if (n_as_stored == out->n_devices) return;
    berth_node_view *nodes = (berth_node_view *)((berth_device_view *)(uintptr_t)out->devices + out->n_devices);
    memcpy(nodes, stored, (size_t)n * sizeof *nodes);
    for (int32_t i = 0; i < n; i++) {
        if (n_as_stored == 0) nodes[i].kv_bytes_per_token = stored[i].kv_bytes_per_token / 2; /* counted as fp32 */
        uint64_t was = stored[i].weight_bytes, narrow = (uint64_t)stored[i].n_elements * 2;
        bool is_weight = (stored[i].flags & BERTH_NODE_TENSOR) && !(stored[i].flags & BERTH_NODE_BUFFER) && was > 0;
        if (!is_weight || (narrow <= was && n_as_stored > 0) || narrow == was) continue;
        nodes[i].element_bits = 16;
        for (int32_t k = i; k >= 0; k = nodes[k].parent) nodes[k].weight_bytes += narrow - was; /* may wrap, and back */
    }
    out->nodes = nodes;
}

/* An earlier device that measures alike; `d` itself: none. */
static int32_t like_before(const berth_machine *machine, const berth_dtype *compute, int32_t d)
{
    for (int32_t e = 0; e < d; e++)
        if (compute[e] == compute[d] && machine->devices[e].kind == machine->devices[d].kind &&
            machine->devices[e].capability == machine->devices[d].capability)
            return e;
    return d;
}

/* For each device what measure_reserved says of its kind and dtype; and what rounding can add to the weights, which
 * strategies count as they are. */
static berth_status add_reserved(const berth_model_data *model, const berth_machine *machine,
                                 const berth_plan_config *config, const berth_kernels *kernels,
                                 const berth_dtype *compute, berth_strategy_input *out, berth_error *err)
{
    berth_device_view *devices = (berth_device_view *)(uintptr_t)out->devices;
    int32_t n_threads = 1;
    for (int32_t d = 0; d < machine->n_devices; d++)
        if (berth_cpu_threads(&machine->devices[d]) > n_threads) n_threads = berth_cpu_threads(&machine->devices[d]);
    for (int32_t d = 0; d < out->n_devices; d++) {
        int32_t like = like_before(machine, compute, d);
        uint64_t reserved = devices[like].reserved_bytes;
        if (like == d) {
            berth_plan_device one = berth_plan_device_of(&machine->devices[d]);
            one.n_threads = n_threads;
            berth_status st = measure_reserved(model, config, kernels, &one, &compute[d], out, &reserved, err);
            if (st != BERTH_OK) return st;
            if (one.backend->weights.copies_all)
                reserved += (uint64_t)berth_model_data_n_params(model) * one.backend->weights.align;
        }
        devices[d].reserved_bytes = reserved;
    }
    return BERTH_OK;
}

/* The request that strategies hold short (docs/devices.md): one picture of as many tiles as the model cuts one into,
 * the tokens of these and of a short question, and an answer. */
enum { REQUEST_TEXT_TOKENS = 120, REQUEST_NEW_TOKENS = 600 };

static void add_request(const berth_model_config *c, berth_strategy_input *out)
{
    if (c->has_vision) {
        out->request_tiles = c->preprocess.max_tiles + (c->preprocess.thumbnail && c->preprocess.max_tiles > 1);
        out->hidden_bytes_per_tile = sizeof(float) * (uint64_t)(1 + c->vision.n_patches) * (uint64_t)c->vision.hidden;
    }
    out->request_prompt_tokens = REQUEST_TEXT_TOKENS + (int64_t)out->request_tiles * c->vision.tokens_per_tile;
    out->request_new_tokens = REQUEST_NEW_TOKENS;
    out->hidden_bytes_per_token = sizeof(float) * (uint64_t)c->text.hidden; /* the residual stream is fp32 */
}

berth_status berth_strategy_input_init(const berth_model_data *model, const berth_machine *machine,
                                       const berth_plan_config *config, berth_strategy_input *out, berth_error *err)
{
    *out = (berth_strategy_input){.struct_size = sizeof *out};
    berth_plan_config c = *config;
    const berth_kernels *kernels;
    berth_dtype compute[BERTH_MAX_DEVICES];
    uint32_t dtypes[BERTH_MAX_DEVICES];
    berth_status st = berth_plan_check_kinds(machine, err);
    if (st == BERTH_OK) st = berth_plan_config_fill(model, &c, &kernels, err);
    if (st == BERTH_OK) st = berth_plan_policy(machine, c.dtype, compute, dtypes, err);
    if (st == BERTH_OK) st = add_devices(machine, compute, (size_t)berth_model_data_n_nodes(model), out, err);
    if (st == BERTH_OK) {
        add_nodes(model, compute, out);
        out->context_tokens = (int64_t)berth_plan_blocks(&c) * BERTH_DEFAULT_BLOCK;
        out->max_tiles = c.tiles;
        add_request(berth_model_data_config(model), out);
        st = add_reserved(model, machine, &c, kernels, compute, out, err);
    }
    if (st != BERTH_OK) berth_strategy_input_deinit(out);
    return st;
}

void berth_strategy_input_deinit(berth_strategy_input *in)
{
    free((void *)(uintptr_t)in->devices);
    free((void *)(uintptr_t)in->links);
    *in = (berth_strategy_input){0};
}
