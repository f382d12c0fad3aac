/* replay.c - see replay.h. The thing easy to get wrong: a graph holds addresses and sizes, so it is for one binding and one
 * set of sizes; a graph may be given up only when what was launched from it is over, which the binding's use by one run at
 * a time makes sure of. */
#include "exec/replay.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST_OPS = 4 }; /* below, a graph's own launch costs about as much */

typedef struct finder {
    const berth_program *program;
    const int32_t *lane_ops;
    const uint64_t *wakes;
} finder;

/* How many items from `at` on, before `end`, make a segment. */
static int32_t length_at(const finder *f, int32_t at, int32_t end)
{
    int32_t n = 0;
    for (; at + n < end; n++) {
        int32_t i = f->lane_ops[at + n];
        const berth_op *op = &f->program->ops[i];
        if (op->kind == BERTH_OP_COPY || (n > 0 && op->n_waits > 0)) break;
        if (f->wakes[i]) return n + 1;
    }
    return n;
}

static void find_segments(berth_replay *r, const finder *f, int32_t lane, int32_t first, int32_t end)
{
    for (int32_t at = first; at < end;) {
        int32_t n = length_at(f, at, end);
        if (n >= LEAST_OPS) {
            r->starts[f->lane_ops[at]] = r->n_segments;
            r->lane[r->n_segments] = lane;
            r->segments[r->n_segments++].n = n;
        }
        at += n > 0 ? n : 1;
    }
}

berth_status berth_replay_init(berth_replay *r, const berth_program *program, const berth_unit *units, int32_t n_units,
                               const int32_t *lane_ops, const int32_t *lane_first, const uint64_t *wakes,
                               berth_error *err)
{
    const finder f = {program, lane_ops, wakes};
    size_t n = (size_t)program->n_ops + 1;
    *r = (berth_replay){.units = units};
    r->starts = malloc(n * sizeof *r->starts);
    r->lane = calloc(n / LEAST_OPS + 1, sizeof *r->lane);
    r->segments = calloc(n / LEAST_OPS + 1, sizeof *r->segments);
    if (!r->starts || !r->lane || !r->segments)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "program %s: tables", program->name);
    for (size_t i = 0; i < n; i++) r->starts[i] = -1;
    for (int32_t d = 0; d < n_units; d++)
        if (units[d].backend->capture_begin) find_segments(r, &f, d, lane_first[d], lane_first[d + 1]);
    return BERTH_OK;
}

void berth_replay_deinit(berth_replay *r)
{
    for (int32_t i = 0; r->segments && r->lane && i < r->n_segments; i++)
        for (int32_t k = 0; k < BERTH_SEGMENT_GRAPHS; k++)
            if (r->segments[i].graphs[k].graph)
                r->units[r->lane[i]].backend->graph_destroy(r->segments[i].graphs[k].graph);
    free(r->segments);
    free(r->lane);
    free(r->starts);
    *r = (berth_replay){0};
}

/* The graph of these sizes; *out_is_new: they were not seen lately, and the oldest made place for them. */
static berth_segment_graph *graph_of(berth_segment *s, const berth_segment_run *run, bool *out_is_new)
{
    berth_segment_graph *oldest = &s->graphs[0];
    *out_is_new = false;
    s->clock++;
    for (int32_t k = 0; k < BERTH_SEGMENT_GRAPHS; k++) {
        berth_segment_graph *g = &s->graphs[k];
        if (g->used && memcmp(&g->sizes, run->sizes, sizeof g->sizes) == 0) {
            g->used = s->clock;
            return g;
        }
        if (g->used < oldest->used) oldest = g;
    }
    if (oldest->graph) run->backend->graph_destroy(oldest->graph);
    *oldest = (berth_segment_graph){.sizes = *run->sizes, .used = s->clock};
    *out_is_new = true;
    return oldest;
}

/* NULL: it cannot be captured. */
static berth_graph *capture(const berth_segment *s, const berth_segment_run *run)
{
    berth_graph *graph = NULL;
    berth_status st = run->backend->capture_begin(run->stream, NULL);
    if (st != BERTH_OK) return NULL;
    for (int32_t i = 0; st == BERTH_OK && i < s->n; i++) st = run->issue(run->user, i, NULL);
    berth_status ended = run->backend->capture_end(run->stream, &graph, NULL);
    if (st == BERTH_OK && ended == BERTH_OK) return graph;
    if (graph) run->backend->graph_destroy(graph);
    return NULL;
}

berth_status berth_segment_queue(berth_segment *s, const berth_segment_run *run, bool *out_queued, berth_error *err)
{
    bool is_new;
    *out_queued = false;
    if (s->is_off) return BERTH_OK;
    berth_segment_graph *g = graph_of(s, run, &is_new);
    if (is_new) return BERTH_OK;
    if (!g->graph) g->graph = capture(s, run);
    s->is_off = !g->graph;
    if (s->is_off) return BERTH_OK;
    *out_queued = true;
    return run->backend->graph_launch(run->stream, g->graph, err);
}
