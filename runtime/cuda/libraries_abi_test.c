/* libraries_abi_test.c - our declarations of cuBLAS, NCCL and NVRTC against the toolkit's headers, as abi_test.c does for the
 * driver. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <cublasLt.h>
#include <cublas_v2.h>
#include <nccl.h>
#include <nvrtc.h>

#include "cuda/cublas.h"
#include "cuda/cublaslt.h"
#include "cuda/nccl.h"
#include "cuda/nvrtc.h"

#define SAME(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), #ours)
SAME(BERTH_CUBLAS_NOT_INITIALIZED, CUBLAS_STATUS_NOT_INITIALIZED);
SAME(BERTH_CUBLAS_ALLOC_FAILED, CUBLAS_STATUS_ALLOC_FAILED);
SAME(BERTH_CUBLAS_INVALID_VALUE, CUBLAS_STATUS_INVALID_VALUE);
SAME(BERTH_CUBLAS_ARCH_MISMATCH, CUBLAS_STATUS_ARCH_MISMATCH);
SAME(BERTH_CUBLAS_EXECUTION_FAILED, CUBLAS_STATUS_EXECUTION_FAILED);
SAME(BERTH_CUBLAS_INTERNAL_ERROR, CUBLAS_STATUS_INTERNAL_ERROR);
SAME(BERTH_CUBLAS_NOT_SUPPORTED, CUBLAS_STATUS_NOT_SUPPORTED);
SAME(BERTH_CUBLAS_OP_N, CUBLAS_OP_N);
SAME(BERTH_CUBLAS_OP_T, CUBLAS_OP_T);
SAME(BERTH_CUBLAS_F32, CUDA_R_32F);
SAME(BERTH_CUBLAS_F16, CUDA_R_16F);
SAME(BERTH_CUBLAS_BF16, CUDA_R_16BF);
SAME(BERTH_CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F);
SAME(BERTH_CUBLAS_GEMM_DEFAULT, CUBLAS_GEMM_DEFAULT);
SAME(BERTH_CUBLAS_MATH_NO_REDUCED_SUMS,
     (int)CUBLAS_DEFAULT_MATH | (int)CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
SAME(BERTH_CUBLASLT_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSA);
SAME(BERTH_CUBLASLT_DESC_EPILOGUE, CUBLASLT_MATMUL_DESC_EPILOGUE);
SAME(BERTH_CUBLASLT_DESC_BIAS_POINTER, CUBLASLT_MATMUL_DESC_BIAS_POINTER);
SAME(BERTH_CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_BIAS);
SAME(BERTH_CUBLASLT_LAYOUT_TYPE, CUBLASLT_MATRIX_LAYOUT_TYPE);
SAME(BERTH_CUBLASLT_LAYOUT_ROWS, CUBLASLT_MATRIX_LAYOUT_ROWS);
SAME(BERTH_CUBLASLT_LAYOUT_COLS, CUBLASLT_MATRIX_LAYOUT_COLS);
SAME(BERTH_CUBLASLT_LAYOUT_LD, CUBLASLT_MATRIX_LAYOUT_LD);
SAME(BERTH_CUBLASLT_PREF_MAX_WORKSPACE, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
SAME(BERTH_CUBLASLT_PREF_REDUCTIONS, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
SAME(BERTH_CUBLASLT_REDUCES_IN_FP32, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
SAME(BERTH_CUBLASLT_PREF_ALIGN_A, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
SAME(BERTH_CUBLASLT_PREF_ALIGN_D, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
SAME(sizeof(berth_cublaslt_algo), sizeof(cublasLtMatmulAlgo_t));
SAME(sizeof(berth_cublaslt_result), sizeof(cublasLtMatmulHeuristicResult_t));
SAME(offsetof(berth_cublaslt_result, state), offsetof(cublasLtMatmulHeuristicResult_t, state));
SAME(BERTH_NCCL_UNHANDLED_CUDA_ERROR, ncclUnhandledCudaError);
SAME(BERTH_NCCL_SYSTEM_ERROR, ncclSystemError);
SAME(BERTH_NCCL_INTERNAL_ERROR, ncclInternalError);
SAME(BERTH_NCCL_INVALID_ARGUMENT, ncclInvalidArgument);
SAME(BERTH_NCCL_INVALID_USAGE, ncclInvalidUsage);
SAME(BERTH_NCCL_REMOTE_ERROR, ncclRemoteError);
SAME(BERTH_NCCL_IN_PROGRESS, ncclInProgress);
SAME(BERTH_NCCL_INT8, ncclInt8);
SAME(BERTH_NCCL_F16, ncclFloat16);
SAME(BERTH_NCCL_F32, ncclFloat32);
SAME(BERTH_NCCL_BF16, ncclBfloat16);
SAME(BERTH_NCCL_SUM, ncclSum);
SAME(sizeof(berth_nccl_id), sizeof(ncclUniqueId));
SAME(BERTH_NCCL_UNSET, NCCL_CONFIG_UNDEF_INT);
#define SAME_FIELD(ours, theirs) SAME(offsetof(berth_nccl_config, ours), offsetof(ncclConfig_t, theirs))
SAME_FIELD(size, size);
SAME_FIELD(magic, magic);
SAME_FIELD(version, version);
SAME_FIELD(blocking, blocking);
SAME_FIELD(cga_cluster, cgaClusterSize);
SAME_FIELD(min_ctas, minCTAs);
SAME_FIELD(max_ctas, maxCTAs);
SAME_FIELD(net_name, netName);
SAME_FIELD(split_share, splitShare);
SAME(BERTH_NVRTC_OUT_OF_MEMORY, NVRTC_ERROR_OUT_OF_MEMORY);
SAME(BERTH_NVRTC_INVALID_OPTION, NVRTC_ERROR_INVALID_OPTION);
SAME(BERTH_NVRTC_COMPILATION, NVRTC_ERROR_COMPILATION);

#define berth_cu_stream                 cudaStream_t
#define berth_cublas_handle             cublasHandle_t
#define berth_cublas_operation          cublasOperation_t
#define berth_cublas_compute            cublasComputeType_t
#define berth_cublas_algorithm          cublasGemmAlgo_t
#define berth_cublas_dtype              cudaDataType
#define berth_cublas_math               cublasMath_t
#define berth_cublaslt_handle           cublasLtHandle_t
#define berth_cublaslt_desc             cublasLtMatmulDesc_t
#define berth_cublaslt_layout           cublasLtMatrixLayout_t
#define berth_cublaslt_pref             cublasLtMatmulPreference_t
#define berth_cublaslt_desc_attribute   cublasLtMatmulDescAttributes_t
#define berth_cublaslt_layout_attribute cublasLtMatrixLayoutAttribute_t
#define berth_cublaslt_pref_attribute   cublasLtMatmulPreferenceAttributes_t
#define berth_cublaslt_algo             cublasLtMatmulAlgo_t
#define berth_cublaslt_result           cublasLtMatmulHeuristicResult_t
#define berth_nccl_result               ncclResult_t
#define berth_nccl_dtype                ncclDataType_t
#define berth_nccl_reduction            ncclRedOp_t
#define berth_nccl_comm                 ncclComm_t
#define berth_nccl_id                   ncclUniqueId
#define berth_nccl_config               ncclConfig_t
#define berth_nvrtc_program             nvrtcProgram
#define SAME_TYPE(name, result, args)   _Static_assert(__builtin_types_compatible_p(__typeof__(name), result args), #name)
#define CUBLAS_TYPE(name, symbol, args) SAME_TYPE(name, cublasStatus_t, args);
#define LT_TYPE(name, args)             SAME_TYPE(name, cublasStatus_t, args);
#define NCCL_TYPE(name, args)           SAME_TYPE(name, ncclResult_t, args);
#define NVRTC_TYPE(name, args)          SAME_TYPE(name, nvrtcResult, args);
BERTH_CUBLAS_FUNCTIONS(CUBLAS_TYPE)
BERTH_CUBLASLT_FUNCTIONS(LT_TYPE)
BERTH_NCCL_FUNCTIONS(NCCL_TYPE)
BERTH_NVRTC_FUNCTIONS(NVRTC_TYPE)

#define TEXT_OF(name)             #name
#define EXPANDED(name)            TEXT_OF(name)
#define NAMES(name, symbol, args) {EXPANDED(name), symbol},

static void functions_have_the_exported_names(void **state)
{
    (void)state;
    static const struct {
        const char *theirs, *ours;
    } names[] = {BERTH_CUBLAS_FUNCTIONS(NAMES)};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) assert_string_equal(names[i].ours, names[i].theirs);
}

static void a_configuration_begins_as_the_headers_does(void **state)
{
    (void)state;
    const ncclConfig_t theirs = NCCL_CONFIG_INITIALIZER;
    assert_int_equal(theirs.magic, BERTH_NCCL_CONFIG_MAGIC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(functions_have_the_exported_names),
                                       cmocka_unit_test(a_configuration_begins_as_the_headers_does)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
