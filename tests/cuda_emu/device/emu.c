/* emu.c - the scheduler of a block's fibres, barriers, meetings of warps, and the check of every access. See emu.h.
 * Its state is one static object: device code names its thread without a handle, so a process runs one launch at a time. */
#include "tests/cuda_emu/device/emu.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cuda_emu/device/emu_fibre.h"
#include "tests/cuda_emu/device/emu_internal.h"
#include "tests/cuda_emu/device/emu_shadow.h"

/* Stacks lie at odd distances: at a power of two their tops would share a few lines of the caches. */
enum { STACK_BYTES = 32768, STACK_STRIDE = STACK_BYTES + 5 * 64, SHADOW_UNIT = 2, MAX_COPIES = 64 };
#define STACK_MARK 0x5AFE57ACC0FFEE00u

typedef enum fibre_state { READY, AT_BARRIER, AT_MEETING, ENDED } fibre_state;

/* A copy on its way; its group ends with the thread's next commit. */
typedef struct copy {
    unsigned char *to;
    const void *from;
    uint32_t size, bytes, group;
} copy;

typedef struct fibre {
    emu_context context;
    fibre_state state;
    emu_dim3 index;
    const char *what, *file; /* where it waits */
    int line;
    uint32_t mask;
    uint32_t meetings;        /* passed that order memory */
    uint32_t n_copies, group; /* copies on their way; groups ended */
} fibre;

typedef struct warp {
    uint32_t present, waiting; /* lanes that have not ended; lanes at a meeting */
    uint64_t places[32];       /* of the meeting that each lane waits at, in one number */
    void *payloads[32];
} warp;

static struct emulator {
    const emu_launch_config *config;
    char *error;
    bool failed;
    uint64_t random;
    emu_context scheduler;
    fibre fibres[EMU_MAX_THREADS];
    warp warps[EMU_MAX_THREADS / 32];
    int32_t n_fibres, running;
    int32_t ready[EMU_MAX_THREADS], n_ready;
    emu_dim3 block;
    uint32_t barriers;
    unsigned char *stacks; /* kept from launch to launch */
    emu_shadow_cell *shadow;
    const unsigned char *stack; /* the running fibre's */
    emu_range last;             /* of the global memory touched last */
    copy copies[EMU_MAX_THREADS][MAX_COPIES];
} emu;
static pthread_mutex_t one_launch = PTHREAD_MUTEX_INITIALIZER;

extern unsigned char berth_shared[EMU_MAX_SHARED]; /* the name that device code declares (kernels/cuda/device.cuh) */
unsigned char berth_shared[EMU_MAX_SHARED] __attribute__((aligned(1024)));

static uint32_t draw(uint32_t below)
{
    emu.random = emu.random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((emu.random >> 32) * below >> 32);
}

static fibre *self(void)
{
    return &emu.fibres[emu.running];
}

static unsigned char *stack_of(int32_t i)
{
    return emu.stacks + (size_t)i * STACK_STRIDE;
}

emu_dim3 emu_thread_idx(void)
{
    return self()->index;
}
emu_dim3 emu_block_idx(void)
{
    return emu.block;
}
emu_dim3 emu_block_dim(void)
{
    const uint32_t *b = emu.config->block;
    return (emu_dim3){b[0], b[1], b[2]};
}
emu_dim3 emu_grid_dim(void)
{
    const uint32_t *g = emu.config->grid;
    return (emu_dim3){g[0], g[1], g[2]};
}
uint32_t emu_lane(void)
{
    return (uint32_t)emu.running % 32;
}

static void report(const char *format, va_list list)
{
    emu_dim3 t = self()->index;
    int n = snprintf(emu.error, EMU_ERROR_BYTES, "%s, block (%u,%u,%u), thread (%u,%u,%u): ", emu.config->kernel->name,
                     emu.block.x, emu.block.y, emu.block.z, t.x, t.y, t.z);
    if (n > 0 && n < EMU_ERROR_BYTES) vsnprintf(emu.error + n, (size_t)(EMU_ERROR_BYTES - n), format, list);
    emu.failed = true;
}

/* From a fibre: its stack is left as it is and never run again. */
void emu_fail(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    report(format, list);
    va_end(list);
    emu_context_switch(&self()->context, &emu.scheduler);
    abort(); /* the scheduler does not come back to a failed launch */
}

