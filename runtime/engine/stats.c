/* stats.c - what goes on in an engine, summed over its replicas. Counters are read while loops go on: each is right by
 * itself, no two belong to the same moment. */
#include "engine/core.h"

void berth_core_get_stats(berth_core *core, berth_core_stats *out)
{
    *out = (berth_core_stats){.n_sessions = atomic_load(&core->n_sessions),
                              .kv_blocks = (int64_t)core->plan->n_blocks * core->n_replicas,
                              .load_ns = core->load_ns,
                              .load_bytes = (int64_t)core->load_bytes,
                              .n_waiting = berth_job_queue_waiting(&core->queue)};
    berth_job_queue_counts(&core->queue, &out->n_submitted, &out->n_refused);
    for (int32_t i = 0; i < core->n_replicas; i++) {
        berth_replica *r = &core->replicas[i];
        out->n_running += atomic_load(&r->load);
        out->n_finished += atomic_load(&r->n_finished);
        out->n_encode_passes += atomic_load(&r->n_encode_passes);
        out->n_step_passes += atomic_load(&r->n_step_passes);
        out->n_tiles += atomic_load(&r->n_tiles);
        out->n_tiles_reused += atomic_load(&r->n_tiles_reused);
        out->n_prompt_tokens += atomic_load(&r->n_prompt_tokens);
        out->n_reused_tokens += atomic_load(&r->n_reused_tokens);
        out->n_new_tokens += atomic_load(&r->n_new_tokens);
        out->kv_used += atomic_load(&r->kv_used);
        out->kv_cached += atomic_load(&r->kv_cached);
        out->loop_ns += atomic_load(&r->loop_ns);
        out->busy_ns += atomic_load(&r->busy_ns);
    }
}
