/* fuse.h - which ops of a placed program its devices may carry out as one: a norm with the products that read it, gated
 * or not, and a product with the sum behind it.
 *
 * The program stays as it is: its ops keep their places, waits and names, and a run that is watched carries each of them
 * out. What is found here holds for any sizes; whether the ops of a fusion are one in a run is asked of the device with
 * that run's shapes (backend.h). The whole is then carried out at the fusion's first product, and nothing at its other
 * ops. Pure. */
#ifndef BERTH_EXEC_FUSE_H
#define BERTH_EXEC_FUSE_H

#include "program/program.h"

typedef struct berth_fusion { /* ops of one lane, in the order of berth_fused_call; BERTH_NO_OP */
    int32_t norm, then;
    int32_t linears[BERTH_FUSED_LINEARS], n_linears; /* ascending */
} berth_fusion;

typedef struct berth_fusions {
    berth_fusion *list; /* owned; [n] */
    int32_t n;
    int32_t *of; /* owned; [n_ops] the fusion that an op is of; -1. NULL: there are none */
} berth_fusions;

/* Of an allotted program, on devices in `lanes` (bit d: device d). BERTH_OUT_OF_MEMORY. */
berth_status berth_fusions_init(berth_fusions *f, const berth_program *program, uint64_t lanes, berth_error *err);
void berth_fusions_deinit(berth_fusions *f);

#endif
