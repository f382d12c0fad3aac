/* linear.h - y = x w^T + bias. Compiled once per vector width; see simd.h.
 *
 * One order of summation for every path: the inner dimension in blocks of LINEAR_BLOCK; inside a block each lane l sums
 * the products l, l + LANES, ...; the lanes are folded by v_sum4; block sums are added from left to right, the bias
 * last. So an output's bits do not depend on how many rows are computed with it, on the path taken, or on the threads.
 * Weights are read along their rows as stored and never transposed:
 *   few rows    weights are widened in registers on their way from memory, which is the limit;
 *   many rows   x is copied by blocks (so that a panel lies together in the L2 cache), weights are widened block by
 *               block into the L1 cache, and tiles of LINEAR_ROWS x 4 outputs are held in registers. */
#ifndef BERTH_KERNELS_CPU_LINEAR_H
#define BERTH_KERNELS_CPU_LINEAR_H

#include "kernels/cpu/cpu_internal.h"
#include "kernels/cpu/simd.h"

enum {
    LINEAR_BLOCK = 512, /* inner dimension: 3 rows of x and 8 of weights, fp32, fill most of a 32 KiB L1 */
    LINEAR_COLS = 4,    /* outputs of a register tile: what v_sum4 folds */
    LINEAR_ROWS = BERTH_LANES == 16 ? 6 : 3, /* rows of a register tile: 12 sums of 16 registers, or 24 of 32 */
    LINEAR_PACK = 8,                         /* weight rows widened at a time: 16 KiB */
    LINEAR_CHUNK_MIN = 32,
    LINEAR_CHUNK_MAX = 256,  /* outputs of one piece of work, many rows */
    LINEAR_PANEL = 96,       /* rows of x whose block stays in L2: 192 KiB */
    LINEAR_PANELS = 2,       /* panels between two meetings of the threads */
    LINEAR_FEW = 32,         /* at most this many rows go the first way: measured equal there on Zen 3 */
    LINEAR_AHEAD = 1536,     /* bytes between reading and fetching, few rows; measured 512..3072 on Zen 3 */
    LINEAR_STREAM = 4 << 20, /* bytes of weights of one piece of work, few rows */
};

typedef struct linear_job {
    const float *x; /* [n, ld_x]; few rows: padded with zeros to whole vectors where n_in is not one */
    size_t ld_x, n, n_in, n_out;
    const char *w; /* [n_out, n_in] of dtype, at any byte */
    berth_dtype dtype;
    size_t row_bytes;
    const float *bias; /* [n_out] or NULL */
    float *y;          /* [n, n_out] */
    float *packed;     /* many rows: [block][panel rows][block width] of x */
    size_t chunk;      /* many rows: outputs of a piece */
    char *scratch;     /* many rows: a piece of LINEAR_PACK * LINEAR_BLOCK floats for each thread */
} linear_job;

/* Adds a block's sum to an output of a row; the first block stores, the last adds the bias. */
BERTH_INLINE void linear_add_one(const linear_job *job, float *y, size_t o, float sum, bool first, bool last)
{
    if (!first) sum = y[o] + sum;
    y[o] = last && job->bias ? sum + job->bias[o] : sum;
}

/* The same for outputs [o, o + n_cols) at once. */
BERTH_INLINE void linear_add(const linear_job *job, float *y, size_t o, size_t n_cols, vf4 sum, bool first, bool last)
{
    if (n_cols < LINEAR_COLS) {
        for (size_t j = 0; j < n_cols; j++) linear_add_one(job, y, o + j, sum[j], first, last);
        return;
    }
    if (!first) sum = *(const vf4_at *)(y + o) + sum;
    if (last && job->bias) sum += *(const vf4_at *)(job->bias + o);
    *(vf4_at *)(y + o) = sum;
}

/* ---- many rows -------------------------------------------------------------------------------------------------- */

/* Packed rows stand in groups, LINEAR_ROWS of x or LINEAR_COLS of weights, vector by vector: [width / LANES][row of
 * group][LANES]. So a tile reads memory in order; rows a power of two apart would meet in one bank of the L1 cache (3 %
 * slower on Zen 3). linear_widen writes one row of a group: elements [0, n) as fp32, zeros up to `width`; `step` floats
 * from vector to vector. */
