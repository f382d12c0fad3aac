/* queue.c - a binary heap of waiting jobs over a fixed pool. */
#include "engine/queue.h"

#include <stdlib.h>

#include "base/clock.h"

/* An id: the generation above, slot + 1 below, so that none is 0. */
enum { SLOT_BITS = 24 };

berth_status berth_job_queue_init(berth_job_queue *q, const berth_queue_options *o, berth_error *err)
{
    int64_t n = (int64_t)o->most_waiting + o->most_running;
    *q = (berth_job_queue){.most_waiting = o->most_waiting, .longest_first = o->longest_first};
    pthread_mutex_init(&q->lock, NULL);
    if (o->most_waiting < 1 || n >= 1 << SLOT_BITS)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "a queue of %d requests; it must be a number between 1 and %d",
                          (int)o->most_waiting, (1 << SLOT_BITS) - 1 - (int)o->most_running);
    q->n_jobs = q->n_free = (int32_t)n;
    q->jobs = calloc((size_t)n, sizeof *q->jobs);
    q->free_jobs = calloc((size_t)n, sizeof *q->free_jobs);
    q->heap = calloc((size_t)n, sizeof(berth_job *));
    if (!q->jobs || !q->free_jobs || !q->heap)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a queue of %d requests", (int)n);
    for (int32_t i = 0; i < q->n_jobs; i++) q->free_jobs[i] = q->n_jobs - 1 - i;
    return BERTH_OK;
}

void berth_job_queue_deinit(berth_job_queue *q)
{
    free(q->jobs);
    free(q->free_jobs);
    free(q->heap);
    pthread_mutex_destroy(&q->lock);
}

/* ---- the heap --------------------------------------------------------------------------------------------------- */

static bool starts_before(const berth_job_queue *q, const berth_job *a, const berth_job *b)
{
    if (a->request->priority != b->request->priority) return a->request->priority > b->request->priority;
    if (q->longest_first && a->length != b->length) return a->length > b->length;
    return a->order < b->order;
}

static void put_at(berth_job_queue *q, int32_t at, berth_job *job)
{
    q->heap[at] = job;
    job->heap_at = at;
}

static void sift_up(berth_job_queue *q, int32_t at)
{
    berth_job *job = q->heap[at];
    for (; at > 0 && starts_before(q, job, q->heap[(at - 1) / 2]); at = (at - 1) / 2)
        put_at(q, at, q->heap[(at - 1) / 2]);
    put_at(q, at, job);
}

static void sift_down(berth_job_queue *q, int32_t at)
{
    berth_job *job = q->heap[at];
    for (;;) {
        int32_t child = 2 * at + 1;
        if (child >= q->n_heap) break;
        if (child + 1 < q->n_heap && starts_before(q, q->heap[child + 1], q->heap[child])) child++;
        if (!starts_before(q, q->heap[child], job)) break;
        put_at(q, at, q->heap[child]);
        at = child;
    }
    put_at(q, at, job);
}

static berth_job *remove_at(berth_job_queue *q, int32_t at)
{
    berth_job *job = q->heap[at], *last = q->heap[--q->n_heap];
    if (job != last) {
        put_at(q, at, last);
        sift_up(q, at);
        sift_down(q, last->heap_at);
    }
    job->heap_at = -1;
    q->n_deadlines -= job->request->deadline_ns > 0;
    q->n_flags -= job->request->cancel != NULL;
    q->n_cancelled -= atomic_load(&job->is_cancelled);
    return job;
}

static void add(berth_job_queue *q, berth_job *job)
{
    q->n_deadlines += job->request->deadline_ns > 0;
    q->n_flags += job->request->cancel != NULL;
    q->n_cancelled += atomic_load(&job->is_cancelled);
    q->n_heap++;
    put_at(q, q->n_heap - 1, job);
    sift_up(q, q->n_heap - 1);
}

/* ---- in and out ------------------------------------------------------------------------------------------------- */

berth_status berth_job_queue_reserve(berth_job_queue *q, berth_error *err)
{
    pthread_mutex_lock(&q->lock);
    bool is_full = q->n_heap + q->n_reserved >= q->most_waiting || q->n_reserved >= q->n_free;
    if (is_full)
        q->n_refused++;
    else
        q->n_reserved++;
    pthread_mutex_unlock(&q->lock);
    if (!is_full) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_BUSY,
                      "%d requests wait already, as many as this engine's queue holds; try again later",
                      (int)q->most_waiting);
}

void berth_job_queue_unreserve(berth_job_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->n_reserved--;
    pthread_mutex_unlock(&q->lock);
}

void berth_job_queue_push(berth_job_queue *q, const berth_core_request *request, int64_t length, int32_t replica,
                          uint64_t *out_id)
{
    pthread_mutex_lock(&q->lock);
    q->n_reserved--;
    int32_t slot = q->free_jobs[--q->n_free];
    berth_job *job = &q->jobs[slot];
    *job = (berth_job){.request = request,
                       .id = ++q->generation << SLOT_BITS | (uint64_t)(slot + 1),
                       .submitted_ns = berth_now_ns(),
                       .length = length,
                       .order = q->n_arrived++,
                       .replica = replica,
                       .is_used = true};
    if (out_id) *out_id = job->id;
    q->n_submitted++;
    add(q, job);
    pthread_mutex_unlock(&q->lock);
}

