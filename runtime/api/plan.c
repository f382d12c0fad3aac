/* plan.c - the plan handle: options to a core plan, and the questions one may ask of it. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/status.h"

static berth_status read_dtype(const char *text, berth_plan_dtype *out, berth_error *err)
{
    static const struct {
        const char *name;
        berth_plan_dtype dtype;
    } known[] = {{"auto", BERTH_PLAN_AUTO},    {"fp32", BERTH_PLAN_FP32},    {"float32", BERTH_PLAN_FP32},
                 {"fp16", BERTH_PLAN_FP16},    {"float16", BERTH_PLAN_FP16}, {"bf16", BERTH_PLAN_BF16},
                 {"bfloat16", BERTH_PLAN_BF16}};
    *out = BERTH_PLAN_AUTO;
    if (text == NULL) return BERTH_OK;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        *out = known[i].dtype;
        if (strcmp(text, known[i].name) == 0) return BERTH_OK;
    }
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "dtype \"%s\" is not known; use auto, fp32, fp16 or bf16", text);
}

static berth_status check_ranges(const berth_plan_options *o, berth_error *err)
{
    const struct {
        const char *name;
        int64_t value, most;
    } rows[] = {{"context", o->context, INT64_C(1) << 24},
                {"n_seqs", o->n_seqs, 4096},
                {"chunk", o->chunk, 65536},
                {"tiles", o->tiles, 1024},
                {"max_tiles", o->max_tiles, 65536},
                {"passes", o->passes, 64},
                {"kv_tokens", o->kv_tokens, BERTH_PLAN_MOST_TOKENS},
                {"draft", o->draft, 64}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].value < 0 || rows[i].value > rows[i].most) {
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s = %lld is out of range; give 0 (the default) to %lld",
                              rows[i].name, (long long)rows[i].value, (long long)rows[i].most);
        }
    }
    return BERTH_OK;
}

berth_status berth_plan_options_read(berth_plan_options *out, const berth_plan_options *given, berth_error *err)
{
    berth_status st = berth_options_copy(out, sizeof *out, given, "berth_plan_options", err);
    berth_plan_dtype dtype;
    if (st == BERTH_OK) st = read_dtype(out->dtype, &dtype, err);
    if (st == BERTH_OK) st = check_ranges(out, err);
    return st;
}

berth_status berth_plan_make_core(berth_plan *p, const berth_plan_options *o, berth_error *err)
{
    berth_plan_dtype dtype;
    berth_status st = read_dtype(o->dtype, &dtype, err);
    if (st != BERTH_OK) return st;
    const berth_plan_config config = {
        .context = o->context,
        .n_seqs = o->n_seqs,
        .chunk = o->chunk,
        .tiles = o->tiles,
        .max_tiles = o->max_tiles,
        .trace = o->trace != 0,
        .kernels = o->kernels,
        .dtype = dtype,
        .plugins = {.dir = o->strategy_dir,
                    .host = o->strategy_host,
                    .isolated = o->isolated != 0,
                    .timeout_ms = o->strategy_timeout_ms},
        .override = {.place = o->place, .split = o->split, .layers = o->layers, .vision_device = o->vision_device},
        .compat = o->compat,
        .kv_tokens = o->kv_tokens,
        .draft = o->draft,
        .passes = o->passes,
        .batch_invariant = o->batch_invariant != 0,
    };
    st = berth_core_plan_create(p->model->data, &p->machine, o->strategy, o->device_map,
                                o->device_map ? strlen(o->device_map) : 0, &config, &p->owned, err);
    p->core = p->owned;
    return st;
}

berth_status berth_plan_create(const berth_model *model, const berth_plan_options *options, berth_plan **out,
                               berth_error *err)
{
    if (out != NULL) *out = NULL;
    if (!berth_handle_is(model, BERTH_HANDLE_MODEL))
        return berth_handle_refuse("berth_plan_create", BERTH_HANDLE_MODEL, err);
    if (out == NULL) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_plan_create: out must not be NULL");
    berth_plan_options o;
    berth_status st = berth_plan_options_read(&o, options, err);
    if (st != BERTH_OK) return st;
    berth_plan *p = calloc(1, sizeof *p);
    if (p == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a plan handle");
    p->model = (berth_model *)(uintptr_t)model; /* retaining changes the count only */
    berth_model_retain(p->model);
    berth_handle_begin(&p->head, BERTH_HANDLE_PLAN, p->model->head.rt);
    st = berth_machine_parse_with(o.devices, o.profile_dir, &p->machine, err);
    if (st == BERTH_OK) st = berth_plan_make_core(p, &o, err);
    if (st == BERTH_DOES_NOT_FIT && o.show_misfit) st = berth_plan_make_misfit(p, &o, err);
    if (st != BERTH_OK) {
        berth_plan_release(p);
        return st;
    }
    *out = p;
    return BERTH_OK;
}

