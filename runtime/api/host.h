/* host.h - a few threads that take jobs in order: pictures and prompts of requests, ahead of need. */
#ifndef BERTH_API_HOST_H
#define BERTH_API_HOST_H

#include <pthread.h>
#include <stdbool.h>

#include "berth/berth.h"

#include "engine/team.h"

/* Embedded in what the job is about, so that posting allocates nothing. */
typedef struct berth_host_job {
    void (*run)(struct berth_host_job *job);
    struct berth_host_job *next;
} berth_host_job;

typedef struct berth_host berth_host;

berth_status berth_host_create(int32_t n_threads, const berth_thread_watch *watch, berth_host **out, berth_error *err);
/* Runs what waits, then ends the threads. */
void berth_host_destroy(berth_host *h);

void berth_host_post(berth_host *h, berth_host_job *job);
/* Takes a job back; false: it runs, ran, or was never posted. */
bool berth_host_withdraw(berth_host *h, berth_host_job *job);

#endif
