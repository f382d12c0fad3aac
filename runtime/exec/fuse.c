/* fuse.c - see fuse.h. The thing easy to get wrong is memory. Two things move in time when ops become one. What the norm
 * reads is read with the first product; that one is next on the lane, so nothing comes between. What ops behind the first
 * product write is written earlier, so nobody may still need what lay there. A device's memory is written by ops of its
 * own lane only (allot.c), so the ops between on that lane are all that matters, if none of them waits for another lane:
 * a wait may stand for a reader elsewhere. As each op is held against all others at their own places, fusions do not
 * disturb one another. */
#include "exec/fuse.h"

#include <stdlib.h>

typedef struct finder {
    const berth_program *p;
    berth_fusions *f;
} finder;

/* ---- readers ---------------------------------------------------------------------------------------------------- */

/* The value's only readers, at most `most`, in order; 0: it has others, or is wanted outside. */
static int32_t readers_of(const berth_program *p, int32_t value, int32_t most, int32_t *out)
{
    int32_t n = 0;
    if (p->values[value].kind != BERTH_VALUE_ACTIVATION || p->values[value].is_output) return 0;
    for (int32_t i = 0; i < p->n_ops; i++) {
        const berth_op *op = &p->ops[i];
        int32_t uses = 0;
        for (int32_t k = 0; k < op->n_in; k++) uses += op->in[k] == value;
        if (uses == 0) continue;
        if (uses > 1 || n == most || op->device != p->ops[p->values[value].producer].device) return 0;
        out[n++] = i;
    }
    return n;
}

