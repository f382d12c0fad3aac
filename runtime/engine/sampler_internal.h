/* sampler_internal.h - a sampler's insides: its processors, which work on the first n of `scores` in place. All of the
 * vocabulary stands there, or only the best of it in the order of their ids (sampler_best.c): what was removed has no part in
 * any sum, so the bits are the same. */
#ifndef BERTH_ENGINE_SAMPLER_INTERNAL_H
#define BERTH_ENGINE_SAMPLER_INTERNAL_H

#include "engine/sampler.h"

struct berth_sampler {
    berth_sampling rule;
    int32_t vocab;
    uint64_t rng[4];
    int32_t n_seen;
    int32_t *seen;    /* [vocab] ids the penalty counts, once each */
    uint8_t *is_seen; /* [vocab] */
    int32_t n;        /* scores there are */
    float *scores;    /* [vocab] */
    float *probs;     /* [vocab]; also the heap of top-k */
    int32_t *order;   /* [vocab] candidates of top-p */
};

int32_t berth_sampler_argmax(const float *x, int32_t n); /* the lowest index of equals */
float berth_sampler_penalised(const berth_sampler *s, float x);

/* The processors; each does nothing where its option is off. */
bool berth_sampler_cool(berth_sampler *s);        /* true: it left the best ones only */
float berth_sampler_keep_top_k(berth_sampler *s); /* the least score kept; n >= top_k */
void berth_sampler_keep_top_p(berth_sampler *s);
void berth_sampler_keep_min_p(berth_sampler *s);

int32_t berth_sampler_draw(berth_sampler *s); /* one of the n by what is left of the scores */

#endif
