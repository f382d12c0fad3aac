/* tensor.cuh - products of 16 rows by 16 columns by 32 k's on tensor cores, one way of speaking for three generations of them, and copies ahead of use.
 *
 * Both operands have k contiguous and are read in chunks of 8 k's (16 bytes): a lane takes whole chunks and gives their halves to one product after another, in
 * an order of k that is the same for both operands and for every kernel. So a chunk is one 16-byte read, from shared or global memory, with no ldmatrix, and an
 * output's bits are the same in whatever tile it is computed.
 * Sources: PTX ISA, fragments of mma.m16n8k16, m16n8k8 and m8n8k4. */
#ifndef BERTH_CUDA_TENSOR_CUH
#define BERTH_CUDA_TENSOR_CUH

#include "kernels/cuda/device.cuh"

enum { CHUNK = 8, BLOCK_K = 32 }; /* k's of a chunk and of one product */

__device__ __forceinline__ int lane_id()
{
    return (int)(threadIdx.x & 31);
}

/* A lane's part of a 16 x 16 result: four elements of each of two rows; elements 2i and 2i + 1 are neighbours in a row. Lanes that share a row are ROW_LANE,
 * 2 ROW_LANE or both apart. */
struct square {
    float c[8];

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int i = 0; i < 8; i++) c[i] = 0;
    }
};

/* Which of a lane's two rows element i is in, and how far its column is from that of the lane's first. */
__device__ __forceinline__ int half_of(int i)
{
    return i >> 1 & 1;
}
__device__ __forceinline__ int column_step(int i)
{
    return (i & 4) * 2 + (i & 1);
}

__device__ __forceinline__ unsigned pack_two(f16, float low, float high)
{
    return float_to_f16_bits(low) | (unsigned)float_to_f16_bits(high) << 16;
}
__device__ __forceinline__ unsigned pack_two(bf16, float low, float high)
{
    return float_to_bf16_bits(low) | (unsigned)float_to_bf16_bits(high) << 16;
}

/* What each generation has below:
 *   left_operand, right_operand   16 rows of 32 k's, k contiguous in memory; load(get): get(row, chunk) reads 16 bytes. Of ROWS of them, row(0) on, a lane has
 *                                 parts; load_own(get): get(n, chunk) reads of its n-th
 *   row_of(i), column_of(i)       where element i of the lane's square is
 *   multiply<T>(s, left, right)   s += left right^T
 *   narrow_square<T>              a square rounded to T, as the left operand of a product over its 16 columns
 *   down_operand                  16 k's of DOWN_SQUARES * 16 columns, columns contiguous in memory; load(at): at(row, chunk) is the address of 16 bytes in shared
 *                                 memory
 *   BLOCKS_AHEAD                  loops over a row's 32 k's are unrolled so often, as registers allow
 *   multiply_down<T>(s, left, right), down_column_of(j, i): the column of element i of square j where a row of squares is made so */

#if __CUDA_ARCH__ >= 750

enum { ROW_LANE = 1, DOWN_SQUARES = 1, BLOCKS_AHEAD = 4 };

/* A lane's part of 16 rows: chunk lane % 4 of rows lane / 4 and that + 8. */
struct operand {
    enum { ROWS = 2 };
    uint4 low, high;
    static __device__ __forceinline__ int row(int n) { return lane_id() >> 2 | n << 3; }
    template <class G> __device__ __forceinline__ void load_own(G get)
    {
        low = get(0, lane_id() % 4);
        high = get(1, lane_id() % 4);
    }
    template <class G> __device__ __forceinline__ void load(G get)
    {
        load_own([&](int n, int chunk) { return get(row(n), chunk); });
    }
};
typedef operand left_operand;
typedef operand right_operand;

__device__ __forceinline__ int row_of(int i)
{
    return lane_id() / 4 + (i & 2) * 4;
}
__device__ __forceinline__ int column_of(int i)
{
    return lane_id() % 4 * 2 + column_step(i);
}

#if __CUDA_ARCH__ < 800
template <class T>
__device__ __forceinline__ void mma_16816(T, float *d, const unsigned (&a)[4], const unsigned (&b)[2])
{
    mma_1688(T(), d, a[0], a[1], b[0]);
    mma_1688(T(), d, a[2], a[3], b[1]);
}
#endif

