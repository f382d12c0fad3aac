/* unresolved.c - a plug-in that needs a function which nobody has. */
#include <berth/strategy.h>

const berth_strategy *a_function_that_is_not_there(void);

const berth_strategy *berth_strategy_plugin(uint32_t host_abi)
{
    (void)host_abi;
    return a_function_that_is_not_there();
}
