/* gpu.c - a logical device: its context, its arena, and how calls come to the driver.
 *
 * Every call pushes the GPU's context and pops it again (some ten nanoseconds): a forgotten current device is the
 * classic mistake of programs with several GPUs, and a host program's own context must be found again. */
#include <stdlib.h>

#include "base/checked.h"
#include "cuda/device_internal.h"

static berth_status fail_lost(const berth_gpu *gpu, berth_error *err)
{
    const int32_t ordinal = gpu->slot->info.ordinal;
    const berth_cu_result code = atomic_load(&gpu->slot->lost);
    BERTH_FAIL(err, BERTH_DEVICE_LOST, "cuda:%d was lost by an earlier error (%d); restart the process to use it again",
               (int)ordinal, (int)code);
    if (err) {
        err->device = ordinal;
        err->native_code = code;
        err->native_api = "cuda";
    }
    return BERTH_DEVICE_LOST;
}

static void note(berth_gpu *gpu, berth_cu_result code)
{
    berth_cu_result none = BERTH_CU_SUCCESS;
    if (berth_cu_is_sticky(code)) atomic_compare_exchange_strong(&gpu->slot->lost, &none, code);
}

berth_status berth_gpu_enter(berth_gpu *gpu, berth_error *err)
{
    if (atomic_load_explicit(&gpu->slot->lost, memory_order_relaxed) != BERTH_CU_SUCCESS) return fail_lost(gpu, err);
    const berth_cu_driver *cu = &gpu->cuda->cu;
    const berth_cu_result code = cu->cuCtxPushCurrent(gpu->context);
    note(gpu, code);
    return berth_cu_status(cu, code, "cuCtxPushCurrent", gpu->slot->info.ordinal, err);
}

berth_status berth_gpu_leave(berth_gpu *gpu, berth_cu_result code, const char *call, berth_error *err)
{
    const berth_cu_driver *cu = &gpu->cuda->cu;
    berth_cu_context popped;
    const berth_cu_result pop = cu->cuCtxPopCurrent(&popped);
    note(gpu, code);
    note(gpu, pop);
    if (code != BERTH_CU_SUCCESS) return berth_cu_status(cu, code, call, gpu->slot->info.ordinal, err);
    return berth_cu_status(cu, pop, "cuCtxPopCurrent", gpu->slot->info.ordinal, err);
}

bool berth_gpu_enter_to_end(berth_gpu *gpu)
{
    const berth_cu_driver *cu = &gpu->cuda->cu;
    bool is_in = cu->cuCtxPushCurrent(gpu->context) == BERTH_CU_SUCCESS;
    if (!is_in) is_in = cu->cuCtxPushCurrent(gpu->context) == BERTH_CU_SUCCESS;
    return is_in;
}

void berth_gpu_leave_from_end(berth_gpu *gpu, berth_cu_result code)
{
    berth_cu_context popped;
    note(gpu, code);
    note(gpu, gpu->cuda->cu.cuCtxPopCurrent(&popped));
}

static berth_status fail_mode(const berth_gpu_info *info, berth_cu_result code, berth_error *err)
{
    const char *advice =
        info->mode == BERTH_GPU_PROHIBITED ? "its compute mode is \"prohibited\": nvidia-smi -c 0, or use another GPU"
        : info->mode == BERTH_GPU_EXCLUSIVE
            ? "its compute mode is \"exclusive\" and another process has it: end that, or nvidia-smi -c 0"
            : "another process holds it, or it needs a reset: see nvidia-smi";
    BERTH_FAIL(err, BERTH_DEVICE_ERROR, "cuda:%d (%s) cannot be used: %s", (int)info->ordinal, info->name, advice);
    if (err) {
        err->device = info->ordinal;
        err->native_code = code;
        err->native_api = "cuda";
    }
    return BERTH_DEVICE_ERROR;
}

static berth_status retain(berth_gpu *gpu, berth_error *err)
{
    const berth_gpu_info *info = &gpu->slot->info;
    const berth_cu_driver *cu = &gpu->cuda->cu;
    if (berth_gpu_is_lost(gpu)) return fail_lost(gpu, err);
    if (info->mode == BERTH_GPU_PROHIBITED) return fail_mode(info, BERTH_CU_DEVICE_UNAVAILABLE, err);
    const berth_cu_result code = cu->cuDevicePrimaryCtxRetain(&gpu->context, gpu->slot->device);
    if (code == BERTH_CU_SUCCESS) return BERTH_OK;
    gpu->context = NULL;
    if (code == BERTH_CU_DEVICE_UNAVAILABLE) return fail_mode(info, code, err);
    note(gpu, code);
    return berth_cu_status(cu, code, "cuDevicePrimaryCtxRetain", info->ordinal, err);
}

