/* engine.h - a model loaded under a plan: devices with arenas and lanes, KV blocks, and one loop a replica that turns
 * many requests at once into tokens.
 *
 * Internal interface under the public API (runtime/api). A request is submitted with a sink and runs on its replica's
 * loop: its pictures are encoded and its prompt is computed in chunks beside the decode rows of others, one pass of one
 * program. A request's greedy tokens do not depend on what runs beside it; on GPUs that holds to the last bit of the
 * logits with batch_invariant in the plan, else within the rounding of cuBLAS's products. All calls are thread-safe. */
#ifndef BERTH_ENGINE_ENGINE_H
#define BERTH_ENGINE_ENGINE_H

#include "engine/sampler.h"
#include "exec/arena.h"
#include "exec/team.h"
#include "plan/plan.h"

typedef struct berth_core berth_core;

typedef struct berth_core_options {
    bool strict; /* every other device's memory is unreadable while an op runs, one op at a time: strict.h */
    const char *
        transport; /* of all edges between devices: "local", "staged", "peer", "nccl"; NULL or "auto" = edges.h's choice */
    void (*progress)(void *user, uint64_t done_bytes, uint64_t total_bytes); /* during load; may be NULL */
    void *progress_user;
    int32_t queue;        /* requests waiting at most; 0 = 1024; beyond: BERTH_BUSY */
    bool longest_first;   /* of equal priority the longest waiting request starts first; else the oldest */
    bool no_prefix_cache; /* computed KV and image features are not kept for later requests with the same beginning */
    berth_memory_source memory; /* of the devices' arenas; zero = mapped from the system */
    bool no_graphs;             /* GPUs: every op is launched by itself, also where sizes come again */
    bool no_fusing;             /* GPUs: no two ops become one kernel; for tests, the bits are the same */
    bool nvtx;                  /* ranges of time for NVIDIA's tools; a note where no tool listens */
    berth_thread_watch threads; /* told of each thread: "lane cpu:0", "helper cpu:0", "loop 0"; zero = nobody */
    bool time_copies;           /* GPUs: copies are timed, at some microseconds each; elsewhere they always are */
    int32_t n_readers;          /* that load the weights of a device; 0 = load.h's choice */
    size_t piece_bytes;         /* that each reads at once; 0 = load.h's choice */
} berth_core_options;

/* Takes the plan (destroyed with the core, or at once on failure). BERTH_DOES_NOT_FIT when !plan->fits. Weights are
 * mapped and used in place: pages are shared between engines and processes. */
berth_status berth_core_create(berth_core_plan *take_plan, const berth_core_options *options, berth_core **out,
                               berth_error *err);
void berth_core_destroy(berth_core *core); /* waits for running requests */
const berth_core_plan *berth_core_get_plan(const berth_core *core);

/* What the user should know of this engine's devices, a line each (a pair of GPUs that brings other bytes than were
 * sent); "" = nothing. Borrowed. */
const char *berth_core_notes(const berth_core *core);

/* The transport of an edge between two devices (index n_devices = the host); NULL: no copy of the plan uses it. */
const char *berth_core_edge(const berth_core *core, int32_t from, int32_t to);
const char *berth_core_edge_note(const berth_core *core, int32_t from, int32_t to); /* edges.h's; NULL: none */

/* Bytes really allocated on device d, in the plan's categories; equal to the plan's. */
berth_device_bytes berth_core_allocated(const berth_core *core, int32_t device);

typedef struct berth_core_timing { /* nanoseconds; wall clock of each stage */
    int64_t encode_ns, prefill_ns, decode_ns, sample_ns;
    int64_t project_ns; /* of encode_ns: behind the vision tower's last op; where passes overlap counted once */
    int64_t queue_ns, first_token_ns, total_ns; /* since the submission: to its start, first token, end */
} berth_core_timing;

typedef enum berth_finish {
    BERTH_FINISH_STOP,
    BERTH_FINISH_LENGTH,
    BERTH_FINISH_CANCELLED,
    BERTH_FINISH_CALLER,
    BERTH_FINISH_DEADLINE
} berth_finish;

/* A conversation kept between requests: the tokens whose KV one replica holds. Opaque; see below. */
typedef struct berth_core_session berth_core_session;

