/* check_ops_test.c - the checker knows each op's dtypes and shapes: a right program of every kind passes, and any one
 * change to a dimension or dtype is refused.
 *
 * Operands are written "x:t,8": dtype (x fp32, w bf16 weight, i int32), then dimensions: numbers, symbols (t tokens,
 * s seqs, T tiles, r image rows, l logits), "4T" a multiple. A '?' behind a dimension says that any size is right
 * there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "program/passes.h"

typedef struct row {
    berth_op_kind kind;
    const char *in[BERTH_OP_INPUTS], *out;
    berth_op_attrs attrs;
} row;

static const row rows[] = {
    {BERTH_OP_PATCHIFY, {"x:T,3,8,8"}, "x:T,16,12", {.patch = 2}},
    {BERTH_OP_LINEAR, {"x:t,3,4", "w:5,12", "w:5"}, "x:t,5", {0}},
    {BERTH_OP_LINEAR, {"x:t,12", "w:6,12"}, "x:t,2,3", {0}},
    {BERTH_OP_LINEAR, {"x:T,4,12", "w:6,12"}, "x:4T,6", {0}},
    {BERTH_OP_VISION_EMBED, {"x:T,4,8", "w:8", "w:5,8"}, "x:T,5,8", {0}},
    {BERTH_OP_LAYER_NORM, {"x:t,8", "w:8", "w:8"}, "x:t,8", {.eps = 1e-6f}},
    {BERTH_OP_RMS_NORM, {"x:t,4,8", "w:8"}, "x:t,4,8", {.eps = 1e-6f}},
    {BERTH_OP_ATTENTION_FULL, {"x:T,5,8", "x:T,5,8", "x:T,5,8"}, "x:T,5,8", {.n_heads = 2, .scale = 0.5f}},
    {BERTH_OP_SCALE_ADD, {"x:T,5,8", "x:T,5,8", "w:8"}, "x:T,5,8", {0}},
    {BERTH_OP_ADD, {"x:t,8", "x:t,8"}, "x:t,8", {0}},
    {BERTH_OP_GELU, {"x:t,8"}, "x:t,8", {0}},
    {BERTH_OP_SILU_MUL, {"x:t,8", "x:t,8"}, "x:t,8", {0}},
    {BERTH_OP_DROP_CLS, {"x:T,5,8"}, "x:T,4,8", {0}},
    {BERTH_OP_PIXEL_SHUFFLE, {"x:T,16,8"}, "x:T,4,32", {.factor = 2}},
    {BERTH_OP_EMBED, {"i:t", "w:100?,8"}, "x:t,8", {0}},
    {BERTH_OP_SCATTER_ROWS, {"x:t,8", "x:40?,8", "i:r", "i:r"}, "x:t,8", {0}},
    {BERTH_OP_GATHER_ROWS, {"x:t?,8", "i:l"}, "x:l,8", {0}},
    {BERTH_OP_STORE_ROWS, {"x:T,4,8", "i:4T"}, "x:40?,8", {0}},
    {BERTH_OP_ROPE_TABLE, {"i:t", "i:t", "x:s?,4"}, "x:t,2,4", {0}},
    {BERTH_OP_ROPE, {"x:t,4,8", "x:t,2,4"}, "x:t,4,8", {0}},
    {BERTH_OP_KV_APPEND, {"x:t,2,8", "x:t,2,8", "i:t"}, "x:9?,2,2,16,8", {.block = 16}},
    {BERTH_OP_ATTENTION_PAGED,
     {"x:t,4,8", "x:9?,2,2,16,8", "i:t", "i:t", "i:s?,3?"},
     "x:t,4,8",
     {.n_heads = 4, .n_kv_heads = 2, .head_dim = 8, .block = 16, .scale = 0.5f}},
    {BERTH_OP_LOGIT_STATS, {"x:l,100?"}, "x:l,8", {0}},
    {BERTH_OP_LOGIT_BEST, {"x:l?,100?", "i:b", "x:b"}, "x:b,264", {0}},
    {BERTH_OP_CONVERT, {"w:t,8"}, "x:t,8", {0}},
};
enum { N_ROWS = sizeof rows / sizeof rows[0] };

static berth_symbol symbol_of(char c)
{
    switch (c) {
    case 't': return BERTH_SYM_TOKENS;
    case 's': return BERTH_SYM_SEQS;
    case 'T': return BERTH_SYM_TILES;
    case 'r': return BERTH_SYM_IMAGE_ROWS;
    case 'l': return BERTH_SYM_LOGITS;
    case 'b': return BERTH_SYM_BEST;
    default: return BERTH_SYM_ONE;
    }
}

/* Reads "x:t,8"; `is_free[i]` is set for dimensions with a '?'. */
static berth_value read_value(const char *text, bool is_free[BERTH_VALUE_DIMS])
{
    berth_value v = {.kind = BERTH_VALUE_STATE,
                     .dtype = BERTH_F32,
                     .param = -1,
                     .layer = -1,
                     .node = -1,
                     .origin = BERTH_NO_VALUE,
                     .producer = BERTH_NO_OP};
    if (text[0] == 'w') v.kind = BERTH_VALUE_WEIGHT;
    if (text[0] == 'w') v.dtype = BERTH_BF16;
    if (text[0] == 'i') v.dtype = BERTH_I32;
    memset(is_free, 0, BERTH_VALUE_DIMS * sizeof *is_free);
    for (const char *at = text + 1; *at;) {
        char *end;
        berth_dim *d = &v.dims[v.n_dims];
        d->n = strtol(++at, &end, 10);
        if (end == at) d->n = 1;
        d->sym = symbol_of(*end);
        if (d->sym != BERTH_SYM_ONE) end++;
        if (*end == '?') is_free[v.n_dims] = true;
        if (*end == '?') end++;
        v.n_dims++;
        at = end;
    }
    return v;
}

