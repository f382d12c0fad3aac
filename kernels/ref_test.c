/* ref_test.c - the reference kernels against values worked out without them: by hand, from tables, or by the op's
 * formula written the other way round (from where an element comes, instead of where it goes). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/test_bed.h"

#define ONE_ROUNDING 1e-7 /* relative; the reference rounds a double once */

static void assert_near(double got, double want)
{
    if (!(fabs(got - want) <= ONE_ROUNDING * fmax(1, fabs(want)))) fail_msg("%.9g, wanted %.9g", got, want);
}

/* Runs the bed on the reference; caller frees. */
static float *run(const berth_bed *b)
{
    return berth_bed_run(b, berth_kernels_ref(), NULL, NULL, false);
}

static void set(float *out, const float *values, size_t n)
{
    memcpy(out, values, n * sizeof *out);
}

static void linear_is_rows_by_rows(void **state)
{
    (void)state;
    berth_bed b;
    berth_bed_init(&b, BERTH_OP_LINEAR, 1);
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(2, 3)), (const float[]){1, 2, 3, -1, 0.5f, 4}, 6);
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(2, 3)), (const float[]){1, 10, 100, 2, 3, 5}, 6);
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(2)), (const float[]){0.25f, -1}, 2);
    berth_bed_out(&b, BERTH_DIMS(2, 2));
    float *y = run(&b);
    const float want[] = {321.25f, 22, 404.25f, 18.5f};
    assert_memory_equal(y, want, sizeof want);
    free(y);
    berth_bed_deinit(&b);
}

/* 16-bit weights are read at odd bytes, in their own format: 1.5, -2, the smallest fp16 denormal, the largest fp16. */
static void linear_reads_16_bit_weights(void **state)
{
    (void)state;
    static const struct {
        berth_dtype dtype;
        uint16_t bits;
        float value;
    } weights[] = {{BERTH_BF16, 0x3FC0, 1.5f},
                   {BERTH_BF16, 0xC000, -2},
                   {BERTH_F16, 0x3E00, 1.5f},
                   {BERTH_F16, 0x0001, 0x1p-24f},
                   {BERTH_F16, 0x7BFF, 65504.0f}};
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
        berth_bed b;
        berth_bed_init(&b, BERTH_OP_LINEAR, 1);
        *berth_bed_activation(&b, 0, 0, BERTH_DIMS(1, 1)) = 4;
        berth_bed_weight(&b, weights[i].dtype, 0, 0, BERTH_DIMS(1, 1));
        memcpy(b.call.in[1].data, &weights[i].bits, 2);
        berth_bed_out(&b, BERTH_DIMS(1, 1));
        float *y = run(&b);
        assert_true(*y == 4 * weights[i].value);
        free(y);
        berth_bed_deinit(&b);
    }
}

/* x = 1, 2, 3, 6: mean 3, biased variance 14 / 4, mean square 50 / 4. */
static void norms_by_hand(void **state)
{
    (void)state;
    for (int rms = 0; rms < 2; rms++) {
        berth_bed b;
        berth_bed_init(&b, rms ? BERTH_OP_RMS_NORM : BERTH_OP_LAYER_NORM, 1);
        b.attrs.eps = 0.5f;
        const float x[] = {1, 2, 3, 6}, w[] = {1, 2, -1, 0.5f}, bias[] = {0, 1, 2, 3};
        set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(1, 4)), x, 4);
        set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(4)), w, 4);
        if (!rms) set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(4)), bias, 4);
        berth_bed_out(&b, BERTH_DIMS(1, 4));
        float *y = run(&b);
        for (int i = 0; i < 4; i++)
            assert_near(y[i], rms ? x[i] / sqrt(13.0) * w[i] : (x[i] - 3) / 2.0 * w[i] + bias[i]);
        free(y);
        berth_bed_deinit(&b);
    }
}

