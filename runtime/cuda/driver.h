/* driver.h - the part of the CUDA driver API that berth calls, declared by ourselves and opened at run time.
 *
 * Names, values and argument types are those of the ABI as the CUDA Driver API reference gives them (docs.nvidia.com,
 * "CUDA Driver API", modules 6.1 to 6.22); abi_test.c compares them with cuda.h where a toolkit is installed. Functions
 * are taken by their exported, versioned names (cuMemAlloc_v2): each names one ABI for ever, so cuGetProcAddress, which
 * chooses by the caller's CUDA version, is not needed. For the files of this folder only. */
#ifndef BERTH_CUDA_DRIVER_H
#define BERTH_CUDA_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef int32_t berth_cu_result;             /* CUresult */
typedef int32_t berth_cu_device;             /* CUdevice */
typedef uint64_t berth_cu_ptr;               /* CUdeviceptr */
typedef int32_t berth_cu_attribute;          /* CUdevice_attribute */
typedef int32_t berth_cu_function_attribute; /* CUfunction_attribute */
typedef struct berth_cu_context_st *berth_cu_context;
typedef struct berth_cu_stream_st *berth_cu_stream;
typedef struct berth_cu_event_st *berth_cu_event;
typedef struct berth_cu_module_st *berth_cu_module;
typedef struct berth_cu_function_st *berth_cu_function;
typedef int32_t berth_cu_capture_mode;   /* CUstreamCaptureMode */
typedef int32_t berth_cu_capture_status; /* CUstreamCaptureStatus */
typedef struct berth_cu_graph_st *berth_cu_graph;
typedef struct berth_cu_graph_exec_st *berth_cu_graph_exec;
typedef struct berth_cu_uuid {
    char bytes[16];
} berth_cu_uuid;

/* CUresult; the ones berth tells apart. */
enum {
    BERTH_CU_SUCCESS = 0,
    BERTH_CU_INVALID_VALUE = 1,
    BERTH_CU_OUT_OF_MEMORY = 2,
    BERTH_CU_NOT_INITIALIZED = 3,
    BERTH_CU_DEINITIALIZED = 4,
    BERTH_CU_STUB_LIBRARY = 34,
    BERTH_CU_DEVICE_UNAVAILABLE = 46,
    BERTH_CU_NO_DEVICE = 100,
    BERTH_CU_INVALID_DEVICE = 101,
    BERTH_CU_INVALID_IMAGE = 200,
    BERTH_CU_INVALID_CONTEXT = 201,
    BERTH_CU_NO_BINARY_FOR_GPU = 209,
    BERTH_CU_ECC_UNCORRECTABLE = 214,
    BERTH_CU_PEER_ACCESS_UNSUPPORTED = 217,
    BERTH_CU_INVALID_PTX = 218,
    BERTH_CU_NVLINK_UNCORRECTABLE = 220,
    BERTH_CU_UNSUPPORTED_PTX_VERSION = 222,
    BERTH_CU_CONTAINED = 226,
    BERTH_CU_INVALID_HANDLE = 400,
    BERTH_CU_ILLEGAL_STATE = 401,
    BERTH_CU_NOT_FOUND = 500,
    BERTH_CU_NOT_READY = 600,
    BERTH_CU_ILLEGAL_ADDRESS = 700,
    BERTH_CU_LAUNCH_OUT_OF_RESOURCES = 701,
    BERTH_CU_LAUNCH_TIMEOUT = 702,
    BERTH_CU_PEER_ACCESS_ALREADY_ENABLED = 704,
    BERTH_CU_PEER_ACCESS_NOT_ENABLED = 705,
    BERTH_CU_CONTEXT_IS_DESTROYED = 709,
    BERTH_CU_ASSERT = 710,
    BERTH_CU_TOO_MANY_PEERS = 711,
    BERTH_CU_HARDWARE_STACK_ERROR = 714,
    BERTH_CU_ILLEGAL_INSTRUCTION = 715,
    BERTH_CU_MISALIGNED_ADDRESS = 716,
    BERTH_CU_INVALID_ADDRESS_SPACE = 717,
    BERTH_CU_INVALID_PC = 718,
    BERTH_CU_LAUNCH_FAILED = 719,
    BERTH_CU_NOT_PERMITTED = 800,
    BERTH_CU_NOT_SUPPORTED = 801,
    BERTH_CU_SYSTEM_NOT_READY = 802,
    BERTH_CU_SYSTEM_DRIVER_MISMATCH = 803,
    BERTH_CU_COMPAT_NOT_SUPPORTED_ON_DEVICE = 804,
    BERTH_CU_CAPTURE_UNSUPPORTED = 900, /* CUDA_ERROR_STREAM_CAPTURE_... */
    BERTH_CU_CAPTURE_INVALIDATED = 901,
    BERTH_CU_CAPTURE_MERGE = 902,
    BERTH_CU_CAPTURE_UNMATCHED = 903,
    BERTH_CU_CAPTURE_UNJOINED = 904,
    BERTH_CU_CAPTURE_ISOLATION = 905,
    BERTH_CU_CAPTURE_IMPLICIT = 906,
    BERTH_CU_CAPTURED_EVENT = 907,
    BERTH_CU_CAPTURE_WRONG_THREAD = 908,
    BERTH_CU_UNKNOWN = 999
};

