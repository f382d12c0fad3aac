/* emu_queue.c - queued work and the order in which it is carried out.
 *
 * A stream is a list of ops. The head of any stream may go next, unless it waits for an event's record that is not
 * over, or the legacy default stream of its context comes between (CUDA Driver API, "Stream synchronization behavior":
 * work there waits for all earlier work of blocking streams, and they for it). Which one goes is drawn by lot, and
 * nothing goes before somebody must know: the worst timing that a program may meet.
 *
 * A lazy emulator goes further: of all that is queued it carries out only what those need who wait. So what a wait
 * that is left out waited for is over only where it would be in every order; from then on all else goes before it, and
 * if the wait was needed, something goes wrong, whatever the seed and the threads' timing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "emu_internal.h"

void emu_mark_release(emu_mark *mark)
{
    if (--mark->refs == 0) free(mark);
}

void emu_op_deinit(emu_op *op)
{
    if (op->mark) {
        if (op->kind == EMU_RECORD) op->mark->done = true;
        emu_mark_release(op->mark);
    }
    if (op->kind == EMU_WORK && op->work.end) op->work.end(op->work.user);
    if (op->run) emu_run_destroy(op->run);
    free(op->owned);
}

int emu_enqueue(emu_object *stream, const emu_op *op)
{
    emu_op *copy = malloc(sizeof *copy);
    if (!copy) abort();
    *copy = *op;
    copy->context = stream->context;
    if (emu_capture_of(stream)) {
        const int code = emu_capture_add(stream, copy);
        free(copy);
        return code;
    }
    copy->seq = ++emu.seq;
    emu.report.queued++;
    copy->is_skipped = op->kind == EMU_COPY && ++emu.report.n_copies == emu.config.skip_copy;
    if (copy->is_skipped)
        snprintf(emu.report.skipped, sizeof emu.report.skipped, "a copy of %zu bytes from %d to %d (-1: the host)",
                 op->bytes, op->src_gpu, op->dst_gpu);
    if (stream == emu.hasty && op->kind != EMU_RECORD && op->kind != EMU_WAIT) emu.is_harmed = true;
    copy->next = NULL;
    emu.n_asked = 0;
    if (stream->tail)
        stream->tail->next = copy;
    else
        stream->head = copy;
    stream->tail = copy;
    emu_tsan_queued(stream, copy);
    emu_changed();
    return BERTH_CU_SUCCESS;
}

/* Earlier work that the legacy default stream puts before this stream's head. */
static bool is_held_up(const emu_object *stream)
{
    if (stream->non_blocking) return false;
    const emu_object *null_stream = stream->context->null_stream;
    if (stream != null_stream) return null_stream->head && null_stream->head->seq < stream->head->seq;
    for (size_t i = 0; i < emu.n_streams; i++) {
        const emu_object *o = emu.streams[i];
        if (o->context == stream->context && o != stream && !o->non_blocking && o->head &&
            o->head->seq < stream->head->seq)
            return true;
    }
    return false;
}

/* ---- what may go ----------------------------------------------------------------------------------------------------- */

/* Called for each op that its stream or its graph allows to go; `node`: of the graph at the stream's head. */
typedef void visitor(emu_object *stream, size_t node, const emu_op *op, void *user, void *arg);

static bool is_next(const emu_run *run, size_t i)
{
    const emu_node *node = &run->nodes->nodes[i];
    if (run->done[i]) return false;
    for (size_t j = 0; j < node->n_after; j++) {
        if (!run->done[node->after[j]]) return false;
    }
    return true;
}

static void visit_next(visitor *visit, void *arg)
{
    for (size_t i = 0; i < emu.n_streams; i++) {
        emu_object *stream = emu.streams[i];
        const emu_op *head = stream->head;
        if (!head || is_held_up(stream)) continue;
        if (head->kind != EMU_GRAPH) {
            visit(stream, 0, head, head->work.user, arg);
            continue;
        }
        for (size_t n = 0; n < head->run->nodes->n; n++) {
            if (is_next(head->run, n)) visit(stream, n, &head->run->nodes->nodes[n].op, head->run->users[n], arg);
        }
    }
}

typedef enum among { AMONG_ALL, AMONG_WANTED, AMONG_HASTY, AMONG_NOT_HELD } among;

typedef struct lot {
    among among;
    emu_object *stream;
    size_t node;
    uint64_t n;
} lot;