template <class T> __device__ __forceinline__ void multiply(square &s, const left_operand &a, const right_operand &b)
{
    const unsigned first[4] = {a.low.x, a.high.x, a.low.y, a.high.y};
    const unsigned second[4] = {a.low.z, a.high.z, a.low.w, a.high.w};
    const unsigned b_first[2][2] = {{b.low.x, b.low.y}, {b.high.x, b.high.y}};
    const unsigned b_second[2][2] = {{b.low.z, b.low.w}, {b.high.z, b.high.w}};
#pragma unroll
    for (int half = 0; half < 2; half++) mma_16816(T(), s.c + 4 * half, first, b_first[half]);
#pragma unroll
    for (int half = 0; half < 2; half++) mma_16816(T(), s.c + 4 * half, second, b_second[half]);
}

template <class T> struct narrow_square {
    unsigned part[4];
    __device__ __forceinline__ void of(const square &s)
    {
#pragma unroll
        for (int i = 0; i < 4; i++) part[i] = pack_two(T(), s.c[2 * i], s.c[2 * i + 1]);
    }
};

struct down_operand {
    unsigned part[4];
    template <class A> __device__ __forceinline__ void load(A at)
    {
        load_turned_matrices(part, at(lane_id() % 16, lane_id() / 16));
    }
};

__device__ __forceinline__ int down_column_of(int j, int i)
{
    return j * 16 + column_of(i);
}

template <class T>
__device__ __forceinline__ void multiply_down(square (&s)[DOWN_SQUARES], const narrow_square<T> &a,
                                              const down_operand &b)
{
    const unsigned low[2] = {b.part[0], b.part[1]}, high[2] = {b.part[2], b.part[3]};
    mma_16816(T(), s[0].c, a.part, low);
    mma_16816(T(), s[0].c + 4, a.part, high);
}

#else

enum { ROW_LANE = 2, DOWN_SQUARES = 2, BLOCKS_AHEAD = 1 };

/* A quarter of the warp (lanes 4q .. 4q + 3 and those + 16) multiplies 8 rows by 8 columns: rows 4 (q / 2) .. + 3 and those + 8, columns 4 (q % 2) .. + 3 and
 * those + 8, so that the eight lanes of one access read eight neighbouring rows. A lane has one row and one column, all 32 k's. */
template <int STRIDE> struct operand {
    enum { ROWS = 1 };
    uint4 part[4];
    static __device__ __forceinline__ int row(int)
    {
        return (lane_id() & 3) | (lane_id() / STRIDE & 1) << 2 | lane_id() >> 4 << 3;
    }
    template <class G> __device__ __forceinline__ void load_own(G get)
    {
#pragma unroll
        for (int c = 0; c < 4; c++) part[c] = get(0, c);
    }
    template <class G> __device__ __forceinline__ void load(G get)
    {
        load_own([&](int n, int chunk) { return get(row(n), chunk); });
    }
};
typedef operand<8> left_operand;
typedef operand<4> right_operand;

__device__ __forceinline__ int row_of(int i)
{
    return lane_id() / 8 % 2 * 4 + lane_id() / 16 * 8 + (i & 2) + (lane_id() & 1);
}
__device__ __forceinline__ int column_of(int i)
{
    return (lane_id() & 6) + column_step(i);
}

template <class T> __device__ __forceinline__ void multiply(square &s, const left_operand &a, const right_operand &b)
{
#pragma unroll
    for (int c = 0; c < 4; c++) {
        mma_884(T(), s.c, a.part[c].x, a.part[c].y, b.part[c].x, b.part[c].y);
        mma_884(T(), s.c, a.part[c].z, a.part[c].w, b.part[c].z, b.part[c].w);
    }
}

/* A lane's row as an operand, fours of columns: first those of its own quarter (from 4 (q % 2) on, and + 8), then those of the quarter that has the row's others.
 * Of its square it has two elements of each four, for its row and for its neighbour's (lane ^ 2), who has the other two. */
