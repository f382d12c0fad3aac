/* abi_test.c - our declarations against the toolkit's headers: values of enums, sizes of types, and the exported name of
 * each function. Built only where a toolkit is found; what it proves was proven for CUDA 13.0. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <cuda.h>

#include "cuda/driver.h"

#define SAME(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), #ours)
SAME(BERTH_CU_SUCCESS, CUDA_SUCCESS);
SAME(BERTH_CU_INVALID_VALUE, CUDA_ERROR_INVALID_VALUE);
SAME(BERTH_CU_OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY);
SAME(BERTH_CU_NOT_INITIALIZED, CUDA_ERROR_NOT_INITIALIZED);
SAME(BERTH_CU_DEINITIALIZED, CUDA_ERROR_DEINITIALIZED);
SAME(BERTH_CU_STUB_LIBRARY, CUDA_ERROR_STUB_LIBRARY);
SAME(BERTH_CU_DEVICE_UNAVAILABLE, CUDA_ERROR_DEVICE_UNAVAILABLE);
SAME(BERTH_CU_NO_DEVICE, CUDA_ERROR_NO_DEVICE);
SAME(BERTH_CU_INVALID_DEVICE, CUDA_ERROR_INVALID_DEVICE);
SAME(BERTH_CU_INVALID_IMAGE, CUDA_ERROR_INVALID_IMAGE);
SAME(BERTH_CU_INVALID_CONTEXT, CUDA_ERROR_INVALID_CONTEXT);
SAME(BERTH_CU_NO_BINARY_FOR_GPU, CUDA_ERROR_NO_BINARY_FOR_GPU);
SAME(BERTH_CU_ECC_UNCORRECTABLE, CUDA_ERROR_ECC_UNCORRECTABLE);
SAME(BERTH_CU_PEER_ACCESS_UNSUPPORTED, CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
SAME(BERTH_CU_INVALID_PTX, CUDA_ERROR_INVALID_PTX);
SAME(BERTH_CU_NVLINK_UNCORRECTABLE, CUDA_ERROR_NVLINK_UNCORRECTABLE);
SAME(BERTH_CU_UNSUPPORTED_PTX_VERSION, CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
SAME(BERTH_CU_INVALID_HANDLE, CUDA_ERROR_INVALID_HANDLE);
SAME(BERTH_CU_ILLEGAL_STATE, CUDA_ERROR_ILLEGAL_STATE);
SAME(BERTH_CU_NOT_FOUND, CUDA_ERROR_NOT_FOUND);
SAME(BERTH_CU_NOT_READY, CUDA_ERROR_NOT_READY);
SAME(BERTH_CU_ILLEGAL_ADDRESS, CUDA_ERROR_ILLEGAL_ADDRESS);
SAME(BERTH_CU_LAUNCH_OUT_OF_RESOURCES, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
SAME(BERTH_CU_LAUNCH_TIMEOUT, CUDA_ERROR_LAUNCH_TIMEOUT);
SAME(BERTH_CU_PEER_ACCESS_ALREADY_ENABLED, CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
SAME(BERTH_CU_PEER_ACCESS_NOT_ENABLED, CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
SAME(BERTH_CU_CONTEXT_IS_DESTROYED, CUDA_ERROR_CONTEXT_IS_DESTROYED);
SAME(BERTH_CU_ASSERT, CUDA_ERROR_ASSERT);
SAME(BERTH_CU_TOO_MANY_PEERS, CUDA_ERROR_TOO_MANY_PEERS);
SAME(BERTH_CU_HARDWARE_STACK_ERROR, CUDA_ERROR_HARDWARE_STACK_ERROR);
SAME(BERTH_CU_ILLEGAL_INSTRUCTION, CUDA_ERROR_ILLEGAL_INSTRUCTION);
SAME(BERTH_CU_MISALIGNED_ADDRESS, CUDA_ERROR_MISALIGNED_ADDRESS);
SAME(BERTH_CU_INVALID_ADDRESS_SPACE, CUDA_ERROR_INVALID_ADDRESS_SPACE);
SAME(BERTH_CU_INVALID_PC, CUDA_ERROR_INVALID_PC);
SAME(BERTH_CU_LAUNCH_FAILED, CUDA_ERROR_LAUNCH_FAILED);
SAME(BERTH_CU_NOT_PERMITTED, CUDA_ERROR_NOT_PERMITTED);
SAME(BERTH_CU_NOT_SUPPORTED, CUDA_ERROR_NOT_SUPPORTED);
SAME(BERTH_CU_SYSTEM_NOT_READY, CUDA_ERROR_SYSTEM_NOT_READY);
SAME(BERTH_CU_SYSTEM_DRIVER_MISMATCH, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
SAME(BERTH_CU_COMPAT_NOT_SUPPORTED_ON_DEVICE, CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE);
SAME(BERTH_CU_CAPTURE_UNSUPPORTED, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
SAME(BERTH_CU_CAPTURE_INVALIDATED, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
SAME(BERTH_CU_CAPTURE_MERGE, CUDA_ERROR_STREAM_CAPTURE_MERGE);
SAME(BERTH_CU_CAPTURE_UNMATCHED, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
SAME(BERTH_CU_CAPTURE_UNJOINED, CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
SAME(BERTH_CU_CAPTURE_ISOLATION, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
SAME(BERTH_CU_CAPTURE_IMPLICIT, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
SAME(BERTH_CU_CAPTURED_EVENT, CUDA_ERROR_CAPTURED_EVENT);
SAME(BERTH_CU_CAPTURE_WRONG_THREAD, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
SAME(BERTH_CU_UNKNOWN, CUDA_ERROR_UNKNOWN);
#if CUDA_VERSION >= 12080
SAME(BERTH_CU_CONTAINED, CUDA_ERROR_CONTAINED);
#endif

SAME(BERTH_CU_ATTR_MULTIPROCESSOR_COUNT, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
SAME(BERTH_CU_ATTR_COMPUTE_MODE, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE);
SAME(BERTH_CU_ATTR_ASYNC_ENGINE_COUNT, CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT);
SAME(BERTH_CU_ATTR_UNIFIED_ADDRESSING, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING);
SAME(BERTH_CU_ATTR_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
SAME(BERTH_CU_ATTR_CAPABILITY_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
SAME(BERTH_CU_ATTR_MAX_SHARED_OPTIN, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
SAME(BERTH_CU_FUNC_MAX_DYNAMIC_SHARED, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
SAME(BERTH_CU_COMPUTE_DEFAULT, CU_COMPUTEMODE_DEFAULT);
SAME(BERTH_CU_COMPUTE_PROHIBITED, CU_COMPUTEMODE_PROHIBITED);
SAME(BERTH_CU_COMPUTE_EXCLUSIVE_PROCESS, CU_COMPUTEMODE_EXCLUSIVE_PROCESS);
SAME(BERTH_CU_STREAM_NON_BLOCKING, CU_STREAM_NON_BLOCKING);
SAME(BERTH_CU_EVENT_DISABLE_TIMING, CU_EVENT_DISABLE_TIMING);
SAME(BERTH_CU_EVENT_BLOCKING_SYNC, CU_EVENT_BLOCKING_SYNC);
SAME(BERTH_CU_CAPTURE_THREAD_LOCAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
SAME(BERTH_CU_CAPTURE_NONE, CU_STREAM_CAPTURE_STATUS_NONE);
SAME(BERTH_CU_CAPTURE_ACTIVE, CU_STREAM_CAPTURE_STATUS_ACTIVE);
SAME(BERTH_CU_CAPTURE_VOID, CU_STREAM_CAPTURE_STATUS_INVALIDATED);
SAME(BERTH_CU_HOST_ALLOC_PORTABLE, CU_MEMHOSTALLOC_PORTABLE);

SAME(sizeof(berth_cu_ptr), sizeof(CUdeviceptr));
SAME(sizeof(berth_cu_device), sizeof(CUdevice));
SAME(sizeof(berth_cu_result), sizeof(CUresult));
SAME(sizeof(berth_cu_uuid), sizeof(CUuuid));

/* Each function has the header's type, once our names of types stand for the header's. */
#define berth_cu_result             CUresult
#define berth_cu_device             CUdevice
#define berth_cu_ptr                CUdeviceptr
#define berth_cu_attribute          CUdevice_attribute
#define berth_cu_function_attribute CUfunction_attribute
#define berth_cu_context            CUcontext
#define berth_cu_stream             CUstream
#define berth_cu_event              CUevent
#define berth_cu_module             CUmodule
#define berth_cu_function           CUfunction
#define berth_cu_uuid               CUuuid
#define berth_cu_capture_mode       CUstreamCaptureMode
#define berth_cu_capture_status     CUstreamCaptureStatus
#define berth_cu_graph              CUgraph
#define berth_cu_graph_exec         CUgraphExec
#define SAME_TYPE(name, symbol, args)                                                                                  \
    _Static_assert(__builtin_types_compatible_p(__typeof__(name), CUresult args), symbol);
