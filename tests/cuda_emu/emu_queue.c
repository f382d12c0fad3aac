/* emu_queue.c - queued work and the order in which it is carried out.
 *
 * A stream is a list of ops. The head of any stream may go next, unless it waits for an event's record that is not over,
 * or the legacy default stream of its context comes between (CUDA Driver API, "Stream synchronization behavior": work
 * there waits for all earlier work of blocking streams, and they for it). Which one goes is drawn by lot, and nothing goes
 * before somebody must know: the worst timing that a program may meet. */
#include <stdlib.h>
#include <string.h>

#include "emu_internal.h"

void emu_mark_release(emu_mark *mark)
{
    if (--mark->refs == 0) free(mark);
}

static void free_op(emu_op *op)
{
    if (op->mark) {
        if (op->kind == EMU_RECORD) op->mark->done = true;
        emu_mark_release(op->mark);
    }
    free(op->owned);
    free(op);
}

int emu_enqueue(emu_object *stream, const emu_op *op)
{
    emu_op *copy = malloc(sizeof *copy);
    if (!copy) abort();
    *copy = *op;
    copy->seq = ++emu.seq;
    copy->next = NULL;
    if (stream->tail)
        stream->tail->next = copy;
    else
        stream->head = copy;
    stream->tail = copy;
    return BERTH_CU_SUCCESS;
}

/* Earlier work that the legacy default stream puts before this stream's head. */
static bool is_held_up(const emu_object *stream)
{
    if (stream->non_blocking) return false;
    const emu_object *null_stream = stream->context->null_stream;
    if (stream != null_stream) return null_stream->head && null_stream->head->seq < stream->head->seq;
    for (size_t i = 0; i < emu.n_objects; i++) {
        const emu_object *o = emu.objects[i];
        if (o->kind == EMU_STREAM && o->context == stream->context && o != stream && !o->non_blocking && o->head &&
            o->head->seq < stream->head->seq)
            return true;
    }
    return false;
}

static bool can_go(const emu_object *o)
{
    if (o->kind != EMU_STREAM || !o->head) return false;
    if (o->head->kind == EMU_WAIT && !o->head->mark->done) return false;
    return !is_held_up(o);
}

static void launch(emu_object *stream, const emu_op *op)
{
    void *params[64];
    size_t at = 0;
    for (uint32_t i = 0; i < op->kernel->n_params; i++) {
        params[i] = op->owned + at;
        at += (op->kernel->param_bytes[i] + 15u) & ~(size_t)15;
    }
    char error[512] = "";
    emu_image_launch l = op->launch;
    emu_image_range *ranges = emu_open_ranges(stream->context, &l.n_ranges);
    l.ranges = ranges;
    l.seed = emu_random();
    l.error = error;
    l.error_bytes = sizeof error;
    emu_open(stream->context, true);
    int code = op->kernel->run(op->kernel, &l, params);
    emu_open(stream->context, false);
    free(ranges);
    if (error[0]) emu_misuse(0, "kernel %s: %s", op->kernel->name, error);
    for (int g = 0; g < emu.config.n_gpus && code == 0; g++) {
        if (!emu_red_zones_whole(g))
            code = emu_misuse(BERTH_CU_ILLEGAL_ADDRESS, "a kernel wrote behind an allocation of GPU %d", g);
    }
    if (code) emu_latch(stream->context, code);
}

/* A copy between GPUs over a link that reports success whatever it brings. */
static void lie(int how, uint8_t *dst, const uint8_t *src, size_t bytes)
{
    enum { PAGE = 4096, FROM = 64 << 10 };
    if (how == 1) memset(dst, 0, bytes);
    if (how != 3) return;
    memmove(dst, src, bytes);
    for (size_t at = 0; at < bytes && bytes >= FROM; at += PAGE) dst[at] ^= 0x40;
}

static void carry_out(emu_object *stream)
{
    emu_op *op = stream->head;
    stream->head = op->next;
    if (!stream->head) stream->tail = NULL;
    emu.report.executed++;
    uint8_t *dst = op->dst_gpu >= 0 ? emu_alias(op->dst_gpu, op->dst) : op->dst;
    const uint8_t *src = op->src_gpu >= 0 ? emu_alias(op->src_gpu, op->src) : op->src;
    const bool between = op->src_gpu >= 0 && op->dst_gpu >= 0 && op->src_gpu != op->dst_gpu;
    const int how = between ? emu.config.gpu[op->src_gpu].lie[op->dst_gpu] : 0;
    if (op->kind == EMU_COPY && how) lie(how, dst, src, op->bytes);
    if (op->kind == EMU_COPY && !how) memmove(dst, src, op->bytes);
    if (op->kind == EMU_SET) memset(dst, op->value, op->bytes);
    if (op->kind == EMU_LAUNCH) launch(stream, op);
    free_op(op);
}

bool emu_step(void)
{
    emu_object *chosen = NULL;
    uint64_t n = 0;
    for (size_t i = 0; i < emu.n_objects; i++) {
        if (can_go(emu.objects[i]) && emu_random() % ++n == 0) chosen = emu.objects[i];
    }
    if (chosen) carry_out(chosen);
    return chosen != NULL;
}

static void stuck(void)
{
    emu_misuse(0, "queued work waits for what never comes");
    abort();
}

void emu_drain_stream(emu_object *stream)
{
    while (stream->head) {
        if (!emu_step()) stuck();
    }
}

static bool has_work(const emu_object *context)
{
    for (size_t i = 0; i < emu.n_objects; i++) {
        if (emu.objects[i]->kind == EMU_STREAM && emu.objects[i]->context == context && emu.objects[i]->head)
            return true;
    }
    return false;
}

void emu_drain_context(const emu_object *context)
{
    while (has_work(context)) {
        if (!emu_step()) stuck();
    }
}

void emu_wait_mark(const emu_mark *mark)
{
    while (!mark->done) {
        if (!emu_step()) stuck();
    }
}

void emu_drop(const emu_object *context)
{
    for (size_t i = 0; i < emu.n_objects; i++) {
        emu_object *o = emu.objects[i];
        if (o->kind != EMU_STREAM || o->context != context) continue;
        while (o->head) {
            emu_op *op = o->head;
            o->head = op->next;
            free_op(op);
        }
        o->tail = NULL;
    }
}

void emu_latch(emu_object *context, int code)
{
    if (!context->error) context->error = code;
    emu_drop(context);
}

static bool overlaps(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

static bool is_named(const emu_op *op, const uint8_t *base, size_t bytes)
{
    for (size_t at = 0; at + sizeof(uintptr_t) <= op->owned_bytes; at += sizeof(uintptr_t)) {
        uintptr_t word;
        memcpy(&word, op->owned + at, sizeof word);
        if (word >= (uintptr_t)base && word < (uintptr_t)base + bytes) return true;
    }
    return false;
}

bool emu_in_use(int g, const uint8_t *base, size_t bytes)
{
    for (size_t i = 0; i < emu.n_objects; i++) {
        if (emu.objects[i]->kind != EMU_STREAM) continue;
        for (const emu_op *op = emu.objects[i]->head; op; op = op->next) {
            if (op->kind == EMU_LAUNCH && is_named(op, base, bytes)) return true;
            if (op->kind != EMU_COPY && op->kind != EMU_SET) continue;
            if (op->dst_gpu == g && overlaps(op->dst, op->bytes, base, bytes)) return true;
            if (op->kind == EMU_COPY && op->src_gpu == g && overlaps(op->src, op->bytes, base, bytes)) return true;
        }
    }
    return false;
}