void berth_plan_release(berth_plan *plan)
{
    berth_handle_end(plan, BERTH_HANDLE_PLAN);
    if (!berth_handle_release(&plan->head)) return;
    berth_core_plan_destroy(plan->owned);
    berth_machine_deinit(&plan->machine);
    berth_model_release(plan->model);
    free(plan->refusal);
    berth_handle_retire(&plan->head, sizeof *plan);
}

/* One that an engine took is the engine's to end. */
void berth_plan_destroy(berth_plan *plan)
{
    if (berth_handle_is(plan, BERTH_HANDLE_PLAN) && plan->owned != NULL) berth_plan_release(plan);
}

int32_t berth_plan_fits(const berth_plan *plan, uint64_t *out_missing_bytes, int32_t *out_device)
{
    if (!berth_handle_is(plan, BERTH_HANDLE_PLAN)) return 0;
    if (out_missing_bytes != NULL) *out_missing_bytes = plan->core->fits ? 0 : plan->core->missing_bytes;
    if (out_device != NULL) *out_device = plan->core->fits ? -1 : plan->core->worst_device;
    return plan->core->fits;
}

const char *berth_plan_strategy(const berth_plan *plan)
{
    return !berth_handle_is(plan, BERTH_HANDLE_PLAN) ? "" : plan->core->placement->strategy;
}
const char *berth_plan_note(const berth_plan *plan)
{
    return !berth_handle_is(plan, BERTH_HANDLE_PLAN) ? "" : plan->core->placement->note;
}
const char *berth_plan_refusal(const berth_plan *plan)
{
    return !berth_handle_is(plan, BERTH_HANDLE_PLAN) || plan->refusal == NULL ? "" : plan->refusal;
}
int32_t berth_plan_n_devices(const berth_plan *plan)
{
    return !berth_handle_is(plan, BERTH_HANDLE_PLAN) ? 0 : plan->machine.n_devices;
}
int32_t berth_plan_n_replicas(const berth_plan *plan)
{
    return !berth_handle_is(plan, BERTH_HANDLE_PLAN) ? 0 : plan->core->placement->n_replicas;
}
int32_t berth_plan_n_modules(const berth_plan *plan)
{
    return !berth_handle_is(plan, BERTH_HANDLE_PLAN) ? 0 : berth_model_data_n_nodes(plan->model->data);
}

/* Copies `full` over the caller's size-stamped struct, as much of it as the caller knows. */
static berth_status hand_out(void *out, const void *full, size_t size, const char *what, berth_error *err)
{
    berth_status st = berth_output_check(out, sizeof(size_t), what, err);
    if (st == BERTH_OK) berth_output_write(out, full, size);
    return st;
}

berth_status berth_plan_get_device(const berth_plan *plan, int32_t device, berth_plan_device *out, berth_error *err)
{
    if (!berth_handle_is(plan, BERTH_HANDLE_PLAN) || out == NULL || device < 0 || device >= plan->machine.n_devices) {
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_plan_get_device: device %d of %d", (int)device,
                          (int)berth_plan_n_devices(plan));
    }
    const berth_device_bytes *b = &plan->core->devices[device];
    const berth_device *d = &plan->machine.devices[device];
    const uint64_t token_bytes = plan->core->token_bytes[device];
    const berth_plan_device full = {.name = d->name,
                                    .weights = b->weights,
                                    .kv = b->kv,
                                    .features = b->features,
                                    .activations = b->activations,
                                    .workspace = b->workspace,
                                    .total = b->total,
                                    .limit = b->limit,
                                    .kv_per_token = b->kv_per_token,
                                    .n_cores = d->n_cores,
                                    .shares_cores = d->shares_cores,
                                    .context = b->context,
                                    .profile = d->profile,
                                    .dtype = berth_dtype_name(plan->core->compute[device]),
                                    .token_bytes = token_bytes,
                                    .token_seconds =
                                        d->bytes_per_second > 0 ? (double)token_bytes / d->bytes_per_second : 0,
                                    .taken = plan->core->measured[device].taken,
                                    .used_before = plan->core->measured[device].used_before};
    return hand_out(out, &full, sizeof full, "berth_plan_device", err);
}

berth_status berth_plan_get_sizes(const berth_plan *plan, berth_plan_sizes *out, berth_error *err)
{
    if (!berth_handle_is(plan, BERTH_HANDLE_PLAN) || out == NULL)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_plan_get_sizes: plan must be a plan and out not NULL");
    const berth_plan_config *c = &plan->core->config;
    const berth_plan_sizes full = {
        .context = c->context, .n_seqs = c->n_seqs, .chunk = c->chunk, .tiles = c->tiles, .max_tiles = c->max_tiles};
    return hand_out(out, &full, sizeof full, "berth_plan_sizes", err);
}

/* The outermost NO_SPLIT module on the way up, itself included; -1. */
static int32_t whole_above(const berth_node_view *nodes, int32_t i)
{
    int32_t whole = -1;
    for (; i >= 0; i = nodes[i].parent)
        if (nodes[i].flags & BERTH_NODE_NO_SPLIT) whole = i;
    return whole;
}

