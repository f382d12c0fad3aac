/* team.c - helper threads of a CPU device. A region costs one advance of `start` and one wait on `done`; the function
 * and its argument are plain fields because those two events order them. */
#include "exec/team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

#include "exec/event.h"

typedef struct cpu_team cpu_team;

typedef struct helper {
    cpu_team *team;
    unsigned long thread;
    int32_t index;
} helper;

struct cpu_team {
    berth_event start, done;
    berth_team base; /* what kernels see */
    void (*fn)(void *arg, int32_t thread, int32_t n_threads);
    void *arg;
    bool stop;
    int64_t spin_ns;
    int32_t n_helpers; /* those that run */
    helper *helpers;
};

static cpu_team *team_of(berth_team *base)
{
    return (cpu_team *)(void *)((char *)base - offsetof(cpu_team, base));
}

static void *helper_body(void *arg)
{
    const helper *h = arg;
    cpu_team *t = h->team;
    for (uint32_t region = 1;; region++) {
        berth_event_wait(&t->start, region, t->spin_ns);
        if (t->stop) return NULL;
        t->fn(t->arg, h->index, t->base.n_threads);
        berth_event_advance(&t->done, 1);
    }
}

static void team_run(berth_team *base, void (*fn)(void *arg, int32_t thread, int32_t n_threads), void *arg)
{
    cpu_team *t = team_of(base);
    if (t->n_helpers == 0) {
        fn(arg, 0, 1);
        return;
    }
    uint32_t all_done = berth_event_value(&t->done) + (uint32_t)t->n_helpers;
    t->fn = fn;
    t->arg = arg;
    berth_event_advance(&t->start, 1);
    fn(arg, 0, base->n_threads);
    berth_event_wait(&t->done, all_done, t->spin_ns);
}

typedef struct watched {
    berth_thread_label label;
    void *(*body)(void *);
    void *arg;
} watched;

static void *watched_body(void *arg)
{
    watched w = *(watched *)arg;
    free(arg);
    if (w.label.watch.begin) w.label.watch.begin(w.label.watch.user, w.label.name);
    void *result = w.body(w.arg);
    if (w.label.watch.end) w.label.watch.end(w.label.watch.user, w.label.name);
    return result;
}

static berth_status start_watched(unsigned long *out_thread, void *(*body)(void *), void *arg, const int32_t *cores,
                                  int32_t n_cores, const berth_thread_label *label, berth_error *err)
{
    watched *w = malloc(sizeof *w);
    if (!w) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the thread \"%s\"", label->name);
    *w = (watched){.label = *label, .body = body, .arg = arg};
    berth_thread_label unwatched = *label;
    unwatched.watch = (berth_thread_watch){0};
    berth_status st = berth_thread_start(out_thread, watched_body, w, cores, n_cores, &unwatched, err);
    if (st != BERTH_OK) free(w);
    return st;
}

static berth_status refuse_thread(const berth_thread_label *label, int code, berth_error *err)
{
    return BERTH_FAIL_ERRNO(err, BERTH_DEVICE_ERROR, code,
                            "thread \"%s\" was not started; the system has no more, or a limit (ulimit -u) is reached",
                            label ? label->name : "");
}

berth_status berth_thread_start(unsigned long *out_thread, void *(*body)(void *), void *arg, const int32_t *cores,
                                int32_t n_cores, const berth_thread_label *label, berth_error *err)
{
    if (label && (label->watch.begin || label->watch.end))
        return start_watched(out_thread, body, arg, cores, n_cores, label, err);
    pthread_attr_t attr;
    cpu_set_t *set = NULL;
    int rc = pthread_attr_init(&attr);
    if (rc) return refuse_thread(label, rc, err);
    if (cores && n_cores > 0) {
        int32_t top = cores[n_cores - 1] + 1;
        set = CPU_ALLOC((size_t)top);
        if (!set) {
            pthread_attr_destroy(&attr);
            return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "core set of a device's thread");
        }
        size_t bytes = CPU_ALLOC_SIZE((size_t)top);
        CPU_ZERO_S(bytes, set);
        for (int32_t i = 0; i < n_cores; i++) CPU_SET_S((size_t)cores[i], bytes, set);
        rc = pthread_attr_setaffinity_np(&attr, bytes, set);
    }
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV); /* a fault of the thread itself must reach its handler */
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    pthread_t thread;
    if (!rc) {
        pthread_sigmask(SIG_SETMASK, &all, &before);
        rc = pthread_create(&thread, &attr, body, arg);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attr);
    if (set) CPU_FREE(set);
    if (rc) return refuse_thread(label, rc, err);
    *out_thread = (unsigned long)thread;
    return BERTH_OK;
}

void berth_thread_join(unsigned long thread)
{
    pthread_join((pthread_t)thread, NULL);
}

berth_status berth_cpu_team_create(int32_t n_threads, const int32_t *cores, int32_t n_cores, bool pin, int64_t spin_ns,
                                   const berth_thread_label *label, berth_team **out, berth_error *err)
{
    *out = NULL;
    cpu_team *t = aligned_alloc(64, (sizeof *t + 63) & ~(size_t)63);
    if (!t) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a team of %d threads", (int)n_threads);
    *t = (cpu_team){.base = {.n_threads = n_threads, .run = team_run}, .spin_ns = spin_ns};
    berth_event_init(&t->start);
    berth_event_init(&t->done);
    if (n_threads > 1) t->helpers = calloc((size_t)n_threads - 1, sizeof *t->helpers);
    berth_status st = BERTH_OK;
    if (n_threads > 1 && !t->helpers) st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a team of %d threads", (int)n_threads);
    for (int32_t i = 0; st == BERTH_OK && t->helpers && i < n_threads - 1; i++) {
        helper *h = &t->helpers[i];
        *h = (helper){.team = t, .index = i + 1};
        bool one = pin && cores && n_cores > 0;
        st = berth_thread_start(&h->thread, helper_body, h, one ? &cores[h->index % n_cores] : cores, one ? 1 : n_cores,
                                label, err);
        if (st == BERTH_OK) t->n_helpers++;
    }
    if (st != BERTH_OK) {
        berth_cpu_team_destroy(&t->base);
        return st;
    }
    *out = &t->base;
    return BERTH_OK;
}

void berth_cpu_team_destroy(berth_team *base)
{
    if (!base) return;
    cpu_team *t = team_of(base);
    t->stop = true;
    berth_event_advance(&t->start, 1);
    for (int32_t i = 0; i < t->n_helpers; i++) berth_thread_join(t->helpers[i].thread);
    free(t->helpers);
    free(t);
}