template <class T> struct narrow_square {
    unsigned part[4][2];
    __device__ __forceinline__ void of(const square &s)
    {
        const bool upper = lane_id() & 2;
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const unsigned first = pack_two(T(), s.c[4 * e], s.c[4 * e + 1]);
            const unsigned second = pack_two(T(), s.c[4 * e + 2], s.c[4 * e + 3]);
            const unsigned own = upper ? second : first;
            const unsigned other = __shfl_xor_sync(0xffffffffu, upper ? first : second, 2);
            part[e][0] = upper ? other : own, part[e][1] = upper ? own : other;
        }
#pragma unroll
        for (int e = 0; e < 4; e++) part[2 + e / 2][e % 2] = __shfl_xor_sync(0xffffffffu, part[e / 2][e % 2], 4);
    }
};

/* k's in the order of narrow_square: row lane % 4 of each four. A lane's chunk is 2 (q % 2), + 1 from lane 16 on; its first half belongs to the first square. */
struct down_operand {
    uint4 part[4];
    static __device__ __forceinline__ int row(int e)
    {
        return (lane_id() & 3) | ((lane_id() >> 2 & 1) ^ e / 2) << 2 | e % 2 << 3;
    }
    static __device__ __forceinline__ int chunk() { return (lane_id() >> 2 & 1) << 1 | lane_id() >> 4; }
    template <class A> __device__ __forceinline__ void load(A at)
    {
#pragma unroll
        for (int e = 0; e < 4; e++) part[e] = load_16_bytes(at(row(e), chunk()));
    }
    /* The same of what lies anywhere: get(row, chunk) reads it. */
    template <class G> __device__ __forceinline__ void load_far(G get)
    {
#pragma unroll
        for (int e = 0; e < 4; e++) part[e] = get(row(e), chunk());
    }
};

__device__ __forceinline__ int down_column_of(int j, int i)
{
    return j / 2 * 32 + lane_id() / 4 % 2 * 16 + (i & 4) * 2 + j % 2 * 4 + (lane_id() & 2) + (i & 1);
}

template <class T>
__device__ __forceinline__ void multiply_down(square (&s)[DOWN_SQUARES], const narrow_square<T> &a,
                                              const down_operand &b)
{
#pragma unroll
    for (int e = 0; e < 4; e++) {
        mma_884_down(T(), s[0].c, a.part[e][0], a.part[e][1], b.part[e].x, b.part[e].y);
        mma_884_down(T(), s[1].c, a.part[e][0], a.part[e][1], b.part[e].z, b.part[e].w);
    }
}

#endif

/* ---- copies ahead of use ------------------------------------------------------------------------------------------------ */

#if __CUDA_ARCH__ >= 800

/* A chunk on its way into shared memory: begun before other work, ended behind it. `bytes` of it exist (0, 8 or 16), the rest is 0. `wide`: its address is a
 * multiple of 16, else of 8. */
struct chunk_copy {
    enum { TOGETHER = 2 }; /* so many addresses at a time */
    __device__ __forceinline__ void begin(void *to, const void *from, int bytes, bool wide)
    {
        if (wide) {
            copy_async_16(to, from, bytes);
            return;
        }
        copy_async_8(to, from, min(bytes, 8));
        copy_async_8((char *)to + 8, bytes > 8 ? (const char *)from + 8 : (const char *)from, max(bytes - 8, 0));
    }
    __device__ __forceinline__ void end() {}
};

#else

/* Without asynchronous copies the chunk waits in registers. */
struct chunk_copy {
    enum { TOGETHER = 4 };
    uint4 held;
    void *where;
    __device__ __forceinline__ void begin(void *to, const void *from, int bytes, bool wide)
    {
        const uint4 nothing = {0, 0, 0, 0};
        const unsigned *p = (const unsigned *)from;
        where = to, held = nothing;
        if (wide && bytes) held = load_16_bytes(from);
        if (!wide && bytes) held.x = p[0], held.y = p[1];
        if (!wide && bytes > 8) held.z = p[2], held.w = p[3];
    }
    __device__ __forceinline__ void end() { store_16_bytes(where, held); }
};
__device__ __forceinline__ void copies_commit() {}
template <int N> __device__ __forceinline__ void copies_wait() {}

#endif

#endif
