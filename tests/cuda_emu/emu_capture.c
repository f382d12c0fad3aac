/* emu_capture.c - stream capture: work becomes nodes of a graph instead of being queued (CUDA Driver API, "Stream
 * Management", cuStreamBeginCapture).
 *
 * A capturing stream is at a point: the nodes that the next one comes after. An event recorded there keeps the point; a
 * stream that waits for it joins the capture, or has the points merged. Only the thread-local mode is known, and only
 * its thread may add to a capture: another lane's stream that awaits an event of it would silently become part of it.
 * Each broken rule makes the capture void, as on hardware, and is a misuse. */
#include <stdlib.h>
#include <string.h>

#include "emu_entry.h"

uint64_t emu_thread(void)
{
    static uint64_t last;
    static _Thread_local uint64_t mine;
    if (mine == 0) mine = ++last;
    return mine;
}

static emu_capture *find(uint64_t id)
{
    for (size_t i = 0; i < emu.n_captures; i++) {
        if (emu.captures[i]->id == id) return emu.captures[i];
    }
    return NULL;
}

emu_capture *emu_capture_of(const emu_object *o)
{
    return o->point.capture ? find(o->point.capture) : NULL;
}

/* ---- points ---------------------------------------------------------------------------------------------------------- */

static void *allocated(void *p)
{
    if (!p) abort();
    return p;
}

static void point_clear(emu_point *p)
{
    free(p->nodes);
    *p = (emu_point){0};
}

static void point_add(emu_point *p, size_t node)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->nodes[i] == node) return;
    }
    p->nodes = allocated(realloc(p->nodes, (p->n + 1) * sizeof *p->nodes));
    p->nodes[p->n++] = node;
}

static void point_merge(emu_point *p, const emu_point *other)
{
    p->capture = other->capture;
    for (size_t i = 0; i < other->n; i++) point_add(p, other->nodes[i]);
}

/* ---- rules ----------------------------------------------------------------------------------------------------------- */

bool emu_capture_fail(void)
{
    bool has_any = false;
    for (size_t i = 0; i < emu.n_captures; i++) {
        if (emu.captures[i]->thread != emu_thread()) continue;
        emu.captures[i]->is_void = true;
        has_any = true;
    }
    return has_any;
}

int emu_unsafe(const char *call)
{
    if (!emu_capture_fail()) return 0;
    return emu_misuse(BERTH_CU_CAPTURE_UNSUPPORTED, "%s while this thread captures a stream", call);
}

int emu_refuse_captured(const emu_object *o, const char *call)
{
    emu_capture *c = emu_capture_of(o);
    if (!c) return 0;
    c->is_void = true;
    return emu_misuse(BERTH_CU_CAPTURE_UNSUPPORTED, "%s on a stream that is captured", call);
}

static int check_open(emu_capture *c)
{
    if (c->is_void) return BERTH_CU_CAPTURE_INVALIDATED;
    if (c->thread == emu_thread()) return 0;
    c->is_void = true;
    return emu_misuse(BERTH_CU_CAPTURE_WRONG_THREAD, "a capture is added to by a thread that did not begin it");
}

int emu_capture_add(emu_object *stream, const emu_op *op)
{
    emu_capture *c = emu_capture_of(stream);
    int code = check_open(c);
    if (code == 0 && op->kind == EMU_WORK && !op->work.again) {
        c->is_void = true;
        code = emu_misuse(BERTH_CU_CAPTURE_UNSUPPORTED, "%s cannot be captured", op->work.name);
    }
    if (code) {
        emu_op dropped = *op;
        emu_op_deinit(&dropped);
        return code;
    }
    emu_nodes *all = c->nodes;
    all->nodes = allocated(realloc(all->nodes, (all->n + 1) * sizeof *all->nodes));
    emu_node *node = &all->nodes[all->n];
    *node = (emu_node){.op = *op, .after = stream->point.nodes, .n_after = stream->point.n};
    stream->point.nodes = NULL;
    stream->point.n = 0;
    point_add(&stream->point, all->n++);
    return 0;
}

