/* bench_tests.c - the tests that `berth bench` was asked for: llama-bench's numbers, ranges and names. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "cli/bench.h"

enum { MAX_TOKENS = 1 << 22 };

/* ---- numbers --------------------------------------------------------------------------------------------------------- */

static berth_status bad_list(cli_option o, const char *text, berth_error *err)
{
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                      "--%s %s: expected numbers such as 128,512, or first-last, first-last+step, first-last*factor",
                      cli_options[o].name, text);
}

/* One whole number at *p. */
static bool take_number(const char **p, int32_t min, int32_t *out)
{
    char *end;
    if (!isdigit((unsigned char)**p)) return false;
    const long n = strtol(*p, &end, 10);
    *p = end;
    *out = n <= MAX_TOKENS ? (int32_t)n : -1;
    return n >= min && n <= MAX_TOKENS;
}

/* llama-bench's ranges: 1-4 is 1,2,3,4; 128-512+128; 1-8*2. */
static bool take_range(const char **p, int32_t min, bench_numbers *out)
{
    int32_t first, last, step = 1;
    bool times = false;
    if (!take_number(p, min, &first)) return false;
    last = first;
    if (**p == '-') {
        ++*p;
        if (!take_number(p, first, &last)) return false;
        if (**p == '+' || **p == '*') {
            times = *(*p)++ == '*';
            if (!take_number(p, times ? 2 : 1, &step) || (times && first == 0)) return false;
        }
    }
    for (int64_t n = first; n <= last; n = times ? n * step : n + step) {
        if (out->n == BENCH_NUMBERS) return false;
        out->list[out->n++] = (int32_t)n;
    }
    return true;
}

static berth_status take_list(cli_option o, const char *text, int32_t min, bench_numbers *out, berth_error *err)
{
    for (const char *p = text;; p++) {
        if (!take_range(&p, min, out) || (*p != ',' && *p != '\0')) return bad_list(o, text, err);
        if (*p == '\0') return BERTH_OK;
    }
}

berth_status bench_numbers_read(const cli_args *a, cli_option o, const char *standard, int32_t min, bench_numbers *out,
                                berth_error *err)
{
    out->n = 0;
    if (a->n_list[o] == 0) return take_list(o, standard, min, out, err);
    berth_status st = BERTH_OK;
    for (int32_t i = 0; st == BERTH_OK && i < a->n_list[o]; i++) st = take_list(o, a->list[o][i], min, out, err);
    return st;
}

/* ---- tests ----------------------------------------------------------------------------------------------------------- */

static berth_status add_test(bench_tests *b, int32_t n_prompt, int32_t n_gen, int32_t n_depth, berth_error *err)
{
    if (b->n == BENCH_TESTS)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "more than %d tests; give fewer lengths or depths", BENCH_TESTS);
    bench_test *t = &b->list[b->n++];
    *t = (bench_test){.n_prompt = n_prompt, .n_gen = n_gen, .n_depth = n_depth};
    int len;
    if (n_prompt == BENCH_PICTURE)
        len = snprintf(t->name, sizeof t->name, "image+tg%d", (int)n_gen);
    else if (n_gen == 0)
        len = snprintf(t->name, sizeof t->name, "pp%d", (int)n_prompt);
    else if (n_prompt == 0)
        len = snprintf(t->name, sizeof t->name, "tg%d", (int)n_gen);
    else
        len = snprintf(t->name, sizeof t->name, "pp%d+tg%d", (int)n_prompt, (int)n_gen);
    if (n_depth > 0) snprintf(t->name + len, sizeof t->name - (size_t)len, " @ d%d", (int)n_depth);
    return BERTH_OK;
}

static berth_status add_pairs(const cli_args *a, bench_tests *b, int32_t depth, berth_error *err)
{
    berth_status st = BERTH_OK;
    for (int32_t i = 0; st == BERTH_OK && i < a->n_list[OPT_PG]; i++) {
        const char *p = a->list[OPT_PG][i];
        int32_t pp, tg;
        if (!take_number(&p, 1, &pp) || *p++ != ',' || !take_number(&p, 1, &tg) || *p != '\0')
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--pg %s: expected PROMPT,GENERATED, as in 512,128",
                              a->list[OPT_PG][i]);
        st = add_test(b, pp, tg, depth, err);
    }
    return st;
}

static berth_status add_at_depth(const cli_args *a, bench_tests *b, const bench_numbers *pp, const bench_numbers *tg,
                                 int32_t depth, berth_error *err)
{
    berth_status st = BERTH_OK;
    for (int32_t i = 0; st == BERTH_OK && i < pp->n; i++) {
        if (pp->list[i] > 0) st = add_test(b, pp->list[i], 0, depth, err);
    }
    for (int32_t i = 0; st == BERTH_OK && i < tg->n; i++) {
        if (tg->list[i] > 0) st = add_test(b, 0, tg->list[i], depth, err);
    }
    return st == BERTH_OK ? add_pairs(a, b, depth, err) : st;
}

berth_status bench_tests_read(const cli_args *a, bench_tests *out, berth_error *err)
{
    bench_numbers pp, tg, depths;
    berth_status st = bench_numbers_read(a, OPT_N_PROMPT, "512", 0, &pp, err);
    if (st == BERTH_OK) st = bench_numbers_read(a, OPT_N_GEN, "128", 0, &tg, err);
    if (st == BERTH_OK) st = bench_numbers_read(a, OPT_N_DEPTH, "0", 0, &depths, err);
    if (st != BERTH_OK) return st;
    out->n_prompt = pp.list[0];
    out->n_gen = tg.list[0];
    for (int32_t i = 0; st == BERTH_OK && i < depths.n; i++) st = add_at_depth(a, out, &pp, &tg, depths.list[i], err);
    if (st == BERTH_OK && a->n_list[OPT_IMAGE] > 0)
        st = add_test(out, BENCH_PICTURE, out->n_gen > 0 ? out->n_gen : 1, 0, err);
    return st;
}
