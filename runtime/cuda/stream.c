/* stream.c - streams, events and copies: one driver call each, between entering and leaving the GPU's context. */
#include <stdlib.h>

#include "cuda/device_internal.h"

static const berth_cu_driver *driver(const berth_gpu *gpu)
{
    return &gpu->cuda->cu;
}

/* ---- streams --------------------------------------------------------------------------------------------------------- */

berth_status berth_gpu_stream_create(berth_gpu *gpu, berth_gpu_stream **out, berth_error *err)
{
    *out = NULL;
    berth_gpu_stream *s = calloc(1, sizeof *s);
    if (!s)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a stream of cuda:%d", (int)gpu->slot->info.ordinal);
    s->gpu = gpu;
    berth_status st = berth_gpu_enter(gpu, err);
    if (st == BERTH_OK) {
        const berth_cu_result code = driver(gpu)->cuStreamCreate(&s->handle, BERTH_CU_STREAM_NON_BLOCKING);
        if (code != BERTH_CU_SUCCESS) s->handle = NULL;
        st = berth_gpu_leave(gpu, code, "cuStreamCreate", err);
    }
    if (st != BERTH_OK) {
        berth_gpu_stream_destroy(s);
        return st;
    }
    *out = s;
    return BERTH_OK;
}

void berth_gpu_stream_destroy(berth_gpu_stream *s)
{
    if (!s) return;
    if (s->handle && berth_gpu_enter_to_end(s->gpu)) {
        const berth_cu_driver *cu = driver(s->gpu);
        const berth_cu_result waited = cu->cuStreamSynchronize(s->handle);
        const berth_cu_result destroyed = cu->cuStreamDestroy(s->handle);
        berth_gpu_leave_from_end(s->gpu, waited == BERTH_CU_SUCCESS ? destroyed : waited);
    }
    free(s);
}

berth_status berth_gpu_stream_wait(berth_gpu_stream *s, berth_error *err)
{
    const berth_status st = berth_gpu_enter(s->gpu, err);
    if (st != BERTH_OK) return st;
    return berth_gpu_leave(s->gpu, driver(s->gpu)->cuStreamSynchronize(s->handle), "cuStreamSynchronize", err);
}

berth_status berth_gpu_stream_over(berth_gpu_stream *s, bool *out, berth_error *err)
{
    *out = false;
    const berth_status st = berth_gpu_enter(s->gpu, err);
    if (st != BERTH_OK) return st;
    berth_cu_result code = driver(s->gpu)->cuStreamQuery(s->handle);
    *out = code == BERTH_CU_SUCCESS;
    if (code == BERTH_CU_NOT_READY) code = BERTH_CU_SUCCESS;
    return berth_gpu_leave(s->gpu, code, "cuStreamQuery", err);
}

/* ---- events ---------------------------------------------------------------------------------------------------------- */

berth_status berth_gpu_event_create(berth_gpu *gpu, berth_gpu_event **out, berth_error *err)
{
    return berth_gpu_event_create_as(gpu, 0, out, err);
}

berth_status berth_gpu_event_create_as(berth_gpu *gpu, uint32_t uses, berth_gpu_event **out, berth_error *err)
{
    *out = NULL;
    berth_gpu_event *e = calloc(1, sizeof *e);
    if (!e)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for an event of cuda:%d", (int)gpu->slot->info.ordinal);
    e->gpu = gpu;
    berth_status st = berth_gpu_enter(gpu, err);
    if (st == BERTH_OK) {
        const unsigned flags = (uses & BERTH_GPU_EVENT_SLEEPS ? BERTH_CU_EVENT_BLOCKING_SYNC : 0) |
                               (uses & BERTH_GPU_EVENT_TIMED ? 0 : BERTH_CU_EVENT_DISABLE_TIMING);
        const berth_cu_result code = driver(gpu)->cuEventCreate(&e->handle, flags);
        if (code != BERTH_CU_SUCCESS) e->handle = NULL;
        st = berth_gpu_leave(gpu, code, "cuEventCreate", err);
    }
    if (st != BERTH_OK) {
        berth_gpu_event_destroy(e);
        return st;
    }
    *out = e;
    return BERTH_OK;
}

void berth_gpu_event_destroy(berth_gpu_event *e)
{
    if (!e) return;
    if (e->handle && berth_gpu_enter_to_end(e->gpu))
        berth_gpu_leave_from_end(e->gpu, driver(e->gpu)->cuEventDestroy(e->handle));
    free(e);
}

berth_status berth_gpu_event_record(berth_gpu_event *e, berth_gpu_stream *s, berth_error *err)
{
    const berth_status st = berth_gpu_enter(s->gpu, err);
    if (st != BERTH_OK) return st;
    const berth_cu_result code = driver(s->gpu)->cuEventRecord(e->handle, s->handle);
    if (code == BERTH_CU_SUCCESS) e->recorded = true;
    return berth_gpu_leave(s->gpu, code, "cuEventRecord", err);
}

berth_status berth_gpu_event_wait(berth_gpu_event *e, berth_error *err)
{
    const berth_status st = berth_gpu_enter(e->gpu, err);
    if (st != BERTH_OK) return st;
    return berth_gpu_leave(e->gpu, driver(e->gpu)->cuEventSynchronize(e->handle), "cuEventSynchronize", err);
}

berth_status berth_gpu_event_over(berth_gpu_event *e, bool *out, berth_error *err)
{
    *out = false;
    const berth_status st = berth_gpu_enter(e->gpu, err);
    if (st != BERTH_OK) return st;
    berth_cu_result code = driver(e->gpu)->cuEventQuery(e->handle);
    *out = code == BERTH_CU_SUCCESS;
    if (code == BERTH_CU_NOT_READY) code = BERTH_CU_SUCCESS;
    return berth_gpu_leave(e->gpu, code, "cuEventQuery", err);
}

