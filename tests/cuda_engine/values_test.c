/* values_test.c - what crosses between the host and GPUs besides tokens: traced values, the op where bad numbers began,
 * saved sessions, what is needed of logits; and the ways between GPUs, chosen, proved, asked for. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

static const berth_plan_config fp32 = {.dtype = BERTH_PLAN_FP32};

/* ---- engines ---------------------------------------------------------------------------------------------------- */

static void start(golden_engine *e, const golden_model *g, const char *devices, const char *strategy,
                  const berth_plan_config *config)
{
    berth_error err = {0};
    golden_must(golden_plan(e, g, devices, strategy, config, &err), &err, devices);
    golden_must(golden_start(e, NULL, &err), &err, devices);
}

/* ---- traced values ---------------------------------------------------------------------------------------------- */

typedef struct seen { /* values in the order of their names' first sight */
    char names[400][BERTH_VALUE_NAME];
    float *data[400];
    size_t n[400];
    int32_t n_values;
} seen;

static bool want_all(void *user, const char *name)
{
    (void)user;
    return strchr(name, '@') == NULL;
}

static void see(void *user, const char *program, const char *name, int64_t pass, const berth_tensor *t)
{
    seen *s = user;
    (void)program;
    if (pass > 0 || !berth_dtype_is_float(t->dtype)) return;
    assert_true(s->n_values < 400);
    int32_t i = s->n_values++;
    snprintf(s->names[i], sizeof s->names[i], "%s", name);
    s->n[i] = (size_t)berth_tensor_elements(t);
    s->data[i] = malloc((s->n[i] + 1) * sizeof(float));
    berth_widen_f32(s->data[i], t->data, t->dtype, s->n[i]);
}

static void trace(const golden_model *g, const char *devices, const char *strategy, seen *out)
{
    golden_engine e;
    berth_error err = {0};
    const berth_tap tap = {.want = want_all, .see = see, .user = out};
    *out = (seen){0};
    start(&e, g, devices, strategy, &fp32);
    berth_core_request q = golden_request(&g->cases[0], 1);
    q.tap = &tap;
    berth_core_result r;
    golden_must(berth_core_run(e.core, &q, &r, &err), &err, devices);
    berth_core_result_deinit(&r);
    golden_stop(&e);
}

static void traced_values_are_the_cpus(void **state)
{
    (void)state;
    golden_model g;
    seen *cpu = malloc(sizeof *cpu), *gpu = malloc(sizeof *gpu);
    golden_open(&g, "ivl-rms-qknorm");
    world_reset("gpus=2;mem=32MiB");
    trace(&g, "cpu", "single", cpu);
    trace(&g, "cuda:0,cpu/mem=30MiB,cuda:1", "balanced", gpu);
    world_is_empty("a traced request");
    assert_true(cpu->n_values > 50);
    for (int32_t i = 0; i < cpu->n_values; i++) {
        int32_t k = 0;
        while (k < gpu->n_values && strcmp(gpu->names[k], cpu->names[i]) != 0) k++;
        if (k == gpu->n_values) fail_msg("%s was not seen", cpu->names[i]);
        assert_int_equal(gpu->n[k], cpu->n[i]);
        for (size_t j = 0; j < cpu->n[i]; j++)
            if (!(fabsf(gpu->data[k][j] - cpu->data[i][j]) <= 2e-4f * (1 + fabsf(cpu->data[i][j]))))
                fail_msg("%s[%zu] is %g, on the cpu %g", cpu->names[i], j, (double)gpu->data[k][j],
                         (double)cpu->data[i][j]);
    }
    for (int32_t i = 0; i < 400; i++) {
        free(cpu->data[i]);
        free(gpu->data[i]);
    }
    free(cpu);
    free(gpu);
    golden_close(&g);
}

/* ---- bad numbers ------------------------------------------------------------------------------------------------ */

