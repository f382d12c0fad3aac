/* registry.c - the strategies that come with berth, in the order in which they are listed. */
#include "registry.h"

#include <string.h>

#include "strategies_internal.h"

static const berth_strategy *const strategies[] = {
    &berth_strategy_auto,       &berth_strategy_single,   &berth_strategy_replicate,
    &berth_strategy_sequential, &berth_strategy_balanced, &berth_strategy_balanced_low_0,
};

int32_t berth_strategy_count(void)
{
    return (int32_t)(sizeof strategies / sizeof *strategies);
}

const berth_strategy *berth_strategy_at(int32_t i)
{
    return i >= 0 && i < berth_strategy_count() ? strategies[i] : NULL;
}

const berth_strategy *berth_strategy_find(const char *name, const char **out_argument)
{
    size_t len = strcspn(name, "=");
    if (out_argument) *out_argument = name[len] == '=' ? name + len + 1 : NULL;
    for (int32_t i = 0; i < berth_strategy_count(); i++)
        if (strlen(strategies[i]->name) == len && memcmp(strategies[i]->name, name, len) == 0) return strategies[i];
    return NULL;
}
