/* emu_tsan.h - what the thread sanitizer is told of the emulator.
 *
 * One lock orders all calls of the emulated driver. No driver promises that, and a race of two callers would not be seen
 * wherever each of them had called the driver in between. So nothing that the emulator does is seen, its lock included.
 * What a driver does promise is told instead. Each stream is a thread (a fibre, to the sanitizer) of its own: an op
 * comes after the call that queued it and after all before it in its stream, a wait for an event after its record, and
 * who waits for a stream or an event after what was waited for. Host memory that a copy reads or writes is read or
 * written by its stream; what a call itself reads of it, by the caller.
 *
 * In emu_tsan.c; without the sanitizer (emu_tsan_none.c) all of it does nothing. */
#ifndef CUDA_EMU_EMU_TSAN_H
#define CUDA_EMU_EMU_TSAN_H

#include <stddef.h>

struct emu_object;
struct emu_op;

/* What the calling thread does from here on is not seen, until the next call of the other one. All others are called
 * between these two. */
void emu_tsan_hide(void);
void emu_tsan_show(void);

void emu_tsan_queued(const struct emu_object *stream, const struct emu_op *op);
/* An op of the stream's head, or of the graph that is there, is carried out now. */
void emu_tsan_runs(struct emu_object *stream, const struct emu_op *op);
void emu_tsan_follows(struct emu_object *stream, const void *mark); /* a wait for a record that is over already */
void emu_tsan_stream_ends(struct emu_object *stream);

void emu_tsan_knows_all(void); /* the caller: all that was carried out is over */
void emu_tsan_knows(const void *mark);
void emu_tsan_knows_stream(const struct emu_object *stream);
void emu_tsan_reads(const void *p, size_t bytes); /* the caller */

#endif
