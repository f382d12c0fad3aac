/* emu_nvrtc.c - an emulated libnvrtc.so: "compiles" the sources that berth carries, and nothing else, by giving
 * the host's object of the same unit, stamped for the architecture. EMU_NVRTC_MAJOR is 12 or 13; the minor version
 * is one that no real library has, so that what a cache keeps of the two is never mixed up. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/nvrtc.h"
#include "emu_entry.h"
#include "emu_image.h"
#include "kernels/cuda/units.h"

enum { MINOR = 99, INVALID_INPUT = 3, INVALID_PROGRAM = 4, UNKNOWN = 999 };

struct berth_nvrtc_program_st {
    char *source;
    char name[64];
    char log[400];
    char *image; /* NULL: not compiled */
    size_t image_bytes;
    struct berth_nvrtc_program_st *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static berth_nvrtc_program programs; /* all that live */

static const int archs[] = {
#if EMU_NVRTC_MAJOR < 13
    50, 52, 53, 60, 61, 62, 70,  72,
#endif
    75, 80, 86, 87, 89, 90, 100, 120};

EMU_API int nvrtcVersion(int *major, int *minor)
{
    *major = EMU_NVRTC_MAJOR;
    *minor = MINOR;
    return BERTH_NVRTC_SUCCESS;
}

EMU_API int nvrtcGetNumSupportedArchs(int *n)
{
    *n = sizeof archs / sizeof archs[0];
    return BERTH_NVRTC_SUCCESS;
}

EMU_API int nvrtcGetSupportedArchs(int *out)
{
    memcpy(out, archs, sizeof archs);
    return BERTH_NVRTC_SUCCESS;
}

EMU_API const char *nvrtcGetErrorString(int code)
{
    switch (code) {
    case BERTH_NVRTC_SUCCESS: return "NVRTC_SUCCESS";
    case BERTH_NVRTC_OUT_OF_MEMORY: return "NVRTC_ERROR_OUT_OF_MEMORY";
    case INVALID_INPUT: return "NVRTC_ERROR_INVALID_INPUT";
    case INVALID_PROGRAM: return "NVRTC_ERROR_INVALID_PROGRAM";
    case BERTH_NVRTC_INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
    case BERTH_NVRTC_COMPILATION: return "NVRTC_ERROR_COMPILATION";
    default: return "NVRTC_ERROR unknown";
    }
}

EMU_API int nvrtcCreateProgram(berth_nvrtc_program *out, const char *source, const char *name, int n_headers,
                               const char *const *headers, const char *const *header_names)
{
    (void)headers;
    (void)header_names;
    *out = NULL;
    if (!source || n_headers != 0) return INVALID_INPUT; /* berth gives none */
    berth_nvrtc_program p = calloc(1, sizeof *p);
    if (p) p->source = strdup(source);
    if (!p || !p->source) {
        free(p);
        return BERTH_NVRTC_OUT_OF_MEMORY;
    }
    snprintf(p->name, sizeof p->name, "%s", name ? name : "default_program");
    pthread_mutex_lock(&lock);
    p->next = programs;
    programs = p;
    pthread_mutex_unlock(&lock);
    *out = p;
    return BERTH_NVRTC_SUCCESS;
}

static bool lives(const struct berth_nvrtc_program_st *p)
{
    pthread_mutex_lock(&lock);
    const struct berth_nvrtc_program_st *at = programs;
    while (at && at != p) at = at->next;
    pthread_mutex_unlock(&lock);
    if (!at) fprintf(stderr, "emulated NVRTC: a call on a program that is not there\n");
    return at;
}

EMU_API int nvrtcDestroyProgram(berth_nvrtc_program *p)
{
    if (!p || !lives(*p)) return INVALID_PROGRAM;
    pthread_mutex_lock(&lock);
    berth_nvrtc_program *at = &programs;
    while (*at != *p) at = &(*at)->next;
    *at = (*p)->next;
    pthread_mutex_unlock(&lock);
    free((*p)->source);
    free((*p)->image);
    free(*p);
    *p = NULL;
    return BERTH_NVRTC_SUCCESS;
}

