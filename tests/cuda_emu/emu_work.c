/* emu_work.c - entry points that queue work or wait for it: streams, events, copies, launches. */
#include <stdlib.h>
#include <string.h>

#include "emu_entry.h"

/* The default stream would wait for what blocking streams capture. */
static int check_implicit(const emu_object *null_stream)
{
    for (size_t i = 0; i < emu.n_streams; i++) {
        const emu_object *o = emu.streams[i];
        emu_capture *c = o->context == null_stream->context && !o->non_blocking ? emu_capture_of(o) : NULL;
        if (!c) continue;
        c->is_void = true;
        return emu_misuse(BERTH_CU_CAPTURE_IMPLICIT, "the default stream is used while a blocking stream is captured");
    }
    return 0;
}

int emu_stream(berth_cu_stream handle, emu_object **out)
{
    emu_object *context = NULL;
    *out = NULL;
    const int code = emu_current(&context);
    if (code) return code;
    *out = handle ? emu_find(handle, EMU_STREAM) : context->null_stream;
    if (!*out) return BERTH_CU_INVALID_HANDLE;
    if ((*out)->context != context)
        return emu_misuse(BERTH_CU_INVALID_CONTEXT, "a stream of GPU %d is used with GPU %d current", (*out)->gpu,
                          context->gpu);
    return (*out)->is_null ? check_implicit(*out) : 0;
}

/* ---- streams --------------------------------------------------------------------------------------------------------- */

EMU_API int cuStreamCreate(berth_cu_stream *stream, unsigned flags)
{
    int code = emu_enter();
    emu_object *context = NULL;
    if (code == 0) code = emu_current(&context);
    if (code == 0 && flags > BERTH_CU_STREAM_NON_BLOCKING) code = BERTH_CU_INVALID_VALUE;
    if (code == 0) {
        emu_object *s = emu_new(EMU_STREAM, context->gpu, context);
        s->non_blocking = flags != 0;
        *stream = (berth_cu_stream)s->handle; // NOLINT(performance-no-int-to-ptr)
    }
    return emu_leave(code);
}

EMU_API int cuStreamDestroy_v2(berth_cu_stream handle)
{
    const int told = emu_enter();
    emu_object *s = emu_find(handle, EMU_STREAM);
    int code = s ? s->context->error : BERTH_CU_INVALID_HANDLE;
    if (s) {
        emu_drain_stream(s);
        emu_end(s);
    }
    return emu_leave(told ? told : code);
}

EMU_API int cuStreamSynchronize(berth_cu_stream handle)
{
    int code = emu_enter();
    emu_object *s = NULL;
    if (code == 0) code = emu_stream(handle, &s);
    if (code == 0) code = emu_refuse_captured(s, "cuStreamSynchronize");
    if (code == 0) code = emu_unsafe("cuStreamSynchronize");
    if (code == 0) {
        emu_drain_stream(s);
        code = s->context->error;
    }
    return emu_leave(code);
}

EMU_API int cuStreamQuery(berth_cu_stream handle)
{
    int code = emu_enter();
    emu_object *s = NULL;
    if (code == 0) code = emu_stream(handle, &s);
    if (code == 0) code = emu_refuse_captured(s, "cuStreamQuery");
    if (code == 0) code = emu_unsafe("cuStreamQuery");
    if (code == 0 && s->head) {
        emu_ask();
        code = s->context->error;
        if (code == 0 && s->head) code = BERTH_CU_NOT_READY;
    }
    if (code == 0) emu_tsan_knows_stream(s);
    return emu_leave(code);
}

/* ---- events ---------------------------------------------------------------------------------------------------------- */

EMU_API int cuEventCreate(berth_cu_event *event, unsigned flags)
{
    int code = emu_enter();
    emu_object *context = NULL;
    if (code == 0) code = emu_current(&context);
    if (code == 0 && (flags & ~(unsigned)(BERTH_CU_EVENT_DISABLE_TIMING | BERTH_CU_EVENT_BLOCKING_SYNC)))
        code = emu_misuse(BERTH_CU_INVALID_VALUE, "flags %u of an event are not known to the emulator", flags);
    if (code == 0) {
        emu_object *e = emu_new(EMU_EVENT, context->gpu, context);
        e->number = ++emu.n_events;
        e->is_timed = !(flags & BERTH_CU_EVENT_DISABLE_TIMING);
        *event = (berth_cu_event)e->handle; // NOLINT(performance-no-int-to-ptr)
    }
    return emu_leave(code);
}

