/* conformance_test.c - what every strategy must do, over random module trees and machines.
 *
 * Small models are also cut in every possible way, to see that what is refused does not fit and that what claims to be
 * balanced is. A strategy that cannot do a thing is a row of `rules` with its reason. */
#include "strategies/conformance.h"

/* What holds beyond the common rules. */
typedef struct rule {
    const char *name;
    bool
        is_contiguous; /* fits exactly when some cut into runs over the devices in order fits; replicate and single have
                           rules of their own */
    bool is_balanced;  /* and its fullest device is as empty as any such cut's */
    bool takes_layers; /* BERTH_UNSUPPORTED is right for a model without KV cache */
    int32_t min_devices;
} rule;

static const rule rules[] = {
    {"sequential", true, false, false, 1},
    {"balanced", true, true, false, 1},
    {"balanced_low_0", true, false, false, 1},
    {"replicate=1", true, true, false, 1},
    {"replicate", false, false, false, 1},
    {"replicate=2", false, false, false, 2},
    {"single", false, false, false, 1},
    {"auto", false, false, false, 1},    /* one device first: fits where a cut fits, but is not balanced */
    {"optimal", false, false, false, 1}, /* other device orders too: see the test of its own */
    {"optimal=latency", false, false, false, 1},
    {"optimal=capacity", false, false, false, 1},
    {"internvl", false, false, true, 1}, /* these go by counts: what does not fit is refused, not moved */
    {"layer", false, false, true, 1},
    {"layer=1,0,2", false, false, true, 3},
    {"vllm", false, false, true, 1},
    {"sglang", false, false, true, 1},
    {"deepspeed", false, false, false, 1},
    {"deepspeed=uniform", false, false, false, 1},
    {"deepspeed=type:mod", false, false, false, 1},
};

/* A new line in registry.c needs a row above, with and without its arguments. */
static void every_strategy_has_a_row(void **state)
{
    (void)state;
    const size_t n_rules = sizeof rules / sizeof *rules;
    for (int32_t i = 0; i < berth_strategy_count(); i++) {
        const berth_strategy *s = berth_strategy_at(i);
        bool has_row = false;
        for (size_t r = 0; r < n_rules; r++) has_row |= berth_strategy_find(rules[r].name, NULL) == s;
        if (!has_row) fail_msg("%s is registered and has no row in `rules`", s->name);
    }
    for (size_t r = 0; r < n_rules; r++)
        if (!berth_strategy_find(rules[r].name, NULL)) fail_msg("%s is no strategy", rules[r].name);
}

static bool is_asked(const rule *r, int32_t n_devices)
{
    return strcmp(r->name, "layer=1,0,2") == 0 ? n_devices == 3 : n_devices >= r->min_devices;
}

static void judge_refusal(const rule *r, const model *m, const answer *a)
{
    const char *name = r->name;
    if (r->takes_layers && a->status == BERTH_UNSUPPORTED) {
        assert_int_equal(m->nodes[0].view.kv_bytes_per_token, 0);
        return;
    }
    if (a->status != BERTH_DOES_NOT_FIT) fail_msg("%s: %s", name, a->err.message);
    assert_int_equal(a->err.status, BERTH_DOES_NOT_FIT);
    const char *missing = strstr(a->err.message, "missing: ");
    if (!missing || missing[9] < '0' || missing[9] > '9' || strncmp(missing, "missing: 0 bytes", 16) == 0)
        fail_msg("%s: \"%s\"", name, a->err.message);
    assert_non_null(strstr(a->err.message, "What helps: "));
}

static void every_answer_is_complete_and_within_budgets(void **state)
{
    (void)state;
    static model m, untouched;
    static answer a;
    int32_t n_placed = 0, n_refused = 0;
    for (uint64_t number = 0; number < N_CASES; number++) {
        make_model(&m, number, false);
        for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
            if (!is_asked(&rules[r], m.in.n_devices)) continue;
            uint64_t total[MAX_DEVICES];
            m.in.argument = NULL;
            memcpy(&untouched, &m, sizeof m);
            run(rules[r].name, &m, &a);
            m.in.argument = NULL;
            assert_memory_equal(&untouched, &m, sizeof m);
            if (a.status == BERTH_OK)
                judge_answer(rules[r].name, &m, &a, total);
            else
                judge_refusal(&rules[r], &m, &a);
            *(a.status == BERTH_OK ? &n_placed : &n_refused) += 1;
        }
    }
    assert_true(n_placed > N_CASES && n_refused > N_CASES); /* the cases are no use if one side is rare */
}

