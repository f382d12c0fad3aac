/* emu_cuda.c - the entry points of the emulated libcuda.so.1: devices, contexts, memory, modules. Streams, events, copies
 * and launches are in emu_work.c. Each takes the lock, counts itself, fails if it was told to, checks, and acts. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "emu_entry.h"
#include "emu_image.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

enum { STACK_MAX = 16 };
static _Thread_local struct {
    berth_cu_context contexts[STACK_MAX];
    int depth;
} current;

/* Codes after which the context is unusable, as the CUDA Driver API reference marks them ("inconsistent state", "must be
 * terminated"); of their own, not the backend's list. */
static bool is_sticky(int code)
{
    return code == 46 || code == 214 || code == 220 || code == 226 || code == 700 || code == 702 || code == 709 ||
           code == 710 || (code >= 714 && code <= 719) || code == 999;
}

static void take(void)
{
    emu_tsan_hide();
    pthread_mutex_lock(&lock);
}

static void give(void)
{
    pthread_mutex_unlock(&lock);
    emu_tsan_show();
}

void emu_lock(void)
{
    take();
    emu_start(getenv("CUDA_EMU"));
}

int emu_enter(void)
{
    take();
    emu_start(getenv("CUDA_EMU"));
    if (++emu.report.calls != emu.config.fail_call) return BERTH_CU_SUCCESS;
    const int code = emu.config.fail_code;
    emu.report.n_failed++;
    emu_capture_fail();
    if (is_sticky(code) && current.depth > 0) {
        emu_object *context = emu_find(current.contexts[current.depth - 1], EMU_CONTEXT);
        if (context) emu_latch(context, code);
    }
    return code;
}

/* After an error nothing is waited for any more: the caller may take it that what ran is over. */
int emu_leave(int code)
{
    if (code && code != BERTH_CU_NOT_READY) emu_tsan_knows_all();
    give();
    return code;
}

void emu_wait_change(void)
{
    pthread_cond_wait(&changed, &lock);
}

void emu_wait_change_ms(int ms)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    (void)pthread_cond_timedwait(&changed, &lock, &at);
}

void emu_changed(void)
{
    pthread_cond_broadcast(&changed);
}

int emu_current(emu_object **out)
{
    *out = NULL;
    if (!emu.initialised) return emu_misuse(BERTH_CU_NOT_INITIALIZED, "a call before cuInit");
    if (current.depth == 0) return emu_misuse(BERTH_CU_INVALID_CONTEXT, "a call that needs a current context has none");
    *out = emu_find(current.contexts[current.depth - 1], EMU_CONTEXT);
    return *out ? (*out)->error : BERTH_CU_INVALID_CONTEXT;
}

/* ---- control (emu.h) ------------------------------------------------------------------------------------------------- */

EMU_API void emu_get_report(emu_report *out)
{
    take();
    emu_start(getenv("CUDA_EMU"));
    emu_account(out);
    out->architecture = emu_image_architecture();
    give();
}

EMU_API void emu_know_fatbin(const char *unit, const void *image, uint64_t bytes, int toolkit)
{
    take();
    emu_image_know(unit, image, bytes, toolkit);
    give();
}

EMU_API void emu_fail_after(uint64_t n, int code)
{
    take();
    emu_start(getenv("CUDA_EMU"));
    emu.config.fail_call = n ? emu.report.calls + n : 0;
    emu.config.fail_code = code;
    give();
}

EMU_API void emu_reset(const char *config)
{
    take();
    emu_stop();
    emu_start(config);
    current.depth = 0;
    give();
}

/* ---- the driver ------------------------------------------------------------------------------------------------------ */

EMU_API int cuInit(unsigned flags)
{
    int code = emu_enter();
    if (code == 0 && flags != 0) code = BERTH_CU_INVALID_VALUE;
    if (code == 0) code = emu.config.init;
    if (code == 0 && emu.config.n_gpus == 0) code = BERTH_CU_NO_DEVICE;
    if (code == 0) emu.initialised = true;
    return emu_leave(code);
}

EMU_API int cuDriverGetVersion(int *version)
{
    const int code = emu_enter();
    if (code == 0) *version = emu.config.driver;
    return emu_leave(code);
}

