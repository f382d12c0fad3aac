/* host.c - see host.h. */
#include "api/host.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"

typedef struct host_thread {
    berth_host *host;
    unsigned long thread;
} host_thread;

struct berth_host {
    pthread_mutex_t lock;
    pthread_cond_t some;
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

berth_status berth_host_create(int32_t n_threads, int32_t most_ahead, const berth_thread_watch *watch, berth_host **out,
                               berth_error *err)
{
    *out = NULL;
    berth_host *h = calloc(1, sizeof *h + (size_t)n_threads * sizeof h->threads[0]);
    if (h == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %d host threads", (int)n_threads);
    h->most_ahead = most_ahead;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->some, NULL);
    for (int32_t i = 0; i < n_threads; i++) {
        host_thread *t = &h->threads[i];
        t->host = h;
        berth_thread_label label = {.watch = *watch};
        snprintf(label.name, sizeof label.name, "host %d", (int)i);
        berth_status st = berth_thread_start(&t->thread, host_body, t, NULL, 0, &label, err);
        if (st != BERTH_OK) {
            berth_host_destroy(h);
            return st;
        }
        h->n_threads++;
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
    pthread_mutex_unlock(&h->lock);
    for (int32_t i = 0; i < h->n_threads; i++) berth_thread_join(h->threads[i].thread);
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
