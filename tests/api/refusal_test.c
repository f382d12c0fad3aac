/* refusal_test.c - every function of berth.h with every handle, output, struct and number that it must refuse: NULL,
 * numbers cast to pointers, other kinds, ended ones, copies, wrong sizes, numbers that cannot be meant. */
#include "fixture.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { RUNTIME, MODEL, PLAN, ENGINE, SESSION, QUEUE, N_KINDS };

/* One of each kind, alive and ended, and things to pass. */
typedef struct world {
    void *alive[N_KINDS], *ended[N_KINDS];
    asking a;
    berth_model *spare; /* keeps the ended runtime in memory */
} world;

static void make_all(void *out[N_KINDS])
{
    fixture f = fixture_open(NULL);
    berth_error err = {0};
    out[RUNTIME] = f.rt;
    out[MODEL] = f.model;
    out[ENGINE] = f.engine;
    const berth_plan_options o = {.struct_size = sizeof o, .context = 128};
    must(berth_plan_create(f.model, &o, (berth_plan **)&out[PLAN], &err), &err, "plan");
    must(berth_session_create(f.engine, (berth_session **)&out[SESSION], &err), &err, "session");
    must(berth_queue_create(f.rt, (berth_queue **)&out[QUEUE], &err), &err, "queue");
}

static void end_all(void *all[N_KINDS])
{
    berth_session_destroy(all[SESSION]);
    berth_queue_destroy(all[QUEUE]);
    berth_engine_destroy(all[ENGINE]);
    berth_plan_destroy(all[PLAN]);
    berth_model_close(all[MODEL]);
    berth_runtime_destroy(all[RUNTIME]);
}

/* What is ended is of the living runtime: it is recognised as long as that lives. */
static void make_world(world *w)
{
    memset(w, 0, sizeof *w);
    make_all(w->alive);
    berth_error err = {0};
    berth_runtime *rt = w->alive[RUNTIME];
    berth_model *model = NULL;
    must(berth_model_open(rt, FIXTURE_MODELS "qwen2-text", NULL, &model, &err), &err, "model");
    const fixture_options o = {0};
    w->ended[MODEL] = model;
    w->ended[ENGINE] = fixture_engine(model, &o);
    const berth_plan_options p = {.struct_size = sizeof p, .context = 128};
    must(berth_plan_create(model, &p, (berth_plan **)&w->ended[PLAN], &err), &err, "plan");
    must(berth_session_create(w->ended[ENGINE], (berth_session **)&w->ended[SESSION], &err), &err, "session");
    must(berth_queue_create(rt, (berth_queue **)&w->ended[QUEUE], &err), &err, "queue");
    end_all(w->ended);
    /* A runtime that was ended while others need it. */
    fixture f = fixture_open(NULL);
    w->ended[RUNTIME] = f.rt;
    berth_runtime_destroy(f.rt);
    berth_engine_destroy(f.engine);
    w->spare = f.model;
    ask(&w->a, "?", 1);
}

/* ---- handles -------------------------------------------------------------------------------------------------------- */

/* Each calls its function with handle `h`, and everything else right; true: refused as it must. */
typedef bool refusal_fn(world *w, void *h);

static bool is_refused(berth_status st, const berth_error *err)
{
    return st == BERTH_INVALID_ARGUMENT && err->status == st && strlen(err->message) > 10;
}

static berth_error last;

