/* emu_units.c - see emu_unit_bytes in emu_image.h. In a file of its own because the emulated NVRTC has it too. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "emu_image.h"

/* Kernels differ by generations of tensor cores. */
static int generation_of(int architecture)
{
    return architecture >= 80 ? 80 : architecture >= 75 ? 75 : 70;
}

void *emu_unit_bytes(const char *name, int architecture, size_t *out_bytes)
{
    Dl_info here;
    char path[4096];
    static const char anchor; /* in this library, whichever it is */
    if (!dladdr(&anchor, &here) || !here.dli_fname) return NULL;
    const char *slash = strrchr(here.dli_fname, '/');
    const int folder = slash ? (int)(slash - here.dli_fname) : 1;
    snprintf(path, sizeof path, "%.*s/units/%d/%s.so", folder, slash ? here.dli_fname : ".",
             generation_of(architecture), name);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0) return NULL;
    char *bytes = fstat(fd, &info) == 0 ? malloc((size_t)info.st_size + 1) : NULL;
    if (bytes && read(fd, bytes, (size_t)info.st_size) != info.st_size) {
        free(bytes);
        bytes = NULL;
    }
    close(fd);
    if (bytes) *out_bytes = (size_t)info.st_size;
    return bytes;
}
