#include "exec/arena.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/text.h"

enum { HUGE_PAGE = 2 << 20 };

berth_status berth_arena_charge(berth_arena *a, uint64_t bytes, berth_error *err)
{
    uint64_t sum;
    if (__builtin_add_overflow(a->charged, bytes, &sum)) sum = UINT64_MAX;
    if (sum > a->limit) {
        char want[32], limit[32];
        return BERTH_FAIL(err, BERTH_DOES_NOT_FIT,
                          "device %s: %s (%" PRIu64 " bytes) wanted, its limit is %s (%" PRIu64 " bytes): %" PRIu64
                          " bytes are missing; give it more with /mem=SIZE, use more devices or a shorter context",
                          a->name, berth_format_bytes(sum, want, sizeof want), sum,
                          berth_format_bytes(a->limit, limit, sizeof limit), a->limit, sum - a->limit);
    }
    a->charged = sum;
    return BERTH_OK;
}

static berth_status take_from_source(berth_arena *a, size_t page, berth_error *err)
{
    void *p = a->source.allocate(a->source.user, a->mapped);
    if (!p)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "arena of device %s: the program's allocate gave no %zu bytes",
                          a->name, a->mapped);
    if ((uintptr_t)p % page != 0) {
        a->source.release(a->source.user, p, a->mapped);
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "arena of device %s: the program's allocate gave memory that is not aligned to %zu", a->name,
                          page);
    }
    a->base = p;
    return BERTH_OK;
}

berth_status berth_arena_init_over(berth_arena *a, const char *name, void *base, size_t size, size_t align,
                                   uint64_t limit, berth_error *err)
{
    *a = (berth_arena){.base = base, .size = size, .align = align, .limit = limit};
    snprintf(a->name, sizeof a->name, "%s", name);
    return berth_arena_charge(a, size, err);
}

berth_status berth_arena_init(berth_arena *a, const char *name, size_t size, uint64_t limit,
                              const berth_memory_source *source, berth_error *err)
{
    berth_status st = berth_arena_init_over(a, name, NULL, size, BERTH_ARENA_ALIGN, limit, err);
    if (st != BERTH_OK || size == 0) return st;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (!berth_round_up(size, page, &a->mapped))
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "arena of device %s: %zu bytes", name, size);
    if (source) a->source = *source;
    if (a->source.allocate) return take_from_source(a, page, err);
    void *p = mmap(NULL, a->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        int code = errno;
        return BERTH_FAIL_ERRNO(err, BERTH_OUT_OF_MEMORY, code, "arena of device %s: %zu bytes", name, size);
    }
    a->base = p;
    if (a->mapped >= HUGE_PAGE) madvise(p, a->mapped, MADV_HUGEPAGE); /* speed only: a refusal changes nothing */
    return BERTH_OK;
}

void berth_arena_deinit(berth_arena *a)
{
    if (a->base && a->mapped && a->source.release)
        a->source.release(a->source.user, a->base, a->mapped);
    else if (a->base && a->mapped)
        munmap(a->base, a->mapped);
    *a = (berth_arena){0};
}

berth_status berth_arena_take(berth_arena *a, size_t bytes, void **out, berth_error *err)
{
    static uint8_t nothing[BERTH_ARENA_ALIGN] __attribute__((aligned(BERTH_ARENA_ALIGN)));
    *out = nothing;
    if (bytes == 0) return BERTH_OK;
    size_t start, end;
    if (!berth_round_up(a->used, a->align, &start) || !berth_add_size(start, bytes, &end) || end > a->size)
        return BERTH_FAIL(err, BERTH_INTERNAL, "arena of device %s: %zu bytes after %zu do not fit the planned %zu",
                          a->name, bytes, a->used, a->size);
    a->used = end;
    *out = a->base + start;
    return BERTH_OK;
}
