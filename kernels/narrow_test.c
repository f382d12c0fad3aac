/* narrow_test.c - 16-bit activations: every rounding boundary of both dtypes, every op with every mix of operand
 * dtypes against widening and rounding one element at a time, and attention over a 16-bit cache against the reference
 * in double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/test_bed.h"
#include "kernels/test_team.h"

static berth_team *teams[4]; /* [0] is NULL: a call without a team */

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static float widen(uint16_t h, berth_dtype dtype)
{
    return dtype == BERTH_BF16 ? berth_bf16_to_f32(h) : berth_f16_to_f32(h);
}

static uint16_t round_one(float f, berth_dtype dtype)
{
    return dtype == BERTH_BF16 ? berth_f32_to_bf16(f) : berth_f32_to_f16(f);
}

static uint16_t round_array(float f, berth_dtype dtype)
{
    uint16_t h;
    berth_narrow_f32(&h, &f, dtype, 1);
    return h;
}

/* ---- rounding --------------------------------------------------------------------------------------------------- */

/* Rounding is monotone, so right at every boundary between neighbours (the middle itself to the even one, one step
 * beside it to the nearer) is right everywhere. The last boundary is the one to infinity: 65520 for fp16. */
static void check_boundaries(berth_dtype dtype, uint16_t infinity)
{
    for (uint32_t h = 0; h < infinity; h++) {
        double low = (double)widen((uint16_t)h, dtype);
        double high = h + 1 < infinity
                          ? (double)widen((uint16_t)(h + 1), dtype)
                          : 2 * low - (double)widen((uint16_t)(h - 1), dtype); /* where the next one would be */
        float middle = (float)((low + high) / 2);
        assert_true((double)middle == (low + high) / 2);
        uint16_t even = (uint16_t)(h & 1 ? h + 1 : h);
        const struct {
            float f;
            uint16_t want;
        } cases[] = {{(float)low, (uint16_t)h},
                     {middle, even},
                     {nextafterf(middle, 0), (uint16_t)h},
                     {nextafterf(middle, INFINITY), (uint16_t)(h + 1)}};
        for (int i = 0; i < 4; i++) {
            uint16_t sign = 0x8000, want = cases[i].want;
            bool right = round_one(cases[i].f, dtype) == want && round_array(cases[i].f, dtype) == want &&
                         round_one(-cases[i].f, dtype) == (sign | want) &&
                         round_array(-cases[i].f, dtype) == (sign | want);
            if (!right) fail_msg("%s: %a must give %#x", berth_dtype_name(dtype), (double)cases[i].f, want);
        }
    }
}

static void every_rounding_boundary(void **state)
{
    (void)state;
    check_boundaries(BERTH_F16, 0x7C00);
    check_boundaries(BERTH_BF16, 0x7F80);
    assert_int_equal(round_array(65519.996f, BERTH_F16), 0x7BFF);
    assert_int_equal(round_array(65520.0f, BERTH_F16), 0x7C00);
}

static void arrays_round_as_single_numbers(void **state)
{
    (void)state;
    static const uint32_t low[] = {0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF, 0x2000, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0xABCD};
    enum { N = 65536 };
    float *x = malloc(N * sizeof *x);
    uint16_t *y = malloc(N * sizeof *y + 1);
    for (size_t l = 0; l < sizeof low / sizeof *low; l++) {
        for (uint32_t i = 0; i < N; i++) x[i] = float_of(i << 16 | low[l]);
        for (int d = BERTH_F16; d <= BERTH_BF16; d++) {
            berth_narrow_f32(y, x, (berth_dtype)d, N);
            for (uint32_t i = 0; i < N; i++)
                if (y[i] != round_one(x[i], (berth_dtype)d))
                    fail_msg("%s: %#x", berth_dtype_name((berth_dtype)d), i << 16 | low[l]);
        }
    }
    free(x);
    free(y);
}

