/* emu_nccl.c - the entry points of the emulated libnccl.so.2: communicators, groups, calls. What groups begin is done
 * by jobs: a communicator is in progress until it was asked often enough, and nothing is queued before. */
#include <stdlib.h>
#include <string.h>

#include "emu_nccl_internal.h"

#define API __attribute__((visibility("default")))

enum { MAX_OF_GROUP = 256 };

static _Thread_local struct {
    int depth, error;
    uint64_t generation; /* of what is listed */
    nccl_comm *joined[MAX_OF_GROUP], *ended[MAX_OF_GROUP], *finalized[MAX_OF_GROUP];
    size_t n_joined, n_ended, n_finalized;
    nccl_launch *launches;
} group;

/* ---- jobs ------------------------------------------------------------------------------------------------------------ */

static bool is_shared(const nccl_clique *q)
{
    for (int i = 0; i < q->n_ranks; i++) {
        for (int j = 0; j < i; j++) {
            if (q->ranks[i]->gpu == q->ranks[j]->gpu) return true;
        }
    }
    return false;
}

static int check_shared(const nccl_clique *q)
{
    const char *enabled = getenv("NCCL_MULTI_RANK_GPU_ENABLE");
    const bool may = nccl.config.version >= BERTH_NCCL_MULTI_RANK_VERSION && enabled && strcmp(enabled, "1") == 0;
    if (!is_shared(q) || may) return 0;
    nccl_say("two ranks are on one GPU");
    return BERTH_NCCL_INVALID_USAGE;
}

/* All ranks are there, or the communicator goes on being in progress. */
static bool join_clique(nccl_comm *c)
{
    nccl_clique *q = c->clique;
    if (q->n_joined < q->n_ranks || nccl.config.absent) return false;
    c->error = check_shared(q);
    c->phase = NCCL_READY;
    return true;
}

static bool finalize(nccl_comm *c)
{
    if (!nccl_is_idle(c) || c->clique->n_finalized < c->clique->n_ranks) return false;
    c->phase = NCCL_FINALIZED;
    return true;
}

/* Those of a job that are queued stay queued, whatever the others do. */
static void queue_job(nccl_job *job)
{
    if (job->is_done) return;
    job->is_done = true;
    for (nccl_launch *l = job->launches; l; l = l->of_job) {
        if (l->comm->aborted) continue;
        const int code = nccl_queue(l);
        if (code) l->comm->error = code;
    }
}

/* One poll of `c`. */
static void advance(nccl_comm *c)
{
    nccl_job *job = c->job;
    if (!job || --job->polls > 0) return;
    queue_job(job);
    if (c->phase == NCCL_JOINING && !join_clique(c)) return;
    if (c->phase == NCCL_FINALIZING && !finalize(c)) return;
    c->job = NULL;
}

static nccl_job *new_job(void)
{
    nccl_job *job = nccl_new(sizeof *job);
    if (nccl.config.progress > 0) job->polls = (int)(nccl_random() % (uint64_t)(nccl.config.progress + 1));
    job->next = nccl.jobs;
    nccl.jobs = job;
    return job;
}

/* Non-blocking communicators go on in the background; blocking ones must come to an end now. */
static int begin_job(nccl_comm *c, nccl_job *job)
{
    c->job = job;
    while (c->blocking && c->job && job->polls > 0) advance(c);
    if (job->polls == 0) {
        job->polls = 1;
        advance(c);
    }
    if (c->job && c->blocking)
        return nccl_misuse(BERTH_NCCL_INTERNAL_ERROR, "rank %d would wait for ever for the others of its communicator",
                           c->rank);
    if (c->error) return c->error;
    return c->job ? BERTH_NCCL_IN_PROGRESS : BERTH_NCCL_SUCCESS;
}

static int worse(int a, int b)
{
    return a == BERTH_NCCL_SUCCESS || a == BERTH_NCCL_IN_PROGRESS ? (b == BERTH_NCCL_SUCCESS ? a : b) : a;
}

/* ---- checks ---------------------------------------------------------------------------------------------------------- */

/* NCCL asks the runtime for the current device, which without a context would make one on GPU 0. */
static int check_current(const char *call, int *out_gpu)
{
    const int code = nccl.door->current(out_gpu);
    if (code && *out_gpu < 0) return nccl_misuse(BERTH_NCCL_INVALID_USAGE, "%s without a current context", call);
    return code ? BERTH_NCCL_UNHANDLED_CUDA_ERROR : 0;
}

