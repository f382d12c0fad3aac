/* nccl_chain.c - see nccl_chain.h. Each GPU has one buffer that comes in and one that goes out, a stream for kernels
 * and one for what comes in. Every stage must therefore wait for its producer and for the reader of the batch before.
 *
 * A stage may queue work that waits for another stage's only when that is queued, as the engine's lanes do; `queued`
 * counts it. */
#include "nccl_chain.h"

#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 64, BYTES = N * 4 };

typedef struct stage {
    struct chain *chain;
    int index;
    berth_gpu *gpu;
    berth_gpu_stream *lane, *in;
    berth_gpu_event *made, *arrived; /* of the last batch */
    berth_gpu_module *module;
    berth_gpu_kernel scale;
    berth_gpu_ptr x, y, sum;
    int n_made, n_arrived; /* batches queued; under the lock */
    berth_status status;
    berth_error error;
} stage;

typedef struct chain {
    const chain_options *o;
    berth_gpu_group *group;
    stage stages[MAX_CHAIN];
    uint32_t *results; /* pinned, so that nothing waits for a download; [n_batches * N] */
    float sums[MAX_CHAIN];
    pthread_mutex_t lock;
    pthread_cond_t queued;
    bool failed;
} chain;

/* ---- setting up ------------------------------------------------------------------------------------------------------ */

static berth_status set_up_stage(stage *s, berth_cuda *cuda, berth_error *err)
{
    berth_status st = berth_gpu_open(cuda, s->index, 8192, &s->gpu, err);
    if (st == BERTH_OK) st = berth_gpu_take(s->gpu, BYTES, &s->x, err);
    if (st == BERTH_OK) st = berth_gpu_take(s->gpu, BYTES, &s->y, err);
    if (st == BERTH_OK) st = berth_gpu_take(s->gpu, BYTES, &s->sum, err);
    if (st == BERTH_OK) st = berth_gpu_stream_create(s->gpu, &s->lane, err);
    if (st == BERTH_OK) st = berth_gpu_stream_create(s->gpu, &s->in, err);
    if (st == BERTH_OK) st = berth_gpu_event_create(s->gpu, &s->made, err);
    if (st == BERTH_OK) st = berth_gpu_event_create(s->gpu, &s->arrived, err);
    if (st == BERTH_OK) st = berth_gpu_module_load(s->gpu, s->chain->o->image, &s->module, err);
    return st == BERTH_OK ? berth_gpu_kernel_find(s->module, "scale", 0, &s->scale, err) : st;
}

static berth_status set_up(chain *c, berth_cuda *cuda, berth_error *err)
{
    berth_gpu *gpus[MAX_CHAIN] = {0};
    berth_gpu_edge edges[MAX_CHAIN];
    berth_status st = BERTH_OK;
    for (int i = 0; i < c->o->n_gpus && st == BERTH_OK; i++) {
        c->stages[i].chain = c;
        c->stages[i].index = i;
        st = set_up_stage(&c->stages[i], cuda, err);
        gpus[i] = c->stages[i].gpu;
        edges[i] = (berth_gpu_edge){i, i + 1};
    }
    const berth_gpu_group_options o = {
        .timeout_ns = c->o->timeout_ns, .all_reduce = c->o->sum, .depth = 2, .proof_bytes = 128};
    void *memory = NULL;
    if (st == BERTH_OK) st = berth_gpu_pin(gpus[0], (size_t)c->o->n_batches * BYTES, &memory, err);
    c->results = memory;
    if (st == BERTH_OK) st = berth_gpu_group_create(gpus, c->o->n_gpus, edges, c->o->n_gpus - 1, &o, &c->group, err);
    return st;
}

static void tear_down(chain *c)
{
    berth_gpu_group_destroy(c->group);
    for (int i = 0; i < c->o->n_gpus; i++) {
        stage *s = &c->stages[i];
        berth_gpu_stream_destroy(s->in);
        berth_gpu_stream_destroy(s->lane);
        berth_gpu_event_destroy(s->made);
        berth_gpu_event_destroy(s->arrived);
        berth_gpu_module_unload(s->module);
    }
    if (c->results) berth_gpu_unpin(c->stages[0].gpu, c->results);
    for (int i = 0; i < c->o->n_gpus; i++) berth_gpu_close(c->stages[i].gpu);
}

/* ---- a stage's batch ------------------------------------------------------------------------------------------------- */

