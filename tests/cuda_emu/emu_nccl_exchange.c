/* emu_nccl_exchange.c - what moves: matching the sides of copies and sums, when a side may go, and what it brings.
 *
 * A launch is one rank's part of a group, on one stream. It arrives when it is the first of its stream and its
 * communicator's launch before is over; its bytes may be taken from then on. It goes when all sides of all its
 * exchanges have arrived, and each side ends by itself, in an order drawn by lot. */
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "emu_nccl_internal.h"

enum { VOID_BYTE = 0xE7 };

size_t nccl_size(int dtype)
{
    switch (dtype) {
    case BERTH_NCCL_INT8: return 1;
    case BERTH_NCCL_F16:
    case BERTH_NCCL_BF16: return 2;
    case BERTH_NCCL_F32: return 4;
    default: return 0;
    }
}

bool nccl_is_idle(const nccl_comm *c)
{
    return !c->last || c->last->is_over;
}

/* ---- what it brings -------------------------------------------------------------------------------------------------- */

static berth_dtype dtype_of(const nccl_part *p)
{
    return p->dtype == BERTH_NCCL_F32 ? BERTH_F32 : p->dtype == BERTH_NCCL_F16 ? BERTH_F16 : BERTH_BF16;
}

/* Rounded after every addition, as on a ring, from a rank drawn by lot. */
static void add_up(nccl_exchange *x)
{
    const nccl_part *p = x->sides[0].part;
    const berth_dtype dtype = dtype_of(p);
    float *sum = nccl_new(p->n * sizeof *sum), *next = nccl_new(p->n * sizeof *next);
    x->result = nccl_new(p->bytes);
    const int first = (int)(nccl_random() % (uint64_t)x->n_sides);
    for (int i = 0; i < x->n_sides; i++) {
        berth_widen_f32(next, x->sides[(first + i) % x->n_sides].taken, dtype, p->n);
        for (size_t k = 0; k < p->n; k++) sum[k] += next[k];
        berth_narrow_f32(x->result, sum, dtype, p->n);
        berth_widen_f32(sum, x->result, dtype, p->n);
    }
    free(sum);
    free(next);
}

static void take_side(nccl_side *s)
{
    if (s->taken || !s->part->from) return;
    s->taken = nccl_new(s->part->bytes);
    memcpy(s->taken, nccl.door->host(s->launch->comm->gpu, s->part->from, s->part->bytes), s->part->bytes);
}

static void take_all(nccl_exchange *x)
{
    x->is_taken = true;
    if (x->number == nccl.config.async_exchange) {
        x->is_void = true;
        nccl_say("an error that was told to come");
        for (int i = 0; i < x->n_sides; i++) x->sides[i].launch->comm->error = nccl.config.async_code;
    }
    for (int i = 0; i < x->n_sides && !x->is_void; i++) take_side(&x->sides[i]);
    if (x->is_sum && !x->is_void) add_up(x);
}

static void bring(const nccl_exchange *x, const nccl_launch *l, const nccl_part *p)
{
    uint8_t *to = nccl.door->host(l->comm->gpu, p->to, p->bytes);
    const int lie = x->number == nccl.config.lie_exchange ? nccl.config.lie_how : 0;
    if (x->is_void || l->comm->aborted) {
        memset(to, VOID_BYTE, p->bytes);
        return;
    }
    if (lie != 2) memcpy(to, x->is_sum ? x->result : x->sides[0].taken, p->bytes);
    if (lie == 1) memset(to, 0, p->bytes);
    if (lie == 3) to[p->bytes / 2] ^= 0x40;
}

/* Until this side is over, its source is NCCL's. (A sum may be in place: then its own result is there by now.) */
static void check_source(const nccl_side *s)
{
    const nccl_launch *l = s->launch;
    if (!s->taken || s->part->to) return;
    if (memcmp(s->taken, nccl.door->host(l->comm->gpu, s->part->from, s->part->bytes), s->part->bytes) != 0)
        nccl_misuse(0, "the source of a send from GPU %d was written before the send was over", l->comm->gpu);
}

static nccl_side *side_of(nccl_exchange *x, const nccl_part *p)
{
    for (int i = 0; i < x->n_sides; i++) {
        if (x->sides[i].part == p) return &x->sides[i];
    }
    abort();
}

