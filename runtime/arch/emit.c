/* emit.c - writing values and ops into a program; see arch_internal.h. */
#include <stdio.h>
#include <string.h>

#include "arch/arch_internal.h"
#include "base/status.h"

static void fail(berth_emitter *e, berth_status status, const char *what)
{
    if (e->status != BERTH_OK) return;
    e->status = status;
    (void)BERTH_FAIL(e->err, status, "building program %s: %s", e->p ? e->p->name : "", what);
}

void berth_emit_begin(berth_emitter *e, const char *name, const berth_model_data *m, const berth_build_options *o,
                      berth_error *err)
{
    *e = (berth_emitter){.m = m, .options = o, .node = -1, .layer = -1, .prefix = "", .err = err};
    berth_sizes bounds = {0};
    bool is_step = strcmp(name, "step") == 0, vision = berth_model_data_config(m)->has_vision;
    if (is_step) {
        bounds.value[BERTH_SYM_TOKENS] = o->max_tokens;
        bounds.value[BERTH_SYM_SEQS] = o->max_seqs;
        bounds.value[BERTH_SYM_LOGITS] = bounds.value[BERTH_SYM_BEST] = o->max_logits;
        bounds.value[BERTH_SYM_IMAGE_ROWS] = vision ? o->max_tokens : 0;
    } else {
        bounds.value[BERTH_SYM_TILES] = o->max_tiles;
        bounds.value[BERTH_SYM_FEATURES] = o->max_tiles * berth_model_data_config(m)->vision.tokens_per_tile;
    }
    e->p = berth_program_create(name, &bounds);
    if (!e->p) fail(e, BERTH_OUT_OF_MEMORY, "out of memory");
}

berth_status berth_emit_done(berth_emitter *e, berth_program **out)
{
    *out = e->status == BERTH_OK ? e->p : NULL;
    if (e->status != BERTH_OK) berth_program_destroy(e->p);
    e->p = NULL;
    return e->status;
}

static void make_name(const berth_emitter *e, const char *leaf, char out[BERTH_VALUE_NAME])
{
    const char *dot = leaf[0] && e->prefix[0] ? "." : "";
    if (e->layer >= 0)
        snprintf(out, BERTH_VALUE_NAME, "%s.%d%s%s", e->prefix, e->layer, dot, leaf);
    else
        snprintf(out, BERTH_VALUE_NAME, "%s%s%s", e->prefix, dot, leaf);
}

static berth_value blank(const berth_emitter *e, berth_value_kind kind, berth_dtype dtype, const berth_shape *shape)
{
    berth_value v = {.kind = kind, .dtype = dtype, .n_dims = shape->n, .param = -1, .layer = e->layer, .node = e->node};
    memcpy(v.dims, shape->dims, sizeof v.dims);
    v.device = BERTH_DEVICE_NONE;
    v.origin = BERTH_NO_VALUE;
    v.producer = BERTH_NO_OP;
    return v;
}

static int32_t add_value(berth_emitter *e, const berth_value *v)
{
    if (e->status != BERTH_OK) return -1;
    int32_t i = berth_program_add_value(e->p, v);
    if (i < 0) fail(e, BERTH_OUT_OF_MEMORY, "out of memory");
    return i;
}

int32_t berth_emit_input(berth_emitter *e, const char *name, berth_input_key key, berth_dtype dtype, berth_shape shape)
{
    berth_value v = blank(e, BERTH_VALUE_INPUT, dtype, &shape);
    snprintf(v.name, sizeof v.name, "%s", name);
    v.input = key;
    v.node = v.layer = -1;
    return add_value(e, &v);
}

int32_t berth_emit_state(berth_emitter *e, const char *leaf, berth_state_key key, berth_shape shape)
{
    berth_value v = blank(e, BERTH_VALUE_STATE, BERTH_F32, &shape);
    make_name(e, leaf, v.name);
    v.state = key;
    return add_value(e, &v);
}

int32_t berth_emit_features(berth_emitter *e)
{
    const char *prefix = e->prefix;
    e->prefix = "";
    int32_t v = berth_emit_state(
        e, "features", BERTH_STATE_FEATURES,
        BERTH_SHAPE(BERTH_NUM(e->options->feature_rows), BERTH_NUM(berth_model_data_config(e->m)->text.hidden)));
    e->prefix = prefix;
    return v;
}

