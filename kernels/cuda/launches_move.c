/* launches_move.c - launches of ops that only move values; rows move in the widest unit that their length allows. */
#include "kernels/cuda/args.h"
#include "kernels/cuda/launches_internal.h"

/* The unit's name, and in *units a row's length in it. */
static const char *unit_of(int64_t row_elements, berth_dtype dtype, int *units)
{
    int64_t bytes = row_elements * (int64_t)berth_dtype_size(dtype);
    int64_t unit = bytes % 16 == 0 ? 16 : bytes % 4 == 0 ? 4 : 2;
    *units = (int)(bytes / unit);
    return unit == 16 ? "u16" : unit == 4 ? "u4" : "u2";
}

/* Threads for a row of so many items: whole warps, as few as take it in one step. */
static uint32_t threads_for(int items)
{
    uint32_t warps = (uint32_t)(items + 31) / 32;
    return warps * 32 < BERTH_CUDA_THREADS ? warps * 32 : BERTH_CUDA_THREADS;
}

static int32_t launch_rows(berth_cuda_launch *out, berth_cuda_rows args, int64_t row_elements, berth_dtype dtype)
{
    if (args.n_rows == 0) return 0;
    const char *unit = unit_of(row_elements, dtype, &args.units);
    berth_cuda_name(out, "rows_%s", unit);
    return berth_cuda_launch_1d(out, (uint32_t)args.n_rows, threads_for(args.units), &args, sizeof args);
}

/* Same dtype: rows as bytes. */
static int32_t embed(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *table = &call->in[1];
    berth_cuda_rows args = {.src = table->data,
                            .dst = call->out.data,
                            .src_rows = call->in[0].data,
                            .n_rows = berth_tensor_elements(&call->in[0]),
                            .units = (int)berth_tensor_last(table)};
    if (table->dtype == call->out.dtype) return launch_rows(out, args, berth_tensor_last(table), table->dtype);
    berth_cuda_name(out, "embed_%s_%s", berth_dtype_name(call->out.dtype), berth_dtype_name(table->dtype));
    return berth_cuda_launch_1d(out, (uint32_t)args.n_rows, threads_for((args.units + 7) / 8), &args, sizeof args);
}

/* y = x first, unless it is there already. */
static int32_t scatter(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *x = &call->in[0];
    int64_t d = berth_tensor_last(x);
    int32_t n = 0;
    if (x->data != call->out.data)
        n += launch_rows(out, (berth_cuda_rows){.src = x->data, .dst = call->out.data, .n_rows = berth_tensor_rows(x)},
                         d, x->dtype);
    berth_cuda_rows args = {.src = call->in[1].data,
                            .dst = call->out.data,
                            .src_rows = call->in[2].data,
                            .dst_rows = call->in[3].data,
                            .n_rows = berth_tensor_elements(&call->in[2])};
    return n + launch_rows(out + n, args, d, x->dtype);
}

static int32_t gather_or_store(const berth_op_call *call, berth_cuda_launch *out)
{
    berth_cuda_rows args = {
        .src = call->in[0].data, .dst = call->out.data, .n_rows = berth_tensor_elements(&call->in[1])};
    if (call->kind == BERTH_OP_GATHER_ROWS)
        args.src_rows = call->in[1].data;
    else
        args.dst_rows = call->in[1].data;
    return launch_rows(out, args, berth_tensor_last(&call->in[0]), call->in[0].dtype);
}

static int32_t drop_cls(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *x = &call->in[0];
    berth_cuda_drop_cls args = {.x = x->data, .y = call->out.data, .patches = (int)x->dims[1] - 1};
    berth_cuda_name(out, "drop_cls_%s", unit_of(x->dims[2], x->dtype, &args.units));
    return berth_cuda_launch_1d(out, (uint32_t)(x->dims[0] * args.patches), threads_for(args.units), &args,
                                sizeof args);
}

static int32_t pixel_shuffle(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *x = &call->in[0];
    int32_t grid = 0, factor = call->attrs->factor;
    while ((int64_t)grid * grid < x->dims[1]) grid++;
    berth_cuda_pixel_shuffle args = {
        .x = x->data, .y = call->out.data, .grid = grid, .factor = factor, .transposed = call->attrs->transposed};
    berth_cuda_name(out, "pixel_shuffle_%s", unit_of(factor * x->dims[2], x->dtype, &args.units));
    return berth_cuda_launch_1d(out, (uint32_t)(x->dims[0] * x->dims[1] / factor), threads_for(args.units), &args,
                                sizeof args);
}

static int32_t kv_append(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *kv = &call->out;
    uint32_t rows = (uint32_t)(berth_tensor_elements(&call->in[2]) * kv->dims[2]);
    berth_cuda_kv_append args = {.k = call->in[0].data,
                                 .v = call->in[1].data,
                                 .slots = call->in[2].data,
                                 .kv = kv->data,
                                 .kv_heads = (int)kv->dims[2],
                                 .block = (int)kv->dims[3]};
    if (call->in[0].dtype != kv->dtype) return -1;
    if (rows == 0) return 0;
    berth_cuda_name(out, "kv_append_%s", unit_of(kv->dims[4], kv->dtype, &args.units));
    return berth_cuda_launch_3d(out, (const uint32_t[]){rows, 2, 1}, threads_for(args.units), 0, &args, sizeof args);
}

static int32_t patchify(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *pixels = &call->in[0];
    berth_cuda_patchify args = {.pixels = pixels->data,
                                .y = call->out.data,
                                .n = berth_tensor_elements(&call->out),
                                .channels = (int)pixels->dims[1],
                                .height = (int)pixels->dims[2],
                                .width = (int)pixels->dims[3],
                                .patch = call->attrs->patch};
    berth_cuda_name(out, "patchify_%s", berth_dtype_name(pixels->dtype));
    return berth_cuda_launch_1d(out, (uint32_t)((args.n + BERTH_CUDA_THREADS - 1) / BERTH_CUDA_THREADS),
                                BERTH_CUDA_THREADS, &args, sizeof args);
}

static int32_t vision_embed(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *patches = &call->in[0];
    berth_cuda_vision_embed args = {.patches = patches->data,
                                    .cls = call->in[1].data,
                                    .pos = call->in[2].data,
                                    .y = call->out.data,
                                    .n = berth_tensor_elements(&call->out),
                                    .n_patches = (int)patches->dims[1],
                                    .c = (int)patches->dims[2]};
    berth_cuda_name(out, "vision_embed_%s_%s", berth_dtype_name(patches->dtype), berth_dtype_name(call->in[1].dtype));
    return berth_cuda_launch_1d(out, (uint32_t)((args.n + BERTH_CUDA_THREADS - 1) / BERTH_CUDA_THREADS),
                                BERTH_CUDA_THREADS, &args, sizeof args);
}

int32_t berth_cuda_move_launches(const berth_op_call *call, berth_cuda_launch *out)
{
    switch (call->kind) {
    case BERTH_OP_EMBED: return embed(call, out);
    case BERTH_OP_SCATTER_ROWS: return scatter(call, out);
    case BERTH_OP_GATHER_ROWS:
    case BERTH_OP_STORE_ROWS: return gather_or_store(call, out);
    case BERTH_OP_DROP_CLS: return drop_cls(call, out);
    case BERTH_OP_PIXEL_SHUFFLE: return pixel_shuffle(call, out);
    case BERTH_OP_KV_APPEND: return kv_append(call, out);
    case BERTH_OP_PATCHIFY: return patchify(call, out);
    case BERTH_OP_VISION_EMBED: return vision_embed(call, out);
    default: return -1;
    }
}