/* From the scheduler, about fibre i. */
__attribute__((format(printf, 2, 3))) static void fail_for(int32_t i, const char *format, ...)
{
    va_list list;
    emu.running = i;
    va_start(list, format);
    report(format, list);
    va_end(list);
}

static void make_ready(int32_t i)
{
    emu.fibres[i].state = READY;
    emu.ready[emu.n_ready++] = i;
}

static bool stack_is_whole(void)
{
    return *(const uint64_t *)(const void *)emu.stack == STACK_MARK;
}

/* The next to run, drawn; then that fibre goes on from where it stands, without the scheduler's help. */
static emu_context *choose(void)
{
    uint32_t at = draw((uint32_t)emu.n_ready);
    emu.running = emu.ready[at];
    emu.ready[at] = emu.ready[--emu.n_ready];
    emu.stack = stack_of(emu.running);
    return &self()->context;
}

static void leave_fibre(fibre *f)
{
    emu_context *next = emu.n_ready > 0 && stack_is_whole() ? choose() : &emu.scheduler;
    if (next != &f->context) emu_context_switch(&f->context, next);
}

static void pause_fibre(fibre_state state)
{
    fibre *f = self();
    f->state = state;
    leave_fibre(f);
}

void emu_block_barrier(const char *file, int line)
{
    fibre *f = self();
    f->what = "__syncthreads", f->file = file, f->line = line;
    pause_fibre(AT_BARRIER);
}

/* Equal numbers: the same mask, line and, but for a chance in 2^32, the same words. */
static uint64_t place_of(const fibre *f)
{
    uint64_t place = ((uint64_t)f->mask << 32 | (uint32_t)f->line) * 0x9E3779B97F4A7C15u;
    return (place ^ (uintptr_t)f->what ^ (uintptr_t)f->file << 20) * 0xD6E8FEB86659FD93u;
}

/* All of the mask have come to the caller's meeting. */
static bool is_last_to_come(const warp *w, uint32_t mask, uint64_t place)
{
    if (mask & ~w->waiting) return false;
    for (int32_t l = 0; l < 32; l++)
        if (w->places[l] != place && mask >> l & 1) return false;
    return true;
}

static void end_meeting(warp *w, uint32_t mask, int32_t first, emu_combine combine, int orders_memory)
{
    void *payloads[32];
    for (int32_t l = 0; l < 32; l++) payloads[l] = mask >> l & 1 ? w->payloads[l] : NULL;
    if (combine) combine(payloads);
    w->waiting &= ~mask;
    for (int32_t l = 0; l < 32; l++) {
        if (!(mask >> l & 1)) continue;
        if (orders_memory) emu.fibres[first + l].meetings++;
        make_ready(first + l); /* all of them, the caller too, go on in a drawn order */
    }
}

void emu_warp_meet(const char *what, const char *file, int line, uint32_t mask, void *payload, emu_combine combine,
                   int orders_memory)
{
    fibre *f = self();
    warp *w = &emu.warps[emu.running / 32];
    const uint32_t lane = emu_lane();
    if (!(mask >> lane & 1))
        emu_fail("%s at %s:%d with mask %08x, which leaves out the caller's lane", what, file, line, mask);
    if (mask & ~w->present)
        emu_fail("%s at %s:%d with mask %08x names lane %d, which has ended or never was", what, file, line, mask,
                 __builtin_ctz(mask & ~w->present));
    f->what = what, f->file = file, f->line = line, f->mask = mask;
    w->places[lane] = place_of(f);
    w->payloads[lane] = payload;
    w->waiting |= 1u << lane;
    f->state = AT_MEETING;
    if (is_last_to_come(w, mask, w->places[lane])) end_meeting(w, mask, emu.running / 32 * 32, combine, orders_memory);
    leave_fibre(f);
}

/* ---- accesses --------------------------------------------------------------------------------------------------------- */

static void check_shared(size_t offset, size_t bytes, int writes)
{
    if (offset + bytes > emu.config->shared_bytes)
        emu_fail("%s %zu bytes at byte %zu of shared memory, of which the launch has %zu", writes ? "writes" : "reads",
                 bytes, offset, emu.config->shared_bytes);
    emu_moment now = {emu.barriers, self()->meetings, emu.running};
    for (size_t unit = offset / SHADOW_UNIT; unit <= (offset + bytes - 1) / SHADOW_UNIT; unit++) {
        int32_t other;
        const char *wrong = writes ? emu_shadow_write(&emu.shadow[unit], &now, &other)
                                   : emu_shadow_read(&emu.shadow[unit], &now, &other);
        if (wrong && other >= 0)
            emu_fail("race: %s (byte %zu of shared memory; the other is thread %d)", wrong, unit * SHADOW_UNIT, other);
        if (wrong) emu_fail("%s (byte %zu)", wrong, unit * SHADOW_UNIT);
    }
}

