/* load.c - the readers. All that they share is behind one lock, taken twice for a piece of some MiB; the thread that loads
 * waits, tells of progress, and reads itself where one reader is all there is. */
#include "exec/load.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "exec/pieces.h"

enum {
    MOST_READERS = 12,     /* of a device: a core copies some 5 to 10 GB/s out of the page cache, and a link of today
                            * takes 12 to 55 (predicted, docs/gpus.md) */
    PIECE_BYTES = 2 << 20, /* copies of that size reach a link's rate, and all slots fit into a server's last cache */
    LEAST_PIECE = 16,
    TELL_BYTES = 32 << 20,   /* read between two reports of progress */
    AHEAD_BYTES = 256 << 20, /* a cold file is asked for so far ahead of its readers */
};

typedef struct param_state {
    int32_t n_left; /* pieces */
    berth_too_large too_large;
} param_state;

typedef struct load_job { /* a device's */
    struct berth_load *load;
    berth_load_target target;
    berth_pieces pieces;
    param_state *params; /* owned; [n_params] */
    int32_t next;        /* piece to be taken */
    int32_t n_ahead;     /* pieces before this one are taken or asked for */
    int32_t n_readers;
    struct load_job *after;
} load_job;

typedef struct reader {
    load_job *job;
    unsigned long thread;
    bool runs;
} reader;

struct berth_load {
    berth_load_options options;
    load_job *jobs, **end; /* owned list */
    int32_t n_jobs;
    pthread_mutex_t lock; /* jobs' and params' states, and what follows */
    pthread_cond_t changed;
    uint64_t done, told;
    int32_t n_running;
    bool tells_itself; /* readers are on the thread that loads */
    berth_status status;
    berth_error error;
};

/* ---- making ----------------------------------------------------------------------------------------------------- */

berth_status berth_load_create(const berth_load_options *options, berth_load **out, berth_error *err)
{
    berth_load *l = *out = calloc(1, sizeof *l);
    if (!l) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the loading of weights");
    l->options = *options;
    if (l->options.piece_bytes == 0) l->options.piece_bytes = PIECE_BYTES;
    if (l->options.piece_bytes < LEAST_PIECE) l->options.piece_bytes = LEAST_PIECE;
    l->end = &l->jobs;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    return BERTH_OK;
}

static void destroy_job(load_job *j)
{
    berth_pieces_deinit(&j->pieces);
    free(j->params);
    free(j);
}

void berth_load_destroy(berth_load *l)
{
    if (!l) return;
    for (load_job *j = l->jobs, *next; j; j = next) {
        next = j->after;
        destroy_job(j);
    }
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->changed);
    free(l);
}

berth_status berth_load_add(berth_load *l, const berth_weights *w, const berth_load_target *target, berth_error *err)
{
    load_job *j = calloc(1, sizeof *j);
    if (!j) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the loading of weights");
    *j = (load_job){.load = l, .target = *target};
    berth_status st = berth_pieces_init(&j->pieces, w, l->options.piece_bytes, err);
    if (st == BERTH_OK) j->params = calloc((size_t)berth_model_data_n_params(w->model) + 1, sizeof *j->params);
    if (st == BERTH_OK && !j->params) st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the loading of weights");
    if (st != BERTH_OK || j->pieces.n == 0) { /* nothing to read is fine */
        destroy_job(j);
        return st;
    }
    for (int32_t i = 0; i < j->pieces.n; i++) j->params[j->pieces.list[i].param].n_left++;
    *l->end = j;
    l->end = &j->after;
    l->n_jobs++;
    return BERTH_OK;
}

uint64_t berth_load_bytes(const berth_load *l)
{
    return l->done;
}

const berth_load_watch *berth_load_watched(const berth_load *l)
{
    return &l->options.watch;
}

/* ---- what readers share ----------------------------------------------------------------------------------------- */

