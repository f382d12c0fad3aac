/* devices.h - the parts of `berth devices`: the GPUs of this computer as the driver sees them, and measuring devices. */
#ifndef BERTH_CLI_DEVICES_H
#define BERTH_CLI_DEVICES_H

#include "base/buffer.h"
#include "cuda/device.h"
#include "cuda/libraries.h"
#include "machine/machine.h"

/* ---- GPUs -------------------------------------------------------------------------------------------------------- */

typedef struct cli_gpu {
    uint64_t free_bytes;
    berth_error why; /* status BERTH_OK: it can be used; else why not */
} cli_gpu;

typedef struct cli_proof { /* one way between two GPUs */
    int32_t from, to;
    berth_error result; /* BERTH_OK: what was sent arrived */
} cli_proof;

typedef struct cli_cuda {
    berth_cuda *cuda; /* owned; NULL: there is none, for the reason `why` */
    berth_error why;
    cli_gpu *gpus; /* owned, one a GPU */
    berth_cuda_libraries libraries;
    cli_proof *proofs; /* owned */
    int32_t n_proofs;
} cli_cuda;

/* Opens the driver and looks at each GPU, whose context is made for the moment. A computer without GPUs is no error.
 * `probe`: a pattern goes over every ordered pair. Error: BERTH_OUT_OF_MEMORY. */
berth_status cli_cuda_read(bool probe, cli_cuda *out, berth_error *err);
void cli_cuda_deinit(cli_cuda *c);

void cli_cuda_text(const cli_cuda *c, berth_buffer *out); /* rows under "CUDA"; nothing where there is none */
void cli_cuda_json(const cli_cuda *c, berth_buffer *out); /* ,"gpus":...,"libraries":...,"proofs":... */
bool cli_cuda_lies(const cli_cuda *c);                    /* a proof failed */

/* ---- measuring --------------------------------------------------------------------------------------------------- */

/* Measures the devices of `m` one after the other, logical devices of one GPU once, and puts rates and links into it, marked
 * as measured. `out` gets a table. `cuda` may be NULL where no device is a GPU. A pair of GPUs whose copies lie is
 * reported in the table, and its way is told as by way of the host. */
berth_status cli_measure(berth_machine *m, berth_cuda *cuda, berth_buffer *out, berth_error *err);

#endif
