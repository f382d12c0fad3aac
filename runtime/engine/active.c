/* active.c - a request under way: what it is given when it starts, and its end. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/core.h"
#include "engine/rope.h"

/* ---- what it takes ---------------------------------------------------------------------------------------------- */

berth_needs berth_active_needs(const berth_core *core, const berth_core_request *q)
{
    const berth_plan_config *c = &core->plan->config;
    int64_t room = c->context - q->n_ids + 1;
    berth_needs n = {.limit = q->max_new < room ? q->max_new : (int32_t)room};
    n.rows = (int64_t)q->n_ids + n.limit + c->draft; /* the last token's own row is room for a guess */
    if (n.rows > c->context) n.rows = c->context;
    return n;
}

/* ---- its parts -------------------------------------------------------------------------------------------------- */

/* Which values the tap wants: asked once, so that a step asks nobody. Copies are the same bytes again, stores are no
 * values of one pass. */
static berth_status ask_tap(berth_active *a, int which, berth_error *err)
{
    const berth_tap *tap = a->request->tap;
    const berth_program *p = a->replica->passes[0].bound[which].program;
    if (!tap || !p) return BERTH_OK;
    a->wanted[which] = calloc((size_t)p->n_values + 1, 1);
    if (!a->wanted[which]) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "tap of %d values", (int)p->n_values);
    for (int32_t i = 0; i < p->n_values; i++)
        if (p->values[i].kind == BERTH_VALUE_ACTIVATION && p->values[i].origin < 0)
            a->wanted[which][i] = tap->want(tap->user, p->values[i].name);
    return BERTH_OK;
}

static berth_status make_sampler(berth_active *a, berth_error *err)
{
    const berth_core_request *q = a->request;
    if (!q->sampling.sample && q->sampling.repetition_penalty == 1.0f) return BERTH_OK;
    berth_status st = berth_sampler_create(&q->sampling, a->replica->core->config->text.vocab, &a->sampler, err);
    if (st != BERTH_OK || q->sampling.penalty_skips_prompt) return st;
    for (int32_t i = 0; i < q->n_ids; i++) berth_sampler_see(a->sampler, q->ids[i]);
    return BERTH_OK;
}

static berth_status allocate(berth_active *a, berth_error *err)
{
    const berth_core *core = a->replica->core;
    const berth_core_request *q = a->request;
    size_t units = (size_t)core->exec.n_units + 1, n = (size_t)q->n_ids + (size_t)a->limit, tiles = (size_t)q->n_tiles;
    size_t half = (size_t)core->config->text.head_dim / 2;
    a->ids = calloc(n + (size_t)core->plan->config.draft + 1, sizeof *a->ids);
    a->keys = calloc(n + 1, sizeof *a->keys);
    a->tile_blocks = calloc(tiles + 1, sizeof *a->tile_blocks);
    a->tile_state = calloc(tiles + 1, sizeof *a->tile_state);
    a->inv_freq = calloc(half + 1, sizeof *a->inv_freq);
    a->result.ids = calloc((size_t)a->limit + 1, sizeof *a->result.ids);
    a->result.edge_bytes = calloc(2 * units * units, sizeof *a->result.edge_bytes);
    a->result.edge_ns = a->result.edge_bytes ? a->result.edge_bytes + units * units : NULL;
    if (!a->ids || !a->keys || !a->tile_blocks || !a->tile_state || !a->inv_freq || !a->result.ids ||
        !a->result.edge_bytes)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a request of %zu tokens", n);
    memcpy(a->ids, q->ids, (size_t)q->n_ids * sizeof *a->ids);
    for (size_t i = 0; i < tiles; i++) a->tile_blocks[i] = -1;
    berth_rope_inv_freq(&core->config->text, q->n_ids, a->inv_freq);
    berth_status st = berth_block_table_init(&a->kv, &a->replica->kv, core->plan->config.context, err);
    if (st == BERTH_OK) st = berth_prefix_chain_init(&a->chain, &a->kv, a->inv_freq, half * sizeof *a->inv_freq, err);
    return st;
}

