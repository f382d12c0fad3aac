/* launches_attention.c - launches of attention, and the scratch of its splits. Which units compute is chosen by dtype, head and GPU alone, and how the work is cut
 * changes no bits, so a token's do not depend on the call's other tokens. */
#include "kernels/cuda/launches_internal.h"

static int64_t splits_of(const berth_op_call *call)
{
    int64_t longest = berth_tensor_last(&call->in[4]) * call->in[1].dims[3];
    return (longest + BERTH_CUDA_SPLIT - 1) / BERTH_CUDA_SPLIT;
}

static int64_t heads_of(const berth_op_call *call)
{
    int64_t n = berth_tensor_elements(&call->in[2]) * call->in[1].dims[4];
    return n ? berth_tensor_elements(&call->in[0]) / n : 0;
}

size_t berth_cuda_attention_workspace(const berth_op_call *shapes)
{
    size_t tokens = (size_t)berth_tensor_elements(&shapes->in[2]);
    if (tokens > BERTH_CUDA_SPLIT_TOKENS) tokens = BERTH_CUDA_SPLIT_TOKENS;
    size_t row = (size_t)shapes->in[1].dims[4] + 2;
    return tokens * (size_t)heads_of(shapes) * (size_t)splits_of(shapes) * row * sizeof(float);
}

/* Tensor cores take operands of one dtype, fp16 since sm_70 and bf16 since sm_80, with heads of 64 and 128. Tiles and decodes must give the same bits, so what
 * is asked here is the same for both. */
static bool has_tensor_cores(const berth_op_call *call, int64_t d, int32_t capability)
{
    berth_dtype dtype = call->in[0].dtype;
    bool full = call->kind == BERTH_OP_ATTENTION_FULL;
    if (call->in[1].dtype != dtype || call->out.dtype != dtype || (full && call->in[2].dtype != dtype)) return false;
    if (d != 64 && d != 128) return false;
    return (dtype == BERTH_F16 && capability >= 70) || (dtype == BERTH_BF16 && capability >= 80);
}

/* A unit's keys and values. */
static uint32_t tile_bytes(int d)
{
    return 2u * BERTH_CUDA_UNIT * (uint32_t)d * 2u;
}

static int32_t full(const berth_op_call *call, int32_t capability, berth_cuda_launch *out)
{
    const berth_tensor *q = &call->in[0];
    berth_cuda_attention_full args = {.q = berth_cuda_input(q),
                                      .k = berth_cuda_input(&call->in[1]),
                                      .v = berth_cuda_input(&call->in[2]),
                                      .o = berth_cuda_output(&call->out),
                                      .rows = (int)q->dims[1],
                                      .heads = call->attrs->n_heads,
                                      .d = (int)(q->dims[2] / call->attrs->n_heads),
                                      .scale = call->attrs->scale};
    if (args.d > BERTH_CUDA_MAX_HEAD || args.heads > 65535 || q->dims[0] > 65535) return -1;
    const bool tensor = has_tensor_cores(call, args.d, capability);
    const uint32_t floats = BERTH_CUDA_TILE * (2 * ((uint32_t)args.d + 1) + BERTH_CUDA_TILE + 1);
    const uint32_t grid[] = {berth_cuda_blocks(args.rows, tensor ? BERTH_CUDA_ATTENTION_ROWS : BERTH_CUDA_TILE),
                             (uint32_t)args.heads, (uint32_t)q->dims[0]};
    if (tensor)
        berth_cuda_name(out, "attention_full_%d_%s", args.d, berth_dtype_name(q->dtype));
    else
        berth_cuda_name(out, "attention_full_any");
    return berth_cuda_launch_3d(out, grid, BERTH_CUDA_ATTENTION_THREADS,
                                tensor ? tile_bytes(args.d) : floats * (uint32_t)sizeof(float), &args, sizeof args);
}

