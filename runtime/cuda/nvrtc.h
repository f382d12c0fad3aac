/* nvrtc.h - compiling CUDA C at run time with whichever libnvrtc is there, for GPUs that this build has no image for.
 *
 * Names and values are those of the NVRTC reference (docs.nvidia.com, "NVRTC"); libraries_abi_test.c compares them with the
 * header where a toolkit is installed. */
#ifndef BERTH_CUDA_NVRTC_H
#define BERTH_CUDA_NVRTC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/status.h"

typedef int32_t berth_nvrtc_result; /* nvrtcResult */
typedef struct berth_nvrtc_program_st *berth_nvrtc_program;

enum {
    BERTH_NVRTC_SUCCESS = 0,
    BERTH_NVRTC_OUT_OF_MEMORY = 1,
    BERTH_NVRTC_INVALID_OPTION = 5,
    BERTH_NVRTC_COMPILATION = 6
};

/* X(name, arguments): each returns an nvrtcResult. */
#define BERTH_NVRTC_FUNCTIONS(X)                                                                                       \
    X(nvrtcVersion, (int *major, int *minor))                                                                          \
    X(nvrtcGetNumSupportedArchs, (int *n))                                                                             \
    X(nvrtcGetSupportedArchs, (int *archs))                                                                            \
    X(nvrtcCreateProgram, (berth_nvrtc_program * program, const char *source, const char *name, int n_headers,         \
                           const char *const *headers, const char *const *header_names))                               \
    X(nvrtcDestroyProgram, (berth_nvrtc_program * program))                                                            \
    X(nvrtcCompileProgram, (berth_nvrtc_program program, int n_options, const char *const *options))                   \
    X(nvrtcGetCUBINSize, (berth_nvrtc_program program, size_t * bytes))                                                \
    X(nvrtcGetCUBIN, (berth_nvrtc_program program, char *cubin))                                                       \
    X(nvrtcGetProgramLogSize, (berth_nvrtc_program program, size_t * bytes))                                           \
    X(nvrtcGetProgramLog, (berth_nvrtc_program program, char *log))

#define BERTH_NVRTC_POINTER(name, args) berth_nvrtc_result(*name) args;
typedef struct berth_nvrtc {
    void *handle;
    int version; /* 12090 = 12.9 */
    const char *(*nvrtcGetErrorString)(berth_nvrtc_result code);
    BERTH_NVRTC_FUNCTIONS(BERTH_NVRTC_POINTER)
} berth_nvrtc;
#undef BERTH_NVRTC_POINTER

/* Opens `path`, or (NULL) libnvrtc.so.13 (only for a driver of CUDA 13: images of a newer major version do not load) and
 * .12 in turn, the first that compiles for `capability` (70 = 7.0). On failure *out is {0}. Errors, each with what to do:
 * BERTH_NOT_FOUND (none), BERTH_UNSUPPORTED (none for this GPU, a function is missing), BERTH_DEVICE_ERROR. */
berth_status berth_nvrtc_open(berth_nvrtc *out, const char *path, int driver_version, int32_t capability,
                              berth_error *err);
void berth_nvrtc_close(berth_nvrtc *rtc);

/* Compiles `source` (NUL-terminated, `name` for messages) for one GPU and appends the image to `out`. Errors:
 * BERTH_INTERNAL with the first lines of the compiler's log, BERTH_OUT_OF_MEMORY, BERTH_DEVICE_ERROR. */
berth_status berth_nvrtc_compile(const berth_nvrtc *rtc, const char *source, const char *name, int32_t capability,
                                 berth_buffer *out, berth_error *err);

#endif