static bool model_open(world *w, void *h)
{
    (void)w;
    berth_model *out = (berth_model *)&last;
    return is_refused(berth_model_open(h, FIXTURE_MODELS "qwen2-text", NULL, &out, &last), &last) && out == NULL;
}
static bool queue_create(world *w, void *h)
{
    (void)w;
    berth_queue *out = (berth_queue *)&last;
    return is_refused(berth_queue_create(h, &out, &last), &last) && out == NULL;
}
static bool model_json(world *w, void *h)
{
    (void)w;
    return berth_model_json(h) == NULL;
}
static bool model_tokenize(world *w, void *h)
{
    (void)w;
    int32_t *ids, n;
    return is_refused(berth_model_tokenize(h, "a", 1, &ids, &n, &last), &last) && ids == NULL && n == 0;
}
static bool model_detokenize(world *w, void *h)
{
    (void)w;
    int32_t id = 1;
    char *text;
    return is_refused(berth_model_detokenize(h, &id, 1, &text, NULL, &last), &last) && text == NULL;
}
static bool plan_create(world *w, void *h)
{
    (void)w;
    berth_plan *out = (berth_plan *)&last;
    return is_refused(berth_plan_create(h, NULL, &out, &last), &last) && out == NULL;
}
static bool plan_limits_find(world *w, void *h)
{
    (void)w;
    berth_plan_limits out = {.struct_size = sizeof out};
    return is_refused(berth_plan_limits_find(h, NULL, &out, &last), &last);
}
static bool plan_fits(world *w, void *h)
{
    (void)w;
    return berth_plan_fits(h, NULL, NULL) == 0;
}
static bool plan_words(world *w, void *h)
{
    (void)w;
    return strcmp(berth_plan_strategy(h), "") == 0 && strcmp(berth_plan_note(h), "") == 0 &&
           strcmp(berth_plan_refusal(h), "") == 0;
}
static bool plan_counts(world *w, void *h)
{
    (void)w;
    return berth_plan_n_devices(h) == 0 && berth_plan_n_replicas(h) == 0 && berth_plan_n_modules(h) == 0 &&
           berth_plan_n_copies(h, 0) == 0 && berth_plan_image_tiles(h) == 0 && berth_plan_chunk(h) == 0 &&
           berth_plan_module_device(h, 0, 0) == -1 && berth_plan_binds(h, NULL, NULL) == -1;
}
static bool plan_gets(world *w, void *h)
{
    (void)w;
    berth_plan_device d = {.struct_size = sizeof d};
    berth_plan_module m = {.struct_size = sizeof m};
    berth_plan_copy c = {.struct_size = sizeof c};
    uint64_t edges[4];
    char *text = NULL;
    return is_refused(berth_plan_get_device(h, 0, &d, &last), &last) &&
           is_refused(berth_plan_get_module(h, 0, &m, &last), &last) &&
           is_refused(berth_plan_get_copy(h, 0, 0, &c, &last), &last) &&
           is_refused(berth_plan_edges(h, 0, 0, 1, 1, edges, &last), &last) &&
           is_refused(berth_plan_explain(h, 0, "lm_head", 0, &text, &last), &last);
}
static bool plan_texts(world *w, void *h)
{
    (void)w;
    return berth_plan_dot(h, 0) == NULL && berth_plan_json(h, 0) == NULL && berth_plan_program_text(h, 0) == NULL &&
           berth_plan_device_map(h, 0) == NULL;
}
static bool engine_create(world *w, void *h)
{
    (void)w;
    berth_engine *out = (berth_engine *)&last;
    return is_refused(berth_engine_create(h, NULL, &out, &last), &last) && out == NULL;
}
static bool engine_plan(world *w, void *h)
{
    (void)w;
    return berth_engine_plan(h) == NULL;
}
static bool engine_stats(world *w, void *h)
{
    (void)w;
    berth_stats out = {.struct_size = sizeof out};
    return is_refused(berth_engine_get_stats(h, &out, &last), &last);
}
static bool engine_edge(world *w, void *h)
{
    (void)w;
    berth_edge out = {.struct_size = sizeof out};
    return is_refused(berth_engine_get_edge(h, 0, 1, &out, &last), &last);
}
static bool engine_run(world *w, void *h)
{
    berth_result out = {.struct_size = sizeof out};
    return is_refused(berth_engine_run(h, &w->a.request, &out, &last), &last) && out.text == NULL;
}
static bool engine_submit(world *w, void *h)
{
    uint64_t id = 0;
    return is_refused(berth_engine_submit(h, &w->a.request, w->alive[QUEUE], NULL, &id, &last), &last) && id == 0;
}
static bool engine_submit_queue(world *w, void *h)
{
    uint64_t id = 0;
    return is_refused(berth_engine_submit(w->alive[ENGINE], &w->a.request, h, NULL, &id, &last), &last) && id == 0;
}
static void no_end(void *user, uint64_t id, berth_status st, const berth_result *r, const berth_error *why)
{
    (void)user, (void)id, (void)st, (void)r, (void)why;
    fail_msg("a refused request told an end");
}
static bool engine_start(world *w, void *h)
{
    uint64_t id = 0;
    return is_refused(berth_engine_start(h, &w->a.request, no_end, NULL, &id, &last), &last) && id == 0;
}
static bool engine_cancel(world *w, void *h)
{
    (void)w;
    return is_refused(berth_engine_cancel(h, 1, &last), &last);
}
static bool queue_descriptor(world *w, void *h)
{
    (void)w;
    return berth_queue_descriptor(h) == -1;
}
static bool queue_next(world *w, void *h)
{
    (void)w;
    berth_completion out = {.struct_size = sizeof out};
    return is_refused(berth_queue_next(h, 0, &out, &last), &last);
}
static bool session_create(world *w, void *h)
{
    (void)w;
    berth_session *out = (berth_session *)&last;
    return is_refused(berth_session_create(h, &out, &last), &last) && out == NULL;
}
static bool session_load(world *w, void *h)
{
    (void)w;
    berth_session *out = (berth_session *)&last;
    return is_refused(berth_session_load(h, "/no/such/file", &out, &last), &last) && out == NULL;
}
static bool session_calls(world *w, void *h)
{
    (void)w;
    berth_session_info info = {.struct_size = sizeof info};
    berth_session *out = NULL;
    char *role = NULL, *text = NULL;
    return is_refused(berth_session_get_info(h, &info, &last), &last) &&
           is_refused(berth_session_get_turn(h, 0, &role, &text, &last), &last) &&
           is_refused(berth_session_rewind(h, 0, &last), &last) &&
           is_refused(berth_session_fork(h, &out, &last), &last) &&
           is_refused(berth_session_save(h, "/no/such/folder/file", &last), &last);
}
static bool request_session(world *w, void *h)
{
    if (h == NULL) return true; /* means none */
    asking a = w->a;
    a.request.session = h;
    berth_result out = {.struct_size = sizeof out};
    return is_refused(berth_engine_run(w->alive[ENGINE], &a.request, &out, &last), &last);
}
/* Those that give nothing back do nothing; what lives goes on living, which is looked at in the end. */
static bool runtime_destroy(world *w, void *h)
{
    (void)w;
    berth_runtime_destroy(h);
    return true;
}
static bool model_close(world *w, void *h)
{
    (void)w;
    berth_model_close(h);
    return true;
}
static bool plan_destroy(world *w, void *h)
{
    (void)w;
    berth_plan_destroy(h);
    return true;
}
static bool engine_destroy(world *w, void *h)
{
    (void)w;
    berth_engine_destroy(h);
    return true;
}
static bool session_destroy(world *w, void *h)
{
    (void)w;
    berth_session_destroy(h);
    return true;
}
static bool queue_destroy(world *w, void *h)
{
    (void)w;
    berth_queue_destroy(h);
    return true;
}

