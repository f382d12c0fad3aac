/* emu_shadow.h - what is known of each two bytes of a block's shared memory: written or not, and by whom since when. */
#ifndef BERTH_TESTS_CUDA_EMU_SHADOW_H
#define BERTH_TESTS_CUDA_EMU_SHADOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* When and who: the block's barriers passed, the thread, and its warp's meetings passed that order memory. */
typedef struct emu_moment {
    uint32_t barrier, meeting;
    int32_t thread;
} emu_moment;

typedef struct emu_shadow_cell {
    emu_moment writer, reader;
    bool written, read, many_readers, many_warps;
    bool on_its_way; /* a copy was queued to it and not waited for */
} emu_shadow_cell;

/* NULL, or what is wrong with the access. *other is then the other thread of a race, or -1. */
const char *emu_shadow_read(emu_shadow_cell *cell, const emu_moment *now, int32_t *other);
const char *emu_shadow_write(emu_shadow_cell *cell, const emu_moment *now, int32_t *other);

#endif