/* The architecture that the options name; 0: they are not what is known here. */
static int arch_of(berth_nvrtc_program p, int n_options, const char *const *options)
{
    int arch = 0;
    for (int i = 0; i < n_options; i++) {
        char rest;
        if (sscanf(options[i], "--gpu-architecture=sm_%d%c", &arch, &rest) == 1) continue;
        if (strcmp(options[i], "--std=c++17") == 0) continue;
        snprintf(p->log, sizeof p->log, "nvrtc: error: unrecognized option %s found\n", options[i]);
        return 0;
    }
    for (size_t i = 0; i < sizeof archs / sizeof archs[0]; i++)
        if (archs[i] == arch) return arch;
    snprintf(p->log, sizeof p->log, "nvrtc: error: invalid value for --gpu-architecture (-arch)\n");
    return 0;
}

static bool stamp(char *image, size_t bytes, int arch)
{
    emu_image_stamp *found = NULL;
    const char mark[16] = EMU_IMAGE_MARK;
    for (size_t at = 0; at + sizeof *found <= bytes; at++) {
        if (memcmp(image + at, mark, sizeof mark) != 0) continue;
        const int32_t capability = arch;
        memcpy(image + at + offsetof(emu_image_stamp, capability), &capability, sizeof capability);
        return true;
    }
    return false;
}

EMU_API int nvrtcCompileProgram(berth_nvrtc_program p, int n_options, const char *const *options)
{
    if (!lives(p)) return INVALID_PROGRAM;
    const int arch = arch_of(p, n_options, options);
    if (!arch) return BERTH_NVRTC_INVALID_OPTION;
    for (int32_t i = 0; i < berth_cuda_embedded.n_units; i++) {
        const berth_cuda_unit *u = &berth_cuda_embedded.units[i];
        if (strcmp(u->source, p->source) != 0) continue;
        free(p->image);
        p->image = emu_unit_bytes(u->name, arch, &p->image_bytes);
        if (p->image && stamp(p->image, p->image_bytes, arch)) return BERTH_NVRTC_SUCCESS;
        snprintf(p->log, sizeof p->log, "%s: the host's object of it is not there\n", p->name);
        return BERTH_NVRTC_COMPILATION;
    }
    snprintf(p->log, sizeof p->log, "%s(1): error: this is no source of the build that the emulator is of\n", p->name);
    return BERTH_NVRTC_COMPILATION;
}

EMU_API int nvrtcGetCUBINSize(berth_nvrtc_program p, size_t *bytes)
{
    if (!lives(p) || !p->image) return INVALID_PROGRAM;
    *bytes = p->image_bytes;
    return BERTH_NVRTC_SUCCESS;
}

EMU_API int nvrtcGetCUBIN(berth_nvrtc_program p, char *out)
{
    if (!lives(p) || !p->image) return INVALID_PROGRAM;
    memcpy(out, p->image, p->image_bytes);
    return BERTH_NVRTC_SUCCESS;
}

EMU_API int nvrtcGetProgramLogSize(berth_nvrtc_program p, size_t *bytes)
{
    if (!lives(p)) return INVALID_PROGRAM;
    *bytes = strlen(p->log) + 1;
    return BERTH_NVRTC_SUCCESS;
}

EMU_API int nvrtcGetProgramLog(berth_nvrtc_program p, char *log)
{
    if (!lives(p)) return INVALID_PROGRAM;
    strcpy(log, p->log);
    return BERTH_NVRTC_SUCCESS;
}

__attribute__((destructor)) static void at_end(void)
{
    if (!programs) return;
    fprintf(stderr, "emulated NVRTC: a program was not destroyed\n");
    abort();
}
