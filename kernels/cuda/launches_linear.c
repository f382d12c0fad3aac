/* launches_linear.c - which kernel carries out a LINEAR, alone or with its neighbours, and how its work is cut. The tensor-core kernels give the same bits, and
 * so do those that take a norm, a sum or a gate along, so the choice is one of speed. */
#include "kernels/cuda/launches_internal.h"

enum {
    THIN_OUTPUTS = 16,
    THIN_WARPS = 8,
    SHARED_BYTES = 49152, /* what a block may have without asking */
    /* Rows up to which reading w again for each 16 of them (from L2) beats the few blocks of a tiled product. */
    THIN_ROWS = 64,
    /* Large tiles from this many blocks on: about the SMs of a large GPU; below, more and smaller tiles keep more of them busy. */
    BUSY_BLOCKS = 128,
    /* Rows up to which a block of products norms all of them: a decode of few requests, or one with guessed tokens. Every block does it, so it has to stay
     * small against the block's part of w: 8 rows are half of it to read (from L2, as they would be after a norm of their own). */
    NORMED_ROWS = 8
};

static berth_cuda_linear arguments(const berth_op_call *call)
{
    const berth_tensor *w = &call->in[1];
    int64_t n_in = berth_tensor_elements(w) / w->dims[0], rows = berth_tensor_elements(&call->in[0]) / n_in;
    return (berth_cuda_linear){.x = berth_cuda_input(&call->in[0]),
                               .w = berth_cuda_input(w),
                               .bias = berth_cuda_optional_input(call, 2),
                               .y = berth_cuda_output(&call->out),
                               .rows = (int)rows,
                               .n_in = (int)n_in,
                               .n_out = (int)w->dims[0]};
}

/* fp16 since sm_70, bf16 since sm_80. */
static bool has_tensor_cores(const berth_cuda_linear *a, int32_t capability)
{
    if (a->x.dtype != a->w.dtype || a->n_in % 4) return false;
    return (a->x.dtype == BERTH_CUDA_F16 && capability >= 70) || (a->x.dtype == BERTH_CUDA_BF16 && capability >= 80);
}

static int32_t chains_of(const berth_cuda_linear *a)
{
    return (a->n_in + BERTH_CUDA_CHAIN - 1) / BERTH_CUDA_CHAIN;
}

/* Bytes of the sums of so many rows of a thin block. */
static int32_t thin_bytes(const berth_cuda_linear *a, int32_t rows)
{
    return chains_of(a) * rows * THIN_OUTPUTS * (int32_t)sizeof(float);
}

static int32_t thin(berth_cuda_linear *a, berth_cuda_launch *out)
{
    int32_t chains = chains_of(a), rounds = (chains + THIN_WARPS - 1) / THIN_WARPS, rows = 16;
    while (rows > 1 && (rows >= 2 * a->rows || thin_bytes(a, rows) > SHARED_BYTES)) rows /= 2;
    const uint32_t grid[] = {berth_cuda_blocks(a->rows, rows), berth_cuda_blocks(a->n_out, THIN_OUTPUTS), 1};
    if (a->n_in % 8 || thin_bytes(a, rows) > SHARED_BYTES || grid[1] > 65535) return -1;
    a->tile_rows = rows;
    berth_cuda_name(out, "linear_thin_%s", berth_dtype_name((berth_dtype)a->w.dtype));
    return berth_cuda_launch_3d(out, grid, 32 * (uint32_t)((chains + rounds - 1) / rounds),
                                (uint32_t)thin_bytes(a, rows), a, sizeof *a);
}

static int32_t tiles(const berth_cuda_linear *a, int32_t edge, berth_cuda_launch *out)
{
    const uint32_t grid[] = {berth_cuda_blocks(a->rows, edge), berth_cuda_blocks(a->n_out, edge), 1};
    if (grid[1] > 65535) return -1;
    berth_cuda_name(out, "linear_%d_%s", edge, berth_dtype_name((berth_dtype)a->w.dtype));
    return berth_cuda_launch_3d(out, grid, edge == 128 ? 256 : 128,
                                (uint32_t)(2 * edge * BERTH_CUDA_STAGE_ROW * BERTH_CUDA_STAGES), a, sizeof *a);
}

