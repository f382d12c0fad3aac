/* executor.h - carrying out bound programs: every op on its device's lane, as soon as the ops it waits for are done.
 *
 * Owns binding (which bytes each value has) and runs. Many runs may be in flight at once, of one program or several:
 * each lane has its share of each run, within a run it keeps program order, and takes the oldest run that can go on. So
 * k passes fill k pipeline stages, and replicas may share devices in any order of stages. Runs in flight never share a
 * berth_bound (their activations); what they share is an op's workspace, states, and nothing else.
 *
 * A lane whose device queues (backend.h) counts an op as done once it is issued: a lane that queues too then lets its
 * stream wait for the op's mark, any other waits until the device's waiter has seen the mark. A run is over on such a
 * lane when the waiter has seen its end.
 *
 * An op that fails poisons its own run: its later ops do nothing but still count as over, so that no one waits for
 * ever, and the first failure is the run's. A run allocates nothing and takes no lock, save for the caller's watch. */
#ifndef BERTH_EXEC_EXECUTOR_H
#define BERTH_EXEC_EXECUTOR_H

#include <pthread.h>

#include "exec/copy_times.h"
#include "exec/fuse.h"
#include "exec/replay.h"
#include "exec/strict.h"

/* What all runs of an engine share. */
typedef struct berth_exec {
    berth_unit *units; /* [n_units], one a device of the machine */
    int32_t n_units;
    const berth_transport *transport; /* of every edge that has no other */
    const berth_transport *
        *edges;             /* owned; [(n_units + 1)^2], row = from, the host last; NULL, or NULL entries: edges.h */
    char **edge_notes;      /* owned; as edges: why one has no better transport; NULL entries: nothing to say */
    uint64_t queueing;      /* bit d: unit d queues */
    berth_gpu_group *group; /* owned; NULL: no edge goes by NCCL */
    bool no_graphs;         /* every op is launched by itself */
    bool times_copies;      /* also those that are queued */
    bool no_fusing;         /* no two ops become one kernel */
    berth_cuda *cuda;       /* owned; NULL: no unit is a GPU */
    berth_strict *strict;   /* NULL = not strict */
    pthread_mutex_t strict_lock; /* held while one op runs in strict mode */
} berth_exec;

/* An op's point in its stream's work, and the item that waits for it on its unit's waiter. */
typedef struct berth_note {
    berth_share base;
    berth_mark *mark; /* owned; NULL: nobody waits for this op */
    struct berth_lane_share *share;
    uint32_t upto;  /* the share's `done` behind the op */
    uint64_t wakes; /* the lanes that wait for the host to know */
} berth_note;

/* A program and where its values lie. One run at a time. */
typedef struct berth_bound {
    const berth_program *program;
    void **data;   /* owned; [n_values] */
    uint8_t *host; /* owned mapping: inputs and outputs */
    size_t host_bytes;
    void *workspace[BERTH_MAX_DEVICES];
    int32_t *lane_ops; /* owned; ops of lane d: [lane_first[d], lane_first[d + 1]) */
    int32_t lane_first[BERTH_MAX_DEVICES + 1];
    int32_t *lane_index; /* owned; [n_ops] place in its lane */
    uint64_t *wakes;     /* owned; [n_ops] bit d: an op of lane d waits for this one */
    berth_replay replay;
    berth_copy_times times;
    berth_fusions fusions;
    berth_note *notes; /* owned; [n_ops] with a mark where a queueing lane's op wakes others; NULL: no lane queues */
    uint64_t lanes;    /* bit d: has ops on lane d */
    const berth_exec *exec; /* borrowed */
    berth_unit *pinner;     /* borrowed; it pinned `host`; NULL: mapped */
    uint64_t *expects;      /* owned; [n_ops] bit d: lane d will soon have to do, for this op or one close behind it */
} berth_bound;

typedef struct berth_bound_memory { /* per device of the machine */
    void *activations[BERTH_MAX_DEVICES], *workspace[BERTH_MAX_DEVICES];
    void *(*state)(void *user, const berth_value *v); /* the store of a STATE value; NULL = there is none */
    void *user;
} berth_bound_memory;

berth_status berth_bound_init(berth_bound *b, const berth_program *program, const berth_exec *exec,
                              const berth_bound_memory *memory, berth_error *err);
