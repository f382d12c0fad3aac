/* emu_cublaslt.c - the emulated libcublasLt.so.12 and .13: products with a bias as its epilogue, as berth asks for
 * them, and nothing else. Stricter than cuBLASLt: a choice of algorithm holds for the shape, the workspace and the
 * alignments that it was made for, and every object must be given back. */
#include <stdlib.h>
#include <string.h>

#include "cuda/cublaslt.h"
#include "emu_blas.h"

typedef enum kind { HANDLE = 1, DESC, LAYOUT, PREF } kind;

typedef struct object {
    kind kind;
    int gpu;                        /* handle */
    int32_t compute, scale, transa; /* desc */
    uint32_t epilogue;              /* desc */
    uint64_t bias;                  /* desc */
    emu_matrix matrix;              /* layout */
    uint64_t most_workspace;        /* pref */
    uint32_t reductions, align[4];  /* pref */
} object;

static int misuse(const char *what)
{
    return emu_blas_door()->misuse(BERTH_CUBLAS_INVALID_VALUE, "cuBLASLt: %s", what);
}

static int create(kind k, void *out, const object *like)
{
    object *o = malloc(sizeof *o);
    if (!o) abort();
    *o = *like;
    o->kind = k;
    emu_blas_door()->count(1);
    memcpy(out, &o, sizeof o);
    return 0;
}

static int check(const void *p, kind k)
{
    return p && ((const object *)p)->kind == k ? 0 : misuse("an object of another kind, or none");
}

static int destroy(void *p, kind k)
{
    const int told = emu_blas_enter();
    const int status = check(p, k);
    if (status == 0) {
        emu_blas_door()->count(-1);
        free(p);
    }
    return emu_blas_leave(told ? told : status);
}

static int set(void *to, size_t size, const void *value, size_t bytes)
{
    if (size != bytes) return misuse("an attribute of another size");
    memcpy(to, value, bytes);
    return 0;
}

/* ---- objects --------------------------------------------------------------------------------------------------------- */

EMU_API int cublasLtCreate(berth_cublaslt_handle *out)
{
    int status = emu_blas_enter();
    object o = {0};
    if (status == 0) status = emu_blas_status(emu_blas_door()->unsafe("cublasLtCreate"));
    if (status == 0) status = emu_blas_status(emu_blas_door()->current(&o.gpu));
    if (status == 0) status = create(HANDLE, out, &o);
    return emu_blas_leave(status);
}

EMU_API int cublasLtDestroy(berth_cublaslt_handle handle)
{
    return destroy(handle, HANDLE);
}

EMU_API int cublasLtMatmulDescCreate(berth_cublaslt_desc *out, int32_t compute, int32_t scale)
{
    int status = emu_blas_enter();
    if (status == 0) status = create(DESC, out, &(object){.compute = compute, .scale = scale});
    return emu_blas_leave(status);
}

EMU_API int cublasLtMatmulDescDestroy(berth_cublaslt_desc desc)
{
    return destroy(desc, DESC);
}

EMU_API int cublasLtMatmulDescSetAttribute(berth_cublaslt_desc desc, int32_t attribute, const void *value, size_t bytes)
{
    int status = emu_blas_enter();
    object *o = (object *)desc;
    if (status == 0) status = check(o, DESC);
    if (status == 0) {
        switch (attribute) {
        case BERTH_CUBLASLT_DESC_TRANSA: status = set(&o->transa, sizeof o->transa, value, bytes); break;
        case BERTH_CUBLASLT_DESC_EPILOGUE: status = set(&o->epilogue, sizeof o->epilogue, value, bytes); break;
        case BERTH_CUBLASLT_DESC_BIAS_POINTER: status = set(&o->bias, sizeof o->bias, value, bytes); break;
        default: status = misuse("an attribute of a product that the emulator does not know");
        }
    }
    return emu_blas_leave(status);
}

EMU_API int cublasLtMatrixLayoutCreate(berth_cublaslt_layout *out, int32_t dtype, uint64_t rows, uint64_t cols,
                                       int64_t ld)
{
    int status = emu_blas_enter();
    const object o = {.matrix = {0, dtype, (int)rows, (int)cols, (int)ld}};
    if (status == 0) status = create(LAYOUT, out, &o);
    return emu_blas_leave(status);
}

EMU_API int cublasLtMatrixLayoutDestroy(berth_cublaslt_layout layout)
{
    return destroy(layout, LAYOUT);
}

static int set_int(int *to, size_t size, const void *value, size_t bytes)
{
    int64_t v = 0;
    if (size != bytes) return misuse("an attribute of another size");
    memcpy(&v, value, bytes); /* little-endian */
    if (v < 0 || v > INT32_MAX) return misuse("a dimension beyond 31 bits");
    *to = (int)v;
    return 0;
}

