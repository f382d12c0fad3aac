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
    berth_host_job *first, *last;
    bool is_ending;
    int32_t n_threads;
    host_thread threads[];
};

/* The next job; NULL when all is done and the host ends. */
static berth_host_job *next_job(berth_host *h)
{
    pthread_mutex_lock(&h->lock);
    while (h->first == NULL && !h->is_ending) pthread_cond_wait(&h->some, &h->lock);
    berth_host_job *job = h->first;
    if (job != NULL) h->first = job->next;
    if (h->first == NULL) h->last = NULL;
    pthread_mutex_unlock(&h->lock);
    return job;
}

static void *host_body(void *arg)
{
    berth_host *h = ((host_thread *)arg)->host;
    for (berth_host_job *job; (job = next_job(h)) != NULL;) job->run(job);
    return NULL;
}

berth_status berth_host_create(int32_t n_threads, const berth_thread_watch *watch, berth_host **out, berth_error *err)
{
    *out = NULL;
    berth_host *h = calloc(1, sizeof *h + (size_t)n_threads * sizeof h->threads[0]);
    if (h == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %d host threads", (int)n_threads);
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
    job->next = NULL;
    pthread_mutex_lock(&h->lock);
    if (h->last != NULL)
        h->last->next = job;
    else
        h->first = job;
    h->last = job;
    pthread_cond_signal(&h->some);
    pthread_mutex_unlock(&h->lock);
}

bool berth_host_withdraw(berth_host *h, berth_host_job *job)
{
    pthread_mutex_lock(&h->lock);
    berth_host_job **link = &h->first, *before = NULL;
    while (*link != NULL && *link != job) {
        before = *link;
        link = &before->next;
    }
    const bool found = *link == job && job != NULL;
    if (found) {
        *link = job->next;
        if (h->last == job) h->last = before;
    }
    pthread_mutex_unlock(&h->lock);
    return found;
}
