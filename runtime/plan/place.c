/* place.c - who decides where modules go: a strategy by its name, a device map, another tool's rules; and what the
 * user overrides.
 *
 * A strategy refuses what does not fit, and an override may be just what makes it fit. So where there are overrides, a
 * refusal for want of memory is not the end: the strategy is asked again with larger limits, the overrides are applied
 * to that answer, and whether it fits is judged as for every plan, by the limits there are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "plan/plan_internal.h"
#include "strategies/registry.h"
#include "strategies/rules.h"

/* ---- by name ---------------------------------------------------------------------------------------------------- */

static void offer(const char *asked, const char *have, bool more, int *best, const char **near, berth_error *err)
{
    berth_error_append(err, "%s %s", more ? "," : "", have);
    int distance = berth_edit_distance(asked, have, *best);
    if (distance >= *best) return;
    *best = distance;
    *near = have;
}

static berth_status unknown_strategy(const char *name, const berth_plugin_options *plugins, berth_error *err)
{
    const char *near = NULL;
    int best = berth_misspelling_limit(name);
    berth_plugin_names in_folder = {0};
    berth_status st = plugins->dir ? berth_plugin_names_read(plugins->dir, &in_folder, err) : BERTH_OK;
    if (st != BERTH_OK) return st;
    st = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "strategy \"%s\" is not known; there are", name);
    for (int32_t i = 0; i < berth_strategy_count(); i++)
        offer(name, berth_strategy_at(i)->name, i > 0, &best, &near, err);
    for (int32_t i = 0; i < in_folder.n; i++) offer(name, in_folder.names[i], true, &best, &near, err);
    if (near) berth_error_append(err, "; did you mean %s?", near);
    berth_plugin_names_deinit(&in_folder);
    return st;
}

static berth_status place_by_name(const char *name, const berth_plugin_options *plugins, berth_strategy_input *in,
                                  berth_placement **out, berth_error *err)
{
    char *path;
    const char *plugin_argument = NULL;
    berth_status st = berth_plugin_find(name, plugins, &path, &plugin_argument, err);
    if (st != BERTH_OK) return st;
    const berth_strategy *s = berth_strategy_find(name, &in->argument);
    if (s && path) {
        st = BERTH_FAIL(
            err, BERTH_INVALID_ARGUMENT,
            "strategy \"%s\" is built in, and %s is a plug-in of that name; rename the file, or give its path", s->name,
            path);
    } else if (path) {
        in->argument = plugin_argument;
        st = berth_plugin_place(path, plugins, in, out, err);
    } else {
        st = s ? berth_placement_make(s, in, out, err) : unknown_strategy(name, plugins, err);
    }
    free(path);
    return st;
}

/* "accelerate" and "accelerate=balanced": accelerate's own answer, for comparisons and --compat. */
static const char *accelerate_rule(const char *name, const char *compat)
{
    static const char prefix[] = "accelerate";
    if (compat) return name;
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return NULL;
    const char *rest = name + sizeof prefix - 1;
    return *rest == '\0' ? "auto" : *rest == '=' ? rest + 1 : NULL;
}

static berth_status place_on_first(const berth_strategy_input *in, berth_placement **out, berth_error *err)
{
    static const char all_on_first[] = "{\"\": 0}";
    return berth_placement_from_map(all_on_first, sizeof all_on_first - 1, "one device", in, out, err);
}

/* ---- what overrides --------------------------------------------------------------------------------------------- */

static berth_status refuse_numbers(const char *option, const char *given, const char *wants, int32_t n,
                                   berth_error *err)
{
    return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%s \"%s\": expected %d number%s, one a device: %s", option, given,
                      n, n == 1 ? "" : "s", wants);
}

/* "3,1": n numbers that are not negative, into at most n; false on anything else. */
static bool read_numbers(const char *text, int32_t n, bool is_whole, double *out)
{
    for (int32_t i = 0; i < n; i++) {
        char *end;
        if (*text < '0' || *text > '9') return false;
        out[i] = strtod(text, &end);
        for (const char *c = text; c < end; c++)
            if ((*c < '0' || *c > '9') && (is_whole || *c != '.')) return false;
        if (!(out[i] <= 1e9) || *end != (i + 1 < n ? ',' : '\0')) return false;
        text = end + 1;
    }
    return true;
}