EMU_API int cublasLtMatrixLayoutSetAttribute(berth_cublaslt_layout layout, int32_t attribute, const void *value,
                                             size_t bytes)
{
    int status = emu_blas_enter();
    object *o = (object *)layout;
    if (status == 0) status = check(o, LAYOUT);
    if (status == 0) {
        switch (attribute) {
        case BERTH_CUBLASLT_LAYOUT_TYPE: status = set_int(&o->matrix.dtype, 4, value, bytes); break;
        case BERTH_CUBLASLT_LAYOUT_ROWS: status = set_int(&o->matrix.rows, 8, value, bytes); break;
        case BERTH_CUBLASLT_LAYOUT_COLS: status = set_int(&o->matrix.cols, 8, value, bytes); break;
        case BERTH_CUBLASLT_LAYOUT_LD: status = set_int(&o->matrix.ld, 8, value, bytes); break;
        default: status = misuse("an attribute of a matrix that the emulator does not know");
        }
    }
    return emu_blas_leave(status);
}

EMU_API int cublasLtMatmulPreferenceCreate(berth_cublaslt_pref *out)
{
    int status = emu_blas_enter();
    if (status == 0) status = create(PREF, out, &(object){.align = {256, 256, 256, 256}});
    return emu_blas_leave(status);
}

EMU_API int cublasLtMatmulPreferenceDestroy(berth_cublaslt_pref pref)
{
    return destroy(pref, PREF);
}

EMU_API int cublasLtMatmulPreferenceSetAttribute(berth_cublaslt_pref pref, int32_t attribute, const void *value,
                                                 size_t bytes)
{
    int status = emu_blas_enter();
    object *o = (object *)pref;
    if (status == 0) status = check(o, PREF);
    if (status == 0) {
        if (attribute == BERTH_CUBLASLT_PREF_MAX_WORKSPACE)
            status = set(&o->most_workspace, sizeof o->most_workspace, value, bytes);
        else if (attribute == BERTH_CUBLASLT_PREF_REDUCTIONS)
            status = set(&o->reductions, sizeof o->reductions, value, bytes);
        else if (attribute >= BERTH_CUBLASLT_PREF_ALIGN_A && attribute <= BERTH_CUBLASLT_PREF_ALIGN_D)
            status = set(&o->align[attribute - BERTH_CUBLASLT_PREF_ALIGN_A], sizeof o->align[0], value, bytes);
        else
            status = misuse("a preference that the emulator does not know");
    }
    return emu_blas_leave(status);
}

/* ---- products -------------------------------------------------------------------------------------------------------- */

/* Of what a choice was made: data[0], and in data[1] to [4] what must hold when it is used. */
static uint64_t shape_of(const object *desc, const object *a, const object *b, const object *c)
{
    const emu_matrix *all[] = {&a->matrix, &b->matrix, &c->matrix};
    uint64_t h = 14695981039346656037u ^ (uint64_t)desc->transa;
    for (int i = 0; i < 3; i++) {
        const int words[] = {all[i]->dtype, all[i]->rows, all[i]->cols, all[i]->ld};
        for (int w = 0; w < 4; w++) h = (h ^ (uint64_t)words[w]) * 1099511628211u;
    }
    return h;
}

static uint64_t alignment(uint64_t at)
{
    return at % 256 == 0 ? 256 : at & (~at + 1);
}

static int check_all(const void *handle, const void *desc, const void *const *layouts)
{
    int status = check(handle, HANDLE);
    if (status == 0) status = check(desc, DESC);
    for (int i = 0; i < 4 && status == 0; i++) status = check(layouts[i], LAYOUT);
    const object *d = desc;
    if (status == 0 && (d->compute != BERTH_CUBLAS_COMPUTE_32F || d->scale != BERTH_CUBLAS_F32 ||
                        d->epilogue != BERTH_CUBLASLT_EPILOGUE_BIAS || d->bias == 0 || layouts[2] != layouts[3]))
        status = misuse("a kind of product that the emulator does not know");
    return status;
}

