/* attention.h - softmax attention with a running maximum, so that all scores are never held. Compiled once per vector
 * width.
 *
 * Keys stand in blocks of ATTENTION_BLOCK positions counted from position 0, blocks in splits of ATTENTION_SPLIT. A row
 * (one query of one head) is carried through the blocks of a split with a running maximum, sum and output; the split's
 * result is then merged into the row's total, from left to right. The order is one of positions only: so a token's bits
 * are the same in a long prefill, in a decode step that shares its splits among threads, and in any company.
 * Source: Dao et al. 2022 (FlashAttention), section 3.1; Milakov & Gimelshein 2018 (online softmax). */
#ifndef BERTH_KERNELS_CPU_ATTENTION_H
#define BERTH_KERNELS_CPU_ATTENTION_H

#include "kernels/cpu/cpu_internal.h"
#include "kernels/cpu/simd.h"

enum {
    ATTENTION_BLOCK = 64,
    ATTENTION_SPLIT = 512,
    ATTENTION_ROWS = 192, /* query rows of a piece: its keys and values are copied once for all of them */
    ATTENTION_FEW = 8,    /* at most this many tokens: splits may go to different threads */
    ATTENTION_TILE = BERTH_LANES == 16 ? 6 : 3, /* rows of a register tile of scores (x 4 keys) */
    ATTENTION_OUT = BERTH_LANES == 16 ? 12 : 6, /* rows of a register tile of outputs (x 2 vectors) */
};

BERTH_INLINE size_t attention_padded(size_t d)
{
    return (d + BERTH_LANES - 1) / BERTH_LANES * BERTH_LANES;
}

/* The state of a piece: n_rows rows, each with the last position it sees. All arrays are this thread's scratch. */
typedef struct attention_rows {
    size_t n_rows, d, d_padded;
    float scale;
    float *q, *k, *v;                         /* [n_rows, d_padded], [BLOCK, d_padded] twice */
    float *scores;                            /* [n_rows, BLOCK] */
    float *out;                               /* [n_rows, d_padded]: of this split */
    float *total;                             /* [n_rows, d_padded]: of the splits before */
    float *top, *sum, *total_top, *total_sum; /* [n_rows] */
    int32_t *last;                            /* [n_rows] ascending */
} attention_rows;

static size_t attention_scratch_bytes(size_t max_rows, size_t d)
{
    size_t padded = attention_padded(d);
    return berth_cpu_line((3 * max_rows * padded + 2 * ATTENTION_BLOCK * padded + max_rows * ATTENTION_BLOCK) *
                          sizeof(float)) +
           5 * berth_cpu_line(max_rows * sizeof(float));
}

static attention_rows attention_carve(char *scratch, size_t max_rows, size_t d, float scale)
{
    size_t padded = attention_padded(d), line = berth_cpu_line(max_rows * sizeof(float)) / sizeof(float);
    attention_rows s = {.d = d, .d_padded = padded, .scale = scale};
    float *at = (float *)(void *)scratch;
    s.q = at;
    s.out = s.q + max_rows * padded;
    s.total = s.out + max_rows * padded;
    s.k = s.total + max_rows * padded;
    s.v = s.k + ATTENTION_BLOCK * padded;
    s.scores = s.v + ATTENTION_BLOCK * padded;
    s.top = s.scores + max_rows * ATTENTION_BLOCK;
    s.sum = s.top + line;
    s.total_top = s.sum + line;
    s.total_sum = s.total_top + line;
    s.last = (int32_t *)(void *)(s.total_sum + line);
    return s;
}

/* Copies d floats and fills up to the padded width with zeros. */
BERTH_INLINE void attention_copy(float *out, const float *in, size_t d, size_t padded)
{
    size_t i = 0;
    for (; i + BERTH_LANES <= d; i += BERTH_LANES) v_store(out + i, v_load(in + i));
    if (i < padded) v_store(out + i, v_load_part(in + i, d - i));
}

/* ---- one block of keys ------------------------------------------------------------------------------------------ */

