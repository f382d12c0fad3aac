/* cublas.c - see cublas.h. */
#include "cuda/cublas.h"

#include <string.h>

#include "cuda/library.h"

#define SYMBOL(name, symbol, args) {symbol, offsetof(berth_cublas, name)},
static const berth_symbol symbols[] = {BERTH_CUBLAS_FUNCTIONS(SYMBOL)};
#undef SYMBOL

/* CUDA 13's libraries have no code for GPUs before Turing, and need its driver (CUDA 13.0 release notes). */
enum { CUDA_13 = 13000, TURING = 75 };

static const char *const names_13[] = {"libcublas.so.13", "libcublas.so.12", NULL};
static const char *const names_12[] = {"libcublas.so.12", NULL};

berth_status berth_cublas_open(berth_cublas *out, const char *path, int driver_version, int32_t capability,
                               berth_error *err)
{
    memset(out, 0, sizeof *out);
    const bool takes_13 = driver_version >= CUDA_13 && capability >= TURING;
    const berth_library library = {
        .what = "cuBLAS",
        .names = takes_13 ? names_13 : names_12,
        .advice = takes_13
                      ? "install the CUDA 13 or 12 runtime libraries (pip: nvidia-cublas) and put them in "
                        "LD_LIBRARY_PATH, or give the file's path"
                      : "install the CUDA 12 runtime libraries (pip: nvidia-cublas-cu12), which this driver and GPU "
                        "need, and put them in LD_LIBRARY_PATH, or give the file's path",
        .old_advice = "install cuBLAS 12 or 13",
    };
    berth_status st = berth_library_open(&library, path, &out->handle, err);
    if (st == BERTH_OK)
        st = berth_library_bind(&library, out->handle, symbols, sizeof symbols / sizeof symbols[0], out, err);
    if (st != BERTH_OK) berth_cublas_close(out);
    return st;
}

void berth_cublas_close(berth_cublas *blas)
{
    berth_library_close(blas->handle);
    memset(blas, 0, sizeof *blas);
}

static const char *name_of(berth_cublas_result code)
{
    switch (code) {
    case BERTH_CUBLAS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case BERTH_CUBLAS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case BERTH_CUBLAS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case BERTH_CUBLAS_ARCH_MISMATCH: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case BERTH_CUBLAS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case BERTH_CUBLAS_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
    case BERTH_CUBLAS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "an error without a name";
    }
}

berth_status berth_cublas_status(berth_cublas_result code, const char *call, int32_t ordinal, berth_error *err)
{
    if (code == BERTH_CUBLAS_SUCCESS) return BERTH_OK;
    const berth_status status = code == BERTH_CUBLAS_ALLOC_FAILED ? BERTH_OUT_OF_MEMORY : BERTH_DEVICE_ERROR;
    BERTH_FAIL(err, status, "cuda:%d: %s failed: %s (%d)", (int)ordinal, call, name_of(code), (int)code);
    if (err) {
        err->device = ordinal;
        err->native_code = code;
        err->native_api = "cublas";
    }
    return status;
}
