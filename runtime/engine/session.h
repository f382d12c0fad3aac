/* session.h - one request under way on a replica: its tokens' place in the KV store, its image features, its rope, its
 * sampler; and the passes it makes.
 *
 * Passes may be made again with the same result (KV and feature rows are overwritten by the same values), which is how
 * numeric.c finds where bad numbers began. */
#ifndef BERTH_ENGINE_SESSION_H
#define BERTH_ENGINE_SESSION_H

#include "engine/core.h"

typedef struct berth_session {
    berth_core *core;
    berth_replica *replica;
    const berth_core_request *request;
    const berth_job *job;
    const berth_model_config *config;
    berth_block_table kv, features;
    float *inv_freq; /* owned; [head_dim / 2], of the pass under way */
    berth_sampler *sampler;
    uint8_t *wanted[2];   /* owned; tap: values of encode, of step */
    int64_t pass[2];      /* encode and step passes made */
    uint64_t *edge_bytes; /* borrowed from the result */
    int32_t n_logits;     /* rows of the newest step */
} berth_session;

berth_status berth_session_init(berth_session *s, berth_core *core, berth_replica *replica,
                                const berth_core_request *request, berth_error *err);
void berth_session_deinit(berth_session *s);

/* All tiles to feature rows; all of the prompt; one token at `position`. `watch` NULL = the request's tap. Cancelled
 * between passes: BERTH_CANCELLED. */
berth_status berth_session_encode(berth_session *s, const berth_watch *watch, berth_error *err);
berth_status berth_session_prefill(berth_session *s, const berth_watch *watch, berth_error *err);
berth_status berth_session_decode(berth_session *s, int32_t id, int64_t position, const berth_watch *watch,
                                  berth_error *err);

berth_status berth_session_may_go_on(const berth_session *s, berth_error *err); /* CANCELLED, DEADLINE */
berth_status berth_replica_run(berth_replica *r, const berth_job *job, berth_core_result *out, berth_error *err);
const float *berth_session_logits(const berth_session *s); /* the newest row */
int32_t berth_session_argmax(const berth_session *s);      /* of that row, from its summary: lowest index on ties */

/* numeric.c: are the newest logits usable? `position` of the decode step with token `id`, or -1 for the prompt.
 * BERTH_NUMERIC names where it began. */
berth_status berth_session_check_numbers(berth_session *s, int32_t id, int64_t position, berth_error *err);

#endif
