/* partition_test.c - cuts where not all orders are looked at: small problems against every cut in every order with the
 * exact methods switched off, larger ones against the exact methods, large ones by the bounds they prove. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/partition.h"
#include "tests/random.h"

enum { MOST_ATOMS = 140, MOST_DEVICES = 64, N_SMALL = 4000 };

typedef struct world {
    unsigned __int128 weights[MOST_ATOMS + 1], kv[MOST_ATOMS + 1];
    berth_work_sums sums[MOST_ATOMS + 1];
    berth_partition_device devices[MOST_DEVICES];
    double picoseconds[BERTH_CUT_KINDS * MOST_DEVICES * MOST_DEVICES];
    uint8_t kind[MOST_ATOMS + 1];
    berth_chain chain;
    berth_work work;
    berth_hops hops;
    berth_partition_problem p;
} world;

static uint64_t seed;

static uint32_t below(uint32_t n)
{
    return test_random_below(&seed, n);
}

typedef enum shape { ALIKE, MIXED, ANY } shape; /* layers: all alike, every fourth twice as large, of any size */

/* A vision tower, an embedding, layers, a head; the request of strategies/work.h in round numbers. */
static void make_chain(world *w, int32_t n_layers, shape layers)
{
    int32_t n = n_layers + 3;
    for (int32_t i = 0; i < n; i++) {
        double bytes = i == 0 ? 1300000 : i == 1 || i == n - 1 ? 2300000 : 1000000;
        bool is_layer = i > 1 && i < n - 1;
        if (is_layer && layers == MIXED && i % 4 == 0) bytes *= 2;
        if (is_layer && layers == ANY) bytes = 500000 + below(1000000);
        uint64_t kv = is_layer ? 50 : 0;
        berth_work_sums *s = &w->sums[i + 1];
        *s = w->sums[i];
        w->weights[i + 1] = w->weights[i] + (uint64_t)bytes;
        w->kv[i + 1] = w->kv[i] + kv;
        w->kind[i] = i == 0 ? BERTH_CUT_TILES : i == 1 ? BERTH_CUT_FEATURES : BERTH_CUT_TOKENS;
        if (i == 0) {
            s->encode_flops += bytes * 26e3;
            s->encode_bytes += bytes;
        } else if (i > 1) {
            s->prefill_flops += bytes * 2 * (is_layer ? 3448 : 1);
            s->prefill_bytes += bytes;
            s->decode_flops += bytes * 1200;
            s->decode_bytes += bytes * 600 + (double)kv * 2220000;
        }
    }
    w->kind[n] = BERTH_CUT_TOKENS;
    w->chain = (berth_chain){.n = n, .weights = w->weights, .kv = w->kv, .context_tokens = 1000};
    w->work.sums = w->sums;
}

/* Devices up to `spread` times as fast and large as others; room for `percent` of the chain in all; n_kinds of them. */
static void make_machine(world *w, int32_t n, int32_t n_kinds, uint32_t spread, uint32_t percent)
{
    double total = (double)w->weights[w->chain.n] + 1000.0 * (double)w->kv[w->chain.n], sum = 0, sizes[MOST_DEVICES];
    for (int32_t d = 0; d < n; d++) {
        double speed = 1 + (spread - 1) * (below(1000) / 1000.0), skew = 0.7 + below(600) / 1000.0;
        sizes[d] = 1 + (spread - 1) * (below(1000) / 1000.0);
        w->devices[d] = (berth_partition_device){.rate = 1e9 * speed, .flops = 1e11 * speed * skew};
        w->devices[d] = w->devices[d % n_kinds];
        sizes[d] = sizes[d % n_kinds];
        sum += sizes[d];
    }
    for (int32_t d = 0; d < n; d++)
        w->devices[d].room = (uint64_t)(total * percent / 100 * sizes[d] / sum) + (percent > 100 ? 1500000 : 0);
    for (int32_t i = 0; i < BERTH_CUT_KINDS * n * n; i++) w->picoseconds[i] = i % (n * n) % (n + 1) ? 1e9 : 0;
    w->hops = (berth_hops){.n_devices = n, .picoseconds = w->picoseconds, .kind = w->kind, .is_uniform = true};
    w->p = (berth_partition_problem){
        .chain = &w->chain, .devices = w->devices, .n_devices = n, .work = &w->work, .hops = &w->hops};
}

