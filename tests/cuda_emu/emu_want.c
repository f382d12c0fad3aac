/* emu_want.c - what must be carried out before something else can be. Of each stream that is all up to some op, as a
 * stream keeps its order; `wanted` of the stream is that op's number. */
#include "emu_internal.h"

void emu_want_nothing(emu_wish wish)
{
    for (size_t i = 0; i < emu.n_streams; i++) emu.streams[i]->wanted[wish] = 0;
}

bool emu_is_wanted(emu_wish wish, const emu_object *stream)
{
    return stream->head && stream->head->seq <= stream->wanted[wish];
}

static void want_work(void *stream, const void *user, bool over, void *arg)
{
    const emu_wish *wish = arg;
    for (size_t i = 0; i < emu.n_streams; i++) {
        emu_object *o = emu.streams[i];
        if (o->handle != (uintptr_t)stream) continue;
        for (const emu_op *op = o->head; op; op = op->next) {
            if (op->kind == EMU_WORK && op->work.user == user) emu_want(*wish, o, over ? op->seq : op->seq - 1);
        }
    }
}

/* The legacy default stream and the blocking ones of its context wait for each other. */
static void want_blocking(emu_wish wish, const emu_object *stream, uint64_t seq)
{
    for (size_t i = 0; i < emu.n_streams && !stream->non_blocking; i++) {
        emu_object *o = emu.streams[i];
        if (o->context == stream->context && !o->non_blocking && o->is_null != stream->is_null) emu_want(wish, o, seq);
    }
}

void emu_want(emu_wish wish, emu_object *stream, uint64_t seq)
{
    const uint64_t before = stream->wanted[wish];
    if (before >= seq) return;
    stream->wanted[wish] = seq;
    for (const emu_op *op = stream->head; op && op->seq <= seq; op = op->next) {
        if (op->seq <= before) continue;
        want_blocking(wish, stream, op->seq - 1);
        if (op->kind == EMU_WAIT) emu_want_mark(wish, op->mark);
        if (op->kind == EMU_WORK && op->work.needs) op->work.needs(op->work.user, want_work, &wish);
    }
}

void emu_want_mark(emu_wish wish, const emu_mark *mark)
{
    for (size_t i = 0; i < emu.n_streams && !mark->done; i++) {
        for (const emu_op *op = emu.streams[i]->head; op; op = op->next) {
            if (op->kind == EMU_RECORD && op->mark == mark) emu_want(wish, emu.streams[i], op->seq);
        }
    }
}

void emu_want_context(emu_wish wish, const emu_object *context)
{
    for (size_t i = 0; i < emu.n_streams; i++) {
        if (emu.streams[i]->context == context) emu_want(wish, emu.streams[i], UINT64_MAX);
    }
}
