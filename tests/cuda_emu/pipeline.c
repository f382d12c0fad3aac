/* pipeline.c - see pipeline.h. Three batches go through two GPUs, each stage on a stream of its own:
 * host -> upload -> kernel 0 -> copy between GPUs -> kernel 1 -> download -> host. All buffers exist once, so that every
 * stage must wait for its producer and for the consumer of the batch before. */
#include "pipeline.h"

enum { N = 64, BATCHES = 3, BYTES = N * 4 };
enum { UP, KERNEL0, COPY, KERNEL1, DOWN, N_STAGES };

typedef struct pipeline {
    const pipeline_options *o;
    berth_gpu *gpu[2];
    berth_gpu_stream *stream[N_STAGES];
    berth_gpu_event *done[N_STAGES]; /* the last batch of each stage */
    berth_gpu_module *module[2];
    berth_gpu_kernel scale[2];
    berth_gpu_ptr x[2], y[2];
    uint32_t *slot, *results; /* pinned; [N], [BATCHES * N] */
} pipeline;

static int gpu_of(int stage)
{
    return stage <= KERNEL0 ? 0 : 1;
}

static berth_status set_up_gpu(pipeline *p, berth_cuda *cuda, int i, berth_error *err)
{
    const int ordinal = i == 0 ? p->o->first : p->o->second;
    berth_status st = berth_gpu_open(cuda, ordinal, 4096, &p->gpu[i], err);
    if (st == BERTH_OK) st = berth_gpu_take(p->gpu[i], BYTES, &p->x[i], err);
    if (st == BERTH_OK) st = berth_gpu_take(p->gpu[i], BYTES, &p->y[i], err);
    if (st == BERTH_OK) st = berth_gpu_module_load(p->gpu[i], p->o->image, &p->module[i], err);
    if (st == BERTH_OK) st = berth_gpu_kernel_find(p->module[i], "scale", 64 << 10, &p->scale[i], err);
    return st;
}

static berth_status set_up(pipeline *p, berth_cuda *cuda, berth_error *err)
{
    berth_status st = set_up_gpu(p, cuda, 0, err);
    if (st == BERTH_OK) st = set_up_gpu(p, cuda, 1, err);
    if (st == BERTH_OK && berth_cuda_has_peer(cuda, p->o->second, p->o->first))
        st = berth_gpu_reach(p->gpu[1], p->gpu[0], err);
    for (int i = 0; i < N_STAGES && st == BERTH_OK; i++) {
        st = berth_gpu_stream_create(p->gpu[gpu_of(i)], &p->stream[i], err);
        if (st == BERTH_OK) st = berth_gpu_event_create(p->gpu[gpu_of(i)], &p->done[i], err);
    }
    void *memory = NULL;
    if (st == BERTH_OK) st = berth_gpu_pin(p->gpu[0], BYTES, &memory, err);
    p->slot = memory;
    memory = NULL;
    if (st == BERTH_OK) st = berth_gpu_pin(p->gpu[1], (size_t)BATCHES * BYTES, &memory, err);
    p->results = memory;
    return st;
}

static void tear_down(pipeline *p)
{
    for (int i = 0; i < N_STAGES; i++) berth_gpu_stream_destroy(p->stream[i]);
    for (int i = 0; i < N_STAGES; i++) berth_gpu_event_destroy(p->done[i]);
    if (p->slot) berth_gpu_unpin(p->gpu[0], p->slot);
    if (p->results) berth_gpu_unpin(p->gpu[1], p->results);
    for (int i = 0; i < 2; i++) berth_gpu_module_unload(p->module[i]);
    for (int i = 0; i < 2; i++) berth_gpu_close(p->gpu[i]);
}

/* `stage` waits for what `other` did last, unless this wait is left out. */
static berth_status await(pipeline *p, pipeline_part wait, int stage, int other, berth_error *err)
{
    if (p->o->dropped == (int)wait) return BERTH_OK;
    return berth_gpu_stream_await(p->stream[stage], p->done[other], err);
}

