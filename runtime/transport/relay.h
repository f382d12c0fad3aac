/* relay.h - from one GPU to another by way of pinned host memory, for pairs whose copy engines do not reach each other.
 *
 * A relay belongs to the lane of the GPU that receives and has a side stream on every GPU it receives from. A copy is cut
 * into pieces; while one goes up, the next comes down. Nothing waits on the host.
 * Threads: one at a time. */
#ifndef BERTH_TRANSPORT_RELAY_H
#define BERTH_TRANSPORT_RELAY_H

#include "cuda/device.h"

typedef struct berth_relay berth_relay;

/* `to` and `from` [n] are borrowed until destroy. Errors: those of device.h. */
berth_status berth_relay_create(berth_gpu *to, berth_gpu *const *from, int32_t n, berth_relay **out, berth_error *err);
void berth_relay_destroy(berth_relay *r); /* waits for copies under way; NULL is fine */

/* Queues the copy behind what `s`, a stream of `to`, has queued or awaits so far: `src`, of `from`, is read, and `dst`
 * written, after that; what `s` queues from now on comes after the copy. BERTH_INTERNAL: `from` is none of those. After
 * an error nothing of the copy is under way, unless a GPU is lost. */
berth_status berth_relay_copy(berth_relay *r, berth_gpu_stream *s, berth_gpu_ptr dst, const berth_gpu *from,
                              berth_gpu_ptr src, size_t bytes, berth_error *err);

#endif