int emu_capture_record(emu_object *stream, emu_object *event)
{
    const int code = check_open(emu_capture_of(stream));
    if (code) return code;
    if (event->mark) emu_mark_release(event->mark);
    event->mark = NULL;
    point_clear(&event->point);
    point_merge(&event->point, &stream->point);
    return 0;
}

/* Nodes come after earlier ones only, so one way back is enough. */
static bool *all_before(const emu_nodes *all, const emu_point *point)
{
    bool *reached = allocated(calloc(all->n + 1, sizeof *reached));
    for (size_t i = 0; i < point->n; i++) reached[point->nodes[i]] = true;
    for (size_t i = all->n; i-- > 0;) {
        for (size_t j = 0; reached[i] && j < all->nodes[i].n_after; j++) reached[all->nodes[i].after[j]] = true;
    }
    return reached;
}

/* Held is what the event comes after and the stream does not. */
void emu_capture_hold(const emu_object *stream, const emu_object *event)
{
    emu_capture *c = emu_capture_of(event);
    if (!c) return;
    const bool is_of_it = stream->point.capture == c->id;
    bool *held = all_before(c->nodes, &event->point);
    bool *before = all_before(c->nodes, is_of_it ? &stream->point : &(emu_point){0});
    for (size_t i = 0; i < c->nodes->n; i++) c->nodes->nodes[i].is_held = held[i] && !before[i];
    free(held);
    free(before);
}

int emu_capture_wait(emu_object *stream, const emu_object *event)
{
    emu_capture *s = emu_capture_of(stream), *e = emu_capture_of(event);
    if (s && s->is_void) return BERTH_CU_CAPTURE_INVALIDATED;
    if (event->point.capture && !e)
        return emu_misuse(BERTH_CU_CAPTURED_EVENT, "a wait for an event of a capture that is over");
    if (s && !e) {
        s->is_void = true;
        return emu_misuse(BERTH_CU_CAPTURE_ISOLATION, "a captured stream waits for an event from outside the capture");
    }
    if (s && s != e) {
        s->is_void = e->is_void = true;
        return emu_misuse(BERTH_CU_CAPTURE_MERGE, "a captured stream waits for an event of another capture");
    }
    const int code = check_open(e);
    if (code) return code;
    if (stream->is_null) {
        e->is_void = true;
        return emu_misuse(BERTH_CU_CAPTURE_UNSUPPORTED, "the default stream waits for an event of a capture");
    }
    point_merge(&stream->point, &event->point);
    return 0;
}

/* ---- begin and end --------------------------------------------------------------------------------------------------- */

void emu_nodes_release(emu_nodes *all)
{
    if (!all || --all->refs > 0) return;
    for (size_t i = 0; i < all->n; i++) {
        emu_op_deinit(&all->nodes[i].op);
        free(all->nodes[i].after);
    }
    free(all->nodes);
    free(all);
}

/* The streams are free again; its events stay marked as captured. */
static void end_capture(emu_capture *c)
{
    for (size_t i = 0; i < emu.n_objects; i++) {
        emu_object *o = emu.objects[i];
        if (o->kind == EMU_STREAM && o->point.capture == c->id) point_clear(&o->point);
    }
    for (size_t i = 0; i < emu.n_captures; i++) {
        if (emu.captures[i] == c) emu.captures[i--] = emu.captures[--emu.n_captures];
    }
    emu_nodes_release(c->nodes);
    free(c);
}

void emu_capture_forget(emu_object *o)
{
    emu_capture *c = o->kind == EMU_STREAM ? emu_capture_of(o) : NULL;
    if (c) {
        emu_misuse(0, "a stream is destroyed while it is captured");
        c->is_void = true;
        if (c->origin == o) end_capture(c);
    }
    point_clear(&o->point);
}

void emu_capture_drop_all(void)
{
    while (emu.n_captures) end_capture(emu.captures[0]);
    free(emu.captures);
}

void emu_capture_spoil(const emu_object *context)
{
    for (size_t i = 0; i < emu.n_captures; i++) {
        if (emu.captures[i]->origin->context == context) emu.captures[i]->is_void = true;
    }
}

