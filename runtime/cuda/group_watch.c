/* group_watch.c - what is under way, the thread that looks at it, and how a group is lost.
 *
 * The thread asks events and communicators; it never waits in the driver. Time counts from when a copy could begin:
 * before that it may wait for a stage's kernels as long as they take. */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "base/clock.h"
#include "cuda/group_internal.h"

enum { LOOKS = 32, MIN_PERIOD_NS = 1000000, MAX_PERIOD_NS = 250000000 };

/* ---- losing ---------------------------------------------------------------------------------------------------------- */

berth_status berth_gpu_group_state(berth_gpu_group *g, berth_error *err)
{
    if (!atomic_load(&g->lost)) return BERTH_OK;
    pthread_mutex_lock(&g->why_lock);
    const berth_status st = g->why.status;
    if (err) *err = g->why;
    pthread_mutex_unlock(&g->why_lock);
    return st;
}

static bool note(berth_gpu_group *g, const berth_error *why)
{
    pthread_mutex_lock(&g->why_lock);
    const bool is_first = !atomic_load(&g->lost);
    if (is_first) {
        g->why = *why;
        atomic_store(&g->lost, true);
    }
    pthread_mutex_unlock(&g->why_lock);
    return is_first;
}

void berth_group_lose_locked(berth_gpu_group *g, const berth_error *why)
{
    if (!note(g, why)) return;
    berth_group_abort_all(g);
    pthread_cond_broadcast(&g->wake);
}

/* Known at once, before the lock may be had. */
void berth_group_lose(berth_gpu_group *g, const berth_error *why)
{
    if (!note(g, why)) return;
    pthread_mutex_lock(&g->lock);
    berth_group_abort_all(g);
    pthread_cond_broadcast(&g->wake);
    pthread_mutex_unlock(&g->lock);
}

void berth_gpu_group_abort(berth_gpu_group *g)
{
    berth_error why = {0};
    BERTH_FAIL(&why, BERTH_CANCELLED, "the group of NCCL's communicators was aborted on request");
    why.device = -1;
    berth_group_lose(g, &why);
}

/* ---- under way ------------------------------------------------------------------------------------------------------- */