static void answers_do_not_depend_on_names_or_on_the_call(void **state)
{
    (void)state;
    static model m;
    static answer first, second;
    for (uint64_t number = 0; number < N_CASES; number++) {
        for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
            make_model(&m, number, false);
            if (!is_asked(&rules[r], m.in.n_devices)) continue;
            bool by_class = strstr(rules[r].name, "type:") != NULL;
            run(rules[r].name, &m, &first);
            for (int32_t i = 0; i < m.n; i++) {
                snprintf(m.paths[i], sizeof m.paths[i], "%c%u", 'a' + (char)((i * 7) % 26), (unsigned)(m.n - i));
                if (!by_class) m.nodes[i].view.class_name = i % 2 ? "Zed" : "Alpha";
            }
            run(rules[r].name, &m, &second);
            assert_int_equal(first.status, second.status);
            assert_int_equal(first.out.n_replicas, second.out.n_replicas);
            assert_memory_equal(first.device_of, second.device_of, sizeof first.device_of);
        }
    }
}

static void what_is_refused_does_not_fit_and_balanced_is_best(void **state)
{
    (void)state;
    static model m;
    static answer a;
    cuts c;
    int32_t n_fit = 0, n_not = 0;
    for (uint64_t number = 0; number < N_CASES; number++) {
        make_model(&m, 100000 + number, true);
        all_cuts(&m, &c);
        *(c.any_fits ? &n_fit : &n_not) += 1;
        for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
            if (!rules[r].is_contiguous) continue;
            run(rules[r].name, &m, &a);
            if ((a.status == BERTH_OK) != c.any_fits)
                fail_msg("%s on small model %d: %s, but a cut %s", rules[r].name, (int)number,
                         berth_strategy_find(rules[r].name, NULL)->name, c.any_fits ? "fits" : "does not fit");
            if (a.status != BERTH_OK || !rules[r].is_balanced) continue;
            uint64_t total[MAX_DEVICES];
            judge_answer(rules[r].name, &m, &a, total);
            double f = fullness(&m, total);
            if (f > c.least_fullness * (1 + 1e-12))
                fail_msg("%s on small model %d: %g, and %g is possible", rules[r].name, (int)number, f,
                         c.least_fullness);
        }
    }
    assert_true(n_fit > N_CASES / 5 && n_not > N_CASES / 5);
}

static void low_0_uses_device_0_only_without_need_of_the_others(void **state)
{
    (void)state;
    static model m;
    static answer a;
    int32_t n_used = 0, n_free = 0;
    for (uint64_t number = 0; number < 8 * N_CASES; number++) {
        make_model(&m, 200000 + number, true);
        if (m.in.n_devices < 2) continue;
        run("balanced_low_0", &m, &a);
        if (a.status != BERTH_OK) continue;
        uint64_t total[MAX_DEVICES];
        judge_answer("balanced_low_0", &m, &a, total);
        m.devices[0].budget_bytes = 0;
        cuts c;
        all_cuts(&m, &c);
        if ((total[0] == 0) != c.any_fits)
            fail_msg("small model %d: %" PRIu64 " bytes on device 0", (int)number, total[0]);
        *(total[0] > 0 ? &n_used : &n_free) += 1;
    }
    assert_true(n_used > 20 && n_free > 20);
}

static void one_device_strategies_take_one_device(void **state)
{
    (void)state;
    static model m;
    static answer single, chosen, cut;
    for (uint64_t number = 0; number < N_CASES; number++) {
        make_model(&m, 300000 + number, false);
        run("single", &m, &single);
        run("auto", &m, &chosen);
        run("balanced", &m, &cut);
        if (single.status == BERTH_OK) {
            assert_true(single.device_of[0] >= 0);
            assert_true(chosen.status == BERTH_OK && chosen.device_of[0] >= 0);
        } else {
            assert_int_equal(chosen.status, cut.status);
            assert_memory_equal(chosen.device_of, cut.device_of, sizeof cut.device_of);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_strategy_has_a_row),
        cmocka_unit_test(every_answer_is_complete_and_within_budgets),
        cmocka_unit_test(answers_do_not_depend_on_names_or_on_the_call),
        cmocka_unit_test(what_is_refused_does_not_fit_and_balanced_is_best),
        cmocka_unit_test(low_0_uses_device_0_only_without_need_of_the_others),
        cmocka_unit_test(one_device_strategies_take_one_device),
    };
    return cmocka_run_group_tests_name("strategies_conformance", tests, NULL, NULL);
}
