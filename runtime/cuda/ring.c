/* ring.c - pinned slots used one after the other: while one is copied, the next is filled. A slot's event says when the
 * copy out of it is over; forgetting to wait for it is the mistake that a ring exists to prevent. */
#include <stdlib.h>

#include "base/checked.h"
#include "cuda/device_internal.h"

/* Some ten microseconds: longer waits are slept through, so that the readers of files have the processor. */
enum { ASKS = 10 };

typedef struct ring_slot {
    berth_gpu_event *sent; /* owned; the last copy out of the slot */
} ring_slot;

struct berth_gpu_ring {
    berth_gpu *gpu;        /* borrowed */
    uint8_t *memory;       /* owned, pinned; [n_slots * slot_bytes] */
    ring_slot *slots;      /* owned; [n_slots] */
    int32_t n_slots, slot; /* slot: the one to fill or to send */
    size_t slot_bytes;
};

berth_status berth_gpu_ring_create(berth_gpu *gpu, int32_t n_slots, size_t slot_bytes, berth_gpu_ring **out,
                                   berth_error *err)
{
    *out = NULL;
    size_t bytes;
    if (n_slots < 1 || slot_bytes == 0 || !berth_mul_size((size_t)n_slots, slot_bytes, &bytes))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "a ring of %d slots of %zu bytes was asked for; at least one of each", (int)n_slots,
                          slot_bytes);
    berth_gpu_ring *ring = calloc(1, sizeof *ring);
    ring_slot *slots = calloc((size_t)n_slots, sizeof *slots);
    if (!ring || !slots) {
        free(ring);
        free(slots);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a ring of %d slots", (int)n_slots);
    }
    *ring = (berth_gpu_ring){.gpu = gpu, .slots = slots, .n_slots = n_slots, .slot_bytes = slot_bytes};
    void *memory = NULL;
    berth_status st = berth_gpu_pin(gpu, bytes, &memory, err);
    ring->memory = memory;
    for (int32_t i = 0; i < n_slots && st == BERTH_OK; i++)
        st = berth_gpu_event_create_as(gpu, BERTH_GPU_EVENT_SLEEPS, &slots[i].sent, err);
    if (st != BERTH_OK) {
        berth_gpu_ring_destroy(ring);
        return st;
    }
    *out = ring;
    return BERTH_OK;
}

void berth_gpu_ring_destroy(berth_gpu_ring *ring)
{
    if (!ring) return;
    for (int32_t i = 0; i < ring->n_slots; i++) {
        berth_gpu_event *e = ring->slots[i].sent;
        /* Twice, as all that ends things; a GPU that fails both is lost, and its copies are over. */
        if (e && e->recorded && berth_gpu_event_wait(e, NULL) != BERTH_OK) (void)berth_gpu_event_wait(e, NULL);
        berth_gpu_event_destroy(e);
    }
    berth_gpu_unpin(ring->gpu, ring->memory);
    free(ring->slots);
    free(ring);
}

berth_status berth_gpu_ring_next(berth_gpu_ring *ring, void **out, berth_error *err)
{
    *out = NULL;
    berth_gpu_event *e = ring->slots[ring->slot].sent;
    const berth_status st = e->recorded ? berth_gpu_event_wait_asking(e, ASKS, err) : BERTH_OK;
    if (st == BERTH_OK) *out = ring->memory + (size_t)ring->slot * ring->slot_bytes;
    return st;
}

berth_status berth_gpu_ring_send(berth_gpu_ring *ring, berth_gpu_stream *s, berth_gpu_ptr dst, size_t bytes,
                                 berth_error *err)
{
    if (bytes > ring->slot_bytes)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%zu bytes were to be sent out of a slot of %zu", bytes,
                          ring->slot_bytes);
    const uint8_t *src = ring->memory + (size_t)ring->slot * ring->slot_bytes;
    berth_status st = berth_gpu_upload(s, dst, src, bytes, err);
    if (st == BERTH_OK) st = berth_gpu_event_record(ring->slots[ring->slot].sent, s, err);
    if (st != BERTH_OK) { /* the copy may be queued all the same, and nothing tells its end: wait for all of it */
        (void)berth_gpu_stream_wait(s, NULL);
        return st;
    }
    ring->slot = (ring->slot + 1) % ring->n_slots;
    return BERTH_OK;
}
