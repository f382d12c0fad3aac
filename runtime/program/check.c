/* check.c - the affinity checker: proof that a program is whole before anything is loaded or run.
 *
 * Trusts no pass: takes any program, also one that a fault or a plug-in edited, and derives writers, devices and
 * order from the op list alone. In stages, each relying on the ones before: indices in range, values well formed,
 * written before read, operands of the right type and shape, everything where it is used, every edge between lanes
 * ordered. The first violation is the error, worded for one who chose the placement. */
#include <stdlib.h>
#include <string.h>

#include "program/check_internal.h"

#define MAX_DIM (INT64_C(1) << 40) /* so that sums and small products of dimensions never overflow */

typedef struct checker {
    const berth_program *p;
    const berth_pass_env *env;
    berth_error *err;
    int32_t *writer; /* owned; [n_values]: op that writes the value (the first, for a state); BERTH_NO_OP */
} checker;

/* `program step: op ...: <text>`, with an op in front when op >= 0. Always BERTH_AFFINITY. */
static berth_status refuse(const checker *c, int32_t op, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static berth_status refuse(const checker *c, int32_t op, const char *fmt, ...)
{
    berth_buffer b = {0};
    va_list args;
    va_start(args, fmt);
    if (op >= 0) {
        berth_say_op(c->p, c->env, op, &b);
        berth_buffer_putc(&b, ' ');
    }
    berth_buffer_vprintf(&b, fmt, args);
    va_end(args);
    berth_status st =
        BERTH_FAIL(c->err, BERTH_AFFINITY, "program %.15s: %s", c->p->name, b.data ? b.data : "is not valid");
    berth_buffer_deinit(&b);
    return st;
}

static bool has_value(const berth_program *p, int32_t v)
{
    return v >= 0 && v < p->n_values;
}
static bool has_device(const berth_program *p, int32_t d)
{
    return d >= 0 && d < p->n_devices;
}

/* ---- indices and fields ----------------------------------------------------------------------------------------- */

static berth_status check_value(const checker *c, int32_t i)
{
    const berth_value *v = &c->p->values[i];
    if (!memchr(v->name, 0, sizeof v->name) || !v->name[0]) return refuse(c, -1, "value %d has no name", i);
    if ((unsigned)v->kind > BERTH_VALUE_STATE || (unsigned)v->dtype >= BERTH_DTYPE_COUNT ||
        (unsigned)v->partiality > BERTH_PARTIAL)
        return refuse(c, -1, "value \"%s\" has an unknown kind, dtype or partiality", v->name);
    if (v->n_dims < 1 || v->n_dims > BERTH_VALUE_DIMS)
        return refuse(c, -1, "value \"%s\" has %d dimensions; 1 to %d are possible", v->name, v->n_dims,
                      BERTH_VALUE_DIMS);
    for (int32_t k = 0; k < v->n_dims; k++)
        if (v->dims[k].n < 1 || v->dims[k].n > MAX_DIM || (unsigned)v->dims[k].sym >= BERTH_SYM_COUNT)
            return refuse(c, -1, "value \"%s\": dimension %d is not a number from 1 to 2^40 or a symbol", v->name, k);
    if (v->device != BERTH_DEVICE_HOST && !has_device(c->p, v->device) && v->kind != BERTH_VALUE_STATE)
        return refuse(c, -1, "value \"%s\" lies on device %d; there are %d", v->name, v->device, c->p->n_devices);
    if (v->origin != BERTH_NO_VALUE && !has_value(c->p, v->origin))
        return refuse(c, -1, "value \"%s\" is a copy of value %d, which does not exist", v->name, v->origin);
    return BERTH_OK;
}

static berth_status check_op_fields(const checker *c, int32_t i)
{
    const berth_program *p = c->p;
    const berth_op *op = &p->ops[i];
    if (!berth_check_known(op->kind)) return refuse(c, -1, "op %d is of an unknown kind (%d)", i, (int)op->kind);
    const berth_op_info *info = &berth_op_infos[op->kind];
    if (op->n_in < info->min_in || op->n_in > info->max_in || op->n_in > BERTH_OP_INPUTS)
        return refuse(c, i, "has %d inputs; %s takes %d to %d", op->n_in, info->name, info->min_in, info->max_in);
    for (int32_t k = 0; k < op->n_in; k++)
        if (!has_value(p, op->in[k])) return refuse(c, i, "reads value %d, which does not exist", op->in[k]);
    if (!has_value(p, op->out)) return refuse(c, i, "writes value %d, which does not exist", op->out);
    if (!has_device(p, op->device)) return refuse(c, i, "runs on device %d; there are %d", op->device, p->n_devices);
    if (op->n_waits < 0 || op->first_wait < 0 || op->first_wait > p->n_waits ||
        op->n_waits > p->n_waits - op->first_wait)
        return refuse(c, i, "has waits outside the program's list of waits");
    for (int32_t k = 0; k < op->n_waits; k++) {
        int32_t on = p->waits[op->first_wait + k];
        if (on < 0 || on >= i) return refuse(c, i, "waits for op %d, which does not stand before it", on);
    }
    return BERTH_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static berth_status check_names(const checker *c)
{
    size_t n = (size_t)c->p->n_values;
    const char **names = malloc((n + 1) * sizeof *names);
    if (!names) return BERTH_FAIL(c->err, BERTH_OUT_OF_MEMORY, "checking program %.15s", c->p->name);
    for (size_t i = 0; i < n; i++) names[i] = c->p->values[i].name;
    qsort(names, n, sizeof *names, by_name);
    berth_status st = BERTH_OK;
    for (size_t i = 1; i < n && st == BERTH_OK; i++)
        if (strcmp(names[i - 1], names[i]) == 0) st = refuse(c, -1, "two values are called \"%s\"", names[i]);
    free(names);
    return st;
}

static berth_status check_fields(const checker *c)
{
    const berth_program *p = c->p;
    if (p->n_devices < 1 || p->n_devices > BERTH_MAX_DEVICES || p->n_devices != c->env->n_devices)
        return refuse(c, -1, "was placed on %d devices; the machine has %d", p->n_devices, c->env->n_devices);
    if (p->n_values < 0 || p->n_ops < 0 || p->n_waits < 0)
        return refuse(c, -1, "has a negative number of values, ops or waits");
    berth_status st = BERTH_OK;
    for (int32_t i = 0; i < p->n_values && st == BERTH_OK; i++) st = check_value(c, i);
    if (st == BERTH_OK) st = check_names(c);
    for (int32_t i = 0; i < p->n_ops && st == BERTH_OK; i++) st = check_op_fields(c, i);
    return st;
}

/* ---- written once, and before it is read ------------------------------------------------------------------------ */

static berth_status check_write(const checker *c, int32_t i)
{
    const berth_op *op = &c->p->ops[i];
    const berth_value *v = &c->p->values[op->out];
    const char *what = v->kind == BERTH_VALUE_WEIGHT ? "a weight" : "an input";
    if (v->kind == BERTH_VALUE_WEIGHT || v->kind == BERTH_VALUE_INPUT)
        return refuse(c, i, "writes \"%s\", which is %s and never written by an op", v->name, what);
    bool writes_state = berth_op_infos[op->kind].writes_state;
    if (writes_state != (v->kind == BERTH_VALUE_STATE))
        return refuse(c, i, writes_state ? "writes \"%s\", which is no state" : "overwrites the state \"%s\"", v->name);
    if (v->kind == BERTH_VALUE_ACTIVATION && c->writer[op->out] != BERTH_NO_OP)
        return refuse(c, i, "writes \"%s\" again; op %d already wrote it", v->name, c->writer[op->out]);
    if (v->kind == BERTH_VALUE_ACTIVATION && v->producer != i)
        return refuse(c, i, "writes \"%s\", whose recorded producer is op %d", v->name, v->producer);
    if (c->writer[op->out] == BERTH_NO_OP) c->writer[op->out] = i;
    return BERTH_OK;
}

static berth_status check_written(const checker *c)
{
    const berth_program *p = c->p;
    for (int32_t i = 0; i < p->n_values; i++) c->writer[i] = BERTH_NO_OP;
    for (int32_t i = 0; i < p->n_ops; i++) {
        const berth_op *op = &p->ops[i];
        for (int32_t k = 0; k < op->n_in; k++) {
            const berth_value *v = &p->values[op->in[k]];
            if (v->kind == BERTH_VALUE_ACTIVATION && c->writer[op->in[k]] == BERTH_NO_OP)
                return refuse(c, i, "reads \"%s\", which no earlier op writes%s", v->name,
                              v->origin != BERTH_NO_VALUE ? "; its copy is missing or comes too late" : "");
        }
        berth_status st = check_write(c, i);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

/* ---- what each op may read and write ---------------------------------------------------------------------------- */

static berth_status refuse_shapes(const checker *c, int32_t i)
{
    const berth_op *op = &c->p->ops[i];
    berth_buffer b = {0};
    for (int32_t k = 0; k < op->n_in; k++) {
        berth_buffer_printf(&b, "%s\"%s\" ", k ? ", " : "", berth_word_value(c->p, op->in[k]));
        berth_say_shape(&c->p->values[op->in[k]], &b);
    }
    berth_buffer_puts(&b, " -> ");
    berth_say_shape(&c->p->values[op->out], &b);
    berth_status st = refuse(c, i, "has shapes or attributes that do not fit together: %s", b.data ? b.data : "");
    berth_buffer_deinit(&b);
    return st;
}

/* Can the op's device compute with this operand as it is stored? Any device can widen any float: that is what a
 * convert is for. */
static bool computes(const checker *c, const berth_op *op, int32_t operand, berth_dtype dtype)
{
    if (!c->env->device_dtypes || op->kind == BERTH_OP_COPY || !berth_dtype_is_float(dtype)) return true;
    if (op->kind == BERTH_OP_CONVERT && operand >= 0) return true;
    return c->env->device_dtypes[op->device] >> dtype & 1;
}

/* Activations are fp32 or what their device computes in. */
static bool follows_device(const checker *c, const berth_op *op, int32_t operand, berth_dtype dtype)
{
    if (dtype == BERTH_F32 || !berth_check_follows_device(op->kind, operand)) return true;
    return c->env->compute && c->env->compute[op->device] == dtype;
}

static berth_status check_type(const checker *c, int32_t i, int32_t operand)
{
    const berth_op *op = &c->p->ops[i];
    const berth_value *v = &c->p->values[operand < 0 ? op->out : op->in[operand]];
    const char *what = operand < 0 ? "its output" : "an input", *dtype = berth_dtype_name(v->dtype);
    if (!berth_check_dtype(op->kind, operand, v->dtype))
        return refuse(c, i, "has \"%s\" as %s of dtype %s, which a %s does not take", v->name, what, dtype,
                      berth_word_op(op->kind));
    if (!computes(c, op, operand, v->dtype))
        return refuse(c, i, "runs on %s, which cannot compute with %s, the dtype of \"%s\"",
                      berth_word_device(c->env, op->device), dtype, v->name);
    if (!follows_device(c, op, operand, v->dtype))
        return refuse(c, i, "has \"%s\" as %s of dtype %s, which a %s does not take on %s: it computes in %s", v->name,
                      what, dtype, berth_word_op(op->kind), berth_word_device(c->env, op->device),
                      berth_dtype_name(c->env->compute ? c->env->compute[op->device] : BERTH_F32));
    return BERTH_OK;
}

static berth_status check_partial(const checker *c, int32_t i)
{
    const berth_op *op = &c->p->ops[i];
    const berth_value *out = &c->p->values[op->out];
    for (int32_t k = 0; k < op->n_in; k++) {
        const berth_value *v = &c->p->values[op->in[k]];
        if (v->partiality == BERTH_PARTIAL && op->kind != BERTH_OP_COPY)
            return refuse(c, i, "reads \"%s\", a partial sum that was never reduced", v->name);
    }
    if (op->kind == BERTH_OP_COPY && out->partiality != c->p->values[op->in[0]].partiality)
        return refuse(c, i, "turns a partial sum into a full value or the reverse: \"%s\"",
                      berth_word_value(c->p, op->in[0]));
    if (out->partiality == BERTH_PARTIAL && (!berth_check_may_be_partial(op->kind) || out->is_output || out->is_kept))
        return refuse(c, i, "gives \"%s\" as a partial sum, where the whole is needed", out->name);
    return BERTH_OK;
}

static berth_status check_ops(const checker *c)
{
    for (int32_t i = 0; i < c->p->n_ops; i++) {
        berth_status st = BERTH_OK;
        for (int32_t k = -1; k < c->p->ops[i].n_in && st == BERTH_OK; k++) st = check_type(c, i, k);
        if (st == BERTH_OK) st = check_partial(c, i);
        if (st == BERTH_OK && !berth_check_shapes(c->p, &c->p->ops[i])) st = refuse_shapes(c, i);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

/* ---- everything where it is used -------------------------------------------------------------------------------- */

/* The node whose placement decided where v lies; -1. */
static int32_t decider_of(const checker *c, int32_t v)
{
    const berth_value *x = &c->p->values[v];
    if (x->kind == BERTH_VALUE_WEIGHT || x->origin != BERTH_NO_VALUE) return x->node;
    return c->writer[v] >= 0 ? c->p->ops[c->writer[v]].node : x->node;
}

static berth_status refuse_elsewhere(const checker *c, int32_t i, int32_t v, bool is_out)
{
    const berth_op *op = &c->p->ops[i];
    const berth_value *x = &c->p->values[v];
    berth_buffer why = {0};
    bool said = berth_say_why(c->env, op->node, &why);
    size_t at = why.len;
    if (said) berth_buffer_puts(&why, "; ");
    if (!berth_say_why(c->env, decider_of(c, v), &why) && said) {
        why.len = at;
        why.data[at] = 0;
    }
    const char *path = berth_word_path(c->env, x->node);
    berth_status st = refuse(
        c, i, "runs on %s, but its %s \"%s\"%s%s%s lies on %s%s%s%s; %s", berth_word_device(c->env, op->device),
        is_out                          ? "output"
        : x->kind == BERTH_VALUE_WEIGHT ? "weight"
        : x->kind == BERTH_VALUE_STATE  ? "state"
                                        : "input",
        x->name, path[0] ? " (" : "", path, path[0] ? ")" : "", berth_word_device(c->env, x->device),
        why.len ? " [" : "", why.data ? why.data : "", why.len ? "]" : "",
        x->kind == BERTH_VALUE_WEIGHT || x->kind == BERTH_VALUE_STATE ? "weights and states are never copied in a run"
                                                                      : "no copy carries it");
    berth_buffer_deinit(&why);
    return st;
}

static berth_status check_copy(const checker *c, int32_t i)
{
    const berth_op *op = &c->p->ops[i];
    const berth_value *from = &c->p->values[op->in[0]], *to = &c->p->values[op->out];
    if (from->kind == BERTH_VALUE_WEIGHT || from->kind == BERTH_VALUE_STATE)
        return refuse(c, i, "copies \"%s\"; weights and states are never copied in a run", from->name);
    if (from->dtype != to->dtype) return refuse(c, i, "changes the dtype of \"%s\"", from->name);
    if (to->origin != op->in[0])
        return refuse(c, i, "copies \"%s\", but \"%s\" is meant to be a copy of another value", from->name, to->name);
    if (from->device == to->device)
        return refuse(c, i, "copies \"%s\" from %s to itself", from->name, berth_word_device(c->env, from->device));
    int32_t lane = to->device == BERTH_DEVICE_HOST ? from->device : to->device;
    if (op->device != lane)
        return refuse(c, i, "carries \"%s\" from %s to %s, but runs on the lane of %s", from->name,
                      berth_word_device(c->env, from->device), berth_word_device(c->env, to->device),
                      berth_word_device(c->env, op->device));
    return BERTH_OK;
}

static berth_status check_places(const checker *c)
{
    const berth_program *p = c->p;
    for (int32_t i = 0; i < p->n_ops; i++) {
        const berth_op *op = &p->ops[i];
        if (op->kind == BERTH_OP_COPY) {
            berth_status st = check_copy(c, i);
            if (st != BERTH_OK) return st;
            continue;
        }
        for (int32_t k = 0; k < op->n_in; k++)
            if (p->values[op->in[k]].device != op->device) return refuse_elsewhere(c, i, op->in[k], false);
        if (p->values[op->out].device != op->device) return refuse_elsewhere(c, i, op->out, true);
    }
    return BERTH_OK;
}

static bool reaches_host(const checker *c, int32_t v)
{
    const berth_value *values = c->p->values;
    if (c->writer[v] < 0) return false;
    if (values[v].device == BERTH_DEVICE_HOST) return true;
    for (int32_t k = 0; k < c->p->n_values; k++)
        if (values[k].origin == v && values[k].device == BERTH_DEVICE_HOST && c->writer[k] >= 0) return true;
    return false;
}

/* Inputs on the host, weights where the placement says, outputs brought to the host. */
static berth_status check_ends(const checker *c)
{
    const berth_program *p = c->p;
    for (int32_t i = 0; i < p->n_values; i++) {
        const berth_value *v = &p->values[i];
        if (v->kind == BERTH_VALUE_INPUT && v->device != BERTH_DEVICE_HOST)
            return refuse(c, -1, "input \"%s\" lies on %s; inputs lie in host memory", v->name,
                          berth_word_device(c->env, v->device));
        int32_t by = -1, put = v->kind == BERTH_VALUE_WEIGHT ? berth_env_device(c->env, v->node, &by) : -1;
        if (put >= 0 && v->device != put)
            return refuse(c, -1, "weight \"%s\" (%s) lies on %s, but the placement put %s on %s", v->name,
                          berth_word_path(c->env, v->node), berth_word_device(c->env, v->device),
                          berth_word_path(c->env, by), berth_word_device(c->env, put));
    }
    for (int32_t i = 0; i < p->n_values; i++) {
        const berth_value *v = &p->values[i];
        if (v->is_output && v->kind == BERTH_VALUE_ACTIVATION && !reaches_host(c, i))
            return refuse(c, c->writer[i], "makes the output \"%s\" on %s, and no copy carries it to the host", v->name,
                          berth_word_device(c->env, v->device));
    }
    return BERTH_OK;
}

/* ---- order between lanes ---------------------------------------------------------------------------------------- */

static berth_status check_order(const checker *c)
{
    const berth_program *p = c->p;
    berth_order order;
    berth_status st = BERTH_OK;
    if (!berth_order_init(&order, p)) return BERTH_FAIL(c->err, BERTH_OUT_OF_MEMORY, "checking program %.15s", p->name);
    for (int32_t i = 0; i < p->n_ops && st == BERTH_OK; i++) {
        for (int32_t k = 0; k < p->ops[i].n_in && st == BERTH_OK; k++) {
            int32_t v = p->ops[i].in[k], by = c->writer[v];
            if (p->values[v].kind != BERTH_VALUE_ACTIVATION || berth_order_before(&order, by, i)) continue;
            st = refuse(c, i, "on %s reads \"%s\", which op %d makes on %s, without waiting for it",
                        berth_word_device(c->env, p->ops[i].device), p->values[v].name, by,
                        berth_word_device(c->env, p->ops[by].device));
        }
    }
    berth_order_deinit(&order);
    return st;
}

berth_status berth_check(const berth_program *p, const berth_pass_env *env, berth_error *err)
{
    checker c = {.p = p, .env = env, .err = err};
    berth_status st = check_fields(&c);
    if (st != BERTH_OK) return st;
    c.writer = malloc(((size_t)p->n_values + 1) * sizeof *c.writer);
    if (!c.writer) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "checking program %.15s", p->name);
    st = check_written(&c);
    if (st == BERTH_OK) st = check_ops(&c);
    if (st == BERTH_OK) st = check_places(&c);
    if (st == BERTH_OK) st = check_ends(&c);
    if (st == BERTH_OK) st = check_order(&c);
    free(c.writer);
    return st;
}
