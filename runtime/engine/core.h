/* core.h - the insides of an engine, for engine.c (life), generate.c (a request's way) and numeric.c (what went wrong
 * with the numbers). */
#ifndef BERTH_ENGINE_CORE_H
#define BERTH_ENGINE_CORE_H

#include <pthread.h>

#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/executor.h"
#include "engine/queue.h"
#include "engine/store.h"

typedef struct berth_replica {
    struct berth_core *core;
    int32_t index;
    unsigned long thread; /* its loop */
    bool runs;
    berth_bound encode, step; /* encode.program NULL: text only */
    berth_run *run;
    berth_store *stores; /* owned */
    int32_t n_stores;
    berth_blocks kv, features; /* features: a block is a tile */
    berth_batch_inputs inputs; /* of step */
    float *pixels;             /* encode's inputs in host memory; NULL: text only */
    int32_t *feature_rows;
    const float *logits, *stats; /* step's outputs in host memory */
} berth_replica;

struct berth_core {
    berth_core_plan *plan; /* owned */
    berth_core_options options;
    berth_exec exec;
    berth_replica *replicas; /* [plan->placement->n_replicas] */
    int32_t n_replicas;
    berth_job_queue queue;
    berth_event wake; /* something came that a loop may have to act on */
    _Atomic bool is_ending;
    pthread_mutex_t strict_turn; /* strict mode: one request at a time in the whole engine */
    uint64_t load_done, load_total;
};

/* loop.c: a replica's thread, from the engine's creation until all requests are over and it ends. */
berth_status berth_replica_start(berth_replica *r, berth_error *err);
void berth_replica_join(berth_replica *r);

/* generate.c: is the request possible at all? */
berth_status berth_core_check_request(const berth_core *core, const berth_core_request *q, berth_error *err);

#endif
