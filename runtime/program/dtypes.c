/* dtypes.c - the dtype of every value, from what its device computes in.
 *
 * Three kinds of values. EXACT ones are fp32 everywhere: pixels, angles, logits and their statistics. The STREAM is
 * what layers add to (and what they add): fp32 on a device that computes in fp16, whose range a sum over layers
 * leaves, else the device's dtype. All else is NARROW: the device's dtype, as are weights, keys and values, and image
 * features. A device that computes in fp32 reads weights as stored. The same value may so have two dtypes on two
 * devices; route converts behind the copy. Source of the fp16 rule: transformers' and vLLM's issues with Qwen2 in
 * fp16, whose residual stream passes 65504. */
#include "program/program_internal.h"

/* The kind of an op's output, from what it means. */
static berth_precision output_precision(const berth_program *p, const berth_op *op)
{
    switch (op->kind) {
    case BERTH_OP_ROPE_TABLE:
    case BERTH_OP_LOGIT_STATS:
    case BERTH_OP_LOGIT_BEST: return BERTH_PRECISION_EXACT;
    case BERTH_OP_VISION_EMBED:
    case BERTH_OP_SCALE_ADD:
    case BERTH_OP_ADD:
    case BERTH_OP_EMBED:
    case BERTH_OP_SCATTER_ROWS: return BERTH_PRECISION_STREAM;
    case BERTH_OP_DROP_CLS: /* what moves rows changes nothing */
    case BERTH_OP_PIXEL_SHUFFLE:
    case BERTH_OP_GATHER_ROWS:
    case BERTH_OP_CONVERT:
    case BERTH_OP_COPY:
        return op->in[0] >= 0 && op->in[0] < p->n_values ? p->values[op->in[0]].precision : BERTH_PRECISION_EXACT;
    default: return BERTH_PRECISION_NARROW;
    }
}

/* What an op needs of an operand, when that is more than its maker gives. */
static void widen_operands(berth_program *p, const berth_op *op)
{
    bool adds = op->kind == BERTH_OP_ADD || op->kind == BERTH_OP_SCALE_ADD;
    for (int32_t k = 0; k < op->n_in && k < 2; k++) {
        if (op->in[k] < 0 || op->in[k] >= p->n_values) continue;
        berth_value *v = &p->values[op->in[k]];
        if (v->kind != BERTH_VALUE_ACTIVATION) continue;
        if (adds && v->precision == BERTH_PRECISION_NARROW) v->precision = BERTH_PRECISION_STREAM;
        if (op->kind == BERTH_OP_LOGIT_STATS || op->kind == BERTH_OP_LOGIT_BEST) v->precision = BERTH_PRECISION_EXACT;
    }
}

berth_dtype berth_dtype_on(const berth_value *v, berth_dtype compute)
{
    if (!berth_dtype_is_float(v->dtype)) return v->dtype;
    if (v->kind == BERTH_VALUE_WEIGHT && compute == BERTH_F32) return v->dtype;
    if (v->precision == BERTH_PRECISION_EXACT) return BERTH_F32;
    if (v->precision == BERTH_PRECISION_STREAM && compute == BERTH_F16) return BERTH_F32;
    return compute;
}

void berth_dtypes(berth_program *p, const berth_pass_env *env)
{
    for (int32_t i = 0; i < p->n_values; i++) {
        berth_value *v = &p->values[i];
        v->precision = v->kind == BERTH_VALUE_WEIGHT || v->kind == BERTH_VALUE_STATE ? BERTH_PRECISION_NARROW
                                                                                     : BERTH_PRECISION_EXACT;
    }
    for (int32_t i = 0; i < p->n_ops; i++) {
        const berth_op *op = &p->ops[i];
        if (op->out >= 0 && op->out < p->n_values && p->values[op->out].kind == BERTH_VALUE_ACTIVATION)
            p->values[op->out].precision = output_precision(p, op);
    }
    for (int32_t i = 0; i < p->n_ops; i++) widen_operands(p, &p->ops[i]);
    for (int32_t i = 0; i < p->n_values; i++) {
        berth_value *v = &p->values[i];
        bool placed = env->compute && v->device >= 0 && v->device < env->n_devices;
        if (placed) v->dtype = berth_dtype_on(v, env->compute[v->device]);
    }
}
