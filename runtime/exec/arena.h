/* arena.h - the memory of one device: one page-aligned mapping of its own (a GPU's: one allocation), and the account of all
 * that lies on the device.
 *
 * What is mapped elsewhere but lives on the device (weights, used in place) is charged to the same account. Nothing is
 * freed singly: what a device holds lives as long as its engine. Not thread-safe: used while an engine is made. */
#ifndef BERTH_EXEC_ARENA_H
#define BERTH_EXEC_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { BERTH_ARENA_ALIGN = 64 };

/* Where arenas come from instead of the system; page-aligned, NULL = none left. */
typedef struct berth_memory_source {
    void *(*allocate)(void *user, size_t size); /* both or none */
    void (*release)(void *user, void *memory, size_t size);
    void *user;
} berth_memory_source;

typedef struct berth_arena {
    char name[24];    /* the device's, for errors */
    uint8_t *base;    /* owned mapping where `mapped` is not 0; NULL when size is 0 */
    size_t size;      /* asked for */
    size_t mapped;    /* size rounded up to pages */
    size_t used;      /* taken so far */
    size_t align;     /* of what is taken */
    uint64_t charged; /* size plus what lies elsewhere */
    uint64_t limit;
    berth_memory_source source;
} berth_arena;

/* Maps `size` bytes for a device that may hold `limit`, or takes them from `source` (NULL or zero: none). Errors:
 * BERTH_DOES_NOT_FIT with the missing bytes, BERTH_OUT_OF_MEMORY, BERTH_INVALID_ARGUMENT (the source gave memory that
 * does not begin on a page). */
berth_status berth_arena_init(berth_arena *a, const char *name, size_t size, uint64_t limit,
                              const berth_memory_source *source, berth_error *err);
/* An arena over `size` bytes at `base` that someone else allocates and frees, BERTH_DOES_NOT_FIT as above; `base` may be
 * set later, before anything is taken. The host need not reach them. */
berth_status berth_arena_init_over(berth_arena *a, const char *name, void *base, size_t size, size_t align,
                                   uint64_t limit, berth_error *err);
void berth_arena_deinit(berth_arena *a);

/* Accounts for `bytes` that lie outside of the mapping. BERTH_DOES_NOT_FIT as above. */
berth_status berth_arena_charge(berth_arena *a, uint64_t bytes, berth_error *err);

/* The next `bytes`, aligned as the arena is (a mapped one: BERTH_ARENA_ALIGN); zero bytes give a valid pointer. BERTH_INTERNAL when the mapping is used
 * up: what is taken was planned. */
berth_status berth_arena_take(berth_arena *a, size_t bytes, void **out, berth_error *err);

#endif