static bool lies_in(const emu_range *r, const unsigned char *p, size_t bytes, int writes)
{
    const size_t offset = (size_t)(p - (const unsigned char *)r->base); /* huge where p lies before */
    return offset < r->bytes && bytes <= r->bytes - offset && (!writes || r->writable);
}

static void check_global(const unsigned char *p, size_t bytes, int writes)
{
    const emu_range args = {emu.config->args, emu.config->kernel->args_bytes, false};
    for (size_t i = 0; i <= emu.config->n_ranges; i++) {
        const emu_range *r = i < emu.config->n_ranges ? &emu.config->ranges[i] : &args;
        if (!lies_in(r, p, bytes, writes)) continue;
        emu.last = *r;
        return;
    }
    emu_fail("%s %zu bytes at %p, %s", writes ? "writes" : "reads", bytes, (const void *)p,
             writes ? "in no range that may be written" : "in no range of this launch");
}

static __attribute__((noinline)) void check_access(const unsigned char *p, size_t bytes, int writes, size_t alignment)
{
    if (alignment > 1 && ((uintptr_t)p & (alignment - 1)))
        emu_fail("%s %zu bytes at %p, not aligned to %zu", writes ? "writes" : "reads", bytes, (const void *)p,
                 alignment);
    if ((size_t)(p - berth_shared) < EMU_MAX_SHARED)
        check_shared((size_t)(p - berth_shared), bytes, writes);
    else
        check_global(p, bytes, writes);
}

/* The thread's own locals, and the global memory touched last, are most of all accesses. */
static inline void access_fast(const unsigned char *p, size_t bytes, int writes, size_t alignment)
{
    if ((size_t)(p - emu.stack) < STACK_BYTES) return;
    if (!((uintptr_t)p & (alignment - 1)) && lies_in(&emu.last, p, bytes, writes)) return;
    check_access(p, bytes, writes, alignment);
}

void emu_access(const void *address, size_t bytes, int writes, size_t alignment)
{
    access_fast(address, bytes, writes, alignment);
}

/* ---- copies on their way ------------------------------------------------------------------------------------------------ */

static emu_shadow_cell *cell_of(const unsigned char *p)
{
    return &emu.shadow[(size_t)(p - berth_shared) / SHADOW_UNIT];
}

/* From here on the place belongs to the copy: it is checked as a write now, and may not be touched before the copy has come. */
void emu_copy_async(void *to, const void *from, size_t size, size_t bytes)
{
    fibre *f = self();
    unsigned char *p = to;
    if (p < berth_shared || p >= berth_shared + EMU_MAX_SHARED) emu_fail("cp.async to %p, not in shared memory", to);
    if (bytes > size) emu_fail("cp.async of %zu bytes reads %zu", size, bytes);
    if (f->n_copies == MAX_COPIES)
        emu_fail("more than %d copies on their way: the emulator's list is full", MAX_COPIES);
    if (bytes) emu_access(from, bytes, 0, size);
    emu_access(to, size, 1, size);
    for (size_t i = 0; i < size; i += SHADOW_UNIT) cell_of(p + i)->on_its_way = true;
    memset(to, 0xCB, size);
    emu.copies[emu.running][f->n_copies++] = (copy){p, from, (uint32_t)size, (uint32_t)bytes, f->group};
}

void emu_copies_commit(void)
{
    self()->group++;
}

void emu_copies_wait(int groups)
{
    fibre *f = self();
    copy *copies = emu.copies[emu.running];
    uint32_t left = 0;
    for (uint32_t i = 0; i < f->n_copies; i++) {
        const copy *c = &copies[i];
        if (c->group + (uint32_t)groups >= f->group) {
            copies[left++] = *c;
            continue;
        }
        for (size_t j = 0; j < c->size; j += SHADOW_UNIT) cell_of(c->to + j)->on_its_way = false;
        emu_access(c->to, c->size, 1, c->size);
        memset(c->to, 0, c->size);
        memcpy(c->to, c->from, c->bytes);
    }
    f->n_copies = left;
}

