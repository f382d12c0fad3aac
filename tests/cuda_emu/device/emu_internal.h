/* emu_internal.h - what device code compiled for the host calls: identity, barriers, meetings of a warp, and the address check. */
#ifndef BERTH_TESTS_CUDA_EMU_INTERNAL_H
#define BERTH_TESTS_CUDA_EMU_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct emu_dim3 {
    uint32_t x, y, z;
} emu_dim3;

emu_dim3 emu_thread_idx(void);
emu_dim3 emu_block_idx(void);
emu_dim3 emu_block_dim(void);
emu_dim3 emu_grid_dim(void);
uint32_t emu_lane(void);

/* Waits until every thread of the block has come to this line. */
void emu_block_barrier(const char *file, int line);

/* Waits until every lane of `mask` has come to this line with this mask; the last to come runs combine(payloads), where payloads[l] is what lane l
 * brought (NULL outside the mask). `orders_memory`: accesses before it are seen after it by the lanes of the mask. */
typedef void (*emu_combine)(void *const payloads[32]);
void emu_warp_meet(const char *what, const char *file, int line, uint32_t mask, void *payload, emu_combine combine,
                   int orders_memory);

/* An access by the running thread; ends the launch where it is not allowed. */
void emu_access(const void *address, size_t bytes, int writes, size_t alignment);

/* cp.async: queues a copy of `size` bytes into shared memory, of which `bytes` are read and the rest is 0; nothing is there before emu_copies_wait has let all but
 * the newest `groups` groups come, which emu_copies_commit ends. */
void emu_copy_async(void *to, const void *from, size_t size, size_t bytes);
void emu_copies_commit(void);
void emu_copies_wait(int groups);

/* Ends the launch. Does not return. */
void emu_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#ifdef __cplusplus
}
#endif
#endif
