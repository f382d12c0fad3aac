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
    return (int)threadIdx.x % 32;
}

/* A lane's part of a 16 x 16 result: elements 2i and 2i + 1 are neighbours in a row. */
struct square {
    float c[8];
};

#if __CUDA_ARCH__ >= 750

/* A lane's part of 16 rows: chunk lane % 4 of rows lane / 4 and that + 8. get(row, chunk) reads 16 bytes. */
struct operand {
    uint4 low, high;
    template <class G> __device__ __forceinline__ void load(G get)
    {
        low = get(lane_id() / 4, lane_id() % 4);
        high = get(lane_id() / 4 + 8, lane_id() % 4);
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
    return (i & 4) * 2 + lane_id() % 4 * 2 + (i & 1);
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

#else

/* A quarter of the warp (lanes 4q .. 4q + 3 and those + 16) has rows 8 (q / 2) on and columns 8 (q % 2) on; a lane has one row and one column, all 32 k's. */
template <int STRIDE> struct operand {
    uint4 part[4];
    template <class G> __device__ __forceinline__ void load(G get)
    {
        const int row = lane_id() % 4 + lane_id() / 16 * 4 + lane_id() / STRIDE % 2 * 8;
#pragma unroll
        for (int c = 0; c < 4; c++) part[c] = get(row, c);
    }
};
typedef operand<8> left_operand;
typedef operand<4> right_operand;

__device__ __forceinline__ int row_of(int i)
{
    return lane_id() / 8 % 2 * 8 + lane_id() / 16 * 4 + (i & 2) + (lane_id() & 1);
}
__device__ __forceinline__ int column_of(int i)
{
    return lane_id() / 4 % 2 * 8 + (i & 4) + (lane_id() & 2) + (i & 1);
}

template <class T> __device__ __forceinline__ void multiply(square &s, const left_operand &a, const right_operand &b)
{
#pragma unroll
    for (int c = 0; c < 4; c++) {
        mma_884(T(), s.c, a.part[c].x, a.part[c].y, b.part[c].x, b.part[c].y);
        mma_884(T(), s.c, a.part[c].z, a.part[c].w, b.part[c].z, b.part[c].w);
    }
}

#endif

/* ---- copies ahead of use ------------------------------------------------------------------------------------------------ */

#if __CUDA_ARCH__ >= 800

/* A chunk on its way into shared memory: begun before other work, ended behind it. `bytes` of it exist (0, 8 or 16), the rest is 0. `wide`: its address is a
 * multiple of 16, else of 8. */
struct chunk_copy {
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