/* ---- the compiler's hooks (-fsanitize=thread, without its runtime) ------------------------------------------------------ */

#define EMU_HOOKS(bytes)                                                                                               \
    void __tsan_read##bytes(void *p);                                                                                  \
    void __tsan_write##bytes(void *p);                                                                                 \
    void __tsan_unaligned_read##bytes(void *p);                                                                        \
    void __tsan_unaligned_write##bytes(void *p);                                                                       \
    void __tsan_read##bytes(void *p)                                                                                   \
    {                                                                                                                  \
        access_fast(p, bytes, 0, bytes);                                                                               \
    }                                                                                                                  \
    void __tsan_write##bytes(void *p)                                                                                  \
    {                                                                                                                  \
        access_fast(p, bytes, 1, bytes);                                                                               \
    }                                                                                                                  \
    void __tsan_unaligned_read##bytes(void *p)                                                                         \
    {                                                                                                                  \
        access_fast(p, bytes, 0, 1);                                                                                   \
    }                                                                                                                  \
    void __tsan_unaligned_write##bytes(void *p)                                                                        \
    {                                                                                                                  \
        access_fast(p, bytes, 1, 1);                                                                                   \
    }
EMU_HOOKS(1)
EMU_HOOKS(2)
EMU_HOOKS(4)
EMU_HOOKS(8)
EMU_HOOKS(16)

void __tsan_read_range(void *p, unsigned long bytes);
void __tsan_write_range(void *p, unsigned long bytes);
void *__tsan_memcpy(void *to, const void *from, unsigned long bytes);
void *__tsan_memset(void *to, int value, unsigned long bytes);
void __tsan_func_entry(void *caller);
void __tsan_func_exit(void);
void __tsan_init(void);

void __tsan_read_range(void *p, unsigned long bytes)
{
    emu_access(p, bytes, 0, 1);
}
void __tsan_write_range(void *p, unsigned long bytes)
{
    emu_access(p, bytes, 1, 1);
}
void *__tsan_memcpy(void *to, const void *from, unsigned long bytes)
{
    emu_access(from, bytes, 0, 1);
    emu_access(to, bytes, 1, 1);
    return memcpy(to, from, bytes);
}
void *__tsan_memset(void *to, int value, unsigned long bytes)
{
    emu_access(to, bytes, 1, 1);
    return memset(to, value, bytes);
}
void __tsan_func_entry(void *caller)
{
    (void)caller;
}
void __tsan_func_exit(void) {}
void __tsan_init(void) {}

/* ---- blocks ------------------------------------------------------------------------------------------------------------- */

static void fibre_main(void)
{
    emu.config->kernel->run(emu.config->args);
    if (self()->n_copies) emu_fail("ends with %u copies on their way", self()->n_copies);
    emu.warps[emu.running / 32].present &= ~(1u << emu_lane());
    pause_fibre(ENDED);
    abort(); /* an ended fibre is never run */
}

static void begin_block(void)
{
    const uint32_t *dims = emu.config->block;
    memset(emu.shadow, 0, sizeof *emu.shadow * (emu.config->shared_bytes / SHADOW_UNIT + 1));
    memset(berth_shared, 0xCB, emu.config->shared_bytes);
    emu.barriers = 1, emu.n_ready = 0;
    memset(emu.warps, 0, sizeof emu.warps);
    for (int32_t i = 0; i < emu.n_fibres; i++) {
        uint32_t u = (uint32_t)i;
        unsigned char *stack = stack_of(i);
        emu.fibres[i] = (fibre){.index = {u % dims[0], u / dims[0] % dims[1], u / dims[0] / dims[1]}};
        *(uint64_t *)(void *)stack = STACK_MARK;
        emu_context_make(&emu.fibres[i].context, stack, STACK_BYTES, fibre_main);
        emu.warps[i / 32].present |= 1u << u % 32;
        make_ready(i);
    }
}

