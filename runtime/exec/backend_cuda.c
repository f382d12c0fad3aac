/* backend_cuda.c - a GPU, or a part of one, as a device: its arena, weights sent through pinned memory, a lane that queues
 * ops on its runs' streams, and a waiter that sleeps until what was queued is over.
 *
 * A run in flight has a stream of its own here, so that runs overlap as the GPU likes; what orders them (a value that
 * another lane made, the run before) is an event on the stream, never a thread that waits. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/code.h"
#include "exec/backend_cuda.h"
#include "machine/machine.h"

enum {
    SPIN_NS = 50000, /* as a cpu lane's, backend_cpu.c */
    ASKS = 50,       /* some 50 us, see berth_gpu_event_wait_asking */
    FEW_CORES = 4,   /* with no more of them nobody spins: the lanes' threads are not all of a program's */
    MOST_NEAR = 512, /* cores */
    RING_SLOTS = 2,  /* of a reader: one is filled while the other is sent */
};

typedef struct cuda_unit {
    berth_lane waiter;
    berth_unit *unit; /* borrowed */
    berth_gpu *gpu;
    berth_gpu_code *code;
    berth_gpu_stream *io; /* for reading and writing */
    pthread_mutex_t io_lock;
    int32_t near[MOST_NEAR]; /* the cores that the GPU is near to */
    berth_relay *relay;      /* NULL: nobody sends here by way of the host */
    berth_gpu_group *group;  /* borrowed: the engine's; NULL: no edge goes by NCCL */
} cuda_unit;

struct berth_stream {
    cuda_unit *on; /* borrowed */
    berth_gpu_stream *gpu;
};

struct berth_mark {
    const cuda_unit *on; /* borrowed */
    berth_gpu_event *event;
    int32_t n_asks; /* by a host that waits, before it sleeps */
};

static cuda_unit *own(const berth_unit *u)
{
    return u->own;
}

static berth_gpu_ptr at_gpu(const void *p)
{
    return (berth_gpu_ptr)(uintptr_t)p;
}

/* ---- pure ------------------------------------------------------------------------------------------------------- */

static berth_gpu_code_target code_target(const berth_op_target *t)
{
    return (berth_gpu_code_target){.capability = t->capability, .batch_invariant = t->batch_invariant};
}

static size_t cuda_workspace(const berth_op_target *target, const berth_op_call *shapes)
{
    const berth_gpu_code_target t = code_target(target);
    return berth_gpu_code_workspace(shapes, &t);
}

static bool cuda_has(const berth_op_target *target, const berth_op_call *shapes)
{
    const berth_gpu_code_target t = code_target(target);
    return berth_gpu_code_has(shapes, &t);
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static berth_status make_own(berth_unit *u, berth_error *err)
{
    cuda_unit *c = aligned_alloc(_Alignof(cuda_unit), sizeof *c);
    if (!c) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "device %s", u->info->name);
    memset(c, 0, sizeof *c);
    pthread_mutex_init(&c->io_lock, NULL);
    c->unit = u;
    u->own = c;
    u->waiter = &c->waiter;
    return BERTH_OK;
}

static berth_status cuda_open(berth_unit *u, const berth_unit_options *o, berth_error *err)
{
    berth_status st = make_own(u, err);
    if (st != BERTH_OK) return st;
    cuda_unit *c = own(u);
    berth_gpu_ptr base = 0;
    st = berth_arena_init_over(&u->arena, u->info->name, NULL, o->arena_bytes, BERTH_GPU_ALIGN, u->info->memory_bytes,
                               err);
    if (st == BERTH_OK) st = berth_gpu_open(o->cuda, u->info->physical, o->arena_bytes, &c->gpu, err);
    if (st == BERTH_OK && o->arena_bytes) st = berth_gpu_take(c->gpu, o->arena_bytes, &base, err);
    u->arena.base = (uint8_t *)(uintptr_t)base;
    const berth_gpu_code_options code = {.batch_invariant = o->batch_invariant};
    if (st == BERTH_OK) st = berth_gpu_code_load(c->gpu, &code, &c->code, err);
    if (st == BERTH_OK) st = berth_gpu_stream_create(c->gpu, &c->io, err);
    if (st != BERTH_OK) berth_error_prefix(err, "device %s: ", u->info->name);
    return st;
}

