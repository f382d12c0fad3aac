/* program_test.c - the structure, place, route and the printer on a toy model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "program/toy.h"

/* ---- the structure ---------------------------------------------------------------------------------------------- */

static void a_copy_is_a_program_of_its_own(void **state)
{
    (void)state;
    berth_program *p = toy_program(), *q = berth_program_copy(p);
    assert_int_equal(q->n_ops, p->n_ops);
    q->ops[0].device = 2;
    snprintf(q->values[0].name, sizeof q->values[0].name, "other");
    for (int i = 0; i < 200; i++) assert_int_equal(berth_program_add_value(q, &p->values[0]), p->n_values + i);
    assert_int_equal(p->ops[0].device, BERTH_DEVICE_NONE);
    assert_string_equal(p->values[0].name, "pixels");
    berth_program_destroy(p);
    berth_program_destroy(q);
    berth_program_destroy(NULL);
}

static void bytes_follow_the_symbols(void **state)
{
    (void)state;
    berth_program *p = toy_program();
    berth_sizes two = {.value = {1, 2}}, huge = {.value = {1, INT64_MAX / 2}}, negative = {.value = {1, -1}};
    const berth_value *v = &p->values[berth_program_find(p, "vision.a")];
    size_t bytes;
    assert_true(berth_value_bytes(v, &two, &bytes));
    assert_int_equal(bytes, 2 * 4 * 6 * sizeof(float));
    assert_false(berth_value_bytes(v, &huge, &bytes));
    assert_false(berth_value_bytes(v, &negative, &bytes));
    berth_op_call call;
    berth_program_shapes(p, &p->ops[toy_op(p, "vision.a")], &two, &call);
    assert_int_equal(call.n_in, 3);
    assert_int_equal(call.out.dims[0], 2);
    assert_int_equal(berth_tensor_elements(&call.in[0]), 2 * 4 * 12);
    assert_int_equal(berth_program_find(p, "nobody"), -1);
    assert_int_equal(berth_program_find_input(p, BERTH_INPUT_PIXELS), berth_program_find(p, "pixels"));
    assert_int_equal(berth_program_find_input(p, BERTH_INPUT_SLOTS), -1);
    assert_int_equal(berth_program_find_state(p, BERTH_STATE_KV, 0), -1);
    berth_program_destroy(p);
}

static void waits_are_added_to_the_newest_op_only(void **state)
{
    (void)state;
    berth_program *p = toy_program();
    assert_true(berth_program_add_wait(p, 3, 0));
    assert_true(berth_program_add_wait(p, 3, 1));
    assert_true(berth_program_add_wait(p, 4, 2));
    assert_false(berth_program_add_wait(p, 3, 2));
    assert_false(berth_program_add_wait(p, 99, 0));
    assert_false(berth_program_add_wait(p, 4, -1));
    assert_int_equal(p->ops[3].n_waits, 2);
    assert_int_equal(p->waits[p->ops[4].first_wait], 2);
    berth_program_destroy(p);
}

/* ---- place ------------------------------------------------------------------------------------------------------ */

