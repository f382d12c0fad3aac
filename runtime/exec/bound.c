/* bound.c - giving every value of a program its bytes, every lane its list of ops, and every op the lanes to wake. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "exec/executor.h"

static berth_status bind_value(berth_bound *b, int32_t i, const berth_exec *exec, const berth_bound_memory *memory,
                               berth_error *err)
{
    const berth_value *v = &b->program->values[i];
    if (v->device < BERTH_DEVICE_HOST || v->device >= exec->n_units)
        return BERTH_FAIL(err, BERTH_INTERNAL, "program %s: value %s has no device", b->program->name, v->name);
    void *at = NULL;
    switch (v->kind) {
    case BERTH_VALUE_WEIGHT:
        if (v->device >= 0 && v->param >= 0) at = (void *)(uintptr_t)exec->units[v->device].weights.data[v->param];
        break;
    case BERTH_VALUE_STATE: at = memory->state(memory->user, v); break;
    case BERTH_VALUE_INPUT:
    case BERTH_VALUE_ACTIVATION: {
        uint8_t *base = v->device == BERTH_DEVICE_HOST ? b->host : memory->activations[v->device];
        size_t size = v->device == BERTH_DEVICE_HOST ? b->host_bytes : b->program->regions[v->device].activations;
        if (v->offset <= size && v->bytes <= size - v->offset) at = base + v->offset;
        break;
    }
    }
    if (!at) return BERTH_FAIL(err, BERTH_INTERNAL, "program %s: value %s has no memory", b->program->name, v->name);
    b->data[i] = at;
    return BERTH_OK;
}

static berth_status share_out_ops(berth_bound *b, const berth_exec *exec, berth_error *err)
{
    const berth_program *p = b->program;
    int32_t at = 0;
    for (int32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].device < 0 || p->ops[i].device >= exec->n_units)
            return BERTH_FAIL(err, BERTH_INTERNAL, "program %s: op %d has no device", p->name, (int)i);
    for (int32_t d = 0; d < exec->n_units; d++) {
        b->lane_first[d] = at;
        for (int32_t i = 0; i < p->n_ops; i++) {
            if (p->ops[i].device != d) continue;
            b->lane_index[i] = at - b->lane_first[d];
            b->lane_ops[at++] = i;
        }
    }
    b->lane_first[exec->n_units] = at;
    return BERTH_OK;
}

static berth_status find_wakes(berth_bound *b, berth_error *err)
{
    const berth_program *p = b->program;
    _Static_assert(BERTH_MAX_DEVICES <= 64, "a bit for each lane");
    for (int32_t i = 0; i < p->n_ops; i++) {
        for (int32_t k = 0; k < p->ops[i].n_waits; k++) {
            int32_t on = p->waits[p->ops[i].first_wait + k];
            if (on < 0 || on >= i)
                return BERTH_FAIL(err, BERTH_INTERNAL, "program %s: op %d waits for op %d", p->name, (int)i, (int)on);
            if (p->ops[on].device != p->ops[i].device) b->wakes[on] |= (uint64_t)1 << p->ops[i].device;
        }
    }
    return BERTH_OK;
}

uint64_t berth_program_lanes(const berth_program *program)
{
    uint64_t lanes = 0;
    for (int32_t i = 0; program && i < program->n_ops; i++) lanes |= (uint64_t)1 << program->ops[i].device;
    return lanes;
}

/* A mark for every op of a queueing lane that another lane waits for. */
static berth_status make_notes(berth_bound *b, const berth_exec *exec, berth_error *err)
{
    const berth_program *p = b->program;
    if (!(exec->queueing & b->lanes)) return BERTH_OK;
    b->notes = calloc((size_t)p->n_ops + 1, sizeof *b->notes);
    if (!b->notes) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "program %s: tables", p->name);
    berth_status st = BERTH_OK;
    for (int32_t i = 0; st == BERTH_OK && i < p->n_ops; i++) {
        berth_unit *u = &exec->units[p->ops[i].device];
        if (b->wakes[i] && u->backend->queues)
            st =
                u->backend->mark_create(u, b->wakes[i] & ~exec->queueing ? BERTH_MARK_FOR_HOST : BERTH_MARK_FOR_STREAMS,
                                        &b->notes[i].mark, err);
    }
    return st;
}

static void destroy_notes(berth_bound *b)
{
    for (int32_t i = 0; b->notes && i < b->program->n_ops; i++)
        if (b->notes[i].mark) b->exec->units[b->program->ops[i].device].backend->mark_destroy(b->notes[i].mark);
    free(b->notes);
}

static berth_status pin_host(berth_bound *b, berth_unit *u, berth_error *err)
{
    void *p;
    berth_status st = u->backend->pin(u, b->host_bytes + 1, &p, err);
    if (st != BERTH_OK) {
        berth_error_prefix(err, "program %s: %zu bytes of host memory: ", b->program->name, b->host_bytes);
        return st;
    }
    b->host = p;
    b->pinner = u;
    return BERTH_OK;
}

/* A lane that will be woken is told a few ops ahead, so that it is awake by then; and towards the end of the program the
 * lanes where it begins: the next run is likely to follow. */
