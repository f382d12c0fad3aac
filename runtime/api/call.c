/* call.c - see call.h.
 *
 * Easy to get wrong: a call may be cancelled, and end, at any moment. What decides is the engine's lock: core_id is set
 * and cleared under it, and whoever takes the job out of the host's queue under it ends the call. */
#include "api/call.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/session.h"
#include "base/clock.h"
#include "base/status.h"

/* Ends that nobody takes, in one mailbox; then no more requests are let in. */
enum { MOST_UNTAKEN_ENDS = 65536 };

/* ---- the engine's table of calls ----------------------------------------------------------------------------------- */

/* An id: how often its slot was used above, slot + 1 below, so that none is 0 and none comes again. */
enum { SLOT_BITS = 24, MOST_SLOTS = (1 << SLOT_BITS) - 1 };

static bool grow_slots(berth_engine *e)
{
    const int32_t n = e->n_slots > 0 ? 2 * e->n_slots : 16;
    if (n > MOST_SLOTS) return false;
    berth_call **calls = realloc(e->calls, (size_t)n * sizeof(void *));
    if (calls != NULL) e->calls = calls;
    uint64_t *generations = realloc(e->generations, (size_t)n * sizeof *generations);
    if (generations != NULL) e->generations = generations;
    int32_t *free_slots = realloc(e->free_slots, (size_t)n * sizeof *free_slots);
    if (free_slots != NULL) e->free_slots = free_slots;
    if (calls == NULL || generations == NULL || free_slots == NULL) return false;
    for (int32_t i = n - 1; i >= e->n_slots; i--) {
        calls[i] = NULL;
        generations[i] = 0;
        free_slots[e->n_free++] = i;
    }
    e->n_slots = n;
    return true;
}

static berth_status enter_call(berth_engine *e, berth_call *c, berth_error *err)
{
    berth_status st = BERTH_OK;
    pthread_mutex_lock(&e->lock);
    if (e->is_ending)
        st = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "the engine is being destroyed");
    else if (e->n_free == 0 && !grow_slots(e))
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for one more request");
    if (st == BERTH_OK) {
        const int32_t slot = e->free_slots[--e->n_free];
        c->id = ++e->generations[slot] << SLOT_BITS | (uint64_t)(slot + 1);
        e->calls[slot] = c;
        e->n_active++;
        berth_call_retain(c);
    }
    pthread_mutex_unlock(&e->lock);
    return st;
}

/* From here on no cancel finds it. */
static void leave_table(berth_engine *e, berth_call *c)
{
    const int32_t slot = (int32_t)(c->id & MOST_SLOTS) - 1;
    pthread_mutex_lock(&e->lock);
    c->is_over = true;
    c->core_id = 0;
    e->calls[slot] = NULL;
    e->free_slots[e->n_free++] = slot;
    pthread_mutex_unlock(&e->lock);
}

berth_status berth_engine_cancel(berth_engine *engine, uint64_t id, berth_error *err)
{
    if (!berth_handle_is(engine, BERTH_HANDLE_ENGINE))
        return berth_handle_refuse("berth_engine_cancel", BERTH_HANDLE_ENGINE, err);
    const uint64_t slot = (id & MOST_SLOTS) - 1;
    pthread_mutex_lock(&engine->lock);
    berth_call *c = slot < (uint64_t)engine->n_slots ? engine->calls[slot] : NULL;
    if (c != NULL && c->id != id) c = NULL;
    if (c != NULL) berth_call_retain(c);
    pthread_mutex_unlock(&engine->lock);
    if (c == NULL)
        return BERTH_FAIL(err, BERTH_NOT_FOUND, "no request %llu is under way: it is over, or never was",
                          (unsigned long long)id);
    berth_call_cancel(c);
    berth_call_release(c);
    return BERTH_OK;
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */

void berth_call_retain(berth_call *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
}

void berth_call_release(berth_call *c)
{
    if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1) return;
    if (c->end != NULL) berth_result_deinit(&c->end->result);
    free(c->end);
    berth_core_result_deinit(&c->core_result);
    berth_prepared_deinit(&c->prepared);
    berth_buffer_deinit(&c->text);
    berth_buffer_deinit(&c->fresh);
    berth_buffer_deinit(&c->outbox.tokens);
    free(c->copy);
    free(c->view);
    free(c->known);
    berth_engine_release(c->engine);
    free(c);
}

