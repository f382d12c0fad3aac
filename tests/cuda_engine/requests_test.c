/* requests_test.c - several threads ask one engine on emulated GPUs at once, cancel, stop, come too late, go on with
 * sessions, and close it with work under way: each request ends once, with what it gives alone or the beginning of that.
 * What lanes, waiters and loops share is seen by the thread sanitizer here. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "fixture.h"

enum { N_THREADS = 3, N_ROUNDS = 2, N_PROMPTS = 3, MOST_IDS = 8, N_NEW = 3 };

typedef enum ending { TO_THE_END, CANCELLED_BY_ANOTHER, CANCELLED_BY_ITSELF, STOPPED, TOO_LATE, N_ENDINGS } ending;

typedef struct prompt { /* and what it answers alone */
    int32_t ids[MOST_IDS], n_ids;
    int32_t answer[N_NEW];
} prompt;

typedef struct scene {
    golden_model g;
    golden_engine e;
    prompt prompts[N_PROMPTS];
} scene;

typedef struct request {
    scene *s;
    const prompt *p;
    berth_core_request asked; /* lent to the engine until its end */
    ending ending;
    uint64_t id;
    int32_t n_told;
    berth_status status;
    berth_finish finish;
    int32_t n_ids;
    char message[BERTH_ERROR_MESSAGE_SIZE];
    atomic_int n_ends;
} request;

static const berth_plan_config config = {
    .dtype = BERTH_PLAN_FP32, .context = 64, .n_seqs = 3, .chunk = 5, .batch_invariant = true};

/* ---- asking ------------------------------------------------------------------------------------------------------ */

static bool hear(void *user, int32_t index, int32_t id, const float *logits)
{
    request *a = user;
    (void)logits;
    if (index != a->n_told || id != a->p->answer[index])
        snprintf(a->message, sizeof a->message, "token %d is %d, alone it is %d", (int)index, (int)id,
                 (int)a->p->answer[index]);
    a->n_told++;
    if (a->ending == CANCELLED_BY_ITSELF && index == 1) (void)berth_core_cancel(a->s->e.core, a->id);
    return a->ending != STOPPED;
}

static void hear_end(void *user, berth_status st, berth_core_result *take, const berth_error *why)
{
    request *a = user;
    a->status = st;
    a->finish = take->finish;
    a->n_ids = take->n_ids;
    if (st != BERTH_OK) snprintf(a->message, sizeof a->message, "%s", why->message);
    berth_core_result_deinit(take);
    atomic_fetch_add(&a->n_ends, 1);
}

static void ask(scene *s, request *a, int32_t which, ending how, berth_core_session *session)
{
    berth_error err = {0};
    memset(a, 0, sizeof *a);
    a->s = s;
    a->p = &s->prompts[which % N_PROMPTS];
    a->ending = how;
    a->asked = (berth_core_request){.ids = a->p->ids,
                                    .n_ids = a->p->n_ids,
                                    .image_token_id = -1,
                                    .max_new = N_NEW,
                                    .sampling = BERTH_SAMPLING_GREEDY,
                                    .on_token = hear,
                                    .on_end = hear_end,
                                    .user = a,
                                    .deadline_ns = how == TOO_LATE ? berth_now_ns() + 1000 : 0,
                                    .session = session};
    const berth_status st = berth_core_submit(s->e.core, &a->asked, &a->id, &err);
    if (st == BERTH_OK) return; /* and may be over already */
    a->status = st;
    snprintf(a->message, sizeof a->message, "submit: %.1000s", err.message);
    atomic_fetch_add(&a->n_ends, 1);
}

static void await(request *a)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    while (!atomic_load(&a->n_ends)) nanosleep(&pause, NULL);
}

static void check(const request *a)
{
    if (a->message[0]) fail_msg("%s", a->message);
    assert_int_equal(a->status, BERTH_OK);
    assert_int_equal(atomic_load(&a->n_ends), 1);
    assert_int_equal(a->n_told, a->n_ids);
    switch (a->ending) {
    case TO_THE_END: assert_int_equal(a->n_ids, N_NEW); break;
    case STOPPED: assert_int_equal(a->n_ids, 1); break;
    case TOO_LATE: assert_true(a->finish == BERTH_FINISH_DEADLINE || a->n_ids == N_NEW); break;
    case CANCELLED_BY_ITSELF: assert_int_equal(a->finish, BERTH_FINISH_CANCELLED); break;
    default: assert_true(a->finish == BERTH_FINISH_CANCELLED || a->n_ids == N_NEW);
    }
}

/* ---- the scene --------------------------------------------------------------------------------------------------- */

static void start(scene *s, const char *devices, const char *strategy, const char *transport)
{
    berth_error err = {0};
    const berth_core_options options = {.transport = transport};
    golden_must(golden_plan(&s->e, &s->g, devices, strategy, &config, &err), &err, devices);
    golden_must(golden_start(&s->e, &options, &err), &err, devices);
}