/* A reader's way up: pinned slots, filled in turn, and a stream for what is sent. */
typedef struct upload_lane {
    berth_gpu_ring *ring;
    berth_gpu_stream *stream;
} upload_lane;

static berth_status lane_close(void *lane, berth_error *err)
{
    upload_lane *l = lane;
    berth_status st = l->stream ? berth_gpu_stream_wait(l->stream, err) : BERTH_OK;
    berth_gpu_ring_destroy(l->ring);
    berth_gpu_stream_destroy(l->stream);
    free(l);
    return st;
}

static berth_status lane_open(void *user, size_t piece_bytes, void **out_lane, berth_error *err)
{
    cuda_unit *c = user;
    upload_lane *l = calloc(1, sizeof *l);
    if (!l) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "pinned memory for loading");
    berth_status st = berth_gpu_ring_create(c->gpu, RING_SLOTS, piece_bytes, &l->ring, err);
    if (st == BERTH_OK) st = berth_gpu_stream_create(c->gpu, &l->stream, err);
    if (st == BERTH_OK)
        *out_lane = l;
    else
        (void)lane_close(l, NULL);
    return st;
}

static berth_status lane_next(void *lane, void **out, berth_error *err)
{
    return berth_gpu_ring_next(((upload_lane *)lane)->ring, out, err);
}

static berth_status lane_send(void *lane, void *dst, size_t bytes, berth_error *err)
{
    const upload_lane *l = lane;
    return berth_gpu_ring_send(l->ring, l->stream, at_gpu(dst), bytes, err);
}

static const berth_load_way upload = {.open = lane_open, .next = lane_next, .send = lane_send, .close = lane_close};

static berth_status cuda_load(berth_unit *u, const berth_model_data *model, const bool *wanted, berth_dtype compute,
                              berth_load *load, berth_error *err)
{
    /* Pinned memory comes to lie near the cores that first write it, so they are to be near the GPU. */
    cuda_unit *c = own(u);
    berth_load_target there = {
        .name = u->info->name, .cores = u->info->cores, .n_cores = u->info->n_cores, .way = &upload, .user = c};
    if (there.n_cores == 0) {
        there.n_cores = berth_cores_near("", berth_gpu_about(c->gpu)->pci, c->near, MOST_NEAR);
        there.cores = there.n_cores > 0 ? c->near : NULL;
    }
    berth_status st = berth_weights_init(&u->weights, model, wanted, compute, &u->backend->weights, &u->arena,
                                         berth_load_watched(load), err);
    return st == BERTH_OK ? berth_load_add(load, &u->weights, &there, err) : st;
}

static berth_status cuda_start(berth_unit *u, const berth_unit_options *o, berth_error *err)
{
    const berth_device *dev = u->info;
    u->spin_ns = o->n_cores_present <= FEW_CORES ? 0 : SPIN_NS;
    berth_thread_label lane = {0}, waiter = {0};
    if (o->threads) lane.watch = waiter.watch = *o->threads;
    snprintf(lane.name, sizeof lane.name, "lane %s", dev->name);
    snprintf(waiter.name, sizeof waiter.name, "waiter %s", dev->name);
    berth_status st = berth_lane_init(u->waiter, dev->cores, dev->n_cores, 0, &waiter, err);
    if (st == BERTH_OK) st = berth_lane_init(&u->lane, dev->cores, dev->n_cores, u->spin_ns, &lane, err);
    if (st != BERTH_OK) berth_error_prefix(err, "device %s: ", dev->name);
    return st;
}

static void cuda_stop(berth_unit *u)
{
    cuda_unit *c = own(u);
    berth_lane_deinit(&u->lane);
    if (!c) return;
    berth_lane_deinit(&c->waiter);
    berth_relay_destroy(c->relay); /* it has streams on other units' GPUs */
    c->relay = NULL;
}

static void cuda_close(berth_unit *u)
{
    cuda_unit *c = own(u);
    berth_weights_deinit(&u->weights);
    if (!c) return;
    berth_gpu_stream_destroy(c->io);
    berth_gpu_code_unload(c->code);
    berth_gpu_close(c->gpu);
    pthread_mutex_destroy(&c->io_lock);
    free(c);
    u->own = u->waiter = NULL;
}

berth_gpu *berth_unit_gpu(const berth_unit *u)
{
    return u && u->backend == &berth_backend_cuda ? own(u)->gpu : NULL;
}

