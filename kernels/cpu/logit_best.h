/* logit_best.h - the largest logits of a row in order, and the sum of its exponentials. Compiled once per vector width; see
 * simd.h.
 *
 * A row is cut into pieces by place. Of a piece a list keeps the best so far: once it is twice as long as it must be it is
 * halved, and from then on vectors without anything larger than the least of them are passed over, which are nearly all. */
#ifndef BERTH_KERNELS_CPU_LOGIT_BEST_H
#define BERTH_KERNELS_CPU_LOGIT_BEST_H

#include <math.h>

#include "kernels/cpu/cpu_internal.h"
#include "kernels/cpu/simd.h"

enum { LOGIT_BEST_PIECE = 32768, LOGIT_BEST_LIST = 2 * BERTH_BEST };

typedef struct logit_best_piece {
    uint64_t keys[BERTH_BEST]; /* 0 behind the last */
    double sum;
    float top;
} logit_best_piece;

typedef struct logit_best_job {
    const float *logits; /* [n, v] */
    const int32_t *rows;
    const float *scales;
    float *y;
    logit_best_piece *pieces; /* [rows asked for, n_pieces] of scratch */
    size_t v, n_pieces;
} logit_best_job;

typedef struct logit_best_list {
    uint64_t keys[LOGIT_BEST_LIST];
    int32_t n;
    bool is_full; /* it was halved: what is not larger than `least`, of the BERTH_BEST best then, is not wanted */
    float least;
} logit_best_list;

/* Larger for larger values, and of equal ones for the lower index; never 0. Zeros have no sign. */
static uint64_t logit_key(float x, size_t at)
{
    uint32_t u;
    x += 0.0f;
    memcpy(&u, &x, sizeof u);
    return (uint64_t)(u >> 31 ? ~u : u | 0x80000000u) << 32 | ~(uint32_t)at;
}

static float logit_of_key(uint64_t key)
{
    uint32_t u = (uint32_t)(key >> 32);
    float x;
    u = u >> 31 ? u & 0x7fffffffu : ~u;
    memcpy(&x, &u, sizeof x);
    return key ? x : -__builtin_inff();
}

/* The BERTH_BEST largest to the front, in any order (Hoare's selection). */
static void logit_best_halve(logit_best_list *l)
{
    uint64_t *k = l->keys;
    int32_t low = 0, high = l->n - 1;
    while (low < high) {
        uint64_t pivot = k[low + (high - low) / 2];
        int32_t i = low, j = high;
        while (i <= j) {
            while (k[i] > pivot) i++;
            while (k[j] < pivot) j--;
            if (i > j) break;
            uint64_t t = k[i];
            k[i++] = k[j];
            k[j--] = t;
        }
        if (j < BERTH_BEST - 1 && i > BERTH_BEST - 1) break;
        if (j >= BERTH_BEST - 1)
            high = j;
        else
            low = i;
    }
    uint64_t least = k[0];
    for (int32_t i = 1; i < BERTH_BEST; i++) least = k[i] < least ? k[i] : least;
    l->n = BERTH_BEST;
    l->is_full = true;
    l->least = logit_of_key(least);
}

static void logit_best_add(logit_best_list *l, uint64_t key)
{
    l->keys[l->n++] = key;
    if (l->n == LOGIT_BEST_LIST) logit_best_halve(l);
}

/* Shell sort, descending; cuts the list to the best and fills it up with zeros. */
static void logit_best_sort(logit_best_list *l)
{
    if (l->n > BERTH_BEST) logit_best_halve(l);
    for (int32_t gap = 57; gap > 0; gap = gap == 57 ? 23 : gap == 23 ? 10 : gap == 10 ? 4 : gap == 4 ? 1 : 0)
        for (int32_t i = gap; i < l->n; i++) {
            uint64_t x = l->keys[i];
            int32_t j = i;
            for (; j >= gap && l->keys[j - gap] < x; j -= gap) l->keys[j] = l->keys[j - gap];
            l->keys[j] = x;
        }
    while (l->n < BERTH_BEST) l->keys[l->n++] = 0;
}

BERTH_INLINE bool logit_any(vi mask)
{
    int32_t any = 0;
    for (int i = 0; i < BERTH_LANES; i++) any |= mask[i];
    return any != 0;
}

