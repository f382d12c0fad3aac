/* emu_tsan.c - see emu_tsan.h. Ignoring is a state of the thread, and a fibre is another thread: what is done on one is
 * seen. This file is compiled without the sanitizer, whose notes of a call's begin and end would go to two threads where
 * the call changes them. What is told to the calling thread itself must be told while it is not ignored. No fibre may be the first to
 * release to an address: GCC 12's sanitizer makes the address's state with something of the thread's that fibres lack.
 * The sanitizer's names are those of its <sanitizer/tsan_interface.h> and of its tsan_interface_ann.h. */
#include "emu_tsan.h"

#include <stdbool.h>
#include <stdio.h>

#include "emu_internal.h"

void AnnotateIgnoreReadsBegin(const char *file, int line); /* writes too */
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreSyncBegin(const char *file, int line);
void AnnotateIgnoreSyncEnd(const char *file, int line);
void __tsan_acquire(const void *address);
void __tsan_release(const void *address);
void __tsan_read_range(void *p, long bytes);
void __tsan_write_range(void *p, long bytes);
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fibre);
void __tsan_switch_to_fiber(void *fibre, unsigned flags);
void __tsan_set_fiber_name(void *fibre, const char *name);

enum { NO_SYNC = 1 }; /* of a switch: it orders nothing */

void emu_tsan_hide(void)
{
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
}

void emu_tsan_show(void)
{
    AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}

/* ---- on the calling thread ------------------------------------------------------------------------------------------- */

static void acquire(const void *what)
{
    AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
    __tsan_acquire(what);
    AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
}

/* Blocking streams of a context wait for its default stream, and it for them: taken as one. */
static const void *order_of(const emu_object *stream)
{
    return stream->non_blocking ? stream : stream->context;
}

/* Who waits for the stream or the record comes after its caller, too. */
void emu_tsan_queued(const struct emu_object *stream, const struct emu_op *op)
{
    AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
    __tsan_release(op);
    __tsan_release(order_of(stream));
    if (op->kind == EMU_RECORD) __tsan_release(op->mark);
    AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
}

void emu_tsan_knows_all(void)
{
    acquire(&emu);
}

void emu_tsan_knows(const void *mark)
{
    acquire(mark);
}

void emu_tsan_knows_stream(const struct emu_object *stream)
{
    acquire(order_of(stream));
}

void emu_tsan_reads(const void *p, size_t bytes)
{
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    __tsan_read_range((void *)(uintptr_t)p, (long)bytes);
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
}

/* ---- on the stream's fibre ------------------------------------------------------------------------------------------- */

static void make_fibre(emu_object *stream)
{
    char name[32];
    snprintf(name, sizeof name, "stream of GPU %d", stream->gpu);
    AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
    __tsan_release(&emu);
    AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
    stream->fibre = __tsan_create_fiber(0);
    __tsan_set_fiber_name(stream->fibre, name);
}

static void *enter(emu_object *stream)
{
    void *back = __tsan_get_current_fiber();
    if (!stream->fibre) make_fibre(stream);
    __tsan_switch_to_fiber(stream->fibre, NO_SYNC);
    return back;
}

static void touch(const emu_op *op)
{
    const bool brings = op->kind == EMU_COPY && !op->is_skipped;
    if (brings && op->src_gpu < 0 && !op->owned) __tsan_read_range((void *)(uintptr_t)op->src, (long)op->bytes);
    if (brings && op->dst_gpu < 0) __tsan_write_range(op->dst, (long)op->bytes);
}

void emu_tsan_runs(struct emu_object *stream, const struct emu_op *op)
{
    const bool meets = op->kind == EMU_WORK && op->work.ready; /* others, in any stream */
    void *back = enter(stream);
    __tsan_acquire(stream->head);
    if (!stream->non_blocking) __tsan_acquire(stream->context);
    if (op->kind == EMU_WAIT) __tsan_acquire(op->mark);
    if (meets) __tsan_acquire(&emu);
    touch(op);
    if (op->kind == EMU_RECORD) __tsan_release(op->mark);
    __tsan_release(order_of(stream));
    __tsan_release(&emu);
    __tsan_switch_to_fiber(back, NO_SYNC);
}

void emu_tsan_follows(struct emu_object *stream, const void *mark)
{
    void *back = enter(stream);
    __tsan_acquire(mark);
    __tsan_switch_to_fiber(back, NO_SYNC);
}

void emu_tsan_stream_ends(struct emu_object *stream)
{
    if (stream->fibre) __tsan_destroy_fiber(stream->fibre);
    stream->fibre = NULL;
}
