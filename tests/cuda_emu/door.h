/* door.h - how emulated libraries above the driver (cuBLAS, NCCL) queue work on its GPUs: lazily, in stream order,
 * captured into graphs, checked as kernels are.
 *
 * The emulated libcuda.so.1 exports "emu_door", found with dlopen("libcuda.so.1", RTLD_NOLOAD | RTLD_NOW) and dlsym.
 * Each entry point of a library is `code = enter(); ... return map(leave(code))`: enter takes the driver's lock and
 * counts the call among those that CUDA_EMU's fail= can fail; all but enter is called between the two. Callbacks of
 * queued work run under the lock, on whatever thread waits, and must not enter. */
#ifndef CUDA_EMU_DOOR_H
#define CUDA_EMU_DOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EMU_MAX_SPANS = 8 };

/* Memory of a GPU that the work touches: must be in one live allocation, must not be freed while it is queued. */
typedef struct emu_span {
    int gpu;
    uint64_t at;
    size_t bytes;
} emu_span;

typedef void emu_want_fn(void *stream, const void *user, bool over, void *arg);

typedef struct emu_work {
    const char *name;
    void *user;
    /* May it go now, as the first of its stream? NULL: yes. Asked often; false: others are waited for (the other ranks
     * of a collective). */
    bool (*ready)(void *user);
    /* Calls `want` for each other piece of queued work that must be over, or at least have come to its turn, before this
     * can go: by that one's stream and user. NULL: there is none. */
    void (*needs)(const void *user, emu_want_fn *want, void *arg);
    /* Somebody waits, and nothing at all can go on until another thread queues something. True: something was changed
     * (an error noted), look again. NULL: wait. */
    bool (*stalled)(void *user);
    /* Carries it out. 0, or the CUresult the context dies of. */
    int (*run)(void *user);
    /* A graph that holds this work is launched: `user` for that one run. NULL: the work may not be captured. */
    void *(*again)(void *user);
    /* Once for each user: it ran, was dropped unrun, or its graph is gone. NULL: nothing to do. */
    void (*end)(void *user);
    emu_span spans[EMU_MAX_SPANS];
    int n_spans;
} emu_work;

typedef struct emu_door {
    int (*enter)(void);     /* takes the lock; the code the call was told to fail with, or 0 */
    int (*leave)(int code); /* gives the lock back; is `code` */
    void (*lock)(void);     /* as enter, for a test's questions: counts and fails nothing */
    /* Counts and says a misuse; is `code`. */
    int (*misuse)(int code, const char *fmt, ...);
    /* The GPU of the thread's current context; or the code why there is none or it is dead. */
    int (*current)(int *out_gpu);
    /* `stream` is a live one of the current context: 0 and its GPU; else the code. */
    int (*stream)(void *stream, int *out_gpu);
    /* The same for a live stream of any context but a default one: some libraries find the context themselves. */
    int (*stream_any)(void *stream, int *out_gpu);
    /* This thread captures: what allocates, waits or loads is refused then. 0, or the code, with the capture made
     * void. */
    int (*unsafe)(const char *call);
    /* Takes work->user, on failure too: `end` is called for it. Checks the spans. */
    int (*queue)(void *stream, const emu_work *work);
    int (*queue_any)(void *stream, const emu_work *work); /* `stream` as in stream_any */
    /* Where a callback reads and writes memory of a GPU; NULL: not in one live allocation. */
    uint8_t *(*host)(int gpu, uint64_t at, size_t bytes);
    /* Memory of a GPU that the library takes for itself, or gives back (negative): 0, or CUDA_ERROR_OUT_OF_MEMORY. */
    int (*charge)(int gpu, int64_t bytes);
    void (*changed)(void);        /* what `ready` says may have changed: wakes those who wait */
    void (*count)(int delta);     /* the library's objects alive, for the account of leaks */
    uint64_t (*generation)(void); /* another number after each emu_reset: what was before is gone */
    int (*capability)(int gpu);
    int (*driver_version)(void);
    int (*cublaslt)(void); /* of the configuration */
    bool (*lazy)(void);    /* work goes as late as it may (emu.h): what may be done ahead of its turn is done ahead */
} emu_door;

#endif
