/* trace.h - running given inputs once and collecting named values, whole: the parts that several passes make are put
 * together in order.
 *
 * Values carry the names of arch/arch.h. A value with a row per token covers the prompt, one with tiles all tiles; what
 * later passes add while tokens are generated is left out (the logits of those steps are kept apart). The plan must
 * have been made with `trace`. */
#ifndef BERTH_LAB_TRACE_H
#define BERTH_LAB_TRACE_H

#include <stdbool.h>

#include "berth/berth.h"

#include "base/dtype.h"
#include "kernels/ops.h"
#include "text/tokenizer.h"

typedef struct berth_trace_inputs {
    berth_ids ids; /* owned */
    float *pixels; /* owned; f32 [n_tiles, 3, side, side]; NULL = no picture */
    int32_t n_tiles, side;
} berth_trace_inputs;

typedef struct berth_trace_request {
    const berth_trace_inputs *in;
    int32_t n_new;      /* greedy tokens to add, not stopping at any; 0 = only the prompt */
    const char *values; /* comma-separated globs over value names; NULL = the traced ones */
} berth_trace_request;

typedef struct berth_traced {
    char name[64];
    const char *program; /* "encode" or "step"; static */
    berth_dtype dtype;
    int32_t n_dims;
    int64_t dims[BERTH_TENSOR_DIMS];
    void *data; /* owned, n_bytes */
    size_t n_bytes, filled;
} berth_traced;

typedef struct berth_trace {
    berth_traced *values; /* in program order, encode before step */
    int32_t n_values;
    int32_t *new_ids;   /* [n_new] */
    float *step_logits; /* [n_new, vocab]: row K chose token K */
    int32_t n_new, vocab;
} berth_trace;

/* A conversation as a request of that model would have it; `max_tiles` 0 = the model's. Errors as berth_engine_run's.
 * On failure `out` is {0}. */
berth_status berth_trace_inputs_make(berth_model *model, const berth_turn *turns, int32_t n_turns, int32_t max_tiles,
                                     berth_trace_inputs *out, berth_error *err);
void berth_trace_inputs_deinit(berth_trace_inputs *in);

/* Are the tiles as large as the model's? Errors: BERTH_BAD_FILE. */
berth_status berth_trace_inputs_check(const berth_trace_inputs *in, const berth_model *model, berth_error *err);

/* Inputs that were checked, run on replica 0. Errors: BERTH_INVALID_ARGUMENT (a glob that names nothing; what an engine
 * refuses), BERTH_OUT_OF_MEMORY, and those of a run. On failure `out` is {0}. */
berth_status berth_trace_run(berth_engine *engine, const berth_trace_request *request, berth_trace *out,
                             berth_error *err);
void berth_trace_deinit(berth_trace *t);

/* Does `name` match one of the comma-separated globs? */
bool berth_trace_wants(const char *globs, const char *name);

#endif
