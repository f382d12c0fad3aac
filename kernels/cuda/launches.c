/* launches.c - see launches.h. One function a family of ops; each picks a kernel by dtype and shape and cuts the work. */
#include "kernels/cuda/launches.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/args.h"
#include "kernels/cuda/launches_internal.h"

static const char *dtype_suffix(berth_dtype dtype)
{
    return berth_dtype_is_float(dtype) ? berth_dtype_name(dtype) : "none";
}

static uint32_t blocks_for(int64_t items, int64_t per_block)
{
    return (uint32_t)((items + per_block - 1) / per_block);
}

int32_t berth_cuda_launch_1d(berth_cuda_launch *l, uint32_t blocks, uint32_t threads, const void *args, size_t bytes)
{
    return berth_cuda_launch_3d(l, (const uint32_t[]){blocks, 1, 1}, threads, 0, args, bytes);
}

int32_t berth_cuda_launch_3d(berth_cuda_launch *l, const uint32_t grid[3], uint32_t threads, uint32_t shared_bytes,
                             const void *args, size_t bytes)
{
    memcpy(l->grid, grid, sizeof l->grid);
    l->block[0] = threads, l->block[1] = l->block[2] = 1;
    l->shared_bytes = shared_bytes;
    l->args_bytes = (uint32_t)bytes;
    memcpy(l->args, args, bytes);
    return 1;
}

void berth_cuda_name(berth_cuda_launch *l, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(l->kernel, sizeof l->kernel, format, list);
    va_end(list);
}

static int32_t elementwise(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *a = &call->in[0];
    berth_cuda_elementwise args = {.a = a->data,
                                   .b = call->n_in > 1 ? call->in[1].data : NULL,
                                   .w = call->n_in > 2 ? call->in[2].data : NULL,
                                   .y = call->out.data,
                                   .n = berth_tensor_elements(a),
                                   .c = (int)berth_tensor_last(a)};
    const char *name = berth_op_infos[call->kind].name, *t = dtype_suffix(a->dtype);
    if (call->kind == BERTH_OP_SCALE_ADD)
        berth_cuda_name(out, "%s_%s_%s", name, t, dtype_suffix(call->in[2].dtype));
    else if (call->kind == BERTH_OP_CONVERT)
        berth_cuda_name(out, "%s_%s_%s", name, t, dtype_suffix(call->out.dtype));
    else
        berth_cuda_name(out, "%s_%s", name, t);
    return berth_cuda_launch_1d(out, blocks_for(args.n, 8 * BERTH_CUDA_THREADS), BERTH_CUDA_THREADS, &args,
                                sizeof args);
}

static int32_t norm(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *x = &call->in[0];
    berth_cuda_norm args = {.x = x->data,
                            .w = call->in[1].data,
                            .b = call->n_in > 2 ? call->in[2].data : NULL,
                            .y = call->out.data,
                            .c = (int)berth_tensor_last(x),
                            .eps = call->attrs->eps};
    /* Short rows (heads) need no more threads than runs; the sum's tree is the row length's alone. */
    uint32_t threads = args.c <= 256 ? 32 : args.c <= 1024 ? 128 : BERTH_CUDA_THREADS;
    berth_cuda_name(out, "%s_%s_%s", berth_op_infos[call->kind].name, dtype_suffix(x->dtype),
                    dtype_suffix(call->in[1].dtype));
    return berth_cuda_launch_3d(out, (const uint32_t[]){(uint32_t)berth_tensor_rows(x), 1, 1}, threads,
                                32 * sizeof(float), &args, sizeof args);
}

