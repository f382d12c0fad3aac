/* stats.c - what goes on in an engine, summed over its replicas. What waits and runs is of one moment; the other counters
 * are read while loops go on: each is right by itself, no two belong to the same moment. Whoever was told a request's end
 * finds it ended in all of them: they are brought up to date before it is told. */
#include "engine/core.h"

void berth_replica_count_kv(berth_replica *r)
{
    atomic_store_explicit(&r->kv_used, r->kv.n_blocks - berth_blocks_available(&r->kv), memory_order_relaxed);
    atomic_store_explicit(&r->kv_cached, r->kv.n_cached, memory_order_relaxed);
}

void berth_replica_count_end(berth_replica *r, berth_job *job)
{
    berth_replica_count_kv(r);
    berth_count(&r->n_finished, 1);
    berth_job_queue_give_back(&r->core->queue, job);
}

void berth_core_get_stats(berth_core *core, berth_core_stats *out)
{
    const berth_job_counts jobs = berth_job_queue_counts(&core->queue);
    *out = (berth_core_stats){.n_waiting = jobs.n_waiting,
                              .n_running = jobs.n_running,
                              .n_sessions = atomic_load(&core->n_sessions),
                              .n_submitted = jobs.n_submitted,
                              .n_refused = jobs.n_refused,
                              .kv_blocks = (int64_t)core->plan->n_blocks * core->n_replicas,
                              .load_ns = core->load_ns,
                              .load_bytes = (int64_t)core->load_bytes};
    for (int32_t i = 0; i < core->n_replicas; i++) {
        berth_replica *r = &core->replicas[i];
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
