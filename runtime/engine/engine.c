/* engine.c - making an engine from a plan, and taking it down: devices with arenas, weights, lanes and teams; replicas
 * with stores and bound programs.
 *
 * What is allocated is what was planned, item by item (store.h); the end of creation compares the two. */
#include "engine/core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "cuda/nvtx.h"
#include "engine/edges.h"

enum { DEFAULT_QUEUE = 1024 };

/* ---- devices ---------------------------------------------------------------------------------------------------- */

static void load_progress(void *user, uint64_t bytes)
{
    berth_core *core = user;
    core->load_done += bytes;
    if (core->load_done > core->load_total) core->load_done = core->load_total;
    if (core->options.progress) core->options.progress(core->options.progress_user, core->load_done, core->load_total);
}

static size_t arena_bytes(const berth_core_plan *plan, int32_t d, uint64_t copied_weights)
{
    const berth_device_bytes *b = &plan->devices[d];
    return (size_t)(b->kv + b->features + b->activations + b->workspace + copied_weights);
}

static berth_unit_options unit_options(const berth_core *core, int32_t d, const bool *wanted)
{
    const berth_core_plan *plan = core->plan;
    uint64_t weights, copied;
    berth_weights_measure(plan->model, wanted, plan->compute[d], &core->exec.units[d].backend->weights, &weights,
                          &copied);
    return (berth_unit_options){.cuda = core->exec.cuda,
                                .batch_invariant = plan->config.batch_invariant,
                                .arena_bytes = arena_bytes(plan, d, copied),
                                .staging_bytes = core->exec.transport->staging_bytes,
                                .kernels = plan->kernels,
                                .memory = &core->options.memory,
                                .threads = &core->options.threads,
                                .strict = core->options.strict,
                                .n_cores_present = plan->machine->n_cores_present};
}

static berth_status open_unit(berth_core *core, int32_t d, bool *wanted, berth_error *err)
{
    berth_unit *u = &core->exec.units[d];
    u->info = &core->plan->machine->devices[d];
    u->backend = berth_backend_of(u->info->kind);
    if (u->backend->queues) core->exec.queueing |= (uint64_t)1 << d;
    berth_plan_wanted(core->plan, d, wanted);
    const berth_unit_options options = unit_options(core, d, wanted);
    return u->backend->open(u, &options, err);
}

static berth_status start_unit(berth_core *core, int32_t d, bool *wanted, berth_error *err)
{
    berth_plan_wanted(core->plan, d, wanted);
    const berth_unit_options options = unit_options(core, d, wanted);
    return core->exec.units[d].backend->start(&core->exec.units[d], &options, err);
}

static berth_status add_to_load(berth_core *core, int32_t d, berth_load *load, bool *wanted, berth_error *err)
{
    berth_unit *u = &core->exec.units[d];
    berth_plan_wanted(core->plan, d, wanted);
    berth_status st = u->backend->load(u, core->plan->model, wanted, core->plan->compute[d], load, err);
    u->allocated.weights = u->weights.bytes;
    return st;
}

/* All devices at the same time. */
static berth_status load_weights(berth_core *core, bool *wanted, berth_error *err)
{
    const berth_core_options *o = &core->options;
    const berth_load_options options = {.n_readers = o->n_readers,
                                        .n_cores = core->plan->machine->n_cores_present,
                                        .piece_bytes = o->piece_bytes,
                                        .watch = {load_progress, core},
                                        .threads = o->threads};
    berth_load *load = NULL;
    for (int32_t d = 0; d < core->exec.n_units; d++) core->load_total += core->plan->devices[d].weights;
    berth_status st = berth_load_create(&options, &load, err);
    for (int32_t d = 0; st == BERTH_OK && d < core->exec.n_units; d++) st = add_to_load(core, d, load, wanted, err);
    const int64_t began = berth_now_ns();
    if (st == BERTH_OK) st = berth_load_run(load, err);
    if (load) core->load_bytes = berth_load_bytes(load);
    core->load_ns = core->load_bytes > 0 ? berth_now_ns() - began : 0;
    berth_load_destroy(load);
    /* what is rounded up for alignment is in the total, and nobody reads it */
    if (st == BERTH_OK && core->load_done < core->load_total) load_progress(core, core->load_total - core->load_done);
    return st;
}