static bool owns_tensor(const berth_node_view *nodes, int32_t i)
{
    for (int32_t c = i + 1; c <= i + nodes[i].n_descendants; c += 1 + nodes[c].n_descendants)
        if (nodes[c].flags & BERTH_NODE_TENSOR) return true;
    return false;
}

int32_t berth_plan_unit_of(const berth_node_view *nodes, int32_t i)
{
    int32_t whole = whole_above(nodes, i);
    if (whole >= 0) return whole;
    if (i >= 0 && (nodes[i].flags & (BERTH_NODE_TENSOR | BERTH_NODE_BUFFER))) i = nodes[i].parent;
    return i >= 0 && owns_tensor(nodes, i) ? i : -1;
}

berth_status berth_plan_get_module(const berth_plan *plan, int32_t module, berth_plan_module *out, berth_error *err)
{
    if (!berth_handle_is(plan, BERTH_HANDLE_PLAN) || out == NULL || module < 0 ||
        module >= berth_plan_n_modules(plan)) {
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_plan_get_module: module %d of %d", (int)module,
                          (int)berth_plan_n_modules(plan));
    }
    const berth_node_view *nodes = berth_model_data_nodes(plan->model->data);
    int32_t depth = 0;
    for (int32_t i = nodes[module].parent; i >= 0; i = nodes[i].parent) depth++;
    const berth_plan_module full = {.path = nodes[module].path,
                                    .class_name = nodes[module].class_name,
                                    .parent = nodes[module].parent,
                                    .depth = depth,
                                    .is_tensor = (nodes[module].flags & BERTH_NODE_TENSOR) != 0,
                                    .weight_bytes = nodes[module].weight_bytes,
                                    .is_unit = berth_plan_unit_of(nodes, module) == module};
    return hand_out(out, &full, sizeof full, "berth_plan_module", err);
}

int32_t berth_plan_module_device(const berth_plan *plan, int32_t replica, int32_t module)
{
    if (!berth_handle_is(plan, BERTH_HANDLE_PLAN) || replica < 0 || replica >= berth_plan_n_replicas(plan) ||
        module < 0 || module >= berth_plan_n_modules(plan))
        return -1;
    const berth_node_view *nodes = berth_model_data_nodes(plan->model->data);
    const int32_t *device_of =
        plan->core->placement->device_of + (size_t)replica * (size_t)plan->core->placement->n_nodes;
    for (int32_t i = module; i >= 0; i = nodes[i].parent) {
        if (device_of[i] >= 0) return device_of[i];
    }
    int32_t only = -1;
    for (int32_t i = module + 1; i <= module + nodes[module].n_descendants; i++) {
        if (device_of[i] < 0) continue;
        if (only >= 0 && device_of[i] != only) return -1;
        only = device_of[i];
    }
    return only;
}

static const berth_program *program_at(const berth_plan *plan, int32_t replica, int32_t which)
{
    const berth_replica_plan *r = &plan->core->replicas[replica];
    return which == 0 ? r->encode : r->step;
}

/* The k-th copy op of encode and step together; NULL past the last, whose number is then in *count. */
static const berth_op *copy_at(const berth_plan *plan, int32_t replica, int32_t k, const berth_program **out_program,
                               int32_t *count)
{
    *count = 0;
    for (int32_t which = 0; which < 2; which++) {
        const berth_program *p = program_at(plan, replica, which);
        for (int32_t i = 0; p != NULL && i < p->n_ops; i++) {
            if (p->ops[i].kind != BERTH_OP_COPY) continue;
            if ((*count)++ == k) {
                *out_program = p;
                return &p->ops[i];
            }
        }
    }
    return NULL;
}

int32_t berth_plan_n_copies(const berth_plan *plan, int32_t replica)
{
    if (!berth_handle_is(plan, BERTH_HANDLE_PLAN) || replica < 0 || replica >= berth_plan_n_replicas(plan)) return 0;
    const berth_program *program;
    int32_t count;
    copy_at(plan, replica, -1, &program, &count);
    return count;
}

berth_status berth_plan_get_copy(const berth_plan *plan, int32_t replica, int32_t copy, berth_plan_copy *out,
                                 berth_error *err)
{
    const berth_program *p = NULL;
    int32_t count = 0;
    const bool known =
        plan != NULL && out != NULL && replica >= 0 && replica < berth_plan_n_replicas(plan) && copy >= 0;
    const berth_op *op = known ? copy_at(plan, replica, copy, &p, &count) : NULL;
    if (op == NULL)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_plan_get_copy: copy %d of replica %d does not exist",
                          (int)copy, (int)replica);
    const berth_value *from = &p->values[op->in[0]], *to = &p->values[op->out];
    size_t bytes = 0;
    berth_value_bytes(to, &p->bounds, &bytes);
    const berth_plan_copy full = {
        .program = p->name, .value = from->name, .from = from->device, .to = to->device, .bytes_at_bounds = bytes};
    return hand_out(out, &full, sizeof full, "berth_plan_copy", err);
}
