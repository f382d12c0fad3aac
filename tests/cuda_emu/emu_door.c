/* emu_door.c - see door.h: what libraries above the driver are let in for. */
#include "emu_entry.h"

static int current_gpu(int *out_gpu)
{
    emu_object *context = NULL;
    const int code = emu_current(&context);
    *out_gpu = context ? context->gpu : -1;
    return code;
}

static int stream_gpu(void *stream, int *out_gpu)
{
    emu_object *s = NULL;
    const int code = emu_stream(stream, &s);
    *out_gpu = s ? s->gpu : -1;
    return code;
}

static int stream_gpu_any(void *stream, int *out_gpu)
{
    const emu_object *s = emu_find(stream, EMU_STREAM);
    *out_gpu = s ? s->gpu : -1;
    return s ? s->context->error : BERTH_CU_INVALID_HANDLE;
}

static uint8_t *host(int gpu, uint64_t at, size_t bytes)
{
    if (emu_gpu_of(at, bytes) != gpu) return NULL;
    return emu_alias(gpu, (const void *)(uintptr_t)at); // NOLINT(performance-no-int-to-ptr)
}

static int check(const emu_work *work)
{
    for (int i = 0; i < work->n_spans; i++) {
        const emu_span *span = &work->spans[i];
        if (emu_gpu_of(span->at, span->bytes) != span->gpu)
            return emu_misuse(BERTH_CU_INVALID_VALUE, "%s: %zu bytes are in no allocation of GPU %d", work->name,
                              span->bytes, span->gpu);
    }
    return 0;
}

static int queue_on(emu_object *s, int code, const emu_work *work)
{
    if (code == 0) code = check(work);
    if (code == 0) return emu_enqueue(s, &(emu_op){.kind = EMU_WORK, .work = *work, .dst_gpu = -1, .src_gpu = -1});
    if (work->end) work->end(work->user);
    return code;
}

static int queue(void *stream, const emu_work *work)
{
    emu_object *s = NULL;
    const int code = emu_stream(stream, &s);
    return queue_on(s, code, work);
}

static int queue_any(void *stream, const emu_work *work)
{
    emu_object *s = emu_find(stream, EMU_STREAM);
    return queue_on(s, s ? s->context->error : BERTH_CU_INVALID_HANDLE, work);
}

static void count(int delta)
{
    emu.handles += delta;
}

static uint64_t generation(void)
{
    return emu.generation;
}

static int capability(int gpu)
{
    return emu.config.gpu[gpu].capability;
}

static int driver_version(void)
{
    return emu.config.driver;
}

static int cublaslt(void)
{
    return emu.config.cublaslt;
}

extern const emu_door emu_door_of_driver __asm__("emu_door");
EMU_API const emu_door emu_door_of_driver = {
    .enter = emu_enter,
    .leave = emu_leave,
    .lock = emu_lock,
    .misuse = emu_misuse,
    .current = current_gpu,
    .stream = stream_gpu,
    .stream_any = stream_gpu_any,
    .unsafe = emu_unsafe,
    .queue = queue,
    .queue_any = queue_any,
    .host = host,
    .charge = emu_charge,
    .changed = emu_changed,
    .count = count,
    .generation = generation,
    .capability = capability,
    .driver_version = driver_version,
    .cublaslt = cublaslt,
    .lazy = emu_is_lazy,
};
