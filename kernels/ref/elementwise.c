/* elementwise.c - ops in which an output depends on the inputs at its own place only. */
#include <math.h>

#include "kernels/ref/ref_internal.h"

void berth_ref_scale_add(const berth_op_call *call)
{
    const float *x = berth_ref_f32(&call->in[0]), *delta = berth_ref_f32(&call->in[1]);
    size_t n = (size_t)berth_tensor_rows(&call->in[0]), c = (size_t)berth_tensor_last(&call->in[0]);
    float *y = berth_ref_out(call);
    for (size_t t = 0; t < n; t++)
        for (size_t i = 0; i < c; i++)
            y[t * c + i] =
                (float)((double)x[t * c + i] + (double)berth_ref_get(&call->in[2], i) * (double)delta[t * c + i]);
}

void berth_ref_add(const berth_op_call *call)
{
    const float *a = berth_ref_f32(&call->in[0]), *b = berth_ref_f32(&call->in[1]);
    size_t n = (size_t)berth_tensor_elements(&call->in[0]);
    float *y = berth_ref_out(call);
    for (size_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

void berth_ref_gelu(const berth_op_call *call)
{
    const float *x = berth_ref_f32(&call->in[0]);
    size_t n = (size_t)berth_tensor_elements(&call->in[0]);
    float *y = berth_ref_out(call);
    for (size_t i = 0; i < n; i++) y[i] = (float)(0.5 * (double)x[i] * erfc(-(double)x[i] * 0.70710678118654752440));
}

void berth_ref_silu_mul(const berth_op_call *call)
{
    const float *gate = berth_ref_f32(&call->in[0]), *up = berth_ref_f32(&call->in[1]);
    size_t n = (size_t)berth_tensor_elements(&call->in[0]);
    float *y = berth_ref_out(call);
    for (size_t i = 0; i < n; i++) y[i] = (float)((double)gate[i] / (1.0 + exp(-(double)gate[i])) * (double)up[i]);
}