/* CUdevice_attribute, CUfunction_attribute, CUcomputemode and flags. */
enum {
    BERTH_CU_ATTR_MULTIPROCESSOR_COUNT = 16,
    BERTH_CU_ATTR_COMPUTE_MODE = 20,
    BERTH_CU_ATTR_ASYNC_ENGINE_COUNT = 40,
    BERTH_CU_ATTR_UNIFIED_ADDRESSING = 41,
    BERTH_CU_ATTR_CAPABILITY_MAJOR = 75,
    BERTH_CU_ATTR_CAPABILITY_MINOR = 76,
    BERTH_CU_ATTR_MAX_SHARED_OPTIN = 97,

    BERTH_CU_FUNC_MAX_DYNAMIC_SHARED = 8,

    BERTH_CU_COMPUTE_DEFAULT = 0,
    BERTH_CU_COMPUTE_PROHIBITED = 2,
    BERTH_CU_COMPUTE_EXCLUSIVE_PROCESS = 3,

    BERTH_CU_STREAM_NON_BLOCKING = 1,
    BERTH_CU_EVENT_BLOCKING_SYNC = 1,
    BERTH_CU_EVENT_DISABLE_TIMING = 2,
    BERTH_CU_CAPTURE_THREAD_LOCAL = 1,
    BERTH_CU_CAPTURE_NONE = 0,
    BERTH_CU_CAPTURE_ACTIVE = 1,
    BERTH_CU_CAPTURE_VOID = 2,
    BERTH_CU_HOST_ALLOC_PORTABLE = 1
};

