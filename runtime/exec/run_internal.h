/* run_internal.h - the insides of a run: what executor.c (runs, and lanes that compute), run_op.c (one op) and run_queue.c (lanes
 * that queue) share.
 *
 * What a run has done on a lane is a count that grows over all runs its object ever makes, so that another run that goes
 * on after it needs no more than a count to compare with, even when it has been started anew. A share of a lane that
 * queues has two: `done`, what the worker has issued, and `over`, what the unit's waiter has seen the end of. */
#ifndef BERTH_EXEC_RUN_INTERNAL_H
#define BERTH_EXEC_RUN_INTERNAL_H

#include <stdatomic.h>

#include "exec/executor.h"

typedef struct berth_lane_share {       /* a run's ops on one lane */
    berth_share base;                   /* first; its fields are the lane's and its worker's */
    _Alignas(64) _Atomic uint32_t done; /* ops over (issued), of this run and those before it; set by the worker */
    uint32_t first;                     /* `done` before this run's first op */
    int32_t device;
    int32_t next_wait; /* of the next op: those before it are satisfied; the worker's */
    berth_run *run;
    const struct berth_lane_share *after; /* NULL = none */
    uint32_t after_first;                 /* its `first` at this run's start */
    /* Of a lane that queues */
    int32_t issued;          /* items below were queued already, with a graph */
    berth_stream *stream;    /* owned; NULL: it does not */
    _Atomic uint32_t over;   /* as `done`; set by the waiter */
    berth_note end, timed;   /* timed: the op whose time is noted */
    berth_status end_marked; /* of setting the end's mark */
} berth_lane_share;

struct berth_run {
    berth_exec *exec;
    const berth_bound *bound;
    berth_sizes sizes;
    berth_run_options options;
    int64_t marked_ns;      /* written by the marked op's lane, or its waiter */
    uint64_t may_use;       /* bit d: made for programs with ops on lane d */
    uint64_t lanes;         /* bit d: has ops on lane d */
    _Atomic int32_t n_left; /* lanes that are not through, and the starter */
    _Atomic bool failed, over;
    berth_gate end;       /* open: nobody but the owner knows of the run */
    pthread_mutex_t lock; /* error and watch */
    berth_status status;
    berth_error error;
    berth_lane_share shares[]; /* [n_units] */
};

/* ---- of a share, on its lane's worker --------------------------------------------------------------------------- */

/* The next op's place among the share's. */
static inline int32_t berth_share_next(const berth_lane_share *s)
{
    return (int32_t)(atomic_load_explicit(&s->done, memory_order_relaxed) - s->first);
}

static inline int32_t berth_share_n(const berth_lane_share *s)
{
    const berth_bound *b = s->run->bound;
    return b->lane_first[s->device + 1] - b->lane_first[s->device];
}

/* The op that many places behind the next. */
static inline int32_t berth_share_op(const berth_lane_share *s, int32_t ahead)
{
    const berth_bound *b = s->run->bound;
    return b->lane_ops[b->lane_first[s->device] + berth_share_next(s) + ahead];
}

/* The next op is over, or issued. */
static inline void berth_share_step(berth_lane_share *s)
{
    s->next_wait = 0;
    atomic_store_explicit(&s->done, atomic_load_explicit(&s->done, memory_order_relaxed) + 1, memory_order_release);
}

/* Is `count`, a share's `done` or `over`, n ops behind `first`? */
static inline bool berth_share_reached(const _Atomic uint32_t *count, uint32_t first, int32_t n)
{
    return (int32_t)(atomic_load_explicit(count, memory_order_acquire) - (first + (uint32_t)n)) >= 0;
}

/* ---- executor.c ------------------------------------------------------------------------------------------------- */

void berth_exec_wake(berth_exec *exec, uint64_t lanes);

/* One lane, or the starter, is through: the last one ends the run, of which it touches nothing from then on. */
void berth_run_let_go(berth_run *r);

/* ---- run_op.c --------------------------------------------------------------------------------------------------- */

/* Carries out, or queues, an op, and shows it to the run's watch. An error is the run's, with the op's name. */
void berth_run_do(berth_run *r, int32_t op);

/* Carries out, or queues, an op that is no copy; `call` is as berth_bound_call made it. */
berth_status berth_run_op(const berth_run *r, int32_t op, berth_op_call *call, berth_error *err);

/* Whether the op is, in this run, one with others. */
bool berth_run_fuses(const berth_run *r, int32_t op, berth_fused_ops *out);

/* The run's first failure stays. `_at` adds where it was, when what failed below could not know; BERTH_OK is none. */
void berth_run_fail(berth_run *r, berth_status st, const berth_error *why);
void berth_run_fail_at(berth_run *r, int32_t op, berth_status st, const berth_error *why);

/* ---- run_queue.c ------------------------------------------------------------------------------------------------ */

/* Issues the next op of a share of a lane that queues. */
void berth_share_issue(berth_share *base);

#endif