/* Layers by llama.cpp's rule; the head counts as one more layer, what stands before the layers goes to the first. */
static berth_status layers_by_shares(const char *split, const berth_strategy_input *in, int32_t n_layers,
                                     int32_t *layer_device, berth_error *err)
{
    double given[BERTH_MAX_DEVICES];
    float shares[BERTH_MAX_DEVICES], sum = 0;
    bool ok = read_numbers(split, in->n_devices, false, given);
    for (int32_t d = 0; ok && d < in->n_devices; d++) sum += shares[d] = (float)given[d];
    if (!ok || !(sum > 0)) return refuse_numbers("split", split, "shares, not all 0, as in 3,1", in->n_devices, err);
    berth_rule_layer(n_layers, n_layers + 1, false, shares, in->n_devices, layer_device + 1);
    layer_device[0] = 0;
    return BERTH_OK;
}

static berth_status layers_by_counts(const char *counts, const berth_strategy_input *in, int32_t n_layers,
                                     int32_t *layer_device, berth_error *err)
{
    double given[BERTH_MAX_DEVICES], sum = 0;
    bool ok = read_numbers(counts, in->n_devices, true, given);
    for (int32_t d = 0; ok && d < in->n_devices; d++) sum += given[d];
    if (!ok) return refuse_numbers("layers", counts, "whole counts of decoder layers, as in 20,8", in->n_devices, err);
    if (sum != n_layers)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "layers %s: they add up to %.0f, and the model has %d decoder layers", counts, sum,
                          (int)n_layers);
    int32_t layer = 1;
    for (int32_t d = 0; d < in->n_devices; d++)
        for (int32_t k = 0; k < (int32_t)given[d]; k++) layer_device[layer++] = d;
    layer_device[0] = layer_device[1]; /* the embedding; the model has a layer: a config without any is refused */
    layer_device[n_layers + 1] = layer_device[n_layers];
    return BERTH_OK;
}

static berth_status override(berth_core_plan *plan, const berth_strategy_input *in, berth_error *err)
{
    const berth_override *o = &plan->config.override;
    if (o->split && o->layers)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "split and layers both divide the decoder layers; give one");
    if (berth_override_is_empty(o)) return BERTH_OK;
    int32_t n_layers = berth_model_data_config(plan->model)->text.n_layers, n_aliases;
    int32_t *layer_device = calloc((size_t)n_layers + 2, sizeof *layer_device);
    berth_alias *aliases = berth_plan_aliases(plan->model, &n_aliases);
    berth_status st = layer_device && aliases ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "overrides");
    if (st == BERTH_OK && o->split) st = layers_by_shares(o->split, in, n_layers, layer_device, err);
    if (st == BERTH_OK && o->layers) st = layers_by_counts(o->layers, in, n_layers, layer_device, err);
    berth_placement *made = NULL;
    if (st == BERTH_OK)
        st = berth_override_apply(o, o->split || o->layers ? layer_device : NULL, n_layers, aliases, n_aliases,
                                  plan->placement, in, &made, err);
    free(layer_device);
    free(aliases);
    if (st != BERTH_OK) return st;
    berth_placement_destroy(plan->placement);
    plan->placement = made;
    return BERTH_OK;
}

static berth_status check_compat(const char *compat, bool has_map, berth_error *err)
{
    if (!compat) return BERTH_OK;
    if (strcmp(compat, "accelerate") != 0)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "compat \"%s\" is not known; there is accelerate", compat);
    return has_map ? BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "compat and a device map: the map decides; give one")
                   : BERTH_OK;
}

/* ---- all together ----------------------------------------------------------------------------------------------- */

static berth_status place_base(berth_core_plan *plan, const char *strategy, const char *map, size_t map_len,
                               berth_strategy_input *in, berth_error *err)
{
    const berth_plan_config *c = &plan->config;
    bool is_named = strategy && strategy[0];
    const char *name = is_named ? strategy : "auto", *rule = accelerate_rule(name, c->compat);
    if (map) return berth_placement_from_map(map, map_len, "device map", in, &plan->placement, err);
    bool limits_asked = false;
    for (int32_t d = 0; d < plan->machine->n_devices; d++) limits_asked |= plan->machine->devices[d].limit_asked;
    if (rule) return berth_plan_accelerate(in, rule, limits_asked, &plan->placement, err);
    if (!is_named && (c->override.split || c->override.layers))
        return place_on_first(in, &plan->placement, err); /* the layers move from there */
    return place_by_name(name, &c->plugins, in, &plan->placement, err);
}

