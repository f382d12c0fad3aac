/* plan_json.c - the plan as JSON and as text. The schema, with its version, is docs/plan-schema.md; change both together. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/buffer.h"

#define PLAN_SCHEMA "berth.plan/1"

static void put_string(berth_buffer *b, const char *key, const char *text)
{
    berth_buffer_printf(b, "\"%s\": ", key);
    berth_buffer_json_string(b, text, strlen(text));
}

static void put_device(berth_buffer *b, const berth_device *d, berth_dtype compute, const berth_device_bytes *n,
                       uint64_t token_bytes)
{
    berth_buffer_puts(b, "    {");
    put_string(b, "name", d->name);
    berth_buffer_printf(b,
                        ", \"n_cores\": %d, \"shares_cores\": %s, \"weight_bytes\": %" PRIu64 ", \"kv_bytes\": %" PRIu64
                        ", \"kv_bytes_per_token\": %" PRIu64 ", \"feature_bytes\": %" PRIu64
                        ", \"activation_bytes\": %" PRIu64 ", \"workspace_bytes\": %" PRIu64
                        ", \"total_bytes\": %" PRIu64 ", \"limit_bytes\": %" PRIu64 ", \"context_bytes\": %" PRIu64
                        ", \"token_weight_bytes\": %" PRIu64 ", ",
                        (int)d->n_cores, d->shares_cores ? "true" : "false", n->weights, n->kv, n->kv_per_token,
                        n->features, n->activations, n->workspace, n->total, n->limit, n->context, token_bytes);
    put_string(b, "profile", d->profile);
    berth_buffer_printf(b, ", \"dtype\": \"%s\"}", berth_dtype_name(compute));
}

/* One row an edge that is used. */
static void put_edge_rows(berth_buffer *b, const berth_plan *plan, const uint64_t *edges, const char *key)
{
    const int32_t n = plan->machine.n_devices + 1;
    berth_buffer_puts(b, "[");
    bool first = true;
    for (int32_t i = 0; i < n * n; i++) {
        if (edges[i] == 0) continue;
        const int32_t from = i / n, to = i % n;
        berth_buffer_printf(b, "%s{\"from\": \"%s\", \"to\": \"%s\", \"%s\": %" PRIu64 "}", first ? "" : ", ",
                            from == n - 1 ? "host" : plan->machine.devices[from].name,
                            to == n - 1 ? "host" : plan->machine.devices[to].name, key, edges[i]);
        first = false;
    }
    berth_buffer_puts(b, "]");
}

/* Bytes that copies move between memories for the program's largest pass, one row an edge. */
static void put_edges(berth_buffer *b, const berth_plan *plan, const berth_program *p)
{
    const int32_t n = plan->machine.n_devices + 1;
    uint64_t *edges = calloc((size_t)n * (size_t)n, sizeof *edges);
    if (edges == NULL) {
        b->failed = true;
        return;
    }
    berth_program_edges(p, &p->bounds, edges);
    put_edge_rows(b, plan, edges, "bytes_at_bounds");
    free(edges);
}

/* What a request moves, as berth_plan_edges says it: `"key": [edges]`. */
static void put_crossing(berth_buffer *b, const berth_plan *plan, int32_t r, const char *key, int32_t n_tiles,
                         int64_t n_prompt, int64_t n_new)
{
    const int32_t n = plan->machine.n_devices + 1;
    uint64_t *edges = calloc((size_t)n * (size_t)n, sizeof *edges);
    if (edges == NULL || berth_plan_edges(plan, r, n_tiles, n_prompt, n_new, edges, NULL) != BERTH_OK) {
        b->failed = true;
        free(edges);
        return;
    }
    berth_buffer_printf(b, ",\n     \"%s\": ", key);
    put_edge_rows(b, plan, edges, "bytes");
    free(edges);
}

static void put_program(berth_buffer *b, const berth_plan *plan, int32_t replica, const berth_program *p,
                        uint32_t flags)
{
    int32_t copies = 0;
    for (int32_t i = 0; i < p->n_ops; i++) copies += p->ops[i].kind == BERTH_OP_COPY;
    berth_buffer_printf(b, "{\"n_ops\": %d, \"n_copies\": %d, \"edges\": ", (int)p->n_ops, (int)copies);
    put_edges(b, plan, p);
    if (flags & BERTH_PLAN_WITH_PROGRAM) {
        const char *names[BERTH_MAX_DEVICES];
        const berth_pass_env env = berth_core_plan_env(plan->core, replica, names);
        berth_buffer_puts(b, ", \"program\": ");
        berth_program_json(p, &env, b);
    }
    berth_buffer_puts(b, "}");
}

