/* sampler_test.c - the golden rows of transformers' processors; seeds; options that are refused; choices from a row's best,
 * which are those from the whole row (a number of rounds as argument makes a campaign of that). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "engine/sampler.h"
#include "kernels/ops.h"

#define TOLERANCE 2e-6 /* absolute, a probability: tests/golden/README-models.md */

static float number_or(const berth_json_node *params, const char *key, float otherwise)
{
    double d;
    return berth_json_as_f64(berth_json_get(params, key), &d) ? (float)d : otherwise;
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static float *floats_of(const berth_json_node *array)
{
    size_t n = berth_json_size(array), i = 0;
    float *out = calloc(n + 1, sizeof *out);
    for (const berth_json_node *e = berth_json_first(array); e; e = berth_json_next(e)) {
        double d = 0;
        assert_true(berth_json_as_f64(e, &d));
        out[i++] = (float)d;
    }
    return out;
}

static void check_row(const berth_json_node *row)
{
    const char *name = berth_json_as_string(berth_json_get(row, "name"));
    const berth_json_node *params = berth_json_get(row, "params");
    int64_t vocab;
    assert_true(berth_json_as_i64(berth_json_get(row, "vocab"), &vocab));
    berth_sampling rule = {
        .sample = true,
        .temperature = number_or(params, "temperature", 1),
        .top_k = (int32_t)number_or(params, "top_k", 0),
        .top_p = number_or(params, "top_p", 1),
        .min_p = number_or(params, "min_p", 0),
        .repetition_penalty = number_or(params, "repetition_penalty", 1),
    };
    berth_sampler *s = NULL;
    assert_int_equal(berth_sampler_create(&rule, (int32_t)vocab, &s, NULL), BERTH_OK);
    for (const berth_json_node *e = berth_json_first(berth_json_get(row, "previous_ids")); e; e = berth_json_next(e)) {
        int64_t id;
        assert_true(berth_json_as_i64(e, &id));
        berth_sampler_see(s, (int32_t)id);
    }
    float *logits = floats_of(berth_json_get(row, "logits")), *want = floats_of(berth_json_get(row, "probs"));
    float *got = calloc((size_t)vocab, sizeof *got);
    berth_sampler_probs(s, logits, got);
    const berth_json_node *kept = berth_json_get(row, "kept");
    bool tie = false;
    berth_json_as_bool(berth_json_get(row, "tie_at_cut"), &tie);
    int64_t n_kept = 0, want_kept = 0;
    for (int32_t i = 0; i < vocab; i++) n_kept += !berth_sampler_removed(s, i);
    if (!berth_json_as_i64(kept, &want_kept)) want_kept = (int64_t)berth_json_size(kept);
    if (n_kept != want_kept) fail_msg("%s: %lld tokens kept, not %lld", name, (long long)n_kept, (long long)want_kept);
    if (tie) {
        qsort(got, (size_t)vocab, sizeof *got, compare_floats);
        qsort(want, (size_t)vocab, sizeof *want, compare_floats);
    }
    for (int32_t i = 0; i < vocab; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= TOLERANCE))
            fail_msg("%s: token %d has %.9g, not %.9g", name, i, (double)got[i], (double)want[i]);
    int32_t drawn = berth_sampler_next(s, logits);
    assert_in_range(drawn, 0, vocab - 1);
    assert_false(berth_sampler_removed(s, drawn));
    free(logits);
    free(want);
    free(got);
    berth_sampler_destroy(s);
}

static void golden_rows(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n = 0;
    berth_error err = {0};
    berth_json *json = NULL;
    const char *path = BERTH_SOURCE_DIR "/tests/golden/models/samplers.json";
    assert_int_equal(berth_file_read(path, 64 << 20, &text, &n, &err), BERTH_OK);
    assert_int_equal(berth_json_parse(text, n, "samplers.json", &json, &err), BERTH_OK);
    const berth_json_node *rows = berth_json_get(berth_json_root(json), "rows");
    assert_true(berth_json_size(rows) >= 40);
    for (const berth_json_node *row = berth_json_first(rows); row; row = berth_json_next(row)) check_row(row);
    berth_json_destroy(json);
    free(text);
}

