/* libraries.c - see libraries.h. */
#include "cuda/libraries.h"

#include <stdio.h>

#include "cuda/cublas.h"
#include "cuda/library.h"
#include "cuda/nccl.h"
#include "cuda/nvrtc.h"

/* cublasGetVersion wants a handle, and so a GPU; this one does not (cuBLAS reference, cublasGetProperty). */
typedef struct property_table {
    berth_cublas_result (*get)(int property, int *value);
} property_table;

static void cublas_version(void *handle, char *out, size_t n)
{
    static const berth_library what = {.what = "cuBLAS", .old_advice = ""};
    const berth_symbol symbol = {"cublasGetProperty", offsetof(property_table, get)};
    property_table table = {0};
    int numbers[3]; /* MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL of library_types.h are 0, 1, 2 */
    if (berth_library_bind(&what, handle, &symbol, 1, &table, NULL) != BERTH_OK) return;
    for (int i = 0; i < 3; i++)
        if (table.get(i, &numbers[i]) != BERTH_CUBLAS_SUCCESS) return;
    snprintf(out, n, "%d.%d.%d", numbers[0], numbers[1], numbers[2]);
}

static void find_cublas(int driver, int32_t capability, berth_cuda_library *out)
{
    berth_cublas blas;
    if (berth_cublas_open(&blas, NULL, driver, capability, &out->why) != BERTH_OK) return;
    cublas_version(blas.handle, out->version, sizeof out->version);
    berth_cublas_close(&blas);
}

static void find_nccl(berth_cuda_library *out)
{
    berth_nccl nccl;
    if (berth_nccl_open(&nccl, NULL, &out->why) != BERTH_OK) return;
    snprintf(out->version, sizeof out->version, "%d.%d.%d", nccl.version / 10000, nccl.version / 100 % 100,
             nccl.version % 100);
    berth_nccl_close(&nccl);
}

static void find_nvrtc(int driver, int32_t capability, berth_cuda_library *out)
{
    berth_nvrtc rtc;
    if (berth_nvrtc_open(&rtc, NULL, driver, capability, &out->why) != BERTH_OK) return;
    snprintf(out->version, sizeof out->version, "%d.%d", rtc.version / 1000, rtc.version % 1000 / 10);
    berth_nvrtc_close(&rtc);
}

void berth_cuda_find_libraries(const berth_cuda *cuda, berth_cuda_libraries *out)
{
    const int driver = berth_cuda_version(cuda);
    int32_t oldest = berth_cuda_gpu(cuda, 0)->capability;
    for (int32_t i = 1; i < berth_cuda_n_gpus(cuda); i++) {
        const int32_t capability = berth_cuda_gpu(cuda, i)->capability;
        if (capability < oldest) oldest = capability;
    }
    *out = (berth_cuda_libraries){0};
    find_cublas(driver, oldest, &out->cublas);
    find_nccl(&out->nccl);
    find_nvrtc(driver, oldest, &out->nvrtc);
}