BERTH_INLINE void linear_widen_row(float *out, size_t step, const char *row, berth_dtype dtype, size_t n, size_t width)
{
    size_t size = dtype == BERTH_F32 ? 4 : 2, i = 0;
    for (; i + BERTH_LANES <= n; i += BERTH_LANES, out += step) v_store(out, v_load_weights(row + i * size, dtype));
    if (i < width) v_store(out, v_load_weights_part(row + i * size, dtype, n - i));
}

static void linear_widen(float *out, size_t step, const char *row, berth_dtype dtype, size_t n, size_t width)
{
    if (dtype == BERTH_BF16)
        linear_widen_row(out, step, row, BERTH_BF16, n, width);
    else if (dtype == BERTH_F16)
        linear_widen_row(out, step, row, BERTH_F16, n, width);
    else
        linear_widen_row(out, step, row, BERTH_F32, n, width);
}

/* n_rows x 4 outputs over `width` (whole vectors) inner elements; x holds groups of `group` rows. Constants where
 * inlined: n_rows, mostly group. */
BERTH_INLINE void linear_tile(const linear_job *job, const int n_rows, const size_t group, const float *x,
                              const float *w, size_t width, float *y, size_t o, size_t n_cols, bool first, bool last)
{
    vf sums[LINEAR_ROWS][LINEAR_COLS];
    BERTH_UNROLL for (int r = 0; r < n_rows; r++) BERTH_UNROLL for (int j = 0; j < LINEAR_COLS; j++) sums[r][j] =
        (vf){0};
    for (size_t i = 0; i < width; i += BERTH_LANES) {
        vf rows[LINEAR_ROWS];
        BERTH_UNROLL for (int r = 0; r < n_rows; r++) rows[r] = v_load(x + i * group + (size_t)r * BERTH_LANES);
        BERTH_UNROLL for (int j = 0; j < LINEAR_COLS; j++)
        {
            vf column = v_load(w + i * LINEAR_COLS + (size_t)j * BERTH_LANES);
            BERTH_UNROLL for (int r = 0; r < n_rows; r++) sums[r][j] = v_fma(rows[r], column, sums[r][j]);
        }
    }
    BERTH_UNROLL for (int r = 0; r < n_rows; r++)
        linear_add(job, y + (size_t)r * job->n_out, o, n_cols, v_sum4(sums[r][0], sums[r][1], sums[r][2], sums[r][3]),
                   first, last);
}

/* The last rows of a panel, fewer than a group. */
static void linear_tile_short(const linear_job *job, size_t n_rows, const float *x, const float *w, size_t width,
                              float *y, size_t o, size_t n_cols, bool first, bool last)
{
    for (size_t r = 0; r < n_rows; r++)
        linear_tile(job, 1, n_rows, x + r * BERTH_LANES, w, width, y + r * job->n_out, o, n_cols, first, last);
}

BERTH_INLINE size_t linear_padded(size_t n)
{
    return (n + BERTH_LANES - 1) / BERTH_LANES * BERTH_LANES;
}

/* Copies rows of x into panels, [block][group][vector]: item = one row. */
static void linear_pack_x(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const linear_job *job = arg;
    for (size_t t = begin; t < end; t++) {
        size_t panel = t / LINEAR_PANEL * LINEAR_PANEL, panel_rows = berth_cpu_min(LINEAR_PANEL, job->n - panel);
        size_t group = (t - panel) / LINEAR_ROWS * LINEAR_ROWS,
               n_group = berth_cpu_min(LINEAR_ROWS, panel_rows - group);
        float *out = job->packed + panel * linear_padded(job->n_in);
        for (size_t k = 0; k < job->n_in; k += LINEAR_BLOCK) {
            size_t n = berth_cpu_min(LINEAR_BLOCK, job->n_in - k), width = linear_padded(n);
            linear_widen(out + k * panel_rows + group * width + (t - panel - group) * BERTH_LANES,
                         n_group * BERTH_LANES, (const char *)(job->x + t * job->ld_x + k), BERTH_F32, n, width);
        }
    }
}

/* Widens a block of weight rows [o, o + n_cols) into groups, missing rows of the last as zeros. */
static void linear_pack_w(const linear_job *job, float *w, size_t o, size_t n_cols, size_t k, size_t n)
{
    size_t width = linear_padded(n), size = berth_dtype_size(job->dtype);
    if (n_cols % LINEAR_COLS)
        memset(w + n_cols / LINEAR_COLS * LINEAR_COLS * width, 0, LINEAR_COLS * width * sizeof *w);
    for (size_t j = 0; j < n_cols; j++)
        linear_widen(w + j / LINEAR_COLS * LINEAR_COLS * width + j % LINEAR_COLS * BERTH_LANES,
                     LINEAR_COLS * BERTH_LANES, job->w + (o + j) * job->row_bytes + k * size, job->dtype, n, width);
}

