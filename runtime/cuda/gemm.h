/* gemm.h - LINEAR over many rows by cuBLAS: y = x w^T (+ a bias, or what y holds), sums in fp32.
 *
 * cuBLAS never allocates here and never picks a stream: each stream has a handle of its own, made beforehand, and each
 * call brings its workspace. So a stream's work gives the same bits on every run (cuBLAS, 2.1.4 "Results
 * Reproducibility": one handle a stream, or a workspace set by the user), calls may be captured into graphs, and what a
 * pass needs is known to the plan. A row's bits do depend on the other rows: where they must not, use our own kernels.
 * fp32 operands are multiplied in fp32, not in TF32; 16-bit ones are never summed in 16 bits.
 *
 * Threads: open, prepare, forget and close from one thread at a time; run from any threads, one at a time per
 * stream. */
#ifndef BERTH_CUDA_GEMM_H
#define BERTH_CUDA_GEMM_H

#include "base/dtype.h"
#include "cuda/device.h"

/* All row-major and dense: x [rows, n_in], w [n_out, n_in], y [rows, n_out]. */
typedef struct berth_gemm_shape {
    int64_t rows, n_out, n_in;
    berth_dtype x, w, y;
} berth_gemm_shape;

/* cuBLAS can do it: x and w of one float dtype, y of that dtype or fp32, each dimension from 1 to 2^31 - 1. Pure. */
bool berth_gemm_takes(const berth_gemm_shape *shape);

/* It takes it and is expected to be faster than our kernels on a GPU of this capability (86 = 8.6). Pure; the table
 * behind it (gemm_choice.c) is predicted, not measured. More rows never turn a yes into a no. */
bool berth_gemm_is_faster(const berth_gemm_shape *shape, int32_t capability);

/* Bytes of workspace for this shape and all smaller ones; a multiple of 256. 0 for what it does not take. capability 0:
 * enough for any GPU. Pure; monotone in rows and n_out. */
size_t berth_gemm_workspace(const berth_gemm_shape *shape, int32_t capability);

typedef struct berth_gemm berth_gemm; /* cuBLAS on one GPU */

/* Opens cuBLAS (`path`, or NULL: the one that fits driver and GPU). `gpu` is borrowed until close. Errors besides those
 * of device.h: BERTH_NOT_FOUND (it is not installed: our own kernels do everything then) and BERTH_UNSUPPORTED, each
 * with what to do. Errors of cuBLAS have native_api "cublas". */
berth_status berth_gemm_open(berth_gpu *gpu, const char *path, berth_gemm **out, berth_error *err);
void berth_gemm_close(berth_gemm *gemm);            /* after its calls are over; NULL is fine */
int32_t berth_gemm_version(const berth_gemm *gemm); /* 120400 = 12.4; 0 before the first prepare */

/* Makes the handle of a stream of this GPU; done already is fine. Takes some MiB of the GPU outside any arena, and must
 * not happen during a capture. */
berth_status berth_gemm_prepare(berth_gemm *gemm, berth_gpu_stream *s, berth_error *err);
/* Gives it up again: after its calls are over, before the stream is destroyed. One that was never prepared is fine. */
void berth_gemm_forget(berth_gemm *gemm, berth_gpu_stream *s);

/* A call of this shape may have a bias: cuBLASLt is there (known after the first prepare), and y has x's dtype. */
bool berth_gemm_takes_bias(const berth_gemm *gemm, const berth_gemm_shape *shape);

typedef struct berth_gemm_call {
    berth_gemm_shape shape;
    berth_gpu_ptr x, w, y; /* 16-byte aligned */
    berth_gpu_ptr bias;    /* [n_out] of y's dtype, 16-byte aligned, added to each row before it is rounded; 0 = none */
    /* y = y + x w^T: how a residual comes in, or a bias where berth_gemm_takes_bias says no. Not with a bias. */
    bool adds;
    berth_gpu_ptr workspace; /* 256-byte aligned, this stream's alone meanwhile */
    size_t workspace_bytes;  /* berth_gemm_workspace; less is right too, and slower, down to 16 KiB */
} berth_gemm_call;

/* Queues it on `s`. Errors: BERTH_INVALID_ARGUMENT (a shape it does not take, alignment, too little workspace, a stream
 * that was not prepared), BERTH_UNSUPPORTED (cuBLASLt has nothing for this shape with a bias: nothing was queued),
 * BERTH_DEVICE_ERROR, BERTH_DEVICE_LOST. */
berth_status berth_gemm_run(berth_gemm *gemm, berth_gpu_stream *s, const berth_gemm_call *call, berth_error *err);

#endif
