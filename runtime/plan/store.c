#include "plan/store.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

size_t berth_plan_round(size_t bytes, size_t align)
{
    size_t rounded;
    return berth_round_up(bytes, align, &rounded) ? rounded : SIZE_MAX;
}

static berth_status add_stores(const berth_replica_plan *r, const berth_program *p, berth_store *stores, int32_t *n,
                               berth_error *err)
{
    for (int32_t i = 0; p && i < p->n_values; i++) {
        const berth_value *v = &p->values[i];
        if (v->kind != BERTH_VALUE_STATE) continue;
        size_t bytes;
        if (!berth_value_bytes(v, &p->bounds, &bytes))
            return BERTH_FAIL(err, BERTH_DOES_NOT_FIT, "%s: its size overflows; use a shorter context", v->name);
        berth_store s = {v->state, v->layer, v->device, berth_plan_round(bytes, r->backends[v->device]->align), NULL};
        int32_t at = 0;
        while (at < *n && (stores[at].key != s.key || stores[at].layer != s.layer)) at++;
        if (at == *n)
            stores[(*n)++] = s;
        else if (stores[at].device != s.device || stores[at].bytes != s.bytes)
            return BERTH_FAIL(err, BERTH_INTERNAL, "%s: the programs disagree about its device or size", v->name);
    }
    return BERTH_OK;
}

berth_status berth_stores_collect(const berth_replica_plan *replica, berth_store **out, int32_t *out_n,
                                  berth_error *err)
{
    int32_t most = replica->step->n_values + (replica->encode ? replica->encode->n_values : 0);
    *out_n = 0;
    *out = calloc((size_t)most + 1, sizeof **out);
    if (!*out) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "list of stores");
    berth_status st = add_stores(replica, replica->encode, *out, out_n, err);
    if (st == BERTH_OK) st = add_stores(replica, replica->step, *out, out_n, err);
    if (st != BERTH_OK) {
        free(*out);
        *out = NULL;
    }
    return st;
}

static void flag_weights(const berth_program *p, int32_t device, bool *wanted)
{
    for (int32_t i = 0; p && i < p->n_values; i++) {
        const berth_value *v = &p->values[i];
        if (v->kind == BERTH_VALUE_WEIGHT && v->device == device && v->param >= 0) wanted[v->param] = true;
    }
}

void berth_plan_wanted(const berth_core_plan *plan, int32_t device, bool *wanted)
{
    memset(wanted, 0, (size_t)berth_model_data_n_params(plan->model) * sizeof *wanted);
    for (int32_t r = 0; r < plan->placement->n_replicas; r++) {
        flag_weights(plan->replicas[r].encode, device, wanted);
        flag_weights(plan->replicas[r].step, device, wanted);
    }
}
