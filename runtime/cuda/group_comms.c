/* group_comms.c - making, ending and asking NCCL's communicators. They are non-blocking: calls return "in progress"
 * and are asked until that is over, so that a deadline can be kept. */
#include <sched.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "cuda/group_internal.h"

enum { SHORT_POLLS = 200, PAUSE_NS = 50000, MOST_PER_POLL_NS = 100000000, LEAST_POLLS = 32 };

/* Most launches are over within microseconds; making communicators takes tenths of a second. */
static void pause_poll(int64_t n)
{
    if (n < SHORT_POLLS)
        sched_yield();
    else
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
}

static berth_status fail_deadline(const berth_gpu_group *g, const berth_channel *c, const char *call, berth_error *err)
{
    const int32_t first = berth_member_ordinal(g, c->members[0]);
    const int32_t last = berth_member_ordinal(g, c->members[c->n_ranks - 1]);
    BERTH_FAIL(err, BERTH_DEVICE_ERROR,
               "%s of %d GPUs (cuda:%d to cuda:%d) was not over after %lld ms; NCCL_DEBUG=INFO says where NCCL waits "
               "(a firewall before NCCL_SOCKET_IFNAME?); or choose another transport",
               call, (int)c->n_ranks, (int)first, (int)last, (long long)(g->timeout_ns / 1000000));
    if (err) {
        err->device = first;
        err->native_api = "nccl";
        err->native_code = BERTH_NCCL_IN_PROGRESS;
    }
    return BERTH_DEVICE_ERROR;
}

/* *out_busy: rank `r` is not done yet. */
static berth_status ask(berth_gpu_group *g, const berth_channel *c, int32_t r, const char *call, bool *out_busy,
                        berth_error *err)
{
    berth_nccl_result code = BERTH_NCCL_SUCCESS;
    pthread_mutex_lock(&g->lock);
    berth_nccl_comm comm = c->comms[r];
    berth_nccl_result asked = BERTH_NCCL_SUCCESS;
    if (comm) asked = g->nccl.ncclCommGetAsyncError(comm, &code);
    if (asked != BERTH_NCCL_SUCCESS) code = asked;
    pthread_mutex_unlock(&g->lock);
    *out_busy = code == BERTH_NCCL_IN_PROGRESS;
    if (!comm) return berth_gpu_group_state(g, err);
    return berth_nccl_status(&g->nccl, code, asked == BERTH_NCCL_SUCCESS ? call : "ncclCommGetAsyncError",
                             berth_member_ordinal(g, c->members[r]), err);
}

berth_status berth_channel_settle(berth_gpu_group *g, berth_channel *c, const char *call, berth_error *err)
{
    const int64_t share = g->timeout_ns / LEAST_POLLS, most = share < MOST_PER_POLL_NS ? share : MOST_PER_POLL_NS;
    int64_t waited = 0, n_polls = 0, last = berth_now_ns();
    for (int32_t r = 0; r < c->n_ranks;) {
        bool busy;
        const berth_status st = ask(g, c, r, call, &busy, err);
        if (st != BERTH_OK) return st;
        if (!busy) {
            r++;
            continue;
        }
        pause_poll(n_polls++);
        const int64_t now = berth_now_ns(); /* stopped meanwhile, or without a processor: that is not waiting */
        waited += now - last < most ? now - last : most;
        last = now;
        if (waited > g->timeout_ns) return fail_deadline(g, c, call, err);
    }
    return BERTH_OK;
}