static berth_status make_units(berth_core *core, berth_error *err)
{
    const berth_core_plan *plan = core->plan;
    int32_t n = plan->machine->n_devices, n_params = berth_model_data_n_params(plan->model);
    core->exec.units = aligned_alloc(64, (size_t)n * sizeof(berth_unit));
    if (!core->exec.units) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%d devices", (int)n);
    memset(core->exec.units, 0, (size_t)n * sizeof(berth_unit));
    core->exec.n_units = n;
    bool *wanted = calloc((size_t)n_params + 1, sizeof *wanted);
    berth_status st = wanted ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%d weights", (int)n_params);
    for (int32_t d = 0; st == BERTH_OK && d < n; d++) st = open_unit(core, d, wanted, err);
    if (st == BERTH_OK) st = berth_edges_choose(&core->exec, plan, core->options.transport, &core->notes, err);
    if (st == BERTH_OK) st = load_weights(core, wanted, err);
    for (int32_t d = 0; st == BERTH_OK && d < n; d++) st = start_unit(core, d, wanted, err);
    free(wanted);
    return st;
}

static void destroy_units(berth_exec *exec)
{
    for (int32_t d = 0; d < exec->n_units; d++)
        if (exec->units[d].backend) exec->units[d].backend->stop(&exec->units[d]);
    for (int32_t d = 0; d < exec->n_units; d++)
        if (exec->units[d].backend) exec->units[d].backend->close(&exec->units[d]);
    free(exec->units);
    berth_edges_free(exec);
    berth_cuda_close(exec->cuda);
}

/* ---- replicas --------------------------------------------------------------------------------------------------- */

static void *store_of(void *user, const berth_value *v)
{
    const berth_replica *r = user;
    for (int32_t i = 0; i < r->n_stores; i++)
        if (r->stores[i].key == v->state && r->stores[i].layer == v->layer && r->stores[i].device == v->device)
            return r->stores[i].data;
    return NULL;
}

static berth_status take_stores(berth_core *core, berth_replica *r, berth_error *err)
{
    berth_status st = berth_stores_collect(&core->plan->replicas[r->index], &r->stores, &r->n_stores, err);
    for (int32_t i = 0; st == BERTH_OK && i < r->n_stores; i++) {
        berth_store *s = &r->stores[i];
        berth_unit *u = &core->exec.units[s->device];
        st = berth_arena_take(&u->arena, s->bytes, &s->data, err);
        if (s->key == BERTH_STATE_KV)
            u->allocated.kv += s->bytes;
        else
            u->allocated.features += s->bytes;
    }
    return st;
}

static berth_status take_workspace(berth_core *core, const berth_replica_plan *plan, int32_t d, void **out,
                                   berth_error *err)
{
    size_t bytes = berth_replica_workspace(plan, d);
    core->exec.units[d].allocated.workspace += bytes;
    return berth_arena_take(&core->exec.units[d].arena, bytes, out, err);
}

/* Values between ops lie in the pass's own memory, which its two programs use in turn; workspace is the replica's where
 * ops run one at a time. */
static berth_status take_memory(berth_core *core, berth_replica *r, void **workspace, berth_error *err)
{
    const berth_replica_plan *plan = &core->plan->replicas[r->index];
    berth_status st = BERTH_OK;
    for (int32_t d = 0; st == BERTH_OK && d < core->exec.n_units; d++) {
        if (!core->exec.units[d].backend->queues) st = take_workspace(core, plan, d, &workspace[d], err);
    }
    return st;
}