void berth_job_queue_put_back(berth_job_queue *q, berth_job *job)
{
    pthread_mutex_lock(&q->lock);
    job->replica = -1;
    job->has_moved = true;
    add(q, job);
    pthread_mutex_unlock(&q->lock);
}

bool berth_job_queue_unbind(berth_job_queue *q, int32_t replica)
{
    bool any = false;
    pthread_mutex_lock(&q->lock);
    for (int32_t i = 0; i < q->n_heap; i++) {
        if (q->heap[i]->replica != replica) continue;
        q->heap[i]->replica = -1;
        any = true;
    }
    pthread_mutex_unlock(&q->lock);
    return any;
}

uint64_t berth_job_number(const berth_job *job)
{
    return job->id >> SLOT_BITS;
}

bool berth_job_cancelled(const berth_job *job)
{
    const volatile int *flag = job->request->cancel;
    return atomic_load_explicit(&job->is_cancelled, memory_order_acquire) ||
           (flag && __atomic_load_n(flag, __ATOMIC_ACQUIRE));
}

/* One that only has to be ended; -1 = none. */
static int32_t find_dead(const berth_job_queue *q, int32_t replica, int64_t now_ns)
{
    for (int32_t i = 0; i < q->n_heap; i++) {
        const berth_job *job = q->heap[i];
        if (job->replica >= 0 && job->replica != replica) continue;
        if (berth_job_cancelled(job) || berth_job_expired(job, now_ns)) return i;
    }
    return -1;
}

/* The first that may start. Those bound to another replica are passed over, one that `may` refuses is not: what comes
 * later must not overtake what waits for room. */
static int32_t find_next(const berth_job_queue *q, int32_t replica, bool (*may)(void *user, const berth_job *job),
                         void *user)
{
    int32_t best = -1;
    if (q->n_heap > 0 && (q->heap[0]->replica < 0 || q->heap[0]->replica == replica)) best = 0;
    for (int32_t i = 1; best != 0 && i < q->n_heap; i++) {
        const berth_job *job = q->heap[i];
        if (job->replica >= 0 && job->replica != replica) continue;
        if (best < 0 || starts_before(q, job, q->heap[best])) best = i;
    }
    return best >= 0 && may(user, q->heap[best]) ? best : -1;
}

berth_job *berth_job_queue_take(berth_job_queue *q, int32_t replica, int64_t now_ns,
                                bool (*may)(void *user, const berth_job *job), void *user)
{
    pthread_mutex_lock(&q->lock);
    int32_t at = q->n_cancelled > 0 || q->n_flags > 0 || q->n_deadlines > 0 ? find_dead(q, replica, now_ns) : -1;
    if (at < 0 && may) at = find_next(q, replica, may, user);
    berth_job *job = at >= 0 ? remove_at(q, at) : NULL;
    pthread_mutex_unlock(&q->lock);
    return job;
}

berth_job *berth_job_queue_take_bound(berth_job_queue *q, int32_t replica,
                                      bool (*may)(void *user, const berth_job *job), void *user)
{
    berth_job *best = NULL;
    pthread_mutex_lock(&q->lock);
    for (int32_t i = 0; i < q->n_heap; i++) {
        berth_job *job = q->heap[i];
        if (job->replica == replica && (!best || starts_before(q, job, best)) && may(user, job)) best = job;
    }
    if (best) remove_at(q, best->heap_at);
    pthread_mutex_unlock(&q->lock);
    return best;
}

void berth_job_queue_give_back(berth_job_queue *q, berth_job *job)
{
    pthread_mutex_lock(&q->lock);
    job->is_used = false;
    q->free_jobs[q->n_free++] = (int32_t)(job - q->jobs);
    pthread_mutex_unlock(&q->lock);
}

bool berth_job_queue_cancel(berth_job_queue *q, uint64_t id)
{
    uint64_t slot = (id & ((1u << SLOT_BITS) - 1)) - 1;
    pthread_mutex_lock(&q->lock);
    bool found = slot < (uint64_t)q->n_jobs && q->jobs[slot].is_used && q->jobs[slot].id == id;
    if (found && !atomic_exchange(&q->jobs[slot].is_cancelled, true)) q->n_cancelled += q->jobs[slot].heap_at >= 0;
    pthread_mutex_unlock(&q->lock);
    return found;
}

bool berth_job_queue_is_idle(berth_job_queue *q)
{
    pthread_mutex_lock(&q->lock);
    bool is_idle = q->n_free == q->n_jobs && q->n_reserved == 0;
    pthread_mutex_unlock(&q->lock);
    return is_idle;
}

int64_t berth_job_queue_next_deadline(berth_job_queue *q)
{
    int64_t next = INT64_MAX;
    pthread_mutex_lock(&q->lock);
    for (int32_t i = 0; q->n_deadlines > 0 && i < q->n_heap; i++) {
        int64_t at = q->heap[i]->request->deadline_ns;
        if (at > 0 && at < next) next = at;
    }
    pthread_mutex_unlock(&q->lock);
    return next;
}

berth_job_counts berth_job_queue_counts(berth_job_queue *q)
{
    pthread_mutex_lock(&q->lock);
    const berth_job_counts c = {.n_waiting = q->n_heap + q->n_reserved,
                                .n_running = q->n_jobs - q->n_free - q->n_heap,
                                .n_submitted = q->n_submitted,
                                .n_refused = q->n_refused};
    pthread_mutex_unlock(&q->lock);
    return c;
}
