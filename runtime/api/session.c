/* session.c - see session.h.
 *
 * Easy to get wrong: the core's session calls wait for a replica's loop, so none may be made on its thread. A request's
 * end comes there; what has to be destroyed then is left to a host thread. */
#include "api/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/status.h"

/* ---- life ---------------------------------------------------------------------------------------------------------- */

static void session_release(berth_session *s)
{
    if (!berth_handle_release(&s->head)) return;
    berth_past_deinit(&s->past);
    pthread_mutex_destroy(&s->core_lock);
    pthread_mutex_destroy(&s->past_lock);
    berth_engine_release(s->engine);
    berth_handle_retire(&s->head, sizeof *s);
}

static void unlink_session(berth_engine *e, berth_session *s)
{
    if (s->before != NULL)
        s->before->next = s->next;
    else if (e->sessions == s)
        e->sessions = s->next;
    if (s->next != NULL) s->next->before = s->before;
    s->before = s->next = NULL;
}

/* Gives the KV back; not on a replica's thread. */
static void destroy_core(berth_session *s)
{
    pthread_mutex_lock(&s->core_lock);
    berth_core_session *core = s->core;
    s->core = NULL;
    berth_core_session_destroy(core);
    pthread_mutex_unlock(&s->core_lock);
    pthread_mutex_lock(&s->engine->lock);
    unlink_session(s->engine, s);
    pthread_mutex_unlock(&s->engine->lock);
}

static void farewell(berth_host_job *job)
{
    berth_session *s = (berth_session *)(void *)((char *)job - offsetof(berth_session, farewell));
    destroy_core(s);
    session_release(s);
}

berth_status berth_session_make(berth_engine *e, berth_core_session *take_core, berth_past *take_past,
                                berth_session **out, berth_error *err)
{
    berth_session *s = calloc(1, sizeof *s);
    *out = s;
    if (s == NULL) {
        berth_core_session_destroy(take_core);
        berth_past_deinit(take_past);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a session handle");
    }
    s->engine = e;
    berth_handle_retain(&e->head);
    s->core = take_core;
    s->past = *take_past;
    *take_past = (berth_past){0};
    s->farewell.run = farewell;
    atomic_init(&s->state, 0);
    pthread_mutex_init(&s->core_lock, NULL);
    pthread_mutex_init(&s->past_lock, NULL);
    berth_handle_begin(&s->head, BERTH_HANDLE_SESSION, e->head.rt);
    pthread_mutex_lock(&e->lock);
    s->next = e->sessions;
    if (s->next != NULL) s->next->before = s;
    e->sessions = s;
    pthread_mutex_unlock(&e->lock);
    return BERTH_OK;
}

berth_status berth_session_create(berth_engine *engine, berth_session **out, berth_error *err)
{
    if (out != NULL) *out = NULL;
    if (!berth_handle_is(engine, BERTH_HANDLE_ENGINE))
        return berth_handle_refuse("berth_session_create", BERTH_HANDLE_ENGINE, err);
    if (out == NULL) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_session_create: out must not be NULL");
    berth_core_session *core;
    berth_status st = berth_core_session_create(engine->core, &core, err);
    berth_past past = {0};
    return st == BERTH_OK ? berth_session_make(engine, core, &past, out, err) : st;
}

void berth_session_destroy(berth_session *s)
{
    if (!berth_handle_end(s, BERTH_HANDLE_SESSION)) return;
    const int before = atomic_fetch_or(&s->state, BERTH_SESSION_ENDED);
    if ((before & BERTH_SESSION_TAKEN) == 0) destroy_core(s); /* else when its request is over */
    session_release(s);
}

void berth_sessions_orphan(berth_engine *e)
{
    for (;;) {
        pthread_mutex_lock(&e->lock);
        berth_session *s = e->sessions;
        if (s != NULL) {
            berth_handle_retain(&s->head);
            unlink_session(e, s);
        }
        pthread_mutex_unlock(&e->lock);
        if (s == NULL) return;
        destroy_core(s);
        session_release(s);
    }
}

/* ---- requests on it ------------------------------------------------------------------------------------------------ */

/* Only one at a time has the session: a request, or a call that changes or copies it. */
static berth_status take(berth_session *s, const char *what, berth_error *err)
{
    int none = 0;
    if (atomic_compare_exchange_strong(&s->state, &none, BERTH_SESSION_TAKEN)) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_BUSY, "%s: the session has a request under way; wait for its end", what);
}

static void put_back(berth_session *s)
{
    atomic_fetch_and(&s->state, ~BERTH_SESSION_TAKEN);
}