berth_status berth_unit_add_relay(berth_unit *u, berth_gpu *const *from, int32_t n, berth_error *err)
{
    berth_status st = berth_relay_create(own(u)->gpu, from, n, &own(u)->relay, err);
    if (st != BERTH_OK) berth_error_prefix(err, "staged copies to device %s: ", u->info->name);
    return st;
}

void berth_unit_set_group(berth_unit *u, berth_gpu_group *group)
{
    own(u)->group = group;
}

/* ---- bytes ------------------------------------------------------------------------------------------------------ */

/* What was queued is over then, also where queueing failed half way or a wait did: it would go on in the caller's memory. */
static berth_status finish_io(cuda_unit *c, berth_status st, berth_error *err)
{
    berth_error after = {0};
    berth_status waited = berth_gpu_stream_wait(c->io, &after);
    if (waited != BERTH_OK) (void)berth_gpu_stream_wait(c->io, NULL);
    pthread_mutex_unlock(&c->io_lock);
    if (st == BERTH_OK && waited != BERTH_OK && err) *err = after;
    return st == BERTH_OK ? waited : st;
}

static berth_status cuda_read(berth_unit *u, void *dst, const void *src, size_t bytes, berth_error *err)
{
    cuda_unit *c = own(u);
    if (bytes == 0) return BERTH_OK;
    pthread_mutex_lock(&c->io_lock);
    return finish_io(c, berth_gpu_download(c->io, dst, at_gpu(src), bytes, err), err);
}

static berth_status cuda_write(berth_unit *u, void *dst, const void *src, size_t bytes, berth_error *err)
{
    cuda_unit *c = own(u);
    if (bytes == 0) return BERTH_OK;
    pthread_mutex_lock(&c->io_lock);
    return finish_io(c, berth_gpu_upload(c->io, at_gpu(dst), src, bytes, err), err);
}

/* ---- ops -------------------------------------------------------------------------------------------------------- */

static berth_status cuda_run(berth_unit *u, berth_stream *s, berth_op_call *call, berth_error *err)
{
    return berth_gpu_code_run(own(u)->code, s->gpu, call, err);
}

static bool cuda_fuses(const berth_unit *u, const berth_fused_call *call)
{
    return berth_gpu_code_fuses(own(u)->code, call);
}

static berth_status cuda_run_fused(berth_unit *u, berth_stream *s, const berth_fused_call *call, berth_error *err)
{
    return berth_gpu_code_run_fused(own(u)->code, s->gpu, call, err);
}

static berth_status cuda_copy(berth_unit *u, berth_stream *s, const berth_transport *transport, berth_unit *from,
                              berth_unit *to, berth_copy *copy, berth_error *err)
{
    copy->from_gpu = berth_unit_gpu(from);
    copy->to_gpu = berth_unit_gpu(to);
    copy->stream = s->gpu;
    copy->relay = own(u)->relay;
    copy->group = own(u)->group;
    return transport->copy(copy, err);
}

/* ---- queueing --------------------------------------------------------------------------------------------------- */

static void cuda_stream_destroy(berth_stream *s)
{
    if (!s) return;
    if (s->gpu) {
        /* what the stream awaits may be on another GPU, which is still there */
        if (berth_gpu_stream_wait(s->gpu, NULL) != BERTH_OK) (void)berth_gpu_stream_wait(s->gpu, NULL);
        berth_gpu_code_forget(s->on->code, s->gpu);
    }
    berth_gpu_stream_destroy(s->gpu);
    free(s);
}

static berth_status cuda_stream_create(berth_unit *u, berth_stream **out, berth_error *err)
{
    *out = NULL;
    berth_stream *s = calloc(1, sizeof *s);
    if (!s) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a stream of device %s", u->info->name);
    s->on = own(u);
    berth_status st = berth_gpu_stream_create(s->on->gpu, &s->gpu, err);
    if (st == BERTH_OK) st = berth_gpu_code_prepare(s->on->code, s->gpu, err);
    if (st != BERTH_OK) {
        cuda_stream_destroy(s);
        return st;
    }
    *out = s;
    return BERTH_OK;
}

static berth_status cuda_stream_wait(berth_stream *s, berth_error *err)
{
    return berth_gpu_stream_wait(s->gpu, err);
}