static berth_status allocate(berth_gpu *gpu, size_t bytes, berth_error *err)
{
    const berth_cu_driver *cu = &gpu->cuda->cu;
    const int32_t ordinal = gpu->slot->info.ordinal;
    if (bytes == 0) return BERTH_OK;
    berth_status st = berth_gpu_enter(gpu, err);
    if (st != BERTH_OK) return st;
    size_t free_bytes = 0, total = 0;
    const berth_cu_result info = cu->cuMemGetInfo(&free_bytes, &total);
    berth_cu_result code = info;
    if (code == BERTH_CU_SUCCESS) code = cu->cuMemAlloc(&gpu->arena, bytes);
    const bool missing = info == BERTH_CU_SUCCESS && code == BERTH_CU_OUT_OF_MEMORY;
    if (code != BERTH_CU_SUCCESS) gpu->arena = 0;
    st = berth_gpu_leave(gpu, code, info == BERTH_CU_SUCCESS ? "cuMemAlloc" : "cuMemGetInfo", err);
    if (st == BERTH_OK) gpu->arena_bytes = bytes;
    if (st != BERTH_OUT_OF_MEMORY || !missing) return st;
    BERTH_FAIL(
        err, BERTH_DOES_NOT_FIT,
        "cuda:%d: %zu bytes were planned, %zu of %zu are free; close other users of this GPU (nvidia-smi), give it "
        "less (/mem=), or use more devices",
        (int)ordinal, bytes, free_bytes, total);
    if (err) {
        err->device = ordinal;
        err->native_code = code;
        err->native_api = "cuda";
    }
    return BERTH_DOES_NOT_FIT;
}

berth_status berth_gpu_open(berth_cuda *cuda, int32_t ordinal, size_t arena_bytes, berth_gpu **out, berth_error *err)
{
    *out = NULL;
    if (ordinal < 0 || ordinal >= cuda->cu.n_gpus)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "cuda:%d was asked for, and there are %d GPUs (cuda:0 to cuda:%d)", (int)ordinal,
                          cuda->cu.n_gpus, cuda->cu.n_gpus - 1);
    berth_gpu *gpu = calloc(1, sizeof *gpu);
    if (!gpu) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for cuda:%d", (int)ordinal);
    gpu->cuda = cuda;
    gpu->slot = &cuda->slots[ordinal];
    berth_status st = retain(gpu, err);
    if (st == BERTH_OK) st = allocate(gpu, arena_bytes, err);
    if (st != BERTH_OK) {
        berth_gpu_close(gpu);
        return st;
    }
    *out = gpu;
    return BERTH_OK;
}

void berth_gpu_close(berth_gpu *gpu)
{
    if (!gpu) return;
    const berth_cu_driver *cu = &gpu->cuda->cu;
    if (gpu->arena && berth_gpu_enter_to_end(gpu)) berth_gpu_leave_from_end(gpu, cu->cuMemFree(gpu->arena));
    if (gpu->context) note(gpu, cu->cuDevicePrimaryCtxRelease(gpu->slot->device));
    free(gpu);
}

const berth_gpu_info *berth_gpu_about(const berth_gpu *gpu)
{
    return &gpu->slot->info;
}

bool berth_gpu_is_lost(const berth_gpu *gpu)
{
    return atomic_load(&gpu->slot->lost) != BERTH_CU_SUCCESS;
}

berth_status berth_gpu_memory(berth_gpu *gpu, uint64_t *out_free, uint64_t *out_total, berth_error *err)
{
    size_t free_bytes = 0, total = 0;
    berth_status st = berth_gpu_enter(gpu, err);
    if (st != BERTH_OK) return st;
    st = berth_gpu_leave(gpu, gpu->cuda->cu.cuMemGetInfo(&free_bytes, &total), "cuMemGetInfo", err);
    *out_free = free_bytes;
    *out_total = total;
    return st;
}

berth_status berth_gpu_take(berth_gpu *gpu, size_t bytes, berth_gpu_ptr *out, berth_error *err)
{
    size_t end;
    if (!berth_add_size(gpu->arena_used, bytes, &end) || end > gpu->arena_bytes)
        return BERTH_FAIL(err, BERTH_INTERNAL,
                          "cuda:%d: %zu more bytes of the arena were asked for, %zu of %zu are left",
                          (int)gpu->slot->info.ordinal, bytes, gpu->arena_bytes - gpu->arena_used, gpu->arena_bytes);
    *out = gpu->arena + gpu->arena_used;
    if (!berth_round_up(end, BERTH_GPU_ALIGN, &end) || end > gpu->arena_bytes) end = gpu->arena_bytes;
    gpu->arena_used = end;
    return BERTH_OK;
}

berth_status berth_gpu_reach(berth_gpu *gpu, const berth_gpu *peer, berth_error *err)
{
    const int32_t from = gpu->slot->info.ordinal, to = peer->slot->info.ordinal;
    if (from == to) return BERTH_OK;
    if (!berth_cuda_has_peer(gpu->cuda, from, to))
        return BERTH_FAIL(err, BERTH_UNSUPPORTED,
                          "cuda:%d cannot reach the memory of cuda:%d; use the staged transport", (int)from, (int)to);
    berth_status st = berth_gpu_enter(gpu, err);
    if (st != BERTH_OK) return st;
    berth_cu_result code = gpu->cuda->cu.cuCtxEnablePeerAccess(peer->context, 0);
    if (code == BERTH_CU_PEER_ACCESS_ALREADY_ENABLED) code = BERTH_CU_SUCCESS;
    return berth_gpu_leave(gpu, code, "cuCtxEnablePeerAccess", err);
}
