/* nccl_chain.h - a pipeline over 2 to 8 GPUs whose stages pass their results on with NCCL, driven by one thread or by
 * a thread a GPU: the scenario of several tests. */
#ifndef CUDA_EMU_NCCL_CHAIN_H
#define CUDA_EMU_NCCL_CHAIN_H

#include "cuda/group.h"
#include "emu_nccl.h"
#include "pipeline.h"

enum { MAX_CHAIN = 8 };

typedef struct chain_options {
    int n_gpus, n_batches; /* at most MAX_CHAIN each */
    bool threads;          /* one a GPU, each queuing its own stage */
    bool sum;              /* each batch ends with a sum of the stages' results over all GPUs */
    int64_t timeout_ns;
    const void *image; /* test_kernels */
} chain_options;

/* Runs it and gives all back, whatever fails. *out_right: the results are what they must be; only after BERTH_OK. */
berth_status chain_run(berth_cuda *cuda, const chain_options *o, bool *out_right, berth_error *err);

/* The control of the emulated NCCL, which stays in the process. */
typedef struct nccl_control {
    emu_nccl_report_fn *report;
    emu_nccl_reset_fn *reset;
} nccl_control;

void nccl_control_open(nccl_control *c); /* ends the test when there is none */

#endif
