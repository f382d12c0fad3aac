/* test_cases.h - the table of cases that every set of kernels, on whatever device, is held to against the reference:
 * each op, odd sizes. */
#ifndef BERTH_KERNELS_TEST_CASES_H
#define BERTH_KERNELS_TEST_CASES_H

#include "kernels/test_bed.h"

enum { BERTH_OP_CASE_PARAMETERS = 7 };

typedef struct berth_op_case {
    const char *name;
    berth_op_kind kind;
    void (*build)(berth_bed *b, const int64_t *p,
                  berth_dtype dtype); /* what p means stands beside each in test_cases.c */
    int64_t p[BERTH_OP_CASE_PARAMETERS];
    berth_dtype dtype; /* of the weights */
    double tolerance;  /* largest |got - ref| / max(1, |ref|) */
} berth_op_case;

extern const berth_op_case berth_op_cases[];
extern const size_t berth_n_op_cases;

/* The case's call, and for ops that write into a state what the state holds before (else NULL); caller frees both. */
float *berth_op_case_prepare(berth_bed *b, const berth_op_case *c);

/* rows, in, out, bias */
void berth_build_linear(berth_bed *b, const int64_t *p, berth_dtype dtype);
/* tiles, T, heads, d */
void berth_build_attention_full(berth_bed *b, const int64_t *p, berth_dtype dtype);
/* heads, kv heads, d, block, sequences, tokens of each sequence, length of the first (the next are 5 longer each) */
void berth_build_attention_paged(berth_bed *b, const int64_t *p, berth_dtype dtype);

#endif
