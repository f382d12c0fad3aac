/* store.h - what a plan puts on each device, item by item: the one list behind planned bytes and allocated bytes.
 *
 * Stores are the states that outlive a run (KV of a layer, image features), one for both programs of a replica. */
#ifndef BERTH_PLAN_STORE_H
#define BERTH_PLAN_STORE_H

#include "plan/plan.h"

typedef struct berth_store {
    berth_state_key key;
    int32_t layer, device;
    size_t bytes; /* as the arena gives them out */
    void *data;   /* in an engine; NULL in a plan */
} berth_store;

/* The stores of a replica (caller frees *out). BERTH_INTERNAL when the two programs disagree about one. */
berth_status berth_stores_collect(const berth_replica_plan *replica, berth_store **out, int32_t *out_n,
                                  berth_error *err);

/* Flags the parameters that replicas of the plan read on `device`; wanted [n_params] is set whole. */
void berth_plan_wanted(const berth_core_plan *plan, int32_t device, bool *wanted);

/* A region's bytes as the arena gives them out; `align` is its backend's. */
size_t berth_plan_round(size_t bytes, size_t align);

#endif
