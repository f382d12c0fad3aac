/* override.c - see override.h. Devices are worked out node by node, edited, and folded into a cut again. */
#include "program/override.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "program/placement_internal.h"

typedef struct editor {
    const berth_strategy_input *in;
    const berth_alias *aliases;
    int32_t n_aliases;
    berth_placement *p; /* the result */
    int32_t *device;    /* owned; [n_replicas * n_nodes] */
    int32_t *alias_of;  /* owned; [n_nodes] the alias of the node or the nearest one above that has one; -1 */
    int32_t n_moved;    /* by the rule at hand, tensors */
    berth_error *err;
} editor;

bool berth_override_is_empty(const berth_override *o)
{
    return !(o->place && o->place[0]) && !o->split && !o->layers && !o->vision_device;
}

/* ---- in and out ------------------------------------------------------------------------------------------------- */

static void spread(editor *e, const berth_placement *base)
{
    int32_t n = base->n_nodes;
    for (int32_t r = 0; r < base->n_replicas; r++) {
        const int32_t *of = &base->device_of[(size_t)r * (size_t)n];
        int32_t *device = &e->device[(size_t)r * (size_t)n];
        for (int32_t i = 0, end = 0, cover = -1; i < n; i++) {
            if (i >= end) cover = -1;
            if (of[i] >= 0) {
                cover = of[i];
                end = i + 1 + berth_node_at(e->in, i)->n_descendants;
            }
            device[i] = cover;
        }
    }
}

/* Is the whole subtree of i on one device by one rule? What has no tensor below does not count. */
static bool is_whole(const editor *e, size_t at, int32_t i, int32_t *out_leaf)
{
    int32_t end = i + 1 + berth_node_at(e->in, i)->n_descendants, first = -1;
    for (int32_t k = i; k < end; k++) {
        const berth_node_view *node = berth_node_at(e->in, k);
        if (node->n_descendants > 0 || e->device[at + (size_t)k] < 0) continue;
        if (!(node->flags & BERTH_NODE_TENSOR) && end - i > 1) continue;
        if (first >= 0 && (e->device[at + (size_t)k] != e->device[at + (size_t)first] ||
                           e->p->rule_of[at + (size_t)k] != e->p->rule_of[at + (size_t)first]))
            return false;
        if (first < 0) first = k;
    }
    *out_leaf = first;
    return true;
}

static void fold(editor *e)
{
    int32_t n = e->p->n_nodes;
    for (int32_t r = 0; r < e->p->n_replicas; r++) {
        size_t at = (size_t)r * (size_t)n;
        for (int32_t i = 0; i < n;) {
            int32_t leaf;
            if (!is_whole(e, at, i, &leaf)) {
                i++;
                continue;
            }
            e->p->device_of[at + (size_t)i] = leaf < 0 ? -1 : e->device[at + (size_t)leaf];
            if (leaf >= 0) e->p->rule_of[at + (size_t)i] = e->p->rule_of[at + (size_t)leaf];
            i += 1 + berth_node_at(e->in, i)->n_descendants;
        }
    }
}

/* ---- rules ------------------------------------------------------------------------------------------------------ */

/* Puts the subtree of `node` on `device` in every replica, by rule number `rule` (from 1). */
static void put(editor *e, int32_t node, int32_t device, int32_t rule)
{
    int32_t end = node + 1 + berth_node_at(e->in, node)->n_descendants;
    for (int32_t r = 0; r < e->p->n_replicas; r++) {
        size_t at = (size_t)r * (size_t)e->p->n_nodes;
        for (int32_t i = node; i < end; i++) {
            if ((berth_node_at(e->in, i)->flags & BERTH_NODE_TENSOR) && e->device[at + (size_t)i] != device)
                e->n_moved++;
            e->device[at + (size_t)i] = device;
            e->p->rule_of[at + (size_t)i] = (int16_t)rule;
        }
    }
}

static int32_t new_rule(editor *e, const char *text)
{
    snprintf(e->p->rules[e->p->n_rules], sizeof e->p->rules[0], "%.63s", text);
    e->n_moved = 0;
    return ++e->p->n_rules;
}

