/* gpu.c - see gpu.h. */
#include "probe/gpu.h"

#include <stdlib.h>

#include "base/clock.h"
#include "probe/gpu_internal.h"

enum { ROUNDS = 5, COPIES = 8, SMALL = 256, MANY = 1000 };

static const uint64_t most_bytes = (uint64_t)1 << 30, most_pinned = (uint64_t)64 << 20;

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void berth_gpu_probe_close(berth_gpu_probe *p)
{
    if (!p) return;
    berth_gpu_stream_destroy(p->stream);
    berth_gpu_stream_destroy(p->other);
    if (p->host) berth_gpu_unpin(p->gpu, p->host);
    if (p->back) berth_gpu_unpin(p->gpu, p->back);
    berth_gpu_close(p->gpu);
    berth_gpu_close(p->keeper);
    free(p);
}

/* 16-bit floats of both signs, 2^-7 to 1 in bf16 and 2^-1 to 4 in fp16: products draw less power, and so are faster, where
 * many bits are alike. */
static void fill_random(void *out, size_t bytes)
{
    uint16_t *value = out;
    uint64_t state = 88172645463325252u;
    for (size_t i = 0; i < bytes / sizeof *value; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value[i] = (uint16_t)(0x3C00 | (state >> 20 & 0x83FF));
    }
}

static berth_status upload_all(const bed *p, berth_error *err)
{
    berth_status st = BERTH_OK;
    for (size_t at = 0; st == BERTH_OK && at < p->bytes; at += p->pinned)
        st = berth_gpu_upload(p->stream, p->a + at, p->host, (size_t)least(p->pinned, p->bytes - at), err);
    return st;
}

/* Two pieces of a quarter of what is free each, in whole pages of 4 KiB. */
static berth_status take_memory(bed *p, berth_error *err)
{
    uint64_t free_bytes = 0, total = 0;
    berth_status st = berth_gpu_memory(p->keeper, &free_bytes, &total, err);
    if (st != BERTH_OK) return st;
    p->bytes = (size_t)(least(free_bytes / 4, most_bytes) / 4096 * 4096);
    p->pinned = (size_t)least(p->bytes, most_pinned);
    if (p->bytes == 0)
        return BERTH_FAIL(err, BERTH_DOES_NOT_FIT, "cuda:%d has no memory left to measure with", (int)p->ordinal);
    st = berth_gpu_open(p->cuda, p->ordinal, 2 * p->bytes, &p->gpu, err);
    if (st == BERTH_OK) st = berth_gpu_take(p->gpu, p->bytes, &p->a, err);
    if (st == BERTH_OK) st = berth_gpu_take(p->gpu, p->bytes, &p->b, err);
    if (st == BERTH_OK) st = berth_gpu_pin(p->gpu, p->pinned, &p->host, err);
    if (st == BERTH_OK) fill_random(p->host, p->pinned);
    return st == BERTH_OK ? berth_gpu_pin(p->gpu, p->pinned, &p->back, err) : st;
}

berth_status berth_gpu_probe_open(berth_cuda *cuda, int32_t ordinal, berth_gpu_probe **out, berth_error *err)
{
    *out = NULL;
    bed *p = calloc(1, sizeof *p);
    if (!p) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a probe of cuda:%d", (int)ordinal);
    p->cuda = cuda;
    p->ordinal = ordinal;
    berth_status st = berth_gpu_open(cuda, ordinal, 0, &p->keeper, err);
    if (st == BERTH_OK) st = take_memory(p, err);
    if (st == BERTH_OK) st = berth_gpu_stream_create(p->gpu, &p->stream, err);
    if (st == BERTH_OK) st = berth_gpu_stream_create(p->gpu, &p->other, err);
    if (st == BERTH_OK) st = upload_all(p, err);
    if (st == BERTH_OK) st = berth_gpu_stream_wait(p->stream, err);
    if (st == BERTH_OK)
        *out = p;
    else
        berth_gpu_probe_close(p);
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

berth_status berth_gpu_probe_rates(const berth_gpu_probe *p, berth_gpu_rates *out, berth_error *err)
{
    const double pinned = (double)p->pinned, bytes = (double)p->bytes;
    *out = (berth_gpu_rates){0};
    berth_status st = rate(p, upload, pinned, &out->upload, err);
    if (st == BERTH_OK) st = rate(p, download, pinned, &out->download, err);
    if (st == BERTH_OK) st = rate(p, both_ways, 2 * pinned, &out->both_ways, err);
    if (st == BERTH_OK) st = rate(p, copy, 2 * bytes, &out->copy, err);
    if (st == BERTH_OK) st = rate(p, fill, bytes, &out->fill, err);
    if (st == BERTH_OK) st = queue_cost(p, &out->queue_ns, err);
    if (st == BERTH_OK) st = turn_cost(p, &out->turn_ns, err);
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

static size_t common(const bed *from, const bed *to)
{
    return (size_t)least(least(from->bytes, to->bytes), most_pinned);
}

berth_status berth_gpu_probe_prove(const berth_gpu_probe *from, const berth_gpu_probe *to, berth_error *err)
{
    const bool is_direct = berth_cuda_has_peer(from->cuda, from->ordinal, to->ordinal);
    berth_status st = is_direct ? berth_gpu_reach(from->gpu, to->gpu, err) : BERTH_OK;
    return st == BERTH_OK ? berth_gpu_prove(from->gpu, from->a, to->gpu, to->b, common(from, to), err) : st;
}

berth_status berth_gpu_probe_way(const berth_gpu_probe *from, const berth_gpu_probe *to, berth_way_rates *out,
                                 berth_error *err)
{
    const size_t bytes = common(from, to);
    double ns = 0;
    *out = (berth_way_rates){.is_direct = berth_cuda_has_peer(from->cuda, from->ordinal, to->ordinal)};
    berth_status st = berth_gpu_probe_prove(from, to, err);
    if (st == BERTH_OK) st = pair_cost(from, to, bytes, COPIES, &ns, err);
    if (st == BERTH_OK) st = pair_cost(from, to, SMALL, 1, &out->turn_ns, err);
    if (st == BERTH_OK && ns > 0) out->copy = (double)bytes * 1e9 / ns;
    return st;
}