static berth_status bind_pass(berth_core *core, berth_pass *p, void *const *workspace, berth_error *err)
{
    berth_replica *r = p->replica;
    const berth_replica_plan *plan = &core->plan->replicas[r->index];
    berth_bound_memory memory = {.state = store_of, .user = r};
    berth_status st = BERTH_OK;
    for (int32_t d = 0; st == BERTH_OK && d < core->exec.n_units; d++) {
        size_t bytes = berth_replica_activations(plan, d);
        memory.workspace[d] = workspace[d];
        if (core->exec.units[d].backend->queues) st = take_workspace(core, plan, d, &memory.workspace[d], err);
        if (st != BERTH_OK) break;
        st = berth_arena_take(&core->exec.units[d].arena, bytes, &memory.activations[d], err);
        core->exec.units[d].allocated.activations += bytes;
    }
    if (st == BERTH_OK && plan->encode)
        st = berth_bound_init(&p->bound[BERTH_ENCODE], plan->encode, &core->exec, &memory, err);
    if (st == BERTH_OK) st = berth_bound_init(&p->bound[BERTH_STEP], plan->step, &core->exec, &memory, err);
    return st;
}

static void *input_memory(const berth_bound *b, berth_input_key key)
{
    int32_t v = b->program ? berth_program_find_input(b->program, key) : -1;
    return v < 0 ? NULL : b->data[v];
}

/* A value's copy in host memory; NULL = none. */
static const void *host_copy(const berth_bound *b, int32_t v)
{
    while (b->program->values[v].origin >= 0) v = b->program->values[v].origin;
    int32_t copy = berth_program_find_copy(b->program, v, BERTH_DEVICE_HOST);
    return copy < 0 ? NULL : b->data[copy];
}

static berth_status find_ends(berth_core *core, berth_pass *p, berth_error *err)
{
    const berth_bound *step = &p->bound[BERTH_STEP], *encode = &p->bound[BERTH_ENCODE];
    const berth_program *prog = step->program;
    for (int32_t k = 0; k < BERTH_INPUT_COUNT; k++) p->inputs.data[k] = input_memory(step, (berth_input_key)k);
    p->inputs.bounds = prog->bounds;
    p->inputs.half_dim = core->config->text.head_dim / 2;
    p->inputs.vocab = core->config->text.vocab;
    int32_t table = berth_program_find_input(prog, BERTH_INPUT_BLOCK_TABLE);
    if (table >= 0) p->inputs.max_blocks = (int32_t)prog->values[table].dims[prog->values[table].n_dims - 1].n;
    p->pixels = input_memory(encode, BERTH_INPUT_PIXELS);
    p->tower_end = encode->program ? berth_stages_tower_end(core->plan->model, encode->program) : BERTH_NO_OP;
    p->feature_rows = input_memory(encode, BERTH_INPUT_FEATURE_ROWS);
    for (int32_t i = 0; i < prog->n_ops; i++) {
        const berth_op *op = &prog->ops[i];
        if (op->kind == BERTH_OP_LOGIT_BEST) p->best = host_copy(step, op->out);
        if (op->kind != BERTH_OP_LOGIT_STATS) continue;
        p->stats = host_copy(step, op->out);
        p->logits = prog->values[op->in[0]].is_kept ? step->data[op->in[0]] : NULL;
        p->logits_on = prog->values[op->in[0]].device;
    }
    static const berth_input_key needed[] = {BERTH_INPUT_TOKEN_IDS,  BERTH_INPUT_POSITIONS,   BERTH_INPUT_TOKEN_SEQ,
                                             BERTH_INPUT_SLOTS,      BERTH_INPUT_BLOCK_TABLE, BERTH_INPUT_INV_FREQ,
                                             BERTH_INPUT_LOGIT_ROWS, BERTH_INPUT_BEST_ROWS,   BERTH_INPUT_BEST_SCALES};
    bool complete = p->logits && p->stats && p->best && (!encode->program || (p->pixels && p->feature_rows));
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) complete = complete && p->inputs.data[needed[i]];
    return complete ? BERTH_OK : BERTH_FAIL(err, BERTH_INTERNAL, "program %s lacks an input or an output", prog->name);
}

