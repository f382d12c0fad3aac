/* host.h - a few threads that take jobs by priority: pictures and prompts of requests, ahead of need; and one that ends
 * those whose time is over before a thread was free for them. */
#ifndef BERTH_API_HOST_H
#define BERTH_API_HOST_H

#include <pthread.h>
#include <stdbool.h>

#include "berth/berth.h"

#include "exec/team.h"

/* Embedded in what the job is about, so that posting allocates nothing. */
typedef struct berth_host_job {
    void (*run)(struct berth_host_job *job);
    /* While it waits: may it still be run? Once not, it is taken out and `drop` is called instead of `run`, on a thread of
     * the host's own. Asked under a lock, so it takes none. NULL = always */
    bool (*may_run)(const struct berth_host_job *job);
    void (*drop)(struct berth_host_job *job);
    int64_t deadline_ns; /* of berth_now_ns: may_run is asked then; 0 = none */
    bool is_polled;      /* may_run is asked every few milliseconds too */
    struct berth_host_job *next;
    int32_t priority; /* larger first; of equals the oldest */
    bool is_counted;  /* holds one of the places ahead, from its run until berth_host_done */
} berth_host_job;

typedef struct berth_host berth_host;

/* At most `most_ahead` counted jobs have run and are not done: what they made (pictures' pixels) takes that much memory and
 * no more, however many wait. */
berth_status berth_host_create(int32_t n_threads, int32_t most_ahead, const berth_thread_watch *watch, berth_host **out,
                               berth_error *err);
/* Runs what waits, then ends the threads. */
void berth_host_destroy(berth_host *h);

void berth_host_post(berth_host *h, berth_host_job *job);
void berth_host_done(berth_host *h); /* what a counted job made is no longer needed; any thread */
/* Takes a job back; false: it runs, ran, or was never posted. */
bool berth_host_withdraw(berth_host *h, berth_host_job *job);

#endif