/* Of x [n], whose first element is the row's element `first`. */
static void logit_best_scan(const float *x, size_t first, size_t n, logit_best_list *l)
{
    enum { STEP = 8 * BERTH_LANES };
    l->n = 0;
    l->is_full = false;
    for (size_t i = 0; i < n;) {
        size_t end = berth_cpu_min(i + STEP, n);
        if (l->is_full && end - i == STEP) {
            vf most = v_load(x + i);
            for (size_t k = BERTH_LANES; k < STEP; k += BERTH_LANES) most = v_max(v_load(x + i + k), most);
            if (!logit_any(most > l->least)) i = end;
        }
        for (; i < end; i++)
            if (!l->is_full || x[i] > l->least) logit_best_add(l, logit_key(x[i], first + i));
    }
}

/* Sums of some hundred terms in lanes, and those in double: what the row's length adds to the error is nothing. */
static double logit_best_sum(const float *x, size_t n, float top, float scale)
{
    enum { STEP = 32 * BERTH_LANES };
    double sum = 0;
    for (size_t i = 0; i < n;) {
        size_t end = berth_cpu_min(i + STEP, n);
        vf part = {0};
        for (; i + BERTH_LANES <= end; i += BERTH_LANES) part += v_exp_falling((v_load(x + i) - top) * scale);
        for (; i < end; i++) sum += exp((double)((x[i] - top) * scale)); /* the row's last */
        sum += (double)v_sum(part);
    }
    return sum;
}

static void logit_best_pieces(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const logit_best_job *job = arg;
    for (size_t p = begin; p < end; p++) {
        size_t row = p / job->n_pieces, first = p % job->n_pieces * LOGIT_BEST_PIECE;
        size_t n = berth_cpu_min(LOGIT_BEST_PIECE, job->v - first);
        const float *x = job->logits + (size_t)job->rows[row] * job->v + first;
        logit_best_list l;
        logit_best_scan(x, first, n, &l);
        logit_best_sort(&l);
        memcpy(job->pieces[p].keys, l.keys, sizeof job->pieces[p].keys);
        job->pieces[p].top = logit_of_key(l.keys[0]);
        job->pieces[p].sum = logit_best_sum(x, n, job->pieces[p].top, job->scales[row]);
    }
}

static void logit_best_join(const logit_best_job *job, size_t row)
{
    const logit_best_piece *pieces = job->pieces + row * job->n_pieces;
    float *y = job->y + row * BERTH_LOGIT_BEST;
    logit_best_list l = {.n = 0};
    double sum = 0;
    for (size_t p = 0; p < job->n_pieces; p++)
        for (int32_t i = 0; i < BERTH_BEST && pieces[p].keys[i]; i++) logit_best_add(&l, pieces[p].keys[i]);
    logit_best_sort(&l);
    const float top = logit_of_key(l.keys[0]);
    for (size_t p = 0; p < job->n_pieces; p++)
        sum += pieces[p].sum * exp((double)((pieces[p].top - top) * job->scales[row]));
    memset(y, 0, BERTH_BEST_VALUES * sizeof *y);
    y[BERTH_BEST_SUM] = (float)sum;
    for (int32_t i = 0; i < BERTH_BEST; i++) {
        y[BERTH_BEST_VALUES + i] = logit_of_key(l.keys[i]);
        y[BERTH_BEST_IDS + i] = l.keys[i] ? (float)~(uint32_t)l.keys[i] : -1.0f;
    }
}

static size_t logit_best_n_pieces(const berth_op_call *call)
{
    return ((size_t)berth_tensor_last(&call->in[0]) + LOGIT_BEST_PIECE - 1) / LOGIT_BEST_PIECE;
}

static size_t logit_best_workspace(const berth_op_call *shapes, int32_t n_threads)
{
    (void)n_threads;
    return (size_t)berth_tensor_elements(&shapes->in[1]) * logit_best_n_pieces(shapes) * sizeof(logit_best_piece);
}

static void logit_best(const berth_op_call *call)
{
    logit_best_job job = {call->in[0].data,         call->in[1].data, call->in[2].data,
                          call->out.data,           call->workspace,  (size_t)berth_tensor_last(&call->in[0]),
                          logit_best_n_pieces(call)};
    size_t n = (size_t)berth_tensor_elements(&call->in[1]);
    berth_cpu_parallel(call, n * job.n_pieces, 1 + BERTH_CPU_GRAIN / (job.v + 1), logit_best_pieces, &job);
    for (size_t row = 0; row < n; row++) logit_best_join(&job, row);
}

#endif
