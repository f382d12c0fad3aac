/* small_model.h - for tests: a module tree of twelve nodes on three devices, the last of which has no room. */
#ifndef BERTH_TESTS_PLUGIN_SMALL_MODEL_H
#define BERTH_TESTS_PLUGIN_SMALL_MODEL_H

#include "berth/strategy.h"

enum { SMALL_NODES = 12, SMALL_DEVICES = 3 };

/* Static and read-only; a copy of the struct may be given another argument. */
berth_strategy_input small_input(void);

#endif