/* Hops of 1 up to `most` milliseconds, each pair its own. */
static void make_links(world *w, uint32_t most)
{
    int32_t n = w->p.n_devices;
    for (int32_t i = 0; i < BERTH_CUT_KINDS * n * n; i++)
        if (w->picoseconds[i] > 0) w->picoseconds[i] = 1e9 * (1 + below(most));
    w->hops.is_uniform = n < 2;
}

/* ---- the judge ---- */

typedef struct verdict {
    double slowest, sum;
} verdict;

static double stage(const world *w, int32_t d, int32_t from, int32_t to)
{
    const berth_work_sums *a = &w->sums[from], *b = &w->sums[to];
    double flops = w->devices[d].flops, rate = w->devices[d].rate;
    return fmax((b->encode_flops - a->encode_flops) / flops, (b->encode_bytes - a->encode_bytes) / rate) +
           fmax((b->prefill_flops - a->prefill_flops) / flops, (b->prefill_bytes - a->prefill_bytes) / rate) +
           fmax((b->decode_flops - a->decode_flops) / flops, (b->decode_bytes - a->decode_bytes) / rate);
}

static bool judge(const world *w, const int32_t *order, const int32_t *bounds, int64_t context, verdict *out)
{
    int32_t n = w->p.n_devices;
    *out = (verdict){0};
    for (int32_t s = 0, before = -1; s < n; s++) {
        int32_t from = bounds[s], to = bounds[s + 1], d = order[s];
        if (from == to) continue;
        double bytes =
            (double)(w->weights[to] - w->weights[from]) + (double)context * (double)(w->kv[to] - w->kv[from]);
        if (bytes > (double)w->devices[d].room) return false;
        double seconds = stage(w, d, from, to), hop = 0;
        if (before >= 0) hop = 1e-12 * w->picoseconds[(w->kind[from] * n + before) * n + d];
        out->slowest = fmax(out->slowest, fmax(seconds, hop));
        out->sum += seconds + hop;
        before = d;
    }
    return true;
}

/* A cut is whole: every device once, every atom once; and as good as it says. */
static verdict check_cut(const world *w, const berth_partition *cut, int64_t context)
{
    uint64_t seen = 0;
    verdict v;
    for (int32_t s = 0; s < w->p.n_devices; s++) {
        assert_in_range(cut->order[s], 0, w->p.n_devices - 1);
        seen |= (uint64_t)1 << cut->order[s];
        assert_true(cut->bounds[s] <= cut->bounds[s + 1]);
    }
    assert_int_equal(__builtin_popcountll(seen), w->p.n_devices);
    assert_int_equal(cut->bounds[0], 0);
    assert_int_equal(cut->bounds[w->p.n_devices], w->chain.n);
    assert_true(judge(w, cut->order, cut->bounds, context, &v));
    return v;
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b));
}

typedef struct best {
    verdict least;
    bool any;
} best;

static void look(const world *w, int32_t *order, int32_t *bounds, int32_t chosen, int32_t s, int64_t context, best *b)
{
    int32_t n = w->p.n_devices;
    verdict v;
    for (int32_t k = 0; chosen < n && k < n; k++) {
        bool is_new = true;
        for (int32_t i = 0; i < chosen; i++) is_new &= order[i] != k;
        order[chosen] = k;
        if (is_new) look(w, order, bounds, chosen + 1, s, context, b);
    }
    if (chosen < n) return;
    if (s < n) {
        for (bounds[s] = bounds[s - 1]; bounds[s] <= w->chain.n; bounds[s]++)
            look(w, order, bounds, chosen, s + 1, context, b);
        return;
    }
    if (!judge(w, order, bounds, context, &v)) return;
    b->least.slowest = b->any ? fmin(b->least.slowest, v.slowest) : v.slowest;
    b->least.sum = b->any ? fmin(b->least.sum, v.sum) : v.sum;
    b->any = true;
}

static best look_at_all(const world *w, int64_t context)
{
    int32_t order[8], bounds[9] = {0};
    best b = {0};
    bounds[w->p.n_devices] = w->chain.n;
    look(w, order, bounds, 0, 1, context, &b);
    return b;
}

/* ---- small ---- */

