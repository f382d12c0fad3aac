/* schedules_test.c - random schedules: requests in any order, number, batch and placement, cancelled, late, in sessions,
 * with shared beginnings and guesses, give the tokens that each gives alone; and everything they took is back.
 *
 * Every schedule is drawn from a seed that a failure names. BERTH_SCHEDULES=N runs N of each model, BERTH_SEED=N begins
 * there. */
#include "golden.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/sha256.h"

enum { N_NEW = 12, MOST_PROMPTS = 40, MOST_REQUESTS = 24 };

typedef struct prompt { /* and what it answers, alone */
    int32_t *ids, n_ids;
    const float *pixels;
    int32_t n_tiles;
    uint8_t (*digests)[32];
    int32_t answer[N_NEW], n_answer;
} prompt;

typedef struct scene {
    golden_model g;
    prompt prompts[MOST_PROMPTS];
    int32_t n_prompts;
} scene;

static uint64_t draw(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static int32_t below(uint64_t *state, int32_t n)
{
    return (int32_t)(draw(state) % (uint64_t)n);
}

/* ---- prompts and their answers ---------------------------------------------------------------------------------- */

static berth_core_request request_of(const prompt *p)
{
    return (berth_core_request){.ids = p->ids,
                                .n_ids = p->n_ids,
                                .image_token_id = p->n_tiles > 0 ? GOLDEN_IMAGE_TOKEN : -1,
                                .pixels = p->pixels,
                                .n_tiles = p->n_tiles,
                                .tile_digests = (const uint8_t(*)[32])p->digests,
                                .max_new = N_NEW,
                                .sampling = BERTH_SAMPLING_GREEDY};
}

static prompt *add_prompt(scene *s, const golden_case *c, int32_t n_ids, int32_t extra, uint64_t *rng)
{
    prompt *p = &s->prompts[s->n_prompts++];
    size_t tile = c->n_tiles > 0 ? (size_t)3 * (size_t)berth_model_data_config(s->g.data)->vision.image_size *
                                       (size_t)berth_model_data_config(s->g.data)->vision.image_size
                                 : 0;
    *p = (prompt){.n_ids = n_ids + extra, .pixels = c->pixels, .n_tiles = c->n_tiles};
    p->ids = calloc((size_t)p->n_ids, sizeof *p->ids);
    memcpy(p->ids, c->ids, (size_t)n_ids * sizeof *p->ids);
    for (int32_t i = n_ids; i < p->n_ids; i++) p->ids[i] = below(rng, 400);
    if (c->n_tiles > 0) p->digests = calloc((size_t)c->n_tiles, 32);
    for (int32_t t = 0; t < c->n_tiles; t++)
        assert_true(berth_sha256(c->pixels + (size_t)t * tile, tile * sizeof(float), p->digests[t]));
    return p;
}

/* The golden cases, and of each some that begin the same and go on otherwise. */
static void make_prompts(scene *s, uint64_t *rng)
{
    for (int32_t i = 0; i < s->g.n_cases; i++) {
        const golden_case *c = &s->g.cases[i];
        add_prompt(s, c, c->n_ids, 0, rng);
        for (int32_t k = 0; k < 4; k++) {
            int32_t n = c->n_tiles > 0 ? c->n_ids : 1 + below(rng, c->n_ids);
            add_prompt(s, c, n, below(rng, 40), rng);
        }
    }
}

static void answer_alone(scene *s)
{
    golden_engine e;
    berth_error err = {0};
    const berth_plan_config config = {.context = 1024};
    const berth_core_options options = {.no_prefix_cache = true};
    golden_must(golden_plan(&e, &s->g, "cpu", "single", &config, &err), &err, "plan");
    golden_must(golden_start(&e, &options, &err), &err, "engine");
    for (int32_t i = 0; i < s->n_prompts; i++) {
        prompt *p = &s->prompts[i];
        berth_core_request q = request_of(p);
        berth_core_result result;
        golden_must(berth_core_run(e.core, &q, &result, &err), &err, "alone");
        p->n_answer = result.n_ids;
        memcpy(p->answer, result.ids, (size_t)result.n_ids * sizeof *p->answer);
        berth_core_result_deinit(&result);
    }
    golden_stop(&e);
}

static void open_scene(scene *s, const char *name)
{
    uint64_t rng = 7;
    memset(s, 0, sizeof *s);
    golden_open(&s->g, name);
    make_prompts(s, &rng);
    answer_alone(s);
}

static void close_scene(scene *s)
{
    for (int32_t i = 0; i < s->n_prompts; i++) {
        free(s->prompts[i].ids);
        free(s->prompts[i].digests);
    }
    golden_close(&s->g);
}

/* ---- one schedule ----------------------------------------------------------------------------------------------- */

typedef struct asked {
    const prompt *p;
    berth_core_request q;
    uint64_t id;
    int32_t n_told, n_wrong, stop_after; /* tokens; 0 = never */
    berth_core_session *session;
    _Atomic bool is_over;
    berth_status status;
    berth_finish finish;
    int32_t n_ids;
    char message[BERTH_ERROR_MESSAGE_SIZE];
} asked;

static bool hear_token(void *user, int32_t index, int32_t id, const float *logits)
{
    asked *a = user;
    (void)logits;
    if (index != a->n_told++ || index >= a->p->n_answer || id != a->p->answer[index]) a->n_wrong++;
    return a->n_told != a->stop_after;
}

static void hear_end(void *user, berth_status st, berth_core_result *result, const berth_error *why)
{
    asked *a = user;
    a->status = st;
    a->finish = result->finish;
    a->n_ids = result->n_ids;
    if (st != BERTH_OK) snprintf(a->message, sizeof a->message, "%s", why->message);
    berth_core_result_deinit(result);
    atomic_store(&a->is_over, true);
}

static void pause_some(uint64_t *rng)
{
    int32_t n = below(rng, 4) == 0 ? below(rng, 200) : 0;
    for (int32_t i = 0; i < n; i++) sched_yield();
}

static void await(asked *a)
{
    while (!atomic_load(&a->is_over)) sched_yield();
}

static void check_one(const asked *a, uint64_t seed)
{
    if (a->status != BERTH_OK) fail_msg("seed %llu: %s", (unsigned long long)seed, a->message);
    if (a->n_wrong > 0 || a->n_told != a->n_ids)
        fail_msg("seed %llu: %d of %d tokens differ from the request alone (told %d)", (unsigned long long)seed,
                 a->n_wrong, a->n_ids, a->n_told);
    if (a->finish == BERTH_FINISH_LENGTH && a->n_ids != a->p->n_answer)
        fail_msg("seed %llu: %d tokens, alone %d", (unsigned long long)seed, a->n_ids, a->p->n_answer);
}

static void ask(golden_engine *e, const scene *s, asked *a, berth_core_session *session, uint64_t *rng)
{
    a->p = &s->prompts[below(rng, s->n_prompts)];
    a->q = request_of(a->p);
    a->q.on_token = hear_token;
    a->q.on_end = hear_end;
    a->q.user = a;
    a->q.priority = below(rng, 3);
    a->q.no_prefix_cache = below(rng, 8) == 0;
    a->q.session = session;
    a->q.speculate = e->plan->config.draft > 0 ? below(rng, e->plan->config.draft + 1) : 0;
    if (below(rng, 8) == 0) a->q.tile_digests = NULL;
    if (below(rng, 10) == 0) a->stop_after = 1 + below(rng, N_NEW);
    if (below(rng, 16) == 0) a->q.deadline_ns = berth_now_ns() + below(rng, 3000000);
    berth_error err = {0};
    golden_must(berth_core_submit(e->core, &a->q, &a->id, &err), &err, "submit");
}

static void everything_is_back(golden_engine *e, int32_t n_asked, uint64_t seed)
{
    berth_core_stats stats;
    berth_core_get_stats(e->core, &stats);
    if (stats.kv_used != 0 || stats.n_running != 0 || stats.n_waiting != 0 || stats.n_finished != n_asked)
        fail_msg("seed %llu: %lld KV blocks, %d running, %d waiting, %lld of %d finished", (unsigned long long)seed,
                 (long long)stats.kv_used, stats.n_running, stats.n_waiting, (long long)stats.n_finished, n_asked);
}

static void start_engine(golden_engine *e, const scene *s, uint64_t *rng)
{
    static const char *const devices[] = {"cpu", "cpu*2", "cpu*3", "cpu*4"};
    static const char *const strategies[] = {"single", "balanced", "balanced_low_0", "sequential", "layer"};
    berth_plan_config config = {.context = 1024,
                                .n_seqs = 1 + below(rng, 6),
                                .chunk = below(rng, 3) ? 1 + below(rng, 200) : 0,
                                .tiles = 1 + below(rng, 4),
                                .passes = below(rng, 4),
                                .draft = below(rng, 2) ? below(rng, 5) : 0};
    config.kv_tokens = below(rng, 2) ? 1024 + below(rng, 2048) : 0;
    const berth_core_options options = {.no_prefix_cache = below(rng, 4) == 0, .longest_first = below(rng, 2)};
    berth_error err = {0};
    bool replicas = below(rng, 4) == 0;
    const char *d = devices[replicas ? 1 + 2 * below(rng, 2) : below(rng, 4)];
    const char *strategy = replicas ? (below(rng, 2) ? "replicate=2" : "replicate") : strategies[below(rng, 5)];
    golden_must(golden_plan(e, &s->g, d, strategy, &config, &err), &err, strategy);
    golden_must(golden_start(e, &options, &err), &err, strategy);
}

static void run_schedule(const scene *s, uint64_t seed)
{
    static asked all[MOST_REQUESTS];
    uint64_t rng = seed;
    golden_engine e;
    start_engine(&e, s, &rng);
    memset(all, 0, sizeof all);
    berth_core_session *sessions[3] = {0};
    berth_error err = {0};
    for (int i = 0; i < 3; i++) golden_must(berth_core_session_create(e.core, &sessions[i], &err), &err, "session");
    asked *last[3] = {0};
    int32_t n = 1 + below(&rng, MOST_REQUESTS);
    for (int32_t i = 0; i < n; i++) {
        int32_t k = below(&rng, 6); /* half of them in a session, after the one before it there */
        if (k < 3 && last[k]) await(last[k]);
        ask(&e, s, &all[i], k < 3 ? sessions[k] : NULL, &rng);
        if (k < 3) last[k] = &all[i];
        if (below(&rng, 8) == 0) berth_core_cancel(e.core, all[below(&rng, i + 1)].id);
        pause_some(&rng);
    }
    for (int32_t i = 0; i < n; i++) {
        await(&all[i]);
        check_one(&all[i], seed);
    }
    for (int i = 0; i < 3; i++) berth_core_session_destroy(sessions[i]);
    everything_is_back(&e, n, seed);
    golden_stop(&e);
}

static int64_t number_of(const char *name, int64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoll(text, NULL, 10) : otherwise;
}

static void run_schedules(const char *model)
{
    int64_t n = number_of("BERTH_SCHEDULES", 60), seed = number_of("BERTH_SEED", 1);
    scene *s = calloc(1, sizeof *s);
    open_scene(s, model);
    for (int64_t i = 0; i < n; i++) run_schedule(s, (uint64_t)(seed + i));
    close_scene(s);
    free(s);
}

static void pictures_native(void **state)
{
    (void)state;
    run_schedules("ivl-native");
}
static void text_only(void **state)
{
    (void)state;
    run_schedules("qwen2-text");
}
static void tied_head(void **state)
{
    (void)state;
    run_schedules("ivl-tied");
}
static void qwen3(void **state)
{
    (void)state;
    run_schedules("ivl-qwen3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pictures_native), cmocka_unit_test(text_only),
                                       cmocka_unit_test(tied_head), cmocka_unit_test(qwen3)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
