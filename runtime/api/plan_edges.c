/* plan_edges.c - what a request will move between memories, and which kind of memory binds: read off the finished
 * programs, pass by pass as a session runs them (engine/session.c). */
#include <string.h>

#include "api/api.h"
#include "base/status.h"

static const berth_model_config *config_of(const berth_plan *plan)
{
    return berth_model_data_config(plan->model->data);
}

int32_t berth_plan_image_tiles(const berth_plan *plan)
{
    if (!berth_handle_is(plan, BERTH_HANDLE_PLAN) || !config_of(plan)->has_vision) return 0;
    const berth_preprocess_config *p = &config_of(plan)->preprocess;
    const int32_t whole = p->max_tiles + (p->thumbnail && p->max_tiles > 1);
    return whole < plan->core->config.max_tiles ? whole : plan->core->config.max_tiles;
}

int32_t berth_plan_chunk(const berth_plan *plan)
{
    return !berth_handle_is(plan, BERTH_HANDLE_PLAN) ? 0 : plan->core->config.chunk;
}

/* The copies of `times` such passes, added. */
static void add_pass(const berth_program *p, const berth_sizes *sizes, int64_t times, uint64_t *out)
{
    const size_t n = (size_t)p->n_devices + 1;
    for (int32_t i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind != BERTH_OP_COPY) continue;
        const berth_value *from = &p->values[p->ops[i].in[0]], *to = &p->values[p->ops[i].out];
        size_t bytes;
        if (!berth_value_bytes(to, sizes, &bytes)) continue; /* smaller than at the bounds, which were checked */
        const size_t row = from->device < 0 ? n - 1 : (size_t)from->device;
        const size_t column = to->device < 0 ? n - 1 : (size_t)to->device;
        out[row * n + column] += bytes * (uint64_t)times;
    }
}

static void add_encode(const berth_plan *plan, const berth_program *p, int32_t n_tiles, uint64_t *out)
{
    const int32_t most = plan->core->config.tiles;
    for (int32_t left = n_tiles; left > 0;) {
        const int32_t n = left < most ? left : most;
        berth_sizes sizes = p->bounds;
        sizes.value[BERTH_SYM_ONE] = 1;
        sizes.value[BERTH_SYM_TILES] = n;
        sizes.value[BERTH_SYM_FEATURES] = (int64_t)n * config_of(plan)->vision.tokens_per_tile;
        add_pass(p, &sizes, 1, out);
        left -= n;
    }
}

static void add_step(const berth_program *p, int64_t n_tokens, int64_t n_image_rows, int64_t n_logits, int64_t times,
                     uint64_t *out)
{
    berth_sizes sizes = p->bounds;
    sizes.value[BERTH_SYM_ONE] = 1;
    sizes.value[BERTH_SYM_SEQS] = 1;
    sizes.value[BERTH_SYM_TOKENS] = n_tokens;
    sizes.value[BERTH_SYM_IMAGE_ROWS] = n_image_rows;
    sizes.value[BERTH_SYM_LOGITS] = n_logits;
    sizes.value[BERTH_SYM_BEST] = 0; /* greedy */
    if (times > 0) add_pass(p, &sizes, times, out);
}

/* Rows of image features stand in several chunks; their copies are sums over rows, so it does not matter in which. */
static void add_prompt(const berth_plan *plan, const berth_program *p, int32_t n_tiles, int64_t n_prompt, uint64_t *out)
{
    if (n_prompt == 0) return;
    const berth_plan_config *c = &plan->core->config;
    const int64_t rows = config_of(plan)->has_vision ? (int64_t)n_tiles * config_of(plan)->vision.tokens_per_tile : 0;
    const int64_t n_full = (n_prompt - 1) / c->chunk, last = n_prompt - n_full * c->chunk;
    add_step(p, c->chunk, 0, c->trace ? c->chunk : 0, n_full, out);
    add_step(p, last, rows < n_prompt ? rows : n_prompt, c->trace ? last : 1, 1, out);
}

berth_status berth_plan_edges(const berth_plan *plan, int32_t replica, int32_t n_tiles, int64_t n_prompt, int64_t n_new,
                              uint64_t *out, berth_error *err)
{
    enum { MOST = 1 << 24 };
    if (!berth_handle_is(plan, BERTH_HANDLE_PLAN) || out == NULL || replica < 0 ||
        replica >= berth_plan_n_replicas(plan) || n_tiles < 0 || n_tiles > MOST || n_prompt < 0 || n_prompt > MOST ||
        n_new < 0 || n_new > MOST)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "berth_plan_edges: replica %d of %d, %d tiles, %lld and %lld tokens: out of range",
                          (int)replica, (int)berth_plan_n_replicas(plan), (int)n_tiles, (long long)n_prompt,
                          (long long)n_new);
    const berth_replica_plan *r = &plan->core->replicas[replica];
    const size_t n = (size_t)plan->machine.n_devices + 1;
    memset(out, 0, n * n * sizeof *out);
    if (r->encode != NULL) add_encode(plan, r->encode, n_tiles, out);
    add_prompt(plan, r->step, n_tiles, n_prompt, out);
    add_step(r->step, 1, 0, 1, n_new, out);
    return BERTH_OK;
}

int32_t berth_plan_binds(const berth_plan *plan, const char **out_kind, int64_t *out_room)
{
    if (!berth_handle_is(plan, BERTH_HANDLE_PLAN)) return -1;
    int32_t least = 0;
    int64_t room = INT64_MAX;
    for (int32_t d = 0; d < plan->machine.n_devices; d++) {
        const berth_device_bytes *b = &plan->core->devices[d];
        const int64_t left = b->total <= b->limit ? (int64_t)(b->limit - b->total) : -(int64_t)(b->total - b->limit);
        if (left >= room) continue;
        room = left;
        least = d;
    }
    const berth_device_bytes *b = &plan->core->devices[least];
    const struct {
        const char *name;
        uint64_t bytes;
    } kinds[] = {{"weights", b->weights},
                 {"kv", b->kv},
                 {"features", b->features},
                 {"activations", b->activations},
                 {"workspace", b->workspace}};
    size_t most = 0;
    for (size_t k = 1; k < sizeof kinds / sizeof kinds[0]; k++)
        if (kinds[k].bytes > kinds[most].bytes) most = k;
    if (out_kind != NULL) *out_kind = kinds[most].name;
    if (out_room != NULL) *out_room = room;
    return least;
}
