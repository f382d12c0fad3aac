/* launches_linear.c - which kernel carries out a LINEAR, and how its work is cut. The tensor-core kernels give the same bits, so the choice is one of speed. */
#include "kernels/cuda/launches_internal.h"

enum {
    THIN_OUTPUTS = 16,
    THIN_WARPS = 8,
    SHARED_BYTES = 49152, /* what a block may have without asking */
    /* Rows up to which reading w again for each 16 of them (from L2) beats the few blocks of a tiled product. */
    THIN_ROWS = 64,
    /* Large tiles from this many blocks on: about the SMs of a large GPU; below, more and smaller tiles keep more of them busy. */
    BUSY_BLOCKS = 128
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
