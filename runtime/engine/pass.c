/* pass.c - one pass in flight: which tiles or rows of which requests it carries, and its way over the lanes.
 *
 * A pass has memory of its own for inputs, activations and outputs, so several are under way over the stages at once.
 * Filling and starting allocate nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/nvtx.h"
#include "engine/core.h"

static size_t n_edges(const berth_core *core)
{
    size_t n = (size_t)core->exec.n_units + 1;
    return n * n;
}

berth_status berth_pass_init(berth_pass *p, berth_replica *r, berth_error *err)
{
    const berth_plan_config *c = &r->core->plan->config;
    size_t n_seqs = (size_t)c->n_seqs, n_items = c->tiles > c->n_seqs ? (size_t)c->tiles : n_seqs;
    p->replica = r;
    p->edge_bytes = calloc(2 * n_edges(r->core), sizeof *p->edge_bytes);
    p->items = calloc(n_items, sizeof *p->items);
    p->batch = calloc(n_seqs, sizeof *p->batch);
    p->tables = calloc(n_seqs, sizeof *p->tables);
    if (!p->edge_bytes || !p->items || !p->batch || !p->tables)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a pass of %zu sequences", n_seqs);
    const berth_replica_plan *plan = &r->core->plan->replicas[r->index];
    uint64_t lanes = berth_program_lanes(plan->encode) | berth_program_lanes(plan->step);
    return berth_run_create(&r->core->exec, lanes, &p->run, err);
}

void berth_pass_deinit(berth_pass *p)
{
    berth_run_destroy(p->run);
    berth_bound_deinit(&p->bound[BERTH_ENCODE]);
    berth_bound_deinit(&p->bound[BERTH_STEP]);
    free(p->edge_bytes);
    free(p->items);
    free(p->batch);
    free(p->tables);
}

/* ---- filling ---------------------------------------------------------------------------------------------------- */

void berth_pass_begin(berth_pass *p, int which)
{
    p->which = which;
    p->n_items = p->n_units = 0;
}

static const float *pixels_of(const berth_core *core, const berth_core_request *q, int32_t tile)
{
    size_t side = (size_t)core->config->vision.image_size;
    return q->tile_pixels ? q->tile_pixels[tile] : q->pixels + (size_t)tile * 3 * side * side;
}

void berth_pass_add_tile(berth_pass *p, berth_active *a, int32_t tile)
{
    const berth_core *core = p->replica->core;
    const berth_vision_config *v = &core->config->vision;
    size_t n = (size_t)3 * (size_t)v->image_size * (size_t)v->image_size, at = (size_t)p->n_items;
    memcpy(p->pixels + at * n, pixels_of(core, a->request, tile), n * sizeof(float));
    for (int32_t i = 0; i < v->tokens_per_tile; i++)
        p->feature_rows[at * (size_t)v->tokens_per_tile + (size_t)i] = a->tile_blocks[tile] * v->tokens_per_tile + i;
    p->items[p->n_items++] = (berth_pass_item){.who = a, .tile = tile, .n = 1};
    p->n_units++;
}

/* Rows whose token a sampler chooses: the decode's, or the prompt's last. A token that is forced is chosen already. */
static int32_t count_best(const berth_active *a, int32_t n_logits)
{
    if (!a->sampler || !berth_sampler_wants_best(a->sampler) || n_logits == 0) return 0;
    int32_t n = a->phase == BERTH_PHASE_DECODE ? n_logits : 1;
    return a->result.n_ids + n > a->request->n_forced ? n : 0;
}

void berth_pass_add_rows(berth_pass *p, berth_active *a, int64_t first, int32_t n, berth_want_logits logits)
{
    const berth_core_request *q = a->request;
    int32_t image = q->n_tiles > 0 && first < q->n_ids ? q->image_token_id : -1;
    int32_t i = p->n_items;
    int32_t n_logits = logits == BERTH_LOGITS_ALL ? n : logits == BERTH_LOGITS_LAST ? 1 : 0;
    int32_t n_best = count_best(a, n_logits);
    p->tables[i] = (berth_block_table){
        .blocks = a->tile_blocks, .n_blocks = q->n_tiles, .cap = q->n_tiles, .block = p->replica->features.block};
    p->batch[i] = (berth_batch_item){.ids = a->ids + first,
                                     .n_tokens = n,
                                     .position = first,
                                     .kv = &a->kv,
                                     .inv_freq = a->inv_freq,
                                     .image_token_id = image,
                                     .features = &p->tables[i],
                                     .first_feature = image >= 0 ? berth_count_id(a->ids, first, image) : 0,
                                     .logits = logits,
                                     .n_best = n_best,
                                     .best_scale = n_best > 0 ? berth_sampler_scale(a->sampler) : 0};
    p->items[i] = (berth_pass_item){.who = a, .first = first, .n = n, .n_logits = n_logits, .n_best = n_best};
    p->n_items++;
    p->n_units += n;
}