static berth_status finish(pipeline *p, int stage, berth_status st, berth_error *err)
{
    return st == BERTH_OK ? berth_gpu_event_record(p->done[stage], p->stream[stage], err) : st;
}

static berth_status scale(pipeline *p, int stage, berth_error *err)
{
    const int g = gpu_of(stage);
    uint32_t a = g == 0 ? 3 : 5, b = 7, n = N;
    void *params[] = {&p->x[g], &p->y[g], &a, &b, &n};
    const berth_gpu_grid grid = {.blocks = {2}, .threads = {32}};
    return berth_gpu_launch(p->stream[stage], &p->scale[g], &grid, params, err);
}

static berth_status upload(pipeline *p, int batch, berth_error *err)
{
    berth_status st = BERTH_OK;
    if (batch > 0 && p->o->dropped != WAIT_SLOT) st = berth_gpu_event_wait(p->done[UP], err);
    if (st != BERTH_OK) return st;
    for (uint32_t i = 0; i < N; i++) p->slot[i] = (uint32_t)batch * 1000 + i;
    st = await(p, WAIT_X0_READ, UP, KERNEL0, err);
    if (st == BERTH_OK && p->o->dropped != COPY_UP) st = berth_gpu_upload(p->stream[UP], p->x[0], p->slot, BYTES, err);
    return finish(p, UP, st, err);
}

static berth_status run_batch(pipeline *p, int batch, berth_error *err)
{
    berth_status st = upload(p, batch, err);
    if (st == BERTH_OK) st = await(p, WAIT_UPLOADED, KERNEL0, UP, err);
    if (st == BERTH_OK) st = await(p, WAIT_Y0_READ, KERNEL0, COPY, err);
    if (st == BERTH_OK) st = scale(p, KERNEL0, err);
    st = finish(p, KERNEL0, st, err);
    if (st == BERTH_OK) st = await(p, WAIT_Y0_MADE, COPY, KERNEL0, err);
    if (st == BERTH_OK) st = await(p, WAIT_X1_READ, COPY, KERNEL1, err);
    if (st == BERTH_OK && p->o->dropped != COPY_BETWEEN)
        st = berth_gpu_copy_peer(p->stream[COPY], p->gpu[1], p->x[1], p->gpu[0], p->y[0], BYTES, err);
    st = finish(p, COPY, st, err);
    if (st == BERTH_OK) st = await(p, WAIT_ARRIVED, KERNEL1, COPY, err);
    if (st == BERTH_OK) st = await(p, WAIT_Y1_READ, KERNEL1, DOWN, err);
    if (st == BERTH_OK) st = scale(p, KERNEL1, err);
    st = finish(p, KERNEL1, st, err);
    if (st == BERTH_OK) st = await(p, WAIT_Y1_MADE, DOWN, KERNEL1, err);
    if (st == BERTH_OK && p->o->dropped != COPY_DOWN)
        st = berth_gpu_download(p->stream[DOWN], p->results + (size_t)batch * N, p->y[1], BYTES, err);
    return finish(p, DOWN, st, err);
}

static bool is_right(const pipeline *p)
{
    for (uint32_t batch = 0; batch < BATCHES; batch++) {
        for (uint32_t i = 0; i < N; i++) {
            if (p->results[batch * N + i] != ((batch * 1000 + i) * 3 + 7) * 5 + 7) return false;
        }
    }
    return true;
}

berth_status pipeline_run(berth_cuda *cuda, const pipeline_options *o, bool *out_right, berth_error *err)
{
    pipeline p = {.o = o};
    *out_right = false;
    berth_status st = set_up(&p, cuda, err);
    for (int batch = 0; batch < BATCHES && st == BERTH_OK; batch++) st = run_batch(&p, batch, err);
    if (st == BERTH_OK && o->dropped != WAIT_RESULT) st = berth_gpu_stream_wait(p.stream[DOWN], err);
    if (st == BERTH_OK) *out_right = is_right(&p);
    tear_down(&p);
    return st;
}
