/* emu_fibre.h - stacks to switch between: a hand-written switch on x86-64, ucontext elsewhere. */
#ifndef BERTH_TESTS_CUDA_EMU_FIBRE_H
#define BERTH_TESTS_CUDA_EMU_FIBRE_H

#include <stddef.h>

#if defined(__x86_64__)
typedef struct emu_context {
    void *sp;
} emu_context;
#else
#include <ucontext.h>
typedef struct emu_context {
    ucontext_t context;
} emu_context;
#endif

/* Prepares `c` to call entry(), which never returns, on the given stack. */
void emu_context_make(emu_context *c, void *stack, size_t bytes, void (*entry)(void));

/* Leaves the running context in `from` and goes on in `to`. */
void emu_context_switch(emu_context *from, emu_context *to);

#endif
