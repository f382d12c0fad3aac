/* queue.h - requests that wait, in the order in which they will start, and the ids by which all requests are known.
 *
 * Jobs are slots of a fixed pool, made with the engine: a request takes one when it is submitted (or a place is reserved
 * for it) and gives it back when it is over, so nothing here allocates and a full pool is BUSY. An id names slot and
 * generation, so a stale one finds nothing. All calls are thread-safe. */
#ifndef BERTH_ENGINE_QUEUE_H
#define BERTH_ENGINE_QUEUE_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine.h"

typedef struct berth_job {
    const berth_core_request *request; /* borrowed until its on_end */
    uint64_t id;
    int64_t submitted_ns, length; /* length: tokens it may compute */
    uint64_t order;               /* of arrival */
    int32_t heap_at;              /* place among those that wait; -1 = not there */
    int32_t replica;              /* the only one that may run it; -1 = any */
    _Atomic bool is_cancelled;
    bool is_used, has_moved; /* has_moved: it was put back once */
} berth_job;

typedef struct berth_queue_options {
    int32_t most_waiting, most_running;
    bool longest_first;
} berth_queue_options;

typedef struct berth_job_queue {
    pthread_mutex_t lock;
    berth_job *jobs; /* owned; [n_jobs] */
    int32_t n_jobs, *free_jobs, n_free;
    berth_job **heap; /* those that wait */
    int32_t n_heap, n_reserved, most_waiting;
    int32_t n_deadlines, n_flags, n_cancelled; /* of those that wait: with a deadline, with a flag, cancelled by id */
    uint64_t n_arrived, generation;
    int64_t n_submitted, n_refused;
    bool longest_first;
} berth_job_queue;

berth_status berth_job_queue_init(berth_job_queue *q, const berth_queue_options *options, berth_error *err);
void berth_job_queue_deinit(berth_job_queue *q);

/* A place ahead of time. BERTH_BUSY: as many wait as may. */
berth_status berth_job_queue_reserve(berth_job_queue *q, berth_error *err);
void berth_job_queue_unreserve(berth_job_queue *q);

/* Uses up a reserved place; cannot fail. `out_id` is set before the job can be taken. */
void berth_job_queue_push(berth_job_queue *q, const berth_core_request *request, int64_t length, int32_t replica,
                          uint64_t *out_id);

/* The next job that `replica` may start and `may` agrees to, taken out of the queue; NULL = none. A cancelled or expired
 * job is given first, whatever `may` says: it only has to be ended. With `may` NULL only those. */
berth_job *berth_job_queue_take(berth_job_queue *q, int32_t replica, int64_t now_ns,
                                bool (*may)(void *user, const berth_job *job), void *user);
/* The first that only `replica` may run and `may` agrees to, also from behind others. For a replica with nothing to do whose
 * next job has no room: the room may be held for the session of one behind it. */
berth_job *berth_job_queue_take_bound(berth_job_queue *q, int32_t replica,
                                      bool (*may)(void *user, const berth_job *job), void *user);
void berth_job_queue_give_back(berth_job_queue *q, berth_job *job); /* it is over: its id is known no more */

/* A job that was taken waits again, for any replica, at the place its order gives it; its id stays. */
void berth_job_queue_put_back(berth_job_queue *q, berth_job *job);
/* What only `replica` might run may now be run by any; true: there was some. */
bool berth_job_queue_unbind(berth_job_queue *q, int32_t replica);
bool berth_job_queue_is_idle(berth_job_queue *q); /* no job waits or runs, no place is reserved */

uint64_t berth_job_number(const berth_job *job); /* from 1, in the order of submission */
bool berth_job_queue_cancel(berth_job_queue *q, uint64_t id);
/* All of one moment: a job is in one of n_waiting and n_running from its place's reservation until it is given back. */
typedef struct berth_job_counts {
    int32_t n_waiting, n_running; /* reserved places included; taken and not given back */
    int64_t n_submitted, n_refused;
} berth_job_counts;
berth_job_counts berth_job_queue_counts(berth_job_queue *q);
int64_t berth_job_queue_next_deadline(berth_job_queue *q); /* of those that wait; INT64_MAX = none */

static inline bool berth_job_expired(const berth_job *job, int64_t now_ns)
{
    return job->request->deadline_ns > 0 && now_ns >= job->request->deadline_ns;
}

bool berth_job_cancelled(const berth_job *job); /* by its id or by the request's flag */

#endif