static void every_16_bit_value_survives(void **state)
{
    (void)state;
    for (int d = BERTH_F16; d <= BERTH_BF16; d++)
        for (uint32_t i = 0; i < 65536; i++) {
            float f = widen((uint16_t)i, (berth_dtype)d), g;
            uint16_t h = (uint16_t)i, back = round_array(f, (berth_dtype)d);
            berth_widen_f32(&g, &h, (berth_dtype)d, 1);
            assert_memory_equal(&f, &g, sizeof f);
            if (isnan(f))
                assert_true(isnan(widen(back, (berth_dtype)d)));
            else
                assert_int_equal(back, i);
        }
}

/* ---- ops -------------------------------------------------------------------------------------------------------- */

#define ACT(...)    berth_bed_activation(b, -2, 2, BERTH_DIMS(__VA_ARGS__))
#define WEIGHT(...) berth_bed_weight(b, weights, -1, 1, BERTH_DIMS(__VA_ARGS__))
#define OUT(...)    berth_bed_out(b, BERTH_DIMS(__VA_ARGS__))

static void ints(berth_bed *b, int64_t n, int32_t first, int32_t step, int32_t modulo)
{
    int32_t *v = berth_bed_ints(b, BERTH_DIMS(n));
    for (int64_t i = 0; i < n; i++) v[i] = (first + (int32_t)i * step) % modulo;
}