static berth_status make_pass(berth_core *core, berth_pass *p, berth_replica *r, void *const *workspace,
                              berth_error *err)
{
    berth_status st = berth_pass_init(p, r, err);
    if (st == BERTH_OK) st = bind_pass(core, p, workspace, err);
    return st == BERTH_OK ? find_ends(core, p, err) : st;
}

static berth_status make_passes(berth_core *core, berth_replica *r, berth_error *err)
{
    void *workspace[BERTH_MAX_DEVICES] = {0};
    int32_t n = core->plan->config.passes;
    r->passes = calloc((size_t)n, sizeof *r->passes);
    r->actives = calloc((size_t)core->plan->config.n_seqs, sizeof(berth_active *));
    if (!r->passes || !r->actives) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%d passes in flight", (int)n);
    berth_status st = take_memory(core, r, workspace, err);
    while (st == BERTH_OK && r->n_passes < n) st = make_pass(core, &r->passes[r->n_passes++], r, workspace, err);
    return st == BERTH_OK ? berth_rows_init(r, err) : st;
}

static berth_status make_replica(berth_core *core, int32_t index, berth_error *err)
{
    const berth_core_plan *plan = core->plan;
    berth_replica *r = &core->replicas[index];
    r->index = index;
    r->core = core;
    r->lanes = berth_program_lanes(plan->replicas[index].encode) | berth_program_lanes(plan->replicas[index].step);
    berth_event_init(&r->wake);
    pthread_mutex_init(&r->calls_lock, NULL);
    pthread_cond_init(&r->calls_done, NULL);
    core->n_replicas++;
    berth_status st = take_stores(core, r, err);
    if (st == BERTH_OK) st = make_passes(core, r, err);
    if (st == BERTH_OK) st = berth_blocks_init(&r->kv, plan->n_blocks, plan->block, err);
    int32_t per_tile = core->config->has_vision ? core->config->vision.tokens_per_tile : 1;
    if (st == BERTH_OK) st = berth_blocks_init(&r->features, (int32_t)(plan->feature_rows / per_tile), per_tile, err);
    return st;
}

static void destroy_replica(berth_replica *r)
{
    berth_rows_deinit(r);
    for (int32_t i = 0; i < r->n_passes; i++) berth_pass_deinit(&r->passes[i]);
    berth_blocks_deinit(&r->kv);
    berth_blocks_deinit(&r->features);
    pthread_mutex_destroy(&r->calls_lock);
    pthread_cond_destroy(&r->calls_done);
    free(r->passes);
    free(r->actives);
    free(r->stores);
}

/* ---- strict mode ------------------------------------------------------------------------------------------------ */

static berth_status add_host_area(berth_core *core, const berth_bound *b, berth_error *err)
{
    if (!b->program) return BERTH_OK;
    return berth_strict_add(core->exec.strict, BERTH_DEVICE_HOST, b->host, b->host_bytes, true, err);
}

static berth_status add_host_areas(berth_core *core, berth_error *err)
{
    berth_status st = BERTH_OK;
    for (int32_t i = 0; i < core->n_replicas; i++) {
        for (int32_t k = 0; st == BERTH_OK && k < core->replicas[i].n_passes; k++) {
            const berth_bound *both = core->replicas[i].passes[k].bound;
            st = add_host_area(core, &both[BERTH_STEP], err);
            if (st == BERTH_OK) st = add_host_area(core, &both[BERTH_ENCODE], err);
        }
    }
    return st;
}

