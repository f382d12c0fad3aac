/* emu_blas.c - see emu_blas.h. */
#include "emu_blas.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

const emu_door *emu_blas_door(void)
{
    static const emu_door *found;
    if (found) return found;
    void *driver = dlopen("libcuda.so.1", RTLD_NOLOAD | RTLD_NOW);
    found = driver ? dlsym(driver, "emu_door") : NULL;
    if (!found) {
        fprintf(stderr, "cuda_emu: cuBLAS is called, and the driver that is open is not the emulated one\n");
        abort();
    }
    return found;
}

/* What a driver's code is called by cuBLAS. */
int emu_blas_status(int code)
{
    switch (code) {
    case BERTH_CU_SUCCESS: return BERTH_CUBLAS_SUCCESS;
    case BERTH_CU_OUT_OF_MEMORY: return BERTH_CUBLAS_ALLOC_FAILED;
    case BERTH_CU_NOT_INITIALIZED: return BERTH_CUBLAS_NOT_INITIALIZED;
    case BERTH_CU_INVALID_VALUE: return BERTH_CUBLAS_INTERNAL_ERROR;
    default: return BERTH_CUBLAS_EXECUTION_FAILED;
    }
}

int emu_blas_enter(void)
{
    return emu_blas_status(emu_blas_door()->enter());
}

int emu_blas_leave(int status)
{
    emu_blas_door()->leave(0);
    return status;
}

static size_t size_of(int dtype)
{
    return dtype == BERTH_CUBLAS_F32 ? 4 : dtype == BERTH_CUBLAS_F16 || dtype == BERTH_CUBLAS_BF16 ? 2 : 0;
}

/* Bytes from the first to the last element of a column-major matrix. */
static size_t extent(const emu_matrix *x)
{
    return (((size_t)x->cols - 1) * (size_t)x->ld + (size_t)x->rows) * size_of(x->dtype);
}

static bool overlap(const emu_span *a, const emu_span *b)
{
    return a->at < b->at + b->bytes && b->at < a->at + a->bytes;
}

static int check_shape(const emu_gemm *g, int gpu)
{
    const emu_matrix *all[] = {&g->a, &g->b, &g->c};
    if (g->m < 1 || g->n < 1 || g->k < 1)
        return emu_blas_door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "product: m, n, k = %d, %d, %d", g->m, g->n, g->k);
    for (int i = 0; i < 3; i++) {
        if (all[i]->ld < all[i]->rows)
            return emu_blas_door()->misuse(BERTH_CUBLAS_INVALID_VALUE,
                                           "product: leading dimension %d of operand %c with columns of %d", all[i]->ld,
                                           "abc"[i], all[i] -> rows);
        if (size_of(all[i]->dtype) == 0 || all[i]->at % size_of(all[i]->dtype))
            return emu_blas_door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "product: dtype or alignment of operand %c",
                                           "abc"[i]);
    }
    if (g->a.dtype != g->b.dtype || (g->c.dtype != g->a.dtype && g->c.dtype != BERTH_CUBLAS_F32))
        return emu_blas_door()->misuse(BERTH_CUBLAS_NOT_SUPPORTED, "product: dtypes %d, %d to %d", g->a.dtype,
                                       g->b.dtype, g->c.dtype);
    if (g->a.dtype == BERTH_CUBLAS_BF16 && emu_blas_door()->capability(gpu) < 80)
        return emu_blas_door()->misuse(BERTH_CUBLAS_ARCH_MISMATCH, "product: bf16 on sm_%d",
                                       emu_blas_door()->capability(gpu));
    return 0;
}

enum { A, B, C, WORKSPACE, BIAS, MOST_SPANS };

int emu_blas_queue(const char *call, int gpu, void *stream, const emu_gemm *g, uint64_t workspace, size_t bytes)
{
    const int status = check_shape(g, gpu);
    if (status) return status;
    emu_work work = {.name = call,
                     .run = emu_gemm_run,
                     .again = emu_gemm_again,
                     .end = emu_gemm_end,
                     .n_spans = g->bias.at ? MOST_SPANS : BIAS};
    work.spans[A] = (emu_span){gpu, g->a.at, extent(&g->a)};
    work.spans[B] = (emu_span){gpu, g->b.at, extent(&g->b)};
    work.spans[C] = (emu_span){gpu, g->c.at, extent(&g->c)};
    work.spans[WORKSPACE] = (emu_span){gpu, workspace, bytes};
    if (g->bias.at) work.spans[BIAS] = (emu_span){gpu, g->bias.at, extent(&g->bias)};
    for (int i = A; i < work.n_spans; i++) {
        if (i != C && overlap(&work.spans[i], &work.spans[C]))
            return emu_blas_door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "%s: the result lies on operand %d", call, i);
        if (i != WORKSPACE && overlap(&work.spans[i], &work.spans[WORKSPACE]))
            return emu_blas_door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "%s: the workspace lies on operand %d", call, i);
    }
    work.user = emu_gemm_new(emu_blas_door(), gpu, g, workspace, bytes);
    return emu_blas_status(emu_blas_door()->queue(stream, &work));
}