void berth_bound_deinit(berth_bound *b);

/* Sees every op's call after it ran, on its lane; calls of one run come one at a time, from several threads. The output is
 * in host memory; operands may not be, see berth_exec_fetch. Runs that are watched wait for every op that is seen. */
typedef struct berth_watch {
    void (*see)(void *user, const berth_bound *b, int32_t op, const berth_op_call *call);
    void *user;
    bool (*wants)(void *user, const berth_bound *b, int32_t op); /* false: `see` is not called; NULL = all are wanted */
} berth_watch;

/* For a watch: lets t->data, of an operand on `device` while its op is seen, be memory that the host can read. *out_owned
 * is then for the caller to free; NULL where it could be read in place. */
berth_status berth_exec_fetch(const berth_exec *exec, int32_t device, berth_tensor *t, void **out_owned,
                              berth_error *err);

typedef struct berth_run berth_run; /* one run's state, used again for the next */

/* For programs with ops on `lanes` (bit d: lane d) only. BERTH_OUT_OF_MEMORY, or what the devices' streams give. */
berth_status berth_run_create(berth_exec *exec, uint64_t lanes, berth_run **out, berth_error *err);

/* Not while it is in flight, nor while a run started after it is. */
void berth_run_destroy(berth_run *r);

/* Zero is the default for every field. What is pointed to lives until the run is finished. */
typedef struct berth_run_options {
    const berth_watch *watch;
    uint64_t *edge_bytes; /* [(n_units + 1)^2] grows by what copies moved; runs of one program in flight may share it */
    uint64_t *edge_ns;    /* as edge_bytes, by how long they took; what was queued only where times_copies */
    /* An earlier run of the same program, maybe still in flight (a prompt's chunk before this one): on each lane, this
     * run's i-th op comes after that one's i-th. It may be finished and started again meanwhile. */
    const berth_run *after;
    berth_event *notify; /* advanced by one when the run is over, failed or not */
    const char
        *label;   /* what each op queued on a GPU is called behind its own name, for tools (cuda/nvtx.h); graphs are not
                          * replayed then. NULL = nobody asks */
    int32_t mark; /* 1 + the op at whose end berth_run_marked_ns notes the time; 0 = none */
} berth_run_options;

/* Puts the run on its lanes and returns. `b` and its host memory are the run's until it is finished; `sizes` is copied.
 * One thread at a time deals with a run, any number with different ones. Errors, nothing was started:
 * BERTH_INVALID_ARGUMENT (the run is in flight; `after` is, with another program; it was made for other lanes). */
berth_status berth_run_start(berth_run *r, const berth_bound *b, const berth_sizes *sizes,
                             const berth_run_options *options, berth_error *err);

/* No op of it is under way or to come: finish will not wait. True for a run that was never started. */
bool berth_run_over(const berth_run *r);

/* Waits for the end (asleep: the caller's core is one of those that compute). The run's status and its first error. */
berth_status berth_run_finish(berth_run *r, berth_error *err);

/* Of a run that is over: when its marked op was done, of berth_now_ns(); 0 = none was marked, or it did not come to it. */
int64_t berth_run_marked_ns(const berth_run *r);

/* Start and finish. `watch` may be NULL. */
berth_status berth_run_program(berth_run *r, const berth_bound *b, const berth_sizes *sizes, const berth_watch *watch,
                               uint64_t *edge_bytes, berth_error *err);

uint64_t berth_program_lanes(const berth_program *program); /* bit d: has ops there; 0 for NULL */

/* The op's call as the executor makes it: shapes for these sizes, and data. */
void berth_bound_call(const berth_bound *b, int32_t op, const berth_sizes *sizes, berth_op_call *out);

/* The calls of a fusion, as each would be made alone. `call` points into `ops`: it stays where it was made. */
typedef struct berth_fused_ops {
    berth_op_call ops[2 + BERTH_FUSED_LINEARS];
    berth_fused_call call;
    int32_t first; /* the op at which the whole is carried out */
} berth_fused_ops;

/* False: the op is of no fusion. */
bool berth_bound_fused(const berth_bound *b, int32_t op, const berth_sizes *sizes, berth_fused_ops *out);

#endif
