/* call.h - one request from its submission to the moment when its end was told.
 *
 * Its way: a place in the core's queue and an id (create); pictures and prompt (prepare: on the caller's thread, or a
 * host thread); the core (tokens and end come on the replica's thread, which never waits); its mailbox, from which a
 * queue's caller, the delivery thread or the waiting thread takes what it tells; and finish, which makes the public
 * result. Counted: the engine until it is over, the mailbox while it is listed, and whoever works on it. */
#ifndef BERTH_API_CALL_H
#define BERTH_API_CALL_H

#include "api/engine.h"
#include "api/prompt.h"
#include "api/request.h"

typedef enum berth_call_kind { BERTH_CALL_WAITED, BERTH_CALL_QUEUED, BERTH_CALL_BACK } berth_call_kind;

/* What is told at the end: memory that is there from the beginning, so that telling cannot fail. */
typedef struct berth_ending {
    berth_result result;
    berth_error error;
} berth_ending;

typedef struct berth_call {
    atomic_int refs;
    berth_engine *engine; /* its handle is retained; the core only until the call is over */
    berth_mailbox *mailbox;
    uint64_t id;
    berth_call_kind kind;
    bool tells_tokens;
    void *user;
    berth_on_end on_end;

    berth_request request; /* its turns: the copy's, or the waiting caller's */
    berth_turn *copy;      /* owned; NULL when somebody waits */
    berth_turn *view;      /* owned; what its session remembers, and its turns behind; NULL without a session */
    berth_picture *known;  /* owned; the remembered pictures */
    int32_t n_known;
    berth_sampling sampling;
    int64_t submitted_ns, deadline_ns; /* of berth_now_ns; deadline 0 = none */
    berth_host_job job;
    bool is_ahead; /* a host thread prepared it: it has one of the places ahead */
    berth_prepared prepared;
    int64_t core_ns, ended_ns; /* when the core got it, when it was over; of berth_now_ns */

    /* Under the engine's lock. */
    uint64_t core_id; /* 0: not in the core */
    bool is_over;
    atomic_bool is_cancelled;

    /* Of the replica's thread; after the end, of whoever takes it. */
    berth_core_request core_request;
    berth_stream_decoder decoder;
    berth_buffer text, fresh;
    berth_told told; /* why the replica was asked to stop */

    berth_outbox outbox; /* of the mailbox */

    int32_t cut; /* tokens after which the consumer stopped it; -1 = it did not */
    berth_status status;
    berth_core_result core_result;
    berth_ending *end; /* owned, until a completion takes it; filled by finish */
} berth_call;

typedef struct berth_call_options {
    berth_call_kind kind;
    berth_mailbox *mailbox;
    void *user;
    berth_on_end on_end;
} berth_call_options;

/* Errors at once: BERTH_INVALID_ARGUMENT, BERTH_BUSY, BERTH_OUT_OF_MEMORY. `out` has the caller's reference. */
berth_status berth_call_create(berth_engine *e, const berth_request *request, const berth_call_options *options,
                               berth_call **out, berth_error *err);
void berth_call_prepare(berth_call *c); /* and gives it to the core; whatever comes of it is told */
void berth_call_post(berth_call *c);    /* the same on a host thread */

void berth_call_cancel(berth_call *c); /* any thread, any time */

/* Once, when the end was taken: status, result or error. */
void berth_call_finish(berth_call *c);

void berth_call_retain(berth_call *c);
void berth_call_release(berth_call *c);

#endif
