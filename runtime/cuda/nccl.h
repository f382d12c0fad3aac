/* nccl.h - the part of NCCL that berth calls, opened at run time: libnccl.so.2, 2.18 or newer.
 *
 * Names and values are those of the NCCL user guide (docs.nvidia.com, "NCCL API"); libraries_abi_test.c compares them
 * with the header where a toolkit is installed. For the files of this folder only. */
#ifndef BERTH_CUDA_NCCL_H
#define BERTH_CUDA_NCCL_H

#include <limits.h>

#include "cuda/driver.h"

typedef int32_t berth_nccl_result;    /* ncclResult_t */
typedef int32_t berth_nccl_dtype;     /* ncclDataType_t */
typedef int32_t berth_nccl_reduction; /* ncclRedOp_t */
typedef struct berth_nccl_comm_st *berth_nccl_comm;
typedef struct berth_nccl_id {
    char internal[128];
} berth_nccl_id;

enum {
    BERTH_NCCL_SUCCESS = 0,
    BERTH_NCCL_UNHANDLED_CUDA_ERROR = 1,
    BERTH_NCCL_SYSTEM_ERROR = 2,
    BERTH_NCCL_INTERNAL_ERROR = 3,
    BERTH_NCCL_INVALID_ARGUMENT = 4,
    BERTH_NCCL_INVALID_USAGE = 5,
    BERTH_NCCL_REMOTE_ERROR = 6,
    BERTH_NCCL_IN_PROGRESS = 7,

    BERTH_NCCL_INT8 = 0,
    BERTH_NCCL_F16 = 6,
    BERTH_NCCL_F32 = 7,
    BERTH_NCCL_BF16 = 9,
    BERTH_NCCL_SUM = 0
};

/* ncclConfig_t as of 2.18; newer ones take it by `size` and `version`. What is not set is BERTH_NCCL_UNSET or NULL. */
typedef struct berth_nccl_config {
    size_t size;
    unsigned magic, version;
    int blocking, cga_cluster, min_ctas, max_ctas;
    const char *net_name;
    int split_share;
} berth_nccl_config;

#define BERTH_NCCL_UNSET        INT_MIN
#define BERTH_NCCL_CONFIG_MAGIC 0xcafebeefU

/* X(name, arguments): each returns an ncclResult_t. */
#define BERTH_NCCL_FUNCTIONS(X)                                                                                        \
    X(ncclGetVersion, (int *version))                                                                                  \
    X(ncclGetUniqueId, (berth_nccl_id * id))                                                                           \
    X(ncclCommInitRankConfig,                                                                                          \
      (berth_nccl_comm * comm, int n_ranks, berth_nccl_id id, int rank, berth_nccl_config *config))                    \
    X(ncclCommFinalize, (berth_nccl_comm comm))                                                                        \
    X(ncclCommDestroy, (berth_nccl_comm comm))                                                                         \
    X(ncclCommAbort, (berth_nccl_comm comm))                                                                           \
    X(ncclCommGetAsyncError, (berth_nccl_comm comm, berth_nccl_result * error))                                        \
    X(ncclGroupStart, (void))                                                                                          \
    X(ncclGroupEnd, (void))                                                                                            \
    X(ncclSend,                                                                                                        \
      (const void *buffer, size_t n, berth_nccl_dtype dtype, int peer, berth_nccl_comm comm, berth_cu_stream stream))  \
    X(ncclRecv,                                                                                                        \
      (void *buffer, size_t n, berth_nccl_dtype dtype, int peer, berth_nccl_comm comm, berth_cu_stream stream))        \
    X(ncclAllReduce, (const void *from, void *to, size_t n, berth_nccl_dtype dtype, berth_nccl_reduction reduction,    \
                      berth_nccl_comm comm, berth_cu_stream stream))

#define BERTH_NCCL_POINTER(name, args) berth_nccl_result(*name) args;
typedef struct berth_nccl {
    void *handle;
    int version; /* 22809 = 2.28.9 */
    const char *(*ncclGetErrorString)(berth_nccl_result code);
    const char *(*ncclGetLastError)(berth_nccl_comm comm); /* what NCCL last complained of; `comm` may be NULL */
    BERTH_NCCL_FUNCTIONS(BERTH_NCCL_POINTER)
} berth_nccl;
#undef BERTH_NCCL_POINTER

enum {
    BERTH_NCCL_MIN_VERSION = 21800,       /* older ones were not looked at */
    BERTH_NCCL_MULTI_RANK_VERSION = 23000 /* several ranks on one GPU, when NCCL_MULTI_RANK_GPU_ENABLE=1 */
};

/* Opens `path` (NULL: libnccl.so.2) and checks its version. Closing leaves it in the process: NCCL has threads of its
 * own that may outlive the last communicator by a moment. On failure *out is {0}. Errors, each with what to do:
 * BERTH_NOT_FOUND, BERTH_UNSUPPORTED (too old, a function is missing), BERTH_DEVICE_ERROR. */
berth_status berth_nccl_open(berth_nccl *out, const char *path, berth_error *err);
void berth_nccl_close(berth_nccl *nccl);

/* The status of a failed `call` by GPU `ordinal` (-1 = none), with NCCL's own words where it has any:
 * BERTH_DEVICE_ERROR, native_api "nccl". In progress is no failure. */
berth_status berth_nccl_status(const berth_nccl *nccl, berth_nccl_result code, const char *call, int32_t ordinal,
                               berth_error *err);

#endif
