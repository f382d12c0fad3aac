/* module.c - device code on a GPU: loading an image, finding its kernels, launching them. */
#include <stdlib.h>

#include "cuda/device_internal.h"

/* An image that is not for this GPU is the user's to know, in words; everything else is the driver's error. */
static berth_status refine(const berth_gpu *gpu, berth_cu_result code, berth_status st, berth_error *err)
{
    const berth_gpu_info *info = &gpu->slot->info;
    const char *why = code == BERTH_CU_NO_BINARY_FOR_GPU         ? "this build has no kernels for it"
                      : code == BERTH_CU_UNSUPPORTED_PTX_VERSION ? "the driver is too old for this build's PTX"
                      : code == BERTH_CU_INVALID_PTX || code == BERTH_CU_INVALID_IMAGE ? "the image is damaged"
                                                                                       : NULL;
    if (!why) return st;
    BERTH_FAIL(
        err, BERTH_UNSUPPORTED,
        "cuda:%d (%s, sm_%d): %s; use a build with sm_%d, install NVRTC so that kernels are compiled at start, or "
        "update NVIDIA's driver",
        (int)info->ordinal, info->name, (int)info->capability, why, (int)info->capability);
    if (err) {
        err->device = info->ordinal;
        err->native_code = code;
        err->native_api = "cuda";
    }
    return BERTH_UNSUPPORTED;
}

berth_status berth_gpu_module_load(berth_gpu *gpu, const void *image, berth_gpu_module **out, berth_error *err)
{
    *out = NULL;
    berth_gpu_module *m = calloc(1, sizeof *m);
    if (!m)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a module of cuda:%d", (int)gpu->slot->info.ordinal);
    m->gpu = gpu;
    berth_status st = berth_gpu_enter(gpu, err);
    if (st == BERTH_OK) {
        const berth_cu_result code = gpu->cuda->cu.cuModuleLoadData(&m->handle, image);
        if (code != BERTH_CU_SUCCESS) m->handle = NULL;
        st = refine(gpu, code, berth_gpu_leave(gpu, code, "cuModuleLoadData", err), err);
    }
    if (st != BERTH_OK) {
        berth_gpu_module_unload(m);
        return st;
    }
    *out = m;
    return BERTH_OK;
}

void berth_gpu_module_unload(berth_gpu_module *m)
{
    if (!m) return;
    if (m->handle && berth_gpu_enter_to_end(m->gpu))
        berth_gpu_leave_from_end(m->gpu, m->gpu->cuda->cu.cuModuleUnload(m->handle));
    free(m);
}

/* More dynamic shared memory than a kernel may use without asking, on every GPU (CUDA C++ Programming Guide, "Technical
 * Specifications per Compute Capability"). */
enum { SHARED_WITHOUT_ASKING = 48 << 10 };

berth_status berth_gpu_kernel_find(berth_gpu_module *m, const char *name, int32_t shared_bytes, berth_gpu_kernel *out,
                                   berth_error *err)
{
    *out = (berth_gpu_kernel){NULL, name};
    const berth_cu_driver *cu = &m->gpu->cuda->cu;
    berth_status st = berth_gpu_enter(m->gpu, err);
    if (st != BERTH_OK) return st;
    berth_cu_function function = NULL;
    const char *call = "cuModuleGetFunction";
    berth_cu_result code = cu->cuModuleGetFunction(&function, m->handle, name);
    const bool is_absent = code == BERTH_CU_NOT_FOUND;
    if (code == BERTH_CU_SUCCESS && shared_bytes > SHARED_WITHOUT_ASKING) {
        call = "cuFuncSetAttribute";
        code = cu->cuFuncSetAttribute(function, BERTH_CU_FUNC_MAX_DYNAMIC_SHARED, shared_bytes);
    }
    st = berth_gpu_leave(m->gpu, code, call, err);
    if (is_absent && st == BERTH_DEVICE_ERROR) {
        BERTH_FAIL(err, BERTH_NOT_FOUND, "cuda:%d: the module has no kernel \"%s\"; it is of another build",
                   (int)m->gpu->slot->info.ordinal, name);
        return BERTH_NOT_FOUND;
    }
    if (st == BERTH_OK) out->function = function;
    return st;
}

static uint32_t at_least_one(uint32_t n)
{
    return n ? n : 1;
}

berth_status berth_gpu_launch(berth_gpu_stream *s, const berth_gpu_kernel *k, const berth_gpu_grid *grid, void **params,
                              berth_error *err)
{
    berth_status st = berth_gpu_enter(s->gpu, err);
    if (st != BERTH_OK) return st;
    const uint32_t *b = grid->blocks, *t = grid->threads;
    const berth_cu_result code = s->gpu->cuda->cu.cuLaunchKernel(
        k->function, at_least_one(b[0]), at_least_one(b[1]), at_least_one(b[2]), at_least_one(t[0]), at_least_one(t[1]),
        at_least_one(t[2]), grid->shared_bytes, s->handle, params, NULL);
    st = berth_gpu_leave(s->gpu, code, "cuLaunchKernel", err);
    if (st != BERTH_OK) berth_error_append(err, " (kernel %s)", k->name);
    return st;
}
