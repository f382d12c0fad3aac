/* gpu_fused.c - ops as one kernel against the same ops apart, on a real GPU: their bits, and their times, in graphs as a decode step runs them.
 *
 *   gpu_fused [--device N] [--small]
 *
 * --small: shapes a 16th as wide, for emulated GPUs, whose times mean nothing. A line a case: rows, nanoseconds apart and as one. Weights are as many as do not
 * fit a cache, as in a model. Exit code 1 where bits differ. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/code.h"

enum { COLD_BYTES = 256 << 20, MOST_SETS = 64, ROUNDS = 5, PIECE = 1 << 20 };

typedef struct shape {
    const char *name;
    int64_t n_in, outs[BERTH_FUSED_LINEARS];
    bool has_norm;
    berth_op_kind then; /* COPY = none */
} shape;

static const shape shapes[] = {
    {"1B q, k, v", 896, {896, 128, 128}, true, BERTH_OP_COPY},
    {"1B gate, up", 896, {4864, 4864}, true, BERTH_OP_SILU_MUL},
    {"1B down, sum", 4864, {896}, false, BERTH_OP_ADD},
    {"2B q, k, v", 1536, {1536, 256, 256}, true, BERTH_OP_COPY},
    {"2B gate, up", 1536, {8960, 8960}, true, BERTH_OP_SILU_MUL},
    {"2B down, sum", 8960, {1536}, false, BERTH_OP_ADD},
    {"8B q, k, v", 3584, {3584, 512, 512}, true, BERTH_OP_COPY},
    {"8B gate, up", 3584, {18944, 18944}, true, BERTH_OP_SILU_MUL},
    {"8B down, sum", 18944, {3584}, false, BERTH_OP_ADD},
    {"8B head", 3584, {151680}, true, BERTH_OP_COPY},
};

typedef struct bench {
    berth_cuda *cuda;
    berth_gpu *gpu; /* has the code, and events */
    berth_gpu_code *code;
    berth_gpu_stream *stream;
    berth_gpu_event *begin, *end;
    void *piece; /* PIECE bytes of random numbers */
    berth_dtype dtype;
    int32_t ordinal, n_wrong;
    int64_t part;
} bench;

typedef struct set { /* ops over weights of their own */
    berth_op_call ops[2 + BERTH_FUSED_LINEARS];
    int32_t n_ops;
    berth_fused_call fused;
} set;

static void must(berth_status st, const berth_error *err)
{
    if (st == BERTH_OK) return;
    fprintf(stderr, "gpu_fused: %s\n", err->message);
    exit(1);
}

static size_t bytes_of(const berth_tensor *t)
{
    return (size_t)berth_tensor_elements(t) * berth_dtype_size(t->dtype);
}

static berth_tensor tensor(const bench *b, berth_gpu *memory, int64_t rows, int64_t columns)
{
    berth_error err;
    berth_gpu_ptr at;
    berth_tensor t = {.dtype = b->dtype, .n_dims = 2, .dims = {rows, columns}};
    must(berth_gpu_take(memory, bytes_of(&t), &at, &err), &err);
    for (size_t done = 0, n; done < bytes_of(&t); done += n) {
        n = bytes_of(&t) - done < PIECE ? bytes_of(&t) - done : PIECE;
        must(berth_gpu_upload(b->stream, at + done, b->piece, n, &err), &err);
    }
    t.data = (void *)(uintptr_t)at; // NOLINT(performance-no-int-to-ptr): as code.h takes device memory
    return t;
}

static int64_t width(const bench *b, int64_t n)
{
    return n / b->part / 8 * 8;
}

static size_t weight_bytes(const bench *b, const shape *s)
{
    size_t n = 0;
    for (int i = 0; i < BERTH_FUSED_LINEARS; i++) n += (size_t)(width(b, s->outs[i]) * width(b, s->n_in) * 2);
    return n;
}

static berth_op_call *add(set *s, berth_op_kind kind, const berth_op_attrs *attrs, berth_tensor x, berth_tensor y,
                          berth_tensor out)
{
    berth_op_call *op = &s->ops[s->n_ops++];
    *op = (berth_op_call){.kind = kind, .attrs = attrs, .in = {x, y}, .n_in = 2, .out = out};
    return op;
}