/* The one op that reads the value, if it is of this kind; BERTH_NO_OP. */
static int32_t only_reader(const berth_program *p, int32_t value, berth_op_kind kind)
{
    int32_t op;
    return readers_of(p, value, 1, &op) == 1 && p->ops[op].kind == kind ? op : BERTH_NO_OP;
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

static bool in_arena(const berth_value *v)
{
    return v->kind == BERTH_VALUE_ACTIVATION && v->device >= 0;
}

static bool overlap(const berth_program *p, int32_t a, int32_t b)
{
    const berth_value *x = &p->values[a], *y = &p->values[b];
    return in_arena(x) && in_arena(y) && x->device == y->device && x->offset < y->offset + y->bytes &&
           y->offset < x->offset + x->bytes;
}

/* Op `op` may write its result as early as at `from`, of the same lane: no op behind that one needs that memory, none
 * waits. The operands of `from` itself, and those of the fusion, are for the caller to look at. */
static bool may_come_early(const berth_program *p, int32_t op, int32_t from)
{
    const int32_t out = p->ops[op].out;
    for (int32_t i = from + 1; i <= op; i++) {
        const berth_op *o = &p->ops[i];
        if (o->device != p->ops[op].device) continue;
        if (o->kind == BERTH_OP_COPY || o->n_waits > 0) return false;
        for (int32_t k = 0; i < op && k < o->n_in; k++)
            if (overlap(p, o->in[k], out)) return false;
        if (i < op && overlap(p, o->out, out)) return false;
    }
    return true;
}

/* ---- a norm and its products -------------------------------------------------------------------------------------- */

/* The op that joins two products and is their only reader; BERTH_NO_OP. */
static int32_t gate_of(const berth_program *p, const berth_fusion *f)
{
    if (f->n_linears != 2) return BERTH_NO_OP;
    const int32_t first = p->ops[f->linears[0]].out, second = p->ops[f->linears[1]].out;
    const int32_t op = only_reader(p, first, BERTH_OP_SILU_MUL);
    if (op < 0 || only_reader(p, second, BERTH_OP_SILU_MUL) != op || p->ops[op].in[0] != first) return BERTH_NO_OP;
    return may_come_early(p, op, f->linears[0]) ? op : BERTH_NO_OP;
}

/* Products behind the first come early, each into memory of its own. */
static bool products_fit(const berth_program *p, const berth_fusion *f)
{
    for (int32_t i = 1; i < f->n_linears; i++) {
        if (!may_come_early(p, f->linears[i], f->linears[0])) return false;
        if (overlap(p, p->ops[f->linears[i]].out, p->ops[f->linears[0]].out)) return false;
    }
    return true;
}

static bool is_next(const berth_program *p, int32_t op, int32_t next)
{
    int32_t i = op + 1;
    while (i < next && p->ops[i].device != p->ops[op].device) i++;
    return i == next;
}

/* What the whole writes does not lie where the norm's x does, which all of the kernel reads. */
static bool x_is_safe(const berth_program *p, const berth_fusion *f)
{
    const int32_t x = p->ops[f->norm].in[0];
    if (!in_arena(&p->values[x]) || !is_next(p, f->norm, f->linears[0])) return false;
    if (f->then >= 0) return !overlap(p, p->ops[f->then].out, x);
    for (int32_t i = 0; i < f->n_linears; i++)
        if (overlap(p, p->ops[f->linears[i]].out, x)) return false;
    return true;
}

static bool find_normed(const berth_program *p, int32_t norm, berth_fusion *f)
{
    const int32_t h = p->ops[norm].out;
    *f = (berth_fusion){.norm = norm, .then = BERTH_NO_OP};
    if (p->ops[norm].kind != BERTH_OP_RMS_NORM) return false;
    f->n_linears = readers_of(p, h, BERTH_FUSED_LINEARS, f->linears);
    for (int32_t i = 0; i < f->n_linears; i++)
        if (p->ops[f->linears[i]].kind != BERTH_OP_LINEAR || p->ops[f->linears[i]].in[0] != h) return false;
    if (f->n_linears == 0) return false;
    f->then = gate_of(p, f);
    return (f->then >= 0 || products_fit(p, f)) && x_is_safe(p, f);
}

/* ---- a product and a sum ------------------------------------------------------------------------------------------ */

/* The value is there when op `at` runs. */
static bool is_ready(const berth_program *p, int32_t value, int32_t at)
{
    const berth_value *v = &p->values[value];
    return v->kind == BERTH_VALUE_WEIGHT || (in_arena(v) && v->producer >= 0 && v->producer < at);
}

static bool same_place(const berth_program *p, int32_t a, int32_t b)
{
    const berth_value *x = &p->values[a], *y = &p->values[b];
    return x->offset == y->offset && x->dtype == y->dtype && x->bytes == y->bytes;
}

/* The sum may take over what it adds to, element by element, but nothing of the product's x. */
static bool find_added(const berth_program *p, int32_t linear, berth_fusion *f)
{
    *f = (berth_fusion){.norm = BERTH_NO_OP, .linears = {linear}, .n_linears = 1};
    if (p->ops[linear].kind != BERTH_OP_LINEAR) return false;
    f->then = only_reader(p, p->ops[linear].out, BERTH_OP_ADD);
    if (f->then < 0) return false;
    const berth_op *add = &p->ops[f->then];
    const int32_t other = add->in[add->in[0] == p->ops[linear].out ? 1 : 0];
    return is_ready(p, other, linear) && !overlap(p, add->out, p->ops[linear].in[0]) &&
           (!overlap(p, add->out, other) || same_place(p, add->out, other)) && may_come_early(p, f->then, linear);
}

/* ---- all -------------------------------------------------------------------------------------------------------- */

static void note(const finder *c, const berth_fusion *fusion)
{
    const int32_t i = c->f->n++;
    c->f->list[i] = *fusion;
    if (fusion->norm >= 0) c->f->of[fusion->norm] = i;
    if (fusion->then >= 0) c->f->of[fusion->then] = i;
    for (int32_t k = 0; k < fusion->n_linears; k++) c->f->of[fusion->linears[k]] = i;
}

static void find(const finder *c, uint64_t lanes, bool (*look)(const berth_program *p, int32_t op, berth_fusion *f))
{
    for (int32_t i = 0; i < c->p->n_ops; i++) {
        berth_fusion fusion;
        if (c->f->of[i] < 0 && lanes >> c->p->ops[i].device & 1 && look(c->p, i, &fusion)) note(c, &fusion);
    }
}

berth_status berth_fusions_init(berth_fusions *f, const berth_program *p, uint64_t lanes, berth_error *err)
{
    const finder c = {p, f};
    const size_t n = (size_t)p->n_ops + 1;
    *f = (berth_fusions){.list = calloc(n, sizeof *f->list), .of = malloc(n * sizeof *f->of)};
    if (!f->list || !f->of) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "program %s: tables", p->name);
    for (size_t i = 0; i < n; i++) f->of[i] = -1;
    find(&c, lanes, find_normed);
    find(&c, lanes, find_added);
    return BERTH_OK;
}

void berth_fusions_deinit(berth_fusions *f)
{
    free(f->list);
    free(f->of);
    *f = (berth_fusions){0};
}