static int check_ready(const nccl_comm *c, const char *call)
{
    if (!c) return BERTH_NCCL_INVALID_ARGUMENT;
    if (c->job) return nccl_misuse(BERTH_NCCL_INVALID_USAGE, "%s on a communicator that is in progress", call);
    if (c->error) return c->error;
    if (c->phase != NCCL_READY)
        return nccl_misuse(BERTH_NCCL_INVALID_USAGE, "%s on a communicator that was finalized", call);
    return 0;
}

/* ---- groups ---------------------------------------------------------------------------------------------------------- */

static void clear_group(void)
{
    const int depth = group.depth;
    memset(&group, 0, sizeof group);
    group.depth = depth;
    group.generation = nccl.generation;
}

static void abort_now(nccl_comm *c)
{
    c->aborted = true;
    c->job = NULL;
    c->phase = NCCL_GONE;
    nccl.report.aborted++;
    nccl.door->count(-1);
}

static int launch_group(void)
{
    int code = group.error;
    int gpu = -1;
    if (group.n_joined + group.n_ended + group.n_finalized > 0 || group.launches) {
        const int current = check_current("ncclGroupEnd", &gpu);
        if (code == 0 && group.n_ended == 0) code = current;
    }
    for (size_t i = 0; i < group.n_ended; i++) {
        if (group.ended[i]->phase != NCCL_GONE) abort_now(group.ended[i]);
    }
    if (group.n_ended) nccl.door->changed();
    if (code) { /* all or nothing; what joined stays, to be aborted */
        for (size_t i = 0; i < group.n_joined; i++) group.joined[i]->error = code;
        return code;
    }
    nccl_job *job = new_job();
    job->launches = group.launches;
    for (size_t i = 0; i < group.n_joined; i++) code = worse(code, begin_job(group.joined[i], job));
    for (size_t i = 0; i < group.n_finalized; i++) code = worse(code, begin_job(group.finalized[i], job));
    for (nccl_launch *l = group.launches; l; l = l->of_job) l->comm->job = job;
    for (nccl_launch *l = group.launches; l; l = l->of_job) code = worse(code, begin_job(l->comm, job));
    return code;
}

static int end_call(int code)
{
    if (code && group.depth > 0 && group.error == 0) group.error = code;
    if (code || group.depth > 0) return nccl_leave(code);
    code = launch_group();
    clear_group();
    return nccl_leave(code);
}

static int begin_call(void)
{
    const int code = nccl_enter();
    if (nccl.started && group.generation != nccl.generation) clear_group();
    return code;
}

API int ncclGroupStart(void)
{
    const int code = begin_call();
    if (code == 0) group.depth++;
    return nccl_leave(code);
}

API int ncclGroupEnd(void)
{
    const int told = begin_call();
    if (group.depth == 0)
        return nccl_leave(nccl_misuse(BERTH_NCCL_INVALID_USAGE, "ncclGroupEnd without ncclGroupStart"));
    if (told && group.error == 0) group.error = told;
    if (--group.depth > 0) return nccl_leave(told);
    const int code = launch_group();
    clear_group();
    return nccl_leave(code);
}

/* ---- communicators --------------------------------------------------------------------------------------------------- */

API int ncclGetVersion(int *version)
{
    const int code = begin_call();
    if (code == 0) *version = nccl.config.version;
    return nccl_leave(code);
}

API int ncclGetUniqueId(berth_nccl_id *id)
{
    const int code = begin_call();
    if (code == 0) {
        const uint64_t words[2] = {0x4E43434C454D55, ++nccl.n_ids};
        memset(id, 0x5A, sizeof *id);
        memcpy(id, words, sizeof words);
    }
    return nccl_leave(code);
}

static nccl_clique *clique_of(uint64_t id, int n_ranks)
{
    for (nccl_clique *q = nccl.cliques; q; q = q->next) {
        if (q->id == id) return q;
    }
    nccl_clique *q = nccl_new(sizeof *q);
    q->id = id;
    q->n_ranks = n_ranks;
    q->next = nccl.cliques;
    nccl.cliques = q;
    return q;
}

static int check_config(const berth_nccl_config *config)
{
    const size_t least = offsetof(berth_nccl_config, split_share) + sizeof config->split_share;
    if (config->size < least || config->magic != BERTH_NCCL_CONFIG_MAGIC || config->version < 21400)
        return nccl_misuse(BERTH_NCCL_INVALID_ARGUMENT, "the configuration was not initialised");
    const bool blocking_ok = config->blocking == 0 || config->blocking == 1 || config->blocking == BERTH_NCCL_UNSET;
    const bool least_ok = config->min_ctas == BERTH_NCCL_UNSET || config->min_ctas > 0;
    const bool most_ok = config->max_ctas == BERTH_NCCL_UNSET || (config->max_ctas > 0 && config->max_ctas <= 32);
    if (blocking_ok && least_ok && most_ok && config->min_ctas <= config->max_ctas) return 0;
    return nccl_misuse(BERTH_NCCL_INVALID_ARGUMENT, "blocks %d to %d, blocking %d", config->min_ctas, config->max_ctas,
                       config->blocking);
}