/* Phi(1) and so on from tables of the normal distribution; the logistic function from its definition. */
static void activations_from_tables(void **state)
{
    (void)state;
    static const double gelu[][2] = {{1, 0.84134474606854293},
                                     {-1, -0.15865525393145707},
                                     {2, 1.9544997361036416},
                                     {0.5, 0.34573123063700656},
                                     {0, 0},
                                     {-3, -0.0040496940959056}};
    static const double silu[][2] = {
        {1, 0.73105857863000490}, {-2, -0.23840584404423515}, {0, 0}, {30, 29.999999999997193}};
    for (int silu_mul = 0; silu_mul < 2; silu_mul++) {
        const double(*rows)[2] = silu_mul ? silu : gelu;
        for (int i = 0; i < (silu_mul ? 4 : 6); i++) {
            berth_bed b;
            berth_bed_init(&b, silu_mul ? BERTH_OP_SILU_MUL : BERTH_OP_GELU, 1);
            *berth_bed_activation(&b, 0, 0, BERTH_DIMS(1, 1)) = (float)rows[i][0];
            if (silu_mul) *berth_bed_activation(&b, 0, 0, BERTH_DIMS(1, 1)) = -3;
            berth_bed_out(&b, BERTH_DIMS(1, 1));
            float *y = run(&b);
            assert_near(*y, silu_mul ? -3 * rows[i][1] : rows[i][1]);
            free(y);
            berth_bed_deinit(&b);
        }
    }
}

static void patches_come_from_their_place(void **state)
{
    (void)state;
    enum { tiles = 2, grid = 3, p = 2, side = grid * p };
    berth_bed b;
    berth_bed_init(&b, BERTH_OP_PATCHIFY, 1);
    b.attrs.patch = p;
    float *x = berth_bed_activation(&b, -1, 1, BERTH_DIMS(tiles, 3, side, side));
    berth_bed_out(&b, BERTH_DIMS(tiles, grid * grid, 3 * p * p));
    float *y = run(&b);
    for (int tile = 0; tile < tiles; tile++)
        for (int channel = 0; channel < 3; channel++)
            for (int row = 0; row < side; row++)
                for (int col = 0; col < side; col++) {
                    int patch = row / p * grid + col / p, inside = (channel * p + row % p) * p + col % p;
                    float want = x[((tile * 3 + channel) * side + row) * side + col];
                    assert_true(y[(tile * grid * grid + patch) * 3 * p * p + inside] == want);
                }
    free(y);
    berth_bed_deinit(&b);
}

/* Source pixel (r, s) of the grid: cell (r / f, s / f), channel block (r % f) * f + s % f. */
static void shuffled_pixels_come_from_their_cell(void **state)
{
    (void)state;
    enum { tiles = 2, grid = 4, f = 2, c = 3, cells = grid / f };
    for (int transposed = 0; transposed < 2; transposed++) {
        berth_bed b;
        berth_bed_init(&b, BERTH_OP_PIXEL_SHUFFLE, 1);
        b.attrs.factor = f;
        b.attrs.transposed = transposed;
        float *x = berth_bed_activation(&b, -1, 1, BERTH_DIMS(tiles, grid * grid, c));
        berth_bed_out(&b, BERTH_DIMS(tiles, cells * cells, f * f * c));
        float *z = run(&b);
        for (int tile = 0; tile < tiles; tile++)
            for (int r = 0; r < grid; r++)
                for (int s = 0; s < grid; s++)
                    for (int i = 0; i < c; i++) {
                        int token = transposed ? s / f * cells + r / f : r / f * cells + s / f;
                        int column = (r % f * f + s % f) * c + i;
                        float want = x[(tile * grid * grid + r * grid + s) * c + i];
                        assert_true(z[(tile * cells * cells + token) * f * f * c + column] == want);
                    }
        free(z);
        berth_bed_deinit(&b);
    }
}

static void vision_embed_puts_the_class_first_and_drop_takes_it(void **state)
{
    (void)state;
    berth_bed b;
    berth_bed_init(&b, BERTH_OP_VISION_EMBED, 1);
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(2, 2, 1)), (const float[]){1, 2, 3, 4}, 4);
    *berth_bed_activation(&b, 0, 0, BERTH_DIMS(1)) = 50;
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(3, 1)), (const float[]){100, 200, 300}, 3);
    berth_bed_out(&b, BERTH_DIMS(2, 3, 1));
    float *y = run(&b);
    const float want[] = {150, 201, 302, 150, 203, 304};
    assert_memory_equal(y, want, sizeof want);
    berth_bed_deinit(&b);
    berth_bed_init(&b, BERTH_OP_DROP_CLS, 1);
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(2, 3, 1)), y, 6);
    berth_bed_out(&b, BERTH_DIMS(2, 2, 1));
    float *rest = run(&b);
    const float want_rest[] = {201, 302, 203, 304};
    assert_memory_equal(rest, want_rest, sizeof want_rest);
    free(rest);
    free(y);
    berth_bed_deinit(&b);
}

