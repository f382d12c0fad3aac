/* ref_internal.h - what the reference kernels share: element access that asks nothing of alignment, and their names.
 * They are the definition of each op: plain loops, double sums, one thread, no thought of speed. */
#ifndef BERTH_KERNELS_REF_INTERNAL_H
#define BERTH_KERNELS_REF_INTERNAL_H

#include <string.h>

#include "kernels/ops.h"

/* Element i of a float tensor of any dtype; weights may stand at any byte. */
static inline float berth_ref_get(const berth_tensor *t, size_t i)
{
    const char *p = (const char *)t->data + i * (t->dtype == BERTH_F32 ? 4 : 2);
    if (t->dtype == BERTH_F32) {
        float f;
        memcpy(&f, p, sizeof f);
        return f;
    }
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return t->dtype == BERTH_BF16 ? berth_bf16_to_f32(h) : berth_f16_to_f32(h);
}

static inline const float *berth_ref_f32(const berth_tensor *t)
{
    return (const float *)t->data;
}
static inline const int32_t *berth_ref_i32(const berth_tensor *t)
{
    return (const int32_t *)t->data;
}
static inline float *berth_ref_out(const berth_op_call *call)
{
    return (float *)call->out.data;
}

void berth_ref_patchify(const berth_op_call *call);
void berth_ref_vision_embed(const berth_op_call *call);
void berth_ref_drop_cls(const berth_op_call *call);
void berth_ref_pixel_shuffle(const berth_op_call *call);
void berth_ref_linear(const berth_op_call *call);
void berth_ref_layer_norm(const berth_op_call *call);
void berth_ref_rms_norm(const berth_op_call *call);
void berth_ref_attention_full(const berth_op_call *call);
size_t berth_ref_attention_full_workspace(const berth_op_call *shapes, int32_t n_threads);
void berth_ref_attention_paged(const berth_op_call *call);
size_t berth_ref_attention_paged_workspace(const berth_op_call *shapes, int32_t n_threads);
void berth_ref_kv_append(const berth_op_call *call);
void berth_ref_scale_add(const berth_op_call *call);
void berth_ref_add(const berth_op_call *call);
void berth_ref_gelu(const berth_op_call *call);
void berth_ref_silu_mul(const berth_op_call *call);
void berth_ref_embed(const berth_op_call *call);
void berth_ref_scatter_rows(const berth_op_call *call);
void berth_ref_gather_rows(const berth_op_call *call);
void berth_ref_store_rows(const berth_op_call *call);
void berth_ref_rope_table(const berth_op_call *call);
void berth_ref_rope(const berth_op_call *call);
void berth_ref_logit_stats(const berth_op_call *call);
void berth_ref_logit_best(const berth_op_call *call);

#endif