bool berth_emit_has(const berth_emitter *e, berth_role role)
{
    return role < BERTH_ROLE_COUNT && berth_model_data_find(e->m, role, e->layer) >= 0;
}

/* What a role's value is called: parameters have names of their own here, since a fused tensor's slices share the
 * file's. */
static const char *const role_names[BERTH_ROLE_COUNT] = {
    [BERTH_V_CLS] = "cls",
    [BERTH_V_POS] = "pos",
    [BERTH_V_PATCH_W] = "patch.weight",
    [BERTH_V_PATCH_B] = "patch.bias",
    [BERTH_V_NORM1_W] = "norm1.weight",
    [BERTH_V_NORM1_B] = "norm1.bias",
    [BERTH_V_Q_W] = "q.weight",
    [BERTH_V_Q_B] = "q.bias",
    [BERTH_V_K_W] = "k.weight",
    [BERTH_V_K_B] = "k.bias",
    [BERTH_V_V_W] = "v.weight",
    [BERTH_V_V_B] = "v.bias",
    [BERTH_V_QNORM_W] = "q_norm.weight",
    [BERTH_V_KNORM_W] = "k_norm.weight",
    [BERTH_V_O_W] = "o.weight",
    [BERTH_V_O_B] = "o.bias",
    [BERTH_V_LS1] = "ls1",
    [BERTH_V_LS2] = "ls2",
    [BERTH_V_NORM2_W] = "norm2.weight",
    [BERTH_V_NORM2_B] = "norm2.bias",
    [BERTH_V_FC1_W] = "fc1.weight",
    [BERTH_V_FC1_B] = "fc1.bias",
    [BERTH_V_FC2_W] = "fc2.weight",
    [BERTH_V_FC2_B] = "fc2.bias",
    [BERTH_P_NORM_W] = "norm.weight",
    [BERTH_P_NORM_B] = "norm.bias",
    [BERTH_P_FC1_W] = "fc1.weight",
    [BERTH_P_FC1_B] = "fc1.bias",
    [BERTH_P_FC2_W] = "fc2.weight",
    [BERTH_P_FC2_B] = "fc2.bias",
    [BERTH_T_EMBED] = "embed.weight",
    [BERTH_T_NORM1_W] = "norm1.weight",
    [BERTH_T_Q_W] = "q.weight",
    [BERTH_T_Q_B] = "q.bias",
    [BERTH_T_K_W] = "k.weight",
    [BERTH_T_K_B] = "k.bias",
    [BERTH_T_V_W] = "v.weight",
    [BERTH_T_V_B] = "v.bias",
    [BERTH_T_QNORM_W] = "q_norm.weight",
    [BERTH_T_KNORM_W] = "k_norm.weight",
    [BERTH_T_O_W] = "o.weight",
    [BERTH_T_NORM2_W] = "norm2.weight",
    [BERTH_T_GATE_W] = "gate.weight",
    [BERTH_T_UP_W] = "up.weight",
    [BERTH_T_DOWN_W] = "down.weight",
    [BERTH_T_NORM_W] = "norm.weight",
    [BERTH_T_HEAD] = "head.weight",
};

int32_t berth_emit_weight(berth_emitter *e, berth_role role)
{
    if (e->status != BERTH_OK) return -1;
    int32_t param = berth_model_data_find(e->m, role, e->layer);
    if (param < 0) {
        char what[96];
        snprintf(what, sizeof what, "the model has no parameter %s (layer %d)", role_names[role], e->layer);
        fail(e, BERTH_INTERNAL, what);
        return -1;
    }
    const berth_param *w = berth_model_data_param(e->m, param);
    berth_shape shape = {.n = w->n_dims, .dims = {BERTH_NUM(w->dims[0]), BERTH_NUM(w->n_dims > 1 ? w->dims[1] : 1)}};
    berth_value v = blank(e, BERTH_VALUE_WEIGHT, w->dtype, &shape);
    make_name(e, role_names[role], v.name);
    v.param = param;
    v.node = w->node;
    return add_value(e, &v);
}

