/* gemm.c - see gemm.h. cuBLAS is column-major: what it calls A is our w, read transposed, B our x and C our y, each as
 * it lies, so nothing is moved. */
#include "cuda/gemm.h"

#include <pthread.h>
#include <stdlib.h>

#include "cuda/device_internal.h"
#include "cuda/gemm_bias.h"

typedef struct lane lane;
struct lane { /* a stream's handle */
    berth_gpu_stream *stream;
    berth_cublas_handle handle;
    berth_gpu_ptr workspace; /* as the handle knows it */
    size_t workspace_bytes;
    berth_gemm_bias bias;
    lane *next;
};

struct berth_gemm {
    berth_gpu *gpu; /* borrowed */
    berth_cublas blas;
    berth_cublaslt lt;    /* {0}: not there */
    pthread_mutex_t lock; /* of the list */
    lane *lanes;          /* owned */
    int version;
};

/* After which cuBLAS does without memory of its own (reference, cublasSetWorkspace: "equal to or larger than 16 KiB is
 * enough to prevent ALLOC_FAILED"). */
enum { MIN_WORKSPACE = 16 << 10, WORKSPACE_ALIGN = 256, OPERAND_ALIGN = 16 };

berth_status berth_gemm_open(berth_gpu *gpu, const char *path, berth_gemm **out, berth_error *err)
{
    *out = NULL;
    berth_gemm *gemm = calloc(1, sizeof *gemm);
    if (!gemm)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for cuBLAS on cuda:%d", (int)gpu->slot->info.ordinal);
    gemm->gpu = gpu;
    const berth_status st =
        berth_cublas_open(&gemm->blas, path, gpu->cuda->cu.version, gpu->slot->info.capability, err);
    if (st != BERTH_OK) {
        free(gemm);
        return st;
    }
    pthread_mutex_init(&gemm->lock, NULL);
    *out = gemm;
    return BERTH_OK;
}

void berth_gemm_close(berth_gemm *gemm)
{
    if (!gemm) return;
    while (gemm->lanes) berth_gemm_forget(gemm, gemm->lanes->stream);
    pthread_mutex_destroy(&gemm->lock);
    berth_cublaslt_close(&gemm->lt);
    berth_cublas_close(&gemm->blas);
    free(gemm);
}

int32_t berth_gemm_version(const berth_gemm *gemm)
{
    return gemm->version;
}

static lane *lane_of(berth_gemm *gemm, const berth_gpu_stream *s)
{
    pthread_mutex_lock(&gemm->lock);
    lane *l = gemm->lanes;
    while (l && l->stream != s) l = l->next;
    pthread_mutex_unlock(&gemm->lock);
    return l;
}

static void destroy_lane(berth_gemm *gemm, lane *l)
{
    if (l->handle && berth_gpu_enter_to_end(gemm->gpu)) {
        berth_gemm_bias_deinit(&l->bias);
        (void)gemm->blas.cublasDestroy(l->handle);
        berth_gpu_leave_from_end(gemm->gpu, BERTH_CU_SUCCESS);
    }
    free(l);
}

bool berth_gemm_takes_bias(const berth_gemm *gemm, const berth_gemm_shape *s)
{
    return gemm->lt.handle && berth_gemm_takes(s) && s->y == s->x;
}

/* By the first handle only: later ones are made while other streams' threads read it. */
static void learn(berth_gemm *gemm, int version)
{
    gemm->version = version;
    /* Of cuBLAS's own version. Its absence is no error: a bias is put into y before the product then. */
    (void)berth_cublaslt_open(&gemm->lt, version / 10000, NULL);
}

/* Sums of 16-bit products stay in fp32 also where parts of a sum meet. */
static berth_cublas_result set_up(berth_gemm *gemm, lane *l, const char **out_call)
{
    const berth_cublas *blas = &gemm->blas;
    *out_call = "cublasCreate";
    berth_cublas_result code = blas->cublasCreate(&l->handle);
    if (code != BERTH_CUBLAS_SUCCESS) {
        l->handle = NULL;
        return code;
    }
    *out_call = "cublasGetVersion";
    int version = 0;
    code = blas->cublasGetVersion(l->handle, &version);
    if (code != BERTH_CUBLAS_SUCCESS) return code;
    if (gemm->version == 0) learn(gemm, version);
    *out_call = "cublasSetMathMode";
    code = blas->cublasSetMathMode(l->handle, BERTH_CUBLAS_MATH_NO_REDUCED_SUMS);
    if (code != BERTH_CUBLAS_SUCCESS) return code;
    *out_call = "cublasSetStream";
    code = blas->cublasSetStream(l->handle, l->stream->handle);
    if (code == BERTH_CUBLAS_SUCCESS && gemm->lt.handle) code = berth_gemm_bias_init(&l->bias, &gemm->lt, out_call);
    return code;
}

berth_status berth_gemm_prepare(berth_gemm *gemm, berth_gpu_stream *s, berth_error *err)
{
    const int32_t ordinal = gemm->gpu->slot->info.ordinal;
    if (s->gpu->slot != gemm->gpu->slot)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "a stream of cuda:%d was given to cuBLAS of cuda:%d",
                          (int)s->gpu->slot->info.ordinal, (int)ordinal);
    if (lane_of(gemm, s)) return BERTH_OK;
    lane *l = calloc(1, sizeof *l);
    if (!l) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a cuBLAS handle of cuda:%d", (int)ordinal);
    l->stream = s;
    berth_status st = berth_gpu_enter(gemm->gpu, err);
    if (st == BERTH_OK) {
        const char *call;
        const berth_cublas_result code = set_up(gemm, l, &call);
        st = berth_gpu_leave(gemm->gpu, BERTH_CU_SUCCESS, call, err);
        if (code != BERTH_CUBLAS_SUCCESS) st = berth_cublas_status(code, call, ordinal, err);
    }
    if (st != BERTH_OK) {
        destroy_lane(gemm, l);
        return st;
    }
    pthread_mutex_lock(&gemm->lock);
    l->next = gemm->lanes;
    gemm->lanes = l;
    pthread_mutex_unlock(&gemm->lock);
    return BERTH_OK;
}

