/* emu_fibre.c - see emu_fibre.h. */
#include "tests/cuda_emu/device/emu_fibre.h"

#include <stdint.h>

#if defined(__x86_64__)

/* System V ABI: the callee keeps rbx, rbp, r12 to r15; the rest is dead across a call. */
__asm__(".text\n"
        ".type emu_switch_stacks, @function\n"
        "emu_switch_stacks:\n"
        "    push %rbp\n    push %rbx\n    push %r12\n    push %r13\n    push %r14\n    push %r15\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r15\n    pop %r14\n    pop %r13\n    pop %r12\n    pop %rbx\n    pop %rbp\n"
        "    ret\n"
        ".size emu_switch_stacks, . - emu_switch_stacks\n");
void emu_switch_stacks(void **from_sp, void *to_sp);

void emu_context_make(emu_context *c, void *stack, size_t bytes, void (*entry)(void))
{
    uintptr_t *top = (uintptr_t *)(((uintptr_t)stack + bytes) & ~(uintptr_t)15);
    *--top = 0; /* where entry would return to; also makes its stack pointer 8 off 16, as after a call */
    *--top = (uintptr_t)entry;
    for (int i = 0; i < 6; i++) *--top = 0;
    c->sp = top;
}

void emu_context_switch(emu_context *from, emu_context *to)
{
    emu_switch_stacks(&from->sp, to->sp);
}

#else

void emu_context_make(emu_context *c, void *stack, size_t bytes, void (*entry)(void))
{
    getcontext(&c->context);
    c->context.uc_stack.ss_sp = stack;
    c->context.uc_stack.ss_size = bytes;
    c->context.uc_link = NULL;
    makecontext(&c->context, entry, 0);
}

void emu_context_switch(emu_context *from, emu_context *to)
{
    swapcontext(&from->context, &to->context);
}

#endif
