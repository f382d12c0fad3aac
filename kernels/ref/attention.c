/* attention.c - softmax attention inside a tile, and over a paged key-value cache; and the append to that cache.
 * One query row at a time; its scores stand in the workspace. Source: Vaswani et al. 2017, section 3.2. */
#include <math.h>

#include "kernels/ref/ref_internal.h"

/* Turns n scores into weights that sum to 1. */
static void softmax(double *scores, size_t n)
{
    double top = scores[0], sum = 0;
    for (size_t i = 1; i < n; i++)
        if (scores[i] > top) top = scores[i];
    for (size_t i = 0; i < n; i++) sum += scores[i] = exp(scores[i] - top);
    for (size_t i = 0; i < n; i++) scores[i] /= sum;
}

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

size_t berth_ref_attention_full_workspace(const berth_op_call *shapes, int32_t n_threads)
{
    (void)n_threads;
    return (size_t)shapes->in[1].dims[1] * sizeof(double);
}

void berth_ref_attention_full(const berth_op_call *call)
{
    size_t n_tiles = (size_t)call->in[0].dims[0], rows = (size_t)call->in[0].dims[1], c = (size_t)call->in[0].dims[2];
    size_t n_heads = (size_t)call->attrs->n_heads, d = c / n_heads;
    double *weights = call->workspace;
    for (size_t tile = 0; tile < n_tiles; tile++)
        for (size_t h = 0; h < n_heads; h++) {
            const float *q = berth_ref_f32(&call->in[0]) + tile * rows * c + h * d;
            const float *k = berth_ref_f32(&call->in[1]) + tile * rows * c + h * d;
            const float *v = berth_ref_f32(&call->in[2]) + tile * rows * c + h * d;
            float *o = berth_ref_out(call) + tile * rows * c + h * d;
            for (size_t t = 0; t < rows; t++) {
                for (size_t s = 0; s < rows; s++)
                    weights[s] = dot(q + t * c, k + s * c, d) * (double)call->attrs->scale;
                softmax(weights, rows);
                for (size_t i = 0; i < d; i++) {
                    double sum = 0;
                    for (size_t s = 0; s < rows; s++) sum += weights[s] * (double)v[s * c + i];
                    o[t * c + i] = (float)sum;
                }
            }
        }
}

void berth_ref_kv_append(const berth_op_call *call)
{
    const int32_t *slots = berth_ref_i32(&call->in[2]);
    size_t n = (size_t)berth_tensor_elements(&call->in[2]);
    size_t kv_heads = (size_t)call->out.dims[2], block = (size_t)call->out.dims[3], d = (size_t)call->out.dims[4];
    float *kv = berth_ref_out(call);
    for (size_t t = 0; t < n; t++)
        for (size_t part = 0; part < 2; part++)
            for (size_t h = 0; h < kv_heads; h++) {
                size_t slot = (size_t)slots[t];
                float *row = kv + ((((slot / block) * 2 + part) * kv_heads + h) * block + slot % block) * d;
                memcpy(row, berth_ref_f32(&call->in[part]) + (t * kv_heads + h) * d, d * sizeof *row);
            }
}

size_t berth_ref_attention_paged_workspace(const berth_op_call *shapes, int32_t n_threads)
{
    (void)n_threads;
    return (size_t)berth_tensor_last(&shapes->in[4]) * (size_t)shapes->in[1].dims[3] * sizeof(double);
}

void berth_ref_attention_paged(const berth_op_call *call)
{
    const berth_tensor *kv = &call->in[1]; /* [n_blocks, 2, kv_heads, block, d] */
    const int32_t *positions = berth_ref_i32(&call->in[2]), *token_seq = berth_ref_i32(&call->in[3]);
    size_t n = (size_t)berth_tensor_elements(&call->in[2]), max_blocks = (size_t)berth_tensor_last(&call->in[4]);
    size_t kv_heads = (size_t)kv->dims[2], block = (size_t)kv->dims[3], d = (size_t)kv->dims[4];
    size_t heads = n ? (size_t)berth_tensor_elements(&call->in[0]) / (n * d) : 0;
    size_t head_stride = block * d, part_stride = kv_heads * head_stride;
    double *weights = call->workspace;
    for (size_t t = 0; t < n; t++) {
        const int32_t *table = berth_ref_i32(&call->in[4]) + (size_t)token_seq[t] * max_blocks;
        size_t len = (size_t)positions[t] + 1;
        for (size_t h = 0; h < heads; h++) {
            const float *q = berth_ref_f32(&call->in[0]) + (t * heads + h) * d;
            const float *base = berth_ref_f32(kv) + h / (heads / kv_heads) * head_stride;
            float *o = berth_ref_out(call) + (t * heads + h) * d;
            for (size_t p = 0; p < len; p++) {
                const float *k = base + 2 * part_stride * (size_t)table[p / block] + p % block * d;
                weights[p] = dot(q, k, d) * (double)call->attrs->scale;
            }
            softmax(weights, len);
            for (size_t i = 0; i < d; i++) {
                double sum = 0;
                for (size_t p = 0; p < len; p++)
                    sum += weights[p] *
                           (double)base[2 * part_stride * (size_t)table[p / block] + part_stride + p % block * d + i];
                o[i] = (float)sum;
            }
        }
    }
}
