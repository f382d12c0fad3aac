#include "exec/copy_times.h"

#include <stdlib.h>

static berth_status make_marks(berth_unit *u, berth_copy_time *c, berth_error *err)
{
    berth_status st = u->backend->mark_create(u, BERTH_MARK_TIMED, &c->from, err);
    return st == BERTH_OK ? u->backend->mark_create(u, BERTH_MARK_TIMED, &c->to, err) : st;
}

berth_status berth_copy_times_init(berth_copy_times *t, const berth_program *program, berth_unit *units,
                                   berth_error *err)
{
    *t = (berth_copy_times){.program = program, .units = units};
    t->list = calloc((size_t)program->n_ops + 1, sizeof *t->list);
    if (!t->list) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "program %s: tables", program->name);
    berth_status st = BERTH_OK;
    for (int32_t i = 0; st == BERTH_OK && i < program->n_ops; i++) {
        berth_unit *u = &units[program->ops[i].device];
        if (program->ops[i].kind == BERTH_OP_COPY && u->backend->queues) st = make_marks(u, &t->list[i], err);
    }
    return st;
}

void berth_copy_times_deinit(berth_copy_times *t)
{
    for (int32_t i = 0; t->list && i < t->program->n_ops; i++) {
        const berth_backend *backend = t->units[t->program->ops[i].device].backend;
        if (t->list[i].from) backend->mark_destroy(t->list[i].from);
        if (t->list[i].to) backend->mark_destroy(t->list[i].to);
    }
    free(t->list);
    *t = (berth_copy_times){0};
}

static const berth_backend *backend_of(const berth_copy_times *t, int32_t op)
{
    return t->units[t->program->ops[op].device].backend;
}

berth_status berth_copy_times_begin(const berth_copy_times *t, int32_t op, berth_stream *s, berth_error *err)
{
    if (!t->list || !t->list[op].from) return BERTH_OK;
    return backend_of(t, op)->mark_set(t->list[op].from, s, err);
}

berth_status berth_copy_times_end(const berth_copy_times *t, int32_t op, berth_stream *s, berth_error *err)
{
    if (!t->list || !t->list[op].to) return BERTH_OK;
    berth_status st = backend_of(t, op)->mark_set(t->list[op].to, s, err);
    t->list[op].is_set = st == BERTH_OK;
    return st;
}

berth_status berth_copy_times_take(const berth_copy_times *t, const int32_t *ops, int32_t n, int32_t n_units,
                                   uint64_t *edge_ns, berth_error *err)
{
    berth_status st = BERTH_OK;
    for (int32_t k = 0; t->list && k < n; k++) {
        berth_copy_time *c = &t->list[ops[k]];
        int64_t ns = 0;
        if (!c->is_set) continue;
        c->is_set = false;
        if (!edge_ns || st != BERTH_OK) continue;
        st = backend_of(t, ops[k])->mark_elapsed(c->from, c->to, &ns, err);
        const berth_op *op = &t->program->ops[ops[k]];
        const int32_t from = t->program->values[op->in[0]].device, to = t->program->values[op->out].device;
        const int32_t row = from < 0 ? n_units : from, column = to < 0 ? n_units : to;
        if (ns > 0) edge_ns[row * (n_units + 1) + column] += (uint64_t)ns;
    }
    return st;
}
