/* abi_test.c - the shape of berth/strategy.h, as compiled plug-ins know it: nobody changes it by accident.
 *
 * A line here may be added for a field that is appended. A line that must change means a new BERTH_STRATEGY_ABI, and an
 * adapter for the old one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "berth/strategy.h"

_Static_assert(sizeof(void *) == 8 && sizeof(size_t) == 8 && sizeof(double) == 8,
               "the table below is for 64-bit machines");

#define AT(type, field, offset, size)                                                                                  \
    _Static_assert(offsetof(type, field) == (offset) && sizeof(((type *)0)->field) == (size), #type "." #field)
#define SIZE(type, size) _Static_assert(sizeof(type) == (size), #type)

_Static_assert(BERTH_STRATEGY_ABI == 1, "interface 1");
_Static_assert(BERTH_NODE_TENSOR == 1 && BERTH_NODE_NO_SPLIT == 2 && BERTH_NODE_BUFFER == 4, "node flags");

AT(berth_node_view, path, 0, 8);
AT(berth_node_view, class_name, 8, 8);
AT(berth_node_view, parent, 16, 4);
AT(berth_node_view, n_descendants, 20, 4);
AT(berth_node_view, flags, 24, 4);
AT(berth_node_view, tied_to, 28, 4);
AT(berth_node_view, weight_bytes, 32, 8);
AT(berth_node_view, kv_bytes_per_token, 40, 8);
AT(berth_node_view, flops_per_token, 48, 8);
AT(berth_node_view, flops_per_tile, 56, 8);
AT(berth_node_view, n_elements, 64, 8);
AT(berth_node_view, element_bits, 72, 4);
AT(berth_node_view, attention_flops_per_pair, 80, 8);
AT(berth_node_view, attention_flops_per_tile, 88, 8);
SIZE(berth_node_view, 96);

AT(berth_device_view, name, 0, 8);
AT(berth_device_view, budget_bytes, 8, 8);
AT(berth_device_view, reserved_bytes, 16, 8);
AT(berth_device_view, flops, 24, 8);
AT(berth_device_view, bytes_per_second, 32, 8);
AT(berth_device_view, physical, 40, 4);
SIZE(berth_device_view, 48);

AT(berth_link_view, from, 0, 4);
AT(berth_link_view, to, 4, 4);
AT(berth_link_view, bytes_per_second, 8, 8);
AT(berth_link_view, latency_ns, 16, 8);
SIZE(berth_link_view, 24);

AT(berth_strategy_input, struct_size, 0, 8);
AT(berth_strategy_input, nodes, 8, 8);
AT(berth_strategy_input, node_size, 16, 8);
AT(berth_strategy_input, n_nodes, 24, 4);
AT(berth_strategy_input, devices, 32, 8);
AT(berth_strategy_input, device_size, 40, 8);
AT(berth_strategy_input, n_devices, 48, 4);
AT(berth_strategy_input, links, 56, 8);
AT(berth_strategy_input, link_size, 64, 8);
AT(berth_strategy_input, n_links, 72, 4);
AT(berth_strategy_input, argument, 80, 8);
AT(berth_strategy_input, context_tokens, 88, 8);
AT(berth_strategy_input, max_tiles, 96, 4);
AT(berth_strategy_input, request_tiles, 100, 4);
AT(berth_strategy_input, request_prompt_tokens, 104, 8);
AT(berth_strategy_input, request_new_tokens, 112, 8);
AT(berth_strategy_input, hidden_bytes_per_token, 120, 8);
AT(berth_strategy_input, hidden_bytes_per_tile, 128, 8);
SIZE(berth_strategy_input, 136);

AT(berth_strategy_output, struct_size, 0, 8);
AT(berth_strategy_output, device_of, 8, 8);
AT(berth_strategy_output, max_replicas, 16, 4);
AT(berth_strategy_output, n_replicas, 20, 4);
AT(berth_strategy_output, note, 24, 512);
SIZE(berth_strategy_output, 536);

AT(berth_strategy, abi, 0, 4);
AT(berth_strategy, struct_size, 8, 8);
AT(berth_strategy, name, 16, 8);
AT(berth_strategy, about, 24, 8);
AT(berth_strategy, source, 32, 8);
AT(berth_strategy, check, 40, 8);
AT(berth_strategy, place, 48, 8);
SIZE(berth_strategy, 56);

AT(berth_error, status, 0, 4);
AT(berth_error, device, 4, 4);
AT(berth_error, native_code, 8, 4);
AT(berth_error, native_api, 16, 8);
AT(berth_error, file, 24, 8);
AT(berth_error, line, 32, 4);
AT(berth_error, message, 36, 2048);
SIZE(berth_error, 2088);

_Static_assert(BERTH_OK == 0 && BERTH_INVALID_ARGUMENT == 1 && BERTH_NOT_FOUND == 2 && BERTH_IO_ERROR == 3 &&
                   BERTH_BAD_FILE == 4 && BERTH_UNSUPPORTED == 5 && BERTH_OUT_OF_MEMORY == 6 && BERTH_DOES_NOT_FIT == 7,
               "the statuses that a strategy gives");

/* The accessors walk by the sizes that the input states, which a later host's may exceed. */
static void accessors_walk_by_the_stated_size(void **state)
{
    (void)state;
    static const struct {
        berth_node_view view;
        char later[24];
    } wide[3] = {{.view = {.path = "a"}}, {.view = {.path = "b"}}, {.view = {.path = "c"}}};
    const berth_strategy_input in = {.nodes = wide, .node_size = sizeof wide[0], .n_nodes = 3};
    assert_string_equal(berth_node_at(&in, 2)->path, "c");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(accessors_walk_by_the_stated_size)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
