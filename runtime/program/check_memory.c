/* check_memory.c - proof that reuse of memory is safe, from offsets and waits alone.
 *
 * Two values may share bytes only when every use of one is known to be done before the other is written: by lane
 * order or by waits, not by luck. The one exception is an op that writes over the operand its kind may work in place
 * on. Inputs count as written before the run, outputs as read after it. */
#include <stdlib.h>
#include <string.h>

#include "program/check_internal.h"

typedef struct memory {
    const berth_program *p;
    const berth_pass_env *env;
    berth_error *err;
    berth_order order;
    int32_t *first_reader; /* owned; [n_values + 1]: index into readers */
    int32_t *readers;      /* owned; ops, grouped by value, ascending */
} memory;

static bool group_readers(memory *m)
{
    const berth_program *p = m->p;
    size_t total = 0;
    m->first_reader = calloc((size_t)p->n_values + 2, sizeof *m->first_reader);
    for (int32_t i = 0; i < p->n_ops; i++) total += (size_t)p->ops[i].n_in;
    m->readers = malloc((total + 1) * sizeof *m->readers);
    if (!m->first_reader || !m->readers) return false;
    for (int32_t i = 0; i < p->n_ops; i++)
        for (int32_t k = 0; k < p->ops[i].n_in; k++) m->first_reader[p->ops[i].in[k] + 2]++;
    for (int32_t v = 2; v <= p->n_values + 1; v++) m->first_reader[v] += m->first_reader[v - 1];
    for (int32_t i = 0; i < p->n_ops; i++)
        for (int32_t k = 0; k < p->ops[i].n_in; k++) m->readers[m->first_reader[p->ops[i].in[k] + 1]++] = i;
    return true;
}

/* Does op i write its output over `v` as its kind allows? */
static bool in_place(const memory *m, int32_t i, int32_t v)
{
    const berth_op *op = &m->p->ops[i];
    const berth_value *x = &m->p->values[v], *y = &m->p->values[op->out];
    int32_t k = berth_op_infos[op->kind].inplace, uses = 0;
    if (k < 0 || k >= op->n_in || op->in[k] != v || x->offset != y->offset || x->bytes != y->bytes) return false;
    for (int32_t j = 0; j < op->n_in; j++) uses += op->in[j] == v;
    return uses == 1;
}

/* Is every use of `a` done when `b` is written? If not, *out_op is one that may not be. */
static bool over_before(const memory *m, int32_t a, int32_t b, int32_t *out_op)
{
    const berth_value *x = &m->p->values[a], *y = &m->p->values[b];
    int32_t writer = y->producer;
    *out_op = x->producer;
    if (writer < 0) return false; /* b is an input: there before anything */
    if (x->device == BERTH_DEVICE_HOST && x->kind == BERTH_VALUE_ACTIVATION)
        return false; /* an output: read when the run is over */
    if (x->is_kept) return false;
    if (x->producer >= 0 && !berth_order_before(&m->order, x->producer, writer)) return false;
    for (int32_t r = m->first_reader[a]; r < m->first_reader[a + 1]; r++) {
        int32_t reader = m->readers[r];
        if (berth_order_before(&m->order, reader, writer) || (reader == writer && in_place(m, writer, a))) continue;
        *out_op = reader;
        return false;
    }
    return true;
}

static berth_status refuse_shared(const memory *m, int32_t a, int32_t b, int32_t op)
{
    const berth_program *p = m->p;
    const berth_value *x = &p->values[a], *y = &p->values[b];
    berth_buffer first = {0}, second = {0};
    if (op >= 0) berth_say_op(p, m->env, op, &first);
    if (y->producer >= 0) berth_say_op(p, m->env, y->producer, &second);
    berth_status st = BERTH_FAIL(m->err, BERTH_AFFINITY,
                                 "program %.15s: \"%s\" and \"%s\" share memory on %s (offset %zu, %zu bytes; offset "
                                 "%zu, %zu bytes), and %s on %s may still use the first when %s writes the second",
                                 p->name, x->name, y->name, berth_word_device(m->env, x->device), x->offset, x->bytes,
                                 y->offset, y->bytes, first.data ? first.data : "the engine",
                                 op >= 0 ? berth_word_device(m->env, p->ops[op].device) : "the host",
                                 second.data ? second.data : "the engine");
    berth_buffer_deinit(&first);
    berth_buffer_deinit(&second);
    return st;
}