static const struct {
    const char *name;
    enum kind kind;
    refusal_fn *call;
} handle_rows[] = {
    {"model_open", RUNTIME, model_open},
    {"queue_create", RUNTIME, queue_create},
    {"runtime_destroy", RUNTIME, runtime_destroy},
    {"model_json", MODEL, model_json},
    {"model_tokenize", MODEL, model_tokenize},
    {"model_detokenize", MODEL, model_detokenize},
    {"plan_create", MODEL, plan_create},
    {"plan_limits_find", MODEL, plan_limits_find},
    {"model_close", MODEL, model_close},
    {"plan_fits", PLAN, plan_fits},
    {"plan's words", PLAN, plan_words},
    {"plan's counts", PLAN, plan_counts},
    {"plan_get_*", PLAN, plan_gets},
    {"plan's texts", PLAN, plan_texts},
    {"engine_create", PLAN, engine_create},
    {"plan_destroy", PLAN, plan_destroy},
    {"engine_plan", ENGINE, engine_plan},
    {"engine_get_stats", ENGINE, engine_stats},
    {"engine_get_edge", ENGINE, engine_edge},
    {"engine_run", ENGINE, engine_run},
    {"engine_submit", ENGINE, engine_submit},
    {"engine_submit's queue", QUEUE, engine_submit_queue},
    {"engine_start", ENGINE, engine_start},
    {"engine_cancel", ENGINE, engine_cancel},
    {"engine_destroy", ENGINE, engine_destroy},
    {"queue_descriptor", QUEUE, queue_descriptor},
    {"queue_next", QUEUE, queue_next},
    {"queue_destroy", QUEUE, queue_destroy},
    {"session_create", ENGINE, session_create},
    {"session_load", ENGINE, session_load},
    {"session_*", SESSION, session_calls},
    {"request.session", SESSION, request_session},
    {"session_destroy", SESSION, session_destroy},
};

