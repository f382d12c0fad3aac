/* place.c - where each op runs and each value lies, from the placement alone.
 *
 * An op runs where its node was put. A weight lies where its own node was put; an op's node is that of its main
 * weight, so a weight that lies elsewhere is a second tensor of the same op (a bias, a norm's bias, position rows),
 * torn off by the placement: refused here, with both named. States go with the ops that use them. Cheap pure ops
 * marked `replicate` are made once on every device that reads them. Copies are route's work. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program/program_internal.h"

static berth_status place_op(berth_program *p, const berth_pass_env *env, int32_t i, berth_error *err)
{
    berth_op *op = &p->ops[i];
    op->device = berth_env_device(env, op->node, NULL);
    if (op->device >= 0 && op->device < env->n_devices) return BERTH_OK;
    berth_buffer text = {0};
    berth_say_op(p, env, i, &text);
    berth_status st = BERTH_FAIL(err, BERTH_AFFINITY, "program %s: %s has no device: %s was placed nowhere", p->name,
                                 text.data ? text.data : "op",
                                 op->node < 0 ? "no module of the model owns it, and so it" : "its module");
    berth_buffer_deinit(&text);
    return st;
}

/* The device for a value before anything reads it across devices; activations follow their producer. */
static berth_status place_values(berth_program *p, const berth_pass_env *env, berth_error *err)
{
    for (int32_t i = 0; i < p->n_values; i++) {
        berth_value *v = &p->values[i];
        v->device = BERTH_DEVICE_NONE;
        if (v->kind == BERTH_VALUE_INPUT) v->device = BERTH_DEVICE_HOST;
        if (v->kind != BERTH_VALUE_WEIGHT) continue;
        v->device = berth_env_device(env, v->node, NULL);
        if (v->device < 0 || v->device >= env->n_devices)
            return BERTH_FAIL(err, BERTH_AFFINITY, "program %s: tensor %s (%s) was placed on no device", p->name,
                              v->name, berth_word_path(env, v->node));
    }
    for (int32_t i = 0; i < p->n_ops; i++) {
        const berth_op *op = &p->ops[i];
        if (op->out >= 0 && op->out < p->n_values) {
            berth_value *v = &p->values[op->out];
            if (v->kind == BERTH_VALUE_ACTIVATION) v->device = op->device;
            if (v->kind == BERTH_VALUE_STATE && v->device == BERTH_DEVICE_NONE) v->device = op->device;
        }
        for (int32_t k = 0; k < op->n_in; k++) {
            if (op->in[k] < 0 || op->in[k] >= p->n_values) continue;
            berth_value *v = &p->values[op->in[k]];
            if (v->kind == BERTH_VALUE_STATE && v->device == BERTH_DEVICE_NONE) v->device = op->device;
        }
    }
    return BERTH_OK;
}

/* A weight on another device than the op that reads it: say which tensors were torn apart, and by what. */
static berth_status refuse_torn(const berth_program *p, const berth_pass_env *env, int32_t op, const berth_value *w,
                                berth_error *err)
{
    const berth_op *o = &p->ops[op];
    int32_t module = berth_word_module(env, w->node);
    berth_buffer text = {0}, why = {0};
    berth_say_op(p, env, op, &text);
    berth_say_why(env, w->node, &why);
    berth_status st = BERTH_FAIL(
        err, BERTH_INVALID_ARGUMENT,
        "%s and %s are read by one op and cannot lie on two devices: %s runs on %s, but %s; place %s as a whole",
        berth_word_path(env, o->node), berth_word_path(env, w->node), text.data ? text.data : "op",
        berth_word_device(env, o->device), why.data ? why.data : "the other was put elsewhere",
        module >= 0 ? berth_word_path(env, module) : "their module");
    berth_buffer_deinit(&text);
    berth_buffer_deinit(&why);
    return st;
}