/* Two rows, one head of size 1: weights are e^(s) / sum. A second head sees other columns only. */
static void attention_full_by_hand(void **state)
{
    (void)state;
    berth_bed b;
    berth_bed_init(&b, BERTH_OP_ATTENTION_FULL, 1);
    b.attrs.n_heads = 2;
    b.attrs.scale = 0.5f;
    const float q[] = {1, 0, 2, -1}, k[] = {2, 1, 4, 3}, v[] = {10, 1, 20, 5};
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(1, 2, 2)), q, 4);
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(1, 2, 2)), k, 4);
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(1, 2, 2)), v, 4);
    berth_bed_out(&b, BERTH_DIMS(1, 2, 2));
    float *o = run(&b);
    for (int row = 0; row < 2; row++)
        for (int head = 0; head < 2; head++) {
            double first = 1 / (1 + exp(0.5 * q[2 * row + head] * (k[2 + head] - k[head]))); /* softmax of two */
            assert_near(o[2 * row + head], first * v[head] + (1 - first) * v[2 + head]);
        }
    free(o);
    berth_bed_deinit(&b);
}

/* A sequence of 3 tokens over blocks of 2 in the order 2, 0; heads 0, 1 on kv head 0, heads 2, 3 on kv head 1. */
static void kv_append_then_paged_attention_by_hand(void **state)
{
    (void)state;
    enum { tokens = 3, kv_heads = 2, heads = 4, block = 2 };
    const float k[tokens * kv_heads] = {1, -1, 0.5f, 2, 3, 0}, v[tokens * kv_heads] = {1, 10, 2, 20, 4, 40};
    const int32_t slots[tokens] = {4, 5, 0}, blocks[] = {2, 0};
    berth_bed b;
    berth_bed_init(&b, BERTH_OP_KV_APPEND, 1);
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(tokens, kv_heads, 1)), k, tokens * kv_heads);
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(tokens, kv_heads, 1)), v, tokens * kv_heads);
    memcpy(berth_bed_ints(&b, BERTH_DIMS(tokens)), slots, sizeof slots);
    berth_bed_out(&b, BERTH_DIMS(3, 2, kv_heads, block, 1));
    float *kv = run(&b);
    berth_bed_deinit(&b);

    berth_bed_init(&b, BERTH_OP_ATTENTION_PAGED, 1);
    b.attrs.scale = 2;
    const float q[heads] = {0.5f, -0.25f, 1, 0};
    float *all_q = berth_bed_activation(&b, 0, 0, BERTH_DIMS(tokens, heads, 1));
    for (int t = 0; t < tokens; t++) set(all_q + t * heads, q, heads);
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(3, 2, kv_heads, block, 1)), kv, 3 * 2 * kv_heads * block);
    memcpy(berth_bed_ints(&b, BERTH_DIMS(tokens)), (const int32_t[]){0, 1, 2}, sizeof slots);
    berth_bed_ints(&b, BERTH_DIMS(tokens));
    memcpy(berth_bed_ints(&b, BERTH_DIMS(1, 2)), blocks, sizeof blocks);
    berth_bed_out(&b, BERTH_DIMS(tokens, heads, 1));
    float *o = run(&b);
    for (int t = 0; t < tokens; t++)
        for (int h = 0; h < heads; h++) {
            double sum = 0, value = 0;
            for (int s = 0; s <= t; s++) {
                double weight = exp(2.0 * q[h] * k[s * kv_heads + h / 2]);
                sum += weight;
                value += weight * v[s * kv_heads + h / 2];
            }
            assert_near(o[t * heads + h], value / sum);
        }
    free(o);
    free(kv);
    berth_bed_deinit(&b);
}

/* A rotation by the angle of the fp32 product: 32001 * 0.3 rounds, which a double angle would miss by about 1e-4. */
static void rope_turns_pairs_by_fp32_angles(void **state)
{
    (void)state;
    berth_bed b;
    berth_bed_init(&b, BERTH_OP_ROPE_TABLE, 1);
    *berth_bed_ints(&b, BERTH_DIMS(1)) = 32001;
    berth_bed_ints(&b, BERTH_DIMS(1));
    const float inv_freq[] = {1, 0.3f};
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(1, 2)), inv_freq, 2);
    berth_bed_out(&b, BERTH_DIMS(1, 2, 2));
    float *table = run(&b);
    berth_bed_deinit(&b);
    volatile float angle = 32001.0f * inv_freq[1];
    assert_near(table[1], cos((double)angle));
    assert_near(table[3], sin((double)angle));

    berth_bed_init(&b, BERTH_OP_ROPE, 1);
    const float x[] = {1, 2, 3, 4};
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(1, 1, 4)), x, 4);
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(1, 2, 2)), table, 4);
    berth_bed_out(&b, BERTH_DIMS(1, 1, 4));
    float *y = run(&b);
    for (int j = 0; j < 2; j++) { /* length kept, angle added */
        double turn = j ? (double)angle : 32001.0, from = atan2((double)x[j + 2], (double)x[j]);
        double length = hypot((double)x[j], (double)x[j + 2]);
        assert_true(fabs((double)y[j] - length * cos(from + turn)) < 1e-6);
        assert_true(fabs((double)y[j + 2] - length * sin(from + turn)) < 1e-6);
    }
    free(y);
    free(table);
    berth_bed_deinit(&b);
}

