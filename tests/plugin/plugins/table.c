/* table.c - plug-ins whose table, or whose loading, is wrong; PLUGIN_CASE says how. */
#include <berth/strategy.h>

#include <signal.h>
#include <stdint.h>
#include <stdlib.h>

enum {
    NO_TABLE = 1,
    OTHER_ABI,
    SMALL,
    HUGE_SIZE,
    NO_PLACE,
    NO_NAME,
    BAD_NAME,
    LONG_NAME,
    LOAD_CRASH,
    LOAD_LOOP,
    LOAD_EXIT,
    ENTRY_CRASH,
    LONGER
};

static volatile int never;

__attribute__((constructor)) static void load(void)
{
    if (PLUGIN_CASE == LOAD_CRASH) raise(SIGSEGV);
    if (PLUGIN_CASE == LOAD_EXIT) exit(9);
    while (PLUGIN_CASE == LOAD_LOOP && !never) continue;
}

static berth_status table_place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    (void)in;
    (void)err;
    out->n_replicas = 1;
    out->device_of[0] = 0;
    return BERTH_OK;
}

static const char long_name[] = "a_name_that_is_longer_than_what_a_list_of_strategies_has_room_for";

/* What a later berth's table may look like: entries behind those known here. */
static const struct {
    berth_strategy known;
    void (*later)(void);
} table = {.known = {.abi = PLUGIN_CASE == OTHER_ABI ? 7 : BERTH_STRATEGY_ABI,
                     .struct_size = PLUGIN_CASE == SMALL       ? offsetof(berth_strategy, place)
                                    : PLUGIN_CASE == HUGE_SIZE ? SIZE_MAX / 2
                                    : PLUGIN_CASE == LONGER    ? sizeof(berth_strategy) + sizeof(void (*)(void))
                                                               : sizeof(berth_strategy),
                     .name = PLUGIN_CASE == NO_NAME     ? NULL
                             : PLUGIN_CASE == BAD_NAME  ? "Not a name\x1B[2J"
                             : PLUGIN_CASE == LONG_NAME ? long_name
                                                        : "table",
                     .place = PLUGIN_CASE == NO_PLACE ? NULL : table_place}};

const berth_strategy *berth_strategy_plugin(uint32_t host_abi)
{
    (void)host_abi;
    if (PLUGIN_CASE == ENTRY_CRASH) *(volatile int *)(uintptr_t)16 = 1;
    return PLUGIN_CASE == NO_TABLE ? NULL : &table.known;
}
