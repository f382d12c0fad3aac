/* program.c - the data structure: growing it, copying it, finding in it, and putting numbers for symbols.
 *
 * Knows nothing of what ops mean; see the passes for that. Indices are the only links, so a program can be copied
 * byte by byte. */
#include "program/program.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "program/program_internal.h"

berth_program *berth_program_create(const char *name, const berth_sizes *bounds)
{
    berth_program *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    strncpy(p->name, name, sizeof p->name - 1);
    p->bounds = *bounds;
    p->bounds.value[BERTH_SYM_ONE] = 1;
    return p;
}

void berth_program_destroy(berth_program *p)
{
    if (!p) return;
    free(p->values);
    free(p->ops);
    free(p->waits);
    free(p);
}

/* A copy of n items of `size`; *ok stays true unless memory is out. */
static void *copy_array(const void *from, int32_t n, size_t size, bool *ok)
{
    if (n <= 0) return NULL;
    void *to = malloc((size_t)n * size);
    if (!to) {
        *ok = false;
        return NULL;
    }
    memcpy(to, from, (size_t)n * size);
    return to;
}

berth_program *berth_program_copy(const berth_program *p)
{
    berth_program *c = malloc(sizeof *c);
    if (!c) return NULL;
    bool ok = true;
    *c = *p;
    c->values = copy_array(p->values, p->n_values, sizeof *p->values, &ok);
    c->ops = copy_array(p->ops, p->n_ops, sizeof *p->ops, &ok);
    c->waits = copy_array(p->waits, p->n_waits, sizeof *p->waits, &ok);
    c->cap_values = p->n_values;
    c->cap_ops = p->n_ops;
    c->cap_waits = p->n_waits;
    if (ok) return c;
    berth_program_destroy(c);
    return NULL;
}

/* Room for one more item; `array` is the address of the pointer. */
static bool grow(void *array, int32_t n, int32_t *cap, size_t size)
{
    if (n < *cap) return true;
    if (n > INT32_MAX / 2) return false;
    int32_t want = n < 32 ? 64 : 2 * n;
    void *old;
    memcpy(&old, array, sizeof old);
    void *bigger = realloc(old, (size_t)want * size);
    if (!bigger) return false;
    memcpy(array, &bigger, sizeof bigger);
    *cap = want;
    return true;
}

int32_t berth_program_add_value(berth_program *p, const berth_value *v)
{
    if (!grow(&p->values, p->n_values, &p->cap_values, sizeof *p->values)) return -1;
    p->values[p->n_values] = *v;
    return p->n_values++;
}

int32_t berth_program_add_op(berth_program *p, const berth_op *op)
{
    if (!grow(&p->ops, p->n_ops, &p->cap_ops, sizeof *p->ops)) return -1;
    p->ops[p->n_ops] = *op;
    if (op->out >= 0 && op->out < p->n_values && p->values[op->out].kind == BERTH_VALUE_ACTIVATION)
        p->values[op->out].producer = p->n_ops;
    return p->n_ops++;
}

bool berth_program_add_wait(berth_program *p, int32_t op, int32_t on)
{
    if (op < 0 || op >= p->n_ops || on < 0 || on >= p->n_ops) return false;
    berth_op *o = &p->ops[op];
    if (o->n_waits > 0 && o->first_wait + o->n_waits != p->n_waits) return false;
    if (!grow(&p->waits, p->n_waits, &p->cap_waits, sizeof *p->waits)) return false;
    if (o->n_waits == 0) o->first_wait = p->n_waits;
    p->waits[p->n_waits++] = on;
    o->n_waits++;
    return true;
}

void berth_program_reindex(berth_program *p)
{
    for (int32_t i = 0; i < p->n_values; i++) p->values[i].producer = BERTH_NO_OP;
    for (int32_t i = 0; i < p->n_ops; i++) {
        int32_t out = p->ops[i].out;
        if (out >= 0 && out < p->n_values && p->values[out].kind == BERTH_VALUE_ACTIVATION) p->values[out].producer = i;
    }
}

int64_t berth_dim_of(berth_dim d, const berth_sizes *sizes)
{
    return d.sym == BERTH_SYM_ONE ? d.n : d.n * sizes->value[d.sym];
}

bool berth_value_bytes(const berth_value *v, const berth_sizes *sizes, size_t *out)
{
    size_t bytes = berth_dtype_size(v->dtype);
    for (int32_t i = 0; i < v->n_dims; i++) {
        int64_t n = v->dims[i].n, s = v->dims[i].sym == BERTH_SYM_ONE ? 1 : sizes->value[v->dims[i].sym];
        if (n < 0 || s < 0) return false;
        if (!berth_mul_size(bytes, (size_t)n, &bytes) || !berth_mul_size(bytes, (size_t)s, &bytes)) return false;
    }
    *out = bytes;
    return true;
}

int32_t berth_program_find(const berth_program *p, const char *name)
{
    for (int32_t i = 0; i < p->n_values; i++)
        if (strcmp(p->values[i].name, name) == 0) return i;
    return -1;
}

int32_t berth_program_find_input(const berth_program *p, berth_input_key key)
{
    for (int32_t i = 0; i < p->n_values; i++)
        if (p->values[i].kind == BERTH_VALUE_INPUT && p->values[i].input == key) return i;
    return -1;
}

int32_t berth_program_find_state(const berth_program *p, berth_state_key key, int32_t layer)
{
    for (int32_t i = 0; i < p->n_values; i++) {
        const berth_value *v = &p->values[i];
        if (v->kind == BERTH_VALUE_STATE && v->state == key && v->layer == layer) return i;
    }
    return -1;
}

int32_t berth_program_find_copy(const berth_program *p, int32_t value, int32_t device)
{
    if (value < 0 || value >= p->n_values) return -1;
    if (p->values[value].device == device) return value;
    for (int32_t i = 0; i < p->n_values; i++)
        if (p->values[i].origin == value && p->values[i].device == device) return i;
    return -1;
}

static void tensor_of(const berth_value *v, const berth_sizes *sizes, berth_tensor *out)
{
    out->data = NULL;
    out->dtype = v->dtype;
    out->n_dims = v->n_dims;
    for (int32_t i = 0; i < v->n_dims; i++) out->dims[i] = berth_dim_of(v->dims[i], sizes);
}

void berth_program_shapes(const berth_program *p, const berth_op *op, const berth_sizes *sizes, berth_op_call *out)
{
    memset(out, 0, sizeof *out);
    out->kind = op->kind;
    out->attrs = &op->attrs;
    out->n_in = op->n_in;
    for (int32_t i = 0; i < op->n_in; i++) tensor_of(&p->values[op->in[i]], sizes, &out->in[i]);
    tensor_of(&p->values[op->out], sizes, &out->out);
}

void berth_program_edges(const berth_program *p, const berth_sizes *sizes, uint64_t *out)
{
    size_t side = (size_t)p->n_devices + 1;
    memset(out, 0, side * side * sizeof *out);
    for (int32_t i = 0; i < p->n_ops; i++) {
        const berth_op *op = &p->ops[i];
        if (op->kind != BERTH_OP_COPY) continue;
        const berth_value *from = &p->values[op->in[0]], *to = &p->values[op->out];
        size_t row = from->device < 0 ? side - 1 : (size_t)from->device;
        size_t column = to->device < 0 ? side - 1 : (size_t)to->device;
        size_t bytes = 0;
        if (row < side && column < side && berth_value_bytes(from, sizes, &bytes)) out[row * side + column] += bytes;
    }
}