/* A block of 8 weight rows against a panel of x. */
static void linear_panel(const linear_job *job, const float *x, size_t n_rows, const float *w, size_t width, float *y,
                         size_t o, size_t n_cols, bool first, bool last)
{
    size_t r = 0;
    for (; r + LINEAR_ROWS <= n_rows; r += LINEAR_ROWS)
        for (size_t j = 0; j < n_cols; j += LINEAR_COLS)
            linear_tile(job, LINEAR_ROWS, LINEAR_ROWS, x + r * width, w + j * width, width, y + r * job->n_out, o + j,
                        berth_cpu_min(LINEAR_COLS, n_cols - j), first, last);
    if (r < n_rows)
        for (size_t j = 0; j < n_cols; j += LINEAR_COLS)
            linear_tile_short(job, n_rows - r, x + r * width, w + j * width, width, y + r * job->n_out, o + j,
                              berth_cpu_min(LINEAR_COLS, n_cols - j), first, last);
}

/* Item: a chunk of outputs for one panel. Panels count first, so that a chunk's weights are still near when the next
 * panel needs them. */
static void linear_many_piece(void *arg, size_t begin, size_t end, int32_t thread)
{
    const linear_job *job = arg;
    size_t n_panels = (job->n + LINEAR_PANEL - 1) / LINEAR_PANEL;
    float *w = (float *)(void *)(job->scratch + (size_t)thread * LINEAR_PACK * LINEAR_BLOCK * sizeof(float));
    for (size_t item = begin; item < end; item++) {
        size_t panel = item % n_panels * LINEAR_PANEL, panel_rows = berth_cpu_min(LINEAR_PANEL, job->n - panel);
        size_t o_begin = item / n_panels * job->chunk, o_end = berth_cpu_min(o_begin + job->chunk, job->n_out);
        const float *x = job->packed + panel * linear_padded(job->n_in);
        for (size_t k = 0; k < job->n_in; k += LINEAR_BLOCK) {
            size_t n = berth_cpu_min(LINEAR_BLOCK, job->n_in - k), width = linear_padded(n);
            for (size_t o = o_begin; o < o_end; o += LINEAR_PACK) {
                size_t n_cols = berth_cpu_min(LINEAR_PACK, o_end - o);
                linear_pack_w(job, w, o, n_cols, k, n);
                linear_panel(job, x + k * panel_rows, panel_rows, w, width, job->y + panel * job->n_out, o, n_cols,
                             k == 0, k + n == job->n_in);
            }
        }
    }
}

/* Outputs of a piece: as many as may be, for a block of a panel is brought to L2 once for all of them, but some pieces
 * for every thread. */
static size_t linear_chunk(size_t n_out, size_t n_panels, size_t n_threads)
{
    size_t share = n_out * n_panels / (4 * n_threads) / LINEAR_PACK * LINEAR_PACK;
    return berth_cpu_max(LINEAR_CHUNK_MIN, berth_cpu_min(LINEAR_CHUNK_MAX, share));
}

static void linear_many(const berth_op_call *call, const linear_job *whole)
{
    for (size_t t = 0; t < whole->n; t += LINEAR_PANEL * LINEAR_PANELS) {
        linear_job part = *whole;
        part.n = berth_cpu_min(LINEAR_PANEL * LINEAR_PANELS, whole->n - t);
        part.x += t * whole->ld_x;
        part.y += t * whole->n_out;
        berth_cpu_parallel(call, part.n, 1 + BERTH_CPU_GRAIN / part.n_in, linear_pack_x, &part);
        size_t n_panels = (part.n + LINEAR_PANEL - 1) / LINEAR_PANEL;
        part.chunk = linear_chunk(part.n_out, n_panels, (size_t)berth_cpu_threads(call));
        size_t n_chunks = (part.n_out + part.chunk - 1) / part.chunk;
        berth_cpu_parallel(call, n_panels * n_chunks, 1, linear_many_piece, &part);
    }
}

/* ---- few rows --------------------------------------------------------------------------------------------------- */

