/* edges.c - see edges.h. Which edges there are is read off the programs; what a pair of GPUs can do is tried. */
#include "engine/edges.h"

#include <stdlib.h>
#include <string.h>

#include "exec/backend_cuda.h"

enum { PROOF_BYTES = 4 << 20 };

typedef struct chooser {
    berth_exec *exec;
    const berth_core_plan *plan;
    const berth_transport *want; /* NULL: the best for each edge */
    berth_buffer *notes;
    bool *used; /* owned; [(n_units + 1)^2] */
} chooser;

static int32_t side(const berth_exec *exec)
{
    return exec->n_units + 1;
}

static berth_unit *unit_at(const berth_exec *exec, int32_t index)
{
    return index == exec->n_units ? NULL : &exec->units[index];
}

static const char *name_at(const berth_exec *exec, int32_t index)
{
    return index == exec->n_units ? "the host" : exec->units[index].info->name;
}

const berth_transport *berth_edge_transport(const berth_exec *exec, int32_t from, int32_t to)
{
    return exec->edges ? exec->edges[from * side(exec) + to] : NULL;
}

const char *berth_edge_note(const berth_exec *exec, int32_t from, int32_t to)
{
    return exec->edge_notes ? exec->edge_notes[from * side(exec) + to] : NULL;
}

void berth_edges_free(berth_exec *exec)
{
    const int32_t n = side(exec) * side(exec);
    for (int32_t e = 0; exec->edge_notes && e < n; e++) free(exec->edge_notes[e]);
    free(exec->edge_notes);
    free(exec->edges);
    exec->edge_notes = NULL;
    exec->edges = NULL;
}

static void find_used(chooser *c, const berth_program *p)
{
    int32_t n = c->exec->n_units;
    for (int32_t i = 0; p && i < p->n_ops; i++) {
        if (p->ops[i].kind != BERTH_OP_COPY) continue;
        int32_t from = p->values[p->ops[i].in[0]].device, to = p->values[p->ops[i].out].device;
        c->used[(from < 0 ? n : from) * (n + 1) + (to < 0 ? n : to)] = true;
    }
}

static berth_edge_kind kind_of(const berth_unit *from, const berth_unit *to)
{
    const berth_gpu *a = berth_unit_gpu(from), *b = berth_unit_gpu(to);
    if (!a && !b) return BERTH_EDGE_HOST;
    if (!a || !b) return BERTH_EDGE_UP_DOWN;
    return from->info->physical == to->info->physical ? BERTH_EDGE_INSIDE : BERTH_EDGE_BETWEEN;
}

static bool can(const berth_transport *t, berth_edge_kind kind)
{
    return t->edges >> kind & 1;
}

/* Does the receiver get what the sender has? The error says why not. */
static berth_status prove(const chooser *c, berth_unit *from, berth_unit *to, berth_error *err)
{
    berth_gpu *a = berth_unit_gpu(from), *b = berth_unit_gpu(to);
    berth_status st = berth_gpu_reach(a, b, err);
    if (st != BERTH_OK) return st;
    if (berth_cuda_has_peer(c->exec->cuda, to->info->physical, from->info->physical)) st = berth_gpu_reach(b, a, err);
    size_t bytes = from->arena.size < to->arena.size ? from->arena.size : to->arena.size;
    if (bytes > PROOF_BYTES) bytes = PROOF_BYTES;
    if (st != BERTH_OK || bytes == 0) return st;
    return berth_gpu_prove(a, (berth_gpu_ptr)(uintptr_t)from->arena.base, b, (berth_gpu_ptr)(uintptr_t)to->arena.base,
                           bytes, err);
}

/* Is what failed the pair's fault, so that another way may do? */
static bool is_the_pairs(berth_status st)
{
    return st == BERTH_UNSUPPORTED || st == BERTH_MISMATCH;
}

/* Says of edge e why it is staged: the driver has no peer access, which is no news, or has one that lies, which is. */
static berth_status note_staged(const chooser *c, int32_t e, const berth_error *why, berth_error *err)
{
    const bool lies = why->status == BERTH_MISMATCH;
    const int32_t n = side(c->exec);
    const size_t told = lies ? strlen(why->message) : strcspn(why->message, ";"); /* behind it: what to do */
    berth_buffer b = {0};
    berth_buffer_printf(&b, "%s%.*s; staged is used", lies ? "the driver says peer access, but the proof failed: " : "",
                        (int)told, why->message);
    char *note = c->exec->edge_notes[e] = berth_buffer_take(&b);
    if (!note) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a note on an edge");
    if (lies) berth_buffer_printf(c->notes, "%s -> %s: %s\n", name_at(c->exec, e / n), name_at(c->exec, e % n), note);
    return BERTH_OK;
}

static berth_status choose_between(const chooser *c, int32_t e, berth_error *err)
{
    const berth_transport **out = &c->exec->edges[e];
    berth_unit *from = unit_at(c->exec, e / side(c->exec)), *to = unit_at(c->exec, e % side(c->exec));
    const berth_transport *t = c->want;
    *out = t ? t : berth_transport_find("peer");
    if (t && !t->reaches) return BERTH_OK;
    berth_error why = {0};
    berth_status st = prove(c, from, to, &why);
    if (st == BERTH_OK) return st;
    if (t || !is_the_pairs(st)) {
        berth_error_prefix(&why, "transport \"%s\", device %s to device %s: ", (*out)->name, from->info->name,
                           to->info->name);
        if (err) *err = why;
        return st;
    }
    *out = berth_transport_find("staged");
    return note_staged(c, e, &why, err);
}

