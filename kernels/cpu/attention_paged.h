/* attention_paged.h - causal attention of a batch's tokens to their sequences' paged keys and values. Compiled once per
 * vector width.
 *
 * Rows are (token, head of a group that shares a kv head). Many tokens: a piece is a run of tokens and a kv head,
 * carried through all splits. Few tokens: a piece is a token, a kv head and a split, so that one long decode keeps all
 * threads busy; what the splits give is merged afterwards in the same order, hence with the same bits. */
#ifndef BERTH_KERNELS_CPU_ATTENTION_PAGED_H
#define BERTH_KERNELS_CPU_ATTENTION_PAGED_H

#include "kernels/cpu/attention.h"

typedef struct attention_paged_job {
    const float *q, *kv; /* [n_tokens, heads, d]; [n_blocks, 2, kv_heads, block, d] */
    float *o;
    const int32_t *positions, *token_seq, *block_table;
    size_t n_tokens, heads, kv_heads, group, d, block, max_blocks, max_rows;
    size_t run_tokens; /* many: tokens of a piece */
    size_t n_splits;   /* few: of the longest token */
    float *partial;    /* few: [n_tokens, heads, n_splits, d_padded + 2]: out, top, sum */
    float scale;
    char *scratch;
    size_t scratch_bytes;
} attention_paged_job;

typedef struct attention_paged_source {
    const attention_paged_job *job;
    const int32_t *blocks; /* the sequence's row of the table */
    size_t kv_head;
} attention_paged_source;

static void attention_paged_fetch(const attention_rows *s, const void *source, size_t begin, size_t n)
{
    const attention_paged_source *from = source;
    const attention_paged_job *job = from->job;
    size_t part = job->kv_heads * job->block * job->d;
    for (size_t i = 0; i < n; i++) {
        size_t p = begin + i;
        const float *k = job->kv + (size_t)from->blocks[p / job->block] * 2 * part +
                         (from->kv_head * job->block + p % job->block) * job->d;
        attention_copy(s->k + i * s->d_padded, k, s->d, s->d_padded);
        attention_copy(s->v + i * s->d_padded, k + part, s->d, s->d_padded);
    }
}

/* Takes tokens [first, first + n) of one sequence as rows. */
static attention_paged_source attention_paged_take(const attention_paged_job *job, attention_rows *s, size_t first,
                                                   size_t n, size_t kv_head)
{
    s->n_rows = n * job->group;
    for (size_t r = 0; r < s->n_rows; r++) {
        size_t token = first + r / job->group, head = kv_head * job->group + r % job->group;
        attention_copy(s->q + r * s->d_padded, job->q + (token * job->heads + head) * job->d, s->d, s->d_padded);
        s->last[r] = job->positions[token];
    }
    return (attention_paged_source){job, job->block_table + (size_t)job->token_seq[first] * job->max_blocks, kv_head};
}

/* ---- many tokens ------------------------------------------------------------------------------------------------ */

/* Item: run_tokens tokens, whatever sequences they are of, and a kv head. */
static void attention_paged_piece(void *arg, size_t begin, size_t end, int32_t thread)
{
    const attention_paged_job *job = arg;
    attention_rows s =
        attention_carve(job->scratch + (size_t)thread * job->scratch_bytes, job->max_rows, job->d, job->scale);
    for (size_t item = begin; item < end; item++) {
        size_t kv_head = item % job->kv_heads, t = item / job->kv_heads * job->run_tokens;
        size_t run_end = berth_cpu_min(t + job->run_tokens, job->n_tokens);
        while (t < run_end) {
            size_t n = 1;
            while (t + n < run_end && job->token_seq[t + n] == job->token_seq[t]) n++;
            attention_paged_source source = attention_paged_take(job, &s, t, n, kv_head);
            attention_all_splits(&s, attention_paged_fetch, &source, (size_t)job->positions[t + n - 1] + 1);
            for (size_t r = 0; r < s.n_rows; r++) {
                size_t head = kv_head * job->group + r % job->group;
                attention_finish(job->o + ((t + r / job->group) * job->heads + head) * job->d, s.total + r * s.d_padded,
                                 s.total_sum[r], s.d);
            }
            t += n;
        }
    }
}

/* ---- few tokens ------------------------------------------------------------------------------------------------- */

static float *attention_partial(const attention_paged_job *job, size_t token, size_t head, size_t split)
{
    return job->partial + ((token * job->heads + head) * job->n_splits + split) * (attention_padded(job->d) + 2);
}

/* Item: a token, a kv head, a split. */
static void attention_paged_split_piece(void *arg, size_t begin, size_t end, int32_t thread)
{
    const attention_paged_job *job = arg;
    attention_rows s =
        attention_carve(job->scratch + (size_t)thread * job->scratch_bytes, job->max_rows, job->d, job->scale);
    for (size_t item = begin; item < end; item++) {
        size_t split = item % job->n_splits, kv_head = item / job->n_splits % job->kv_heads;
        size_t token = item / job->n_splits / job->kv_heads;
        size_t first = split * ATTENTION_SPLIT, len = (size_t)job->positions[token] + 1;
        if (first >= len) continue;
        attention_paged_source source = attention_paged_take(job, &s, token, 1, kv_head);
        attention_split(&s, attention_paged_fetch, &source, first, berth_cpu_min(first + ATTENTION_SPLIT, len));
        for (size_t r = 0; r < s.n_rows; r++) {
            float *partial = attention_partial(job, token, kv_head * job->group + r, split);
            memcpy(partial, s.out + r * s.d_padded, s.d_padded * sizeof *partial);
            partial[s.d_padded] = s.top[r];
            partial[s.d_padded + 1] = s.sum[r];
        }
    }
}

