/* kernels_test.c - every op of every set of kernels against the reference, in odd sizes, on 1 to 3 threads, with the
 * same bits each time. The cases are in test_cases.c; a set that this machine cannot run is skipped by name. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/test_cases.h"
#include "kernels/test_team.h"

enum { MAX_THREADS = 3 };

extern const berth_kernels berth_cpu_set_lanes16; /* lanes16_test_set.c */

/* ---- running them ----------------------------------------------------------------------------------------------- */

static berth_team *teams[MAX_THREADS + 1]; /* [0] is NULL: a call without a team */

static void check_close(const berth_op_case *c, const char *set, const float *got, const float *want, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(want[i]) && isnan(got[i])) continue;
        if (got[i] == want[i]) continue;
        double error = fabs((double)got[i] - (double)want[i]) / fmax(1, fabs((double)want[i]));
        if (!(error <= worst)) worst = error;
    }
    if (!(worst <= c->tolerance)) fail_msg("%s, %s: error %.3g, tolerance %.3g", set, c->name, worst, c->tolerance);
}

static void check_bits(const berth_op_case *c, const char *set, const char *what, const float *got, const float *want,
                       size_t n)
{
    if (n && memcmp(got, want, n * sizeof *got) != 0) fail_msg("%s, %s: other bits %s", set, c->name, what);
}

static void run_case(const berth_op_case *c, const berth_kernels *set)
{
    berth_bed b;
    float *state = berth_op_case_prepare(&b, c);
    size_t n = berth_bed_out_floats(&b);
    float *want = berth_bed_run(&b, berth_kernels_ref(), NULL, state, false);
    float *got = berth_bed_run(&b, set, NULL, state, false);
    check_close(c, set->name, got, want, n);
    for (int threads = 0; threads <= MAX_THREADS; threads++) {
        float *again = berth_bed_run(&b, set, teams[threads], state, false);
        check_bits(c, set->name, "with another number of threads", again, got, n);
        free(again);
    }
    if (berth_op_infos[c->kind].inplace >= 0) {
        float *in_place = berth_bed_run(&b, set, teams[2], state, true);
        check_bits(c, set->name, "in place", in_place, got, n);
        free(in_place);
    }
    free(want);
    free(got);
    free(state);
    berth_bed_deinit(&b);
}

static void run_cases(const berth_kernels *set)
{
    if (!set) skip();
    for (size_t i = 0; i < berth_n_op_cases; i++) run_case(&berth_op_cases[i], set);
}

static void ref_agrees_with_itself_in_place(void **state)
{
    (void)state;
    run_cases(berth_kernels_ref());
}

static void generic_agrees_with_ref(void **state)
{
    (void)state;
    run_cases(berth_kernels_cpu("generic"));
}

static void avx2_agrees_with_ref(void **state)
{
    (void)state;
    run_cases(berth_kernels_cpu("avx2"));
}

static void avx512_agrees_with_ref(void **state)
{
    (void)state;
    run_cases(berth_kernels_cpu("avx512"));
}

static const berth_kernels *lanes16(void)
{
    return berth_kernels_cpu("avx2") ? &berth_cpu_set_lanes16 : NULL;
}

static void sixteen_lanes_agree_with_ref(void **state)
{
    (void)state;
    run_cases(lanes16());
}

static const berth_kernels *set_of(int i)
{
    switch (i) {
    case 0: return berth_kernels_cpu("generic");
    case 1: return berth_kernels_cpu("avx2");
    case 2: return berth_kernels_cpu("avx512");
    case 3: return lanes16();
    default: return NULL;
    }
}

/* ---- a row's bits do not depend on its company ------------------------------------------------------------------ */

/* Rows of a product computed alone, in threes, or all at once. */
static void linear_rows_are_independent(void **state)
{
    (void)state;
    static const int64_t shapes[][4] = {{40, 1543, 37, 1}, {205, 96, 70, 0}, {13, 512, 9, 1}};
    for (int s = 0; s < 4; s++)
        for (size_t i = 0; set_of(s) && i < sizeof shapes / sizeof shapes[0]; i++) {
            berth_bed b;
            berth_bed_init(&b, BERTH_OP_LINEAR, i);
            berth_build_linear(&b, shapes[i], BERTH_BF16);
            float *all = berth_bed_run(&b, set_of(s), teams[2], NULL, false);
            int64_t rows = shapes[i][0], n_in = shapes[i][1], n_out = shapes[i][2];
            float *x = b.call.in[0].data;
            for (int64_t t = 0, step = 1; t < rows; t += step, step = step % 8 + 1) {
                if (step > rows - t) step = rows - t;
                b.call.in[0].data = x + t * n_in;
                b.call.in[0].dims[0] = b.call.out.dims[0] = step;
                float *some = berth_bed_run(&b, set_of(s), teams[1], NULL, false);
                assert_memory_equal(some, all + t * n_out, (size_t)(step * n_out) * sizeof(float));
                free(some);
            }
            free(all);
            berth_bed_deinit(&b);
        }
}

