/* engine.c - the engine handle: a plan taken and loaded, and an end that waits until every request has told its own. */
#include <stdlib.h>
#include <string.h>

#include "api/deliver.h"
#include "api/queue.h"
#include "api/session.h"
#include "base/clock.h"
#include "base/status.h"

enum { DEFAULT_CONSUMER_BYTES = 256 << 10, MOST_QUEUE = 1 << 20, DEFAULT_HOST_THREADS = 2, MOST_HOST_THREADS = 256 };

/* ---- opening ------------------------------------------------------------------------------------------------------- */

/* End tokens of the model's generation_config and of its chat form. */
static berth_status collect_stops(const berth_model *model, berth_engine *e, berth_error *err)
{
    const berth_model_config *config = berth_model_data_config(model->data);
    for (int32_t i = 0; i < config->generation.n_eos; i++) {
        if (!berth_ids_push(&e->stop_ids, config->generation.eos_ids[i]))
            return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for stop ids");
    }
    return berth_chat_stop_ids(e->tokenizer, config->chat, &e->stop_ids, err);
}

static berth_status read_options(const berth_engine_options *given, berth_engine_options *out, berth_error *err)
{
    berth_status st = berth_options_copy(out, sizeof *out, given, "berth_engine_options", err);
    if (st != BERTH_OK) return st;
    const struct {
        const char *name;
        int64_t value, most;
    } rows[] = {{"queue", out->queue, MOST_QUEUE},
                {"host_threads", out->host_threads, MOST_HOST_THREADS},
                {"order", (int64_t)out->order, BERTH_ORDER_LONGEST},
                {"consumer_bytes", out->consumer_bytes, INT64_C(1) << 40}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].value < 0 || rows[i].value > rows[i].most)
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s = %lld is out of range; give 0 (the default) to %lld",
                              rows[i].name, (long long)rows[i].value, (long long)rows[i].most);
    }
    if (out->host_threads == 0) out->host_threads = DEFAULT_HOST_THREADS;
    if (out->consumer_bytes == 0) out->consumer_bytes = DEFAULT_CONSUMER_BYTES;
    return BERTH_OK;
}

static berth_thread_watch watch_of(const berth_engine *e)
{
    const berth_runtime_options *o = &e->head.rt->options;
    return (berth_thread_watch){.begin = o->thread_begin, .end = o->thread_end, .user = o->thread_user};
}

static void log_notes(const berth_engine *e)
{
    for (const char *at = berth_core_notes(e->core); *at;) {
        const size_t n = strcspn(at, "\n");
        berth_log(e->head.rt, BERTH_LOG_WARNING, "%.*s", (int)n, at);
        at += n + (at[n] != '\0');
    }
    const int32_t n = e->n_devices;
    for (int32_t i = 0; i < n * n; i++) {
        const char *note = berth_core_edge_note(e->core, i / n, i % n);
        if (note == NULL || strstr(berth_core_notes(e->core), note) != NULL) continue;
        berth_log(e->head.rt, BERTH_LOG_INFO, "%s -> %s: %s", e->plan->machine.devices[i / n].name,
                  e->plan->machine.devices[i % n].name, note);
    }
}

static berth_status load(berth_engine *e, berth_error *err)
{
    const berth_runtime_options *rt = &e->head.rt->options;
    const berth_engine_options *o = &e->options;
    const berth_core_options core = {.strict = o->strict != 0,
                                     .transport = o->transport,
                                     .progress = o->progress,
                                     .progress_user = o->progress_user,
                                     .queue = o->queue,
                                     .longest_first = o->order == BERTH_ORDER_LONGEST,
                                     .no_prefix_cache = o->no_prefix_cache != 0,
                                     .nvtx = o->nvtx != 0,
                                     .time_copies = o->time_copies != 0,
                                     .memory = {rt->allocate, rt->release, rt->memory_user},
                                     .threads = watch_of(e)};
    berth_core_plan *plan = e->plan->owned;
    e->plan->owned = NULL;
    e->plan->core = NULL;
    berth_status st = berth_core_create(plan, &core, &e->core, err);
    if (st != BERTH_OK) return st;
    e->plan->core = berth_core_get_plan(e->core);
    log_notes(e);
    return BERTH_OK;
}