static berth_status make_call(berth_engine *e, const berth_request *given, const berth_call_options *o,
                              berth_call **out, berth_error *err)
{
    berth_call *c = calloc(1, sizeof *c);
    *out = NULL;
    berth_ending *end = calloc(1, sizeof *end);
    if (c == NULL || end == NULL) {
        free(c);
        free(end);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a request");
    }
    c->end = end;
    atomic_init(&c->refs, 1);
    c->engine = e;
    berth_handle_retain(&e->head);
    c->mailbox = o->mailbox;
    c->kind = o->kind;
    c->user = o->user;
    c->on_end = o->on_end;
    c->cut = -1;
    c->submitted_ns = berth_now_ns();
    berth_status st = berth_request_read(given, &c->request, &c->sampling, err);
    const int32_t draft = e->plan->core->config.draft;
    if (st == BERTH_OK && (c->request.speculate < 0 || c->request.speculate > draft))
        st = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                        "speculate = %d; this engine's plan has room for %d (plan option draft), 0 = none",
                        (int)c->request.speculate, (int)draft);
    if (st != BERTH_OK) {
        berth_call_release(c);
        return st;
    }
    c->tells_tokens = c->kind == BERTH_CALL_QUEUED ? !c->request.quiet : c->request.on_token != NULL;
    const int64_t ms = c->request.deadline_ms;
    if (ms > 0) c->deadline_ns = ms < INT64_C(1) << 40 ? c->submitted_ns + ms * 1000000 : INT64_MAX;
    berth_stream_decoder_init(&c->decoder, e->tokenizer, true);
    *out = c;
    return BERTH_OK;
}

/* With a place in the core's queue, which it keeps when all goes well. */
static berth_status let_in(berth_engine *e, berth_call *c, berth_error *err)
{
    berth_status st = BERTH_OK;
    if (c->kind != BERTH_CALL_WAITED) {
        st = berth_turns_copy(c->request.turns, c->request.n_turns, &c->copy, err);
        c->request.turns = c->copy;
    }
    return st == BERTH_OK ? enter_call(e, c, err) : st;
}

berth_status berth_call_create(berth_engine *e, const berth_request *request, const berth_call_options *options,
                               berth_call **out, berth_error *err)
{
    *out = NULL;
    if (berth_mailbox_ends(options->mailbox) >= MOST_UNTAKEN_ENDS)
        return BERTH_FAIL(err, BERTH_BUSY, "%d ended requests wait to be taken; take them before asking for more",
                          MOST_UNTAKEN_ENDS);
    berth_call *c;
    berth_status st = make_call(e, request, options, &c, err);
    if (st != BERTH_OK) return st;
    berth_session *session = c->request.session;
    if (session != NULL) st = berth_session_take(session, e, err);
    const bool is_taken = session != NULL && st == BERTH_OK;
    if (st == BERTH_OK) {
        st = berth_core_reserve(e->core, err);
        if (st == BERTH_OK) {
            st = let_in(e, c, err);
            if (st != BERTH_OK) berth_core_unreserve(e->core);
        }
        if (st != BERTH_OK && is_taken) berth_session_give_back(session);
    }
    if (st != BERTH_OK) {
        berth_call_release(c);
        return st;
    }
    berth_mailbox_join(c->mailbox, c);
    *out = c;
    return BERTH_OK;
}

/* ---- tokens, on the replica's thread ------------------------------------------------------------------------------- */

static float logprob_of(const float *logits, int32_t vocab, int32_t id)
{
    float most = logits[0];
    for (int32_t i = 1; i < vocab; i++) most = logits[i] > most ? logits[i] : most;
    double sum = 0;
    for (int32_t i = 0; i < vocab; i++) sum += (double)expf(logits[i] - most);
    return (float)((double)(logits[id] - most) - log(sum));
}

static bool core_token(void *user, int32_t index, int32_t id, const float *logits)
{
    berth_call *c = user;
    c->fresh.len = 0;
    if (!berth_stream_decoder_push(&c->decoder, id, &c->fresh) ||
        !berth_buffer_append(&c->text, c->fresh.data, c->fresh.len)) {
        c->told = BERTH_TOLD_NO_MEMORY;
        return false;
    }
    if (!c->tells_tokens) return true;
    const int32_t vocab = berth_model_data_config(c->engine->plan->model->data)->text.vocab;
    const bool has_logprob = c->request.logprobs && logits != NULL && id >= 0 && id < vocab;
    const berth_token token = {.id = id,
                               .index = index,
                               .text = c->fresh.data,
                               .text_size = c->fresh.len,
                               .at_ns = berth_now_ns() - c->submitted_ns,
                               .logprob = has_logprob ? logprob_of(logits, vocab, id) : 0.0f};
    c->told = berth_mailbox_tell(c->mailbox, c, &token, (size_t)c->engine->options.consumer_bytes);
    return c->told == BERTH_TOLD;
}

