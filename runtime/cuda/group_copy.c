/* group_copy.c - queuing copies and sums. All parts of one are queued under one lock, in one NCCL group; between the
 * streams that take part events keep the order that callers of group.h are promised. */
#include "cuda/group_internal.h"

static berth_channel *edge_between(const berth_gpu_group *g, int32_t from, int32_t to)
{
    if (from < 0 || from >= g->n || to < 0 || to >= g->n) return NULL;
    const int32_t edge = g->edge_of[(size_t)from * (size_t)g->n + (size_t)to];
    return edge >= 0 ? &g->channels[edge] : NULL;
}

/* ---- one NCCL group -------------------------------------------------------------------------------------------------- */

typedef struct exchange {             /* what is queued: a copy, or a sum */
    berth_gpu_ptr src, dst;           /* of a copy */
    const berth_gpu_ptr *froms, *tos; /* of a sum; [n_ranks] */
    berth_gpu_stream *const *streams; /* a copy's sender's and receiver's; a sum's [n_ranks] */
    size_t n;                         /* bytes of a copy, elements of a sum */
    berth_nccl_dtype dtype;
} exchange;

static void *pointer(berth_gpu_ptr at)
{
    return (void *)(uintptr_t)at; // NOLINT(performance-no-int-to-ptr)
}

/* Part i of n: of a copy the sending and the receiving, of a sum rank i's. */
static int32_t n_parts(const berth_channel *c)
{
    return c->is_sum ? c->n_ranks : 2;
}

static int32_t rank_of(const berth_channel *c, int32_t part)
{
    return c->is_sum || part == 0 ? part : c->n_ranks - 1;
}

static berth_nccl_result call_part(const berth_gpu_group *g, const berth_channel *c, const exchange *x, int32_t part,
                                   const char **out_call)
{
    berth_cu_stream stream = x->streams[part]->handle;
    berth_nccl_comm comm = c->comms[rank_of(c, part)];
    if (c->is_sum) {
        *out_call = "ncclAllReduce";
        return g->nccl.ncclAllReduce(pointer(x->froms[part]), pointer(x->tos[part]), x->n, x->dtype, BERTH_NCCL_SUM,
                                     comm, stream);
    }
    *out_call = part == 0 ? "ncclSend" : "ncclRecv";
    if (part == 0) return g->nccl.ncclSend(pointer(x->src), x->n, x->dtype, c->n_ranks - 1, comm, stream);
    return g->nccl.ncclRecv(pointer(x->dst), x->n, x->dtype, 0, comm, stream);
}

static berth_status call_parts(berth_gpu_group *g, const berth_channel *c, const exchange *x, berth_error *err)
{
    const char *call = "ncclGroupStart";
    int32_t ordinal = berth_member_ordinal(g, c->members[0]);
    berth_nccl_result code = g->nccl.ncclGroupStart();
    if (code != BERTH_NCCL_SUCCESS) return berth_nccl_status(&g->nccl, code, call, ordinal, err);
    for (int32_t i = 0; i < n_parts(c) && (code == BERTH_NCCL_SUCCESS || code == BERTH_NCCL_IN_PROGRESS); i++) {
        ordinal = berth_member_ordinal(g, c->members[rank_of(c, i)]);
        code = call_part(g, c, x, i, &call);
    }
    const berth_status st = berth_nccl_status(&g->nccl, code, call, ordinal, err);
    const berth_nccl_result end = g->nccl.ncclGroupEnd(); /* always, or the thread stays inside a group */
    return st == BERTH_OK ? berth_nccl_status(&g->nccl, end, "ncclGroupEnd", ordinal, err) : st;
}

/* After BERTH_OK everything lies on its stream. */
static berth_status queue_exchange(berth_gpu_group *g, berth_channel *c, const exchange *x, berth_error *err)
{
    berth_gpu *gpu = g->gpus[c->members[0]];
    berth_status st = berth_gpu_enter(gpu, err);
    if (st != BERTH_OK) return st;
    pthread_mutex_lock(&g->lock);
    st = berth_gpu_group_state(g, err); /* aborted since: there is no communicator */
    if (st == BERTH_OK) st = call_parts(g, c, x, err);
    pthread_mutex_unlock(&g->lock);
    if (st == BERTH_OK) st = berth_channel_settle(g, c, c->is_sum ? "a sum" : "a copy", err);
    const berth_status left = berth_gpu_leave(gpu, BERTH_CU_SUCCESS, "", st == BERTH_OK ? err : NULL);
    return st == BERTH_OK ? left : st;
}

