/* strategies_internal.h - the one exported thing of each strategy file, for the registry. */
#ifndef BERTH_STRATEGIES_INTERNAL_H
#define BERTH_STRATEGIES_INTERNAL_H

#include "berth/strategy.h"

extern const berth_strategy berth_strategy_auto, berth_strategy_single, berth_strategy_replicate,
    berth_strategy_sequential, berth_strategy_balanced, berth_strategy_balanced_low_0;

#endif
