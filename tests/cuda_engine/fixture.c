#include "fixture.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static emu_report_fn *report;
static emu_reset_fn *reset;
static emu_fail_after_fn *fail_after;

/* The emulator stays open to the end of the program: its state is the world that tests look at. */
static void find_emulator(void)
{
    if (reset) return;
    void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!lib) fail_msg("%s", dlerror());
    void *symbols[] = {dlsym(lib, "emu_get_report"), dlsym(lib, "emu_reset"), dlsym(lib, "emu_fail_after")};
    if (!symbols[0] || !symbols[1] || !symbols[2])
        fail_msg("libcuda.so.1 is not the emulated one; see LD_LIBRARY_PATH");
    memcpy(&report, &symbols[0], sizeof report);
    memcpy(&reset, &symbols[1], sizeof reset);
    memcpy(&fail_after, &symbols[2], sizeof fail_after);
}

void world_reset(const char *config)
{
    find_emulator();
    reset(config);
}

emu_report world_report(void)
{
    emu_report r;
    report(&r);
    return r;
}

void world_fail_after(uint64_t n, int code)
{
    fail_after(n, code);
}

void world_is_empty(const char *what)
{
    emu_report r = world_report();
    if (r.misuses) fail_msg("%s: %d misuses, the last: %s", what, (int)r.misuses, r.misuse);
    if (r.contexts + r.allocations + r.pinned + r.streams + r.events + r.modules + r.graphs)
        fail_msg("%s left %d contexts, %d allocations, %d pinned, %d streams, %d events, %d modules, %d graphs", what,
                 (int)r.contexts, (int)r.allocations, (int)r.pinned, (int)r.streams, (int)r.events, (int)r.modules,
                 (int)r.graphs);
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
