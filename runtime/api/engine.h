/* engine.h - the engine handle's insides: the core, the requests under way, and the threads that serve them. */
#ifndef BERTH_API_ENGINE_H
#define BERTH_API_ENGINE_H

#include "api/api.h"
#include "api/host.h"
#include "api/mailbox.h"

struct berth_call;

/* A thread that waits in berth_engine_run: on its stack, in the engine's list. */
typedef struct berth_waiter {
    pthread_t thread;
    struct berth_waiter *before, *next;
} berth_waiter;

struct berth_engine {
    berth_handle head;
    berth_plan *plan; /* owned */
    berth_core *core; /* owned; holds plan->core */
    berth_engine_options options;
    const berth_tokenizer *tokenizer; /* the model's */
    berth_ids stop_ids;
    int32_t image_token_id; /* -1: none */
    int32_t n_devices;
    bool keeps_prefixes;

    pthread_mutex_t lock;
    pthread_cond_t quiet;      /* n_active or n_waiters fell to 0 */
    struct berth_call **calls; /* owned; [n_slots] requests by slot, NULL = free; until they are over */
    uint64_t *generations;     /* owned; [n_slots] ids that each slot has had */
    int32_t *free_slots;       /* owned; [n_free] */
    int32_t n_slots, n_free;
    int32_t n_active; /* requests whose end was not told yet */
    berth_waiter *waiters;
    berth_session *sessions; /* whose KV the core holds */
    bool is_ending;

    berth_host *host;        /* threads that prepare requests */
    berth_mailbox *delivery; /* of requests that call back */
    unsigned long deliverer;
    bool delivers;
};

/* Gives up a reference to the handle; what it held went when it was destroyed. */
void berth_engine_release(berth_engine *e);

/* Is the calling thread inside one of this engine's callbacks? */
bool berth_engine_in_callback(berth_engine *e);

#endif