static void note_rule(editor *e)
{
    char *note = e->p->note;
    size_t len = strlen(note), room = sizeof e->p->note - len;
    int wrote = snprintf(note + len, room, "%s%s moved %d tensors", len ? "; " : "", e->p->rules[e->p->n_rules - 1],
                         (int)e->n_moved);
    if (wrote < 0 || (size_t)wrote >= room) note[len] = '\0';
}

static berth_status find_device(const editor *e, const char *name, const char *rule, int32_t *out)
{
    char *end;
    for (*out = 0; *out < e->in->n_devices; ++*out)
        if (strcmp(berth_device_at(e->in, *out)->name, name) == 0) return BERTH_OK;
    long number = strtol(name, &end, 10);
    *out = (int32_t)number;
    if (name[0] >= '0' && name[0] <= '9' && *end == '\0' && number < e->in->n_devices) return BERTH_OK;
    berth_buffer names = {0};
    for (int32_t i = 0; i < e->in->n_devices; i++)
        berth_buffer_printf(&names, "%s%s", i ? ", " : "", berth_device_at(e->in, i)->name);
    berth_status st = BERTH_FAIL(e->err, BERTH_INVALID_ARGUMENT,
                                 "%s: \"%s\" is not a device here; there are %s (or their numbers, from 0)", rule, name,
                                 names.data ? names.data : "none");
    berth_buffer_deinit(&names);
    return st;
}

/* Does the glob mean node i: by its path, by its alias, or by an alias above it and what follows? */
static bool means(const editor *e, const char *glob, int32_t i)
{
    const char *path = berth_node_at(e->in, i)->path;
    if (berth_glob_match(glob, path)) return true;
    for (int32_t a = e->alias_of[i]; a >= 0;) {
        const berth_alias *alias = &e->aliases[a];
        const berth_node_view *node = berth_node_at(e->in, alias->node);
        char name[320];
        int wrote = snprintf(name, sizeof name, "%s%s", alias->name, path + strlen(node->path));
        if (wrote > 0 && (size_t)wrote < sizeof name && berth_glob_match(glob, name)) return true;
        a = node->parent < 0 ? -1 : e->alias_of[node->parent];
    }
    return false;
}

static berth_status refuse_glob(const editor *e, const char *rule, const char *glob)
{
    int best = 1 << 20;
    const char *near = NULL;
    for (int32_t k = 0; k < e->n_aliases + e->in->n_nodes; k++) {
        const char *name = k < e->n_aliases ? e->aliases[k].name : berth_node_at(e->in, k - e->n_aliases)->path;
        int d = name[0] ? berth_edit_distance(glob, name, best) : best;
        if (d >= best) continue;
        best = d;
        near = name;
    }
    return BERTH_FAIL(
        e->err, BERTH_INVALID_ARGUMENT,
        "%s: no module or tensor of the model fits \"%s\"%s%s%s; `berth plan --print-device-map` lists names", rule,
        glob, near ? "; the nearest name is \"" : "", near ? near : "", near ? "\"" : "");
}

static berth_status apply_glob(editor *e, const char *text)
{
    const char *equals = strrchr(text, '=');
    char glob[256], rule[300];
    snprintf(rule, sizeof rule, "place %.256s", text);
    size_t len = equals ? (size_t)(equals - text) : 0;
    if (len == 0 || len >= sizeof glob || equals[1] == '\0')
        return BERTH_FAIL(e->err, BERTH_INVALID_ARGUMENT, "%s: expected GLOB=DEVICE, as in vision.*=cpu:1", rule);
    memcpy(glob, text, len);
    glob[len] = '\0';
    int32_t device, n = 0;
    berth_status st = find_device(e, equals + 1, rule, &device);
    if (st != BERTH_OK) return st;
    int32_t number = new_rule(e, rule);
    for (int32_t i = 0; i < e->in->n_nodes; i++) {
        if (!means(e, glob, i)) continue;
        put(e, i, device, number);
        n++;
        i += berth_node_at(e->in, i)->n_descendants;
    }
    if (n == 0) return refuse_glob(e, rule, glob);
    note_rule(e);
    return BERTH_OK;
}

/* The node of an alias; -1. */
static int32_t named(const editor *e, const char *name)
{
    for (int32_t a = 0; a < e->n_aliases; a++)
        if (strcmp(e->aliases[a].name, name) == 0) return e->aliases[a].node;
    return -1;
}

static void put_named(editor *e, const char *name, int32_t device, int32_t rule)
{
    int32_t node = named(e, name);
    if (node >= 0) put(e, node, device, rule);
}

