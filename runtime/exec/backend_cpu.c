/* backend_cpu.c - a virtual cpu device: a mapping for its arena, weights used in place, and a team of threads that
 * computes one op at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exec/backend.h"

/* A waiting thread sleeps after this: longer than the gap between two ops of a step, too short for anyone to see. */
enum { SPIN_NS = 50000 };

int32_t berth_cpu_threads(const berth_device *device)
{
    return device->n_cores > 0 ? device->n_cores : 1;
}

static size_t cpu_workspace(const berth_op_target *target, const berth_op_call *shapes)
{
    return berth_kernels_workspace(target->kernels, shapes, target->n_threads);
}

static berth_status cpu_open(berth_unit *u, const berth_unit_options *o, berth_error *err)
{
    u->kernels = o->kernels;
    berth_status st = berth_arena_init(&u->arena, u->info->name, o->arena_bytes, u->info->memory_bytes, o->memory, err);
    if (st != BERTH_OK) return st;
    if (o->strict && u->arena.base)
        memset(u->arena.base, 0xff, u->arena.size); /* NaN: what is read before it is written does not pass for zeros */
    u->staging_bytes = o->staging_bytes;
    if (u->staging_bytes) u->staging = malloc(u->staging_bytes);
    if (u->staging_bytes && !u->staging)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "staging memory of device %s", u->info->name);
    return BERTH_OK;
}

static berth_status cpu_load(berth_unit *u, const berth_model_data *model, const bool *wanted, berth_dtype compute,
                             berth_load *load, berth_error *err)
{
    /* Readers on the device's own cores: what they touch first comes to lie near them. */
    const berth_load_target here = {.name = u->info->name, .cores = u->info->cores, .n_cores = u->info->n_cores};
    berth_status st = berth_weights_init(&u->weights, model, wanted, compute, &u->backend->weights, &u->arena,
                                         berth_load_watched(load), err);
    return st == BERTH_OK ? berth_load_add(load, &u->weights, &here, err) : st;
}

static berth_status cpu_start(berth_unit *u, const berth_unit_options *o, berth_error *err)
{
    const berth_device *dev = u->info;
    bool shares = dev->shares_cores || o->n_cores_present < 2;
    u->spin_ns = shares ? 0 : SPIN_NS;
    int32_t n_threads = o->strict ? 1 : berth_cpu_threads(dev);
    berth_thread_label helper = {0}, lane = {0};
    if (o->threads) helper.watch = lane.watch = *o->threads;
    snprintf(helper.name, sizeof helper.name, "helper %s", dev->name);
    snprintf(lane.name, sizeof lane.name, "lane %s", dev->name);
    berth_status st =
        berth_cpu_team_create(n_threads, dev->cores, dev->n_cores, !shares, u->spin_ns, &helper, &u->team, err);
    if (st == BERTH_OK) st = berth_lane_init(&u->lane, dev->cores, shares ? dev->n_cores : 1, u->spin_ns, &lane, err);
    if (st != BERTH_OK) berth_error_prefix(err, "device %s: ", dev->name);
    return st;
}

static void cpu_stop(berth_unit *u)
{
    berth_lane_deinit(&u->lane);
    berth_cpu_team_destroy(u->team);
    u->team = NULL;
}

static void cpu_close(berth_unit *u)
{
    berth_weights_deinit(&u->weights);
    berth_arena_deinit(&u->arena);
    free(u->staging);
    u->staging = NULL;
}

static berth_status cpu_move(berth_unit *u, void *dst, const void *src, size_t bytes, berth_error *err)
{
    (void)u;
    (void)err;
    memcpy(dst, src, bytes);
    return BERTH_OK;
}

static berth_status cpu_run(berth_unit *u, berth_stream *s, berth_op_call *call, berth_error *err)
{
    (void)s;
    (void)err;
    call->team = u->team;
    berth_kernels_run(u->kernels, call);
    return BERTH_OK;
}

static berth_status cpu_copy(berth_unit *u, berth_stream *s, const berth_transport *transport, berth_unit *from,
                             berth_unit *to, berth_copy *copy, berth_error *err)
{
    (void)s;
    (void)to;
    if (from && !from->backend->is_host) return from->backend->read(from, copy->dst, copy->src, copy->bytes, err);
    copy->staging = u->staging;
    copy->staging_bytes = u->staging_bytes;
    return transport->copy(copy, err);
}

const berth_backend berth_backend_cpu = {
    .name = "cpu",
    .align = BERTH_ARENA_ALIGN,
    .weights = {.align = BERTH_ARENA_ALIGN},
    .is_host = true,
    .workspace = cpu_workspace,
    .open = cpu_open,
    .load = cpu_load,
    .start = cpu_start,
    .stop = cpu_stop,
    .close = cpu_close,
    .read = cpu_move,
    .write = cpu_move,
    .run = cpu_run,
    .copy = cpu_copy,
};

const berth_backend *berth_backend_of(berth_device_kind kind)
{
    switch (kind) {
    case BERTH_DEVICE_CPU: return &berth_backend_cpu;
    case BERTH_DEVICE_CUDA: return &berth_backend_cuda;
    }
    return NULL;
}
