/* plan_dot.c - a plan as a Graphviz drawing: devices as clusters, modules as nodes, and what passes between them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/text.h"

typedef struct dot_edge {
    int32_t from, to; /* units (nodes of the tree) */
    int32_t value;    /* the last one counted, so that one that is read twice counts once */
    bool is_encode;
    uint64_t bytes; /* for one token, or for one image tile */
} dot_edge;

typedef struct dot {
    const berth_plan *plan;
    int32_t replica, last_replica; /* at hand, and behind those that are drawn */
    const berth_node_view *nodes;
    dot_edge *edges; /* owned */
    int32_t n_edges, cap_edges;
    berth_buffer out;
} dot;

static void put_quoted(berth_buffer *b, const char *text)
{
    berth_buffer_putc(b, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') berth_buffer_putc(b, '\\');
        berth_buffer_putc(b, *text);
    }
    berth_buffer_putc(b, '"');
}

/* ---- edges ------------------------------------------------------------------------------------------------------- */

static bool add_edge(dot *d, const dot_edge *e)
{
    for (int32_t i = d->n_edges - 1; i >= 0; i--) {
        dot_edge *have = &d->edges[i];
        if (have->from != e->from || have->to != e->to || have->is_encode != e->is_encode) continue;
        if (have->value != e->value) have->bytes += e->bytes;
        have->value = e->value;
        return true;
    }
    if (d->n_edges == d->cap_edges) {
        const int32_t cap = d->cap_edges > 0 ? 2 * d->cap_edges : 256; /* at most operands of ops */
        dot_edge *grown = realloc(d->edges, (size_t)cap * sizeof *grown);
        if (grown == NULL) return false;
        d->edges = grown;
        d->cap_edges = cap;
    }
    d->edges[d->n_edges++] = *e;
    return true;
}

/* What one module's op reads of what another's made, whether it was copied on the way or not. */
static bool add_edges(dot *d, const berth_program *p, bool is_encode)
{
    berth_sizes one = {0};
    for (int s = 0; s < BERTH_SYM_COUNT; s++) one.value[s] = s == BERTH_SYM_IMAGE_ROWS ? 0 : 1;
    one.value[BERTH_SYM_FEATURES] = berth_model_data_config(d->plan->model->data)->vision.tokens_per_tile;
    for (int32_t i = 0; i < p->n_ops; i++) {
        const berth_op *op = &p->ops[i];
        const int32_t to = op->kind == BERTH_OP_COPY ? -1 : berth_plan_unit_of(d->nodes, op->node);
        for (int32_t k = 0; to >= 0 && k < op->n_in; k++) {
            int32_t v = op->in[k];
            while (p->values[v].origin != BERTH_NO_VALUE) v = p->values[v].origin;
            const int32_t by = p->values[v].producer;
            const int32_t from = by >= 0 && !p->ops[by].replicate ? berth_plan_unit_of(d->nodes, p->ops[by].node) : -1;
            size_t bytes = 0;
            if (from < 0 || from == to || !berth_value_bytes(&p->values[v], &one, &bytes)) continue;
            const dot_edge e = {.from = from, .to = to, .value = v, .is_encode = is_encode, .bytes = bytes};
            if (!add_edge(d, &e)) return false;
        }
    }
    return true;
}

static void put_edge(dot *d, const dot_edge *e)
{
    char text[32];
    const bool crosses =
        berth_plan_module_device(d->plan, d->replica, e->from) != berth_plan_module_device(d->plan, d->replica, e->to);
    berth_buffer_printf(&d->out, "  r%dn%d -> r%dn%d [label=\"%s/%s\"%s];\n", (int)d->replica, (int)e->from,
                        (int)d->replica, (int)e->to, berth_format_bytes(e->bytes, text, sizeof text),
                        e->is_encode ? "tile" : "token", crosses ? ", color=\"red3\", penwidth=2" : "");
}

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

