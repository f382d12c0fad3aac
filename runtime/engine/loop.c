/* loop.c - a replica's thread. A turn: finished passes give their requests what they made, requests that are over end,
 * waiting ones start while there is room, and free passes are filled and put on the lanes. Then it sleeps until
 * something happens; an idle engine takes no processor time. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "engine/core.h"
#include "exec/team.h"

/* ---- passes ----------------------------------------------------------------------------------------------------- */

static void take_finished(berth_pass *p)
{
    berth_error err = {0};
    berth_status st = berth_pass_finish(p, &err);
    if (st == BERTH_OK) {
        berth_tokens_take(p);
        return;
    }
    berth_lost_look(p->replica, st, &err);
    for (int32_t i = 0; i < p->n_items; i++) berth_active_fail(p->items[i].who, st, &err);
    berth_blocks_forget_all(&p->replica->kv);
    berth_blocks_forget_all(&p->replica->features);
}

static bool follows_one_in_flight(const berth_pass *p)
{
    return p->after && p->after->in_flight && p->after->order == p->after_order;
}

/* A prompt's chunks in order; besides, whichever is over. */
static bool take_all_finished(berth_replica *r)
{
    bool any = false;
    for (;;) {
        berth_pass *next = NULL;
        for (int32_t i = 0; i < r->n_passes; i++) {
            berth_pass *p = &r->passes[i];
            if (!p->in_flight || !berth_run_over(p->run) || follows_one_in_flight(p)) continue;
            if (!next || p->order < next->order) next = p;
        }
        if (!next) return any;
        take_finished(next);
        any = true;
    }
}

static int which_of(const berth_active *a, const berth_bound *b)
{
    return b == &a->replica->passes[0].bound[BERTH_ENCODE] ? BERTH_ENCODE : BERTH_STEP;
}

static bool tap_wants(void *user, const berth_bound *b, int32_t op)
{
    const berth_active *a = user;
    return a->wanted[which_of(a, b)][b->program->ops[op].out];
}

static void tap_see(void *user, const berth_bound *b, int32_t op, const berth_op_call *call)
{
    const berth_active *a = user;
    const berth_tap *tap = a->request->tap;
    tap->see(tap->user, b->program->name, b->program->values[b->program->ops[op].out].name, a->n_passes[which_of(a, b)],
             &call->out);
}

static void start(berth_pass *p, const berth_pass *after)
{
    berth_active *first = p->items[0].who;
    const berth_watch watch = {.see = tap_see, .user = first, .wants = tap_wants};
    berth_error err = {0};
    berth_status st = berth_pass_start(p, after, first->request->tap ? &watch : NULL, &err);
    if (st == BERTH_OK) return;
    berth_lost_look(p->replica, st, &err);
    for (int32_t i = 0; i < p->n_items; i++) berth_active_fail(p->items[i].who, st, &err);
}

static bool has_sick(const berth_replica *r)
{
    for (int32_t i = 0; i < r->n_actives; i++)
        if (r->actives[i]->n_sick > 0) return true;
    return false;
}

/* In strict mode a pass runs to its end at once: memory is open to one op, or to the host, of one replica. */
static bool start_strict(berth_replica *r)
{
    const berth_pass *after;
    bool any = false;
    pthread_mutex_lock(&r->core->strict_turn);
    if (berth_schedule(r, &r->passes[0], &after)) {
        start(&r->passes[0], NULL);
        if (r->passes[0].in_flight) take_finished(&r->passes[0]);
        any = true;
    }
    pthread_mutex_unlock(&r->core->strict_turn);
    return any;
}