static void rows_go_where_they_are_named(void **state)
{
    (void)state;
    berth_bed b;
    berth_bed_init(&b, BERTH_OP_SCATTER_ROWS, 1);
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(3, 1)), (const float[]){1, 2, 3}, 3);
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(2, 1)), (const float[]){70, 80}, 2);
    memcpy(berth_bed_ints(&b, BERTH_DIMS(2)), (const int32_t[]){1, 0}, 8);
    memcpy(berth_bed_ints(&b, BERTH_DIMS(2)), (const int32_t[]){0, 2}, 8);
    berth_bed_out(&b, BERTH_DIMS(3, 1));
    float *y = run(&b);
    assert_memory_equal(y, ((const float[]){80, 2, 70}), 12);
    free(y);
    berth_bed_deinit(&b);

    for (int store = 0; store < 2; store++) {
        berth_bed_init(&b, store ? BERTH_OP_STORE_ROWS : BERTH_OP_GATHER_ROWS, 1);
        set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(2, 1)), (const float[]){5, 6}, 2);
        memcpy(berth_bed_ints(&b, BERTH_DIMS(2)), (const int32_t[]){1, 0}, 8);
        berth_bed_out(&b, BERTH_DIMS(2, 1));
        y = run(&b);
        assert_memory_equal(y, ((const float[]){6, 5}), 8);
        free(y);
        berth_bed_deinit(&b);
    }

    berth_bed_init(&b, BERTH_OP_EMBED, 1);
    *berth_bed_ints(&b, BERTH_DIMS(1)) = 2;
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(3, 2)), (const float[]){1, 2, 3, 4, 5, 6}, 6);
    berth_bed_out(&b, BERTH_DIMS(1, 2));
    y = run(&b);
    assert_memory_equal(y, ((const float[]){5, 6}), 8);
    free(y);
    berth_bed_deinit(&b);
}

static void sums_by_hand(void **state)
{
    (void)state;
    for (int scaled = 0; scaled < 2; scaled++) {
        berth_bed b;
        berth_bed_init(&b, scaled ? BERTH_OP_SCALE_ADD : BERTH_OP_ADD, 1);
        set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(2, 2)), (const float[]){1, 2, 3, 4}, 4);
        set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(2, 2)), (const float[]){10, 20, 30, 40}, 4);
        if (scaled) set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(2)), (const float[]){0.5f, -1}, 2);
        berth_bed_out(&b, BERTH_DIMS(2, 2));
        float *y = run(&b);
        const float sum[] = {11, 22, 33, 44}, scaled_sum[] = {6, -18, 18, -36};
        assert_memory_equal(y, scaled ? scaled_sum : sum, sizeof sum);
        free(y);
        berth_bed_deinit(&b);
    }
}

static void logit_stats_by_hand(void **state)
{
    (void)state;
    static const struct {
        float x[4], want[5];
    } rows[] = {
        {{1, 5, 5, -2}, {0, 0, -2, 5, 1}},
        {{1, NAN, 7, NAN}, {2, 0, 1, 7, 1}},
        {{-INFINITY, 2, INFINITY, 3}, {0, 2, -INFINITY, INFINITY, 2}},
        {{-INFINITY, -INFINITY, -INFINITY, -INFINITY}, {0, 4, -INFINITY, -INFINITY, 0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        berth_bed b;
        berth_bed_init(&b, BERTH_OP_LOGIT_STATS, 1);
        set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(1, 4)), rows[i].x, 4);
        berth_bed_out(&b, BERTH_DIMS(1, BERTH_LOGIT_STATS));
        float *y = run(&b);
        for (int j = 0; j < 5; j++) assert_true(y[j] == rows[i].want[j]);
        for (int j = 5; j < BERTH_LOGIT_STATS; j++) assert_true(y[j] == 0);
        free(y);
        berth_bed_deinit(&b);
    }
}