/* 14 values that are no handle of that kind. */
static int bad_handles(world *w, enum kind kind, void *out[16])
{
    static _Alignas(64) unsigned char zeros[512], ones[512], copy[512];
    memset(ones, 0xff, sizeof ones);
    memcpy(copy, w->alive[kind], 48);
    int n = 0;
    out[n++] = NULL;
    out[n++] = (void *)(uintptr_t)1;
    out[n++] = (void *)(uintptr_t)4095;
    out[n++] = (char *)w->alive[kind] + 1;
    out[n++] = (char *)w->alive[kind] + 8;
    for (int k = 0; k < N_KINDS; k++)
        if (k != (int)kind) out[n++] = w->alive[k];
    out[n++] = w->ended[kind];
    out[n++] = zeros;
    out[n++] = ones;
    out[n++] = copy;
    return n;
}

static void every_function_refuses_what_is_no_handle(void **state)
{
    (void)state;
    static world w;
    make_world(&w);
    int32_t n_tried = 0;
    for (size_t i = 0; i < sizeof handle_rows / sizeof handle_rows[0]; i++) {
        void *bad[16];
        const int n = bad_handles(&w, handle_rows[i].kind, bad);
        assert_true(n >= 12);
        for (int k = 0; k < n; k++, n_tried++)
            if (!handle_rows[i].call(&w, bad[k])) fail_msg("%s took bad handle %d", handle_rows[i].name, k);
    }
    print_message("%d calls with bad handles\n", (int)n_tried);
    berth_result r = run_request(w.alive[ENGINE], &w.a.request); /* nothing of it did harm */
    berth_result_deinit(&r);
    w.a.request.session = w.alive[SESSION];
    r = run_request(w.alive[ENGINE], &w.a.request);
    berth_result_deinit(&r);
    assert_int_equal(berth_plan_n_devices(w.alive[PLAN]), 1);
    berth_model_close(w.spare);
    end_all(w.alive);
}

/* ---- outputs and structs -------------------------------------------------------------------------------------------- */

