/* test_bed.h - building calls of ops for tests: tensors with random content in exactly sized memory, and running them
 * on a set. Memory a kernel is to write, and its scratch, is filled with NaNs first, so that what is read before it is
 * written shows. */
#ifndef BERTH_KERNELS_TEST_BED_H
#define BERTH_KERNELS_TEST_BED_H

#include "kernels/ops.h"

enum { BERTH_BED_BLOCKS = 16 };

typedef struct berth_bed {
    berth_op_call call;
    berth_op_attrs attrs;
    uint64_t seed;
    void *blocks[BERTH_BED_BLOCKS]; /* owned memory */
    int32_t n_blocks;
} berth_bed;

void berth_bed_init(berth_bed *b, berth_op_kind kind, uint64_t seed);
void berth_bed_deinit(berth_bed *b);

float berth_bed_random(berth_bed *b, float low, float high);

/* Gives the next input its shape (a list of dims ending in -1) and content. Activations are fp32 and 64-byte aligned; a
 * weight is of `dtype` and starts at an odd byte. */
float *berth_bed_activation(berth_bed *b, float low, float high, const int64_t *dims);
void berth_bed_weight(berth_bed *b, berth_dtype dtype, float low, float high, const int64_t *dims);
int32_t *berth_bed_ints(berth_bed *b, const int64_t *dims);
#define BERTH_DIMS(...) ((const int64_t[]){__VA_ARGS__, -1})

void berth_bed_out(berth_bed *b, const int64_t *dims);
size_t berth_bed_out_floats(const berth_bed *b);

/* Runs the call on a set with `n_threads` and copies the output to `result` (caller frees). `state` (may be NULL) is
 * what the output holds before the run; `in_place` makes the output take over the memory of a copy of the op's in-place
 * input. */
float *berth_bed_run(const berth_bed *b, const berth_kernels *set, berth_team *team, const float *state, bool in_place);

#endif