typedef struct values { /* that all sets share */
    berth_tensor x, h, scale, other, sum, ys[BERTH_FUSED_LINEARS];
} values;

static void make_set(const bench *b, berth_gpu *memory, const shape *s, const values *v, set *out)
{
    static const berth_op_attrs attrs = {.eps = 1e-6f};
    *out = (set){0};
    if (s->has_norm) out->fused.norm = add(out, BERTH_OP_RMS_NORM, &attrs, v->x, v->scale, v->h);
    for (int i = 0; i < BERTH_FUSED_LINEARS && s->outs[i]; i++)
        out->fused.linear[out->fused.n_linears++] =
            add(out, BERTH_OP_LINEAR, &attrs, s->has_norm ? v->h : v->x,
                tensor(b, memory, width(b, s->outs[i]), width(b, s->n_in)), v->ys[i]);
    if (s->then == BERTH_OP_ADD) out->fused.then = add(out, s->then, &attrs, v->other, v->ys[0], v->sum);
    if (s->then == BERTH_OP_SILU_MUL) out->fused.then = add(out, s->then, &attrs, v->ys[0], v->ys[1], v->sum);
}

static void queue(const bench *b, const set *s, bool as_one)
{
    berth_error err;
    for (int32_t i = 0; i < s->n_ops && !as_one; i++)
        must(berth_gpu_code_run(b->code, b->stream, &s->ops[i], &err), &err);
    if (as_one) must(berth_gpu_code_run_fused(b->code, b->stream, &s->fused, &err), &err);
}

/* Nanoseconds a set, the fastest of some rounds. */
static double measure(const bench *b, const set *sets, int32_t n, bool as_one)
{
    berth_error err;
    berth_gpu_graph *graph;
    int64_t best = INT64_MAX, ns;
    must(berth_gpu_capture_begin(b->stream, &err), &err);
    for (int32_t i = 0; i < n; i++) queue(b, &sets[i], as_one);
    must(berth_gpu_capture_end(b->stream, &graph, &err), &err);
    for (int round = 0; round < ROUNDS; round++) {
        must(berth_gpu_event_record(b->begin, b->stream, &err), &err);
        must(berth_gpu_graph_launch(b->stream, graph, &err), &err);
        must(berth_gpu_event_record(b->end, b->stream, &err), &err);
        must(berth_gpu_stream_wait(b->stream, &err), &err);
        must(berth_gpu_event_elapsed(b->begin, b->end, &ns, &err), &err);
        if (ns < best) best = ns;
    }
    berth_gpu_graph_destroy(graph);
    return (double)best / n;
}

/* The results of the last set, one behind the other; caller frees. */
static uint8_t *results(const bench *b, const shape *s, const values *v, size_t *out_n)
{
    berth_error err;
    const berth_tensor *all[] = {&v->ys[0], &v->ys[1], &v->ys[2], &v->sum};
    uint8_t *bytes = malloc(4 * bytes_of(&v->ys[0]) + 4 * bytes_of(&v->sum) + 1);
    if (!bytes) exit(1);
    *out_n = 0;
    for (int i = 0; i < 4; i++) {
        const bool is_result = s->then == BERTH_OP_COPY ? i < 3 && s->outs[i] : i == 3;
        if (!is_result) continue;
        const berth_gpu_ptr at = (berth_gpu_ptr)(uintptr_t)all[i]->data;
        must(berth_gpu_download(b->stream, bytes + *out_n, at, bytes_of(all[i]), &err), &err);
        must(berth_gpu_fill(b->stream, at, 0xFF, bytes_of(all[i]), &err), &err);
        *out_n += bytes_of(all[i]);
    }
    must(berth_gpu_stream_wait(b->stream, &err), &err);
    return bytes;
}

