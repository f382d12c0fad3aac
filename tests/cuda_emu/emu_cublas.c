/* emu_cublas.c - the emulated libcublas.so.12 and .13 (EMU_CUBLAS_MAJOR): the calls that berth makes, and no others. A
 * product is queued on the emulated GPU and carried out in the order of its stream (emu_gemm.c). Stricter than cuBLAS:
 * the workspace must be the caller's, set after the stream, or cuBLAS would allocate; operands must lie in allocations
 * of the handle's GPU and not overlap what is written; the context must be the handle's. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emu_gemm.h"

#define EMU_API __attribute__((visibility("default")))

typedef struct handle {
    uint64_t generation; /* of the emulated computer */
    bool alive;
    int gpu;
    void *stream; /* NULL: none was set */
    uint64_t workspace;
    size_t workspace_bytes;
} handle;

static handle *handles; /* under the driver's lock, as all here */
static size_t n_handles;

static const emu_door *door(void)
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
static int status_of(int code)
{
    switch (code) {
    case BERTH_CU_SUCCESS: return BERTH_CUBLAS_SUCCESS;
    case BERTH_CU_OUT_OF_MEMORY: return BERTH_CUBLAS_ALLOC_FAILED;
    case BERTH_CU_NOT_INITIALIZED: return BERTH_CUBLAS_NOT_INITIALIZED;
    case BERTH_CU_INVALID_VALUE: return BERTH_CUBLAS_INTERNAL_ERROR;
    default: return BERTH_CUBLAS_EXECUTION_FAILED;
    }
}

static int enter(void)
{
    return status_of(door()->enter());
}

static int leave(int status)
{
    door()->leave(0);
    return status;
}

/* Handles are no addresses: tag, index. */
static const uintptr_t tag = (uintptr_t)0xB1A5 << 32;

static int find(berth_cublas_handle h, handle **out)
{
    const uintptr_t index = (uintptr_t)h - tag;
    *out = NULL;
    if (index >= n_handles || handles[index].generation != door()->generation())
        return door()->misuse(BERTH_CUBLAS_NOT_INITIALIZED, "%p is no handle of cuBLAS", (void *)h);
    if (!handles[index].alive)
        return door()->misuse(BERTH_CUBLAS_NOT_INITIALIZED, "a handle of cuBLAS that was destroyed");
    *out = &handles[index];
    return 0;
}

/* The handle, with its GPU's context current. */
static int use(berth_cublas_handle h, handle **out)
{
    const int status = find(h, out);
    if (status) return status;
    int gpu;
    const int code = door()->current(&gpu);
    if (code) return status_of(code);
    if (gpu != (*out)->gpu)
        return door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "a cuBLAS handle of GPU %d is used with GPU %d current",
                              (*out)->gpu, gpu);
    return 0;
}

enum { HANDLE_BYTES = 256 << 10 }; /* hardware: some MiB */

EMU_API int cublasCreate_v2(berth_cublas_handle *out)
{
    int status = enter();
    int gpu = -1;
    if (status == 0) status = status_of(door()->unsafe("cublasCreate"));
    if (status == 0) status = status_of(door()->current(&gpu));
    if (status == 0 && EMU_CUBLAS_MAJOR == 13 && door()->capability(gpu) < 75)
        status = door()->misuse(BERTH_CUBLAS_ARCH_MISMATCH, "cuBLAS 13 has no code for GPU %d", gpu);
    if (status == 0 && door()->driver_version() < EMU_CUBLAS_MAJOR * 1000)
        status = door()->misuse(BERTH_CUBLAS_NOT_INITIALIZED, "cuBLAS %d on an older driver", EMU_CUBLAS_MAJOR);
    if (status == 0) status = status_of(door()->charge(gpu, HANDLE_BYTES));
    if (status == 0) {
        handle *grown = realloc(handles, (n_handles + 1) * sizeof *grown);
        if (!grown) abort();
        handles = grown;
        handles[n_handles] = (handle){.generation = door()->generation(), .alive = true, .gpu = gpu};
        *out = (berth_cublas_handle)(tag + n_handles++); // NOLINT(performance-no-int-to-ptr)
        door()->count(1);
    }
    return leave(status);
}

EMU_API int cublasDestroy_v2(berth_cublas_handle h)
{
    const int told = enter();
    handle *found;
    int status = find(h, &found);
    if (found) {
        const int unsafe = status_of(door()->unsafe("cublasDestroy"));
        if (status == 0) status = unsafe;
        found->alive = false;
        door()->charge(found->gpu, -HANDLE_BYTES);
        door()->count(-1);
    }
    return leave(told ? told : status);
}

EMU_API int cublasGetVersion_v2(berth_cublas_handle h, int *version)
{
    int status = enter();
    handle *found;
    if (status == 0) status = find(h, &found);
    if (status == 0) *version = EMU_CUBLAS_MAJOR * 10000 + 400;
    return leave(status);
}

EMU_API int cublasSetMathMode(berth_cublas_handle h, int mode)
{
    int status = enter();
    handle *found;
    if (status == 0) status = use(h, &found);
    if (status == 0 && mode != BERTH_CUBLAS_MATH_NO_REDUCED_SUMS)
        status = door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "math mode %d is not known to the emulator", mode);
    return leave(status);
}

EMU_API int cublasSetStream_v2(berth_cublas_handle h, berth_cu_stream stream)
{
    int status = enter();
    handle *found;
    int gpu = -1;
    if (status == 0) status = use(h, &found);
    if (status == 0) status = status_of(door()->stream(stream, &gpu));
    if (status == 0 && !stream) status = door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "cuBLAS on the default stream");
    if (status == 0) { /* "resets the cuBLAS library workspace back to the default workspace pool" */
        found->stream = stream;
        found->workspace = 0;
        found->workspace_bytes = 0;
    }
    return leave(status);
}