static berth_status start_threads(berth_engine *e, berth_error *err)
{
    const berth_thread_watch watch = watch_of(e);
    const berth_core_plan *plan = e->plan->core;
    const int32_t ahead = 2 * plan->config.n_seqs * plan->placement->n_replicas + e->options.host_threads;
    berth_status st = berth_host_create(e->options.host_threads, ahead, &watch, &e->host, err);
    return st == BERTH_OK ? berth_delivery_start(e, &watch, err) : st;
}

static berth_status engine_open(berth_engine *e, berth_error *err)
{
    berth_model *model = e->plan->model;
    const berth_model_config *config = berth_model_data_config(model->data);
    berth_status st = berth_model_tokenizer(model, &e->tokenizer, err);
    if (st == BERTH_OK) st = berth_chat_check(e->tokenizer, config->chat, config->has_vision, err);
    if (st == BERTH_OK) st = collect_stops(model, e, err);
    if (st != BERTH_OK) return st;
    e->image_token_id = config->has_vision ? berth_chat_image_id(e->tokenizer) : -1;
    e->n_devices = e->plan->machine.n_devices;
    e->keeps_prefixes = e->options.no_prefix_cache == 0;
    st = load(e, err);
    return st == BERTH_OK ? start_threads(e, err) : st;
}

/* Everything but the handle itself. Nothing is under way any more. */
static void engine_close(berth_engine *e)
{
    berth_delivery_stop(e);
    berth_host_destroy(e->host); /* the last ends may have left it sessions to destroy */
    berth_sessions_orphan(e);
    berth_core_destroy(e->core);
    e->core = NULL;
    berth_ids_deinit(&e->stop_ids);
    berth_plan_release(e->plan);
    free(e->calls);
    free(e->generations);
    free(e->free_slots);
}

void berth_engine_release(berth_engine *e)
{
    if (!berth_handle_release(&e->head)) return;
    pthread_cond_destroy(&e->quiet);
    pthread_mutex_destroy(&e->lock);
    berth_handle_retire(&e->head, sizeof *e);
}

static berth_status make_engine(berth_plan *plan, const berth_engine_options *options, berth_engine **out,
                                berth_error *err)
{
    berth_engine_options o;
    berth_status st = read_options(options, &o, err);
    berth_engine *e = st == BERTH_OK ? calloc(1, sizeof *e) : NULL;
    if (e == NULL) {
        berth_plan_release(plan);
        return st != BERTH_OK ? st : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for an engine handle");
    }
    e->plan = plan;
    e->options = o;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->quiet, NULL);
    berth_handle_begin(&e->head, BERTH_HANDLE_ENGINE, plan->head.rt);
    st = engine_open(e, err);
    if (st != BERTH_OK) {
        berth_handle_end(e, BERTH_HANDLE_ENGINE);
        engine_close(e);
        berth_engine_release(e);
        return st;
    }
    e->options.transport = NULL; /* was borrowed */
    *out = e;
    return BERTH_OK;
}

berth_status berth_engine_create(berth_plan *take_plan, const berth_engine_options *options, berth_engine **out,
                                 berth_error *err)
{
    if (out != NULL) *out = NULL;
    if (!berth_handle_is(take_plan, BERTH_HANDLE_PLAN))
        return berth_handle_refuse("berth_engine_create", BERTH_HANDLE_PLAN, err);
    if (take_plan->owned == NULL)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "this plan was given to an engine already");
    if (out == NULL) {
        berth_plan_destroy(take_plan);
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_engine_create: out must not be NULL");
    }
    return make_engine(take_plan, options, out, err);
}

/* ---- the end ------------------------------------------------------------------------------------------------------- */

bool berth_engine_in_callback(berth_engine *e)
{
    if (e->delivers && pthread_equal(pthread_self(), (pthread_t)e->deliverer)) return true;
    bool found = false;
    pthread_mutex_lock(&e->lock);
    for (const berth_waiter *w = e->waiters; w != NULL && !found; w = w->next)
        found = pthread_equal(pthread_self(), w->thread) != 0;
    pthread_mutex_unlock(&e->lock);
    return found;
}

