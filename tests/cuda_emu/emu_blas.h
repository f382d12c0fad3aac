/* emu_blas.h - what the emulated cuBLAS and cuBLASLt share: the way into the emulated driver, codes, products. */
#ifndef CUDA_EMU_EMU_BLAS_H
#define CUDA_EMU_EMU_BLAS_H

#include "emu_gemm.h"

#define EMU_API __attribute__((visibility("default")))

const emu_door *emu_blas_door(void); /* ends the process when the driver is no emulated one */
int emu_blas_status(int code);       /* what cuBLAS calls a driver's code */
int emu_blas_enter(void);            /* the door's, as statuses */
int emu_blas_leave(int status);      /* is `status` */

/* Checks shapes, dtypes, memory and what must not overlap, and queues. */
int emu_blas_queue(const char *call, int gpu, void *stream, const emu_gemm *g, uint64_t workspace, size_t bytes);

#endif
