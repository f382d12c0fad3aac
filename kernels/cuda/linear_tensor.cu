/* linear_tensor.cu - y = x w^T + bias in fp16 (sm_70 on) and bf16 (sm_80 on) on tensor cores, sums in fp32.
 *
 * An output's products are summed in chains of 256 inputs, and the chains' sums are added in order. A block of few rows gives chains to its warps; a block of
 * many adds each chain to its sums when it is over. So both give the same bits, and prefill, decode and batches of any company agree.
 *
 * Few rows: reading w is the limit. A warp has 4 KiB of w asked for at a time (8 x 16 bytes a lane) and 16 warps share an SM: 64 KiB, where an H200 needs about
 * 4.8 TB/s / 132 SMs x 0.7 us = 25 KiB in flight per SM, an A100 10 KiB. */
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/tensor.cuh"

/* ---- few rows -------------------------------------------------------------------------------------------------------------- */

enum { PIECE = 4, PIECE_K = PIECE * BLOCK_K };

/* Where a thin block's 16 rows of w lie, and its rows of x; what is not there reads as the last. */
template <class T> struct thin_weights {
    const T *w;
    int first, last, n_in; /* outputs */
    __device__ __forceinline__ const T *at(int row, int k) const
    {
        return w + (long long)min(first + row, last) * n_in + k;
    }
};
template <class T> struct thin_pair { /* eight outputs of one matrix and the same of another */
    const T *gate, *up;
    int first, last, n_in;
    __device__ __forceinline__ const T *at(int row, int k) const
    {
        return (row < 8 ? gate : up) + (long long)min(first + row % 8, last) * n_in + k;
    }
};
template <class T> struct rows_in_memory {
    enum { FAR = 1 };
    const T *x; /* the first */
    int last, n_in;
    __device__ __forceinline__ uint4 get(int row, int k) const
    {
        return ask_16_bytes(x + (long long)min(row, last) * n_in + k);
    }
};
template <class T> struct rows_in_block {
    enum { FAR = 0 };
    const char *x;
    int last, pitch;
    __device__ __forceinline__ uint4 get(int row, int k) const
    {
        return load_16_bytes(x + min(row, last) * pitch + k * (int)sizeof(T));
    }
};

/* Products of 16 rows by 16 outputs by 128 inputs from k on, asked for before the first product (x only where it is far). Inputs that are not there, in a piece
 * that is not WHOLE, are 0. */
template <class T, bool WHOLE, class W, class X>
__device__ __forceinline__ void thin_piece(square &s, const W &w, const X &x, int k, int n_in)
{
    const uint4 nothing = {0, 0, 0, 0};
    left_operand of_x[PIECE];
    right_operand of_w[PIECE];
#pragma unroll
    for (int i = 0; i < PIECE; i++)
        of_w[i].load([&](int row, int chunk) {
            const int at = k + i * BLOCK_K + chunk * CHUNK;
            return WHOLE || at < n_in ? ask_16_bytes_once(w.at(row, at)) : nothing;
        });
    auto load_x = [&](int i) {
        of_x[i].load([&](int row, int chunk) {
            const int at = k + i * BLOCK_K + chunk * CHUNK;
            return WHOLE || at < n_in ? x.get(row, at) : nothing;
        });
    };
#pragma unroll
    for (int i = 0; i < PIECE; i++)
        if (X::FAR) load_x(i);
    __syncwarp(); /* orders nothing: it keeps the compiler from saving registers by asking for less at a time */
#pragma unroll
    for (int i = 0; i < PIECE; i++) {
        if (!X::FAR) load_x(i);
        multiply<T>(s, of_x[i], of_w[i]);
    }
}

/* The warps take chains in turn. `sums` [chains, rows, 16] of shared memory, whole behind the barrier. n_in is a multiple of a chunk. */
template <class T, class W, class X>
__device__ __forceinline__ void thin_chains(float *sums, const W &w, const X &x, int rows, int n_in)
{
    const int chains = (n_in + BERTH_CUDA_CHAIN - 1) / BERTH_CUDA_CHAIN;
    for (int chain = (int)threadIdx.x / 32; chain < chains; chain += (int)blockDim.x / 32) {
        square s = {};
        for (int k = chain * BERTH_CUDA_CHAIN; k < min((chain + 1) * (int)BERTH_CUDA_CHAIN, n_in); k += PIECE_K)
            if (k + PIECE_K <= n_in)
                thin_piece<T, true>(s, w, x, k, n_in);
            else
                thin_piece<T, false>(s, w, x, k, n_in);
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (row_of(i) < rows) sums[(chain * rows + row_of(i)) * 16 + column_of(i)] = s.c[i];
    }
    __syncthreads();
}