/* Nobody can go on: the whole block stands at one barrier and passes it, or the launch is wrong. False: all have ended, or it failed. */
static bool pass_barrier(void)
{
    int32_t at = -1, n_ended = 0;
    for (int32_t i = 0; i < emu.n_fibres; i++) {
        const fibre *f = &emu.fibres[i];
        n_ended += f->state == ENDED;
        if (f->state == AT_MEETING) {
            fail_for(i, "%s at %s:%d with mask %08x waits for lanes that do not come", f->what, f->file, f->line,
                     f->mask);
            return false;
        }
        if (f->state != AT_BARRIER) continue;
        if (at < 0) at = i;
        const fibre *first = &emu.fibres[at];
        if (f->line != first->line || strcmp(f->file, first->file) != 0) {
            fail_for(i, "divergent barrier: at %s:%d while thread %d is at %s:%d", f->file, f->line, at, first->file,
                     first->line);
            return false;
        }
    }
    if (at < 0) return false;
    if (n_ended > 0) {
        fail_for(at, "divergent barrier: at %s:%d while %d threads of the block have ended", emu.fibres[at].file,
                 emu.fibres[at].line, n_ended);
        return false;
    }
    emu.barriers++;
    for (int32_t i = 0; i < emu.n_fibres; i++) make_ready(i);
    return true;
}

static void run_block(void)
{
    begin_block();
    do {
        while (emu.n_ready > 0 && !emu.failed) {
            emu_context_switch(&emu.scheduler, choose());
            if (!stack_is_whole())
                fail_for(emu.running, "more than %d bytes of locals: the emulator's stack is full", STACK_BYTES);
        }
    } while (!emu.failed && pass_barrier());
}

/* Every block once, in a drawn order: a step that shares no factor with their number. */
static void run_grid(void)
{
    const uint32_t *grid = emu.config->grid;
    uint64_t n = (uint64_t)grid[0] * grid[1] * grid[2];
    if (n == 0) return;
    uint64_t at = draw((uint32_t)n), step = 1 + draw((uint32_t)n);
    for (uint64_t a = step, b = n; b;) {
        uint64_t rest = a % b;
        a = b, b = rest;
        if (!b && a != 1) step++, a = step, b = n;
    }
    for (uint64_t i = 0; i < n && !emu.failed; i++, at = (at + step) % n) {
        emu.block = (emu_dim3){(uint32_t)(at % grid[0]), (uint32_t)(at / grid[0] % grid[1]),
                               (uint32_t)(at / grid[0] / grid[1])};
        run_block();
    }
}

extern const emu_kernel *const __start_emu_kernels[], *const __stop_emu_kernels[]; /* by the linker */

const emu_kernel *emu_find_kernel(const char *name)
{
    for (const emu_kernel *const *k = __start_emu_kernels; k < __stop_emu_kernels; k++)
        if (strcmp((*k)->name, name) == 0) return *k;
    return NULL;
}

static bool refuse(char *error, const emu_launch_config *config, const char *why)
{
    snprintf(error, EMU_ERROR_BYTES, "%s: %s", config->kernel->name, why);
    return false;
}

__attribute__((destructor)) static void free_stacks(void)
{
    free(emu.stacks);
    emu.stacks = NULL;
}

bool emu_launch(const emu_launch_config *config, char *error)
{
    const uint32_t *g = config->grid, *b = config->block;
    uint64_t threads = (uint64_t)b[0] * b[1] * b[2];
    if (threads == 0 || threads > EMU_MAX_THREADS || b[2] > 64)
        return refuse(error, config, "a block has 1 to 1024 threads, at most 64 deep");
    if (g[0] == 0 || g[1] == 0 || g[2] == 0 || g[0] > INT32_MAX || g[1] > 65535 || g[2] > 65535)
        return refuse(error, config, "a grid has at least one block and at most 65535 in y and z");
    if (config->shared_bytes > EMU_MAX_SHARED) return refuse(error, config, "more shared memory than any device has");
    pthread_mutex_lock(&one_launch);
    emu.config = config, emu.error = error, emu.failed = false;
    emu.random = config->seed * 0x9E3779B97F4A7C15u + 1;
    emu.n_fibres = (int32_t)threads, emu.running = 0;
    if (!emu.stacks) emu.stacks = malloc((size_t)EMU_MAX_THREADS * STACK_STRIDE); /* touched as far as threads come */
    emu.last = (emu_range){0};
    emu.shadow = malloc(sizeof *emu.shadow * (config->shared_bytes / SHADOW_UNIT + 1));
    bool ok = emu.stacks && emu.shadow;
    if (ok)
        run_grid();
    else
        refuse(error, config, "no memory for the emulator's stacks");
    ok = ok && !emu.failed;
    free(emu.shadow);
    pthread_mutex_unlock(&one_launch);
    return ok;
}
