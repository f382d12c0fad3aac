/* run_queue.c - a run's share of a lane that queues.
 *
 * Who goes by `done` and who by `over` follows from one rule: what is queued may wait for what was queued before it, the
 * host must know. The waiter's items are notes, one for each op that a lane of the other sort waits for and one for the
 * share's end; they come in the order of issue, so a note may be used again once its run is over. */
#include <stdio.h>

#include "base/clock.h"
#include "cuda/nvtx.h"
#include "exec/run_internal.h"

enum { RANGE_NAME = 256 };

/* On the waiter: the host knows now. */
static void see_note(berth_share *base)
{
    const berth_note *note = (const berth_note *)(void *)base;
    berth_lane_share *s = note->share;
    berth_run *r = s->run;
    const berth_unit *u = &r->exec->units[s->device];
    berth_error err = {0};
    berth_status st = u->backend->mark_wait(note->mark, &err);
    if (st != BERTH_OK) {
        berth_error_append(&err, "; found when work of program %s on device %s was waited for", r->bound->program->name,
                           u->info->name);
        err.device = s->device;
        berth_run_fail(r, st, &err);
    }
    atomic_store_explicit(&s->over, note->upto, memory_order_release);
    berth_exec_wake(r->exec, note->wakes);
}

static void see_timed(berth_share *base)
{
    berth_run *r = ((const berth_note *)(void *)base)->share->run;
    see_note(base);
    if (!atomic_load(&r->failed)) r->marked_ns = berth_now_ns();
}

/* On the waiter, when all of the share is over, or failed: a failed run's times are only forgotten. */
static void take_times(berth_lane_share *s)
{
    berth_run *r = s->run;
    const berth_bound *b = r->bound;
    berth_error err = {0};
    berth_status st =
        berth_copy_times_take(&b->times, b->lane_ops + b->lane_first[s->device], berth_share_n(s), r->exec->n_units,
                              atomic_load(&r->failed) ? NULL : r->options.edge_ns, &err);
    if (st != BERTH_OK) berth_run_fail(r, st, &err);
}

static void see_end(berth_share *base)
{
    berth_lane_share *s = ((const berth_note *)(void *)base)->share;
    berth_run *r = s->run;
    /* Where the end could not be marked, or the wait for it failed, all of the stream is waited for: what was issued
     * uses memory that the next run uses. If that fails too, nothing runs there any more. */
    if (s->end_marked == BERTH_OK) see_note(base);
    if (s->end_marked != BERTH_OK || atomic_load(&r->failed)) {
        (void)r->exec->units[s->device].backend->stream_wait(s->stream, NULL);
        atomic_store_explicit(&s->over, s->end.upto, memory_order_release);
    }
    take_times(s);
    berth_run_let_go(r);
}

static bool always(berth_share *base)
{
    (void)base;
    return true;
}

static void hand_to_waiter(berth_note *note, berth_lane_share *s, uint64_t wakes, void (*see)(berth_share *base))
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
static berth_status await_before(berth_lane_share *s, berth_error *err)
{
    const berth_lane_share *after = s->after;
    const berth_backend *backend = s->run->exec->units[s->device].backend;
    if (!after || berth_share_reached(&after->over, s->after_first, berth_share_n(s))) return BERTH_OK;
    berth_status st =
        after->end_marked == BERTH_OK ? backend->mark_await(after->end.mark, s->stream, err) : BERTH_INTERNAL;
    if (st == BERTH_OK) return st;
    return backend->stream_wait(after->stream, err); /* the host waits where the stream cannot */
}

static berth_status await_others(berth_lane_share *s, int32_t index, berth_error *err)
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

/* Queues the i-th op from the share's next on, as a graph is made. */
static berth_status issue_ahead(void *user, int32_t i, berth_error *err)
{
    const berth_lane_share *s = user;
    berth_run *r = s->run;
    const berth_bound *b = r->bound;
    int32_t index = berth_share_op(s, i);
    berth_op_call call;
    berth_bound_call(b, index, &r->sizes, &call);
    return berth_run_op(r, index, &call, err);
}

/* Is the op queued, by the graph of a segment that begins with it, or earlier with its segment's? */
static bool is_replayed(berth_lane_share *s, int32_t index, berth_status *st, berth_error *err)
{
    berth_run *r = s->run;
    const berth_replay *replay = &r->bound->replay;
    int32_t item = berth_share_next(s);
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
    const bool away = op->kind != BERTH_OP_COPY && berth_run_fuses(r, index, &fused) && fused.first != index;
    snprintf(name, sizeof name, "%s %s %s%s%s, %s", berth_op_infos[op->kind].name, p->values[op->out].name,
             r->exec->units[op->device].info->name, away ? ", with " : "",
             away ? p->values[p->ops[fused.first].out].name : "", r->options.label);
    berth_nvtx_push(name);
}

static void issue_op(berth_lane_share *s, int32_t index)
{
    berth_run *r = s->run;
    const berth_backend *backend = r->exec->units[s->device].backend;
    const berth_note *note = &r->bound->notes[index];
    berth_error err = {0};
    berth_status st = await_others(s, index, &err);
    if (st == BERTH_OK && !is_replayed(s, index, &st, &err)) berth_run_do(r, index);
    if (st == BERTH_OK && note->mark && !atomic_load(&r->failed)) st = backend->mark_set(note->mark, s->stream, &err);
    if (st == BERTH_OK && index + 1 == r->options.mark) st = backend->mark_set(s->timed.mark, s->stream, &err);
    berth_run_fail_at(r, index, st, &err);
}

void berth_share_issue(berth_share *base)
{
    berth_lane_share *s = (berth_lane_share *)(void *)base;
    berth_run *r = s->run;
    const berth_bound *b = r->bound;
    bool is_last = base->n_left == 0;
    int32_t op = berth_share_op(s, 0);
    uint64_t wakes = b->wakes[op], of_host = wakes & ~r->exec->queueing;
    berth_error err = {0};
    if (r->options.label) begin_range(r, op);
    if (berth_share_next(s) == 0) berth_run_fail_at(r, op, await_before(s, &err), &err);
    if (!atomic_load(&r->failed)) issue_op(s, op);
    if (r->options.label) berth_nvtx_pop();
    if (is_last) {
        s->end_marked = r->exec->units[s->device].backend->mark_set(s->end.mark, s->stream, &err);
        berth_run_fail_at(r, op, s->end_marked, &err);
    }
    berth_share_step(s);
    /* Of a run that failed nobody waits for anything. One that fails after this look has a note on its way. */
    bool failed = atomic_load(&r->failed);
    if (op + 1 == r->options.mark && !failed) hand_to_waiter(&s->timed, s, 0, see_timed);
    if (of_host && !failed) hand_to_waiter(&b->notes[op], s, of_host, see_note);
    berth_exec_wake(r->exec, failed ? wakes : wakes & r->exec->queueing);
    if (is_last) hand_to_waiter(&s->end, s, 0, see_end);
}
