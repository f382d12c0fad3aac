/* world.h - the emulated driver from below: two GPUs with everything on them, spoken to through the driver's functions. */
#ifndef CUDA_EMU_WORLD_H
#define CUDA_EMU_WORLD_H

#include "control.h"
#include "cuda/driver.h"

typedef struct world { /* two GPUs with a context, memory, a stream and an event each; GPU 0 is current */
    berth_cu_driver cu;
    berth_cu_context context[2];
    berth_cu_ptr memory[2];
    berth_cu_stream stream[2];
    berth_cu_event event[2];
    berth_cu_module module;
    berth_cu_function scale;
} world;

enum { WORLD_N = 256, WORLD_BYTES = WORLD_N * 4 }; /* of its memory */

/* Resets the emulator to `config` and sets all up; ends the test when that fails. `image`: test_kernels. */
void world_begin(world *w, const emu_control *emulator, const char *config, const void *image);
/* Leaves what is still there to the emulator's next reset. */
void world_end(world *w, const emu_control *emulator);
/* y = x * 1 + 1 */
int world_launch(world *w, berth_cu_stream stream, berth_cu_ptr x, berth_cu_ptr y, uint32_t n);

#endif
