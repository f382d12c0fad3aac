/* linear.c - y = x w^T + bias, one dot product an output. */
#include "kernels/ref/ref_internal.h"

void berth_ref_linear(const berth_op_call *call)
{
    const berth_tensor *w = &call->in[1], *bias = call->n_in > 2 ? &call->in[2] : NULL;
    size_t n_out = (size_t)w->dims[0], n_in = n_out ? (size_t)berth_tensor_elements(w) / n_out : 0;
    size_t n = n_in ? (size_t)berth_tensor_elements(&call->in[0]) / n_in : 0;
    const float *x = berth_ref_f32(&call->in[0]);
    float *y = berth_ref_out(call);
    for (size_t t = 0; t < n; t++) {
        for (size_t o = 0; o < n_out; o++) {
            double sum = bias ? (double)berth_ref_get(bias, o) : 0.0;
            for (size_t i = 0; i < n_in; i++) sum += (double)x[t * n_in + i] * (double)berth_ref_get(w, o * n_in + i);
            y[t * n_out + o] = (float)sum;
        }
    }
}
