/* dtypes_test.c - each value has the dtype its device gives it, copies between devices that differ are converted, and
 * the checker sees when they are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "program/toy.h"

#define BITS_F32 (1u << BERTH_F32)
#define BITS_F16 (BITS_F32 | 1u << BERTH_F16)
#define BITS_ALL (BITS_F16 | 1u << BERTH_BF16)

/* bf16, fp16, fp32 */
static const berth_dtype mixed[3] = {BERTH_BF16, BERTH_F16, BERTH_F32};
static const uint32_t mixed_bits[3] = {BITS_ALL, BITS_F16, BITS_ALL};

static berth_pass_env env_of(const berth_placement *placement, const berth_dtype *compute, const uint32_t *bits)
{
    berth_pass_env env = toy_env(placement);
    env.compute = compute;
    env.device_dtypes = bits;
    return env;
}

static berth_program *routed(const berth_pass_env *env)
{
    berth_error err = {0};
    berth_program *p = toy_program();
    p->values[berth_program_find(p, "proj.weight")].dtype = BERTH_BF16; /* as in most checkpoints; others fp32 */
    berth_status st = berth_place(p, env, &err);
    if (st == BERTH_OK) berth_dtypes(p, env);
    if (st == BERTH_OK) st = berth_route(p, env, &err);
    if (st == BERTH_OK) st = berth_check(p, env, &err);
    if (st != BERTH_OK) fail_msg("%s", err.message);
    return p;
}

/* "name=dtype ..." */
static void expect(const berth_program *p, const char *list)
{
    char text[1024], *save = NULL;
    snprintf(text, sizeof text, "%s", list);
    for (char *item = strtok_r(text, " ", &save); item; item = strtok_r(NULL, " ", &save)) {
        char *equals = strchr(item, '=');
        *equals = 0;
        int32_t v = berth_program_find(p, item);
        if (v < 0) fail_msg("there is no %s", item);
        assert_string_equal(berth_dtype_name(p->values[v].dtype), equals + 1);
    }
}

