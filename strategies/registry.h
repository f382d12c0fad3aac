/* registry.h - the list of strategies that come with berth. To add one: a file, and a line in registry.c. */
#ifndef BERTH_STRATEGIES_REGISTRY_H
#define BERTH_STRATEGIES_REGISTRY_H

#include "berth/strategy.h"

int32_t berth_strategy_count(void);
const berth_strategy *berth_strategy_at(int32_t i);

/* By name; "replicate=2" finds "replicate" and sets *out_argument to "2" (borrowed from `name`; NULL when there is
 * none). NULL: no such strategy. */
const berth_strategy *berth_strategy_find(const char *name, const char **out_argument);

#endif
