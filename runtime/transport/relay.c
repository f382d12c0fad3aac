/* relay.c - slots of pinned memory, used in turn. Two events keep a slot right: nothing is brought down into it before
 * what was in it has gone up, and nothing goes up before it has come down. */
#include "transport/relay.h"

#include <stdlib.h>

enum { SLOTS = 4, SLOT_BYTES = 1 << 20 }; /* a hidden state of 512 tokens is 1 to 4 MiB: several pieces overlap */

typedef struct source {
    berth_gpu *gpu;               /* borrowed */
    berth_gpu_stream *stream;     /* owned; of that GPU */
    berth_gpu_event *down[SLOTS]; /* owned; what came down into the slot is there */
} source;

struct berth_relay {
    berth_gpu *to;              /* borrowed */
    uint8_t *memory;            /* owned, pinned; [SLOTS * SLOT_BYTES] */
    berth_gpu_event *up[SLOTS]; /* owned; the slot is free again */
    berth_gpu_event *start;     /* owned; where the receiving stream was */
    int32_t slot;               /* the next */
    int32_t n_sources;
    source sources[]; /* [n_sources] */
};

static berth_status make_source(source *s, berth_gpu *gpu, berth_error *err)
{
    s->gpu = gpu;
    berth_status st = berth_gpu_stream_create(gpu, &s->stream, err);
    for (int32_t i = 0; st == BERTH_OK && i < SLOTS; i++) st = berth_gpu_event_create(gpu, &s->down[i], err);
    return st;
}

berth_status berth_relay_create(berth_gpu *to, berth_gpu *const *from, int32_t n, berth_relay **out, berth_error *err)
{
    *out = NULL;
    berth_relay *r = calloc(1, sizeof *r + (size_t)n * sizeof *r->sources);
    if (!r) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a relay between GPUs");
    r->to = to;
    void *memory = NULL;
    berth_status st = berth_gpu_pin(to, (size_t)SLOTS * SLOT_BYTES, &memory, err);
    r->memory = memory;
    if (st == BERTH_OK) st = berth_gpu_event_create(to, &r->start, err);
    for (int32_t i = 0; st == BERTH_OK && i < SLOTS; i++) st = berth_gpu_event_create(to, &r->up[i], err);
    for (; st == BERTH_OK && r->n_sources < n; r->n_sources++)
        st = make_source(&r->sources[r->n_sources], from[r->n_sources], err);
    if (st != BERTH_OK) {
        berth_relay_destroy(r);
        return st;
    }
    *out = r;
    return BERTH_OK;
}

/* The streams that received are over or destroyed by now, or at least wait for nothing that is freed here: the last
 * upload out of each slot is waited for. */
void berth_relay_destroy(berth_relay *r)
{
    if (!r) return;
    for (int32_t i = 0; i < r->n_sources; i++) berth_gpu_stream_destroy(r->sources[i].stream);
    for (int32_t i = 0; i < SLOTS; i++) {
        if (r->up[i] && berth_gpu_event_wait(r->up[i], NULL) != BERTH_OK) (void)berth_gpu_event_wait(r->up[i], NULL);
        berth_gpu_event_destroy(r->up[i]);
    }
    for (int32_t k = 0; k < r->n_sources; k++)
        for (int32_t i = 0; i < SLOTS; i++) berth_gpu_event_destroy(r->sources[k].down[i]);
    berth_gpu_event_destroy(r->start);
    berth_gpu_unpin(r->to, r->memory);
    free(r);
}

static berth_status relay_piece(berth_relay *r, source *from, berth_gpu_stream *s, berth_gpu_ptr dst, berth_gpu_ptr src,
                                size_t bytes, berth_error *err)
{
    int32_t i = r->slot;
    uint8_t *slot = r->memory + (size_t)i * SLOT_BYTES;
    berth_status st = berth_gpu_stream_await(from->stream, r->up[i], err);
    if (st == BERTH_OK) st = berth_gpu_download(from->stream, slot, src, bytes, err);
    if (st == BERTH_OK) st = berth_gpu_event_record(from->down[i], from->stream, err);
    if (st == BERTH_OK) st = berth_gpu_stream_await(s, from->down[i], err);
    if (st == BERTH_OK) st = berth_gpu_upload(s, dst, slot, bytes, err);
    if (st == BERTH_OK) st = berth_gpu_event_record(r->up[i], s, err);
    r->slot = (i + 1) % SLOTS;
    return st;
}

berth_status berth_relay_copy(berth_relay *r, berth_gpu_stream *s, berth_gpu_ptr dst, const berth_gpu *from,
                              berth_gpu_ptr src, size_t bytes, berth_error *err)
{
    source *of = NULL;
    for (int32_t i = 0; i < r->n_sources; i++)
        if (r->sources[i].gpu == from) of = &r->sources[i];
    if (!of)
        return BERTH_FAIL(err, BERTH_INTERNAL, "a relay from cuda:%d was not made",
                          (int)berth_gpu_about(from)->ordinal);
    berth_status st = berth_gpu_event_record(r->start, s, err);
    if (st == BERTH_OK) st = berth_gpu_stream_await(of->stream, r->start, err);
    for (size_t at = 0, n; st == BERTH_OK && at < bytes; at += n) {
        n = bytes - at < SLOT_BYTES ? bytes - at : SLOT_BYTES;
        st = relay_piece(r, of, s, dst + at, src + at, n, err);
    }
    if (st == BERTH_OK) return st;
    /* A piece may be under way whose event was not recorded: nothing else tells when its slot is free. */
    (void)berth_gpu_stream_wait(of->stream, NULL);
    (void)berth_gpu_stream_wait(s, NULL);
    return st;
}
