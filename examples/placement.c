/* placement.c - plans one model under several strategies, compares them without loading a weight, then runs the best.
 *
 *     cc placement.c -o placement $(pkg-config --cflags --libs berth)
 *     ./placement MODEL_DIR 'cpu*4/mem=8GiB' receipt.png 'What is the total?' sequential balanced optimal
 *
 * "Best" here: of the plans that fit, the one that leaves its fullest device most room; of equal ones, the one that moves
 * fewer bytes for the request. A service would weigh other things; every number it could want is in the plan. */
#include <berth/berth.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NEW_TOKENS = 64, PROMPT_TOKENS = 256 };

typedef struct candidate {
    const char *strategy;
    berth_plan *plan;     /* NULL = refused */
    int64_t room;         /* bytes left on the fullest device */
    uint64_t moved;       /* bytes between memories for one picture, its prompt and its answer */
    berth_status refusal; /* why there is no plan */
} candidate;

static berth_plan_options options_for(const char *devices, const char *strategy)
{
    return (berth_plan_options){.struct_size = sizeof(berth_plan_options), .devices = devices, .strategy = strategy};
}

/* Bytes that a request moves from one memory to another: the sum of the edges. */
static berth_status bytes_moved(const berth_plan *plan, uint64_t *out, berth_error *err)
{
    const size_t n = (size_t)berth_plan_n_devices(plan) + 1; /* the last row and column are the host */
    uint64_t *edges = calloc(n * n, sizeof *edges);
    if (edges == NULL) return BERTH_OUT_OF_MEMORY;
    berth_status st = berth_plan_edges(plan, 0, berth_plan_image_tiles(plan), PROMPT_TOKENS, NEW_TOKENS, edges, err);
    *out = 0;
    for (size_t i = 0; st == BERTH_OK && i < n * n; i++) *out += edges[i];
    free(edges);
    return st;
}

static void plan_one(const berth_model *model, const char *devices, candidate *c)
{
    berth_error err = {0};
    const berth_plan_options options = options_for(devices, c->strategy);
    c->refusal = berth_plan_create(model, &options, &c->plan, &err);
    if (c->refusal == BERTH_OK) c->refusal = bytes_moved(c->plan, &c->moved, &err);
    if (c->refusal != BERTH_OK) {
        printf("%-16s %s: %s\n", c->strategy, berth_status_name(c->refusal), err.message);
        berth_plan_destroy(c->plan);
        c->plan = NULL;
        return;
    }
    const char *kind = "";
    const int32_t binds = berth_plan_binds(c->plan, &kind, &c->room);
    printf("%-16s %s, device %" PRId32 " is fullest (%s), room %.1f MiB; a request moves %" PRIu64 " bytes\n",
           c->strategy, berth_plan_fits(c->plan, NULL, NULL) ? "fits" : "does not fit", binds, kind,
           (double)c->room / 1048576.0, c->moved);
}

static int is_better(const candidate *a, const candidate *b)
{
    if (a->plan == NULL || !berth_plan_fits(a->plan, NULL, NULL)) return 0;
    if (b == NULL || a->room != b->room) return b == NULL || a->room > b->room;
    return a->moved < b->moved;
}

/* Where everything lives under the plan that was chosen: a line a device, then the parts that are placed as a whole. */
static berth_status show(const berth_plan *plan, berth_error *err)
{
    for (int32_t d = 0; d < berth_plan_n_devices(plan); d++) {
        berth_plan_device device = {.struct_size = sizeof device};
        berth_status st = berth_plan_get_device(plan, d, &device, err);
        if (st != BERTH_OK) return st;
        printf("  %-8s %s: weights %.2f, kv %.2f, in all %.2f of %.2f MiB\n", device.name, device.dtype,
               (double)device.weights / 1048576.0, (double)device.kv / 1048576.0, (double)device.total / 1048576.0,
               (double)device.limit / 1048576.0);
    }
    for (int32_t m = 0; m < berth_plan_n_modules(plan); m++) {
        berth_plan_module module = {.struct_size = sizeof module};
        berth_status st = berth_plan_get_module(plan, m, &module, err);
        if (st != BERTH_OK) return st;
        if (module.is_unit) printf("  %-40s on %" PRId32 "\n", module.path, berth_plan_module_device(plan, 0, m));
    }
    return BERTH_OK;
}

/* Loads under the plan (the engine takes it) and answers one question. */
static berth_status run(berth_plan *take_plan, const char *picture, const char *question, berth_error *err)
{
    const berth_content content[] = {
        {.kind = BERTH_CONTENT_IMAGE_FILE, .data = picture},
        {.kind = BERTH_CONTENT_TEXT, .data = question, .size = strlen(question)},
    };
    const berth_turn turn = {.role = "user", .content = content, .n_content = 2};
    berth_engine *engine = NULL;
    berth_status st = berth_engine_create(take_plan, NULL, &engine, err);
    if (st != BERTH_OK) return st;
    berth_result result = {.struct_size = sizeof result};
    berth_request request;
    berth_request_init(&request);
    request.turns = &turn;
    request.n_turns = 1;
    request.max_new_tokens = NEW_TOKENS;
    st = berth_engine_run(engine, &request, &result, err);
    if (st == BERTH_OK) printf("%s\n", result.text);
    berth_result_deinit(&result);
    berth_engine_destroy(engine);
    return st;
}

static berth_status compare_and_run(const berth_model *model, int argc, char **argv, berth_error *err)
{
    const int n = argc - 5;
    candidate *all = calloc((size_t)n, sizeof *all);
    if (all == NULL) return BERTH_OUT_OF_MEMORY;
    candidate *best = NULL;
    for (int i = 0; i < n; i++) {
        all[i].strategy = argv[5 + i];
        plan_one(model, argv[2], &all[i]);
        if (is_better(&all[i], best)) best = &all[i];
    }
    berth_status st = BERTH_DOES_NOT_FIT;
    if (best == NULL) {
        snprintf(err->message, sizeof err->message, "none of the %d strategies fits %s", n, argv[2]);
    } else {
        berth_plan *chosen = best->plan;
        printf("chosen: %s\n", best->strategy);
        st = show(chosen, err);
        if (st == BERTH_OK) {
            best->plan = NULL; /* the engine's from here on, on failure too */
            st = run(chosen, argv[3], argv[4], err);
        }
    }
    for (int i = 0; i < n; i++) berth_plan_destroy(all[i].plan);
    free(all);
    return st;
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        fprintf(stderr, "usage: %s MODEL_DIR DEVICES PICTURE QUESTION STRATEGY...\n", argv[0]);
        return 2;
    }
    berth_error err = {0};
    berth_runtime *rt = NULL;
    berth_model *model = NULL;
    berth_status st = berth_runtime_create(NULL, &rt, &err);
    if (st == BERTH_OK) st = berth_model_open(rt, argv[1], NULL, &model, &err);
    if (st == BERTH_OK) st = compare_and_run(model, argc, argv, &err);
    if (st != BERTH_OK) fprintf(stderr, "%s: %s\n", berth_status_name(st), err.message);
    berth_model_close(model);
    berth_runtime_destroy(rt);
    return st == BERTH_OK ? 0 : 1;
}
