/* cuda_kernels_test.c - every CUDA kernel, run on the host by the emulator, against the reference: the cases of kernels/test_cases.c in fp32, fp16 and bf16
 * activations and mixes of them, threads and blocks in several drawn orders with the same bits each time, every access inside the tensors. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/cuda_emu/device/device_call.h"

enum { CAPABILITY = 90 };

static void run_case(const berth_op_case *c, dtype_mix mix, uint64_t n_seeds)
{
    berth_bed b;
    float *state = berth_op_case_prepare(&b, c), *first = NULL;
    float *want = reference(&b, state, mix);
    size_t n = berth_bed_out_floats(&b);
    bool has_place = berth_op_infos[c->kind].inplace >= 0 && mix.first == mix.out;
    for (uint64_t seed = 0; seed < n_seeds + has_place; seed++) {
        device_call d;
        device_call_init(&d, &b, state, mix);
        if (seed == n_seeds) make_in_place(&d);
        run_on_emulator(&d, c->name, CAPABILITY, seed);
        float *got = widened_output(&d);
        if (!first) check_output(c, d.call.out.dtype, got, want, n);
        if (first && n && memcmp(got, first, n * sizeof *got) != 0)
            fail_msg("%s, %s: other bits %s", c->name, berth_dtype_name(mix.out),
                     seed == n_seeds ? "in place" : "in another order");
        if (first)
            free(got);
        else
            first = got;
        device_call_deinit(&d);
    }
    free(first);
    free(want);
    free(state);
    berth_bed_deinit(&b);
}

static void run_cases(berth_dtype dtype, uint64_t n_seeds)
{
    for (size_t i = 0; i < berth_n_op_cases; i++) {
        if (dtype != BERTH_F32 && berth_op_cases[i].kind == BERTH_OP_ROPE_TABLE) continue; /* has no narrow operand */
        run_case(&berth_op_cases[i], all_of(dtype), n_seeds);
    }
}

static void fp32_agrees_with_ref(void **state)
{
    (void)state;
    run_cases(BERTH_F32, 2);
}

static void fp16_agrees_with_ref(void **state)
{
    (void)state;
    run_cases(BERTH_F16, 1);
}

static void bf16_agrees_with_ref(void **state)
{
    (void)state;
    run_cases(BERTH_BF16, 1);
}

/* Mixes run the smaller cases: what differs is how an element is read and written. */
static bool is_mixed_case(const berth_op_case *c)
{
    enum { ENOUGH = 20000 };
    berth_bed b;
    free(berth_op_case_prepare(&b, c));
    double work = berth_op_cost_of(&b.call).flops;
    berth_bed_deinit(&b);
    return c->kind != BERTH_OP_ROPE_TABLE && work < 10 * ENOUGH && berth_bed_out_floats(&b) < ENOUGH;
}

/* What a device that computes in fp16 mixes (its stream and results are fp32), logits in fp32 of bf16 operands, and some that no policy makes. */
static void mixes_agree_with_ref(void **state)
{
    (void)state;
    static const dtype_mix mixes[] = {{BERTH_F32, BERTH_F16, BERTH_F16},   {BERTH_F16, BERTH_F16, BERTH_F32},
                                      {BERTH_F32, BERTH_F16, BERTH_F32},   {BERTH_F32, BERTH_F32, BERTH_F16},
                                      {BERTH_BF16, BERTH_BF16, BERTH_F32}, {BERTH_F16, BERTH_F32, BERTH_BF16}};
    for (size_t m = 0; m < sizeof mixes / sizeof mixes[0]; m++)
        for (size_t i = 0; i < berth_n_op_cases; i++)
            if (is_mixed_case(&berth_op_cases[i])) run_case(&berth_op_cases[i], mixes[m], 1);
}

/* Shapes of models: whole runs of eight, so that the vector paths of every row kernel are taken, with 1, 3 and 9 rows. */
static void vector_paths_agree_with_ref(void **state)
{
    (void)state;
    static const berth_dtype dtypes[] = {BERTH_F32, BERTH_F16, BERTH_BF16};
    static const int64_t rows[] = {1, 3, 9};
    for (int x = 0; x < 3; x++)
        for (int w = 0; w < 3; w++)
            for (int r = 0; r < 3; r++) {
                berth_op_case c = {"linear of whole runs",      BERTH_OP_LINEAR, berth_build_linear,
                                   {rows[r], 1032, 19, r != 0}, dtypes[w],       2e-6};
                run_case(&c, all_of(dtypes[x]), 1);
            }
}