/* ---- copies ---------------------------------------------------------------------------------------------------------- */

/* Whatever fails once NCCL was called leaves halves behind. */
static berth_status end_queuing(berth_gpu_group *g, berth_channel *c, size_t bytes, berth_status st,
                                const berth_error *why, berth_error *err)
{
    if (st == BERTH_OK) {
        berth_channel_out(g, c, bytes);
        return BERTH_OK;
    }
    berth_group_lose(g, why);
    if (err) *err = *why;
    return st;
}

static berth_status join(const berth_channel *c, const berth_watched *w, berth_gpu_stream *s, berth_error *err)
{
    berth_status st = BERTH_OK;
    if (c->side) st = berth_gpu_event_record(c->sent, c->side, err);
    if (c->side && st == BERTH_OK) st = berth_gpu_stream_await(s, c->sent, err);
    if (st == BERTH_OK) st = berth_gpu_event_record(w->done[0], s, err);
    return st;
}

static berth_status queue_copy(berth_gpu_group *g, berth_channel *c, const exchange *x, berth_error *err)
{
    berth_gpu_stream *s = x->streams[1];
    berth_watched *w;
    berth_status st = berth_channel_begin(g, c, &w, err);
    if (st == BERTH_OK) st = berth_gpu_event_record(w->begun[0], s, err);
    if (st == BERTH_OK && c->side) st = berth_gpu_stream_await(c->side, w->begun[0], err);
    if (st != BERTH_OK) return st;
    berth_error why = {0};
    st = queue_exchange(g, c, x, &why);
    if (st == BERTH_OK) st = join(c, w, s, &why);
    return end_queuing(g, c, x->n, st, &why, err);
}

berth_status berth_gpu_group_copy(berth_gpu_group *g, int32_t from, berth_gpu_ptr src, int32_t to, berth_gpu_ptr dst,
                                  size_t bytes, berth_gpu_stream *s, berth_error *err)
{
    berth_channel *c = edge_between(g, from, to);
    if (!c)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "there is no edge from member %d to member %d; name it when the group is made", (int)from,
                          (int)to);
    if (bytes == 0 || s->gpu->context != g->gpus[to]->context)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "a copy of %zu bytes to cuda:%d on a stream of cuda:%d; give bytes, and a stream of the "
                          "receiving GPU",
                          bytes, (int)berth_member_ordinal(g, to), (int)s->gpu->slot->info.ordinal);
    berth_gpu_stream *const streams[2] = {c->side ? c->side : s, s};
    const exchange x = {.src = src, .dst = dst, .n = bytes, .dtype = BERTH_NCCL_INT8, .streams = streams};
    pthread_mutex_lock(&g->issue);
    berth_status st = berth_gpu_group_state(g, err);
    if (st == BERTH_OK) st = queue_copy(g, c, &x, err);
    pthread_mutex_unlock(&g->issue);
    return st;
}

/* ---- sums ------------------------------------------------------------------------------------------------------------ */

static berth_status record_all(berth_gpu_event *const *events, berth_gpu_stream *const *streams, int32_t n,
                               berth_error *err)
{
    berth_status st = BERTH_OK;
    for (int32_t i = 0; i < n && st == BERTH_OK; i++) st = berth_gpu_event_record(events[i], streams[i], err);
    return st;
}

static berth_status queue_sum(berth_gpu_group *g, berth_channel *c, const exchange *x, size_t bytes, berth_error *err)
{
    berth_watched *w;
    berth_status st = berth_channel_begin(g, c, &w, err);
    if (st == BERTH_OK) st = record_all(w->begun, x->streams, c->n_ends, err);
    if (st != BERTH_OK) return st;
    berth_error why = {0};
    st = queue_exchange(g, c, x, &why);
    if (st == BERTH_OK) st = record_all(w->done, x->streams, c->n_ends, &why);
    return end_queuing(g, c, bytes, st, &why, err);
}