static void the_first_bad_op_is_named(void **state)
{
    (void)state;
    static const struct {
        berth_role role;
        int32_t layer;
        const char *words[4];
    } damages[] = {
        {BERTH_T_UP_W, 1, {"text.layer.1.up", "up_proj.weight itself holds 1 such", "NaN", "cuda:1"}},
        {BERTH_P_FC2_W, -1, {"projector.out", "program encode", "NaN", "cuda:0"}},
    };
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        char dir[64];
        golden_model g;
        golden_engine e;
        berth_error err = {0};
        golden_copy("ivl-rms-qknorm", dir);
        golden_patch(dir, damages[i].role, damages[i].layer, 9, NAN);
        golden_open_at(&g, "ivl-rms-qknorm", dir);
        world_reset("gpus=2;mem=32MiB");
        start(&e, &g, "cuda:0,cuda:1", "balanced", &fp32);
        berth_core_request q = golden_request(&g.cases[0], 2);
        berth_core_result r;
        assert_int_equal(berth_core_run(e.core, &q, &r, &err), BERTH_NUMERIC);
        for (int k = 0; k < 4; k++)
            if (!strstr(err.message, damages[i].words[k]))
                fail_msg("no \"%s\" in: %s", damages[i].words[k], err.message);
        golden_stop(&e);
        world_is_empty("bad numbers");
        golden_close(&g);
        golden_remove(dir);
    }
}

/* ---- sessions --------------------------------------------------------------------------------------------------- */

enum { N_PROMPT = 40, N_NEW = 3 };

/* Asks the first n ids on the session, or without one. */
static void ask(golden_engine *e, const int32_t *ids, int32_t n, berth_core_session *session, int32_t *answer,
                int32_t *out_reused)
{
    berth_error err = {0};
    berth_core_result r;
    const berth_core_request q = {.ids = ids,
                                  .n_ids = n,
                                  .image_token_id = -1,
                                  .max_new = N_NEW,
                                  .sampling = BERTH_SAMPLING_GREEDY,
                                  .no_prefix_cache = !session,
                                  .session = session};
    golden_must(berth_core_run(e->core, &q, &r, &err), &err, "ask");
    assert_int_equal(r.n_ids, N_NEW);
    memcpy(answer, r.ids, N_NEW * sizeof *answer);
    *out_reused = r.n_reused;
    berth_core_result_deinit(&r);
}

static void saved_sessions_go_on_elsewhere(void **state)
{
    (void)state;
    static const char *const places[][4] = {{"cuda:0,cuda:1", "balanced", "cpu*2", "balanced"},
                                            {"cpu", "single", "cuda:1", "single"}};
    golden_model g;
    berth_plan_config config = fp32;
    config.context = 128;
    golden_open(&g, "qwen2-text");
    for (int i = 0; i < 2; i++) {
        golden_engine e;
        berth_error err = {0};
        int32_t ids[2 * N_PROMPT + N_NEW], answer[N_NEW], want[N_NEW], reused;
        uint8_t *bytes = NULL;
        size_t size = 0;
        berth_core_session *session = NULL;
        for (int32_t k = 0; k < 2 * N_PROMPT + N_NEW; k++) ids[k] = (k * 37 + 11) % 400;
        world_reset("gpus=2;mem=32MiB");
        start(&e, &g, places[i][0], places[i][1], &config);
        golden_must(berth_core_session_create(e.core, &session, &err), &err, "session");
        ask(&e, ids, N_PROMPT, session, ids + N_PROMPT, &reused);
        golden_must(berth_core_session_save(session, &bytes, &size, &err), &err, "save");
        berth_core_session_destroy(session);
        golden_stop(&e);
        start(&e, &g, places[i][2], places[i][3], &config);
        ask(&e, ids, 2 * N_PROMPT, NULL, want, &reused);
        golden_must(berth_core_session_load(e.core, bytes, size, &session, &err), &err, "load");
        ask(&e, ids, 2 * N_PROMPT, session, answer, &reused);
        assert_int_equal(reused, N_PROMPT + N_NEW - 1);
        assert_memory_equal(answer, want, sizeof want);
        berth_core_session_destroy(session);
        golden_stop(&e);
        world_is_empty("a saved session");
        free(bytes);
    }
    golden_close(&g);
}

/* ---- ways between GPUs ------------------------------------------------------------------------------------------ */

static void plan_in_world(golden_engine *e, const golden_model *g, const char *gpus, const char *devices, int seed)
{
    berth_error err = {0};
    char world[128];
    snprintf(world, sizeof world, "%s;mem=32MiB;seed=%d", gpus, seed);
    world_reset(world);
    golden_must(golden_plan(e, g, devices, "balanced", &fp32, &err), &err, devices);
}

