/* rows.c - ops that move whole rows by index: embedding, scatter, gather, store. */
#include "kernels/ref/ref_internal.h"

void berth_ref_embed(const berth_op_call *call)
{
    const int32_t *ids = berth_ref_i32(&call->in[0]);
    size_t n = (size_t)berth_tensor_elements(&call->in[0]), d = (size_t)berth_tensor_last(&call->in[1]);
    float *y = berth_ref_out(call);
    for (size_t t = 0; t < n; t++)
        for (size_t i = 0; i < d; i++) y[t * d + i] = berth_ref_get(&call->in[1], (size_t)ids[t] * d + i);
}

void berth_ref_scatter_rows(const berth_op_call *call)
{
    const float *x = berth_ref_f32(&call->in[0]), *features = berth_ref_f32(&call->in[1]);
    const int32_t *src = berth_ref_i32(&call->in[2]), *dst = berth_ref_i32(&call->in[3]);
    size_t n = (size_t)berth_tensor_elements(&call->in[0]), d = (size_t)berth_tensor_last(&call->in[0]);
    size_t n_rows = (size_t)berth_tensor_elements(&call->in[2]);
    float *y = berth_ref_out(call);
    if (y != x && n) memcpy(y, x, n * sizeof *y);
    for (size_t i = 0; i < n_rows; i++) memcpy(y + (size_t)dst[i] * d, features + (size_t)src[i] * d, d * sizeof *y);
}

void berth_ref_gather_rows(const berth_op_call *call)
{
    const float *x = berth_ref_f32(&call->in[0]);
    const int32_t *rows = berth_ref_i32(&call->in[1]);
    size_t d = (size_t)berth_tensor_last(&call->in[0]), n_rows = (size_t)berth_tensor_elements(&call->in[1]);
    float *y = berth_ref_out(call);
    for (size_t i = 0; i < n_rows; i++) memcpy(y + i * d, x + (size_t)rows[i] * d, d * sizeof *y);
}

void berth_ref_store_rows(const berth_op_call *call)
{
    const float *x = berth_ref_f32(&call->in[0]);
    const int32_t *rows = berth_ref_i32(&call->in[1]);
    size_t d = (size_t)berth_tensor_last(&call->in[0]), n_rows = (size_t)berth_tensor_elements(&call->in[1]);
    float *store = berth_ref_out(call);
    for (size_t i = 0; i < n_rows; i++) memcpy(store + (size_t)rows[i] * d, x + i * d, d * sizeof *store);
}
