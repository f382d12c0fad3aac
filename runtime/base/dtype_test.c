/* dtype_test.c - element types: widening, and narrowing to the nearest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "tests/random.h"

/* The value of a half by its definition: (-1)^s * 2^(e-15) * 1.m, or 2^-14 * 0.m. */
static double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31;
    double m = h & 0x3FF;
    double v = exponent ? ldexp(1024 + m, exponent - 25) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}

static double bf16_value(uint16_t h)
{
    int exponent = h >> 7 & 255;
    double m = h & 0x7F;
    double v = exponent ? ldexp(128 + m, exponent - 134) : ldexp(m, -133);
    return h & 0x8000 ? -v : v;
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static void dtype_widens_every_16_bit_value(void **state)
{
    (void)state;
    enum { N = 65536 };
    char *src = malloc(2 * N + 1);
    float *half = malloc(N * sizeof *half), *brain = malloc(N * sizeof *brain);
    for (uint32_t i = 0; i < N; i++) memcpy(src + 1 + 2 * i, &(uint16_t){(uint16_t)i}, 2); /* odd address on purpose */
    berth_widen_f32(half, src + 1, BERTH_F16, N);
    berth_widen_f32(brain, src + 1, BERTH_BF16, N);
    for (uint32_t i = 0; i < N; i++) {
        uint16_t h = (uint16_t)i;
        assert_int_equal(bits_of(half[i]), bits_of(berth_f16_to_f32(h))); /* fast and plain agree, NaN payloads too */
        assert_int_equal(bits_of(brain[i]), i << 16);
        assert_int_equal(bits_of(berth_bf16_to_f32(h)), i << 16);
        if ((h & 0x7C00) == 0x7C00) {
            assert_true(h & 0x3FF ? isnan(half[i]) : isinf(half[i]));
            assert_int_equal(berth_f32_to_f16(half[i]), h & 0x3FF ? h | 0x200 : h);
        } else {
            assert_true(half[i] == half_value(h) && !signbit(half[i]) == !(h & 0x8000));
            assert_int_equal(berth_f32_to_f16(half[i]), h);
        }
        bool is_nan = (h & 0x7FFF) > 0x7F80;
        assert_int_equal(berth_f32_to_bf16(brain[i]), is_nan ? h | 0x40 : h);
    }
    for (size_t n = 0; n < 40; n++) { /* tails */
        float out[41];
        for (int i = 0; i <= 40; i++) out[i] = 77.0f;
        berth_widen_f32(out, src + 1 + 2 * 0x3C00, BERTH_F16, n);
        for (size_t i = 0; i <= 40; i++) assert_true(out[i] == (i < n ? half[0x3C00 + i] : 77.0f));
        berth_widen_f32(out, src + 1 + 2 * 0x3F80, BERTH_BF16, n);
        for (size_t i = 0; i < n; i++) assert_true(out[i] == brain[0x3F80 + i]);
        assert_true(out[n] == 77.0f || n == 40);
    }
    berth_widen_f32(half, brain, BERTH_F32, N);
    assert_memory_equal(half, brain, N * sizeof *half);
    berth_widen_f32(half, half, BERTH_F32, N);
    free(src);
    free(half);
    free(brain);
}

/* `got` is the nearest of its neighbours to f, and the even one of two that are equally near. */
static void check_nearest(float f, uint16_t got, double (*value_of)(uint16_t), uint16_t infinity)
{
    double here = fabs((double)f - value_of(got));
    uint16_t magnitude = got & 0x7FFF;
    assert_int_equal(got >> 15, signbit(f) != 0);
    if (magnitude > 0) {
        double below = fabs((double)f - value_of((uint16_t)(got - 1)));
        assert_true(here < below || (here == below && !(got & 1)));
    }
    if (magnitude < infinity) { /* infinity stands for the next power of two, as rounding sees it */
        double above = fabs((double)f - value_of((uint16_t)(got + 1)));
        assert_true(here < above || (here == above && !(got & 1)));
    }
}

static void dtype_narrows_to_nearest_even(void **state)
{
    (void)state;
    static const struct {
        float in;
        uint16_t half, brain;
    } cases[] = {
        {0.0f, 0, 0},
        {-0.0f, 0x8000, 0x8000},
        {1.0f, 0x3C00, 0x3F80},
        {65504.0f, 0x7BFF, 0x4780},
        {65519.996f, 0x7BFF, 0x4780},
        {65520.0f, 0x7C00, 0x4780},
        {3.4028235e38f, 0x7C00, 0x7F80},
        {-INFINITY, 0xFC00, 0xFF80},
        {0x1p-24f, 1, 0x3380},
        {0x1p-25f, 0, 0x3300},
        {0x1.000002p-25f, 1, 0x3300},
        {0x1.8p-24f, 2, 0x33C0},
        {0x1p-14f, 0x0400, 0x3880},
        {0x1.ff8p-15f, 0x03FF, 0x3880},
        {0x1.ffcp-15f, 0x0400, 0x3880},
        {0x1p-149f, 0, 0},
        {0x1p-133f, 0, 1},
        {1.00390625f, 0x3C04, 0x3F80},    /* a tie for bf16: to even, down */
        {1.01171875f, 0x3C0C, 0x3F82},    /* a tie for bf16: to even, up */
        {1.00048828125f, 0x3C00, 0x3F80}, /* a tie for fp16 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(berth_f32_to_f16(cases[i].in), cases[i].half);
        assert_int_equal(berth_f32_to_bf16(cases[i].in), cases[i].brain);
    }
    assert_int_equal(berth_f32_to_f16(float_of(0x7F800001)), 0x7E00);
    assert_int_equal(berth_f32_to_bf16(float_of(0xFF800001)), 0xFFC0);
    uint64_t random = 7;
    for (int i = 0; i < 100000; i++) {
        float f = float_of((uint32_t)test_random(&random));
        if (isnan(f)) continue;
        if (!isinf(f)) check_nearest(f, berth_f32_to_bf16(f), bf16_value, 0x7F80);
        float small =
            ldexpf(f, -((int)(bits_of(f) >> 23 & 255) - 127)) * ldexpf(1.0f, (int)(test_random(&random) % 44) - 27);
        if (isfinite(small)) check_nearest(small, berth_f32_to_f16(small), half_value, 0x7C00);
    }
}

/* Arrays of any length, from any float's bits (every upper half, and lower halves about the ties), as one by one. */
static void dtype_narrows_arrays_alike(void **state)
{
    (void)state;
    static const uint32_t low[] = {0, 1, 0x0FFF, 0x1000, 0x1001, 0x2000, 0x7FFF, 0x8000, 0x8001, 0xEFFF, 0xFFFF};
    enum { LOWS = sizeof low / sizeof *low };
    float x[LOWS];
    uint16_t half[LOWS + 1], brain[LOWS + 1];
    for (uint32_t high = 0; high < 0x10000; high++) {
        const size_t n = high % (LOWS + 1);
        for (size_t i = 0; i < n; i++) x[i] = float_of(high << 16 | low[(i + high / 12) % LOWS]);
        half[n] = brain[n] = 0xA5A5;
        berth_narrow_f32(half, x, BERTH_F16, n);
        berth_narrow_f32(brain, x, BERTH_BF16, n);
        for (size_t i = 0; i < n; i++) {
            if (half[i] != berth_f32_to_f16(x[i]) || brain[i] != berth_f32_to_bf16(x[i]))
                fail_msg("%08x: %04x and %04x", (unsigned)bits_of(x[i]), half[i], brain[i]);
        }
        assert_int_equal(half[n], 0xA5A5);
        assert_int_equal(brain[n], 0xA5A5);
    }
}

static void dtype_tables(void **state)
{
    (void)state;
    static const struct {
        berth_dtype dtype;
        size_t size;
        const char *name;
        bool is_float;
    } cases[] = {{BERTH_F32, 4, "f32", true},  {BERTH_F16, 2, "f16", true},  {BERTH_BF16, 2, "bf16", true},
                 {BERTH_I32, 4, "i32", false}, {BERTH_I64, 8, "i64", false}, {BERTH_U8, 1, "u8", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(berth_dtype_size(cases[i].dtype), cases[i].size);
        assert_string_equal(berth_dtype_name(cases[i].dtype), cases[i].name);
        assert_int_equal(berth_dtype_is_float(cases[i].dtype), cases[i].is_float);
    }
    assert_string_equal(berth_dtype_name(BERTH_DTYPE_COUNT), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dtype_widens_every_16_bit_value),
        cmocka_unit_test(dtype_narrows_to_nearest_even),
        cmocka_unit_test(dtype_narrows_arrays_alike),
        cmocka_unit_test(dtype_tables),
    };
    return cmocka_run_group_tests_name("dtype", tests, NULL, NULL);
}
