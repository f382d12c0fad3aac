/* emu_gemm.h - a product of cuBLAS as work for the emulated driver: c = alpha op(a) op(b) + beta c (+ bias),
 * column-major. */
#ifndef CUDA_EMU_EMU_GEMM_H
#define CUDA_EMU_EMU_GEMM_H

#include "cuda/cublas.h"
#include "door.h"

typedef struct emu_matrix {
    uint64_t at;
    int dtype, rows, cols, ld; /* as it lies: ld elements from column to column */
} emu_matrix;

typedef struct emu_gemm {
    int m, n, k;
    bool a_transposed, b_transposed;
    float alpha, beta;
    emu_matrix a, b, c;
    emu_matrix bias; /* one column, added to each of c; at 0: none */
} emu_gemm;

/* `user` of the work below. */
void *emu_gemm_new(const emu_door *door, int gpu, const emu_gemm *g, uint64_t workspace, size_t workspace_bytes);
int emu_gemm_run(void *user);
void *emu_gemm_again(void *user);
void emu_gemm_end(void *user);

#endif