/* ---- the end ------------------------------------------------------------------------------------------------------- */

static berth_status judge_end(berth_call *c, berth_status st, const berth_error *why)
{
    if (st != BERTH_OK && why != NULL) c->end->error = *why;
    if (st != BERTH_OK) return st;
    if (c->told == BERTH_TOLD_NO_MEMORY)
        return BERTH_FAIL(&c->end->error, BERTH_OUT_OF_MEMORY, "no memory for the answer's text");
    if (c->told == BERTH_TOLD_TOO_MUCH)
        return BERTH_FAIL(&c->end->error, BERTH_SLOW_CONSUMER,
                          "the request's consumer left %lld bytes of tokens untaken, so it was ended after %d tokens; "
                          "take them faster, ask for the end only, or raise the engine's consumer_bytes",
                          (long long)c->engine->options.consumer_bytes, (int)c->core_result.n_ids);
    return BERTH_OK;
}

/* On whatever thread it comes about. Takes the result; gives up the table's reference. */
static void end_call(berth_call *c, berth_status st, berth_core_result *take_result, const berth_error *why)
{
    berth_engine *e = c->engine;
    c->ended_ns = berth_now_ns();
    if (take_result != NULL) c->core_result = *take_result;
    c->status = judge_end(c, st, why);
    leave_table(e, c);
    if (c->is_ahead) berth_host_done(e->host);
    if (c->kind == BERTH_CALL_QUEUED) berth_call_finish(c);
    berth_mailbox_end(c->mailbox, c);
    pthread_mutex_lock(&e->lock);
    if (--e->n_active == 0) pthread_cond_broadcast(&e->quiet);
    pthread_mutex_unlock(&e->lock);
    berth_call_release(c);
}

static void core_end(void *user, berth_status st, berth_core_result *take_result, const berth_error *why)
{
    end_call(user, st, take_result, why);
}

/* The core never saw it: an empty answer, as the core would give it. */
static void end_early(berth_call *c, berth_finish finish)
{
    const size_t n = (size_t)c->engine->n_devices + 1;
    berth_core_result result = {.finish = finish, .edge_bytes = calloc(2 * n * n, sizeof *result.edge_bytes)};
    berth_error why = {0};
    berth_status st = BERTH_OK;
    if (result.edge_bytes != NULL)
        result.edge_ns = result.edge_bytes + n * n;
    else
        st = BERTH_FAIL(&why, BERTH_OUT_OF_MEMORY, "no memory for a result");
    berth_core_unreserve(c->engine->core);
    end_call(c, st, &result, &why);
}

static bool was_cancelled(const berth_call *c)
{
    const volatile int *flag = c->request.cancel;
    return atomic_load(&c->is_cancelled) || (flag != NULL && __atomic_load_n(flag, __ATOMIC_ACQUIRE) != 0);
}

static bool is_late(const berth_call *c)
{
    return c->deadline_ns > 0 && berth_now_ns() >= c->deadline_ns;
}

void berth_call_cancel(berth_call *c)
{
    berth_engine *e = c->engine;
    bool is_ours = false;
    pthread_mutex_lock(&e->lock);
    atomic_store(&c->is_cancelled, true);
    if (!c->is_over && c->core_id != 0)
        berth_core_cancel(e->core, c->core_id);
    else if (!c->is_over)
        is_ours = berth_host_withdraw(e->host, &c->job);
    pthread_mutex_unlock(&e->lock);
    if (is_ours) end_early(c, BERTH_FINISH_CANCELLED);
}

/* ---- from the conversation to the core ----------------------------------------------------------------------------- */

static bool may_go_on(void *user)
{
    const berth_call *c = user;
    return !was_cancelled(c) && !is_late(c);
}

