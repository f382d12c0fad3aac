/* sampler_best.c - choosing from a row's best logits alone, where that is provably the choice from the whole row.
 *
 * What is not among the best lies at or below the last of them, and stays there: penalty and temperature keep the order. So
 * everything else is out as soon as something of the rule cuts above that bound, and then the processors, on the best in the
 * order of their ids, make the very bits they make on the whole row. Greedy and top-k cut by comparing floats. Top-p and
 * min-p cut by probabilities, whose last bits depend on the sum over the whole row; that sum is known within some millionths
 * (LOGIT_BEST), so they count as cutting only where they do so by more than all roundings together can be: here in double,
 * with margins. Easy to get wrong: the order of equal probabilities. */
#include <math.h>
#include <string.h>

#include "engine/sampler_internal.h"
#include "kernels/ops.h"

#define FLOAT_MARGIN 2e-6 /* a few roundings to float */

typedef struct best_row {
    berth_sampler *s;
    const float *values; /* [n] as they are in the row, descending */
    int32_t n;           /* s->n */
    int32_t ids[BERTH_BEST];
    bool is_all; /* they are the whole row */
    double sum;  /* of the row, as in LOGIT_BEST */
    double size; /* the largest score there is, without its sign */
    /* Of what is not among the best: how many of it the penalty counts; the most any of it can be, before and after. */
    int32_t n_seen;
    float raw_bound, bound;
} best_row;

/* The candidates in the order of their ids, penalised. */
static void take_candidates(best_row *r, const float *ids)
{
    berth_sampler *s = r->s;
    const bool penalises = s->rule.repetition_penalty != 1.0f;
    r->n_seen = s->n_seen;
    for (int32_t k = 0; k < r->n; k++) {
        const int32_t id = (int32_t)ids[k];
        int32_t at = k;
        for (; at > 0 && r->ids[at - 1] > id; at--) {
            r->ids[at] = r->ids[at - 1];
            s->scores[at] = s->scores[at - 1];
        }
        r->ids[at] = id;
        s->scores[at] = penalises && s->is_seen[id] ? berth_sampler_penalised(s, r->values[k]) : r->values[k];
        r->n_seen -= s->is_seen[id] != 0;
    }
    if (!penalises) r->n_seen = 0;
    s->n = r->n;
}

static void find_bounds(best_row *r, const float *stats)
{
    const berth_sampling *rule = &r->s->rule;
    const float t = rule->sample ? rule->temperature : 1.0f;
    const double penalty = rule->repetition_penalty, most = penalty > 1 ? penalty : 1 / penalty;
    r->raw_bound = r->bound = r->is_all ? -INFINITY : r->values[r->n - 1];
    const float penalised = berth_sampler_penalised(r->s, r->bound);
    if (r->n_seen > 0 && penalised > r->bound) r->bound = penalised;
    r->size = fmax(fabs((double)stats[BERTH_STAT_MIN]), fabs((double)stats[BERTH_STAT_MAX])) * most / (double)t;
}

/* ---- min-p ------------------------------------------------------------------------------------------------------ */

/* Probabilities are compared with a multiple of the best one's, so the sum has no part in it but for roundings. */
static bool cut_by_min_p(const best_row *r)
{
    berth_sampler *s = r->s;
    const double p = (double)s->rule.min_p, best = (double)s->scores[berth_sampler_argmax(s->scores, s->n)];
    if (p < FLOAT_MARGIN) return false; /* products may leave the normal floats */
    if (exp((double)r->bound - best) > p * (1 - FLOAT_MARGIN)) return false;
    for (int32_t i = 0; i < s->n; i++) {
        const double e = exp((double)s->scores[i] - best);
        if (e < p * (1 - FLOAT_MARGIN))
            s->scores[i] = -INFINITY;
        else if (e < p * (1 + FLOAT_MARGIN))
            return false;
    }
    return true;
}

/* ---- top-p ------------------------------------------------------------------------------------------------------ */

/* Weights are exp(score - best score), so that the best has 1. */
typedef struct nucleus {
    int32_t order[BERTH_BEST]; /* candidates, the likeliest first, of equals the lower id */
    double weight[BERTH_BEST]; /* in that order */
    double all;                /* of the candidates */
    double low, high;          /* between these is the weight of all the rest */
    double bound;              /* the most one of the rest can have */
    double margin;             /* relative, of a share of the whole */
} nucleus;

static void sort_candidates(const best_row *r, nucleus *u)
{
    const float *scores = r->s->scores;
    const double best = (double)scores[berth_sampler_argmax(scores, r->n)];
    for (int32_t i = 0; i < r->n; i++) {
        int32_t at = i;
        for (; at > 0 && scores[u->order[at - 1]] < scores[i]; at--) u->order[at] = u->order[at - 1];
        u->order[at] = i;
    }
    for (int32_t k = 0; k < r->n; k++) {
        u->weight[k] = exp((double)scores[u->order[k]] - best);
        u->all += u->weight[k];
    }
    u->bound = exp((double)r->bound - best);
}

