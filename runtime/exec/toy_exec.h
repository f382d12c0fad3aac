/* toy_exec.h - for tests and measuring: lanes without a model, and programs of small ops over them.
 *
 * The values of a toy program are f32 [4, 4]; its ops are ADD and GELU, so any set of kernels that has these two runs
 * it. */
#ifndef BERTH_EXEC_TOY_EXEC_H
#define BERTH_EXEC_TOY_EXEC_H

#include "exec/executor.h"

enum { TOY_LANES = 8, TOY_SIDE = 4 };

typedef struct toy_exec {
    berth_exec exec;
    berth_device infos[TOY_LANES]; /* "cpu:0" ..; no cores of their own */
} toy_exec;

/* All of these fail the program (a line on stderr, abort) when something is refused. */
void toy_exec_init(toy_exec *t, int32_t n_lanes, const berth_kernels *kernels, int64_t spin_ns);
void toy_exec_deinit(toy_exec *t);

/* Memory of its own for a program's activations. */
typedef struct toy_bound {
    berth_bound bound;
    void *arenas[TOY_LANES];
    void *input, *output; /* f32 [4, 4] in host memory; NULL: it has none */
} toy_bound;
void toy_bind(toy_bound *b, const toy_exec *t, const berth_program *p);
void toy_unbind(toy_bound *b);

/* A program being built: an op on a device per call; routed and allotted at the end. */
typedef struct toy_builder {
    berth_program *program;
    int32_t n_lanes, newest;
} toy_builder;
toy_builder toy_build(int32_t n_lanes);                                 /* has one value, its input */
int32_t toy_emit(toy_builder *b, int32_t device, int32_t x, int32_t y); /* x + y; y < 0: gelu(x). The new value */
berth_program *toy_finish(toy_builder *b);                              /* its output: the newest value */

/* n ops of one chain, `run` of them on each lane in turn. */
berth_program *toy_chain(int32_t n_lanes, int32_t n_ops, int32_t run);
berth_program *toy_random(int32_t n_lanes, int32_t n_ops, uint64_t seed);
uint32_t toy_next(uint64_t *seed);

extern const berth_sizes toy_sizes;

#endif