/* Values seen by a tap: `see` is called on a lane's thread after the op that wrote the value, one call at a time; copy
 * what you keep. `pass` counts encode passes or step passes from 0 in this request. `want` is asked once for each
 * value before the request starts. Routed copies and states are not shown. */
typedef struct berth_tap {
    bool (*want)(void *user, const char *value_name);
    void (*see)(void *user, const char *program, const char *value_name, int64_t pass, const berth_tensor *tensor);
    void *user;
} berth_tap;

typedef struct berth_core_result {
    int32_t *ids; /* owned; [n_ids] new tokens, the stop token included when there is one */
    int32_t n_ids;
    berth_finish finish;
    berth_core_timing timing;
    uint64_t *edge_bytes; /* owned; [(n_devices + 1)^2], row = from, column = to, index n_devices = host. A pass that
                           * carried several requests is shared out by their tokens (encode: tiles) */
    uint64_t *edge_ns;    /* as edge_bytes and behind them in their memory: how long those copies took */
    int32_t replica;
    int32_t n_reused;  /* prompt tokens whose KV was there already */
    int32_t n_drafted; /* speculation: tokens proposed, and of them accepted */
    int32_t n_accepted;
} berth_core_result;

typedef struct berth_core_request {
    const int32_t *ids; /* [n_ids] the whole prompt, image tokens included */
    int32_t n_ids;
    int32_t image_token_id; /* positions with this id take the image features, in order; -1 = none */
    const float *pixels;    /* f32 [n_tiles, 3, S, S]; NULL when there is no picture, or with tile_pixels */
    int32_t n_tiles;
    int32_t max_new; /* >= 0; 0 = only run the prompt. What the context cannot hold is not generated */
    const int32_t *stop_ids;
    int32_t n_stop;
    berth_sampling sampling;
    /* Continue with these ids instead of the model's choice (comparison); they end nothing. NULL = none */
    const int32_t *forced;
    int32_t n_forced;
    /* Both are called on the replica's thread: quick, not blocking, not destroying the core; submit and cancel are
     * allowed. on_token: each new token in order; false ends the request with it (BERTH_FINISH_CALLER). `logits`
     * [vocab] of the choice, borrowed for the call, where wants_logits, else NULL. NULL = not wanted */
    bool (*on_token)(void *user, int32_t index, int32_t id, const float *logits);
    /* Once for every request that was submitted; nothing of it is touched afterwards. `take_result` is the receiver's
     * (deinit), empty when st is not BERTH_OK. Not used by berth_core_run */
    void (*on_end)(void *user, berth_status st, berth_core_result *take_result, const berth_error *why);
    void *user;
    /* Each pass carries this request alone while it runs. NULL = none */
    const berth_tap *tap;
    const volatile int *cancel; /* nonzero cancels between passes: the result is what there is by then; may be NULL */
    /* Each tile by itself, f32 [3, S, S]: [n_tiles]. NULL entries are tiles whose tokens all lie within what `session`
     * holds. Instead of `pixels` */
    const float *const *tile_pixels;
    /* [n_tiles][32] what each tile is, for reuse of its features and KV; the same bytes only for the same pixels. NULL:
     * image tokens are never taken from the cache, nor kept for others */
    const uint8_t (*tile_digests)[32];
    int32_t priority;     /* larger starts first */
    int64_t deadline_ns;  /* of berth_now_ns(); 0 = none: BERTH_FINISH_DEADLINE with what there is by then */
    int32_t speculate;    /* tokens drafted a step by looking the last ones up in the prompt; 0 = none; greedy only */
    bool no_prefix_cache; /* this request takes and leaves nothing */
    berth_core_session *session; /* held until the end; NULL = none */
    bool wants_logits;           /* on_token is given them: whole rows come from the head's device */
} berth_core_request;

/* Puts a request into the queue. It and all it points to are borrowed until `on_end` was called. `out_id` (may be NULL)
 * is never 0 and never used again; it is set before on_end can be called. Errors, with which on_end is not called:
 * BERTH_INVALID_ARGUMENT (ids out of range, image tokens and tiles that do not agree, over the context), BERTH_BUSY
 * (queue full, session in use). What on_end may be told: BERTH_NUMERIC (non-finite or constant logits: names the first
 * op, in program order, whose output was bad), BERTH_DEVICE_ERROR (strict mode: the op, value and devices of a
 * forbidden access), BERTH_OUT_OF_MEMORY. */
