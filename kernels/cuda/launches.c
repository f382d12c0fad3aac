/* launches.c - see launches.h. One function a family of ops; each picks a kernel by dtype and shape and cuts the work. */
#include "kernels/cuda/launches.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/launches_internal.h"

_Static_assert((int)BERTH_F32 == BERTH_CUDA_F32 && (int)BERTH_F16 == BERTH_CUDA_F16 &&
                   (int)BERTH_BF16 == BERTH_CUDA_BF16,
               "kernels are given a berth_dtype");
_Static_assert((int)BERTH_BEST == BERTH_CUDA_BEST && (int)BERTH_BEST_VALUES == BERTH_CUDA_BEST_HEAD &&
                   (int)BERTH_LOGIT_BEST == BERTH_CUDA_BEST_ROW && (int)BERTH_BEST_SUM == 0,
               "LOGIT_BEST's columns");

berth_cuda_in berth_cuda_input(const berth_tensor *t)
{
    return (berth_cuda_in){t->data, (int)t->dtype};
}

berth_cuda_out berth_cuda_output(const berth_tensor *t)
{
    return (berth_cuda_out){t->data, (int)t->dtype};
}

berth_cuda_in berth_cuda_optional_input(const berth_op_call *call, int32_t i)
{
    return i < call->n_in ? berth_cuda_input(&call->in[i]) : (berth_cuda_in){NULL, BERTH_CUDA_F32};
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

/* The name of a kernel that takes any float dtypes. */
static void name_any(berth_cuda_launch *out, const berth_op_call *call)
{
    berth_cuda_name(out, "%s_any", berth_op_infos[call->kind].name);
}

static int32_t elementwise(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *a = &call->in[0];
    berth_cuda_elementwise args = {.a = berth_cuda_input(a),
                                   .b = berth_cuda_optional_input(call, 1),
                                   .w = berth_cuda_optional_input(call, 2),
                                   .y = berth_cuda_output(&call->out),
                                   .n = berth_tensor_elements(a),
                                   .c = (int)berth_tensor_last(a)};
    name_any(out, call);
    return berth_cuda_launch_1d(out, berth_cuda_blocks(args.n, 8 * BERTH_CUDA_THREADS), BERTH_CUDA_THREADS, &args,
                                sizeof args);
}

uint32_t berth_cuda_norm_threads(int32_t c) /* short rows (heads) need no more than runs */
{
    return c <= 256 ? 32 : c <= 1024 ? 128 : BERTH_CUDA_THREADS;
}

static int32_t norm(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *x = &call->in[0];
    berth_cuda_norm args = {.x = berth_cuda_input(x),
                            .w = berth_cuda_input(&call->in[1]),
                            .b = berth_cuda_optional_input(call, 2),
                            .y = berth_cuda_output(&call->out),
                            .c = (int)berth_tensor_last(x),
                            .eps = call->attrs->eps};
    name_any(out, call);
    return berth_cuda_launch_3d(out, (const uint32_t[]){(uint32_t)berth_tensor_rows(x), 1, 1},
                                berth_cuda_norm_threads(args.c), 32 * sizeof(float), &args, sizeof args);
}

static int32_t rope(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *x = &call->in[0], *table = &call->in[1];
    int64_t half = berth_tensor_last(table), heads = berth_tensor_elements(x) / 2 / half; /* of all tokens */
    if (table->dtype != BERTH_F32) return -1;
    berth_cuda_rope args = {.x = berth_cuda_input(x),
                            .table = table->data,
                            .y = berth_cuda_output(&call->out),
                            .n = heads * ((half + 7) / 8),
                            .half = (int)half,
                            .heads = (int)(heads / table->dims[0])};
    name_any(out, call);
    return berth_cuda_launch_1d(out, berth_cuda_blocks(args.n, BERTH_CUDA_THREADS), BERTH_CUDA_THREADS, &args,
                                sizeof args);
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
    return berth_cuda_launch_1d(out, berth_cuda_blocks(args.n, BERTH_CUDA_THREADS), BERTH_CUDA_THREADS, &args,
                                sizeof args);
}

static uint32_t logit_parts(const berth_op_call *call)
{
    return berth_cuda_blocks(berth_tensor_last(&call->in[0]), BERTH_CUDA_LOGITS);
}

static int32_t logit_stats(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *x = &call->in[0];
    const uint32_t parts = logit_parts(call), rows = (uint32_t)berth_tensor_rows(x),
                   seen = sizeof(berth_cuda_logit_seen);
    berth_cuda_logit_stats args = {.x = berth_cuda_input(x),
                                   .y = call->out.data,
                                   .parts = call->workspace,
                                   .v = (int)berth_tensor_last(x),
                                   .n_parts = (int)parts};
    if (call->out.dtype != BERTH_F32 || rows > 65535) return -1;
    berth_cuda_name(&out[0], "logit_stats_parts");
    berth_cuda_launch_3d(&out[0], (const uint32_t[]){parts, rows, 1}, BERTH_CUDA_THREADS,
                         BERTH_CUDA_THREADS / 32 * seen, &args, sizeof args);
    berth_cuda_name(&out[1], "logit_stats_join");
    berth_cuda_launch_3d(&out[1], (const uint32_t[]){rows, 1, 1}, 32, seen, &args, sizeof args);
    return 2;
}

static size_t best_keys(const berth_op_call *call)
{
    return (size_t)berth_tensor_elements(&call->in[1]) * logit_parts(call) * BERTH_CUDA_BEST;
}

static int32_t logit_best(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *x = &call->in[0];
    const uint32_t parts = logit_parts(call), rows = (uint32_t)berth_tensor_elements(&call->in[1]);
    /* a list of keys as long as 128 threads can fill it, and 32 words */
    const uint32_t shared = BERTH_CUDA_BEST * (BERTH_CUDA_LOGITS / BERTH_CUDA_THREADS) * sizeof(uint64_t) + 128;
    berth_cuda_logit_best args = {.x = berth_cuda_input(x),
                                  .rows = call->in[1].data,
                                  .scales = call->in[2].data,
                                  .y = call->out.data,
                                  .keys = call->workspace,
                                  .v = (int)berth_tensor_last(x),
                                  .n_parts = (int)parts};
    if (call->out.dtype != BERTH_F32 || call->in[2].dtype != BERTH_F32) return -1;
    if (rows > 65535 || parts > BERTH_CUDA_BEST_PARTS) return -1;
    if (args.keys) args.seen = (float *)(void *)(args.keys + best_keys(call));
    berth_cuda_name(&out[0], "logit_best_parts");
    berth_cuda_launch_3d(&out[0], (const uint32_t[]){parts, rows, 1}, BERTH_CUDA_THREADS, shared, &args, sizeof args);
    berth_cuda_name(&out[1], "logit_best_join");
    berth_cuda_launch_3d(&out[1], (const uint32_t[]){rows, 1, 1}, BERTH_CUDA_THREADS, shared, &args, sizeof args);
    return 2;
}

size_t berth_cuda_workspace(const berth_op_call *shapes)
{
    switch (shapes->kind) {
    case BERTH_OP_ATTENTION_PAGED: return berth_cuda_attention_workspace(shapes);
    case BERTH_OP_LOGIT_STATS:
        return (size_t)berth_tensor_rows(&shapes->in[0]) * logit_parts(shapes) * sizeof(berth_cuda_logit_seen);
    case BERTH_OP_LOGIT_BEST:
        return best_keys(shapes) * sizeof(uint64_t) + best_keys(shapes) / BERTH_CUDA_BEST * 2 * sizeof(float);
    default: return 0;
    }
}

int32_t berth_cuda_launches(const berth_op_call *call, int32_t capability,
                            berth_cuda_launch out[BERTH_CUDA_MAX_LAUNCHES])
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
    case BERTH_OP_LINEAR: return berth_cuda_linear_launches(call, capability, out);
    case BERTH_OP_ROPE: return rope(call, out);
    case BERTH_OP_ROPE_TABLE: return rope_table(call, out);
    case BERTH_OP_LOGIT_STATS: return logit_stats(call, out);
    case BERTH_OP_LOGIT_BEST: return logit_best(call, out);
    case BERTH_OP_ATTENTION_FULL:
    case BERTH_OP_ATTENTION_PAGED: return berth_cuda_attention_launches(call, capability, out);
    case BERTH_OP_COPY:
    case BERTH_OP_KIND_COUNT: return -1;
    default: return berth_cuda_move_launches(call, out);
    }
}