/* Sum i (row i / 16, column i % 16), with its bias. */
__device__ __forceinline__ float thin_sum(const float *sums, int i, int rows, int n_in, const berth_cuda_in &bias,
                                          int out)
{
    const int chains = (n_in + BERTH_CUDA_CHAIN - 1) / BERTH_CUDA_CHAIN;
    float sum = 0;
    for (int chain = 0; chain < chains; chain++) sum += sums[chain * rows * 16 + i];
    return sum + (bias.at ? load_one(bias, out) : 0.0f);
}

/* Block (rows, 16 outputs). Shared: the sums. */
template <class T> __device__ __forceinline__ void linear_thin(const berth_cuda_linear &a)
{
    float *sums = (float *)berth_shared;
    const int first_row = (int)blockIdx.x * a.tile_rows, first_out = (int)blockIdx.y * 16;
    const int rows = min(a.tile_rows, a.rows - first_row);
    const thin_weights<T> w = {(const T *)a.w.at, first_out, a.n_out - 1, a.n_in};
    const rows_in_memory<T> x = {(const T *)a.x.at + (long long)first_row * a.n_in, rows - 1, a.n_in};
    thin_chains<T>(sums, w, x, rows, a.n_in);
    for (int i = (int)threadIdx.x; i < rows * 16; i += (int)blockDim.x) {
        const int out = first_out + i % 16;
        const long long at = (long long)(first_row + i / 16) * a.n_out + out;
        if (out >= a.n_out) continue;
        float sum = thin_sum(sums, i, rows, a.n_in, a.bias, out);
        if (a.plus.at) sum = load_one(a.plus, at) + rounded(sum, a.product_dtype);
        store_one(a.y, at, sum);
    }
}

/* ---- few rows that are normed first ------------------------------------------------------------------------------------------ */

/* Asks L2 for the warp's first chain of w (16 rows of four lines of 128 bytes), so that memory is busy while the block norms. */
template <class W> __device__ __forceinline__ void ask_ahead(const W &w, int n_in)
{
    const int chain = (int)threadIdx.x / 32 * BERTH_CUDA_CHAIN;
    for (int i = lane_id(); i < 64; i += 32)
        if (chain + i % 4 * 64 < n_in) ask_line(w.at(i / 4, chain + i % 4 * 64));
}

/* Norms the rows into shared memory and sums their products with w behind them. */
template <class T, class W>
__device__ __forceinline__ float *normed_chains(const berth_cuda_normed_linear &a, const W &w)
{
    char *x = (char *)berth_shared;
    const int pitch = normed_pitch(a.n_in, sizeof(T));
    float *sums = (float *)(x + a.rows * pitch);
    ask_ahead(w, a.n_in);
    norm_rows<T>(x, sums, a.x, a.scale, a.rows, a.n_in, a.eps);
    const rows_in_block<T> rows = {x, a.rows - 1, pitch};
    thin_chains<T>(sums, w, rows, a.rows, a.n_in);
    return sums;
}

/* Block (16 outputs of one of the products), as many threads as the norm has. Shared: the normed rows, the sums (the norm's before them). */
template <class T> __device__ __forceinline__ void linear_normed(const berth_cuda_normed_linear &a)
{
    const int block = (int)blockIdx.x, first_out = (block - product_begin(a, block)) * 16;
    const berth_cuda_product p = product_of(a, block);
    const thin_weights<T> w = {(const T *)p.w.at, first_out, p.n_out - 1, a.n_in};
    const float *sums = normed_chains<T>(a, w);
    for (int i = (int)threadIdx.x; i < a.rows * 16; i += (int)blockDim.x) {
        const int out = first_out + i % 16;
        if (out >= p.n_out) continue;
        store_one(p.y, (long long)(i / 16) * p.n_out + out, thin_sum(sums, i, a.rows, a.n_in, p.bias, out));
    }
}

/* Block (8 outputs of both products). */
template <class T> __device__ __forceinline__ void linear_gated(const berth_cuda_normed_linear &a)
{
    const berth_cuda_product &gate = a.of[0], &up = a.of[1];
    const int first_out = (int)blockIdx.x * 8;
    const thin_pair<T> w = {(const T *)gate.w.at, (const T *)up.w.at, first_out, gate.n_out - 1, a.n_in};
    const float *sums = normed_chains<T>(a, w);
    for (int i = (int)threadIdx.x; i < a.rows * 8; i += (int)blockDim.x) {
        const int row = i / 8, out = first_out + i % 8, at = row * 16 + i % 8;
        if (out >= gate.n_out) continue;
        const float of_gate = thin_sum(sums, at, a.rows, a.n_in, gate.bias, out);
        const float of_up = thin_sum(sums, at + 8, a.rows, a.n_in, up.bias, out);
        store_one(gate.y, (long long)row * gate.n_out + out,
                  silu_mul(rounded(of_gate, a.product_dtype), rounded(of_up, a.product_dtype)));
    }
}

