/* executor.c - runs of bound programs over the lanes.
 *
 * What a run has done on a lane is a count that grows over all runs its object ever makes, so that another run that goes
 * on after it needs no more than a count to compare with, even when it has been started anew. The thing easy to get
 * wrong is the end: once the last lane has let go of a run, its owner may use or free it at once.
 *
 * A share of a lane that queues has two counts: `done`, what the worker has issued, and `over`, what the unit's waiter has
 * seen the end of. Who goes by which follows from one rule: what is queued may wait for what was queued before it, the
 * host must know. The waiter's items are notes, one for each op that a lane of the other sort waits for and one for the
 * share's end; they come in the order of issue, so a note may be used again once its run is over. */
#include "engine/executor.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cuda/nvtx.h"

enum { RANGE_NAME = 256 };
enum { EXPECT_NS = 2000000 }; /* a lane told that it will be needed stays awake so long: a few ops */

typedef struct berth_lane_share {       /* a run's ops on one lane */
    berth_share base;                   /* first; its fields are the lane's and its worker's */
    _Alignas(64) _Atomic uint32_t done; /* ops over (issued), of this run and those before it; set by the worker */
    uint32_t first;                     /* `done` before this run's first op */
    int32_t device;
    int32_t next_wait; /* of the next op: those before it are satisfied; the worker's */
    berth_run *run;
    const struct berth_lane_share *after; /* NULL = none */
    uint32_t after_first;                 /* its `first` at this run's start */
    /* Of a lane that queues */
    int32_t issued;          /* items below were queued already, with a graph */
    berth_stream *stream;    /* owned; NULL: it does not */
    _Atomic uint32_t over;   /* as `done`; set by the waiter */
    berth_note end, timed;   /* timed: the op whose time is noted */
    berth_status end_marked; /* of setting the end's mark */
} lane_share;

struct berth_run {
    berth_exec *exec;
    const berth_bound *bound;
    berth_sizes sizes;
    berth_run_options options;
    int64_t marked_ns;      /* written by the marked op's lane, or its waiter */
    uint64_t may_use;       /* bit d: made for programs with ops on lane d */
    uint64_t lanes;         /* bit d: has ops on lane d */
    _Atomic int32_t n_left; /* lanes that are not through, and the starter */
    _Atomic bool failed, over;
    berth_gate end;       /* open: nobody but the owner knows of the run */
    pthread_mutex_t lock; /* error and watch */
    berth_status status;
    berth_error error;
    lane_share shares[]; /* [n_units] */
};

typedef struct op_step { /* one op under way */
    berth_run *run;
    int32_t op;
    berth_op_call call;
    berth_status status;
    berth_error error;
} op_step;

/* ---- one op ----------------------------------------------------------------------------------------------------- */

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
static bool is_fused(const berth_run *r, int32_t op, berth_fused_ops *out)
{
    if (r->options.watch || !berth_bound_fused(r->bound, op, &r->sizes, out)) return false;
    const berth_unit *unit = &r->exec->units[r->bound->program->ops[op].device];
    return unit->backend->fuses(unit, &out->call);
}

/* An op that is no copy. */
static berth_status carry_op(const berth_run *r, int32_t index, berth_op_call *call, berth_error *err)
{
    const berth_op *op = &r->bound->program->ops[index];
    berth_unit *unit = &r->exec->units[op->device];
    berth_stream *stream = r->shares[op->device].stream;
    berth_fused_ops fused;
    if (berth_tensor_elements(&call->out) == 0) return BERTH_OK;
    if (is_fused(r, index, &fused))
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
        s->status = carry_op(s->run, s->op, &s->call, &s->error);
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

static void note_failure(berth_run *r, berth_status st, const berth_error *why)
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

static void do_op(berth_run *r, int32_t op)
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
    note_failure(r, s.status, &s.error);
}

/* ---- a run's share of a lane ------------------------------------------------------------------------------------ */

static bool reached(const _Atomic uint32_t *count, uint32_t first, int32_t n)
{
    return (int32_t)(atomic_load_explicit(count, memory_order_acquire) - (first + (uint32_t)n)) >= 0;
}

/* n ops of `other`, of the run that is or was there since `first`, are far enough for `s` to go on. */
static bool has_done(const lane_share *s, const lane_share *other, uint32_t first, int32_t n)
{
    return reached(other->stream && !s->stream ? &other->over : &other->done, first, n);
}

