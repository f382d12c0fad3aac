/* nvtx.h - named ranges of time for NVIDIA's tools (Nsight Systems): what a thread queues inside of one carries its name.
 *
 * A tool is a library that the environment names (NVTX_INJECTION64_PATH; nsys sets it for what it starts). It is spoken to by
 * NVTX 3's own protocol, so that nothing of NVIDIA's is needed at build or run time. Without a tool all of this does nothing.
 * From any thread. */
#ifndef BERTH_CUDA_NVTX_H
#define BERTH_CUDA_NVTX_H

#include <stdbool.h>
#include <stdint.h>

#include "berth/status.h"

/* Loads the tool, once in a process; it stays. BERTH_NOT_FOUND: there is none, or it does not work. */
berth_status berth_nvtx_open(berth_error *err);

/* On a stack of the calling thread's. `text` is copied. Only after berth_nvtx_open gave BERTH_OK. */
void berth_nvtx_push(const char *text);
void berth_nvtx_pop(void);

/* A range that may end on another thread. */
uint64_t berth_nvtx_start(const char *text);
void berth_nvtx_end(uint64_t range);

#endif