/* ---- many rows ------------------------------------------------------------------------------------------------------------- */

/* Byte of a chunk in a stage: rows of four chunks, which change places so that the eight lanes of one access meet eight groups of banks, whichever way the
 * generation of tensor cores reads them. */
__device__ __forceinline__ int chunk_at(int row, int chunk)
{
    return row * BERTH_CUDA_STAGE_ROW + ((chunk ^ (row >> 1 & 3)) << 4);
}

/* A thread's part of what a block of EDGE rows by EDGE outputs copies for each stage of the pipeline: 32 inputs of the tile's rows of x, then of w. */
template <class T, int EDGE, int THREADS> struct tile_copies {
    enum { COPIES = 2 * EDGE * 4 / THREADS };
    const T *from[COPIES]; /* this thread's chunk of each row it copies, at input 0 */
    bool there[COPIES];
    chunk_copy copies[COPIES];

    static __device__ __forceinline__ int row(int i) { return ((int)threadIdx.x + i * THREADS) / 4; }

    __device__ __forceinline__ void init(const berth_cuda_linear &a, int first_row, int first_out)
    {
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            const bool of_x = row(i) < EDGE;
            const int at = of_x ? first_row + row(i) : first_out + row(i) - EDGE, n = of_x ? a.rows : a.n_out;
            there[i] = at < n;
            from[i] = (const T *)(of_x ? a.x.at : a.w.at) + (long long)min(at, n - 1) * a.n_in;
        }
    }

    __device__ __forceinline__ void begin(char *stage, int k, int n_in)
    {
        const int chunk = (int)threadIdx.x % 4, at = k + chunk * CHUNK, left = max(min(n_in - at, (int)CHUNK), 0);
#pragma unroll
        for (int i = 0; i < COPIES; i++)
            copies[i].begin(stage + chunk_at(row(i), chunk), from[i] + (left ? at : 0), there[i] ? left * 2 : 0,
                            n_in % CHUNK == 0);
    }

    __device__ __forceinline__ void end()
    {
#pragma unroll
        for (int i = 0; i < COPIES; i++) copies[i].end();
    }
};

/* Place of an output in the tile's sums, [EDGE, EDGE] of fp32 in shared memory: runs of eight change places so that neighbouring rows meet other banks. */
template <int EDGE> __device__ __forceinline__ int sum_at(int row, int column)
{
    return row * EDGE + (column ^ (row & 3) * RUN);
}

/* A warp's part of the tile, one of DOWN x ACROSS. */
template <class T, int EDGE, int DOWN, int ACROSS> struct tile_sums {
    enum { SQUARES_DOWN = EDGE / DOWN / 16, SQUARES_ACROSS = EDGE / ACROSS / 16 };
    square sums[SQUARES_DOWN][SQUARES_ACROSS], chain[SQUARES_DOWN][SQUARES_ACROSS];

    static __device__ __forceinline__ int first_row() { return (int)threadIdx.x / 32 / ACROSS * SQUARES_DOWN * 16; }
    static __device__ __forceinline__ int first_out() { return (int)threadIdx.x / 32 % ACROSS * SQUARES_ACROSS * 16; }

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int m = 0; m < SQUARES_DOWN; m++)
#pragma unroll
            for (int n = 0; n < SQUARES_ACROSS; n++) sums[m][n].clear(), chain[m][n].clear();
    }

    __device__ __forceinline__ void multiply_stage(const char *stage)
    {
        const int row = first_row(), out = EDGE + first_out();
        left_operand x[SQUARES_DOWN];
        right_operand w[SQUARES_ACROSS];
#pragma unroll
        for (int m = 0; m < SQUARES_DOWN; m++)
            x[m].load([&](int r, int c) { return load_16_bytes(stage + chunk_at(row + m * 16 + r, c)); });
#pragma unroll
        for (int n = 0; n < SQUARES_ACROSS; n++)
            w[n].load([&](int r, int c) { return load_16_bytes(stage + chunk_at(out + n * 16 + r, c)); });
#pragma unroll
        for (int m = 0; m < SQUARES_DOWN; m++)
#pragma unroll
            for (int n = 0; n < SQUARES_ACROSS; n++) multiply<T>(chain[m][n], x[m], w[n]);
    }

    __device__ __forceinline__ void end_chain()
    {
#pragma unroll
        for (int m = 0; m < SQUARES_DOWN; m++)
#pragma unroll
            for (int n = 0; n < SQUARES_ACROSS; n++) {
#pragma unroll
                for (int i = 0; i < 8; i++) sums[m][n].c[i] += chain[m][n].c[i];
                chain[m][n].clear();
            }
    }

    __device__ __forceinline__ void gather(float *all) const
    {
#pragma unroll
        for (int m = 0; m < SQUARES_DOWN; m++)
#pragma unroll
            for (int n = 0; n < SQUARES_ACROSS; n++)
#pragma unroll
                for (int i = 0; i < 8; i++)
                    all[sum_at<EDGE>(first_row() + m * 16 + row_of(i), first_out() + n * 16 + column_of(i))] =
                        sums[m][n].c[i];
    }
};

