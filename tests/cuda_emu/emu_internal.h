/* emu_internal.h - what the files of the emulated driver share: the world, its objects, its queues. All of it is under
 * one lock, held by every entry point for its whole call. */
#ifndef CUDA_EMU_EMU_INTERNAL_H
#define CUDA_EMU_EMU_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda/driver.h"
#include "emu.h"
#include "image.h"

enum { EMU_MAX_GPUS = 8, EMU_RED = 0xFD, EMU_FRESH = 0xCD };

typedef struct emu_config {
    int n_gpus, driver, init;
    uint64_t seed, fail_call;
    int fail_code, exit_code;
    struct {
        int capability, mode, busy, peer[EMU_MAX_GPUS], lie[EMU_MAX_GPUS];
        uint64_t memory;
        char name[64];
    } gpu[EMU_MAX_GPUS];
} emu_config;

bool emu_config_read(emu_config *c, const char *text); /* false: it cannot be read; said on stderr */

typedef struct emu_range {  /* an allocation */
    size_t at, bytes, span; /* offset in its GPU's range; span: rounded up to pages, the rest is a red zone */
    bool alive;
} emu_range;

typedef struct emu_gpu {
    uint8_t *view, *alias; /* the same memory: the addresses callers see, without access; and the emulator's own */
    size_t reserved, next, used;
    emu_range *ranges;
    size_t n_ranges;
    struct emu_object *context; /* primary; NULL = none */
    int retained;
} emu_gpu;

typedef struct emu_mark { /* one record of an event */
    int refs;
    bool done;
} emu_mark;

typedef enum emu_op_kind { EMU_COPY, EMU_SET, EMU_LAUNCH, EMU_RECORD, EMU_WAIT } emu_op_kind;

typedef struct emu_op {
    emu_op_kind kind;
    uint64_t seq;         /* order of all calls */
    int dst_gpu, src_gpu; /* -1 = host */
    uint8_t *dst;
    const uint8_t *src;
    size_t bytes;
    uint8_t *owned; /* staged source, or the arguments of a launch */
    int value;
    emu_mark *mark;
    const emu_image_kernel *kernel;
    const void *opened; /* the kernel's image */
    size_t owned_bytes;
    emu_image_launch launch;
    struct emu_op *next;
} emu_op;

typedef enum emu_kind { EMU_CONTEXT = 1, EMU_STREAM, EMU_EVENT, EMU_MODULE, EMU_FUNCTION } emu_kind;

typedef struct emu_object {
    emu_kind kind;
    bool alive;
    uintptr_t handle;
    int gpu;
    struct emu_object *context; /* it belongs to; itself for a context */
    /* context */
    int error; /* sticky */
    bool peers[EMU_MAX_GPUS];
    struct emu_object *null_stream;
    /* stream */
    bool non_blocking, is_null;
    emu_op *head, *tail;
    /* event */
    emu_mark *mark;
    /* module, function */
    void *opened;
    int fd; /* of the module's image */
    const emu_image *image;
    const emu_image_kernel *kernel;
} emu_object;

typedef struct emu_world {
    bool started;
    emu_config config;
    emu_gpu gpus[EMU_MAX_GPUS];
    emu_object **objects;
    size_t n_objects;
    struct {
        uint8_t *base;
        size_t bytes;
        bool alive;
    } * pinned;
    size_t n_pinned;
    uint64_t random, seq, generation;
    bool initialised;
    emu_report report;
} emu_world;

extern emu_world emu; /* one a process, as a driver is */

/* emu_world.c */
void emu_start(const char *config); /* does nothing when started */
void emu_stop(void);
uint64_t emu_random(void);
/* Counts and says a misuse; is `code`. */
int emu_misuse(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
emu_object *emu_new(emu_kind kind, int gpu, emu_object *context);
emu_object *emu_find(const void *handle, emu_kind kind); /* NULL, with a misuse if it was destroyed */
void emu_end(emu_object *o);
void emu_account(emu_report *out);

/* emu_memory.c */
int emu_alloc(int gpu, size_t bytes, berth_cu_ptr *out);
int emu_free(int gpu, berth_cu_ptr ptr);
void emu_free_all(int gpu);
/* The GPU on which [ptr, ptr + bytes) lies in one live allocation, or -1. */
int emu_gpu_of(berth_cu_ptr ptr, size_t bytes);
uint8_t *emu_alias(int gpu, const void *ptr);
bool emu_is_pinned(const void *ptr, size_t bytes);
int emu_host_alloc(void **out, size_t bytes);
int emu_host_free(void *ptr);
void emu_host_free_all(void);
void emu_open(const emu_object *context, bool open); /* lets a kernel at what this context may touch */
bool emu_red_zones_whole(int gpu);
/* What is open to the context, for a launch; the caller frees it. */
emu_image_range *emu_open_ranges(const emu_object *context, size_t *out_n);

/* emu_queue.c */
int emu_enqueue(emu_object *stream, const emu_op *op); /* takes op->owned and op->mark */
bool emu_step(void);                                   /* one op, chosen by chance; false: none can go on */
void emu_drain_stream(emu_object *stream);
void emu_drain_context(const emu_object *context);
void emu_wait_mark(const emu_mark *mark);
void emu_drop(const emu_object *context); /* queued work of a dead context */
void emu_latch(emu_object *context, int code);
void emu_mark_release(emu_mark *mark);
/* Queued work that reads or writes [base, base + bytes); gpu -1 = host. A launch does when a word of its arguments points
 * there; one that comes there by other ways faults, as memory that was freed is not opened for it. */
bool emu_in_use(int gpu, const uint8_t *base, size_t bytes);

#endif
