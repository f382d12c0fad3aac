/* emu_entry.h - what entry points of the emulated driver begin and end with. */
#ifndef CUDA_EMU_EMU_ENTRY_H
#define CUDA_EMU_EMU_ENTRY_H

#include "emu_internal.h"

#define EMU_API __attribute__((visibility("default")))

/* Takes the lock and counts the call; the code it was told to fail with, or 0. A call that gives something up does so
 * all the same and reports the code then, as the documentation allows: it "may also return error codes from previous,
 * asynchronous launches". A sticky code latches the current context. */
int emu_enter(void);
int emu_leave(int code); /* gives the lock back */
void emu_lock(void);     /* as emu_enter, but counts nothing */

/* The thread's context, and its sticky error if it has one: *out is set then too. */
int emu_current(emu_object **out);

/* The stream of a call: NULL is the current context's legacy default stream. A stream of another context than the
 * current one is refused, though hardware takes it for some calls: it is the mistake of a wrong current device. */
int emu_stream(berth_cu_stream handle, emu_object **out);

#endif
