/* programs_test.c - the programs of every golden model, cut over GPUs of every kind as a plan does it: each op has
 * kernels for the dtypes that it gets there, whatever lives on the other side of a cut. Needs no GPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cuda/code.h"
#include "program/placement.h"
#include "runtime/arch/arch_fixture.h"

#define BITS_F16 (1u << BERTH_F32 | 1u << BERTH_F16)
#define BITS_ALL (BITS_F16 | 1u << BERTH_BF16)

/* What machines have: one kind of GPU in each dtype it computes in, and GPUs of two kinds. */
static const struct {
    int32_t capability[2];
    berth_dtype compute[2];
} machines[] = {
    {{70, 70}, {BERTH_F16, BERTH_F16}},   {{70, 70}, {BERTH_F32, BERTH_F32}},  {{75, 75}, {BERTH_F16, BERTH_F16}},
    {{80, 80}, {BERTH_BF16, BERTH_BF16}}, {{80, 80}, {BERTH_F16, BERTH_F16}},  {{90, 90}, {BERTH_BF16, BERTH_BF16}},
    {{90, 90}, {BERTH_F32, BERTH_F32}},   {{75, 80}, {BERTH_F16, BERTH_BF16}}, {{70, 90}, {BERTH_F16, BERTH_F32}},
    {{86, 89}, {BERTH_BF16, BERTH_F32}},
};

static void fail_op(const char *model, const berth_program *p, const berth_op *op, const berth_op_call *call,
                    int32_t capability)
{
    char dtypes[128] = "";
    for (int32_t k = 0; k < call->n_in; k++) {
        strcat(dtypes, k ? ", " : "");
        strcat(dtypes, berth_dtype_name(call->in[k].dtype));
    }
    fail_msg("%s, %s, sm_%d: no kernel for %s of %s (%s -> %s)", model, p->name, (int)capability,
             berth_op_infos[op->kind].name, p->values[op->out].name, dtypes, berth_dtype_name(call->out.dtype));
}

/* The ops in the shapes of the program's bounds, and of one row of everything. */
static int check_ops(const char *model, const berth_program *p, const int32_t *capability, bool batch_invariant)
{
    int n = 0;
    berth_sizes one = p->bounds;
    for (int32_t i = 0; i < BERTH_SYM_COUNT; i++)
        if (one.value[i] > 0) one.value[i] = 1;
    for (int32_t i = 0; i < p->n_ops; i++) {
        const berth_op *op = &p->ops[i];
        if (op->kind == BERTH_OP_COPY) continue;
        const berth_gpu_code_target target = {capability[op->device], batch_invariant};
        berth_op_call call, small;
        berth_program_shapes(p, op, &p->bounds, &call);
        berth_program_shapes(p, op, &one, &small);
        if (!berth_gpu_code_has(&call, &target)) fail_op(model, p, op, &call, target.capability);
        if (!berth_gpu_code_has(&small, &target)) fail_op(model, p, op, &small, target.capability);
        if (berth_gpu_code_workspace(&small, &target) > berth_gpu_code_workspace(&call, &target))
            fail_msg("%s: a smaller %s needs more scratch", model, berth_op_infos[op->kind].name);
        n++;
    }
    return n;
}

static int check_program(const char *model, const berth_program *built, const berth_pass_env *env,
                         const int32_t *capability)
{
    berth_error err = {0};
    if (!built) return 0;
    berth_program *p = berth_program_copy(built);
    assert_non_null(p);
    berth_status st = berth_place(p, env, &err);
    if (st == BERTH_OK) berth_dtypes(p, env);
    if (st == BERTH_OK) st = berth_route(p, env, &err);
    if (st == BERTH_OK) st = berth_check(p, env, &err);
    if (st != BERTH_OK) fail_msg("%s: %s", model, err.message);
    const int n = check_ops(model, p, capability, false);
    check_ops(model, p, capability, true);
    berth_program_destroy(p);
    return n;
}

static void check_model(const char *model)
{
    fixture f;
    uint64_t random = 1;
    fixture_open(&f, model, &(berth_build_options){.max_tiles = 3, .max_tokens = 256, .max_seqs = 4, .block = 16});
    f.in.n_devices = 2;
    for (size_t m = 0; m < sizeof machines / sizeof machines[0]; m++)
        for (uint32_t depth = 0; depth <= 60; depth += 30) {
            uint32_t bits[2];
            for (int d = 0; d < 2; d++) /* what computes in fp32 reads weights as they are stored */
                bits[d] = machines[m].capability[d] >= 80 || machines[m].compute[d] == BERTH_F32 ? BITS_ALL : BITS_F16;
            berth_placement *placement = fixture_placement(&f, &random, depth);
            berth_pass_env env = fixture_env(&f, placement);
            env.compute = machines[m].compute;
            env.device_dtypes = bits;
            check_program(model, f.programs.encode, &env, machines[m].capability);
            assert_true(check_program(model, f.programs.step, &env, machines[m].capability) > 20);
            berth_placement_destroy(placement);
        }
    fixture_close(&f);
}

static void every_op_of_every_model_has_a_kernel(void **state)
{
    (void)state;
    for (const char *const *model = fixture_models; *model; model++) check_model(*model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_op_of_every_model_has_a_kernel)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
