/* serve_flood.c - far more requests at once than an engine takes, and an engine with nothing to do. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/clock.h"
#include "bench/serve_load.h"

enum { FLOOD = 10000, FLOOD_THREADS = 8, FLOOD_KINDS = 16, FLOOD_NEW = 4 };

/* ---- a flood ---------------------------------------------------------------------------------------------------- */

typedef struct flood {
    serve_engine *e;
    int32_t ids[FLOOD_KINDS][SERVE_PROMPT], answers[FLOOD_KINDS][FLOOD_NEW];
    berth_core_request requests[FLOOD_KINDS];
    _Atomic int32_t n_done, n_same, n_cancelled, n_busy, n_failed, next;
    int64_t slowest_refusal_ns;
} flood;

typedef struct flood_one {
    flood *f;
    int32_t kind;
    berth_core_request q;
} flood_one;

static void count_end(void *user, berth_status st, berth_core_result *result, const berth_error *why)
{
    flood_one *one = user;
    flood *f = one->f;
    (void)why;
    if (st != BERTH_OK)
        atomic_fetch_add(&f->n_failed, 1);
    else if (result->finish == BERTH_FINISH_CANCELLED)
        atomic_fetch_add(&f->n_cancelled, 1);
    else
        atomic_fetch_add(&f->n_same, result->n_ids == FLOOD_NEW &&
                                         memcmp(result->ids, f->answers[one->kind], sizeof f->answers[0]) == 0);
    if (st == BERTH_OK && result->finish != BERTH_FINISH_CANCELLED) atomic_fetch_add(&f->n_done, 1);
    berth_core_result_deinit(result);
    free(one);
}

static void *pour(void *arg)
{
    flood *f = arg;
    for (int32_t i; (i = atomic_fetch_add(&f->next, 1)) < FLOOD;) {
        flood_one *one = calloc(1, sizeof *one);
        if (!one) exit(1);
        *one = (flood_one){.f = f, .kind = i % FLOOD_KINDS, .q = f->requests[i % FLOOD_KINDS]};
        one->q.on_end = count_end;
        one->q.user = one;
        uint64_t id = 0;
        berth_error err = {0};
        int64_t begin = berth_now_ns();
        if (berth_core_submit(f->e->core, &one->q, &id, &err) != BERTH_OK) {
            int64_t took = berth_now_ns() - begin;
            if (took > f->slowest_refusal_ns) f->slowest_refusal_ns = took;
            atomic_fetch_add(&f->n_busy, 1);
            free(one);
        } else if (i % 10 == 0) {
            berth_core_cancel(f->e->core, id);
        }
    }
    return NULL;
}

static void answer_alone(flood *f)
{
    for (int32_t k = 0; k < FLOOD_KINDS; k++) {
        for (int32_t i = 0; i < SERVE_PROMPT; i++) f->ids[k][i] = (k * 131 + i * 7) % 400;
        f->requests[k] = (berth_core_request){.ids = f->ids[k],
                                              .n_ids = SERVE_PROMPT,
                                              .image_token_id = -1,
                                              .max_new = FLOOD_NEW,
                                              .sampling = BERTH_SAMPLING_GREEDY};
        berth_core_result result;
        berth_error err = {0};
        serve_must(berth_core_run(f->e->core, &f->requests[k], &result, &err), &err);
        memcpy(f->answers[k], result.ids, sizeof f->answers[k]);
        berth_core_result_deinit(&result);
    }
}

void serve_flood(const char *dir)
{
    static flood f;
    serve_engine e;
    const serve_setting s = {.devices = "cpu*2", .strategy = "replicate", .n_seqs = 16};
    serve_start(&e, dir, &s, FLOOD_NEW, 1024);
    f.e = &e;
    answer_alone(&f);
    pthread_t threads[FLOOD_THREADS];
    int64_t begin = berth_now_ns();
    for (int32_t i = 0; i < FLOOD_THREADS; i++)
        if (pthread_create(&threads[i], NULL, pour, &f) != 0) exit(1);
    for (int32_t i = 0; i < FLOOD_THREADS; i++) pthread_join(threads[i], NULL);
    serve_stop(&e); /* waits for all */
    printf("%d requests at once from %d threads, queue 1024: %d completed, %d of them as alone, %d refused, %d "
           "cancelled, %d failed; %d lost; %.2f s; slowest refusal %.2f ms\n",
           FLOOD, FLOOD_THREADS, f.n_done, f.n_same, f.n_busy, f.n_cancelled, f.n_failed,
           FLOOD - f.n_done - f.n_busy - f.n_cancelled - f.n_failed, (double)(berth_now_ns() - begin) * 1e-9,
           (double)f.slowest_refusal_ns * 1e-6);
}

/* ---- nothing to do ---------------------------------------------------------------------------------------------- */

static double own_ms(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return 1e3 * (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-3 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

void serve_rest(const char *dir)
{
    serve_engine e;
    const serve_setting s = {.devices = "cpu*2", .strategy = "replicate", .n_seqs = 4};
    serve_start(&e, dir, &s, 24, 0);
    serve_rate_alone(&e, 2, 8);
    const struct timespec settle = {.tv_nsec = 100000000}, two_seconds = {.tv_sec = 2};
    nanosleep(&settle, NULL);
    double before = own_ms();
    nanosleep(&two_seconds, NULL);
    printf("idle: %.2f ms of processor time in 2 s\n", own_ms() - before);
    serve_stop(&e);
}
