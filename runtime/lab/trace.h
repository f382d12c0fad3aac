/* trace.h - running given inputs once and collecting named values, whole: the parts that several passes make are put
 * together in order.
 *
 * Values carry the names of arch/arch.h. A value with a row per token covers the prompt, one with tiles all tiles; what
 * later passes add while tokens are generated is left out (the logits of those steps are kept apart). The plan must
 * have been made with `trace`. */
#ifndef BERTH_LAB_TRACE_H
#define BERTH_LAB_TRACE_H

#include "base/dtype.h"
#include "engine/engine.h"

typedef struct berth_trace_request {
    const int32_t *ids; /* [n_ids] */
    int32_t n_ids;
    int32_t image_token_id; /* -1 = none */
    const float *pixels;    /* f32 [n_tiles, 3, S, S]; NULL = no picture */
    int32_t n_tiles;
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

/* Errors: BERTH_INVALID_ARGUMENT (a glob that names nothing; what berth_core_run refuses), BERTH_OUT_OF_MEMORY, and
 * those of berth_core_run. On failure `out` is {0}. */
berth_status berth_trace_run(berth_core *core, const berth_trace_request *request, berth_trace *out, berth_error *err);
void berth_trace_deinit(berth_trace *t);

/* Does `name` match one of the comma-separated globs? */
bool berth_trace_wants(const char *globs, const char *name);

#endif