/* A piece's outputs are cut into four runs, and a tile takes one output of each: so memory is read as four long
 * streams, which is what the processors' prefetchers follow best. The tile's output j is o + j * stride. */
typedef struct linear_quad {
    size_t o, stride;
} linear_quad;

/* One vector of the inner dimension: 4 weight rows, n_rows rows of x. */
BERTH_INLINE void linear_stream_step(vf sums[][LINEAR_COLS], const int n_rows, const berth_dtype dtype, const float *x,
                                     size_t ld_x, const char *w, size_t stride_bytes)
{
    BERTH_UNROLL for (size_t j = 0; j < LINEAR_COLS; j++)
    {
        vf column = v_load_weights(w + j * stride_bytes, dtype);
        BERTH_UNROLL for (int r = 0; r < n_rows; r++) sums[r][j] =
            v_fma(v_load(x + (size_t)r * ld_x), column, sums[r][j]);
    }
}

/* n_rows x 4 outputs over inner elements [k, k + n), weights widened on the way. Constants where inlined: n_rows, dtype. */
BERTH_INLINE void linear_stream_tile(const linear_job *job, const int n_rows, const berth_dtype dtype, size_t t,
                                     linear_quad quad, size_t k, size_t n)
{
    const size_t size = dtype == BERTH_F32 ? 4 : 2, line = 64 / size, stride_bytes = quad.stride * job->row_bytes;
    const float *x = job->x + t * job->ld_x + k;
    const char *w = job->w + quad.o * job->row_bytes + k * size;
    vf sums[LINEAR_ROWS][LINEAR_COLS];
    BERTH_UNROLL for (int r = 0; r < n_rows; r++) BERTH_UNROLL for (int j = 0; j < LINEAR_COLS; j++) sums[r][j] =
        (vf){0};
    size_t i = 0;
    for (; i + line <= n; i += line) {
        BERTH_UNROLL for (size_t j = 0; j < LINEAR_COLS; j++)
            __builtin_prefetch((const void *)((uintptr_t)w + j * stride_bytes + i * size + LINEAR_AHEAD), 0, 3);
        BERTH_UNROLL for (size_t l = 0; l < line; l += BERTH_LANES)
            linear_stream_step(sums, n_rows, dtype, x + i + l, job->ld_x, w + (i + l) * size, stride_bytes);
    }
    for (; i + BERTH_LANES <= n; i += BERTH_LANES)
        linear_stream_step(sums, n_rows, dtype, x + i, job->ld_x, w + i * size, stride_bytes);
    if (i < n) {
        for (size_t j = 0; j < LINEAR_COLS; j++) {
            vf column = v_load_weights_part(w + j * stride_bytes + i * size, dtype, n - i);
            for (int r = 0; r < n_rows; r++)
                sums[r][j] = v_fma(v_load(x + (size_t)r * job->ld_x + i), column, sums[r][j]);
        }
    }
    BERTH_UNROLL for (int r = 0; r < n_rows; r++)
    {
        vf4 sum = v_sum4(sums[r][0], sums[r][1], sums[r][2], sums[r][3]);
        float *y = job->y + (t + (size_t)r) * job->n_out;
        BERTH_UNROLL for (size_t j = 0; j < LINEAR_COLS; j++)
            linear_add_one(job, y, quad.o + j * quad.stride, sum[j], k == 0, k + n == job->n_in);
    }
}

/* One output of one row: the last n_out % 4. */
static void linear_stream_one(const linear_job *job, size_t t, size_t o)
{
    size_t size = berth_dtype_size(job->dtype);
    for (size_t k = 0; k < job->n_in; k += LINEAR_BLOCK) {
        const float *x = job->x + t * job->ld_x + k;
        const char *w = job->w + o * job->row_bytes + k * size;
        size_t n = berth_cpu_min(LINEAR_BLOCK, job->n_in - k), i = 0;
        vf sum = {0};
        for (; i + BERTH_LANES <= n; i += BERTH_LANES)
            sum = v_fma(v_load(x + i), v_load_weights(w + i * size, job->dtype), sum);
        if (i < n) sum = v_fma(v_load(x + i), v_load_weights_part(w + i * size, job->dtype, n - i), sum);
        linear_add_one(job, job->y + t * job->n_out, o, v_sum(sum), k == 0, k + n == job->n_in);
    }
}

