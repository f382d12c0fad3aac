/* emu_tsan_none.c - see emu_tsan.h: nobody is told anything. */
#include "emu_tsan.h"

void emu_tsan_hide(void) {}
void emu_tsan_show(void) {}

void emu_tsan_queued(const struct emu_object *stream, const struct emu_op *op)
{
    (void)stream;
    (void)op;
}

void emu_tsan_runs(struct emu_object *stream, const struct emu_op *op)
{
    (void)stream;
    (void)op;
}

void emu_tsan_follows(struct emu_object *stream, const void *mark)
{
    (void)stream;
    (void)mark;
}

void emu_tsan_stream_ends(struct emu_object *stream)
{
    (void)stream;
}

void emu_tsan_knows_all(void) {}

void emu_tsan_knows(const void *mark)
{
    (void)mark;
}

void emu_tsan_knows_stream(const struct emu_object *stream)
{
    (void)stream;
}

void emu_tsan_reads(const void *p, size_t bytes)
{
    (void)p;
    (void)bytes;
}
