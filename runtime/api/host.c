/* host.c - see host.h. */
#include "api/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/status.h"

/* Between two looks at a flag that nobody announces. */
enum { POLL_NS = 5000000 };

typedef struct host_thread {
    berth_host *host;
    unsigned long thread;
} host_thread;

struct berth_host {
    pthread_mutex_t lock;
    pthread_cond_t some;
    pthread_cond_t sooner; /* the watch has to wake before watch_ns */
    int64_t watch_ns;      /* when the watch looks again; INT64_MAX = never */
    unsigned long watch;
    bool watches;
    berth_host_job *first;
    int32_t n_ahead, most_ahead;
    bool is_ending;
    int32_t n_threads;
    host_thread threads[];
};

static bool may_take(const berth_host *h)
{
    return h->first != NULL && (!h->first->is_counted || h->n_ahead < h->most_ahead);
}

/* The next job; NULL when all is done and the host ends. */
static berth_host_job *next_job(berth_host *h)
{
    pthread_mutex_lock(&h->lock);
    while (!h->is_ending && !may_take(h)) pthread_cond_wait(&h->some, &h->lock);
    berth_host_job *job = h->first;
    if (job != NULL) {
        h->first = job->next;
        h->n_ahead += job->is_counted;
    }
    pthread_mutex_unlock(&h->lock);
    return job;
}

static void *host_body(void *arg)
{
    berth_host *h = ((host_thread *)arg)->host;
    for (berth_host_job *job; (job = next_job(h)) != NULL;) job->run(job);
    return NULL;
}

/* ---- those whose time is over ---------------------------------------------------------------------------------------- */

static int64_t next_look(const berth_host_job *job, int64_t now)
{
    const int64_t poll = job->is_polled ? now + POLL_NS : INT64_MAX;
    const int64_t deadline = job->deadline_ns > 0 ? job->deadline_ns : INT64_MAX;
    if (job->may_run == NULL) return INT64_MAX;
    return poll < deadline ? poll : deadline;
}

/* Takes out one that may not run any more; NULL: none, and watch_ns says when to look again. */
static berth_host_job *take_dropped(berth_host *h)
{
    const int64_t now = berth_now_ns();
    h->watch_ns = INT64_MAX;
    for (berth_host_job **link = &h->first; *link != NULL; link = &(*link)->next) {
        berth_host_job *job = *link;
        if (job->may_run != NULL && !job->may_run(job)) {
            *link = job->next;
            return job;
        }
        const int64_t at = next_look(job, now);
        if (at < h->watch_ns) h->watch_ns = at;
    }
    return NULL;
}

static void wait_for_look(berth_host *h)
{
    const struct timespec until = {.tv_sec = (time_t)(h->watch_ns / 1000000000),
                                   .tv_nsec = (long)(h->watch_ns % 1000000000)};
    if (h->watch_ns == INT64_MAX)
        pthread_cond_wait(&h->sooner, &h->lock);
    else
        pthread_cond_timedwait(&h->sooner, &h->lock, &until);
}

static void *watch_body(void *arg)
{
    berth_host *h = arg;
    pthread_mutex_lock(&h->lock);
    while (!h->is_ending) {
        berth_host_job *job = take_dropped(h);
        if (job == NULL) {
            wait_for_look(h);
            continue;
        }
        pthread_mutex_unlock(&h->lock);
        job->drop(job);
        pthread_mutex_lock(&h->lock);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

/* ---- life ------------------------------------------------------------------------------------------------------------ */

static berth_status start_watch(berth_host *h, const berth_thread_watch *watch, berth_error *err)
{
    const berth_thread_label label = {.watch = *watch, .name = "deadlines"};
    berth_status st = berth_thread_start(&h->watch, watch_body, h, NULL, 0, &label, err);
    h->watches = st == BERTH_OK;
    return st;
}

static berth_status start_threads(berth_host *h, int32_t n, const berth_thread_watch *watch, berth_error *err)
{
    berth_status st = start_watch(h, watch, err);
    for (int32_t i = 0; st == BERTH_OK && i < n; i++) {
        host_thread *t = &h->threads[i];
        t->host = h;
        berth_thread_label label = {.watch = *watch};
        snprintf(label.name, sizeof label.name, "host %d", (int)i);
        st = berth_thread_start(&t->thread, host_body, t, NULL, 0, &label, err);
        h->n_threads += st == BERTH_OK;
    }
    return st;
}

static void make_locks(berth_host *h)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->some, NULL);
    pthread_cond_init(&h->sooner, &attr);
    pthread_condattr_destroy(&attr);
}

berth_status berth_host_create(int32_t n_threads, int32_t most_ahead, const berth_thread_watch *watch, berth_host **out,
                               berth_error *err)
{
    *out = NULL;
    berth_host *h = calloc(1, sizeof *h + (size_t)n_threads * sizeof h->threads[0]);
    if (h == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %d host threads", (int)n_threads);
    h->most_ahead = most_ahead;
    h->watch_ns = INT64_MAX;
    make_locks(h);
    berth_status st = start_threads(h, n_threads, watch, err);
    if (st != BERTH_OK) {
        berth_host_destroy(h);
        return st;
    }
    *out = h;
    return BERTH_OK;
}

void berth_host_destroy(berth_host *h)
{
    if (h == NULL) return;
    pthread_mutex_lock(&h->lock);
    h->is_ending = true;
    pthread_cond_broadcast(&h->some);
    pthread_cond_broadcast(&h->sooner);
    pthread_mutex_unlock(&h->lock);
    if (h->watches) berth_thread_join(h->watch);
    for (int32_t i = 0; i < h->n_threads; i++) berth_thread_join(h->threads[i].thread);
    pthread_cond_destroy(&h->sooner);
    pthread_cond_destroy(&h->some);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

void berth_host_post(berth_host *h, berth_host_job *job)
{
    pthread_mutex_lock(&h->lock);
    berth_host_job **link = &h->first;
    while (*link != NULL && (*link)->priority >= job->priority) link = &(*link)->next;
    job->next = *link;
    *link = job;
    if (next_look(job, berth_now_ns()) < h->watch_ns) pthread_cond_signal(&h->sooner);
    pthread_cond_signal(&h->some);
    pthread_mutex_unlock(&h->lock);
}

void berth_host_done(berth_host *h)
{
    pthread_mutex_lock(&h->lock);
    h->n_ahead--;
    pthread_cond_signal(&h->some);
    pthread_mutex_unlock(&h->lock);
}

bool berth_host_withdraw(berth_host *h, berth_host_job *job)
{
    pthread_mutex_lock(&h->lock);
    berth_host_job **link = &h->first;
    while (*link != NULL && *link != job) link = &(*link)->next;
    const bool found = *link == job && job != NULL;
    if (found) *link = job->next;
    pthread_mutex_unlock(&h->lock);
    return found;
}