/* The first one stays, and no piece is taken any more. */
static void fail(load_job *j, berth_status st, const berth_error *why)
{
    berth_load *l = j->load;
    pthread_mutex_lock(&l->lock);
    if (l->status == BERTH_OK) {
        l->status = st;
        l->error = *why;
        berth_error_prefix(&l->error, "weights of device %s: ", j->target.name);
    }
    pthread_mutex_unlock(&l->lock);
}

static bool take(load_job *j, int32_t *out)
{
    berth_load *l = j->load;
    pthread_mutex_lock(&l->lock);
    const bool any = l->status == BERTH_OK && j->next < j->pieces.n;
    if (any) *out = j->next++;
    pthread_mutex_unlock(&l->lock);
    return any;
}

/* The piece's reader has read and maybe sent it. *out_too_large: of the whole parameter, when this was its last piece. */
static void count(load_job *j, int32_t i, const berth_too_large *too_large, berth_too_large *out_too_large)
{
    berth_load *l = j->load;
    param_state *p = &j->params[j->pieces.list[i].param];
    *out_too_large = (berth_too_large){0};
    pthread_mutex_lock(&l->lock);
    p->too_large.n += too_large->n;
    if (too_large->largest > p->too_large.largest) p->too_large.largest = too_large->largest;
    if (--p->n_left == 0) *out_too_large = p->too_large;
    l->done += j->pieces.list[i].bytes;
    if (l->done - l->told >= TELL_BYTES) pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

/* On the thread that loads. */
static void tell(berth_load *l)
{
    pthread_mutex_lock(&l->lock);
    const uint64_t bytes = l->done - l->told;
    l->told = l->done;
    pthread_mutex_unlock(&l->lock);
    if (bytes > 0 && l->options.watch.seen) l->options.watch.seen(l->options.watch.user, bytes);
}

/* Where the file has to come from a disk, it is asked for some way ahead, each piece once. */
static void ask_ahead(load_job *j, int32_t i)
{
    berth_load *l = j->load;
    int32_t upto = i;
    for (size_t bytes = 0; upto < j->pieces.n && bytes < AHEAD_BYTES; upto++) bytes += j->pieces.list[upto].file_bytes;
    pthread_mutex_lock(&l->lock);
    int32_t first = j->n_ahead > i ? j->n_ahead : i;
    if (upto > j->n_ahead) j->n_ahead = upto;
    pthread_mutex_unlock(&l->lock);
    for (; first < upto; first++) berth_piece_read_ahead(&j->pieces, first);
}

/* ---- a reader --------------------------------------------------------------------------------------------------- */

static berth_status carry(load_job *j, int32_t i, void *lane, uint8_t *scratch, berth_error *err)
{
    const berth_load_way *way = j->target.way;
    const berth_piece *piece = &j->pieces.list[i];
    berth_too_large some = {0}, all;
    void *out = piece->dst;
    if (berth_piece_is_cold(&j->pieces, i)) ask_ahead(j, i);
    berth_status st = way ? way->next(lane, &out, err) : BERTH_OK;
    if (st == BERTH_OK) st = berth_piece_read(&j->pieces, i, scratch, out, &some, err);
    if (st == BERTH_OK && way) st = way->send(lane, piece->dst, piece->bytes, err);
    if (st != BERTH_OK) return st;
    count(j, i, &some, &all);
    return berth_too_large_check(&j->pieces, piece->param, &all, err);
}

static berth_status carry_all(load_job *j, void *lane, uint8_t *scratch, berth_error *err)
{
    int32_t i;
    berth_status st = BERTH_OK;
    while (st == BERTH_OK && take(j, &i)) {
        st = carry(j, i, lane, scratch, err);
        if (j->load->tells_itself) tell(j->load);
    }
    return st;
}

static void read_job(load_job *j)
{
    const berth_load_way *way = j->target.way;
    void *lane = NULL;
    berth_error err = {0}, after = {0};
    uint8_t *scratch = j->pieces.converts ? malloc(BERTH_PIECE_SCRATCH) : NULL;
    berth_status st = j->pieces.converts && !scratch
                          ? BERTH_FAIL(&err, BERTH_OUT_OF_MEMORY, "memory for rounding weights")
                          : BERTH_OK;
    if (st == BERTH_OK && way) st = way->open(j->target.user, j->load->options.piece_bytes, &lane, &err);
    if (st == BERTH_OK) {
        st = carry_all(j, lane, scratch, &err);
        if (st != BERTH_OK) fail(j, st, &err); /* at once: the others need not read on */
        const berth_status closed = way ? way->close(lane, &after) : BERTH_OK;
        if (closed != BERTH_OK) fail(j, closed, &after);
    } else {
        fail(j, st, &err);
    }
    free(scratch);
}

static void *reader_body(void *arg)
{
    load_job *j = ((const reader *)arg)->job;
    berth_load *l = j->load;
    read_job(j);
    pthread_mutex_lock(&l->lock);
    if (--l->n_running == 0) pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- all of them ------------------------------------------------------------------------------------------------ */

static int32_t least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t readers_of(const berth_load *l, const load_job *j)
{
    int32_t n = l->options.n_readers;
    if (n <= 0) {
        n = l->options.n_cores / l->n_jobs;
        if (j->target.n_cores > 0) n = least(n, j->target.n_cores);
        n = least(n, MOST_READERS);
    }
    n = least(n, j->pieces.n);
    return n < 1 ? 1 : n;
}

static berth_status start(berth_load *l, reader *r, berth_error *err)
{
    const berth_load_target *t = &r->job->target;
    berth_thread_label label = {.watch = l->options.threads};
    snprintf(label.name, sizeof label.name, "reader %s", t->name);
    pthread_mutex_lock(&l->lock);
    l->n_running++;
    pthread_mutex_unlock(&l->lock);
    berth_status st = berth_thread_start(&r->thread, reader_body, r, t->cores, t->n_cores, &label, err);
    r->runs = st == BERTH_OK;
    if (r->runs) return BERTH_OK;
    pthread_mutex_lock(&l->lock);
    l->n_running--;
    pthread_mutex_unlock(&l->lock);
    return st;
}

static void wait_for_readers(berth_load *l)
{
    for (bool is_over = false; !is_over;) {
        pthread_mutex_lock(&l->lock);
        while (l->n_running > 0 && l->done - l->told < TELL_BYTES) pthread_cond_wait(&l->changed, &l->lock);
        is_over = l->n_running == 0;
        pthread_mutex_unlock(&l->lock);
        tell(l);
    }
}

static berth_status read_together(berth_load *l, int32_t n, berth_error *err)
{
    reader *readers = calloc((size_t)n, sizeof *readers);
    if (!readers) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "the loading of weights");
    int32_t at = 0;
    berth_status st = BERTH_OK;
    for (load_job *j = l->jobs; j; j = j->after) {
        for (int32_t k = 0; st == BERTH_OK && k < j->n_readers; k++, at++) {
            berth_error why = {0};
            readers[at].job = j;
            st = start(l, &readers[at], &why);
            if (st != BERTH_OK) fail(j, st, &why);
        }
    }
    wait_for_readers(l);
    for (int32_t i = 0; i < n; i++)
        if (readers[i].runs) berth_thread_join(readers[i].thread);
    free(readers);
    return BERTH_OK;
}

berth_status berth_load_run(berth_load *l, berth_error *err)
{
    int32_t n = 0;
    for (load_job *j = l->jobs; j; j = j->after) n += j->n_readers = readers_of(l, j);
    l->tells_itself = n == 1 || l->options.n_readers == 1 || (l->options.n_readers == 0 && l->options.n_cores <= 1);
    berth_status st = BERTH_OK;
    if (l->tells_itself)
        for (load_job *j = l->jobs; j; j = j->after) read_job(j);
    else if (n > 0)
        st = read_together(l, n, err);
    if (st == BERTH_OK && l->status != BERTH_OK && err) *err = l->error;
    return st == BERTH_OK ? l->status : st;
}