BERTH_INLINE void attention_score_tile(const attention_rows *s, const int n_rows, size_t row, size_t key)
{
    const float *q = s->q + row * s->d_padded, *k = s->k + key * s->d_padded;
    vf sums[ATTENTION_TILE][4];
    BERTH_UNROLL for (int r = 0; r < n_rows; r++) BERTH_UNROLL for (int j = 0; j < 4; j++) sums[r][j] = (vf){0};
    for (size_t i = 0; i < s->d_padded; i += BERTH_LANES) {
        vf rows[ATTENTION_TILE];
        BERTH_UNROLL for (int r = 0; r < n_rows; r++) rows[r] = v_load(q + (size_t)r * s->d_padded + i);
        BERTH_UNROLL for (int j = 0; j < 4; j++)
        {
            vf column = v_load(k + (size_t)j * s->d_padded + i);
            BERTH_UNROLL for (int r = 0; r < n_rows; r++) sums[r][j] = v_fma(rows[r], column, sums[r][j]);
        }
    }
    BERTH_UNROLL for (int r = 0; r < n_rows; r++) * (vf4_at *)(s->scores + (row + (size_t)r) * ATTENTION_BLOCK + key) =
        v_sum4(sums[r][0], sums[r][1], sums[r][2], sums[r][3]) * s->scale;
}

static void attention_scores(const attention_rows *s, size_t first_row, size_t n_keys)
{
    for (size_t key = 0; key < n_keys; key += 4) {
        size_t row = first_row;
        for (; row + ATTENTION_TILE <= s->n_rows; row += ATTENTION_TILE)
            attention_score_tile(s, ATTENTION_TILE, row, key);
        for (; row < s->n_rows; row++) attention_score_tile(s, 1, row, key);
    }
}

/* Turns a row's scores of a block into weights relative to its new maximum, and rescales what it has gathered so far. */
static void attention_soften(const attention_rows *s, size_t row, size_t n_valid)
{
    float *scores = s->scores + row * ATTENTION_BLOCK;
    for (size_t i = n_valid; i < ATTENTION_BLOCK; i++) scores[i] = -__builtin_inff();
    vf top = v_load(scores);
    for (size_t i = BERTH_LANES; i < ATTENTION_BLOCK; i += BERTH_LANES) top = v_max(top, v_load(scores + i));
    float old = s->top[row], now = v_top(top);
    now = old > now ? old : now;
    vf sum = {0};
    for (size_t i = 0; i < ATTENTION_BLOCK; i += BERTH_LANES) {
        vf weight = v_exp_falling(v_load(scores + i) - now);
        v_store(scores + i, weight);
        sum += weight;
    }
    if (now != old) {
        float keep = v_exp_falling(v_set(old - now))[0], *out = s->out + row * s->d_padded;
        s->sum[row] *= keep;
        for (size_t i = 0; i < s->d_padded; i += BERTH_LANES) v_store(out + i, v_load(out + i) * keep);
        s->top[row] = now;
    }
    s->sum[row] += v_sum(sum);
}

/* Adds weights x values to n_rows rows, n_vecs vectors wide at column c. */
BERTH_INLINE void attention_gather_tile(const attention_rows *s, const int n_rows, const int n_vecs, size_t row,
                                        size_t c, size_t n_keys)
{
    const float *weights = s->scores + row * ATTENTION_BLOCK, *v = s->v + c;
    float *out = s->out + row * s->d_padded + c;
    vf sums[ATTENTION_OUT][2];
    BERTH_UNROLL for (int r = 0; r < n_rows; r++) BERTH_UNROLL for (int j = 0; j < n_vecs; j++) sums[r][j] =
        v_load(out + (size_t)r * s->d_padded + (size_t)j * BERTH_LANES);
    for (size_t key = 0; key < n_keys; key++) {
        vf values[2];
        BERTH_UNROLL for (int j = 0; j < n_vecs; j++) values[j] =
            v_load(v + key * s->d_padded + (size_t)j * BERTH_LANES);
        BERTH_UNROLL for (int r = 0; r < n_rows; r++)
        {
            vf weight = v_set(weights[(size_t)r * ATTENTION_BLOCK + key]);
            BERTH_UNROLL for (int j = 0; j < n_vecs; j++) sums[r][j] = v_fma(weight, values[j], sums[r][j]);
        }
    }
    BERTH_UNROLL for (int r = 0; r < n_rows; r++) BERTH_UNROLL for (int j = 0; j < n_vecs; j++)
        v_store(out + (size_t)r * s->d_padded + (size_t)j * BERTH_LANES, sums[r][j]);
}

