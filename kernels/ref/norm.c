/* norm.c - LayerNorm and RMSNorm over the last dimension.
 * Sources: Ba et al. 2016 (Layer Normalization); Zhang & Sennrich 2019 (RMSNorm), section 3. */
#include <math.h>

#include "kernels/ref/ref_internal.h"

void berth_ref_layer_norm(const berth_op_call *call)
{
    const float *x = berth_ref_f32(&call->in[0]);
    size_t n = (size_t)berth_tensor_rows(&call->in[0]), c = (size_t)berth_tensor_last(&call->in[0]);
    float *y = berth_ref_out(call);
    for (size_t t = 0; t < n; t++, x += c, y += c) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < c; i++) sum += (double)x[i];
        double mean = sum / (double)c;
        for (size_t i = 0; i < c; i++) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
        double scale = 1.0 / sqrt(squares / (double)c + (double)call->attrs->eps);
        for (size_t i = 0; i < c; i++)
            y[i] = (float)(((double)x[i] - mean) * scale * (double)berth_ref_get(&call->in[1], i) +
                           (double)berth_ref_get(&call->in[2], i));
    }
}

void berth_ref_rms_norm(const berth_op_call *call)
{
    const float *x = berth_ref_f32(&call->in[0]);
    size_t n = (size_t)berth_tensor_rows(&call->in[0]), c = (size_t)berth_tensor_last(&call->in[0]);
    float *y = berth_ref_out(call);
    for (size_t t = 0; t < n; t++, x += c, y += c) {
        double squares = 0;
        for (size_t i = 0; i < c; i++) squares += (double)x[i] * (double)x[i];
        double scale = 1.0 / sqrt(squares / (double)c + (double)call->attrs->eps);
        for (size_t i = 0; i < c; i++) y[i] = (float)((double)x[i] * scale * (double)berth_ref_get(&call->in[1], i));
    }
}
