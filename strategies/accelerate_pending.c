/* accelerate_pending.c - see accelerate_pending.h. What looks odd here is what accelerate does; each such place says so. */
#include "strategies/accelerate_pending.h"

#include <stdlib.h>
#include <string.h>

#include "strategies/accelerate_internal.h"

bool berth_pending_has(const berth_pending *p, int32_t e)
{
    return p->next[e] != BERTH_PENDING_NOT;
}

void berth_pending_insert(berth_pending *p, int32_t before, int32_t e)
{
    int32_t after = before < 0 ? p->head : p->next[before];
    p->next[e] = after;
    p->prev[e] = before;
    if (after >= 0) p->prev[after] = e;
    if (before < 0)
        p->head = e;
    else
        p->next[before] = e;
}

void berth_pending_take_out(berth_pending *p, int32_t e)
{
    if (p->prev[e] < 0)
        p->head = p->next[e];
    else
        p->next[p->prev[e]] = p->next[e];
    if (p->next[e] >= 0) p->prev[p->next[e]] = p->prev[e];
    p->next[e] = BERTH_PENDING_NOT;
}

static bool is_module(const berth_pending *p, int32_t e)
{
    return e < p->t->n_modules;
}

static bool has_children(const berth_pending *p, int32_t e)
{
    return is_module(p, e) && p->t->modules[e].first_child >= 0;
}

bool berth_pending_can_divide(const berth_pending *p, int32_t e)
{
    return has_children(p, e) && !p->is_no_split[e];
}

/* A parameter that the same module names twice is listed once, as named_parameters does. */
static bool is_second_name(const berth_pending *p, int32_t tensor)
{
    const berth_tree_tensor *x = &p->t->tensors[tensor];
    for (int32_t i = p->t->modules[x->module].first_param; i < tensor; i++)
        if (x->group >= 0 && p->t->tensors[i].group == x->group) return true;
    return false;
}

int32_t berth_pending_list_parts(berth_pending *p, int32_t module, int32_t before)
{
    const berth_tree_module *m = &p->t->modules[module];
    for (int32_t i = m->first_param; i < m->first_param + m->n_params; i++) {
        if (is_second_name(p, i)) continue;
        berth_pending_insert(p, before, p->t->n_modules + i);
        before = p->t->n_modules + i;
    }
    for (int32_t c = m->first_child; c >= 0; c = p->t->modules[c].next_sibling) {
        berth_pending_insert(p, before, c);
        before = c;
    }
    return before;
}

void berth_pending_divide(berth_pending *p, int32_t module)
{
    int32_t before = p->prev[module];
    berth_pending_take_out(p, module);
    berth_pending_list_parts(p, module, before);
}

/* ---- the largest layer ---- */

static void offer_layer(berth_pending *p, int32_t e)
{
    if (p->bits[e] < p->largest_bits) return;
    if (p->bits[e] > p->largest_bits) {
        p->n_largest = 0;
        p->largest_is_float = p->is_float[e]; /* of several as large, the first */
    }
    p->largest_bits = p->bits[e];
    p->largest[p->n_largest++] = e;
}

static void offer_layers_under(berth_pending *p, int32_t e)
{
    if (!berth_pending_can_divide(p, e)) {
        offer_layer(p, e);
        return;
    }
    int32_t at = p->t->modules[e].first_child; /* depth first without recursion: trees may be deep */
    while (at >= 0) {
        if (berth_pending_can_divide(p, at)) {
            at = p->t->modules[at].first_child;
            continue;
        }
        offer_layer(p, at);
        while (at != e && p->t->modules[at].next_sibling < 0) at = p->t->modules[at].parent;
        if (at == e) break;
        at = p->t->modules[at].next_sibling;
    }
}

void berth_pending_find_largest(berth_pending *p, bool with_tensors)
{
    p->largest_bits = 0;
    p->largest_is_float = false;
    p->n_largest = 0;
    for (int32_t e = p->head; e >= 0; e = p->next[e])
        if (with_tensors || is_module(p, e)) offer_layers_under(p, e);
}

static bool is_under(const berth_pending *p, int32_t e, int32_t above)
{
    while (e >= 0 && e != above) e = berth_tree_parent(p->t, e);
    return e == above;
}

void berth_pending_update_largest(berth_pending *p, int32_t taken)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < p->n_largest; i++)
        if (!is_under(p, p->largest[i], taken)) p->largest[kept++] = p->largest[i];
    p->n_largest = kept;
    if (kept == 0) berth_pending_find_largest(p, false);
}

/* ---- whole ---- */

static void list_root(berth_pending *p, const berth_accelerate_request *req)
{
    const berth_tree *t = p->t;
    for (int32_t e = 0; e < p->n_entries; e++) p->next[e] = BERTH_PENDING_NOT;
    for (int32_t m = 0; m < t->n_modules; m++)
        for (int32_t c = 0; c < req->n_no_split && !p->is_no_split[m]; c++)
            p->is_no_split[m] = strcmp(t->modules[m].class_name, req->no_split[c]) == 0;
    int32_t last = berth_pending_list_parts(p, 0, -1);
    for (int32_t i = 0; i < t->modules[0].n_buffers; i++) { /* the root's buffers are the only ones that are listed */
        int32_t e = t->n_modules + t->modules[0].first_buffer + i;
        berth_pending_insert(p, last, e);
        last = e;
    }
}

bool berth_pending_init(berth_pending *p, const berth_accelerate_request *req)
{
    const berth_tree *t = req->tree;
    const size_t n = (size_t)t->n_modules + (size_t)t->n_tensors;
    *p = (berth_pending){.t = t, .n_entries = (int32_t)n, .head = -1};
    p->next = malloc(n * sizeof *p->next);
    p->prev = malloc(n * sizeof *p->prev);
    p->bits = calloc(n, sizeof *p->bits);
    p->is_float = calloc(n, sizeof *p->is_float);
    p->is_no_split = calloc((size_t)t->n_modules, sizeof *p->is_no_split);
    p->largest = malloc(n * sizeof *p->largest);
    if (!p->next || !p->prev || !p->bits || !p->is_float || !p->is_no_split || !p->largest) return false;
    berth_accelerate_read_sizes(t, req->dtype_bits, p->bits, p->is_float);
    list_root(p, req);
    berth_pending_find_largest(p, true);
    return true;
}

void berth_pending_deinit(berth_pending *p)
{
    free(p->next);
    free(p->prev);
    free(p->bits);
    free(p->is_float);
    free(p->is_no_split);
    free(p->largest);
}