BERTH_CU_FUNCTIONS(SAME_TYPE)

/* The header's macros turn each plain name into the exported one. */
#define TEXT_OF(name)                #name
#define EXPANDED(name)               TEXT_OF(name)
#define NAMES(name, symbol, args)    {EXPANDED(name), symbol},
#define EXPORTED(name, symbol, args) symbol,

static void functions_have_the_exported_names(void **state)
{
    (void)state;
    static const struct {
        const char *theirs, *ours;
    } names[] = {BERTH_CU_FUNCTIONS(NAMES)};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        /* Its second version came with CUDA 12.8; the first one, of the same type, is in every driver. */
        if (strcmp(names[i].theirs, "cuEventElapsedTime_v2") == 0)
            assert_string_equal(names[i].ours, "cuEventElapsedTime");
        else
            assert_string_equal(names[i].ours, names[i].theirs);
    }
}

/* The toolkit's stub has the names of its driver: also those that its header no longer leads to. */
static void the_newest_driver_exports_them(void **state)
{
    (void)state;
    static const char *const ours[] = {BERTH_CU_FUNCTIONS(EXPORTED)};
    void *stub = dlopen(STUB_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!stub) skip();
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        if (!dlsym(stub, ours[i])) fail_msg("%s has no %s", STUB_LIBRARY, ours[i]);
    }
    dlclose(stub);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(functions_have_the_exported_names),
                                       cmocka_unit_test(the_newest_driver_exports_them)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
