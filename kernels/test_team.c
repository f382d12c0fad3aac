/* test_team.c - see test_team.h. Workers wait for a new generation: a short spin, then a condition variable. */
#include "kernels/test_team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPINS = 2000 };

typedef struct test_team test_team;

typedef struct worker {
    test_team *team;
    pthread_t thread;
    int32_t index;
} worker;

struct test_team {
    berth_team base; /* first: the public face */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    atomic_uint generation; /* odd or even does not matter: each change is one run, or the end */
    atomic_int n_busy;
    atomic_bool stop;
    void (*fn)(void *arg, int32_t thread, int32_t n_threads);
    void *arg;
    worker *workers; /* [n_threads - 1] */
};

#if defined(__x86_64__)
static void pause_briefly(void)
{
    __builtin_ia32_pause();
}
#else
static void pause_briefly(void) {}
#endif

static unsigned wait_for_change(test_team *team, unsigned seen)
{
    for (int i = 0; i < SPINS; i++) {
        unsigned now = atomic_load_explicit(&team->generation, memory_order_acquire);
        if (now != seen) return now;
        pause_briefly();
    }
    pthread_mutex_lock(&team->lock);
    unsigned now;
    while ((now = atomic_load_explicit(&team->generation, memory_order_acquire)) == seen)
        pthread_cond_wait(&team->wake, &team->lock);
    pthread_mutex_unlock(&team->lock);
    return now;
}

static void *work(void *arg)
{
    worker *w = arg;
    test_team *team = w->team;
    for (unsigned seen = 0;;) {
        seen = wait_for_change(team, seen);
        if (atomic_load_explicit(&team->stop, memory_order_acquire)) return NULL;
        team->fn(team->arg, w->index, team->base.n_threads);
        atomic_fetch_sub_explicit(&team->n_busy, 1, memory_order_release);
    }
}

static void next_generation(test_team *team)
{
    pthread_mutex_lock(&team->lock);
    atomic_fetch_add_explicit(&team->generation, 1, memory_order_release);
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->lock);
}

static void run(berth_team *base, void (*fn)(void *arg, int32_t thread, int32_t n_threads), void *arg)
{
    test_team *team = (test_team *)(void *)base;
    team->fn = fn;
    team->arg = arg;
    atomic_store_explicit(&team->n_busy, base->n_threads - 1, memory_order_relaxed);
    next_generation(team);
    fn(arg, 0, base->n_threads);
    for (int i = 0; atomic_load_explicit(&team->n_busy, memory_order_acquire) > 0; i++) {
        if (i < SPINS)
            pause_briefly();
        else
            sched_yield(); /* the others may be waiting for this core */
    }
}

berth_team *berth_test_team_create(int32_t n_threads)
{
    test_team *team = calloc(1, sizeof *team);
    if (!team) return NULL;
    team->base = (berth_team){1, run};
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->wake, NULL);
    team->workers = calloc((size_t)n_threads, sizeof *team->workers);
    for (int32_t i = 1; team->workers && i < n_threads; i++) {
        worker *w = &team->workers[i - 1];
        *w = (worker){.team = team, .index = i};
        if (pthread_create(&w->thread, NULL, work, w) != 0) break;
        team->base.n_threads = i + 1; /* read by workers only after the first run */
    }
    if (team->workers && team->base.n_threads == n_threads) return &team->base;
    berth_test_team_destroy(&team->base);
    return NULL;
}

void berth_test_team_destroy(berth_team *base)
{
    if (!base) return;
    test_team *team = (test_team *)(void *)base;
    atomic_store_explicit(&team->stop, true, memory_order_release);
    next_generation(team);
    for (int32_t i = 1; i < base->n_threads; i++) pthread_join(team->workers[i - 1].thread, NULL);
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->lock);
    free(team->workers);
    free(team);
}