static berth_status check_torn(const berth_program *p, const berth_pass_env *env, berth_error *err)
{
    for (int32_t i = 0; i < p->n_ops; i++) {
        for (int32_t k = 0; k < p->ops[i].n_in; k++) {
            int32_t v = p->ops[i].in[k];
            if (v < 0 || v >= p->n_values || p->values[v].kind != BERTH_VALUE_WEIGHT) continue;
            if (p->values[v].device != p->ops[i].device) return refuse_torn(p, env, i, &p->values[v], err);
        }
    }
    return BERTH_OK;
}

/* ---- replicated ops --------------------------------------------------------------------------------------------- */

/* The ops in [from, n_ops) on `device` read `was`: let them read `now`. */
static void rewire(berth_program *p, int32_t from, int32_t device, int32_t was, int32_t now)
{
    for (int32_t i = from; i < p->n_ops; i++)
        for (int32_t k = 0; k < p->ops[i].n_in; k++)
            if (p->ops[i].device == device && p->ops[i].in[k] == was) p->ops[i].in[k] = now;
}

/* A twin of op i on `device`, directly behind it. */
static bool clone_op(berth_program *p, const berth_pass_env *env, int32_t i, int32_t device)
{
    berth_value v = p->values[p->ops[i].out];
    char name[sizeof v.name + 32] = {0};
    snprintf(name, sizeof name, "%s@%s", v.name, berth_word_device(env, device));
    memcpy(v.name, name, sizeof v.name - 1);
    v.name[sizeof v.name - 1] = 0;
    v.device = device;
    v.is_output = v.is_kept = v.is_traced = false;
    int32_t value = berth_program_add_value(p, &v);
    berth_op twin = p->ops[i];
    twin.out = value;
    twin.device = device;
    if (value < 0 || berth_program_add_op(p, &twin) < 0) return false;
    memmove(&p->ops[i + 2], &p->ops[i + 1], (size_t)(p->n_ops - i - 2) * sizeof *p->ops);
    p->ops[i + 1] = twin;
    rewire(p, i + 2, device, p->ops[i].out, value);
    return true;
}

/* Op i goes to the device of its first reader, and a twin of it to every other one that reads it. */
static bool replicate(berth_program *p, const berth_pass_env *env, int32_t i)
{
    uint64_t seen = 0; /* BERTH_MAX_DEVICES bits */
    int32_t first = -1, last = p->n_ops, out = p->ops[i].out;
    for (int32_t j = i + 1; j < last; j++) {
        for (int32_t k = 0; k < p->ops[j].n_in; k++) {
            if (p->ops[j].in[k] != out || (seen >> p->ops[j].device & 1)) continue;
            seen |= UINT64_C(1) << p->ops[j].device;
            if (first < 0) first = p->ops[j].device;
        }
    }
    if (first < 0) return true;
    p->ops[i].device = first;
    for (int32_t d = env->n_devices - 1; d >= 0; d--)
        if (d != first && (seen >> d & 1) && !clone_op(p, env, i, d)) return false;
    return true;
}

berth_status berth_place(berth_program *p, const berth_pass_env *env, berth_error *err)
{
    if (env->n_devices < 1 || env->n_devices > BERTH_MAX_DEVICES)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "%d devices were asked for; between 1 and %d can be used",
                          env->n_devices, BERTH_MAX_DEVICES);
    p->n_devices = env->n_devices;
    for (int32_t i = 0; i < p->n_ops; i++) {
        berth_status st = place_op(p, env, i, err);
        if (st != BERTH_OK) return st;
    }
    for (int32_t i = p->n_ops - 1; i >= 0;
         i--) /* backwards, so that a replicated reader is placed before what it reads */
        if (p->ops[i].replicate && !replicate(p, env, i))
            return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "placing program %s", p->name);
    berth_program_reindex(p);
    berth_status st = place_values(p, env, err);
    return st == BERTH_OK ? check_torn(p, env, err) : st;
}