static void attention_gather(const attention_rows *s, size_t first_row, size_t n_keys)
{
    size_t c = 0;
    for (; c + 2 * BERTH_LANES <= s->d_padded; c += 2 * BERTH_LANES) {
        size_t row = first_row;
        for (; row + ATTENTION_OUT <= s->n_rows; row += ATTENTION_OUT)
            attention_gather_tile(s, ATTENTION_OUT, 2, row, c, n_keys);
        for (; row < s->n_rows; row++) attention_gather_tile(s, 1, 2, row, c, n_keys);
    }
    if (c < s->d_padded)
        for (size_t row = first_row; row < s->n_rows; row++) attention_gather_tile(s, 1, 1, row, c, n_keys);
}

/* The block of keys and values now in s->k and s->v, n_keys of them, the first at position `begin`. */
static void attention_block(const attention_rows *s, int64_t begin, size_t n_keys)
{
    size_t first_row = 0;
    while (first_row < s->n_rows && s->last[first_row] < begin) first_row++;
    for (size_t key = n_keys; key % 4; key++) memset(s->k + key * s->d_padded, 0, s->d_padded * sizeof(float));
    attention_scores(s, first_row, n_keys);
    for (size_t row = first_row; row < s->n_rows; row++)
        attention_soften(s, row, berth_cpu_min(n_keys, (size_t)(s->last[row] - begin) + 1));
    attention_gather(s, first_row, n_keys);
}

/* ---- splits ----------------------------------------------------------------------------------------------------- */

static void attention_split_begin(const attention_rows *s)
{
    memset(s->out, 0, s->n_rows * s->d_padded * sizeof(float));
    for (size_t row = 0; row < s->n_rows; row++) s->top[row] = -__builtin_inff(), s->sum[row] = 0;
}

/* Merges one split's (out, top, sum) of a row into its total; the first split becomes the total as it is. */
BERTH_INLINE void attention_merge(float *total, float *total_top, float *total_sum, const float *out, float top,
                                  float sum, size_t d_padded, bool first)
{
    if (first) {
        memcpy(total, out, d_padded * sizeof(float));
        *total_top = top;
        *total_sum = sum;
        return;
    }
    float now = top > *total_top ? top : *total_top;
    float keep = v_exp_falling(v_set(*total_top - now))[0], add = v_exp_falling(v_set(top - now))[0];
    for (size_t i = 0; i < d_padded; i += BERTH_LANES)
        v_store(total + i, v_fma(v_load(out + i), v_set(add), v_load(total + i) * keep));
    *total_sum = *total_sum * keep + sum * add;
    *total_top = now;
}

/* o = total / sum, d elements. */
BERTH_INLINE void attention_finish(float *o, const float *total, float sum, size_t d)
{
    size_t i = 0;
    vf whole = v_set(sum);
    for (; i + BERTH_LANES <= d; i += BERTH_LANES) v_store(o + i, v_load(total + i) / whole);
    if (i < d) v_store_part(o + i, v_load(total + i) / whole, d - i);
}

/* Brings keys and values of positions [begin, begin + n) into s->k and s->v. */
typedef void (*attention_fetch_fn)(const attention_rows *s, const void *source, size_t begin, size_t n);

/* Carries all rows through one split of positions [begin, end). */
static void attention_split(const attention_rows *s, attention_fetch_fn fetch, const void *source, size_t begin,
                            size_t end)
{
    attention_split_begin(s);
    for (size_t p = begin; p < end; p += ATTENTION_BLOCK) {
        size_t n = berth_cpu_min(ATTENTION_BLOCK, end - p);
        fetch(s, source, p, n);
        attention_block(s, (int64_t)p, n);
    }
}

