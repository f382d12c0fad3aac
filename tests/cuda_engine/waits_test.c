/* waits_test.c - every wait of a stream for an event, and every copy, that requests ask for is needed: with any one left out,
 * what it waited for coming last, there are other logits, or the emulator refuses what comes of it. Layers alternate between
 * two GPUs, which makes as many edges as there can be. Of the copies the test takes a sample; with the argument "all" each,
 * with "every N from K" a part. (The copies of an engine's making are tested by what they bring, in load_test.c and in the tests of proofs.) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

#define WORLD "gpus=2;mem=32MiB;"

enum { TOKENS = 2, SAMPLES = 6 };

static slice taken;

typedef struct told {
    kept_answer answer;
    bool is_well;           /* nothing failed, and nothing was refused */
    emu_report made, asked; /* when the engine was made, and after the request */
} told;

static void ask(const golden_model *g, int32_t n_ids, const char *config, told *out)
{
    golden_engine e = {0};
    berth_error err = {0};
    static const char map[] = "{\"\": 0, \"model.layers.0\": 1, \"model.layers.2\": 1}";
    const berth_plan_config plan = {.dtype = BERTH_PLAN_FP32, .context = g->cases[0].n_ids + TOKENS};
    world_reset(config);
    golden_must(berth_machine_parse("cuda:0,cuda:1", &e.machine, &err), &err, "devices");
    golden_must(berth_core_plan_create(g->data, &e.machine, NULL, map, sizeof map - 1, &plan, &e.plan, &err), &err,
                "plan");
    const berth_core_options options = {.transport = "peer"}; /* a proof that fails is seen */
    berth_status st = golden_start(&e, &options, &err);
    out->made = world_report();
    berth_core_request q = golden_request(&g->cases[0], TOKENS);
    q.n_ids = n_ids;
    q.on_token = keep_answer;
    q.wants_logits = true;
    q.user = &out->answer;
    out->answer.n = 0;
    berth_core_result r = {0};
    if (st == BERTH_OK) st = berth_core_run(e.core, &q, &r, &err);
    out->asked = world_report();
    berth_core_result_deinit(&r);
    golden_stop(&e);
    out->is_well = st == BERTH_OK && world_report().misuses == 0;
}

static bool is_same(const told *x, const told *y)
{
    const kept_answer *a = &x->answer, *b = &y->answer;
    return x->is_well == y->is_well && a->n == b->n && memcmp(a->ids, b->ids, (size_t)a->n * sizeof *a->ids) == 0 &&
           memcmp(a->logits, b->logits, (size_t)a->n * (size_t)a->vocab * sizeof *a->logits) == 0;
}

typedef struct scene {
    golden_model g;
    int32_t n_ids; /* of the prompt */
    told right, got;
} scene;

/* At most so many of the prompt's ids. */
static void open_scene(scene *s, int32_t most_ids)
{
    *s = (scene){0};
    golden_open(&s->g, "qwen2-text");
    s->n_ids = s->g.cases[0].n_ids < most_ids ? s->g.cases[0].n_ids : most_ids;
    told *both[] = {&s->right, &s->got};
    for (int i = 0; i < 2; i++) {
        kept_answer_init(&both[i]->answer, &s->g);
        ask(&s->g, s->n_ids, i == 0 ? WORLD "seed=1" : WORLD "lazy=1", both[i]);
    }
    assert_true(s->right.is_well && is_same(&s->got, &s->right));
}

static void close_scene(scene *s)
{
    kept_answer_deinit(&s->right.answer);
    kept_answer_deinit(&s->got.answer);
    golden_close(&s->g);
}

/* 0 when it is seen that this is left out. */
static int unseen_without(scene *s, const char *what)
{
    char config[96];
    snprintf(config, sizeof config, WORLD "hold_ms=20000;%s", what);
    ask(&s->g, s->n_ids, config, &s->got);
    if (!s->got.asked.skipped[0]) fail_msg("%s was not come to", what);
    if (!is_same(&s->got, &s->right)) return 0;
    print_message("%s (%s) is not seen\n", what, s->got.asked.skipped);
    return 1;
}

static void every_wait_is_needed(void **state)
{
    (void)state;
    scene s;
    open_scene(&s, INT32_MAX); /* ops of long prompts are not fused, those of the second step are */
    const emu_report r = s.right.asked;
    int n_unseen = 0;
    assert_in_range(r.n_waits, s.right.made.n_waits + 8, EMU_MOST_WAITS);
    for (uint64_t k = s.right.made.n_waits; k < r.n_waits; k++) {
        char what[32];
        snprintf(what, sizeof what, "skip_wait=%u.%u", r.waits[k].event, r.waits[k].record);
        n_unseen += unseen_without(&s, what);
    }
    print_message("%d waits, %d not seen\n", (int)(r.n_waits - s.right.made.n_waits), n_unseen);
    close_scene(&s);
    assert_int_equal(n_unseen, 0);
}

static void every_copy_is_needed(void **state)
{
    (void)state;
    scene s;
    open_scene(&s, 8); /* a step has the same copies whatever its length */
    const uint64_t first = s.right.made.n_copies + 1, last = s.right.asked.n_copies;
    int n_unseen = 0, n = 0;
    assert_true(last > first + SAMPLES);
    const uint64_t step = taken.step ? taken.step : (last - first) / SAMPLES;
    for (uint64_t k = first + (taken.step ? (taken.first - 1) % step : 0); k <= last; k += step, n++) {
        char what[32];
        snprintf(what, sizeof what, "skip_copy=%llu", (unsigned long long)k);
        n_unseen += unseen_without(&s, what);
    }
    print_message("%d copies of %d, %d not seen\n", n, (int)(last - first + 1), n_unseen);
    close_scene(&s);
    assert_int_equal(n_unseen, 0);
}

int main(int argc, char **argv)
{
    taken = slice_of(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_wait_is_needed),
        cmocka_unit_test(every_copy_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