static void run(bench *b, const shape *s, int64_t rows)
{
    berth_error err;
    berth_gpu *memory;
    set sets[MOST_SETS];
    values v;
    const size_t a_set = weight_bytes(b, s) + 4 * (size_t)BERTH_GPU_ALIGN;
    int32_t n = b->part > 1 ? 2 : (int32_t)(COLD_BYTES / a_set) + 1;
    if (n > MOST_SETS) n = MOST_SETS;
    const int64_t n_in = width(b, s->n_in), first = width(b, s->outs[0]);
    const size_t shared = (size_t)(rows * (2 * n_in + 5 * first) * 2 + n_in * 2) + 16 * (size_t)BERTH_GPU_ALIGN;
    must(berth_gpu_open(b->cuda, b->ordinal, a_set * (size_t)n + shared, &memory, &err), &err);
    v.x = tensor(b, memory, rows, n_in), v.h = tensor(b, memory, rows, n_in), v.scale = tensor(b, memory, 1, n_in);
    v.other = tensor(b, memory, rows, first), v.sum = tensor(b, memory, rows, first);
    for (int i = 0; i < BERTH_FUSED_LINEARS; i++)
        v.ys[i] = tensor(b, memory, rows, s->outs[i] ? width(b, s->outs[i]) : 8);
    for (int32_t i = 0; i < n; i++) make_set(b, memory, s, &v, &sets[i]);
    if (berth_gpu_code_fuses(b->code, &sets[0].fused)) {
        size_t n_apart, n_one;
        const double apart_ns = measure(b, sets, n, false);
        uint8_t *apart = results(b, s, &v, &n_apart);
        const double one_ns = measure(b, sets, n, true);
        uint8_t *one = results(b, s, &v, &n_one);
        const bool same = n_one == n_apart && memcmp(apart, one, n_one) == 0;
        printf("%s%s, %d rows: apart_ns=%.0f one_ns=%.0f\n", same ? "" : "WRONG, other bits: ", s->name, (int)rows,
               apart_ns, one_ns);
        b->n_wrong += !same;
        free(apart);
        free(one);
    } else
        printf("%s, %d rows: apart\n", s->name, (int)rows);
    berth_gpu_close(memory);
}

int main(int argc, char **argv)
{
    bench b = {.part = 1};
    berth_error err;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--device") == 0 && i + 1 < argc) b.ordinal = atoi(argv[++i]);
        if (strcmp(argv[i], "--small") == 0) b.part = 16;
    }
    must(berth_cuda_open(NULL, &b.cuda, &err), &err);
    must(berth_gpu_open(b.cuda, b.ordinal, 0, &b.gpu, &err), &err);
    b.dtype = berth_gpu_about(b.gpu)->capability >= 80 ? BERTH_BF16 : BERTH_F16;
    must(berth_gpu_code_load(b.gpu, NULL, &b.code, &err), &err);
    must(berth_gpu_stream_create(b.gpu, &b.stream, &err), &err);
    must(berth_gpu_code_prepare(b.code, b.stream, &err), &err);
    must(berth_gpu_event_create_as(b.gpu, BERTH_GPU_EVENT_TIMED, &b.begin, &err), &err);
    must(berth_gpu_event_create_as(b.gpu, BERTH_GPU_EVENT_TIMED, &b.end, &err), &err);
    uint16_t *random = b.piece = malloc(PIECE);
    if (!random) return 1;
    for (uint32_t i = 0, seed = 1; i < PIECE / 2; i++) {
        seed = seed * 1664525u + 1013904223u;
        const float f = (float)(int32_t)seed / 2147483648.0f / 8;
        berth_narrow_f32(&random[i], &f, b.dtype, 1);
    }
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int64_t rows = 1; rows <= 8; rows = rows == 1 ? 4 : rows * 2) run(&b, &shapes[i], rows);
    free(b.piece);
    berth_gpu_event_destroy(b.begin);
    berth_gpu_event_destroy(b.end);
    berth_gpu_code_forget(b.code, b.stream);
    berth_gpu_stream_destroy(b.stream);
    berth_gpu_code_unload(b.code);
    berth_gpu_close(b.gpu);
    berth_cuda_close(b.cuda);
    return b.n_wrong ? 1 : 0;
}
