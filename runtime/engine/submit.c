/* submit.c - the ways into the queue: submit, reserve, cancel, and waiting for one request. */
#include "engine/core.h"

berth_status berth_core_reserve(berth_core *core, berth_error *err)
{
    return berth_job_queue_reserve(&core->queue, err);
}

void berth_core_unreserve(berth_core *core)
{
    berth_job_queue_unreserve(&core->queue);
}

berth_status berth_core_submit_reserved(berth_core *core, const berth_core_request *q, uint64_t *out_id,
                                        berth_error *err)
{
    berth_status st = berth_core_check_request(core, q, err);
    if (st != BERTH_OK) {
        berth_core_unreserve(core);
        return st;
    }
    berth_job_queue_push(&core->queue, q, (int64_t)q->n_ids + q->max_new, -1, out_id);
    berth_event_advance(&core->wake, 1);
    return BERTH_OK;
}

berth_status berth_core_submit(berth_core *core, const berth_core_request *q, uint64_t *out_id, berth_error *err)
{
    berth_status st = berth_core_reserve(core, err);
    return st == BERTH_OK ? berth_core_submit_reserved(core, q, out_id, err) : st;
}

bool berth_core_cancel(berth_core *core, uint64_t id)
{
    bool found = berth_job_queue_cancel(&core->queue, id);
    if (found) berth_event_advance(&core->wake, 1);
    return found;
}

/* ---- waiting for one -------------------------------------------------------------------------------------------- */

typedef struct waiter {
    const berth_core_request *caller;
    pthread_mutex_t lock;
    pthread_cond_t over;
    bool is_over;
    berth_status status;
    berth_core_result *out;
    berth_error *err;
} waiter;

static bool pass_token(void *user, int32_t index, int32_t id, const float *logits)
{
    const waiter *w = user;
    return w->caller->on_token(w->caller->user, index, id, logits);
}

static void note_end(void *user, berth_status st, berth_core_result *take_result, const berth_error *why)
{
    waiter *w = user;
    w->status = st;
    *w->out = *take_result;
    if (st != BERTH_OK && w->err) *w->err = *why;
    pthread_mutex_lock(&w->lock);
    w->is_over = true;
    pthread_cond_signal(&w->over); /* under the lock: the waiter's stack is gone soon after */
    pthread_mutex_unlock(&w->lock);
}

berth_status berth_core_run(berth_core *core, const berth_core_request *request, berth_core_result *out,
                            berth_error *err)
{
    waiter w = {.caller = request, .out = out, .err = err};
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.over, NULL);
    berth_core_request q = *request;
    q.on_token = request->on_token ? pass_token : NULL;
    q.on_end = note_end;
    q.user = &w;
    *out = (berth_core_result){0};
    berth_status st = berth_core_submit(core, &q, NULL, err);
    pthread_mutex_lock(&w.lock);
    while (st == BERTH_OK && !w.is_over) pthread_cond_wait(&w.over, &w.lock);
    pthread_mutex_unlock(&w.lock);
    pthread_mutex_destroy(&w.lock);
    pthread_cond_destroy(&w.over);
    return st == BERTH_OK ? w.status : st;
}