void berth_gemm_forget(berth_gemm *gemm, berth_gpu_stream *s)
{
    if (!gemm) return;
    pthread_mutex_lock(&gemm->lock);
    lane **at = &gemm->lanes;
    while (*at && (*at)->stream != s) at = &(*at)->next;
    lane *l = *at;
    if (l) *at = l->next;
    pthread_mutex_unlock(&gemm->lock);
    if (l) destroy_lane(gemm, l);
}

static berth_status check(const berth_gemm_call *c, const lane *l, int32_t ordinal, berth_error *err)
{
    const berth_gemm_shape *s = &c->shape;
    if (!berth_gemm_takes(s))
        return BERTH_FAIL(
            err, BERTH_INVALID_ARGUMENT,
            "cuda:%d: cuBLAS was given x %s [%lld, %lld], w %s, y %s [.., %lld]; ask berth_gemm_takes first",
            (int)ordinal, berth_dtype_name(s->x), (long long)s->rows, (long long)s->n_in, berth_dtype_name(s->w),
            berth_dtype_name(s->y), (long long)s->n_out);
    if ((c->x | c->w | c->y | c->bias) % OPERAND_ALIGN || c->workspace % WORKSPACE_ALIGN ||
        c->workspace_bytes < MIN_WORKSPACE)
        return BERTH_FAIL(
            err, BERTH_INVALID_ARGUMENT,
            "cuda:%d: cuBLAS needs operands at multiples of %d and %d bytes of workspace at a multiple of "
            "%d; it got %zu bytes",
            (int)ordinal, (int)OPERAND_ALIGN, (int)MIN_WORKSPACE, (int)WORKSPACE_ALIGN, c->workspace_bytes);
    if (c->bias && (c->adds || s->y != s->x || (l && !l->bias.handle)))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "cuda:%d: cuBLAS was given a bias for %s that it cannot add; ask berth_gemm_takes_bias first",
                          (int)ordinal, berth_dtype_name(s->y));
    if (!l)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "cuda:%d: cuBLAS was given a stream that berth_gemm_prepare has not seen", (int)ordinal);
    return BERTH_OK;
}

static berth_cublas_result queue(const berth_gemm *gemm, lane *l, const berth_gemm_call *c, const char **out_call)
{
    if (l->workspace != c->workspace || l->workspace_bytes != c->workspace_bytes) {
        *out_call = "cublasSetWorkspace";
        l->workspace_bytes = 0;
        const berth_cublas_result code = gemm->blas.cublasSetWorkspace(
            l->handle, (void *)(uintptr_t)c->workspace, // NOLINT(performance-no-int-to-ptr)
            c->workspace_bytes);
        if (code != BERTH_CUBLAS_SUCCESS) return code;
        l->workspace = c->workspace;
        l->workspace_bytes = c->workspace_bytes;
    }
    const int m = (int)c->shape.n_out, n = (int)c->shape.rows, k = (int)c->shape.n_in;
    const float alpha = 1, beta = c->adds ? 1 : 0;
    const berth_cublas_dtype in = berth_gemm_dtype(c->shape.x), out = berth_gemm_dtype(c->shape.y);
    const void *w = (const void *)(uintptr_t)c->w,
               *x = (const void *)(uintptr_t)c->x; // NOLINT(performance-no-int-to-ptr)
    void *y = (void *)(uintptr_t)c->y;             // NOLINT(performance-no-int-to-ptr)
    *out_call = "cublasGemmEx";
    return gemm->blas.cublasGemmEx(l->handle, BERTH_CUBLAS_OP_T, BERTH_CUBLAS_OP_N, m, n, k, &alpha, w, in, k, x, in, k,
                                   &beta, y, out, m, BERTH_CUBLAS_COMPUTE_32F, BERTH_CUBLAS_GEMM_DEFAULT);
}

berth_status berth_gemm_run(berth_gemm *gemm, berth_gpu_stream *s, const berth_gemm_call *call, berth_error *err)
{
    const int32_t ordinal = gemm->gpu->slot->info.ordinal;
    lane *l = lane_of(gemm, s);
    berth_status st = check(call, l, ordinal, err);
    if (st == BERTH_OK) st = berth_gpu_enter(gemm->gpu, err);
    if (st != BERTH_OK) return st;
    const char *what;
    const berth_cublas_result code =
        call->bias ? berth_gemm_bias_run(&l->bias, s->handle, call, &what) : queue(gemm, l, call, &what);
    st = berth_gpu_leave(gemm->gpu, BERTH_CU_SUCCESS, what, err);
    if (code == BERTH_CUBLAS_SUCCESS) return st;
    st = berth_cublas_status(code, what, ordinal, err);
    if (!call->bias || code != BERTH_CUBLAS_NOT_SUPPORTED) return st;
    if (err) err->status = BERTH_UNSUPPORTED;
    return BERTH_UNSUPPORTED;
}