/* Closes every device's memory. */
static berth_status make_strict(berth_core *core, berth_error *err)
{
    berth_status st = berth_strict_create(core->exec.n_units, &core->exec.strict, err);
    for (int32_t d = 0; st == BERTH_OK && d < core->exec.n_units; d++) {
        berth_unit *u = &core->exec.units[d];
        st = berth_strict_add(core->exec.strict, d, u->arena.base, u->arena.mapped, true, err);
        for (int32_t s = 0; st == BERTH_OK && s < u->weights.n_maps; s++)
            st = berth_strict_add(core->exec.strict, d, u->weights.maps[s].base, u->weights.maps[s].length, false, err);
    }
    if (st == BERTH_OK) st = add_host_areas(core, err);
    if (st == BERTH_OK) berth_strict_only(core->exec.strict, BERTH_DEVICE_HOST);
    return st;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static berth_status check_as_planned(const berth_core *core, berth_error *err)
{
    for (int32_t d = 0; d < core->exec.n_units; d++) {
        const berth_device_bytes *plan = &core->plan->devices[d];
        berth_device_bytes got = berth_core_allocated(core, d);
        if (got.weights != plan->weights || got.kv != plan->kv || got.features != plan->features ||
            got.activations != plan->activations || got.workspace != plan->workspace || got.total != plan->total)
            return BERTH_FAIL(err, BERTH_INTERNAL, "device %s: %llu bytes planned, %llu allocated",
                              core->exec.units[d].info->name, (unsigned long long)plan->total,
                              (unsigned long long)got.total);
    }
    return BERTH_OK;
}

/* Between memories of the host, what is asked for if it can do that. */
static void choose_transport(berth_core *core)
{
    const berth_transport *t = core->options.transport ? berth_transport_find(core->options.transport) : NULL;
    core->exec.transport = t && t->edges >> BERTH_EDGE_HOST & 1 ? t : berth_transport_find("local");
}

static berth_status open_driver(berth_core *core, berth_error *err)
{
    const berth_machine *m = core->plan->machine;
    int32_t gpu = -1;
    for (int32_t d = 0; d < m->n_devices && gpu < 0; d++)
        if (m->devices[d].kind == BERTH_DEVICE_CUDA) gpu = d;
    if (gpu < 0) return BERTH_OK;
    if (core->options.strict)
        return BERTH_FAIL(err, BERTH_UNSUPPORTED,
                          "strict mode closes memory of cpu devices by page protection, and device %s is a GPU, whose "
                          "memory is its own; make the engine without strict",
                          m->devices[gpu].name);
    return berth_cuda_open(NULL, &core->exec.cuda, err);
}

static void listen(berth_core *core)
{
    berth_error err = {0};
    if (!core->options.nvtx) return;
    core->tells_tools = berth_nvtx_open(&err) == BERTH_OK;
    if (!core->tells_tools) berth_buffer_printf(&core->notes, "%s\n", err.message);
}

static berth_status build_core(berth_core *core, berth_error *err)
{
    const berth_core_plan *plan = core->plan;
    if (!plan->fits) {
        int32_t d = plan->worst_device;
        return BERTH_FAIL(
            err, BERTH_DOES_NOT_FIT,
            "device %s: %llu bytes are missing (%llu wanted, limit %llu); give it more with /mem=SIZE, use "
            "more devices, another strategy or a shorter context",
            plan->machine->devices[d].name, (unsigned long long)plan->missing_bytes,
            (unsigned long long)plan->devices[d].total, (unsigned long long)plan->devices[d].limit);
    }
    choose_transport(core);
    core->exec.no_graphs = core->options.no_graphs;
    core->exec.times_copies = core->options.time_copies;
    core->exec.no_fusing = core->options.no_fusing;
    berth_status st = open_driver(core, err);
    if (st != BERTH_OK) return st;
    listen(core);
    berth_measure_begin(core);
    st = make_units(core, err);
    if (st != BERTH_OK) return st;
    core->replicas = calloc((size_t)plan->placement->n_replicas, sizeof *core->replicas);
    if (!core->replicas) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%d replicas", (int)plan->placement->n_replicas);
    for (int32_t r = 0; st == BERTH_OK && r < plan->placement->n_replicas; r++) st = make_replica(core, r, err);
    if (st == BERTH_OK) st = check_as_planned(core, err);
    if (st == BERTH_OK) berth_measure_end(core);
    if (st == BERTH_OK && core->options.strict) st = make_strict(core, err);
    for (int32_t r = 0; st == BERTH_OK && r < core->n_replicas; r++) st = berth_replica_start(&core->replicas[r], err);
    return st;
}

static berth_status make_queue(berth_core *core, berth_error *err)
{
    const berth_core_plan *plan = core->plan;
    int32_t waiting = core->options.queue == 0 ? DEFAULT_QUEUE : core->options.queue;
    const berth_queue_options options = {.most_waiting = waiting,
                                         .most_running = plan->config.n_seqs * plan->placement->n_replicas,
                                         .longest_first = core->options.longest_first};
    return berth_job_queue_init(&core->queue, &options, err);
}

berth_status berth_core_create(berth_core_plan *take_plan, const berth_core_options *options, berth_core **out,
                               berth_error *err)
{
    *out = NULL;
    berth_core *core = calloc(1, sizeof *core);
    if (!core) {
        berth_core_plan_destroy(take_plan);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "an engine");
    }
    core->plan = take_plan;
    core->config = berth_model_data_config(take_plan->model);
    uint64_t nonce = 0; /* sessions are saved: keys of another process must not be met again by chance */
    if (getrandom(&nonce, sizeof nonce, GRND_NONBLOCK) != (ssize_t)sizeof nonce) nonce = (uint64_t)berth_now_ns();
    atomic_init(&core->nonce, nonce);
    if (options) core->options = *options;
    pthread_mutex_init(&core->exec.strict_lock, NULL);
    pthread_mutex_init(&core->strict_turn, NULL);
    pthread_mutex_init(&core->lost_lock, NULL);
    berth_status st = make_queue(core, err);
    if (st == BERTH_OK) st = build_core(core, err);
    if (st != BERTH_OK) {
        berth_core_destroy(core);
        return st;
    }
    *out = core;
    return BERTH_OK;
}

