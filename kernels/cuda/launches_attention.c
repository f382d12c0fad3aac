/* launches_attention.c - launches of attention, and the scratch of its splits. */
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
    size_t tokens = (size_t)berth_tensor_elements(&shapes->in[2]), row = (size_t)shapes->in[1].dims[4] + 2;
    return tokens * (size_t)heads_of(shapes) * (size_t)splits_of(shapes) * row * sizeof(float);
}

static int32_t full(const berth_op_call *call, berth_cuda_launch *out)
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
    uint32_t floats = BERTH_CUDA_TILE * (2 * ((uint32_t)args.d + 1) + BERTH_CUDA_TILE + 1);
    const uint32_t grid[] = {((uint32_t)args.rows + BERTH_CUDA_TILE - 1) / BERTH_CUDA_TILE, (uint32_t)args.heads,
                             (uint32_t)q->dims[0]};
    berth_cuda_name(out, "attention_full_any");
    return berth_cuda_launch_3d(out, grid, BERTH_CUDA_ATTENTION_THREADS, floats * (uint32_t)sizeof(float), &args,
                                sizeof args);
}

static int32_t paged(const berth_op_call *call, berth_cuda_launch *out)
{
    const berth_tensor *kv = &call->in[1];
    berth_cuda_attention_paged args = {.q = berth_cuda_input(&call->in[0]),
                                       .kv = kv->data,
                                       .positions = call->in[2].data,
                                       .token_seq = call->in[3].data,
                                       .block_table = call->in[4].data,
                                       .o = berth_cuda_output(&call->out),
                                       .partial = call->workspace,
                                       .heads = (int)heads_of(call),
                                       .kv_heads = (int)kv->dims[2],
                                       .block = (int)kv->dims[3],
                                       .d = (int)kv->dims[4],
                                       .max_blocks = (int)berth_tensor_last(&call->in[4]),
                                       .n_splits = (int)splits_of(call),
                                       .n_tokens = (int)berth_tensor_elements(&call->in[2]),
                                       .scale = call->attrs->scale};
    if (args.n_tokens > 65535 || args.kv_heads > 65535 || args.d > BERTH_CUDA_MAX_HEAD) return -1;
    uint32_t floats = BERTH_CUDA_HEADS * ((uint32_t)args.d + BERTH_CUDA_SPLIT);
    berth_cuda_name(&out[0], "attention_decode_%s", berth_dtype_name(kv->dtype));
    berth_cuda_launch_3d(&out[0],
                         (const uint32_t[]){(uint32_t)args.n_splits, (uint32_t)args.kv_heads, (uint32_t)args.n_tokens},
                         BERTH_CUDA_ATTENTION_THREADS, floats * (uint32_t)sizeof(float), &args, sizeof args);
    berth_cuda_name(&out[1], "attention_merge");
    berth_cuda_launch_3d(&out[1], (const uint32_t[]){(uint32_t)args.heads, (uint32_t)args.n_tokens, 1},
                         BERTH_CUDA_ATTENTION_THREADS, 0, &args, sizeof args);
    return 2;
}

int32_t berth_cuda_attention_launches(const berth_op_call *call, int32_t capability, berth_cuda_launch *out)
{
    (void)capability;
    return call->kind == BERTH_OP_ATTENTION_FULL ? full(call, out) : paged(call, out);
}