EMU_API int cuEventDestroy_v2(berth_cu_event handle)
{
    const int told = emu_enter();
    emu_object *e = emu_find(handle, EMU_EVENT);
    const int code = e ? e->context->error : BERTH_CU_INVALID_HANDLE;
    if (e) emu_end(e);
    return emu_leave(told ? told : code);
}

static int record(emu_object *s, emu_object *e)
{
    emu_mark *mark = calloc(1, sizeof *mark);
    if (!mark) abort();
    mark->refs = 2; /* the event's and the queue's */
    if (e->mark) emu_mark_release(e->mark);
    e->mark = mark;
    e->point.capture = 0;
    return emu_enqueue(s, &(emu_op){.kind = EMU_RECORD, .mark = mark, .dst_gpu = -1, .src_gpu = -1});
}

EMU_API int cuEventRecord(berth_cu_event handle, berth_cu_stream stream)
{
    int code = emu_enter();
    emu_object *s = NULL;
    if (code == 0) code = emu_stream(stream, &s);
    emu_object *e = code == 0 ? emu_find(handle, EMU_EVENT) : NULL;
    if (code == 0 && !e) code = BERTH_CU_INVALID_HANDLE;
    if (code == 0 && e->context != s->context)
        code = emu_misuse(BERTH_CU_INVALID_HANDLE, "an event of GPU %d is recorded on GPU %d", e->gpu, s->gpu);
    if (code == 0) e->n_records++;
    if (code == 0) code = emu_capture_of(s) ? emu_capture_record(s, e) : record(s, e);
    if (code == 0 && e->number == emu.config.skip_event && e->n_records == emu.config.skip_record) emu_hold(e->mark);
    return emu_leave(code);
}

static int await(emu_object *s, emu_object *e)
{
    if (!e->mark) return emu_misuse(0, "a stream waits for an event that was never recorded");
    if (e->mark->done) emu_tsan_follows(s, e->mark);
    if (e->mark->done) return 0;
    e->mark->refs++;
    return emu_enqueue(s, &(emu_op){.kind = EMU_WAIT, .mark = e->mark, .dst_gpu = -1, .src_gpu = -1});
}

/* Counts the wait. */
static bool is_left_out(const emu_object *e)
{
    const uint64_t n = emu.report.n_waits++;
    if (n < EMU_MOST_WAITS) emu.report.waits[n] = (emu_wait){e->number, e->n_records};
    return n + 1 == emu.config.skip_wait ||
           (e->number == emu.config.skip_event && e->n_records == emu.config.skip_record);
}

EMU_API int cuStreamWaitEvent(berth_cu_stream stream, berth_cu_event handle, unsigned flags)
{
    int code = emu_enter();
    emu_object *s = NULL;
    if (code == 0) code = emu_stream(stream, &s);
    emu_object *e = code == 0 ? emu_find(handle, EMU_EVENT) : NULL;
    if (code == 0 && !e) code = BERTH_CU_INVALID_HANDLE;
    if (code == 0 && flags) code = BERTH_CU_INVALID_VALUE;
    if (code == 0 && is_left_out(e)) {
        emu_capture_hold(s, e);
        emu_hold(e->mark);
        emu_hasten(s);
        return emu_leave(0);
    }
    if (code == 0) code = e->point.capture || emu_capture_of(s) ? emu_capture_wait(s, e) : await(s, e);
    return emu_leave(code);
}

/* An event that the host asks about or waits for: recorded, and not in a capture. */
static int event_of(berth_cu_event handle, const char *call, emu_object **out)
{
    *out = emu_find(handle, EMU_EVENT);
    if (!*out) return BERTH_CU_INVALID_HANDLE;
    emu_capture *c = emu_capture_of(*out);
    if (c) c->is_void = true;
    if ((*out)->point.capture)
        return emu_misuse(BERTH_CU_CAPTURED_EVENT, "%s of an event that was recorded in a capture", call);
    return emu_unsafe(call);
}

