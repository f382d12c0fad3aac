/* emu.h - running CUDA device code on the host, one fibre a CUDA thread: for tests, which build launches and read the verdict.
 *
 * Device files are compiled for the host by a C++ compiler with emu_device.h before them and the compiler's hooks for reads and writes on, so the emulator
 * sees every access. It is stricter than hardware: a barrier not reached by all of a block or reached in two places, a shuffle that names a lane which does not
 * come, an access outside the launch's shared bytes or outside the ranges the caller gave, a write to a range given for reading, an access that is not
 * aligned to its width, a read of shared memory that nobody wrote, and two threads of a block at one shared address without a barrier between
 * (one of them writing) end the launch with an error that names kernel, block and thread. Blocks run one after another in an order drawn from
 * the seed; so are the threads of a block between barriers. One launch at a time in a process, from any thread.
 * What it cannot show: speed, races between blocks and in global memory, and the last bits of the GPU's own functions. */
#ifndef BERTH_TESTS_CUDA_EMU_H
#define BERTH_TESTS_CUDA_EMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EMU_MAX_SHARED = 232448, EMU_MAX_THREADS = 1024, EMU_MAX_RANGES = 16, EMU_ERROR_BYTES = 512 };

typedef struct emu_range {
    const void *base;
    size_t bytes;
    bool writable;
} emu_range;

/* A kernel takes one struct by value; `run` unpacks it. BERTH_KERNEL in emu_device.h makes them. */
typedef struct emu_kernel {
    const char *name;
    void (*run)(const void *args);
    size_t args_bytes;
} emu_kernel;

typedef struct emu_launch_config {
    const emu_kernel *kernel;
    uint32_t grid[3], block[3];
    size_t shared_bytes;
    const void *args;
    const emu_range *ranges; /* [n_ranges] the global memory this launch may touch */
    size_t n_ranges;
    uint64_t seed;
} emu_launch_config;

/* The kernel of that name among all that are linked in; NULL: none. Static. */
const emu_kernel *emu_find_kernel(const char *name);

/* Runs the launch to its end. False: `error` (at least EMU_ERROR_BYTES) says what was broken, where and by which thread. */
bool emu_launch(const emu_launch_config *config, char *error);

#ifdef __cplusplus
}
#endif
#endif
