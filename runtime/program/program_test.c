/* program_test.c - place, route, check, allot and the printer on a toy model: what each does, and what each refuses and how it says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "program/toy.h"

static berth_program *routed(const berth_pass_env *env)
{
    berth_error err = {0};
    berth_program *p = toy_program();
    if (berth_place(p, env, &err) != BERTH_OK || berth_route(p, env, &err) != BERTH_OK ||
        berth_check(p, env, &err) != BERTH_OK)
        fail_msg("%s", err.message);
    return p;
}

static berth_program *allotted(const berth_pass_env *env, const berth_allot_options *options)
{
    berth_error err = {0};
    berth_program *p = routed(env);
    if (berth_allot(p, options, &err) != BERTH_OK || berth_check_memory(p, env, &err) != BERTH_OK)
        fail_msg("%s", err.message);
    return p;
}

/* ---- the structure -------------------------------------------------------------------------------------------------------- */

static void a_copy_is_a_program_of_its_own(void **state)
{
    (void)state;
    berth_program *p = toy_program(), *q = berth_program_copy(p);
    assert_int_equal(q->n_ops, p->n_ops);
    q->ops[0].device = 2;
    strcpy(q->values[0].name, "other");
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

/* ---- place ------------------------------------------------------------------------------------------------------------------ */

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
    berth_program *p = routed(&env);
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

    /* gelu of pixels-like patches read by all three devices: patches and its gelu are both made three times, and neither is copied */
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

/* ---- route ------------------------------------------------------------------------------------------------------------------ */

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
        berth_program *p = routed(&env);
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
    berth_program *p = routed(&env);
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
    berth_program *p = routed(&env);
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

/* ---- check ------------------------------------------------------------------------------------------------------------------ */

static void check_says_what_lies_where_and_why(void **state)
{
    (void)state;
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = toy_env(placement);
    berth_error err = {0};
    berth_program *p = routed(&env);
    p->ops[toy_op(p, "layer.1.n")].in[0] = berth_program_find(p, "layer.0");
    assert_int_equal(berth_check(p, &env, &err), BERTH_AFFINITY);
    assert_string_equal(err.message, "program toy: op 8 rms_norm \"layer.1.n\" (language_model.layers.1.norm.weight, "
                                     "layer 1) runs on cpu:2, but its input \"layer.0\" "
                                     "(language_model.layers.0) lies on cpu:1 [strategy toy put "
                                     "language_model.layers.1 on cpu:2; strategy toy put language_model.layers.0 on "
                                     "cpu:1]; no copy carries it");
    berth_program_destroy(p);
    berth_placement_destroy(placement);
}

/* Each spoils a right program in one way; the error holds `says`. */
typedef struct spoiler {
    const char *says;
    void (*spoil)(berth_program *p);
} spoiler;

static void no_operand(berth_program *p)
{
    p->ops[3].in[0] = -1;
}
static void far_operand(berth_program *p)
{
    p->ops[3].in[0] = p->n_values;
}
static void no_output(berth_program *p)
{
    p->ops[3].out = -1;
}
static void far_output(berth_program *p)
{
    p->ops[3].out = 1 << 30;
}
static void unknown_kind(berth_program *p)
{
    p->ops[3].kind = (berth_op_kind)BERTH_OP_KIND_COUNT;
}
static void negative_kind(berth_program *p)
{
    p->ops[3].kind = (berth_op_kind)-7;
}
static void too_many_inputs(berth_program *p)
{
    p->ops[3].n_in = 100;
}
static void negative_inputs(berth_program *p)
{
    p->ops[3].n_in = -1;
}
static void no_device(berth_program *p)
{
    p->ops[3].device = -1;
}
static void far_device(berth_program *p)
{
    p->ops[3].device = 3;
}
static void other_machine(berth_program *p)
{
    p->n_devices = 2;
}
static void too_many_devices(berth_program *p)
{
    p->n_devices = 1000;
}
static void value_far_away(berth_program *p)
{
    p->values[4].device = 64;
}
static void value_unplaced(berth_program *p)
{
    p->values[berth_program_find(p, "layer.0")].device = BERTH_DEVICE_NONE;
}
static void no_name(berth_program *p)
{
    p->values[2].name[0] = 0;
}
static void endless_name(berth_program *p)
{
    memset(p->values[2].name, 'a', sizeof p->values[2].name);
}
static void same_name(berth_program *p)
{
    strcpy(p->values[2].name, p->values[3].name);
}
static void no_dims(berth_program *p)
{
    p->values[2].n_dims = 0;
}
static void far_symbol(berth_program *p)
{
    p->values[2].dims[0].sym = (berth_symbol)99;
}
static void far_origin(berth_program *p)
{
    p->values[berth_program_find(p, "pixels@cpu:0")].origin = 999;
}
static void other_origin(berth_program *p)
{
    p->values[berth_program_find(p, "pixels@cpu:0")].origin = berth_program_find(p, "layer.0");
}
static void wait_forward(berth_program *p)
{
    p->waits[0] = p->n_ops - 1;
}
static void wait_nowhere(berth_program *p)
{
    p->waits[0] = -2;
}
static void waits_outside(berth_program *p)
{
    p->ops[toy_op(p, "layer.0@cpu:2")].n_waits = 99;
}
static void waits_overflow(berth_program *p)
{
    p->ops[2].first_wait = p->ops[2].n_waits = INT32_MAX;
}
static void no_wait(berth_program *p)
{
    p->ops[toy_op(p, "layer.0@cpu:2")].n_waits = 0;
}
static void partial(berth_program *p)
{
    for (int32_t i = 0; i < p->n_values; i++)
        if (strncmp(p->values[i].name, "vision.a", 8) == 0) p->values[i].partiality = BERTH_PARTIAL;
}
static void half_partial(berth_program *p)
{
    p->values[berth_program_find(p, "vision.a")].partiality = BERTH_PARTIAL;
}
static void partial_sum(berth_program *p)
{
    p->values[berth_program_find(p, "layer.0")].partiality = BERTH_PARTIAL;
}
static void partial_output(berth_program *p)
{
    p->values[berth_program_find(p, "logits")].partiality = BERTH_PARTIAL;
}
static void moved_input(berth_program *p)
{
    p->values[berth_program_find(p, "pixels")].device = 1;
}
static void moved_weight(berth_program *p)
{
    p->values[berth_program_find(p, "norm.1.weight")].device = 0;
}
static void copied_weight(berth_program *p)
{
    int32_t w = berth_program_find(p, "norm.0.weight");
    berth_value v = p->values[w];
    strcpy(v.name, "norm.0.weight@cpu:2");
    v.kind = BERTH_VALUE_ACTIVATION;
    v.origin = w;
    v.device = 2;
    berth_op op = {.kind = BERTH_OP_COPY, .in = {w}, .n_in = 1, .node = -1, .layer = -1, .device = 2};
    op.out = berth_program_add_value(p, &v);
    berth_program_add_op(p, &op);
}
static void copy_on_wrong_lane(berth_program *p)
{
    p->ops[toy_op(p, "layer.0@cpu:2")].device = 1;
}
static void copy_to_itself(berth_program *p)
{
    p->values[berth_program_find(p, "layer.0@cpu:2")].device = 1;
}
static void writes_weight(berth_program *p)
{
    p->ops[toy_op(p, "layer.0")].out = berth_program_find(p, "norm.0.weight");
}
static void writes_input(berth_program *p)
{
    p->ops[toy_op(p, "layer.0")].out = berth_program_find(p, "pixels");
}
static void writes_state(berth_program *p)
{
    p->values[berth_program_find(p, "layer.0")].kind = BERTH_VALUE_STATE;
}
static void writes_twice(berth_program *p)
{
    p->ops[toy_op(p, "layer.0")].out = berth_program_find(p, "layer.0.g");
}
static void wrong_producer(berth_program *p)
{
    p->values[berth_program_find(p, "layer.0")].producer = 0;
}
static void reads_itself(berth_program *p)
{
    p->ops[toy_op(p, "layer.0")].in[1] = berth_program_find(p, "layer.0");
}
static void reads_the_future(berth_program *p)
{
    p->ops[toy_op(p, "layer.0")].in[1] = berth_program_find(p, "logits");
}
static void swapped(berth_program *p)
{
    int32_t i = toy_op(p, "layer.0.g");
    berth_op op = p->ops[i];
    p->ops[i] = p->ops[i - 1];
    p->ops[i - 1] = op;
}
static void lost_output(berth_program *p)
{
    p->n_ops--;
}

static const spoiler spoilers[] = {
    {"does not exist", no_operand},
    {"does not exist", far_operand},
    {"does not exist", no_output},
    {"does not exist", far_output},
    {"unknown kind", unknown_kind},
    {"unknown kind", negative_kind},
    {"has 100 inputs", too_many_inputs},
    {"has -1 inputs", negative_inputs},
    {"runs on device -1", no_device},
    {"runs on device 3", far_device},
    {"the machine has 3", other_machine},
    {"was placed on 1000 devices", too_many_devices},
    {"lies on device 64", value_far_away},
    {"\"layer.0\" lies on device -2", value_unplaced},
    {"has no name", no_name},
    {"has no name", endless_name},
    {"two values are called", same_name},
    {"has 0 dimensions", no_dims},
    {"dimension 0 is not", far_symbol},
    {"copy of value 999", far_origin},
    {"meant to be a copy of another value", other_origin},
    {"does not stand before it", wait_forward},
    {"does not stand before it", wait_nowhere},
    {"outside the program's list", waits_outside},
    {"outside the program's list", waits_overflow},
    {"copy \"layer.0@cpu:2\" (layer 0) on cpu:2 reads \"layer.0\", which op 6 makes on cpu:1, without waiting for it",
     no_wait},
    {"reads \"vision.a@cpu:1\", a partial sum that was never reduced", partial},
    {"turns a partial sum into a full value", half_partial},
    {"\"layer.0\" as a partial sum", partial_sum},
    {"gives \"logits\" as a partial sum", partial_output},
    {"\"pixels\" lies on cpu:1; inputs lie in host memory", moved_input},
    {"its weight \"norm.1.weight\" (language_model.layers.1.norm.weight) lies on cpu:0", moved_weight},
    {"weights and states are never copied", copied_weight},
    {"runs on the lane of cpu:1", copy_on_wrong_lane},
    {"to itself", copy_to_itself},
    {"is a weight and never written", writes_weight},
    {"is an input and never written", writes_input},
    {"overwrites the state", writes_state},
    {"writes \"layer.0.g\" again", writes_twice},
    {"recorded producer is op 0", wrong_producer},
    {"reads \"layer.0\", which no earlier op writes", reads_itself},
    {"reads \"logits\", which no earlier op writes", reads_the_future},
    {"reads \"layer.0.n\", which no earlier op writes", swapped},
    {"\"logits\" on cpu:2, and no copy carries it to the host", lost_output},
};

static void check_refuses_what_is_spoilt(void **state)
{
    (void)state;
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = toy_env(placement);
    for (size_t i = 0; i < sizeof spoilers / sizeof spoilers[0]; i++) {
        berth_error err = {0};
        berth_program *p = routed(&env);
        spoilers[i].spoil(p);
        if (berth_check(p, &env, &err) != BERTH_AFFINITY) fail_msg("case %zu (%s) passes", i, spoilers[i].says);
        if (!strstr(err.message, spoilers[i].says))
            fail_msg("case %zu: wanted \"%s\", got \"%s\"", i, spoilers[i].says, err.message);
        assert_int_equal(err.status, BERTH_AFFINITY);
        berth_program_destroy(p);
    }
    berth_placement_destroy(placement);
}

static void check_refuses_dtypes_the_device_cannot_compute(void **state)
{
    (void)state;
    const uint32_t dtypes[3] = {1u << BERTH_F32 | 1u << BERTH_BF16, 1u << BERTH_F32 | 1u << BERTH_BF16,
                                1u << BERTH_F32};
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = toy_env(placement);
    berth_error err = {0};
    berth_program *p = routed(&env);
    env.device_dtypes = dtypes;
    assert_int_equal(berth_check(p, &env, &err), BERTH_OK);
    p->values[berth_program_find(p, "norm.0.weight")].dtype = BERTH_BF16;
    assert_int_equal(berth_check(p, &env, &err), BERTH_OK);
    p->values[berth_program_find(p, "norm.1.weight")].dtype = BERTH_BF16;
    assert_int_equal(berth_check(p, &env, &err), BERTH_AFFINITY);
    assert_non_null(
        strstr(err.message, "runs on cpu:2, which cannot compute with bf16, the dtype of \"norm.1.weight\""));
    berth_program_destroy(p);
    berth_placement_destroy(placement);
}

/* ---- allot and check_memory --------------------------------------------------------------------------------------------------- */

static void allot_works_in_place_where_the_op_can(void **state)
{
    (void)state;
    berth_placement *placement = toy_split(0, 0, 0);
    berth_pass_env env = toy_env(placement);
    berth_allot_options options = {0};
    berth_program *p = allotted(&env, &options);
    const berth_value *n = &p->values[berth_program_find(p, "layer.0.n")],
                      *g = &p->values[berth_program_find(p, "layer.0.g")];
    const berth_value *a = &p->values[berth_program_find(p, "vision.a")],
                      *y = &p->values[berth_program_find(p, "layer.0")];
    assert_int_equal(n->offset, g->offset);     /* gelu over its operand */
    assert_int_not_equal(a->offset, n->offset); /* the norm's operand is read again by the sum */
    assert_int_not_equal(a->offset, y->offset); /* and once more at the end */
    assert_true(p->regions[0].activations > 0 && p->host_bytes >= 7 * 3 * 4 * 4 * 4 + 7 * 4 * 5 * 4);
    berth_program_destroy(p);
    berth_placement_destroy(placement);
}

static void allot_keeps_traced_values_when_asked(void **state)
{
    (void)state;
    berth_placement *placement = toy_split(0, 0, 0);
    berth_pass_env env = toy_env(placement);
    for (int keep = 0; keep < 2; keep++) {
        berth_allot_options options = {.keep_traced = keep};
        berth_program *p = allotted(&env, &options);
        const berth_value *v = &p->values[berth_program_find(p, "layer.0")];
        bool overwritten = false;
        for (int32_t i = 0; i < p->n_values; i++) {
            const berth_value *x = &p->values[i];
            bool later = x->kind == BERTH_VALUE_ACTIVATION && x->device == 0 && x->producer > v->producer;
            overwritten |= later && x->offset < v->offset + v->bytes && v->offset < x->offset + x->bytes;
        }
        assert_int_equal(overwritten, !keep);
        berth_program_destroy(p);
    }
    berth_placement_destroy(placement);
}

static size_t a_thousand_a_thread(const berth_op_call *shapes, int32_t n_threads)
{
    (void)shapes;
    return 1000 * (size_t)n_threads;
}

static void allot_plans_workspace_per_device(void **state)
{
    (void)state;
    berth_kernels kernels = {.name = "test", .workspace[BERTH_OP_GELU] = a_thousand_a_thread};
    const int32_t n_threads[3] = {1, 2, 3};
    berth_placement *placement = toy_split(0, 1, 1);
    berth_pass_env env = toy_env(placement);
    berth_allot_options options = {.kernels = &kernels, .n_threads = n_threads};
    berth_program *p = allotted(&env, &options);
    assert_int_equal(p->regions[0].workspace, 0);
    assert_int_equal(p->regions[1].workspace, 2048);
    assert_int_equal(p->regions[2].workspace, 0);
    berth_error err = {0};
    p->regions[1].workspace = 2047;
    assert_int_equal(berth_check_memory(p, &env, &err), BERTH_AFFINITY);
    berth_program_destroy(p);
    berth_placement_destroy(placement);
}

static void allot_refuses_what_no_computer_holds(void **state)
{
    (void)state;
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = toy_env(placement);
    berth_allot_options options = {0};
    static const int64_t bounds[] = {INT64_MAX, INT64_MAX / 3, INT64_MAX / 64, -1};
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        berth_error err = {0};
        berth_program *p = routed(&env);
        p->bounds.value[BERTH_SYM_TILES] = bounds[i];
        assert_int_equal(berth_allot(p, &options, &err), BERTH_INVALID_ARGUMENT);
        berth_program_destroy(p);
    }
    berth_placement_destroy(placement);
}