EMU_API int cuEventSynchronize(berth_cu_event handle)
{
    int code = emu_enter();
    emu_object *e = NULL;
    if (code == 0) code = event_of(handle, "cuEventSynchronize", &e);
    if (code == 0 && e->mark) emu_wait_mark(e->mark);
    if (code == 0) code = e->context->error;
    return emu_leave(code);
}

EMU_API int cuEventQuery(berth_cu_event handle)
{
    int code = emu_enter();
    emu_object *e = NULL;
    if (code == 0) code = event_of(handle, "cuEventQuery", &e);
    if (code == 0 && e->mark && !e->mark->done) emu_ask();
    if (code == 0) code = e->context->error;
    if (code == 0 && e->mark && !e->mark->done) code = BERTH_CU_NOT_READY;
    if (code == 0 && e->mark) emu_tsan_knows(e->mark);
    return emu_leave(code);
}

EMU_API int cuEventElapsedTime(float *ms, berth_cu_event from, berth_cu_event to)
{
    int code = emu_enter();
    emu_object *a = NULL, *b = NULL;
    if (code == 0) code = event_of(from, "cuEventElapsedTime", &a);
    if (code == 0) code = event_of(to, "cuEventElapsedTime", &b);
    if (code == 0 && (!a->is_timed || !b->is_timed || !a->mark || !b->mark))
        code = emu_misuse(BERTH_CU_INVALID_HANDLE, "the time of an event that was never recorded, or has none");
    if (code == 0 && a->context != b->context)
        code = emu_misuse(BERTH_CU_INVALID_HANDLE, "the time between events of two GPUs");
    if (code == 0 && (!a->mark->done || !b->mark->done)) code = BERTH_CU_NOT_READY;
    if (code == 0) *ms = (float)((double)(int64_t)(b->mark->at_ns - a->mark->at_ns) / 1e6);
    return emu_leave(code);
}

/* ---- copies ---------------------------------------------------------------------------------------------------------- */

/* Is [ptr, ptr + bytes) one live allocation's, on GPU `gpu`? */
static int check_range(berth_cu_ptr ptr, size_t bytes, int gpu, const char *call)
{
    const int there = emu_gpu_of(ptr, bytes);
    if (there < 0) return emu_misuse(BERTH_CU_INVALID_VALUE, "%s: %zu bytes are in no allocation", call, bytes);
    if (there != gpu) return emu_misuse(BERTH_CU_INVALID_VALUE, "%s: memory of GPU %d, not of %d", call, there, gpu);
    return 0;
}

/* What overlaps is copied in an order that nobody promises. */
static int check_apart(berth_cu_ptr dst, berth_cu_ptr src, size_t bytes, const char *call)
{
    if (dst + bytes <= src || src + bytes <= dst) return 0;
    return emu_misuse(BERTH_CU_INVALID_VALUE, "%s: %zu bytes onto themselves", call, bytes);
}

static uint8_t *pointer(berth_cu_ptr ptr)
{
    return (uint8_t *)(uintptr_t)ptr; // NOLINT(performance-no-int-to-ptr)
}

static int upload(emu_object *s, berth_cu_ptr dst, const void *src, size_t bytes)
{
    const int code = check_range(dst, bytes, s->gpu, "cuMemcpyHtoDAsync");
    if (code || bytes == 0) return code;
    emu_op op = {.kind = EMU_COPY, .dst_gpu = s->gpu, .src_gpu = -1, .dst = pointer(dst), .src = src, .bytes = bytes};
    const bool is_pinned = emu_is_pinned(src, bytes);
    if (emu_straddles_pinned(src, bytes))
        return emu_misuse(BERTH_CU_INVALID_VALUE, "cuMemcpyHtoDAsync: %zu bytes, only partly in pinned memory", bytes);
    if (!is_pinned && emu_capture_of(s)) return emu_refuse_captured(s, "a copy from memory that is not pinned");
    if (!is_pinned) { /* staged before the call returns */
        op.owned = malloc(bytes);
        if (!op.owned) abort();
        emu_tsan_reads(src, bytes);
        memcpy(op.owned, src, bytes);
        op.src = op.owned;
    }
    return emu_enqueue(s, &op);
}