static bool is_among(const lot *l, const emu_object *stream, size_t node)
{
    const emu_run *run = stream->head->run;
    switch (l->among) {
    case AMONG_WANTED: return emu_is_wanted(EMU_FOR_WAITER, stream);
    case AMONG_HASTY: return emu_is_wanted(EMU_FOR_HASTY, stream);
    case AMONG_NOT_HELD: return !emu_is_wanted(EMU_FOR_HELD, stream) && !(run && run->nodes->nodes[node].is_held);
    default: return true;
    }
}

static void draw(emu_object *stream, size_t node, const emu_op *op, void *user, void *arg)
{
    lot *l = arg;
    if (!is_among(l, stream, node)) return;
    if (op->kind == EMU_WAIT && !op->mark->done) return;
    if (op->kind == EMU_WORK && op->work.ready && !op->work.ready(user)) return;
    if (emu_random() % ++l->n != 0) return;
    l->stream = stream;
    l->node = node;
}

static void pop(emu_object *stream)
{
    emu_op *op = stream->head;
    stream->head = op->next;
    if (!stream->head) stream->tail = NULL;
    emu_op_deinit(op);
    free(op);
}

static void carry_out(emu_object *stream, size_t node)
{
    emu_run *run = stream->head->run;
    const emu_op *op = run ? &run->nodes->nodes[node].op : stream->head;
    void *user = run ? run->users[node] : op->work.user;
    emu_object *context = op->context;
    if (!op->context->error) emu_tsan_runs(stream, op);
    const int code = emu_perform(op, user);
    emu.n_asked = 0;
    if (!run) {
        pop(stream);
    } else {
        run->done[node] = true;
        if (op->kind == EMU_WORK && op->work.end) op->work.end(user);
        if (--run->n_left == 0) pop(stream);
    }
    if (code) {
        emu_latch(context, code);
        if (context != stream->context) emu_latch(stream->context, code);
    }
    emu_changed();
}

/* One op; false: none of these can go on. */
static bool step(among whom)
{
    lot l = {.among = whom};
    visit_next(draw, &l);
    if (l.stream) carry_out(l.stream, l.node);
    return l.stream != NULL;
}

bool emu_is_lazy(void)
{
    return emu.config.lazy || emu.config.skip_wait || emu.config.skip_event;
}

enum { PATIENCE = 4096 };

void emu_ask(void)
{
    if (emu_is_lazy() && ++emu.n_asked < PATIENCE) return;
    step(AMONG_ALL);
}

void emu_hold(emu_mark *mark)
{
    if (!mark || mark->done || emu.held) return;
    mark->refs++;
    emu.held = mark;
}

void emu_hasten(emu_object *stream)
{
    emu.hasty = stream;
    snprintf(emu.report.skipped, sizeof emu.report.skipped, "a wait of a stream of GPU %d for what is %s", stream->gpu,
             emu.held && !emu.held->done ? "queued" : "over or captured");
}

/* Only what is held could go. Whoever is to queue what the wait was for may be another thread, which is given time: in
 * short pieces, of which one counts for no more than it is, however long the process was stopped in it. */
static bool wait_for_harm(void)
{
    enum { PIECE_MS = 50 };
    if (!emu.held || emu.held->done || emu.is_harmed || emu.held_ns >= (int64_t)emu.config.hold_ms * 1000000)
        return false;
    const int64_t before = berth_now_ns();
    emu_wait_change_ms(PIECE_MS);
    const int64_t passed = berth_now_ns() - before, most = PIECE_MS * (int64_t)1000000;
    emu.held_ns += passed < most ? passed : most;
    return true;
}

/* Work that comes to its turn is known to have come, whether or not it may go: others may be waiting for that. */
static void come(emu_object *stream, size_t node, const emu_op *op, void *user, void *arg)
{
    (void)stream;
    (void)node;
    (void)arg;
    if (op->kind == EMU_WORK && op->work.ready) op->work.ready(user);
}

/* Past a wait that was left out all else goes before what is held, and of that first what the hasty stream needs to
 * do its harm. */
static bool step_past_held(void)
{
    visit_next(come, NULL);
    emu_want_nothing(EMU_FOR_HELD);
    if (emu.held) emu_want_mark(EMU_FOR_HELD, emu.held);
    if (step(AMONG_NOT_HELD)) return true;
    emu_want_nothing(EMU_FOR_HASTY);
    if (emu.hasty) emu_want(EMU_FOR_HASTY, emu.hasty, UINT64_MAX);
    return step(AMONG_HASTY);
}

bool emu_step(void)
{
    return (emu.hasty && step_past_held()) || step(AMONG_ALL);
}

typedef struct hold_up {
    bool waits, changed;
} hold_up;

static void ask(emu_object *stream, size_t node, const emu_op *op, void *user, void *arg)
{
    (void)stream;
    (void)node;
    hold_up *h = arg;
    if (op->kind != EMU_WORK) return;
    h->waits = true;
    if (op->work.stalled && op->work.stalled(user)) h->changed = true;
}