typedef struct made {
    berth_program *p;
    bool is_free[BERTH_OP_INPUTS + 1][BERTH_VALUE_DIMS]; /* value i's; the output is the last value */
} made;

static made make(const row *r)
{
    berth_sizes bounds = {.value = {1, 4, 16, 32, 2, 8, 3, 2}};
    made m = {.p = berth_program_create("test", &bounds)};
    berth_op op = {.kind = r->kind, .attrs = r->attrs, .node = -1, .layer = -1};
    for (; op.n_in < BERTH_OP_INPUTS && r->in[op.n_in]; op.n_in++) {
        berth_value v = read_value(r->in[op.n_in], m.is_free[op.n_in]);
        snprintf(v.name, sizeof v.name, "in%d", op.n_in);
        op.in[op.n_in] = berth_program_add_value(m.p, &v);
    }
    berth_value out = read_value(r->out, m.is_free[op.n_in]);
    if (!berth_op_infos[r->kind].writes_state) out.kind = BERTH_VALUE_ACTIVATION;
    snprintf(out.name, sizeof out.name, "out");
    op.out = berth_program_add_value(m.p, &out);
    berth_program_add_op(m.p, &op);
    m.p->n_devices = 1;
    return m;
}

static const char *const names[] = {"cpu:0"};
static const berth_pass_env env = {.n_devices = 1, .device_names = names};

static void a_right_op_of_every_kind_passes(void **state)
{
    (void)state;
    bool seen[BERTH_OP_KIND_COUNT] = {[BERTH_OP_COPY] = true}; /* copies: program_test.c */
    for (int i = 0; i < N_ROWS; i++) {
        made m = make(&rows[i]);
        berth_error err = {0};
        if (berth_check(m.p, &env, &err) != BERTH_OK)
            fail_msg("%s: %s", berth_op_infos[rows[i].kind].name, err.message);
        seen[rows[i].kind] = true;
        berth_program_destroy(m.p);
    }
    for (int k = 0; k < BERTH_OP_KIND_COUNT; k++) assert_true(seen[k]);
}

static void expect(const row *r, const berth_program *p, bool ok, const char *what, int value, int dim)
{
    berth_error err = {0};
    bool passed = berth_check(p, &env, &err) == BERTH_OK;
    if (passed != ok)
        fail_msg("%s: value %d dimension %d with %s: %s", berth_op_infos[r->kind].name, value, dim, what,
                 passed ? "passes" : err.message);
}