static void shifted(berth_program *p)
{
    p->values[berth_program_find(p, "layer.0@cpu:2")].offset =
        p->values[berth_program_find(p, "vision.a@cpu:2")].offset;
}
static void outside(berth_program *p)
{
    p->values[berth_program_find(p, "layer.0")].offset = 1 << 20;
}
static void outside_wrapped(berth_program *p)
{
    p->values[berth_program_find(p, "layer.0")].offset = SIZE_MAX - 63;
}
static void unaligned(berth_program *p)
{
    p->values[berth_program_find(p, "layer.0")].offset += 4;
}
static void too_small(berth_program *p)
{
    p->values[berth_program_find(p, "layer.0")].bytes--;
}
static void no_region(berth_program *p)
{
    p->regions[1].activations = 0;
}
static void no_host(berth_program *p)
{
    p->host_bytes = 0;
}
static void shared_host(berth_program *p)
{
    p->values[berth_program_find(p, "logits@host")].offset = p->values[berth_program_find(p, "pixels")].offset;
}

static void check_memory_refuses_what_is_spoilt(void **state)
{
    (void)state;
    static const spoiler cases[] = {
        {"share memory on cpu:2", shifted},
        {"does not lie in", outside},
        {"does not lie in", outside_wrapped},
        {"does not lie in", unaligned},
        {"less than it can need", too_small},
        {"does not lie in", no_region},
        {"of the host", no_host},
        {NULL, shared_host},
    };
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = toy_env(placement);
    berth_allot_options options = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        berth_error err = {0};
        berth_program *p = allotted(&env, &options);
        cases[i].spoil(p);
        berth_status st = berth_check_memory(p, &env, &err);
        if (!cases[i].says) { /* the pixels are read long before: reusing their memory would be right */
            assert_int_equal(st, BERTH_OK);
        } else {
            assert_int_equal(st, BERTH_AFFINITY);
            if (!strstr(err.message, cases[i].says)) fail_msg("case %zu: \"%s\"", i, err.message);
        }
        berth_program_destroy(p);
    }
    berth_placement_destroy(placement);
}

