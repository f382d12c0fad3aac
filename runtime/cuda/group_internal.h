/* group_internal.h - what the files behind group.h share.
 *
 * Locks, taken in this order: `issue` for a whole copy or sum; `lock` for communicators and for what is under way,
 * held while NCCL is called; `why_lock` for the error alone. An issuing thread may be held up in the driver with
 * `issue` in its hand, when a stream's queue is full behind something that hangs: so what ends the hanging takes
 * `lock` only. */
#ifndef BERTH_CUDA_GROUP_INTERNAL_H
#define BERTH_CUDA_GROUP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "cuda/device_internal.h"
#include "cuda/group.h"
#include "cuda/nccl.h"

/* A copy or sum under way. Its events are the issuing thread's until it is counted as out, then the watching one's. */
typedef struct berth_watched {
    berth_gpu_event **begun, **done; /* owned; [n_ends]: all that it waited for was over; it is over */
    size_t bytes;
    bool has_begun;
    int64_t waited_ns; /* since it was seen to have begun */
} berth_watched;

/* One edge: the first rank sends, the last one receives, and on one GPU they are the same; or the sum over all. */
typedef struct berth_channel {
    int32_t *members;        /* owned; [n_ranks] */
    berth_nccl_comm *comms;  /* owned; [n_ranks]; under `lock`; NULL = none, or aborted */
    int32_t n_ranks, n_ends; /* n_ends: the last of the ranks, whose streams a call names */
    bool is_sum;
    berth_gpu_stream *side; /* owned; of the sender, if it is not the receiver; NULL for a sum */
    berth_gpu_event *sent;  /* owned; on `side` */
    berth_watched *watched; /* owned; [depth], a ring; under `lock`: */
    int32_t oldest, n_out;  /* those under way */
    berth_gpu_edge_stats stats;
} berth_channel;

struct berth_gpu_group {
    berth_nccl nccl;
    berth_gpu **gpus; /* owned list of borrowed; [n] */
    int32_t n, n_edges;
    berth_channel *channels; /* owned; [n_edges + 1], the last one is the sum's; n_ranks 0 = there is none */
    int32_t *edge_of;        /* owned; [n * n], row = from; -1 = none */
    int64_t timeout_ns;
    int32_t max_ctas, depth;
    pthread_mutex_t issue, lock, why_lock;
    pthread_cond_t wake; /* with `lock`: something is under way, or it ends */
    pthread_t watcher;
    bool has_locks, has_watcher, ending;
    atomic_bool lost;
    berth_error why; /* under why_lock; valid when lost */
};

/* group_comms.c - making, ending and asking communicators. A context must be the thread's for every call into NCCL:
 * without one NCCL would make one on GPU 0. */

/* Makes the communicators of a channel and waits until they stand, at most the deadline. */
berth_status berth_channel_connect(berth_gpu_group *g, berth_channel *c, berth_error *err);

/* Waits until NCCL is done with what `call` began on all ranks of the channel. What it queues on streams is there only
 * then. With `lock` free. */
berth_status berth_channel_settle(berth_gpu_group *g, berth_channel *c, const char *call, berth_error *err);

/* Error of NCCL that came up since, on any rank. Under `lock`. */
berth_status berth_channel_check(berth_gpu_group *g, const berth_channel *c, berth_error *err);

void berth_group_finalize(berth_gpu_group *g);  /* all communicators, in peace; nothing is under way */
void berth_group_abort_all(berth_gpu_group *g); /* under `lock` */

/* group_watch.c */
berth_status berth_group_watch(berth_gpu_group *g, berth_error *err); /* begins to watch */
void berth_group_unwatch(berth_gpu_group *g);
/* The group is lost with `why`, unless it was before. With `lock` free; _locked: under it. */
void berth_group_lose(berth_gpu_group *g, const berth_error *why);
void berth_group_lose_locked(berth_gpu_group *g, const berth_error *why);
/* The next one of the ring, for the caller to record its events, and then (all being queued) to call out. When all
 * are under way it waits for the oldest. Under `issue`. */
berth_status berth_channel_begin(berth_gpu_group *g, berth_channel *c, berth_watched **out, berth_error *err);
/* Until all is over; else why that cannot be told, of a GPU or of the group that is lost. */
berth_status berth_channel_drain(berth_gpu_group *g, berth_channel *c, berth_error *err);
void berth_channel_out(berth_gpu_group *g, berth_channel *c, size_t bytes);

static inline int32_t berth_member_ordinal(const berth_gpu_group *g, int32_t member)
{
    return g->gpus[member]->slot->info.ordinal;
}

#endif
