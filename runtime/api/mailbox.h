/* mailbox.h - where requests leave what they have to tell until somebody takes it: the caller of a queue, the delivery
 * thread, or the thread that waits for its own request.
 *
 * Tokens stay in a bounded buffer of their request; the mailbox lists the requests that have something, each once, in
 * turn, so that one with many tokens does not hold up the others and each one's order is kept. Telling never waits.
 * Counted: its user and each request that may still tell hold it. Thread-safe. */
#ifndef BERTH_API_MAILBOX_H
#define BERTH_API_MAILBOX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/buffer.h"
#include "berth/berth.h"

struct berth_call;

typedef struct berth_mailbox {
    atomic_int refs;
    pthread_mutex_t lock;
    pthread_cond_t some;
    struct berth_call *first, *last; /* that have something to tell; retained */
    struct berth_call *members;      /* that may still tell */
    int32_t n_ends;                  /* told and not taken */
    int descriptor;                  /* eventfd, readable while something is listed; -1 = none */
    bool is_closed;                  /* nobody takes any more: what is told is dropped */
    bool is_last_call;               /* take does not wait any more */
} berth_mailbox;

/* A request's part in it; guarded by the mailbox's lock. */
typedef struct berth_outbox {
    berth_buffer tokens; /* records, each with its text behind it */
    size_t taken;        /* bytes of them */
    struct berth_call *next_listed;
    struct berth_call *before, *next; /* members */
    bool is_listed, is_member, is_over;
    bool is_broken; /* its tokens were lost for want of memory */
} berth_outbox;

berth_status berth_mailbox_create(bool with_descriptor, berth_mailbox **out, berth_error *err);
void berth_mailbox_release(berth_mailbox *m);

/* The request may tell from now on; holds the mailbox until berth_mailbox_end. */
void berth_mailbox_join(berth_mailbox *m, struct berth_call *call);

typedef enum berth_told { BERTH_TOLD, BERTH_TOLD_NOBODY, BERTH_TOLD_TOO_MUCH, BERTH_TOLD_NO_MEMORY } berth_told;

/* Leaves a token; `limit` bytes may lie untaken. */
berth_told berth_mailbox_tell(berth_mailbox *m, struct berth_call *call, const berth_token *token, size_t limit);
/* Leaves the end: the last. */
void berth_mailbox_end(berth_mailbox *m, struct berth_call *call);

typedef struct berth_letter {
    struct berth_call *call; /* the taker's reference; NULL: nothing came in time */
    bool is_end;
    berth_token token; /* its text is in the taker's buffer */
} berth_letter;

/* The next, waiting at most `timeout_ns` (-1 = for ever). BERTH_OUT_OF_MEMORY: no room in `text`; nothing was taken. */
berth_status berth_mailbox_take(berth_mailbox *m, int64_t timeout_ns, berth_buffer *text, berth_letter *out,
                                berth_error *err);

/* After BERTH_OUT_OF_MEMORY, for takers that cannot try again later: gives up the tokens of that request, which then ends
 * for want of memory. */
void berth_mailbox_give_up(berth_mailbox *m);

/* Nobody takes any more: drops what lies there and cancels the requests that may still tell. */
void berth_mailbox_close(berth_mailbox *m);
/* What lies there may still be taken; then take returns at once. */
void berth_mailbox_last_call(berth_mailbox *m);

int32_t berth_mailbox_ends(berth_mailbox *m);

#endif
