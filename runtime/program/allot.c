/* allot.c - offsets: where in its device's region each activation lies, and the waits that reusing memory needs.
 *
 * A value lives from the op that makes it to its last reader in list order, or, where the host is to read it, to the end.
 * Values that never live together may share memory; an op that can work in place takes over its operand's. Buffers go
 * largest first to the lowest gap among those alive with them, which comes near the largest sum alive at once (the tests
 * measure how near). Easy to get wrong: memory of a device is written by its own lane only, in order, but copies on other
 * lanes read it: whoever writes there next waits for them.
 * Host memory (inputs, outputs) is never reused within a run. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "program/program_internal.h"

enum { ALIGN = 64 }; /* kernels/ops.h */

/* One stretch of memory: a value, or several that follow each other in place. */
typedef struct stretch {
    int32_t device;
    int32_t first, last; /* ops */
    size_t bytes, offset;
} stretch;

typedef struct allotter {
    berth_program *p;
    const berth_allot_options *options;
    int32_t *last_use;   /* owned; [n_values]: op; its producer when nobody reads it */
    int32_t *stretch_of; /* owned; [n_values]; -1: not an activation on a device */
    stretch *stretches;  /* owned; [n_values] */
    int32_t n_stretches;
    int32_t *order; /* owned; [n_values] scratch: stretches of one device, largest first */
} allotter;

/* ---- sizes and lives -------------------------------------------------------------------------------------------- */

static berth_status size_values(berth_program *p, berth_error *err)
{
    size_t host = 0;
    for (int32_t i = 0; i < p->n_values; i++) {
        berth_value *v = &p->values[i];
        size_t rounded;
        if (!berth_value_bytes(v, &p->bounds, &v->bytes) || !berth_round_up(v->bytes, ALIGN, &rounded))
            return BERTH_FAIL(
                err, BERTH_INVALID_ARGUMENT,
                "program %.15s: value \"%s\" is too large for this computer; ask for fewer tokens or tiles", p->name,
                v->name);
        v->offset = 0;
        if (v->device != BERTH_DEVICE_HOST) continue;
        v->offset = host;
        if (!berth_add_size(host, rounded, &host))
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                              "program %.15s: inputs and outputs are too large for this computer", p->name);
    }
    p->host_bytes = host;
    return BERTH_OK;
}

static void find_lives(allotter *a)
{
    const berth_program *p = a->p;
    for (int32_t i = 0; i < p->n_values; i++) {
        bool keep = p->values[i].is_kept || (a->options->keep_traced && p->values[i].is_traced);
        a->last_use[i] = keep ? p->n_ops : p->values[i].producer;
    }
    for (int32_t i = 0; i < p->n_ops; i++)
        for (int32_t k = 0; k < p->ops[i].n_in; k++)
            if (a->last_use[p->ops[i].in[k]] < i) a->last_use[p->ops[i].in[k]] = i;
}

static bool lives_in_arena(const berth_value *v)
{
    return v->kind == BERTH_VALUE_ACTIVATION && v->device >= 0 && v->producer >= 0;
}

/* The operand whose memory op i's output takes over; BERTH_NO_VALUE. */
static int32_t taken_over(const allotter *a, int32_t i)
{
    const berth_program *p = a->p;
    const berth_op *op = &p->ops[i];
    int32_t k = berth_op_infos[op->kind].inplace;
    if (k < 0 || k >= op->n_in) return BERTH_NO_VALUE;
    int32_t v = op->in[k], uses = 0;
    const berth_value *x = &p->values[v], *y = &p->values[op->out];
    for (int32_t j = 0; j < op->n_in; j++) uses += op->in[j] == v;
    bool fits = x->device == y->device && x->dtype == y->dtype && x->bytes == y->bytes;
    return uses == 1 && fits && lives_in_arena(x) && a->last_use[v] == i ? v : BERTH_NO_VALUE;
}

static void make_stretches(allotter *a)
{
    berth_program *p = a->p;
    for (int32_t i = 0; i < p->n_values; i++) a->stretch_of[i] = -1;
    for (int32_t i = 0; i < p->n_ops; i++) {
        int32_t v = p->ops[i].out;
        if (!lives_in_arena(&p->values[v])) continue;
        int32_t from = taken_over(a, i);
        int32_t s = from >= 0 ? a->stretch_of[from] : a->n_stretches++;
        if (from < 0)
            a->stretches[s] = (stretch){.device = p->values[v].device, .first = i, .bytes = p->values[v].bytes};
        a->stretches[s].last = a->last_use[v];
        a->stretch_of[v] = s;
    }
}

/* ---- offsets ---------------------------------------------------------------------------------------------------- */

