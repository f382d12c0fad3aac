/* nvrtc.c - see nvrtc.h. NVRTC 13 no longer compiles for GPUs before Turing, so what a library can do is asked of it. */
#include "cuda/nvrtc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/library.h"

static const char *const names_13[] = {"libnvrtc.so.13", NULL};
static const char *const names_12[] = {"libnvrtc.so.12", NULL};
static const berth_library libraries[] = {
    {.what = "NVRTC",
     .names = names_13,
     .advice = "install NVRTC 12 or 13 (pip: nvidia-cuda-nvrtc) and put it in LD_LIBRARY_PATH, or give the file's path",
     .old_advice = "install NVRTC 12 or 13"},
    {.what = "NVRTC",
     .names = names_12,
     .advice = "install NVRTC 12 (pip: nvidia-cuda-nvrtc-cu12) and put it in LD_LIBRARY_PATH, or give the file's path",
     .old_advice = "install NVRTC 12 or 13"},
};

#define SYMBOL(name, args) {#name, offsetof(berth_nvrtc, name)},
static const berth_symbol symbols[] = {{"nvrtcGetErrorString", offsetof(berth_nvrtc, nvrtcGetErrorString)},
                                       BERTH_NVRTC_FUNCTIONS(SYMBOL)};
#undef SYMBOL

static berth_status status_of(const berth_nvrtc *rtc, berth_nvrtc_result code, const char *call, berth_error *err)
{
    if (code == BERTH_NVRTC_SUCCESS) return BERTH_OK;
    const char *text = rtc->nvrtcGetErrorString(code);
    const berth_status status = code == BERTH_NVRTC_OUT_OF_MEMORY ? BERTH_OUT_OF_MEMORY : BERTH_DEVICE_ERROR;
    BERTH_FAIL(err, status, "%s failed: %s (%d)", call, text ? text : "no reason", (int)code);
    if (err) {
        err->native_code = code;
        err->native_api = "nvrtc";
    }
    return status;
}

enum { MAX_ARCHS = 256, CUDA_13 = 13000 };

static berth_status check_arch(const berth_nvrtc *rtc, int32_t capability, berth_error *err)
{
    int n = 0, archs[MAX_ARCHS];
    berth_status st = status_of(rtc, rtc->nvrtcGetNumSupportedArchs(&n), "nvrtcGetNumSupportedArchs", err);
    if (st != BERTH_OK) return st;
    if (n < 0 || n > MAX_ARCHS)
        return BERTH_FAIL(err, BERTH_DEVICE_ERROR, "NVRTC names %d architectures; it is damaged: replace it", n);
    st = status_of(rtc, rtc->nvrtcGetSupportedArchs(archs), "nvrtcGetSupportedArchs", err);
    for (int i = 0; i < n && st == BERTH_OK; i++) {
        if (archs[i] == capability) return BERTH_OK;
    }
    if (st != BERTH_OK) return st;
    return BERTH_FAIL(err, BERTH_UNSUPPORTED, "NVRTC %d.%d does not compile for sm_%d; %s", rtc->version / 1000,
                      rtc->version % 1000 / 10, (int)capability,
                      rtc->version >= CUDA_13 ? "install NVRTC 12 (pip: nvidia-cuda-nvrtc-cu12)"
                                              : "install a newer one (pip: nvidia-cuda-nvrtc)");
}

static berth_status try_open(berth_nvrtc *out, const berth_library *library, const char *path, int32_t capability,
                             berth_error *err)
{
    memset(out, 0, sizeof *out);
    int major = 0, minor = 0;
    berth_status st = berth_library_open(library, path, &out->handle, err);
    if (st == BERTH_OK)
        st = berth_library_bind(library, out->handle, symbols, sizeof symbols / sizeof symbols[0], out, err);
    if (st == BERTH_OK) st = status_of(out, out->nvrtcVersion(&major, &minor), "nvrtcVersion", err);
    out->version = major * 1000 + minor * 10;
    if (st == BERTH_OK) st = check_arch(out, capability, err);
    if (st != BERTH_OK) berth_nvrtc_close(out);
    return st;
}

berth_status berth_nvrtc_open(berth_nvrtc *out, const char *path, int driver_version, int32_t capability,
                              berth_error *err)
{
    if (path) return try_open(out, &libraries[0], path, capability, err);
    if (driver_version < CUDA_13) return try_open(out, &libraries[1], NULL, capability, err);
    berth_error of_12;
    berth_status st = try_open(out, &libraries[0], NULL, capability, err);
    if (st == BERTH_OK) return st;
    const berth_status st_12 = try_open(out, &libraries[1], NULL, capability, &of_12);
    if (st_12 == BERTH_OK) return BERTH_OK;
    if (st == BERTH_NOT_FOUND && st_12 != BERTH_NOT_FOUND) { /* one that is there and does not do says more */
        if (err) *err = of_12;
        st = st_12;
    }
    return st;
}

void berth_nvrtc_close(berth_nvrtc *rtc)
{
    berth_library_close(rtc->handle);
    memset(rtc, 0, sizeof *rtc);
}

static berth_status fail_compile(const berth_nvrtc *rtc, berth_nvrtc_program program, const char *name,
                                 berth_error *err)
{
    size_t bytes = 0;
    if (rtc->nvrtcGetProgramLogSize(program, &bytes) != BERTH_NVRTC_SUCCESS) bytes = 0;
    char *log = calloc(1, bytes + 1);
    if (log && bytes > 0 && rtc->nvrtcGetProgramLog(program, log) != BERTH_NVRTC_SUCCESS) log[0] = '\0';
    BERTH_FAIL(err, BERTH_INTERNAL, "%s does not compile with NVRTC %d.%d: %.600s", name, rtc->version / 1000,
               rtc->version % 1000 / 10, log ? log : "no memory for its log");
    free(log);
    return BERTH_INTERNAL;
}

static berth_status take_image(const berth_nvrtc *rtc, berth_nvrtc_program program, const char *name, berth_buffer *out,
                               berth_error *err)
{
    size_t bytes = 0;
    berth_status st = status_of(rtc, rtc->nvrtcGetCUBINSize(program, &bytes), "nvrtcGetCUBINSize", err);
    if (st != BERTH_OK) return st;
    char *image = malloc(bytes ? bytes : 1);
    if (!image) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the image of %s", name);
    st = status_of(rtc, rtc->nvrtcGetCUBIN(program, image), "nvrtcGetCUBIN", err);
    if (st == BERTH_OK && !berth_buffer_append(out, image, bytes))
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the image of %s", name);
    free(image);
    return st;
}

berth_status berth_nvrtc_compile(const berth_nvrtc *rtc, const char *source, const char *name, int32_t capability,
                                 berth_buffer *out, berth_error *err)
{
    char arch[32];
    snprintf(arch, sizeof arch, "--gpu-architecture=sm_%d", (int)capability);
    const char *const options[] = {arch, "--std=c++17"};
    berth_nvrtc_program program = NULL;
    berth_status st =
        status_of(rtc, rtc->nvrtcCreateProgram(&program, source, name, 0, NULL, NULL), "nvrtcCreateProgram", err);
    if (st != BERTH_OK) return st;
    const berth_nvrtc_result code = rtc->nvrtcCompileProgram(program, 2, options);
    st = code == BERTH_NVRTC_COMPILATION ? fail_compile(rtc, program, name, err)
                                         : status_of(rtc, code, "nvrtcCompileProgram", err);
    if (st == BERTH_OK) st = take_image(rtc, program, name, out, err);
    (void)rtc->nvrtcDestroyProgram(&program);
    return st;
}
