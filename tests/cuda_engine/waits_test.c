/* waits_test.c - every wait of a stream for an event, and every copy, that the engine asks for is needed: with any one left
 * out, some order of execution gives other logits, or the emulator refuses what comes of it. So the tests above would see
 * one that is missing. Layers alternate between two GPUs, which makes as many edges as there can be. The test takes a
 * sample; with the argument "all" each wait and each copy. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

enum { TOKENS = 2, SEEDS = 80 };

static bool takes_all;

typedef struct answer {
    float *logits; /* [n, vocab] */
    int32_t n, vocab;
} answer;

static bool keep(void *user, int32_t index, int32_t id, const float *logits)
{
    answer *a = user;
    (void)id;
    memcpy(a->logits + (size_t)index * (size_t)a->vocab, logits, (size_t)a->vocab * sizeof *logits);
    a->n = index + 1;
    return true;
}

/* False: it failed, or the emulator saw that something was wrong. */
static bool ask(const golden_model *g, const char *config, answer *out, emu_report *report)
{
    golden_engine e;
    berth_error err = {0};
    static const char map[] = "{\"\": 0, \"model.layers.0\": 1, \"model.layers.2\": 1}";
    const berth_plan_config plan = {.dtype = BERTH_PLAN_FP32, .context = g->cases[0].n_ids + TOKENS};
    world_reset(config);
    e = (golden_engine){0};
    golden_must(berth_machine_parse("cuda:0,cuda:1", &e.machine, &err), &err, "devices");
    golden_must(berth_core_plan_create(g->data, &e.machine, NULL, map, sizeof map - 1, &plan, &e.plan, &err), &err,
                "plan");
    const berth_core_options options = {.transport = "peer"}; /* a proof that fails is seen */
    berth_status st = golden_start(&e, &options, &err);
    berth_core_request q = golden_request(&g->cases[0], TOKENS);
    q.on_token = keep;
    q.wants_logits = true;
    q.user = out;
    berth_core_result r = {0};
    if (st == BERTH_OK) st = berth_core_run(e.core, &q, &r, &err);
    *report = world_report();
    berth_core_result_deinit(&r);
    golden_stop(&e);
    return st == BERTH_OK && world_report().misuses == 0;
}

/* With the k-th left out, is that seen in one of the orders? */
static bool is_seen(const golden_model *g, const char *what, uint64_t k, const answer *right, answer *got)
{
    for (int seed = 0; seed < SEEDS; seed++) {
        char config[96];
        emu_report r;
        snprintf(config, sizeof config, "gpus=2;mem=32MiB;seed=%d;%s=%llu", seed, what, (unsigned long long)k);
        got->n = 0;
        if (!ask(g, config, got, &r) || got->n != right->n ||
            memcmp(got->logits, right->logits, (size_t)got->n * (size_t)got->vocab * sizeof *got->logits) != 0)
            return true;
    }
    return false;
}

static void try_all(const char *what)
{
    golden_model g;
    golden_open(&g, "qwen2-text");
    answer right = {.vocab = berth_model_data_config(g.data)->text.vocab}, got = right;
    right.logits = calloc((size_t)TOKENS * (size_t)right.vocab, sizeof *right.logits);
    got.logits = calloc((size_t)TOKENS * (size_t)right.vocab, sizeof *got.logits);
    emu_report r;
    assert_true(ask(&g, "gpus=2;mem=32MiB;seed=1", &right, &r));
    bool is_wait = strcmp(what, "skip_wait") == 0;
    uint64_t n = is_wait ? r.n_waits : r.n_copies, unseen = 0, step = n / 2;
    assert_true(n >= 8);
    for (uint64_t k = takes_all ? 1 : 2; k <= n; k += takes_all ? 1 : step) {
        if (is_seen(&g, what, k, &right, &got)) {
            if (takes_all)
                print_message("%s=%llu of %llu is seen\n", what, (unsigned long long)k, (unsigned long long)n);
            continue;
        }
        print_message("%s=%llu of %llu is not seen\n", what, (unsigned long long)k, (unsigned long long)n);
        unseen++;
    }
    free(right.logits);
    free(got.logits);
    golden_close(&g);
    assert_int_equal(unseen, 0);
}

static void every_wait_is_needed(void **state)
{
    (void)state;
    try_all("skip_wait");
}

static void every_copy_is_needed(void **state)
{
    (void)state;
    try_all("skip_copy");
}

int main(int argc, char **argv)
{
    takes_all = argc > 1 && strcmp(argv[1], "all") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_wait_is_needed),
        cmocka_unit_test(every_copy_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
