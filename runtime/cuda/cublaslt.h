/* cublaslt.h - the part of cuBLASLt that berth calls, opened at run time: products whose epilogue adds a bias, at no
 * cost of their own. It comes with cuBLAS, as a library beside it.
 *
 * Names and values are those of the cuBLAS reference (docs.nvidia.com, "cuBLAS", 3); libraries_abi_test.c compares them
 * with the header where a toolkit is installed. For the files of this folder only. */
#ifndef BERTH_CUDA_CUBLASLT_H
#define BERTH_CUDA_CUBLASLT_H

#include "cuda/cublas.h"

typedef struct berth_cublaslt_st *berth_cublaslt_handle;
typedef struct berth_cublaslt_desc_st *berth_cublaslt_desc;     /* cublasLtMatmulDesc_t */
typedef struct berth_cublaslt_layout_st *berth_cublaslt_layout; /* cublasLtMatrixLayout_t */
typedef struct berth_cublaslt_pref_st *berth_cublaslt_pref;     /* cublasLtMatmulPreference_t */
typedef int32_t berth_cublaslt_desc_attribute;
typedef int32_t berth_cublaslt_layout_attribute;
typedef int32_t berth_cublaslt_pref_attribute;
typedef struct berth_cublaslt_algo { /* opaque, a plain value */
    uint64_t data[8];
} berth_cublaslt_algo;
typedef struct berth_cublaslt_result { /* cublasLtMatmulHeuristicResult_t */
    berth_cublaslt_algo algo;
    size_t workspace_bytes;
    berth_cublas_result state;
    float waves;
    int reserved[4];
} berth_cublaslt_result;

enum {
    BERTH_CUBLASLT_DESC_TRANSA = 3,       /* int32: BERTH_CUBLAS_OP_... */
    BERTH_CUBLASLT_DESC_EPILOGUE = 7,     /* uint32 */
    BERTH_CUBLASLT_DESC_BIAS_POINTER = 8, /* of D's dtype, one for each of its rows */
    BERTH_CUBLASLT_EPILOGUE_BIAS = 4,

    BERTH_CUBLASLT_LAYOUT_TYPE = 0, /* uint32: a dtype */
    BERTH_CUBLASLT_LAYOUT_ROWS = 2, /* uint64, as COLS */
    BERTH_CUBLASLT_LAYOUT_COLS = 3,
    BERTH_CUBLASLT_LAYOUT_LD = 4, /* int64 */

    BERTH_CUBLASLT_PREF_MAX_WORKSPACE = 1, /* uint64 */
    BERTH_CUBLASLT_PREF_REDUCTIONS = 3,    /* uint32, a mask; */
    BERTH_CUBLASLT_REDUCES_IN_FP32 = 2,    /* parts of a sum meet in the compute type; the others: in the output's */
    BERTH_CUBLASLT_PREF_ALIGN_A = 5,       /* uint32; 256 unless said otherwise. B, C, D follow */
    BERTH_CUBLASLT_PREF_ALIGN_D = 8
};

/* X(name, arguments): each returns a cublasStatus_t. */
#define BERTH_CUBLASLT_FUNCTIONS(X)                                                                                    \
    X(cublasLtCreate, (berth_cublaslt_handle * handle))                                                                \
    X(cublasLtDestroy, (berth_cublaslt_handle handle))                                                                 \
    X(cublasLtMatmulDescCreate,                                                                                        \
      (berth_cublaslt_desc * desc, berth_cublas_compute compute, berth_cublas_dtype scale_dtype))                      \
    X(cublasLtMatmulDescDestroy, (berth_cublaslt_desc desc))                                                           \
    X(cublasLtMatmulDescSetAttribute,                                                                                  \
      (berth_cublaslt_desc desc, berth_cublaslt_desc_attribute attribute, const void *value, size_t bytes))            \
    X(cublasLtMatrixLayoutCreate,                                                                                      \
      (berth_cublaslt_layout * layout, berth_cublas_dtype dtype, uint64_t rows, uint64_t cols, int64_t ld))            \
    X(cublasLtMatrixLayoutDestroy, (berth_cublaslt_layout layout))                                                     \
    X(cublasLtMatrixLayoutSetAttribute,                                                                                \
      (berth_cublaslt_layout layout, berth_cublaslt_layout_attribute attribute, const void *value, size_t bytes))      \
    X(cublasLtMatmulPreferenceCreate, (berth_cublaslt_pref * pref))                                                    \
    X(cublasLtMatmulPreferenceDestroy, (berth_cublaslt_pref pref))                                                     \
    X(cublasLtMatmulPreferenceSetAttribute,                                                                            \
      (berth_cublaslt_pref pref, berth_cublaslt_pref_attribute attribute, const void *value, size_t bytes))            \
    X(cublasLtMatmulAlgoGetHeuristic,                                                                                  \
      (berth_cublaslt_handle handle, berth_cublaslt_desc desc, berth_cublaslt_layout a, berth_cublaslt_layout b,       \
       berth_cublaslt_layout c, berth_cublaslt_layout d, berth_cublaslt_pref pref, int n_wanted,                       \
       berth_cublaslt_result *results, int *n_found))                                                                  \
    X(cublasLtMatmul,                                                                                                  \
      (berth_cublaslt_handle handle, berth_cublaslt_desc desc, const void *alpha, const void *a,                       \
       berth_cublaslt_layout a_layout, const void *b, berth_cublaslt_layout b_layout, const void *beta, const void *c, \
       berth_cublaslt_layout c_layout, void *d, berth_cublaslt_layout d_layout, const berth_cublaslt_algo *algo,       \
       void *workspace, size_t workspace_bytes, berth_cu_stream stream))

#define BERTH_CUBLASLT_POINTER(name, args) berth_cublas_result(*name) args;
typedef struct berth_cublaslt {
    void *handle;
    BERTH_CUBLASLT_FUNCTIONS(BERTH_CUBLASLT_POINTER)
} berth_cublaslt;
#undef BERTH_CUBLASLT_POINTER

/* Opens the one of cuBLAS `major` (12 or 13). On failure *out is {0}. Errors as those of berth_cublas_open. */
berth_status berth_cublaslt_open(berth_cublaslt *out, int major, berth_error *err);
void berth_cublaslt_close(berth_cublaslt *lt);

#endif