static int check_rank(const nccl_clique *q, int n_ranks, int rank)
{
    if (n_ranks < 1 || n_ranks > MAX_RANKS || rank < 0 || rank >= n_ranks || q->n_ranks != n_ranks)
        return nccl_misuse(BERTH_NCCL_INVALID_ARGUMENT, "rank %d of %d", rank, n_ranks);
    return q->ranks[rank] ? nccl_misuse(BERTH_NCCL_INVALID_USAGE, "rank %d joined twice", rank) : 0;
}

static nccl_comm *new_comm(nccl_clique *q, int rank, int gpu, bool blocking)
{
    nccl_comm *c = nccl_new(sizeof *c);
    c->handle = (uintptr_t)0xC0117 << 40 | (nccl.generation & 0xFFFF) << 24 | ++nccl.n_handles << 4;
    c->clique = q;
    c->rank = rank;
    c->gpu = gpu;
    c->blocking = blocking;
    c->next = nccl.comms;
    nccl.comms = c;
    q->ranks[rank] = c;
    q->n_joined++;
    nccl.door->count(1);
    return c;
}

API int ncclCommInitRankConfig(berth_nccl_comm *comm, int n_ranks, berth_nccl_id id, int rank,
                               berth_nccl_config *config)
{
    int code = begin_call(), gpu = -1;
    uint64_t words[2];
    memcpy(words, &id, sizeof words);
    if (code == 0) code = check_current("ncclCommInitRankConfig", &gpu);
    if (code == 0) code = nccl.door->unsafe("ncclCommInitRankConfig") ? BERTH_NCCL_INVALID_USAGE : 0;
    if (code == 0 && (words[0] != 0x4E43434C454D55 || words[1] == 0 || words[1] > nccl.n_ids))
        code = nccl_misuse(BERTH_NCCL_INVALID_ARGUMENT, "an id that ncclGetUniqueId did not make");
    if (code == 0 && config) code = check_config(config);
    nccl_clique *q = code == 0 ? clique_of(words[1], n_ranks) : NULL;
    if (q) code = check_rank(q, n_ranks, rank);
    if (code == 0 && group.n_joined == MAX_OF_GROUP) code = BERTH_NCCL_INTERNAL_ERROR;
    if (code == 0) {
        nccl_comm *c = new_comm(q, rank, gpu, !config || config->blocking != 0);
        group.joined[group.n_joined++] = c;
        *comm = (berth_nccl_comm)c->handle; // NOLINT(performance-no-int-to-ptr)
    }
    return end_call(code);
}

API int ncclCommGetAsyncError(berth_nccl_comm comm, int *error)
{
    int code = begin_call();
    nccl_comm *c = code == 0 ? nccl_find(comm) : NULL;
    if (code == 0 && !c) code = BERTH_NCCL_INVALID_ARGUMENT;
    if (c) {
        advance(c);
        *error = c->error ? c->error : c->job ? BERTH_NCCL_IN_PROGRESS : BERTH_NCCL_SUCCESS;
    }
    return nccl_leave(code);
}

API int ncclCommFinalize(berth_nccl_comm comm)
{
    int code = begin_call(), gpu = -1;
    nccl_comm *c = code == 0 ? nccl_find(comm) : NULL;
    if (code == 0) code = check_ready(c, "ncclCommFinalize");
    if (code == 0) code = check_current("ncclCommFinalize", &gpu);
    if (code == 0 && group.n_finalized == MAX_OF_GROUP) code = BERTH_NCCL_INTERNAL_ERROR;
    if (code == 0) {
        c->phase = NCCL_FINALIZING;
        c->clique->n_finalized++;
        group.finalized[group.n_finalized++] = c;
    }
    return end_call(code);
}

API int ncclCommDestroy(berth_nccl_comm comm)
{
    const int told = begin_call();
    int code = 0, gpu = -1;
    nccl_comm *c = nccl.started ? nccl_find(comm) : NULL;
    if (!c) return nccl_leave(BERTH_NCCL_INVALID_ARGUMENT);
    code = check_current("ncclCommDestroy", &gpu);
    if (c->phase != NCCL_FINALIZED)
        code = nccl_misuse(BERTH_NCCL_INVALID_USAGE, "a communicator is destroyed that was not finalized");
    if (!nccl_is_idle(c)) {
        code = nccl_misuse(BERTH_NCCL_INVALID_USAGE, "a communicator is destroyed with work queued");
        c->aborted = true;
    }
    c->phase = NCCL_GONE;
    c->job = NULL;
    nccl.door->count(-1);
    return end_call(told ? told : code);
}