static void logit_best_by_hand(void **state)
{
    (void)state;
    berth_bed b;
    berth_bed_init(&b, BERTH_OP_LOGIT_BEST, 1);
    const float x[] = {9, 9, 9, 9, 1, 3, -2, 3}, scales[] = {1, 0.5f};
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(2, 4)), x, 8);
    int32_t *rows = berth_bed_ints(&b, BERTH_DIMS(2));
    rows[0] = 1, rows[1] = 1;
    set(berth_bed_activation(&b, 0, 0, BERTH_DIMS(2)), scales, 2);
    berth_bed_out(&b, BERTH_DIMS(2, BERTH_LOGIT_BEST));
    float *y = run(&b);
    static const float values[] = {3, 3, 1, -2}, ids[] = {1, 3, 0, 2};
    static const double sums[] = {2.1420732301, 2.4499644401}; /* 2 + e^-2 + e^-5, 2 + e^-1 + e^-2.5 */
    for (int t = 0; t < 2; t++) {
        const float *of = y + t * BERTH_LOGIT_BEST;
        assert_true(fabs((double)of[BERTH_BEST_SUM] - sums[t]) < 1e-6);
        for (int i = 1; i < BERTH_BEST_VALUES; i++) assert_true(of[i] == 0);
        for (int k = 0; k < BERTH_BEST; k++) {
            assert_true(of[BERTH_BEST_VALUES + k] == (k < 4 ? values[k] : -INFINITY));
            assert_true(of[BERTH_BEST_IDS + k] == (k < 4 ? ids[k] : -1));
        }
    }
    free(y);
    berth_bed_deinit(&b);
}

/* Costs of a linear and of an attention, counted by hand. */
static void costs_by_hand(void **state)
{
    (void)state;
    berth_op_call linear = {
        .kind = BERTH_OP_LINEAR,
        .in = {{.dtype = BERTH_F32, .n_dims = 2, .dims = {5, 7}}, {.dtype = BERTH_BF16, .n_dims = 2, .dims = {11, 7}}},
        .n_in = 2,
        .out = {.dtype = BERTH_F32, .n_dims = 2, .dims = {5, 11}},
    };
    berth_op_cost cost = berth_op_cost_of(&linear);
    assert_true(cost.flops == 2 * 5 * 7 * 11 && cost.bytes_read == 4 * 35 + 2 * 77 && cost.bytes_written == 4 * 55);
    berth_op_call paged = {
        .kind = BERTH_OP_ATTENTION_PAGED,
        .in = {{.dtype = BERTH_F32, .n_dims = 3, .dims = {3, 4, 8}},
               {.dtype = BERTH_F32, .n_dims = 5, .dims = {9, 2, 2, 16, 8}},
               {.dtype = BERTH_I32, .n_dims = 1, .dims = {3}},
               {.dtype = BERTH_I32, .n_dims = 1, .dims = {3}},
               {.dtype = BERTH_I32, .n_dims = 2, .dims = {1, 5}}},
        .n_in = 5,
        .out = {.dtype = BERTH_F32, .n_dims = 3, .dims = {3, 4, 8}},
    };
    cost = berth_op_cost_of(&paged);
    assert_true(cost.flops == 2 * 2 * 3 * 4 * 8 * 80); /* scores and values, 5 blocks of 16 */
    assert_true(cost.bytes_read == 4 * 96 + 80 * 2 * 2 * 8 * 4 && cost.bytes_written == 4 * 96);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_is_rows_by_rows),
        cmocka_unit_test(linear_reads_16_bit_weights),
        cmocka_unit_test(norms_by_hand),
        cmocka_unit_test(activations_from_tables),
        cmocka_unit_test(patches_come_from_their_place),
        cmocka_unit_test(shuffled_pixels_come_from_their_cell),
        cmocka_unit_test(vision_embed_puts_the_class_first_and_drop_takes_it),
        cmocka_unit_test(attention_full_by_hand),
        cmocka_unit_test(kv_append_then_paged_attention_by_hand),
        cmocka_unit_test(rope_turns_pairs_by_fp32_angles),
        cmocka_unit_test(rows_go_where_they_are_named),
        cmocka_unit_test(sums_by_hand),
        cmocka_unit_test(logit_stats_by_hand),
        cmocka_unit_test(logit_best_by_hand),
        cmocka_unit_test(costs_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
