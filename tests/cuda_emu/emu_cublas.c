/* emu_cublas.c - the emulated libcublas.so.12 and .13 (EMU_CUBLAS_MAJOR): the calls that berth makes, and no others. A
 * product is queued on the emulated GPU and carried out in the order of its stream (emu_gemm.c). Stricter than cuBLAS:
 * the workspace must be the caller's, set after the stream, or cuBLAS would allocate; operands must lie in allocations
 * of the handle's GPU and not overlap what is written; the context must be the handle's. */
#include <stdlib.h>
#include <string.h>

#include "emu_blas.h"

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

/* Handles are no addresses: tag, index. */
static const uintptr_t tag = (uintptr_t)0xB1A5 << 32;

static int find(berth_cublas_handle h, handle **out)
{
    const uintptr_t index = (uintptr_t)h - tag;
    *out = NULL;
    if (index >= n_handles || handles[index].generation != emu_blas_door()->generation())
        return emu_blas_door()->misuse(BERTH_CUBLAS_NOT_INITIALIZED, "%p is no handle of cuBLAS", (void *)h);
    if (!handles[index].alive)
        return emu_blas_door()->misuse(BERTH_CUBLAS_NOT_INITIALIZED, "a handle of cuBLAS that was destroyed");
    *out = &handles[index];
    return 0;
}

/* The handle, with its GPU's context current. */
static int use(berth_cublas_handle h, handle **out)
{
    const int status = find(h, out);
    if (status) return status;
    int gpu;
    const int code = emu_blas_door()->current(&gpu);
    if (code) return emu_blas_status(code);
    if (gpu != (*out)->gpu)
        return emu_blas_door()->misuse(BERTH_CUBLAS_INVALID_VALUE,
                                       "a cuBLAS handle of GPU %d is used with GPU %d current", (*out)->gpu, gpu);
    return 0;
}

enum { HANDLE_BYTES = 256 << 10 }; /* hardware: some MiB */

EMU_API int cublasCreate_v2(berth_cublas_handle *out)
{
    int status = emu_blas_enter();
    int gpu = -1;
    if (status == 0) status = emu_blas_status(emu_blas_door()->unsafe("cublasCreate"));
    if (status == 0) status = emu_blas_status(emu_blas_door()->current(&gpu));
    if (status == 0 && EMU_CUBLAS_MAJOR == 13 && emu_blas_door()->capability(gpu) < 75)
        status = emu_blas_door()->misuse(BERTH_CUBLAS_ARCH_MISMATCH, "cuBLAS 13 has no code for GPU %d", gpu);
    if (status == 0 && emu_blas_door()->driver_version() < EMU_CUBLAS_MAJOR * 1000)
        status =
            emu_blas_door()->misuse(BERTH_CUBLAS_NOT_INITIALIZED, "cuBLAS %d on an older driver", EMU_CUBLAS_MAJOR);
    if (status == 0) status = emu_blas_status(emu_blas_door()->charge(gpu, HANDLE_BYTES));
    if (status == 0) {
        handle *grown = realloc(handles, (n_handles + 1) * sizeof *grown);
        if (!grown) abort();
        handles = grown;
        handles[n_handles] = (handle){.generation = emu_blas_door()->generation(), .alive = true, .gpu = gpu};
        *out = (berth_cublas_handle)(tag + n_handles++); // NOLINT(performance-no-int-to-ptr)
        emu_blas_door()->count(1);
    }
    return emu_blas_leave(status);
}

EMU_API int cublasDestroy_v2(berth_cublas_handle h)
{
    const int told = emu_blas_enter();
    handle *found;
    int status = find(h, &found);
    if (found) {
        const int unsafe = emu_blas_status(emu_blas_door()->unsafe("cublasDestroy"));
        if (status == 0) status = unsafe;
        found->alive = false;
        emu_blas_door()->charge(found->gpu, -HANDLE_BYTES);
        emu_blas_door()->count(-1);
    }
    return emu_blas_leave(told ? told : status);
}

