/* driver.c - see driver.h. What can be wrong with a driver is told apart here, so that each failure is one line that says
 * what to do; "CUDA error 803" says nothing to the person at the machine. */
#include "cuda/driver.h"

#include <string.h>

#include "cuda/library.h"

static const char *const driver_names[] = {"libcuda.so.1", NULL};
static const berth_library driver_library = {
    .what = "the CUDA driver",
    .names = driver_names,
    .advice = "install NVIDIA's driver R525 or newer (in a container: start it with the GPUs), or use cpu devices",
    .old_advice = "update NVIDIA's driver to R525 or newer",
};

#define SYMBOL(name, symbol, args) {symbol, offsetof(berth_cu_driver, name)},
static const berth_symbol driver_symbols[] = {BERTH_CU_FUNCTIONS(SYMBOL)};
#undef SYMBOL

bool berth_cu_is_sticky(berth_cu_result code)
{
    switch (code) {
    case BERTH_CU_DEVICE_UNAVAILABLE:
    case BERTH_CU_ECC_UNCORRECTABLE:
    case BERTH_CU_NVLINK_UNCORRECTABLE:
    case BERTH_CU_CONTAINED:
    case BERTH_CU_ILLEGAL_ADDRESS:
    case BERTH_CU_LAUNCH_TIMEOUT:
    case BERTH_CU_CONTEXT_IS_DESTROYED:
    case BERTH_CU_ASSERT:
    case BERTH_CU_HARDWARE_STACK_ERROR:
    case BERTH_CU_ILLEGAL_INSTRUCTION:
    case BERTH_CU_MISALIGNED_ADDRESS:
    case BERTH_CU_INVALID_ADDRESS_SPACE:
    case BERTH_CU_INVALID_PC:
    case BERTH_CU_LAUNCH_FAILED:
    case BERTH_CU_UNKNOWN: return true;
    default: return false;
    }
}

static const char *error_name(const berth_cu_driver *cu, berth_cu_result code)
{
    const char *name = NULL;
    if (cu->cuGetErrorName(code, &name) != BERTH_CU_SUCCESS || !name) return "an error this driver has no name for";
    return name;
}

static berth_status status_of(berth_cu_result code)
{
    if (code == BERTH_CU_OUT_OF_MEMORY) return BERTH_OUT_OF_MEMORY;
    return berth_cu_is_sticky(code) ? BERTH_DEVICE_LOST : BERTH_DEVICE_ERROR;
}

static void set_native(berth_error *err, berth_cu_result code, int32_t ordinal)
{
    if (!err) return;
    err->device = ordinal;
    err->native_code = code;
    err->native_api = "cuda";
}

berth_status berth_cu_status(const berth_cu_driver *cu, berth_cu_result code, const char *call, int32_t ordinal,
                             berth_error *err)
{
    if (code == BERTH_CU_SUCCESS) return BERTH_OK;
    const berth_status status = status_of(code);
    const char *what = status == BERTH_DEVICE_LOST     ? "; the GPU is lost to this process: restart it, and see dmesg"
                       : status == BERTH_OUT_OF_MEMORY ? "; close other users of this GPU (nvidia-smi) or plan for less"
                                                       : "";
    if (ordinal >= 0)
        BERTH_FAIL(err, status, "cuda:%d: %s failed: %s (%d)%s", (int)ordinal, call, error_name(cu, code), (int)code,
                   what);
    else
        BERTH_FAIL(err, status, "%s failed: %s (%d)%s", call, error_name(cu, code), (int)code, what);
    set_native(err, code, ordinal);
    return status;
}

