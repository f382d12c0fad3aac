/* conformance_optimal_test.c - `optimal` against every cut in every order, on the random models of conformance.h: stages
 * are as long as their bytes, and each pair of devices has a hop of its own. */
#include "strategies/conformance.h"

typedef struct best {
    double slowest, sum; /* seconds: least slowest stage, least sum of stages and hops; INFINITY = nothing fits */
} best;

typedef struct search {
    const model *m;
    const cuts *c;
    int32_t order[MAX_DEVICES], bounds[MAX_DEVICES + 1];
    best found;
} search;

static uint64_t hop_ns(int32_t from, int32_t to)
{
    return (uint64_t)(1 + 2 * from + 3 * to);
}

static void weigh_cut(search *s)
{
    const model *m = s->m;
    int32_t device[MAX_NODES], before = -1;
    uint64_t bytes[MAX_DEVICES];
    double slowest = 0, sum = 0;
    for (int32_t i = 0; i < m->n; i++) {
        int32_t stage = 0;
        while (s->c->atom[i] >= s->bounds[stage + 1]) stage++;
        device[i] = s->c->atom[i] < 0 ? -1 : s->order[stage];
    }
    bytes_on_devices(m, device, bytes);
    for (int32_t k = 0; k < m->in.n_devices; k++) {
        if (bytes[k] > room_of(m, k)) return;
        double seconds = (double)bytes[k] / m->devices[k].bytes_per_second;
        sum += seconds;
        slowest = fmax(slowest, seconds);
    }
    for (int32_t k = 0; k < m->in.n_devices; k++) { /* hops between devices that hold atoms */
        if (s->bounds[k] == s->bounds[k + 1]) continue;
        if (before >= 0) sum += 1e-9 * (double)hop_ns(before, s->order[k]);
        before = s->order[k];
    }
    s->found.slowest = fmin(s->found.slowest, slowest);
    s->found.sum = fmin(s->found.sum, sum);
}

static void try_bounds(search *s, int32_t d)
{
    if (d == s->m->in.n_devices) {
        weigh_cut(s);
        return;
    }
    for (s->bounds[d] = s->bounds[d - 1]; s->bounds[d] <= s->c->n_atoms; s->bounds[d]++) try_bounds(s, d + 1);
}

static void try_orders(search *s, int32_t n_chosen)
{
    int32_t n = s->m->in.n_devices;
    for (int32_t k = 0; k < n && n_chosen < n; k++) {
        bool is_new = true;
        for (int32_t i = 0; i < n_chosen; i++) is_new &= s->order[i] != k;
        s->order[n_chosen] = k;
        if (is_new) try_orders(s, n_chosen + 1);
    }
    if (n_chosen == n) try_bounds(s, 1);
}

static best best_of_all(const model *m, cuts *c)
{
    all_cuts(m, c);
    search s = {.m = m, .c = c, .found = {INFINITY, INFINITY}};
    s.bounds[m->in.n_devices] = c->n_atoms;
    try_orders(&s, 0);
    return s.found;
}

/* Stages by the judge's own bytes, and the hops that an answer makes. */
static best judge_times(const model *m, const cuts *c, const answer *a, const char *name)
{
    uint64_t total[MAX_DEVICES];
    best b = {0, 0};
    int32_t before = -1;
    judge_answer(name, m, a, total);
    for (int32_t d = 0; d < m->in.n_devices; d++) {
        double seconds = (double)total[d] / m->devices[d].bytes_per_second;
        b.slowest = fmax(b.slowest, seconds);
        b.sum += seconds;
    }
    for (int32_t i = 0; i < m->n; i++) {
        int32_t count, device = device_by_ancestors(m, a->device_of, i, &count);
        if (c->atom[i] < 0 || device == before) continue;
        if (before >= 0) b.sum += 1e-9 * (double)hop_ns(before, device);
        before = device;
    }
    return b;
}

static void add_speeds(model *m, berth_link_view links[9])
{
    int32_t n = m->in.n_devices;
    for (int32_t d = 0; d < n; d++) m->devices[d].bytes_per_second = 1e9 * (1 + test_random_below(&m->seed, 4));
    for (int32_t k = 0; k < n * n; k++)
        links[k] = (berth_link_view){.from = k / n, .to = k % n, .latency_ns = hop_ns(k / n, k % n)};
    m->in.links = links;
    m->in.link_size = sizeof *links;
    m->in.n_links = n * n;
}

static void optimal_is_best_of_all_cuts_and_orders(void **state)
{
    (void)state;
    static model m;
    static answer a;
    int32_t n_fit = 0, n_not = 0;
    for (uint64_t number = 0; number < N_CASES; number++) {
        berth_link_view links[9]; /* small models have 3 devices at most */
        cuts c;
        make_model(&m, 400000 + number, true);
        add_speeds(&m, links);
        const best b = best_of_all(&m, &c);
        *(b.sum < INFINITY ? &n_fit : &n_not) += 1;
        for (int latency = 0; latency < 2; latency++) {
            const char *name = latency ? "optimal=latency" : "optimal";
            run(name, &m, &a);
            assert_int_equal(a.status == BERTH_OK, b.sum < INFINITY);
            if (a.status != BERTH_OK) continue;
            const best got = judge_times(&m, &c, &a, name);
            if (!latency && got.slowest != b.slowest)
                fail_msg("small model %d: slowest stage %g, and %g is possible", (int)number, got.slowest, b.slowest);
            if (latency && fabs(got.sum - b.sum) > 1e-6 * b.sum)
                fail_msg("small model %d: %g s, and %g is possible", (int)number, got.sum, b.sum);
        }
    }
    assert_true(n_fit > N_CASES / 5 && n_not > N_CASES / 10);
}

/* Capacity: the context it names fits, and one token more does not in any cut or order. */
static void capacity_is_the_longest_context(void **state)
{
    (void)state;
    static model m;
    static answer a;
    int32_t n_seen = 0;
    for (uint64_t number = 0; number < N_CASES; number++) {
        make_model(&m, 500000 + number, true);
        for (int32_t d = 0; d < m.in.n_devices; d++) m.devices[d].bytes_per_second = 1;
        run("optimal=capacity", &m, &a);
        const char *words = strstr(a.out.note, "a context of up to ");
        if (a.status != BERTH_OK || !words) continue;
        long long tokens = atoll(words + strlen("a context of up to "));
        assert_true(tokens >= m.in.context_tokens);
        for (int more = 0; more < 2; more++) {
            cuts c;
            m.in.context_tokens = tokens + more;
            if ((best_of_all(&m, &c).sum < INFINITY) != !more)
                fail_msg("small model %d: %lld tokens + %d", (int)number, tokens, more);
        }
        n_seen++;
    }
    assert_true(n_seen > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(optimal_is_best_of_all_cuts_and_orders),
        cmocka_unit_test(capacity_is_the_longest_context),
    };
    return cmocka_run_group_tests_name("strategies_optimal", tests, NULL, NULL);
}
