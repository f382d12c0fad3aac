/* engine.h - a model loaded under a plan: devices with arenas and lanes, KV blocks, and the loop that turns a request
 * into tokens.
 *
 * Internal interface under the public API (runtime/api). One request at a time per replica for now; the batch
 * descriptor, KV block tables and lanes are those that will carry many. Thread-safe: calls from several threads are
 * served one after another per replica. */
#ifndef BERTH_ENGINE_ENGINE_H
#define BERTH_ENGINE_ENGINE_H

#include "engine/plan.h"
#include "engine/sampler.h"

typedef struct berth_core berth_core;

typedef struct berth_core_options {
    bool strict;           /* every other device's memory is unreadable while an op runs, one op at a time: strict.h */
    const char *transport; /* "local", "staged"; NULL = local between virtual CPU devices */
    void (*progress)(void *user, uint64_t done_bytes, uint64_t total_bytes); /* during load; may be NULL */
    void *progress_user;
} berth_core_options;

/* Takes the plan (destroyed with the core, or at once on failure). BERTH_DOES_NOT_FIT when !plan->fits. Weights are
 * mapped and used in place: pages are shared between engines and processes. */
berth_status berth_core_create(berth_core_plan *take_plan, const berth_core_options *options, berth_core **out,
                               berth_error *err);
void berth_core_destroy(berth_core *core); /* waits for running requests */
const berth_core_plan *berth_core_get_plan(const berth_core *core);

/* Bytes really allocated on device d, in the plan's categories; equal to the plan's. */
berth_device_bytes berth_core_allocated(const berth_core *core, int32_t device);

typedef struct berth_core_timing { /* nanoseconds; wall clock of each stage */
    int64_t encode_ns, prefill_ns, decode_ns, sample_ns, first_token_ns, total_ns;
} berth_core_timing;

typedef enum berth_finish {
    BERTH_FINISH_STOP,
    BERTH_FINISH_LENGTH,
    BERTH_FINISH_CANCELLED,
    BERTH_FINISH_CALLER
} berth_finish;

/* Values seen by a tap: `see` is called on a lane's thread after the op that wrote the value, one call at a time; copy
 * what you keep. `pass` counts encode passes or step passes from 0 in this request. `want` is asked once for each
 * value before the request starts. Routed copies and states are not shown. */
typedef struct berth_tap {
    bool (*want)(void *user, const char *value_name);
    void (*see)(void *user, const char *program, const char *value_name, int64_t pass, const berth_tensor *tensor);
    void *user;
} berth_tap;

typedef struct berth_core_request {
    const int32_t *ids; /* [n_ids] the whole prompt, image tokens included */
    int32_t n_ids;
    int32_t image_token_id; /* positions with this id take the image features, in order; -1 = none */
    const float *pixels;    /* f32 [n_tiles, 3, S, S]; NULL when there is no picture */
    int32_t n_tiles;
    int32_t max_new; /* >= 0; 0 = only run the prompt. What the context cannot hold is not generated */
    const int32_t *stop_ids;
    int32_t n_stop;
    berth_sampling sampling;
    /* Continue with these ids instead of the model's choice (comparison); they end nothing. NULL = none */
    const int32_t *forced;
    int32_t n_forced;
    /* Called on the calling thread after each new token; false stops (BERTH_FINISH_CALLER). `logits` [vocab] of that
     * choice, borrowed for the call. */
    bool (*on_token)(void *user, int32_t index, int32_t id, const float *logits);
    void *user;
    const berth_tap *tap;       /* NULL = none */
    const volatile int *cancel; /* nonzero cancels between passes: the result is what there is by then; may be NULL */
} berth_core_request;

typedef struct berth_core_result {
    int32_t *ids; /* owned; [n_ids] new tokens, the stop token included when there is one */
    int32_t n_ids;
    berth_finish finish;
    berth_core_timing timing;
    uint64_t *edge_bytes; /* owned; [(n_devices + 1)^2], row = from, column = to, index n_devices = host */
    int32_t replica;
} berth_core_result;

/* Runs one request to its end on the calling thread. Errors: BERTH_INVALID_ARGUMENT (ids out of range, image tokens and
 * tiles that do not agree, over the context), BERTH_NUMERIC (non-finite or constant logits: names the first op, in
 * program order, whose output was bad), BERTH_DEVICE_ERROR (strict mode: the op, value and devices of a forbidden
 * access). On an error *out is empty. */
berth_status berth_core_run(berth_core *core, const berth_core_request *request, berth_core_result *out,
                            berth_error *err);
void berth_core_result_deinit(berth_core_result *r);

#endif