berth_status berth_gpu_event_wait_asking(berth_gpu_event *e, int32_t n_asks, berth_error *err)
{
    const berth_status st = berth_gpu_enter(e->gpu, err);
    if (st != BERTH_OK) return st;
    const char *call = "cuEventQuery";
    berth_cu_result code = BERTH_CU_NOT_READY;
    for (int32_t i = 0; i < n_asks && code == BERTH_CU_NOT_READY; i++) code = driver(e->gpu)->cuEventQuery(e->handle);
    if (code == BERTH_CU_NOT_READY) {
        call = "cuEventSynchronize";
        code = driver(e->gpu)->cuEventSynchronize(e->handle);
    }
    return berth_gpu_leave(e->gpu, code, call, err);
}

berth_status berth_gpu_event_elapsed(berth_gpu_event *from, berth_gpu_event *to, int64_t *out_ns, berth_error *err)
{
    *out_ns = 0;
    const berth_status st = berth_gpu_enter(from->gpu, err);
    if (st != BERTH_OK) return st;
    float ms = 0;
    const berth_cu_result code = driver(from->gpu)->cuEventElapsedTime(&ms, from->handle, to->handle);
    if (code == BERTH_CU_SUCCESS) *out_ns = (int64_t)((double)ms * 1e6);
    return berth_gpu_leave(from->gpu, code, "cuEventElapsedTime", err);
}

berth_status berth_gpu_stream_await(berth_gpu_stream *s, berth_gpu_event *e, berth_error *err)
{
    if (!e->recorded) return BERTH_OK;
    const berth_status st = berth_gpu_enter(s->gpu, err);
    if (st != BERTH_OK) return st;
    return berth_gpu_leave(s->gpu, driver(s->gpu)->cuStreamWaitEvent(s->handle, e->handle, 0), "cuStreamWaitEvent",
                           err);
}

/* ---- copies ---------------------------------------------------------------------------------------------------------- */

berth_status berth_gpu_upload(berth_gpu_stream *s, berth_gpu_ptr dst, const void *src, size_t bytes, berth_error *err)
{
    const berth_status st = berth_gpu_enter(s->gpu, err);
    if (st != BERTH_OK) return st;
    return berth_gpu_leave(s->gpu, driver(s->gpu)->cuMemcpyHtoDAsync(dst, src, bytes, s->handle), "cuMemcpyHtoDAsync",
                           err);
}

berth_status berth_gpu_download(berth_gpu_stream *s, void *dst, berth_gpu_ptr src, size_t bytes, berth_error *err)
{
    const berth_status st = berth_gpu_enter(s->gpu, err);
    if (st != BERTH_OK) return st;
    return berth_gpu_leave(s->gpu, driver(s->gpu)->cuMemcpyDtoHAsync(dst, src, bytes, s->handle), "cuMemcpyDtoHAsync",
                           err);
}

berth_status berth_gpu_copy(berth_gpu_stream *s, berth_gpu_ptr dst, berth_gpu_ptr src, size_t bytes, berth_error *err)
{
    const berth_status st = berth_gpu_enter(s->gpu, err);
    if (st != BERTH_OK) return st;
    return berth_gpu_leave(s->gpu, driver(s->gpu)->cuMemcpyDtoDAsync(dst, src, bytes, s->handle), "cuMemcpyDtoDAsync",
                           err);
}

berth_status berth_gpu_fill(berth_gpu_stream *s, berth_gpu_ptr dst, uint8_t value, size_t bytes, berth_error *err)
{
    const berth_status st = berth_gpu_enter(s->gpu, err);
    if (st != BERTH_OK) return st;
    return berth_gpu_leave(s->gpu, driver(s->gpu)->cuMemsetD8Async(dst, value, bytes, s->handle), "cuMemsetD8Async",
                           err);
}

berth_status berth_gpu_copy_peer(berth_gpu_stream *s, const berth_gpu *to, berth_gpu_ptr dst, const berth_gpu *from,
                                 berth_gpu_ptr src, size_t bytes, berth_error *err)
{
    const berth_status st = berth_gpu_enter(s->gpu, err);
    if (st != BERTH_OK) return st;
    return berth_gpu_leave(s->gpu,
                           driver(s->gpu)->cuMemcpyPeerAsync(dst, to->context, src, from->context, bytes, s->handle),
                           "cuMemcpyPeerAsync", err);
}

/* ---- pinned memory --------------------------------------------------------------------------------------------------- */

berth_status berth_gpu_pin(berth_gpu *gpu, size_t bytes, void **out, berth_error *err)
{
    *out = NULL;
    berth_status st = berth_gpu_enter(gpu, err);
    if (st != BERTH_OK) return st;
    void *memory = NULL;
    const berth_cu_result code = driver(gpu)->cuMemHostAlloc(&memory, bytes, BERTH_CU_HOST_ALLOC_PORTABLE);
    st = berth_gpu_leave(gpu, code, "cuMemHostAlloc", err);
    if (st == BERTH_OK)
        *out = memory;
    else if (code == BERTH_CU_SUCCESS)
        berth_gpu_unpin(gpu, memory);
    return st;
}

void berth_gpu_unpin(berth_gpu *gpu, void *memory)
{
    if (memory && berth_gpu_enter_to_end(gpu)) berth_gpu_leave_from_end(gpu, driver(gpu)->cuMemFreeHost(memory));
}