static void each_edge_takes_its_way(void **state)
{
    (void)state;
    static const struct {
        const char *world, *devices, *want, *way; /* from device 0 to device 1; NULL: refused */
        const char *words;                        /* in the notes or the error */
    } cases[] = {
        {"gpus=2", "cuda:0,cuda:1", NULL, "peer", ""},
        {"gpus=2;peer=0", "cuda:0,cuda:1", NULL, "staged", ""},
        {"gpus=2;lie.0.1=1", "cuda:0,cuda:1", NULL, "staged", "the proof failed: copies from cuda:0 to cuda:1 lie"},
        {"gpus=2;lie.1.0=1", "cuda:0,cuda:1", NULL, "peer", ""},
        {"gpus=2", "cuda:0,cuda:1", "staged", "staged", ""},
        {"gpus=2", "cuda:0,cuda:1", "nccl", "nccl", ""},
        {"gpus=1", "cuda:0*2", NULL, "local", ""},
        {"gpus=1", "cuda:0*2", "staged", "staged", ""},
        {"gpus=1", "cuda:0,cpu/mem=30MiB", NULL, "local", ""},
        {"gpus=2;peer=0", "cuda:0,cuda:1", "peer", NULL, "cannot reach"},
        {"gpus=2;lie.0.1=3", "cuda:0,cuda:1", "peer", NULL, "lie"},
        {"gpus=2", "cuda:0,cuda:1", "local", NULL, "they are two GPUs; use staged, peer or nccl"},
        {"gpus=1", "cuda:0*2", "peer", NULL, "both are on one GPU"},
        {"gpus=1", "cuda:0,cpu/mem=30MiB", "peer", NULL, "one is memory of the host"},
        {"gpus=1", "cuda:0,cpu/mem=30MiB", "pigeon", NULL, "there are auto, local, staged, peer and nccl"},
    };
    golden_model g;
    golden_open(&g, "qwen2-text");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        golden_engine e;
        berth_error err = {0};
        plan_in_world(&e, &g, cases[i].world, cases[i].devices, (int)i);
        const berth_core_options options = {.transport = cases[i].want};
        berth_status st = golden_start(&e, &options, &err);
        const char *said = st == BERTH_OK ? berth_core_notes(e.core) : err.message;
        if ((st == BERTH_OK) != (cases[i].way != NULL)) fail_msg("case %zu: %d: %s", i, (int)st, err.message);
        const char *way = st == BERTH_OK ? berth_core_edge(e.core, 0, 1) : NULL;
        if (st == BERTH_OK && (!way || strcmp(way, cases[i].way) != 0)) fail_msg("case %zu: %s", i, way ? way : "none");
        if (!strstr(said, cases[i].words) || (!*cases[i].words && *said)) fail_msg("case %zu: \"%s\"", i, said);
        golden_stop(&e);
        world_is_empty(cases[i].world);
    }
    golden_close(&g);
}

/* An edge says why it has no better way, and how long its copies took: what is queued only when that was asked for. */
static void edges_tell_their_way_and_time(void **state)
{
    (void)state;
    static const struct {
        const char *world, *devices, *note; /* of the edge from the first device to the second */
        bool time_copies;
    } cases[] = {
        {"gpus=2;peer_gbps=1", "cuda:0,cuda:1", NULL, true},
        {"gpus=2;peer=0", "cuda:0,cuda:1", "cuda:0 cannot reach the memory of cuda:1; staged is used", true},
        {"gpus=2;lie.0.1=1", "cuda:0,cuda:1", "the driver says peer access, but the proof failed: copies from cuda:0",
         false},
        {"gpus=1", "cuda:0*2", NULL, true},
        {"gpus=1", "cuda:0,cpu/mem=30MiB", NULL, false},
        {"gpus=1", "cpu/mem=30MiB,cuda:0", NULL, true},
    };
    golden_model g;
    golden_open(&g, "qwen2-text");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        golden_engine e;
        berth_error err = {0};
        plan_in_world(&e, &g, cases[i].world, cases[i].devices, (int)i);
        const berth_core_options options = {.time_copies = cases[i].time_copies};
        golden_must(golden_start(&e, &options, &err), &err, cases[i].devices);
        const char *note = berth_core_edge_note(e.core, 0, 1);
        if (!note != !cases[i].note || (note && !strstr(note, cases[i].note))) fail_msg("case %zu: \"%s\"", i, note);
        berth_core_request q = golden_request(&g.cases[0], 2);
        berth_core_result r;
        golden_must(berth_core_run(e.core, &q, &r, &err), &err, "run");
        bool any = false;
        for (int k = 0; k < 9; k++) {
            const bool has_gpu = (k / 3 < 2 && e.machine.devices[k / 3].kind == BERTH_DEVICE_CUDA) ||
                                 (k % 3 < 2 && e.machine.devices[k % 3].kind == BERTH_DEVICE_CUDA);
            const bool by_cpu =
                k % 3 < 2 && e.machine.devices[k % 3].kind == BERTH_DEVICE_CPU; /* reads what a GPU has */
            const bool timed = cases[i].time_copies || !has_gpu || by_cpu;
            if ((r.edge_ns[k] > 0) != (r.edge_bytes[k] > 0 && timed))
                fail_msg("case %zu, edge %d: %llu bytes, %llu ns", i, k, (unsigned long long)r.edge_bytes[k],
                         (unsigned long long)r.edge_ns[k]);
            /* the emulated clock: 5 us a copy, and the bytes at their link's rate */
            if (i == 0 && k == 1) assert_true(r.edge_ns[k] >= 5000 + r.edge_bytes[k]);
            any = any || r.edge_ns[k] > 0;
        }
        assert_true(any || !cases[i].time_copies);
        berth_core_result_deinit(&r);
        golden_stop(&e);
        world_is_empty(cases[i].world);
    }
    golden_close(&g);
}