/* Lets nobody in any more, and cancels all. */
static void cancel_all(berth_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->is_ending = true;
    for (int32_t i = 0; i < e->n_slots; i++) {
        berth_call *c = e->calls[i];
        if (c == NULL) continue;
        berth_call_retain(c);
        pthread_mutex_unlock(&e->lock);
        berth_call_cancel(c);
        berth_call_release(c);
        pthread_mutex_lock(&e->lock);
    }
    while (e->n_active > 0 || e->waiters != NULL) pthread_cond_wait(&e->quiet, &e->lock);
    pthread_mutex_unlock(&e->lock);
}

void berth_engine_destroy(berth_engine *engine)
{
    if (!berth_handle_is(engine, BERTH_HANDLE_ENGINE)) return;
    if (berth_engine_in_callback(engine)) {
        berth_log(engine->head.rt, BERTH_LOG_WARNING,
                  "berth_engine_destroy was called from a callback of the same engine and did nothing");
        return;
    }
    if (!berth_handle_end(engine, BERTH_HANDLE_ENGINE)) return;
    cancel_all(engine);
    engine_close(engine);
    berth_engine_release(engine);
}

const berth_plan *berth_engine_plan(const berth_engine *engine)
{
    return berth_handle_is(engine, BERTH_HANDLE_ENGINE) ? engine->plan : NULL;
}

berth_status berth_engine_get_stats(berth_engine *engine, berth_stats *out, berth_error *err)
{
    if (!berth_handle_is(engine, BERTH_HANDLE_ENGINE))
        return berth_handle_refuse("berth_engine_get_stats", BERTH_HANDLE_ENGINE, err);
    if (out == NULL) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_engine_get_stats: out must not be NULL");
    berth_status st = berth_output_check(out, sizeof(size_t), "berth_stats", err);
    if (st != BERTH_OK) return st;
    berth_core_stats s;
    berth_core_get_stats(engine->core, &s);
    const int64_t block = engine->plan->core->block;
    const berth_stats full = {.n_waiting = s.n_waiting,
                              .n_running = s.n_running,
                              .n_sessions = s.n_sessions,
                              .n_submitted = s.n_submitted,
                              .n_finished = s.n_finished,
                              .n_refused = s.n_refused,
                              .n_encode_passes = s.n_encode_passes,
                              .n_step_passes = s.n_step_passes,
                              .n_tiles = s.n_tiles,
                              .n_tiles_reused = s.n_tiles_reused,
                              .n_prompt_tokens = s.n_prompt_tokens,
                              .n_reused_tokens = s.n_reused_tokens,
                              .n_new_tokens = s.n_new_tokens,
                              .kv_tokens = s.kv_blocks * block,
                              .kv_used = s.kv_used * block,
                              .kv_cached = s.kv_cached * block,
                              .loop_ns = s.loop_ns,
                              .busy_ns = s.busy_ns,
                              .load_ns = s.load_ns,
                              .load_bytes = s.load_bytes};
    berth_output_write(out, &full, sizeof full);
    return BERTH_OK;
}

berth_status berth_engine_get_edge(berth_engine *engine, int32_t from, int32_t to, berth_edge *out, berth_error *err)
{
    if (!berth_handle_is(engine, BERTH_HANDLE_ENGINE))
        return berth_handle_refuse("berth_engine_get_edge", BERTH_HANDLE_ENGINE, err);
    const int32_t n = engine->n_devices;
    if (out == NULL || from < 0 || from > n || to < 0 || to > n)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "berth_engine_get_edge: edge %d to %d; give indices from 0 to %d (the host), and an out",
                          (int)from, (int)to, (int)n);
    berth_status st = berth_output_check(out, sizeof(size_t), "berth_edge", err);
    if (st != BERTH_OK) return st;
    const char *transport = berth_core_edge(engine->core, from, to);
    const char *note = berth_core_edge_note(engine->core, from, to);
    const berth_edge full = {.transport = transport != NULL ? transport : "", .note = note != NULL ? note : ""};
    berth_output_write(out, &full, sizeof full);
    return BERTH_OK;
}

/* ---- requests ------------------------------------------------------------------------------------------------------ */

static void enter(berth_engine *e, berth_waiter *w)
{
    w->thread = pthread_self();
    berth_handle_retain(&e->head);
    pthread_mutex_lock(&e->lock);
    w->next = e->waiters;
    if (w->next != NULL) w->next->before = w;
    e->waiters = w;
    pthread_mutex_unlock(&e->lock);
}

