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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_agrees_with_ref_in_every_tiling),
        cmocka_unit_test(linear_rows_are_independent),
        cmocka_unit_test(kernels_fit_the_generation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