static berth_status cuda_mark_create(berth_unit *u, berth_mark_use use, berth_mark **out, berth_error *err)
{
    *out = NULL;
    berth_mark *m = calloc(1, sizeof *m);
    if (!m) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a mark of device %s", u->info->name);
    m->on = own(u);
    m->n_asks = u->spin_ns > 0 ? ASKS : 0;
    static const uint32_t uses[] = {
        [BERTH_MARK_FOR_HOST] = BERTH_GPU_EVENT_SLEEPS, [BERTH_MARK_TIMED] = BERTH_GPU_EVENT_TIMED};
    berth_status st = berth_gpu_event_create_as(own(u)->gpu, uses[use], &m->event, err);
    if (st != BERTH_OK) {
        free(m);
        return st;
    }
    *out = m;
    return BERTH_OK;
}

static void cuda_mark_destroy(berth_mark *m)
{
    if (!m) return;
    berth_gpu_event_destroy(m->event);
    free(m);
}

static berth_status cuda_mark_set(berth_mark *m, berth_stream *s, berth_error *err)
{
    return berth_gpu_event_record(m->event, s->gpu, err);
}

static berth_status cuda_mark_await(berth_mark *m, berth_stream *s, berth_error *err)
{
    return berth_gpu_stream_await(s->gpu, m->event, err);
}

/* Copies of a group that was lost end all the same, and bring anything. */
static berth_status cuda_mark_wait(berth_mark *m, berth_error *err)
{
    berth_status st = berth_gpu_event_wait_asking(m->event, m->n_asks, err);
    return st == BERTH_OK && m->on->group ? berth_gpu_group_state(m->on->group, err) : st;
}

static berth_status cuda_mark_elapsed(berth_mark *from, berth_mark *to, int64_t *out_ns, berth_error *err)
{
    return berth_gpu_event_elapsed(from->event, to->event, out_ns, err);
}

static berth_status cuda_capture_begin(berth_stream *s, berth_error *err)
{
    return berth_gpu_capture_begin(s->gpu, err);
}

static berth_gpu_graph *gpu_graph(berth_graph *g)
{
    return (berth_gpu_graph *)(void *)g;
}

static berth_status cuda_capture_end(berth_stream *s, berth_graph **out, berth_error *err)
{
    berth_gpu_graph *g = NULL;
    berth_status st = berth_gpu_capture_end(s->gpu, &g, err);
    *out = (berth_graph *)(void *)g;
    return st;
}

static berth_status cuda_graph_launch(berth_stream *s, berth_graph *g, berth_error *err)
{
    return berth_gpu_graph_launch(s->gpu, gpu_graph(g), err);
}

static void cuda_graph_destroy(berth_graph *g)
{
    berth_gpu_graph_destroy(gpu_graph(g));
}

static berth_status cuda_pin(berth_unit *u, size_t bytes, void **out, berth_error *err)
{
    berth_status st = berth_gpu_pin(own(u)->gpu, bytes, out, err);
    if (st == BERTH_OK) memset(*out, 0, bytes);
    return st;
}

static void cuda_unpin(berth_unit *u, void *memory)
{
    berth_gpu_unpin(own(u)->gpu, memory);
}

const berth_backend berth_backend_cuda = {
    .name = "cuda",
    .weights = {.copies_all = true, .align = BERTH_GPU_ALIGN},
    .align = BERTH_GPU_ALIGN,
    .queues = true,
    .workspace = cuda_workspace,
    .has = cuda_has,
    .open = cuda_open,
    .load = cuda_load,
    .start = cuda_start,
    .stop = cuda_stop,
    .close = cuda_close,
    .read = cuda_read,
    .write = cuda_write,
    .run = cuda_run,
    .fuses = cuda_fuses,
    .run_fused = cuda_run_fused,
    .copy = cuda_copy,
    .stream_create = cuda_stream_create,
    .stream_destroy = cuda_stream_destroy,
    .stream_wait = cuda_stream_wait,
    .mark_create = cuda_mark_create,
    .mark_destroy = cuda_mark_destroy,
    .mark_set = cuda_mark_set,
    .mark_await = cuda_mark_await,
    .mark_wait = cuda_mark_wait,
    .mark_elapsed = cuda_mark_elapsed,
    .capture_begin = cuda_capture_begin,
    .capture_end = cuda_capture_end,
    .graph_launch = cuda_graph_launch,
    .graph_destroy = cuda_graph_destroy,
    .pin = cuda_pin,
    .unpin = cuda_unpin,
};
