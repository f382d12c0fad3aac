/* narrow_attention.c - attention over a paged cache of 16-bit keys and values.
 *
 * Scores, weights and sums are fp32; keys and values are widened a block at a time, once for a few tokens and all
 * query heads that share them. Softmax is computed as the blocks come (Milakov and Gimelshein 2018, arXiv
 * 1805.02867), always in the order of positions, so that a token's result depends neither on its neighbours nor on
 * threads. */
#include <math.h>
#include <string.h>

#include "kernels/narrow.h"

enum { TOKENS = 8, LANES = 8 };

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

typedef struct attention {
    const berth_op_call *call;
    const int32_t *positions, *token_seq, *table;
    size_t n, max_blocks, kv_heads, group, block, d; /* group: query heads a kv head */
    size_t scratch;                                  /* bytes a thread */
} attention;

/* One thread's memory. */
typedef struct scratch {
    float *k, *v;       /* [block, d] */
    float *q, *sum;     /* [TOKENS * group, d] */
    float *top, *total; /* [TOKENS * group]: largest score so far, sum of the weights */
    float *score;       /* [block] */
} scratch;

static attention describe(const berth_op_call *call)
{
    const berth_tensor *kv = &call->in[1]; /* [n_blocks, 2, kv_heads, block, d] */
    attention a = {.call = call, .n = (size_t)berth_tensor_elements(&call->in[2])};
    a.positions = call->in[2].data;
    a.token_seq = call->in[3].data;
    a.table = call->in[4].data;
    a.max_blocks = (size_t)berth_tensor_last(&call->in[4]);
    a.kv_heads = (size_t)kv->dims[2];
    a.block = (size_t)kv->dims[3];
    a.d = (size_t)kv->dims[4];
    a.group = (size_t)(call->in[0].dims[call->in[0].n_dims - 2]) / a.kv_heads;
    size_t rows = TOKENS * a.group;
    a.scratch = berth_cpu_line((2 * a.block * a.d + 2 * rows * a.d + 2 * rows + a.block) * sizeof(float));
    return a;
}

size_t berth_narrow_attention_paged_workspace(const berth_op_call *shapes, int32_t n_threads)
{
    return describe(shapes).scratch * (size_t)n_threads;
}

static scratch scratch_of(const attention *a, int32_t thread)
{
    scratch s;
    size_t rows = TOKENS * a->group;
    s.k = (float *)(void *)((char *)a->call->workspace + a->scratch * (size_t)thread);
    s.v = s.k + a->block * a->d;
    s.q = s.v + a->block * a->d;
    s.sum = s.q + rows * a->d;
    s.top = s.sum + rows * a->d;
    s.total = s.top + rows;
    s.score = s.total + rows;
    return s;
}

static float dot(const float *x, const float *y, size_t n)
{
    lanes sum = {0};
    float tail = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        lanes u, w;
        memcpy(&u, x + i, sizeof u);
        memcpy(&w, y + i, sizeof w);
        sum += u * w;
    }
    for (; i < n; i++) tail += x[i] * y[i];
    for (int k = 0; k < LANES; k++) tail += sum[k];
    return tail;
}

/* Takes `rows` keys and values of a block into row r of sum, top and total. */
static void add_block(const attention *a, const scratch *s, size_t r, size_t rows)
{
    float *sum = s->sum + r * a->d, top = s->top[r];
    for (size_t i = 0; i < rows; i++) {
        s->score[i] = dot(s->q + r * a->d, s->k + i * a->d, a->d) * a->call->attrs->scale;
        if (!(s->score[i] <= top)) top = s->score[i]; /* a NaN gets through */
    }
    float shrink = expf(s->top[r] - top); /* 0 at the first block, whose `top` was -inf */
    s->total[r] *= shrink;
    for (size_t j = 0; j < a->d; j++) sum[j] *= shrink;
    for (size_t i = 0; i < rows; i++) {
        float weight = expf(s->score[i] - top);
        const float *v = s->v + i * a->d;
        s->total[r] += weight;
        for (size_t j = 0; j < a->d; j++) sum[j] += weight * v[j];
    }
    s->top[r] = top;
}

static void widen_block(const attention *a, const scratch *s, size_t block, size_t kv_head, size_t rows)
{
    const berth_tensor *kv = &a->call->in[1];
    size_t size = berth_dtype_size(kv->dtype);
    const char *k = (const char *)kv->data + ((block * 2) * a->kv_heads + kv_head) * a->block * a->d * size;
    const char *v = k + a->kv_heads * a->block * a->d * size;
    berth_widen_f32(s->k, k, kv->dtype, rows * a->d);
    berth_widen_f32(s->v, v, kv->dtype, rows * a->d);
}

/* Tokens [t0, t1) of one sequence, for the query heads of one kv head. */
static void attend(const attention *a, const scratch *s, size_t t0, size_t t1, size_t kv_head)
{
    const berth_tensor *q = &a->call->in[0], *o = &a->call->out;
    size_t q_row = a->kv_heads * a->group * a->d, n_rows = (t1 - t0) * a->group;
    const int32_t *table = a->table + (size_t)a->token_seq[t0] * a->max_blocks;
    size_t length = (size_t)a->positions[t1 - 1] + 1;
    for (size_t t = t0; t < t1; t++)
        berth_narrow_convert(s->q + (t - t0) * a->group * a->d, BERTH_F32,
                             (const char *)q->data +
                                 (t * q_row + kv_head * a->group * a->d) * berth_dtype_size(q->dtype),
                             q->dtype, a->group * a->d);
    memset(s->sum, 0, n_rows * a->d * sizeof *s->sum);
    for (size_t r = 0; r < n_rows; r++) {
        s->top[r] = -INFINITY;
        s->total[r] = 0;
    }
    for (size_t first = 0; first < length; first += a->block) {
        size_t rows = berth_cpu_min(a->block, length - first);
        widen_block(a, s, (size_t)table[first / a->block], kv_head, rows);
        for (size_t t = t0; t < t1; t++) {
            size_t seen = (size_t)a->positions[t] + 1;
            if (seen <= first) continue;
            for (size_t h = 0; h < a->group; h++)
                add_block(a, s, (t - t0) * a->group + h, berth_cpu_min(rows, seen - first));
        }
    }
    for (size_t r = 0; r < n_rows; r++)
        for (size_t j = 0; j < a->d; j++) s->sum[r * a->d + j] /= s->total[r];
    for (size_t t = t0; t < t1; t++)
        berth_narrow_convert((char *)o->data + (t * q_row + kv_head * a->group * a->d) * berth_dtype_size(o->dtype),
                             o->dtype, s->sum + (t - t0) * a->group * a->d, BERTH_F32, a->group * a->d);
}

static void attend_items(void *arg, size_t begin, size_t end, int32_t thread)
{
    const attention *a = arg;
    scratch s = scratch_of(a, thread);
    for (size_t item = begin; item < end; item++) {
        size_t t = item / a->kv_heads * TOKENS, stop = berth_cpu_min(t + TOKENS, a->n), t1;
        for (; t < stop; t = t1) {
            for (t1 = t + 1; t1 < stop && a->token_seq[t1] == a->token_seq[t];) t1++;
            attend(a, &s, t, t1, item % a->kv_heads);
        }
    }
}

void berth_narrow_attention_paged(const berth_op_call *call)
{
    attention a = describe(call);
    berth_cpu_parallel(call, (a.n + TOKENS - 1) / TOKENS * a.kv_heads, 1, attend_items, &a);
}