EMU_API int cublasLtMatmulAlgoGetHeuristic(berth_cublaslt_handle handle, berth_cublaslt_desc desc,
                                           berth_cublaslt_layout a, berth_cublaslt_layout b, berth_cublaslt_layout c,
                                           berth_cublaslt_layout d, berth_cublaslt_pref pref, int n_wanted,
                                           berth_cublaslt_result *results, int *n_found)
{
    int status = emu_blas_enter();
    const object *p = (const object *)pref, *of = (const object *)desc;
    if (status == 0) status = check_all(handle, desc, (const void *[]){a, b, c, d});
    if (status == 0) status = check(p, PREF);
    if (status == 0 && (n_wanted != 1 || p->reductions != BERTH_CUBLASLT_REDUCES_IN_FP32))
        status = misuse("sums of 16 bits, or more than one algorithm");
    if (status == 0 && !emu_blas_door()->cublaslt()) status = BERTH_CUBLAS_NOT_SUPPORTED;
    if (status == 0) {
        uint64_t least = 256;
        for (int i = 0; i < 4; i++) least = p->align[i] < least ? p->align[i] : least;
        memset(results, 0, sizeof *results);
        results->workspace_bytes = p->most_workspace < 32 << 10 ? p->most_workspace : 32 << 10;
        results->algo.data[0] = shape_of(of, (const object *)a, (const object *)b, (const object *)c);
        results->algo.data[1] = results->workspace_bytes;
        results->algo.data[2] = least;
        results->algo.data[3] = alignment(of->bias);
        *n_found = 1;
    }
    return emu_blas_leave(status);
}

static int check_algo(const berth_cublaslt_algo *algo, uint64_t shape, const emu_gemm *g, size_t workspace_bytes)
{
    if (!algo) return misuse("no algorithm was chosen");
    if (algo->data[0] != shape) return misuse("the algorithm was chosen for another shape");
    if (algo->data[1] > workspace_bytes) return misuse("the algorithm needs more workspace");
    if (alignment(g->a.at) < algo->data[2] || alignment(g->b.at) < algo->data[2] || alignment(g->c.at) < algo->data[2])
        return misuse("the algorithm was chosen for operands with more alignment");
    return alignment(g->bias.at) < algo->data[3] ? misuse("the algorithm was chosen for a bias with more alignment")
                                                 : 0;
}

static emu_matrix placed(const void *layout, const void *at)
{
    emu_matrix x = ((const object *)layout)->matrix;
    x.at = (uint64_t)(uintptr_t)at;
    return x;
}

static int queue(const object *handle, const object *desc, emu_gemm *g, const berth_cublaslt_algo *algo, uint64_t shape,
                 void *workspace, size_t bytes, void *stream)
{
    const uint64_t at = (uint64_t)(uintptr_t)workspace;
    int gpu = -1;
    int status = emu_blas_status(emu_blas_door()->stream(stream, &gpu));
    if (status == 0 && (gpu != handle->gpu || !stream)) status = misuse("a stream of another GPU, or the default one");
    g->k = desc->transa ? g->a.rows : g->a.cols;
    g->m = desc->transa ? g->a.cols : g->a.rows;
    g->n = g->b.cols;
    g->a_transposed = desc->transa != 0;
    if (status == 0 && (g->b.rows != g->k || g->c.rows != g->m || g->c.cols != g->n))
        status = misuse("matrices that do not fit each other");
    if (status == 0) g->bias = (emu_matrix){desc->bias, g->c.dtype, g->m, 1, g->m};
    if (status == 0) status = check_algo(algo, shape, g, bytes);
    if (status == 0 && at % 256) status = misuse("a workspace that is not 256-byte aligned");
    return status ? status : emu_blas_queue("cublasLtMatmul", gpu, stream, g, at, bytes);
}

EMU_API int cublasLtMatmul(berth_cublaslt_handle handle, berth_cublaslt_desc desc, const void *alpha, const void *a,
                           berth_cublaslt_layout a_layout, const void *b, berth_cublaslt_layout b_layout,
                           const void *beta, const void *c, berth_cublaslt_layout c_layout, void *d,
                           berth_cublaslt_layout d_layout, const berth_cublaslt_algo *algo, void *workspace,
                           size_t workspace_bytes, berth_cu_stream stream)
{
    int status = emu_blas_enter();
    if (status == 0) status = check_all(handle, desc, (const void *[]){a_layout, b_layout, c_layout, d_layout});
    if (status == 0 && (c != d || !alpha || !beta))
        status = misuse("a kind of product that the emulator does not know");
    if (status == 0) {
        emu_gemm g = {.a = placed(a_layout, a), .b = placed(b_layout, b), .c = placed(c_layout, c)};
        memcpy(&g.alpha, alpha, sizeof g.alpha);
        memcpy(&g.beta, beta, sizeof g.beta);
        const object *of = (const object *)desc;
        const uint64_t shape =
            shape_of(of, (const object *)a_layout, (const object *)b_layout, (const object *)c_layout);
        status = queue((const object *)handle, of, &g, algo, shape, workspace, workspace_bytes, stream);
    }
    return emu_blas_leave(status);
}
