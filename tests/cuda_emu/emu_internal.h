/* emu_internal.h - what the files of the emulated driver share: the world, its objects, its queues. All of it is under
 * one lock, held by every entry point for its whole call. */
#ifndef CUDA_EMU_EMU_INTERNAL_H
#define CUDA_EMU_EMU_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda/driver.h"
#include "door.h"
#include "emu.h"
#include "emu_tsan.h"
#include "image.h"

enum { EMU_MAX_GPUS = 8, EMU_RED = 0xFD, EMU_FRESH = 0xCD };

typedef struct emu_config {
    int n_gpus, driver, init, cublaslt;
    uint64_t seed, fail_call, skip_wait, skip_copy;
    uint32_t skip_event, skip_record;
    int fail_code, exit_code, lazy, hold_ms;
    struct {
        int capability, mode, busy, host_gbps, peer[EMU_MAX_GPUS], lie[EMU_MAX_GPUS], peer_gbps[EMU_MAX_GPUS];
        uint64_t memory, context_memory;
        char name[64];
    } gpu[EMU_MAX_GPUS];
} emu_config;

bool emu_config_read(emu_config *c, const char *text); /* false: it cannot be read; said on stderr */

typedef struct emu_range {  /* an allocation */
    size_t at, bytes, span; /* offset in its GPU's range; span: with the red zones around it, whole pages */
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
    uint64_t at_ns; /* of the emulated clock */
} emu_mark;

typedef enum emu_op_kind { EMU_COPY, EMU_SET, EMU_LAUNCH, EMU_RECORD, EMU_WAIT, EMU_WORK, EMU_GRAPH } emu_op_kind;

typedef struct emu_op {
    emu_op_kind kind;
    uint64_t seq;               /* order of all calls */
    bool is_skipped;            /* a copy that brings nothing */
    struct emu_object *context; /* of the stream it was queued on */
    int dst_gpu, src_gpu;       /* -1 = host */
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
    emu_work work;
    struct emu_run *run; /* of a graph */
    struct emu_op *next;
} emu_op;

typedef struct emu_node { /* of a graph: goes when the nodes before it are over */
    emu_op op;
    size_t *after; /* [n_after] */
    size_t n_after;
    bool is_held; /* a wait for it was left out */
} emu_node;

typedef struct emu_nodes { /* what a graph and its executables share */
    int refs;
    emu_node *nodes;
    size_t n;
} emu_nodes;

typedef struct emu_run { /* one launch of a graph */
    emu_nodes *nodes;
    bool *done;   /* [nodes->n] */
    void **users; /* [nodes->n]; of a library's work, for this run */
    size_t n_left;
} emu_run;

/* Where a stream or an event is in a capture: after these nodes. */
typedef struct emu_point {
    uint64_t capture; /* 0 = none */
    size_t *nodes;    /* [n] */
    size_t n;
} emu_point;

typedef struct emu_capture {
    uint64_t id, thread;
    struct emu_object *origin; /* the stream it was begun on */
    bool is_void;
    emu_nodes *nodes;
} emu_capture;

/* Whom something must be carried out for: somebody waits; what a wait that was left out waited for; the stream that
 * would have waited. */
typedef enum emu_wish { EMU_FOR_WAITER, EMU_FOR_HELD, EMU_FOR_HASTY, EMU_N_WISHES } emu_wish;

typedef enum emu_kind {
    EMU_CONTEXT = 1,
    EMU_STREAM,
    EMU_EVENT,
    EMU_MODULE,
    EMU_FUNCTION,
    EMU_GRAPH_OBJECT,
    EMU_EXEC
} emu_kind;

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
    uint64_t wanted[EMU_N_WISHES]; /* number of the last op that must be */
    void *fibre;                   /* to the thread sanitizer; NULL = none */
    /* stream, event */
    emu_point point;
    /* event; executable graph: of its last launch */
    emu_mark *mark;
    bool is_timed;
    uint32_t number, n_records; /* of an event: among all, from 1; how often it was recorded */
    /* graph, executable graph */
    emu_nodes *nodes;
    /* module, function */
    void *opened;
    int fd; /* of the module's image */
    const emu_image *image;
    const emu_image_kernel *kernel;
    int shared_allowed; /* dynamic bytes, once they were asked for; 0 = as many as need no asking */
} emu_object;