/* X(name, exported name, arguments): each returns a CUresult. */
#define BERTH_CU_FUNCTIONS(X)                                                                                          \
    X(cuInit, "cuInit", (unsigned flags))                                                                              \
    X(cuDriverGetVersion, "cuDriverGetVersion", (int *version))                                                        \
    X(cuGetErrorName, "cuGetErrorName", (berth_cu_result code, const char **name))                                     \
    X(cuGetErrorString, "cuGetErrorString", (berth_cu_result code, const char **text))                                 \
    X(cuDeviceGetCount, "cuDeviceGetCount", (int *count))                                                              \
    X(cuDeviceGet, "cuDeviceGet", (berth_cu_device * device, int ordinal))                                             \
    X(cuDeviceGetName, "cuDeviceGetName", (char *name, int size, berth_cu_device device))                              \
    X(cuDeviceGetUuid, "cuDeviceGetUuid_v2", (berth_cu_uuid * uuid, berth_cu_device device))                           \
    X(cuDeviceTotalMem, "cuDeviceTotalMem_v2", (size_t * bytes, berth_cu_device device))                               \
    X(cuDeviceGetAttribute, "cuDeviceGetAttribute",                                                                    \
      (int *value, berth_cu_attribute attribute, berth_cu_device device))                                              \
    X(cuDeviceGetPCIBusId, "cuDeviceGetPCIBusId", (char *id, int size, berth_cu_device device))                        \
    X(cuDeviceCanAccessPeer, "cuDeviceCanAccessPeer", (int *can, berth_cu_device device, berth_cu_device peer))        \
    X(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (berth_cu_context * context, berth_cu_device device))      \
    X(cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", (berth_cu_device device))                             \
    X(cuCtxPushCurrent, "cuCtxPushCurrent_v2", (berth_cu_context context))                                             \
    X(cuCtxPopCurrent, "cuCtxPopCurrent_v2", (berth_cu_context * context))                                             \
    X(cuCtxEnablePeerAccess, "cuCtxEnablePeerAccess", (berth_cu_context peer, unsigned flags))                         \
    X(cuMemGetInfo, "cuMemGetInfo_v2", (size_t * free, size_t * total))                                                \
    X(cuMemAlloc, "cuMemAlloc_v2", (berth_cu_ptr * ptr, size_t bytes))                                                 \
    X(cuMemFree, "cuMemFree_v2", (berth_cu_ptr ptr))                                                                   \
    X(cuMemHostAlloc, "cuMemHostAlloc", (void **ptr, size_t bytes, unsigned flags))                                    \
    X(cuMemFreeHost, "cuMemFreeHost", (void *ptr))                                                                     \
    X(cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2",                                                                       \
      (berth_cu_ptr dst, const void *src, size_t bytes, berth_cu_stream stream))                                       \
    X(cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2", (void *dst, berth_cu_ptr src, size_t bytes, berth_cu_stream stream))  \
    X(cuMemcpyDtoDAsync, "cuMemcpyDtoDAsync_v2",                                                                       \
      (berth_cu_ptr dst, berth_cu_ptr src, size_t bytes, berth_cu_stream stream))                                      \
    X(cuMemcpyPeerAsync, "cuMemcpyPeerAsync",                                                                          \
      (berth_cu_ptr dst, berth_cu_context dst_context, berth_cu_ptr src, berth_cu_context src_context, size_t bytes,   \
       berth_cu_stream stream))                                                                                        \
    X(cuMemsetD8Async, "cuMemsetD8Async", (berth_cu_ptr dst, unsigned char value, size_t n, berth_cu_stream stream))   \
    X(cuStreamCreate, "cuStreamCreate", (berth_cu_stream * stream, unsigned flags))                                    \
    X(cuStreamDestroy, "cuStreamDestroy_v2", (berth_cu_stream stream))                                                 \
    X(cuStreamSynchronize, "cuStreamSynchronize", (berth_cu_stream stream))                                            \
    X(cuStreamQuery, "cuStreamQuery", (berth_cu_stream stream))                                                        \
    X(cuStreamWaitEvent, "cuStreamWaitEvent", (berth_cu_stream stream, berth_cu_event event, unsigned flags))          \
    X(cuEventCreate, "cuEventCreate", (berth_cu_event * event, unsigned flags))                                        \
    X(cuEventDestroy, "cuEventDestroy_v2", (berth_cu_event event))                                                     \
    X(cuEventRecord, "cuEventRecord", (berth_cu_event event, berth_cu_stream stream))                                  \
    X(cuEventSynchronize, "cuEventSynchronize", (berth_cu_event event))                                                \
    X(cuEventQuery, "cuEventQuery", (berth_cu_event event))                                                            \
    X(cuEventElapsedTime, "cuEventElapsedTime", (float *ms, berth_cu_event from, berth_cu_event to))                   \
    X(cuStreamBeginCapture, "cuStreamBeginCapture_v2", (berth_cu_stream stream, berth_cu_capture_mode mode))           \
    X(cuStreamIsCapturing, "cuStreamIsCapturing", (berth_cu_stream stream, berth_cu_capture_status * status))          \
    X(cuStreamEndCapture, "cuStreamEndCapture", (berth_cu_stream stream, berth_cu_graph * graph))                      \
    X(cuGraphInstantiate, "cuGraphInstantiateWithFlags",                                                               \
      (berth_cu_graph_exec * exec, berth_cu_graph graph, unsigned long long flags))                                    \
    X(cuGraphLaunch, "cuGraphLaunch", (berth_cu_graph_exec exec, berth_cu_stream stream))                              \
    X(cuGraphExecDestroy, "cuGraphExecDestroy", (berth_cu_graph_exec exec))                                            \
    X(cuGraphDestroy, "cuGraphDestroy", (berth_cu_graph graph))                                                        \
    X(cuModuleLoadData, "cuModuleLoadData", (berth_cu_module * module, const void *image))                             \
    X(cuModuleUnload, "cuModuleUnload", (berth_cu_module module))                                                      \
    X(cuModuleGetFunction, "cuModuleGetFunction",                                                                      \
      (berth_cu_function * function, berth_cu_module module, const char *name))                                        \
    X(cuFuncSetAttribute, "cuFuncSetAttribute",                                                                        \
      (berth_cu_function function, berth_cu_function_attribute attribute, int value))                                  \
    X(cuLaunchKernel, "cuLaunchKernel",                                                                                \
      (berth_cu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,                \
       unsigned block_y, unsigned block_z, unsigned shared_bytes, berth_cu_stream stream, void **params,               \
       void **extra))

#define BERTH_CU_POINTER(name, symbol, args) berth_cu_result(*name) args;
typedef struct berth_cu_driver {
    void *handle;
    int version; /* 12040 = CUDA 12.4, the newest it can serve */
    int n_gpus;
    BERTH_CU_FUNCTIONS(BERTH_CU_POINTER)
} berth_cu_driver;
#undef BERTH_CU_POINTER

/* The oldest driver that is taken: CUDA 12.0 (R525), the oldest whose cuBLAS and NCCL berth knows. */
enum { BERTH_CU_MIN_VERSION = 12000 };

/* Opens `path` (NULL: libcuda.so.1), binds, initialises and counts. On failure *cu is {0}. Errors, each one line with
 * what to do: BERTH_NOT_FOUND (no library, no GPU), BERTH_UNSUPPORTED (too old, a function is missing),
 * BERTH_DEVICE_ERROR (does not load, does not initialise), BERTH_OUT_OF_MEMORY. */
berth_status berth_cu_driver_open(berth_cu_driver *cu, const char *path, berth_error *err);
void berth_cu_driver_close(berth_cu_driver *cu);

/* The code names a GPU whose context is beyond repair: every later call on it fails (CUDA Driver API, CUresult: "leaves
 * the process in an inconsistent state"), and what it held is lost. */
bool berth_cu_is_sticky(berth_cu_result code);

/* The status of a failed `call` on GPU `ordinal` (-1 = none): BERTH_OUT_OF_MEMORY, BERTH_DEVICE_LOST (sticky codes) or
 * BERTH_DEVICE_ERROR, with native_code and native_api "cuda". BERTH_OK for success. */
berth_status berth_cu_status(const berth_cu_driver *cu, berth_cu_result code, const char *call, int32_t ordinal,
                             berth_error *err);

#endif