/* fp32 products of 1, 4 or 8 rows a block, or one row of anything. */
static int32_t plain(const berth_cuda_linear *a, bool few, berth_cuda_launch *out)
{
    int together = !few || a->rows <= 1 ? 1 : a->rows <= 4 ? 4 : 8;
    const uint32_t outs = BERTH_CUDA_LINEAR_THREADS / 32 * (few ? BERTH_CUDA_LINEAR_WARP_OUTS : 1);
    const uint32_t grid[] = {berth_cuda_blocks(a->n_out, outs), berth_cuda_blocks(a->rows, together), 1};
    if (grid[1] > 65535) return -1;
    if (few)
        berth_cuda_name(out, "linear_%d_f32_%s", together, berth_dtype_name((berth_dtype)a->w.dtype));
    else
        berth_cuda_name(out, "linear_any");
    return berth_cuda_launch_3d(out, grid, BERTH_CUDA_LINEAR_THREADS, 0, a, sizeof *a);
}

/* ---- with its neighbours ----------------------------------------------------------------------------------------------------- */

/* The sum is of each output alone, so it costs the product nothing. */
static int32_t added(const berth_fused_call *call, int32_t capability, berth_cuda_launch *out)
{
    const berth_op_call *product = call->linear[0], *sum = call->then;
    berth_cuda_linear a = arguments(product);
    if (a.rows > THIN_ROWS) return -1;
    a.product_dtype = (int)product->out.dtype;
    a.plus = berth_cuda_input(&sum->in[sum->in[0].data == product->out.data ? 1 : 0]);
    a.y = berth_cuda_output(&sum->out);
    if (has_tensor_cores(&a, capability)) return thin(&a, out);
    return a.x.dtype == BERTH_CUDA_F32 && a.n_in % 8 == 0 ? plain(&a, true, out) : -1;
}

/* The products' operands and their blocks of so many outputs. False: they do not fit together. */
static bool products(const berth_fused_call *call, int32_t block_outs, berth_cuda_normed_linear *a)
{
    int64_t blocks = 0;
    a->product_dtype = (int)call->linear[0]->out.dtype;
    for (int32_t i = 0; i < call->n_linears; i++) {
        const berth_cuda_linear p = arguments(call->linear[i]);
        const bool is_second = call->then && i > 0; /* in the blocks of the first */
        if (p.n_in != a->n_in || p.rows != a->rows || p.x.dtype != (int)call->norm->out.dtype) return false;
        if (is_second && (p.n_out != a->of[0].n_out || p.y.dtype != a->product_dtype)) return false;
        if (!is_second) blocks += berth_cuda_blocks(p.n_out, block_outs);
        if (blocks > INT32_MAX) return false;
        a->of[i] = (berth_cuda_product){p.w, p.bias, p.y, p.n_out, (int)blocks};
    }
    for (int32_t i = call->n_linears; i < BERTH_FUSED_LINEARS; i++) a->of[i] = a->of[call->n_linears - 1];
    if (call->then) a->of[0].y = berth_cuda_output(&call->then->out);
    return true;
}

/* fp32 products of up to 4 rows, a warp two rows of w. */
static int32_t normed_plain(const berth_fused_call *call, berth_cuda_normed_linear *a, berth_cuda_launch *out)
{
    const uint32_t threads = berth_cuda_norm_threads(a->n_in);
    const int32_t outs = (int32_t)threads / 32 * (call->then ? 1 : BERTH_CUDA_LINEAR_WARP_OUTS);
    const int64_t bytes =
        (int64_t)a->rows * (a->n_in * 4 + BERTH_CUDA_NORMED_PAD + BERTH_CUDA_NORM_SUMS * (int)sizeof(float));
    if (a->rows > 4 || bytes > SHARED_BYTES || !products(call, outs, a)) return -1;
    berth_cuda_name(out, "linear_%s_f32_%d", call->then ? "gated" : "normed", a->rows > 1 ? 4 : 1);
    return berth_cuda_launch_3d(out, (const uint32_t[]){(uint32_t)a->of[2].end_block, 1, 1}, threads, (uint32_t)bytes,
                                a, sizeof *a);
}