typedef struct emu_world {
    bool started;
    emu_config config;
    emu_gpu gpus[EMU_MAX_GPUS];
    emu_object **objects;
    size_t n_objects;
    emu_object **streams; /* those of objects that are alive */
    size_t n_streams;
    emu_capture **captures; /* under way */
    size_t n_captures;
    int handles;
    uint64_t now_ns; /* the emulated clock: what ran so far took this long */
    struct {
        uint8_t *base;
        size_t bytes;
        bool alive;
    } * pinned;
    size_t n_pinned;
    uint64_t random, seq, generation, last_capture;
    emu_mark *held;    /* what the wait that was left out waited for; NULL = none */
    emu_object *hasty; /* the stream it was left out of; NULL: none was */
    bool is_harmed;    /* something was queued there since */
    int64_t held_ns;   /* of hold_ms, so long it was waited for that */
    uint32_t n_events; /* created */
    uint64_t n_asked;  /* queries in vain since something was queued or carried out */
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
bool emu_straddles_pinned(const void *ptr, size_t bytes); /* partly pinned, or over two allocations */
/* Memory that the driver or a library takes (or, negative, gives back) besides what is allocated. */
int emu_charge(int gpu, int64_t bytes);
int emu_host_alloc(void **out, size_t bytes);
int emu_host_free(void *ptr);
void emu_host_free_all(void);
void emu_open(const emu_object *context, bool open); /* lets a kernel at what this context may touch */
bool emu_red_zones_whole(int gpu);
/* A word points into memory that was freed. */
bool emu_names_freed(const uint8_t *words, size_t bytes);
/* What is open to the context, for a launch; the caller frees it. */
emu_image_range *emu_open_ranges(const emu_object *context, size_t *out_n);

/* emu_queue.c */
int emu_enqueue(emu_object *stream, const emu_op *op); /* takes what the op owns; into the capture if there is one */
bool emu_step(void);                                   /* one op; false: none can go on */
bool emu_is_lazy(void);
void emu_ask(void);                  /* a query: asking again and again comes to an end */
void emu_hold(emu_mark *mark);       /* waits for it are left out */
void emu_hasten(emu_object *stream); /* a wait of this stream is */
void emu_drain_stream(emu_object *stream);
void emu_drain_context(const emu_object *context);
void emu_wait_mark(emu_mark *mark);
void emu_drop(const emu_object *context); /* queued work of a dead context */
void emu_latch(emu_object *context, int code);
void emu_mark_release(emu_mark *mark);
void emu_op_deinit(emu_op *op); /* what it owns */
/* Does `test` hold for a queued op, or for a node of a queued graph? */
bool emu_any_queued(bool (*test)(const emu_op *op, const void *arg), const void *arg);
/* Queued work that reads or writes [base, base + bytes); gpu -1 = host. A launch does when a word of its arguments points
 * there; one that comes there by other ways faults, as memory that was freed is not opened for it. */
bool emu_in_use(int gpu, const uint8_t *base, size_t bytes);

/* emu_want.c: what must be carried out first, and all that it needs; `seq`: of the last op of the stream */
void emu_want_nothing(emu_wish wish);
void emu_want(emu_wish wish, emu_object *stream, uint64_t seq);
void emu_want_mark(emu_wish wish, const emu_mark *mark);
void emu_want_context(emu_wish wish, const emu_object *context);
bool emu_is_wanted(emu_wish wish, const emu_object *stream); /* its head */

/* emu_run.c: what an op does, when it may go, and how long it takes on the emulated clock */
int emu_perform(const emu_op *op, void *user); /* 0, or what the context dies of */

/* emu_capture.c */
uint64_t emu_thread(void);                                      /* another number for each thread */
emu_capture *emu_capture_of(const emu_object *stream_or_event); /* NULL: none under way */
int emu_capture_add(emu_object *stream, const emu_op *op);
/* What must not happen while this thread captures: 0, or the code, and the capture is void. */
int emu_unsafe(const char *call);
int emu_refuse_captured(const emu_object *stream, const char *call); /* the same for one stream */
int emu_capture_record(emu_object *stream, emu_object *event);
int emu_capture_wait(emu_object *stream, const emu_object *event);
void emu_capture_hold(const emu_object *stream, const emu_object *event); /* a wait in a capture is left out */
void emu_capture_forget(emu_object *o);                                   /* it is destroyed */
bool emu_capture_fail(void); /* this thread's captures are void now; false: it has none */
void emu_capture_spoil(const emu_object *context);
void emu_capture_drop_all(void);
void emu_nodes_release(emu_nodes *nodes);

/* emu_graph.c */
void emu_run_destroy(emu_run *run);

/* emu_cuda.c */
void emu_wait_change(void);      /* until another thread queued something; the lock is given back meanwhile */
void emu_wait_change_ms(int ms); /* the same, but no longer */
void emu_changed(void);

#endif
