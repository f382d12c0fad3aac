/* lost_test.c - a GPU that is lost while an engine of several replicas serves: who ends with what, who goes on elsewhere, and
 * what is told to those who come later. Which call fails is chosen over the whole of the serving. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fixture.h"

enum { N_REQUESTS = 4, TOKENS = 3, PLACES = 3 };

static const berth_plan_config fp32 = {.dtype = BERTH_PLAN_FP32, .n_seqs = 1};

typedef struct asking { /* the golden case, and a prompt without its picture, which is quicker */
    golden_model golden;
    int32_t text[32], n_text;
    int32_t answer[TOKENS]; /* to the text, undisturbed */
} asking;

typedef struct one { /* a request and what it was told */
    berth_core_request request;
    int32_t told[TOKENS];
    int32_t n_told, replica;
    berth_status status;
    berth_error error;
    atomic_bool is_over;
    bool sees;
} one;

static bool hear(void *user, int32_t index, int32_t id, const float *logits)
{
    one *o = user;
    (void)logits;
    if (index != o->n_told || index >= TOKENS) return false; /* told twice: too few tokens in the end */
    o->told[o->n_told++] = id;
    return true;
}

static void hear_end(void *user, berth_status st, berth_core_result *take, const berth_error *why)
{
    one *o = user;
    o->status = st;
    o->replica = take->replica;
    if (st != BERTH_OK) o->error = *why;
    berth_core_result_deinit(take);
    atomic_store(&o->is_over, true);
}

static void open_asking(asking *g)
{
    *g = (asking){0};
    golden_open(&g->golden, "ivl-rms-qknorm");
    const golden_case *c = &g->golden.cases[0];
    for (int32_t i = 0; i < c->n_ids; i++) {
        if (c->ids[i] == GOLDEN_IMAGE_TOKEN) continue;
        assert_in_range(g->n_text, 0, 31);
        g->text[g->n_text++] = c->ids[i];
    }
}

static void ask(berth_core *core, const asking *g, bool sees, berth_core_session *session, one *o)
{
    berth_error err = {0};
    memset(o, 0, sizeof *o);
    o->request = golden_request(&g->golden.cases[0], TOKENS);
    o->sees = sees;
    if (!sees) {
        o->request.ids = g->text;
        o->request.n_ids = g->n_text;
        o->request.image_token_id = -1;
        o->request.pixels = NULL;
        o->request.n_tiles = 0;
    }
    o->request.on_token = hear;
    o->request.on_end = hear_end;
    o->request.user = o;
    o->request.session = session;
    o->status = berth_core_submit(core, &o->request, NULL, &err);
    if (o->status == BERTH_OK) return;
    o->error = err;
    atomic_store(&o->is_over, true);
}

static void wait_for(const one *all, int32_t n)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    for (int32_t i = 0; i < n; i++)
        while (!atomic_load(&all[i].is_over)) nanosleep(&pause, NULL);
}

static void is_right(const asking *g, const one *o, const char *what)
{
    if (o->status != BERTH_OK) fail_msg("%s: %s", what, o->error.message);
    if (o->n_told != TOKENS) fail_msg("%s: %d tokens were told", what, (int)o->n_told);
    const int32_t *want = o->sees ? g->golden.cases[0].greedy : g->answer;
    for (int32_t i = 0; i < TOKENS; i++) assert_int_equal(o->told[i], want[i]);
}

static void is_lost(const one *o, const char *rest)
{
    if (o->status != BERTH_DEVICE_LOST) fail_msg("status %d: %s", (int)o->status, o->error.message);
    assert_int_equal(o->error.status, BERTH_DEVICE_LOST);
    assert_int_equal(o->error.native_code, 700);
    if (!strstr(o->error.message, rest)) fail_msg("\"%s\" is not said: %s", rest, o->error.message);
}

/* Calls before the first request, and until the last one of a round is over. */
static void count_calls(asking *g, const char *devices, const char *gpus, uint64_t *out_first, uint64_t *out_last)
{
    golden_engine e;
    berth_error err = {0};
    one all[N_REQUESTS];
    world_reset(gpus);
    golden_must(golden_plan(&e, &g->golden, devices, "replicate", &fp32, &err), &err, devices);
    golden_must(golden_start(&e, NULL, &err), &err, devices);
    *out_first = world_report().calls;
    for (int32_t i = 0; i < N_REQUESTS; i++) ask(e.core, g, i == 0, NULL, &all[i]);
    wait_for(all, N_REQUESTS);
    *out_last = world_report().calls;
    memcpy(g->answer, all[1].told, sizeof g->answer);
    for (int32_t i = 0; i < N_REQUESTS; i++) is_right(g, &all[i], "undisturbed");
    golden_stop(&e);
    world_is_empty("undisturbed");
}

typedef struct setting {
    const char *devices, *gpus;
    bool shares; /* both replicas are on the GPU that is lost */
} setting;