static void end_side(nccl_exchange *x)
{
    if (++x->n_over < x->n_sides) return;
    for (int i = 0; i < x->n_sides; i++) {
        free(x->sides[i].taken);
        x->sides[i].taken = NULL;
    }
    free(x->result);
    x->result = NULL;
}

static int run(void *user)
{
    nccl_launch *l = user;
    for (int i = 0; i < l->n_parts && !l->comm->aborted; i++) {
        nccl_exchange *x = l->parts[i].exchange;
        if (!x->is_taken && !x->is_void) take_all(x);
    }
    for (int i = 0; i < l->n_parts; i++) {
        nccl_part *p = &l->parts[i];
        if (p->from) check_source(side_of(p->exchange, p));
        if (p->to) bring(p->exchange, l, p);
    }
    for (int i = 0; i < l->n_parts; i++) end_side(l->parts[i].exchange);
    l->is_over = true;
    return 0;
}

/* ---- when it may go -------------------------------------------------------------------------------------------------- */

static bool can_exchange(const nccl_exchange *x)
{
    if (x->is_void || x->is_taken) return true;
    if (x->number == 0 || x->number == nccl.config.hang_exchange) return false;
    for (int i = 0; i < x->n_sides; i++) {
        const nccl_launch *l = x->sides[i].launch;
        if (!l->has_arrived || l->comm->aborted || l->is_gone) return false;
    }
    return true;
}

/* A kernel that has begun may send its bytes ahead of the receiver's, by lot. */
static void send_ahead(nccl_launch *l)
{
    for (int i = 0; i < l->n_parts; i++) {
        if (l->parts[i].from && (nccl.door->lazy() || nccl_random() % 2))
            take_side(side_of(l->parts[i].exchange, &l->parts[i]));
    }
}

static bool can_go(const nccl_launch *l)
{
    for (int i = 0; i < l->n_parts; i++) {
        if (!can_exchange(l->parts[i].exchange)) return false;
    }
    return true;
}

static bool ready(void *user)
{
    nccl_launch *l = user;
    if (l->comm->aborted) return true;
    if (l->before && !l->before->is_over) return false;
    if (!l->has_arrived) {
        l->has_arrived = true;
        send_ahead(l);
        return false; /* all sides have the same chance to go first when they are asked again */
    }
    return can_go(l);
}

/* The other sides, and the communicator's launch before. */
static void needs(const void *user, emu_want_fn *want, void *arg)
{
    const nccl_launch *l = user;
    if (l->before && !l->before->is_over) want(l->before->stream, l->before, true, arg);
    for (int i = 0; i < l->n_parts; i++) {
        const nccl_exchange *x = l->parts[i].exchange;
        for (int s = 0; s < x->n_sides; s++) {
            const nccl_launch *other = x->sides[s].launch;
            if (other && other != l && other->is_queued && !other->is_over) want(other->stream, other, false, arg);
        }
    }
}

/* Something that only an abort ends: a hanging exchange, a side whose GPU died, or whose communicator was aborted
 * alone. */
static bool waits_for_abort(void)
{
    for (const nccl_launch *l = nccl.launches; l; l = l->next) {
        if (!l->is_queued || l->is_over) continue;
        for (int i = 0; i < l->n_parts; i++) {
            const nccl_exchange *x = l->parts[i].exchange;
            if (x->number && x->number == nccl.config.hang_exchange) return true;
            for (int s = 0; s < x->n_sides; s++) {
                if (x->sides[s].launch && (x->sides[s].launch->is_gone || x->sides[s].launch->comm->aborted))
                    return true;
            }
        }
    }
    return false;
}

static void say_deadlock(const nccl_launch *l)
{
    const nccl_part *p = &l->parts[0];
    for (int i = 0; i < l->n_parts; i++) {
        if (!can_exchange(l->parts[i].exchange)) p = &l->parts[i];
    }
    static const char *const what[] = {"to send", "to receive", "to add"};
    nccl_misuse(0, "deadlock: rank %d of %d (GPU %d) waits %s %zu bytes, and %s", l->comm->rank,
                l->comm->clique->n_ranks, l->comm->gpu, what[p->kind], p->bytes,
                p->exchange->number ? "the other side waits too" : "nobody calls the other side");
}

