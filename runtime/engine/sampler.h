/* sampler.h - choosing the next token: transformers' processors in their order and meaning.
 *
 * Order: repetition penalty, temperature, top-k, top-p, min-p, then one draw; greedy is argmax with the lowest index on
 * ties and ignores all but the penalty. Pure: the state is the caller's. Source: transformers
 * generation/logits_process.py; golden rows samplers.json. */
#ifndef BERTH_ENGINE_SAMPLER_H
#define BERTH_ENGINE_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct berth_sampling {
    bool sample;               /* false = greedy */
    float temperature;         /* sample only; > 0; 1 = off */
    int32_t top_k;             /* 0 = off */
    float top_p;               /* in [0, 1]; 1 = off */
    float min_p;               /* in [0, 1]; 0 = off */
    float repetition_penalty;  /* > 0; 1 = off */
    bool penalty_skips_prompt; /* remote-code semantics: only generated tokens count */
    uint64_t seed;
} berth_sampling;

#define BERTH_SAMPLING_GREEDY                                                                                          \
    {                                                                                                                  \
        .temperature = 1.0f, .top_p = 1.0f, .repetition_penalty = 1.0f                                                 \
    }

/* Ranges, NaN, and combinations that cannot be meant (temperature 0 with sampling). BERTH_INVALID_ARGUMENT with a
 * sentence. */
berth_status berth_sampling_check(const berth_sampling *s, berth_error *err);

typedef struct berth_sampler berth_sampler;
berth_status berth_sampler_create(const berth_sampling *s, int32_t vocab, berth_sampler **out, berth_error *err);
void berth_sampler_destroy(berth_sampler *s);
void berth_sampler_see(berth_sampler *s,
                       int32_t id); /* an id that the penalty counts; out-of-range ids are passed over */
int32_t berth_sampler_next(berth_sampler *s, const float *logits); /* no allocation; logits [vocab] finite */

/* The same choice from the row's best logits alone. `best` and `stats` are its rows of LOGIT_BEST (kernels/ops.h), made with
 * berth_sampler_scale, and LOGIT_STATS. False: what is not among the best may matter, or it cannot be told that it does not;
 * nothing has changed, and berth_sampler_next chooses from the whole row. */
bool berth_sampler_next_of_best(berth_sampler *s, const float *best, const float *stats, int32_t *out_id);
bool berth_sampler_wants_best(const berth_sampler *s); /* false: its choice always takes the whole row */
float berth_sampler_scale(const berth_sampler *s);     /* 1 / temperature */

/* For tests and display: processed probabilities [vocab] (0 = removed) as the next draw would use them. */
void berth_sampler_probs(berth_sampler *s, const float *logits, float *out_probs);
bool berth_sampler_removed(const berth_sampler *s,
                           int32_t id); /* by the processors, in the last probs or next (of sampling) */

#endif
