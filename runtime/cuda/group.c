/* group.c - making and ending a group; see group.h for why it is made so. */
#include "cuda/group.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "cuda/group_internal.h"

enum { DEFAULT_CTAS = 4, SHARED_CTAS = 2, DEFAULT_DEPTH = 16, DEFAULT_PROOF = 256 << 10 };
#define DEFAULT_TIMEOUT_NS 30000000000

/* ---- what NCCL can --------------------------------------------------------------------------------------------------- */

/* One physical GPU may be two ranks of a communicator since 2.30, when its user asks for it (NCCL user guide,
 * environment variables). It is not for a library to change its host's environment. */
static berth_status check_shared(const berth_nccl *nccl, int32_t ordinal, berth_error *err)
{
    const int v = nccl->version;
    const char *enabled = getenv("NCCL_MULTI_RANK_GPU_ENABLE");
    if (v < BERTH_NCCL_MULTI_RANK_VERSION)
        BERTH_FAIL(err, BERTH_UNSUPPORTED,
                   "two logical devices of cuda:%d cannot use NCCL %d.%d.%d, which takes each GPU once (2.30 and newer "
                   "can); use the local or staged transport between them",
                   (int)ordinal, v / 10000, v / 100 % 100, v % 100);
    else if (!enabled || strcmp(enabled, "1") != 0)
        BERTH_FAIL(err, BERTH_UNSUPPORTED,
                   "two logical devices of cuda:%d use NCCL only where NCCL_MULTI_RANK_GPU_ENABLE=1 is set before the "
                   "program starts; or use the local or staged transport between them",
                   (int)ordinal);
    else
        return BERTH_OK;
    if (err) err->device = ordinal;
    return BERTH_UNSUPPORTED;
}

static bool is_shared(const berth_gpu *a, const berth_gpu *b)
{
    return a->slot == b->slot;
}

berth_status berth_gpu_group_can(const berth_gpu *from, const berth_gpu *to, const char *library, berth_error *err)
{
    berth_nccl nccl;
    berth_status st = berth_nccl_open(&nccl, library, err);
    if (st != BERTH_OK) return st;
    if (is_shared(from, to)) st = check_shared(&nccl, from->slot->info.ordinal, err);
    berth_nccl_close(&nccl);
    return st;
}

/* ---- making: memory and events --------------------------------------------------------------------------------------- */

static berth_status fail_memory(berth_error *err)
{
    return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a group of GPUs");
}

static void close_watched(berth_watched *w, int32_t n)
{
    for (int32_t i = 0; w->begun && i < n; i++) berth_gpu_event_destroy(w->begun[i]);
    for (int32_t i = 0; w->done && i < n; i++) berth_gpu_event_destroy(w->done[i]);
    free(w->begun);
    free(w->done);
}

static void close_channel(berth_channel *c, int32_t depth)
{
    berth_gpu_stream_destroy(c->side);
    berth_gpu_event_destroy(c->sent);
    for (int32_t i = 0; c->watched && i < depth; i++) close_watched(&c->watched[i], c->n_ends);
    free(c->watched);
    free(c->members);
    free(c->comms);
}

/* The last n_ends members of a channel are those whose streams tell that it is over: an edge's receiver, or all. */
static berth_status open_one_watched(const berth_gpu_group *g, const berth_channel *c, berth_watched *w,
                                     berth_error *err)
{
    w->begun = calloc((size_t)c->n_ends, sizeof(berth_gpu_event *));
    w->done = calloc((size_t)c->n_ends, sizeof(berth_gpu_event *));
    if (!w->begun || !w->done) return fail_memory(err);
    berth_status st = BERTH_OK;
    for (int32_t i = 0; i < c->n_ends && st == BERTH_OK; i++) {
        berth_gpu *gpu = g->gpus[c->members[c->n_ranks - c->n_ends + i]];
        st = berth_gpu_event_create(gpu, &w->begun[i], err);
        if (st == BERTH_OK) st = berth_gpu_event_create(gpu, &w->done[i], err);
    }
    return st;
}

static berth_status open_watched(const berth_gpu_group *g, berth_channel *c, berth_error *err)
{
    c->watched = calloc((size_t)g->depth, sizeof *c->watched);
    berth_status st = c->watched ? BERTH_OK : fail_memory(err);
    for (int32_t i = 0; i < g->depth && st == BERTH_OK; i++) st = open_one_watched(g, c, &c->watched[i], err);
    return st;
}