static void put_node(dot *d, int32_t i, uint64_t most)
{
    char text[32];
    const berth_node_view *n = &d->nodes[i];
    const double share = most > 0 ? (double)n->weight_bytes / (double)most : 0;
    berth_buffer_printf(&d->out, "    r%dn%d [fillcolor=\"0.58 %.2f 1.0\", label=", (int)d->replica, (int)i,
                        0.05 + 0.55 * share);
    berth_buffer label = {0};
    berth_buffer_printf(&label, "%s\n%s", n->path, berth_format_bytes(n->weight_bytes, text, sizeof text));
    put_quoted(&d->out, label.data != NULL ? label.data : "");
    if (label.failed) d->out.failed = true;
    berth_buffer_deinit(&label);
    berth_buffer_puts(&d->out, "];\n");
}

static void begin_cluster(dot *d, int32_t device)
{
    char held[32], limit[32];
    const berth_device_bytes *b = &d->plan->core->devices[device];
    berth_buffer_printf(&d->out, "  subgraph cluster_%d {\n    label=\"%s: %s of %s\";\n", (int)device,
                        d->plan->machine.devices[device].name, berth_format_bytes(b->total, held, sizeof held),
                        berth_format_bytes(b->limit, limit, sizeof limit));
}

/* Of all replicas that are drawn. device -1: modules whose parts lie on several devices. */
static void put_cluster(dot *d, int32_t first, int32_t device, uint64_t most)
{
    bool any = false;
    for (d->replica = first; d->replica < d->last_replica; d->replica++) {
        for (int32_t i = 0; i < berth_plan_n_modules(d->plan); i++) {
            if (berth_plan_unit_of(d->nodes, i) != i || berth_plan_module_device(d->plan, d->replica, i) != device)
                continue;
            if (!any && device >= 0) begin_cluster(d, device);
            any = true;
            put_node(d, i, most);
        }
    }
    if (any && device >= 0) berth_buffer_puts(&d->out, "  }\n");
}

static bool put_edges(dot *d, int32_t first)
{
    bool ok = true;
    for (d->replica = first; ok && d->replica < d->last_replica; d->replica++) {
        const berth_replica_plan *r = &d->plan->core->replicas[d->replica];
        d->n_edges = 0;
        ok = (r->encode == NULL || add_edges(d, r->encode, true)) && add_edges(d, r->step, false);
        for (int32_t i = 0; ok && i < d->n_edges; i++) put_edge(d, &d->edges[i]);
    }
    return ok;
}

char *berth_plan_dot(const berth_plan *plan, int32_t replica)
{
    const int32_t n = berth_plan_n_replicas(plan);
    if (!berth_handle_is(plan, BERTH_HANDLE_PLAN) || replica < BERTH_ALL_REPLICAS || replica >= n) return NULL;
    const int32_t first = replica == BERTH_ALL_REPLICAS ? 0 : replica;
    dot d = {.plan = plan,
             .last_replica = replica == BERTH_ALL_REPLICAS ? n : replica + 1,
             .nodes = berth_model_data_nodes(plan->model->data)};
    uint64_t most = 0;
    for (int32_t i = 0; i < berth_plan_n_modules(plan); i++)
        if (berth_plan_unit_of(d.nodes, i) == i && d.nodes[i].weight_bytes > most) most = d.nodes[i].weight_bytes;
    berth_buffer_puts(&d.out, "digraph berth {\n  rankdir=TB;\n  node [shape=box, style=filled, fontname=\"sans\"];\n");
    for (int32_t device = -1; device < plan->machine.n_devices; device++) put_cluster(&d, first, device, most);
    const bool ok = put_edges(&d, first);
    berth_buffer_puts(&d.out, "}\n");
    free(d.edges);
    char *text = ok ? berth_buffer_take(&d.out) : NULL;
    berth_buffer_deinit(&d.out);
    return text;
}
