/* emu_graph.c - graphs: executables made from what was captured, and their launches, whose nodes go in any order that
 * their dependencies allow. What a node names must still be there at each launch; hardware would let a kernel at memory
 * that became somebody else's. */
#include <stdlib.h>
#include <string.h>

#include "emu_entry.h"

static void *allocated(void *p)
{
    if (!p) abort();
    return p;
}

EMU_API int cuGraphDestroy(berth_cu_graph handle)
{
    const int told = emu_enter();
    emu_object *g = emu_find(handle, EMU_GRAPH_OBJECT);
    if (g) emu_end(g);
    return emu_leave(told ? told : g ? 0 : BERTH_CU_INVALID_HANDLE);
}

EMU_API int cuGraphInstantiateWithFlags(berth_cu_graph_exec *exec, berth_cu_graph handle, unsigned long long flags)
{
    int code = emu_enter();
    emu_object *context = NULL;
    if (code == 0) code = emu_current(&context);
    if (code == 0) code = emu_unsafe("cuGraphInstantiateWithFlags");
    const emu_object *g = code == 0 ? emu_find(handle, EMU_GRAPH_OBJECT) : NULL;
    if (code == 0 && !g) code = BERTH_CU_INVALID_HANDLE;
    if (code == 0 && flags)
        code = emu_misuse(BERTH_CU_INVALID_VALUE, "flags %llu of a graph are not known to the emulator", flags);
    if (code == 0) {
        emu_object *e = emu_new(EMU_EXEC, g->gpu, g->context);
        e->nodes = g->nodes;
        g->nodes->refs++;
        *exec = (berth_cu_graph_exec)e->handle; // NOLINT(performance-no-int-to-ptr)
    }
    return emu_leave(code);
}

static bool is_of(const emu_op *op, const void *nodes)
{
    return op->kind == EMU_GRAPH && op->run->nodes == nodes;
}

EMU_API int cuGraphExecDestroy(berth_cu_graph_exec handle)
{
    const int told = emu_enter();
    emu_object *e = emu_find(handle, EMU_EXEC);
    int code = e ? 0 : BERTH_CU_INVALID_HANDLE;
    if (e) {
        if (e->mark && !e->mark->done && emu_any_queued(is_of, e->nodes)) /* hardware frees it later */
            code = emu_misuse(BERTH_CU_ILLEGAL_STATE, "a graph is destroyed while it is queued");
        emu_end(e);
    }
    return emu_leave(told ? told : code);
}

/* ---- launches -------------------------------------------------------------------------------------------------------- */

static bool is_loaded(const void *opened)
{
    for (size_t i = 0; i < emu.n_objects; i++) {
        if (emu.objects[i]->alive && emu.objects[i]->kind == EMU_MODULE && emu.objects[i]->opened == opened)
            return true;
    }
    return false;
}

static bool is_there(int gpu, const uint8_t *p, size_t bytes)
{
    return gpu < 0 ? emu_is_pinned(p, bytes) : emu_gpu_of((berth_cu_ptr)(uintptr_t)p, bytes) == gpu;
}

static int check_node(const emu_op *op)
{
    if (!op->context->alive)
        return emu_misuse(BERTH_CU_CONTEXT_IS_DESTROYED, "a graph is launched after a context it uses ended");
    if (op->context->error) return op->context->error;
    bool is_whole = true;
    if (op->kind == EMU_COPY || op->kind == EMU_SET) is_whole = is_there(op->dst_gpu, op->dst, op->bytes);
    if (op->kind == EMU_COPY) is_whole = is_whole && is_there(op->src_gpu, op->src, op->bytes);
    for (int i = 0; op->kind == EMU_WORK && i < op->work.n_spans; i++)
        is_whole = is_whole && emu_gpu_of(op->work.spans[i].at, op->work.spans[i].bytes) == op->work.spans[i].gpu;
    if (op->kind == EMU_LAUNCH) {
        if (!is_loaded(op->opened)) return emu_misuse(BERTH_CU_INVALID_HANDLE, "a graph's kernel was unloaded");
        is_whole = !emu_names_freed(op->owned, op->owned_bytes);
    }
    return is_whole ? 0 : emu_misuse(BERTH_CU_INVALID_VALUE, "a graph is launched whose memory was freed");
}

void emu_run_destroy(emu_run *run)
{
    for (size_t i = 0; i < run->nodes->n; i++) {
        const emu_op *op = &run->nodes->nodes[i].op;
        if (op->kind == EMU_WORK && !run->done[i] && op->work.end) op->work.end(run->users[i]);
    }
    emu_nodes_release(run->nodes);
    free(run->done);
    free(run->users);
    free(run);
}

static emu_run *new_run(const emu_object *exec)
{
    emu_nodes *all = exec->nodes;
    emu_run *run = allocated(calloc(1, sizeof *run));
    *run = (emu_run){.nodes = all,
                     .done = allocated(calloc(all->n, sizeof(bool))),
                     .users = allocated(calloc(all->n, sizeof(void *))),
                     .n_left = all->n};
    all->refs++;
    for (size_t i = 0; i < all->n; i++) {
        const emu_work *work = &all->nodes[i].op.work;
        if (all->nodes[i].op.kind == EMU_WORK) run->users[i] = work->again(work->user);
    }
    return run;
}

static void queue_launch(emu_object *s, emu_object *exec)
{
    if (exec->mark && !exec->mark->done) { /* one launch of an executable after the other */
        exec->mark->refs++;
        emu_enqueue(s, &(emu_op){.kind = EMU_WAIT, .mark = exec->mark, .dst_gpu = -1, .src_gpu = -1});
    }
    emu_enqueue(s, &(emu_op){.kind = EMU_GRAPH, .run = new_run(exec), .dst_gpu = -1, .src_gpu = -1});
    emu_mark *mark = allocated(calloc(1, sizeof *mark));
    mark->refs = 2;
    if (exec->mark) emu_mark_release(exec->mark);
    exec->mark = mark;
    emu_enqueue(s, &(emu_op){.kind = EMU_RECORD, .mark = mark, .dst_gpu = -1, .src_gpu = -1});
}

EMU_API int cuGraphLaunch(berth_cu_graph_exec handle, berth_cu_stream stream)
{
    int code = emu_enter();
    emu_object *s = NULL;
    if (code == 0) code = emu_stream(stream, &s);
    if (code == 0) code = emu_refuse_captured(s, "cuGraphLaunch");
    emu_object *e = code == 0 ? emu_find(handle, EMU_EXEC) : NULL;
    if (code == 0 && !e) code = BERTH_CU_INVALID_HANDLE;
    if (code == 0 && e->context != s->context)
        code = emu_misuse(BERTH_CU_INVALID_CONTEXT, "a graph of GPU %d is launched on GPU %d", e->gpu, s->gpu);
    for (size_t i = 0; code == 0 && i < e->nodes->n; i++) code = check_node(&e->nodes->nodes[i].op);
    if (code == 0 && e->nodes->n > 0) queue_launch(s, e);
    return emu_leave(code);
}