berth_status berth_core_submit(berth_core *core, const berth_core_request *request, uint64_t *out_id, berth_error *err);

/* A place in the queue ahead of a submit that follows (pictures are decoded meanwhile): BERTH_BUSY when there is none.
 * berth_core_submit_reserved uses it up, also when it fails; berth_core_unreserve gives it back. */
berth_status berth_core_reserve(berth_core *core, berth_error *err);
void berth_core_unreserve(berth_core *core);
berth_status berth_core_submit_reserved(berth_core *core, const berth_core_request *request, uint64_t *out_id,
                                        berth_error *err);

/* Ends the request within one step (BERTH_FINISH_CANCELLED). False: it is over, or never was. */
bool berth_core_cancel(berth_core *core, uint64_t id);

/* Runs one request to its end while the calling thread waits. On an error *out is empty. */
berth_status berth_core_run(berth_core *core, const berth_core_request *request, berth_core_result *out,
                            berth_error *err);
void berth_core_result_deinit(berth_core_result *r);

/* ---- sessions ---------------------------------------------------------------------------------------------------- */

/* A session remembers the ids and KV of its newest request (prompt and answer). The next request on it, whatever its
 * prompt, reuses what it has in common from the beginning and computes the rest. An idle session's blocks are given up,
 * oldest first, when running requests need them: then more is computed again and nothing else changes. One request at a
 * time: a second is refused with BERTH_BUSY. */
berth_status berth_core_session_create(berth_core *core, berth_core_session **out, berth_error *err);
void berth_core_session_destroy(berth_core_session *s); /* not while a request holds it; before the core */

typedef struct berth_core_session_info {
    int32_t n_tokens; /* whose KV is held */
    int32_t replica;  /* that holds it; -1 = none yet */
    bool busy;
} berth_core_session_info;
berth_core_session_info berth_core_session_get_info(berth_core_session *s);

/* Tokens at the beginning of a prompt that the session holds already; fewer may be reused later (see above) unless
 * `pin`: then they stay until the next submit on the session, or unpin. `tile_digests` as in the request. */
int32_t berth_core_session_covers(berth_core_session *s, const berth_core_request *prompt, bool pin);
void berth_core_session_unpin(berth_core_session *s);

/* A second session with the same past: whole blocks are shared, the rest is computed again when used. BERTH_BUSY. */
berth_status berth_core_session_fork(berth_core_session *s, berth_core_session **out, berth_error *err);

/* SHA-256 of every parameter's place, shape and first bytes: models that agree in it make the same KV. */
berth_status berth_core_fingerprint(const berth_core *core, uint8_t out[32], berth_error *err);

/* The session's ids, keys and KV, independent of placement, to and from memory: a model of the same fingerprint under
 * any plan with the same KV dtype takes it. `out` is the caller's to free. BERTH_BUSY, BERTH_BAD_FILE, BERTH_OUT_OF_MEMORY. */
berth_status berth_core_session_save(berth_core_session *s, uint8_t **out, size_t *out_size, berth_error *err);
berth_status berth_core_session_load(berth_core *core, const uint8_t *data, size_t size, berth_core_session **out,
                                     berth_error *err);

/* ---- what goes on ------------------------------------------------------------------------------------------------ */

typedef struct berth_core_stats { /* of the whole engine, since its creation; sums over replicas */
    int32_t n_waiting, n_running, n_sessions;
    int64_t n_submitted, n_finished, n_refused; /* refused: BERTH_BUSY */
    int64_t n_encode_passes, n_step_passes, n_tiles, n_prompt_tokens, n_new_tokens, n_reused_tokens;
    int64_t n_tiles_reused;                /* whose features were there already */
    int64_t kv_blocks, kv_used, kv_cached; /* used: by running requests; cached: idle, may be taken */
    int64_t loop_ns;                       /* the loops' own processor time: forming passes, sampling, telling */
    int64_t busy_ns;                       /* with at least one pass in flight, sum over replicas */
    int64_t load_ns, load_bytes; /* reading the weights that are not used in place; bytes where devices have them */
} berth_core_stats;
void berth_core_get_stats(berth_core *core, berth_core_stats *out);

#endif