static berth_cuda_attention_paged paged_arguments(const berth_op_call *call)
{
    const berth_tensor *kv = &call->in[1];
    const int64_t block = kv->dims[3];
    return (berth_cuda_attention_paged){.q = berth_cuda_input(&call->in[0]),
                                        .kv = kv->data,
                                        .positions = call->in[2].data,
                                        .token_seq = call->in[3].data,
                                        .block_table = call->in[4].data,
                                        .o = berth_cuda_output(&call->out),
                                        .partial = call->workspace,
                                        .heads = (int)heads_of(call),
                                        .kv_heads = (int)kv->dims[2],
                                        .block = (int)block,
                                        .per_block = block > 1 ? (unsigned)(((1LL << 32) + block - 1) / block) : 0,
                                        .d = (int)kv->dims[4],
                                        .max_blocks = (int)berth_tensor_last(&call->in[4]),
                                        .n_splits = (int)splits_of(call),
                                        .n_tokens = (int)berth_tensor_elements(&call->in[2]),
                                        .scale = call->attrs->scale};
}

/* A block a split where tokens are few, and their merge; else a block a tile of tokens, or on the ordinary units a block a token. */
static int32_t paged(const berth_op_call *call, int32_t capability, berth_cuda_launch *out)
{
    berth_cuda_attention_paged args = paged_arguments(call);
    const int group = args.heads / args.kv_heads;
    const char *dtype = berth_dtype_name(call->in[1].dtype);
    const bool tensor = has_tensor_cores(call, args.d, capability) && group <= BERTH_CUDA_ATTENTION_ROWS;
    const uint32_t d = (uint32_t)args.d, kv_heads = (uint32_t)args.kv_heads, tokens = (uint32_t)args.n_tokens;
    if (args.n_tokens > 65535 || args.heads > 65535 || args.d > BERTH_CUDA_MAX_HEAD) return -1;
    if ((int64_t)args.block * args.max_blocks >= (1LL << 32) / args.block) return -1; /* per_block does not divide it */
    args.whole = args.n_tokens > BERTH_CUDA_SPLIT_TOKENS;
    uint32_t grid[] = {args.whole ? 1 : (uint32_t)args.n_splits, kv_heads, tokens};
    uint32_t bytes =
        4 * BERTH_CUDA_HEADS * ((d + 7) / 8 * 8 + BERTH_CUDA_SPLIT + 2) + 2 * BERTH_CUDA_ATTENTION_THREADS * 8 * 4;
    if (!tensor)
        berth_cuda_name(&out[0], "attention_decode_%s", dtype);
    else if (args.whole) {
        berth_cuda_name(&out[0], "attention_tile_%d_%s", args.d, dtype);
        grid[0] = berth_cuda_blocks(args.n_tokens, BERTH_CUDA_ATTENTION_ROWS / group), grid[2] = 1;
        bytes = tile_bytes(args.d);
    } else {
        berth_cuda_name(&out[0], "attention_split_%d_%s", args.d, dtype);
        grid[1] *= (uint32_t)(group + 15) / 16;
        bytes = BERTH_CUDA_SPLIT / BERTH_CUDA_UNIT * BERTH_CUDA_DECODE_REGION(d, capability);
    }
    berth_cuda_launch_3d(&out[0], grid, BERTH_CUDA_ATTENTION_THREADS, bytes, &args, sizeof args);
    if (args.whole) return 1;
    berth_cuda_name(&out[1], "attention_merge");
    berth_cuda_launch_3d(&out[1], (const uint32_t[]){(uint32_t)args.heads, tokens, 1}, BERTH_CUDA_ATTENTION_THREADS, 0,
                         &args, sizeof args);
    return 2;
}

int32_t berth_cuda_attention_launches(const berth_op_call *call, int32_t capability, berth_cuda_launch *out)
{
    return call->kind == BERTH_OP_ATTENTION_FULL ? full(call, capability, out) : paged(call, capability, out);
}