static int compare_stretches(const stretch *x, const stretch *y)
{
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* Largest first. A shell sort, since qsort takes no context. */
static void sort_order(allotter *a, int32_t n)
{
    for (int32_t gap = n / 2; gap > 0; gap /= 2) {
        for (int32_t i = gap; i < n; i++) {
            int32_t x = a->order[i], j = i;
            for (; j >= gap && compare_stretches(&a->stretches[a->order[j - gap]], &a->stretches[x]) > 0; j -= gap)
                a->order[j] = a->order[j - gap];
            a->order[j] = x;
        }
    }
}

/* The lowest offset where `s` fits among `placed` stretches alive with it, which stand by offset. */
static bool lowest_gap(const allotter *a, const int32_t *placed, int32_t n, stretch *s)
{
    size_t at = 0, end;
    for (int32_t i = 0; i < n; i++) {
        const stretch *o = &a->stretches[placed[i]];
        if (o->last < s->first || s->last < o->first) continue;
        if (!berth_add_size(at, s->bytes, &end)) return false;
        if (end <= o->offset) break;
        size_t behind = o->offset + o->bytes; /* fits: it was rounded up when o was placed */
        if (behind > at && !berth_round_up(behind, ALIGN, &at)) return false;
    }
    s->offset = at;
    return berth_add_size(at, s->bytes, &end) && berth_round_up(end, ALIGN, &end);
}

/* Gives every stretch of `device` its offset. `placed` is scratch, [n_values]. */
static bool place_device(allotter *a, int32_t device, int32_t *placed)
{
    int32_t n = 0;
    size_t region = 0;
    for (int32_t i = 0; i < a->n_stretches; i++)
        if (a->stretches[i].device == device) a->order[n++] = i;
    sort_order(a, n);
    for (int32_t i = 0; i < n; i++) {
        stretch *s = &a->stretches[a->order[i]];
        if (!lowest_gap(a, placed, i, s)) return false;
        int32_t j = i;
        for (; j > 0 && a->stretches[placed[j - 1]].offset > s->offset; j--) placed[j] = placed[j - 1];
        placed[j] = a->order[i];
        size_t end = (s->offset + s->bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
        if (end > region) region = end;
    }
    a->p->regions[device].activations = region;
    return true;
}

static berth_status place_all(allotter *a, berth_error *err)
{
    berth_program *p = a->p;
    int32_t *placed = malloc(((size_t)p->n_values + 1) * sizeof *placed);
    if (!placed) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "allotting program %.15s", p->name);
    bool ok = true;
    for (int32_t d = 0; ok && d < p->n_devices; d++) ok = place_device(a, d, placed);
    free(placed);
    if (!ok)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "program %.15s: its activations are too large for this computer",
                          p->name);
    for (int32_t i = 0; i < p->n_values; i++)
        if (a->stretch_of[i] >= 0) p->values[i].offset = a->stretches[a->stretch_of[i]].offset;
    return BERTH_OK;
}

/* ---- workspace and waits ---------------------------------------------------------------------------------------- */

static size_t workspace_of(const berth_allot_options *o, int32_t device, const berth_op_call *call)
{
    if (o->workspace) return o->workspace(o->user, device, call);
    return berth_kernels_workspace(o->kernels, call, o->n_threads ? o->n_threads[device] : 1);
}

static void find_workspaces(allotter *a)
{
    berth_program *p = a->p;
    for (int32_t d = 0; d < p->n_devices; d++) p->regions[d].workspace = 0;
    for (int32_t i = 0; i < p->n_ops; i++) {
        berth_op *op = &p->ops[i];
        op->workspace = 0;
        if (!a->options->kernels && !a->options->workspace) continue;
        berth_op_call call;
        berth_program_shapes(p, op, &p->bounds, &call);
        size_t bytes = workspace_of(a->options, op->device, &call);
        if (!berth_round_up(bytes, ALIGN, &op->workspace)) op->workspace = SIZE_MAX - ALIGN;
        if (op->workspace > p->regions[op->device].workspace) p->regions[op->device].workspace = op->workspace;
    }
}

static bool share_memory(const berth_value *a, const berth_value *b)
{
    return a->device == b->device && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* Op `reader` reads v from another lane: whoever writes there next (always an op of the lane of v's device) waits for
 * it. */
static bool guard_reader(const berth_program *p, int32_t v, int32_t reader, berth_wait_list *list)
{
    for (int32_t i = reader + 1; i < p->n_ops; i++) {
        const berth_value *next = &p->values[p->ops[i].out];
        if (!lives_in_arena(next) || !share_memory(&p->values[v], next)) continue;
        if (!berth_wait_list_add(list, i, reader)) return false;
        if (next->offset <= p->values[v].offset &&
            next->offset + next->bytes >= p->values[v].offset + p->values[v].bytes)
            return true; /* all of it is covered: later writers come after this one in the lane */
    }
    return true;
}

static bool add_waits(berth_program *p)
{
    berth_wait_list list = {0};
    bool ok = true;
    for (int32_t i = 0; ok && i < p->n_ops; i++) {
        const berth_op *op = &p->ops[i];
        for (int32_t w = 0; ok && w < op->n_waits; w++)
            ok = berth_wait_list_add(&list, i, p->waits[op->first_wait + w]);
        for (int32_t k = 0; ok && k < op->n_in; k++)
            if (lives_in_arena(&p->values[op->in[k]]) && p->values[op->in[k]].device != op->device)
                ok = guard_reader(p, op->in[k], i, &list);
    }
    ok = ok && berth_waits_assign(p, &list);
    free(list.pairs);
    return ok;
}

static berth_status allot(allotter *a, berth_error *err)
{
    berth_status st = size_values(a->p, err);
    if (st != BERTH_OK) return st;
    find_lives(a);
    make_stretches(a);
    st = place_all(a, err);
    if (st != BERTH_OK) return st;
    find_workspaces(a);
    return add_waits(a->p) ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "allotting program %.15s", a->p->name);
}

berth_status berth_allot(berth_program *p, const berth_allot_options *options, berth_error *err)
{
    size_t n = (size_t)p->n_values + 1;
    allotter a = {.p = p, .options = options};
    a.last_use = malloc(n * sizeof *a.last_use);
    a.stretch_of = malloc(n * sizeof *a.stretch_of);
    a.stretches = calloc(n, sizeof *a.stretches);
    a.order = malloc(n * sizeof *a.order);
    berth_status st;
    if (a.last_use && a.stretch_of && a.stretches && a.order)
        st = allot(&a, err);
    else
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "allotting program %.15s", p->name);
    free(a.last_use);
    free(a.stretch_of);
    free(a.stretches);
    free(a.order);
    return st;
}
