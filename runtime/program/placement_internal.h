/* placement_internal.h - making a placement: shared by the maker from strategies and the one from device maps. */
#ifndef BERTH_PLACEMENT_INTERNAL_H
#define BERTH_PLACEMENT_INTERNAL_H

#include "base/status.h"
#include "program/placement.h"

/* An empty placement (-1 everywhere) of n_replicas over the tree and machine of `in`. */
berth_status berth_placement_create(const berth_strategy_input *in, int32_t n_replicas, berth_placement **out,
                                    berth_error *err);

/* Every tensor on exactly one device of the machine in each replica: errors name node and rule. `who` is the strategy
 * or map. */
berth_status berth_placement_validate(const berth_placement *p, const berth_strategy_input *in, const char *who,
                                      berth_error *err);

/* No device over its limit with what strategy `who` put there: BERTH_DOES_NOT_FIT names the worst one and the bytes
 * missing. */
berth_status berth_placement_check_budgets(const berth_placement *p, const berth_strategy_input *in, const char *who,
                                           berth_error *err);

const char *berth_placement_noun(const berth_placement *p); /* "strategy ", to stand before its name; "" for a map */
const char *berth_placement_path(const berth_strategy_input *in, int32_t node); /* "the model" for the root */
const char *berth_placement_device_name(const berth_strategy_input *in, int32_t device);

#endif
