#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"

/* Stays open to the end of the program: its state is the world that tests look at. */
static emu_control emulator;

static const emu_control *control(void)
{
    if (!emulator.opened) emu_control_open(&emulator);
    return &emulator;
}

void world_reset(const char *config)
{
    control()->reset(config);
}

emu_report world_report(void)
{
    emu_report r;
    control()->report(&r);
    return r;
}

void world_fail_after(uint64_t n, int code)
{
    control()->fail_after(n, code);
}

void world_is_empty(const char *what)
{
    emu_control_tidy(control(), what);
}

void small_request_init(small_request *s, const golden_model *g, int32_t n_tiles, int32_t max_new)
{
    const golden_case *c = &g->cases[0];
    const int32_t most = (int32_t)(sizeof s->ids / sizeof s->ids[0]);
    int32_t n_left = n_tiles * berth_model_data_config(g->data)->vision.tokens_per_tile, n = 0;
    s->request = golden_request(c, max_new);
    for (int32_t i = 0; i < c->n_ids; i++) {
        if (c->ids[i] == GOLDEN_IMAGE_TOKEN && n_left-- <= 0) continue;
        assert_in_range(n, 0, most - 1);
        s->ids[n++] = c->ids[i];
    }
    s->request.ids = s->ids;
    s->request.n_ids = n;
    s->request.n_tiles = n_tiles;
    if (n_tiles > 0) return;
    s->request.image_token_id = -1;
    s->request.pixels = NULL;
}

enum { MOST_TOLD = sizeof((kept_answer *)0)->ids / sizeof(int32_t) };

void kept_answer_init(kept_answer *a, const golden_model *g)
{
    *a = (kept_answer){.vocab = berth_model_data_config(g->data)->text.vocab};
    a->logits = calloc((size_t)MOST_TOLD * (size_t)a->vocab, sizeof *a->logits);
    assert_non_null(a->logits);
}

void kept_answer_deinit(kept_answer *a)
{
    free(a->logits);
    *a = (kept_answer){0};
}

bool keep_answer(void *user, int32_t index, int32_t id, const float *logits)
{
    kept_answer *a = user;
    if (index < 0 || index >= MOST_TOLD) return false;
    memcpy(a->logits + (size_t)index * (size_t)a->vocab, logits, (size_t)a->vocab * sizeof *logits);
    a->ids[index] = id;
    a->n = index + 1;
    return true;
}

/* As golden_plan, where reading the device list may fail too. */
static berth_status plan(golden_engine *e, const golden_model *g, const asked *a, berth_error *err)
{
    const golden_case *c = &g->cases[a->which];
    berth_plan_config config = a->plan;
    *e = (golden_engine){0};
    if (config.context == 0) config.context = c->n_ids + c->n_greedy;
    berth_status st = berth_machine_parse(a->devices, &e->machine, err);
    if (st == BERTH_OK) st = berth_core_plan_create(g->data, &e->machine, a->strategy, NULL, 0, &config, &e->plan, err);
    return st;
}

static bool has_logits(void *user, int32_t index, int32_t id, const float *logits)
{
    (void)user;
    (void)index;
    return logits && logits[id] == logits[id];
}

static void begin(const asked *a, world_stage stage)
{
    if (a->out_calls) a->out_calls[stage] = world_report().calls;
    if (a->fails_after > 0 && stage == a->fails_in) world_fail_after(a->fails_after, a->fails_with);
}

/* A failure that did not come is for no other stage. */
static void end(const asked *a, world_stage stage)
{
    if (a->out_calls) a->out_calls[stage] = world_report().calls - a->out_calls[stage];
    if (a->fails_after > 0 && stage == a->fails_in) world_fail_after(0, 0);
}

static berth_status serve(const golden_engine *e, const golden_model *g, const asked *a, berth_core_result *out,
                          berth_error *err)
{
    const golden_case *c = &g->cases[a->which];
    berth_core_request q = a->request ? *a->request : golden_request(c, a->max_new ? a->max_new : c->n_greedy);
    q.wants_logits = a->logits;
    q.on_token = a->on_token ? a->on_token : a->logits ? has_logits : NULL;
    q.user = a->user;
    return berth_core_run(e->core, &q, out, err);
}

berth_status world_ask(const golden_model *g, const asked *a, berth_core_result *out, berth_error *err)
{
    golden_engine e;
    *out = (berth_core_result){0};
    begin(a, MAKING);
    berth_status st = plan(&e, g, a, err);
    const berth_core_options options = {.transport = a->transport, .time_copies = a->time_copies};
    if (st == BERTH_OK) st = golden_start(&e, &options, err);
    end(a, MAKING);
    begin(a, SERVING);
    if (st == BERTH_OK) st = serve(&e, g, a, out, err);
    end(a, SERVING);
    begin(a, ENDING);
    golden_stop(&e);
    end(a, ENDING);
    return st;
}

slice slice_of(int argc, char **argv)
{
    slice s = {0};
    if (argc == 2 && strcmp(argv[1], "all") == 0) return (slice){1, 1};
    if (argc == 5 && strcmp(argv[1], "every") == 0 && strcmp(argv[3], "from") == 0)
        s = (slice){strtoull(argv[2], NULL, 10), strtoull(argv[4], NULL, 10)};
    if (argc > 1 && (s.step == 0 || s.first == 0)) {
        fprintf(stderr, "usage: %s [all | every N from K], K from 1\n", argv[0]);
        exit(2);
    }
    return s;
}

void world_gives_golden(const golden_model *g, const asked *a)
{
    char what[256];
    berth_error err = {0};
    berth_core_result r;
    snprintf(what, sizeof what, "%s, case %d, %s, %s, %s", g->name, (int)a->which, a->devices,
             a->strategy ? a->strategy : "auto", a->transport ? a->transport : "auto");
    golden_must(world_ask(g, a, &r, &err), &err, what);
    const golden_case *c = &g->cases[a->which];
    int32_t n = a->max_new ? a->max_new : c->n_greedy;
    if (r.n_ids != n) fail_msg("%s: %d tokens, not %d", what, (int)r.n_ids, (int)n);
    for (int32_t i = 0; i < n; i++)
        if (r.ids[i] != c->greedy[i]) fail_msg("%s: token %d is %d, not %d", what, i, r.ids[i], c->greedy[i]);
    berth_core_result_deinit(&r);
    world_is_empty(what);
}