typedef struct waiter { /* what is waited for: one of these */
    emu_object *stream;
    const emu_object *context;
    const emu_mark *mark;
} waiter;

static bool step_lazily(const waiter *w)
{
    if ((emu.hasty || emu.held) && (step_past_held() || wait_for_harm())) return true;
    emu_want_nothing(EMU_FOR_WAITER);
    if (w->stream) emu_want(EMU_FOR_WAITER, w->stream, UINT64_MAX);
    if (w->context) emu_want_context(EMU_FOR_WAITER, w->context);
    if (w->mark) emu_want_mark(EMU_FOR_WAITER, w->mark);
    return step(AMONG_WANTED);
}

/* Something goes on, now or when another thread queues what is waited for; events alone never need that. */
static void go_on(const waiter *w)
{
    if ((emu_is_lazy() && step_lazily(w)) || step(AMONG_ALL)) return;
    hold_up h = {0};
    visit_next(ask, &h);
    if (h.changed) return;
    if (h.waits) {
        emu_wait_change();
        return;
    }
    emu_misuse(0, "queued work waits for what never comes");
    abort();
}

void emu_drain_stream(emu_object *stream)
{
    while (stream->head) go_on(&(waiter){.stream = stream});
    emu_tsan_knows_stream(stream);
}

static bool has_work(const emu_object *context)
{
    for (size_t i = 0; i < emu.n_streams; i++) {
        if (emu.streams[i]->context == context && emu.streams[i]->head) return true;
    }
    return false;
}

void emu_drain_context(const emu_object *context)
{
    while (has_work(context)) go_on(&(waiter){.context = context});
    emu_tsan_knows_all();
}

void emu_wait_mark(emu_mark *mark)
{
    mark->refs++; /* its event may be recorded again meanwhile */
    while (!mark->done) go_on(&(waiter){.mark = mark});
    emu_tsan_knows(mark);
    emu_mark_release(mark);
}

void emu_drop(const emu_object *context)
{
    for (size_t i = 0; i < emu.n_streams; i++) {
        while (emu.streams[i]->context == context && emu.streams[i]->head) pop(emu.streams[i]);
    }
}

void emu_latch(emu_object *context, int code)
{
    if (!context->error) context->error = code;
    emu_drop(context);
    emu_capture_spoil(context);
    emu_changed();
}

/* ---- what is queued -------------------------------------------------------------------------------------------------- */

bool emu_any_queued(bool (*test)(const emu_op *op, const void *arg), const void *arg)
{
    for (size_t i = 0; i < emu.n_streams; i++) {
        for (const emu_op *op = emu.streams[i]->head; op; op = op->next) {
            if (test(op, arg)) return true;
            for (size_t n = 0; op->run && n < op->run->nodes->n; n++) {
                if (!op->run->done[n] && test(&op->run->nodes->nodes[n].op, arg)) return true;
            }
        }
    }
    return false;
}

static bool overlaps(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

static bool is_named(const emu_op *op, const uint8_t *base, size_t bytes)
{
    for (size_t at = 0; at + sizeof(uintptr_t) <= op->owned_bytes; at += sizeof(uintptr_t)) {
        uintptr_t word;
        memcpy(&word, op->owned + at, sizeof word);
        if (word >= (uintptr_t)base && word < (uintptr_t)base + bytes) return true;
    }
    return false;
}

typedef struct place {
    int gpu;
    const uint8_t *base;
    size_t bytes;
} place;

static bool is_used(const emu_op *op, const void *arg)
{
    const place *p = arg;
    if (op->kind == EMU_LAUNCH && is_named(op, p->base, p->bytes)) return true;
    for (int i = 0; op->kind == EMU_WORK && i < op->work.n_spans; i++) {
        const emu_span *s = &op->work.spans[i];
        const uint8_t *at = (const uint8_t *)(uintptr_t)s->at; // NOLINT(performance-no-int-to-ptr)
        if (s->gpu == p->gpu && overlaps(at, s->bytes, p->base, p->bytes)) return true;
    }
    if (op->kind != EMU_COPY && op->kind != EMU_SET) return false;
    if (op->dst_gpu == p->gpu && overlaps(op->dst, op->bytes, p->base, p->bytes)) return true;
    return op->kind == EMU_COPY && op->src_gpu == p->gpu && overlaps(op->src, op->bytes, p->base, p->bytes);
}

bool emu_in_use(int g, const uint8_t *base, size_t bytes)
{
    return emu_any_queued(is_used, &(place){g, base, bytes});
}