static int set_workspace(handle *h, uint64_t at, size_t bytes)
{
    if (at == 0 || at % 256)
        return door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "a workspace of cuBLAS that is not 256-byte aligned");
    if (bytes < 16 << 10)
        return door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "a workspace of cuBLAS of less than 16 KiB");
    if (!door()->host(h->gpu, at, bytes))
        return door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "a workspace of cuBLAS in no allocation of GPU %d", h->gpu);
    h->workspace = at;
    h->workspace_bytes = bytes;
    return 0;
}

EMU_API int cublasSetWorkspace_v2(berth_cublas_handle h, void *workspace, size_t bytes)
{
    int status = enter();
    handle *found;
    if (status == 0) status = use(h, &found);
    if (status == 0) status = set_workspace(found, (uint64_t)(uintptr_t)workspace, bytes);
    return leave(status);
}

/* ---- products -------------------------------------------------------------------------------------------------------- */

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
        return door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "cublasGemmEx: m, n, k = %d, %d, %d", g->m, g->n, g->k);
    for (int i = 0; i < 3; i++) {
        if (all[i]->ld < all[i]->rows)
            return door()->misuse(BERTH_CUBLAS_INVALID_VALUE,
                                  "cublasGemmEx: leading dimension %d of operand %c with columns of %d", all[i]->ld,
                                  "abc"[i], all[i] -> rows);
        if (size_of(all[i]->dtype) == 0 || all[i]->at % size_of(all[i]->dtype))
            return door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "cublasGemmEx: dtype or alignment of operand %c",
                                  "abc"[i]);
    }
    if (g->a.dtype != g->b.dtype || (g->c.dtype != g->a.dtype && g->c.dtype != BERTH_CUBLAS_F32))
        return door()->misuse(BERTH_CUBLAS_NOT_SUPPORTED, "cublasGemmEx: dtypes %d, %d to %d", g->a.dtype, g->b.dtype,
                              g->c.dtype);
    if (g->a.dtype == BERTH_CUBLAS_BF16 && door()->capability(gpu) < 80)
        return door()->misuse(BERTH_CUBLAS_ARCH_MISMATCH, "cublasGemmEx: bf16 on sm_%d", door()->capability(gpu));
    return 0;
}

enum { A, B, C, WORKSPACE, N_SPANS };

static int queue(const handle *h, const emu_gemm *g)
{
    if (!h->stream || h->workspace_bytes == 0)
        return door()->misuse(BERTH_CUBLAS_INVALID_VALUE,
                              "cublasGemmEx without a workspace set after the stream: it would allocate");
    const int status = check_shape(g, h->gpu);
    if (status) return status;
    emu_work work = {
        .name = "cublasGemmEx", .run = emu_gemm_run, .again = emu_gemm_again, .end = emu_gemm_end, .n_spans = N_SPANS};
    work.spans[A] = (emu_span){h->gpu, g->a.at, extent(&g->a)};
    work.spans[B] = (emu_span){h->gpu, g->b.at, extent(&g->b)};
    work.spans[C] = (emu_span){h->gpu, g->c.at, extent(&g->c)};
    work.spans[WORKSPACE] = (emu_span){h->gpu, h->workspace, h->workspace_bytes};
    for (int i = A; i < N_SPANS; i++) {
        if (i != C && overlap(&work.spans[i], &work.spans[C]))
            return door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "cublasGemmEx: the result lies on operand %d", i);
        if (i != WORKSPACE && overlap(&work.spans[i], &work.spans[WORKSPACE]))
            return door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "cublasGemmEx: the workspace lies on operand %d", i);
    }
    work.user = emu_gemm_new(door(), h->gpu, g, h->workspace, h->workspace_bytes);
    return status_of(door()->queue(h->stream, &work));
}

EMU_API int cublasGemmEx(berth_cublas_handle h, int transa, int transb, int m, int n, int k, const void *alpha,
                         const void *a, int a_dtype, int lda, const void *b, int b_dtype, int ldb, const void *beta,
                         void *c, int c_dtype, int ldc, int compute, int algorithm)
{
    int status = enter();
    handle *found;
    if (status == 0) status = use(h, &found);
    const bool is_known = (unsigned)transa <= BERTH_CUBLAS_OP_T && (unsigned)transb <= BERTH_CUBLAS_OP_T && alpha &&
                          beta && compute == BERTH_CUBLAS_COMPUTE_32F && algorithm == BERTH_CUBLAS_GEMM_DEFAULT;
    if (status == 0 && !is_known)
        status = door()->misuse(
            BERTH_CUBLAS_NOT_SUPPORTED,
            "cublasGemmEx: operations %d, %d, compute type %d or algorithm %d are not known to the emulator", transa,
            transb, compute, algorithm);
    if (status == 0) {
        const bool at = transa == BERTH_CUBLAS_OP_T, bt = transb == BERTH_CUBLAS_OP_T;
        emu_gemm g = {.m = m, .n = n, .k = k, .a_transposed = at, .b_transposed = bt};
        memcpy(&g.alpha, alpha, sizeof g.alpha);
        memcpy(&g.beta, beta, sizeof g.beta);
        g.a = (emu_matrix){(uint64_t)(uintptr_t)a, a_dtype, at ? k : m, at ? m : k, lda};
        g.b = (emu_matrix){(uint64_t)(uintptr_t)b, b_dtype, bt ? n : k, bt ? k : n, ldb};
        g.c = (emu_matrix){(uint64_t)(uintptr_t)c, c_dtype, m, n, ldc};
        status = queue(found, &g);
    }
    return leave(status);
}

__attribute__((destructor)) static void at_end(void)
{
    free(handles);
}
