/* plan_explain.c - why a module is where it is: what placed it, how full its device is, what is before and after it; and
 * finding what a name means. */
#include "api/plan_explain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"
#include "program/program_internal.h"
#include "strategies/registry.h"

const char *berth_explain_device(const berth_explainer *e, int32_t device)
{
    return device == BERTH_DEVICE_HOST ? "host" : berth_word_device(&e->env, device);
}

void berth_explain_why(berth_explainer *e, int32_t node)
{
    berth_buffer b = {0};
    if (node >= 0 && berth_say_why(&e->env, node, &b)) berth_facts_text(&e->facts, "why", "%s", b.data);
    if (b.failed) e->facts.out->failed = true;
    berth_buffer_deinit(&b);
}

void berth_explain_copies(berth_explainer *e, const char *key, const berth_program *p,
                          bool (*wants)(const berth_explainer *, const berth_program *, int32_t copy, int32_t what),
                          int32_t what)
{
    bool any = false;
    for (int32_t i = 0; p != NULL && i < p->n_ops; i++) {
        if (p->ops[i].kind != BERTH_OP_COPY || !wants(e, p, i, what)) continue;
        if (!any) berth_facts_list(&e->facts, key);
        any = true;
        const berth_value *from = &p->values[p->ops[i].in[0]], *to = &p->values[p->ops[i].out];
        size_t bytes = 0;
        berth_value_bytes(from, &p->bounds, &bytes);
        berth_facts_row(&e->facts);
        berth_facts_text(&e->facts, "value", "%s", from->name);
        berth_facts_text(&e->facts, "from", "%s", berth_explain_device(e, from->device));
        berth_facts_text(&e->facts, "to", "%s", berth_explain_device(e, to->device));
        berth_facts_bytes(&e->facts, "bytes_at_bounds", bytes);
        for (int32_t k = i + 1; k < p->n_ops; k++) { /* the first op that needs it there */
            bool reads = false;
            for (int32_t n = 0; n < p->ops[k].n_in; n++) reads = reads || p->ops[k].in[n] == p->ops[i].out;
            if (!reads) continue;
            berth_facts_text(&e->facts, "for", "%s", berth_word_value(p, p->ops[k].out));
            break;
        }
        berth_facts_row_end(&e->facts);
    }
    if (any) berth_facts_list_end(&e->facts);
}

/* ---- modules ----------------------------------------------------------------------------------------------------- */

static bool is_inside(const berth_explainer *e, int32_t node, int32_t module)
{
    return node >= module && node <= module + e->env.nodes[module].n_descendants;
}

/* Copies of what an op of the module made, and copies made for an op of it. */
static bool goes_out(const berth_explainer *e, const berth_program *p, int32_t copy, int32_t module)
{
    const int32_t by = p->values[p->ops[copy].in[0]].producer;
    return by >= 0 && is_inside(e, p->ops[by].node, module);
}

static bool comes_in(const berth_explainer *e, const berth_program *p, int32_t copy, int32_t module)
{
    for (int32_t i = copy + 1; i < p->n_ops; i++) {
        if (!is_inside(e, p->ops[i].node, module)) continue;
        for (int32_t k = 0; k < p->ops[i].n_in; k++)
            if (p->ops[i].in[k] == p->ops[copy].out) return true;
    }
    return false;
}

static void put_neighbour(berth_explainer *e, const char *key, int32_t node)
{
    if (node < 0) return;
    const int32_t device = berth_plan_module_device(e->plan, e->replica, node);
    berth_facts_text(&e->facts, key, "%s on %s", e->env.nodes[node].path,
                     device < 0 ? "several devices" : berth_explain_device(e, device));
}

