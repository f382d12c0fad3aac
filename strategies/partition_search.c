/* partition_search.c - the best value from both sides, where all orders are too many to look at: what a cut was found
 * for is an upper end, what is proven not to be possible a lower one. See partition_cover.c for one limit. */
#include <math.h>

#include "strategies/partition_internal.h"
#include "strategies/words.h"

/* Ends nearer than that, relatively, are not brought nearer: an end that was given up at, and two that are proven. */
#define NEAR_OPEN   1e-4
#define NEAR        1e-9
#define NEAR_ENOUGH 0.02
enum { MOST_TRIES = 64, MOST_HARD_TRIES = 6 };

typedef struct search {
    const berth_partition_problem *p;
    berth_cover *cover;
    berth_partition *best, *spare;
    int n_tries;
    double proven; /* nothing below it is possible */
    double found;  /* is possible; INFINITY = none known */
    double open;   /* the least limit for which the answer was left open, or more */
} search;

static double value_of(const berth_partition_problem *p, const berth_partition *cut)
{
    double stage = berth_slowest_stage(p, cut), hop = p->hops ? berth_slowest_hop(p, cut) : 0;
    return stage > hop ? stage : hop;
}

/* *next: up to it, that included not, the answer would be the same. */
static berth_cover_answer try_limit(search *s, double limit, double *next)
{
    double above;
    berth_cover_answer answer = berth_cover_try(s->cover, limit, s->spare, &above);
    s->n_tries++;
    *next = above > limit ? above : limit;
    if (answer == BERTH_COVER_NONE && above > s->proven) s->proven = above;
    if (answer == BERTH_COVER_OPEN && limit < s->open) s->open = limit;
    if (answer != BERTH_COVER_FOUND) return answer;
    double value = value_of(s->p, s->spare);
    if (value < s->found) {
        berth_partition swap = *s->best;
        *s->best = *s->spare;
        *s->spare = swap;
        s->found = value;
    }
    return answer;
}

static bool are_apart(double low, double high, double near)
{
    return low < high * (1 - near) || (low < high && high < 1e-300);
}

/* First down to the least that can be found, then up to the most that can be proven. */
static void close_in(search *s, int most_tries)
{
    double failed = s->proven, next;
    s->n_tries = 0;
    s->open = INFINITY;
    while (are_apart(failed, s->found, failed > s->proven ? NEAR_OPEN : NEAR) && s->n_tries < most_tries) {
        double middle = failed + (s->found - failed) / 2;
        if (try_limit(s, middle, &next) != BERTH_COVER_FOUND) failed = next;
    }
    while (s->n_tries < 2 * most_tries) {
        double end = s->open < s->found ? s->open : s->found;
        if (!are_apart(s->proven, end, end < s->found ? NEAR_OPEN : NEAR)) return;
        try_limit(s, s->proven + (end - s->proven) / 2, &next);
    }
}

static berth_status refuse_to_say(const berth_partition_problem *p, berth_error *err)
{
    return berth_refuse(err, BERTH_UNSUPPORTED,
                        "no order of the %d devices was found in which the model fits, and that there is none is not "
                        "proven; use fewer devices, or more of one kind",
                        p->n_devices);
}

static bool search_init(search *s, const berth_partition_problem *p, berth_partition *best, berth_partition *spare)
{
    *s = (search){.p = p, .best = best, .spare = spare, .found = INFINITY, .open = INFINITY};
    *spare = (berth_partition){0};
    s->cover = berth_cover_create(p);
    return s->cover && berth_partition_init(spare, p->n_devices) &&
           (best->order || berth_partition_init(best, p->n_devices));
}

berth_status berth_partition_close_in(const berth_partition_problem *p, berth_partition *best, berth_error *err)
{
    search s;
    berth_partition spare;
    bool has_cut = best->order != NULL;
    double bound = best->bound, ignored;
    berth_status st = BERTH_OK;
    if (!search_init(&s, p, best, &spare)) {
        st = berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the search");
        goto out;
    }
    s.proven = bound;
    if (has_cut) s.found = value_of(p, best);
    berth_cover_answer first = has_cut ? BERTH_COVER_FOUND : try_limit(&s, INFINITY, &ignored);
    if (first == BERTH_COVER_NONE) st = BERTH_DOES_NOT_FIT;
    if (first == BERTH_COVER_OPEN) st = refuse_to_say(p, err);
    if (st != BERTH_OK) goto out;
    close_in(&s, MOST_TRIES);
    if (s.found > s.proven * (1 + NEAR_ENOUGH)) {
        berth_cover_try_harder(s.cover);
        close_in(&s, MOST_HARD_TRIES);
    }
    best->value = s.found;
    best->bound = s.proven < s.found ? s.proven : s.found;
out:
    berth_cover_destroy(s.cover);
    berth_partition_deinit(&spare);
    if (st != BERTH_OK) berth_partition_deinit(best);
    return st;
}

/* At the chain's context, which only grows from one cut found to the next. */
static berth_cover_answer try_context(search *s)
{
    double ignored;
    s->found = INFINITY;
    return try_limit(s, INFINITY, &ignored);
}

berth_status berth_partition_close_in_context(const berth_partition_problem *problem, int64_t low, int64_t high,
                                              berth_partition *best, berth_error *err)
{
    berth_chain c = *problem->chain; /* shares the arrays, changes the context only */
    berth_partition_problem p = *problem;
    search s;
    berth_partition spare;
    bool has_cut = best->order != NULL;
    berth_status st = BERTH_OK;
    p.chain = &c;
    p.hops = NULL;
    if (!search_init(&s, &p, best, &spare)) {
        st = berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the search");
        goto out;
    }
    c.context_tokens = low;
    berth_cover_answer first = has_cut ? BERTH_COVER_FOUND : try_context(&s);
    if (first == BERTH_COVER_NONE) st = BERTH_DOES_NOT_FIT;
    if (first == BERTH_COVER_OPEN) st = refuse_to_say(&p, err);
    if (st != BERTH_OK) goto out;
    int64_t proven = high, end = high; /* nothing above `proven` fits */
    while (low < end) {                /* the most that is found */
        c.context_tokens = end - (end - low) / 2;
        berth_cover_answer answer = try_context(&s);
        if (answer == BERTH_COVER_FOUND) low = c.context_tokens;
        if (answer == BERTH_COVER_NONE) proven = c.context_tokens - 1;
        if (answer != BERTH_COVER_FOUND) end = c.context_tokens - 1;
    }
    for (end = low; end < proven;) { /* the least that is proven */
        c.context_tokens = proven - (proven - end) / 2;
        berth_cover_answer answer = try_context(&s);
        if (answer == BERTH_COVER_FOUND) low = c.context_tokens;
        if (answer == BERTH_COVER_NONE) proven = c.context_tokens - 1;
        if (answer != BERTH_COVER_NONE) end = c.context_tokens;
    }
    best->value = (double)low;
    best->bound = (double)proven;
out:
    berth_cover_destroy(s.cover);
    berth_partition_deinit(&spare);
    if (st != BERTH_OK) berth_partition_deinit(best);
    return st;
}
