/* plan_limits.c - the largest context, batch and tiles that fit, by halving over whole plans: what is asked is what is
 * planned, so the answer is exact for the strategy at hand. */
#include <string.h>

#include "api/api.h"
#include "base/status.h"

enum { MOST_SEQS = 4096 };

typedef struct search {
    const berth_model *model;
    berth_plan_options options; /* with one setting replaced */
} search;

/* BERTH_OK or BERTH_DOES_NOT_FIT; or what else went wrong. */
static berth_status try_plan(const search *s, berth_error *err)
{
    berth_plan *plan;
    berth_status st = berth_plan_create(s->model, &s->options, &plan, err);
    if (st != BERTH_OK) return st;
    if (!berth_plan_fits(plan, NULL, NULL)) st = BERTH_DOES_NOT_FIT;
    berth_plan_destroy(plan);
    return st;
}

static void set_context(search *s, int64_t n)
{
    s->options.context = n;
}
static void set_seqs(search *s, int64_t n)
{
    s->options.n_seqs = (int32_t)n;
}
static void set_tiles(search *s, int64_t n)
{
    s->options.tiles = (int32_t)n;
}

/* The largest n in [1, most] of steps `unit` for which the plan fits; 0 = none. Needs grow with n. */
static berth_status largest(const search *base, void (*set)(search *, int64_t), int64_t unit, int64_t most,
                            int64_t *out, berth_error *err)
{
    search s = *base;
    int64_t low = 0, high = (most + unit - 1) / unit + 1; /* fits at low * unit, not at high * unit */
    *out = 0;
    while (high - low > 1) {
        /* The ends first: often all of it fits, or nothing. */
        const int64_t middle = low == 0 && high * unit > most ? high - 1
                               : low == 0 && high > 2         ? high / 2
                                                              : (low + high) / 2;
        const int64_t n = middle * unit < most ? middle * unit : most;
        set(&s, n);
        berth_error refusal = {0};
        const berth_status st = try_plan(&s, &refusal);
        if (st == BERTH_OK) {
            low = middle;
            *out = n;
        } else if (st == BERTH_DOES_NOT_FIT) {
            high = middle;
        } else {
            if (err != NULL) *err = refusal;
            return st;
        }
    }
    return BERTH_OK;
}

/* Does the least of everything fit? */
static berth_status try_least(const search *base, bool *out, berth_error *err)
{
    search s = *base;
    s.options.context = s.options.n_seqs = s.options.tiles = s.options.chunk = s.options.max_tiles = 1;
    berth_error refusal = {0};
    const berth_status st = try_plan(&s, &refusal);
    *out = st == BERTH_OK;
    if (st == BERTH_OK || st == BERTH_DOES_NOT_FIT) return BERTH_OK;
    if (err != NULL) *err = refusal;
    return st;
}

static berth_status find(const search *s, berth_plan_limits *out, berth_error *err)
{
    const berth_model_config *m = berth_model_data_config(s->model->data);
    int64_t most = m->text.max_positions > s->options.context ? m->text.max_positions : s->options.context;
    const int32_t max_tiles = s->options.max_tiles > 0 ? s->options.max_tiles : 2 * (m->preprocess.max_tiles + 1);
    int64_t seqs = 0, tiles = 0;
    bool least_fits = false;
    const int64_t seqs_asked = s->options.n_seqs > 0 ? s->options.n_seqs : 1;
    const int64_t context = s->options.context > 0 ? s->options.context : 4096; /* the default is at most that */
    const int64_t most_seqs =
        BERTH_PLAN_MOST_TOKENS / context < MOST_SEQS ? BERTH_PLAN_MOST_TOKENS / context : MOST_SEQS;
    if (most > INT64_C(1) << 24) most = INT64_C(1) << 24;
    if (most > BERTH_PLAN_MOST_TOKENS / seqs_asked) most = BERTH_PLAN_MOST_TOKENS / seqs_asked;
    berth_status st = try_least(s, &least_fits, err);
    out->weights_fit = least_fits;
    if (st != BERTH_OK || !least_fits) return st;
    st = largest(s, set_context, BERTH_DEFAULT_BLOCK, most, &out->context, err);
    if (st == BERTH_OK) st = largest(s, set_seqs, 1, most_seqs, &seqs, err);
    if (st == BERTH_OK && m->has_vision) st = largest(s, set_tiles, 1, max_tiles, &tiles, err);
    out->n_seqs = (int32_t)seqs;
    out->tiles = (int32_t)tiles;
    return st;
}

berth_status berth_plan_limits_find(const berth_model *model, const berth_plan_options *options, berth_plan_limits *out,
                                    berth_error *err)
{
    if (!berth_handle_is(model, BERTH_HANDLE_MODEL))
        return berth_handle_refuse("berth_plan_limits_find", BERTH_HANDLE_MODEL, err);
    if (out == NULL) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_plan_limits_find: out must not be NULL");
    search s = {.model = model};
    berth_plan_limits found = {.struct_size = sizeof found};
    berth_status st = berth_plan_options_read(&s.options, options, err);
    if (st != BERTH_OK) return st;
    s.options.struct_size = sizeof s.options;
    s.options.show_misfit = 0;
    st = find(&s, &found, err);
    const size_t given = out->struct_size;
    if (given < sizeof(size_t)) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_plan_limits: struct_size is 0");
    memcpy(out, &found, given < sizeof found ? given : sizeof found);
    out->struct_size = given;
    return st;
}