static void missing_outputs_are_refused(void **state)
{
    (void)state;
    static world w;
    make_world(&w);
    berth_error e;
    const berth_status refused = BERTH_INVALID_ARGUMENT;
    int32_t *ids, n;
    char *text;
    assert_int_equal(berth_runtime_create(NULL, NULL, &e), refused);
    assert_int_equal(berth_model_open(w.alive[RUNTIME], FIXTURE_MODELS "qwen2-text", NULL, NULL, &e), refused);
    berth_model *model;
    assert_int_equal(berth_model_open(w.alive[RUNTIME], NULL, NULL, &model, &e), refused);
    assert_int_equal(berth_model_tokenize(w.alive[MODEL], NULL, 1, &ids, &n, &e), refused);
    assert_int_equal(berth_model_tokenize(w.alive[MODEL], "a", 1, NULL, &n, &e), refused);
    assert_int_equal(berth_model_tokenize(w.alive[MODEL], "a", 1, &ids, NULL, &e), refused);
    assert_int_equal(berth_model_tokenize(w.alive[MODEL], "\xff", 1, &ids, &n, &e), refused);
    assert_int_equal(berth_model_detokenize(w.alive[MODEL], NULL, 1, &text, NULL, &e), refused);
    assert_int_equal(berth_model_detokenize(w.alive[MODEL], &n, -1, &text, NULL, &e), refused);
    assert_int_equal(berth_model_detokenize(w.alive[MODEL], &n, 1, NULL, NULL, &e), refused);
    assert_int_equal(berth_plan_create(w.alive[MODEL], NULL, NULL, &e), refused);
    assert_int_equal(berth_plan_limits_find(w.alive[MODEL], NULL, NULL, &e), refused);
    assert_int_equal(berth_plan_get_device(w.alive[PLAN], 0, NULL, &e), refused);
    assert_int_equal(berth_plan_get_module(w.alive[PLAN], 0, NULL, &e), refused);
    assert_int_equal(berth_plan_get_copy(w.alive[PLAN], 0, 0, NULL, &e), refused);
    assert_int_equal(berth_plan_edges(w.alive[PLAN], 0, 0, 1, 1, NULL, &e), refused);
    assert_int_equal(berth_plan_explain(w.alive[PLAN], 0, NULL, 0, &text, &e), refused);
    assert_int_equal(berth_plan_explain(w.alive[PLAN], 0, "lm_head", 0, NULL, &e), refused);
    assert_int_equal(berth_engine_get_stats(w.alive[ENGINE], NULL, &e), refused);
    berth_edge edge = {.struct_size = sizeof edge};
    assert_int_equal(berth_engine_get_edge(w.alive[ENGINE], 0, 0, NULL, &e), refused);
    assert_int_equal(berth_engine_get_edge(w.alive[ENGINE], -1, 0, &edge, &e), refused);
    assert_int_equal(berth_engine_get_edge(w.alive[ENGINE], 0, 99, &edge, &e), refused);
    assert_int_equal(berth_engine_run(w.alive[ENGINE], &w.a.request, NULL, &e), refused);
    berth_result r = {.struct_size = sizeof r};
    assert_int_equal(berth_engine_run(w.alive[ENGINE], NULL, &r, &e), refused);
    assert_int_equal(berth_engine_submit(w.alive[ENGINE], NULL, w.alive[QUEUE], NULL, NULL, &e), refused);
    assert_int_equal(berth_engine_start(w.alive[ENGINE], NULL, no_end, NULL, NULL, &e), refused);
    assert_int_equal(berth_engine_start(w.alive[ENGINE], &w.a.request, NULL, NULL, NULL, &e), refused);
    assert_int_equal(berth_queue_create(w.alive[RUNTIME], NULL, &e), refused);
    assert_int_equal(berth_queue_next(w.alive[QUEUE], 0, NULL, &e), refused);
    berth_completion c = {.struct_size = sizeof c};
    assert_int_equal(berth_queue_next(w.alive[QUEUE], -2, &c, &e), refused);
    assert_int_equal(berth_queue_next(w.alive[QUEUE], INT64_MIN, &c, &e), refused);
    assert_int_equal(berth_session_create(w.alive[ENGINE], NULL, &e), refused);
    assert_int_equal(berth_session_get_info(w.alive[SESSION], NULL, &e), refused);
    assert_int_equal(berth_session_fork(w.alive[SESSION], NULL, &e), refused);
    assert_int_equal(berth_session_save(w.alive[SESSION], NULL, &e), refused);
    berth_session *s;
    assert_int_equal(berth_session_load(w.alive[ENGINE], NULL, &s, &e), refused);
    assert_int_equal(berth_session_load(w.alive[ENGINE], "x", NULL, &e), refused);
    static const int32_t turns[] = {-1, 0, 1, INT_MAX, INT_MIN};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(berth_session_get_turn(w.alive[SESSION], turns[i], NULL, NULL, &e), refused);
    berth_request_init(NULL); /* the rest take NULL */
    berth_result_deinit(NULL);
    berth_completion_deinit(NULL);
    berth_free(NULL);
    berth_engine *taken = NULL;
    assert_int_equal(berth_engine_create((berth_plan *)(uintptr_t)berth_engine_plan(w.alive[ENGINE]), NULL, &taken, &e),
                     refused); /* one that an engine has */
    berth_plan_destroy((berth_plan *)(uintptr_t)berth_engine_plan(w.alive[ENGINE]));
    berth_result again = run_request(w.alive[ENGINE], &w.a.request);
    berth_result_deinit(&again);
    berth_model_close(w.spare);
    end_all(w.alive);
}