/* Why cuInit failed and what helps; NULL: nothing is known beyond the code's name. */
static const char *init_advice(berth_cu_result code)
{
    switch (code) {
    case BERTH_CU_NO_DEVICE: return "it sees no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES";
    case BERTH_CU_STUB_LIBRARY: return "it is a toolkit's stub: take stubs/ out of LD_LIBRARY_PATH";
    case BERTH_CU_OUT_OF_MEMORY: return "a GPU or this computer has no memory left: close other programs";
    case BERTH_CU_DEVICE_UNAVAILABLE: return "a GPU is held by another process, or reset it: nvidia-smi";
    case BERTH_CU_SYSTEM_NOT_READY: return "start nvidia-fabricmanager, or wait until the system is up";
    case BERTH_CU_SYSTEM_DRIVER_MISMATCH: return "library and kernel module differ: reboot after the driver's update";
    case BERTH_CU_COMPAT_NOT_SUPPORTED_ON_DEVICE:
        return "this GPU cannot use a compatibility libcuda: use the driver's own";
    case BERTH_CU_UNKNOWN: return "load the kernel modules (nvidia-modprobe -u), and see dmesg";
    default: return NULL;
    }
}

static berth_status fail_init(const berth_cu_driver *cu, berth_cu_result code, berth_error *err)
{
    const char *advice = init_advice(code);
    const berth_status status = code == BERTH_CU_NO_DEVICE       ? BERTH_NOT_FOUND
                                : code == BERTH_CU_OUT_OF_MEMORY ? BERTH_OUT_OF_MEMORY
                                                                 : BERTH_DEVICE_ERROR;
    BERTH_FAIL(err, status, "the CUDA driver does not start: %s (%d); %s", error_name(cu, code), (int)code,
               advice ? advice : "see nvidia-smi and dmesg");
    set_native(err, code, -1);
    return status;
}

/* A driver too old would also lack functions; its version is the better message. */
static berth_status check_version(berth_cu_driver *cu, berth_error *err)
{
    const berth_symbol version = {"cuDriverGetVersion", offsetof(berth_cu_driver, cuDriverGetVersion)};
    berth_status st = berth_library_bind(&driver_library, cu->handle, &version, 1, cu, err);
    if (st != BERTH_OK) return st;
    const berth_cu_result code = cu->cuDriverGetVersion(&cu->version);
    if (code != BERTH_CU_SUCCESS) {
        BERTH_FAIL(err, BERTH_DEVICE_ERROR, "the CUDA driver does not tell its version: error %d; see nvidia-smi",
                   (int)code);
        set_native(err, code, -1);
        return BERTH_DEVICE_ERROR;
    }
    if (cu->version < BERTH_CU_MIN_VERSION)
        return BERTH_FAIL(err, BERTH_UNSUPPORTED,
                          "the CUDA driver serves CUDA %d.%d, and %d.%d is needed; update NVIDIA's driver to R525 or "
                          "newer",
                          cu->version / 1000, cu->version % 1000 / 10, BERTH_CU_MIN_VERSION / 1000,
                          BERTH_CU_MIN_VERSION % 1000 / 10);
    return BERTH_OK;
}

static berth_status start(berth_cu_driver *cu, berth_error *err)
{
    berth_status st = check_version(cu, err);
    if (st == BERTH_OK)
        st = berth_library_bind(&driver_library, cu->handle, driver_symbols,
                                sizeof driver_symbols / sizeof driver_symbols[0], cu, err);
    if (st != BERTH_OK) return st;
    berth_cu_result code = cu->cuInit(0);
    if (code != BERTH_CU_SUCCESS) return fail_init(cu, code, err);
    code = cu->cuDeviceGetCount(&cu->n_gpus);
    if (code == BERTH_CU_SUCCESS && cu->n_gpus < 1) code = BERTH_CU_NO_DEVICE;
    return code == BERTH_CU_SUCCESS ? BERTH_OK : fail_init(cu, code, err);
}

berth_status berth_cu_driver_open(berth_cu_driver *cu, const char *path, berth_error *err)
{
    memset(cu, 0, sizeof *cu);
    berth_status st = berth_library_open(&driver_library, path, &cu->handle, err);
    if (st == BERTH_OK) st = start(cu, err);
    if (st != BERTH_OK) berth_cu_driver_close(cu);
    return st;
}

void berth_cu_driver_close(berth_cu_driver *cu)
{
    berth_library_close(cu->handle);
    memset(cu, 0, sizeof *cu);
}