static berth_status make_keys(berth_active *a, berth_error *err)
{
    berth_core *core = a->replica->core;
    const berth_core_request *q = a->request;
    const berth_prefix_tokens tokens = {.ids = q->ids,
                                        .n = q->n_ids,
                                        .image_id = q->n_tiles > 0 ? q->image_token_id : -1,
                                        .tile_digests = q->tile_digests,
                                        .n_tiles = q->n_tiles,
                                        .tokens_per_tile =
                                            core->config->has_vision ? core->config->vision.tokens_per_tile : 0,
                                        .nonce = atomic_fetch_add(&core->nonce, 1)};
    return berth_prefix_keys(&tokens, a->keys, err);
}

/* ---- what is there already -------------------------------------------------------------------------------------- */

/* KV of rows past the model's positions is of its own frequencies with dynamic scaling: not for any other request. */
static bool may_keep(const berth_active *a)
{
    const berth_core *core = a->replica->core;
    const berth_text_config *text = &core->config->text;
    const berth_core_request *q = a->request;
    if (q->tap) return false;
    return text->rope_scaling != BERTH_ROPE_DYNAMIC || (int64_t)q->n_ids + a->limit <= text->max_positions;
}

static berth_status take_rows(berth_active *a, berth_error *err)
{
    berth_replica *r = a->replica;
    const berth_core_request *q = a->request;
    int64_t reused = 0;
    if (a->keeps && q->session) reused = berth_session_lend(q->session, a);
    if (a->shares && reused % r->kv.block == 0)
        reused = berth_prefix_match(&r->kv, &a->kv, &a->chain, a->keys, q->n_ids - 1);
    if (!berth_block_table_grow(&a->kv, &r->kv, a->most_rows))
        return BERTH_FAIL(err, BERTH_INTERNAL, "no KV blocks for %lld tokens, though they were counted",
                          (long long)a->most_rows);
    a->n_started = a->n_computed = reused;
    a->result.n_reused = (int32_t)reused;
    return BERTH_OK;
}

static bool has_pixels(const berth_core_request *q, int32_t tile)
{
    return q->tile_pixels ? q->tile_pixels[tile] != NULL : q->pixels != NULL;
}

/* They were left out as its session held their KV, on a replica that is lost since. */
static berth_status fail_without_pixels(const berth_active *a, berth_error *err)
{
    berth_status st = berth_lost_error(a->replica->core, err);
    berth_error_append(err, "; this session's pictures were lost with it: submit the request again");
    return st;
}

/* A place in the feature store for every tile whose tokens are to be computed; a known one where there is one. */
static berth_status take_tiles(berth_active *a, berth_error *err)
{
    berth_replica *r = a->replica;
    const berth_core_request *q = a->request;
    int64_t before = q->n_tiles > 0 ? berth_count_id(a->ids, a->n_computed, q->image_token_id) : 0;
    int32_t first = q->n_tiles > 0 ? (int32_t)(before / r->features.block) : 0;
    for (int32_t t = first; t < q->n_tiles; t++) {
        int32_t known = a->shares && q->tile_digests ? berth_blocks_find(&r->features, q->tile_digests[t]) : -1;
        a->tile_blocks[t] = known >= 0 ? known : berth_blocks_take(&r->features);
        a->tile_state[t] = known >= 0 ? BERTH_TILE_DONE : BERTH_TILE_WANTED;
        if (known < 0 && !has_pixels(q, t) && berth_core_n_living(r->core) < r->core->n_replicas)
            return fail_without_pixels(a, err);
        if (a->tile_blocks[t] < 0 || (known < 0 && !has_pixels(q, t)))
            return BERTH_FAIL(err, BERTH_INTERNAL, "image tile %d has no %s", (int)t,
                              a->tile_blocks[t] < 0 ? "room in the feature store" : "pixels");
        a->n_tiles_left += known < 0;
        berth_count(&r->n_tiles_reused, known >= 0);
    }
    return BERTH_OK;
}