static void check_small(world *w, uint64_t number, int *n_apart)
{
    static const berth_partition_effort none = {.most_states = 1, .most_cells = 1};
    best b = look_at_all(w, 1000);
    berth_partition cut;
    w->p.effort = none;
    berth_status st = berth_partition_throughput(&w->p, true, &cut, NULL);
    if (st != (b.any ? BERTH_OK : BERTH_DOES_NOT_FIT)) fail_msg("%d: %s", (int)number, berth_status_name(st));
    if (st == BERTH_OK) {
        verdict v = check_cut(w, &cut, 1000);
        if (!near(v.slowest, cut.value)) fail_msg("%d: slowest %.12g, said %.12g", (int)number, v.slowest, cut.value);
        if (cut.bound > b.least.slowest * (1 + 1e-9) || cut.value < b.least.slowest * (1 - 1e-9))
            fail_msg("%d: %.12g in [%.12g, %.12g]", (int)number, b.least.slowest, cut.bound, cut.value);
        n_apart[0] += cut.value > 1.02 * b.least.slowest;
        n_apart[1] += !near(cut.value, cut.bound);
        berth_partition_deinit(&cut);
    }
    for (int k = 0; k < 2; k++) { /* latency: the first bound, and the whole way */
        if (k == 1) w->p.effort.most_cells = 1 << 20;
        st = berth_partition_latency(&w->p, &cut, NULL);
        assert_int_equal(st, b.any ? BERTH_OK : BERTH_DOES_NOT_FIT);
        if (st != BERTH_OK) continue;
        assert_true(near(check_cut(w, &cut, 1000).sum, cut.value));
        assert_true(cut.bound <= b.least.sum * (1 + 1e-9) && cut.value >= b.least.sum * (1 - 1e-9));
        if (k == 1 && !near(cut.value, b.least.sum)) fail_msg("%d: %.12g s", (int)number, cut.value);
        berth_partition_deinit(&cut);
    }
    w->p.effort = none;
    st = berth_partition_capacity(&w->p, true, 1 << 20, &cut, NULL);
    assert_int_equal(st, b.any ? BERTH_OK : BERTH_DOES_NOT_FIT);
    if (st != BERTH_OK) return;
    check_cut(w, &cut, (int64_t)cut.value);
    assert_true(cut.value == cut.bound); /* searches this small end */
    if (cut.value < 1 << 20) assert_false(look_at_all(w, (int64_t)cut.value + 1).any);
    berth_partition_deinit(&cut);
}

static void bounds_hold_against_every_cut(void **state)
{
    (void)state;
    static world w;
    int n_apart[2] = {0}, n_links_apart[2] = {0};
    for (uint64_t number = 0; number < N_SMALL; number++) {
        seed = (number + 1) * 0x9E3779B97F4A7C15u;
        bool has_links = number % 2;
        make_chain(&w, 1 + (int32_t)below(4), (shape)below(3));
        make_machine(&w, 1 + (int32_t)below(4), 1 + (int32_t)below(4), 1 + below(6), 80 + below(150));
        if (has_links) make_links(&w, below(2) ? 50 : 3000); /* of 3 s: longer than stages */
        check_small(&w, number, has_links ? n_links_apart : n_apart);
    }
    assert_int_equal(n_apart[0] + n_apart[1], 0); /* without hops that bind, the best is found and proven */
    assert_int_equal(n_links_apart[0], 0);
    assert_true(n_links_apart[1] < N_SMALL / 10);
}

/* ---- larger ---- */

static void the_search_agrees_with_the_exact_method(void **state)
{
    (void)state;
    static world w;
    for (uint64_t number = 0; number < 24; number++) {
        seed = (number + 1) * 0x9E3779B97F4A7C15u;
        make_chain(&w, 20 + (int32_t)below(60), (shape)(number % 3));
        make_machine(&w, 8 + (int32_t)below(4), 64, 1 + below(8), 110 + below(200));
        berth_partition exact, found;
        for (int capacity = 0; capacity < 2; capacity++) {
            w.p.effort = (berth_partition_effort){0};
            berth_status st = capacity ? berth_partition_capacity(&w.p, true, 1 << 30, &exact, NULL)
                                       : berth_partition_throughput(&w.p, true, &exact, NULL);
            w.p.effort.most_states = 1;
            berth_status other = capacity ? berth_partition_capacity(&w.p, true, 1 << 30, &found, NULL)
                                          : berth_partition_throughput(&w.p, true, &found, NULL);
            assert_int_equal(st, other);
            if (st != BERTH_OK) continue;
            assert_true(exact.value == exact.bound);
            check_cut(&w, &found, capacity ? (int64_t)found.value : 1000);
            double sign = capacity ? -1 : 1;
            if (sign * found.bound > sign * exact.value + 1e-9 || sign * found.value < sign * exact.value - 1e-9)
                fail_msg("%d: %.9g in [%.9g, %.9g]", (int)number, exact.value, found.bound, found.value);
            if (fabs(found.value / exact.value - 1) > 0.02) fail_msg("%d: %g", (int)number, found.value / exact.value);
            berth_partition_deinit(&exact);
            berth_partition_deinit(&found);
        }
    }
}