static void any_other_dimension_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < N_ROWS; i++) {
        made m = make(&rows[i]);
        for (int v = 0; v < m.p->n_values; v++) {
            berth_value *x = &m.p->values[v];
            for (int k = 0; k < x->n_dims; k++) {
                berth_dim was = x->dims[k];
                x->dims[k].n = was.n + 1;
                expect(&rows[i], m.p, m.is_free[v][k], "one more", v, k);
                x->dims[k] = (berth_dim){was.n, was.sym == BERTH_SYM_FEATURES ? BERTH_SYM_ONE : BERTH_SYM_FEATURES};
                expect(&rows[i], m.p, m.is_free[v][k], "another symbol", v, k);
                x->dims[k] = (berth_dim){0, was.sym};
                expect(&rows[i], m.p, false, "nothing", v, k);
                x->dims[k] = (berth_dim){INT64_MAX, was.sym};
                berth_error err = {0};
                (void)berth_check(m.p, &env, &err); /* must not overflow */
                x->dims[k] = was;
            }
            if (x->n_dims < BERTH_VALUE_DIMS) {
                x->dims[x->n_dims++] = (berth_dim){2, BERTH_SYM_ONE};
                expect(&rows[i], m.p, false, "a dimension more", v, x->n_dims);
                x->n_dims--;
            }
        }
        berth_program_destroy(m.p);
    }
}

static void any_other_dtype_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < N_ROWS; i++) {
        made m = make(&rows[i]);
        for (int v = 0; v < m.p->n_values; v++) {
            berth_value *x = &m.p->values[v];
            berth_dtype was = x->dtype;
            for (int d = 0; d < BERTH_DTYPE_COUNT; d++) {
                x->dtype = (berth_dtype)d;
                bool any_float = was == BERTH_BF16 && berth_dtype_is_float((berth_dtype)d);
                expect(&rows[i], m.p, d == (int)was || any_float, "another dtype", v, d);
            }
            x->dtype = was;
        }
        berth_program_destroy(m.p);
    }
}

static void wrong_attributes_are_refused(void **state)
{
    (void)state;
    static const struct {
        berth_op_kind kind;
        berth_op_attrs attrs;
    } wrong[] = {
        {BERTH_OP_PATCHIFY, {.patch = 0}},
        {BERTH_OP_PATCHIFY, {.patch = 3}},
        {BERTH_OP_PATCHIFY, {.patch = -2}},
        {BERTH_OP_LAYER_NORM, {.eps = -1}},
        {BERTH_OP_RMS_NORM, {.eps = __builtin_nanf("")}},
        {BERTH_OP_ATTENTION_FULL, {.n_heads = 0, .scale = 1}},
        {BERTH_OP_ATTENTION_FULL, {.n_heads = 3, .scale = 1}},
        {BERTH_OP_ATTENTION_FULL, {.n_heads = 2, .scale = __builtin_inff()}},
        {BERTH_OP_PIXEL_SHUFFLE, {.factor = 0}},
        {BERTH_OP_PIXEL_SHUFFLE, {.factor = 3}},
        {BERTH_OP_KV_APPEND, {.block = 8}},
        {BERTH_OP_ATTENTION_PAGED, {.n_heads = 4, .n_kv_heads = 2, .head_dim = 8, .block = 8, .scale = 1}},
        {BERTH_OP_ATTENTION_PAGED, {.n_heads = 4, .n_kv_heads = 0, .head_dim = 8, .block = 16, .scale = 1}},
        {BERTH_OP_ATTENTION_PAGED, {.n_heads = 2, .n_kv_heads = 2, .head_dim = 8, .block = 16, .scale = 1}},
        {BERTH_OP_ATTENTION_PAGED, {.n_heads = 4, .n_kv_heads = 2, .head_dim = 4, .block = 16, .scale = 1}},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const row *r = rows;
        while (r->kind != wrong[i].kind) r++;
        made m = make(r);
        m.p->ops[0].attrs = wrong[i].attrs;
        expect(r, m.p, false, "wrong attributes", (int)i, -1);
        berth_program_destroy(m.p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_op_of_every_kind_passes),
        cmocka_unit_test(any_other_dimension_is_refused),
        cmocka_unit_test(any_other_dtype_is_refused),
        cmocka_unit_test(wrong_attributes_are_refused),
    };
    return cmocka_run_group_tests_name("the checker's rules of each op", tests, NULL, NULL);
}