static int32_t next_item(const lane_share *s)
{
    return (int32_t)(atomic_load_explicit(&s->done, memory_order_relaxed) - s->first);
}

static int32_t n_items(const lane_share *s)
{
    const berth_bound *b = s->run->bound;
    return b->lane_first[s->device + 1] - b->lane_first[s->device];
}

static bool share_is_ready(berth_share *base)
{
    lane_share *s = (lane_share *)(void *)base;
    berth_run *r = s->run;
    const berth_bound *b = r->bound;
    const berth_program *p = b->program;
    int32_t item = next_item(s);
    /* Also for a run that failed: what comes after it comes after those before it too. Where ops are queued, all of this
     * run's come after all of that one's, whose end is marked. */
    if (s->after && !has_done(s, s->after, s->after_first, s->stream ? n_items(s) : item + 1)) return false;
    if (atomic_load(&r->failed)) return true;
    const berth_op *op = &p->ops[b->lane_ops[b->lane_first[s->device] + item]];
    for (; s->next_wait < op->n_waits; s->next_wait++) {
        int32_t on = p->waits[op->first_wait + s->next_wait], lane = p->ops[on].device;
        const lane_share *other = &r->shares[lane];
        if (lane != s->device && !has_done(s, other, other->first, b->lane_index[on] + 1)) return false;
    }
    return true;
}

static void wake_lanes(berth_exec *exec, uint64_t lanes)
{
    for (; lanes; lanes &= lanes - 1) berth_lane_wake(&exec->units[__builtin_ctzll(lanes)].lane);
}

static void warn_lanes(berth_exec *exec, uint64_t lanes)
{
    if (!lanes) return;
    int64_t until = berth_now_ns() + EXPECT_NS;
    for (; lanes; lanes &= lanes - 1) berth_lane_expect(&exec->units[__builtin_ctzll(lanes)].lane, until);
}

/* One lane, or the starter, is through. Nothing of the run is touched once the gate is open. */
static void let_go(berth_run *r)
{
    if (atomic_fetch_sub(&r->n_left, 1) != 1) return;
    berth_event *notify = r->options.notify;
    atomic_store(&r->over, true);
    if (notify) berth_event_advance(notify, 1);
    berth_gate_open(&r->end);
}

static void share_carry_out(berth_share *base)
{
    lane_share *s = (lane_share *)(void *)base;
    berth_run *r = s->run;
    const berth_bound *b = r->bound;
    bool is_last = base->n_left == 0;
    int32_t op = b->lane_ops[b->lane_first[s->device] + next_item(s)];
    warn_lanes(r->exec, b->expects[op]);
    if (!atomic_load(&r->failed)) do_op(r, op);
    if (op + 1 == r->options.mark && !atomic_load(&r->failed)) r->marked_ns = berth_now_ns();
    s->next_wait = 0;
    atomic_store_explicit(&s->done, atomic_load_explicit(&s->done, memory_order_relaxed) + 1, memory_order_release);
    wake_lanes(r->exec, b->wakes[op]);
    if (is_last) let_go(r);
}

/* ---- a share of a lane that queues ------------------------------------------------------------------------------ */

/* On the waiter: the host knows now. */
static void see_note(berth_share *base)
{
    const berth_note *note = (const berth_note *)(void *)base;
    lane_share *s = note->share;
    berth_run *r = s->run;
    const berth_unit *u = &r->exec->units[s->device];
    berth_error err = {0};
    berth_status st = u->backend->mark_wait(note->mark, &err);
    if (st != BERTH_OK) {
        berth_error_append(&err, "; found when work of program %s on device %s was waited for", r->bound->program->name,
                           u->info->name);
        err.device = s->device;
        note_failure(r, st, &err);
    }
    atomic_store_explicit(&s->over, note->upto, memory_order_release);
    wake_lanes(r->exec, note->wakes);
}

static void see_timed(berth_share *base)
{
    berth_run *r = ((const berth_note *)(void *)base)->share->run;
    see_note(base);
    if (!atomic_load(&r->failed)) r->marked_ns = berth_now_ns();
}

