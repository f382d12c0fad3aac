/* open.c - the driver, and what each GPU is. No context is made here: looking costs no memory on a GPU. */
#include <stdlib.h>
#include <string.h>

#include "cuda/device_internal.h"

static berth_status read_attributes(const berth_cu_driver *cu, berth_gpu_slot *slot, berth_error *err)
{
    int major = 0, minor = 0, mode = 0, multiprocessors = 0, engines = 0, shared = 0, unified = 0;
    const struct {
        int attribute;
        int *value;
    } wanted[] = {{BERTH_CU_ATTR_CAPABILITY_MAJOR, &major},     {BERTH_CU_ATTR_CAPABILITY_MINOR, &minor},
                  {BERTH_CU_ATTR_COMPUTE_MODE, &mode},          {BERTH_CU_ATTR_MULTIPROCESSOR_COUNT, &multiprocessors},
                  {BERTH_CU_ATTR_ASYNC_ENGINE_COUNT, &engines}, {BERTH_CU_ATTR_MAX_SHARED_OPTIN, &shared},
                  {BERTH_CU_ATTR_UNIFIED_ADDRESSING, &unified}};
    berth_cu_result code = BERTH_CU_SUCCESS;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0] && code == BERTH_CU_SUCCESS; i++)
        code = cu->cuDeviceGetAttribute(wanted[i].value, wanted[i].attribute, slot->device);
    berth_gpu_info *info = &slot->info;
    if (code != BERTH_CU_SUCCESS) return berth_cu_status(cu, code, "cuDeviceGetAttribute", info->ordinal, err);
    if (!unified)
        return BERTH_FAIL(err, BERTH_UNSUPPORTED,
                          "cuda:%d (%s) has no unified addressing; leave it out with "
                          "CUDA_VISIBLE_DEVICES",
                          (int)info->ordinal, info->name);
    info->capability = major * 10 + minor;
    info->n_multiprocessors = multiprocessors;
    info->n_copy_engines = engines;
    info->max_shared_bytes = shared;
    info->mode = mode == BERTH_CU_COMPUTE_PROHIBITED          ? BERTH_GPU_PROHIBITED
                 : mode == BERTH_CU_COMPUTE_EXCLUSIVE_PROCESS ? BERTH_GPU_EXCLUSIVE
                                                              : BERTH_GPU_SHARED;
    return BERTH_OK;
}

static berth_status read_gpu(const berth_cu_driver *cu, int32_t ordinal, berth_gpu_slot *slot, berth_error *err)
{
    berth_gpu_info *info = &slot->info;
    info->ordinal = ordinal;
    size_t bytes = 0;
    berth_cu_uuid uuid = {{0}};
    const char *call = "cuDeviceGet";
    berth_cu_result code = cu->cuDeviceGet(&slot->device, ordinal);
    if (code == BERTH_CU_SUCCESS) {
        call = "cuDeviceGetName";
        code = cu->cuDeviceGetName(info->name, sizeof info->name, slot->device);
    }
    if (code == BERTH_CU_SUCCESS) {
        call = "cuDeviceTotalMem";
        code = cu->cuDeviceTotalMem(&bytes, slot->device);
    }
    if (code == BERTH_CU_SUCCESS) {
        call = "cuDeviceGetUuid";
        code = cu->cuDeviceGetUuid(&uuid, slot->device);
    }
    if (code == BERTH_CU_SUCCESS) {
        call = "cuDeviceGetPCIBusId";
        code = cu->cuDeviceGetPCIBusId(info->pci, sizeof info->pci, slot->device);
    }
    if (code != BERTH_CU_SUCCESS) return berth_cu_status(cu, code, call, ordinal, err);
    info->memory_bytes = bytes;
    memcpy(info->uuid, uuid.bytes, sizeof info->uuid);
    return read_attributes(cu, slot, err);
}

static berth_status read_peers(berth_cuda *cuda, berth_error *err)
{
    const int32_t n = cuda->cu.n_gpus;
    for (int32_t from = 0; from < n; from++) {
        for (int32_t to = 0; to < n; to++) {
            int can = 0;
            if (from == to) continue;
            const berth_cu_result code =
                cuda->cu.cuDeviceCanAccessPeer(&can, cuda->slots[from].device, cuda->slots[to].device);
            if (code != BERTH_CU_SUCCESS) return berth_cu_status(&cuda->cu, code, "cuDeviceCanAccessPeer", from, err);
            cuda->peer[(size_t)from * (size_t)n + (size_t)to] = can != 0;
        }
    }
    return BERTH_OK;
}

static berth_status read_gpus(berth_cuda *cuda, berth_error *err)
{
    const size_t n = (size_t)cuda->cu.n_gpus;
    cuda->slots = calloc(n, sizeof *cuda->slots);
    cuda->peer = calloc(n, n * sizeof *cuda->peer);
    if (!cuda->slots || !cuda->peer) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the list of GPUs");
    berth_status st = BERTH_OK;
    for (size_t i = 0; i < n && st == BERTH_OK; i++) st = read_gpu(&cuda->cu, (int32_t)i, &cuda->slots[i], err);
    return st == BERTH_OK ? read_peers(cuda, err) : st;
}

berth_status berth_cuda_open(const char *path, berth_cuda **out, berth_error *err)
{
    *out = NULL;
    berth_cuda *cuda = calloc(1, sizeof *cuda);
    if (!cuda) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the CUDA driver's table");
    berth_status st = berth_cu_driver_open(&cuda->cu, path, err);
    if (st == BERTH_OK) st = read_gpus(cuda, err);
    if (st != BERTH_OK) {
        berth_cuda_close(cuda);
        return st;
    }
    *out = cuda;
    return BERTH_OK;
}

void berth_cuda_close(berth_cuda *cuda)
{
    if (!cuda) return;
    berth_cu_driver_close(&cuda->cu);
    free(cuda->slots);
    free(cuda->peer);
    free(cuda);
}

int32_t berth_cuda_version(const berth_cuda *cuda)
{
    return cuda->cu.version;
}

int32_t berth_cuda_n_gpus(const berth_cuda *cuda)
{
    return cuda->cu.n_gpus;
}

const berth_gpu_info *berth_cuda_gpu(const berth_cuda *cuda, int32_t ordinal)
{
    return &cuda->slots[ordinal].info;
}

bool berth_cuda_has_peer(const berth_cuda *cuda, int32_t from, int32_t to)
{
    return cuda->peer[(size_t)from * (size_t)cuda->cu.n_gpus + (size_t)to];
}
