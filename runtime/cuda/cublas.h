/* cublas.h - the part of cuBLAS that berth calls, opened at run time: libcublas.so.13 or .12.
 *
 * Names and values are those of the cuBLAS reference (docs.nvidia.com, "cuBLAS", 2.2 and 2.8.13); libraries_abi_test.c
 * compares them with the header where a toolkit is installed. For the files of this folder only. */
#ifndef BERTH_CUDA_CUBLAS_H
#define BERTH_CUDA_CUBLAS_H

#include "cuda/driver.h"

typedef int32_t berth_cublas_result;    /* cublasStatus_t */
typedef int32_t berth_cublas_operation; /* cublasOperation_t */
typedef int32_t berth_cublas_compute;   /* cublasComputeType_t */
typedef int32_t berth_cublas_algorithm; /* cublasGemmAlgo_t */
typedef int32_t berth_cublas_math;      /* cublasMath_t */
typedef int32_t berth_cublas_dtype;     /* cudaDataType */
typedef struct berth_cublas_st *berth_cublas_handle;

enum {
    BERTH_CUBLAS_SUCCESS = 0,
    BERTH_CUBLAS_NOT_INITIALIZED = 1,
    BERTH_CUBLAS_ALLOC_FAILED = 3,
    BERTH_CUBLAS_INVALID_VALUE = 7,
    BERTH_CUBLAS_ARCH_MISMATCH = 8,
    BERTH_CUBLAS_EXECUTION_FAILED = 13,
    BERTH_CUBLAS_INTERNAL_ERROR = 14,
    BERTH_CUBLAS_NOT_SUPPORTED = 15,

    BERTH_CUBLAS_OP_N = 0, /* column-major, as it lies */
    BERTH_CUBLAS_OP_T = 1,
    BERTH_CUBLAS_F32 = 0,
    BERTH_CUBLAS_F16 = 2,
    BERTH_CUBLAS_BF16 = 14,
    BERTH_CUBLAS_COMPUTE_32F = 68, /* products in the storage dtype, sums in fp32 */
    BERTH_CUBLAS_GEMM_DEFAULT = -1,
    BERTH_CUBLAS_MATH_NO_REDUCED_SUMS = 16 /* the default (no TF32), and partial sums are not rounded to 16 bits */
};

/* X(name, exported name, arguments): each returns a cublasStatus_t. */
#define BERTH_CUBLAS_FUNCTIONS(X)                                                                                      \
    X(cublasCreate, "cublasCreate_v2", (berth_cublas_handle * handle))                                                 \
    X(cublasDestroy, "cublasDestroy_v2", (berth_cublas_handle handle))                                                 \
    X(cublasGetVersion, "cublasGetVersion_v2", (berth_cublas_handle handle, int *version))                             \
    X(cublasSetStream, "cublasSetStream_v2", (berth_cublas_handle handle, berth_cu_stream stream))                     \
    X(cublasSetMathMode, "cublasSetMathMode", (berth_cublas_handle handle, berth_cublas_math mode))                    \
    X(cublasSetWorkspace, "cublasSetWorkspace_v2", (berth_cublas_handle handle, void *workspace, size_t bytes))        \
    X(cublasGemmEx, "cublasGemmEx",                                                                                    \
      (berth_cublas_handle handle, berth_cublas_operation transa, berth_cublas_operation transb, int m, int n, int k,  \
       const void *alpha, const void *a, berth_cublas_dtype a_dtype, int lda, const void *b,                           \
       berth_cublas_dtype b_dtype, int ldb, const void *beta, void *c, berth_cublas_dtype c_dtype, int ldc,            \
       berth_cublas_compute compute, berth_cublas_algorithm algorithm))

#define BERTH_CUBLAS_POINTER(name, symbol, args) berth_cublas_result(*name) args;
typedef struct berth_cublas {
    void *handle;
    BERTH_CUBLAS_FUNCTIONS(BERTH_CUBLAS_POINTER)
} berth_cublas;
#undef BERTH_CUBLAS_POINTER

/* Opens `path`, or (NULL) the newest that the driver serves: .13 needs a driver of CUDA 13, .12 runs on both. GPUs
 * below sm_75 are served by .12 only: `capability` (70 = 7.0) is the oldest GPU's. On failure *out is {0}. Errors:
 * BERTH_NOT_FOUND with what to install, BERTH_UNSUPPORTED (a function is missing), BERTH_DEVICE_ERROR (does not
 * load). */
berth_status berth_cublas_open(berth_cublas *out, const char *path, int driver_version, int32_t capability,
                               berth_error *err);
void berth_cublas_close(berth_cublas *blas);

/* The status of a failed `call` on GPU `ordinal`; native_api "cublas". */
berth_status berth_cublas_status(berth_cublas_result code, const char *call, int32_t ordinal, berth_error *err);

#endif