static bool start_passes(berth_replica *r)
{
    bool any = false;
    if (has_sick(r)) return false; /* first everything in flight has to end */
    if (r->core->options.strict) return start_strict(r);
    for (int32_t i = 0; i < r->n_passes; i++) {
        berth_pass *p = &r->passes[i];
        const berth_pass *after;
        if (p->in_flight) continue;
        if (!berth_schedule(r, p, &after)) break;
        start(p, after);
        any = true;
    }
    return any;
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

static void remove_active(berth_replica *r, int32_t at)
{
    berth_active *a = r->actives[at];
    r->n_actives--;
    for (int32_t i = at; i < r->n_actives; i++) r->actives[i] = r->actives[i + 1];
    if (r->turn > at) r->turn--;
    if (r->turn >= r->n_actives) r->turn = 0;
    atomic_store(&r->load, r->n_actives);
    if (berth_active_may_move(a))
        berth_active_move(a);
    else
        berth_active_end(a);
}

static bool end_those_over(berth_replica *r)
{
    int64_t now = berth_now_ns();
    bool any = false;
    for (int32_t i = 0; i < r->n_actives;) {
        berth_active *a = r->actives[i];
        if (berth_job_cancelled(a->job)) berth_active_finish(a, BERTH_FINISH_CANCELLED);
        if (berth_job_expired(a->job, now)) berth_active_finish(a, BERTH_FINISH_DEADLINE);
        if (a->n_sick > 0 && r->n_flying == 0) berth_numeric_diagnose(a);
        bool over = a->phase == BERTH_PHASE_OVER && a->n_flying == 0 && a->n_sick == 0;
        if (!over) {
            i++;
            continue;
        }
        remove_active(r, i);
        any = true;
    }
    return any;
}

/* Is there room for it here, and no replica that has less to do? */
static bool may_start(void *user, const berth_job *job)
{
    berth_replica *r = user;
    const berth_core *core = r->core;
    const berth_core_request *q = job->request;
    if (r->n_actives >= core->plan->config.n_seqs) return false;
    for (int32_t i = 0; i < core->n_replicas && job->replica < 0; i++)
        if (berth_replica_lives(&core->replicas[i]) && atomic_load(&core->replicas[i].load) < r->n_actives)
            return false;
    if (q->n_tiles > berth_blocks_available(&r->features)) return false;
    int64_t blocks = (berth_active_needs(core, q).rows + r->kv.block - 1) / r->kv.block;
    return berth_session_make_room(r, q->session, (int32_t)blocks);
}

/* One that never started, cancelled or too late. */
static void end_waiting(berth_replica *r, berth_job *job)
{
    const berth_core_request *q = job->request;
    size_t n = ((size_t)r->core->exec.n_units + 1) * ((size_t)r->core->exec.n_units + 1);
    berth_core_result result = {
        .finish = berth_job_cancelled(job) ? BERTH_FINISH_CANCELLED : BERTH_FINISH_DEADLINE,
        .replica = r->index,
        .ids = calloc(1, sizeof *result.ids),
        .edge_bytes = calloc(2 * n, sizeof *result.edge_bytes),
    };
    if (result.edge_bytes) result.edge_ns = result.edge_bytes + n;
    berth_error err = {0};
    berth_status st = BERTH_OK;
    result.timing.total_ns = result.timing.queue_ns = berth_now_ns() - job->submitted_ns;
    if (!result.ids || !result.edge_bytes) {
        berth_core_result_deinit(&result);
        st = BERTH_FAIL(&err, BERTH_OUT_OF_MEMORY, "a result");
    }
    if (q->session) berth_session_let_go(q->session, r);
    berth_replica_count_end(r, job);
    q->on_end(q->user, st, &result, &err);
}

static void start_job(berth_replica *r, berth_job *job)
{
    const berth_core_request *q = job->request;
    berth_active *a = NULL;
    berth_error err = {0};
    berth_status st = berth_active_create(r, job, &a, &err);
    if (!a) {
        berth_core_result none = {0};
        if (q->session) berth_session_let_go(q->session, r);
        berth_replica_count_end(r, job);
        q->on_end(q->user, st, &none, &err);
        return;
    }
    if (st != BERTH_OK) berth_active_fail(a, st, &err);
    r->actives[r->n_actives++] = a;
    atomic_store(&r->load, r->n_actives);
}

static bool admit(berth_replica *r)
{
    berth_core *core = r->core;
    bool any = false;
    for (;;) {
        int64_t now = berth_now_ns();
        berth_job *job = berth_job_queue_take(&core->queue, r->index, now, may_start, r);
        if (!job && r->n_actives == 0) job = berth_job_queue_take_bound(&core->queue, r->index, may_start, r);
        if (!job) return any;
        if (berth_job_cancelled(job) || berth_job_expired(job, now))
            end_waiting(r, job);
        else
            start_job(r, job);
        any = true;
    }
}

/* ---- a replica that is lost ------------------------------------------------------------------------------------- */

static void fail_actives(berth_replica *r)
{
    berth_error err = {0};
    if (r->n_actives == 0) return;
    berth_status st = berth_lost_error(r->core, &err);
    for (int32_t i = 0; i < r->n_actives; i++) {
        berth_active *a = r->actives[i];
        a->n_sick = 0; /* nobody can look where it began */
        if (a->phase != BERTH_PHASE_OVER) berth_active_fail(a, st, &err);
    }
}

static bool anyone(void *user, const berth_job *job)
{
    (void)user;
    (void)job;
    return true;
}

static void refuse_waiting(berth_replica *r, berth_job *job)
{
    const berth_core_request *q = job->request;
    berth_core_result none = {0};
    berth_error err = {0};
    berth_status st = berth_lost_error(r->core, &err);
    if (q->session) berth_session_let_go(q->session, r);
    berth_replica_count_end(r, job);
    q->on_end(q->user, st, &none, &err);
}

/* What waits for this replica may go to any other. Where no replica is left, what waits ends. */
static bool hand_over(berth_replica *r)
{
    berth_core *core = r->core;
    bool any = false;
    berth_sessions_forget_all(r);
    if (berth_job_queue_unbind(&core->queue, r->index)) berth_core_wake(core);
    for (;;) {
        int64_t now = berth_now_ns();
        bool is_last = berth_core_n_living(core) == 0;
        berth_job *job = berth_job_queue_take(&core->queue, r->index, now, is_last ? anyone : NULL, r);
        if (!job) return any;
        if (berth_job_cancelled(job) || berth_job_expired(job, now))
            end_waiting(r, job);
        else
            refuse_waiting(r, job);
        any = true;
    }
}

/* ---- calls from other threads ----------------------------------------------------------------------------------- */

void berth_replica_call(berth_replica *r, void (*fn)(berth_replica *r, void *arg), void *arg)
{
    berth_loop_call call = {.fn = fn, .arg = arg};
    pthread_mutex_lock(&r->calls_lock);
    call.next = r->calls;
    r->calls = &call;
    atomic_store(&r->has_calls, true);
    berth_event_advance(&r->wake, 1);
    while (!call.is_over) pthread_cond_wait(&r->calls_done, &r->calls_lock);
    pthread_mutex_unlock(&r->calls_lock);
}

static bool do_calls(berth_replica *r)
{
    if (!atomic_load(&r->has_calls)) return false;
    pthread_mutex_lock(&r->calls_lock);
    atomic_store(&r->has_calls, false);
    for (; r->calls; r->calls = r->calls->next) {
        r->calls->fn(r, r->calls->arg);
        r->calls->is_over = true;
    }
    berth_replica_count_kv(r);
    pthread_cond_broadcast(&r->calls_done);
    pthread_mutex_unlock(&r->calls_lock);
    return true;
}

/* ---- the thread ------------------------------------------------------------------------------------------------- */

static bool take_turn(berth_replica *r)
{
    bool any = take_all_finished(r);
    any |= do_calls(r);
    if (!berth_replica_lives(r)) fail_actives(r);
    any |= end_those_over(r);
    any |= berth_replica_lives(r) ? admit(r) : hand_over(r);
    if (berth_replica_lives(r)) any |= start_passes(r);
    any |= end_those_over(r); /* what strict mode finished, what could not be started */
    berth_replica_count_kv(r);
    return any;
}

static bool may_end(berth_replica *r)
{
    return atomic_load(&r->core->is_ending) && r->n_actives == 0 && r->n_flying == 0 &&
           berth_job_queue_is_idle(&r->core->queue); /* also of others': a lost replica's may come here */
}

static void sleep_until_something(berth_replica *r, uint32_t seen)
{
    int64_t deadline = r->n_flying > 0 ? INT64_MAX : berth_job_queue_next_deadline(&r->core->queue);
    if (deadline == INT64_MAX)
        berth_event_wait(&r->wake, seen + 1, 0);
    else
        berth_event_wait_until(&r->wake, seen + 1, 0, deadline);
}

/* The loop's own work is told in processor time: on a busy machine its thread waits for a core in the midst of it. */
static void *loop_body(void *arg)
{
    berth_replica *r = arg;
    int64_t own = berth_thread_ns(), at = berth_now_ns();
    for (;;) {
        uint32_t seen = berth_event_value(&r->wake);
        bool any = take_turn(r), busy = r->n_flying > 0;
        if (!any && may_end(r)) break;
        if (!any) {
            int64_t before = own;
            own = berth_thread_ns();
            berth_count(&r->loop_ns, own - before);
            sleep_until_something(r, seen);
        }
        int64_t now = berth_now_ns();
        if (busy) berth_count(&r->busy_ns, now - at);
        at = now;
    }
    berth_core_wake(r->core); /* others that wait for the end of all */
    return NULL;
}

berth_status berth_replica_start(berth_replica *r, berth_error *err)
{
    berth_thread_label label = {.watch = r->core->options.threads};
    snprintf(label.name, sizeof label.name, "loop %d", (int)r->index);
    berth_status st = berth_thread_start(&r->thread, loop_body, r, NULL, 0, &label, err);
    r->runs = st == BERTH_OK;
    return st;
}

void berth_replica_join(berth_replica *r)
{
    if (r->runs) berth_thread_join(r->thread);
    r->runs = false;
}