/* The stage before has queued its kernel of this batch; the one behind has queued its copy of the batch before. */
static bool await_turn(stage *s, int batch)
{
    chain *c = s->chain;
    pthread_mutex_lock(&c->lock);
    while (!c->failed &&
           ((s->index > 0 && s[-1].n_made <= batch) || (s->index + 1 < c->o->n_gpus && s[1].n_arrived < batch)))
        pthread_cond_wait(&c->queued, &c->lock);
    const bool goes_on = !c->failed;
    pthread_mutex_unlock(&c->lock);
    return goes_on;
}

static void tell(stage *s, int *count, berth_status st)
{
    pthread_mutex_lock(&s->chain->lock);
    if (st == BERTH_OK)
        (*count)++;
    else
        s->chain->failed = true;
    pthread_cond_broadcast(&s->chain->queued);
    pthread_mutex_unlock(&s->chain->lock);
}

static berth_status bring_in(stage *s, int batch, berth_error *err)
{
    berth_status st;
    if (s->index == 0) {
        uint32_t x[N];
        for (uint32_t i = 0; i < N; i++) x[i] = (uint32_t)batch * 1000 + i;
        return berth_gpu_upload(s->lane, s->x, x, BYTES, err);
    }
    st = berth_gpu_stream_await(s->in, s[-1].made, err);
    if (st == BERTH_OK) st = berth_gpu_stream_await(s->in, s->made, err); /* x was read */
    if (st == BERTH_OK)
        st = berth_gpu_group_copy(s->chain->group, s->index - 1, s[-1].y, s->index, s->x, BYTES, s->in, err);
    if (st == BERTH_OK) st = berth_gpu_event_record(s->arrived, s->in, err);
    return st == BERTH_OK ? berth_gpu_stream_await(s->lane, s->arrived, err) : st;
}

static berth_status compute(stage *s, int batch, berth_error *err)
{
    uint32_t a = (uint32_t)s->index + 2, b = 7, n = N;
    void *params[] = {&s->x, &s->y, &a, &b, &n};
    const berth_gpu_grid grid = {.blocks = {2}, .threads = {32}};
    const bool is_last = s->index + 1 == s->chain->o->n_gpus;
    berth_status st = BERTH_OK;
    if (!is_last) st = berth_gpu_stream_await(s->lane, s[1].arrived, err); /* y was read */
    if (st == BERTH_OK) st = berth_gpu_launch(s->lane, &s->scale, &grid, params, err);
    if (st == BERTH_OK) st = berth_gpu_event_record(s->made, s->lane, err);
    if (st == BERTH_OK && is_last)
        st = berth_gpu_download(s->lane, s->chain->results + (size_t)batch * N, s->y, BYTES, err);
    return st;
}

static bool do_batch(stage *s, int batch)
{
    if (!await_turn(s, batch)) return false;
    s->status = bring_in(s, batch, &s->error);
    tell(s, &s->n_arrived, s->status);
    if (s->status == BERTH_OK) s->status = compute(s, batch, &s->error);
    tell(s, &s->n_made, s->status);
    return s->status == BERTH_OK;
}

static void *do_stage(void *arg)
{
    stage *s = arg;
    for (int b = 0; b < s->chain->o->n_batches && do_batch(s, b); b++) {
    }
    return NULL;
}

