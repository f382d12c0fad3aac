/* nccl_chain.h - a pipeline over 2 to 8 GPUs whose stages pass their results on with NCCL, driven by one thread or by
 * a thread a GPU: the scenario of several tests. */
#ifndef CUDA_EMU_NCCL_CHAIN_H
#define CUDA_EMU_NCCL_CHAIN_H

#include "control.h"
#include "cuda/group.h"
#include "emu_nccl.h"

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

typedef struct chain_outcome {
    berth_status status;
    berth_error error;
    bool right;
    emu_report driver;
    emu_nccl_report nccl;
} chain_outcome;

/* A chain in a world of these two configurations; the running test fails where something is left behind. */
chain_outcome chain_try(const emu_control *emulator, const nccl_control *nccl, const chain_options *o,
                        const char *driver_config, const char *nccl_config);

#endif
