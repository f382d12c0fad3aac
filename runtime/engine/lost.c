/* lost.c - devices that are lost while an engine lives: which replicas cannot go on, and what is told to those who ask.
 *
 * A replica is lost with any of its devices, for good: what lay there (weights, KV, sessions) is gone, and the device works
 * again only in a new process. Loops of lost replicas go on, to end or hand over what they have; they start nothing. */
#include "cuda/device.h"
#include "engine/core.h"
#include "exec/backend_cuda.h"

static bool is_lost(const berth_unit *u)
{
    const berth_gpu *gpu = berth_unit_gpu(u);
    return gpu && berth_gpu_is_lost(gpu);
}

static bool uses_lost(const berth_replica *r)
{
    for (uint64_t left = r->lanes; left; left &= left - 1)
        if (is_lost(&r->core->exec.units[__builtin_ctzll(left)])) return true;
    return false;
}

bool berth_replica_lives(const berth_replica *r)
{
    return !atomic_load(&r->is_lost);
}

int32_t berth_core_n_living(const berth_core *core)
{
    int32_t n = 0;
    for (int32_t i = 0; i < core->n_replicas; i++) n += berth_replica_lives(&core->replicas[i]);
    return n;
}

/* ---- words ------------------------------------------------------------------------------------------------------ */

static void append_names(const berth_core *core, uint64_t devices, berth_error *err)
{
    const char *before = " (";
    for (; devices; devices &= devices - 1, before = ", ")
        berth_error_append(err, "%s%s", before, core->exec.units[__builtin_ctzll(devices)].info->name);
    if (before[0] == ',') berth_error_append(err, ")");
}

/* What can still be used. */
static void append_rest(const berth_core *core, berth_error *err)
{
    int32_t n = berth_core_n_living(core);
    uint64_t in_use = 0, whole = 0;
    for (int32_t i = 0; i < core->n_replicas; i++)
        if (berth_replica_lives(&core->replicas[i])) in_use |= core->replicas[i].lanes;
    for (int32_t d = 0; d < core->exec.n_units; d++)
        if (!is_lost(&core->exec.units[d])) whole |= (uint64_t)1 << d;
    if (n > 0)
        berth_error_append(err, "; %d of %d replicas %s", (int)n, (int)core->n_replicas, n == 1 ? "goes on" : "go on");
    else if (whole)
        berth_error_append(err, "; no replica of this engine is left: make a new engine on what is not lost");
    else
        berth_error_append(err, "; nothing of this engine is left");
    append_names(core, n > 0 ? in_use : whole, err);
}

/* ---- losing ----------------------------------------------------------------------------------------------------- */

void berth_lost_look(berth_replica *r, berth_status st, berth_error *err)
{
    berth_core *core = r->core;
    if (st != BERTH_DEVICE_LOST && !uses_lost(r)) return;
    pthread_mutex_lock(&core->lost_lock);
    if (core->why_lost.status == BERTH_OK) core->why_lost = *err;
    atomic_store(&r->is_lost, true);
    for (int32_t i = 0; i < core->n_replicas; i++)
        if (uses_lost(&core->replicas[i])) atomic_store(&core->replicas[i].is_lost, true);
    pthread_mutex_unlock(&core->lost_lock);
    append_rest(core, err);
    berth_core_wake(core); /* what waited for this replica is for the others now */
}

berth_status berth_lost_error(berth_core *core, berth_error *err)
{
    if (!err) return BERTH_DEVICE_LOST;
    pthread_mutex_lock(&core->lost_lock);
    *err = core->why_lost;
    pthread_mutex_unlock(&core->lost_lock);
    err->status = BERTH_DEVICE_LOST; /* what was seen first may have been another failure of the same device */
    append_rest(core, err);
    return BERTH_DEVICE_LOST;
}
