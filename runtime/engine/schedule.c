/* schedule.c - who is carried by the next pass.
 *
 * Rules, in this order:
 *   - a request with a tap goes alone;
 *   - tiles to encode and tokens take turns, where both wait, and at most one encode pass is in flight: a picture holds
 *     up another's next token by one encode pass and no more;
 *   - a step carries decode rows first: of those that are ready at most their share, total / passes, so that with
 *     several passes in flight every stage has one (nobody is asked whether it is a pipeline). Who was left out goes
 *     first next time;
 *   - what room is left in the step goes to prompts, oldest first, at most what waits / passes: so a long prompt costs the others a longer step, never
 *     a missed one. A prompt's next chunk may follow its last one through the stages.
 * Decides from what stands in the replica; touches no device. */
#include "engine/core.h"
#include "engine/rope.h"

enum { LEAST_PROMPT = 32 }; /* tokens: a pass for fewer costs more than it hides */

static bool goes_alone(const berth_active *a)
{
    return a->request->tap != NULL;
}

static berth_active *find_lone(const berth_replica *r)
{
    for (int32_t i = 0; i < r->n_actives; i++)
        if (goes_alone(r->actives[i]) && r->actives[i]->phase != BERTH_PHASE_OVER) return r->actives[i];
    return NULL;
}

/* ---- pictures --------------------------------------------------------------------------------------------------- */

static bool add_tiles(berth_replica *r, berth_pass *p, const berth_active *only)
{
    int32_t most = r->core->plan->config.tiles;
    berth_pass_begin(p, BERTH_ENCODE);
    for (int32_t i = 0; i < r->n_actives && p->n_items < most; i++) {
        berth_active *a = r->actives[i];
        if (a->phase != BERTH_PHASE_ENCODE || (only && a != only)) continue;
        for (int32_t t = 0; t < a->request->n_tiles && p->n_items < most; t++)
            if (a->tile_state[t] == BERTH_TILE_WANTED) berth_pass_add_tile(p, a, t);
    }
    return p->n_items > 0;
}

static bool encode_in_flight(const berth_replica *r)
{
    for (int32_t i = 0; i < r->n_passes; i++)
        if (r->passes[i].in_flight && r->passes[i].which == BERTH_ENCODE) return true;
    return false;
}

/* ---- tokens ----------------------------------------------------------------------------------------------------- */

static void guess(berth_active *a)
{
    const berth_core *core = a->replica->core;
    const berth_text_config *text = &core->config->text;
    int32_t most = a->request->speculate, left = a->limit - a->result.n_ids - 1;
    if (most > core->plan->config.draft) most = core->plan->config.draft;
    if (most > left) most = left;
    if (a->n_known + most > a->most_rows) most = (int32_t)(a->most_rows - a->n_known);
    /* beyond, every position has frequencies of its own */
    if (text->rope_scaling == BERTH_ROPE_DYNAMIC && a->n_known + most > text->max_positions) most = 0;
    a->n_draft = most > 0 ? berth_draft(a->ids, a->n_known, most, a->ids + a->n_known) : 0;
}

static void add_decode(berth_pass *p, berth_active *a)
{
    const berth_text_config *text = &a->replica->core->config->text;
    if (text->rope_scaling == BERTH_ROPE_DYNAMIC && a->n_known > text->max_positions)
        berth_rope_inv_freq(text, a->n_known, a->inv_freq);
    if (a->request->speculate > 0) guess(a);
    berth_pass_add_rows(p, a, a->n_computed, 1 + a->n_draft, a->n_draft > 0 ? BERTH_LOGITS_ALL : BERTH_LOGITS_LAST);
}

static void add_decodes(berth_replica *r, berth_pass *p)
{
    int32_t n_decoding = 0;
    for (int32_t i = 0; i < r->n_actives; i++) n_decoding += r->actives[i]->phase == BERTH_PHASE_DECODE;
    int32_t share = (n_decoding + r->n_passes - 1) / r->n_passes, first = r->turn;
    for (int32_t k = 0; k < r->n_actives && p->n_items < share; k++) {
        int32_t i = (first + k) % r->n_actives;
        berth_active *a = r->actives[i];
        if (a->phase != BERTH_PHASE_DECODE || a->n_flying > 0) continue;
        add_decode(p, a);
        r->turn = (i + 1) % r->n_actives;
    }
}

/* Prompt tokens for one pass: what waits is shared out too, or all of it would go through the stages as one. */
static int32_t prompt_share(const berth_replica *r)
{
    int64_t left = 0;
    for (int32_t i = 0; i < r->n_actives; i++)
        if (r->actives[i]->phase == BERTH_PHASE_PREFILL)
            left += r->actives[i]->request->n_ids - r->actives[i]->n_started;
    int64_t share = (left + r->n_passes - 1) / r->n_passes;
    if (share < LEAST_PROMPT) share = LEAST_PROMPT;
    return share < r->core->plan->config.chunk ? (int32_t)share : r->core->plan->config.chunk;
}

/* The next rows of a prompt, at most *most, where they do not have to wait for another pass than `after`. */
static void add_prompt(berth_pass *p, berth_active *a, int32_t *most, const berth_pass **after)
{
    const berth_plan_config *c = &a->replica->core->plan->config;
    int32_t room = c->chunk - p->n_units < *most ? c->chunk - p->n_units : *most;
    int64_t left = a->request->n_ids - a->n_started;
    if (left == 0 || room <= 0) return;
    if (a->n_flying > 0) {
        if (*after && *after != a->newest) return;
        *after = a->newest;
    }
    int32_t n = left < room ? (int32_t)left : room;
    berth_want_logits logits = c->trace ? BERTH_LOGITS_ALL : n == left ? BERTH_LOGITS_LAST : BERTH_LOGITS_NONE;
    berth_pass_add_rows(p, a, a->n_started, n, logits);
    *most -= n;
}

static bool add_tokens(berth_replica *r, berth_pass *p, berth_active *only, const berth_pass **after)
{
    berth_pass_begin(p, BERTH_STEP);
    int32_t most = only ? r->core->plan->config.chunk : prompt_share(r);
    if (only) {
        if (only->phase == BERTH_PHASE_DECODE) add_decode(p, only);
        if (only->phase == BERTH_PHASE_PREFILL) add_prompt(p, only, &most, after);
        return p->n_items > 0;
    }
    add_decodes(r, p);
    for (int32_t i = 0; i < r->n_actives && p->n_items < r->core->plan->config.n_seqs; i++)
        if (r->actives[i]->phase == BERTH_PHASE_PREFILL) add_prompt(p, r->actives[i], &most, after);
    return p->n_items > 0;
}

bool berth_schedule(berth_replica *r, berth_pass *p, const berth_pass **out_after)
{
    *out_after = NULL;
    berth_active *lone = find_lone(r);
    if (lone) {
        if (r->n_flying > 0) return false;
        return lone->phase == BERTH_PHASE_ENCODE ? add_tiles(r, p, lone) : add_tokens(r, p, lone, out_after);
    }
    bool may_encode = !encode_in_flight(r);
    bool done = may_encode && !r->last_was_encode && add_tiles(r, p, NULL);
    if (!done && add_tokens(r, p, NULL, out_after)) {
        r->last_was_encode = false;
        return true;
    }
    if (!done) done = may_encode && add_tiles(r, p, NULL);
    r->last_was_encode = done;
    return done;
}
