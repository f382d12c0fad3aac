/* device.h - GPUs behind plain C: which there are, and memory, streams, events, copies, kernels on one of them.
 *
 * No CUDA type is seen from here on. Addresses on a GPU are berth_gpu_ptr, never to be dereferenced by the host. Every
 * error has native_api "cuda", native_code and device set when the driver gave it: BERTH_OUT_OF_MEMORY,
 * BERTH_DEVICE_ERROR, or BERTH_DEVICE_LOST when the GPU's context is beyond repair; from then on every call on that GPU
 * is BERTH_DEVICE_LOST at once, and what ends things still works. Only those of other kinds are named below.
 *
 * Threads: a berth_cuda may be used by any threads once it is open; a GPU, its streams and events by any threads, one
 * at a time per stream, event, ring. Calls leave the thread's current CUDA context as they found it, since the program
 * around us may use CUDA too. */
#ifndef BERTH_CUDA_DEVICE_H
#define BERTH_CUDA_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef uint64_t berth_gpu_ptr; /* 0 = none */

typedef struct berth_cuda berth_cuda;             /* the driver, opened */
typedef struct berth_gpu berth_gpu;               /* a logical device on one GPU: its context and arena */
typedef struct berth_gpu_stream berth_gpu_stream; /* work in order */
typedef struct berth_gpu_event berth_gpu_event;   /* a point in a stream's work */
typedef struct berth_gpu_module berth_gpu_module; /* loaded device code */
typedef struct berth_gpu_ring berth_gpu_ring;     /* pinned host memory for uploads */
typedef struct berth_gpu_graph berth_gpu_graph;   /* work captured once, queued again and again */

/* ---- what there is --------------------------------------------------------------------------------------------------- */

typedef enum berth_gpu_mode { BERTH_GPU_SHARED, BERTH_GPU_PROHIBITED, BERTH_GPU_EXCLUSIVE } berth_gpu_mode;

typedef struct berth_gpu_info {
    int32_t ordinal; /* as CUDA_VISIBLE_DEVICES leaves it */
    char name[96];   /* "NVIDIA A10" */
    char pci[32];    /* "0000:3B:00.0" */
    uint8_t uuid[16];
    int32_t capability; /* 86 = 8.6 */
    int32_t n_multiprocessors, n_copy_engines;
    int32_t max_shared_bytes; /* of a block that asks for it */
    uint64_t memory_bytes;
    berth_gpu_mode mode;
} berth_gpu_info;

/* Opens the driver (`path` NULL: libcuda.so.1) and reads what each GPU is; makes no context. Errors, each with what to
 * do: BERTH_NOT_FOUND (no driver, no GPU), BERTH_UNSUPPORTED (too old), BERTH_DEVICE_ERROR, BERTH_OUT_OF_MEMORY. */
berth_status berth_cuda_open(const char *path, berth_cuda **out, berth_error *err);
void berth_cuda_close(berth_cuda *cuda); /* after all its GPUs */

int32_t berth_cuda_version(const berth_cuda *cuda); /* 12040: the driver serves CUDA 12.4 */
int32_t berth_cuda_n_gpus(const berth_cuda *cuda);
const berth_gpu_info *berth_cuda_gpu(const berth_cuda *cuda, int32_t ordinal); /* borrowed */
/* The driver says that a copy engine of `from` reaches `to`. Whether the bytes arrive is for a probe to say. */
bool berth_cuda_has_peer(const berth_cuda *cuda, int32_t from, int32_t to);

/* ---- a GPU in use ---------------------------------------------------------------------------------------------------- */

/* Retains the GPU's primary context and allocates `arena_bytes` (0 = none) at once. May be called again for the same
 * GPU: logical devices share its context and have their own arenas. Errors besides: BERTH_INVALID_ARGUMENT (no such
 * ordinal), BERTH_DOES_NOT_FIT with wanted and free bytes; exclusive and prohibited compute mode are
 * BERTH_DEVICE_ERROR. */
berth_status berth_gpu_open(berth_cuda *cuda, int32_t ordinal, size_t arena_bytes, berth_gpu **out, berth_error *err);
/* After all that was made from it. Waits for nothing: streams are destroyed first, and that waits. */
void berth_gpu_close(berth_gpu *gpu);

const berth_gpu_info *berth_gpu_about(const berth_gpu *gpu); /* borrowed */
bool berth_gpu_is_lost(const berth_gpu *gpu);

/* Memory that no one uses on the whole GPU, other processes counted in. */
berth_status berth_gpu_memory(berth_gpu *gpu, uint64_t *out_free, uint64_t *out_total, berth_error *err);

