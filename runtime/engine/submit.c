/* submit.c - the ways in: is a request possible at all, submit, reserve, cancel, and waiting for one request. */
#include <stdlib.h>

#include "engine/core.h"

/* ---- checks ----------------------------------------------------------------------------------------------------- */

static berth_status check_tiles(const berth_core *core, const berth_core_request *q, berth_error *err)
{
    const berth_model_config *m = berth_model_data_config(core->plan->model);
    const berth_status bad = BERTH_INVALID_ARGUMENT;
    int32_t most = core->plan->config.max_tiles, n = q->n_tiles;
    if (n < 0 || (n > 0 && !q->pixels && !q->tile_pixels))
        return BERTH_FAIL(err, bad, "%d image tiles without pixels", (int)n);
    if (n > 0 && !m->has_vision) return BERTH_FAIL(err, bad, "an image for a model that reads text only");
    if (n > most)
        return BERTH_FAIL(err, bad, "the images of the request have %d tiles; at most %d fit the feature store", (int)n,
                          (int)most);
    int64_t have = q->image_token_id >= 0 ? berth_count_id(q->ids, q->n_ids, q->image_token_id) : 0;
    int64_t want = n > 0 ? (int64_t)n * m->vision.tokens_per_tile : 0;
    if (have == want) return BERTH_OK;
    return BERTH_FAIL(
        err, bad, "the prompt has %lld image tokens (id %d), the images have %d tiles and need %lld: %d for each tile",
        (long long)have, (int)q->image_token_id, (int)n, (long long)want,
        m->has_vision ? (int)m->vision.tokens_per_tile : 0);
}

static berth_status check_ids(const int32_t *ids, int32_t n, int32_t besides, int32_t vocab, berth_error *err)
{
    for (int32_t i = 0; i < n; i++)
        if ((ids[i] < 0 || ids[i] >= vocab) && (besides < 0 || ids[i] != besides))
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                              "token id %d at position %d is outside the model's vocabulary of %d", (int)ids[i], (int)i,
                              (int)vocab);
    return BERTH_OK;
}

static berth_status check_request(const berth_core *core, const berth_core_request *q, berth_error *err)
{
    const berth_model_config *m = berth_model_data_config(core->plan->model);
    const berth_status bad = BERTH_INVALID_ARGUMENT;
    int64_t context = core->plan->config.context;
    if (q->n_ids < 1 || !q->ids) return BERTH_FAIL(err, bad, "the prompt is empty: at least one token is needed");
    if (q->n_ids > context)
        return BERTH_FAIL(
            err, bad,
            "the prompt has %d tokens, the context %lld: it is too long; shorten it or ask for a longer context",
            (int)q->n_ids, (long long)context);
    if (q->speculate < 0 || q->speculate > core->plan->config.draft)
        return BERTH_FAIL(err, bad,
                          "%d tokens to be guessed a step; the engine was made for at most %d (plan option draft)",
                          (int)q->speculate, (int)core->plan->config.draft);
    if (q->max_new < 0)
        return BERTH_FAIL(err, bad, "%d new tokens asked for; it must not be negative", (int)q->max_new);
    berth_status st = check_tiles(core, q, err);
    if (st == BERTH_OK) st = check_ids(q->ids, q->n_ids, q->n_tiles > 0 ? q->image_token_id : -1, m->text.vocab, err);
    if (st == BERTH_OK && q->n_forced > 0) st = check_ids(q->forced, q->n_forced, -1, m->text.vocab, err);
    return st == BERTH_OK ? berth_sampling_check(&q->sampling, err) : st;
}

/* ---- submitting ------------------------------------------------------------------------------------------------- */

void berth_core_wake(berth_core *core)
{
    for (int32_t i = 0; i < core->n_replicas; i++) berth_event_advance(&core->replicas[i].wake, 1);
}

berth_status berth_core_reserve(berth_core *core, berth_error *err)
{
    if (berth_core_n_living(core) == 0) return berth_lost_error(core, err);
    return berth_job_queue_reserve(&core->queue, err);
}

void berth_core_unreserve(berth_core *core)
{
    berth_job_queue_unreserve(&core->queue);
}

berth_status berth_core_submit_reserved(berth_core *core, const berth_core_request *q, uint64_t *out_id,
                                        berth_error *err)
{
    berth_core_session *s = q->session;
    berth_status st = check_request(core, q, err);
    if (st == BERTH_OK && berth_core_n_living(core) == 0) st = berth_lost_error(core, err);
    if (st == BERTH_OK && s && atomic_exchange(&s->is_busy, true))
        st =
            BERTH_FAIL(err, BERTH_BUSY, "the session has a request under way; wait for its end or use another session");
    if (st != BERTH_OK) {
        berth_core_unreserve(core);
        return st;
    }
    berth_job_queue_push(&core->queue, q, (int64_t)q->n_ids + q->max_new, s ? atomic_load(&s->home) : -1, out_id);
    berth_core_wake(core);
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
    if (found) berth_core_wake(core);
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

void berth_core_result_deinit(berth_core_result *r)
{
    free(r->ids);
    free(r->edge_bytes);
    *r = (berth_core_result){0};
}