/* The tile's sums, whole runs of rows into y, so that writes are coalesced. */
template <int EDGE>
__device__ __forceinline__ void write_tile(const berth_cuda_linear &a, const float *all, int first_row, int first_out)
{
    const bool aligned = a.n_out % RUN == 0;
    for (int i = (int)threadIdx.x; i < EDGE * EDGE / RUN; i += (int)blockDim.x) {
        const int row = i / (EDGE / RUN), column = i % (EDGE / RUN) * RUN, out = first_out + column;
        if (first_row + row >= a.rows || out >= a.n_out) continue;
        float v[RUN], bias[RUN] = {0};
        load_whole_run(all + sum_at<EDGE>(row, column), v);
        if (a.bias.at) load_run(a.bias, out, a.n_out - out, true, bias);
#pragma unroll
        for (int j = 0; j < RUN; j++) v[j] += bias[j];
        store_run(a.y, (long long)(first_row + row) * a.n_out + out, a.n_out - out, aligned, v);
    }
}

/* Block (rows, outputs) of DOWN x ACROSS warps. Shared: STAGES stages. The barrier of a round makes the stage that has come seen by all, and says that all are
 * done with the one that is filled next; behind the last round the stages' memory takes the sums. n_in is a multiple of 4. */
template <class T, int EDGE, int DOWN, int ACROSS>
__device__ __forceinline__ void linear_tiles(const berth_cuda_linear &a)
{
    enum { STAGES = BERTH_CUDA_STAGES, STAGE = 2 * EDGE * BERTH_CUDA_STAGE_ROW, CHAIN = BERTH_CUDA_CHAIN / BLOCK_K };
    char *shared = (char *)berth_shared;
    const int first_row = (int)blockIdx.x * EDGE, first_out = (int)blockIdx.y * EDGE;
    const int rounds = (a.n_in + BLOCK_K - 1) / BLOCK_K;
    tile_copies<T, EDGE, DOWN * ACROSS * 32> copies;
    tile_sums<T, EDGE, DOWN, ACROSS> sums;
    copies.init(a, first_row, first_out);
    sums.clear();
    for (int i = 0; i < STAGES - 1; i++) {
        if (i < rounds) copies.begin(shared + i * STAGE, i * BLOCK_K, a.n_in), copies.end();
        copies_commit();
    }
    for (int i = 0; i < rounds; i++) {
        const int next = i + STAGES - 1;
        copies_wait<STAGES - 2>();
        __syncthreads();
        if (next < rounds) copies.begin(shared + next % STAGES * STAGE, next * BLOCK_K, a.n_in);
        copies_commit();
        sums.multiply_stage(shared + i % STAGES * STAGE);
        if (i % CHAIN == CHAIN - 1 || i == rounds - 1) sums.end_chain();
        if (next < rounds) copies.end();
    }
    __syncthreads();
    sums.gather((float *)shared);
    __syncthreads();
    write_tile<EDGE>(a, (const float *)shared, first_row, first_out);
}

#define LINEAR_TENSOR(T)                                                                                               \
    BERTH_KERNEL(linear_thin_##T, berth_cuda_linear)                                                                   \
    {                                                                                                                  \
        linear_thin<T>(a);                                                                                             \
    }                                                                                                                  \
    BERTH_KERNEL(linear_normed_##T, berth_cuda_normed_linear)                                                          \
    {                                                                                                                  \
        linear_normed<T>(a);                                                                                           \
    }                                                                                                                  \
    BERTH_KERNEL(linear_gated_##T, berth_cuda_normed_linear)                                                           \
    {                                                                                                                  \
        linear_gated<T>(a);                                                                                            \
    }                                                                                                                  \
    BERTH_KERNEL(linear_64_##T, berth_cuda_linear)                                                                     \
    {                                                                                                                  \
        linear_tiles<T, 64, 2, 2>(a);                                                                                  \
    }                                                                                                                  \
    BERTH_KERNEL(linear_128_##T, berth_cuda_linear)                                                                    \
    {                                                                                                                  \
        linear_tiles<T, 128, 2, 4>(a);                                                                                 \
    }
LINEAR_TENSOR(f16)
#if __CUDA_ARCH__ >= 800
LINEAR_TENSOR(bf16)
#endif
