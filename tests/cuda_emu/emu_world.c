/* emu_world.c - the emulated computer: start, end, objects by handle, account. */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "emu_internal.h"

emu_world emu;

uint64_t emu_random(void)
{
    emu.random ^= emu.random << 13;
    emu.random ^= emu.random >> 7;
    emu.random ^= emu.random << 17;
    return emu.random >> 11;
}

int emu_misuse(int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(emu.report.misuse, sizeof emu.report.misuse, fmt, args);
    va_end(args);
    emu.report.misuses++;
    fprintf(stderr, "cuda_emu: misuse: %s\n", emu.report.misuse);
    return code;
}

static void map_gpu(emu_gpu *gpu, uint64_t memory)
{
    gpu->reserved = (size_t)memory * 4 + (64u << 20); /* addresses are never used twice */
    int fd = memfd_create("cuda_emu", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)gpu->reserved) != 0) goto fail;
    gpu->view = mmap(NULL, gpu->reserved, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    gpu->alias = mmap(NULL, gpu->reserved, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (gpu->view == MAP_FAILED || gpu->alias == MAP_FAILED) goto fail;
    close(fd);
    return;
fail:
    perror("cuda_emu: memory of an emulated GPU");
    abort();
}

void emu_start(const char *config)
{
    if (emu.started) return;
    const uint64_t generation = emu.generation + 1;
    memset(&emu, 0, sizeof emu);
    emu.generation = generation;
    emu.started = true;
    if (!emu_config_read(&emu.config, config)) emu.config.n_gpus = 0;
    emu.random = (emu.config.seed + 1) * 0x9E3779B97F4A7C15u;
    for (int i = 0; i < 8; i++) emu_random();
    for (int g = 0; g < emu.config.n_gpus; g++) map_gpu(&emu.gpus[g], emu.config.gpu[g].memory);
}

void emu_stop(void)
{
    if (!emu.started) return;
    for (size_t i = 0; i < emu.n_objects; i++) {
        emu_object *o = emu.objects[i];
        if (o->kind == EMU_CONTEXT) emu_drop(o);
    }
    emu_capture_drop_all();
    for (size_t i = 0; i < emu.n_objects; i++) {
        emu_object *o = emu.objects[i];
        if (o->alive) emu_end(o);
        free(o);
    }
    if (emu.held) emu_mark_release(emu.held);
    free(emu.objects);
    free(emu.streams);
    for (int g = 0; g < emu.config.n_gpus; g++) {
        munmap(emu.gpus[g].view, emu.gpus[g].reserved);
        munmap(emu.gpus[g].alias, emu.gpus[g].reserved);
        free(emu.gpus[g].ranges);
    }
    emu_host_free_all();
    emu.started = false;
}

/* Handles are no addresses: a program that looks behind one faults. */
static uintptr_t handle_of(emu_kind kind, size_t index)
{
    return (uintptr_t)0x5EED << 48 | (emu.generation & 0xFFFF) << 32 | (uintptr_t)kind << 28 | index << 4;
}

emu_object *emu_new(emu_kind kind, int gpu, emu_object *context)
{
    emu_object *o = calloc(1, sizeof *o);
    emu_object **objects = realloc(emu.objects, (emu.n_objects + 1) * sizeof *objects);
    if (!o || !objects) abort();
    emu.objects = objects;
    o->kind = kind;
    o->alive = true;
    o->gpu = gpu;
    o->context = context ? context : o;
    o->handle = handle_of(kind, emu.n_objects);
    emu.objects[emu.n_objects++] = o;
    if (kind == EMU_STREAM) {
        emu_object **streams = realloc(emu.streams, (emu.n_streams + 1) * sizeof(emu_object *));
        if (!streams) abort();
        emu.streams = streams;
        streams[emu.n_streams++] = o;
    }
    return o;
}

emu_object *emu_find(const void *handle, emu_kind kind)
{
    const size_t index = ((uintptr_t)handle & 0xFFFFFFF) >> 4;
    if (index >= emu.n_objects || emu.objects[index]->handle != (uintptr_t)handle || emu.objects[index]->kind != kind) {
        emu_misuse(0, "handle %p is none of kind %d", handle, (int)kind);
        return NULL;
    }
    emu_object *o = emu.objects[index];
    if (!o->alive) emu_misuse(0, "handle %p of kind %d was destroyed", handle, (int)kind);
    return o->alive ? o : NULL;
}

void emu_end(emu_object *o)
{
    o->alive = false;
    emu_tsan_stream_ends(o);
    for (size_t i = 0; o->kind == EMU_STREAM && i < emu.n_streams; i++) {
        if (emu.streams[i] == o) emu.streams[i--] = emu.streams[--emu.n_streams];
    }
    emu_capture_forget(o);
    if (o->mark) emu_mark_release(o->mark);
    o->mark = NULL;
    emu_nodes_release(o->nodes);
    o->nodes = NULL;
    if (o->kind == EMU_MODULE && o->opened) {
        dlclose(o->opened);
        close(o->fd);
    }
    o->opened = NULL;
}

void emu_account(emu_report *out)
{
    *out = emu.report;
    out->contexts = out->allocations = out->pinned = out->streams = out->events = out->modules = out->graphs = 0;
    out->handles = emu.handles;
    for (size_t i = 0; i < emu.n_objects; i++) {
        const emu_object *o = emu.objects[i];
        if (!o->alive) continue;
        out->contexts += o->kind == EMU_CONTEXT;
        out->streams += o->kind == EMU_STREAM && !o->is_null;
        out->events += o->kind == EMU_EVENT;
        out->modules += o->kind == EMU_MODULE;
        out->graphs += o->kind == EMU_GRAPH_OBJECT || o->kind == EMU_EXEC;
    }
    for (int g = 0; g < emu.config.n_gpus; g++) {
        for (size_t i = 0; i < emu.gpus[g].n_ranges; i++) out->allocations += emu.gpus[g].ranges[i].alive;
    }
    for (size_t i = 0; i < emu.n_pinned; i++) out->pinned += emu.pinned[i].alive;
}

/* The process ends, or the last user closed the library. */
__attribute__((destructor)) static void at_end(void)
{
    if (!emu.started) return;
    emu_report r;
    emu_account(&r);
    const int leaks = r.contexts + r.allocations + r.pinned + r.streams + r.events + r.modules + r.graphs + r.handles;
    const int code = emu.config.exit_code;
    if (leaks)
        fprintf(stderr,
                "cuda_emu: left behind: %d contexts, %d allocations, %d pinned, %d streams, %d events, %d modules, %d "
                "graphs, %d objects of libraries\n",
                r.contexts, r.allocations, r.pinned, r.streams, r.events, r.modules, r.graphs, r.handles);
    emu_stop();
    if (code && (leaks || r.misuses)) _exit(code);
}
