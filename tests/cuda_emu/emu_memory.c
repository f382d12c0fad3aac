/* emu_memory.c - memory of emulated GPUs and pinned memory of the host.
 *
 * A GPU's memory is mapped twice: without access at the addresses callers see, and for the emulator's own copies. Only
 * while a kernel runs is what it may touch opened at the callers' addresses. Addresses are not used again, so a stale
 * one is always found out; behind each allocation lies a red zone that is looked at after each kernel. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "emu_internal.h"

/* FRONT: a red zone before each allocation, which also makes addresses multiples of 256 and of nothing more, as the driver
 * promises. BACK: the least behind it. */
enum { PAGE = 4096, FRONT = 256, BACK = 64, POISON_MAX = 64 << 20, POISON_ENDS = 1 << 20 };

/* All of a small allocation, the ends of a large one: fresh memory is not zero on hardware either. */
static void poison(uint8_t *p, size_t bytes)
{
    if (bytes <= POISON_MAX) {
        memset(p, EMU_FRESH, bytes);
    } else {
        memset(p, EMU_FRESH, POISON_ENDS);
        memset(p + bytes - POISON_ENDS, EMU_FRESH, POISON_ENDS);
    }
}

int emu_alloc(int g, size_t bytes, berth_cu_ptr *out)
{
    emu_gpu *gpu = &emu.gpus[g];
    if (bytes == 0) return BERTH_CU_INVALID_VALUE;
    if (bytes > emu.config.gpu[g].memory - gpu->used) return BERTH_CU_OUT_OF_MEMORY;
    const size_t span = (FRONT + bytes + BACK + PAGE - 1) / PAGE * PAGE;
    if (span > gpu->reserved - gpu->next) return BERTH_CU_OUT_OF_MEMORY;
    emu_range *ranges = realloc(gpu->ranges, (gpu->n_ranges + 1) * sizeof *ranges);
    if (!ranges) abort();
    gpu->ranges = ranges;
    const size_t at = gpu->next + FRONT;
    ranges[gpu->n_ranges++] = (emu_range){.at = at, .bytes = bytes, .span = span, .alive = true};
    memset(gpu->alias + gpu->next, EMU_RED, FRONT);
    poison(gpu->alias + at, bytes);
    memset(gpu->alias + at + bytes, EMU_RED, span - FRONT - bytes);
    *out = (berth_cu_ptr)(uintptr_t)(gpu->view + at);
    gpu->next += span + PAGE;
    gpu->used += bytes;
    return BERTH_CU_SUCCESS;
}

static void end_range(emu_gpu *gpu, emu_range *r)
{
    r->alive = false;
    gpu->used -= r->bytes;
    madvise(gpu->alias + r->at - FRONT, r->span, MADV_REMOVE);
}

int emu_free(int g, berth_cu_ptr ptr)
{
    emu_gpu *gpu = &emu.gpus[g];
    const uint8_t *p = (const uint8_t *)(uintptr_t)ptr;
    for (size_t i = 0; i < gpu->n_ranges; i++) {
        emu_range *r = &gpu->ranges[i];
        if (gpu->view + r->at != p) continue;
        if (!r->alive) return emu_misuse(BERTH_CU_INVALID_VALUE, "GPU %d: memory freed twice", g);
        int code = BERTH_CU_SUCCESS;
        if (emu_in_use(g, p, r->bytes))
            code = emu_misuse(BERTH_CU_ILLEGAL_ADDRESS, "GPU %d: memory freed while queued work may use it", g);
        end_range(gpu, r);
        return code;
    }
    return emu_misuse(BERTH_CU_INVALID_VALUE, "GPU %d: freed what was not allocated there", g);
}

void emu_free_all(int g)
{
    for (size_t i = 0; i < emu.gpus[g].n_ranges; i++) {
        if (emu.gpus[g].ranges[i].alive) end_range(&emu.gpus[g], &emu.gpus[g].ranges[i]);
    }
}

int emu_gpu_of(berth_cu_ptr ptr, size_t bytes)
{
    const uint8_t *p = (const uint8_t *)(uintptr_t)ptr;
    for (int g = 0; g < emu.config.n_gpus; g++) {
        const emu_gpu *gpu = &emu.gpus[g];
        if (p < gpu->view || p >= gpu->view + gpu->reserved) continue;
        const size_t at = (size_t)(p - gpu->view);
        for (size_t i = 0; i < gpu->n_ranges; i++) {
            const emu_range *r = &gpu->ranges[i];
            if (r->alive && at >= r->at && at - r->at <= r->bytes && bytes <= r->bytes - (at - r->at)) return g;
        }
    }
    return -1;
}

uint8_t *emu_alias(int g, const void *ptr)
{
    return emu.gpus[g].alias + ((const uint8_t *)ptr - emu.gpus[g].view);
}

bool emu_names_freed(const uint8_t *words, size_t bytes)
{
    for (size_t at = 0; at + sizeof(uintptr_t) <= bytes; at += sizeof(uintptr_t)) {
        uintptr_t word;
        memcpy(&word, words + at, sizeof word);
        for (int g = 0; g < emu.config.n_gpus; g++) {
            const uintptr_t view = (uintptr_t)emu.gpus[g].view;
            for (size_t i = 0; i < emu.gpus[g].n_ranges; i++) {
                const emu_range *r = &emu.gpus[g].ranges[i];
                if (!r->alive && word >= view + r->at && word - view - r->at < r->bytes) return true;
            }
        }
    }
    return false;
}