static berth_status choose_edge(const chooser *c, int32_t from, int32_t to, berth_error *err)
{
    berth_exec *exec = c->exec;
    berth_unit *a = unit_at(exec, from), *b = unit_at(exec, to);
    const berth_transport **at = &exec->edges[from * side(exec) + to];
    berth_edge_kind kind = kind_of(a, b);
    *at = c->want ? c->want : berth_transport_find("local");
    if ((!a || !b) && !can(*at, kind)) *at = berth_transport_find("local"); /* the host is reached in one way only */
    if (kind == BERTH_EDGE_BETWEEN && (!c->want || can(c->want, kind)))
        return choose_between(c, from * side(exec) + to, err);
    if (can(*at, kind)) return BERTH_OK;
    static const char *const what[] = {
        "both are memory of the host; use local or staged", "one is memory of the host; use local or staged",
        "both are on one GPU; use local or staged", "they are two GPUs; use staged, peer or nccl"};
    return BERTH_FAIL(err, BERTH_UNSUPPORTED, "transport \"%s\" cannot carry what goes from device %s to device %s: %s",
                      (*at)->name, name_at(exec, from), name_at(exec, to), what[kind]);
}

/* The receivers' relays, for edges between GPUs that are staged. */
static berth_status add_relays(const chooser *c, berth_error *err)
{
    berth_exec *exec = c->exec;
    berth_status st = BERTH_OK;
    for (int32_t to = 0; st == BERTH_OK && to < exec->n_units; to++) {
        berth_gpu *from[BERTH_MAX_DEVICES];
        int32_t n = 0;
        for (int32_t k = 0; k < exec->n_units; k++) {
            const berth_transport *t = berth_edge_transport(exec, k, to);
            if (t && t->relays && berth_unit_gpu(&exec->units[k]) && berth_unit_gpu(&exec->units[to]))
                from[n++] = berth_unit_gpu(&exec->units[k]);
        }
        if (n > 0) st = berth_unit_add_relay(&exec->units[to], from, n, err);
    }
    return st;
}

/* NCCL's group, for the edges that were asked to go by it. Members have the units' numbers; where a unit is no GPU, the
 * first GPU stands in, and no edge is its. */
static berth_status add_group(const chooser *c, berth_error *err)
{
    berth_exec *exec = c->exec;
    berth_gpu *gpus[BERTH_MAX_DEVICES], *first = NULL;
    int32_t n = exec->n_units, n_edges = 0;
    berth_gpu_edge *edges = calloc((size_t)n * (size_t)n, sizeof *edges);
    if (!edges) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%d edges", (int)(n * n));
    for (int32_t d = n - 1; d >= 0; d--)
        if (berth_unit_gpu(&exec->units[d])) first = berth_unit_gpu(&exec->units[d]);
    for (int32_t d = 0; d < n; d++) gpus[d] = berth_unit_gpu(&exec->units[d]) ? berth_unit_gpu(&exec->units[d]) : first;
    for (int32_t e = 0; e < n * n; e++) {
        const berth_transport *t = berth_edge_transport(exec, e / n, e % n); /* the host, number n, is none */
        if (t && t->groups) edges[n_edges++] = (berth_gpu_edge){e / n, e % n};
    }
    berth_status st = BERTH_OK;
    if (n_edges > 0) st = berth_gpu_group_create(gpus, n, edges, n_edges, NULL, &exec->group, err);
    for (int32_t d = 0; st == BERTH_OK && n_edges > 0 && d < n; d++)
        if (berth_unit_gpu(&exec->units[d])) berth_unit_set_group(&exec->units[d], exec->group);
    free(edges);
    return st;
}

static berth_status choose(chooser *c, berth_error *err)
{
    int32_t n = side(c->exec);
    berth_status st = BERTH_OK;
    for (int32_t r = 0; r < c->plan->placement->n_replicas; r++) {
        find_used(c, c->plan->replicas[r].encode);
        find_used(c, c->plan->replicas[r].step);
    }
    for (int32_t e = 0; st == BERTH_OK && e < n * n; e++)
        if (c->used[e]) st = choose_edge(c, e / n, e % n, err);
    if (st == BERTH_OK) st = add_relays(c, err);
    return st == BERTH_OK ? add_group(c, err) : st;
}

berth_status berth_edges_choose(berth_exec *exec, const berth_core_plan *plan, const char *want, berth_buffer *notes,
                                berth_error *err)
{
    chooser c = {.exec = exec, .plan = plan, .notes = notes};
    size_t n = (size_t)side(exec);
    if (want && strcmp(want, "auto") != 0 && !(c.want = berth_transport_find(want))) {
        BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "transport \"%s\" is not known; there are auto", want);
        for (int32_t i = 0; i < berth_transport_count(); i++)
            berth_error_append(err, "%s%s", i + 1 < berth_transport_count() ? ", " : " and ",
                               berth_transport_at(i)->name);
        return BERTH_INVALID_ARGUMENT;
    }
    exec->edges = calloc(n * n, sizeof(berth_transport *));
    exec->edge_notes = calloc(n * n, sizeof(char *));
    c.used = calloc(n * n, sizeof *c.used);
    berth_status st = exec->edges && exec->edge_notes && c.used
                          ? choose(&c, err)
                          : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%zu edges", n * n);
    free(c.used);
    return st;
}
