/* session.h - a session's insides: what it remembers, and the core session that holds the KV of it. */
#ifndef BERTH_API_SESSION_H
#define BERTH_API_SESSION_H

#include "api/engine.h"
#include "api/past.h"

struct berth_session {
    berth_handle head;
    berth_engine *engine;                /* its handle is retained */
    struct berth_session *before, *next; /* of the engine's; under its lock */

    atomic_int state; /* BERTH_SESSION_ bits */
    pthread_mutex_t core_lock;
    berth_core_session *core;  /* owned; NULL once the engine or the session was destroyed */
    pthread_mutex_t past_lock; /* never held while a replica is waited for: a replica's thread takes it */
    berth_past past;           /* changed by who has the session only */
    berth_host_job farewell;
};

enum { BERTH_SESSION_TAKEN = 1, BERTH_SESSION_ENDED = 2 };

/* For a request: BERTH_BUSY, BERTH_INVALID_ARGUMENT (of another engine). Retains the session until give_back. */
berth_status berth_session_take(berth_session *s, const berth_engine *e, berth_error *err);
/* What was asked and answered; all or nothing. The next two: when the request is over, on any thread. */
berth_status berth_session_remember(berth_session *s, const berth_turn *turns, int32_t n_turns, berth_picture *pictures,
                                    const char *answer, berth_error *err);
void berth_session_give_back(berth_session *s);

/* A new session with core session and past taken, in the engine's list. Both are freed on failure. */
berth_status berth_session_make(berth_engine *e, berth_core_session *take_core, berth_past *take_past,
                                berth_session **out, berth_error *err);

/* The engine's end: no session of it computes any more. */
void berth_sessions_orphan(berth_engine *e);

/* session_file.c: what is remembered to bytes and back. `kv` is the core's. The digests of loaded pictures are made
 * anew from their bytes. */
berth_status berth_past_save(const berth_past *p, const uint8_t fingerprint[32], const uint8_t *kv, size_t kv_size,
                             berth_buffer *out, berth_error *err);
berth_status berth_past_load(const berth_model *model, const uint8_t fingerprint[32], const uint8_t *data, size_t size,
                             berth_past *out, const uint8_t **out_kv, size_t *out_kv_size, berth_error *err);

#endif
