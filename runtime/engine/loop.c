/* loop.c - a replica's loop: takes requests from the engine's queue and runs them. */
#include "base/clock.h"
#include "engine/session.h"
#include "engine/team.h"

static bool may_start(void *user, const berth_job *job)
{
    (void)user;
    (void)job;
    return true;
}

static void carry_out(berth_replica *r, berth_job *job)
{
    berth_core *core = r->core;
    berth_core_result result;
    berth_error err = {0};
    const berth_core_request *q = job->request;
    if (core->exec.strict) pthread_mutex_lock(&core->strict_turn);
    berth_status st = berth_replica_run(r, job, &result, &err);
    if (core->exec.strict) pthread_mutex_unlock(&core->strict_turn);
    berth_job_queue_give_back(&core->queue, job);
    q->on_end(q->user, st, &result, &err);
}

static void *loop_body(void *arg)
{
    berth_replica *r = arg;
    berth_core *core = r->core;
    for (;;) {
        uint32_t seen = berth_event_value(&core->wake);
        berth_job *job = berth_job_queue_take(&core->queue, r->index, berth_now_ns(), may_start, NULL);
        if (job)
            carry_out(r, job);
        else if (atomic_load(&core->is_ending) && berth_job_queue_waiting(&core->queue) == 0)
            return NULL;
        else
            berth_event_wait(&core->wake, seen + 1, 0);
    }
}

berth_status berth_replica_start(berth_replica *r, berth_error *err)
{
    berth_status st = berth_thread_start(&r->thread, loop_body, r, NULL, 0, err);
    r->runs = st == BERTH_OK;
    return st;
}

void berth_replica_join(berth_replica *r)
{
    if (r->runs) berth_thread_join(r->thread);
    r->runs = false;
}