static void protect(int g, int how)
{
    for (size_t i = 0; i < emu.gpus[g].n_ranges; i++) {
        const emu_range *r = &emu.gpus[g].ranges[i];
        if (r->alive && mprotect(emu.gpus[g].view + r->at - FRONT, r->span, how) != 0) abort();
    }
}

void emu_open(const emu_object *context, bool open)
{
    for (int g = 0; g < emu.config.n_gpus; g++) {
        if (g == context->gpu || context->peers[g]) protect(g, open ? PROT_READ | PROT_WRITE : PROT_NONE);
    }
}

emu_image_range *emu_open_ranges(const emu_object *context, size_t *out_n)
{
    size_t most = 1, n = 0;
    for (int g = 0; g < emu.config.n_gpus; g++) most += emu.gpus[g].n_ranges;
    emu_image_range *ranges = calloc(most, sizeof *ranges);
    if (!ranges) abort();
    for (int g = 0; g < emu.config.n_gpus; g++) {
        const emu_gpu *gpu = &emu.gpus[g];
        for (size_t i = 0; i < gpu->n_ranges && (g == context->gpu || context->peers[g]); i++) {
            const emu_range *r = &gpu->ranges[i];
            if (r->alive) ranges[n++] = (emu_image_range){gpu->view + r->at, r->bytes};
        }
    }
    *out_n = n;
    return ranges;
}

static bool is_red(const uint8_t *p, size_t bytes)
{
    return bytes == 0 || (p[0] == EMU_RED && memcmp(p, p + 1, bytes - 1) == 0);
}

bool emu_red_zones_whole(int g)
{
    const emu_gpu *gpu = &emu.gpus[g];
    for (size_t i = 0; i < gpu->n_ranges; i++) {
        const emu_range *r = &gpu->ranges[i];
        if (!r->alive) continue;
        const uint8_t *p = gpu->alias + r->at;
        if (!is_red(p - FRONT, FRONT) || !is_red(p + r->bytes, r->span - FRONT - r->bytes)) return false;
    }
    return true;
}

int emu_host_alloc(void **out, size_t bytes)
{
    if (bytes == 0) return BERTH_CU_INVALID_VALUE;
    uint8_t *base = malloc(bytes); /* the sanitizer's red zones around it */
    void *pinned = realloc(emu.pinned, (emu.n_pinned + 1) * sizeof *emu.pinned);
    if (!base || !pinned) abort();
    emu.pinned = pinned;
    memset(base, EMU_FRESH, bytes);
    emu.pinned[emu.n_pinned].base = base;
    emu.pinned[emu.n_pinned].bytes = bytes;
    emu.pinned[emu.n_pinned++].alive = true;
    *out = base;
    return BERTH_CU_SUCCESS;
}

int emu_host_free(void *ptr)
{
    for (size_t i = 0; i < emu.n_pinned; i++) {
        if (!emu.pinned[i].alive || emu.pinned[i].base != ptr) continue;
        int code = BERTH_CU_SUCCESS;
        if (emu_in_use(-1, ptr, emu.pinned[i].bytes))
            code = emu_misuse(BERTH_CU_ILLEGAL_ADDRESS, "pinned memory freed while queued work uses it");
        while (emu_in_use(-1, ptr, emu.pinned[i].bytes) && emu_step()) {
        }
        emu.pinned[i].alive = false;
        free(ptr);
        return code;
    }
    return emu_misuse(BERTH_CU_INVALID_VALUE, "freed as pinned what is not");
}

void emu_host_free_all(void)
{
    for (size_t i = 0; i < emu.n_pinned; i++) {
        if (emu.pinned[i].alive) free(emu.pinned[i].base);
    }
    free(emu.pinned);
}

bool emu_straddles_pinned(const void *ptr, size_t bytes)
{
    for (size_t i = 0; i < emu.n_pinned; i++) {
        const uint8_t *base = emu.pinned[i].base, *p = ptr;
        const bool touches = emu.pinned[i].alive && p < base + emu.pinned[i].bytes && base < p + bytes;
        if (touches && !emu_is_pinned(ptr, bytes)) return true;
    }
    return false;
}

int emu_charge(int g, int64_t bytes)
{
    emu_gpu *gpu = &emu.gpus[g];
    if (bytes > 0 && (uint64_t)bytes > emu.config.gpu[g].memory - gpu->used) return BERTH_CU_OUT_OF_MEMORY;
    gpu->used += (size_t)bytes;
    return BERTH_CU_SUCCESS;
}

bool emu_is_pinned(const void *ptr, size_t bytes)
{
    for (size_t i = 0; i < emu.n_pinned; i++) {
        if (emu.pinned[i].alive && (const uint8_t *)ptr >= emu.pinned[i].base &&
            (const uint8_t *)ptr + bytes <= emu.pinned[i].base + emu.pinned[i].bytes)
            return true;
    }
    return false;
}
