/* pipeline.h - a small two-GPU pipeline over device.h, with waits and copies that can be left out: the scenario of several tests. */
#ifndef CUDA_EMU_PIPELINE_H
#define CUDA_EMU_PIPELINE_H

#include "control.h"
#include "cuda/device.h"

/* Each wait and copy of the pipeline; leaving any one out must give wrong data on some seed. */
typedef enum pipeline_part {
    WAIT_SLOT,     /* host: the pinned slot is free again */
    WAIT_UPLOADED, /* kernel 0 after the upload */
    WAIT_X0_READ,  /* the next upload after kernel 0 */
    WAIT_Y0_MADE,  /* the copy between GPUs after kernel 0 */
    WAIT_Y0_READ,  /* the next kernel 0 after the copy */
    WAIT_ARRIVED,  /* kernel 1 after the copy */
    WAIT_X1_READ,  /* the next copy after kernel 1 */
    WAIT_Y1_MADE,  /* the download after kernel 1 */
    WAIT_Y1_READ,  /* the next kernel 1 after the download */
    WAIT_RESULT,   /* host: the download is over */
    COPY_UP,
    COPY_BETWEEN,
    COPY_DOWN,
    N_PIPELINE_PARTS
} pipeline_part;

typedef struct pipeline_options {
    int dropped;       /* a pipeline_part, or -1 */
    int first, second; /* GPUs */
    const void *image; /* test_kernels */
} pipeline_options;

/* Runs it and gives all back, whatever fails. *out_right: the results are what they must be; only after BERTH_OK. */
berth_status pipeline_run(berth_cuda *cuda, const pipeline_options *o, bool *out_right, berth_error *err);

#endif