/* What went out is overwritten as soon as it was read, as an arena's next tenant would. */
static berth_status reuse_all(chain *c, berth_error *err)
{
    berth_status st = BERTH_OK;
    for (int i = 0; i + 1 < c->o->n_gpus && st == BERTH_OK; i++) {
        stage *s = &c->stages[i];
        st = berth_gpu_stream_await(s->lane, s[1].arrived, err);
        if (st == BERTH_OK) st = berth_gpu_fill(s->lane, s->y, 0, BYTES, err);
    }
    for (int i = c->o->n_gpus - 1; i >= 0 && st == BERTH_OK; i--) st = berth_gpu_stream_wait(c->stages[i].lane, err);
    return st;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------- */

/* Member i gives i + 1 in every element. */
static berth_status add_up(chain *c, berth_error *err)
{
    const int n = c->o->n_gpus;
    berth_gpu_ptr at[MAX_CHAIN];
    berth_gpu_stream *streams[MAX_CHAIN];
    berth_status st = BERTH_OK;
    for (int i = 0; i < n && st == BERTH_OK; i++) {
        float x[N];
        for (int k = 0; k < N; k++) x[k] = (float)(i + 1);
        at[i] = c->stages[i].sum;
        streams[i] = c->stages[i].lane;
        st = berth_gpu_upload(streams[i], at[i], x, BYTES, err);
    }
    if (st == BERTH_OK) st = berth_gpu_group_all_reduce(c->group, at, at, N, BERTH_F32, streams, err);
    for (int i = 0; i < n && st == BERTH_OK; i++)
        st = berth_gpu_download(streams[i], &c->sums[i], at[i] + BYTES - 4, 4, err);
    return st;
}

static berth_status run_batches(chain *c, berth_error *err)
{
    const int n = c->o->n_gpus;
    pthread_t threads[MAX_CHAIN];
    for (int i = 0; i < n && c->o->threads; i++) {
        if (pthread_create(&threads[i], NULL, do_stage, &c->stages[i]) != 0) abort();
    }
    for (int i = 0; i < n && c->o->threads; i++) pthread_join(threads[i], NULL);
    bool goes_on = !c->o->threads;
    for (int b = 0; b < c->o->n_batches && goes_on; b++) {
        for (int i = 0; i < n && goes_on; i++) goes_on = do_batch(&c->stages[i], b);
    }
    for (int i = 0; i < n; i++) {
        if (c->stages[i].status == BERTH_OK) continue;
        *err = c->stages[i].error;
        return c->stages[i].status;
    }
    return c->o->sum ? add_up(c, err) : BERTH_OK;
}

static bool is_right(const chain *c)
{
    for (uint32_t b = 0; b < (uint32_t)c->o->n_batches; b++) {
        for (uint32_t i = 0; i < N; i++) {
            uint32_t want = b * 1000 + i;
            for (uint32_t s = 0; s < (uint32_t)c->o->n_gpus; s++) want = want * (s + 2) + 7;
            if (c->results[b * N + i] != want) return false;
        }
    }
    for (int i = 0; i < c->o->n_gpus && c->o->sum; i++) {
        if (c->sums[i] != (float)(c->o->n_gpus * (c->o->n_gpus + 1)) / 2) return false;
    }
    return true;
}

berth_status chain_run(berth_cuda *cuda, const chain_options *o, bool *out_right, berth_error *err)
{
    chain *c = calloc(1, sizeof *c);
    berth_error local = {0};
    if (!c) abort();
    c->o = o;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->queued, NULL);
    *out_right = false;
    berth_status st = set_up(c, cuda, &local);
    if (st == BERTH_OK) st = run_batches(c, &local);
    if (st == BERTH_OK) st = reuse_all(c, &local);
    if (st == BERTH_OK) st = berth_gpu_group_state(c->group, &local);
    if (st == BERTH_OK) *out_right = is_right(c);
    if (st != BERTH_OK && err) *err = local;
    tear_down(c);
    pthread_cond_destroy(&c->queued);
    pthread_mutex_destroy(&c->lock);
    free(c);
    return st;
}

/* ---- a world for it --------------------------------------------------------------------------------------------------- */

chain_outcome chain_try(const emu_control *emulator, const nccl_control *nccl, const chain_options *o,
                        const char *driver_config, const char *nccl_config)
{
    chain_outcome out = {0};
    emulator->reset(driver_config);
    nccl->reset(nccl_config);
    berth_cuda *cuda = NULL;
    out.status = berth_cuda_open(NULL, &cuda, &out.error);
    if (out.status == BERTH_OK) out.status = chain_run(cuda, o, &out.right, &out.error);
    berth_cuda_close(cuda);
    emulator->report(&out.driver);
    nccl->report(&out.nccl);
    const emu_report *r = &out.driver;
    if (r->contexts + r->allocations + r->streams + r->events + r->modules + r->pinned + r->handles)
        fail_msg("%s, %s: left behind", driver_config, nccl_config);
    return out;
}

/* ---- control --------------------------------------------------------------------------------------------------------- */

void nccl_control_open(nccl_control *c)
{
    void *opened = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    void *report = opened ? dlsym(opened, "emu_nccl_get_report") : NULL;
    void *reset = opened ? dlsym(opened, "emu_nccl_reset") : NULL;
    if (!report || !reset) {
        fprintf(stderr, "no emulated libnccl.so.2 in LD_LIBRARY_PATH: %s\n", dlerror());
        exit(1);
    }
    memcpy(&c->report, &report, sizeof report);
    memcpy(&c->reset, &reset, sizeof reset);
}
