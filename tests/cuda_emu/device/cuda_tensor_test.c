/* cuda_tensor_test.c - kernels on tensor cores, for the generation CAPABILITY (70, 75 or 80), whose fragments the emulator lays out as the PTX ISA says: against the
 * reference at ragged shapes, and the same bits whichever kernel takes a row and whatever its company. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cuda/launches_internal.h"
#include "tests/cuda_emu/device/device_call.h"
#include "tests/cuda_emu/device/fused_cases.h"

/* fp32 sums of products that are exact in fp32, in another order than the reference's: test_cases.c's bound of sums. */
#define SUM_TOLERANCE 2e-6

static bool has(berth_dtype dtype)
{
    return dtype == BERTH_F16 || CAPABILITY >= 80;
}

/* Each tensor-core kernel that can take the call: the first against the reference, the others against the first, bit for bit. */
static void linear_case(const int64_t *shape, dtype_mix mix)
{
    berth_op_case c = {"linear", BERTH_OP_LINEAR, berth_build_linear, {0}, mix.first, SUM_TOLERANCE};
    memcpy(c.p, shape, 4 * sizeof *shape);
    berth_bed b;
    berth_op_case_prepare(&b, &c);
    float *want = reference(&b, NULL, mix), *first = NULL;
    size_t n = berth_bed_out_floats(&b);
    int n_taken = 0;
    for (int kind = BERTH_CUDA_LINEAR_THIN; kind <= BERTH_CUDA_LINEAR_128; kind++) {
        device_call d;
        berth_cuda_launch launch;
        device_call_init(&d, &b, NULL, mix);
        int32_t n_launches = berth_cuda_linear_launch(&d.call, (berth_cuda_linear_kind)kind, CAPABILITY, &launch);
        if (n_launches == 1) {
            run_launches(&d, "linear", &launch, 1, (uint64_t)kind);
            float *got = widened_output(&d);
            n_taken++;
            if (!first) check_output(&c, mix.out, got, want, n);
            if (first && memcmp(got, first, n * sizeof *got) != 0)
                fail_msg("%s: other bits than the kernel before, %d rows of %d", launch.kernel, (int)shape[0],
                         (int)shape[1]);
            if (first) free(got);
            if (!first) first = got;
        }
        device_call_deinit(&d);
    }
    assert_int_equal(n_taken, shape[1] % 8 ? 2 : 3);
    free(first);
    free(want);
    berth_bed_deinit(&b);
}