static void greedy_takes_the_lowest_index_of_equals(void **state)
{
    (void)state;
    berth_sampling rule = BERTH_SAMPLING_GREEDY;
    berth_sampler *s = NULL;
    const float logits[] = {-1, 2, 3, 3, 0};
    assert_int_equal(berth_sampler_create(&rule, 5, &s, NULL), BERTH_OK);
    assert_int_equal(berth_sampler_next(s, logits), 2);
    berth_sampler_see(s, 2);
    assert_int_equal(berth_sampler_next(s, logits), 2); /* no penalty asked for */
    berth_sampler_destroy(s);
    rule.repetition_penalty = 2;
    assert_int_equal(berth_sampler_create(&rule, 5, &s, NULL), BERTH_OK);
    berth_sampler_see(s, 2);
    berth_sampler_see(s, 2);
    berth_sampler_see(s, 99);
    berth_sampler_see(s, -1);
    assert_int_equal(berth_sampler_next(s, logits), 3);
    berth_sampler_see(s, 3);
    assert_int_equal(berth_sampler_next(s, logits), 1);
    berth_sampler_destroy(s);
}

static void draws_follow_the_probabilities_and_the_seed(void **state)
{
    (void)state;
    enum { N = 20000 };
    const float logits[] = {0.0f, 1.0f, 2.0f, -30.0f};
    berth_sampling rule = {.sample = true, .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 42};
    berth_sampler *a = NULL, *b = NULL;
    float p[4];
    int32_t counts[4] = {0};
    assert_int_equal(berth_sampler_create(&rule, 4, &a, NULL), BERTH_OK);
    assert_int_equal(berth_sampler_create(&rule, 4, &b, NULL), BERTH_OK);
    berth_sampler_probs(a, logits, p);
    for (int i = 0; i < N; i++) {
        int32_t x = berth_sampler_next(a, logits);
        assert_int_equal(x, berth_sampler_next(b, logits));
        counts[x]++;
    }
    for (int i = 0; i < 4; i++) /* five standard deviations */
        assert_true(fabs(counts[i] - N * (double)p[i]) <= 5 * sqrt(N * (double)p[i]) + 1);
    berth_sampler_destroy(a);
    berth_sampler_destroy(b);
}

static void the_first_draws_of_a_seed_never_change(void **state)
{
    (void)state;
    float logits[256] = {0};
    berth_sampling rule = {.sample = true, .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 7};
    static const int32_t want[] = {14, 44, 183, 109, 246, 119, 185, 84};
    berth_sampler *s = NULL;
    assert_int_equal(berth_sampler_create(&rule, 256, &s, NULL), BERTH_OK);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) assert_int_equal(berth_sampler_next(s, logits), want[i]);
    berth_sampler_destroy(s);
}

static void extreme_temperatures_stay_finite(void **state)
{
    (void)state;
    const float logits[] = {1e30f, -1e30f, 1e30f, 5};
    static const float temperatures[] = {1e-38f, 1e-6f, 1e30f};
    for (size_t i = 0; i < 3; i++) {
        berth_sampling rule = {.sample = true,
                               .temperature = temperatures[i],
                               .top_k = 3,
                               .top_p = 0.9f,
                               .min_p = 0.1f,
                               .repetition_penalty = 1};
        float p[4];
        berth_sampler *s = NULL;
        assert_int_equal(berth_sampler_create(&rule, 4, &s, NULL), BERTH_OK);
        berth_sampler_probs(s, logits, p);
        for (int k = 0; k < 4; k++) assert_true(p[k] >= 0 && p[k] <= 1);
        if (i == 0) assert_true(p[0] == 0.5f && p[2] == 0.5f);
        berth_sampler_destroy(s);
    }
}

