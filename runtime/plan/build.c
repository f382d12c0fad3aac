/* build.c - the settings of a plan with their defaults, and the passes that make one replica's programs ready. */
#include "arch/arch.h"
#include "plan/plan_internal.h"
#include "plan/store.h"

enum {
    DEFAULT_CONTEXT = 4096,
    DEFAULT_CHUNK = 512,
    DEFAULT_TILES = 4,
    MOST_SEQS = 1 << 16,
    MOST_TILES = 1 << 16,
    MOST_DRAFT = 64,
    MOST_PASSES = 64,
};

static berth_status check_range(const char *what, int64_t value, int64_t most, berth_error *err)
{
    if (value >= 1 && value <= most) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s %lld is out of range: it must be a number between 1 and %lld",
                      what, (long long)value, (long long)most);
}

static berth_status choose_kernels(const berth_plan_config *config, const berth_kernels **out, berth_error *err)
{
    const char *want = config->kernels;
    *out = config->kernels_ref ? berth_kernels_ref() : berth_kernels_cpu(want);
    if (*out) return BERTH_OK;
    return BERTH_FAIL(
        err, BERTH_INVALID_ARGUMENT,
        "kernels \"%s\" are not known or cannot run on this machine; there are ref, generic, avx2, avx512",
        want ? want : "");
}

berth_status berth_plan_config_fill(const berth_model_data *model, berth_plan_config *config,
                                    const berth_kernels **out_kernels, berth_error *err)
{
    const berth_model_config *m = berth_model_data_config(model);
    berth_plan_config *c = config;
    int64_t of_model = m->text.max_positions < DEFAULT_CONTEXT ? m->text.max_positions : DEFAULT_CONTEXT;
    if (c->context == 0) c->context = of_model;
    if (c->n_seqs == 0) c->n_seqs = 1;
    berth_status st = check_range("n_seqs", c->n_seqs, MOST_SEQS, err);
    if (st == BERTH_OK && c->kv_tokens == 0)
        st = check_range("context", c->context, BERTH_PLAN_MOST_TOKENS / c->n_seqs, err);
    if (st != BERTH_OK) return st;
    if (c->kv_tokens == 0) c->kv_tokens = c->context * c->n_seqs;
    if (c->kv_tokens < c->context) c->kv_tokens = c->context; /* one request may fill its context */
    st = check_range("kv_tokens", c->kv_tokens, BERTH_PLAN_MOST_TOKENS, err);
    if (st == BERTH_OK) st = check_range("draft + 1", (int64_t)c->draft + 1, MOST_DRAFT + 1, err);
    if (st == BERTH_OK && c->passes != 0) st = check_range("passes", c->passes, MOST_PASSES, err);
    if (st != BERTH_OK) return st;
    if (c->chunk == 0) c->chunk = c->context < DEFAULT_CHUNK ? (int32_t)c->context : DEFAULT_CHUNK;
    const int32_t rows = c->n_seqs * (1 + c->draft);
    if (c->chunk > 0 && c->chunk < rows) c->chunk = rows;
    if (c->max_tiles == 0) c->max_tiles = 2 * (m->preprocess.max_tiles + 1);
    if (!m->has_vision) c->max_tiles = 1;
    if (c->tiles == 0) c->tiles = DEFAULT_TILES;
    if (c->tiles > c->max_tiles) c->tiles = c->max_tiles;
    st = check_range("chunk", c->chunk, BERTH_PLAN_MOST_TOKENS, err);
    if (st == BERTH_OK) st = check_range("max_tiles", c->max_tiles, MOST_TILES, err);
    if (st == BERTH_OK) st = check_range("tiles", c->tiles, c->max_tiles, err);
    const berth_kernels *kernels;
    if (st == BERTH_OK) st = choose_kernels(c, &kernels, err);
    if (st == BERTH_OK && out_kernels) *out_kernels = kernels;
    return st;
}

static int64_t blocks_of_seq(const berth_plan_config *c)
{
    return (c->context + BERTH_DEFAULT_BLOCK - 1) / BERTH_DEFAULT_BLOCK;
}

int32_t berth_plan_blocks(const berth_plan_config *c)
{
    if (c->kv_tokens == c->context * c->n_seqs) return (int32_t)(blocks_of_seq(c) * c->n_seqs);
    return (int32_t)((c->kv_tokens + BERTH_DEFAULT_BLOCK - 1) / BERTH_DEFAULT_BLOCK);
}