/* Tokens of a long prefill, and the same tokens decoded one by one with splits shared among threads. */
static void attention_tokens_are_independent(void **state)
{
    (void)state;
    static const int64_t shape[] = {6, 2, 24, 16, 1, 90, 1100};
    for (int s = 0; s < 4; s++) {
        if (!set_of(s)) continue;
        berth_bed b;
        berth_bed_init(&b, BERTH_OP_ATTENTION_PAGED, 3);
        berth_build_attention_paged(&b, shape, BERTH_F32);
        float *all = berth_bed_run(&b, set_of(s), teams[2], NULL, false);
        float *q = b.call.in[0].data;
        int32_t *positions = b.call.in[2].data, *token_seq = b.call.in[3].data;
        for (int64_t t = 0; t < shape[5]; t += 7) {
            size_t row = (size_t)(shape[0] * shape[2]);
            b.call.in[0].data = q + (size_t)t * row;
            b.call.in[2].data = positions + t;
            b.call.in[3].data = token_seq + t;
            b.call.in[0].dims[0] = b.call.in[2].dims[0] = b.call.in[3].dims[0] = b.call.out.dims[0] = 1;
            float *one = berth_bed_run(&b, set_of(s), teams[3], NULL, false);
            assert_memory_equal(one, all + (size_t)t * row, row * sizeof(float));
            free(one);
        }
        free(all);
        berth_bed_deinit(&b);
    }
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

static void every_op_is_in_every_set(void **state)
{
    (void)state;
    for (int kind = 0; kind < BERTH_OP_KIND_COUNT; kind++) {
        const berth_op_info *info = &berth_op_infos[kind];
        assert_non_null(info->name);
        assert_in_range(info->max_in, info->min_in, BERTH_OP_INPUTS);
        assert_true(info->inplace < info->min_in);
        bool tested = kind == BERTH_OP_COPY || kind == BERTH_OP_CONVERT; /* narrow_test.c */
        for (size_t i = 0; i < berth_n_op_cases; i++) tested |= (int)berth_op_cases[i].kind == kind;
        if (!tested) fail_msg("%s has no case", info->name);
        if (kind == BERTH_OP_COPY || kind == BERTH_OP_CONVERT) continue;
        assert_non_null(berth_kernels_ref()->run[kind]);
        for (int s = 0; s < 4; s++)
            if (set_of(s)) assert_non_null(set_of(s)->run[kind]);
    }
}

static void workspace_grows_with_every_dimension(void **state)
{
    (void)state;
    for (size_t i = 0; i < berth_n_op_cases; i++)
        for (int s = 0; s < 4; s++) {
            if (!set_of(s) || !set_of(s)->workspace[berth_op_cases[i].kind]) continue;
            berth_bed b;
            free(berth_op_case_prepare(&b, &berth_op_cases[i]));
            b.call.attrs = &b.attrs;
            size_t before = set_of(s)->workspace[berth_op_cases[i].kind](&b.call, 2);
            assert_true(set_of(s)->workspace[berth_op_cases[i].kind](&b.call, 3) >= before);
            b.call.in[0].dims[0] += 100;
            b.call.in[2].dims[0] += 100 * (berth_op_cases[i].kind == BERTH_OP_ATTENTION_PAGED);
            assert_true(set_of(s)->workspace[berth_op_cases[i].kind](&b.call, 2) >= before);
            berth_bed_deinit(&b);
        }
}

/* ---- weights ---------------------------------------------------------------------------------------------------- */

enum { ROUNDED = 65536 + 70000 };

static float any_float(berth_dtype dtype, const uint8_t *at)
{
    float f;
    berth_widen_f32(&f, at, dtype, 1);
    return f;
}

/* Elements with every upper half; of fp32 also what lies about the ties of both formats, and about fp16's ends. */
static void fill_elements(uint8_t *at, berth_dtype dtype)
{
    static const uint32_t lower[] = {0,      1,      0xFFF,  0x1000, 0x1001, 0x7FFF,
                                     0x8000, 0x8001, 0xDFFF, 0xE000, 0xF000, 0xFFFF};
    static const uint32_t ends[] = {0x477FE000, 0x477FE001, 0x477FEFFF, 0x477FF000, 0x33000000, 0x33000001, 0x387FFFFF,
                                    0x387FE000, 0x387FF000, 0x7F800000, 0x7F800001, 0x7FFFFFFF, 0x00000001, 0x007FFFFF};
    for (uint32_t i = 0; i < ROUNDED; i++) {
        const uint32_t end = ends[i / 2 % (sizeof ends / sizeof *ends)] | i << 31;
        const uint32_t bits = i < 65536 ? i << 16 | lower[i % (sizeof lower / sizeof *lower)]
                              : i % 5   ? i * 2654435761u
                                        : end;
        const uint16_t half = (uint16_t)i;
        if (dtype == BERTH_F32)
            memcpy(at + 4 * (size_t)i, &bits, 4);
        else
            memcpy(at + 2 * (size_t)i, &half, 2);
    }
}

static void check_rounding(const berth_kernels *set, berth_dtype from, berth_dtype to)
{
    const size_t size = berth_dtype_size(from);
    uint8_t *src = malloc(ROUNDED * size + 1), *dst = malloc(2 * ROUNDED + 1);
    fill_elements(src + 1, from); /* odd addresses on purpose */
    uint32_t step = 0;
    for (size_t i = 0, n; i < ROUNDED; i += n) { /* of every length */
        n = 1 + step++ % 71;
        if (n > ROUNDED - i) n = ROUNDED - i;
        const bool found = set->round(dst + 1 + 2 * i, to, src + 1 + size * i, from, n);
        bool is_there = false;
        for (size_t k = i; k < i + n; k++) {
            const float f = any_float(from, src + 1 + size * k);
            const uint16_t want = to == BERTH_F16 ? berth_f32_to_f16(f) : berth_f32_to_bf16(f);
            uint16_t got;
            memcpy(&got, dst + 1 + 2 * k, 2);
            if (got != want) fail_msg("%s: %a from dtype %d is %04x, not %04x", set->name, (double)f, from, got, want);
            is_there |= !(fabsf(f) <= 65504);
        }
        assert_int_equal(found, is_there);
    }
    free(src);
    free(dst);
}

static void weights_are_rounded_alike(void **state)
{
    (void)state;
    for (int s = -1; s < 4; s++) {
        const berth_kernels *set = s < 0 ? berth_kernels_ref() : set_of(s);
        for (int from = BERTH_F32; set && from <= BERTH_BF16; from++) {
            check_rounding(set, (berth_dtype)from, BERTH_F16);
            check_rounding(set, (berth_dtype)from, BERTH_BF16);
        }
    }
}

static void sets_are_chosen_by_name(void **state)
{
    (void)state;
    assert_ptr_equal(berth_kernels_cpu("ref"), berth_kernels_ref());
    assert_null(berth_kernels_cpu("avx1024"));
    const berth_kernels *chosen = berth_kernels_cpu(NULL);
    assert_non_null(chosen);
    assert_ptr_equal(chosen, berth_kernels_cpu(NULL));
    assert_ptr_not_equal(chosen, berth_kernels_ref());
}

static int make_teams(void **state)
{
    (void)state;
    for (int i = 1; i <= MAX_THREADS; i++)
        if (!(teams[i] = berth_test_team_create(i))) return -1;
    return 0;
}

static int end_teams(void **state)
{
    (void)state;
    for (int i = 1; i <= MAX_THREADS; i++) berth_test_team_destroy(teams[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ref_agrees_with_itself_in_place),
        cmocka_unit_test(generic_agrees_with_ref),
        cmocka_unit_test(avx2_agrees_with_ref),
        cmocka_unit_test(sixteen_lanes_agree_with_ref),
        cmocka_unit_test(avx512_agrees_with_ref),
        cmocka_unit_test(linear_rows_are_independent),
        cmocka_unit_test(attention_tokens_are_independent),
        cmocka_unit_test(every_op_is_in_every_set),
        cmocka_unit_test(workspace_grows_with_every_dimension),
        cmocka_unit_test(weights_are_rounded_alike),
        cmocka_unit_test(sets_are_chosen_by_name),
    };
    return cmocka_run_group_tests(tests, make_teams, end_teams);
}