static void linear_agrees_with_ref_in_every_tiling(void **state)
{
    (void)state;
    static const int64_t shapes[][4] = {{1, 8, 1, 0},     {1, 256, 16, 1},  {3, 264, 19, 0},  {8, 1032, 33, 1},
                                        {16, 40, 130, 1}, {17, 600, 64, 0}, {33, 588, 70, 1}, {130, 320, 129, 1},
                                        {70, 36, 66, 0},  {9, 2304, 24, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int dtype = BERTH_F16; dtype <= BERTH_BF16; dtype++)
            for (int wide = 0; wide < 2; wide++) {
                dtype_mix mix = all_of((berth_dtype)dtype);
                if (wide) mix.out = BERTH_F32;
                if (has((berth_dtype)dtype) && (!wide || i % 2)) linear_case(shapes[i], mix);
            }
}

/* Rows of a call that the tiles take, each alone. */
static void linear_rows_are_independent(void **state)
{
    (void)state;
    enum { ROWS = 67, IN = 520, OUT = 40 };
    berth_bed b;
    device_call d;
    berth_bed_init(&b, BERTH_OP_LINEAR, 5);
    berth_build_linear(&b, (const int64_t[]){ROWS, IN, OUT, 1}, BERTH_F16);
    device_call_init(&d, &b, NULL, all_of(BERTH_F16));
    run_on_emulator(&d, "rows together", CAPABILITY, 1);
    for (int64_t row = 0; row < ROWS; row += 11) {
        berth_bed one = b;
        device_call alone;
        one.call.in[0].data = (float *)b.call.in[0].data + row * IN;
        one.call.in[0].dims[0] = one.call.out.dims[0] = 1;
        device_call_init(&alone, &one, NULL, all_of(BERTH_F16));
        run_on_emulator(&alone, "a row alone", CAPABILITY, 2);
        assert_memory_equal(alone.call.out.data, (uint16_t *)d.call.out.data + row * OUT, OUT * 2);
        device_call_deinit(&alone);
    }
    device_call_deinit(&d);
    berth_bed_deinit(&b);
}

/* ---- attention ---------------------------------------------------------------------------------------------------------- */

static void attention_agrees_with_ref(void **state)
{
    (void)state;
    static const berth_op_case cases[] = {
        {"one query", BERTH_OP_ATTENTION_FULL, berth_build_attention_full, {1, 1, 1, 64}, BERTH_F32, 3e-6},
        {"tile of 65", BERTH_OP_ATTENTION_FULL, berth_build_attention_full, {2, 65, 2, 64}, BERTH_F32, 3e-6},
        {"tile of 321", BERTH_OP_ATTENTION_FULL, berth_build_attention_full, {1, 321, 1, 128}, BERTH_F32, 3e-6},
        {"first token", BERTH_OP_ATTENTION_PAGED, berth_build_attention_paged, {6, 2, 64, 4, 1, 1, 1}, BERTH_F32, 3e-6},
        {"decode", BERTH_OP_ATTENTION_PAGED, berth_build_attention_paged, {7, 1, 128, 16, 3, 1, 319}, BERTH_F32, 3e-6},
        {"wide group",
         BERTH_OP_ATTENTION_PAGED,
         berth_build_attention_paged,
         {19, 1, 64, 8, 2, 2, 70},
         BERTH_F32,
         3e-6},
        {"prefill", BERTH_OP_ATTENTION_PAGED, berth_build_attention_paged, {6, 2, 64, 16, 1, 70, 331}, BERTH_F32, 3e-6},
        {"chunks", BERTH_OP_ATTENTION_PAGED, berth_build_attention_paged, {4, 4, 128, 7, 3, 23, 90}, BERTH_F32, 3e-6},
        {"blocks of 1",
         BERTH_OP_ATTENTION_PAGED,
         berth_build_attention_paged,
         {2, 1, 64, 1, 1, 2, 67},
         BERTH_F32,
         3e-6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int dtype = BERTH_F16; dtype <= BERTH_BF16; dtype++) {
            if (!has((berth_dtype)dtype)) continue;
            berth_bed b;
            device_call d;
            berth_op_case_prepare(&b, &cases[i]);
            float *want = reference(&b, NULL, all_of((berth_dtype)dtype));
            device_call_init(&d, &b, NULL, all_of((berth_dtype)dtype));
            run_on_emulator(&d, cases[i].name, CAPABILITY, i);
            float *got = widened_output(&d);
            check_output(&cases[i], (berth_dtype)dtype, got, want, berth_bed_out_floats(&b));
            free(got);
            free(want);
            device_call_deinit(&d);
            berth_bed_deinit(&b);
        }
}

/* Tokens of a prefill, which tiles take (or, on the ordinary units, a block each), alone as a decode takes them: through splits and their merge. */
static void attention_tokens_are_independent(void **state)
{
    (void)state;
    static const struct {
        int64_t shape[7];
        berth_dtype dtype;
    } rows[] = {{{6, 2, 64, 16, 1, 75, 590}, BERTH_F16},
                {{3, 1, 128, 16, 2, 40, 270}, BERTH_F16},
                {{3, 1, 24, 16, 1, 70, 300}, BERTH_F16},
                {{2, 2, 64, 16, 1, 66, 267}, BERTH_F32}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        berth_bed b;
        device_call d;
        const int64_t *p = rows[i].shape, n_tokens = p[4] * p[5], row = p[0] * p[2];
        const size_t bytes = (size_t)row * berth_dtype_size(rows[i].dtype);
        berth_bed_init(&b, BERTH_OP_ATTENTION_PAGED, i);
        berth_build_attention_paged(&b, p, BERTH_F32);
        device_call_init(&d, &b, NULL, all_of(rows[i].dtype));
        run_on_emulator(&d, "tokens together", CAPABILITY, 1);
        for (int64_t t = 0; t < n_tokens; t += 13) {
            berth_bed one = b;
            device_call alone;
            one.call.in[0].data = (float *)b.call.in[0].data + t * row;
            one.call.in[2].data = (int32_t *)b.call.in[2].data + t;
            one.call.in[3].data = (int32_t *)b.call.in[3].data + t;
            one.call.in[0].dims[0] = one.call.in[2].dims[0] = one.call.in[3].dims[0] = one.call.out.dims[0] = 1;
            device_call_init(&alone, &one, NULL, all_of(rows[i].dtype));
            run_on_emulator(&alone, "a token alone", CAPABILITY, 2);
            if (memcmp(alone.call.out.data, (char *)d.call.out.data + (size_t)t * bytes, bytes) != 0)
                fail_msg("shape %d, token %d: other bits alone", (int)i, (int)t);
            device_call_deinit(&alone);
        }
        device_call_deinit(&d);
        berth_bed_deinit(&b);
    }
}

/* bf16 begins with sm_80; what a generation lacks is not asked of it. */
static void kernels_fit_the_generation(void **state)
{
    (void)state;
    static const struct {
        berth_dtype dtype;
        int64_t rows, in;
        int32_t capability;
        const char *kernel;
    } rows[] = {{BERTH_F16, 1, 64, 70, "linear_thin_f16"},   {BERTH_F16, 65, 64, 75, "linear_64_f16"},
                {BERTH_F16, 4096, 64, 70, "linear_128_f16"}, {BERTH_BF16, 1, 64, 75, "linear_any"},
                {BERTH_BF16, 1, 64, 80, "linear_thin_bf16"}, {BERTH_BF16, 4096, 64, 90, "linear_128_bf16"},
                {BERTH_F16, 1, 60, 80, "linear_64_f16"},     {BERTH_F16, 1, 62, 80, "linear_any"},
                {BERTH_F32, 1, 64, 90, "linear_1_f32_f32"},  {BERTH_F32, 4096, 60, 90, "linear_any"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        berth_cuda_launch launches[BERTH_CUDA_MAX_LAUNCHES];
        berth_dtype t = rows[i].dtype;
        berth_op_call call = {.kind = BERTH_OP_LINEAR,
                              .n_in = 2,
                              .in = {{.dtype = t, .n_dims = 2, .dims = {rows[i].rows, rows[i].in}},
                                     {.dtype = t, .n_dims = 2, .dims = {512, rows[i].in}}},
                              .out = {.dtype = t, .n_dims = 2, .dims = {rows[i].rows, 512}}};
        assert_int_equal(berth_cuda_launches(&call, rows[i].capability, launches), 1);
        assert_string_equal(launches[0].kernel, rows[i].kernel);
        const bool emulated = rows[i].capability == CAPABILITY;
        if (emulated) assert_non_null(emu_find_kernel(launches[0].kernel));
    }
    assert_true(has(BERTH_BF16) == (emu_find_kernel("linear_thin_bf16") != NULL));
}

static const char *paged_kernel(berth_dtype t, int64_t tokens, int64_t d, int32_t capability)
{
    static berth_cuda_launch launches[BERTH_CUDA_MAX_LAUNCHES];
    berth_op_attrs attrs = {.scale = 1};
    berth_op_call call = {.kind = BERTH_OP_ATTENTION_PAGED,
                          .attrs = &attrs,
                          .n_in = 5,
                          .in = {{.dtype = t, .n_dims = 3, .dims = {tokens, 6, d}},
                                 {.dtype = t, .n_dims = 5, .dims = {9, 2, 2, 16, d}},
                                 {.dtype = BERTH_I32, .n_dims = 1, .dims = {tokens}},
                                 {.dtype = BERTH_I32, .n_dims = 1, .dims = {tokens}},
                                 {.dtype = BERTH_I32, .n_dims = 2, .dims = {1, 9}}},
                          .out = {.dtype = t, .n_dims = 3, .dims = {tokens, 6, d}}};
    assert_true(berth_cuda_launches(&call, capability, launches) > 0);
    return launches[0].kernel;
}

/* Scratch stays what 64 tokens need: more do not cut their contexts over blocks. */
static void attention_kernels_fit_the_generation(void **state)
{
    (void)state;
    assert_string_equal(paged_kernel(BERTH_F16, 64, 128, 80), "attention_split_128_f16");
    assert_string_equal(paged_kernel(BERTH_F16, 64, 128, 75), "attention_split_128_f16");
    assert_string_equal(paged_kernel(BERTH_F16, 65, 128, 70), "attention_tile_128_f16");
    assert_string_equal(paged_kernel(BERTH_F16, 65, 64, 75), "attention_tile_64_f16");
    assert_string_equal(paged_kernel(BERTH_BF16, 65, 64, 90), "attention_tile_64_bf16");
    assert_string_equal(paged_kernel(BERTH_BF16, 65, 64, 75), "attention_decode_bf16");
    assert_string_equal(paged_kernel(BERTH_F16, 1, 64, 70), "attention_split_64_f16");
    assert_string_equal(paged_kernel(BERTH_BF16, 65, 64, 70), "attention_decode_bf16");
    assert_string_equal(paged_kernel(BERTH_F16, 65, 80, 90), "attention_decode_f16");
    assert_string_equal(paged_kernel(BERTH_F32, 1, 64, 90), "attention_decode_f32");
    assert_non_null(emu_find_kernel("attention_tile_64_f16"));
    assert_true((emu_find_kernel("attention_tile_64_bf16") != NULL) == (CAPABILITY >= 80));
}

static void fused_ops_agree_with_ops_apart(void **state)
{
    (void)state;
    fused_bits_are_those_of_ops_apart(CAPABILITY);
    what_does_not_fit_stays_apart(CAPABILITY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_agrees_with_ref_in_every_tiling),
        cmocka_unit_test(linear_rows_are_independent),
        cmocka_unit_test(attention_agrees_with_ref),
        cmocka_unit_test(attention_tokens_are_independent),
        cmocka_unit_test(kernels_fit_the_generation),
        cmocka_unit_test(fused_ops_agree_with_ops_apart),
        cmocka_unit_test(attention_kernels_fit_the_generation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