int64_t berth_plan_feature_rows(const berth_model_data *model, const berth_plan_config *c)
{
    const berth_model_config *m = berth_model_data_config(model);
    return m->has_vision ? (int64_t)c->max_tiles * m->vision.tokens_per_tile : 0;
}

berth_plan_device berth_plan_device_of(const berth_device *device)
{
    return (berth_plan_device){.backend = berth_backend_of(device->kind),
                               .n_threads = berth_cpu_threads(device),
                               .capability = device->capability};
}

typedef struct devices {
    const berth_plan_config *config;
    const berth_kernels *kernels;
    const berth_plan_device *list;
} devices;

static berth_op_target target_of(const devices *all, int32_t device)
{
    return (berth_op_target){.kernels = all->kernels,
                             .n_threads = all->list[device].n_threads,
                             .capability = all->list[device].capability,
                             .batch_invariant = all->config->batch_invariant};
}

static size_t workspace_on(void *user, int32_t device, const berth_op_call *shapes)
{
    const devices *all = user;
    const berth_op_target target = target_of(all, device);
    return all->list[device].backend->workspace(&target, shapes);
}

/* Every op has a kernel where it was put. */
static berth_status check_kernels(const berth_program *p, const berth_pass_env *env, const devices *all,
                                  berth_error *err)
{
    for (int32_t i = 0; i < p->n_ops; i++) {
        const berth_op *op = &p->ops[i];
        const berth_backend *backend = all->list[op->device].backend;
        if (!backend->has || op->kind == BERTH_OP_COPY) continue;
        const berth_op_target target = target_of(all, op->device);
        berth_op_call call;
        berth_program_shapes(p, op, &p->bounds, &call);
        if (backend->has(&target, &call)) continue;
        return BERTH_FAIL(err, BERTH_UNSUPPORTED,
                          "program %s: device %s has no kernel for op %s (%s, %s in, %s out) in the shapes of this "
                          "model; use another dtype, or a cpu device for it",
                          p->name, env->device_names[op->device], berth_op_infos[op->kind].name,
                          p->values[op->out].name, berth_dtype_name(call.in[0].dtype),
                          berth_dtype_name(call.out.dtype));
    }
    return BERTH_OK;
}

static berth_status run_passes(berth_program *p, const berth_pass_env *env, devices *all, berth_error *err)
{
    const berth_allot_options allot = {.workspace = workspace_on, .user = all};
    if (!p) return BERTH_OK;
    berth_status st = berth_place(p, env, err);
    if (st == BERTH_OK) berth_dtypes(p, env);
    if (st == BERTH_OK) st = berth_route(p, env, err);
    if (st == BERTH_OK) st = berth_check(p, env, err);
    if (st == BERTH_OK) st = check_kernels(p, env, all, err);
    if (st == BERTH_OK) st = berth_allot(p, &allot, err);
    if (st == BERTH_OK) st = berth_check_memory(p, env, err);
    return st;
}

berth_status berth_plan_programs(const berth_model_data *model, const berth_plan_config *c, const berth_pass_env *env,
                                 const berth_kernels *kernels, const berth_plan_device *list, berth_replica_plan *out,
                                 berth_error *err)
{
    devices all = {c, kernels, list};
    berth_build_options options = {
        .max_tiles = c->tiles,
        .max_tokens = c->chunk,
        .max_seqs = c->n_seqs,
        .max_logits = c->trace ? c->chunk : c->n_seqs * (1 + c->draft),
        .max_blocks = blocks_of_seq(c),
        .n_blocks = berth_plan_blocks(c),
        .feature_rows = berth_plan_feature_rows(model, c),
        .block = BERTH_DEFAULT_BLOCK,
    };
    berth_programs programs;
    *out = (berth_replica_plan){0};
    berth_status st = berth_arch_build(model, &options, &programs, err);
    if (st != BERTH_OK) return st;
    *out = (berth_replica_plan){.encode = programs.encode, .step = programs.step};
    for (int32_t d = 0; d < env->n_devices; d++) out->backends[d] = list[d].backend;
    st = run_passes(out->encode, env, &all, err);
    if (st == BERTH_OK) st = run_passes(out->step, env, &all, err);
    if (st != BERTH_OK) berth_replica_plan_deinit(out);
    return st;
}

void berth_replica_plan_deinit(berth_replica_plan *r)
{
    berth_program_destroy(r->encode);
    berth_program_destroy(r->step);
    *r = (berth_replica_plan){0};
}
