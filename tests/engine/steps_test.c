/* steps_test.c - a token step allocates nothing. Every call of the allocators in berth's code (and in this program) is
 * counted; a step between two tokens must add none, whichever thread it runs on. */
#include "golden.h"

#include "tests/failing.h"

static int64_t n_calls(void)
{
    return faults.n_calls + faults.n_frees;
}

typedef struct counts {
    int64_t at[64];
} counts;

static bool note(void *user, int32_t index, int32_t id, const float *logits)
{
    (void)id;
    (void)logits;
    if (index < 64) ((counts *)user)->at[index] = n_calls();
    return true;
}

static void a_token_step_allocates_nothing(void **state)
{
    (void)state;
    static const char *const devices[] = {"cpu", "cpu*3"};
    for (const char *const *name = golden_names; *name; name++) {
        for (int d = 0; d < 2; d++) {
            golden_model g;
            golden_engine e;
            berth_error err = {0};
            golden_open(&g, *name);
            golden_must(golden_plan(&e, &g, devices[d], "balanced", NULL, &err), &err, *name);
            golden_must(golden_start(&e, NULL, &err), &err, *name);
            for (int sampled = 0; sampled < 2; sampled++) {
                counts c = {{0}};
                berth_core_request q = golden_request(&g.cases[0], 32);
                q.on_token = note;
                q.user = &c;
                if (sampled)
                    q.sampling = (berth_sampling){.sample = true,
                                                  .temperature = 0.8f,
                                                  .top_k = 20,
                                                  .top_p = 0.9f,
                                                  .min_p = 0.05f,
                                                  .repetition_penalty = 1.1f,
                                                  .seed = 3};
                berth_core_result result;
                int64_t before = n_calls();
                golden_must(berth_core_run(e.core, &q, &result, &err), &err, *name);
                assert_int_equal(result.n_ids, 32);
                assert_true(c.at[0] > before); /* the counter does count: a request's start allocates */
                for (int i = 1; i < 32; i++) assert_int_equal(c.at[i], c.at[0]);
                berth_core_result_deinit(&result);
            }
            golden_stop(&e);
            golden_close(&g);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_token_step_allocates_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