/* Sizes that cannot be, for what is read and what is written; and fields of a later version. */
static void wrong_struct_sizes_are_refused(void **state)
{
    (void)state;
    static world w;
    make_world(&w);
    static const size_t sizes[] = {0, 1, 4, 7, 65537, (size_t)1 << 31, (size_t)1 << 32, SIZE_MAX / 2, SIZE_MAX};
    static unsigned char longer[8192];
    berth_error e;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const size_t size = sizes[i];
        berth_runtime *rt;
        berth_model *model;
        berth_plan *plan;
        assert_int_equal(berth_runtime_create(&(berth_runtime_options){.struct_size = size}, &rt, &e),
                         BERTH_INVALID_ARGUMENT);
        assert_int_equal(berth_model_open(w.alive[RUNTIME], FIXTURE_MODELS "qwen2-text",
                                          &(berth_model_options){.struct_size = size}, &model, &e),
                         BERTH_INVALID_ARGUMENT);
        assert_int_equal(berth_plan_create(w.alive[MODEL], &(berth_plan_options){.struct_size = size}, &plan, &e),
                         BERTH_INVALID_ARGUMENT);
        w.a.request.struct_size = size;
        berth_result r = {.struct_size = sizeof r};
        assert_int_equal(berth_engine_run(w.alive[ENGINE], &w.a.request, &r, &e), BERTH_INVALID_ARGUMENT);
        w.a.request.struct_size = sizeof w.a.request;
        r.struct_size = size;
        assert_int_equal(berth_engine_run(w.alive[ENGINE], &w.a.request, &r, &e), BERTH_INVALID_ARGUMENT);
        berth_completion c = {.struct_size = size};
        assert_int_equal(berth_queue_next(w.alive[QUEUE], 0, &c, &e), BERTH_INVALID_ARGUMENT);
        berth_stats stats = {.struct_size = size};
        assert_int_equal(berth_engine_get_stats(w.alive[ENGINE], &stats, &e), BERTH_INVALID_ARGUMENT);
        berth_edge edge = {.struct_size = size};
        assert_int_equal(berth_engine_get_edge(w.alive[ENGINE], 0, 0, &edge, &e), BERTH_INVALID_ARGUMENT);
        berth_session_info info = {.struct_size = size};
        assert_int_equal(berth_session_get_info(w.alive[SESSION], &info, &e), BERTH_INVALID_ARGUMENT);
        berth_plan_device device = {.struct_size = size};
        assert_int_equal(berth_plan_get_device(w.alive[PLAN], 0, &device, &e), BERTH_INVALID_ARGUMENT);
    }
    const size_t n = sizeof longer;
    memcpy(longer, &w.a.request, sizeof w.a.request);
    memcpy(longer, &n, sizeof n);
    berth_result r = {.struct_size = sizeof r};
    must(berth_engine_run(w.alive[ENGINE], (const berth_request *)(const void *)longer, &r, &e), &e, "a newer request");
    berth_result_deinit(&r);
    longer[n - 1] = 1;
    assert_int_equal(berth_engine_run(w.alive[ENGINE], (const berth_request *)(const void *)longer, &r, &e),
                     BERTH_INVALID_ARGUMENT);
    memset(longer, 0xee, n); /* what is asked for by a newer program is zero where we know nothing */
    memcpy(longer, &n, sizeof n);
    must(berth_engine_get_stats(w.alive[ENGINE], (berth_stats *)(void *)longer, &e), &e, "newer stats");
    assert_int_equal(longer[sizeof(berth_stats)], 0);
    assert_int_equal(longer[n - 1], 0);
    struct { /* and what an older one asks for is no more than it knows */
        size_t struct_size;
        int32_t n_waiting, n_running, n_sessions, guard;
    } old = {.struct_size = sizeof old - sizeof old.guard, .guard = 77};
    must(berth_engine_get_stats(w.alive[ENGINE], (berth_stats *)(void *)&old, &e), &e, "older stats");
    assert_int_equal(old.guard, 77);
    assert_int_equal(old.n_sessions, 1);
    berth_model_close(w.spare);
    end_all(w.alive);
}

/* ---- numbers -------------------------------------------------------------------------------------------------------- */

typedef struct request_row {
    const char *name;
    size_t offset;
    char type; /* i = int32, l = int64, f = float */
    double values[12];
    int n;
} request_row;

#define AT(field) #field, offsetof(berth_request, field)