/* ---- rows of logits --------------------------------------------------------------------------------------------- */

enum { SAMPLED = 5, VOCAB = 512, STATS = 4 * BERTH_LOGIT_STATS, BEST = 4 * BERTH_LOGIT_BEST, WHOLE = 4 * VOCAB };

static const struct {
    const char *name;
    berth_sampling rule;
    bool wants_logits;
    uint64_t least, most; /* bytes that a step brings from GPUs to the host */
} choices[] = {
    {"greedy", BERTH_SAMPLING_GREEDY, false, STATS, STATS},
    {"greedy, logits", BERTH_SAMPLING_GREEDY, true, STATS + WHOLE, STATS + WHOLE},
    {"penalty", {.temperature = 1, .top_p = 1, .repetition_penalty = 1.3f}, false, STATS + BEST, STATS + BEST},
    {"top-k",
     {.sample = true, .temperature = 0.8f, .top_k = 20, .top_p = 1, .repetition_penalty = 1, .seed = 1},
     false,
     STATS + BEST,
     STATS + BEST},
    {"top-k, logits",
     {.sample = true, .temperature = 1.2f, .top_k = 50, .top_p = 0.95f, .repetition_penalty = 1.1f, .seed = 2},
     true,
     STATS + BEST + WHOLE,
     STATS + BEST + WHOLE},
    {"top-p",
     {.sample = true, .temperature = 0.5f, .top_p = 0.7f, .repetition_penalty = 1, .seed = 3},
     false,
     STATS + BEST,
     STATS + BEST + WHOLE},
    {"min-p",
     {.sample = true, .temperature = 1, .top_p = 1, .min_p = 0.5f, .repetition_penalty = 1, .seed = 4},
     false,
     STATS + BEST,
     STATS + BEST + WHOLE},
    {"temperature",
     {.sample = true, .temperature = 0.9f, .top_p = 1, .repetition_penalty = 1, .seed = 5},
     false,
     STATS + WHOLE,
     STATS + WHOLE},
};
enum { N_CHOICES = sizeof choices / sizeof choices[0] };

typedef struct chosen {
    int32_t ids[SAMPLED];
    uint64_t to_host; /* bytes that left devices */
    double logits;    /* sum of those of all tokens; 0: there were none */
} chosen;

static bool add_logits(void *user, int32_t index, int32_t id, const float *logits)
{
    chosen *c = user;
    (void)index;
    (void)id;
    for (int32_t i = 0; logits && i < VOCAB; i++) c->logits += (double)logits[i] * (i % 7 + 1);
    return true;
}

static void choose_all(const golden_model *g, const char *devices, const char *strategy, chosen out[N_CHOICES])
{
    golden_engine e;
    start(&e, g, devices, strategy, &fp32);
    const int32_t n = e.machine.n_devices;
    for (int k = 0; k < N_CHOICES; k++) {
        berth_error err = {0};
        berth_core_result r;
        berth_core_request q = golden_request(&g->cases[0], SAMPLED);
        out[k] = (chosen){0};
        q.sampling = choices[k].rule;
        q.wants_logits = choices[k].wants_logits;
        q.on_token = add_logits;
        q.user = &out[k];
        golden_must(berth_core_run(e.core, &q, &r, &err), &err, choices[k].name);
        assert_int_equal(r.n_ids, SAMPLED);
        memcpy(out[k].ids, r.ids, sizeof out[k].ids);
        for (int32_t d = 0; d < n; d++) out[k].to_host += r.edge_bytes[d * (n + 1) + n];
        berth_core_result_deinit(&r);
    }
    golden_stop(&e);
}

