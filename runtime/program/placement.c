/* placement.c - a strategy's answer, validated; and what can be asked of any placement.
 *
 * Strategies may be plug-ins: nothing they return is trusted. A placement is a cut through the module tree: on the way
 * from each tensor to the root exactly one node is placed. */
#include "program/placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/text.h"
#include "program/placement_internal.h"

const char *berth_placement_path(const berth_strategy_input *in, int32_t node)
{
    if (node < 0 || node >= in->n_nodes) return "?";
    const char *path = berth_node_at(in, node)->path;
    return path[0] ? path : "the model";
}

const char *berth_placement_device_name(const berth_strategy_input *in, int32_t device)
{
    if (device < 0 || device >= in->n_devices || !in->devices) return "no device";
    return berth_device_at(in, device)->name;
}

const char *berth_placement_noun(const berth_placement *p)
{
    return strcmp(p->strategy, "device-map") == 0 ? "" : "strategy ";
}

berth_status berth_placement_create(const berth_strategy_input *in, int32_t n_replicas, berth_placement **out,
                                    berth_error *err)
{
    *out = NULL;
    size_t n;
    if (in->n_nodes < 1 || in->n_devices < 1 || n_replicas < 1)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "a placement needs a model (%d modules) and a device (%d)",
                          in->n_nodes, in->n_devices);
    if (!berth_mul_size((size_t)n_replicas, (size_t)in->n_nodes, &n) || n > INT32_MAX)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%d replicas of %d modules are too many", n_replicas,
                          in->n_nodes);
    berth_placement *p = calloc(1, sizeof *p);
    if (p) p->device_of = malloc(n * sizeof *p->device_of);
    if (!p || !p->device_of) {
        berth_placement_destroy(p);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "a placement of %d modules", in->n_nodes);
    }
    for (size_t i = 0; i < n; i++) p->device_of[i] = -1;
    p->n_replicas = n_replicas;
    p->n_nodes = in->n_nodes;
    p->n_devices = in->n_devices;
    *out = p;
    return BERTH_OK;
}

void berth_placement_destroy(berth_placement *p)
{
    if (!p) return;
    free(p->device_of);
    free(p->rule_of);
    free(p->rules);
    free(p);
}

/* One replica's cut. Nodes are in pre-order, so an ancestor's state is known before its subtree is met. */
static berth_status validate_replica(const berth_placement *p, const berth_strategy_input *in, int32_t r,
                                     const char *who, berth_error *err)
{
    const int32_t *device_of = &p->device_of[(size_t)r * (size_t)p->n_nodes];
    int32_t covered_by = -1, covered_end = 0; /* the placed node whose subtree we are in */
    for (int32_t i = 0; i < in->n_nodes; i++) {
        const berth_node_view *node = berth_node_at(in, i);
        if (i >= covered_end) covered_by = -1;
        if (device_of[i] < -1 || device_of[i] >= in->n_devices)
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s put %s on device %d; the machine has devices 0 to %d",
                              who, berth_placement_path(in, i), device_of[i], in->n_devices - 1);
        if (device_of[i] >= 0 && covered_by >= 0)
            return BERTH_FAIL(
                err, BERTH_INVALID_ARGUMENT, "%s put %s on %s, and %s inside it on %s as well; a tensor has one place",
                who, berth_placement_path(in, covered_by), berth_placement_device_name(in, device_of[covered_by]),
                berth_placement_path(in, i), berth_placement_device_name(in, device_of[i]));
        if (device_of[i] >= 0) {
            covered_by = i;
            covered_end = i + 1 + node->n_descendants;
        }
        bool must = (node->flags & BERTH_NODE_TENSOR) && !(node->flags & BERTH_NODE_BUFFER);
        if (must && covered_by < 0)
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                              "%s put tensor %s on no device; every tensor, or a module above it, needs one", who,
                              berth_placement_path(in, i));
    }
    return BERTH_OK;
}

berth_status berth_placement_validate(const berth_placement *p, const berth_strategy_input *in, const char *who,
                                      berth_error *err)
{
    for (int32_t r = 0; r < p->n_replicas; r++) {
        berth_status st = validate_replica(p, in, r, who, err);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

/* Takes over n_replicas, note and name, and judges p->device_of. */
static berth_status accept(berth_placement *p, const berth_strategy_input *in, const berth_placement_answer *a,
                           berth_error *err)
{
    if (a->n_replicas < 1 || a->n_replicas > in->n_devices)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s made %d replicas; between 1 and %d fit on %d devices",
                          a->who, (int)a->n_replicas, (int)in->n_devices, (int)in->n_devices);
    p->n_replicas = a->n_replicas;
    berth_escape(p->note, sizeof p->note, a->note, strnlen(a->note, sizeof p->note), true, NULL);
    snprintf(p->strategy, sizeof p->strategy, "%s%s%s", a->strategy, in->argument ? "=" : "",
             in->argument ? in->argument : "");
    berth_status st = berth_placement_validate(p, in, a->who, err);
    if (st == BERTH_OK) st = berth_placement_check_budgets(p, in, a->who, err);
    return st;
}

static berth_status run_strategy(const berth_strategy *s, const berth_strategy_input *in, berth_placement *p,
                                 berth_error *err)
{
    berth_strategy_output out = {.struct_size = sizeof out, .device_of = p->device_of, .max_replicas = p->n_replicas};
    berth_status st = s->check ? s->check(in, err) : BERTH_OK;
    if (st == BERTH_OK) st = s->place(in, &out, err);
    if (st != BERTH_OK) return st;
    char who[sizeof p->strategy + 16];
    snprintf(who, sizeof who, "strategy %.60s%s%.*s", s->name, in->argument ? "=" : "", (int)sizeof p->strategy,
             in->argument ? in->argument : "");
    return accept(
        p, in,
        &(berth_placement_answer){.strategy = s->name, .who = who, .n_replicas = out.n_replicas, .note = out.note},
        err);
}

berth_status berth_placement_make(const berth_strategy *s, const berth_strategy_input *in, berth_placement **out,
                                  berth_error *err)
{
    *out = NULL;
    if (s->abi != BERTH_STRATEGY_ABI || s->struct_size < sizeof *s || !s->name || !s->place)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "strategy %s was made for interface %u; this berth has interface %d",
                          s->name ? s->name : "(without a name)", (unsigned)s->abi, BERTH_STRATEGY_ABI);
    berth_placement *p;
    berth_status st = berth_placement_create(in, in->n_devices, &p, err);
    if (st != BERTH_OK) return st;
    st = run_strategy(s, in, p, err);
    if (st != BERTH_OK) {
        berth_placement_destroy(p);
        return st;
    }
    *out = p;
    return BERTH_OK;
}