/* 18 to 64 devices that all differ: more sets than can be looked at. */
static void large_machines_are_within_2_percent(void **state)
{
    (void)state;
    static world w;
    int n_exact = 0, n = 0;
    for (uint64_t number = 0; number < 48; number++) {
        static const int32_t sizes[] = {18, 24, 32, 64};
        seed = (number + 1) * 0x9E3779B97F4A7C15u;
        int32_t n_devices = sizes[number % 4];
        make_chain(&w, 28 + (int32_t)below(100), n_devices > 24 ? ALIKE : (shape)below(2));
        make_machine(&w, n_devices, 64, number % 3 ? 3 : 10, number % 3 ? 300 : 150);
        berth_partition cut, again;
        assert_int_equal(berth_partition_throughput(&w.p, true, &cut, NULL), BERTH_OK);
        assert_true(near(check_cut(&w, &cut, 1000).slowest, cut.value));
        if (!(cut.value <= 1.02 * cut.bound)) fail_msg("%d: %g, bound %g", (int)number, cut.value, cut.bound);
        n++;
        n_exact += cut.value == cut.bound;
        if (number == 0) {
            assert_int_equal(berth_partition_throughput(&w.p, true, &again, NULL), BERTH_OK);
            assert_memory_equal(cut.order, again.order, sizeof *cut.order * (size_t)n_devices);
            berth_partition_deinit(&again);
        }
        berth_partition_deinit(&cut);
    }
    assert_true(n_exact > n / 2);
}

static void latency_of_many_devices_is_bounded(void **state)
{
    (void)state;
    static world w;
    for (uint64_t number = 0; number < 4; number++) {
        berth_partition cut;
        seed = (number + 1) * 0x9E3779B97F4A7C15u;
        make_chain(&w, 40, (shape)below(3));
        make_machine(&w, number % 2 ? 20 : 12, 64, 4, 300);
        make_links(&w, 20);
        assert_int_equal(berth_partition_latency(&w.p, &cut, NULL), BERTH_OK);
        assert_true(near(check_cut(&w, &cut, 1000).sum, cut.value));
        if (!(cut.value <= 1.02 * cut.bound)) fail_msg("%d: %g, bound %g", (int)number, cut.value, cut.bound);
        if (number % 2 == 0) assert_true(near(cut.value, cut.bound));
        berth_partition_deinit(&cut);
    }
}

/* ---- devices that can change places ---- */

static void sixteen_equal_devices_are_exact(void **state)
{
    (void)state;
    static world w;
    berth_partition cut;
    make_chain(&w, 80, ALIKE);
    make_machine(&w, 16, 1, 1, 200);
    int32_t n = 16;
    for (int32_t i = 0; i < BERTH_CUT_KINDS * n * n; i++) { /* two boards of eight, with fast hops within */
        int32_t a = i % (n * n) / n, b = i % n;
        w.picoseconds[i] = a == b ? 0 : a % 2 == b % 2 ? 1e9 : 20e9;
    }
    w.hops.is_uniform = false;
    assert_int_equal(berth_partition_throughput(&w.p, true, &cut, NULL), BERTH_OK);
    assert_true(cut.value == cut.bound && cut.hops_are_least);
    int n_slow = 0, n_used = 1;
    for (int32_t s = 1; s < n; s++) {
        if (cut.bounds[s] == cut.bounds[s + 1]) continue;
        n_used++;
        n_slow += cut.order[s] % 2 != cut.order[s - 1] % 2;
    }
    assert_int_equal(n_slow, n_used > 8);
    berth_partition_deinit(&cut);
    assert_int_equal(berth_partition_latency(&w.p, &cut, NULL), BERTH_OK);
    assert_true(near(cut.value, cut.bound));
    berth_partition_deinit(&cut);
    for (int32_t i = 0; i < BERTH_CUT_KINDS * n * n; i++) /* hops between boards that take longer than all else */
        if (w.picoseconds[i] > 1e9) w.picoseconds[i] = 1e14;
    for (int32_t d = 0; d < n; d++) w.devices[d].room *= 4;
    assert_int_equal(berth_partition_throughput(&w.p, true, &cut, NULL), BERTH_OK);
    assert_true(cut.value == cut.bound && cut.value < 100);
    berth_partition_deinit(&cut);
}