static const request_row request_rows[] = {
    {AT(n_turns), 'i', {0, -1, -2, INT_MIN, INT_MAX, 65537, 1 << 20, -65536, 1 << 30, 70000, -1000, -7}, 12},
    {AT(max_new_tokens), 'i', {-1, -2, -512, INT_MIN, -65536, -7, -1000, -100000, -3, -4, -5, -6}, 12},
    {AT(max_tiles), 'i', {-1, -2, INT_MIN, INT_MAX, 1025, 4096, 65536, -65536, 1 << 30, -7, 2000, -1024}, 12},
    {AT(temperature), 'f', {0, -1, -0.5, NAN, INFINITY, -INFINITY, -1e-30, -1e30, -2, -3, -100, -0.0}, 12},
    {AT(top_p), 'f', {-0.1, 1.1, NAN, INFINITY, -INFINITY, 2, -1, 1e30, -1e30, 100, 1.0001, -1e-6}, 12},
    {AT(min_p), 'f', {-0.1, 1.1, NAN, INFINITY, -INFINITY, 2, -1, 1e30, -1e30, 100, 1.0001, -1e-6}, 12},
    {AT(repetition_penalty), 'f', {0, -1, -0.5, NAN, INFINITY, -INFINITY, -1e-30, -1e30, -2, -3, -100, -0.0}, 12},
    {AT(top_k), 'i', {-1, -2, INT_MIN, -65536, -7, -100, -1000, -3, -4, -5, -6, -50}, 12},
    {AT(deadline_ms), 'l', {-1, -2, -1000, -9e18, -65536, -7, -1e6, -1e9, -1e12, -1e15, -3, -4}, 12},
    {AT(speculate), 'i', {-1, 1, 2, 64, 65, INT_MIN, INT_MAX, 4096, -65536, -7, 1 << 20, 100}, 12},
};

static void set_field(berth_request *r, const request_row *row, double value)
{
    char *at = (char *)r + row->offset;
    const int32_t i = row->type == 'i' ? (int32_t)value : 0;
    const int64_t l = row->type == 'l' ? (int64_t)value : 0;
    const float f = (float)value;
    if (row->type == 'i') memcpy(at, &i, sizeof i);
    if (row->type == 'l') memcpy(at, &l, sizeof l);
    if (row->type == 'f') memcpy(at, &f, sizeof f);
}

static void numbers_that_cannot_be_meant_are_refused_at_once(void **state)
{
    (void)state;
    static world w;
    make_world(&w);
    berth_error e;
    for (size_t i = 0; i < sizeof request_rows / sizeof request_rows[0]; i++) {
        for (int k = 0; k < request_rows[i].n; k++) {
            asking a;
            ask(&a, "?", 1);
            a.request.sample = 1;
            set_field(&a.request, &request_rows[i], request_rows[i].values[k]);
            berth_result r = {.struct_size = sizeof r};
            const berth_status run = berth_engine_run(w.alive[ENGINE], &a.request, &r, &e),
                               sub = berth_engine_submit(w.alive[ENGINE], &a.request, w.alive[QUEUE], NULL, NULL, &e),
                               sta = berth_engine_start(w.alive[ENGINE], &a.request, no_end, NULL, NULL, &e);
            if (!is_refused(run, &e) || !is_refused(sub, &e) || !is_refused(sta, &e))
                fail_msg("%s = %g: %s, %s, %s", request_rows[i].name, request_rows[i].values[k], berth_status_name(run),
                         berth_status_name(sub), berth_status_name(sta));
        }
    }
    berth_completion c = {.struct_size = sizeof c};
    must(berth_queue_next(w.alive[QUEUE], 0, &c, &e), &e, "next");
    assert_int_equal(c.kind, BERTH_COMPLETION_NONE);
    berth_model_close(w.spare);
    end_all(w.alive);
}