/* Ends it, so that the program that is wrong ends too. */
static bool stalled(void *user)
{
    const nccl_launch *stuck = user;
    for (const nccl_launch *l = nccl.launches; l; l = l->next) {
        if (l->has_arrived && !l->is_over && can_go(l)) return true; /* it only arrived just now */
    }
    if (waits_for_abort()) return false;
    say_deadlock(stuck);
    for (nccl_launch *l = nccl.launches; l; l = l->next) {
        if (!l->is_queued || l->is_over || l->comm->clique != stuck->comm->clique) continue;
        l->comm->error = BERTH_NCCL_INTERNAL_ERROR;
        for (int i = 0; i < l->n_parts; i++) l->parts[i].exchange->is_void = true;
    }
    return true;
}

/* Dropped unrun: its context died, or all is reset. */
static void end(void *user)
{
    nccl_launch *l = user;
    if (l->is_over) return;
    l->is_over = l->is_gone = true;
}

/* ---- matching -------------------------------------------------------------------------------------------------------- */

static bool is_for(const nccl_exchange *x, const nccl_comm *c, const nccl_part *p)
{
    if (x->is_sum || p->kind == NCCL_ADD) return x->is_sum && p->kind == NCCL_ADD && x->index == c->n_sums;
    const int from = p->kind == NCCL_SEND ? c->rank : p->peer, to = p->kind == NCCL_SEND ? p->peer : c->rank;
    return x->from == from && x->to == to && !x->sides[p->kind == NCCL_SEND ? 0 : 1].launch;
}

static nccl_exchange *open_exchange(const nccl_comm *c, const nccl_part *p, nccl_exchange **at)
{
    nccl_exchange *x = nccl_new(sizeof *x);
    x->is_sum = p->kind == NCCL_ADD;
    x->from = p->kind == NCCL_SEND ? c->rank : p->peer;
    x->to = p->kind == NCCL_SEND ? p->peer : c->rank;
    x->index = c->n_sums;
    x->n_sides = x->is_sum ? c->clique->n_ranks : 2;
    x->next = nccl.exchanges;
    nccl.exchanges = x;
    *at = x;
    return x;
}

static int join(nccl_launch *l, nccl_part *p)
{
    nccl_exchange **at = &l->comm->clique->open;
    while (*at && !is_for(*at, l->comm, p)) at = &(*at)->open;
    nccl_exchange *x = *at ? *at : open_exchange(l->comm, p, at);
    const int side = x->is_sum ? l->comm->rank : p->kind == NCCL_SEND ? 0 : 1;
    int code = 0;
    for (int i = 0; i < x->n_sides && code == 0; i++) {
        const nccl_part *other = x->sides[i].part;
        if (other && (other->n != p->n || other->dtype != p->dtype))
            code = nccl_misuse(BERTH_NCCL_INVALID_USAGE, "%zu elements of type %d meet %zu of type %d", other->n,
                               other->dtype, p->n, p->dtype);
    }
    p->exchange = x;
    x->sides[side] = (nccl_side){.launch = l, .part = p};
    if (code) x->is_void = true;
    if (++x->n_come == x->n_sides) {
        x->number = ++nccl.report.exchanges;
        *at = x->open;
    }
    l->comm->n_sums += x->is_sum;
    return code;
}

int nccl_queue(nccl_launch *l)
{
    emu_work work = {
        .name = "NCCL", .user = l, .ready = ready, .needs = needs, .stalled = stalled, .run = run, .end = end};
    int code = 0;
    l->before = l->comm->last;
    l->comm->last = l;
    l->is_queued = true;
    for (int i = 0; i < l->n_parts; i++) {
        nccl_part *p = &l->parts[i];
        const int joined = join(l, p);
        if (code == 0) code = joined;
        if (p->from) work.spans[work.n_spans++] = (emu_span){l->comm->gpu, p->from, p->bytes};
        if (p->to) work.spans[work.n_spans++] = (emu_span){l->comm->gpu, p->to, p->bytes};
    }
    const int queued = nccl.door->queue_any(l->stream, &work);
    nccl.door->changed();
    return code == 0 && queued ? BERTH_NCCL_UNHANDLED_CUDA_ERROR : code;
}
