/* run_op.c - one op of a run: carried out on its unit or queued there, with strict memory where asked for, and shown to who
 * watches. */
#include <stdlib.h>

#include "base/clock.h"
#include "exec/run_internal.h"

typedef struct op_step { /* one op under way */
    berth_run *run;
    int32_t op;
    berth_op_call call;
    berth_status status;
    berth_error error;
} op_step;

static void strict_open(void *user, int32_t device, bool writable)
{
    berth_strict *s = user;
    if (device == BERTH_COPY_CLOSE_ALL)
        berth_strict_close_all(s);
    else
        berth_strict_open(s, device, writable);
}

static const berth_transport *transport_of(const berth_exec *exec, int32_t from, int32_t to)
{
    int32_t n = exec->n_units, row = from < 0 ? n : from, column = to < 0 ? n : to;
    const berth_transport *t = exec->edges ? exec->edges[row * (n + 1) + column] : NULL;
    return t ? t : exec->transport;
}

static berth_unit *unit_of(const berth_exec *exec, int32_t device)
{
    return device < 0 ? NULL : &exec->units[device];
}

static void carry_copy(op_step *s)
{
    berth_run *r = s->run;
    const berth_exec *exec = r->exec;
    const berth_op *op = &r->bound->program->ops[s->op];
    const berth_value *from = &r->bound->program->values[op->in[0]], *to = &r->bound->program->values[op->out];
    berth_unit *unit = &exec->units[op->device];
    berth_copy c = {.from = from->device, .to = to->device, .src = s->call.in[0].data, .dst = s->call.out.data};
    if (!berth_value_bytes(to, &r->sizes, &c.bytes) || c.bytes == 0) return;
    if (exec->strict) {
        c.open = strict_open;
        c.open_user = exec->strict;
    }
    berth_stream *stream = r->shares[op->device].stream;
    int64_t began = berth_now_ns();
    s->status = berth_copy_times_begin(&r->bound->times, s->op, stream, &s->error);
    if (s->status == BERTH_OK)
        s->status = unit->backend->copy(unit, stream, transport_of(exec, c.from, c.to), unit_of(exec, c.from),
                                        unit_of(exec, c.to), &c, &s->error);
    if (s->status == BERTH_OK) s->status = berth_copy_times_end(&r->bound->times, s->op, stream, &s->error);
    int32_t n = exec->n_units, row = c.from < 0 ? n : c.from, column = c.to < 0 ? n : c.to;
    int32_t edge = row * (n + 1) + column; /* one lane's */
    if (r->options.edge_bytes) r->options.edge_bytes[edge] += c.bytes;
    if (r->options.edge_ns && !stream) r->options.edge_ns[edge] += (uint64_t)(berth_now_ns() - began);
}

/* Whether the op is, in this run, one with others. One that is watched has a result to be seen, so then none is. */
bool berth_run_fuses(const berth_run *r, int32_t op, berth_fused_ops *out)
{
    if (r->options.watch || !berth_bound_fused(r->bound, op, &r->sizes, out)) return false;
    const berth_unit *unit = &r->exec->units[r->bound->program->ops[op].device];
    return unit->backend->fuses(unit, &out->call);
}

/* An op that is no copy. */
berth_status berth_run_op(const berth_run *r, int32_t index, berth_op_call *call, berth_error *err)
{
    const berth_op *op = &r->bound->program->ops[index];
    berth_unit *unit = &r->exec->units[op->device];
    berth_stream *stream = r->shares[op->device].stream;
    berth_fused_ops fused;
    if (berth_tensor_elements(&call->out) == 0) return BERTH_OK;
    if (berth_run_fuses(r, index, &fused))
        return fused.first == index ? unit->backend->run_fused(unit, stream, &fused.call, err) : BERTH_OK;
    call->workspace = r->bound->workspace[op->device];
    call->workspace_bytes = op->workspace;
    return unit->backend->run(unit, stream, call, err);
}

static void carry_out(void *arg)
{
    op_step *s = arg;
    if (s->run->bound->program->ops[s->op].kind == BERTH_OP_COPY)
        carry_copy(s);
    else
        s->status = berth_run_op(s->run, s->op, &s->call, &s->error);
}

static const char *device_name(const berth_exec *exec, int32_t d)
{
    return d < 0 ? "the host" : exec->units[d].info->name;
}

static bool holds(const berth_tensor *t, const void *address)
{
    uintptr_t first = (uintptr_t)t->data, at = (uintptr_t)address;
    return at >= first && at - first < (size_t)berth_tensor_elements(t) * berth_dtype_size(t->dtype);
}