static void put_neighbours(berth_explainer *e, int32_t node)
{
    const int32_t end = node + e->env.nodes[node].n_descendants;
    int32_t before = -1, after = -1;
    for (int32_t i = node - 1; i >= 0 && before < 0; i--) {
        const int32_t unit = berth_plan_unit_of(e->env.nodes, i);
        if (unit >= 0 && !is_inside(e, node, unit)) before = unit;
    }
    for (int32_t i = end + 1; i < e->env.n_nodes && after < 0; i++) {
        const int32_t unit = berth_plan_unit_of(e->env.nodes, i);
        if (unit >= 0 && !is_inside(e, node, unit)) after = unit;
    }
    put_neighbour(e, "before", before);
    put_neighbour(e, "after", after);
}

/* The device's budget, and what the plan puts there. */
static void put_budget(berth_explainer *e, int32_t device)
{
    const berth_device_bytes *b = &e->plan->core->devices[device];
    berth_facts *f = &e->facts;
    berth_facts_open(f, "budget");
    berth_facts_text(f, "device", "%s", berth_explain_device(e, device));
    berth_facts_bytes(f, "limit", b->limit);
    berth_facts_bytes(f, "planned", b->total);
    if (b->limit > 0) berth_facts_text(f, "full", "%.1f %%", 100.0 * (double)b->total / (double)b->limit);
    berth_facts_close(f);
}

/* The strategy's rule in its own words; not where an override or a device map decided. */
static void put_rule(berth_explainer *e, int32_t node)
{
    const berth_placement *p = e->plan->core->placement;
    int32_t by = -1;
    char who[96], strategy[96];
    berth_env_device(&e->env, node, &by);
    berth_placement_who(p, e->replica, by, who, sizeof who);
    snprintf(strategy, sizeof strategy, "strategy %s", p->strategy);
    const berth_strategy *s = strcmp(who, strategy) == 0 ? berth_strategy_find(p->strategy, NULL) : NULL;
    if (s != NULL) berth_facts_text(&e->facts, "rule", "%s: %s", s->name, s->about);
}

/* What the module takes on a device beside activations: weights as stored, and its share of the KV cache. */
static uint64_t kv_per_token(const berth_explainer *e, int32_t node, int32_t device)
{
    const uint64_t counted = berth_dtype_size(BERTH_F32); /* in the tree */
    return e->env.nodes[node].kv_bytes_per_token / counted * berth_dtype_size(e->plan->core->compute[device]);
}

/* Each other device: what is left there, and whether the module would go in. */
static void put_elsewhere(berth_explainer *e, int32_t node, int32_t device)
{
    const berth_core_plan *c = e->plan->core;
    const uint64_t tokens = (uint64_t)c->n_blocks * (uint64_t)c->block;
    char text[32];
    if (e->env.n_devices < 2) return;
    berth_facts_list(&e->facts, "elsewhere");
    for (int32_t d = 0; d < e->env.n_devices; d++) {
        if (d == device) continue;
        const berth_device_bytes *b = &c->devices[d];
        const uint64_t left = b->limit > b->total ? b->limit - b->total : 0;
        const uint64_t need = e->env.nodes[node].weight_bytes + kv_per_token(e, node, d) * tokens;
        berth_facts_row(&e->facts);
        berth_facts_text(&e->facts, "device", "%s", berth_explain_device(e, d));
        berth_facts_bytes(&e->facts, "left", left);
        if (need <= left)
            berth_facts_text(&e->facts, "would", "fit beside what is there");
        else
            berth_facts_text(&e->facts, "would", "miss %s", berth_format_bytes(need - left, text, sizeof text));
        berth_facts_row_end(&e->facts);
    }
    berth_facts_list_end(&e->facts);
}