static berth_status open_channel(berth_channel *c, int32_t n_ranks, int32_t n_ends, berth_error *err)
{
    c->members = calloc((size_t)n_ranks, sizeof *c->members);
    c->comms = calloc((size_t)n_ranks, sizeof(berth_nccl_comm));
    if (!c->members || !c->comms) return fail_memory(err);
    c->n_ranks = n_ranks;
    c->n_ends = n_ends;
    return BERTH_OK;
}

static berth_status open_edge(berth_gpu_group *g, int32_t i, const berth_gpu_edge *edge, berth_error *err)
{
    berth_channel *c = &g->channels[i];
    g->edge_of[(size_t)edge->from * (size_t)g->n + (size_t)edge->to] = i;
    const bool is_self = edge->from == edge->to;
    berth_status st = open_channel(c, is_self ? 1 : 2, 1, err);
    if (st != BERTH_OK) return st;
    c->members[0] = edge->from;
    c->members[c->n_ranks - 1] = edge->to;
    st = open_watched(g, c, err);
    if (is_self) return st;
    if (st == BERTH_OK) st = berth_gpu_stream_create(g->gpus[edge->from], &c->side, err);
    if (st == BERTH_OK) st = berth_gpu_event_create(g->gpus[edge->from], &c->sent, err);
    return st;
}

static berth_status open_sum(berth_gpu_group *g, berth_error *err)
{
    berth_channel *c = &g->channels[g->n_edges];
    berth_status st = open_channel(c, g->n, g->n, err);
    if (st != BERTH_OK) return st;
    c->is_sum = true;
    for (int32_t r = 0; r < g->n; r++) c->members[r] = r;
    return open_watched(g, c, err);
}

/* ---- making: what was asked for -------------------------------------------------------------------------------------- */

static berth_status check_edges(berth_gpu_group *g, const berth_gpu_edge *edges, berth_error *err)
{
    for (int32_t i = 0; i < g->n_edges; i++) {
        const int32_t from = edges[i].from, to = edges[i].to;
        if (from < 0 || from >= g->n || to < 0 || to >= g->n)
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                              "edge %d goes from member %d to member %d, and there are %d; name these", (int)i,
                              (int)from, (int)to, (int)g->n);
        for (int32_t j = 0; j < i; j++) {
            if (edges[j].from == from && edges[j].to == to)
                return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                                  "the edge from member %d to member %d is named twice; name it once", (int)from,
                                  (int)to);
        }
    }
    return BERTH_OK;
}

static berth_status check_sharing(berth_gpu_group *g, const berth_gpu_edge *edges, bool all_reduce, berth_error *err)
{
    bool shared = false;
    for (int32_t i = 0; i < g->n; i++) {
        for (int32_t j = 0; j < g->n; j++) {
            bool together = all_reduce;
            for (int32_t e = 0; e < g->n_edges; e++) together |= edges[e].from == i && edges[e].to == j;
            if (i == j || !together || !is_shared(g->gpus[i], g->gpus[j])) continue;
            const berth_status st = check_shared(&g->nccl, berth_member_ordinal(g, i), err);
            if (st != BERTH_OK) return st;
            shared = true;
        }
    }
    if (g->max_ctas == 0) g->max_ctas = shared ? SHARED_CTAS : DEFAULT_CTAS;
    return BERTH_OK;
}

static berth_status open_locks(berth_gpu_group *g, berth_error *err)
{
    pthread_condattr_t monotonic;
    if (pthread_condattr_init(&monotonic) != 0) return fail_memory(err);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    g->has_locks = pthread_mutex_init(&g->issue, NULL) == 0 && pthread_mutex_init(&g->lock, NULL) == 0 &&
                   pthread_mutex_init(&g->why_lock, NULL) == 0 && pthread_cond_init(&g->wake, &monotonic) == 0;
    pthread_condattr_destroy(&monotonic);
    return g->has_locks ? BERTH_OK : fail_memory(err);
}