/* A quad of outputs, all rows and blocks. */
BERTH_INLINE void linear_stream_quad(const linear_job *job, const berth_dtype dtype, linear_quad quad)
{
    for (size_t k = 0; k < job->n_in; k += LINEAR_BLOCK) {
        size_t n = berth_cpu_min(LINEAR_BLOCK, job->n_in - k), t = 0;
        for (; t + 3 <= job->n; t += 3) linear_stream_tile(job, 3, dtype, t, quad, k, n);
        if (t + 2 == job->n) linear_stream_tile(job, 2, dtype, t, quad, k, n);
        if (t + 1 == job->n) linear_stream_tile(job, 1, dtype, t, quad, k, n);
    }
}

/* Item: an output. */
static void linear_few_piece(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const linear_job *job = arg;
    linear_quad quad = {begin, (end - begin) / LINEAR_COLS};
    for (; quad.o < begin + quad.stride; quad.o++) {
        if (job->dtype == BERTH_BF16)
            linear_stream_quad(job, BERTH_BF16, quad);
        else if (job->dtype == BERTH_F16)
            linear_stream_quad(job, BERTH_F16, quad);
        else
            linear_stream_quad(job, BERTH_F32, quad);
    }
    for (size_t o = begin + LINEAR_COLS * quad.stride; o < end; o++)
        for (size_t t = 0; t < job->n; t++) linear_stream_one(job, t, o);
}

static void linear_few(const berth_op_call *call, linear_job *job, void *workspace)
{
    size_t padded = linear_padded(job->n_in);
    if (padded != job->n_in) {
        float *x = workspace;
        for (size_t t = 0; t < job->n; t++)
            linear_widen(x + t * padded, BERTH_LANES, (const char *)(job->x + t * job->ld_x), BERTH_F32, job->n_in,
                         padded);
        job->x = x;
        job->ld_x = padded;
    }
    /* Long streams, yet some pieces for every thread. */
    size_t pieces = 4 * (size_t)berth_cpu_threads(call);
    size_t grain = berth_cpu_min(LINEAR_STREAM / job->row_bytes + 1, job->n_out / pieces + 1);
    grain = berth_cpu_max(grain, BERTH_CPU_GRAIN / job->n_in + 1);
    berth_cpu_parallel(call, job->n_out, (grain + 3) / 4 * 4, linear_few_piece, job);
}

/* ---- the op ----------------------------------------------------------------------------------------------------- */

static size_t linear_workspace(const berth_op_call *shapes, int32_t n_threads)
{
    size_t n_out = (size_t)shapes->in[1].dims[0],
           n_in = (size_t)(berth_tensor_elements(&shapes->in[1]) / shapes->in[1].dims[0]);
    size_t n = (size_t)berth_tensor_elements(&shapes->in[0]) / n_in;
    size_t packed = berth_cpu_min(n, LINEAR_PANEL * LINEAR_PANELS) * linear_padded(n_in) * sizeof(float);
    size_t scratch = (size_t)n_threads * LINEAR_PACK * LINEAR_BLOCK * sizeof(float);
    return berth_cpu_line(n_out * sizeof(float)) + berth_cpu_line(packed) + scratch;
}

static void linear(const berth_op_call *call)
{
    const berth_tensor *w = &call->in[1];
    size_t n_out = (size_t)w->dims[0], n_in = (size_t)berth_tensor_elements(w) / n_out;
    char *workspace = call->workspace;
    linear_job job = {
        .x = call->in[0].data,
        .ld_x = n_in,
        .n = (size_t)berth_tensor_elements(&call->in[0]) / n_in,
        .n_in = n_in,
        .n_out = n_out,
        .w = w->data,
        .dtype = w->dtype,
        .row_bytes = n_in * berth_dtype_size(w->dtype),
        .y = call->out.data,
    };
    if (call->n_in > 2) {
        berth_widen_f32((float *)(void *)workspace, call->in[2].data, call->in[2].dtype, n_out);
        job.bias = (const float *)(const void *)workspace;
        workspace += berth_cpu_line(n_out * sizeof(float));
    }
    if (job.n <= LINEAR_FEW) {
        linear_few(call, &job, workspace);
        return;
    }
    job.packed = (float *)(void *)workspace;
    job.scratch = workspace + berth_cpu_line(berth_cpu_min(job.n, LINEAR_PANEL * LINEAR_PANELS) * linear_padded(n_in) *
                                             sizeof(float));
    linear_many(call, &job);
}

#endif