/* Words for an access that page protection stopped. */
static void fail_access(op_step *s, const void *address)
{
    const berth_exec *exec = s->run->exec;
    const berth_program *p = s->run->bound->program;
    const berth_op *op = &p->ops[s->op];
    const char *out = p->values[op->out].name, *here = exec->units[op->device].info->name;
    int32_t owner;
    if (!berth_strict_owner(exec->strict, address, &owner)) {
        s->status = BERTH_FAIL(&s->error, BERTH_DEVICE_ERROR,
                               "strict: op %s (%s) on %s touched %p, which is no device's memory",
                               berth_op_infos[op->kind].name, out, here, address);
        s->error.device = op->device;
        return;
    }
    const char *which = NULL;
    for (int32_t k = 0; k < op->n_in && !which; k++)
        if (holds(&s->call.in[k], address)) which = p->values[op->in[k]].name;
    if (!which && holds(&s->call.out, address)) which = out;
    s->status = BERTH_FAIL(&s->error, BERTH_DEVICE_ERROR,
                           "strict: op %s (%s, program %s) on %s touched memory of %s%s%s; no copy brought it to %s",
                           berth_op_infos[op->kind].name, out, p->name, here, device_name(exec, owner),
                           which ? ", where its operand lies: " : "", which ? which : "", here);
    s->error.device = op->device;
}

static void carry_out_strict(op_step *s)
{
    berth_exec *exec = s->run->exec;
    void *address = NULL;
    berth_strict_take_host(exec->strict, s->run->bound->host);
    berth_strict_only(exec->strict, s->run->bound->program->ops[s->op].device);
    if (!berth_strict_guard(carry_out, s, &address)) fail_access(s, address);
}

void berth_run_fail(berth_run *r, berth_status st, const berth_error *why)
{
    pthread_mutex_lock(&r->lock);
    if (!atomic_load(&r->failed)) {
        r->status = st;
        r->error = *why;
        atomic_store(&r->failed, true);
    }
    pthread_mutex_unlock(&r->lock);
}

static void show(berth_run *r, const op_step *s, const berth_op_call *call)
{
    const berth_watch *watch = r->options.watch;
    pthread_mutex_lock(&r->lock);
    watch->see(watch->user, r->bound, s->op, call);
    pthread_mutex_unlock(&r->lock);
}

berth_status berth_exec_fetch(const berth_exec *exec, int32_t device, berth_tensor *t, void **out_owned,
                              berth_error *err)
{
    *out_owned = NULL;
    berth_unit *u = unit_of(exec, device);
    if (!u || u->backend->is_host) return BERTH_OK;
    size_t bytes = (size_t)berth_tensor_elements(t) * berth_dtype_size(t->dtype);
    void *copy = malloc(bytes + 1);
    if (!copy) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%zu bytes of a value of %s", bytes, u->info->name);
    berth_status st = u->backend->read(u, copy, t->data, bytes, err);
    if (st != BERTH_OK) {
        free(copy);
        return st;
    }
    *out_owned = t->data = copy;
    return BERTH_OK;
}

/* Waits for the op first where it was only queued. */
static void show_if_wanted(op_step *s)
{
    berth_run *r = s->run;
    const berth_watch *watch = r->options.watch;
    if (!watch || (watch->wants && !watch->wants(watch->user, r->bound, s->op))) return;
    const berth_program *p = r->bound->program;
    const berth_op *op = &p->ops[s->op];
    berth_stream *stream = r->shares[op->device].stream;
    berth_op_call seen = s->call;
    void *copy = NULL;
    if (stream) s->status = r->exec->units[op->device].backend->stream_wait(stream, &s->error);
    if (s->status == BERTH_OK)
        s->status = berth_exec_fetch(r->exec, p->values[op->out].device, &seen.out, &copy, &s->error);
    if (s->status == BERTH_OK) show(r, s, &seen);
    free(copy);
}

/* Says where it was, when what failed below could not know. */
static void name_op(op_step *s)
{
    const berth_op *op = &s->run->bound->program->ops[s->op];
    const berth_unit *u = &s->run->exec->units[op->device];
    if (u->backend->is_host) return;
    s->error.device = op->device;
    berth_error_append(&s->error, "; at op %s (%s, program %s) of device %s", berth_op_infos[op->kind].name,
                       s->run->bound->program->values[op->out].name, s->run->bound->program->name, u->info->name);
}

void berth_run_fail_at(berth_run *r, int32_t op, berth_status st, const berth_error *why)
{
    op_step s = {.run = r, .op = op, .error = *why};
    if (st == BERTH_OK) return;
    name_op(&s);
    berth_run_fail(r, st, &s.error);
}

void berth_run_do(berth_run *r, int32_t op)
{
    op_step s;
    s.run = r;
    s.op = op;
    s.status = BERTH_OK;
    berth_bound_call(r->bound, op, &r->sizes, &s.call);
    if (r->exec->strict) {
        pthread_mutex_lock(&r->exec->strict_lock);
        carry_out_strict(&s);
        if (s.status == BERTH_OK) show_if_wanted(&s);
        pthread_mutex_unlock(&r->exec->strict_lock);
    } else {
        carry_out(&s);
        if (s.status == BERTH_OK) show_if_wanted(&s);
    }
    if (s.status == BERTH_OK) return;
    name_op(&s);
    berth_run_fail(r, s.status, &s.error);
}
