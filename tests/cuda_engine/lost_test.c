/* lost_test.c - a GPU that is lost while an engine of several replicas serves: who ends with what, who goes on elsewhere, and
 * what is told to those who come later. Which call fails is chosen over the whole of the serving; the argument "all" takes
 * each, "every N from K" a part. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fixture.h"

enum { N_REQUESTS = 4, TOKENS = 3, PLACES = 3 };

static slice taken;

static const berth_plan_config fp32 = {.dtype = BERTH_PLAN_FP32, .n_seqs = 1};

typedef struct asking { /* a prompt without and with a picture tile, and what is answered undisturbed */
    golden_model golden;
    small_request asks[2];
    int32_t answers[2][TOKENS];
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
    for (int32_t i = 0; i < 2; i++) small_request_init(&g->asks[i], &g->golden, i, TOKENS);
}

static void ask(berth_core *core, const asking *g, bool sees, berth_core_session *session, one *o)
{
    berth_error err = {0};
    memset(o, 0, sizeof *o);
    o->request = g->asks[sees].request;
    o->sees = sees;
    o->request.on_token = hear;
    o->request.on_end = hear_end;
    o->request.user = o;
    o->request.session = session;
    const berth_status st = berth_core_submit(core, &o->request, NULL, &err);
    if (st == BERTH_OK) return; /* and may be over already */
    o->status = st;
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
    for (int32_t i = 0; i < TOKENS; i++) assert_int_equal(o->told[i], g->answers[o->sees][i]);
}

static void is_lost(const one *o, const char *rest)
{
    if (o->status != BERTH_DEVICE_LOST) fail_msg("status %d: %s", (int)o->status, o->error.message);
    assert_int_equal(o->error.status, BERTH_DEVICE_LOST);
    assert_int_equal(o->error.native_code, 700);
    if (!strstr(o->error.message, rest)) fail_msg("\"%s\" is not said: %s", rest, o->error.message);
}

typedef struct setting {
    const char *devices, *gpus;
    bool shares; /* both replicas are on the GPU that is lost */
} setting;

static void start(golden_engine *e, const asking *g, const char *devices, const char *config)
{
    berth_error err = {0};
    world_reset(config);
    golden_must(golden_plan(e, &g->golden, devices, "replicate", &fp32, &err), &err, devices);
    golden_must(golden_start(e, NULL, &err), &err, devices);
}

static void ask_all(berth_core *core, const asking *g, one *all)
{
    for (int32_t i = 0; i < N_REQUESTS; i++) ask(core, g, i == 0, NULL, &all[i]);
    wait_for(all, N_REQUESTS);
}

/* Calls of a round that GPUs have a part in. Another time they may be more or fewer: it depends on which replica takes what. */
static uint64_t count_calls(asking *g, const setting *s)
{
    enum { LEAST = 100 };
    golden_engine e;
    one all[N_REQUESTS];
    uint64_t n = 0;
    start(&e, g, s->devices, s->gpus);
    while (n < LEAST) {
        const uint64_t before = world_report().calls;
        ask_all(e.core, g, all);
        n = world_report().calls - before;
        for (int32_t i = 0; i < 2; i++) memcpy(g->answers[i], all[1 - i].told, sizeof g->answers[i]);
        for (int32_t i = 0; i < N_REQUESTS; i++) is_right(g, &all[i], "undisturbed");
    }
    golden_stop(&e);
    world_is_empty("undisturbed");
    return n;
}

/* Each is answered or ended by the loss; how many are. That a loss is told at once, with what goes on, rests on the one fault:
 * all but the replicas of that GPU are whole. That no request without a token is lost, where another replica goes on, rests on
 * its moving there, which is done once, and one GPU is lost. That none is lost with all its tokens rests on their being the
 * last that is done for it. */
static int32_t count_lost(const asking *g, const setting *s, const one *all)
{
    int32_t n = 0;
    for (int32_t i = 0; i < N_REQUESTS; i++) {
        if (all[i].status == BERTH_OK) {
            is_right(g, &all[i], "one that ended well");
            continue;
        }
        is_lost(&all[i], s->shares ? "of this engine is left" : "1 of 2 replicas goes on (");
        if (!s->shares && (all[i].n_told < 1 || all[i].n_told >= TOKENS)) /* it ought to have moved, or ended */
            fail_msg("lost after %d tokens: %s", (int)all[i].n_told, all[i].error.message);
        n++;
    }
    return n;
}