API int ncclCommAbort(berth_nccl_comm comm)
{
    const int told = begin_call();
    nccl_comm *c = nccl.started ? nccl_find(comm) : NULL;
    if (!c) return nccl_leave(BERTH_NCCL_INVALID_ARGUMENT);
    int gpu = -1;
    (void)check_current("ncclCommAbort", &gpu);
    if (group.depth > 0 && group.n_ended < MAX_OF_GROUP) {
        group.ended[group.n_ended++] = c; /* all of the group at once */
        return nccl_leave(told);
    }
    abort_now(c);
    nccl.door->changed();
    return nccl_leave(told);
}

/* ---- communication --------------------------------------------------------------------------------------------------- */

/* The communicator's launch of this group, with room for one more part. */
static int launch_of(nccl_comm *c, void *stream, nccl_launch **out)
{
    nccl_launch **at = &group.launches;
    while (*at && (*at)->comm != c) at = &(*at)->of_job;
    if (!*at) {
        *at = nccl_new(sizeof **at);
        (*at)->comm = c;
        (*at)->stream = stream;
        (*at)->next = nccl.launches;
        nccl.launches = *at;
    }
    *out = *at;
    if ((*at)->stream != stream)
        return nccl_misuse(BERTH_NCCL_INVALID_USAGE, "two streams of one communicator in a group are not emulated");
    return (*at)->n_parts < MAX_PARTS ? 0 : nccl_misuse(BERTH_NCCL_INTERNAL_ERROR, "too many calls in a group");
}

static int check_memory(const nccl_comm *c, const nccl_part *p, const char *call)
{
    const uint64_t at[2] = {p->from, p->to};
    for (int i = 0; i < 2; i++) {
        if (at[i] && !nccl.door->host(c->gpu, at[i], p->bytes))
            return nccl_misuse(BERTH_NCCL_INVALID_ARGUMENT, "%s: %zu bytes are in no allocation of GPU %d", call,
                               p->bytes, c->gpu);
    }
    return 0;
}

static int add(const char *call, berth_nccl_comm comm, nccl_part part, void *stream)
{
    int code = begin_call(), gpu = -1, of = -1;
    nccl_comm *c = code == 0 ? nccl_find(comm) : NULL;
    if (code == 0) code = check_ready(c, call);
    if (code == 0) code = check_current(call, &gpu);
    if (code == 0 && nccl.door->stream_any(stream, &of)) code = BERTH_NCCL_INVALID_ARGUMENT;
    if (code == 0 && of != c->gpu)
        code =
            nccl_misuse(BERTH_NCCL_INVALID_ARGUMENT, "%s: a stream of GPU %d for a rank on GPU %d", call, of, c->gpu);
    if (code == 0 && (part.peer < 0 || part.peer >= c->clique->n_ranks)) code = BERTH_NCCL_INVALID_ARGUMENT;
    part.bytes = part.n * nccl_size(part.dtype);
    if (code == 0 && part.bytes == 0)
        code = nccl_misuse(BERTH_NCCL_INVALID_ARGUMENT, "%s: %zu elements of type %d", call, part.n, part.dtype);
    if (code == 0) code = check_memory(c, &part, call);
    nccl_launch *l = NULL;
    if (code == 0) code = launch_of(c, stream, &l);
    if (code == 0) l->parts[l->n_parts++] = part;
    return end_call(code);
}

API int ncclSend(const void *buffer, size_t n, int dtype, int peer, berth_nccl_comm comm, void *stream)
{
    return add("ncclSend", comm,
               (nccl_part){.kind = NCCL_SEND, .from = (uintptr_t)buffer, .n = n, .dtype = dtype, .peer = peer}, stream);
}

API int ncclRecv(void *buffer, size_t n, int dtype, int peer, berth_nccl_comm comm, void *stream)
{
    return add("ncclRecv", comm,
               (nccl_part){.kind = NCCL_RECV, .to = (uintptr_t)buffer, .n = n, .dtype = dtype, .peer = peer}, stream);
}

API int ncclAllReduce(const void *from, void *to, size_t n, int dtype, int reduction, berth_nccl_comm comm,
                      void *stream)
{
    if (reduction != BERTH_NCCL_SUM || dtype == BERTH_NCCL_INT8) dtype = -1; /* not emulated */
    return add("ncclAllReduce", comm,
               (nccl_part){.kind = NCCL_ADD, .from = (uintptr_t)from, .to = (uintptr_t)to, .n = n, .dtype = dtype},
               stream);
}