enum { SIXTEENTHS = 16, MOST_DOUBLINGS = 24, MOST_REFINEMENTS = 6 };

/* All budgets by one factor: the shares between the devices stay as they are. */
static void scale_budgets(berth_strategy_input *in, const uint64_t *budgets, uint64_t sixteenths)
{
    berth_device_view *devices = (berth_device_view *)(uintptr_t)in->devices; /* made by berth_strategy_input_init */
    for (int32_t d = 0; d < in->n_devices; d++) {
        unsigned __int128 raised = (unsigned __int128)budgets[d] * sixteenths / SIXTEENTHS;
        devices[d].budget_bytes = raised > INT64_MAX ? INT64_MAX : (uint64_t)raised;
    }
}

/* The strategy's answer with the smallest factor, in sixteenths, of the budgets for which it has one. */
static berth_status place_lifted(berth_core_plan *plan, const char *strategy, berth_strategy_input *in,
                                 uint64_t *out_sixteenths, berth_error *err)
{
    uint64_t budgets[BERTH_MAX_DEVICES], low = SIXTEENTHS, high = SIXTEENTHS;
    berth_placement *best = NULL;
    berth_status st = BERTH_DOES_NOT_FIT;
    for (int32_t d = 0; d < in->n_devices; d++) budgets[d] = berth_device_at(in, d)->budget_bytes;
    for (int k = 0; k < MOST_DOUBLINGS && st == BERTH_DOES_NOT_FIT; k++) {
        low = high;
        high *= 2;
        scale_budgets(in, budgets, high);
        st = place_base(plan, strategy, NULL, 0, in, err);
    }
    for (int k = 0; k < MOST_REFINEMENTS && st == BERTH_OK && high - low > 1; k++) {
        uint64_t middle = low + (high - low) / 2;
        best = plan->placement;
        plan->placement = NULL;
        scale_budgets(in, budgets, middle);
        berth_status at = place_base(plan, strategy, NULL, 0, in, err);
        if (at == BERTH_OK) {
            high = middle;
            berth_placement_destroy(best);
            continue;
        }
        low = middle;
        plan->placement = best;
        if (at != BERTH_DOES_NOT_FIT) st = at;
    }
    scale_budgets(in, budgets, SIXTEENTHS);
    *out_sixteenths = high;
    return st;
}

static void note_lifted(berth_placement *p, uint64_t sixteenths)
{
    size_t len = strlen(p->note), room = sizeof p->note - len;
    int wrote =
        snprintf(p->note + len, room,
                 "%sthe strategy alone refuses: it placed this with %.4g times the memory there is, and what is "
                 "overridden was moved from there",
                 len ? "; " : "", (double)sixteenths / SIXTEENTHS);
    if (wrote < 0 || (size_t)wrote >= room) p->note[len] = '\0';
}

berth_status berth_plan_place(berth_core_plan *plan, const char *strategy, const char *map, size_t map_len,
                              berth_error *err)
{
    const berth_plan_config *c = &plan->config;
    berth_strategy_input in;
    berth_error refusal = {0};
    uint64_t sixteenths;
    berth_status st = check_compat(c->compat, map != NULL, err);
    if (st == BERTH_OK) st = berth_strategy_input_init(plan->model, plan->machine, c, &in, err);
    if (st != BERTH_OK) return st;
    st = place_base(plan, strategy, map, map_len, &in, &refusal);
    bool is_rescued = st == BERTH_DOES_NOT_FIT && !map && !berth_override_is_empty(&c->override);
    if (is_rescued) {
        berth_error ignored = {0};
        is_rescued = place_lifted(plan, strategy, &in, &sixteenths, &ignored) == BERTH_OK;
        if (is_rescued) st = BERTH_OK;
    }
    if (st != BERTH_OK && err) *err = refusal;
    if (st == BERTH_OK && is_rescued) note_lifted(plan->placement, sixteenths);
    if (st == BERTH_OK) st = override(plan, &in, err);
    berth_strategy_input_deinit(&in);
    return st;
}
