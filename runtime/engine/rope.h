/* rope.h - the rotary frequencies of one sequence for one pass: plain, linear, dynamic. Pure.
 *
 * Dynamic scaling belongs to the request: its state is the largest N (position + 1) the sequence has had, so a
 * request's tokens never depend on those before it. (transformers keeps the state in the model.) Keys in the cache keep
 * the rotation they got. */
#ifndef BERTH_ENGINE_ROPE_H
#define BERTH_ENGINE_ROPE_H

#include "model/config.h"

/* inv_freq [head_dim / 2] for a pass whose largest position is n - 1. The whole prompt counts as one pass however it is
 * cut. Within max_positions dynamic is plain. */
void berth_rope_inv_freq(const berth_text_config *text, int64_t n, float *out_inv_freq);

#endif