/* ---- the campaign ---- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One line: how far apart answer and bound are, in percent, over n random problems. `end`: t, l or c. */
static void campaign(char end, int32_t n_devices, shape layers, uint32_t spread, uint32_t percent, bool links, int n)
{
    static world w;
    double *gaps = calloc((size_t)n, sizeof *gaps);
    int n_exact = 0, n_over = 0, n_not = 0, answered = 0;
    for (int k = 0; k < n && gaps; k++) {
        berth_partition cut;
        seed = (uint64_t)(k + 1) * 0x9E3779B97F4A7C15u;
        make_chain(&w, 28 + (int32_t)below(100), layers);
        make_machine(&w, n_devices, 64, spread, percent);
        if (links) make_links(&w, 100);
        berth_status st = end == 't'   ? berth_partition_throughput(&w.p, true, &cut, NULL)
                          : end == 'l' ? berth_partition_latency(&w.p, &cut, NULL)
                                       : berth_partition_capacity(&w.p, true, 1 << 30, &cut, NULL);
        n_not += st != BERTH_OK;
        if (st != BERTH_OK) continue;
        check_cut(&w, &cut, end == 'c' ? (int64_t)cut.value : 1000);
        double gap = end == 'c' ? cut.bound / cut.value - 1 : cut.value / cut.bound - 1;
        n_exact += gap < 1e-9;
        n_over += gap > 0.02;
        gaps[answered++] = 100 * gap;
        berth_partition_deinit(&cut);
    }
    if (answered > 0) qsort(gaps, (size_t)answered, sizeof *gaps, ascending);
    static const char *const shapes[] = {"alike", "mixed", "any"};
    if (answered > 0)
        printf(
            "%s %2d devices 1:%-2u layers %-5s room %3u %% %s: %3d exact of %3d, median %.3f, 90th %.3f, most %.3f %%; "
            "over 2 %%: %d; none: %d\n",
            end == 't'   ? "throughput"
            : end == 'l' ? "latency   "
                         : "capacity  ",
            n_devices, spread, shapes[layers], percent, links ? "links" : "-----", n_exact, answered,
            gaps[answered / 2], gaps[answered * 9 / 10], gaps[answered - 1], n_over, n_not);
    fflush(stdout);
    free(gaps);
}

static void run_campaign(int n)
{
    static const int32_t sizes[] = {18, 24, 40, 64};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int layers = ALIKE; layers <= ANY; layers++)
            for (int wide = 0; wide < 2; wide++)
                campaign('t', sizes[s], (shape)layers, wide ? 10 : 3, 150, layers == MIXED, n);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int tight = 0; tight < 2; tight++) campaign('l', sizes[s], ALIKE, 4, tight ? 130 : 300, true, n / 2);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int layers = ALIKE; layers <= ANY; layers++) campaign('c', sizes[s], (shape)layers, 4, 150, false, n);
}

/* partition_test N: no test, but how near the bounds are over N problems of each sort. */
int main(int argc, char **argv)
{
    if (argc > 1) {
        run_campaign(atoi(argv[1]));
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_hold_against_every_cut),
        cmocka_unit_test(the_search_agrees_with_the_exact_method),
        cmocka_unit_test(large_machines_are_within_2_percent),
        cmocka_unit_test(latency_of_many_devices_is_bounded),
        cmocka_unit_test(sixteen_equal_devices_are_exact),
    };
    return cmocka_run_group_tests_name("partition", tests, NULL, NULL);
}