static void paged(berth_bed *b, bool append) /* 2 sequences, blocks of 4, 4 heads on 2 kv heads, d = 12 */
{
    enum { N = 21, D = 12 };
    static const int32_t positions[N] = {3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    b->attrs = (berth_op_attrs){.n_heads = 4, .n_kv_heads = 2, .head_dim = D, .block = 4, .scale = 0.25f};
    if (append) {
        ACT(N, 2, D);
        ACT(N, 2, D);
        ints(b, N, 5, 5, 32);
        OUT(8, 2, 2, 4, D);
        return;
    }
    ACT(N, 4, D);
    ACT(8, 2, 2, 4, D);
    int32_t *at = berth_bed_ints(b, BERTH_DIMS(N)), *seq = berth_bed_ints(b, BERTH_DIMS(N)),
            *table = berth_bed_ints(b, BERTH_DIMS(2, 4));
    for (int i = 0; i < N; i++) {
        at[i] = positions[i];
        seq[i] = i >= 11;
    }
    for (int i = 0; i < 8; i++) table[i] = (i * 3 + 1) % 8;
    OUT(N, 4, D);
}

/* A small call of the kind, all fp32 but for its weights. */
static bool build(berth_bed *b, berth_op_kind kind, berth_dtype weights)
{
    berth_bed_init(b, kind, 11);
    b->attrs = (berth_op_attrs){.eps = 1e-5f, .scale = 0.3f, .n_heads = 2, .patch = 4, .factor = 2};
    switch (kind) {
    case BERTH_OP_PATCHIFY: ACT(2, 3, 8, 8), OUT(2, 4, 48); return true;
    case BERTH_OP_LINEAR: ACT(9, 33), WEIGHT(17, 33), WEIGHT(17), OUT(9, 17); return true;
    case BERTH_OP_VISION_EMBED: ACT(2, 4, 8), WEIGHT(8), WEIGHT(5, 8), OUT(2, 5, 8); return true;
    case BERTH_OP_LAYER_NORM: ACT(5, 40), WEIGHT(40), WEIGHT(40), OUT(5, 40); return true;
    case BERTH_OP_RMS_NORM: ACT(5, 3, 40), WEIGHT(40), OUT(5, 3, 40); return true;
    case BERTH_OP_ATTENTION_FULL: ACT(2, 7, 16), ACT(2, 7, 16), ACT(2, 7, 16), OUT(2, 7, 16); return true;
    case BERTH_OP_SCALE_ADD: ACT(6, 24), ACT(6, 24), WEIGHT(24), OUT(6, 24); return true;
    case BERTH_OP_ADD:
    case BERTH_OP_SILU_MUL: ACT(300, 301), ACT(300, 301), OUT(300, 301); return true;
    case BERTH_OP_GELU: ACT(6, 24), OUT(6, 24); return true;
    case BERTH_OP_DROP_CLS: ACT(2, 5, 8), OUT(2, 4, 8); return true;
    case BERTH_OP_PIXEL_SHUFFLE: ACT(2, 16, 6), OUT(2, 4, 24); return true;
    case BERTH_OP_EMBED: ints(b, 9, 2, 3, 13), WEIGHT(13, 10), OUT(9, 10); return true;
    case BERTH_OP_SCATTER_ROWS:
        ACT(9, 10), ACT(6, 10), ints(b, 3, 1, 2, 6), ints(b, 3, 0, 4, 9), OUT(9, 10);
        return true;
    case BERTH_OP_GATHER_ROWS: ACT(9, 10), ints(b, 4, 8, 2, 9), OUT(4, 10); return true;
    case BERTH_OP_STORE_ROWS: ACT(3, 10), ints(b, 3, 5, 2, 12), OUT(12, 10); return true;
    case BERTH_OP_ROPE: ACT(4, 3, 8), ACT(4, 2, 4), OUT(4, 3, 8); return true;
    case BERTH_OP_KV_APPEND: paged(b, true); return true;
    case BERTH_OP_ATTENTION_PAGED: paged(b, false); return true;
    case BERTH_OP_CONVERT: ACT(300, 301), OUT(300, 301); return true;
    default: return false; /* copies; what reads and gives fp32 only: rope tables, logit statistics */
    }
}

/* n elements, rounded one at a time, in memory of exactly their size; the caller frees. */
static void *in_dtype(const float *x, size_t n, berth_dtype dtype)
{
    void *p = NULL;
    size_t bytes = n * berth_dtype_size(dtype);
    assert_int_equal(posix_memalign(&p, 64, bytes ? bytes : 1), 0);
    for (size_t i = 0; i < n; i++) {
        uint16_t h = dtype == BERTH_F32 ? 0 : round_one(x[i], dtype);
        if (dtype == BERTH_F32)
            memcpy((float *)p + i, &x[i], sizeof(float));
        else
            memcpy((uint16_t *)p + i, &h, sizeof h);
    }
    return p;
}

static float *in_fp32(const void *x, size_t n, berth_dtype dtype)
{
    float *p = malloc((n + 1) * sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = dtype == BERTH_F32 ? ((const float *)x)[i] : widen(((const uint16_t *)x)[i], dtype);
    return p;
}

static void run(const berth_kernels *set, berth_op_call *call, berth_team *team)
{
    call->team = team;
    call->workspace_bytes = berth_kernels_workspace(set, call, team ? team->n_threads : 1);
    call->workspace = NULL;
    assert_int_equal(posix_memalign(&call->workspace, 64, call->workspace_bytes + 1), 0);
    memset(call->workspace, 0xFF, call->workspace_bytes + 1);
    berth_kernels_run(set, call);
    free(call->workspace);
}

typedef struct mix { /* of one call: a dtype for each operand, and the memory behind */
    berth_op_call narrow, wide;
    float *state; /* what the output holds before */
    size_t n_out;
} mix;

/* The bed's call with activations of the dtypes that the digits of `code` say, in base 3, the output's first. */
static void make_mix(const berth_bed *b, int code, mix *m)
{
    *m = (mix){.narrow = b->call, .wide = b->call, .n_out = berth_bed_out_floats(b)};
    m->narrow.attrs = m->wide.attrs = &b->attrs;
    m->narrow.out.dtype = (berth_dtype)(code % 3);
    m->state = malloc(m->n_out * sizeof(float));
    for (size_t i = 0; i < m->n_out; i++) m->state[i] = (float)((int)(i % 37) - 18) / 4;
    for (int32_t i = 0; i < b->call.n_in; i++) {
        berth_tensor *t = &m->narrow.in[i];
        if (t->dtype != BERTH_F32 || (berth_op_infos[b->call.kind].weights >> i & 1)) continue;
        code /= 3;
        size_t n = (size_t)berth_tensor_elements(t);
        t->dtype = (berth_dtype)(code % 3);
        t->data = in_dtype(b->call.in[i].data, n, t->dtype);
        m->wide.in[i].data = in_fp32(t->data, n, t->dtype);
    }
}

static void free_mix(const berth_bed *b, mix *m)
{
    for (int32_t i = 0; i < b->call.n_in; i++)
        if (m->narrow.in[i].data != b->call.in[i].data) {
            free(m->narrow.in[i].data);
            free(m->wide.in[i].data);
        }
    free(m->state);
}

/* The call on widened operands; its output rounded one element at a time. */
static void *oracle(const berth_kernels *set, mix *m)
{
    berth_op_call wide = m->wide;
    void *before = in_dtype(m->state, m->n_out, m->narrow.out.dtype);
    wide.out.data = in_fp32(before, m->n_out, m->narrow.out.dtype);
    if (wide.kind == BERTH_OP_CONVERT)
        memcpy(wide.out.data, wide.in[0].data, m->n_out * sizeof(float));
    else
        run(set, &wide, NULL);
    void *out = in_dtype(wide.out.data, m->n_out, m->narrow.out.dtype);
    free(wide.out.data);
    free(before);
    return out;
}

/* Attention's loops sum in another order than the reference: 2e-6 off (operands are up to 2), which rounding may make
 * a unit in the last place. */
static void check_near(const mix *m, const void *got, const void *want)
{
    berth_dtype dtype = m->narrow.out.dtype;
    float *x = in_fp32(got, m->n_out, dtype), *y = in_fp32(want, m->n_out, dtype);
    double unit = dtype == BERTH_F32 ? 0 : dtype == BERTH_F16 ? 0x1p-10 : 0x1p-7;
    for (size_t i = 0; i < m->n_out; i++)
        if (!(fabs((double)x[i] - (double)y[i]) <= unit * fabs((double)y[i]) + 2e-6))
            fail_msg("element %zu is %g, must be %g", i, (double)x[i], (double)y[i]);
    free(x);
    free(y);
}

static void check_mix(const berth_bed *b, const berth_kernels *set, int code)
{
    mix m;
    make_mix(b, code, &m);
    bool own_sums = b->call.kind == BERTH_OP_ATTENTION_PAGED && m.narrow.in[1].dtype != BERTH_F32;
    size_t bytes = m.n_out * berth_dtype_size(m.narrow.out.dtype);
    void *want = oracle(own_sums ? berth_kernels_ref() : set, &m), *first = NULL;
    for (int t = 0; t < 4; t++) {
        void *got = m.narrow.out.data = in_dtype(m.state, m.n_out, m.narrow.out.dtype);
        berth_op_call call = m.narrow;
        run(set, &call, teams[t]);
        if (own_sums)
            check_near(&m, got, want);
        else if (memcmp(got, want, bytes) != 0)
            fail_msg("%s, %s, mix %d, %d threads: other bits", set->name, berth_op_infos[call.kind].name, code, t);
        if (first && memcmp(got, first, bytes) != 0)
            fail_msg("%s: threads change bits", berth_op_infos[call.kind].name);
        if (first)
            free(got);
        else
            first = got;
    }
    int32_t k = berth_op_infos[b->call.kind].inplace;
    if (k >= 0 && m.narrow.in[k].dtype == m.narrow.out.dtype) { /* the output takes over the input's memory */
        berth_op_call call = m.narrow;
        call.out.data = call.in[k].data;
        run(set, &call, teams[2]);
        assert_memory_equal(call.out.data, first, bytes);
    }
    free(first);
    free(want);
    free_mix(b, &m);
}

static void ops_on_every_mix_of_dtypes(void **state)
{
    (void)state;
    static const char *const sets[] = {"ref", "generic", NULL};
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++)
        for (int kind = 0; kind < BERTH_OP_KIND_COUNT; kind++) {
            berth_bed b;
            for (int weights = 0; weights < 3 && build(&b, (berth_op_kind)kind, (berth_dtype)weights); weights++) {
                int n_acts = 1, n_mixes = 1;
                for (int32_t i = 0; i < b.call.n_in; i++)
                    n_acts += b.call.in[i].dtype == BERTH_F32 && !(berth_op_infos[kind].weights >> i & 1);
                for (int i = 0; i < n_acts; i++) n_mixes *= 3;
                for (int code = 0; code < n_mixes; code++) check_mix(&b, berth_kernels_cpu(sets[s]), code);
                berth_bed_deinit(&b);
                if (!berth_op_infos[kind].weights) break;
            }
        }
}

/* A token's result is the same whether its neighbours run with it or not. */
static void attention_does_not_depend_on_neighbours(void **state)
{
    (void)state;
    berth_bed b;
    mix m;
    assert_true(build(&b, BERTH_OP_ATTENTION_PAGED, BERTH_F32));
    make_mix(&b, 2 + 3 * 2 + 9 * 2, &m);
    size_t row = 4 * 12;
    uint16_t *all = malloc(m.n_out * sizeof *all), one[4 * 12];
    berth_op_call call = m.narrow;
    call.out.data = all;
    run(berth_kernels_cpu(NULL), &call, teams[2]);
    for (int64_t t = 0; t < 21; t++) {
        call = m.narrow;
        call.in[0].data = (uint16_t *)call.in[0].data + (size_t)t * row;
        call.in[2].data = (int32_t *)call.in[2].data + t;
        call.in[3].data = (int32_t *)call.in[3].data + t;
        call.in[0].dims[0] = call.in[2].dims[0] = call.in[3].dims[0] = call.out.dims[0] = 1;
        call.out.data = one;
        run(berth_kernels_cpu(NULL), &call, NULL);
        assert_memory_equal(one, all + (size_t)t * row, sizeof one);
    }
    free(all);
    free_mix(&b, &m);
    berth_bed_deinit(&b);
}

static void an_overflowing_product_is_infinite(void **state)
{
    (void)state;
    float x[2] = {256, 1}, y = 0;
    float w[2] = {255.9f, 0};
    uint16_t xh[2], yh = 0;
    static const berth_op_attrs attrs = {0};
    berth_narrow_f32(xh, x, BERTH_F16, 2);
    for (int i = 0; i < 2; i++) { /* 65510.4 rounds to 65504; 65510.4 + 9.6 = 65520 is infinite */
        w[1] = i ? 9.6f : 0;
        berth_op_call call = {.kind = BERTH_OP_LINEAR, .attrs = &attrs, .n_in = 2};
        call.in[0] = (berth_tensor){xh, BERTH_F16, 2, {1, 2}};
        call.in[1] = (berth_tensor){w, BERTH_F32, 2, {1, 2}};
        call.out = (berth_tensor){&yh, BERTH_F16, 2, {1, 1}};
        run(berth_kernels_cpu(NULL), &call, NULL);
        y = berth_f16_to_f32(yh);
        if (i)
            assert_true(isinf(y));
        else
            assert_true(y == 65504);
    }
}

static int make_teams(void **state)
{
    (void)state;
    for (int i = 1; i < 4; i++) teams[i] = berth_test_team_create(i);
    return 0;
}

static int free_teams(void **state)
{
    (void)state;
    for (int i = 1; i < 4; i++) berth_test_team_destroy(teams[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rounding_boundary),
        cmocka_unit_test(arrays_round_as_single_numbers),
        cmocka_unit_test(every_16_bit_value_survives),
        cmocka_unit_test(ops_on_every_mix_of_dtypes),
        cmocka_unit_test(attention_does_not_depend_on_neighbours),
        cmocka_unit_test(an_overflowing_product_is_infinite),
    };
    return cmocka_run_group_tests_name("16-bit activations", tests, make_teams, free_teams);
}
