/* group_watch.c - what is under way, the thread that looks at it, and how a group is lost.
 *
 * The thread asks events and communicators; it never waits in the driver. Time counts from when a copy could begin: before
 * that it may wait for a stage's kernels as long as they take. */
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

berth_watched *berth_channel_begin(berth_gpu_group *g, berth_channel *c, size_t bytes)
{
    pthread_mutex_lock(&g->lock);
    const int32_t i = c->watched[0].state == BERTH_WATCHED_IDLE   ? 0
                      : c->watched[1].state == BERTH_WATCHED_IDLE ? 1
                                                                  : 1 - c->oldest;
    berth_watched *w = &c->watched[i];
    w->was = w->state;
    w->state = BERTH_WATCHED_WRITTEN;
    w->has_begun = false;
    w->waited_ns = 0;
    w->bytes = bytes;
    pthread_mutex_unlock(&g->lock);
    return w;
}

void berth_channel_out(berth_gpu_group *g, berth_channel *c, berth_watched *w)
{
    pthread_mutex_lock(&g->lock);
    w->state = BERTH_WATCHED_OUT;
    if (c->oldest < 0) c->oldest = (int32_t)(w - c->watched);
    c->stats.n_copies++;
    c->stats.bytes += w->bytes;
    pthread_cond_signal(&g->wake);
    pthread_mutex_unlock(&g->lock);
}

/* The events of an earlier copy are still recorded, and it is still under way. */
void berth_channel_cancel(berth_gpu_group *g, berth_channel *c, berth_watched *w)
{
    pthread_mutex_lock(&g->lock);
    w->state = w->was;
    if (w->state == BERTH_WATCHED_OUT && c->oldest < 0) c->oldest = (int32_t)(w - c->watched);
    pthread_mutex_unlock(&g->lock);
}

/* ---- watching -------------------------------------------------------------------------------------------------------- */

static berth_status all_over(berth_gpu_event *const *events, int32_t n, bool *out, berth_error *err)
{
    *out = true;
    for (int32_t i = 0; i < n && *out; i++) {
        const berth_status st = berth_gpu_event_over(events[i], out, err);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

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

/* The next one that is watched is the newest, if it was queued meanwhile. */
static void retire(berth_channel *c)
{
    c->watched[c->oldest].state = BERTH_WATCHED_IDLE;
    const int32_t other = 1 - c->oldest;
    c->oldest = c->watched[other].state == BERTH_WATCHED_OUT ? other : -1;
}

static berth_status look(berth_gpu_group *g, berth_channel *c, int64_t passed, berth_error *err)
{
    berth_watched *w = &c->watched[c->oldest];
    berth_status st = berth_channel_check(g, c, err);
    bool over = false;
    if (st == BERTH_OK) st = all_over(w->done, c->n_ends, &over, err);
    if (st != BERTH_OK) return st;
    if (over) {
        retire(c);
        return BERTH_OK;
    }
    if (w->has_begun)
        w->waited_ns += passed;
    else
        st = all_over(w->begun, c->n_ends, &w->has_begun, err);
    return st == BERTH_OK && w->waited_ns > g->timeout_ns ? fail_hung(g, c, w, err) : st;
}

/* *out_busy: something is under way. */
static berth_status look_at_all(berth_gpu_group *g, int64_t passed, bool *out_busy, berth_error *err)
{
    *out_busy = false;
    for (int32_t i = 0; i <= g->n_edges; i++) {
        berth_channel *c = &g->channels[i];
        if (c->oldest < 0) continue;
        const berth_status st = look(g, c, passed, err);
        if (st != BERTH_OK) return st;
        *out_busy |= c->oldest >= 0;
    }
    return BERTH_OK;
}

static void sleep_until(berth_gpu_group *g, int64_t at_ns)
{
    const struct timespec at = {.tv_sec = at_ns / 1000000000, .tv_nsec = at_ns % 1000000000};
    while (!g->ending && berth_now_ns() < at_ns && pthread_cond_timedwait(&g->wake, &g->lock, &at) != ETIMEDOUT) {
    }
}

static bool is_busy(const berth_gpu_group *g)
{
    for (int32_t i = 0; i <= g->n_edges; i++) {
        if (g->channels[i].oldest >= 0) return true;
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
        int64_t passed = berth_now_ns() - before;
        if (passed > 2 * period) passed = 2 * period; /* the process was stopped, which is nobody's hanging */
        berth_error why = {0};
        bool busy;
        if (!g->ending && look_at_all(g, passed, &busy, &why) != BERTH_OK) berth_group_lose_locked(g, &why);
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