berth_status berth_channel_check(berth_gpu_group *g, const berth_channel *c, berth_error *err)
{
    for (int32_t r = 0; r < c->n_ranks; r++) {
        if (!c->comms[r]) continue;
        berth_nccl_result code = BERTH_NCCL_SUCCESS;
        const berth_nccl_result asked = g->nccl.ncclCommGetAsyncError(c->comms[r], &code);
        const berth_status st =
            berth_nccl_status(&g->nccl, asked == BERTH_NCCL_SUCCESS ? code : asked, "work under way with NCCL",
                              berth_member_ordinal(g, c->members[r]), err);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

/* ---- making ---------------------------------------------------------------------------------------------------------- */

static berth_status join_rank(berth_gpu_group *g, berth_channel *c, int32_t r, berth_nccl_id id, berth_error *err)
{
    berth_gpu *gpu = g->gpus[c->members[r]];
    berth_status st = berth_gpu_enter(gpu, err); /* the rank's GPU is the one whose context is current */
    if (st != BERTH_OK) return st;
    berth_nccl_config config = {.size = sizeof config,
                                .magic = BERTH_NCCL_CONFIG_MAGIC,
                                .version = BERTH_NCCL_MIN_VERSION,
                                .blocking = 0,
                                .cga_cluster = BERTH_NCCL_UNSET,
                                .min_ctas = 1,
                                .max_ctas = g->max_ctas,
                                .split_share = BERTH_NCCL_UNSET};
    const berth_nccl_result code = g->nccl.ncclCommInitRankConfig(&c->comms[r], c->n_ranks, id, r, &config);
    st = berth_nccl_status(&g->nccl, code, "ncclCommInitRankConfig", gpu->slot->info.ordinal, err);
    const berth_status left = berth_gpu_leave(gpu, BERTH_CU_SUCCESS, "", st == BERTH_OK ? err : NULL);
    return st == BERTH_OK ? left : st;
}

/* All ranks in one NCCL group, since the first one's would wait for the others. The group is ended whatever fails. */
static berth_status join_ranks(berth_gpu_group *g, berth_channel *c, berth_error *err)
{
    const int32_t ordinal = berth_member_ordinal(g, c->members[0]);
    berth_nccl_id id;
    berth_status st = berth_nccl_status(&g->nccl, g->nccl.ncclGetUniqueId(&id), "ncclGetUniqueId", ordinal, err);
    if (st == BERTH_OK) st = berth_nccl_status(&g->nccl, g->nccl.ncclGroupStart(), "ncclGroupStart", ordinal, err);
    if (st != BERTH_OK) return st;
    for (int32_t r = 0; r < c->n_ranks && st == BERTH_OK; r++) st = join_rank(g, c, r, id, err);
    const berth_nccl_result code = g->nccl.ncclGroupEnd();
    return st == BERTH_OK ? berth_nccl_status(&g->nccl, code, "ncclGroupEnd", ordinal, err) : st;
}

berth_status berth_channel_connect(berth_gpu_group *g, berth_channel *c, berth_error *err)
{
    berth_gpu *gpu = g->gpus[c->members[0]];
    berth_status st = berth_gpu_enter(gpu, err);
    if (st != BERTH_OK) return st;
    pthread_mutex_lock(&g->lock);
    st = join_ranks(g, c, err);
    pthread_mutex_unlock(&g->lock);
    if (st == BERTH_OK) st = berth_channel_settle(g, c, "making the communicators", err);
    const berth_status left = berth_gpu_leave(gpu, BERTH_CU_SUCCESS, "", st == BERTH_OK ? err : NULL);
    return st == BERTH_OK ? left : st;
}

/* ---- ending ---------------------------------------------------------------------------------------------------------- */

/* A GPU whose context can be made current, or NULL. */
static berth_gpu *enter_any(berth_gpu_group *g)
{
    for (int32_t i = 0; i < g->n; i++) {
        if (berth_gpu_enter_to_end(g->gpus[i])) return g->gpus[i];
    }
    return NULL;
}

static berth_nccl_result for_all(berth_gpu_group *g, berth_nccl_result (*call)(berth_nccl_comm), bool gives_up)
{
    berth_nccl_result first = g->nccl.ncclGroupStart();
    const bool is_group = first == BERTH_NCCL_SUCCESS;
    for (int32_t i = 0; i <= g->n_edges; i++) {
        for (int32_t r = 0; r < g->channels[i].n_ranks; r++) {
            berth_nccl_comm *comm = &g->channels[i].comms[r];
            const berth_nccl_result code = *comm ? call(*comm) : BERTH_NCCL_SUCCESS;
            if (first == BERTH_NCCL_SUCCESS && code != BERTH_NCCL_IN_PROGRESS) first = code;
            if (gives_up) *comm = NULL;
        }
    }
    const berth_nccl_result code = is_group ? g->nccl.ncclGroupEnd() : BERTH_NCCL_SUCCESS;
    return first == BERTH_NCCL_SUCCESS && code != BERTH_NCCL_IN_PROGRESS ? code : first;
}

/* In one NCCL group: aborting frees memory, which waits for what the GPU does, and that may be another communicator's
 * kernel that hangs as well (NVIDIA/nccl issue 1013; NCCL before 2.22 still takes them one by one). */
void berth_group_abort_all(berth_gpu_group *g)
{
    berth_gpu *gpu = g->channels && g->nccl.handle ? enter_any(g) : NULL;
    if (!gpu) return;
    for_all(g, g->nccl.ncclCommAbort, true);
    berth_gpu_leave_from_end(gpu, BERTH_CU_SUCCESS);
}

void berth_group_finalize(berth_gpu_group *g)
{
    berth_gpu *gpu = enter_any(g);
    if (!gpu) return;
    pthread_mutex_lock(&g->lock);
    bool well = for_all(g, g->nccl.ncclCommFinalize, false) == BERTH_NCCL_SUCCESS;
    pthread_mutex_unlock(&g->lock);
    for (int32_t i = 0; i <= g->n_edges && well; i++)
        well = berth_channel_settle(g, &g->channels[i], "ncclCommFinalize", NULL) == BERTH_OK;
    pthread_mutex_lock(&g->lock);
    for_all(g, well ? g->nccl.ncclCommDestroy : g->nccl.ncclCommAbort, true);
    pthread_mutex_unlock(&g->lock);
    berth_gpu_leave_from_end(gpu, BERTH_CU_SUCCESS);
}