static int32_t linear(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *w = &call->in[1];
    berth_cuda_linear args = {.x = call->in[0].data,
                              .w = w->data,
                              .bias = call->n_in > 2 ? call->in[2].data : NULL,
                              .y = call->out.data,
                              .n_out = (int)w->dims[0],
                              .n_in = (int)(berth_tensor_elements(w) / w->dims[0])};
    int64_t rows = berth_tensor_elements(&call->in[0]) / args.n_in;
    int together = args.n_in % 8 || rows <= 1 ? 1 : rows <= 4 ? 4 : 8;
    if (rows > 65535 * (int64_t)together) return -1;
    args.rows = (int)rows;
    char count[4] = {(char)('0' + together)};
    berth_cuda_name(out, "linear_%s_%s_%s", args.n_in % 8 ? "any" : count, dtype_suffix(call->in[0].dtype),
                    dtype_suffix(w->dtype));
    const uint32_t outs = BERTH_CUDA_LINEAR_THREADS / 32 * (args.n_in % 8 ? 1 : BERTH_CUDA_LINEAR_WARP_OUTS);
    return berth_cuda_launch_3d(out, (const uint32_t[]){blocks_for(args.n_out, outs), blocks_for(rows, together), 1},
                                BERTH_CUDA_LINEAR_THREADS, 0, &args, sizeof args);
}

static int32_t rope(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *table = &call->in[1];
    int64_t half = berth_tensor_last(table), n = berth_tensor_elements(&call->in[0]) / 2;
    if (table->dtype != BERTH_F32) return -1;
    berth_cuda_rope args = {.x = call->in[0].data,
                            .table = table->data,
                            .y = call->out.data,
                            .n = n,
                            .half = (int)half,
                            .heads = (int)(n / half / table->dims[0])};
    berth_cuda_name(out, "rope_%s", dtype_suffix(call->in[0].dtype));
    return berth_cuda_launch_1d(out, blocks_for(n, BERTH_CUDA_THREADS), BERTH_CUDA_THREADS, &args, sizeof args);
}

static int32_t rope_table(const berth_op_call *call, berth_cuda_launch *out)
{
    if (call->out.dtype != BERTH_F32 || call->in[2].dtype != BERTH_F32) return -1;
    berth_cuda_rope_table args = {.positions = call->in[0].data,
                                  .token_seq = call->in[1].data,
                                  .inv_freq = call->in[2].data,
                                  .y = call->out.data,
                                  .n = berth_tensor_elements(&call->out) / 2,
                                  .half = (int)berth_tensor_last(&call->in[2])};
    berth_cuda_name(out, "rope_table");
    return berth_cuda_launch_1d(out, blocks_for(args.n, BERTH_CUDA_THREADS), BERTH_CUDA_THREADS, &args, sizeof args);
}

static int32_t logit_stats(const berth_op_call *call, berth_cuda_launch *out)
{
    const uint32_t warp_bytes = 24; /* logit_seen */
    const berth_tensor *x = &call->in[0];
    berth_cuda_logit_stats args = {.x = x->data, .y = call->out.data, .v = (int)berth_tensor_last(x)};
    if (call->out.dtype != BERTH_F32) return -1;
    berth_cuda_name(out, "logit_stats_%s", dtype_suffix(x->dtype));
    return berth_cuda_launch_3d(out, (const uint32_t[]){(uint32_t)berth_tensor_rows(x), 1, 1}, BERTH_CUDA_THREADS,
                                BERTH_CUDA_THREADS / 32 * warp_bytes, &args, sizeof args);
}

int32_t berth_cuda_launches(const berth_op_call *call, berth_cuda_launch out[BERTH_CUDA_MAX_LAUNCHES])
{
    if (berth_tensor_elements(&call->out) == 0) return 0;
    if (berth_tensor_elements(&call->out) / berth_tensor_last(&call->out) > INT32_MAX) return -1;
    switch (call->kind) {
    case BERTH_OP_ADD:
    case BERTH_OP_GELU:
    case BERTH_OP_SILU_MUL:
    case BERTH_OP_SCALE_ADD:
    case BERTH_OP_CONVERT: return elementwise(call, out);
    case BERTH_OP_LAYER_NORM:
    case BERTH_OP_RMS_NORM: return norm(call, out);
    case BERTH_OP_LINEAR: return linear(call, out);
    case BERTH_OP_ROPE: return rope(call, out);
    case BERTH_OP_ROPE_TABLE: return rope_table(call, out);
    case BERTH_OP_LOGIT_STATS: return logit_stats(call, out);
    case BERTH_OP_ATTENTION_FULL:
    case BERTH_OP_ATTENTION_PAGED: return berth_cuda_attention_launches(call, out);
    case BERTH_OP_COPY:
    case BERTH_OP_KIND_COUNT: return -1;
    default: return berth_cuda_move_launches(call, out);
    }
}
