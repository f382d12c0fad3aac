/* route.c - the copies: wherever an op reads a value that lies elsewhere, one copy brings it, once per value and
 * device.
 *
 * One rule carries everything between devices: pixels to the vision encoder, features to the embedding, hidden states
 * to the next stage, logits to the host. A copy stands directly before its first reader; an output's copy to the host
 * directly after its producer, so that its memory is free early. Weights and states are never copied: reading one
 * elsewhere is left for check to refuse. Bytes travel as they are: where the reader's device gives such a value another
 * dtype, a convert follows the copy there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program/program_internal.h"

typedef struct router {
    berth_program *p;
    const berth_pass_env *env;
    berth_op *old;    /* owned: the ops as they were */
    int32_t *copy_at; /* owned; [n_old_values * n_devices]: the copy of a value on a device; BERTH_NO_VALUE */
} router;

/* The new value "x@cpu:1" on `device`, wanted by a reader in module `node`. */
static int32_t add_copy_value(router *r, int32_t of, int32_t device, int32_t node)
{
    berth_value v = r->p->values[of];
    char name[sizeof v.name + 32] = {0};
    const char *where = device == BERTH_DEVICE_HOST ? "host" : berth_word_device(r->env, device);
    int len = snprintf(name, sizeof name, "%s@%s", v.name, where);
    if (len < 0 || (size_t)len >= sizeof v.name) snprintf(name, sizeof name, "value.%d@%d", of, device);
    memcpy(v.name, name, sizeof v.name - 1);
    v.name[sizeof v.name - 1] = 0;
    v.kind = BERTH_VALUE_ACTIVATION;
    v.input = BERTH_INPUT_NONE;
    v.is_output = v.is_kept = v.is_traced = false;
    v.device = device;
    v.origin = of;
    v.producer = BERTH_NO_OP;
    v.node = node;
    return berth_program_add_value(r->p, &v);
}

static int32_t add_copy(router *r, int32_t of, int32_t device, int32_t node)
{
    int32_t value = add_copy_value(r, of, device, node);
    if (value < 0) return -1;
    const berth_value *from = &r->p->values[of];
    berth_op op = {.kind = BERTH_OP_COPY, .in = {of}, .n_in = 1, .out = value, .node = -1, .layer = from->layer};
    op.device = device == BERTH_DEVICE_HOST ? from->device : device;
    return berth_program_add_op(r->p, &op) < 0 ? -1 : value;
}

/* The copy `value` in the dtype of its new device: itself, or converted there. */
static int32_t converted(router *r, int32_t value, int32_t device, int32_t node)
{
    berth_value v = r->p->values[value];
    berth_dtype dtype = r->env->compute ? berth_dtype_on(&v, r->env->compute[device]) : v.dtype;
    if (dtype == v.dtype) return value;
    char name[sizeof v.name + 32];
    int len = snprintf(name, sizeof name, "%s.%s", v.name, berth_dtype_name(dtype));
    if (len < 0 || (size_t)len >= sizeof v.name)
        snprintf(name, sizeof name, "value.%d@%d.%s", v.origin, device, berth_dtype_name(dtype));
    memcpy(v.name, name, sizeof v.name - 1);
    v.name[sizeof v.name - 1] = 0;
    v.dtype = dtype;
    int32_t out = berth_program_add_value(r->p, &v);
    if (out < 0) return -1;
    berth_op op = {.kind = BERTH_OP_CONVERT,
                   .in = {value},
                   .n_in = 1,
                   .out = out,
                   .node = node,
                   .layer = v.layer,
                   .device = device};
    return berth_program_add_op(r->p, &op) < 0 ? -1 : out;
}

/* Lets operand k of *op be read on the op's device. */
static bool route_operand(router *r, berth_op *op, int32_t k)
{
    int32_t v = op->in[k];
    if (v < 0 || v >= r->p->n_values) return true; /* check names it */
    const berth_value *from = &r->p->values[v];
    if (from->device == op->device || from->device == BERTH_DEVICE_NONE) return true;
    if (from->kind != BERTH_VALUE_INPUT && from->kind != BERTH_VALUE_ACTIVATION) return true;
    int32_t *slot = &r->copy_at[(size_t)v * (size_t)r->p->n_devices + (size_t)op->device];
    if (*slot == BERTH_NO_VALUE) {
        int32_t copy = add_copy(r, v, op->device, op->node);
        if (copy >= 0) *slot = converted(r, copy, op->device, op->node);
    }
    if (*slot < 0) return false;
    op->in[k] = *slot;
    return true;
}

static bool route_op(router *r, const berth_op *was)
{
    berth_op op = *was;
    if (op.kind != BERTH_OP_COPY)
        for (int32_t k = 0; k < op.n_in; k++)
            if (!route_operand(r, &op, k)) return false;
    if (berth_program_add_op(r->p, &op) < 0) return false;
    if (op.out < 0 || op.out >= r->p->n_values) return true;
    const berth_value *v = &r->p->values[op.out];
    if (v->is_output && v->kind == BERTH_VALUE_ACTIVATION && v->device >= 0)
        return add_copy(r, op.out, BERTH_DEVICE_HOST, v->node) >= 0;
    return true;
}

/* Reading across lanes: the reader waits for the op that made the value. */
static bool add_waits(berth_program *p)
{
    berth_wait_list list = {0};
    bool ok = true;
    for (int32_t i = 0; ok && i < p->n_ops; i++) {
        for (int32_t k = 0; ok && k < p->ops[i].n_in; k++) {
            int32_t v = p->ops[i].in[k];
            int32_t by = v < 0 || v >= p->n_values ? BERTH_NO_OP : p->values[v].producer;
            if (by >= 0 && by < i && p->ops[by].device != p->ops[i].device) ok = berth_wait_list_add(&list, i, by);
        }
    }
    ok = ok && berth_waits_assign(p, &list);
    free(list.pairs);
    return ok;
}

berth_status berth_route(berth_program *p, const berth_pass_env *env, berth_error *err)
{
    router r = {.p = p, .env = env};
    int32_t n_ops = p->n_ops;
    for (int32_t i = 0; i < n_ops; i++)
        if (p->ops[i].device < 0 || p->ops[i].device >= p->n_devices)
            return BERTH_FAIL(err, BERTH_AFFINITY, "program %s: op %d \"%s\" must be placed before it is routed",
                              p->name, i, berth_word_value(p, p->ops[i].out));
    size_t n_slots = (size_t)p->n_values * (size_t)p->n_devices;
    r.copy_at = malloc((n_slots + 1) * sizeof *r.copy_at);
    r.old = malloc(((size_t)n_ops + 1) * sizeof *r.old);
    bool ok = r.copy_at && r.old;
    if (ok) {
        for (size_t i = 0; i < n_slots; i++) r.copy_at[i] = BERTH_NO_VALUE;
        if (n_ops) memcpy(r.old, p->ops, (size_t)n_ops * sizeof *r.old);
        p->n_ops = 0;
        for (int32_t i = 0; ok && i < n_ops; i++) ok = route_op(&r, &r.old[i]);
    }
    if (ok) {
        berth_program_reindex(p);
        ok = add_waits(p);
    }
    free(r.copy_at);
    free(r.old);
    return ok ? BERTH_OK : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "routing program %s", p->name);
}