berth_status berth_placement_accept(const berth_placement_answer *a, const berth_strategy_input *in,
                                    berth_placement **out, berth_error *err)
{
    *out = NULL;
    bool is_count = a->n_replicas >= 1 && a->n_replicas <= in->n_devices;
    berth_placement *p;
    berth_status st = berth_placement_create(in, is_count ? a->n_replicas : 1, &p, err);
    if (st != BERTH_OK || !p) return st;
    if (is_count)
        memcpy(p->device_of, a->device_of, (size_t)a->n_replicas * (size_t)in->n_nodes * sizeof *p->device_of);
    st = accept(p, in, a, err);
    if (st != BERTH_OK) {
        berth_placement_destroy(p);
        return st;
    }
    *out = p;
    return BERTH_OK;
}

int32_t berth_placement_device(const berth_placement *p, const berth_strategy_input *in, int32_t replica, int32_t node,
                               int32_t *out_by)
{
    if (out_by) *out_by = -1;
    if (replica < 0 || replica >= p->n_replicas || node < 0 || node >= p->n_nodes) return -1;
    const int32_t *device_of = &p->device_of[(size_t)replica * (size_t)p->n_nodes];
    int32_t by = node;
    while (by >= 0 && device_of[by] < 0) by = berth_node_at(in, by)->parent;
    if (by < 0) {
        int32_t end = node + 1 + berth_node_at(in, node)->n_descendants;
        for (by = node; by < end && device_of[by] < 0; by++) continue;
        if (by == end) return -1;
    }
    if (out_by) *out_by = by;
    return device_of[by];
}

void berth_placement_who(const berth_placement *p, int32_t replica, int32_t by, char *out, size_t n)
{
    int32_t rule = 0;
    if (p->rule_of && by >= 0 && by < p->n_nodes) rule = p->rule_of[(size_t)replica * (size_t)p->n_nodes + (size_t)by];
    if (rule > 0 && rule <= p->n_rules)
        snprintf(out, n, "%s", p->rules[rule - 1]);
    else
        snprintf(out, n, "%s%s", berth_placement_noun(p), p->strategy);
}

bool berth_placement_why(const berth_placement *p, const berth_strategy_input *in, int32_t replica, int32_t node,
                         berth_buffer *out)
{
    int32_t by, device = berth_placement_device(p, in, replica, node, &by);
    char who[96];
    berth_placement_who(p, replica, by, who, sizeof who);
    if (device < 0) return berth_buffer_printf(out, "%s put %s nowhere", who, berth_placement_path(in, node));
    return berth_buffer_printf(out, "%s put %s on %s", who, berth_placement_path(in, by),
                               berth_placement_device_name(in, device));
}

/* The one device of all tensors under `node`; -1 when there are several, -2 when there is no tensor. */
static int32_t only_device(const berth_placement *p, const berth_strategy_input *in, int32_t replica, int32_t node)
{
    int32_t end = node + 1 + berth_node_at(in, node)->n_descendants, only = -2;
    for (int32_t i = node; i < end; i++) {
        const berth_node_view *n = berth_node_at(in, i);
        if (!(n->flags & BERTH_NODE_TENSOR) || (n->flags & BERTH_NODE_BUFFER)) continue;
        int32_t d = berth_placement_device(p, in, replica, i, NULL);
        if (only >= 0 && d != only) return -1;
        only = d;
    }
    return only;
}

bool berth_placement_to_map(const berth_placement *p, const berth_strategy_input *in, int32_t replica,
                            berth_buffer *out)
{
    berth_buffer_putc(out, '{');
    bool any = false;
    for (int32_t i = 0; i < in->n_nodes;) {
        const berth_node_view *node = berth_node_at(in, i);
        int32_t d = only_device(p, in, replica, i);
        if (d == -1) { /* several: name its parts */
            i++;
            continue;
        }
        if (d >= 0) {
            berth_buffer_puts(out, any ? ", " : "");
            berth_buffer_json_string(out, node->path, strlen(node->path));
            berth_buffer_printf(out, ": %d", d);
            any = true;
        }
        i += 1 + node->n_descendants;
    }
    berth_buffer_putc(out, '}');
    return !out->failed;
}