static bool has_memory(const berth_value *v)
{
    return v->device == BERTH_DEVICE_HOST || (v->kind == BERTH_VALUE_ACTIVATION && v->producer >= 0);
}

static berth_status check_pair(const memory *m, int32_t a, int32_t b)
{
    const berth_value *x = &m->p->values[a], *y = &m->p->values[b];
    if (x->device != y->device || x->offset >= y->offset + y->bytes || y->offset >= x->offset + x->bytes)
        return BERTH_OK;
    int32_t op, other;
    if (over_before(m, a, b, &op) || over_before(m, b, a, &other)) return BERTH_OK;
    bool swap = x->producer > y->producer;
    return swap ? refuse_shared(m, b, a, other) : refuse_shared(m, a, b, op);
}

/* Every value large enough, aligned, and inside its region. */
static berth_status check_bounds(const memory *m, int32_t i)
{
    const berth_program *p = m->p;
    const berth_value *v = &p->values[i];
    size_t need, room = v->device == BERTH_DEVICE_HOST ? p->host_bytes : p->regions[v->device].activations;
    if (!berth_value_bytes(v, &p->bounds, &need) || v->bytes < need)
        return BERTH_FAIL(m->err, BERTH_AFFINITY,
                          "program %.15s: \"%s\" was allotted %zu bytes on %s, less than it can need", p->name, v->name,
                          v->bytes, berth_word_device(m->env, v->device));
    if (v->offset % 64 != 0 || v->bytes > room || v->offset > room - v->bytes)
        return BERTH_FAIL(m->err, BERTH_AFFINITY,
                          "program %.15s: \"%s\" (offset %zu, %zu bytes) does not lie in the %zu bytes of %s", p->name,
                          v->name, v->offset, v->bytes, room, berth_word_device(m->env, v->device));
    return BERTH_OK;
}

static berth_status check_all(const memory *m, int32_t *held)
{
    const berth_program *p = m->p;
    int32_t n = 0;
    for (int32_t i = 0; i < p->n_values; i++)
        if (has_memory(&p->values[i])) held[n++] = i;
    for (int32_t i = 0; i < n; i++) {
        berth_status st = check_bounds(m, held[i]);
        for (int32_t j = i + 1; j < n && st == BERTH_OK; j++) st = check_pair(m, held[i], held[j]);
        if (st != BERTH_OK) return st;
    }
    for (int32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].workspace > p->regions[p->ops[i].device].workspace)
            return BERTH_FAIL(m->err, BERTH_AFFINITY,
                              "program %.15s: op %d \"%s\" needs %zu bytes of workspace; %s has %zu", p->name, i,
                              berth_word_value(p, p->ops[i].out), p->ops[i].workspace,
                              berth_word_device(m->env, p->ops[i].device), p->regions[p->ops[i].device].workspace);
    return BERTH_OK;
}

berth_status berth_check_memory(const berth_program *p, const berth_pass_env *env, berth_error *err)
{
    memory m = {.p = p, .env = env, .err = err};
    int32_t *held = malloc(((size_t)p->n_values + 1) * sizeof *held);
    bool ok = held && berth_order_init(&m.order, p) && group_readers(&m);
    berth_status st = ok ? check_all(&m, held)
                         : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "checking the memory of program %.15s", p->name);
    berth_order_deinit(&m.order);
    free(m.first_reader);
    free(m.readers);
    free(held);
    return st;
}
