/* fused_cases.h - ops that one kernel carries out together, against the same ops apart, bit by bit. */
#ifndef BERTH_TESTS_FUSED_CASES_H
#define BERTH_TESTS_FUSED_CASES_H

#include <stdint.h>

/* On kernels of this generation of GPUs, for as many orders of execution. Fails the running test. */
void fused_bits_are_those_of_ops_apart(int32_t capability);

/* Calls that are better apart, or that no kernel takes together. */
void what_does_not_fit_stays_apart(int32_t capability);

#endif
