/* ptx.cuh - the few things device code says in instructions, so that it needs no header of the toolkit (NVRTC has none) and the emulator can stand in:
 * tests/cuda_emu/device/emu_ptx.h gives the same names on the host. */
#ifndef BERTH_CUDA_PTX_CUH
#define BERTH_CUDA_PTX_CUH

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

#if __CUDA_ARCH__ >= 800
/* d[16,8] += a[16,16] b[16,8], fragments as in the PTX ISA for mma.m16n8k16. */
__device__ __forceinline__ void mma_16816_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_16816_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

#endif