/* On the waiter, when all of the share is over, or failed: a failed run's times are only forgotten. */
static void take_times(lane_share *s)
{
    berth_run *r = s->run;
    const berth_bound *b = r->bound;
    berth_error err = {0};
    berth_status st =
        berth_copy_times_take(&b->times, b->lane_ops + b->lane_first[s->device], n_items(s), r->exec->n_units,
                              atomic_load(&r->failed) ? NULL : r->options.edge_ns, &err);
    if (st != BERTH_OK) note_failure(r, st, &err);
}

static void see_end(berth_share *base)
{
    lane_share *s = ((const berth_note *)(void *)base)->share;
    berth_run *r = s->run;
    /* Where the end could not be marked, or the wait for it failed, all of the stream is waited for: what was issued
     * uses memory that the next run uses. If that fails too, nothing runs there any more. */
    if (s->end_marked == BERTH_OK) see_note(base);
    if (s->end_marked != BERTH_OK || atomic_load(&r->failed)) {
        (void)r->exec->units[s->device].backend->stream_wait(s->stream, NULL);
        atomic_store_explicit(&s->over, s->end.upto, memory_order_release);
    }
    take_times(s);
    let_go(r);
}

static bool always(berth_share *base)
{
    (void)base;
    return true;
}

static void hand_to_waiter(berth_note *note, lane_share *s, uint64_t wakes, void (*see)(berth_share *base))
{
    note->base.is_ready = always;
    note->base.carry_out = see;
    note->base.n_left = 1;
    note->share = s;
    note->upto = atomic_load_explicit(&s->done, memory_order_relaxed);
    note->wakes = wakes;
    berth_lane_add(s->run->exec->units[s->device].waiter, &note->base);
}

/* What the run is after comes first, also where it failed: a third one may be after this. */
static berth_status await_before(lane_share *s, berth_error *err)
{
    const lane_share *after = s->after;
    const berth_backend *backend = s->run->exec->units[s->device].backend;
    if (!after || reached(&after->over, s->after_first, n_items(s))) return BERTH_OK;
    berth_status st =
        after->end_marked == BERTH_OK ? backend->mark_await(after->end.mark, s->stream, err) : BERTH_INTERNAL;
    if (st == BERTH_OK) return st;
    return backend->stream_wait(after->stream, err); /* the host waits where the stream cannot */
}

static berth_status await_others(lane_share *s, int32_t index, berth_error *err)
{
    const berth_run *r = s->run;
    const berth_bound *b = r->bound;
    const berth_backend *backend = r->exec->units[s->device].backend;
    const berth_op *op = &b->program->ops[index];
    berth_status st = BERTH_OK;
    for (int32_t k = 0; st == BERTH_OK && k < op->n_waits; k++) {
        int32_t on = b->program->waits[op->first_wait + k], lane = b->program->ops[on].device;
        if (lane != s->device && r->shares[lane].stream) st = backend->mark_await(b->notes[on].mark, s->stream, err);
    }
    return st;
}

static void fail_at(berth_run *r, int32_t op, berth_status st, const berth_error *why)
{
    op_step s = {.run = r, .op = op, .error = *why};
    if (st == BERTH_OK) return;
    name_op(&s);
    note_failure(r, st, &s.error);
}

/* Queues the i-th op from the share's next on, as a graph is made. */
static berth_status issue_ahead(void *user, int32_t i, berth_error *err)
{
    const lane_share *s = user;
    berth_run *r = s->run;
    const berth_bound *b = r->bound;
    int32_t index = b->lane_ops[b->lane_first[s->device] + next_item(s) + i];
    berth_op_call call;
    berth_bound_call(b, index, &r->sizes, &call);
    return carry_op(r, index, &call, err);
}

/* Is the op queued, by the graph of a segment that begins with it, or earlier with its segment's? */
static bool is_replayed(lane_share *s, int32_t index, berth_status *st, berth_error *err)
{
    berth_run *r = s->run;
    const berth_replay *replay = &r->bound->replay;
    int32_t item = next_item(s);
    if (item < s->issued) return true;
    if (!replay->starts || replay->starts[index] < 0 || r->options.watch || r->options.mark || r->options.label)
        return false;
    berth_segment *segment = &replay->segments[replay->starts[index]];
    const berth_segment_run run = {r->exec->units[s->device].backend, s->stream, &r->sizes, issue_ahead, s};
    bool queued;
    *st = berth_segment_queue(segment, &run, &queued, err);
    if (queued) s->issued = item + segment->n;
    return queued;
}