/* False: nothing is known of the rest. The penalty of ids that are not among the best is known only to lie between all and
 * nothing of what they may have. */
static bool weigh_rest(const best_row *r, nucleus *u)
{
    const berth_sampler *s = r->s;
    const double t = (double)s->rule.temperature, top = (double)r->values[0];
    double rest = r->sum;
    if (!isfinite(r->sum)) return false;
    for (int32_t k = 0; k < r->n; k++) rest -= exp(((double)r->values[k] - top) / t);
    const double unit = exp(top / t - (double)s->scores[u->order[0]]); /* of the sum, in weights */
    const double error = u->margin * r->sum, seen = r->n_seen * exp(((double)r->raw_bound - top) / t);
    u->low = fmax(0, rest - error - seen) * unit;
    u->high = fmax(0, rest + error) * unit + (s->rule.repetition_penalty < 1 ? r->n_seen * u->bound : 0);
    return isfinite(u->high);
}

/* The least likely candidates go as long as their share, with all the rest, is at most 1 - p. *n_kept is how many stay; false:
 * somewhere it cannot be told. */
static bool cut_nucleus(const best_row *r, const nucleus *u, int32_t *n_kept)
{
    const double room = (double)(float)(1.0 - (double)r->s->rule.top_p);
    double cut = 0, next = 0;
    int32_t n = r->n;
    for (; n > 0; n--, cut = next) {
        next = cut + u->weight[n - 1];
        if ((u->high + next) / (u->high + u->all) * (1 + u->margin) > room) break;
    }
    if (n == r->n && u->high / (u->high + u->all) * (1 + u->margin) > room)
        return false; /* some of the rest may stay */
    if (n > 1 && (u->low + next) / (u->low + u->all) * (1 - u->margin) <= room) return false;
    if (n == 0) n = 1; /* the best stays in any case */
    const double least = u->weight[n - 1] * (1 - FLOAT_MARGIN);
    const float *scores = r->s->scores;
    if (least <= u->bound) return false;
    if (n < r->n && least <= u->weight[n] && scores[u->order[n - 1]] != scores[u->order[n]]) return false;
    *n_kept = n;
    return true;
}

static bool cut_by_top_p(const best_row *r)
{
    nucleus u = {.margin = 1e-5 + 1e-6 * r->size};
    int32_t n_kept;
    if (u.margin > 0.01) return false;
    sort_candidates(r, &u);
    if (!weigh_rest(r, &u) || !cut_nucleus(r, &u, &n_kept)) return false;
    for (int32_t k = n_kept; k < r->n; k++) r->s->scores[u.order[k]] = -INFINITY;
    return true;
}

/* ---- the choice ------------------------------------------------------------------------------------------------- */

/* Applies the rule to the candidates; false: what is not among them may have a part in the draw. */
static bool process_candidates(best_row *r)
{
    berth_sampler *s = r->s;
    const berth_sampling *rule = &s->rule;
    bool is_cut = r->is_all; /* nothing but candidates is left */
    is_cut |= berth_sampler_cool(s);
    r->bound /= rule->temperature;
    if (rule->top_k > 0 && rule->top_k < s->vocab) {
        if (rule->top_k > s->n || (!(berth_sampler_keep_top_k(s) > r->bound) && !is_cut)) return false;
        is_cut = true;
    }
    if (is_cut) {
        berth_sampler_keep_top_p(s);
    } else if (rule->top_p < 1.0f) {
        if (!cut_by_top_p(r)) return false;
        is_cut = true;
    } else {
        return cut_by_min_p(r);
    }
    berth_sampler_keep_min_p(s);
    return true;
}

bool berth_sampler_next_of_best(berth_sampler *s, const float *best, const float *stats, int32_t *out_id)
{
    best_row r = {.s = s,
                  .values = best + BERTH_BEST_VALUES,
                  .n = s->vocab < BERTH_BEST ? s->vocab : BERTH_BEST,
                  .is_all = s->vocab <= BERTH_BEST,
                  .sum = (double)best[BERTH_BEST_SUM]};
    take_candidates(&r, best + BERTH_BEST_IDS);
    find_bounds(&r, stats);
    const int32_t first = berth_sampler_argmax(s->scores, s->n);
    if (!(s->scores[first] > r.bound)) return false;
    if (s->rule.sample && !process_candidates(&r)) return false;
    *out_id = r.ids[s->rule.sample ? berth_sampler_draw(s) : first];
    return true;
}

bool berth_sampler_wants_best(const berth_sampler *s)
{
    const berth_sampling *rule = &s->rule;
    if (s->vocab <= BERTH_BEST || !rule->sample) return true;
    if (rule->top_k > 0 && rule->top_k < s->vocab) return rule->top_k <= BERTH_BEST;
    return rule->top_p < 1.0f || rule->min_p > 0;
}

float berth_sampler_scale(const berth_sampler *s)
{
    return s->rule.sample ? 1.0f / s->rule.temperature : 1.0f;
}
