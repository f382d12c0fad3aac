/* accelerate_model.h - accelerate's answer for a model that berth opened: `plan --compare accelerate`.
 *
 * A berth_strategy_input stands in execution order; accelerate goes by the order in which modules were registered,
 * which the reference implementations' __init__ functions fix by class. That order is written down here, class by
 * class, so that the map is the one a user of transformers gets. */
#ifndef BERTH_STRATEGIES_ACCELERATE_MODEL_H
#define BERTH_STRATEGIES_ACCELERATE_MODEL_H

#include "strategies/accelerate.h"

/* The model as PyTorch registers it; every node of `in` is an entry of the same path. Classes without a line of their
 * own keep their order. Errors: BERTH_OUT_OF_MEMORY;
 * BERTH_BAD_FILE for a tree that is none (names twice); BERTH_UNSUPPORTED below 64 levels. The caller deinits *out,
 * also after a failure. */
berth_status berth_accelerate_tree(const berth_strategy_input *in, berth_tree *out, berth_error *err);

typedef struct berth_accelerate_model {
    berth_tree tree;                /* owned, as are all */
    berth_accelerate_result result; /* its map: keys and devices, in registration order */
    /* [n_nodes] of `in`; GPU k is device k; BERTH_ACCELERATE_CPU, _DISK; INT32_MIN where no key covers the node. */
    int32_t *device_of;
} berth_accelerate_model;

/* Places the model on the devices of `in`, device k as GPU k with its budget; `cpu_bytes` > 0 adds the host's memory,
 * as accelerate does by itself. dtype_bits 0: as stored.
 * NO_SPLIT classes are those of the outermost NO_SPLIT modules. Errors as berth_accelerate_place. The caller deinits
 * *out, also after a failure. */
berth_status berth_accelerate_for_input(const berth_strategy_input *in, berth_accelerate_strategy strategy,
                                        int32_t dtype_bits, uint64_t cpu_bytes, berth_accelerate_model *out,
                                        berth_error *err);
void berth_accelerate_model_deinit(berth_accelerate_model *m);

#endif
