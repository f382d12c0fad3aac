/* gemm_bias.h - products with a bias, by cuBLASLt: what gemm.c keeps for each stream. For the files of this folder
 * only. */
#ifndef BERTH_CUDA_GEMM_BIAS_H
#define BERTH_CUDA_GEMM_BIAS_H

#include "cuda/cublaslt.h"
#include "cuda/gemm.h"

enum { BERTH_GEMM_PLANS = 64 };

typedef struct berth_gemm_plan { /* what cuBLASLt chose for a shape */
    berth_gemm_shape shape;      /* rows 0 = free */
    size_t workspace_bytes;
    uint64_t bias_offset; /* from a multiple of 256 */
    berth_cublaslt_algo algo;
} berth_gemm_plan;

typedef struct berth_gemm_bias { /* one stream's */
    const berth_cublaslt *lt;    /* borrowed */
    berth_cublaslt_handle handle;
    berth_cublaslt_desc desc;
    berth_cublaslt_layout w, x, y;
    berth_cublaslt_pref pref;
    berth_gemm_plan plans[BERTH_GEMM_PLANS]; /* by turns, when all are taken */
    int32_t next;                            /* plan to be overwritten */
} berth_gemm_bias;

/* Both with the GPU's context current. On failure of init the caller deinits. *out_call: the last one made. */
berth_cublas_result berth_gemm_bias_init(berth_gemm_bias *b, const berth_cublaslt *lt, const char **out_call);
void berth_gemm_bias_deinit(berth_gemm_bias *b);

berth_cublas_result berth_gemm_bias_run(berth_gemm_bias *b, berth_cu_stream stream, const berth_gemm_call *call,
                                        const char **out_call);

/* cudaDataType of a float dtype. */
berth_cublas_dtype berth_gemm_dtype(berth_dtype dtype);

#endif