static berth_status reserve(berth_gpu_group *g, berth_gpu *const *gpus, berth_error *err)
{
    size_t n_cells;
    if (!berth_mul_size((size_t)g->n, (size_t)g->n, &n_cells)) return fail_memory(err);
    g->gpus = calloc((size_t)g->n, sizeof(berth_gpu *));
    g->edge_of = calloc(n_cells, sizeof *g->edge_of);
    g->channels = calloc((size_t)g->n_edges + 1, sizeof *g->channels);
    if (!g->gpus || !g->edge_of || !g->channels) return fail_memory(err);
    for (int32_t i = 0; i < g->n; i++) g->gpus[i] = gpus[i];
    for (size_t i = 0; i < n_cells; i++) g->edge_of[i] = -1;
    return open_locks(g, err);
}

/* ---- making: the first exchange -------------------------------------------------------------------------------------- */

/* Memory of each GPU that is nobody's: a half to send from, a half to receive in. */
static berth_status take_scrap(berth_gpu *gpu, size_t bytes, berth_cu_ptr *out, berth_error *err)
{
    berth_status st = berth_gpu_enter(gpu, err);
    if (st != BERTH_OK) return st;
    const berth_cu_result code = gpu->cuda->cu.cuMemAlloc(out, bytes);
    if (code != BERTH_CU_SUCCESS) *out = 0;
    return berth_gpu_leave(gpu, code, "cuMemAlloc", err);
}

static void give_scrap(berth_gpu *gpu, berth_cu_ptr scrap)
{
    if (scrap && berth_gpu_enter_to_end(gpu)) berth_gpu_leave_from_end(gpu, gpu->cuda->cu.cuMemFree(scrap));
}

/* NCCL connects when first used, and both ends must take part. What an edge brings is compared. */
static berth_status prove_edges(berth_gpu_group *g, const berth_cu_ptr *scraps, size_t bytes, berth_error *err)
{
    berth_status st = BERTH_OK;
    for (int32_t i = 0; i < g->n_edges && st == BERTH_OK; i++) {
        const berth_channel *c = &g->channels[i];
        const int32_t from = c->members[0], to = c->members[c->n_ranks - 1];
        st = berth_gpu_group_prove(g, from, scraps[from], to, scraps[to] + bytes, bytes, err);
    }
    return st;
}

static berth_status connect_sum(berth_gpu_group *g, const berth_cu_ptr *scraps, berth_gpu_stream *const *streams,
                                berth_error *err)
{
    if (g->channels[g->n_edges].n_ranks == 0) return BERTH_OK;
    berth_status st = BERTH_OK;
    for (int32_t i = 0; i < g->n && st == BERTH_OK; i++)
        st = berth_gpu_fill(streams[i], scraps[i], 0, sizeof(float), err);
    if (st == BERTH_OK) st = berth_gpu_group_all_reduce(g, scraps, scraps, 1, BERTH_F32, streams, err);
    for (int32_t i = 0; i < g->n && st == BERTH_OK; i++) st = berth_gpu_stream_wait(streams[i], err);
    return st == BERTH_OK ? berth_gpu_group_state(g, err) : st;
}

