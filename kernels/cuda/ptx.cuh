/* ptx.cuh - the few things device code says in instructions, so that it needs no header of the toolkit (NVRTC has none) and the emulator can stand in:
 * tests/cuda_emu/device/emu_ptx.h gives the same names on the host. */
#ifndef BERTH_CUDA_PTX_CUH
#define BERTH_CUDA_PTX_CUH

#include "kernels/cuda/halves.cuh"

__device__ __forceinline__ float f16_bits_to_float(unsigned short bits)
{
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(bits));
    return f;
}

__device__ __forceinline__ unsigned short float_to_f16_bits(float f) /* nearest even, overflow to infinity */
{
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(f));
    return bits;
}

__device__ __forceinline__ unsigned short float_to_bf16_bits(float f) /* nearest even; NaN stays one */
{
#if __CUDA_ARCH__ >= 800
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(f));
    return bits;
#else
    unsigned u = __float_as_uint(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (unsigned short)(u >> 16 | 0x40);
    return (unsigned short)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
#endif
}

__device__ __forceinline__ uint4 load_16_bytes(const void *p)
{
    return *(const uint4 *)p;
}

__device__ __forceinline__ void store_16_bytes(void *p, uint4 u)
{
    *(uint4 *)p = u;
}

/* Reads of what no kernel writes meanwhile, asked for where they stand, however long their results wait: many are in flight at once. `once`: by nobody else
 * soon, so it goes past L1, which keeps what is read again. */
__device__ __forceinline__ uint4 ask_16_bytes(const void *p)
{
    uint4 u;
    asm volatile("ld.global.nc.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(u.x), "=r"(u.y), "=r"(u.z), "=r"(u.w) : "l"(p));
    return u;
}
#if __CUDA_ARCH__ >= 800
__device__ __forceinline__ uint4 ask_16_bytes_once(const void *p)
{
    uint4 u;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(u.x), "=r"(u.y), "=r"(u.z), "=r"(u.w)
                 : "l"(p));
    return u;
}
#else
__device__ __forceinline__ uint4 ask_16_bytes_once(const void *p)
{
    return ask_16_bytes(p);
}
#endif

/* The line of memory at p will be wanted: into L2, waiting for nothing. */
__device__ __forceinline__ void ask_line(const void *p)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

__device__ __forceinline__ unsigned shared_address(const void *p)
{
    return (unsigned)__cvta_generic_to_shared(p);
}

#if __CUDA_ARCH__ >= 800
/* Queues a copy from global into shared memory, of which `bytes` are read and the rest is 0. The thread sees it after copies_wait, others after a barrier
 * behind that. */
__device__ __forceinline__ void copy_async_16(void *to, const void *from, int bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
                 : "memory");
}
__device__ __forceinline__ void copy_async_8(void *to, const void *from, int bytes)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
                 : "memory");
}
/* Ends a group of copies; waits until all but the newest N groups have come. */
__device__ __forceinline__ void copies_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N> __device__ __forceinline__ void copies_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* d[16,8] += a[16,16] b[16,8], fragments as in the PTX ISA for mma.m16n8k16. */
__device__ __forceinline__ void mma_16816(f16, float *d, const unsigned (&a)[4], const unsigned (&b)[2])
{
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_16816(bf16, float *d, const unsigned (&a)[4], const unsigned (&b)[2])
{
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#elif __CUDA_ARCH__ >= 750
/* d[16,8] += a[16,8] b[8,8]. */
__device__ __forceinline__ void mma_1688(f16, float *d, unsigned a0, unsigned a1, unsigned b)
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a0), "r"(a1), "r"(b));
}
#elif __CUDA_ARCH__ >= 700
/* Four products d[8,8] += a[8,4] b[4,8], one each quarter of the warp (lanes 4q .. 4q + 3 and the same + 16). */
__device__ __forceinline__ void mma_884(f16, float *d, unsigned a0, unsigned a1, unsigned b0, unsigned b1)
{
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%0,%1,%2,%3,%4,%5,%6,%7}, {%8,%9}, {%10,%11}, "
                 "{%0,%1,%2,%3,%4,%5,%6,%7};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
                 : "r"(a0), "r"(a1), "r"(b0), "r"(b1));
}
/* The same with a lane holding four columns of one k of b, where the other holds four k's of one column. */
__device__ __forceinline__ void mma_884_down(f16, float *d, unsigned a0, unsigned a1, unsigned b0, unsigned b1)
{
    asm volatile("mma.sync.aligned.m8n8k4.row.row.f32.f16.f16.f32 {%0,%1,%2,%3,%4,%5,%6,%7}, {%8,%9}, {%10,%11}, "
                 "{%0,%1,%2,%3,%4,%5,%6,%7};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
                 : "r"(a0), "r"(a1), "r"(b0), "r"(b1));
}
#endif

#if __CUDA_ARCH__ >= 750
/* Four 8 x 8 matrices of 16-bit elements; lane 8i + r gives the address of matrix i's row r (16 bytes of shared memory). Lane l gets of each matrix, turned
 * over, rows 2 (l % 4) and the next of column l / 4. */
__device__ __forceinline__ void load_turned_matrices(unsigned (&to)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}
#endif

#endif