EMU_API int cuMemcpyHtoDAsync_v2(berth_cu_ptr dst, const void *src, size_t bytes, berth_cu_stream stream)
{
    int code = emu_enter();
    emu_object *s = NULL;
    if (code == 0) code = emu_stream(stream, &s);
    if (code == 0) code = upload(s, dst, src, bytes);
    return emu_leave(code);
}

EMU_API int cuMemcpyDtoHAsync_v2(void *dst, berth_cu_ptr src, size_t bytes, berth_cu_stream stream)
{
    int code = emu_enter();
    emu_object *s = NULL;
    if (code == 0) code = emu_stream(stream, &s);
    if (code == 0) code = check_range(src, bytes, s->gpu, "cuMemcpyDtoHAsync");
    const bool is_pinned = code == 0 && emu_is_pinned(dst, bytes);
    if (code == 0 && emu_straddles_pinned(dst, bytes))
        code = emu_misuse(BERTH_CU_INVALID_VALUE, "cuMemcpyDtoHAsync: %zu bytes, only partly in pinned memory", bytes);
    if (code == 0 && !is_pinned && emu_capture_of(s))
        code = emu_refuse_captured(s, "a copy to memory that is not pinned");
    if (code == 0 && bytes > 0) {
        code = emu_enqueue(
            s,
            &(emu_op){
                .kind = EMU_COPY, .dst_gpu = -1, .src_gpu = s->gpu, .dst = dst, .src = pointer(src), .bytes = bytes});
        if (!is_pinned) { /* returns when the copy is over */
            emu_drain_stream(s);
            code = s->context->error;
        }
    }
    return emu_leave(code);
}

EMU_API int cuMemcpyDtoDAsync_v2(berth_cu_ptr dst, berth_cu_ptr src, size_t bytes, berth_cu_stream stream)
{
    int code = emu_enter();
    emu_object *s = NULL;
    if (code == 0) code = emu_stream(stream, &s);
    if (code == 0) code = check_range(dst, bytes, s->gpu, "cuMemcpyDtoDAsync");
    if (code == 0) code = check_range(src, bytes, s->gpu, "cuMemcpyDtoDAsync");
    if (code == 0 && bytes > 0) code = check_apart(dst, src, bytes, "cuMemcpyDtoDAsync");
    if (code == 0 && bytes > 0)
        code = emu_enqueue(s, &(emu_op){.kind = EMU_COPY,
                                        .dst_gpu = s->gpu,
                                        .src_gpu = s->gpu,
                                        .dst = pointer(dst),
                                        .src = pointer(src),
                                        .bytes = bytes});
    return emu_leave(code);
}

EMU_API int cuMemcpyPeerAsync(berth_cu_ptr dst, berth_cu_context dst_context, berth_cu_ptr src,
                              berth_cu_context src_context, size_t bytes, berth_cu_stream stream)
{
    int code = emu_enter();
    emu_object *s = NULL;
    if (code == 0) code = emu_stream(stream, &s);
    const emu_object *to = code == 0 ? emu_find(dst_context, EMU_CONTEXT) : NULL;
    const emu_object *from = code == 0 ? emu_find(src_context, EMU_CONTEXT) : NULL;
    if (code == 0 && (!to || !from)) code = BERTH_CU_INVALID_CONTEXT;
    if (code == 0 && s->context != to && s->context != from)
        code = emu_misuse(BERTH_CU_INVALID_CONTEXT, "a copy between two GPUs on a stream of a third");
    if (code == 0) code = to->error ? to->error : from->error;
    if (code == 0) code = check_range(dst, bytes, to->gpu, "cuMemcpyPeerAsync");
    if (code == 0) code = check_range(src, bytes, from->gpu, "cuMemcpyPeerAsync");
    if (code == 0 && bytes > 0) code = check_apart(dst, src, bytes, "cuMemcpyPeerAsync");
    if (code == 0 && bytes > 0)
        code = emu_enqueue(s, &(emu_op){.kind = EMU_COPY,
                                        .dst_gpu = to->gpu,
                                        .src_gpu = from->gpu,
                                        .dst = pointer(dst),
                                        .src = pointer(src),
                                        .bytes = bytes});
    return emu_leave(code);
}

