/* plan_input.c - what a strategy is shown: the model's tree, the devices with their budgets, the links between them.
 *
 * What activations and workspace take is measured and not guessed: the programs are built, placed on one device and
 * allotted, and that is reserved on every device, since no device gets more of the activations than one that has all.
 * */
#include <stdlib.h>

#include "engine/plan_internal.h"
#include "engine/store.h"

static berth_status add_up_reserved(const berth_replica_plan *r, uint64_t *out, berth_error *err)
{
    berth_store *stores = NULL;
    int32_t n = 0;
    berth_status st = berth_stores_collect(r, &stores, &n, err);
    if (st != BERTH_OK) return st;
    const berth_program *both[] = {r->encode, r->step};
    *out = 0;
    for (int k = 0; k < 2; k++)
        if (both[k])
            *out += berth_plan_round(both[k]->regions[0].activations) + berth_plan_round(both[k]->regions[0].workspace);
    for (int32_t i = 0; i < n; i++)
        if (stores[i].key == BERTH_STATE_FEATURES) *out += stores[i].bytes;
    free(stores);
    return BERTH_OK;
}

static berth_status measure_reserved(const berth_model_data *model, const berth_plan_config *config,
                                     const berth_kernels *kernels, int32_t n_threads, const berth_strategy_input *in,
                                     uint64_t *out, berth_error *err)
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
    berth_pass_env env = {
        .nodes = in->nodes, .n_nodes = in->n_nodes, .n_devices = 1, .device_names = &name, .placement = placement};
    st = berth_plan_programs(model, config, &env, kernels, &n_threads, &r, err);
    if (st == BERTH_OK) st = add_up_reserved(&r, out, err);
    berth_replica_plan_deinit(&r);
    berth_placement_destroy(placement);
    return st;
}

/* Products a second in the dtype that such a device computes with: bf16, else fp16, else fp32. */
static double flops_of(const berth_device *m)
{
    if (m->flops[BERTH_BF16] > 0) return m->flops[BERTH_BF16];
    return m->flops[BERTH_F16] > 0 ? m->flops[BERTH_F16] : m->flops[BERTH_F32];
}

static berth_status add_devices(const berth_machine *machine, berth_strategy_input *out, berth_error *err)
{
    size_t n = (size_t)machine->n_devices;
    berth_device_view *devices = calloc(n, sizeof *devices);
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
                                         .flops = flops_of(m),
                                         .bytes_per_second = m->bytes_per_second,
                                         .physical = m->physical};
        for (int32_t to = 0; to < machine->n_devices; to++) {
            berth_link_rate rate = berth_machine_link(machine, d, to);
            if (to == d) continue;
            links[out->n_links++] = (berth_link_view){
                .from = d, .to = to, .bytes_per_second = rate.bytes_per_second, .latency_ns = rate.latency_ns};
        }
    }
    return BERTH_OK;
}

/* The request that strategies hold short: one picture of as many tiles as the model cuts one into, the tokens of these and of a short question, and an answer of some length. */
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
    berth_status st = berth_plan_config_fill(model, &c, &kernels, err);
    if (st == BERTH_OK) st = add_devices(machine, out, err);
    if (st != BERTH_OK) goto fail;
    out->nodes = berth_model_data_nodes(model);
    out->node_size = sizeof(berth_node_view);
    out->n_nodes = berth_model_data_n_nodes(model);
    out->context_tokens = (int64_t)berth_plan_blocks(&c) * BERTH_DEFAULT_BLOCK;
    out->max_tiles = c.tiles;
    add_request(berth_model_data_config(model), out);
    int32_t n_threads = 1;
    for (int32_t d = 0; d < machine->n_devices; d++)
        if (berth_plan_threads(&machine->devices[d]) > n_threads) n_threads = berth_plan_threads(&machine->devices[d]);
    uint64_t reserved = 0;
    st = measure_reserved(model, &c, kernels, n_threads, out, &reserved, err);
    if (st != BERTH_OK) goto fail;
    berth_device_view *devices = (berth_device_view *)(uintptr_t)out->devices;
    for (int32_t d = 0; d < out->n_devices; d++) devices[d].reserved_bytes = reserved;
    return BERTH_OK;
fail:
    berth_strategy_input_deinit(out);
    return st;
}

void berth_strategy_input_deinit(berth_strategy_input *in)
{
    free((void *)(uintptr_t)in->devices);
    free((void *)(uintptr_t)in->links);
    *in = (berth_strategy_input){0};
}
