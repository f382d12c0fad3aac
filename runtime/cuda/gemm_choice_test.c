/* gemm_choice_test.c - what cuBLAS is given and with how much workspace: the edges of the table, and that both are
 * monotone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cuda/gemm.h"

static const int64_t big = (int64_t)INT32_MAX + 1;

static const struct {
    berth_gemm_shape shape;
    int32_t capability;
    bool takes, is_faster;
} cases[] = {
    {{256, 512, 512, BERTH_BF16, BERTH_BF16, BERTH_BF16}, 80, true, true},
    {{255, 512, 512, BERTH_BF16, BERTH_BF16, BERTH_BF16}, 90, true, false},
    {{128, 1024, 1024, BERTH_BF16, BERTH_BF16, BERTH_F32}, 86, true, true},
    {{127, 1024, 1024, BERTH_BF16, BERTH_BF16, BERTH_F32}, 86, true, false},
    {{65, 1024, 1024, BERTH_BF16, BERTH_BF16, BERTH_F32}, 90, true, true},
    {{64, 1024, 1024, BERTH_BF16, BERTH_BF16, BERTH_F32}, 90, true, false},
    {{4096, 512, 512, BERTH_BF16, BERTH_BF16, BERTH_BF16}, 75, true, false}, /* no bf16 there */
    {{256, 512, 512, BERTH_F16, BERTH_F16, BERTH_F16}, 70, true, true},
    {{64, 512, 512, BERTH_F32, BERTH_F32, BERTH_F32}, 86, true, false},
    {{128, 512, 512, BERTH_F32, BERTH_F32, BERTH_F32}, 86, true, true},
    {{32, 2048, 512, BERTH_F32, BERTH_F32, BERTH_F32}, 86, true, true},
    {{4096, 8, 512, BERTH_F32, BERTH_F32, BERTH_F32}, 86, true, false},  /* a thin output */
    {{4096, 512, 15, BERTH_F32, BERTH_F32, BERTH_F32}, 86, true, false}, /* thin inputs */
    {{64, 512, 512, BERTH_F32, BERTH_BF16, BERTH_F32}, 86, false, false},
    {{64, 512, 512, BERTH_BF16, BERTH_F16, BERTH_BF16}, 86, false, false},
    {{64, 512, 512, BERTH_F32, BERTH_F32, BERTH_BF16}, 86, false, false},
    {{64, 512, 512, BERTH_I32, BERTH_I32, BERTH_I32}, 86, false, false},
    {{0, 512, 512, BERTH_F32, BERTH_F32, BERTH_F32}, 86, false, false},
    {{INT32_MAX, 512, 512, BERTH_F32, BERTH_F32, BERTH_F32}, 86, true, true},
    {{INT32_MAX, INT32_MAX, INT32_MAX, BERTH_F32, BERTH_F32, BERTH_F32}, 86, true, true},
};

static void the_table_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (berth_gemm_takes(&cases[i].shape) != cases[i].takes) fail_msg("case %zu: takes", i);
        if (berth_gemm_is_faster(&cases[i].shape, cases[i].capability) != cases[i].is_faster)
            fail_msg("case %zu: is faster", i);
        if ((berth_gemm_workspace(&cases[i].shape, 0) > 0) != cases[i].takes) fail_msg("case %zu: workspace", i);
    }
    const int64_t dims[] = {big, 64, 64};
    for (size_t i = 0; i < 3; i++) {
        const berth_gemm_shape s = {dims[i], dims[(i + 1) % 3], dims[(i + 2) % 3], BERTH_F32, BERTH_F32, BERTH_F32};
        assert_false(berth_gemm_takes(&s));
    }
}

static void more_is_never_less(void **state)
{
    (void)state;
    static const int32_t capabilities[] = {70, 75, 80, 86, 89, 90, 100, 120};
    for (size_t c = 0; c < sizeof capabilities / sizeof capabilities[0]; c++) {
        for (int dtype = BERTH_F32; dtype <= BERTH_BF16; dtype++) {
            bool was_faster = false;
            size_t was = 0;
            for (int64_t rows = 1; rows < 20000; rows += 1 + rows / 8) {
                const berth_gemm_shape s = {rows, 896, 896, (berth_dtype)dtype, (berth_dtype)dtype, (berth_dtype)dtype};
                const size_t bytes = berth_gemm_workspace(&s, capabilities[c]);
                const bool is_faster = berth_gemm_is_faster(&s, capabilities[c]);
                assert_true(bytes >= was && bytes % 256 == 0 && bytes <= berth_gemm_workspace(&s, 0));
                assert_true(is_faster || !was_faster);
                was = bytes;
                was_faster = is_faster;
            }
            assert_true(was >= 4 << 20);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_table_says), cmocka_unit_test(more_is_never_less)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
