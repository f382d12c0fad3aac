/* plan.c - a placement for the model, every replica's programs under it, and the bytes of each device. */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

#include "exec/weights.h"
#include "plan/plan_internal.h"
#include "plan/store.h"

berth_pass_env berth_core_plan_env(const berth_core_plan *plan, int32_t replica, const char **names)
{
    for (int32_t d = 0; d < plan->machine->n_devices; d++) names[d] = plan->machine->devices[d].name;
    return (berth_pass_env){.nodes = berth_model_data_nodes(plan->model),
                            .n_nodes = berth_model_data_n_nodes(plan->model),
                            .n_devices = plan->machine->n_devices,
                            .device_names = names,
                            .device_dtypes = plan->device_dtypes,
                            .placement = plan->placement,
                            .replica = replica,
                            .compute = plan->compute};
}

static berth_status make_programs(berth_core_plan *plan, berth_error *err)
{
    const char *names[BERTH_MAX_DEVICES];
    berth_plan_device devices[BERTH_MAX_DEVICES];
    for (int32_t d = 0; d < plan->machine->n_devices; d++)
        devices[d] = berth_plan_device_of(&plan->machine->devices[d]);
    plan->replicas = calloc((size_t)plan->placement->n_replicas, sizeof *plan->replicas);
    if (!plan->replicas) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%d replicas", (int)plan->placement->n_replicas);
    berth_status st = BERTH_OK;
    for (int32_t r = 0; st == BERTH_OK && r < plan->placement->n_replicas; r++) {
        berth_pass_env env = berth_core_plan_env(plan, r, names);
        st = berth_plan_programs(plan->model, &plan->config, &env, plan->kernels, devices, &plan->replicas[r], err);
    }
    return st;
}

static int32_t count_devices(const berth_replica_plan *r, int32_t n_devices)
{
    const berth_program *both[] = {r->encode, r->step};
    int32_t n = 0;
    for (int32_t d = 0; d < n_devices; d++) {
        bool used = false;
        for (int k = 0; k < 2; k++)
            for (int32_t i = 0; both[k] && !used && i < both[k]->n_ops; i++) used = both[k]->ops[i].device == d;
        n += used;
    }
    return n;
}

static void count_passes(berth_core_plan *plan)
{
    if (plan->config.passes != 0) return;
    for (int32_t r = 0; r < plan->placement->n_replicas; r++) {
        int32_t n = count_devices(&plan->replicas[r], plan->machine->n_devices);
        if (n > plan->config.passes) plan->config.passes = n;
    }
    if (plan->config.passes > plan->config.n_seqs) plan->config.passes = plan->config.n_seqs;
    if (plan->config.passes < 1) plan->config.passes = 1;
}

/* ---- bytes ------------------------------------------------------------------------------------------------------ */

static size_t larger(const berth_replica_plan *r, int32_t device, size_t encode, size_t step)
{
    return berth_plan_round(encode > step ? encode : step, r->backends[device]->align);
}

size_t berth_replica_activations(const berth_replica_plan *r, int32_t device)
{
    return larger(r, device, r->encode ? r->encode->regions[device].activations : 0,
                  r->step->regions[device].activations);
}

size_t berth_replica_workspace(const berth_replica_plan *r, int32_t device)
{
    return larger(r, device, r->encode ? r->encode->regions[device].workspace : 0, r->step->regions[device].workspace);
}

int32_t berth_replica_workspaces(const berth_replica_plan *r, int32_t device, int32_t passes)
{
    return r->backends[device]->queues ? passes : 1;
}

static berth_status add_replica_bytes(berth_core_plan *plan, const berth_replica_plan *r, berth_error *err)
{
    berth_store *stores = NULL;
    int32_t n = 0;
    berth_status st = berth_stores_collect(r, &stores, &n, err);
    if (st != BERTH_OK) return st;
    const berth_model_config *m = berth_model_data_config(plan->model);
    for (int32_t i = 0; i < n; i++) {
        berth_device_bytes *d = &plan->devices[stores[i].device];
        if (stores[i].key != BERTH_STATE_KV) {
            d->features += stores[i].bytes;
            continue;
        }
        d->kv += stores[i].bytes;
        d->kv_per_token += berth_text_kv_bytes(&m->text, berth_dtype_size(plan->compute[stores[i].device]));
    }
    free(stores);
    for (int32_t d = 0; d < plan->machine->n_devices; d++) {
        plan->devices[d].activations += (uint64_t)plan->config.passes * berth_replica_activations(r, d);
        plan->devices[d].workspace +=
            (uint64_t)berth_replica_workspaces(r, d, plan->config.passes) * berth_replica_workspace(r, d);
    }
    return BERTH_OK;
}