static void one_policy(void **state)
{
    (void)state;
    static const struct {
        berth_dtype compute;
        const char *values;
    } cases[] = {
        {BERTH_F32,
         "pixels=f32 patches=f32 vision.a=f32 layer.0.n=f32 layer.0.g=f32 layer.0=f32 logits=f32 proj.weight=bf16 "
         "norm.0.weight=f32"},
        {BERTH_BF16, "pixels=f32 patches=bf16 vision.a=bf16 layer.0.n=bf16 layer.0.g=bf16 layer.0=bf16 layer.1.b=bf16 "
                     "proj.weight=bf16 norm.0.weight=bf16"},
        /* what is added, and what it is added to, stays fp32 */
        {BERTH_F16, "pixels=f32 patches=f16 vision.a=f32 layer.0.n=f16 layer.0.g=f32 layer.0=f32 layer.1.b=f32 "
                    "proj.weight=f16 norm.0.weight=f16"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const berth_dtype compute[3] = {cases[i].compute, cases[i].compute, cases[i].compute};
        berth_placement *placement = toy_split(0, 1, 2);
        berth_pass_env env = env_of(placement, compute, NULL);
        berth_program *p = routed(&env);
        expect(p, cases[i].values);
        for (int32_t k = 0; k < p->n_ops; k++) assert_true(p->ops[k].kind != BERTH_OP_CONVERT);
        berth_program_destroy(p);
        berth_placement_destroy(placement);
    }
}

static void copies_between_policies_are_converted(void **state)
{
    (void)state;
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = env_of(placement, mixed, mixed_bits);
    berth_program *p = routed(&env);
    expect(p, "vision.a=bf16 vision.a@cpu:1=bf16 vision.a@cpu:1.f32=f32 layer.0.n=f16 layer.0=f32 layer.0@cpu:2=f32 "
              "vision.a@cpu:2=bf16 vision.a@cpu:2.f32=f32 layer.1.n=f32 proj.weight=bf16 norm.1.weight=f32");
    assert_int_equal(berth_program_find(p, "layer.0@cpu:2.f32"), -1); /* fp32 stays fp32 */
    uint64_t edges[16];
    const berth_sizes one = {.value = {1, 1}};
    berth_program_edges(p, &one, edges);
    assert_int_equal(edges[0 * 4 + 1], 4 * 6 * 2); /* the bytes of bf16 travel */
    assert_int_equal(edges[0 * 4 + 2], 4 * 6 * 2);
    assert_int_equal(edges[1 * 4 + 2], 4 * 6 * 4);
    berth_program_destroy(p);
    berth_placement_destroy(placement);
    placement = toy_split(2, 1, 0); /* and the other way: fp32 to fp16 to bf16 */
    env = env_of(placement, mixed, mixed_bits);
    p = routed(&env);
    expect(p, "vision.a=f32 vision.a@cpu:1=f32 layer.0=f32 layer.0@cpu:0=f32 layer.0@cpu:0.bf16=bf16 layer.1=bf16 "
              "vision.a@cpu:0.bf16=bf16");
    const berth_allot_options options = {.kernels = berth_kernels_ref()};
    berth_error err = {0};
    if (berth_allot(p, &options, &err) != BERTH_OK || berth_check_memory(p, &env, &err) != BERTH_OK)
        fail_msg("%s", err.message);
    berth_program_destroy(p);
    berth_placement_destroy(placement);
}

/* Each conversion taken out: its readers read the copy as it came. */
static void a_missing_convert_is_found(void **state)
{
    (void)state;
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = env_of(placement, mixed, mixed_bits);
    int n_found = 0;
    for (int32_t i = 0;; i++) {
        berth_program *p = routed(&env);
        berth_error err = {0};
        if (i >= p->n_ops) {
            berth_program_destroy(p);
            break;
        }
        if (p->ops[i].kind == BERTH_OP_CONVERT) {
            int32_t from = p->ops[i].in[0], to = p->ops[i].out, device = p->ops[i].device;
            for (int32_t j = 0; j < p->n_ops; j++)
                for (int32_t k = 0; k < p->ops[j].n_in; k++)
                    if (p->ops[j].in[k] == to) p->ops[j].in[k] = from;
            assert_int_equal(berth_check(p, &env, &err), BERTH_AFFINITY);
            const char *says = device == 1
                                   ? "runs on cpu:1, which cannot compute with bf16, the dtype of \"vision.a@cpu:1\""
                                   : "of dtype bf16, which a add does not take on cpu:2: it computes in f32";
            if (!strstr(err.message, says)) fail_msg("wanted \"%s\", got \"%s\"", says, err.message);
            n_found++;
        }
        berth_program_destroy(p);
    }
    assert_int_equal(n_found, 2);
    berth_placement_destroy(placement);
}

/* Every float value given every float dtype: what no device of its kind has is refused; what stays right is what was
 * there, fp32 where a dtype is a choice, or a weight as stored. */
static void a_wrong_dtype_is_found(void **state)
{
    (void)state;
    berth_placement *placement = toy_split(0, 1, 2);
    berth_pass_env env = env_of(placement, mixed, mixed_bits);
    int32_t n_refused = 0;
    berth_program *first = routed(&env);
    for (int32_t v = 0; v < first->n_values; v++)
        for (int d = BERTH_F32; d <= BERTH_BF16; d++) {
            berth_program *p = berth_program_copy(first);
            berth_error err = {0};
            berth_value *x = &p->values[v];
            bool is_weight = x->kind == BERTH_VALUE_WEIGHT;
            if (x->device < 0 || x->dtype == (berth_dtype)d || strchr(x->name, '@')) {
                berth_program_destroy(p);
                continue;
            }
            x->dtype = (berth_dtype)d;
            bool can = mixed_bits[x->device] >> d & 1, follows = d == BERTH_F32 || mixed[x->device] == (berth_dtype)d;
            berth_status st = berth_check(p, &env, &err);
            if (is_weight ? !can : !follows) {
                if (st != BERTH_AFFINITY)
                    fail_msg("%s as %s passes on device %d", x->name, berth_dtype_name((berth_dtype)d), x->device);
                n_refused++;
            } else if (is_weight && st != BERTH_OK) {
                fail_msg("%s: %s", x->name, err.message);
            }
            berth_program_destroy(p);
        }
    assert_true(n_refused >= 12);
    berth_program_destroy(first);
    berth_placement_destroy(placement);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_policy),
        cmocka_unit_test(copies_between_policies_are_converted),
        cmocka_unit_test(a_missing_convert_is_found),
        cmocka_unit_test(a_wrong_dtype_is_found),
    };
    return cmocka_run_group_tests_name("dtypes of values", tests, NULL, NULL);
}
