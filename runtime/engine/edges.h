/* edges.h - the way that bytes take on every edge between two devices of an engine.
 *
 * An edge is an ordered pair (device or host) that some copy of the plan's programs uses. Without a wish: one copy where
 * there is one memory, a GPU's own copy engine to and from the host, straight between two GPUs that reach each other and
 * have proved it (a value sent comes back the same), through pinned host memory between others. */
#ifndef BERTH_ENGINE_EDGES_H
#define BERTH_ENGINE_EDGES_H

#include "base/buffer.h"
#include "exec/executor.h"
#include "plan/plan.h"

/* `want`: a transport's name for every edge between two devices, NULL = the best for each. Units are open and nothing is
 * loaded yet: proofs write to their arenas. Sets exec->edges, exec->edge_notes, units' relays and staging; adds a line to
 * `notes` for each GPU pair that says it reaches but does not. Errors: BERTH_INVALID_ARGUMENT (no such transport), BERTH_UNSUPPORTED (an
 * edge that `want` cannot do, which, why and what can), those of device.h. */
berth_status berth_edges_choose(berth_exec *exec, const berth_core_plan *plan, const char *want, berth_buffer *notes,
                                berth_error *err);

/* NULL: no copy uses the edge. Index n_units is the host. */
const berth_transport *berth_edge_transport(const berth_exec *exec, int32_t from, int32_t to);

/* Why the edge has no better transport, where a better one was tried: "cuda:1 cannot reach the memory of cuda:0; staged
 * is used". NULL: nothing to say. */
const char *berth_edge_note(const berth_exec *exec, int32_t from, int32_t to);

void berth_edges_free(berth_exec *exec); /* what berth_edges_choose allocated */

#endif
