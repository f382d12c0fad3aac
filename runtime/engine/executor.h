/* executor.h - carrying out a bound program: every op on its device's lane, in program order, waiting for other lanes
 * where the program says so.
 *
 * Owns binding (which bytes each value has) and one run's state. Each lane is given its share of a program as one job
 * and walks it by itself; the lanes' done counters are the program's waits. A lane op that fails poisons the run: later
 * ops do nothing but still count as over, so that no one waits for ever, and the first failure is the run's. A run
 * allocates nothing. */
#ifndef BERTH_ENGINE_EXECUTOR_H
#define BERTH_ENGINE_EXECUTOR_H

#include <pthread.h>

#include "engine/arena.h"
#include "engine/lane.h"
#include "engine/plan.h"
#include "engine/strict.h"
#include "engine/weights.h"
#include "transport/transport.h"

/* A virtual CPU device while an engine lives. */
typedef struct berth_unit {
    berth_lane lane;
    const berth_device *info; /* borrowed */
    berth_arena arena;
    berth_weights weights;
    berth_team *team;
    void *staging; /* owned; the transport's */
    size_t staging_bytes;
    int64_t spin_ns;
    berth_device_bytes allocated;
} berth_unit;

/* What all runs of an engine share. */
typedef struct berth_exec {
    berth_unit *units; /* [n_units], one a device of the machine */
    int32_t n_units;
    const berth_kernels *kernels;
    const berth_transport *transport;
    berth_strict *strict;        /* NULL = not strict */
    pthread_mutex_t strict_lock; /* held while one op runs in strict mode */
    pthread_mutex_t submit_lock; /* see shares_lanes */
    /* Replicas share a device: their jobs must reach all lanes in one order, or two runs could wait for each other. */
    bool shares_lanes;
} berth_exec;

/* A program and where its values lie. */
typedef struct berth_bound {
    const berth_program *program;
    void **data;   /* owned; [n_values] */
    uint8_t *host; /* owned mapping: inputs and outputs */
    size_t host_bytes;
    void *workspace[BERTH_MAX_DEVICES];
    int32_t *lane_ops; /* owned; ops of lane d: [lane_first[d], lane_first[d + 1]) */
    int32_t lane_first[BERTH_MAX_DEVICES + 1];
    int32_t *lane_index; /* owned; [n_ops] place in its lane */
} berth_bound;

typedef struct berth_bound_memory { /* per device of the machine */
    void *activations[BERTH_MAX_DEVICES], *workspace[BERTH_MAX_DEVICES];
    void *(*state)(void *user, const berth_value *v); /* the store of a STATE value; NULL = there is none */
    void *user;
} berth_bound_memory;

berth_status berth_bound_init(berth_bound *b, const berth_program *program, const berth_exec *exec,
                              const berth_bound_memory *memory, berth_error *err);
void berth_bound_deinit(berth_bound *b);

/* Sees every op's call after it ran, on its lane; calls come one at a time, from several threads. */
typedef struct berth_watch {
    void (*see)(void *user, const berth_bound *b, int32_t op, const berth_op_call *call);
    void *user;
} berth_watch;

typedef struct berth_run berth_run;            /* one run's state, used again for the next */
berth_run *berth_run_create(berth_exec *exec); /* NULL: out of memory */
void berth_run_destroy(berth_run *r);

/* Runs the program for these sizes to its end. `edge_bytes` [(n_units + 1)^2] grows by what copies moved. `watch` may
 * be NULL. */
berth_status berth_run_program(berth_run *r, const berth_bound *b, const berth_sizes *sizes, const berth_watch *watch,
                               uint64_t *edge_bytes, berth_error *err);

/* The op's call as the executor makes it: shapes for these sizes, and data. */
void berth_bound_call(const berth_bound *b, int32_t op, const berth_sizes *sizes, berth_op_call *out);

#endif