enum { BERTH_GPU_ALIGN = 256 };
/* The next `bytes` of the arena, BERTH_GPU_ALIGN aligned, not initialised, valid while the GPU is open. BERTH_INTERNAL
 * when it is used up: what is taken was planned. */
berth_status berth_gpu_take(berth_gpu *gpu, size_t bytes, berth_gpu_ptr *out, berth_error *err);

/* Lets copies and kernels of `gpu` reach the memory of `peer`; done already is fine. BERTH_UNSUPPORTED: they cannot. */
berth_status berth_gpu_reach(berth_gpu *gpu, const berth_gpu *peer, berth_error *err);

/* ---- streams and events ---------------------------------------------------------------------------------------------- */

/* Does not order itself with the legacy default stream. */
berth_status berth_gpu_stream_create(berth_gpu *gpu, berth_gpu_stream **out, berth_error *err);
void berth_gpu_stream_destroy(berth_gpu_stream *s);                        /* waits for its work */
berth_status berth_gpu_stream_wait(berth_gpu_stream *s, berth_error *err); /* until all queued work is over */
berth_status berth_gpu_stream_over(berth_gpu_stream *s, bool *out, berth_error *err); /* without waiting */

/* An event for ordering streams: without timing; a host that waits for it may spin. */
berth_status berth_gpu_event_create(berth_gpu *gpu, berth_gpu_event **out, berth_error *err);
enum {
    BERTH_GPU_EVENT_SLEEPS = 1, /* the host waits for it asleep: no CPU taken, awake some ten microseconds after */
    BERTH_GPU_EVENT_TIMED = 2   /* berth_gpu_event_elapsed; its record costs the GPU a little */
};
berth_status berth_gpu_event_create_as(berth_gpu *gpu, uint32_t uses, berth_gpu_event **out, berth_error *err);
void berth_gpu_event_destroy(berth_gpu_event *e);
/* The event is over when what `s` has queued so far is; `s` is of the event's GPU. */
berth_status berth_gpu_event_record(berth_gpu_event *e, berth_gpu_stream *s, berth_error *err);
berth_status berth_gpu_event_wait(berth_gpu_event *e, berth_error *err); /* the host waits */
berth_status berth_gpu_event_over(berth_gpu_event *e, bool *out, berth_error *err);
/* As berth_gpu_event_wait, but asks up to `n_asks` times first, about a microsecond each: what is almost over is then
 * seen at once, and only what is not is waited for asleep. */
berth_status berth_gpu_event_wait_asking(berth_gpu_event *e, int32_t n_asks, berth_error *err);
/* Nanoseconds on the GPU from the last record of `from` to that of `to`, to half a microsecond. Both are timed, of one
 * GPU, recorded, and over. */
berth_status berth_gpu_event_elapsed(berth_gpu_event *from, berth_gpu_event *to, int64_t *out_ns, berth_error *err);
/* What `s`, of any GPU, queues from now on waits for the last record of `e`; nothing waits when there was none. */
berth_status berth_gpu_stream_await(berth_gpu_stream *s, berth_gpu_event *e, berth_error *err);

/* ---- copies: queued on `s`, of the GPU whose memory is named unless said otherwise ----------------------------------- */

/* `src` is read later when it is pinned (then it must stay until the copy is over), during the call otherwise. */
berth_status berth_gpu_upload(berth_gpu_stream *s, berth_gpu_ptr dst, const void *src, size_t bytes, berth_error *err);
/* `dst` is written until the stream is over; unpinned, the call waits for the copy. */
berth_status berth_gpu_download(berth_gpu_stream *s, void *dst, berth_gpu_ptr src, size_t bytes, berth_error *err);
berth_status berth_gpu_copy(berth_gpu_stream *s, berth_gpu_ptr dst, berth_gpu_ptr src, size_t bytes, berth_error *err);
berth_status berth_gpu_fill(berth_gpu_stream *s, berth_gpu_ptr dst, uint8_t value, size_t bytes, berth_error *err);
/* Between GPUs, `s` of either; by way of the host where `from` does not reach `to`. */
berth_status berth_gpu_copy_peer(berth_gpu_stream *s, const berth_gpu *to, berth_gpu_ptr dst, const berth_gpu *from,
                                 berth_gpu_ptr src, size_t bytes, berth_error *err);

/* Copies a pattern from `src` on one GPU to `dst` on the other and compares what arrived, at 4 KiB, 64 KiB and `bytes`
 * (at most): there are machines whose copies between GPUs succeed and bring zeros, or what was there before, or spoil
 * large ones only. Overwrites both. BERTH_MISMATCH says what arrived instead; the pair is not to be used then.
 * Waits. */