void berth_core_destroy(berth_core *core)
{
    if (!core) return;
    atomic_store(&core->is_ending, true);
    berth_core_wake(core);
    for (int32_t r = 0; r < core->n_replicas; r++) berth_replica_join(&core->replicas[r]);
    berth_gpu_group_destroy(core->exec.group); /* before the streams of runs */
    berth_strict_destroy(core->exec.strict);
    for (int32_t r = 0; r < core->n_replicas; r++) destroy_replica(&core->replicas[r]);
    free(core->replicas);
    berth_measure_close(core);
    destroy_units(&core->exec);
    berth_core_plan_destroy(core->plan);
    pthread_mutex_destroy(&core->exec.strict_lock);
    pthread_mutex_destroy(&core->strict_turn);
    pthread_mutex_destroy(&core->lost_lock);
    berth_job_queue_deinit(&core->queue);
    berth_buffer_deinit(&core->notes);
    free(core);
}

const berth_core_plan *berth_core_get_plan(const berth_core *core)
{
    return core->plan;
}

const char *berth_core_notes(const berth_core *core)
{
    return core->notes.data ? core->notes.data : "";
}

const char *berth_core_edge(const berth_core *core, int32_t from, int32_t to)
{
    const berth_transport *t = berth_edge_transport(&core->exec, from, to);
    return t ? t->name : NULL;
}

const char *berth_core_edge_note(const berth_core *core, int32_t from, int32_t to)
{
    return berth_edge_note(&core->exec, from, to);
}

berth_device_bytes berth_core_allocated(const berth_core *core, int32_t device)
{
    const berth_unit *u = &core->exec.units[device];
    berth_device_bytes b = u->allocated;
    b.total = b.weights + b.kv + b.features + b.activations + b.workspace;
    b.limit = u->info->memory_bytes;
    b.kv_per_token = core->plan->devices[device].kv_per_token;
    b.context = core->plan->devices[device].context;
    return b;
}
