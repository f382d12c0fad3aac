/* rope.c - all in float32, as transformers computes it (modeling_rope_utils.py): theta' = theta * (f N / M - (f -
 * 1))^(d / (d - 2)). */
#include "engine/rope.h"

#include <math.h>

void berth_rope_inv_freq(const berth_text_config *text, int64_t n, float *out_inv_freq)
{
    int32_t d = text->head_dim, half = d / 2;
    float theta = (float)text->rope_theta, factor = (float)text->rope_factor;
    if (text->rope_scaling == BERTH_ROPE_DYNAMIC && n > text->max_positions && d > 2) {
        float stretch = factor * (float)n / (float)text->max_positions - (factor - 1.0f);
        theta *= powf(stretch, (float)((double)d / (double)(d - 2)));
    }
    for (int32_t j = 0; j < half; j++) {
        float f = 1.0f / powf(theta, (float)(2 * j) / (float)d);
        out_inv_freq[j] = text->rope_scaling == BERTH_ROPE_LINEAR ? f / factor : f;
    }
}