/* Rounds until the n-th call from the engine's being made, which fails: in the first, or later where another device takes more
 * of the work than it did when calls were counted. Each round has calls of the GPU in the end: a device that is busy takes
 * no more than n_seqs, so the GPU's replica takes what waits as soon as its loop comes to it. */
static void serve_until(const asking *g, const setting *s, uint64_t n)
{
    golden_engine e;
    one all[N_REQUESTS], later[2];
    char config[96];
    int32_t n_lost = 0;
    snprintf(config, sizeof config, "%s;seed=%llu", s->gpus, (unsigned long long)n);
    start(&e, g, s->devices, config);
    world_fail_after(n, 700);
    while (world_report().n_failed == 0) {
        assert_int_equal(n_lost, 0); /* nothing but the fault loses requests */
        ask_all(e.core, g, all);
        n_lost += count_lost(g, s, all);
    }
    if (!s->shares) assert_in_range(n_lost, 0, fp32.n_seqs); /* of one replica, no more were under way */
    /* These meet the loss at the latest: it may have come with the last call for what was answered. */
    for (int32_t i = 0; i < 2; i++) ask(e.core, g, false, NULL, &later[i]);
    wait_for(later, 2);
    for (int32_t i = 0; i < 2 && s->shares; i++) is_lost(&later[i], "of this engine is left");
    for (int32_t i = 0; i < 2 && !s->shares; i++) is_right(g, &later[i], "later");
    if (!s->shares) assert_int_equal(later[0].replica, later[1].replica); /* there is no other */
    golden_stop(&e);
    world_is_empty(config);
}

static void serve(const setting *s)
{
    asking g;
    open_asking(&g);
    const uint64_t n_calls = count_calls(&g, s);
    for (uint64_t i = 0; i < PLACES && !taken.step; i++) serve_until(&g, s, 1 + (n_calls - 1) * i / PLACES);
    for (uint64_t n = taken.first; n <= n_calls && taken.step; n += taken.step) serve_until(&g, s, n);
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

static void ask_both(berth_core *core, const asking *g, berth_core_session *const *sessions, one *both)
{
    for (int i = 0; i < 2; i++) ask(core, g, false, sessions[i], &both[i]);
    wait_for(both, 2);
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
    const setting s = {.devices = "cuda:0,cuda:1", .gpus = "gpus=2;mem=32MiB"};
    open_asking(&g);
    count_calls(&g, &s);
    start(&e, &g, s.devices, s.gpus);
    for (int i = 0; i < 2; i++) golden_must(berth_core_session_create(e.core, &sessions[i], &err), &err, "session");
    /* Wherever a round goes, both have a home after it: a replica has room for the KV of both. */
    const berth_core_plan *plan = berth_core_get_plan(e.core);
    assert_in_range(2 * ((g.asks[0].request.n_ids + TOKENS + plan->block - 1) / plan->block), 1, plan->n_blocks);
    uint64_t n_calls = 0;
    for (int round = 0; round < 2; round++) {
        const uint64_t before = world_report().calls;
        ask_both(e.core, &g, sessions, both);
        n_calls = world_report().calls - before;
        for (int i = 0; i < 2; i++) {
            is_right(&g, &both[i], "undisturbed");
            assert_int_equal(berth_core_session_get_info(sessions[i]).replica, both[i].replica);
        }
    }
    world_fail_after(1 + n_calls / 2, 700);
    while (world_report().n_failed == 0) {
        ask_both(e.core, &g, sessions, both);
        for (int i = 0; i < 2; i++) {
            if (both[i].status == BERTH_OK) continue;
            is_lost(&both[i], "1 of 2 replicas goes on (");
            assert_int_equal(berth_core_session_get_info(sessions[i]).replica, -1); /* it had the KV to itself */
        }
    }
    ask_both(e.core, &g, sessions, both); /* the loss was before: at worst these have to move */
    for (int i = 0; i < 2; i++) is_right(&g, &both[i], "on the GPU that is left");
    assert_int_equal(both[0].replica, both[1].replica);
    for (int i = 0; i < 2; i++) berth_core_session_destroy(sessions[i]);
    golden_stop(&e);
    world_is_empty("sessions");
    golden_close(&g.golden);
}

int main(int argc, char **argv)
{
    taken = slice_of(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_gpu_goes_on),
        cmocka_unit_test(the_cpu_goes_on),
        cmocka_unit_test(replicas_of_one_gpu_are_lost_together),
        cmocka_unit_test(sessions_go_on_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