EMU_API int cuStreamBeginCapture_v2(berth_cu_stream handle, int mode)
{
    int code = emu_enter();
    emu_object *s = NULL;
    if (code == 0) code = emu_stream(handle, &s);
    if (code == 0 && mode != BERTH_CU_CAPTURE_THREAD_LOCAL)
        code = emu_misuse(BERTH_CU_INVALID_VALUE, "capture mode %d is not known to the emulator", mode);
    if (code == 0 && s->is_null) code = emu_misuse(BERTH_CU_CAPTURE_UNSUPPORTED, "capture of the default stream");
    if (code == 0 && emu_capture_of(s)) code = emu_misuse(BERTH_CU_ILLEGAL_STATE, "a stream that is captured already");
    if (code == 0) {
        emu.captures = allocated(realloc(emu.captures, (emu.n_captures + 1) * sizeof(emu_capture *)));
        emu_capture *c = allocated(calloc(1, sizeof *c));
        *c = (emu_capture){.id = ++emu.last_capture,
                           .thread = emu_thread(),
                           .origin = s,
                           .nodes = allocated(calloc(1, sizeof(emu_nodes)))};
        c->nodes->refs = 1;
        emu.captures[emu.n_captures++] = c;
        point_clear(&s->point);
        s->point.capture = c->id;
    }
    return emu_leave(code);
}

EMU_API int cuStreamIsCapturing(berth_cu_stream handle, int *status)
{
    int code = emu_enter();
    emu_object *s = NULL;
    if (code == 0) code = emu_stream(handle, &s);
    const emu_capture *c = code == 0 ? emu_capture_of(s) : NULL;
    if (code == 0) *status = !c ? BERTH_CU_CAPTURE_NONE : c->is_void ? BERTH_CU_CAPTURE_VOID : BERTH_CU_CAPTURE_ACTIVE;
    return emu_leave(code);
}

/* Every node comes before the point at which the origin is. */
static bool is_joined(const emu_capture *c)
{
    bool *reached = all_before(c->nodes, &c->origin->point), is_whole = true;
    for (size_t i = 0; i < c->nodes->n; i++) is_whole = is_whole && reached[i];
    free(reached);
    return is_whole;
}

static int may_end(const emu_object *s, emu_capture *c)
{
    if (!c) return emu_misuse(BERTH_CU_ILLEGAL_STATE, "the end of a capture that was not begun");
    if (c->origin != s) {
        c->is_void = true;
        return emu_misuse(BERTH_CU_CAPTURE_UNMATCHED, "a capture is ended on a stream that only joined it");
    }
    if (c->thread != emu_thread()) {
        c->is_void = true;
        return emu_misuse(BERTH_CU_CAPTURE_WRONG_THREAD, "a capture is ended by a thread that did not begin it");
    }
    return 0;
}

EMU_API int cuStreamEndCapture(berth_cu_stream handle, berth_cu_graph *graph)
{
    const int told = emu_enter();
    emu_object *s = NULL;
    *graph = NULL;
    s = emu_find(handle, EMU_STREAM);
    emu_capture *c = s ? emu_capture_of(s) : NULL;
    const int refused = s ? may_end(s, c) : BERTH_CU_INVALID_HANDLE;
    int code = s && s->context->error ? s->context->error : refused;
    if (c && !refused) {
        if (code == 0 && c->is_void) code = BERTH_CU_CAPTURE_INVALIDATED;
        if (code == 0 && !is_joined(c))
            code =
                emu_misuse(BERTH_CU_CAPTURE_UNJOINED, "a capture ends before all its streams came back to the first");
        if (code == 0 && told == 0) {
            emu_object *g = emu_new(EMU_GRAPH_OBJECT, s->gpu, s->context);
            g->nodes = c->nodes;
            c->nodes->refs++;
            *graph = (berth_cu_graph)g->handle; // NOLINT(performance-no-int-to-ptr)
        }
        end_capture(c);
    }
    return emu_leave(told ? told : code);
}