static berth_status all_over(berth_gpu_event *const *events, int32_t n, bool *out, berth_error *err)
{
    *out = true;
    for (int32_t i = 0; i < n && *out; i++) {
        const berth_status st = berth_gpu_event_over(events[i], out, err);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

/* Those at the ring's old end that are over make room. Under `lock`. */
static berth_status retire(const berth_gpu_group *g, berth_channel *c, berth_error *err)
{
    bool over = true;
    while (c->n_out > 0 && over) {
        const berth_status st = all_over(c->watched[c->oldest].done, c->n_ends, &over, err);
        if (st != BERTH_OK) return st;
        if (!over) break;
        c->oldest = (c->oldest + 1) % g->depth;
        c->n_out--;
    }
    return BERTH_OK;
}

/* The oldest does not need anything that is queued later, so waiting for it is safe whatever other threads do; if it
 * hangs the watching thread ends it. Without `lock`, which the end of those events does not need: only this thread
 * reuses them. */
static berth_status wait_for_oldest(berth_gpu_group *g, berth_channel *c, berth_error *err)
{
    pthread_mutex_lock(&g->lock);
    const berth_watched *w = c->n_out > 0 ? &c->watched[c->oldest] : NULL;
    pthread_mutex_unlock(&g->lock);
    berth_status st = BERTH_OK;
    for (int32_t i = 0; w && i < c->n_ends && st == BERTH_OK; i++) st = berth_gpu_event_wait(w->done[i], err);
    return st == BERTH_OK ? berth_gpu_group_state(g, err) : st;
}

berth_status berth_channel_begin(berth_gpu_group *g, berth_channel *c, berth_watched **out, berth_error *err)
{
    *out = NULL;
    berth_status st = BERTH_OK;
    for (;;) {
        pthread_mutex_lock(&g->lock);
        if (c->n_out == g->depth) st = retire(g, c, err);
        if (st == BERTH_OK && c->n_out < g->depth) {
            *out = &c->watched[(c->oldest + c->n_out) % g->depth];
            (*out)->has_begun = false;
            (*out)->waited_ns = 0;
        }
        pthread_mutex_unlock(&g->lock);
        if (st == BERTH_OK && !*out) st = wait_for_oldest(g, c, err);
        if (st != BERTH_OK || *out) return st;
    }
}

berth_status berth_channel_drain(berth_gpu_group *g, berth_channel *c, berth_error *err)
{
    berth_status st = BERTH_OK;
    for (bool busy = true; busy && st == BERTH_OK;) {
        st = wait_for_oldest(g, c, err);
        pthread_mutex_lock(&g->lock);
        if (st == BERTH_OK) st = retire(g, c, err);
        busy = c->n_out > 0;
        pthread_mutex_unlock(&g->lock);
    }
    return st;
}

void berth_channel_out(berth_gpu_group *g, berth_channel *c, size_t bytes)
{
    pthread_mutex_lock(&g->lock);
    c->watched[(c->oldest + c->n_out) % g->depth].bytes = bytes;
    c->n_out++;
    c->stats.n_copies++;
    c->stats.bytes += bytes;
    pthread_cond_signal(&g->wake);
    pthread_mutex_unlock(&g->lock);
}

/* ---- watching -------------------------------------------------------------------------------------------------------- */

static berth_status fail_hung(const berth_gpu_group *g, const berth_channel *c, const berth_watched *w,
                              berth_error *err)
{
    const int32_t first = berth_member_ordinal(g, c->members[0]);
    const int32_t last = berth_member_ordinal(g, c->members[c->n_ranks - 1]);
    BERTH_FAIL(err, BERTH_DEVICE_ERROR,
               "%s %zu bytes %s cuda:%d to cuda:%d with NCCL was not over %lld ms after it could begin; it was "
               "aborted with all that was under way, and what arrived is void; NCCL_DEBUG=WARN may say why, another "
               "transport may do",
               c->is_sum ? "a sum of" : "a copy of", w->bytes, c->is_sum ? "over" : "from", (int)first, (int)last,
               (long long)(w->waited_ns / 1000000));
    if (err) {
        err->device = last;
        err->native_api = "nccl";
        err->native_code = BERTH_NCCL_IN_PROGRESS;
    }
    return BERTH_DEVICE_ERROR;
}

/* A GPU that died leaves the others waiting for it. The sender's has no event here to be asked. */
static berth_status check_gpus(const berth_gpu_group *g, const berth_channel *c, berth_error *err)
{
    for (int32_t r = 0; r < c->n_ranks; r++) {
        berth_gpu *gpu = g->gpus[c->members[r]];
        if (berth_gpu_is_lost(gpu)) return berth_gpu_enter(gpu, err); /* refused, with the GPU's error */
    }
    bool over;
    return c->side ? berth_gpu_stream_over(c->side, &over, err) : BERTH_OK;
}

static berth_status look(berth_gpu_group *g, berth_channel *c, int64_t passed, berth_error *err)
{
    berth_status st = check_gpus(g, c, err);
    if (st == BERTH_OK) st = berth_channel_check(g, c, err);
    if (st == BERTH_OK) st = retire(g, c, err);
    if (st != BERTH_OK || c->n_out == 0) return st;
    berth_watched *w = &c->watched[c->oldest];
    if (w->has_begun)
        w->waited_ns += passed;
    else
        st = all_over(w->begun, c->n_ends, &w->has_begun, err);
    return st == BERTH_OK && w->waited_ns > g->timeout_ns ? fail_hung(g, c, w, err) : st;
}

static berth_status look_at_all(berth_gpu_group *g, int64_t passed, berth_error *err)
{
    berth_status st = BERTH_OK;
    for (int32_t i = 0; i <= g->n_edges && st == BERTH_OK; i++) {
        if (g->channels[i].n_out > 0) st = look(g, &g->channels[i], passed, err);
    }
    return st;
}

static void sleep_until(berth_gpu_group *g, int64_t at_ns)
{
    const struct timespec at = {.tv_sec = at_ns / 1000000000, .tv_nsec = at_ns % 1000000000};
    while (!g->ending && !atomic_load(&g->lost) && berth_now_ns() < at_ns &&
           pthread_cond_timedwait(&g->wake, &g->lock, &at) != ETIMEDOUT) {
    }
}

static bool is_busy(const berth_gpu_group *g)
{
    for (int32_t i = 0; i <= g->n_edges; i++) {
        if (g->channels[i].n_out > 0) return true;
    }
    return false;
}

static void *watch(void *arg)
{
    berth_gpu_group *g = arg;
    int64_t period = g->timeout_ns / LOOKS;
    if (period < MIN_PERIOD_NS) period = MIN_PERIOD_NS;
    if (period > MAX_PERIOD_NS) period = MAX_PERIOD_NS;
    pthread_mutex_lock(&g->lock);
    while (!g->ending && !atomic_load(&g->lost)) {
        if (!is_busy(g)) {
            pthread_cond_wait(&g->wake, &g->lock);
            continue;
        }
        const int64_t before = berth_now_ns();
        sleep_until(g, before + period);
        if (g->ending || atomic_load(&g->lost)) break; /* who lost the group may count on no more calls */
        int64_t passed = berth_now_ns() - before;
        if (passed > period) passed = period; /* stopped, or without a processor: nobody's hanging */
        berth_error why = {0};
        if (look_at_all(g, passed, &why) != BERTH_OK) berth_group_lose_locked(g, &why);
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

berth_status berth_group_watch(berth_gpu_group *g, berth_error *err)
{
    sigset_t all, before; /* the program's signals are for its own threads; faults must reach their handlers */
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int code = pthread_create(&g->watcher, NULL, watch, g);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0)
        return BERTH_FAIL_ERRNO(err, BERTH_OUT_OF_MEMORY, code, "the thread that watches NCCL does not start");
    g->has_watcher = true;
    return BERTH_OK;
}

void berth_group_unwatch(berth_gpu_group *g)
{
    if (!g->has_watcher) return;
    pthread_mutex_lock(&g->lock);
    g->ending = true;
    pthread_cond_broadcast(&g->wake);
    pthread_mutex_unlock(&g->lock);
    pthread_join(g->watcher, NULL);
    g->has_watcher = false;
}