static void submit(berth_call *c)
{
    const berth_session *session = c->request.session;
    berth_engine *e = c->engine;
    const berth_prepared *p = &c->prepared;
    const berth_request *r = &c->request;
    c->core_request = (berth_core_request){.ids = p->ids.data,
                                           .n_ids = (int32_t)p->ids.len,
                                           .image_token_id = e->image_token_id,
                                           .pixels = p->tile_pixels == NULL ? p->pixels : NULL,
                                           .tile_pixels = p->tile_pixels,
                                           .n_tiles = p->n_tiles,
                                           .max_new = r->max_new_tokens,
                                           .stop_ids = e->stop_ids.data,
                                           .n_stop = r->ignore_stop ? 0 : (int32_t)e->stop_ids.len,
                                           .sampling = c->sampling,
                                           .on_token = core_token,
                                           .wants_logits = c->tells_tokens && r->logprobs != 0,
                                           .on_end = core_end,
                                           .user = c,
                                           .cancel = r->cancel,
                                           .tile_digests = (const uint8_t(*)[32])p->digests,
                                           .priority = r->priority,
                                           .deadline_ns = c->deadline_ns,
                                           .speculate = r->speculate,
                                           .no_prefix_cache = r->no_prefix_cache != 0,
                                           .session = session != NULL ? session->core : NULL};
    berth_call_retain(c); /* it may be over before submit returns */
    c->core_ns = berth_now_ns();
    uint64_t core_id = 0;
    berth_error why = {0};
    const bool pinned = c->prepared.pinned;
    c->prepared.pinned = false; /* submitting unpins; the end may come on a replica's thread, which cannot */
    const berth_status st = berth_core_submit_reserved(e->core, &c->core_request, &core_id, &why);
    if (st != BERTH_OK) {
        if (pinned) berth_core_session_unpin(session->core);
        end_call(c, st, NULL, &why);
    } else {
        pthread_mutex_lock(&e->lock);
        if (!c->is_over) c->core_id = core_id;
        if (!c->is_over && atomic_load(&c->is_cancelled)) berth_core_cancel(e->core, core_id);
        pthread_mutex_unlock(&e->lock);
    }
    berth_call_release(c);
}

/* The conversation so far; the session does not change while it is busy with this request. */
static berth_status look_back(berth_call *c, berth_error *err)
{
    const berth_session *s = c->request.session;
    if (s == NULL) return BERTH_OK;
    berth_status st = berth_past_view(&s->past, c->request.turns, c->request.n_turns, &c->view, err);
    return st == BERTH_OK ? berth_past_pictures(&s->past, &c->known, &c->n_known, err) : st;
}

static berth_status prepare(berth_call *c, berth_error *err)
{
    const berth_engine *e = c->engine;
    const berth_session *s = c->request.session;
    berth_status st = look_back(c, err);
    if (st != BERTH_OK) return st;
    const berth_prepare_job job = {.model = e->plan->model,
                                   .tokenizer = e->tokenizer,
                                   .turns = s != NULL ? c->view : c->request.turns,
                                   .n_turns = c->request.n_turns + (s != NULL ? s->past.n_turns : 0),
                                   .max_tiles = c->request.max_tiles,
                                   .wants_digests = s != NULL || (e->keeps_prefixes && !c->request.no_prefix_cache),
                                   .keeps_bytes = s != NULL,
                                   .known = c->known,
                                   .n_known = c->n_known,
                                   .session = s != NULL ? s->core : NULL,
                                   .image_token_id = e->image_token_id,
                                   .may_go_on = may_go_on,
                                   .user = c};
    return berth_prepare(&job, &c->prepared, err);
}

void berth_call_prepare(berth_call *c)
{
    berth_error why = {0};
    berth_status st = may_go_on(c) ? prepare(c, &why) : BERTH_CANCELLED;
    if (st == BERTH_CANCELLED) {
        end_early(c, was_cancelled(c) ? BERTH_FINISH_CANCELLED : BERTH_FINISH_DEADLINE);
    } else if (st != BERTH_OK) {
        berth_core_unreserve(c->engine->core);
        end_call(c, st, NULL, &why);
    } else {
        submit(c);
    }
}

/* ---- while a host thread is waited for ------------------------------------------------------------------------------- */

static const berth_call *call_of(const berth_host_job *job)
{
    return (const berth_call *)(const void *)((const char *)job - offsetof(berth_call, job));
}

static void run_job(berth_host_job *job)
{
    berth_call *c = (berth_call *)(uintptr_t)call_of(job);
    c->is_ahead = true;
    berth_call_prepare(c);
}

static bool job_may_run(const berth_host_job *job)
{
    return may_go_on((void *)(uintptr_t)call_of(job));
}

static void drop_job(berth_host_job *job)
{
    berth_call *c = (berth_call *)(uintptr_t)call_of(job);
    end_early(c, was_cancelled(c) ? BERTH_FINISH_CANCELLED : BERTH_FINISH_DEADLINE);
}

void berth_call_post(berth_call *c)
{
    c->job = (berth_host_job){.run = run_job,
                              .may_run = job_may_run,
                              .drop = drop_job,
                              .deadline_ns = c->deadline_ns,
                              .is_polled = c->request.cancel != NULL,
                              .priority = c->request.priority,
                              .is_counted = true};
    berth_host_post(c->engine->host, &c->job);
}