/* ---- on its way ------------------------------------------------------------------------------------------------- */

static berth_status sizes_of(berth_pass *p, berth_sizes *out, berth_error *err)
{
    if (p->which == BERTH_STEP) return berth_batch_fill(&p->inputs, p->batch, p->n_items, out, err);
    *out = p->bound[BERTH_ENCODE].program->bounds;
    out->value[BERTH_SYM_ONE] = 1;
    out->value[BERTH_SYM_TILES] = p->n_items;
    out->value[BERTH_SYM_FEATURES] = (int64_t)p->n_items * p->replica->core->config->vision.tokens_per_tile;
    return BERTH_OK;
}

/* "step, 40 tokens, requests 12 15": requests are counted from 1 as they are submitted. */
static void tell_tools(berth_pass *p)
{
    size_t room = sizeof p->label;
    int at = snprintf(p->label, room, "%s, %d %s, requests", p->which == BERTH_ENCODE ? "encode" : "step",
                      (int)p->n_units, p->which == BERTH_ENCODE ? "tiles" : "tokens");
    for (int32_t i = 0; i < p->n_items && at >= 0 && (size_t)at < room; i++) {
        const berth_job *job = p->items[i].who->job;
        if (i > 0 && p->items[i - 1].who->job == job) continue;
        at += snprintf(p->label + at, room - (size_t)at, " %llu", (unsigned long long)berth_job_number(job));
    }
    p->range = berth_nvtx_start(p->label);
}

static void note_start(berth_pass *p)
{
    p->in_flight = true;
    p->order = ++p->replica->n_started;
    p->replica->n_flying++;
    for (int32_t i = 0; i < p->n_items; i++) {
        berth_active *a = p->items[i].who;
        a->n_flying++;
        a->newest = p;
        if (p->which == BERTH_STEP)
            a->n_started += p->items[i].n;
        else
            a->tile_state[p->items[i].tile] = BERTH_TILE_FLYING;
    }
}

berth_status berth_pass_start(berth_pass *p, const berth_pass *after, const berth_watch *watch, berth_error *err)
{
    berth_sizes sizes;
    const size_t n = n_edges(p->replica->core);
    memset(p->edge_bytes, 0, 2 * n * sizeof *p->edge_bytes);
    if (watch) p->watch = *watch;
    const berth_run_options options = {.watch = watch ? &p->watch : NULL,
                                       .edge_bytes = p->edge_bytes,
                                       .edge_ns = p->edge_bytes + n,
                                       .after = after ? after->run : NULL,
                                       .notify = &p->replica->wake,
                                       .label = p->replica->core->tells_tools ? p->label : NULL,
                                       .mark = p->which == BERTH_ENCODE ? p->tower_end + 1 : 0};
    berth_status st = sizes_of(p, &sizes, err);
    if (p->replica->core->tells_tools) tell_tools(p);
    if (st == BERTH_OK) st = berth_run_start(p->run, &p->bound[p->which], &sizes, &options, err);
    p->after = after;
    p->after_order = after ? after->order : 0;
    if (st == BERTH_OK)
        note_start(p);
    else if (p->replica->core->tells_tools)
        berth_nvtx_end(p->range);
    return st;
}

/* Each request's part of the bytes and times, by its tiles or tokens; what does not divide goes to the last. */
static void share_out_edges(const berth_pass *p)
{
    size_t n = 2 * n_edges(p->replica->core);
    for (size_t e = 0; e < n; e++) {
        uint64_t total = p->edge_bytes[e], given = 0;
        if (total == 0) continue;
        int64_t units = 0;
        for (int32_t i = 0; i < p->n_items; i++) {
            units += p->items[i].n;
            uint64_t upto = (uint64_t)((double)total * (double)units / (double)p->n_units);
            if (i + 1 == p->n_items) upto = total;
            p->items[i].who->result.edge_bytes[e] += upto - given;
            given = upto;
        }
    }
}

berth_status berth_pass_finish(berth_pass *p, berth_error *err)
{
    berth_replica *r = p->replica;
    berth_status st = berth_run_finish(p->run, err);
    if (r->core->tells_tools) berth_nvtx_end(p->range);
    p->in_flight = false;
    r->n_flying--;
    for (int32_t i = 0; i < p->n_items; i++) {
        p->items[i].who->n_flying--;
        p->items[i].who->n_passes[p->which]++;
    }
    berth_count(p->which == BERTH_ENCODE ? &r->n_encode_passes : &r->n_step_passes, 1);
    share_out_edges(p);
    return st;
}