static void put_replica(berth_buffer *b, const berth_plan *plan, int32_t r, uint32_t flags)
{
    char *map = berth_plan_device_map(plan, r);
    berth_buffer_puts(b, "    {\"device_map\": ");
    berth_buffer_puts(b, map != NULL ? map : "{}");
    if (map == NULL) b->failed = true;
    free(map);
    const berth_replica_plan *rp = &plan->core->replicas[r];
    const berth_plan_config *c = &plan->core->config;
    if (rp->encode != NULL) {
        berth_buffer_puts(b, ",\n     \"encode\": ");
        put_program(b, plan, r, rp->encode, flags);
    }
    berth_buffer_puts(b, ",\n     \"step\": ");
    put_program(b, plan, r, rp->step, flags);
    put_crossing(b, plan, r, "per_picture", berth_plan_image_tiles(plan), 0, 0);
    put_crossing(b, plan, r, "per_prompt", 0, c->chunk, 0);
    put_crossing(b, plan, r, "per_token", 0, 0, 1);
    berth_buffer_puts(b, "}");
}

char *berth_plan_json(const berth_plan *plan, uint32_t flags)
{
    if (!berth_handle_is(plan, BERTH_HANDLE_PLAN)) return NULL;
    const berth_core_plan *c = plan->core;
    berth_buffer b = {0};
    berth_buffer_puts(&b, "{\n  \"schema\": \"" PLAN_SCHEMA "\",\n  ");
    put_string(&b, "strategy", c->placement->strategy);
    berth_buffer_puts(&b, ", ");
    put_string(&b, "note", c->placement->note);
    berth_buffer_puts(&b, ", ");
    put_string(&b, "kernels", c->kernels->name);
    berth_buffer_printf(
        &b,
        ",\n  \"context\": %" PRId64 ", \"n_seqs\": %d, \"chunk\": %d, \"tiles\": %d, \"max_tiles\": %d, \"kv_block\": "
        "%d, \"kv_blocks\": %d, \"passes\": %d, \"draft\": %d,\n",
        c->config.context, (int)c->config.n_seqs, (int)c->config.chunk, (int)c->config.tiles, (int)c->config.max_tiles,
        (int)c->block, (int)c->n_blocks, (int)c->config.passes, (int)c->config.draft);
    const char *kind;
    int64_t room;
    const int32_t fullest = berth_plan_binds(plan, &kind, &room);
    berth_buffer_printf(&b, "  \"image_tiles\": %d, \"fits\": %s, \"missing_bytes\": %" PRIu64 ",\n  ",
                        (int)berth_plan_image_tiles(plan), c->fits ? "true" : "false", c->fits ? 0 : c->missing_bytes);
    put_string(&b, "refusal", berth_plan_refusal(plan));
    berth_buffer_printf(
        &b, ",\n  \"binds\": {\"device\": \"%s\", \"kind\": \"%s\", \"room_bytes\": %" PRId64 "},\n  \"devices\": [\n",
        plan->machine.devices[fullest].name, kind, room);
    for (int32_t d = 0; d < plan->machine.n_devices; d++) {
        put_device(&b, &plan->machine.devices[d], c->compute[d], &c->devices[d], c->token_bytes[d]);
        berth_buffer_puts(&b, d + 1 < plan->machine.n_devices ? ",\n" : "\n  ],\n  \"replicas\": [\n");
    }
    for (int32_t r = 0; r < c->placement->n_replicas; r++) {
        put_replica(&b, plan, r, flags);
        berth_buffer_puts(&b, r + 1 < c->placement->n_replicas ? ",\n" : "\n  ]\n}\n");
    }
    return berth_buffer_take(&b);
}

char *berth_plan_program_text(const berth_plan *plan, int32_t replica)
{
    if (!berth_handle_is(plan, BERTH_HANDLE_PLAN) || replica < 0 || replica >= berth_plan_n_replicas(plan)) return NULL;
    const char *names[BERTH_MAX_DEVICES];
    const berth_pass_env env = berth_core_plan_env(plan->core, replica, names);
    const berth_replica_plan *rp = &plan->core->replicas[replica];
    berth_buffer b = {0};
    if (rp->encode != NULL) berth_program_print(rp->encode, &env, &b);
    berth_program_print(rp->step, &env, &b);
    return berth_buffer_take(&b);
}

char *berth_plan_device_map(const berth_plan *plan, int32_t replica)
{
    if (!berth_handle_is(plan, BERTH_HANDLE_PLAN) || replica < 0 || replica >= berth_plan_n_replicas(plan)) return NULL;
    berth_error err = {0};
    berth_strategy_input in;
    if (berth_strategy_input_init(plan->model->data, &plan->machine, &plan->core->config, &in, &err) != BERTH_OK)
        return NULL;
    berth_buffer b = {0};
    berth_placement_to_map(plan->core->placement, &in, replica, &b);
    berth_strategy_input_deinit(&in);
    return berth_buffer_take(&b);
}
