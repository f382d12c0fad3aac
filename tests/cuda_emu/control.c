/* control.c - see control.h. */
#include "control.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const fault_code fault_codes[N_FAULT_CODES] = {
    {1, BERTH_DEVICE_ERROR},  {2, BERTH_OUT_OF_MEMORY}, {46, BERTH_DEVICE_LOST}, {214, BERTH_DEVICE_LOST},
    {700, BERTH_DEVICE_LOST}, {719, BERTH_DEVICE_LOST}, {999, BERTH_DEVICE_LOST}};

void emu_control_open(emu_control *c)
{
    c->opened = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    void *report = c->opened ? dlsym(c->opened, "emu_get_report") : NULL;
    void *reset = c->opened ? dlsym(c->opened, "emu_reset") : NULL;
    void *fail_after = c->opened ? dlsym(c->opened, "emu_fail_after") : NULL;
    if (!report || !reset || !fail_after) {
        fprintf(stderr, "no emulated libcuda.so.1 in LD_LIBRARY_PATH: %s\n", dlerror());
        exit(1);
    }
    memcpy(&c->report, &report, sizeof report);
    memcpy(&c->reset, &reset, sizeof reset);
    memcpy(&c->fail_after, &fail_after, sizeof fail_after);
}

void emu_control_close(emu_control *c)
{
    dlclose(c->opened);
}

emu_report emu_control_tidy(const emu_control *c, const char *what)
{
    emu_report r;
    c->report(&r);
    if (r.misuses) fail_msg("%s: %d misuses, the last: %s", what, (int)r.misuses, r.misuse);
    if (r.contexts + r.allocations + r.pinned + r.streams + r.events + r.modules + r.graphs + r.handles)
        fail_msg(
            "%s left %d contexts, %d allocations, %d pinned, %d streams, %d events, %d modules, %d graphs, %d objects "
            "of libraries",
            what, (int)r.contexts, (int)r.allocations, (int)r.pinned, (int)r.streams, (int)r.events, (int)r.modules,
            (int)r.graphs, (int)r.handles);
    return r;
}

void *read_image(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0) goto fail;
    const long size = ftell(f);
    void *image = size > 0 ? malloc((size_t)size) : NULL;
    rewind(f);
    if (!image || fread(image, 1, (size_t)size, f) != (size_t)size) goto fail;
    fclose(f);
    return image;
fail:
    fprintf(stderr, "%s cannot be read\n", path);
    exit(1);
}
