/* registry.c - the strategies that come with berth, in the order in which they are listed. */
#include "strategies/registry.h"

#include <string.h>

/* The list: one line for each file, as users are shown them. */
#define STRATEGIES(X)                                                                                                  \
    X(auto)                                                                                                            \
    X(single)                                                                                                          \
    X(replicate)                                                                                                       \
    X(sequential)                                                                                                      \
    X(balanced)                                                                                                        \
    X(balanced_low_0)                                                                                                  \
    X(optimal)                                                                                                         \
    X(internvl)                                                                                                        \
    X(layer)                                                                                                           \
    X(vllm)                                                                                                            \
    X(sglang)                                                                                                          \
    X(deepspeed)

#define DECLARE(name) extern const berth_strategy berth_strategy_##name;
#define ADDRESS(name) &berth_strategy_##name,

STRATEGIES(DECLARE)

static const berth_strategy *const strategies[] = {STRATEGIES(ADDRESS)};

int32_t berth_strategy_count(void)
{
    return (int32_t)(sizeof strategies / sizeof strategies[0]);
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