static int32_t normed(const berth_fused_call *call, int32_t capability, berth_cuda_launch *out)
{
    const berth_op_call *norm = call->norm;
    const berth_cuda_linear first = arguments(call->linear[0]);
    berth_cuda_normed_linear a = {.x = berth_cuda_input(&norm->in[0]),
                                  .scale = berth_cuda_input(&norm->in[1]),
                                  .rows = first.rows,
                                  .n_in = first.n_in,
                                  .eps = norm->attrs->eps};
    if (norm->kind != BERTH_OP_RMS_NORM || berth_tensor_last(&norm->in[0]) != a.n_in || a.rows > NORMED_ROWS ||
        a.n_in % 8)
        return -1;
    for (int32_t i = 0; i < call->n_linears; i++) {
        const berth_cuda_linear p = arguments(call->linear[i]);
        if (has_tensor_cores(&p, capability) != has_tensor_cores(&first, capability)) return -1;
    }
    if (!has_tensor_cores(&first, capability))
        return first.x.dtype == BERTH_CUDA_F32 ? normed_plain(call, &a, out) : -1;
    const int64_t bytes =
        (int64_t)a.rows * (a.n_in * 2 + BERTH_CUDA_NORMED_PAD) + (int64_t)thin_bytes(&first, first.rows);
    if (bytes > SHARED_BYTES || !products(call, call->then ? THIN_OUTPUTS / 2 : THIN_OUTPUTS, &a)) return -1;
    berth_cuda_name(out, "linear_%s_%s", call->then ? "gated" : "normed", berth_dtype_name((berth_dtype)first.w.dtype));
    return berth_cuda_launch_3d(out, (const uint32_t[]){(uint32_t)a.of[2].end_block, 1, 1},
                                berth_cuda_norm_threads(a.n_in), (uint32_t)bytes, &a, sizeof a);
}

int32_t berth_cuda_fused_launch(const berth_fused_call *call, int32_t capability, berth_cuda_launch *out)
{
    const berth_op_call *last = call->then ? call->then : call->linear[0];
    if (call->n_linears < 1 || berth_tensor_elements(&last->out) == 0) return -1;
    return call->norm ? normed(call, capability, out) : added(call, capability, out);
}

/* ---- alone ------------------------------------------------------------------------------------------------------------------- */

int32_t berth_cuda_linear_launch(const berth_op_call *call, berth_cuda_linear_kind kind, int32_t capability,
                                 berth_cuda_launch *out)
{
    berth_cuda_linear a = arguments(call);
    if (kind >= BERTH_CUDA_LINEAR_THIN && !has_tensor_cores(&a, capability)) return -1;
    switch (kind) {
    case BERTH_CUDA_LINEAR_ANY: return plain(&a, false, out);
    case BERTH_CUDA_LINEAR_FEW: return a.x.dtype == BERTH_CUDA_F32 && a.n_in % 8 == 0 ? plain(&a, true, out) : -1;
    case BERTH_CUDA_LINEAR_THIN: return thin(&a, out);
    case BERTH_CUDA_LINEAR_64: return tiles(&a, 64, out);
    case BERTH_CUDA_LINEAR_128: return tiles(&a, 128, out);
    }
    return -1;
}

int32_t berth_cuda_linear_launches(const berth_op_call *call, int32_t capability, berth_cuda_launch *out)
{
    const berth_cuda_linear a = arguments(call);
    const bool many = (int64_t)berth_cuda_blocks(a.rows, 128) * berth_cuda_blocks(a.n_out, 128) >= BUSY_BLOCKS;
    const berth_cuda_linear_kind wanted[] = {a.rows <= THIN_ROWS ? BERTH_CUDA_LINEAR_THIN : BERTH_CUDA_LINEAR_128,
                                             BERTH_CUDA_LINEAR_64, BERTH_CUDA_LINEAR_FEW, BERTH_CUDA_LINEAR_ANY};
    for (int i = a.rows > THIN_ROWS && !many; i < 4; i++) {
        int32_t n = berth_cuda_linear_launch(call, wanted[i], capability, out);
        if (n >= 0) return n;
    }
    return -1;
}
