/* rope.c - rotary positions: the table of a pass, and its use on queries and keys.
 * Easy to get wrong: the angle is the fp32 product, not a double one (transformers, modeling_qwen2). */
#include <math.h>

#include "kernels/ref/ref_internal.h"

void berth_ref_rope_table(const berth_op_call *call)
{
    const int32_t *positions = berth_ref_i32(&call->in[0]), *token_seq = berth_ref_i32(&call->in[1]);
    const float *inv_freq = berth_ref_f32(&call->in[2]);
    size_t n = (size_t)berth_tensor_elements(&call->in[0]), half = (size_t)berth_tensor_last(&call->in[2]);
    float *y = berth_ref_out(call);
    for (size_t t = 0; t < n; t++)
        for (size_t j = 0; j < half; j++) {
            float angle = (float)positions[t] * inv_freq[(size_t)token_seq[t] * half + j];
            y[(2 * t) * half + j] = (float)cos((double)angle);
            y[(2 * t + 1) * half + j] = (float)sin((double)angle);
        }
}

void berth_ref_rope(const berth_op_call *call)
{
    const float *x = berth_ref_f32(&call->in[0]), *table = berth_ref_f32(&call->in[1]);
    size_t n = (size_t)call->in[1].dims[0], half = (size_t)berth_tensor_last(&call->in[1]);
    size_t heads = n ? (size_t)berth_tensor_elements(&call->in[0]) / (n * 2 * half) : 0;
    float *y = berth_ref_out(call);
    for (size_t t = 0; t < n; t++) {
        const float *cosine = table + 2 * t * half, *sine = cosine + half;
        for (size_t h = 0; h < heads; h++, x += 2 * half, y += 2 * half)
            for (size_t j = 0; j < half; j++) {
                float a = x[j], b = x[j + half];
                y[j] = (float)((double)a * (double)cosine[j] - (double)b * (double)sine[j]);
                y[j + half] = (float)((double)b * (double)cosine[j] + (double)a * (double)sine[j]);
            }
    }
}
