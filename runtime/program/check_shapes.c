/* check_shapes.c - each op's operands against its meaning in kernels/ops.h: dtypes by a table, shapes symbolically by
 * a function a kind.
 *
 * A shape agrees only if it does for every value of every symbol: dimensions are equal when number and symbol are,
 * rows when their products are the same number times the same symbols. Indices were checked before (check.c), so
 * operands exist here. */
#include <math.h>
#include <string.h>

#include "program/check_internal.h"

typedef struct shapes {
    const berth_value *in[BERTH_OP_INPUTS];
    int32_t n_in;
    const berth_value *out;
    const berth_op_attrs *attrs;
} shapes;

/* A product of dimensions: n times each symbol to its power. */
typedef struct product {
    int64_t n;
    uint8_t power[BERTH_SYM_COUNT];
    bool overflow;
} product;

static bool dims(const berth_value *v, int32_t n)
{
    return v->n_dims == n;
}
static bool equal(berth_dim a, berth_dim b)
{
    return a.n == b.n && a.sym == b.sym;
}
static bool number(berth_dim d)
{
    return d.sym == BERTH_SYM_ONE;
}
static bool is(berth_dim d, int64_t n)
{
    return number(d) && d.n == n;
}
static berth_dim last(const berth_value *v)
{
    return v->dims[v->n_dims - 1];
}
static bool vector(const berth_value *v, berth_dim n)
{
    return dims(v, 1) && equal(v->dims[0], n);
}

static bool same(const berth_value *a, const berth_value *b)
{
    if (a->n_dims != b->n_dims) return false;
    for (int32_t i = 0; i < a->n_dims; i++)
        if (!equal(a->dims[i], b->dims[i])) return false;
    return true;
}

static void times(product *p, berth_dim d)
{
    if (__builtin_mul_overflow(p->n, d.n, &p->n)) p->overflow = true;
    if (d.sym != BERTH_SYM_ONE) p->power[d.sym]++;
}

/* The rows of v when its trailing dimensions multiply to `columns`; false when they cannot. */
static bool rows_of(const berth_value *v, int64_t columns, product *out)
{
    int64_t have = 1;
    int32_t i = v->n_dims;
    *out = (product){.n = 1};
    while (i > 0 && have < columns && number(v->dims[i - 1]) && !__builtin_mul_overflow(have, v->dims[i - 1].n, &have))
        i--;
    if (have != columns) return false;
    for (int32_t k = 0; k < i; k++) times(out, v->dims[k]);
    return !out->overflow;
}

static bool same_product(const product *a, const product *b)
{
    return a->n == b->n && memcmp(a->power, b->power, sizeof a->power) == 0;
}

/* ---- one function a kind ---------------------------------------------------------------------------------------- */

static bool copy_ok(const shapes *s)
{
    return same(s->in[0], s->out);
}

static bool patchify_ok(const shapes *s)
{
    const berth_value *x = s->in[0], *y = s->out;
    int64_t p = s->attrs->patch;
    if (!dims(x, 4) || !dims(y, 3) || !is(x->dims[1], 3) || !number(x->dims[2]) || !equal(x->dims[2], x->dims[3]))
        return false;
    int64_t side = x->dims[2].n;
    if (p < 1 || p > 4096 || side > 1 << 20 || side % p != 0) return false;
    return equal(y->dims[0], x->dims[0]) && is(y->dims[1], (side / p) * (side / p)) && is(y->dims[2], 3 * p * p);
}

static bool linear_ok(const shapes *s)
{
    const berth_value *w = s->in[1];
    product x, y;
    if (!dims(w, 2) || !number(w->dims[0]) || !number(w->dims[1])) return false;
    if (s->n_in > 2 && !vector(s->in[2], w->dims[0])) return false;
    return rows_of(s->in[0], w->dims[1].n, &x) && rows_of(s->out, w->dims[0].n, &y) && same_product(&x, &y);
}

static bool embed_patches_ok(const shapes *s)
{
    const berth_value *x = s->in[0], *pos = s->in[2], *y = s->out;
    if (!dims(x, 3) || !dims(y, 3) || !dims(pos, 2) || !number(x->dims[1])) return false;
    return vector(s->in[1], x->dims[2]) && is(pos->dims[0], x->dims[1].n + 1) && equal(pos->dims[1], x->dims[2]) &&
           equal(y->dims[0], x->dims[0]) && equal(y->dims[1], pos->dims[0]) && equal(y->dims[2], x->dims[2]);
}

static bool norm_ok(const shapes *s)
{
    if (!same(s->in[0], s->out) || !isfinite(s->attrs->eps) || s->attrs->eps < 0) return false;
    for (int32_t i = 1; i < s->n_in; i++)
        if (!vector(s->in[i], last(s->in[0]))) return false;
    return true;
}

static bool attention_full_ok(const shapes *s)
{
    const berth_value *q = s->in[0];
    int32_t heads = s->attrs->n_heads;
    if (!dims(q, 3) || !number(q->dims[2]) || heads < 1 || q->dims[2].n % heads != 0 || !isfinite(s->attrs->scale))
        return false;
    return same(q, s->in[1]) && same(q, s->in[2]) && same(q, s->out);
}