static void open_scene(scene *s)
{
    memset(s, 0, sizeof *s);
    golden_open(&s->g, "qwen2-text");
    world_reset("gpus=1;mem=32MiB");
    start(s, "cuda:0", "single", NULL);
    for (int32_t i = 0; i < N_PROMPTS; i++) {
        prompt *p = &s->prompts[i];
        berth_error err = {0};
        berth_core_result r;
        p->n_ids = MOST_IDS - 2 * i;
        for (int32_t k = 0; k < p->n_ids; k++) p->ids[k] = (i * 53 + k * 11) % 300;
        const berth_core_request q = {.ids = p->ids,
                                      .n_ids = p->n_ids,
                                      .image_token_id = -1,
                                      .max_new = N_NEW,
                                      .sampling = BERTH_SAMPLING_GREEDY};
        golden_must(berth_core_run(s->e.core, &q, &r, &err), &err, "alone");
        assert_int_equal(r.n_ids, N_NEW);
        memcpy(p->answer, r.ids, sizeof p->answer);
        berth_core_result_deinit(&r);
    }
    golden_stop(&s->e);
    world_is_empty("alone");
}

static const struct {
    const char *world, *devices, *strategy, *transport;
} settings[] = {{"gpus=2;mem=32MiB", "cuda:0,cuda:1", "balanced", "peer"},
                {"gpus=2;mem=32MiB;peer=0", "cuda:0,cuda:1", "balanced", "staged"},
                {"gpus=1;mem=64MiB", "cuda:0*2", "replicate", NULL},
                {"gpus=1;mem=32MiB", "cuda:0,cpu/mem=32MiB", "balanced", NULL}};
enum { N_SETTINGS = sizeof settings / sizeof settings[0] };

/* ---- tests ------------------------------------------------------------------------------------------------------- */

typedef struct caller {
    scene *s;
    int32_t index;
    request all[N_ROUNDS];
} caller;

/* The first thread's requests follow each other in a session; the others ask for all at once. */
static void *call(void *arg)
{
    caller *c = arg;
    berth_core_session *session = NULL;
    berth_error err = {0};
    if (c->index == 0 && berth_core_session_create(c->s->e.core, &session, &err) != BERTH_OK) return NULL;
    for (int32_t i = 0; i < N_ROUNDS; i++) {
        const ending how = c->index == 0 ? TO_THE_END : (ending)((c->index * N_ROUNDS + i) % N_ENDINGS);
        ask(c->s, &c->all[i], c->index + i, how, session);
        if (how == CANCELLED_BY_ANOTHER) (void)berth_core_cancel(c->s->e.core, c->all[i].id);
        if (session) await(&c->all[i]);
    }
    for (int32_t i = 0; i < N_ROUNDS; i++) await(&c->all[i]);
    berth_core_session_destroy(session);
    return NULL;
}

static void many_threads_ask_at_once(void **state)
{
    (void)state;
    static scene s;
    open_scene(&s);
    for (int32_t k = 0; k < N_SETTINGS; k++) {
        caller callers[N_THREADS];
        pthread_t threads[N_THREADS];
        world_reset(settings[k].world);
        start(&s, settings[k].devices, settings[k].strategy, settings[k].transport);
        for (int32_t i = 0; i < N_THREADS; i++) {
            callers[i] = (caller){.s = &s, .index = i};
            assert_int_equal(pthread_create(&threads[i], NULL, call, &callers[i]), 0);
        }
        for (int32_t i = 0; i < N_THREADS; i++) pthread_join(threads[i], NULL);
        for (int32_t i = 0; i < N_THREADS * N_ROUNDS; i++) check(&callers[i / N_ROUNDS].all[i % N_ROUNDS]);
        golden_stop(&s.e);
        world_is_empty(settings[k].devices);
    }
    golden_close(&s.g);
}

/* Its requests are waited for; those that were cancelled end early. */
static void an_engine_is_closed_with_work_under_way(void **state)
{
    (void)state;
    static scene s;
    open_scene(&s);
    for (int32_t k = 0; k < N_SETTINGS; k++) {
        request all[4];
        world_reset(settings[k].world);
        start(&s, settings[k].devices, settings[k].strategy, settings[k].transport);
        for (int32_t i = 0; i < 4; i++) ask(&s, &all[i], i, i == 3 ? CANCELLED_BY_ANOTHER : TO_THE_END, NULL);
        (void)berth_core_cancel(s.e.core, all[3].id);
        golden_stop(&s.e);
        for (int32_t i = 0; i < 4; i++) check(&all[i]);
        world_is_empty(settings[k].devices);
    }
    golden_close(&s.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_threads_ask_at_once),
        cmocka_unit_test(an_engine_is_closed_with_work_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