static const struct {
    int code;
    const char *name;
} error_names[] = {
    {0, "CUDA_SUCCESS"},
    {1, "CUDA_ERROR_INVALID_VALUE"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY"},
    {3, "CUDA_ERROR_NOT_INITIALIZED"},
    {34, "CUDA_ERROR_STUB_LIBRARY"},
    {46, "CUDA_ERROR_DEVICE_UNAVAILABLE"},
    {100, "CUDA_ERROR_NO_DEVICE"},
    {101, "CUDA_ERROR_INVALID_DEVICE"},
    {200, "CUDA_ERROR_INVALID_IMAGE"},
    {201, "CUDA_ERROR_INVALID_CONTEXT"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE"},
    {217, "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED"},
    {400, "CUDA_ERROR_INVALID_HANDLE"},
    {401, "CUDA_ERROR_ILLEGAL_STATE"},
    {500, "CUDA_ERROR_NOT_FOUND"},
    {600, "CUDA_ERROR_NOT_READY"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"},
    {702, "CUDA_ERROR_LAUNCH_TIMEOUT"},
    {704, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED"},
    {705, "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED"},
    {710, "CUDA_ERROR_ASSERT"},
    {712, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED"},
    {713, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED"},
    {719, "CUDA_ERROR_LAUNCH_FAILED"},
    {802, "CUDA_ERROR_SYSTEM_NOT_READY"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"},
    {804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
    {902, "CUDA_ERROR_STREAM_CAPTURE_MERGE"},
    {903, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED"},
    {904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED"},
    {905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION"},
    {906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"},
    {907, "CUDA_ERROR_CAPTURED_EVENT"},
    {908, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD"},
    {999, "CUDA_ERROR_UNKNOWN"},
};

EMU_API int cuGetErrorName(int code, const char **name)
{
    *name = NULL;
    for (size_t i = 0; i < sizeof error_names / sizeof error_names[0]; i++) {
        if (error_names[i].code == code) *name = error_names[i].name;
    }
    return *name ? 0 : BERTH_CU_INVALID_VALUE;
}

EMU_API int cuGetErrorString(int code, const char **text)
{
    return cuGetErrorName(code, text);
}

/* ---- devices --------------------------------------------------------------------------------------------------------- */

static int check_device(int device)
{
    if (!emu.initialised) return emu_misuse(BERTH_CU_NOT_INITIALIZED, "a call before cuInit");
    return device >= 0 && device < emu.config.n_gpus ? 0 : BERTH_CU_INVALID_DEVICE;
}

EMU_API int cuDeviceGetCount(int *count)
{
    int code = emu_enter();
    if (code == 0 && !emu.initialised) code = emu_misuse(BERTH_CU_NOT_INITIALIZED, "a call before cuInit");
    if (code == 0) *count = emu.config.n_gpus;
    return emu_leave(code);
}

EMU_API int cuDeviceGet(int *device, int ordinal)
{
    int code = emu_enter();
    if (code == 0) code = check_device(ordinal);
    if (code == 0) *device = ordinal;
    return emu_leave(code);
}

EMU_API int cuDeviceGetName(char *name, int size, int device)
{
    int code = emu_enter();
    if (code == 0) code = check_device(device);
    if (code == 0) snprintf(name, (size_t)size, "%s", emu.config.gpu[device].name);
    return emu_leave(code);
}

EMU_API int cuDeviceGetUuid_v2(berth_cu_uuid *uuid, int device)
{
    int code = emu_enter();
    if (code == 0) code = check_device(device);
    if (code == 0) *uuid = (berth_cu_uuid){{'e', 'm', 'u', (char)device}};
    return emu_leave(code);
}

EMU_API int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    int code = emu_enter();
    if (code == 0) code = check_device(device);
    if (code == 0) *bytes = emu.config.gpu[device].memory;
    return emu_leave(code);
}

static int attribute_of(int device, int attribute, int *value)
{
    switch (attribute) {
    case BERTH_CU_ATTR_MULTIPROCESSOR_COUNT: *value = 4; return 0;
    case BERTH_CU_ATTR_COMPUTE_MODE: *value = emu.config.gpu[device].mode; return 0;
    case BERTH_CU_ATTR_ASYNC_ENGINE_COUNT: *value = 2; return 0;
    case BERTH_CU_ATTR_UNIFIED_ADDRESSING: *value = 1; return 0;
    case BERTH_CU_ATTR_CAPABILITY_MAJOR: *value = emu.config.gpu[device].capability / 10; return 0;
    case BERTH_CU_ATTR_CAPABILITY_MINOR: *value = emu.config.gpu[device].capability % 10; return 0;
    case BERTH_CU_ATTR_MAX_SHARED_OPTIN: *value = emu_max_shared(emu.config.gpu[device].capability); return 0;
    default: return emu_misuse(BERTH_CU_INVALID_VALUE, "device attribute %d is not known to the emulator", attribute);
    }
}

EMU_API int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    int code = emu_enter();
    if (code == 0) code = check_device(device);
    if (code == 0) code = attribute_of(device, attribute, value);
    return emu_leave(code);
}

EMU_API int cuDeviceGetPCIBusId(char *id, int size, int device)
{
    int code = emu_enter();
    if (code == 0) code = check_device(device);
    if (code == 0) snprintf(id, (size_t)size, "0000:%02X:00.0", device + 1);
    return emu_leave(code);
}

EMU_API int cuDeviceCanAccessPeer(int *can, int device, int peer)
{
    int code = emu_enter();
    if (code == 0) code = check_device(device);
    if (code == 0) code = check_device(peer);
    if (code == 0) *can = device != peer && emu.config.gpu[device].peer[peer];
    return emu_leave(code);
}

/* ---- contexts -------------------------------------------------------------------------------------------------------- */

static int retain(emu_gpu *gpu, int device)
{
    const int mode = emu.config.gpu[device].mode;
    if (mode == BERTH_CU_COMPUTE_PROHIBITED ||
        (mode == BERTH_CU_COMPUTE_EXCLUSIVE_PROCESS && emu.config.gpu[device].busy))
        return BERTH_CU_DEVICE_UNAVAILABLE;
    if (gpu->retained == 0 && emu_charge(device, (int64_t)emu.config.gpu[device].context_memory) != 0)
        return BERTH_CU_OUT_OF_MEMORY;
    if (gpu->retained++ == 0) {
        gpu->context = emu_new(EMU_CONTEXT, device, NULL);
        gpu->context->null_stream = emu_new(EMU_STREAM, device, gpu->context);
        gpu->context->null_stream->is_null = true;
    }
    return 0;
}

EMU_API int cuDevicePrimaryCtxRetain(berth_cu_context *context, int device)
{
    int code = emu_enter();
    if (code == 0) code = check_device(device);
    if (code == 0) code = retain(&emu.gpus[device], device);
    if (code == 0) *context = (berth_cu_context)emu.gpus[device].context->handle; // NOLINT(performance-no-int-to-ptr)
    return emu_leave(code);
}

/* What is still there goes with its context, as on hardware, but is a misuse here. */
static int end_context(emu_gpu *gpu, int device)
{
    emu_object *context = gpu->context;
    emu_drop(context);
    int left = 0;
    for (size_t i = 0; i < emu.n_objects; i++) {
        emu_object *o = emu.objects[i];
        if (!o->alive || o->context != context || o == context) continue;
        left += !o->is_null && o->kind != EMU_FUNCTION;
        emu_end(o);
    }
    for (size_t i = 0; i < gpu->n_ranges; i++) left += gpu->ranges[i].alive;
    emu_free_all(device);
    emu_charge(device, -(int64_t)emu.config.gpu[device].context_memory);
    emu_end(context);
    gpu->context = NULL;
    return left ? emu_misuse(0, "GPU %d: its context ended with %d things in it", device, left) : 0;
}

EMU_API int cuDevicePrimaryCtxRelease_v2(int device)
{
    const int told = emu_enter();
    int code = check_device(device);
    if (code == 0 && emu.gpus[device].retained == 0)
        code = emu_misuse(BERTH_CU_INVALID_CONTEXT, "GPU %d: its context was released too often", device);
    if (code == 0) {
        code = emu.gpus[device].context->error;
        if (--emu.gpus[device].retained == 0) end_context(&emu.gpus[device], device);
    }
    return emu_leave(told ? told : code);
}

EMU_API int cuCtxPushCurrent_v2(berth_cu_context context)
{
    int code = emu_enter();
    emu_object *pushed = emu_find(context, EMU_CONTEXT);
    if (pushed && is_sticky(code)) emu_latch(pushed, code);
    if (code == 0 && !pushed) code = BERTH_CU_INVALID_CONTEXT;
    if (code == 0 && current.depth == STACK_MAX)
        code = emu_misuse(BERTH_CU_INVALID_VALUE, "contexts are pushed and not popped");
    if (code == 0) current.contexts[current.depth++] = context;
    return emu_leave(code);
}

EMU_API int cuCtxPopCurrent_v2(berth_cu_context *context)
{
    const int told = emu_enter();
    int code = 0;
    if (current.depth == 0)
        code = emu_misuse(BERTH_CU_INVALID_CONTEXT, "a context was popped that nobody pushed");
    else
        *context = current.contexts[--current.depth];
    return emu_leave(told ? told : code);
}

EMU_API int cuCtxEnablePeerAccess(berth_cu_context peer, unsigned flags)
{
    int code = emu_enter();
    emu_object *context = NULL;
    if (code == 0) code = emu_current(&context);
    if (code == 0) code = emu_unsafe("cuCtxEnablePeerAccess");
    const emu_object *other = code == 0 ? emu_find(peer, EMU_CONTEXT) : NULL;
    if (code == 0 && !other) code = BERTH_CU_INVALID_CONTEXT;
    if (code == 0 && (flags || other == context)) code = BERTH_CU_INVALID_VALUE;
    if (code == 0 && !emu.config.gpu[context->gpu].peer[other->gpu]) code = BERTH_CU_PEER_ACCESS_UNSUPPORTED;
    if (code == 0 && context->peers[other->gpu]) code = BERTH_CU_PEER_ACCESS_ALREADY_ENABLED;
    if (code == 0) context->peers[other->gpu] = true;
    return emu_leave(code);
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

EMU_API int cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
    int code = emu_enter();
    emu_object *context = NULL;
    if (code == 0) code = emu_current(&context);
    if (code == 0) code = emu_unsafe("cuMemGetInfo");
    if (code == 0) {
        *total = emu.config.gpu[context->gpu].memory;
        *free_bytes = *total - emu.gpus[context->gpu].used;
    }
    return emu_leave(code);
}

EMU_API int cuMemAlloc_v2(berth_cu_ptr *ptr, size_t bytes)
{
    int code = emu_enter();
    emu_object *context = NULL;
    if (code == 0) code = emu_current(&context);
    if (code == 0) code = emu_unsafe("cuMemAlloc");
    if (code == 0) code = emu_alloc(context->gpu, bytes, ptr);
    return emu_leave(code);
}

EMU_API int cuMemFree_v2(berth_cu_ptr ptr)
{
    const int told = emu_enter();
    emu_object *context = NULL;
    int code = emu_current(&context);
    if (code == 0) code = emu_unsafe("cuMemFree");
    if (context) {
        const int freed = emu_free(context->gpu, ptr);
        if (code == 0) code = freed;
    }
    return emu_leave(told ? told : code);
}

EMU_API int cuMemHostAlloc(void **ptr, size_t bytes, unsigned flags)
{
    int code = emu_enter();
    emu_object *context = NULL;
    if (code == 0) code = emu_current(&context);
    if (code == 0) code = emu_unsafe("cuMemHostAlloc");
    if (code == 0 && (flags & ~(unsigned)BERTH_CU_HOST_ALLOC_PORTABLE))
        code = emu_misuse(BERTH_CU_INVALID_VALUE, "flags %u of pinned memory are not known to the emulator", flags);
    if (code == 0) code = emu_host_alloc(ptr, bytes);
    return emu_leave(code);
}

EMU_API int cuMemFreeHost(void *ptr)
{
    const int told = emu_enter();
    emu_object *context = NULL;
    int code = emu_current(&context);
    if (code == 0) code = emu_unsafe("cuMemFreeHost");
    if (context) {
        const int freed = emu_host_free(ptr);
        if (code == 0) code = freed;
    }
    return emu_leave(told ? told : code);
}

/* ---- modules --------------------------------------------------------------------------------------------------------- */

static int load(emu_object *context, const void *image, berth_cu_module *out)
{
    emu_opened opened;
    const int code = emu_image_open(image, emu.config.gpu[context->gpu].capability, emu.config.driver, &opened);
    if (code) return code;
    emu_object *module = emu_new(EMU_MODULE, context->gpu, context);
    module->opened = opened.handle;
    module->fd = opened.fd;
    module->image = opened.image;
    *out = (berth_cu_module)module->handle; // NOLINT(performance-no-int-to-ptr)
    return 0;
}

EMU_API int cuModuleLoadData(berth_cu_module *module, const void *image)
{
    int code = emu_enter();
    emu_object *context = NULL;
    if (code == 0) code = emu_current(&context);
    if (code == 0) code = emu_unsafe("cuModuleLoadData");
    if (code == 0) code = load(context, image, module);
    return emu_leave(code);
}

static bool is_launch_of(const emu_op *op, const void *opened)
{
    return op->kind == EMU_LAUNCH && op->opened == opened;
}

EMU_API int cuModuleUnload(berth_cu_module handle)
{
    const int told = emu_enter();
    emu_object *context = NULL;
    int code = emu_current(&context);
    if (code == 0) code = emu_unsafe("cuModuleUnload");
    emu_object *module = context ? emu_find(handle, EMU_MODULE) : NULL;
    if (context && !module) code = BERTH_CU_INVALID_HANDLE;
    if (module && module->context != context) {
        code = emu_misuse(BERTH_CU_INVALID_CONTEXT, "a module is unloaded in another context");
    } else if (module) {
        if (emu_any_queued(is_launch_of, module->opened)) {
            code = emu_misuse(BERTH_CU_ILLEGAL_ADDRESS, "a module is unloaded while its kernel is queued");
            emu_drain_context(context);
        }
        for (size_t i = 0; i < emu.n_objects; i++) {
            if (emu.objects[i]->kind == EMU_FUNCTION && emu.objects[i]->opened == module->opened)
                emu_end(emu.objects[i]);
        }
        emu_end(module);
    }
    return emu_leave(told ? told : code);
}

EMU_API int cuModuleGetFunction(berth_cu_function *function, berth_cu_module handle, const char *name)
{
    int code = emu_enter();
    emu_object *context = NULL;
    if (code == 0) code = emu_current(&context);
    if (code == 0) code = emu_unsafe("cuModuleGetFunction");
    const emu_object *module = code == 0 ? emu_find(handle, EMU_MODULE) : NULL;
    if (code == 0 && !module) code = BERTH_CU_INVALID_HANDLE;
    const emu_image_kernel *kernel = module ? module->image->find(name) : NULL;
    if (code == 0 && !kernel) code = BERTH_CU_NOT_FOUND;
    if (code == 0) {
        emu_object *f = emu_new(EMU_FUNCTION, context->gpu, module->context);
        f->kernel = kernel;
        f->opened = module->opened;
        *function = (berth_cu_function)f->handle; // NOLINT(performance-no-int-to-ptr)
    }
    return emu_leave(code);
}

EMU_API int cuFuncSetAttribute(berth_cu_function function, int attribute, int value)
{
    int code = emu_enter();
    emu_object *context = NULL;
    if (code == 0) code = emu_current(&context);
    if (code == 0) code = emu_unsafe("cuFuncSetAttribute");
    emu_object *f = code == 0 ? emu_find(function, EMU_FUNCTION) : NULL;
    if (code == 0 && !f) code = BERTH_CU_INVALID_HANDLE;
    if (code == 0 && attribute != BERTH_CU_FUNC_MAX_DYNAMIC_SHARED)
        code = emu_misuse(BERTH_CU_INVALID_VALUE, "function attribute %d is not known to the emulator", attribute);
    if (code == 0 && (value < 0 || value > emu_max_shared(emu.config.gpu[context->gpu].capability)))
        code = BERTH_CU_INVALID_VALUE;
    if (code == 0) f->shared_allowed = value;
    return emu_leave(code);
}