static bool scale_add_ok(const shapes *s)
{
    return same(s->in[0], s->in[1]) && same(s->in[0], s->out) && vector(s->in[2], last(s->out));
}

static bool pair_ok(const shapes *s)
{
    return same(s->in[0], s->in[1]) && same(s->in[0], s->out);
}
static bool single_ok(const shapes *s)
{
    return same(s->in[0], s->out);
}

static bool drop_cls_ok(const shapes *s)
{
    const berth_value *x = s->in[0], *y = s->out;
    return dims(x, 3) && dims(y, 3) && equal(x->dims[0], y->dims[0]) && number(x->dims[1]) &&
           is(y->dims[1], x->dims[1].n - 1) && equal(x->dims[2], y->dims[2]);
}

static bool pixel_shuffle_ok(const shapes *s)
{
    const berth_value *x = s->in[0], *y = s->out;
    int64_t f = s->attrs->factor, g = 1;
    if (!dims(x, 3) || !dims(y, 3) || !number(x->dims[1]) || !number(x->dims[2]) || f < 1 || f > 1024) return false;
    if (x->dims[1].n > INT32_MAX || x->dims[2].n > INT32_MAX) return false;
    while (g * g < x->dims[1].n) g++;
    if (g * g != x->dims[1].n || g % f != 0) return false;
    return equal(x->dims[0], y->dims[0]) && is(y->dims[1], (g / f) * (g / f)) && is(y->dims[2], f * f * x->dims[2].n);
}

static bool embed_ok(const shapes *s)
{
    const berth_value *ids = s->in[0], *table = s->in[1], *y = s->out;
    return dims(ids, 1) && dims(table, 2) && dims(y, 2) && equal(y->dims[0], ids->dims[0]) &&
           equal(y->dims[1], table->dims[1]);
}

static bool scatter_ok(const shapes *s)
{
    const berth_value *x = s->in[0], *features = s->in[1];
    return dims(x, 2) && same(x, s->out) && dims(features, 2) && equal(features->dims[1], x->dims[1]) &&
           dims(s->in[2], 1) && vector(s->in[3], s->in[2]->dims[0]);
}

static bool gather_ok(const shapes *s)
{
    const berth_value *x = s->in[0], *rows = s->in[1], *y = s->out;
    return dims(x, 2) && dims(rows, 1) && dims(y, 2) && equal(y->dims[0], rows->dims[0]) &&
           equal(y->dims[1], x->dims[1]);
}

static bool store_ok(const shapes *s)
{
    const berth_value *store = s->out;
    product rows, wanted = {.n = 1};
    if (!dims(store, 2) || !number(store->dims[1]) || !dims(s->in[1], 1)) return false;
    times(&wanted, s->in[1]->dims[0]);
    return rows_of(s->in[0], store->dims[1].n, &rows) && same_product(&rows, &wanted);
}

static bool rope_table_ok(const shapes *s)
{
    const berth_value *positions = s->in[0], *freq = s->in[2], *y = s->out;
    return dims(positions, 1) && same(positions, s->in[1]) && dims(freq, 2) && dims(y, 3) &&
           equal(y->dims[0], positions->dims[0]) && is(y->dims[1], 2) && equal(y->dims[2], freq->dims[1]);
}

static bool rope_ok(const shapes *s)
{
    const berth_value *x = s->in[0], *table = s->in[1];
    if (!dims(x, 3) || !dims(table, 3) || !same(x, s->out) || !number(x->dims[2]) || x->dims[2].n % 2 != 0)
        return false;
    return equal(table->dims[0], x->dims[0]) && is(table->dims[1], 2) && is(table->dims[2], x->dims[2].n / 2);
}

static bool kv_ok(const shapes *s, const berth_value *kv, berth_dim heads, berth_dim head_dim)
{
    return dims(kv, 5) && is(kv->dims[1], 2) && equal(kv->dims[2], heads) && is(kv->dims[3], s->attrs->block) &&
           s->attrs->block > 0 && equal(kv->dims[4], head_dim);
}

static bool kv_append_ok(const shapes *s)
{
    const berth_value *k = s->in[0];
    return dims(k, 3) && same(k, s->in[1]) && vector(s->in[2], k->dims[0]) && kv_ok(s, s->out, k->dims[1], k->dims[2]);
}

static bool attention_paged_ok(const shapes *s)
{
    const berth_value *q = s->in[0], *kv = s->in[1];
    const berth_op_attrs *a = s->attrs;
    if (!dims(q, 3) || !same(q, s->out) || !dims(kv, 5) || !kv_ok(s, kv, kv->dims[2], q->dims[2])) return false;
    if (!is(q->dims[1], a->n_heads) || !is(q->dims[2], a->head_dim) || !is(kv->dims[2], a->n_kv_heads)) return false;
    if (a->n_kv_heads < 1 || a->n_heads % a->n_kv_heads != 0 || !isfinite(a->scale)) return false;
    return vector(s->in[2], q->dims[0]) && vector(s->in[3], q->dims[0]) && dims(s->in[4], 2);
}

