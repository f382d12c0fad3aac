/* gpu.c - see gpu.h. */
#include "probe/gpu.h"

#include "base/clock.h"

enum { ROUNDS = 5, COPIES = 8, SMALL = 256, MANY = 1000 };

static const uint64_t most_bytes = (uint64_t)1 << 30, most_pinned = (uint64_t)256 << 20;

typedef struct bed {
    berth_gpu *gpu;
    berth_gpu_stream *stream, *other;
    berth_gpu_ptr a, b;
    void *host, *back; /* pinned */
    size_t bytes, pinned;
} bed;

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* A quarter of what is free, in whole pages of 4 KiB. */
static size_t share_of(uint64_t free_bytes)
{
    return (size_t)(least(free_bytes / 4, most_bytes) / 4096 * 4096);
}

static void end(bed *b)
{
    berth_gpu_stream_destroy(b->stream);
    berth_gpu_stream_destroy(b->other);
    if (b->host) berth_gpu_unpin(b->gpu, b->host);
    if (b->back) berth_gpu_unpin(b->gpu, b->back);
    berth_gpu_close(b->gpu);
    *b = (bed){0};
}

/* What is free is known only behind an open context. *out keeps that open, so that it is made once. */
static berth_status ask_free(berth_cuda *cuda, int32_t ordinal, berth_gpu **out, uint64_t *out_free, berth_error *err)
{
    uint64_t total;
    berth_status st = berth_gpu_open(cuda, ordinal, 0, out, err);
    return st == BERTH_OK ? berth_gpu_memory(*out, out_free, &total, err) : st;
}

static berth_status begin(berth_cuda *cuda, int32_t ordinal, size_t bytes, bed *b, berth_error *err)
{
    *b = (bed){.bytes = bytes, .pinned = (size_t)least(bytes, most_pinned)};
    if (bytes == 0)
        return BERTH_FAIL(err, BERTH_DOES_NOT_FIT, "cuda:%d has no memory left to measure with", (int)ordinal);
    berth_status st = berth_gpu_open(cuda, ordinal, 2 * bytes, &b->gpu, err);
    if (st == BERTH_OK) st = berth_gpu_take(b->gpu, bytes, &b->a, err);
    if (st == BERTH_OK) st = berth_gpu_take(b->gpu, bytes, &b->b, err);
    if (st == BERTH_OK) st = berth_gpu_pin(b->gpu, b->pinned, &b->host, err);
    if (st == BERTH_OK) st = berth_gpu_pin(b->gpu, b->pinned, &b->back, err);
    if (st == BERTH_OK) st = berth_gpu_stream_create(b->gpu, &b->stream, err);
    if (st == BERTH_OK) st = berth_gpu_stream_create(b->gpu, &b->other, err);
    if (st == BERTH_OK) st = berth_gpu_fill(b->stream, b->a, 1, bytes, err);
    if (st == BERTH_OK) st = berth_gpu_stream_wait(b->stream, err);
    if (st != BERTH_OK) end(b);
    return st;
}

/* ---- one GPU ------------------------------------------------------------------------------------------------------ */

typedef berth_status work(const bed *b, berth_error *err); /* queues one piece */

static berth_status upload(const bed *b, berth_error *err)
{
    return berth_gpu_upload(b->stream, b->b, b->host, b->pinned, err);
}

static berth_status download(const bed *b, berth_error *err)
{
    return berth_gpu_download(b->stream, b->back, b->a, b->pinned, err);
}

static berth_status both_ways(const bed *b, berth_error *err)
{
    berth_status st = berth_gpu_upload(b->stream, b->b, b->host, b->pinned, err);
    return st == BERTH_OK ? berth_gpu_download(b->other, b->back, b->a, b->pinned, err) : st;
}

static berth_status copy(const bed *b, berth_error *err)
{
    return berth_gpu_copy(b->stream, b->b, b->a, b->bytes, err);
}

static berth_status fill(const bed *b, berth_error *err)
{
    return berth_gpu_fill(b->stream, b->b, 3, b->bytes, err);
}

/* Bytes a second, best of the rounds; `bytes` are those of one piece. The first round, which warms up, does not count. */
static berth_status rate(const bed *b, work *queue, double bytes, double *out, berth_error *err)
{
    berth_status st = BERTH_OK;
    *out = 0;
    for (int round = 0; st == BERTH_OK && round <= ROUNDS; round++) {
        const int64_t start = berth_now_ns();
        for (int i = 0; st == BERTH_OK && i < COPIES; i++) st = queue(b, err);
        if (st == BERTH_OK) st = berth_gpu_stream_wait(b->stream, err);
        if (st == BERTH_OK) st = berth_gpu_stream_wait(b->other, err);
        const double ns = (double)(berth_now_ns() - start), got = COPIES * bytes * 1e9 / (ns > 1 ? ns : 1);
        if (round > 0 && got > *out) *out = got;
    }
    return st;
}