berth_status berth_active_create(berth_replica *r, berth_job *job, berth_active **out, berth_error *err)
{
    *out = NULL;
    berth_active *a = calloc(1, sizeof *a);
    if (!a) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a request");
    *out = a;
    const berth_needs needs = berth_active_needs(r->core, job->request);
    *a = (berth_active){.replica = r,
                        .job = job,
                        .request = job->request,
                        .limit = needs.limit,
                        .most_rows = needs.rows,
                        .n_known = job->request->n_ids,
                        .result = {.replica = r->index, .finish = BERTH_FINISH_LENGTH},
                        .started_ns = berth_now_ns()};
    a->result.timing.queue_ns = a->started_ns - job->submitted_ns;
    a->keeps = may_keep(a);
    a->shares = a->keeps && !r->core->options.no_prefix_cache && !job->request->no_prefix_cache;
    berth_status st = allocate(a, err);
    if (st == BERTH_OK) st = make_keys(a, err);
    if (st == BERTH_OK) st = make_sampler(a, err);
    if (st == BERTH_OK) st = ask_tap(a, BERTH_ENCODE, err);
    if (st == BERTH_OK) st = ask_tap(a, BERTH_STEP, err);
    if (st == BERTH_OK) st = take_rows(a, err);
    if (st == BERTH_OK) st = take_tiles(a, err);
    if (st != BERTH_OK) return st;
    berth_count(&r->n_prompt_tokens, a->request->n_ids);
    berth_count(&r->n_reused_tokens, a->n_computed);
    a->phase = a->n_tiles_left > 0 ? BERTH_PHASE_ENCODE : BERTH_PHASE_PREFILL;
    a->encoded_ns = a->started_ns;
    return BERTH_OK;
}

/* ---- its end ---------------------------------------------------------------------------------------------------- */

void berth_active_fail(berth_active *a, berth_status st, const berth_error *why)
{
    if (a->status == BERTH_OK) {
        a->status = st;
        a->error = *why;
    }
    a->phase = BERTH_PHASE_OVER;
}

void berth_active_finish(berth_active *a, berth_finish finish)
{
    if (a->phase == BERTH_PHASE_OVER) return;
    a->result.finish = finish;
    a->phase = BERTH_PHASE_OVER;
}

bool berth_active_is_stop(const berth_active *a, int32_t id)
{
    const berth_core_request *q = a->request;
    for (int32_t i = 0; i < q->n_stop; i++)
        if (q->stop_ids[i] == id) return true;
    return false;
}

static void give_back(berth_active *a)
{
    berth_replica *r = a->replica;
    if (a->kv.blocks) berth_block_table_give_back(&a->kv, &r->kv);
    for (int32_t t = 0; a->tile_blocks && t < a->request->n_tiles; t++)
        if (a->tile_state && a->tile_state[t] != BERTH_TILE_UNUSED && a->tile_blocks[t] >= 0)
            berth_blocks_release(&r->features, a->tile_blocks[t]);
    berth_block_table_deinit(&a->kv);
    berth_prefix_chain_deinit(&a->chain);
    berth_sampler_destroy(a->sampler);
    free(a->ids);
    free(a->keys);
    free(a->tile_blocks);
    free(a->tile_state);
    free(a->inv_freq);
    free(a->wanted[BERTH_ENCODE]);
    free(a->wanted[BERTH_STEP]);
}

static void note_times(berth_active *a)
{
    berth_core_timing *t = &a->result.timing;
    int64_t now = berth_now_ns(), encoded = a->encoded_ns, prefilled = a->prefilled_ns;
    t->encode_ns = encoded - a->started_ns;
    if (t->project_ns > t->encode_ns) t->project_ns = t->encode_ns; /* it ended while its tiles were under way */
    if (prefilled) t->prefill_ns = prefilled - encoded;
    if (prefilled) t->decode_ns = now - prefilled;
    t->total_ns = now - a->job->submitted_ns;
}

void berth_active_end(berth_active *a)
{
    berth_replica *r = a->replica;
    const berth_core_request *q = a->request;
    berth_core_result result = {0};
    note_times(a);
    if (a->status == BERTH_OK)
        result = a->result;
    else
        berth_core_result_deinit(&a->result);
    if (q->session) berth_session_take_back(q->session, a);
    give_back(a);
    berth_replica_count_end(r, a->job);
    q->on_end(q->user, a->status, &result, &a->error);
    free(a);
}

bool berth_active_may_move(const berth_active *a)
{
    const berth_core *core = a->replica->core;
    if (a->status != BERTH_DEVICE_LOST || a->job->has_moved || a->request->tap) return false;
    return a->result.n_ids == 0 && berth_core_n_living(core) > 0;
}

void berth_active_move(berth_active *a)
{
    berth_core *core = a->replica->core;
    berth_core_result_deinit(&a->result);
    give_back(a);
    berth_job_queue_put_back(&core->queue, a->job);
    berth_core_wake(core);
    free(a);
}
