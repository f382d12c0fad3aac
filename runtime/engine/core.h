/* core.h - the insides of an engine, for engine.c (life), generate.c (a request's way) and numeric.c (what went wrong
 * with the numbers). */
#ifndef BERTH_ENGINE_CORE_H
#define BERTH_ENGINE_CORE_H

#include <pthread.h>

#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/executor.h"
#include "engine/store.h"

typedef struct berth_replica {
    int32_t index;
    pthread_mutex_t lock;     /* held by the request that runs */
    int32_t n_requests;       /* running or waiting; under the core's lock */
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
    pthread_mutex_t lock; /* n_running, turn, n_requests of replicas */
    pthread_cond_t idle;
    int32_t n_running, turn;     /* turn: the replica that is next of equals */
    pthread_mutex_t strict_turn; /* strict mode: one request at a time in the whole engine */
    uint64_t load_done, load_total;
};

#endif