/* Every value of 16 bits to fp32 and to the other, and fp32 that needs rounding, to both. */
static void convert_rounds_to_nearest_even(void **state)
{
    (void)state;
    static const berth_dtype dtypes[] = {BERTH_F32, BERTH_F16, BERTH_BF16};
    for (int i = 0; i < 9; i++) {
        berth_dtype from = dtypes[i / 3], to = dtypes[i % 3];
        int64_t n = 65536 + 5;
        device_call d = {.call = {.kind = BERTH_OP_CONVERT,
                                  .n_in = 1,
                                  .in = {{.dtype = from, .n_dims = 1, .dims = {n}}},
                                  .out = {.dtype = to, .n_dims = 1, .dims = {n}}}};
        uint32_t *in = d.call.in[0].data = device_bytes(&d, tensor_bytes(&d.call.in[0]), false);
        for (int64_t v = 0; v < n; v++) {
            uint32_t bits = (uint32_t)v * 65537u;
            if (from == BERTH_F32)
                in[v] = bits ^ 0x8000u;
            else
                ((uint16_t *)in)[v] = (uint16_t)v;
        }
        d.call.out.data = device_bytes(&d, tensor_bytes(&d.call.out), true);
        run_on_emulator(&d, "convert", CAPABILITY, 1);
        float *wide = malloc((size_t)n * sizeof *wide), *got = widened_output(&d),
              *want = malloc((size_t)n * sizeof *want);
        void *narrowed = malloc((size_t)n * sizeof(float));
        berth_widen_f32(wide, in, from, (size_t)n);
        berth_narrow_f32(narrowed, wide, to, (size_t)n);
        berth_widen_f32(want, narrowed, to, (size_t)n);
        for (int64_t v = 0; v < n; v++)
            if (memcmp(&got[v], &want[v], 4) != 0 && !(isnan(got[v]) && isnan(want[v])))
                fail_msg("%s to %s: %a became %a", berth_dtype_name(from), berth_dtype_name(to), (double)wide[v],
                         (double)got[v]);
        free(wide);
        free(got);
        free(want);
        free(narrowed);
        device_call_deinit(&d);
    }
}

/* ---- a row's bits do not depend on its company ------------------------------------------------------------------------ */

/* Rows [first, first + count) of every input in `rowwise` (a bit each), alone; the result's bits must be those of the same rows of `all`. */
static void check_alone(const berth_bed *b, uint32_t rowwise, int64_t first, int64_t count, const float *all)
{
    berth_bed part = *b;
    for (int32_t i = 0; i < b->call.n_in; i++) {
        berth_tensor *t = &part.call.in[i];
        if (!(rowwise >> i & 1)) continue;
        int64_t row = berth_tensor_elements(t) / t->dims[0];
        t->data = (char *)t->data + (size_t)(first * row) * berth_dtype_size(t->dtype);
        t->dims[0] = count;
    }
    part.call.out.dims[0] = count;
    device_call d;
    device_call_init(&d, &part, NULL, all_of(BERTH_F32));
    run_on_emulator(&d, "rows alone", CAPABILITY, 9);
    size_t n = berth_bed_out_floats(&part);
    assert_memory_equal(d.call.out.data, all + (size_t)first * (n / (size_t)count), n * sizeof(float));
    device_call_deinit(&d);
}

static void rows_are_independent(void **state)
{
    (void)state;
    static const int64_t shapes[][4] = {{13, 1024, 5, 1}, {11, 515, 3, 0}};
    for (size_t i = 0; i < 2; i++) {
        berth_bed b;
        device_call d;
        berth_bed_init(&b, BERTH_OP_LINEAR, i);
        berth_build_linear(&b, shapes[i], BERTH_BF16);
        device_call_init(&d, &b, NULL, all_of(BERTH_F32));
        run_on_emulator(&d, "rows together", CAPABILITY, 1);
        for (int64_t t = 0, step = 1; t < shapes[i][0]; t += step, step = step % 5 + 1) {
            if (step > shapes[i][0] - t) step = shapes[i][0] - t;
            check_alone(&b, 1, t, step, d.call.out.data);
        }
        device_call_deinit(&d);
        berth_bed_deinit(&b);
    }
}

static void attention_tokens_are_independent(void **state)
{
    (void)state;
    static const int64_t shape[] = {6, 2, 24, 16, 1, 9, 530};
    berth_bed b;
    device_call d;
    berth_bed_init(&b, BERTH_OP_ATTENTION_PAGED, 3);
    berth_build_attention_paged(&b, shape, BERTH_F32);
    device_call_init(&d, &b, NULL, all_of(BERTH_F32));
    run_on_emulator(&d, "tokens together", CAPABILITY, 1);
    for (int64_t t = 0; t < shape[5]; t += 4) check_alone(&b, 1 | 4 | 8, t, 1, d.call.out.data);
    device_call_deinit(&d);
    berth_bed_deinit(&b);
}

static void what_no_kernel_takes_is_said(void **state)
{
    (void)state;
    berth_cuda_launch launches[BERTH_CUDA_MAX_LAUNCHES];
    berth_op_attrs attrs = {.n_heads = 1, .scale = 1};
    berth_op_call call = {.kind = BERTH_OP_COPY, .attrs = &attrs, .n_in = 3, .out = {.n_dims = 3, .dims = {1, 2, 129}}};
    for (int i = 0; i < 3; i++) call.in[i] = call.out;
    assert_int_equal(berth_cuda_launches(&call, CAPABILITY, launches), -1);
    call.kind = BERTH_OP_ATTENTION_FULL;
    assert_int_equal(berth_cuda_launches(&call, CAPABILITY, launches), -1);
    call.out.dims[0] = 0;
    assert_int_equal(berth_cuda_launches(&call, CAPABILITY, launches), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fp32_agrees_with_ref),         cmocka_unit_test(fp16_agrees_with_ref),
        cmocka_unit_test(bf16_agrees_with_ref),         cmocka_unit_test(mixes_agree_with_ref),
        cmocka_unit_test(vector_paths_agree_with_ref),  cmocka_unit_test(convert_rounds_to_nearest_even),
        cmocka_unit_test(rows_are_independent),         cmocka_unit_test(attention_tokens_are_independent),
        cmocka_unit_test(what_no_kernel_takes_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
