/* accelerate_internal.h - between accelerate_budget.c and accelerate.c. */
#ifndef BERTH_STRATEGIES_ACCELERATE_INTERNAL_H
#define BERTH_STRATEGIES_ACCELERATE_INTERNAL_H

#include "strategies/accelerate.h"

/* Fills bits[n_modules + n_tensors] (zeroed), the size of each entry of the tree times 8, and is_float, whether Python
 * has it as a float. */
void berth_accelerate_read_sizes(const berth_tree *t, int32_t dtype_bits, int64_t *bits, bool *is_float);

/* Lowers out->budgets (normalised, out->total_bytes set) as get_balanced_memory does. `is_float`: whether the total is. */
berth_status berth_accelerate_balance(const berth_accelerate_request *req, const int64_t *bits, bool is_float,
                                      berth_accelerate_result *out, berth_error *err);

#endif