static berth_status queue_cost(const bed *b, double *out, berth_error *err)
{
    berth_status st = BERTH_OK;
    *out = 0;
    for (int round = 0; st == BERTH_OK && round <= ROUNDS; round++) {
        const int64_t start = berth_now_ns();
        for (int i = 0; st == BERTH_OK && i < MANY; i++) st = berth_gpu_fill(b->stream, b->b, 5, SMALL, err);
        const double ns = (double)(berth_now_ns() - start) / MANY;
        if (st == BERTH_OK) st = berth_gpu_stream_wait(b->stream, err);
        if (round == 1 || (round > 0 && ns < *out)) *out = ns;
    }
    return st;
}

static berth_status turn_cost(const bed *b, double *out, berth_error *err)
{
    berth_status st = BERTH_OK;
    *out = 0;
    for (int round = 0; st == BERTH_OK && round <= ROUNDS * COPIES; round++) {
        const int64_t start = berth_now_ns();
        st = berth_gpu_download(b->stream, b->back, b->a, SMALL, err);
        if (st == BERTH_OK) st = berth_gpu_stream_wait(b->stream, err);
        const double ns = (double)(berth_now_ns() - start);
        if (round == 1 || (round > 0 && ns < *out)) *out = ns;
    }
    return st;
}

static berth_status measure(const bed *b, berth_gpu_rates *out, berth_error *err)
{
    const double pinned = (double)b->pinned, bytes = (double)b->bytes;
    out->bytes = b->bytes;
    berth_status st = rate(b, upload, pinned, &out->upload, err);
    if (st == BERTH_OK) st = rate(b, download, pinned, &out->download, err);
    if (st == BERTH_OK) st = rate(b, both_ways, 2 * pinned, &out->both_ways, err);
    if (st == BERTH_OK) st = rate(b, copy, 2 * bytes, &out->copy, err);
    if (st == BERTH_OK) st = rate(b, fill, bytes, &out->fill, err);
    if (st == BERTH_OK) st = queue_cost(b, &out->queue_ns, err);
    if (st == BERTH_OK) st = turn_cost(b, &out->turn_ns, err);
    return st;
}

berth_status berth_gpu_probe(berth_cuda *cuda, int32_t ordinal, berth_gpu_rates *out, berth_error *err)
{
    bed b = {0};
    berth_gpu *keeper = NULL;
    *out = (berth_gpu_rates){0};
    berth_status st = ask_free(cuda, ordinal, &keeper, &out->free_bytes, err);
    if (st == BERTH_OK) st = begin(cuda, ordinal, share_of(out->free_bytes), &b, err);
    if (st == BERTH_OK) st = measure(&b, out, err);
    end(&b);
    berth_gpu_close(keeper);
    return st;
}

/* ---- two GPUs ----------------------------------------------------------------------------------------------------- */

/* Best of the rounds of `n` copies of `bytes`; as ns a copy. */
static berth_status pair_cost(const bed *from, const bed *to, size_t bytes, int n, double *out, berth_error *err)
{
    berth_status st = BERTH_OK;
    *out = 0;
    for (int round = 0; st == BERTH_OK && round <= ROUNDS; round++) {
        const int64_t start = berth_now_ns();
        for (int i = 0; st == BERTH_OK && i < n; i++)
            st = berth_gpu_copy_peer(to->stream, to->gpu, to->b, from->gpu, from->a, bytes, err);
        if (st == BERTH_OK) st = berth_gpu_stream_wait(to->stream, err);
        const double ns = (double)(berth_now_ns() - start) / n;
        if (round == 1 || (round > 0 && ns < *out)) *out = ns;
    }
    return st;
}

static berth_status measure_pair(const bed *from, const bed *to, berth_pair_rates *out, berth_error *err)
{
    double ns = 0;
    berth_status st = out->is_direct ? berth_gpu_reach(from->gpu, to->gpu, err) : BERTH_OK;
    if (st == BERTH_OK) st = berth_gpu_prove(from->gpu, from->a, to->gpu, to->b, to->bytes, err);
    if (st == BERTH_OK) st = pair_cost(from, to, to->bytes, COPIES, &ns, err);
    if (st == BERTH_OK) st = pair_cost(from, to, SMALL, 1, &out->turn_ns, err);
    if (st == BERTH_OK && ns > 0) out->copy = (double)to->bytes * 1e9 / ns;
    return st;
}

berth_status berth_pair_probe(berth_cuda *cuda, int32_t from, int32_t to, berth_pair_rates *out, berth_error *err)
{
    bed a = {0}, b = {0};
    berth_gpu *keepers[2] = {NULL, NULL};
    uint64_t free_a = 0, free_b = 0;
    *out = (berth_pair_rates){.is_direct = berth_cuda_has_peer(cuda, from, to)};
    berth_status st = ask_free(cuda, from, &keepers[0], &free_a, err);
    if (st == BERTH_OK) st = ask_free(cuda, to, &keepers[1], &free_b, err);
    const size_t bytes = (size_t)least(share_of(least(free_a, free_b)), most_pinned);
    if (st == BERTH_OK) st = begin(cuda, from, bytes, &a, err);
    if (st == BERTH_OK) st = begin(cuda, to, bytes, &b, err);
    if (st == BERTH_OK) st = measure_pair(&a, &b, out, err);
    end(&a);
    end(&b);
    berth_gpu_close(keepers[0]);
    berth_gpu_close(keepers[1]);
    return st;
}