EMU_API int cuMemsetD8Async(berth_cu_ptr dst, unsigned char value, size_t n, berth_cu_stream stream)
{
    int code = emu_enter();
    emu_object *s = NULL;
    if (code == 0) code = emu_stream(stream, &s);
    if (code == 0) code = check_range(dst, n, s->gpu, "cuMemsetD8Async");
    if (code == 0 && n > 0)
        code = emu_enqueue(
            s, &(emu_op){
                   .kind = EMU_SET, .dst_gpu = s->gpu, .src_gpu = -1, .dst = pointer(dst), .bytes = n, .value = value});
    return emu_leave(code);
}

/* ---- launches -------------------------------------------------------------------------------------------------------- */

enum { SHARED_WITHOUT_ASKING = 48 << 10 };

static int check_launch(const emu_object *function, const emu_image_launch *l)
{
    const emu_image_kernel *k = function->kernel;
    const int allowed =
        function->shared_allowed > SHARED_WITHOUT_ASKING ? function->shared_allowed : SHARED_WITHOUT_ASKING;
    const uint64_t threads = (uint64_t)l->block[0] * l->block[1] * l->block[2];
    if (threads == 0 || (uint64_t)l->grid[0] * l->grid[1] * l->grid[2] == 0) return BERTH_CU_INVALID_VALUE;
    if (l->grid[0] > 0x7FFFFFFF || l->grid[1] > 65535 || l->grid[2] > 65535) return BERTH_CU_INVALID_VALUE;
    if (threads > (k->max_threads ? k->max_threads : 1024)) return BERTH_CU_INVALID_VALUE;
    return l->shared_bytes > (uint32_t)allowed ? BERTH_CU_INVALID_VALUE : 0;
}

/* The arguments are read now, whatever the caller does with them afterwards. */
static uint8_t *copy_params(const emu_image_kernel *k, void **params, size_t *out_bytes)
{
    size_t bytes = 16;
    for (uint32_t i = 0; i < k->n_params; i++) bytes += (k->param_bytes[i] + 15u) & ~(size_t)15;
    uint8_t *copy = aligned_alloc(16, bytes);
    if (!copy) abort();
    memset(copy, 0, bytes);
    *out_bytes = bytes;
    size_t at = 0;
    for (uint32_t i = 0; i < k->n_params; i++) {
        emu_tsan_reads(params[i], k->param_bytes[i]);
        memcpy(copy + at, params[i], k->param_bytes[i]);
        at += (k->param_bytes[i] + 15u) & ~(size_t)15;
    }
    return copy;
}

EMU_API int cuLaunchKernel(berth_cu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                           unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                           berth_cu_stream stream, void **params, void **extra)
{
    int code = emu_enter();
    emu_object *s = NULL;
    if (code == 0) code = emu_stream(stream, &s);
    const emu_object *f = code == 0 ? emu_find(function, EMU_FUNCTION) : NULL;
    if (code == 0 && !f) code = BERTH_CU_INVALID_HANDLE;
    if (code == 0 && f->context != s->context)
        code = emu_misuse(BERTH_CU_INVALID_HANDLE, "a kernel of GPU %d is launched on GPU %d", f->gpu, s->gpu);
    emu_image_launch launch = {
        .grid = {grid_x, grid_y, grid_z}, .block = {block_x, block_y, block_z}, .shared_bytes = shared_bytes};
    if (code == 0 && (extra || f->kernel->n_params > 64)) code = BERTH_CU_INVALID_VALUE;
    if (code == 0) code = check_launch(f, &launch);
    if (code == 0) {
        launch.capability = emu.config.gpu[s->gpu].capability;
        emu_op op = {.kind = EMU_LAUNCH,
                     .kernel = f->kernel,
                     .opened = f->opened,
                     .launch = launch,
                     .dst_gpu = -1,
                     .src_gpu = -1};
        op.owned = copy_params(f->kernel, params, &op.owned_bytes);
        code = emu_enqueue(s, &op);
    }
    return emu_leave(code);
}