/* All splits of positions [0, n_keys), one after the other; the rows' totals are ready afterwards. */
static void attention_all_splits(const attention_rows *s, attention_fetch_fn fetch, const void *source, size_t n_keys)
{
    for (size_t begin = 0; begin < n_keys; begin += ATTENTION_SPLIT) {
        attention_split(s, fetch, source, begin, berth_cpu_min(begin + ATTENTION_SPLIT, n_keys));
        for (size_t row = 0; row < s->n_rows; row++)
            if (s->last[row] >= (int64_t)begin)
                attention_merge(s->total + row * s->d_padded, &s->total_top[row], &s->total_sum[row],
                                s->out + row * s->d_padded, s->top[row], s->sum[row], s->d_padded, begin == 0);
    }
}

/* ---- attention_full --------------------------------------------------------------------------------------------- */

typedef struct attention_full_job {
    const float *q, *k, *v; /* [n_tiles, T, c] */
    float *o;
    size_t rows, c, d, n_heads; /* rows = T */
    float scale;
    char *scratch;
    size_t scratch_bytes;
} attention_full_job;

typedef struct attention_full_source {
    const float *k, *v; /* first row of a tile's head */
    size_t stride;
} attention_full_source;

static void attention_full_fetch(const attention_rows *s, const void *source, size_t begin, size_t n)
{
    const attention_full_source *from = source;
    for (size_t i = 0; i < n; i++) {
        attention_copy(s->k + i * s->d_padded, from->k + (begin + i) * from->stride, s->d, s->d_padded);
        attention_copy(s->v + i * s->d_padded, from->v + (begin + i) * from->stride, s->d, s->d_padded);
    }
}

/* Item: ATTENTION_ROWS queries of one head of one tile. */
static void attention_full_piece(void *arg, size_t begin, size_t end, int32_t thread)
{
    const attention_full_job *job = arg;
    size_t n_parts = (job->rows + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
    attention_rows s =
        attention_carve(job->scratch + (size_t)thread * job->scratch_bytes, ATTENTION_ROWS, job->d, job->scale);
    for (size_t item = begin; item < end; item++) {
        size_t first = item % n_parts * ATTENTION_ROWS, head = item / n_parts % job->n_heads;
        size_t tile = item / n_parts / job->n_heads, base = tile * job->rows * job->c + head * job->d;
        s.n_rows = berth_cpu_min(ATTENTION_ROWS, job->rows - first);
        for (size_t r = 0; r < s.n_rows; r++) {
            attention_copy(s.q + r * s.d_padded, job->q + base + (first + r) * job->c, s.d, s.d_padded);
            s.last[r] = (int32_t)(job->rows - 1);
        }
        attention_full_source source = {job->k + base, job->v + base, job->c};
        attention_all_splits(&s, attention_full_fetch, &source, job->rows);
        for (size_t r = 0; r < s.n_rows; r++)
            attention_finish(job->o + base + (first + r) * job->c, s.total + r * s.d_padded, s.total_sum[r], s.d);
    }
}

static size_t attention_full_workspace(const berth_op_call *shapes, int32_t n_threads)
{
    size_t d = (size_t)berth_tensor_last(&shapes->in[0]) / (size_t)shapes->attrs->n_heads;
    return (size_t)n_threads * attention_scratch_bytes(ATTENTION_ROWS, d);
}

static void attention_full(const berth_op_call *call)
{
    const berth_tensor *q = &call->in[0];
    attention_full_job job = {
        .q = q->data,
        .k = call->in[1].data,
        .v = call->in[2].data,
        .o = call->out.data,
        .rows = (size_t)q->dims[1],
        .c = (size_t)q->dims[2],
        .n_heads = (size_t)call->attrs->n_heads,
        .scale = call->attrs->scale,
        .scratch = call->workspace,
    };
    job.d = job.c / job.n_heads;
    job.scratch_bytes = attention_scratch_bytes(ATTENTION_ROWS, job.d);
    size_t n_parts = (job.rows + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
    size_t grain = 1 + BERTH_CPU_GRAIN / (1 + berth_cpu_min(job.rows, ATTENTION_ROWS) * job.rows * job.d / 4);
    berth_cpu_parallel(call, (size_t)q->dims[0] * job.n_heads * n_parts, grain, attention_full_piece, &job);
}

#endif
