/* prove.c - does a copy between two GPUs bring the bytes? Bandwidth says nothing: zeros are copied fast. */
#include <stdlib.h>
#include <string.h>

#include "cuda/device_internal.h"

typedef struct proof {
    const berth_gpu_crossing *by;
    berth_gpu *from, *to;
    berth_gpu_ptr src, dst;
    berth_gpu_stream *up, *down;
    uint8_t *sent, *arrived; /* owned; [bytes] */
} proof;

enum { SENTINEL = 0xA5 };

/* No byte is zero or the sentinel, neighbours differ, and so do pages: whatever takes its place is seen. */
static uint8_t pattern(size_t i)
{
    const uint8_t value = (uint8_t)(1 + (i * 7 + i / 251 + i / 4096 * 13) % 254);
    return value == SENTINEL ? 0x5A : value;
}

static berth_status fail_bytes(const proof *p, size_t bytes, berth_error *err)
{
    size_t n_wrong = 0, n_zero = 0, n_stale = 0, first = 0;
    for (size_t i = bytes; i-- > 0;) {
        if (p->arrived[i] == p->sent[i]) continue;
        n_wrong++;
        n_zero += p->arrived[i] == 0;
        n_stale += p->arrived[i] == SENTINEL;
        first = i;
    }
    if (n_wrong == 0) return BERTH_OK;
    const char *what = n_zero == n_wrong    ? "zeros arrived"
                       : n_stale == n_wrong ? "nothing arrived"
                                            : "other bytes arrived";
    const int32_t from = p->from->slot->info.ordinal, to = p->to->slot->info.ordinal;
    BERTH_FAIL(err, BERTH_MISMATCH,
               "%s from cuda:%d to cuda:%d lie: of %zu bytes %zu are wrong, the first at %zu (0x%02x for 0x%02x): %s; "
               "use the staged transport, and look at IOMMU and ACS settings",
               p->by->what, (int)from, (int)to, bytes, n_wrong, first, p->arrived[first], p->sent[first], what);
    if (err) err->device = to;
    return BERTH_MISMATCH;
}

/* Host waits in between: it is the link that is tried here, not the order of work. */
static berth_status try_size(const proof *p, size_t bytes, berth_error *err)
{
    berth_status st = berth_gpu_upload(p->up, p->src, p->sent, bytes, err);
    if (st == BERTH_OK) st = berth_gpu_stream_wait(p->up, err);
    if (st == BERTH_OK) st = berth_gpu_fill(p->down, p->dst, SENTINEL, bytes, err);
    if (st == BERTH_OK) st = p->by->copy(p->by->user, p->down, bytes, err);
    if (st == BERTH_OK) st = berth_gpu_download(p->down, p->arrived, p->dst, bytes, err);
    return st == BERTH_OK ? fail_bytes(p, bytes, err) : st;
}

berth_status berth_gpu_prove_by(const berth_gpu_crossing *by, berth_gpu *from, berth_gpu_ptr src, berth_gpu *to,
                                berth_gpu_ptr dst, size_t bytes, berth_error *err)
{
    static const size_t sizes[] = {4 << 10, 64 << 10};
    if (bytes == 0)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "a copy of no bytes proves nothing; give at least one");
    proof p = {
        .by = by, .from = from, .to = to, .src = src, .dst = dst, .sent = malloc(bytes), .arrived = calloc(bytes, 1)};
    berth_status st = BERTH_OK;
    if (!p.sent || !p.arrived)
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory to prove a copy of %zu bytes", bytes);
    for (size_t i = 0; st == BERTH_OK && i < bytes; i++) p.sent[i] = pattern(i);
    if (st == BERTH_OK) st = berth_gpu_stream_create(from, &p.up, err);
    if (st == BERTH_OK) st = berth_gpu_stream_create(to, &p.down, err);
    for (size_t i = 0; st == BERTH_OK && i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i] < bytes) st = try_size(&p, sizes[i], err);
    }
    if (st == BERTH_OK) st = try_size(&p, bytes, err);
    berth_gpu_stream_destroy(p.up);
    berth_gpu_stream_destroy(p.down);
    free(p.sent);
    free(p.arrived);
    return st;
}

typedef struct ends {
    berth_gpu *from, *to;
    berth_gpu_ptr src, dst;
} ends;

static berth_status copy_peer(void *user, berth_gpu_stream *s, size_t bytes, berth_error *err)
{
    const ends *e = user;
    return berth_gpu_copy_peer(s, e->to, e->dst, e->from, e->src, bytes, err);
}

berth_status berth_gpu_prove(berth_gpu *from, berth_gpu_ptr src, berth_gpu *to, berth_gpu_ptr dst, size_t bytes,
                             berth_error *err)
{
    ends e = {.from = from, .to = to, .src = src, .dst = dst};
    const berth_gpu_crossing by = {.what = "copies", .copy = copy_peer, .user = &e};
    return berth_gpu_prove_by(&by, from, src, to, dst, bytes, err);
}