/* Merges the splits of every token and head: item = token * heads + head. */
static void attention_paged_merge(void *arg, size_t begin, size_t end, int32_t thread)
{
    (void)thread;
    const attention_paged_job *job = arg;
    size_t padded = attention_padded(job->d);
    for (size_t item = begin; item < end; item++) {
        size_t token = item / job->heads, head = item % job->heads;
        size_t n_splits = (size_t)job->positions[token] / ATTENTION_SPLIT + 1;
        float *total = attention_partial(job, token, head, 0), *top = total + padded, *sum = top + 1;
        for (size_t split = 1; split < n_splits; split++) {
            const float *more = attention_partial(job, token, head, split);
            attention_merge(total, top, sum, more, more[padded], more[padded + 1], padded, false);
        }
        attention_finish(job->o + item * job->d, total, *sum, job->d);
    }
}

/* ---- the op ----------------------------------------------------------------------------------------------------- */

/* Rows of a piece: whole tokens, as near to ATTENTION_ROWS as they come. */
BERTH_INLINE size_t attention_paged_max_rows(size_t group)
{
    return group * berth_cpu_max(1, ATTENTION_ROWS / group);
}

static size_t attention_paged_workspace(const berth_op_call *shapes, int32_t n_threads)
{
    const berth_tensor *kv = &shapes->in[1];
    size_t n_tokens = (size_t)berth_tensor_elements(&shapes->in[2]), d = (size_t)kv->dims[4];
    size_t heads = n_tokens ? (size_t)berth_tensor_elements(&shapes->in[0]) / n_tokens / d : 0;
    size_t positions = (size_t)berth_tensor_last(&shapes->in[4]) * (size_t)kv->dims[3];
    size_t n_splits = positions / ATTENTION_SPLIT + 1;
    size_t max_rows = attention_paged_max_rows(heads / (size_t)kv->dims[2] + !heads);
    size_t partial =
        berth_cpu_min(n_tokens, ATTENTION_FEW) * heads * n_splits * (attention_padded(d) + 2) * sizeof(float);
    return (size_t)n_threads * attention_scratch_bytes(max_rows, d) + berth_cpu_line(partial);
}

static void attention_paged(const berth_op_call *call)
{
    const berth_tensor *kv = &call->in[1];
    size_t n_tokens = (size_t)berth_tensor_elements(&call->in[2]);
    if (!n_tokens) return;
    attention_paged_job job = {
        .q = call->in[0].data,
        .kv = kv->data,
        .o = call->out.data,
        .positions = call->in[2].data,
        .token_seq = call->in[3].data,
        .block_table = call->in[4].data,
        .n_tokens = n_tokens,
        .kv_heads = (size_t)kv->dims[2],
        .block = (size_t)kv->dims[3],
        .d = (size_t)kv->dims[4],
        .max_blocks = (size_t)berth_tensor_last(&call->in[4]),
        .scale = call->attrs->scale,
        .scratch = call->workspace,
    };
    job.heads = (size_t)berth_tensor_elements(&call->in[0]) / n_tokens / job.d;
    job.group = job.heads / job.kv_heads;
    job.max_rows = attention_paged_max_rows(job.group);
    job.scratch_bytes = attention_scratch_bytes(job.max_rows, job.d);
    int32_t longest = 0;
    for (size_t t = 0; t < n_tokens; t++)
        if (job.positions[t] > longest) longest = job.positions[t];
    size_t n_threads = (size_t)berth_cpu_threads(call);
    if (n_tokens <= ATTENTION_FEW && longest >= ATTENTION_SPLIT && n_threads > 1) {
        job.n_splits = (size_t)longest / ATTENTION_SPLIT + 1;
        job.partial = (float *)(void *)(job.scratch + n_threads * job.scratch_bytes);
        berth_cpu_parallel(call, n_tokens * job.kv_heads * job.n_splits, 1, attention_paged_split_piece, &job);
        berth_cpu_parallel(call, n_tokens * job.heads, 1 + BERTH_CPU_GRAIN / (job.d * job.n_splits),
                           attention_paged_merge, &job);
        return;
    }
    /* Pieces small enough for every thread to have several, where there are enough tokens. */
    size_t share = n_tokens * job.kv_heads / (4 * n_threads);
    job.run_tokens = berth_cpu_max(1, berth_cpu_min(job.max_rows / job.group, share));
    size_t n_items = (n_tokens + job.run_tokens - 1) / job.run_tokens * job.kv_heads;
    size_t work = job.run_tokens * job.group * ((size_t)longest + 1) * job.d / 4;
    berth_cpu_parallel(call, n_items, 1 + BERTH_CPU_GRAIN / (1 + work), attention_paged_piece, &job);
}

#endif
