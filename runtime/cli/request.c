/* request.c - a request's numbers, from options. */
#include <stdlib.h>

#include "base/status.h"
#include "cli/setup.h"

berth_status cli_request_check(const cli_args *a, berth_error *err)
{
    const bool sample = a->set[OPT_SAMPLE] || a->set[OPT_TOP_K] || a->set[OPT_TOP_P] || a->set[OPT_MIN_P];
    if (a->set[OPT_TEMPERATURE] && a->real[OPT_TEMPERATURE] < 0)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--temperature %s: must be positive", a->text[OPT_TEMPERATURE]);
    if (a->set[OPT_TEMPERATURE] && a->real[OPT_TEMPERATURE] == 0.0 && sample) {
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "--temperature 0 together with sampling cannot be meant; leave out the sampling options for "
                          "greedy decoding, or give a positive temperature");
    }
    if (a->number[OPT_SPECULATE] > 0 && (sample || (a->set[OPT_TEMPERATURE] && a->real[OPT_TEMPERATURE] > 0)))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "--speculate guesses greedy answers; leave out the sampling options");
    return BERTH_OK;
}

void cli_request_init(const cli_args *a, const cli_conversation *c, berth_request *r)
{
    berth_request_init(r);
    r->turns = c->turns;
    r->n_turns = c->n_turns;
    r->max_new_tokens = c->max_tokens;
    if (a->set[OPT_MAX_TOKENS]) r->max_new_tokens = (int32_t)a->number[OPT_MAX_TOKENS];
    if (a->set[OPT_MAX_TILES]) r->max_tiles = (int32_t)a->number[OPT_MAX_TILES];
    const bool greedy_by_zero = a->set[OPT_TEMPERATURE] && a->real[OPT_TEMPERATURE] == 0.0 && !a->set[OPT_SAMPLE];
    const bool draws = a->set[OPT_TEMPERATURE] || a->set[OPT_TOP_K] || a->set[OPT_TOP_P] || a->set[OPT_MIN_P];
    r->sample = a->set[OPT_SAMPLE] || (draws && !greedy_by_zero);
    if (c->has_temperature && c->temperature > 0 && !a->set[OPT_TEMPERATURE]) {
        r->sample = 1;
        r->temperature = (float)c->temperature;
    }
    if (a->set[OPT_TEMPERATURE] && !greedy_by_zero) r->temperature = (float)a->real[OPT_TEMPERATURE];
    if (a->set[OPT_TOP_K]) r->top_k = (int32_t)a->number[OPT_TOP_K];
    if (a->set[OPT_TOP_P]) r->top_p = (float)a->real[OPT_TOP_P];
    if (a->set[OPT_MIN_P]) r->min_p = (float)a->real[OPT_MIN_P];
    if (a->set[OPT_REPETITION_PENALTY]) r->repetition_penalty = (float)a->real[OPT_REPETITION_PENALTY];
    r->seed = a->unsigned_number[OPT_SEED];
    r->speculate = r->sample ? 0 : (int32_t)a->number[OPT_SPECULATE]; /* a named prompt may draw */
    r->ignore_stop = a->set[OPT_IGNORE_STOP];
}