/* With every option the cpu's tokens, and of a row of logits only what its choice takes leaves the GPU. */
static void rows_of_logits_stay_on_the_gpu(void **state)
{
    (void)state;
    golden_model g;
    chosen want[N_CHOICES], got[N_CHOICES];
    golden_open(&g, "qwen2-text");
    choose_all(&g, "cpu", NULL, want);
    world_reset("gpus=2;mem=32MiB;seed=11");
    choose_all(&g, "cuda:0,cuda:1", "balanced", got);
    world_is_empty("choices");
    for (int k = 0; k < N_CHOICES; k++) {
        const uint64_t least = SAMPLED * choices[k].least, most = SAMPLED * choices[k].most;
        for (int i = 0; i < SAMPLED; i++)
            if (got[k].ids[i] != want[k].ids[i])
                fail_msg("%s: token %d is %d, on cpu %d", choices[k].name, i, (int)got[k].ids[i], (int)want[k].ids[i]);
        if (got[k].to_host < least || got[k].to_host > most)
            fail_msg("%s: %llu bytes to the host, not %llu to %llu", choices[k].name,
                     (unsigned long long)got[k].to_host, (unsigned long long)least, (unsigned long long)most);
        assert_true((got[k].logits != 0) == choices[k].wants_logits);
        assert_true(fabs(got[k].logits - want[k].logits) <= 1e-4 * fabs(want[k].logits));
    }
    for (int32_t i = 0; i < SAMPLED; i++) assert_int_equal(got[2].ids[i], g.cases[0].penalty_all[i]);
    golden_close(&g);
}

/* ---- graphs ----------------------------------------------------------------------------------------------------- */

/* Gives the golden tokens; how much was queued for them, a graph being one piece, and the graphs there were at the end. (Not
 * the driver calls: how often it is asked whether a step is over depends on the machine.) */
static void count_queued(const golden_model *g, bool no_graphs, uint64_t *out_queued, int32_t *out_graphs)
{
    enum { MANY = 24 };
    golden_engine e;
    berth_error err = {0};
    world_reset("gpus=2;mem=32MiB;seed=5");
    golden_must(golden_plan(&e, g, "cuda:0,cuda:1", "balanced", &fp32, &err), &err, "plan");
    const berth_core_options options = {.no_graphs = no_graphs};
    golden_must(golden_start(&e, &options, &err), &err, "start");
    const uint64_t before = world_report().queued;
    berth_core_request q = golden_request(&g->cases[0], MANY);
    berth_core_result r;
    golden_must(berth_core_run(e.core, &q, &r, &err), &err, "run");
    for (int32_t i = 0; i < MANY; i++) assert_int_equal(r.ids[i], g->cases[0].greedy[i]);
    *out_queued = world_report().queued - before;
    *out_graphs = world_report().graphs;
    berth_core_result_deinit(&r);
    golden_stop(&e);
    world_is_empty("an engine with graphs");
}

static void steps_are_replayed(void **state)
{
    (void)state;
    golden_model g;
    uint64_t replayed, single;
    int32_t graphs, none;
    golden_open(&g, "qwen2-text");
    count_queued(&g, false, &replayed, &graphs);
    count_queued(&g, true, &single, &none);
    assert_true(graphs > 0);
    assert_int_equal(none, 0);
    if (replayed * 10 > single * 7)
        fail_msg("%llu pieces of work with graphs, %llu without", (unsigned long long)replayed,
                 (unsigned long long)single);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traced_values_are_the_cpus),
        cmocka_unit_test(the_first_bad_op_is_named),
        cmocka_unit_test(saved_sessions_go_on_elsewhere),
        cmocka_unit_test(each_edge_takes_its_way),
        cmocka_unit_test(edges_tell_their_way_and_time),
        cmocka_unit_test(rows_of_logits_stay_on_the_gpu),
        cmocka_unit_test(steps_are_replayed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
