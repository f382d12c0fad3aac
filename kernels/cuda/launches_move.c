/* launches_move.c - launches of ops that only move values; rows move in the widest unit that their length allows. */
#include "kernels/cuda/launches_internal.h"

/* The unit's name, and in *units a row's length in it: bytes where the dtypes are the same, else elements. */
static const char *unit_of(int64_t row_elements, berth_cuda_in from, berth_cuda_out to, int *units)
{
    int64_t bytes = row_elements * (int64_t)berth_dtype_size((berth_dtype)from.dtype);
    int64_t unit = bytes % 16 == 0 ? 16 : bytes % 4 == 0 ? 4 : 2;
    *units = (int)(from.dtype == to.dtype ? bytes / unit : row_elements);
    if (from.dtype != to.dtype) return "mix";
    return unit == 16 ? "u16" : unit == 4 ? "u4" : "u2";
}

/* Threads for a row of so many items: whole warps, as few as take it in one step. */
static uint32_t threads_for(int items)
{
    uint32_t warps = (uint32_t)(items + 31) / 32;
    return warps * 32 < BERTH_CUDA_THREADS ? warps * 32 : BERTH_CUDA_THREADS;
}

static int32_t launch_rows(berth_cuda_launch *out, berth_cuda_rows args, int64_t row_elements)
{
    if (args.n_rows == 0) return 0;
    const char *unit = unit_of(row_elements, args.src, args.dst, &args.units);
    berth_cuda_name(out, "rows_%s", unit);
    return berth_cuda_launch_1d(out, (uint32_t)args.n_rows, threads_for(args.units), &args, sizeof args);
}

static int32_t embed(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *table = &call->in[1];
    berth_cuda_rows args = {.src = berth_cuda_input(table),
                            .dst = berth_cuda_output(&call->out),
                            .src_rows = call->in[0].data,
                            .n_rows = berth_tensor_elements(&call->in[0])};
    return launch_rows(out, args, berth_tensor_last(table));
}

/* y = x first, unless it is there already. */
static int32_t scatter(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *x = &call->in[0];
    int64_t d = berth_tensor_last(x);
    int32_t n = 0;
    if (x->data != call->out.data)
        n += launch_rows(out,
                         (berth_cuda_rows){.src = berth_cuda_input(x),
                                           .dst = berth_cuda_output(&call->out),
                                           .n_rows = berth_tensor_rows(x)},
                         d);
    berth_cuda_rows args = {.src = berth_cuda_input(&call->in[1]),
                            .dst = berth_cuda_output(&call->out),
                            .src_rows = call->in[2].data,
                            .dst_rows = call->in[3].data,
                            .n_rows = berth_tensor_elements(&call->in[2])};
    return n + launch_rows(out + n, args, d);
}

static int32_t gather_or_store(const berth_op_call *call, berth_cuda_launch *out)
{
    berth_cuda_rows args = {.src = berth_cuda_input(&call->in[0]),
                            .dst = berth_cuda_output(&call->out),
                            .n_rows = berth_tensor_elements(&call->in[1])};
    if (call->kind == BERTH_OP_GATHER_ROWS)
        args.src_rows = call->in[1].data;
    else
        args.dst_rows = call->in[1].data;
    return launch_rows(out, args, berth_tensor_last(&call->in[0]));
}

static int32_t drop_cls(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *x = &call->in[0];
    berth_cuda_drop_cls args = {
        .src = berth_cuda_input(x), .dst = berth_cuda_output(&call->out), .patches = (int)x->dims[1] - 1};
    berth_cuda_name(out, "drop_cls_%s", unit_of(x->dims[2], args.src, args.dst, &args.units));
    return berth_cuda_launch_1d(out, (uint32_t)(x->dims[0] * args.patches), threads_for(args.units), &args,
                                sizeof args);
}

static int32_t pixel_shuffle(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *x = &call->in[0];
    int32_t grid = 0, factor = call->attrs->factor;
    while ((int64_t)grid * grid < x->dims[1]) grid++;
    berth_cuda_pixel_shuffle args = {.src = berth_cuda_input(x),
                                     .dst = berth_cuda_output(&call->out),
                                     .grid = grid,
                                     .factor = factor,
                                     .transposed = call->attrs->transposed};
    berth_cuda_name(out, "pixel_shuffle_%s", unit_of(factor * x->dims[2], args.src, args.dst, &args.units));
    return berth_cuda_launch_1d(out, (uint32_t)(x->dims[0] * x->dims[1] / factor), threads_for(args.units), &args,
                                sizeof args);
}

static int32_t kv_append(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *kv = &call->out;
    uint32_t rows = (uint32_t)(berth_tensor_elements(&call->in[2]) * kv->dims[2]);
    berth_cuda_kv_append args = {.src = berth_cuda_input(&call->in[0]),
                                 .v = berth_cuda_input(&call->in[1]),
                                 .slots = call->in[2].data,
                                 .dst = berth_cuda_output(kv),
                                 .kv_heads = (int)kv->dims[2],
                                 .block = (int)kv->dims[3]};
    if (call->in[0].dtype != call->in[1].dtype) return -1;
    if (rows == 0) return 0;
    berth_cuda_name(out, "kv_append_%s", unit_of(kv->dims[4], args.src, args.dst, &args.units));
    return berth_cuda_launch_3d(out, (const uint32_t[]){rows, 2, 1}, threads_for(args.units), 0, &args, sizeof args);
}

static int32_t patchify(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *pixels = &call->in[0];
    berth_cuda_patchify args = {.pixels = berth_cuda_input(pixels),
                                .y = berth_cuda_output(&call->out),
                                .n = berth_tensor_elements(&call->out),
                                .channels = (int)pixels->dims[1],
                                .height = (int)pixels->dims[2],
                                .width = (int)pixels->dims[3],
                                .patch = call->attrs->patch};
    berth_cuda_name(out, "patchify_any");
    return berth_cuda_launch_1d(out, (uint32_t)((args.n + BERTH_CUDA_THREADS - 1) / BERTH_CUDA_THREADS),
                                BERTH_CUDA_THREADS, &args, sizeof args);
}

static int32_t vision_embed(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *patches = &call->in[0];
    berth_cuda_vision_embed args = {.patches = berth_cuda_input(patches),
                                    .cls = berth_cuda_input(&call->in[1]),
                                    .pos = berth_cuda_input(&call->in[2]),
                                    .y = berth_cuda_output(&call->out),
                                    .n = berth_tensor_rows(&call->out) * ((patches->dims[2] + 7) / 8),
                                    .n_patches = (int)patches->dims[1],
                                    .c = (int)patches->dims[2]};
    berth_cuda_name(out, "vision_embed_any");
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