static berth_status check_sum(const berth_gpu_group *g, const berth_channel *c, size_t n, berth_dtype dtype,
                              berth_gpu_stream *const *streams, berth_error *err)
{
    if (c->n_ranks == 0)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "this group was made without sums; set all_reduce when it is made");
    if (!berth_dtype_is_float(dtype))
        return BERTH_FAIL(err, BERTH_UNSUPPORTED, "a sum of %s over GPUs; f32, f16 and bf16 can be summed",
                          berth_dtype_name(dtype));
    for (int32_t i = 0; i < g->n; i++) {
        if (streams[i]->gpu->context != g->gpus[i]->context)
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "a sum's stream %d is of cuda:%d, and member %d is cuda:%d",
                              (int)i, (int)streams[i]->gpu->slot->info.ordinal, (int)i,
                              (int)berth_member_ordinal(g, i));
    }
    return n > 0 ? BERTH_OK : BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "a sum of no elements; give at least one");
}

berth_status berth_gpu_group_all_reduce(berth_gpu_group *g, const berth_gpu_ptr *from, const berth_gpu_ptr *to,
                                        size_t n, berth_dtype dtype, berth_gpu_stream *const *streams, berth_error *err)
{
    berth_channel *c = &g->channels[g->n_edges];
    berth_status st = check_sum(g, c, n, dtype, streams, err);
    if (st != BERTH_OK) return st;
    const exchange x = {.froms = from,
                        .tos = to,
                        .n = n,
                        .streams = streams,
                        .dtype = dtype == BERTH_F32   ? BERTH_NCCL_F32
                                 : dtype == BERTH_F16 ? BERTH_NCCL_F16
                                                      : BERTH_NCCL_BF16};
    pthread_mutex_lock(&g->issue);
    st = berth_gpu_group_state(g, err);
    if (st == BERTH_OK) st = queue_sum(g, c, &x, n * berth_dtype_size(dtype), err);
    pthread_mutex_unlock(&g->issue);
    return st;
}

/* ---- proof, account -------------------------------------------------------------------------------------------------- */

typedef struct ends {
    berth_gpu_group *group;
    int32_t from, to;
    berth_gpu_ptr src, dst;
} ends;

/* An aborted copy ends too, and so does one that failed; NCCL's own reason is better than what arrived. */
static berth_status copy_ends(void *user, berth_gpu_stream *s, size_t bytes, berth_error *err)
{
    const ends *e = user;
    berth_gpu_group *g = e->group;
    berth_status st = berth_gpu_group_copy(g, e->from, e->src, e->to, e->dst, bytes, s, err);
    if (st == BERTH_OK) st = berth_gpu_stream_wait(s, err);
    if (st != BERTH_OK) return st;
    berth_error why = {0};
    pthread_mutex_lock(&g->lock);
    st = berth_channel_check(g, edge_between(g, e->from, e->to), &why);
    pthread_mutex_unlock(&g->lock);
    if (st != BERTH_OK) berth_group_lose(g, &why);
    return berth_gpu_group_state(g, err);
}

berth_status berth_gpu_group_prove(berth_gpu_group *g, int32_t from, berth_gpu_ptr src, int32_t to, berth_gpu_ptr dst,
                                   size_t bytes, berth_error *err)
{
    if (!edge_between(g, from, to))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "there is no edge from member %d to member %d to prove",
                          (int)from, (int)to);
    ends e = {.group = g, .from = from, .to = to, .src = src, .dst = dst};
    const berth_gpu_crossing by = {.what = "NCCL's copies", .copy = copy_ends, .user = &e};
    return berth_gpu_prove_by(&by, g->gpus[from], src, g->gpus[to], dst, bytes, err);
}

berth_gpu_edge_stats berth_gpu_group_stats(berth_gpu_group *g, int32_t from, int32_t to)
{
    berth_gpu_edge_stats stats = {0};
    const berth_channel *c = edge_between(g, from, to);
    if (!c) return stats;
    pthread_mutex_lock(&g->lock);
    stats = c->stats;
    pthread_mutex_unlock(&g->lock);
    return stats;
}

int32_t berth_gpu_group_version(const berth_gpu_group *g)
{
    return g->nccl.version;
}
