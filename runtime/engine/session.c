#include "engine/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/rope.h"

enum { ENCODE, STEP };

/* ---- life ------------------------------------------------------------------------------------------------------- */

/* Which values the tap wants: asked once, so that a step asks nobody. Copies are the same bytes again, stores are no
 * values of one pass. */
static berth_status ask_tap(berth_session *s, int which, const berth_bound *b, berth_error *err)
{
    const berth_tap *tap = s->request->tap;
    const berth_program *p = b->program;
    if (!tap || !p) return BERTH_OK;
    s->wanted[which] = calloc((size_t)p->n_values + 1, 1);
    if (!s->wanted[which]) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "tap of %d values", (int)p->n_values);
    for (int32_t i = 0; i < p->n_values; i++)
        if (p->values[i].kind == BERTH_VALUE_ACTIVATION && p->values[i].origin < 0)
            s->wanted[which][i] = tap->want(tap->user, p->values[i].name);
    return BERTH_OK;
}

static berth_status make_sampler(berth_session *s, berth_error *err)
{
    const berth_core_request *q = s->request;
    berth_status st = berth_sampler_create(&q->sampling, s->config->text.vocab, &s->sampler, err);
    if (st != BERTH_OK || q->sampling.penalty_skips_prompt) return st;
    for (int32_t i = 0; i < q->n_ids; i++) berth_sampler_see(s->sampler, q->ids[i]);
    return BERTH_OK;
}

berth_status berth_session_init(berth_session *s, berth_core *core, berth_replica *replica,
                                const berth_core_request *request, berth_error *err)
{
    *s = (berth_session){.core = core, .replica = replica, .request = request};
    s->config = berth_model_data_config(core->plan->model);
    s->inv_freq = calloc((size_t)s->config->text.head_dim / 2 + 1, sizeof *s->inv_freq);
    if (!s->inv_freq) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a session");
    int64_t n_rows = (int64_t)request->n_tiles * replica->features.block;
    berth_status st = berth_block_table_init(&s->kv, &replica->kv, core->plan->config.context, err);
    if (st == BERTH_OK) st = berth_block_table_init(&s->features, &replica->features, n_rows, err);
    if (st == BERTH_OK) st = make_sampler(s, err);
    if (st == BERTH_OK) st = ask_tap(s, ENCODE, &replica->encode, err);
    if (st == BERTH_OK) st = ask_tap(s, STEP, &replica->step, err);
    if (st != BERTH_OK) return st;
    if (!berth_block_table_grow(&s->features, &replica->features, n_rows))
        return BERTH_FAIL(err, BERTH_BUSY, "no room for %d image tiles in the feature store", (int)request->n_tiles);
    return BERTH_OK;
}

void berth_session_deinit(berth_session *s)
{
    if (s->kv.blocks) berth_block_table_give_back(&s->kv, &s->replica->kv);
    if (s->features.blocks) berth_block_table_give_back(&s->features, &s->replica->features);
    berth_block_table_deinit(&s->kv);
    berth_block_table_deinit(&s->features);
    berth_sampler_destroy(s->sampler);
    free(s->inv_freq);
    free(s->wanted[ENCODE]);
    free(s->wanted[STEP]);
}

/* ---- passes ----------------------------------------------------------------------------------------------------- */

static void tap_see(void *user, const berth_bound *b, int32_t op, const berth_op_call *call)
{
    berth_session *s = user;
    int which = b == &s->replica->encode ? ENCODE : STEP;
    int32_t v = b->program->ops[op].out;
    const berth_tap *tap = s->request->tap;
    if (s->wanted[which][v])
        tap->see(tap->user, b->program->name, b->program->values[v].name, s->pass[which], &call->out);
}

static berth_status run_pass(berth_session *s, int which, const berth_sizes *sizes, const berth_watch *watch,
                             berth_error *err)
{
    const berth_bound *b = which == ENCODE ? &s->replica->encode : &s->replica->step;
    const berth_watch tap = {.see = tap_see, .user = s};
    bool is_diagnosis = watch != NULL;
    if (!watch && s->request->tap) watch = &tap;
    berth_status st = berth_run_program(s->replica->run, b, sizes, watch, s->edge_bytes, err);
    if (!is_diagnosis) s->pass[which]++;
    return st;
}

berth_status berth_session_may_go_on(const berth_session *s, berth_error *err)
{
    if (berth_job_cancelled(s->job)) return BERTH_FAIL(err, BERTH_CANCELLED, "the request was cancelled");
    if (berth_job_expired(s->job, berth_now_ns())) return BERTH_FAIL(err, BERTH_DEADLINE, "the deadline has passed");
    return BERTH_OK;
}

