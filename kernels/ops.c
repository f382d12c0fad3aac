/* ops.c - the table of ops: names, operand counts, what may be done in place, and what each costs. */
#include "kernels/ops.h"

const berth_op_info berth_op_infos[BERTH_OP_KIND_COUNT] = {
    [BERTH_OP_COPY] = {"copy", 1, 1, -1, false},
    [BERTH_OP_PATCHIFY] = {"patchify", 1, 1, -1, false},
    [BERTH_OP_LINEAR] = {"linear", 2, 3, -1, false, 6},
    [BERTH_OP_VISION_EMBED] = {"vision_embed", 3, 3, -1, false, 6},
    [BERTH_OP_LAYER_NORM] = {"layer_norm", 3, 3, 0, false, 6},
    [BERTH_OP_RMS_NORM] = {"rms_norm", 2, 2, 0, false, 2},
    [BERTH_OP_ATTENTION_FULL] = {"attention_full", 3, 3, -1, false},
    [BERTH_OP_SCALE_ADD] = {"scale_add", 3, 3, 0, false, 4},
    [BERTH_OP_ADD] = {"add", 2, 2, 0, false},
    [BERTH_OP_GELU] = {"gelu", 1, 1, 0, false},
    [BERTH_OP_SILU_MUL] = {"silu_mul", 2, 2, 0, false},
    [BERTH_OP_DROP_CLS] = {"drop_cls", 1, 1, -1, false},
    [BERTH_OP_PIXEL_SHUFFLE] = {"pixel_shuffle", 1, 1, -1, false},
    [BERTH_OP_EMBED] = {"embed", 2, 2, -1, false, 2},
    [BERTH_OP_SCATTER_ROWS] = {"scatter_rows", 4, 4, 0, false},
    [BERTH_OP_GATHER_ROWS] = {"gather_rows", 2, 2, -1, false},
    [BERTH_OP_STORE_ROWS] = {"store_rows", 2, 2, -1, true},
    [BERTH_OP_ROPE_TABLE] = {"rope_table", 3, 3, -1, false},
    [BERTH_OP_ROPE] = {"rope", 2, 2, 0, false},
    [BERTH_OP_KV_APPEND] = {"kv_append", 3, 3, -1, true},
    [BERTH_OP_ATTENTION_PAGED] = {"attention_paged", 5, 5, -1, false},
    [BERTH_OP_LOGIT_STATS] = {"logit_stats", 1, 1, -1, false},
    [BERTH_OP_LOGIT_BEST] = {"logit_best", 3, 3, -1, false},
    [BERTH_OP_CONVERT] = {"convert", 1, 1, -1, false},
};

static double elements(const berth_tensor *t)
{
    return (double)berth_tensor_elements(t);
}

static double bytes(const berth_tensor *t)
{
    return elements(t) * (double)berth_dtype_size(t->dtype);
}

/* Work per element of the input where an op has no products to count: a vector exp or erf is some twenty operations. */
static double flops_per_element(berth_op_kind kind)
{
    switch (kind) {
    case BERTH_OP_LAYER_NORM: return 8;
    case BERTH_OP_RMS_NORM: return 4;
    case BERTH_OP_SCALE_ADD: return 2;
    case BERTH_OP_ADD:
    case BERTH_OP_VISION_EMBED: return 1;
    case BERTH_OP_GELU:
    case BERTH_OP_SILU_MUL: return 24;
    case BERTH_OP_ROPE: return 3;
    case BERTH_OP_LOGIT_STATS: return 4;
    default: return 0;
    }
}

static berth_op_cost attention_paged_cost(const berth_op_call *shapes)
{
    const berth_tensor *kv = &shapes->in[1];
    double context = (double)berth_tensor_last(&shapes->in[4]) * (double)kv->dims[3]; /* the bound of one sequence */
    double n_seqs = (double)shapes->in[4].dims[0];
    double kv_row = 2.0 * (double)kv->dims[2] * (double)kv->dims[4] * (double)berth_dtype_size(kv->dtype);
    return (berth_op_cost){
        .flops = 4.0 * elements(&shapes->in[0]) * context,
        .bytes_read = bytes(&shapes->in[0]) + n_seqs * context * kv_row,
        .bytes_written = bytes(&shapes->out),
    };
}

berth_op_cost berth_op_cost_of(const berth_op_call *shapes)
{
    const berth_tensor *in = shapes->in;
    if (shapes->kind == BERTH_OP_ATTENTION_PAGED) return attention_paged_cost(shapes);
    berth_op_cost cost = {.bytes_written = bytes(&shapes->out)};
    for (int32_t i = 0; i < shapes->n_in; i++) cost.bytes_read += bytes(&in[i]);
    cost.flops = flops_per_element(shapes->kind) * elements(&in[0]);
    switch (shapes->kind) {
    case BERTH_OP_LINEAR: cost.flops = 2.0 * elements(&in[0]) * (double)in[1].dims[0]; break;
    case BERTH_OP_ATTENTION_FULL: cost.flops = 4.0 * elements(&in[0]) * (double)in[1].dims[1]; break;
    case BERTH_OP_ROPE_TABLE: cost.flops = 24.0 * elements(&shapes->out); break;
    case BERTH_OP_EMBED: /* rows that are asked for, not the table */
        cost.bytes_read = bytes(&in[0]) + elements(&shapes->out) * (double)berth_dtype_size(in[1].dtype);
        break;
    case BERTH_OP_GATHER_ROWS: cost.bytes_read = bytes(&in[1]) + bytes(&shapes->out); break;
    case BERTH_OP_LOGIT_BEST: { /* rows that are asked for; an exponential each, and comparing */
        double seen = elements(&in[1]) * (double)berth_tensor_last(&in[0]);
        cost.flops = 24.0 * seen;
        cost.bytes_read = bytes(&in[1]) + bytes(&in[2]) + seen * (double)berth_dtype_size(in[0].dtype);
        break;
    }
    case BERTH_OP_SCATTER_ROWS:
        cost.bytes_read = bytes(&in[0]) + 2.0 * bytes(&in[2]) +
                          elements(&in[2]) * (double)berth_tensor_last(&in[1]) * (double)berth_dtype_size(in[1].dtype);
        break;
    case BERTH_OP_STORE_ROWS: cost.bytes_written = bytes(&in[0]); break;
    case BERTH_OP_KV_APPEND: cost.bytes_written = bytes(&in[0]) + bytes(&in[1]); break;
    default: break;
    }
    return cost;
}