static berth_status add_weight_bytes(berth_core_plan *plan, berth_error *err)
{
    int32_t n = berth_model_data_n_params(plan->model);
    bool *wanted = calloc((size_t)n + 1, sizeof *wanted);
    if (!wanted) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%d weights", (int)n);
    for (int32_t d = 0; d < plan->machine->n_devices; d++) {
        uint64_t copied;
        const berth_weight_rules *rules = &berth_backend_of(plan->machine->devices[d].kind)->weights;
        berth_plan_wanted(plan, d, wanted);
        berth_weights_measure(plan->model, wanted, plan->compute[d], rules, &plan->devices[d].weights, &copied);
    }
    free(wanted);
    return BERTH_OK;
}

/* Of each replica's weights those that a token is multiplied by: the embedding gives one row, the vision tower rests. */
static void add_token_bytes(berth_core_plan *plan)
{
    const berth_node_view *nodes = berth_model_data_nodes(plan->model);
    const berth_strategy_input in = {.struct_size = sizeof in,
                                     .nodes = nodes,
                                     .node_size = sizeof *nodes,
                                     .n_nodes = berth_model_data_n_nodes(plan->model),
                                     .n_devices = plan->machine->n_devices};
    memset(plan->token_bytes, 0, sizeof plan->token_bytes);
    for (int32_t r = 0; r < plan->placement->n_replicas; r++) {
        for (int32_t i = 0; i < in.n_nodes; i++) {
            if (!(nodes[i].flags & BERTH_NODE_TENSOR) || nodes[i].flops_per_token <= 0) continue;
            int32_t device = berth_placement_device(plan->placement, &in, r, i, NULL);
            int32_t stored = nodes[i].tied_to >= 0 ? nodes[i].tied_to : i;
            if (device >= 0) plan->token_bytes[device] += nodes[stored].weight_bytes;
        }
    }
}

berth_status berth_plan_add_up(berth_core_plan *plan, berth_error *err)
{
    free(plan->devices);
    plan->devices = calloc((size_t)plan->machine->n_devices, sizeof *plan->devices);
    if (!plan->devices) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%d devices", (int)plan->machine->n_devices);
    berth_status st = add_weight_bytes(plan, err);
    for (int32_t r = 0; st == BERTH_OK && r < plan->placement->n_replicas; r++)
        st = add_replica_bytes(plan, &plan->replicas[r], err);
    if (st != BERTH_OK) return st;
    add_token_bytes(plan);
    berth_core_plan_judge(plan);
    return BERTH_OK;
}

void berth_core_plan_judge(berth_core_plan *plan)
{
    plan->fits = true;
    plan->worst_device = -1;
    plan->missing_bytes = 0;
    for (int32_t d = 0; d < plan->machine->n_devices; d++) {
        berth_device_bytes *b = &plan->devices[d];
        b->limit = plan->machine->devices[d].memory_bytes;
        b->context = plan->machine->devices[d].context_bytes;
        b->total = b->weights + b->kv + b->features + b->activations + b->workspace;
        if (b->total <= b->limit) continue;
        plan->fits = false;
        if (b->total - b->limit <= plan->missing_bytes) continue;
        plan->missing_bytes = b->total - b->limit;
        plan->worst_device = d;
    }
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

berth_status berth_core_plan_create(const berth_model_data *model, const berth_machine *machine, const char *strategy,
                                    const char *device_map, size_t device_map_len, const berth_plan_config *config,
                                    berth_core_plan **out, berth_error *err)
{
    *out = NULL;
    berth_core_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a plan");
    plan->model = model;
    berth_model_data_retain((berth_model_data *)(uintptr_t)model);
    plan->machine = machine;
    if (config) plan->config = *config;
    berth_status st = berth_plan_check_kinds(machine, err);
    if (st == BERTH_OK) st = berth_plan_config_fill(model, &plan->config, &plan->kernels, err);
    if (st != BERTH_OK) goto fail;
    plan->block = BERTH_DEFAULT_BLOCK;
    plan->n_blocks = berth_plan_blocks(&plan->config);
    plan->feature_rows = berth_plan_feature_rows(model, &plan->config);
    st = berth_plan_policy(machine, plan->config.dtype, plan->compute, plan->device_dtypes, err);
    if (st == BERTH_OK) st = berth_plan_place(plan, strategy, device_map, device_map_len, err);
    plan->config.plugins = (berth_plugin_options){0}; /* borrowed until here */
    plan->config.override = (berth_override){0};
    plan->config.compat = NULL;
    if (st == BERTH_OK) st = make_programs(plan, err);
    if (st == BERTH_OK) count_passes(plan);
    if (st == BERTH_OK) st = berth_plan_add_up(plan, err);
    if (st != BERTH_OK) goto fail;
    *out = plan;
    return BERTH_OK;
fail:
    berth_core_plan_destroy(plan);
    return st;
}

void berth_core_plan_destroy(berth_core_plan *plan)
{
    if (!plan) return;
    for (int32_t r = 0; plan->replicas && r < plan->placement->n_replicas; r++)
        berth_replica_plan_deinit(&plan->replicas[r]);
    free(plan->replicas);
    free(plan->devices);
    berth_placement_destroy(plan->placement);
    berth_model_data_release((berth_model_data *)(uintptr_t)plan->model);
    free(plan);
}
