/* code_linear.c - LINEAR by cuBLAS where it is expected to be faster than our kernels. A bias is added as
 * cuBLASLt's epilogue; where it cannot, the bias goes into every row of y first, which cuBLAS then adds to. Either way each
 * element is rounded once. */
#include <string.h>

#include "base/checked.h"
#include "cuda/code_internal.h"
#include "kernels/cuda/launches.h"

static berth_gemm_shape shape_of(const berth_op_call *call)
{
    const berth_tensor *w = &call->in[1];
    const int64_t n_out = w->dims[0], n_in = n_out ? berth_tensor_elements(w) / n_out : 0;
    return (berth_gemm_shape){.rows = n_in ? berth_tensor_elements(&call->in[0]) / n_in : 0,
                              .n_out = n_out,
                              .n_in = n_in,
                              .x = call->in[0].dtype,
                              .w = w->dtype,
                              .y = call->out.dtype};
}

bool berth_gpu_linear_is_gemm(const berth_op_call *call, const berth_gpu_code_target *target)
{
    if (call->kind != BERTH_OP_LINEAR || target->batch_invariant) return false;
    const berth_gemm_shape shape = shape_of(call);
    return berth_gemm_is_faster(&shape, target->capability);
}

/* A row number for each row of y, all zero: the bias is a table of one row. */
static size_t zeros_bytes(const berth_op_call *call, const berth_gemm_shape *shape)
{
    size_t bytes = 0;
    if (call->n_in < 3 || !berth_round_up((size_t)shape->rows * sizeof(int32_t), BERTH_GPU_ALIGN, &bytes)) return 0;
    return bytes;
}

size_t berth_gpu_linear_workspace(const berth_op_call *shapes, const berth_gpu_code_target *target)
{
    if (!berth_gpu_linear_is_gemm(shapes, target)) return 0;
    const berth_gemm_shape shape = shape_of(shapes);
    return zeros_bytes(shapes, &shape) + berth_gemm_workspace(&shape, target->capability);
}

static berth_gpu_ptr address(const void *p)
{
    return (berth_gpu_ptr)(uintptr_t)p;
}

static berth_status put_bias(berth_gpu_code *code, berth_gpu_stream *s, const berth_op_call *call,
                             const berth_gemm_shape *shape, berth_error *err)
{
    const size_t bytes = (size_t)shape->rows * sizeof(int32_t);
    berth_status st = berth_gpu_fill(s, address(call->workspace), 0, bytes, err);
    if (st != BERTH_OK) return st;
    berth_op_call gather = {.kind = BERTH_OP_GATHER_ROWS, .attrs = call->attrs, .n_in = 2, .out = call->out};
    gather.in[0] = call->in[2];
    gather.in[0].n_dims = 2;
    gather.in[0].dims[0] = 1;
    gather.in[0].dims[1] = shape->n_out;
    gather.in[1] = (berth_tensor){.data = call->workspace, .dtype = BERTH_I32, .n_dims = 1, .dims = {shape->rows}};
    return berth_gpu_code_launch(code, s, &gather, err);
}

berth_status berth_gpu_linear_run(berth_gpu_code *code, berth_gemm *gemm, int32_t capability, berth_gpu_stream *s,
                                  const berth_op_call *call, berth_error *err)
{
    const berth_gemm_shape shape = shape_of(call);
    const size_t zeros = zeros_bytes(call, &shape);
    const bool has_bias = call->n_in > 2;
    berth_gemm_call product = {.shape = shape,
                               .x = address(call->in[0].data),
                               .w = address(call->in[1].data),
                               .y = address(call->out.data),
                               .workspace = address(call->workspace) + zeros,
                               .workspace_bytes = berth_gemm_workspace(&shape, capability)};
    if (has_bias && call->in[2].dtype == shape.y && berth_gemm_takes_bias(gemm, &shape)) {
        product.bias = address(call->in[2].data);
        const berth_status st = berth_gemm_run(gemm, s, &product, err);
        if (st != BERTH_UNSUPPORTED) return st;
        product.bias = 0;
    }
    if (has_bias) {
        const berth_status st = put_bias(code, s, call, &shape, err);
        if (st != BERTH_OK) return st;
        product.adds = true;
    }
    return berth_gemm_run(gemm, s, &product, err);
}