/* Those that had told something end, all others are answered, by the replica that is left. Whether the call was come to. */
static bool serve_one_round(const asking *g, const setting *s, uint64_t fails_at)
{
    golden_engine e;
    berth_error err = {0};
    one all[N_REQUESTS], later[2];
    char config[96];
    snprintf(config, sizeof config, "%s;seed=%llu;fail=%llu:700", s->gpus, (unsigned long long)fails_at,
             (unsigned long long)fails_at);
    world_reset(config);
    golden_must(golden_plan(&e, &g->golden, s->devices, "replicate", &fp32, &err), &err, s->devices);
    golden_must(golden_start(&e, NULL, &err), &err, s->devices);
    int32_t n_lost = 0;
    for (int32_t i = 0; i < N_REQUESTS; i++) ask(e.core, g, i == 0, NULL, &all[i]);
    wait_for(all, N_REQUESTS);
    for (int32_t i = 0; i < N_REQUESTS; i++) {
        if (all[i].status == BERTH_OK) {
            is_right(g, &all[i], "one that ended well");
            continue;
        }
        is_lost(&all[i], s->shares ? "of this engine is left" : "1 of 2 replicas goes on (");
        if (!s->shares && (all[i].n_told < 1 || all[i].n_told >= TOKENS)) /* it ought to have moved, or ended */
            fail_msg("%s: lost after %d tokens: %s", config, (int)all[i].n_told, all[i].error.message);
        n_lost++;
    }
    assert_in_range(n_lost, 0, s->shares ? N_REQUESTS : fp32.n_seqs);
    bool has_failed = world_report().calls >= fails_at;
    if (n_lost > 0) assert_true(has_failed);
    for (int32_t i = 0; i < 2; i++) ask(e.core, g, false, NULL, &later[i]);
    wait_for(later, 2);
    for (int32_t i = 0; i < 2 && has_failed && s->shares; i++) is_lost(&later[i], "of this engine is left");
    for (int32_t i = 0; i < 2 && !s->shares; i++) is_right(g, &later[i], "later");
    if (has_failed && !s->shares) assert_int_equal(later[0].replica, later[1].replica);
    golden_stop(&e);
    world_is_empty(config);
    return has_failed;
}

static void serve(const setting *s)
{
    asking g;
    uint64_t first, last;
    int32_t n_failed = 0;
    open_asking(&g);
    count_calls(&g, s->devices, s->gpus, &first, &last);
    assert_true(last > first + 100);
    for (int32_t i = 0; i < PLACES; i++)
        n_failed += serve_one_round(&g, s, first + 1 + (last - first - 1) * (uint64_t)i / PLACES);
    assert_true(n_failed > 0);
    golden_close(&g.golden);
}

static void another_gpu_goes_on(void **state)
{
    (void)state;
    serve(&(setting){.devices = "cuda:0,cuda:1", .gpus = "gpus=2;mem=32MiB"});
}

static void the_cpu_goes_on(void **state)
{
    (void)state;
    serve(&(setting){.devices = "cuda:0,cpu", .gpus = "gpus=1;mem=32MiB"});
}

static void replicas_of_one_gpu_are_lost_together(void **state)
{
    (void)state;
    serve(&(setting){.devices = "cuda:0*2", .gpus = "gpus=1;mem=64MiB", .shares = true});
}

/* A session's KV is gone with its GPU; its next request computes all of it on the other one. */
static void sessions_go_on_elsewhere(void **state)
{
    (void)state;
    asking g;
    golden_engine e;
    berth_error err = {0};
    berth_core_session *sessions[2];
    one both[2];
    uint64_t first, last;
    const berth_plan_config one_each = {.dtype = BERTH_PLAN_FP32, .n_seqs = 1};
    char config[96];
    open_asking(&g);
    count_calls(&g, "cuda:0,cuda:1", "gpus=2;mem=32MiB", &first, &last);
    const uint64_t fails_at = first + (last - first) * 25 / (10 * N_REQUESTS); /* in the second round */
    snprintf(config, sizeof config, "gpus=2;mem=32MiB;fail=%llu:700", (unsigned long long)fails_at);
    world_reset(config);
    golden_must(golden_plan(&e, &g.golden, "cuda:0,cuda:1", "replicate", &one_each, &err), &err, "plan");
    golden_must(golden_start(&e, NULL, &err), &err, "start");
    for (int i = 0; i < 2; i++) golden_must(berth_core_session_create(e.core, &sessions[i], &err), &err, "session");
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 2; i++) ask(e.core, &g, false, sessions[i], &both[i]);
        wait_for(both, 2);
        for (int i = 0; i < 2; i++) {
            int32_t home = berth_core_session_get_info(sessions[i]).replica;
            if (round == 0) assert_int_equal(home, both[i].replica);
            if (both[i].status != BERTH_OK) is_lost(&both[i], "1 of 2 replicas goes on (");
            if (both[i].status != BERTH_OK) assert_int_equal(home, -1);
        }
    }
    assert_true(world_report().calls > fails_at);
    for (int i = 0; i < 2; i++) is_right(&g, &both[i], "on the GPU that is left");
    assert_int_equal(both[0].replica, both[1].replica);
    for (int i = 0; i < 2; i++) berth_core_session_destroy(sessions[i]);
    golden_stop(&e);
    world_is_empty(config);
    golden_close(&g.golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_gpu_goes_on),
        cmocka_unit_test(the_cpu_goes_on),
        cmocka_unit_test(replicas_of_one_gpu_are_lost_together),
        cmocka_unit_test(sessions_go_on_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