berth_status berth_session_take(berth_session *s, const berth_engine *e, berth_error *err)
{
    if (!berth_handle_is(s, BERTH_HANDLE_SESSION))
        return berth_handle_refuse("berth_request.session", BERTH_HANDLE_SESSION, err);
    if (s->engine != e)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "the session is of another engine; sessions stay with theirs");
    berth_status st = take(s, "berth_request.session", err);
    if (st == BERTH_OK) berth_handle_retain(&s->head);
    return st;
}

berth_status berth_session_remember(berth_session *s, const berth_turn *turns, int32_t n_turns, berth_picture *pictures,
                                    const char *answer, berth_error *err)
{
    pthread_mutex_lock(&s->past_lock);
    berth_status st = berth_past_append(&s->past, turns, n_turns, pictures, answer, strlen(answer), err);
    pthread_mutex_unlock(&s->past_lock);
    return st;
}

void berth_session_give_back(berth_session *s)
{
    const int before = atomic_fetch_and(&s->state, ~BERTH_SESSION_TAKEN);
    if (before & BERTH_SESSION_ENDED)
        berth_host_post(s->engine->host, &s->farewell);
    else
        session_release(s);
}

/* ---- what it knows ------------------------------------------------------------------------------------------------- */

berth_status berth_session_get_info(berth_session *s, berth_session_info *out, berth_error *err)
{
    if (!berth_handle_is(s, BERTH_HANDLE_SESSION))
        return berth_handle_refuse("berth_session_get_info", BERTH_HANDLE_SESSION, err);
    if (out == NULL) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_session_get_info: out must not be NULL");
    berth_status st = berth_output_check(out, sizeof(size_t), "berth_session_info", err);
    if (st != BERTH_OK) return st;
    pthread_mutex_lock(&s->past_lock);
    berth_session_info full = {.n_turns = s->past.n_turns, .replica = -1, .n_images = berth_past_n_pictures(&s->past)};
    pthread_mutex_unlock(&s->past_lock);
    pthread_mutex_lock(&s->core_lock);
    if (s->core != NULL) {
        const berth_core_session_info core = berth_core_session_get_info(s->core);
        full.n_tokens = core.n_tokens;
        full.replica = core.replica;
    }
    pthread_mutex_unlock(&s->core_lock);
    berth_output_write(out, &full, sizeof full);
    return BERTH_OK;
}

berth_status berth_session_get_turn(berth_session *s, int32_t turn, char **out_role, char **out_text, berth_error *err)
{
    if (out_role != NULL) *out_role = NULL;
    if (out_text != NULL) *out_text = NULL;
    if (!berth_handle_is(s, BERTH_HANDLE_SESSION))
        return berth_handle_refuse("berth_session_get_turn", BERTH_HANDLE_SESSION, err);
    berth_buffer role = {0}, text = {0};
    pthread_mutex_lock(&s->past_lock);
    const int32_t n = s->past.n_turns;
    const bool is_there = turn >= 0 && turn < n;
    bool ok = is_there && berth_buffer_puts(&role, s->past.turns[turn].role) && berth_past_text(&s->past, turn, &text);
    pthread_mutex_unlock(&s->past_lock);
    char *role_text = ok ? berth_buffer_take(&role) : NULL, *turn_text = ok ? berth_buffer_take(&text) : NULL;
    berth_buffer_deinit(&role);
    berth_buffer_deinit(&text);
    berth_status st = BERTH_OK;
    if (!is_there)
        st = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "turn %d of %d", (int)turn, (int)n);
    else if (role_text == NULL || turn_text == NULL)
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the text of a turn");
    if (st == BERTH_OK && out_role != NULL) *out_role = role_text;
    if (st != BERTH_OK || out_role == NULL) free(role_text);
    if (st == BERTH_OK && out_text != NULL) *out_text = turn_text;
    if (st != BERTH_OK || out_text == NULL) free(turn_text);
    return st;
}

berth_status berth_session_rewind(berth_session *s, int32_t n_turns, berth_error *err)
{
    if (!berth_handle_is(s, BERTH_HANDLE_SESSION))
        return berth_handle_refuse("berth_session_rewind", BERTH_HANDLE_SESSION, err);
    berth_status st = take(s, "berth_session_rewind", err);
    if (st != BERTH_OK) return st;
    pthread_mutex_lock(&s->past_lock);
    if (n_turns < 0 || n_turns > s->past.n_turns)
        st = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%d turns cannot be kept of %d", (int)n_turns,
                        (int)s->past.n_turns);
    else
        berth_past_cut(&s->past, n_turns);
    pthread_mutex_unlock(&s->past_lock);
    put_back(s);
    return st;
}

