/* tokens.c - what a finished pass gives its requests: features for their prompts, KV that others may use, the next
 * tokens, and the reasons to end. */
#include <string.h>

#include "base/clock.h"
#include "engine/core.h"

/* ---- pictures --------------------------------------------------------------------------------------------------- */

/* From the tower's end to now, as far as no other pass with its tiles has counted it. */
static void count_projecting(berth_active *a, int64_t tower_end_ns, int64_t now)
{
    int64_t from = tower_end_ns > a->projected_ns ? tower_end_ns : a->projected_ns;
    if (tower_end_ns == 0 || from >= now) return;
    a->result.timing.project_ns += now - from;
    a->projected_ns = now;
}

static void take_tile(const berth_pass_item *item, int64_t tower_end_ns)
{
    berth_active *a = item->who;
    berth_replica *r = a->replica;
    int64_t now = berth_now_ns();
    count_projecting(a, tower_end_ns, now);
    a->tile_state[item->tile] = BERTH_TILE_DONE;
    a->n_tiles_left--;
    if (a->shares && a->request->tile_digests)
        berth_blocks_publish(&r->features, a->tile_blocks[item->tile], a->request->tile_digests[item->tile]);
    if (a->n_tiles_left > 0 || a->phase != BERTH_PHASE_ENCODE) return;
    a->encoded_ns = now;
    a->phase = BERTH_PHASE_PREFILL;
}

/* ---- tokens ----------------------------------------------------------------------------------------------------- */

typedef struct cursor { /* of an item: its first row of logits, its first row of best ones */
    int64_t row, best;
} cursor;

/* An item's i-th row of logits. */
static berth_logit_row row_of(const berth_pass *p, const berth_pass_item *item, const cursor *at, int32_t i)
{
    const int32_t before = item->n_logits - item->n_best;
    berth_logit_row row = {.pass = p, .who = item->who, .index = at->row + i};
    row.stats = p->stats + row.index * BERTH_LOGIT_STATS;
    if (i >= before) row.best = p->best + (at->best + i - before) * BERTH_LOGIT_BEST;
    return row;
}

/* The device may be lost between the pass and the look at its logits. */
static bool fail_choice(berth_active *a, berth_status st, berth_error *err)
{
    berth_lost_look(a->replica, st, err);
    berth_active_fail(a, st, err);
    return false;
}

/* The next token of a; false: it was the last. */
static bool give_token(berth_logit_row *row)
{
    berth_active *a = row->who;
    const berth_core_request *q = a->request;
    berth_error err = {0};
    int64_t start = berth_now_ns();
    int32_t index = a->result.n_ids, id = 0;
    berth_status st = berth_row_choose(row, &id, &err);
    if (st == BERTH_OK && q->wants_logits) st = berth_row_read(row, &err);
    if (st != BERTH_OK) return fail_choice(a, st, &err);
    if (a->sampler) berth_sampler_see(a->sampler, id);
    int64_t now = berth_now_ns();
    a->result.timing.sample_ns += now - start;
    if (index == 0) a->result.timing.first_token_ns = now - a->job->submitted_ns;
    a->result.ids[a->result.n_ids++] = id;
    a->keys[a->n_known] = (uint64_t)(uint32_t)id;
    a->ids[a->n_known++] = id;
    berth_count(&a->replica->n_new_tokens, 1);
    if (q->on_token && !q->on_token(q->user, index, id, q->wants_logits ? row->whole : NULL))
        berth_active_finish(a, BERTH_FINISH_CALLER);
    else if (index >= q->n_forced && berth_active_is_stop(a, id))
        berth_active_finish(a, BERTH_FINISH_STOP);
    else if (a->result.n_ids == a->limit)
        berth_active_finish(a, BERTH_FINISH_LENGTH);
    return a->phase != BERTH_PHASE_OVER;
}

/* Bad logits end a request, and first have their cause looked for: when no pass is in flight. */
static bool are_sick(berth_active *a, const berth_pass_item *item, const float *stats)
{
    int32_t vocab = a->replica->core->config->text.vocab;
    for (int32_t i = 0; i < item->n_logits; i++) {
        const float *row = stats + (size_t)i * BERTH_LOGIT_STATS;
        if (!berth_numeric_is_bad(row, vocab)) continue;
        memcpy(a->sick_stats, row, sizeof a->sick_stats);
        a->sick_first = item->first;
        a->n_sick = item->n;
        a->phase = BERTH_PHASE_OVER;
        return true;
    }
    return false;
}

static void publish(berth_active *a, int64_t first)
{
    if (a->shares && !a->is_foreign)
        berth_prefix_publish(&a->replica->kv, &a->kv, &a->chain, a->keys, first, a->n_computed);
}

static void take_prompt(berth_active *a, const berth_pass *p, const berth_pass_item *item, const cursor *at)
{
    a->n_computed = item->first + item->n;
    if (a->n_computed < a->request->n_ids) {
        publish(a, item->first);
        return;
    }
    a->prefilled_ns = berth_now_ns();
    a->phase = BERTH_PHASE_DECODE;
    publish(a, item->first);
    if (a->limit == 0) {
        berth_active_finish(a, BERTH_FINISH_LENGTH);
        return;
    }
    berth_logit_row row = row_of(p, item, at, item->n_logits - 1);
    give_token(&row);
}

/* Row i tells the token after itself: what was guessed there is right as long as it is the one. */
static void take_decode(berth_active *a, const berth_pass *p, const berth_pass_item *item, const cursor *at)
{
    int32_t right = 0;
    for (int32_t i = 0; i < item->n; i++) {
        int32_t guessed = i + 1 < item->n ? a->ids[a->n_known] : -1;
        berth_logit_row row = row_of(p, item, at, item->n_logits == 1 ? 0 : i);
        a->n_computed = item->first + i + 1;
        bool goes_on = give_token(&row);
        if (!goes_on || a->ids[a->n_known - 1] != guessed) break;
        right++;
    }
    a->result.n_drafted += item->n - 1;
    a->result.n_accepted += right;
    a->n_started = a->n_computed;
    a->n_draft = 0;
    publish(a, item->first);
}

static void take_rows(const berth_pass *p, const berth_pass_item *item, const cursor *at)
{
    berth_active *a = item->who;
    if (a->phase == BERTH_PHASE_OVER || are_sick(a, item, p->stats + at->row * BERTH_LOGIT_STATS))
        return; /* cancelled meanwhile */
    if (a->phase == BERTH_PHASE_PREFILL)
        take_prompt(a, p, item, at);
    else
        take_decode(a, p, item, at);
}

void berth_tokens_take(berth_pass *p)
{
    berth_replica *r = p->replica;
    cursor at = {0};
    int64_t tower_end_ns = p->which == BERTH_ENCODE ? berth_run_marked_ns(p->run) : 0;
    for (int32_t i = 0; i < p->n_items; i++) {
        const berth_pass_item *item = &p->items[i];
        if (p->which == BERTH_ENCODE)
            take_tile(item, tower_end_ns);
        else
            take_rows(p, item, &at);
        at.row += item->n_logits;
        at.best += item->n_best;
    }
    if (p->which == BERTH_ENCODE) berth_count(&r->n_tiles, p->n_items);
}