EMU_API int cublasGetVersion_v2(berth_cublas_handle h, int *version)
{
    int status = emu_blas_enter();
    handle *found;
    if (status == 0) status = find(h, &found);
    if (status == 0) *version = EMU_CUBLAS_MAJOR * 10000 + 400;
    return emu_blas_leave(status);
}

EMU_API int cublasSetMathMode(berth_cublas_handle h, int mode)
{
    int status = emu_blas_enter();
    handle *found;
    if (status == 0) status = use(h, &found);
    if (status == 0 && mode != BERTH_CUBLAS_MATH_NO_REDUCED_SUMS)
        status = emu_blas_door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "math mode %d is not known to the emulator", mode);
    return emu_blas_leave(status);
}

EMU_API int cublasSetStream_v2(berth_cublas_handle h, berth_cu_stream stream)
{
    int status = emu_blas_enter();
    handle *found;
    int gpu = -1;
    if (status == 0) status = use(h, &found);
    if (status == 0) status = emu_blas_status(emu_blas_door()->stream(stream, &gpu));
    if (status == 0 && !stream)
        status = emu_blas_door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "cuBLAS on the default stream");
    if (status == 0) { /* "resets the cuBLAS library workspace back to the default workspace pool" */
        found->stream = stream;
        found->workspace = 0;
        found->workspace_bytes = 0;
    }
    return emu_blas_leave(status);
}

static int set_workspace(handle *h, uint64_t at, size_t bytes)
{
    if (at == 0 || at % 256)
        return emu_blas_door()->misuse(BERTH_CUBLAS_INVALID_VALUE,
                                       "a workspace of cuBLAS that is not 256-byte aligned");
    if (bytes < 16 << 10)
        return emu_blas_door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "a workspace of cuBLAS of less than 16 KiB");
    if (!emu_blas_door()->host(h->gpu, at, bytes))
        return emu_blas_door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "a workspace of cuBLAS in no allocation of GPU %d",
                                       h->gpu);
    h->workspace = at;
    h->workspace_bytes = bytes;
    return 0;
}

EMU_API int cublasSetWorkspace_v2(berth_cublas_handle h, void *workspace, size_t bytes)
{
    int status = emu_blas_enter();
    handle *found;
    if (status == 0) status = use(h, &found);
    if (status == 0) status = set_workspace(found, (uint64_t)(uintptr_t)workspace, bytes);
    return emu_blas_leave(status);
}

/* ---- products -------------------------------------------------------------------------------------------------------- */

EMU_API int cublasGemmEx(berth_cublas_handle h, int transa, int transb, int m, int n, int k, const void *alpha,
                         const void *a, int a_dtype, int lda, const void *b, int b_dtype, int ldb, const void *beta,
                         void *c, int c_dtype, int ldc, int compute, int algorithm)
{
    int status = emu_blas_enter();
    handle *found;
    if (status == 0) status = use(h, &found);
    const bool is_known = (unsigned)transa <= BERTH_CUBLAS_OP_T && (unsigned)transb <= BERTH_CUBLAS_OP_T && alpha &&
                          beta && compute == BERTH_CUBLAS_COMPUTE_32F && algorithm == BERTH_CUBLAS_GEMM_DEFAULT;
    if (status == 0 && !is_known)
        status = emu_blas_door()->misuse(
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
        if (!found->stream || found->workspace_bytes == 0)
            status = emu_blas_door()->misuse(
                BERTH_CUBLAS_INVALID_VALUE, "cublasGemmEx without a workspace set after the stream: it would allocate");
        else
            status =
                emu_blas_queue("cublasGemmEx", found->gpu, found->stream, &g, found->workspace, found->workspace_bytes);
    }
    return emu_blas_leave(status);
}

__attribute__((destructor)) static void at_end(void)
{
    free(handles);
}