/* Two values of cpu:0 are copied to cpu:1; the second takes the first's memory. Without a wait, the slow reader would see the second's bytes. */
static void reuse_waits_for_readers_on_other_lanes(void **state)
{
    (void)state;
    const berth_dim dims[] = {{1, BERTH_SYM_TILES}, {1024, BERTH_SYM_ONE}};
    const char *const names[] = {"cpu:0", "cpu:1"};
    berth_sizes bounds = {.value = {1, 4}};
    berth_program *p = berth_program_create("reuse", &bounds);
    berth_pass_env env = {.n_devices = 2, .device_names = names};
    berth_value v = {.kind = BERTH_VALUE_INPUT,
                     .n_dims = 2,
                     .param = -1,
                     .layer = -1,
                     .node = -1,
                     .device = BERTH_DEVICE_HOST,
                     .origin = -1,
                     .producer = -1};
    memcpy(v.dims, dims, sizeof dims);
    p->n_devices = 2;
    strcpy(v.name, "in");
    int32_t last = -1, in = berth_program_add_value(p, &v);
    v.kind = BERTH_VALUE_ACTIVATION;
    for (int i = 0; i < 4; i++) { /* cpu:0: copies of the input, each read on cpu:1 only */
        v.device = 0;
        snprintf(v.name, sizeof v.name, "x%d", i);
        berth_op op = {.kind = BERTH_OP_GELU,
                       .in = {in},
                       .n_in = 1,
                       .node = -1,
                       .layer = -1,
                       .device = 0,
                       .out = berth_program_add_value(p, &v)};
        berth_program_add_op(p, &op);
        v.device = 1;
        snprintf(v.name, sizeof v.name, "y%d", i);
        berth_op add = {.kind = last < 0 ? BERTH_OP_GELU : BERTH_OP_ADD,
                        .in = {op.out, last},
                        .n_in = last < 0 ? 1 : 2,
                        .node = -1,
                        .layer = -1,
                        .device = 1};
        add.out = last = berth_program_add_value(p, &v);
        berth_program_add_op(p, &add);
    }
    berth_error err = {0};
    berth_allot_options options = {0};
    assert_int_equal(berth_route(p, &env, &err), BERTH_OK);
    assert_int_equal(berth_check(p, &env, &err), BERTH_OK);
    assert_int_equal(berth_allot(p, &options, &err), BERTH_OK);
    assert_int_equal(berth_check_memory(p, &env, &err), BERTH_OK);
    assert_int_equal(p->values[berth_program_find(p, "x0")].offset, p->values[berth_program_find(p, "x1")].offset);
    const berth_op *x1 = &p->ops[toy_op(p, "x1")];
    assert_int_equal(x1->n_waits, 1);
    assert_int_equal(p->waits[x1->first_wait], toy_op(p, "x0@cpu:1"));
    p->ops[toy_op(p, "x1")].n_waits = 0;
    assert_int_equal(berth_check(p, &env, &err), BERTH_OK);              /* every edge is still ordered ... */
    assert_int_equal(berth_check_memory(p, &env, &err), BERTH_AFFINITY); /* ... and the memory is not */
    assert_non_null(strstr(err.message, "\"x0\" and \"x1\" share memory on cpu:0"));
    berth_program_destroy(p);
}

/* ---- printing ------------------------------------------------------------------------------------------------------------------ */

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
    berth_program *p = allotted(&env, &options);
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
        cmocka_unit_test(check_says_what_lies_where_and_why),
        cmocka_unit_test(check_refuses_what_is_spoilt),
        cmocka_unit_test(check_refuses_dtypes_the_device_cannot_compute),
        cmocka_unit_test(allot_works_in_place_where_the_op_can),
        cmocka_unit_test(allot_keeps_traced_values_when_asked),
        cmocka_unit_test(allot_plans_workspace_per_device),
        cmocka_unit_test(allot_refuses_what_no_computer_holds),
        cmocka_unit_test(check_memory_refuses_what_is_spoilt),
        cmocka_unit_test(reuse_waits_for_readers_on_other_lanes),
        cmocka_unit_test(the_printed_program_shows_modules_devices_and_copies),
    };
    return cmocka_run_group_tests_name("the passes on a toy model", tests, NULL, NULL);
}
