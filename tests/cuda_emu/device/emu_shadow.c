/* emu_shadow.c - see emu_shadow.h. Two accesses are ordered by the same thread, by a barrier of the block, or, within a warp, by a meeting that orders memory. */
#include "tests/cuda_emu/device/emu_shadow.h"

static bool unordered(const emu_moment *then, const emu_moment *now)
{
    if (then->barrier != now->barrier || then->thread == now->thread) return false;
    return then->thread / 32 != now->thread / 32 || then->meeting == now->meeting;
}

const char *emu_shadow_read(emu_shadow_cell *cell, const emu_moment *now, int32_t *other)
{
    *other = -1;
    if (cell->on_its_way) return "reads shared memory that a queued copy is still to bring";
    if (!cell->written) return "reads shared memory that no thread wrote";
    if (unordered(&cell->writer, now)) {
        *other = cell->writer.thread;
        return "reads what another thread writes without a barrier between";
    }
    if (!cell->read || cell->reader.barrier != now->barrier)
        cell->many_readers = cell->many_warps = false;
    else if (cell->reader.thread != now->thread) {
        cell->many_warps |= cell->reader.thread / 32 != now->thread / 32;
        cell->many_readers = true;
    }
    cell->reader = *now;
    cell->read = true;
    return NULL;
}

const char *emu_shadow_write(emu_shadow_cell *cell, const emu_moment *now, int32_t *other)
{
    *other = -1;
    if (cell->on_its_way) return "writes shared memory that a queued copy is still to bring";
    if (cell->written && unordered(&cell->writer, now)) {
        *other = cell->writer.thread;
        return "writes what another thread writes without a barrier between";
    }
    bool read_now = cell->read && cell->reader.barrier == now->barrier;
    bool same_step = cell->many_readers && cell->reader.meeting == now->meeting;
    if (read_now && (cell->many_warps || same_step || unordered(&cell->reader, now))) {
        *other = cell->reader.thread;
        return "writes what another thread reads without a barrier between";
    }
    cell->writer = *now;
    cell->written = true;
    return NULL;
}
