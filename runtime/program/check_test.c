/* check_test.c - the affinity checker on a toy model: what it refuses, and how it says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "program/toy.h"

/* ---- check ------------------------------------------------------------------------------------------------------ */

static void check_says_what_lies_where_and_why(void **state)
{
    (void)state;
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = toy_env(placement);
    berth_error err = {0};
    berth_program *p = toy_routed(&env);
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
    memcpy(p->values[2].name, p->values[3].name, sizeof p->values[2].name);
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
    snprintf(v.name, sizeof v.name, "%s", "norm.0.weight@cpu:2");
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
    {"dimension 0 is not a number", far_symbol},
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
        berth_program *p = toy_routed(&env);
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
    berth_program *p = toy_routed(&env);
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

static uint32_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

/* Writes a small, a large or a random number over four bytes of some value, op or wait. */
static void corrupt(berth_program *p, uint64_t *random)
{
    static const int32_t odd[] = {0, 1, -1, 2, 3, 5, 64, INT32_MAX, INT32_MIN, 1 << 20};
    int32_t what = odd[next_random(random) % (sizeof odd / sizeof odd[0])];
    if (next_random(random) % 4 == 0) what = (int32_t)next_random(random);
    char *at = (char *)p->waits;
    size_t size = (size_t)p->n_waits * sizeof *p->waits;
    uint32_t where = next_random(random) % 8;
    if (where < 4) at = (char *)p->ops, size = (size_t)p->n_ops * sizeof *p->ops;
    if (where > 4) at = (char *)p->values, size = (size_t)p->n_values * sizeof *p->values;
    memcpy(at + next_random(random) % (size / 4) * 4, &what, sizeof what);
}

/* A bool other than 0 or 1 cannot even be looked at. */
static void mend(bool *b)
{
    unsigned char byte;
    memcpy(&byte, b, 1);
    *b = byte & 1;
}

static void mend_bools(berth_program *p)
{
    for (int32_t i = 0; i < p->n_values; i++) {
        mend(&p->values[i].is_output);
        mend(&p->values[i].is_kept);
        mend(&p->values[i].is_traced);
    }
    for (int32_t i = 0; i < p->n_ops; i++) {
        mend(&p->ops[i].replicate);
        mend(&p->ops[i].attrs.transposed);
    }
}

static void corrupt_programs_are_judged_and_not_followed(void **state)
{
    (void)state;
    uint64_t random = 5;
    int n_refused = 0, n = 20000;
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = toy_env(placement);
    berth_allot_options options = {0};
    berth_program *right = toy_allotted(&env, &options);
    for (int i = 0; i < n; i++) {
        berth_error err = {0};
        berth_program *p = berth_program_copy(right);
        for (uint32_t k = 1 + next_random(&random) % 3; k > 0; k--) corrupt(p, &random);
        mend_bools(p);
        berth_status st = berth_check(p, &env, &err);
        if (st == BERTH_OK) st = berth_check_memory(p, &env, &err);
        assert_true(st == BERTH_OK || (st == BERTH_AFFINITY && err.message[0]));
        n_refused += st != BERTH_OK;
        berth_program_destroy(p);
    }
    assert_true(n_refused > n / 4);
    berth_program_destroy(right);
    berth_placement_destroy(placement);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_says_what_lies_where_and_why),
        cmocka_unit_test(check_refuses_what_is_spoilt),
        cmocka_unit_test(check_refuses_dtypes_the_device_cannot_compute),
        cmocka_unit_test(corrupt_programs_are_judged_and_not_followed),
    };
    return cmocka_run_group_tests_name("the affinity checker", tests, NULL, NULL);
}