berth_status berth_gpu_prove(berth_gpu *from, berth_gpu_ptr src, berth_gpu *to, berth_gpu_ptr dst, size_t bytes,
                             berth_error *err);

/* ---- graphs ---------------------------------------------------------------------------------------------------------- */

/* From now on what this thread queues on `s` is not carried out but captured, until berth_gpu_capture_end on the same
 * stream and thread. Calls of other threads on other streams go on undisturbed.
 *
 * Captured: launches, fills, copies of device and pinned memory. Arguments are read now, pinned memory when the graph
 * runs: what changes from one launch to the next is passed in memory.
 *
 * Other streams: one that awaits an event recorded in the capture is captured too from then on; `s` must await its last
 * work before the end. Only this thread may use the streams of the capture. An event recorded in a capture orders work
 * within it only, and is recorded anew before it is used outside; events from outside are awaited before it begins.
 *
 * Refused: waiting for and asking about anything, copies of unpinned memory, allocation, pinning, loading, graphs. The
 * capture is void after a refusal. Errors of rules and of the driver both are BERTH_DEVICE_ERROR. */
berth_status berth_gpu_capture_begin(berth_gpu_stream *s, berth_error *err);
/* Ends the capture whatever happened, unless stream or thread are wrong. On failure *out is NULL and the stream may be
 * used as before. Some microseconds a launch. */
berth_status berth_gpu_capture_end(berth_gpu_stream *s, berth_gpu_graph **out, berth_error *err);
/* Queues all of it on `s`, of the GPU it was captured on: after what `s` has queued, and after earlier launches of the
 * same graph. What it names must still be there: memory, modules. */
berth_status berth_gpu_graph_launch(berth_gpu_stream *s, berth_gpu_graph *g, berth_error *err);
void berth_gpu_graph_destroy(berth_gpu_graph *g); /* after its launches are over; NULL is fine */

/* ---- pinned host memory ---------------------------------------------------------------------------------------------- */

/* Usable with every GPU; freed on the GPU it came from. */
berth_status berth_gpu_pin(berth_gpu *gpu, size_t bytes, void **out, berth_error *err);
void berth_gpu_unpin(berth_gpu *gpu, void *memory);

/* ---- ring: uploads from unpinned sources, overlapping the filling ---------------------------------------------------- */

berth_status berth_gpu_ring_create(berth_gpu *gpu, int32_t n_slots, size_t slot_bytes, berth_gpu_ring **out,
                                   berth_error *err);
void berth_gpu_ring_destroy(berth_gpu_ring *ring); /* waits for copies under way */
/* The next slot, once the copy out of it is over. Fill it, then send it. */
berth_status berth_gpu_ring_next(berth_gpu_ring *ring, void **out, berth_error *err);
/* Queues the copy of the slot's first `bytes`. BERTH_INVALID_ARGUMENT: more than a slot holds. */
berth_status berth_gpu_ring_send(berth_gpu_ring *ring, berth_gpu_stream *s, berth_gpu_ptr dst, size_t bytes,
                                 berth_error *err);

/* ---- device code ----------------------------------------------------------------------------------------------------- */

typedef struct berth_gpu_kernel { /* valid while its module is */
    void *function;
    const char *name; /* borrowed from the call that found it */
} berth_gpu_kernel;

/* `image` is a cubin, a fatbin or PTX text; it is read during the call. BERTH_UNSUPPORTED: not for this GPU or
 * driver. */
berth_status berth_gpu_module_load(berth_gpu *gpu, const void *image, berth_gpu_module **out, berth_error *err);
void berth_gpu_module_unload(berth_gpu_module *m); /* after its kernels are over */
/* BERTH_NOT_FOUND: the module has no such kernel. `shared_bytes`: the most dynamic shared memory a launch will ask
 * for. */
berth_status berth_gpu_kernel_find(berth_gpu_module *m, const char *name, int32_t shared_bytes, berth_gpu_kernel *out,
                                   berth_error *err);

typedef struct berth_gpu_grid {
    uint32_t blocks[3], threads[3]; /* 0 counts as 1 */
    uint32_t shared_bytes;
} berth_gpu_grid;

/* `params[i]` points to the i-th argument, read during the call. */
berth_status berth_gpu_launch(berth_gpu_stream *s, const berth_gpu_kernel *k, const berth_gpu_grid *grid, void **params,
                              berth_error *err);

#endif