/* Where a tied head's own name is: it follows the embedding unless it is placed, so both names are set. */
static void apply_layers(editor *e, const berth_override *o, const int32_t *layer_device, int32_t n_layers)
{
    char text[64];
    snprintf(text, sizeof text, "%s %.50s", o->split ? "split" : "layers", o->split ? o->split : o->layers);
    int32_t rule = new_rule(e, text);
    put_named(e, "text.embed", layer_device[0], rule);
    for (int32_t l = 0; l < n_layers; l++) {
        snprintf(text, sizeof text, "text.layer.%d", (int)l);
        put_named(e, text, layer_device[l + 1], rule);
    }
    put_named(e, "text.norm", layer_device[n_layers + 1], rule);
    put_named(e, "head", layer_device[n_layers + 1], rule);
    note_rule(e);
}

static berth_status apply_vision(editor *e, const char *name)
{
    char rule[64];
    int32_t device;
    snprintf(rule, sizeof rule, "vision-device %.40s", name);
    if (named(e, "vision") < 0)
        return BERTH_FAIL(e->err, BERTH_INVALID_ARGUMENT, "%s: this model has no vision tower", rule);
    berth_status st = find_device(e, name, rule, &device);
    if (st != BERTH_OK) return st;
    int32_t number = new_rule(e, rule);
    put_named(e, "vision", device, number);
    put_named(e, "projector", device, number);
    note_rule(e);
    return BERTH_OK;
}

/* ---- all -------------------------------------------------------------------------------------------------------- */

static berth_status prepare(editor *e, const berth_override *o, const berth_placement *base)
{
    size_t n = (size_t)base->n_nodes * (size_t)base->n_replicas, n_rules = 2;
    while (o->place && o->place[n_rules - 2]) n_rules++;
    if (n_rules > INT16_MAX) return BERTH_FAIL(e->err, BERTH_INVALID_ARGUMENT, "%zu overrides are too many", n_rules);
    berth_status st = berth_placement_create(e->in, base->n_replicas, &e->p, e->err);
    if (st != BERTH_OK) return st;
    memcpy(e->p->strategy, base->strategy, sizeof base->strategy);
    memcpy(e->p->note, base->note, sizeof base->note);
    e->p->rule_of = calloc(n, sizeof *e->p->rule_of);
    e->p->rules = calloc(n_rules, sizeof *e->p->rules);
    e->device = calloc(n, sizeof *e->device);
    e->alias_of = calloc((size_t)base->n_nodes, sizeof *e->alias_of);
    if (!e->p->rule_of || !e->p->rules || !e->device || !e->alias_of)
        return BERTH_FAIL(e->err, BERTH_OUT_OF_MEMORY, "overrides over %zu modules", n);
    for (int32_t i = 0; i < e->in->n_nodes; i++) {
        const berth_node_view *node = berth_node_at(e->in, i);
        e->alias_of[i] = node->parent < 0 ? -1 : e->alias_of[node->parent];
        for (int32_t a = 0; a < e->n_aliases; a++)
            if (e->aliases[a].node == i) e->alias_of[i] = a;
    }
    spread(e, base);
    return BERTH_OK;
}

berth_status berth_override_apply(const berth_override *o, const int32_t *layer_device, int32_t n_layers,
                                  const berth_alias *aliases, int32_t n_aliases, const berth_placement *base,
                                  const berth_strategy_input *in, berth_placement **out, berth_error *err)
{
    editor e = {.in = in, .aliases = aliases, .n_aliases = n_aliases, .err = err};
    *out = NULL;
    berth_status st = prepare(&e, o, base);
    if (st == BERTH_OK && layer_device) apply_layers(&e, o, layer_device, n_layers);
    if (st == BERTH_OK && o->vision_device) st = apply_vision(&e, o->vision_device);
    for (size_t k = 0; st == BERTH_OK && o->place && o->place[k]; k++) st = apply_glob(&e, o->place[k]);
    if (st == BERTH_OK) {
        fold(&e);
        st = berth_placement_validate(e.p, in, "the overrides", err);
    }
    free(e.device);
    free(e.alias_of);
    if (st == BERTH_OK)
        *out = e.p;
    else
        berth_placement_destroy(e.p);
    return st;
}
