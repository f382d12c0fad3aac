/* flight.c - see flight.h: a few threads, each running one request at a time. */
#include "cli/flight.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/status.h"

typedef struct job {
    struct job *next;
    berth_request request;
    cli_landing landing;
} job;

typedef struct job_list {
    job *first, **last;
} job_list;

struct cli_flight {
    berth_engine *engine;
    pthread_mutex_t lock;
    pthread_cond_t work;
    job_list waiting, ended;
    bool closing;
    volatile int cancel;
    int ended_fd; /* a semaphore: how many ends wait */
    int32_t n_threads;
    pthread_t threads[];
};

static void put(job_list *l, job *j)
{
    j->next = NULL;
    *l->last = j;
    l->last = &j->next;
}

static job *take(job_list *l)
{
    job *j = l->first;
    if (j == NULL) return NULL;
    l->first = j->next;
    if (l->first == NULL) l->last = &l->first;
    return j;
}

static void *run_jobs(void *user)
{
    cli_flight *f = user;
    pthread_mutex_lock(&f->lock);
    while (!f->closing) {
        job *j = take(&f->waiting);
        if (j == NULL) {
            pthread_cond_wait(&f->work, &f->lock);
            continue;
        }
        pthread_mutex_unlock(&f->lock);
        cli_landing *l = &j->landing;
        l->status = berth_engine_run(f->engine, &j->request, &l->result, &l->error);
        l->ended_ns = berth_now_ns();
        pthread_mutex_lock(&f->lock);
        put(&f->ended, j);
        const uint64_t one = 1;
        if (write(f->ended_fd, &one, sizeof one) < 0) f->closing = true; /* cannot be: the counter never fills */
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

berth_status cli_flight_open(berth_engine *engine, int32_t n, cli_flight **out, berth_error *err)
{
    *out = NULL;
    cli_flight *f = calloc(1, sizeof *f + (size_t)n * sizeof f->threads[0]);
    if (f == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %d requests at once", (int)n);
    f->engine = engine;
    f->waiting.last = &f->waiting.first;
    f->ended.last = &f->ended.first;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->work, NULL);
    f->ended_fd = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
    berth_status st =
        f->ended_fd >= 0 ? BERTH_OK : BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, errno, "no descriptor for the requests");
    while (st == BERTH_OK && f->n_threads < n) {
        const int code = pthread_create(&f->threads[f->n_threads], NULL, run_jobs, f);
        if (code) st = BERTH_FAIL_ERRNO(err, BERTH_OUT_OF_MEMORY, code, "no thread for request %d", (int)f->n_threads);
        f->n_threads += code == 0;
    }
    if (st != BERTH_OK) {
        cli_flight_close(f, NULL);
        return st;
    }
    *out = f;
    return BERTH_OK;
}

void cli_flight_close(cli_flight *f, void (*drop)(void *user))
{
    if (f == NULL) return;
    pthread_mutex_lock(&f->lock);
    f->closing = true;
    f->cancel = 1;
    pthread_cond_broadcast(&f->work);
    pthread_mutex_unlock(&f->lock);
    for (int32_t i = 0; i < f->n_threads; i++) pthread_join(f->threads[i], NULL);
    job_list *const lists[] = {&f->waiting, &f->ended};
    for (int i = 0; i < 2; i++) {
        for (job *j; (j = take(lists[i])) != NULL; free(j)) {
            if (drop != NULL) drop(j->landing.user);
            cli_landing_deinit(&j->landing);
        }
    }
    if (f->ended_fd >= 0) close(f->ended_fd);
    pthread_cond_destroy(&f->work);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

berth_status cli_flight_submit(cli_flight *f, const berth_request *request, void *user, berth_error *err)
{
    job *j = calloc(1, sizeof *j);
    if (j == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a request");
    j->request = *request;
    j->request.cancel = &f->cancel;
    j->landing = (cli_landing){.user = user, .result = {.struct_size = sizeof j->landing.result}};
    pthread_mutex_lock(&f->lock);
    put(&f->waiting, j);
    pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->lock);
    return BERTH_OK;
}

int cli_flight_descriptor(const cli_flight *f)
{
    return f->ended_fd;
}

berth_status cli_flight_next(cli_flight *f, int64_t timeout_ms, cli_landing *out, berth_error *err)
{
    out->user = NULL;
    struct pollfd p = {.fd = f->ended_fd, .events = POLLIN};
    if (poll(&p, 1, (int)timeout_ms) < 0 && errno != EINTR)
        return BERTH_FAIL_ERRNO(err, BERTH_IO_ERROR, errno, "waiting for requests failed");
    uint64_t one;
    if (read(f->ended_fd, &one, sizeof one) != (ssize_t)sizeof one) return BERTH_OK;
    pthread_mutex_lock(&f->lock);
    job *j = take(&f->ended);
    pthread_mutex_unlock(&f->lock);
    *out = j->landing;
    free(j);
    return BERTH_OK;
}

void cli_landing_deinit(cli_landing *l)
{
    if (l->result.struct_size == 0) return;
    berth_result_deinit(&l->result);
    *l = (cli_landing){0};
}