/* With the core session, which stays until it is put back. */
static berth_status take_core(berth_session *s, const char *what, berth_error *err)
{
    berth_status st = take(s, what, err);
    if (st != BERTH_OK) return st;
    pthread_mutex_lock(&s->core_lock);
    if (s->core != NULL) return BERTH_OK;
    pthread_mutex_unlock(&s->core_lock);
    put_back(s);
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s: the session's engine was destroyed", what);
}

static void put_back_core(berth_session *s)
{
    pthread_mutex_unlock(&s->core_lock);
    put_back(s);
}

berth_status berth_session_fork(berth_session *s, berth_session **out, berth_error *err)
{
    if (out != NULL) *out = NULL;
    if (!berth_handle_is(s, BERTH_HANDLE_SESSION))
        return berth_handle_refuse("berth_session_fork", BERTH_HANDLE_SESSION, err);
    if (out == NULL) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_session_fork: out must not be NULL");
    berth_past past = {0};
    berth_core_session *core = NULL;
    berth_status st = take_core(s, "berth_session_fork", err);
    if (st != BERTH_OK) return st;
    st = berth_past_copy(&s->past, &past, err);
    if (st == BERTH_OK) st = berth_core_session_fork(s->core, &core, err);
    if (st == BERTH_OK)
        st = berth_session_make(s->engine, core, &past, out, err);
    else
        berth_past_deinit(&past);
    put_back_core(s);
    return st;
}

/* ---- files --------------------------------------------------------------------------------------------------------- */

berth_status berth_session_save(berth_session *s, const char *path, berth_error *err)
{
    if (!berth_handle_is(s, BERTH_HANDLE_SESSION))
        return berth_handle_refuse("berth_session_save", BERTH_HANDLE_SESSION, err);
    if (path == NULL) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_session_save: path must not be NULL");
    uint8_t *kv = NULL, fingerprint[32];
    size_t kv_size = 0;
    berth_buffer bytes = {0};
    berth_status st = take_core(s, "berth_session_save", err);
    if (st != BERTH_OK) return st;
    st = berth_core_fingerprint(s->engine->core, fingerprint, err);
    if (st == BERTH_OK) st = berth_core_session_save(s->core, &kv, &kv_size, err);
    if (st == BERTH_OK) st = berth_past_save(&s->past, fingerprint, kv, kv_size, &bytes, err);
    put_back_core(s);
    free(kv);
    if (st == BERTH_OK) st = berth_file_write(path, bytes.data, bytes.len, err);
    berth_buffer_deinit(&bytes);
    return st;
}

/* KV that this plan cannot take is computed again; a file that contradicts itself is refused. */
static berth_status load_core(berth_engine *e, const uint8_t *kv, size_t size, berth_core_session **out,
                              berth_error *err)
{
    berth_error why = {0};
    const berth_status st = berth_core_session_load(e->core, kv, size, out, &why);
    if (st == BERTH_UNSUPPORTED || st == BERTH_DOES_NOT_FIT) {
        berth_log(e->head.rt, BERTH_LOG_INFO, "a saved session's KV is computed again: %s", why.message);
        return berth_core_session_create(e->core, out, err);
    }
    if (st != BERTH_OK && err != NULL) *err = why;
    return st;
}

berth_status berth_session_load(berth_engine *engine, const char *path, berth_session **out, berth_error *err)
{
    if (out != NULL) *out = NULL;
    if (!berth_handle_is(engine, BERTH_HANDLE_ENGINE))
        return berth_handle_refuse("berth_session_load", BERTH_HANDLE_ENGINE, err);
    if (path == NULL || out == NULL)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_session_load: path and out must not be NULL");
    char *data = NULL;
    size_t size = 0, kv_size = 0;
    const uint8_t *kv = NULL;
    uint8_t fingerprint[32];
    berth_past past = {0};
    berth_core_session *core = NULL;
    berth_status st = berth_core_fingerprint(engine->core, fingerprint, err);
    if (st == BERTH_OK) st = berth_file_read(path, (size_t)1 << 40, &data, &size, err);
    if (st != BERTH_OK) return st;
    st = berth_past_load(engine->plan->model, fingerprint, (const uint8_t *)data, size, &past, &kv, &kv_size, err);
    if (st == BERTH_OK) st = load_core(engine, kv, kv_size, &core, err);
    if (st == BERTH_OK)
        st = berth_session_make(engine, core, &past, out, err);
    else
        berth_past_deinit(&past);
    if (st != BERTH_OK) berth_error_prefix(err, "%s: ", path);
    free(data);
    return st;
}