/* Where the tensors under a divided module lie. */
static void put_parts(berth_explainer *e, int32_t node)
{
    uint64_t bytes[BERTH_MAX_DEVICES] = {0};
    const berth_node_view *nodes = e->env.nodes;
    for (int32_t i = node; i <= node + nodes[node].n_descendants; i++) {
        if (!(nodes[i].flags & BERTH_NODE_TENSOR)) continue;
        const int32_t device = berth_env_device(&e->env, i, NULL);
        if (device >= 0) bytes[device] += nodes[i].weight_bytes;
    }
    berth_facts_list(&e->facts, "devices");
    for (int32_t d = 0; d < e->env.n_devices; d++) {
        if (bytes[d] == 0) continue;
        berth_facts_row(&e->facts);
        berth_facts_text(&e->facts, "device", "%s", berth_explain_device(e, d));
        berth_facts_bytes(&e->facts, "weight_bytes", bytes[d]);
        berth_facts_row_end(&e->facts);
    }
    berth_facts_list_end(&e->facts);
}

static void put_module(berth_explainer *e, int32_t node)
{
    const berth_node_view *n = &e->env.nodes[node];
    berth_facts *f = &e->facts;
    const int32_t device = berth_plan_module_device(e->plan, e->replica, node);
    const char *note = e->plan->core->placement->note;
    berth_facts_open(f, "module");
    berth_facts_text(f, "path", "%s", n->path[0] ? n->path : "the model");
    if (n->class_name[0]) berth_facts_text(f, "class", "%s", n->class_name);
    berth_facts_bytes(f, "weight_bytes", n->weight_bytes);
    if (n->kv_bytes_per_token > 0 && device >= 0)
        berth_facts_bytes(f, "kv_bytes_per_token", kv_per_token(e, node, device));
    if (n->tied_to >= 0) berth_facts_text(f, "tied_to", "%s", e->env.nodes[n->tied_to].path);
    if (device >= 0) {
        berth_facts_text(f, "device", "%s", berth_explain_device(e, device));
        berth_explain_why(e, node);
        put_rule(e, node);
        put_budget(e, device);
        put_elsewhere(e, node, device);
    } else {
        put_parts(e, node);
    }
    if (note[0]) berth_facts_text(f, "note", "%s", note);
    put_neighbours(e, node);
    const berth_replica_plan *r = &e->plan->core->replicas[e->replica];
    berth_explain_copies(e, "copied_in_encode", r->encode, comes_in, node);
    berth_explain_copies(e, "copied_in", r->step, comes_in, node);
    berth_explain_copies(e, "copied_out_encode", r->encode, goes_out, node);
    berth_explain_copies(e, "copied_out", r->step, goes_out, node);
    berth_facts_close(f);
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

static int32_t find_module(const berth_explainer *e, const char *name, const berth_alias *aliases, int32_t n_aliases)
{
    for (int32_t a = 0; a < n_aliases; a++)
        if (strcmp(aliases[a].name, name) == 0) return aliases[a].node;
    return name[0] ? berth_model_data_find_node(e->plan->model->data, name) : 0;
}

/* "41", "step:41", "encode:3". */
static const berth_program *find_op(const berth_explainer *e, const char *name, int32_t *out_op)
{
    const berth_replica_plan *r = &e->plan->core->replicas[e->replica];
    const berth_program *p = r->step;
    if (strncmp(name, "encode:", 7) == 0) {
        p = r->encode;
        name += 7;
    } else if (strncmp(name, "step:", 5) == 0) {
        name += 5;
    }
    char *end;
    const long i = strtol(name, &end, 10);
    if (name[0] < '0' || name[0] > '9' || *end != '\0' || p == NULL || i >= p->n_ops) return NULL;
    *out_op = (int32_t)i;
    return p;
}

typedef struct near_names {
    const char *asked;
    const char *name[3];
    int distance[3];
} near_names;

static void offer(near_names *n, const char *name)
{
    if (!name[0]) return;
    for (int k = 0; k < 3; k++)
        if (n->name[k] != NULL && strcmp(n->name[k], name) == 0) return;
    const int d = berth_edit_distance(n->asked, name, n->distance[2]);
    if (d >= n->distance[2]) return;
    int k = 2;
    for (; k > 0 && d < n->distance[k - 1]; k--) {
        n->name[k] = n->name[k - 1];
        n->distance[k] = n->distance[k - 1];
    }
    n->name[k] = name;
    n->distance[k] = d;
}

static berth_status unknown_name(const berth_explainer *e, const char *name, const berth_alias *aliases,
                                 int32_t n_aliases, berth_error *err)
{
    near_names near = {.asked = name, .distance = {1 << 20, 1 << 20, 1 << 20}};
    const berth_replica_plan *r = &e->plan->core->replicas[e->replica];
    const berth_program *both[] = {r->encode, r->step};
    for (int32_t a = 0; a < n_aliases; a++) offer(&near, aliases[a].name);
    for (int32_t i = 0; i < e->env.n_nodes; i++) offer(&near, e->env.nodes[i].path);
    for (int k = 0; k < 2; k++)
        for (int32_t v = 0; both[k] != NULL && v < both[k]->n_values; v++) offer(&near, both[k]->values[v].name);
    berth_status st =
        BERTH_FAIL(err, BERTH_NOT_FOUND, "\"%s\" is no module, value or op of this plan; the nearest names are", name);
    for (int k = 0; k < 3 && near.name[k] != NULL; k++)
        berth_error_append(err, "%s %s", k > 0 ? "," : "", near.name[k]);
    return st;
}

static berth_status explain(berth_explainer *e, const char *name, const berth_alias *aliases, int32_t n_aliases,
                            berth_error *err)
{
    const berth_replica_plan *r = &e->plan->core->replicas[e->replica];
    const int32_t module = find_module(e, name, aliases, n_aliases);
    const int32_t in_step = berth_program_find(r->step, name);
    const int32_t in_encode = r->encode != NULL ? berth_program_find(r->encode, name) : -1;
    int32_t op = -1;
    const berth_program *of_op = find_op(e, name, &op);
    if (module < 0 && in_step < 0 && in_encode < 0 && of_op == NULL)
        return unknown_name(e, name, aliases, n_aliases, err);
    berth_facts_open(&e->facts, NULL);
    if (e->facts.is_json) berth_facts_text(&e->facts, "schema", "berth.explain/1");
    if (e->facts.is_json || berth_plan_n_replicas(e->plan) > 1) berth_facts_number(&e->facts, "replica", e->replica);
    if (module >= 0) put_module(e, module);
    if (of_op != NULL) berth_explain_op(e, of_op, op);
    if (in_encode >= 0) berth_explain_value(e, r->encode, in_encode);
    if (in_step >= 0) berth_explain_value(e, r->step, in_step);
    berth_facts_close(&e->facts);
    return BERTH_OK;
}

berth_status berth_plan_explain(const berth_plan *plan, int32_t replica, const char *name, uint32_t flags, char **out,
                                berth_error *err)
{
    if (!berth_handle_is(plan, BERTH_HANDLE_PLAN) || name == NULL || out == NULL || replica < 0 ||
        replica >= berth_plan_n_replicas(plan))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "berth_plan_explain: plan, name and out must not be NULL, and "
                          "replica %d must be one of %d",
                          (int)replica, (int)berth_plan_n_replicas(plan));
    *out = NULL;
    berth_buffer b = {0};
    berth_explainer e = {
        .plan = plan, .replica = replica, .facts = {.out = &b, .is_json = (flags & BERTH_EXPLAIN_JSON) != 0}};
    e.env = berth_core_plan_env(plan->core, replica, e.device_names);
    int32_t n_aliases;
    berth_alias *aliases = berth_plan_aliases(plan->model->data, &n_aliases);
    if (aliases == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for an explanation");
    berth_status st = explain(&e, name, aliases, n_aliases, err);
    free(aliases);
    if (st == BERTH_OK) *out = berth_buffer_take(&b);
    berth_buffer_deinit(&b);
    if (st == BERTH_OK && *out == NULL) st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for an explanation");
    return st;
}
