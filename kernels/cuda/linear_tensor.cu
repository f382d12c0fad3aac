/* linear_tensor.cu - y = x w^T + bias in fp16 (sm_70 on) and bf16 (sm_80 on) on tensor cores, sums in fp32.
 *
 * An output's products are summed in chains of 256 inputs, and the chains' sums are added in order. A block of few rows gives chains to its warps; a block of
 * many adds each chain to its sums when it is over. So both give the same bits, and prefill, decode and batches of any company agree.
 *
 * Few rows: reading w is the limit. A warp has 4 KiB of w asked for at a time (8 x 16 bytes a lane) and 16 warps share an SM: 64 KiB, where an H200 needs about
 * 4.8 TB/s / 132 SMs x 0.7 us = 25 KiB in flight per SM, an A100 10 KiB. */
#include "kernels/cuda/tensor.cuh"

/* ---- few rows -------------------------------------------------------------------------------------------------------------- */

enum { PIECE = 4, PIECE_K = PIECE * BLOCK_K };

/* Products of 16 rows by 16 outputs by 128 inputs from k on, all asked for before the first product. Rows and outputs that are not there read as the last;
 * inputs, in a piece that is not WHOLE, as 0. */
template <class T, bool WHOLE>
__device__ __forceinline__ void thin_piece(square &s, const berth_cuda_linear &a, int first_row, int last_row,
                                           int first_out, int k)
{
    const T *x = (const T *)a.x.at, *w = (const T *)a.w.at;
    const uint4 nothing = {0, 0, 0, 0};
    left_operand of_x[PIECE];
    right_operand of_w[PIECE];
#pragma unroll
    for (int i = 0; i < PIECE; i++)
        of_w[i].load([&](int row, int chunk) {
            const int at = k + i * BLOCK_K + chunk * CHUNK, out = min(first_out + row, a.n_out - 1);
            return WHOLE || at < a.n_in ? ask_16_bytes_once(w + (long long)out * a.n_in + at) : nothing;
        });
#pragma unroll
    for (int i = 0; i < PIECE; i++)
        of_x[i].load([&](int row, int chunk) {
            const int at = k + i * BLOCK_K + chunk * CHUNK, own = min(first_row + row, last_row);
            return WHOLE || at < a.n_in ? ask_16_bytes(x + (long long)own * a.n_in + at) : nothing;
        });
    __syncwarp(); /* orders nothing: it keeps the compiler from saving registers by asking for less at a time */
#pragma unroll
    for (int i = 0; i < PIECE; i++) multiply<T>(s, of_x[i], of_w[i]);
}

/* Block (rows, 16 outputs): its warps take chains in turn. Shared: sums [chains, tile_rows, 16]; the barrier makes them seen by the threads that add them.
 * n_in is a multiple of a chunk. */
template <class T> __device__ __forceinline__ void linear_thin(const berth_cuda_linear &a)
{
    float *sums = (float *)berth_shared;
    const int first_row = (int)blockIdx.x * a.tile_rows, first_out = (int)blockIdx.y * 16;
    const int rows = min(a.tile_rows, a.rows - first_row), chains = (a.n_in + BERTH_CUDA_CHAIN - 1) / BERTH_CUDA_CHAIN;
    for (int chain = (int)threadIdx.x / 32; chain < chains; chain += (int)blockDim.x / 32) {
        square s = {};
        for (int k = chain * BERTH_CUDA_CHAIN; k < min((chain + 1) * (int)BERTH_CUDA_CHAIN, a.n_in); k += PIECE_K)
            if (k + PIECE_K <= a.n_in)
                thin_piece<T, true>(s, a, first_row, first_row + rows - 1, first_out, k);
            else
                thin_piece<T, false>(s, a, first_row, first_row + rows - 1, first_out, k);
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (row_of(i) < rows) sums[(chain * rows + row_of(i)) * 16 + column_of(i)] = s.c[i];
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < rows * 16; i += (int)blockDim.x) {
        const int out = first_out + i % 16;
        if (out >= a.n_out) continue;
        float sum = 0;
        for (int chain = 0; chain < chains; chain++) sum += sums[chain * rows * 16 + i];
        sum += a.bias.at ? load_one(a.bias, out) : 0.0f;
        store_one(a.y, (long long)(first_row + i / 16) * a.n_out + out, sum);
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