berth_status berth_session_encode(berth_session *s, const berth_watch *watch, berth_error *err)
{
    const berth_core_request *q = s->request;
    const berth_replica *r = s->replica;
    if (q->n_tiles == 0) return BERTH_OK;
    const berth_vision_config *v = &s->config->vision;
    size_t tile = (size_t)3 * (size_t)v->image_size * (size_t)v->image_size;
    for (int32_t first = 0; first < q->n_tiles;) {
        int32_t n = q->n_tiles - first, most = s->core->plan->config.tiles;
        if (n > most) n = most;
        berth_status st = berth_session_may_go_on(s, err);
        if (st != BERTH_OK) return st;
        memcpy(r->pixels, q->pixels + (size_t)first * tile, (size_t)n * tile * sizeof(float));
        for (int32_t i = 0; i < n * v->tokens_per_tile; i++)
            r->feature_rows[i] = berth_block_table_slot(&s->features, (int64_t)first * v->tokens_per_tile + i);
        berth_sizes sizes = r->encode.program->bounds;
        sizes.value[BERTH_SYM_ONE] = 1;
        sizes.value[BERTH_SYM_TILES] = n;
        sizes.value[BERTH_SYM_FEATURES] = (int64_t)n * v->tokens_per_tile;
        st = run_pass(s, ENCODE, &sizes, watch, err);
        if (st != BERTH_OK) return st;
        first += n;
    }
    return BERTH_OK;
}

/* Tokens of this session alone in one step. */
static berth_status step(berth_session *s, const int32_t *ids, int32_t n, int64_t position, berth_want_logits logits,
                         const berth_watch *watch, berth_error *err)
{
    const berth_core_request *q = s->request;
    if (!berth_block_table_grow(&s->kv, &s->replica->kv, position + n))
        return BERTH_FAIL(err, BERTH_BUSY, "no KV blocks for token %lld", (long long)(position + n));
    int64_t before = position < q->n_ids ? position : q->n_ids;
    int32_t image = q->n_tiles > 0 ? q->image_token_id : -1;
    berth_batch_item item = {.ids = ids,
                             .n_tokens = n,
                             .position = position,
                             .kv = &s->kv,
                             .inv_freq = s->inv_freq,
                             .image_token_id = position < q->n_ids ? image : -1,
                             .features = &s->features,
                             .first_feature = image >= 0 ? berth_count_id(q->ids, before, image) : 0,
                             .logits = logits};
    berth_sizes sizes;
    berth_status st = berth_batch_fill(&s->replica->inputs, &item, 1, &sizes, err);
    if (st != BERTH_OK) return st;
    s->n_logits = (int32_t)sizes.value[BERTH_SYM_LOGITS];
    return run_pass(s, STEP, &sizes, watch, err);
}

berth_status berth_session_prefill(berth_session *s, const berth_watch *watch, berth_error *err)
{
    const berth_core_request *q = s->request;
    const berth_plan_config *c = &s->core->plan->config;
    berth_rope_inv_freq(&s->config->text, q->n_ids, s->inv_freq);
    for (int32_t first = 0; first < q->n_ids;) {
        int32_t n = q->n_ids - first < c->chunk ? q->n_ids - first : c->chunk;
        bool is_last = first + n == q->n_ids;
        berth_want_logits logits = c->trace ? BERTH_LOGITS_ALL : is_last ? BERTH_LOGITS_LAST : BERTH_LOGITS_NONE;
        berth_status st = berth_session_may_go_on(s, err);
        if (st == BERTH_OK) st = step(s, q->ids + first, n, first, logits, watch, err);
        if (st != BERTH_OK) return st;
        first += n;
    }
    return BERTH_OK;
}

berth_status berth_session_decode(berth_session *s, int32_t id, int64_t position, const berth_watch *watch,
                                  berth_error *err)
{
    const berth_text_config *text = &s->config->text;
    if (text->rope_scaling == BERTH_ROPE_DYNAMIC && position + 1 > text->max_positions)
        berth_rope_inv_freq(text, position + 1, s->inv_freq);
    return step(s, &id, 1, position, BERTH_LOGITS_LAST, watch, err);
}

const float *berth_session_logits(const berth_session *s)
{
    return s->replica->logits + (size_t)(s->n_logits - 1) * (size_t)s->config->text.vocab;
}

int32_t berth_session_argmax(const berth_session *s)
{
    return (int32_t)s->replica->stats[(size_t)(s->n_logits - 1) * BERTH_LOGIT_STATS + BERTH_STAT_ARGMAX];
}