/* The op in the program, with module and layer; its output is `out`. */
static void add_op(berth_emitter *e, const berth_emit_op *what, int32_t out)
{
    if (e->status != BERTH_OK) return;
    berth_op op = {
        .kind = what->kind, .attrs = what->attrs, .n_in = what->n_in, .out = out, .node = e->node, .layer = e->layer};
    op.replicate = what->replicate;
    op.device = BERTH_DEVICE_NONE;
    memcpy(op.in, what->in, sizeof op.in);
    for (int32_t k = what->n_in - 1; k >= 0; k--) {
        int32_t v = what->in[k];
        if (v >= 0 && e->p->values[v].kind == BERTH_VALUE_WEIGHT) op.node = e->p->values[v].node;
    }
    if (out >= 0 && e->p->values[out].kind == BERTH_VALUE_ACTIVATION) e->p->values[out].node = op.node;
    if (berth_program_add_op(e->p, &op) < 0) fail(e, BERTH_OUT_OF_MEMORY, "out of memory");
}

int32_t berth_emit(berth_emitter *e, const berth_emit_op *what)
{
    if (e->status != BERTH_OK) return -1;
    berth_value v = blank(e, BERTH_VALUE_ACTIVATION, BERTH_F32, &what->shape);
    make_name(e, what->leaf, v.name);
    int32_t out = add_value(e, &v);
    add_op(e, what, out);
    return e->status == BERTH_OK ? out : -1;
}

void berth_emit_into(berth_emitter *e, const berth_emit_op *what, int32_t state)
{
    add_op(e, what, state);
}

berth_shape berth_emit_shape_of(const berth_emitter *e, int32_t value)
{
    berth_shape s = {0};
    if (e->status != BERTH_OK || value < 0) return s;
    s.n = e->p->values[value].n_dims;
    memcpy(s.dims, e->p->values[value].dims, sizeof s.dims);
    return s;
}

int32_t berth_emit_linear(berth_emitter *e, const char *leaf, int32_t x, berth_role w, berth_role bias,
                          berth_shape shape)
{
    berth_emit_op op = {.kind = BERTH_OP_LINEAR, .leaf = leaf, .shape = shape, .n_in = 2};
    op.in[0] = x;
    op.in[1] = berth_emit_weight(e, w);
    if (berth_emit_has(e, bias)) op.in[op.n_in++] = berth_emit_weight(e, bias);
    return berth_emit(e, &op);
}

int32_t berth_emit_norm(berth_emitter *e, const char *leaf, int32_t x, berth_norm norm, berth_role w, berth_role b,
                        float eps)
{
    berth_emit_op op = {
        .leaf = leaf, .shape = berth_emit_shape_of(e, x), .attrs.eps = eps, .n_in = norm == BERTH_NORM_LAYER ? 3 : 2};
    op.kind = norm == BERTH_NORM_LAYER ? BERTH_OP_LAYER_NORM : BERTH_OP_RMS_NORM;
    op.in[0] = x;
    op.in[1] = berth_emit_weight(e, w);
    if (norm == BERTH_NORM_LAYER) op.in[2] = berth_emit_weight(e, b);
    return berth_emit(e, &op);
}

int32_t berth_emit_same(berth_emitter *e, berth_op_kind kind, const char *leaf, int32_t a, int32_t b)
{
    berth_emit_op op = {
        .kind = kind, .leaf = leaf, .shape = berth_emit_shape_of(e, a), .in = {a, b}, .n_in = b >= 0 ? 2 : 1};
    return berth_emit(e, &op);
}

void berth_emit_mark_output(berth_emitter *e, int32_t value)
{
    if (e->status == BERTH_OK && value >= 0) e->p->values[value].is_output = true;
}

void berth_emit_mark_kept(berth_emitter *e, int32_t value)
{
    if (e->status == BERTH_OK && value >= 0) e->p->values[value].is_kept = true;
}

void berth_emit_mark_traced(berth_emitter *e, int32_t value)
{
    if (e->status != BERTH_OK || value < 0) return;
    e->p->values[value].is_traced = true;
    if (e->options->trace) e->p->values[value].is_output = true;
}