static void contents_that_cannot_be_are_refused_at_once(void **state)
{
    (void)state;
    static world w;
    make_world(&w);
    static char long_path[8192];
    memset(long_path, 'x', sizeof long_path - 1);
    static const char pixels[12];
    const berth_content rows[] = {
        {.kind = (berth_content_kind)-1, .data = "x", .size = 1},
        {.kind = (berth_content_kind)4, .data = "x", .size = 1},
        {.kind = (berth_content_kind)INT_MAX, .data = "x", .size = 1},
        {.kind = BERTH_CONTENT_TEXT, .data = NULL, .size = 1},
        {.kind = BERTH_CONTENT_TEXT, .data = "x", .size = SIZE_MAX},
        {.kind = BERTH_CONTENT_IMAGE_BYTES, .data = NULL, .size = 0},
        {.kind = BERTH_CONTENT_IMAGE_BYTES, .data = "x", .size = SIZE_MAX},
        {.kind = BERTH_CONTENT_IMAGE_FILE, .data = NULL},
        {.kind = BERTH_CONTENT_IMAGE_FILE, .data = long_path},
        {.kind = BERTH_CONTENT_PIXELS, .data = NULL, .size = 12, .width = 2, .height = 2},
        {.kind = BERTH_CONTENT_PIXELS, .data = pixels, .size = 12, .width = 0, .height = 2},
        {.kind = BERTH_CONTENT_PIXELS, .data = pixels, .size = 12, .width = 2, .height = -2},
        {.kind = BERTH_CONTENT_PIXELS, .data = pixels, .size = 11, .width = 2, .height = 2},
        {.kind = BERTH_CONTENT_PIXELS, .data = pixels, .size = 12, .width = INT_MAX, .height = INT_MAX},
        {.kind = BERTH_CONTENT_PIXELS, .data = pixels, .size = 12, .width = 65536, .height = 65536},
    };
    berth_error e;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        asking a;
        ask(&a, "?", 1);
        a.content[0] = rows[i];
        if (!is_refused(berth_engine_submit(w.alive[ENGINE], &a.request, w.alive[QUEUE], NULL, NULL, &e), &e))
            fail_msg("content %zu was taken", i);
    }
    asking a;
    ask(&a, "?", 1);
    a.turn.role = NULL;
    assert_true(is_refused(berth_engine_submit(w.alive[ENGINE], &a.request, w.alive[QUEUE], NULL, NULL, &e), &e));
    a.turn.role = "user";
    a.turn.n_content = -1;
    assert_true(is_refused(berth_engine_submit(w.alive[ENGINE], &a.request, w.alive[QUEUE], NULL, NULL, &e), &e));
    a.turn.n_content = 1;
    a.turn.content = NULL;
    assert_true(is_refused(berth_engine_submit(w.alive[ENGINE], &a.request, w.alive[QUEUE], NULL, NULL, &e), &e));
    a.request.turns = NULL;
    assert_true(is_refused(berth_engine_submit(w.alive[ENGINE], &a.request, w.alive[QUEUE], NULL, NULL, &e), &e));
    berth_model_close(w.spare);
    end_all(w.alive);
}

static void engine_options_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const berth_engine_options rows[] = {
        {.queue = -1},
        {.queue = INT_MAX},
        {.host_threads = -1},
        {.host_threads = 100000},
        {.order = (berth_start_order)2},
        {.order = (berth_start_order)-1},
        {.consumer_bytes = -1},
        {.consumer_bytes = INT64_MAX},
        {.transport = "pigeon"},
    };
    static world w;
    make_world(&w);
    berth_error e;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        berth_plan *plan = NULL;
        berth_engine *engine = (berth_engine *)&e;
        const berth_plan_options p = {.struct_size = sizeof p, .context = 64};
        must(berth_plan_create(w.alive[MODEL], &p, &plan, &e), &e, "plan");
        berth_engine_options o = rows[i];
        o.struct_size = sizeof o;
        if (!is_refused(berth_engine_create(plan, &o, &engine, &e), &e)) fail_msg("engine options %zu were taken", i);
        assert_null(engine);
        assert_int_equal(berth_plan_n_devices(plan), 0); /* it was the engine's, and is ended */
    }
    berth_model_close(w.spare);
    end_all(w.alive);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_function_refuses_what_is_no_handle),
        cmocka_unit_test(missing_outputs_are_refused),
        cmocka_unit_test(wrong_struct_sizes_are_refused),
        cmocka_unit_test(numbers_that_cannot_be_meant_are_refused_at_once),
        cmocka_unit_test(contents_that_cannot_be_are_refused_at_once),
        cmocka_unit_test(engine_options_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
