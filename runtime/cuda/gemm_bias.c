/* gemm_bias.c - see gemm_bias.h. A choice of cuBLASLt's costs some ten microseconds, so it is kept for the shapes that
 * come again. Column-major as in gemm.c: y's rows there are our outputs, which is what the epilogue's bias is for. */
#include "cuda/gemm_bias.h"

#include <stdint.h>
#include <string.h>

/* A choice is for the bias's alignment too, up to this one. */
enum { BIAS_ALIGN = 256 };

berth_cublas_dtype berth_gemm_dtype(berth_dtype dtype)
{
    return dtype == BERTH_F16 ? BERTH_CUBLAS_F16 : dtype == BERTH_BF16 ? BERTH_CUBLAS_BF16 : BERTH_CUBLAS_F32;
}

/* The result of a call, whose name is kept for the error. */
#define CALL(b, name, ...) (*out_call = #name, (b)->lt->name(__VA_ARGS__))

berth_cublas_result berth_gemm_bias_init(berth_gemm_bias *b, const berth_cublaslt *lt, const char **out_call)
{
    const int32_t transposed = BERTH_CUBLAS_OP_T;
    const uint32_t epilogue = BERTH_CUBLASLT_EPILOGUE_BIAS, reductions = BERTH_CUBLASLT_REDUCES_IN_FP32, align = 16;
    berth_cublas_result code = BERTH_CUBLAS_SUCCESS;
    memset(b, 0, sizeof *b);
    b->lt = lt;
    if (code == 0) code = CALL(b, cublasLtCreate, &b->handle);
    if (code == 0) code = CALL(b, cublasLtMatmulDescCreate, &b->desc, BERTH_CUBLAS_COMPUTE_32F, BERTH_CUBLAS_F32);
    if (code == 0)
        code = CALL(b, cublasLtMatmulDescSetAttribute, b->desc, BERTH_CUBLASLT_DESC_TRANSA, &transposed,
                    sizeof transposed);
    if (code == 0)
        code =
            CALL(b, cublasLtMatmulDescSetAttribute, b->desc, BERTH_CUBLASLT_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (code == 0) code = CALL(b, cublasLtMatrixLayoutCreate, &b->w, BERTH_CUBLAS_F32, 1, 1, 1);
    if (code == 0) code = CALL(b, cublasLtMatrixLayoutCreate, &b->x, BERTH_CUBLAS_F32, 1, 1, 1);
    if (code == 0) code = CALL(b, cublasLtMatrixLayoutCreate, &b->y, BERTH_CUBLAS_F32, 1, 1, 1);
    if (code == 0) code = CALL(b, cublasLtMatmulPreferenceCreate, &b->pref);
    if (code == 0)
        code = CALL(b, cublasLtMatmulPreferenceSetAttribute, b->pref, BERTH_CUBLASLT_PREF_REDUCTIONS, &reductions,
                    sizeof reductions);
    for (int32_t a = BERTH_CUBLASLT_PREF_ALIGN_A; a <= BERTH_CUBLASLT_PREF_ALIGN_D; a++)
        if (code == 0) code = CALL(b, cublasLtMatmulPreferenceSetAttribute, b->pref, a, &align, sizeof align);
    return code;
}

void berth_gemm_bias_deinit(berth_gemm_bias *b)
{
    if (b->pref) (void)b->lt->cublasLtMatmulPreferenceDestroy(b->pref);
    if (b->y) (void)b->lt->cublasLtMatrixLayoutDestroy(b->y);
    if (b->x) (void)b->lt->cublasLtMatrixLayoutDestroy(b->x);
    if (b->w) (void)b->lt->cublasLtMatrixLayoutDestroy(b->w);
    if (b->desc) (void)b->lt->cublasLtMatmulDescDestroy(b->desc);
    if (b->handle) (void)b->lt->cublasLtDestroy(b->handle);
    memset(b, 0, sizeof *b);
}

static berth_cublas_result set_layout(const berth_gemm_bias *b, berth_cublaslt_layout layout, berth_dtype dtype,
                                      int64_t n_rows, int64_t n_columns, const char **out_call)
{
    const uint32_t type = (uint32_t)berth_gemm_dtype(dtype);
    const uint64_t rows = (uint64_t)n_rows, columns = (uint64_t)n_columns;
    berth_cublas_result code = BERTH_CUBLAS_SUCCESS;
    if (code == 0)
        code = CALL(b, cublasLtMatrixLayoutSetAttribute, layout, BERTH_CUBLASLT_LAYOUT_TYPE, &type, sizeof type);
    if (code == 0)
        code = CALL(b, cublasLtMatrixLayoutSetAttribute, layout, BERTH_CUBLASLT_LAYOUT_ROWS, &rows, sizeof rows);
    if (code == 0)
        code = CALL(b, cublasLtMatrixLayoutSetAttribute, layout, BERTH_CUBLASLT_LAYOUT_COLS, &columns, sizeof columns);
    if (code == 0)
        code = CALL(b, cublasLtMatrixLayoutSetAttribute, layout, BERTH_CUBLASLT_LAYOUT_LD, &n_rows, sizeof n_rows);
    return code;
}

static berth_cublas_result set_shape(const berth_gemm_bias *b, const berth_gemm_call *c, const char **out_call)
{
    const berth_gemm_shape *s = &c->shape;
    const void *bias = (const void *)(uintptr_t)c->bias; // NOLINT(performance-no-int-to-ptr)
    berth_cublas_result code = BERTH_CUBLAS_SUCCESS;
    if (code == 0)
        code = CALL(b, cublasLtMatmulDescSetAttribute, b->desc, BERTH_CUBLASLT_DESC_BIAS_POINTER, &bias, sizeof bias);
    if (code == BERTH_CUBLAS_SUCCESS) code = set_layout(b, b->w, s->w, s->n_in, s->n_out, out_call);
    if (code == BERTH_CUBLAS_SUCCESS) code = set_layout(b, b->x, s->x, s->n_in, s->rows, out_call);
    if (code == BERTH_CUBLAS_SUCCESS) code = set_layout(b, b->y, s->y, s->n_out, s->rows, out_call);
    return code;
}

static bool is_same(const berth_gemm_plan *p, const berth_gemm_call *c)
{
    return p->shape.rows == c->shape.rows && p->shape.n_out == c->shape.n_out && p->shape.n_in == c->shape.n_in &&
           p->shape.x == c->shape.x && p->workspace_bytes == c->workspace_bytes &&
           p->bias_offset == c->bias % BIAS_ALIGN;
}

static berth_cublas_result choose(berth_gemm_bias *b, const berth_gemm_call *c, const berth_cublaslt_algo **out,
                                  const char **out_call)
{
    for (int32_t i = 0; i < BERTH_GEMM_PLANS; i++) {
        *out = &b->plans[i].algo;
        if (is_same(&b->plans[i], c)) return BERTH_CUBLAS_SUCCESS;
    }
    const uint64_t most = c->workspace_bytes;
    berth_cublaslt_result found;
    int n_found = 0;
    berth_cublas_result code = BERTH_CUBLAS_SUCCESS;
    if (code == 0)
        code = CALL(b, cublasLtMatmulPreferenceSetAttribute, b->pref, BERTH_CUBLASLT_PREF_MAX_WORKSPACE, &most,
                    sizeof most);
    if (code == 0)
        code = CALL(b, cublasLtMatmulAlgoGetHeuristic, b->handle, b->desc, b->w, b->x, b->y, b->y, b->pref, 1, &found,
                    &n_found);
    if (code == BERTH_CUBLAS_SUCCESS && n_found < 1) code = BERTH_CUBLAS_NOT_SUPPORTED;
    if (code == BERTH_CUBLAS_SUCCESS) code = found.state;
    if (code != BERTH_CUBLAS_SUCCESS) return code;
    berth_gemm_plan *p = &b->plans[b->next];
    b->next = (b->next + 1) % BERTH_GEMM_PLANS;
    *p = (berth_gemm_plan){c->shape, c->workspace_bytes, c->bias % BIAS_ALIGN, found.algo};
    *out = &p->algo;
    return code;
}

berth_cublas_result berth_gemm_bias_run(berth_gemm_bias *b, berth_cu_stream stream, const berth_gemm_call *c,
                                        const char **out_call)
{
    const float one = 1, zero = 0;
    const void *w = (const void *)(uintptr_t)c->w,
               *x = (const void *)(uintptr_t)c->x; // NOLINT(performance-no-int-to-ptr)
    void *y = (void *)(uintptr_t)c->y,
         *workspace = (void *)(uintptr_t)c->workspace; // NOLINT(performance-no-int-to-ptr)
    const berth_cublaslt_algo *algo = NULL;
    berth_cublas_result code = set_shape(b, c, out_call);
    if (code == BERTH_CUBLAS_SUCCESS) code = choose(b, c, &algo, out_call);
    if (code == 0)
        code = CALL(b, cublasLtMatmul, b->handle, b->desc, &one, w, b->w, x, b->x, &zero, y, b->y, y, b->y, algo,
                    workspace, c->workspace_bytes, stream);
    return code;
}
