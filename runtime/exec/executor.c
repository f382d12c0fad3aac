/* executor.c - runs of bound programs over the lanes, and a run's share of a lane that computes.
 *
 * The thing easy to get wrong is the end: once the last lane has let go of a run, its owner may use or free it at once. */
#include "exec/executor.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "exec/run_internal.h"

enum { EXPECT_NS = 2000000 }; /* a lane told that it will be needed stays awake so long: a few ops */

/* ---- a run's share of a lane ------------------------------------------------------------------------------------ */

/* n ops of `other`, of the run that is or was there since `first`, are far enough for `s` to go on. */
static bool has_done(const berth_lane_share *s, const berth_lane_share *other, uint32_t first, int32_t n)
{
    return berth_share_reached(other->stream && !s->stream ? &other->over : &other->done, first, n);
}

static bool share_is_ready(berth_share *base)
{
    berth_lane_share *s = (berth_lane_share *)(void *)base;
    berth_run *r = s->run;
    const berth_bound *b = r->bound;
    const berth_program *p = b->program;
    int32_t item = berth_share_next(s);
    /* Also for a run that failed: what comes after it comes after those before it too. Where ops are queued, all of this
     * run's come after all of that one's, whose end is marked. */
    if (s->after && !has_done(s, s->after, s->after_first, s->stream ? berth_share_n(s) : item + 1)) return false;
    if (atomic_load(&r->failed)) return true;
    const berth_op *op = &p->ops[berth_share_op(s, 0)];
    for (; s->next_wait < op->n_waits; s->next_wait++) {
        int32_t on = p->waits[op->first_wait + s->next_wait], lane = p->ops[on].device;
        const berth_lane_share *other = &r->shares[lane];
        if (lane != s->device && !has_done(s, other, other->first, b->lane_index[on] + 1)) return false;
    }
    return true;
}

void berth_exec_wake(berth_exec *exec, uint64_t lanes)
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
void berth_run_let_go(berth_run *r)
{
    if (atomic_fetch_sub(&r->n_left, 1) != 1) return;
    berth_event *notify = r->options.notify;
    atomic_store(&r->over, true);
    if (notify) berth_event_advance(notify, 1);
    berth_gate_open(&r->end);
}

static void share_carry_out(berth_share *base)
{
    berth_lane_share *s = (berth_lane_share *)(void *)base;
    berth_run *r = s->run;
    const berth_bound *b = r->bound;
    bool is_last = base->n_left == 0;
    int32_t op = berth_share_op(s, 0);
    warn_lanes(r->exec, b->expects[op]);
    if (!atomic_load(&r->failed)) berth_run_do(r, op);
    if (op + 1 == r->options.mark && !atomic_load(&r->failed)) r->marked_ns = berth_now_ns();
    berth_share_step(s);
    berth_exec_wake(r->exec, b->wakes[op]);
    if (is_last) berth_run_let_go(r);
}

/* ---- runs ------------------------------------------------------------------------------------------------------- */

static berth_status make_share(berth_run *r, int32_t d, bool has_ops, berth_error *err)
{
    berth_lane_share *s = &r->shares[d];
    berth_unit *u = &r->exec->units[d];
    bool queues = u->backend->queues;
    s->base = (berth_share){.is_ready = share_is_ready, .carry_out = queues ? berth_share_issue : share_carry_out};
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
    size_t size = sizeof(berth_run) + (size_t)exec->n_units * sizeof(berth_lane_share);
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
        berth_lane_share *s = &r->shares[d];
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
    berth_run_let_go(r);
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