static void find_expects(berth_bound *b, int32_t n_lanes)
{
    enum { AHEAD = 3 };
    const berth_program *p = b->program;
    uint64_t begins = 0;
    for (int32_t d = 0; d < n_lanes; d++)
        if (b->lane_first[d] < b->lane_first[d + 1] && p->ops[b->lane_ops[b->lane_first[d]]].n_waits == 0)
            begins |= (uint64_t)1 << d;
    for (int32_t d = 0; d < n_lanes; d++) {
        for (int32_t at = b->lane_first[d]; at < b->lane_first[d + 1]; at++) {
            int32_t early = at - AHEAD < b->lane_first[d] ? b->lane_first[d] : at - AHEAD, op = b->lane_ops[at];
            uint64_t lanes = b->wakes[op] | (op == p->n_ops - 1 ? begins : 0);
            if (early < at) b->expects[b->lane_ops[early]] |= lanes & ~((uint64_t)1 << d);
        }
    }
}

static berth_status map_host(berth_bound *b, const berth_exec *exec, berth_error *err)
{
    b->host_bytes = b->program->host_bytes;
    uint64_t queueing = exec->queueing & b->lanes;
    if (queueing) return pin_host(b, &exec->units[__builtin_ctzll(queueing)], err);
    void *p = mmap(NULL, b->host_bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        int code = errno;
        return BERTH_FAIL_ERRNO(err, BERTH_OUT_OF_MEMORY, code, "program %s: %zu bytes of host memory",
                                b->program->name, b->host_bytes);
    }
    b->host = p;
    return BERTH_OK;
}

static berth_status find_fusions(berth_bound *b, const berth_exec *exec, berth_error *err)
{
    uint64_t lanes = 0;
    for (int32_t d = 0; d < exec->n_units; d++)
        if (exec->units[d].backend->run_fused && !exec->no_fusing) lanes |= (uint64_t)1 << d;
    return lanes & b->lanes ? berth_fusions_init(&b->fusions, b->program, lanes, err) : BERTH_OK;
}

berth_status berth_bound_init(berth_bound *b, const berth_program *program, const berth_exec *exec,
                              const berth_bound_memory *memory, berth_error *err)
{
    *b = (berth_bound){.program = program, .exec = exec};
    for (int32_t d = 0; d < exec->n_units; d++) b->workspace[d] = memory->workspace[d];
    b->data = calloc((size_t)program->n_values + 1, sizeof *b->data);
    b->lane_ops = calloc((size_t)program->n_ops + 1, sizeof *b->lane_ops);
    b->lane_index = calloc((size_t)program->n_ops + 1, sizeof *b->lane_index);
    b->wakes = calloc((size_t)program->n_ops + 1, sizeof *b->wakes);
    b->expects = calloc((size_t)program->n_ops + 1, sizeof *b->expects);
    if (!b->data || !b->lane_ops || !b->lane_index || !b->wakes || !b->expects)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "program %s: tables", program->name);
    berth_status st = share_out_ops(b, exec, err);
    b->lanes = st == BERTH_OK ? berth_program_lanes(program) : 0;
    if (st == BERTH_OK) st = map_host(b, exec, err);
    for (int32_t i = 0; st == BERTH_OK && i < program->n_values; i++) st = bind_value(b, i, exec, memory, err);
    if (st == BERTH_OK) st = find_wakes(b, err);
    if (st == BERTH_OK) st = make_notes(b, exec, err);
    if (st == BERTH_OK && (exec->queueing & b->lanes) && !exec->no_graphs)
        st = berth_replay_init(&b->replay, program, exec->units, exec->n_units, b->lane_ops, b->lane_first, b->wakes,
                               err);
    if (st == BERTH_OK && (exec->queueing & b->lanes) && exec->times_copies)
        st = berth_copy_times_init(&b->times, program, exec->units, err);
    if (st == BERTH_OK) st = find_fusions(b, exec, err);
    if (st == BERTH_OK) find_expects(b, exec->n_units);
    return st;
}

void berth_bound_deinit(berth_bound *b)
{
    berth_replay_deinit(&b->replay);
    berth_fusions_deinit(&b->fusions);
    destroy_notes(b);
    berth_copy_times_deinit(&b->times);
    if (b->pinner)
        b->pinner->backend->unpin(b->pinner, b->host);
    else if (b->host)
        munmap(b->host, b->host_bytes + 1);
    free(b->data);
    free(b->lane_ops);
    free(b->lane_index);
    free(b->wakes);
    free(b->expects);
    *b = (berth_bound){0};
}

void berth_bound_call(const berth_bound *b, int32_t op, const berth_sizes *sizes, berth_op_call *out)
{
    const berth_op *o = &b->program->ops[op];
    berth_program_shapes(b->program, o, sizes, out);
    for (int32_t k = 0; k < o->n_in; k++) out->in[k].data = b->data[o->in[k]];
    out->out.data = b->data[o->out];
}

bool berth_bound_fused(const berth_bound *b, int32_t op, const berth_sizes *sizes, berth_fused_ops *out)
{
    if (!b->fusions.of || b->fusions.of[op] < 0) return false;
    const berth_fusion *f = &b->fusions.list[b->fusions.of[op]];
    berth_op_call *next = out->ops;
    out->call = (berth_fused_call){.n_linears = f->n_linears};
    out->first = f->linears[0];
    for (int32_t i = 0; i < f->n_linears; i++) {
        berth_bound_call(b, f->linears[i], sizes, next);
        out->call.linear[i] = next++;
    }
    if (f->norm >= 0) {
        berth_bound_call(b, f->norm, sizes, next);
        out->call.norm = next++;
    }
    if (f->then >= 0) {
        berth_bound_call(b, f->then, sizes, next);
        out->call.then = next;
    }
    return true;
}
