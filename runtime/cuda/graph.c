/* graph.c - work captured from streams, and queued again as a whole: one driver call for the hundreds of launches of a
 * decode step. */
#include <stdlib.h>

#include "cuda/device_internal.h"

struct berth_gpu_graph {
    berth_gpu *gpu; /* borrowed */
    berth_cu_graph_exec exec;
};

berth_status berth_gpu_capture_begin(berth_gpu_stream *s, berth_error *err)
{
    berth_status st = berth_gpu_enter(s->gpu, err);
    if (st != BERTH_OK) return st;
    const berth_cu_result code = s->gpu->cuda->cu.cuStreamBeginCapture(s->handle, BERTH_CU_CAPTURE_THREAD_LOCAL);
    st = berth_gpu_leave(s->gpu, code, "cuStreamBeginCapture", err);
    berth_gpu_graph *g = NULL;
    if (st != BERTH_OK && code == BERTH_CU_SUCCESS && berth_gpu_capture_end(s, &g, NULL) == BERTH_OK)
        berth_gpu_graph_destroy(g);
    return st;
}

/* The rule that was broken, for what ends in a capture that gives no graph. */
static const char *rule_of(berth_cu_result code)
{
    switch (code) {
    case BERTH_CU_CAPTURE_UNSUPPORTED:
    case BERTH_CU_CAPTURE_INVALIDATED:
        return "; what waits, allocates, loads or copies unpinned memory cannot be captured, and one failure ends it";
    case BERTH_CU_CAPTURE_MERGE:
    case BERTH_CU_CAPTURE_ISOLATION:
    case BERTH_CU_CAPTURED_EVENT: return "; events order work within one capture only: record them anew outside";
    case BERTH_CU_CAPTURE_UNJOINED: return "; let the first stream await the last work of each other one";
    case BERTH_CU_CAPTURE_UNMATCHED:
    case BERTH_CU_CAPTURE_WRONG_THREAD: return "; end it on the stream and the thread it was begun on";
    default: return "";
    }
}

berth_status berth_gpu_capture_end(berth_gpu_stream *s, berth_gpu_graph **out, berth_error *err)
{
    berth_gpu *gpu = s->gpu;
    const berth_cu_driver *cu = &gpu->cuda->cu;
    *out = NULL;
    berth_gpu_graph *g = calloc(1, sizeof *g);
    if (!berth_gpu_enter_to_end(gpu)) {
        free(g);
        return berth_gpu_stream_wait(s, err); /* says why not: this must not be BERTH_OK */
    }
    berth_cu_graph captured = NULL;
    const char *call = "cuStreamEndCapture";
    berth_cu_result code = cu->cuStreamEndCapture(s->handle, &captured);
    const berth_cu_result ended = code;
    if (code == BERTH_CU_SUCCESS && g) {
        call = "cuGraphInstantiate";
        code = cu->cuGraphInstantiate(&g->exec, captured, 0);
        if (code != BERTH_CU_SUCCESS) g->exec = NULL;
    }
    const berth_cu_result destroyed = captured ? cu->cuGraphDestroy(captured) : BERTH_CU_SUCCESS;
    if (code == BERTH_CU_SUCCESS) {
        call = "cuGraphDestroy";
        code = destroyed;
    }
    berth_status st = berth_gpu_leave(gpu, code, call, err);
    if (ended != BERTH_CU_SUCCESS) berth_error_append(err, "%s", rule_of(ended));
    if (st == BERTH_OK && !g)
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a graph of cuda:%d", (int)gpu->slot->info.ordinal);
    if (g) g->gpu = gpu;
    if (st == BERTH_OK)
        *out = g;
    else
        berth_gpu_graph_destroy(g);
    return st;
}

berth_status berth_gpu_graph_launch(berth_gpu_stream *s, berth_gpu_graph *g, berth_error *err)
{
    const berth_status st = berth_gpu_enter(s->gpu, err);
    if (st != BERTH_OK) return st;
    return berth_gpu_leave(s->gpu, s->gpu->cuda->cu.cuGraphLaunch(g->exec, s->handle), "cuGraphLaunch", err);
}

void berth_gpu_graph_destroy(berth_gpu_graph *g)
{
    if (!g) return;
    if (g->exec && berth_gpu_enter_to_end(g->gpu))
        berth_gpu_leave_from_end(g->gpu, g->gpu->cuda->cu.cuGraphExecDestroy(g->exec));
    free(g);
}