static bool logit_stats_ok(const shapes *s)
{
    const berth_value *x = s->in[0], *y = s->out;
    return dims(x, 2) && dims(y, 2) && equal(x->dims[0], y->dims[0]) && is(y->dims[1], BERTH_LOGIT_STATS);
}

static bool logit_best_ok(const shapes *s)
{
    const berth_value *x = s->in[0], *rows = s->in[1], *y = s->out;
    return dims(x, 2) && dims(rows, 1) && same(rows, s->in[2]) && dims(y, 2) && equal(y->dims[0], rows->dims[0]) &&
           is(y->dims[1], BERTH_LOGIT_BEST);
}

/* dtypes, a letter an operand: x a float the device computes in (check.c), f fp32, w a float of any width (as
 * stored), i int32, * any (a copy: all the same). */
typedef struct rule {
    const char *in;
    char out;
    bool may_be_partial; /* its result may be one device's share of a sum */
    bool (*shapes_ok)(const shapes *s);
} rule;

static const rule rules[BERTH_OP_KIND_COUNT] = {
    [BERTH_OP_COPY] = {"*", '*', true, copy_ok},
    [BERTH_OP_PATCHIFY] = {"f", 'x', false, patchify_ok},
    [BERTH_OP_LINEAR] = {"xww", 'x', true, linear_ok},
    [BERTH_OP_VISION_EMBED] = {"xww", 'x', false, embed_patches_ok},
    [BERTH_OP_LAYER_NORM] = {"xww", 'x', false, norm_ok},
    [BERTH_OP_RMS_NORM] = {"xw", 'x', false, norm_ok},
    [BERTH_OP_ATTENTION_FULL] = {"xxx", 'x', false, attention_full_ok},
    [BERTH_OP_SCALE_ADD] = {"xxw", 'x', false, scale_add_ok},
    [BERTH_OP_ADD] = {"xx", 'x', false, pair_ok},
    [BERTH_OP_GELU] = {"x", 'x', false, single_ok},
    [BERTH_OP_SILU_MUL] = {"xx", 'x', false, pair_ok},
    [BERTH_OP_DROP_CLS] = {"x", 'x', false, drop_cls_ok},
    [BERTH_OP_PIXEL_SHUFFLE] = {"x", 'x', false, pixel_shuffle_ok},
    [BERTH_OP_EMBED] = {"iw", 'x', true, embed_ok},
    [BERTH_OP_SCATTER_ROWS] = {"xxii", 'x', false, scatter_ok},
    [BERTH_OP_GATHER_ROWS] = {"xi", 'x', false, gather_ok},
    [BERTH_OP_STORE_ROWS] = {"xi", 'x', false, store_ok},
    [BERTH_OP_ROPE_TABLE] = {"iif", 'f', false, rope_table_ok},
    [BERTH_OP_ROPE] = {"xf", 'x', false, rope_ok},
    [BERTH_OP_KV_APPEND] = {"xxi", 'x', false, kv_append_ok},
    [BERTH_OP_ATTENTION_PAGED] = {"xxiii", 'x', false, attention_paged_ok},
    [BERTH_OP_LOGIT_STATS] = {"f", 'f', false, logit_stats_ok},
    [BERTH_OP_LOGIT_BEST] = {"fif", 'f', false, logit_best_ok},
    [BERTH_OP_CONVERT] = {"w", 'x', false, single_ok},
};

bool berth_check_known(berth_op_kind kind)
{
    return (int)kind >= 0 && (int)kind < BERTH_OP_KIND_COUNT && rules[kind].shapes_ok != NULL;
}

bool berth_check_may_be_partial(berth_op_kind kind)
{
    return rules[kind].may_be_partial;
}

bool berth_check_dtype(berth_op_kind kind, int32_t operand, berth_dtype dtype)
{
    size_t n = strlen(rules[kind].in);
    char want = operand < 0 ? rules[kind].out : (size_t)operand < n ? rules[kind].in[operand] : 0;
    if (want == '*') return true;
    if (want == 'i') return dtype == BERTH_I32;
    if (want == 'f') return dtype == BERTH_F32;
    return (want == 'w' || want == 'x') && berth_dtype_is_float(dtype);
}

bool berth_check_follows_device(berth_op_kind kind, int32_t operand)
{
    size_t n = strlen(rules[kind].in);
    return (operand < 0 ? rules[kind].out : (size_t)operand < n ? rules[kind].in[operand] : 0) == 'x';
}

bool berth_check_shapes(const berth_program *p, const berth_op *op)
{
    shapes s = {.n_in = op->n_in, .out = &p->values[op->out], .attrs = &op->attrs};
    for (int32_t i = 0; i < op->n_in; i++) s.in[i] = &p->values[op->in[i]];
    return rules[op->kind].shapes_ok(&s);
}