static void refused_options(void **state)
{
    (void)state;
    static const struct {
        berth_sampling s;
        const char *word;
    } rows[] = {
        {{.sample = true, .temperature = 0, .top_p = 1, .repetition_penalty = 1}, "temperature 0"},
        {{.sample = true, .temperature = NAN, .top_p = 1, .repetition_penalty = 1}, "temperature"},
        {{.temperature = NAN, .top_p = 1, .repetition_penalty = 1}, "temperature"},
        {{.sample = true, .temperature = INFINITY, .top_p = 1, .repetition_penalty = 1}, "temperature"},
        {{.sample = true, .temperature = -1, .top_p = 1, .repetition_penalty = 1}, "temperature"},
        {{.temperature = 1, .top_k = -7, .top_p = 1, .repetition_penalty = 1}, "top-k -7"},
        {{.temperature = 1, .top_p = 1.5f, .repetition_penalty = 1}, "top-p 1.5"},
        {{.temperature = 1, .top_p = -0.1f, .repetition_penalty = 1}, "top-p"},
        {{.temperature = 1, .top_p = NAN, .repetition_penalty = 1}, "top-p"},
        {{.temperature = 1, .top_p = 1, .min_p = 2, .repetition_penalty = 1}, "min-p"},
        {{.temperature = 1, .top_p = 1, .min_p = NAN, .repetition_penalty = 1}, "min-p"},
        {{.temperature = 1, .top_p = 1, .repetition_penalty = 0}, "penalty 0"},
        {{.temperature = 1, .top_p = 1, .repetition_penalty = -2}, "penalty"},
        {{.temperature = 1, .top_p = 1, .repetition_penalty = NAN}, "penalty"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        berth_error err = {0};
        berth_sampler *s = NULL;
        assert_int_equal(berth_sampler_create(&rows[i].s, 8, &s, &err), BERTH_INVALID_ARGUMENT);
        assert_null(s);
        if (!strstr(err.message, rows[i].word)) fail_msg("row %zu: %s", i, err.message);
    }
    berth_sampling fine = BERTH_SAMPLING_GREEDY;
    fine.temperature = 0; /* greedy does not look at it */
    assert_int_equal(berth_sampling_check(&fine, NULL), BERTH_OK);
}

/* ---- choices from the best of a row ----------------------------------------------------------------------------- */

static int32_t n_rounds = 1500;

typedef struct dice {
    uint64_t state;
} dice;

static uint32_t roll(dice *d, uint32_t below)
{
    d->state = d->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(d->state >> 33) % below;
}

static float roll_unit(dice *d)
{
    return (float)roll(d, 1 << 24) / (float)(1 << 24);
}

/* Roughly normal. */
static float roll_bell(dice *d)
{
    float sum = -6;
    for (int i = 0; i < 12; i++) sum += roll_unit(d);
    return sum;
}

enum { BELL, PEAKED, TIES, GIANTS, NEIGHBOURS, FLAT, NEGATIVE, N_ROW_KINDS };

static void fill_row(dice *d, int kind, float *x, int32_t n)
{
    const float centre = kind == NEGATIVE ? -60 : kind == PEAKED ? 10 : 0;
    const float width = kind == PEAKED ? 5 : kind == FLAT ? 0.02f : 3;
    for (int32_t i = 0; i < n; i++) x[i] = centre + width * roll_bell(d);
    for (int32_t i = 0; kind == TIES && i < n; i++) x[i] = roundf(x[i] * 2) / 2;
    for (int32_t i = 0; kind == GIANTS && i < 3; i++) x[roll(d, (uint32_t)n)] = 30 + (float)(i / 2);
    if (kind != NEIGHBOURS) return; /* the best are one step of a float apart, in no order */
    for (int32_t i = 0; i < 40; i++) x[roll(d, (uint32_t)n)] = 11 + (float)roll(d, 60) * 0x1p-20f;
}

static berth_sampling roll_rule(dice *d)
{
    static const float temperatures[] = {1, 0.7f, 0.1f, 1.5f, 1e-38f}, top_ps[] = {1, 0.9f, 0.5f, 0.05f, 0},
                       min_ps[] = {0, 0, 0.05f, 0.3f, 1}, penalties[] = {1, 1, 1.1f, 1.4f, 0.8f};
    static const int32_t top_ks[] = {0, 0, 1, 20, 50, 128, 200};
    return (berth_sampling){.sample = roll(d, 8) > 0,
                            .temperature = temperatures[roll(d, 5)],
                            .top_k = top_ks[roll(d, 7)],
                            .top_p = top_ps[roll(d, 5)],
                            .min_p = min_ps[roll(d, 5)],
                            .repetition_penalty = penalties[roll(d, 5)],
                            .seed = roll(d, 1 << 30)};
}

/* What the device tells of the row; its sum as far off as it may be. */
static void look_at(dice *d, const float *x, int32_t n, float scale, float best[BERTH_LOGIT_BEST],
                    float stats[BERTH_LOGIT_STATS])
{
    int32_t row = 0;
    berth_op_call call = {.kind = BERTH_OP_LOGIT_STATS, .n_in = 1};
    call.in[0] = (berth_tensor){.data = (void *)(uintptr_t)x, .dtype = BERTH_F32, .n_dims = 2, .dims = {1, n}};
    call.out = (berth_tensor){.data = stats, .dtype = BERTH_F32, .n_dims = 2, .dims = {1, BERTH_LOGIT_STATS}};
    berth_kernels_run(berth_kernels_ref(), &call);
    call.kind = BERTH_OP_LOGIT_BEST;
    call.n_in = 3;
    call.in[1] = (berth_tensor){.data = &row, .dtype = BERTH_I32, .n_dims = 1, .dims = {1}};
    call.in[2] = (berth_tensor){.data = &scale, .dtype = BERTH_F32, .n_dims = 1, .dims = {1}};
    call.out = (berth_tensor){.data = best, .dtype = BERTH_F32, .n_dims = 2, .dims = {1, BERTH_LOGIT_BEST}};
    berth_kernels_run(berth_kernels_ref(), &call);
    best[BERTH_BEST_SUM] *= 1 + 4e-6f * (2 * roll_unit(d) - 1);
}

typedef struct decided {
    int32_t n, of;
} decided;

/* Some tokens of two samplers of one rule, of which one looks at the best first. */
static void compare_choices(dice *d, const berth_sampling *rule, int kind, int32_t n, float *x, decided *counts)
{
    berth_sampler *two[2];
    for (int k = 0; k < 2; k++) assert_int_equal(berth_sampler_create(rule, n, &two[k], NULL), BERTH_OK);
    for (uint32_t i = roll(d, 80); i > 0; i--) {
        const int32_t id = (int32_t)roll(d, (uint32_t)n);
        for (int k = 0; k < 2; k++) berth_sampler_see(two[k], id);
    }
    for (int step = 0; step < 3; step++) {
        float best[BERTH_LOGIT_BEST], stats[BERTH_LOGIT_STATS];
        fill_row(d, kind, x, n);
        look_at(d, x, n, berth_sampler_scale(two[0]), best, stats);
        const int32_t want = berth_sampler_next(two[1], x);
        int32_t got = -1;
        const bool is_decided = berth_sampler_next_of_best(two[0], best, stats, &got);
        assert_true(is_decided || got == -1);
        if (!is_decided) got = berth_sampler_next(two[0], x);
        counts->n += is_decided;
        counts->of++;
        if (got != want)
            fail_msg("row kind %d of %d, %s, temperature %g, top-k %d, top-p %g, min-p %g, penalty %g: %d, not %d",
                     kind, (int)n, rule->sample ? "sampled" : "greedy", (double)rule->temperature, (int)rule->top_k,
                     (double)rule->top_p, (double)rule->min_p, (double)rule->repetition_penalty, (int)got, (int)want);
        for (int k = 0; k < 2; k++) berth_sampler_see(two[k], got);
    }
    for (int k = 0; k < 2; k++) berth_sampler_destroy(two[k]);
}

static void the_best_choose_as_the_whole_row_does(void **state)
{
    (void)state;
    static const int32_t vocabs[] = {2000, 700, 129, 128, 5};
    dice d = {.state = 12345};
    decided all = {0};
    float *x = calloc(2000, sizeof *x);
    for (int32_t i = 0; i < n_rounds; i++) {
        const berth_sampling rule = roll_rule(&d);
        const int kind = (int)roll(&d, N_ROW_KINDS);
        compare_choices(&d, &rule, kind, vocabs[roll(&d, 8) < 6 ? 0 : roll(&d, 5)], x, &all);
    }
    free(x);
    print_message("%d of %d choices from the best\n", (int)all.n, (int)all.of);
    assert_true(all.n > all.of / 3);
}

/* Rows as models make them: what people ask for does not need the whole row. */
static void usual_options_are_decided_by_the_best(void **state)
{
    (void)state;
    static const struct {
        berth_sampling rule;
        int32_t most_whole; /* of 300 */
    } rows[] = {
        {{.temperature = 1, .top_p = 1, .repetition_penalty = 1.2f}, 0},
        {{.sample = true, .temperature = 1, .top_k = 50, .top_p = 1, .repetition_penalty = 1}, 0},
        {{.sample = true, .temperature = 0.8f, .top_k = 50, .top_p = 0.95f, .repetition_penalty = 1.1f}, 3},
        {{.sample = true, .temperature = 0.7f, .top_k = 20, .top_p = 0.8f, .min_p = 0.01f, .repetition_penalty = 1.05f},
         0},
        {{.sample = true, .temperature = 0.7f, .top_p = 0.9f, .repetition_penalty = 1}, 3},
        {{.sample = true, .temperature = 1, .top_p = 1, .min_p = 0.05f, .repetition_penalty = 1}, 3},
    };
    float *x = calloc(2000, sizeof *x);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        dice d = {.state = i};
        decided counts = {0};
        for (int k = 0; k < 100; k++) compare_choices(&d, &rows[i].rule, PEAKED, 2000, x, &counts);
        if (counts.of - counts.n > rows[i].most_whole)
            fail_msg("row %zu: %d of %d choices need the whole row", i, counts.of - counts.n, counts.of);
    }
    free(x);
}

int main(int argc, char **argv)
{
    if (argc > 1) n_rounds = atoi(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_rows),
        cmocka_unit_test(greedy_takes_the_lowest_index_of_equals),
        cmocka_unit_test(draws_follow_the_probabilities_and_the_seed),
        cmocka_unit_test(the_first_draws_of_a_seed_never_change),
        cmocka_unit_test(extreme_temperatures_stay_finite),
        cmocka_unit_test(refused_options),
        cmocka_unit_test(the_best_choose_as_the_whole_row_does),
        cmocka_unit_test(usual_options_are_decided_by_the_best),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