/* "linear text.layer.3.mlp.up cuda:0, step, requests 12 15"; ", with text.layer.3.mlp.gate" behind the device where it is
 * one with that op. */
static void begin_range(const berth_run *r, int32_t index)
{
    const berth_program *p = r->bound->program;
    const berth_op *op = &p->ops[index];
    char name[RANGE_NAME];
    berth_fused_ops fused;
    const bool away = op->kind != BERTH_OP_COPY && is_fused(r, index, &fused) && fused.first != index;
    snprintf(name, sizeof name, "%s %s %s%s%s, %s", berth_op_infos[op->kind].name, p->values[op->out].name,
             r->exec->units[op->device].info->name, away ? ", with " : "",
             away ? p->values[p->ops[fused.first].out].name : "", r->options.label);
    berth_nvtx_push(name);
}

static void issue_op(lane_share *s, int32_t index)
{
    berth_run *r = s->run;
    const berth_backend *backend = r->exec->units[s->device].backend;
    const berth_note *note = &r->bound->notes[index];
    berth_error err = {0};
    berth_status st = await_others(s, index, &err);
    if (st == BERTH_OK && !is_replayed(s, index, &st, &err)) do_op(r, index);
    if (st == BERTH_OK && note->mark && !atomic_load(&r->failed)) st = backend->mark_set(note->mark, s->stream, &err);
    if (st == BERTH_OK && index + 1 == r->options.mark) st = backend->mark_set(s->timed.mark, s->stream, &err);
    fail_at(r, index, st, &err);
}

static void share_issue(berth_share *base)
{
    lane_share *s = (lane_share *)(void *)base;
    berth_run *r = s->run;
    const berth_bound *b = r->bound;
    bool is_last = base->n_left == 0;
    int32_t op = b->lane_ops[b->lane_first[s->device] + next_item(s)];
    uint64_t wakes = b->wakes[op], of_host = wakes & ~r->exec->queueing;
    berth_error err = {0};
    if (r->options.label) begin_range(r, op);
    if (next_item(s) == 0) fail_at(r, op, await_before(s, &err), &err);
    if (!atomic_load(&r->failed)) issue_op(s, op);
    if (r->options.label) berth_nvtx_pop();
    if (is_last) {
        s->end_marked = r->exec->units[s->device].backend->mark_set(s->end.mark, s->stream, &err);
        fail_at(r, op, s->end_marked, &err);
    }
    s->next_wait = 0;
    atomic_store_explicit(&s->done, atomic_load_explicit(&s->done, memory_order_relaxed) + 1, memory_order_release);
    /* Of a run that failed nobody waits for anything. One that fails after this look has a note on its way. */
    bool failed = atomic_load(&r->failed);
    if (op + 1 == r->options.mark && !failed) hand_to_waiter(&s->timed, s, 0, see_timed);
    if (of_host && !failed) hand_to_waiter(&b->notes[op], s, of_host, see_note);
    wake_lanes(r->exec, failed ? wakes : wakes & r->exec->queueing);
    if (is_last) hand_to_waiter(&s->end, s, 0, see_end);
}

/* ---- runs ------------------------------------------------------------------------------------------------------- */

static berth_status make_share(berth_run *r, int32_t d, bool has_ops, berth_error *err)
{
    lane_share *s = &r->shares[d];
    berth_unit *u = &r->exec->units[d];
    bool queues = u->backend->queues;
    s->base = (berth_share){.is_ready = share_is_ready, .carry_out = queues ? share_issue : share_carry_out};
    s->run = r;
    s->device = d;
    if (!queues || !has_ops) return BERTH_OK;
    berth_status st = u->backend->stream_create(u, &s->stream, err);
    if (st == BERTH_OK) st = u->backend->mark_create(u, BERTH_MARK_FOR_HOST, &s->end.mark, err);
    return st == BERTH_OK ? u->backend->mark_create(u, BERTH_MARK_FOR_HOST, &s->timed.mark, err) : st;
}