static void place_follows_the_modules(void **state)
{
    (void)state;
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = toy_env(placement);
    berth_error err = {0};
    berth_program *p = toy_program();
    assert_int_equal(berth_place(p, &env, &err), BERTH_OK);
    static const struct {
        const char *value;
        int32_t device;
    } want[] = {{"pixels", BERTH_DEVICE_HOST}, {"patches", 0}, {"vision.a", 0}, {"norm.0.weight", 1}, {"layer.0", 1},
                {"norm.1.weight", 2},          {"layer.1", 2}, {"logits", 2},   {"head.weight", 2}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        assert_int_equal(p->values[berth_program_find(p, want[i].value)].device, want[i].device);
    berth_program_destroy(p);
    berth_placement_destroy(placement);
}

static void place_takes_the_first_part_of_a_split_module(void **state)
{
    (void)state;
    int32_t device_of[TOY_NODES];
    for (int i = 0; i < TOY_NODES; i++) device_of[i] = -1;
    device_of[TOY_VISION] = 0;
    device_of[TOY_NORM0_W] = 1; /* layer 0 itself is placed nowhere */
    device_of[TOY_NORM1] = 2;
    device_of[TOY_HEAD] = 0;
    berth_placement *placement = toy_placement(device_of);
    berth_pass_env env = toy_env(placement);
    berth_program *p = toy_routed(&env);
    assert_int_equal(p->ops[toy_op(p, "layer.0")].device, 1);
    assert_int_equal(p->ops[toy_op(p, "layer.1")].device, 2);
    berth_program_destroy(p);
    berth_placement_destroy(placement);
}

static void place_refuses_to_tear_a_bias_from_its_weight(void **state)
{
    (void)state;
    int32_t device_of[TOY_NODES];
    for (int i = 0; i < TOY_NODES; i++) device_of[i] = -1;
    device_of[TOY_PROJ_W] = 0;
    device_of[TOY_PROJ_B] = 1;
    device_of[TOY_TEXT] = device_of[TOY_HEAD] = 2;
    berth_placement *placement = toy_placement(device_of);
    berth_pass_env env = toy_env(placement);
    berth_error err = {0};
    berth_program *p = toy_program();
    assert_int_equal(berth_place(p, &env, &err), BERTH_INVALID_ARGUMENT);
    assert_string_equal(err.message, "vision_model.proj.weight and vision_model.proj.bias are read by one op and "
                                     "cannot lie on two devices: op 1 linear \"vision.a\" "
                                     "(vision_model.proj.weight) runs on cpu:0, but strategy toy put "
                                     "vision_model.proj.bias on cpu:1; place vision_model.proj as a whole");
    berth_program_destroy(p);
    berth_placement_destroy(placement);
}

static void place_refuses_a_module_without_a_device(void **state)
{
    (void)state;
    int32_t device_of[TOY_NODES];
    for (int i = 0; i < TOY_NODES; i++) device_of[i] = -1;
    device_of[TOY_VISION] = device_of[TOY_HEAD] = 0;
    berth_placement *placement = toy_placement(device_of);
    berth_pass_env env = toy_env(placement);
    berth_error err = {0};
    berth_program *p = toy_program();
    assert_int_equal(berth_place(p, &env, &err), BERTH_AFFINITY);
    assert_non_null(strstr(err.message, "language_model.layers.0.norm.weight, layer 0"));
    berth_program_destroy(p);
    env.placement = NULL;
    p = toy_program();
    assert_int_equal(berth_place(p, &env, &err), BERTH_AFFINITY);
    env.n_devices = 65;
    assert_int_equal(berth_place(p, &env, &err), BERTH_INVALID_ARGUMENT);
    berth_program_destroy(p);
    berth_placement_destroy(placement);
}

static void place_makes_replicated_ops_on_every_reader(void **state)
{
    (void)state;
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = toy_env(placement);
    berth_error err = {0};
    berth_program *p = toy_program(), *q;
    int32_t n_ops = p->n_ops;
    p->ops[toy_op(p, "patches")].replicate = true; /* one reader: no twin */
    assert_int_equal(berth_place(p, &env, &err), BERTH_OK);
    assert_int_equal(p->n_ops, n_ops);
    berth_program_destroy(p);

    /* gelu of pixels-like patches read by all three devices: patches and its gelu are both made three times, and
     * neither is copied */
    p = toy_program();
    int32_t patches = toy_op(p, "patches"), x = p->ops[patches].out, a = toy_op(p, "vision.a");
    p->ops[patches].replicate = true;
    const char *const readers[] = {"layer.0.g", "layer.1.g"};
    for (int i = 0; i < 2; i++) {
        int32_t g = toy_op(p, readers[i]);
        p->ops[g].in[0] = x;
        memcpy(p->values[p->ops[g].out].dims, p->values[x].dims, sizeof p->values[x].dims);
    }
    (void)a;
    assert_int_equal(berth_place(p, &env, &err), BERTH_OK);
    assert_int_equal(p->n_ops, n_ops + 2);
    assert_int_equal(berth_route(p, &env, &err), BERTH_OK);
    for (int32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == BERTH_OP_COPY) assert_int_not_equal(p->ops[i].in[0], x);
    assert_int_equal(p->values[berth_program_find(p, "patches@cpu:1")].device, 1);
    assert_int_equal(p->values[berth_program_find(p, "patches@cpu:2")].device, 2);
    assert_int_equal(p->ops[toy_op(p, "layer.1.g")].in[0], berth_program_find(p, "patches@cpu:2"));
    q = berth_program_copy(p);
    berth_program_destroy(p);
    berth_program_destroy(q);
    berth_placement_destroy(placement);
}

/* ---- route ------------------------------------------------------------------------------------------------------ */

static int n_copies(const berth_program *p)
{
    int n = 0;
    for (int32_t i = 0; i < p->n_ops; i++) n += p->ops[i].kind == BERTH_OP_COPY;
    return n;
}

static void route_copies_once_per_value_and_device(void **state)
{
    (void)state;
    static const struct {
        int32_t vision, layer0, rest;
        int copies; /* pixels, logits, and what crosses */
    } cases[] = {{0, 0, 0, 2}, {0, 1, 1, 3}, {0, 0, 1, 4}, {0, 1, 2, 5}, {0, 1, 0, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        berth_placement *placement = toy_split(cases[i].vision, cases[i].layer0, cases[i].rest);
        berth_pass_env env = toy_env(placement);
        berth_program *p = toy_routed(&env);
        assert_int_equal(n_copies(p), cases[i].copies);
        berth_program_destroy(p);
        berth_placement_destroy(placement);
    }
}

static void route_brings_outputs_to_the_host_on_their_own_lane(void **state)
{
    (void)state;
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = toy_env(placement);
    berth_program *p = toy_routed(&env);
    int32_t logits = berth_program_find(p, "logits"), host = berth_program_find_copy(p, logits, BERTH_DEVICE_HOST);
    assert_string_equal(p->values[host].name, "logits@host");
    assert_int_equal(p->ops[p->values[host].producer].device, 2);
    assert_int_equal(p->values[host].producer, p->values[logits].producer + 1);
    assert_int_equal(berth_program_find_copy(p, logits, 2), logits);
    assert_int_equal(berth_program_find_copy(p, logits, 1), -1);
    /* "layer.0" crosses from lane 1 to lane 2, and its copy waits for it; the pixels wait for nobody */
    int32_t copy = toy_op(p, "layer.0@cpu:2");
    assert_int_equal(p->ops[copy].device, 2);
    assert_int_equal(p->ops[copy].n_waits, 1);
    assert_int_equal(p->waits[p->ops[copy].first_wait], toy_op(p, "layer.0"));
    assert_int_equal(p->ops[toy_op(p, "pixels@cpu:0")].n_waits, 0);
    /* cpu:2 already knows vision.a to be done, since layer.0 was made from it: no second wait */
    assert_int_equal(p->ops[toy_op(p, "vision.a@cpu:2")].n_waits, 0);
    berth_program_destroy(p);
    berth_placement_destroy(placement);
}

static void edges_count_the_bytes(void **state)
{
    (void)state;
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = toy_env(placement);
    berth_program *p = toy_routed(&env);
    berth_sizes two = {.value = {1, 2}};
    uint64_t bytes[16], stream = 2 * 4 * 6 * 4;
    berth_program_edges(p, &two, bytes);
    const uint64_t want[16] = {[0 * 4 + 1] = stream,
                               [1 * 4 + 2] = stream,
                               [0 * 4 + 2] = stream,
                               [3 * 4 + 0] = 2 * 3 * 4 * 4 * 4,
                               [2 * 4 + 3] = 2 * 4 * 5 * 4};
    assert_memory_equal(bytes, want, sizeof want);
    berth_program_destroy(p);
    berth_placement_destroy(placement);
}

static void route_wants_a_placed_program(void **state)
{
    (void)state;
    berth_pass_env env = toy_env(NULL);
    berth_error err = {0};
    berth_program *p = toy_program();
    p->n_devices = 3;
    assert_int_equal(berth_route(p, &env, &err), BERTH_AFFINITY);
    berth_program_destroy(p);
}

/* ---- printing --------------------------------------------------------------------------------------------------- */

static void the_printed_program_shows_modules_devices_and_copies(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "program toy: 15 ops, of them 5 copies, on 3 devices; up to 7 tiles\n",
        "\nvision_model.proj\n",
        "\nlanguage_model.layers.0\n",
        "==>    0  copy      pixels                      [tiles, 3, 4, 4]        host -> cpu:0, up to 1.31 KiB\n",
        "       2  cpu:0     vision.a                    [tiles, 4, 6]           linear <- patches, f32[6, 12], "
        "f32[6]\n",
        "==>    7  copy      layer.0                     [tiles, 4, 6]           cpu:1 -> cpu:2, up to 672 B; waits "
        "for 6\n",
    };
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = toy_env(placement);
    berth_allot_options options = {0};
    berth_program *p = toy_allotted(&env, &options);
    berth_buffer text = {0}, json = {0};
    assert_true(berth_program_print(p, &env, &text));
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (!strstr(text.data, lines[i])) fail_msg("no line \"%s\" in\n%s", lines[i], text.data);
    assert_true(berth_program_json(p, &env, &json));
    berth_json *tree;
    berth_error err = {0};
    if (berth_json_parse(json.data, json.len, "program", &tree, &err) != BERTH_OK)
        fail_msg("%s\n%s", err.message, json.data);
    const berth_json_node *root = berth_json_root(tree);
    assert_int_equal(berth_json_size(berth_json_get(root, "ops")), p->n_ops);
    assert_int_equal(berth_json_size(berth_json_get(root, "values")), p->n_values);
    assert_int_equal(berth_json_size(berth_json_get(root, "devices")), 3);
    berth_json_destroy(tree);
    berth_buffer_deinit(&text);
    berth_buffer_deinit(&json);
    berth_program_destroy(p);
    berth_placement_destroy(placement);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_is_a_program_of_its_own),
        cmocka_unit_test(bytes_follow_the_symbols),
        cmocka_unit_test(waits_are_added_to_the_newest_op_only),
        cmocka_unit_test(place_follows_the_modules),
        cmocka_unit_test(place_takes_the_first_part_of_a_split_module),
        cmocka_unit_test(place_refuses_to_tear_a_bias_from_its_weight),
        cmocka_unit_test(place_refuses_a_module_without_a_device),
        cmocka_unit_test(place_makes_replicated_ops_on_every_reader),
        cmocka_unit_test(route_copies_once_per_value_and_device),
        cmocka_unit_test(route_brings_outputs_to_the_host_on_their_own_lane),
        cmocka_unit_test(edges_count_the_bytes),
        cmocka_unit_test(route_wants_a_placed_program),
        cmocka_unit_test(the_printed_program_shows_modules_devices_and_copies),
    };
    return cmocka_run_group_tests_name("the passes on a toy model", tests, NULL, NULL);
}