static void leave(berth_engine *e, berth_waiter *w)
{
    pthread_mutex_lock(&e->lock);
    if (w->next != NULL) w->next->before = w->before;
    if (w->before != NULL)
        w->before->next = w->next;
    else
        e->waiters = w->next;
    if (e->waiters == NULL) pthread_cond_broadcast(&e->quiet);
    pthread_mutex_unlock(&e->lock);
    berth_engine_release(e);
}

static berth_status run(berth_engine *e, const berth_request *request, berth_result *out, berth_error *err)
{
    berth_mailbox *mailbox;
    berth_status st = berth_mailbox_create(false, &mailbox, err);
    if (st != BERTH_OK) return st;
    const berth_call_options options = {.kind = BERTH_CALL_WAITED, .mailbox = mailbox};
    berth_call *c;
    st = berth_call_create(e, request, &options, &c, err);
    if (st == BERTH_OK) {
        berth_call_prepare(c);
        berth_call_wait(c);
        st = c->status;
        if (st == BERTH_OK) {
            berth_output_write(out, &c->end->result, sizeof c->end->result);
            c->end->result = (berth_result){0};
        } else if (err != NULL) {
            *err = c->end->error;
        }
        berth_call_release(c);
    }
    berth_mailbox_release(mailbox);
    return st;
}

/* What every version of the struct has had. */
static const size_t least_result = offsetof(berth_result, n_reused_tokens);

berth_status berth_engine_run(berth_engine *engine, const berth_request *request, berth_result *out, berth_error *err)
{
    if (!berth_handle_is(engine, BERTH_HANDLE_ENGINE))
        return berth_handle_refuse("berth_engine_run", BERTH_HANDLE_ENGINE, err);
    if (out == NULL) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_engine_run: out must not be NULL");
    berth_status st = berth_output_check(out, least_result, "berth_result", err);
    if (st != BERTH_OK) return st;
    berth_output_write(out, &(berth_result){0}, sizeof(berth_result));
    if (berth_engine_in_callback(engine))
        return BERTH_FAIL(err, BERTH_BUSY,
                          "berth_engine_run would wait for the callback it is called from; use berth_engine_submit or "
                          "berth_engine_start there");
    berth_waiter waiter = {0};
    enter(engine, &waiter);
    st = run(engine, request, out, err);
    leave(engine, &waiter);
    return st;
}

berth_status berth_engine_submit(berth_engine *engine, const berth_request *request, berth_queue *queue, void *user,
                                 uint64_t *out_id, berth_error *err)
{
    if (!berth_handle_is(engine, BERTH_HANDLE_ENGINE))
        return berth_handle_refuse("berth_engine_submit", BERTH_HANDLE_ENGINE, err);
    if (!berth_handle_is(queue, BERTH_HANDLE_QUEUE))
        return berth_handle_refuse("berth_engine_submit", BERTH_HANDLE_QUEUE, err);
    if (queue->head.rt != engine->head.rt)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_engine_submit: the queue is of another runtime");
    const berth_call_options options = {.kind = BERTH_CALL_QUEUED, .mailbox = queue->mailbox, .user = user};
    berth_call *c;
    berth_status st = berth_call_create(engine, request, &options, &c, err);
    if (st != BERTH_OK) return st;
    if (out_id != NULL) *out_id = c->id;
    berth_call_post(c);
    berth_call_release(c);
    return BERTH_OK;
}

berth_status berth_engine_start(berth_engine *engine, const berth_request *request, berth_on_end on_end, void *user,
                                uint64_t *out_id, berth_error *err)
{
    if (!berth_handle_is(engine, BERTH_HANDLE_ENGINE))
        return berth_handle_refuse("berth_engine_start", BERTH_HANDLE_ENGINE, err);
    if (on_end == NULL) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_engine_start: on_end must not be NULL");
    const berth_call_options options = {
        .kind = BERTH_CALL_BACK, .mailbox = engine->delivery, .user = user, .on_end = on_end};
    berth_call *c;
    berth_status st = berth_call_create(engine, request, &options, &c, err);
    if (st != BERTH_OK) return st;
    if (out_id != NULL) *out_id = c->id;
    berth_call_post(c);
    berth_call_release(c);
    return BERTH_OK;
}