berth_status berth_run_create(berth_exec *exec, uint64_t lanes, berth_run **out, berth_error *err)
{
    *out = NULL;
    size_t size = sizeof(berth_run) + (size_t)exec->n_units * sizeof(lane_share);
    berth_run *r = aligned_alloc(_Alignof(berth_run), size);
    if (!r) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a run over %d devices", (int)exec->n_units);
    memset(r, 0, size);
    r->exec = exec;
    r->may_use = lanes;
    pthread_mutex_init(&r->lock, NULL);
    berth_gate_init(&r->end);
    atomic_init(&r->over, true);
    berth_status st = BERTH_OK;
    for (int32_t d = 0; st == BERTH_OK && d < exec->n_units; d++) st = make_share(r, d, lanes >> d & 1, err);
    if (st != BERTH_OK) {
        berth_run_destroy(r);
        return st;
    }
    *out = r;
    return BERTH_OK;
}

void berth_run_destroy(berth_run *r)
{
    if (!r) return;
    for (int32_t d = 0; d < r->exec->n_units; d++) {
        const berth_backend *backend = r->exec->units[d].backend;
        if (!backend->queues) continue;
        backend->stream_destroy(r->shares[d].stream);
        backend->mark_destroy(r->shares[d].end.mark);
        backend->mark_destroy(r->shares[d].timed.mark);
    }
    pthread_mutex_destroy(&r->lock);
    free(r);
}

bool berth_run_over(const berth_run *r)
{
    return atomic_load(&r->over);
}

int64_t berth_run_marked_ns(const berth_run *r)
{
    return r->marked_ns;
}

static void prepare_shares(berth_run *r, const berth_run *after)
{
    const berth_bound *b = r->bound;
    int32_t n_lanes = 0;
    r->lanes = 0;
    for (int32_t d = 0; d < r->exec->n_units; d++) {
        lane_share *s = &r->shares[d];
        s->base.n_left = b->lane_first[d + 1] - b->lane_first[d];
        if (s->base.n_left == 0) continue;
        r->lanes |= (uint64_t)1 << d;
        n_lanes++;
        s->first = atomic_load_explicit(&s->done, memory_order_relaxed);
        s->next_wait = s->issued = 0;
        s->after = after ? &after->shares[d] : NULL;
        s->after_first = after ? after->shares[d].first : 0;
    }
    atomic_store(&r->n_left, n_lanes + 1);
}

berth_status berth_run_start(berth_run *r, const berth_bound *b, const berth_sizes *sizes,
                             const berth_run_options *options, berth_error *err)
{
    const berth_run *after = options ? options->after : NULL;
    if (after && berth_run_over(after)) after = NULL;
    if (!berth_run_over(r))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "program %s: the run is in flight already; finish it first",
                          b->program->name);
    if (after && after->bound->program != b->program)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "program %s cannot go after program %s, which is in flight: ops are matched one by one",
                          b->program->name, after->bound->program->name);
    if (b->lanes & ~r->may_use)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "program %s has ops on lanes that the run was not made for",
                          b->program->name);
    berth_gate_wait(&r->end); /* over, but its last lane may not have let go yet */
    r->bound = b;
    r->sizes = *sizes;
    r->options = options ? *options : (berth_run_options){0};
    r->status = BERTH_OK;
    r->marked_ns = 0;
    atomic_store(&r->failed, false);
    atomic_store(&r->over, false);
    berth_gate_close(&r->end);
    prepare_shares(r, after);
    for (uint64_t lanes = r->lanes; lanes; lanes &= lanes - 1) {
        int32_t d = __builtin_ctzll(lanes);
        berth_lane_add(&r->exec->units[d].lane, &r->shares[d].base);
    }
    let_go(r);
    return BERTH_OK;
}

berth_status berth_run_finish(berth_run *r, berth_error *err)
{
    berth_exec *exec = r->exec;
    berth_gate_wait(&r->end);
    if (exec->strict && r->bound) {
        pthread_mutex_lock(&exec->strict_lock);
        berth_strict_take_host(exec->strict, r->bound->host);
        berth_strict_only(exec->strict, BERTH_DEVICE_HOST);
        pthread_mutex_unlock(&exec->strict_lock);
    }
    if (r->status != BERTH_OK && err) *err = r->error;
    return r->status;
}

berth_status berth_run_program(berth_run *r, const berth_bound *b, const berth_sizes *sizes, const berth_watch *watch,
                               uint64_t *edge_bytes, berth_error *err)
{
    const berth_run_options options = {.watch = watch, .edge_bytes = edge_bytes};
    berth_status st = berth_run_start(r, b, sizes, &options, err);
    return st == BERTH_OK ? berth_run_finish(r, err) : st;
}