static berth_status warm_up(berth_gpu_group *g, size_t bytes, berth_error *err)
{
    berth_cu_ptr *scraps = calloc((size_t)g->n, sizeof *scraps);
    berth_gpu_stream **streams = calloc((size_t)g->n, sizeof(berth_gpu_stream *));
    berth_status st = scraps && streams ? BERTH_OK : fail_memory(err);
    for (int32_t i = 0; i < g->n && st == BERTH_OK; i++) {
        st = take_scrap(g->gpus[i], 2 * bytes, &scraps[i], err);
        if (st == BERTH_OK) st = berth_gpu_stream_create(g->gpus[i], &streams[i], err);
    }
    if (st == BERTH_OK) st = prove_edges(g, scraps, bytes, err);
    if (st == BERTH_OK) st = connect_sum(g, scraps, streams, err);
    if (st != BERTH_OK) berth_gpu_group_abort(g); /* or the streams would never end */
    for (int32_t i = 0; streams && i < g->n; i++) berth_gpu_stream_destroy(streams[i]);
    for (int32_t i = 0; i < g->n_edges; i++) {
        if (g->channels[i].side) (void)berth_gpu_stream_wait(g->channels[i].side, NULL);
    }
    for (int32_t i = 0; scraps && i < g->n; i++) give_scrap(g->gpus[i], scraps[i]);
    free(scraps);
    free(streams);
    return st;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------- */

static berth_status open_all(berth_gpu_group *g, berth_gpu *const *gpus, const berth_gpu_edge *edges,
                             const berth_gpu_group_options *o, berth_error *err)
{
    berth_status st = reserve(g, gpus, err);
    if (st == BERTH_OK) st = check_edges(g, edges, err);
    if (st == BERTH_OK) st = berth_nccl_open(&g->nccl, o->nccl, err);
    if (st == BERTH_OK) st = check_sharing(g, edges, o->all_reduce, err);
    for (int32_t i = 0; i < g->n_edges && st == BERTH_OK; i++) st = open_edge(g, i, &edges[i], err);
    if (st == BERTH_OK && o->all_reduce) st = open_sum(g, err);
    for (int32_t i = 0; i <= g->n_edges && st == BERTH_OK; i++) {
        if (g->channels[i].n_ranks > 0) st = berth_channel_connect(g, &g->channels[i], err);
    }
    if (st == BERTH_OK) st = berth_group_watch(g, err);
    return st == BERTH_OK ? warm_up(g, o->proof_bytes ? o->proof_bytes : DEFAULT_PROOF, err) : st;
}

berth_status berth_gpu_group_create(berth_gpu *const *gpus, int32_t n, const berth_gpu_edge *edges, int32_t n_edges,
                                    const berth_gpu_group_options *options, berth_gpu_group **out, berth_error *err)
{
    static const berth_gpu_group_options defaults = {0};
    const berth_gpu_group_options *o = options ? options : &defaults;
    *out = NULL;
    if (n < 1 || n_edges < 0 || o->timeout_ns < 0 || o->max_ctas < 0 || o->depth < 0)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "a group of %d GPUs with %d edges, %lld ns, %d blocks, depth %d; one GPU at least, and "
                          "nothing below zero",
                          (int)n, (int)n_edges, (long long)o->timeout_ns, (int)o->max_ctas, (int)o->depth);
    berth_gpu_group *g = calloc(1, sizeof *g);
    if (!g) return fail_memory(err);
    g->n = n;
    g->n_edges = n_edges;
    g->timeout_ns = o->timeout_ns ? o->timeout_ns : DEFAULT_TIMEOUT_NS;
    g->max_ctas = o->max_ctas;
    g->depth = o->depth ? o->depth : DEFAULT_DEPTH;
    const berth_status st = open_all(g, gpus, edges, o, err);
    if (st != BERTH_OK) {
        if (g->has_locks) berth_gpu_group_abort(g);
        berth_gpu_group_destroy(g);
        return st;
    }
    *out = g;
    return BERTH_OK;
}

/* What is under way comes to its end. Where it cannot, a GPU being lost, the communicators are aborted: to finalize them
 * would wait for the lost side until the deadline. */
static void drain(berth_gpu_group *g)
{
    berth_error why = {0};
    berth_status st = BERTH_OK;
    for (int32_t i = 0; i <= g->n_edges && st == BERTH_OK; i++) {
        st = berth_channel_drain(g, &g->channels[i], &why);
        if (st != BERTH_OK) st = berth_channel_drain(g, &g->channels[i], &why); /* twice, as all that ends things */
    }
    for (int32_t i = 0; i < g->n && st == BERTH_OK; i++)
        if (berth_gpu_is_lost(g->gpus[i])) st = berth_gpu_enter(g->gpus[i], &why);
    if (st != BERTH_OK) berth_group_lose(g, &why);
}

void berth_gpu_group_destroy(berth_gpu_group *g)
{
    if (!g) return;
    if (g->has_locks && g->channels) {
        drain(g);
        berth_group_unwatch(g);
        if (!atomic_load(&g->lost)) berth_group_finalize(g);
    }
    for (int32_t i = 0; g->channels && i <= g->n_edges; i++) close_channel(&g->channels[i], g->depth);
    if (g->has_locks) {
        pthread_cond_destroy(&g->wake);
        pthread_mutex_destroy(&g->why_lock);
        pthread_mutex_destroy(&g->lock);
        pthread_mutex_destroy(&g->issue);
    }
    berth_nccl_close(&g->nccl);
    free(g->channels);
    free(g->edge_of);
    free(g->gpus);
    free(g);
}
