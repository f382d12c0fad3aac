/* numeric.c - are the logits usable, and if not, where did it begin?
 *
 * Every step's LOGIT_STATS is looked at. When it is bad, the passes that led to it are made again and every op's output
 * is looked at: for NaN and infinity, or, where the logits are constant, for constancy. Only the passes that can matter
 * are made again: while tokens are decoded, all earlier logits were good, and a bad key or value would have made its
 * own token's logits bad. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/session.h"

typedef struct finding { /* of one op's output */
    int32_t op;          /* -1: none */
    int64_t n, n_nan, n_inf;
    char operand[192]; /* a weight or input that is itself bad; "" = none */
    int64_t n_operand;
} finding;

typedef struct scan {
    const berth_session *s;
    const berth_bound *bound; /* of the finding */
    finding first;
    uint8_t *is_constant; /* [n_ops] of the step program; NULL: look for non-finite values */
} scan;

/* ---- looking at values ------------------------------------------------------------------------------------------ */

static float element(const berth_tensor *t, int64_t i)
{
    float f;
    berth_widen_f32(&f, (const char *)t->data + (size_t)i * berth_dtype_size(t->dtype), t->dtype, 1);
    return f;
}

static void count_bad(const berth_tensor *t, int64_t *out_nan, int64_t *out_inf)
{
    int64_t n = berth_tensor_elements(t);
    *out_nan = *out_inf = 0;
    for (int64_t i = 0; i < n; i++) {
        float f = element(t, i);
        *out_nan += isnan(f) != 0;
        *out_inf += isinf(f) != 0;
    }
}

static bool all_equal(const berth_tensor *t)
{
    int64_t n = berth_tensor_elements(t);
    if (n < 2) return false;
    float first = element(t, 0);
    for (int64_t i = 1; i < n; i++)
        if (element(t, i) != first) return false;
    return true;
}

/* A weight, or what the caller gave: bad before any op of ours. */
static const char *outside_name(const berth_session *s, const berth_program *p, int32_t v)
{
    while (p->values[v].origin >= 0) v = p->values[v].origin;
    const berth_value *x = &p->values[v];
    if (x->kind == BERTH_VALUE_WEIGHT && x->param >= 0)
        return berth_model_data_param(s->core->plan->model, x->param)->tensor;
    return x->kind == BERTH_VALUE_INPUT ? x->name : NULL;
}

static void find_bad_operand(const scan *c, const berth_bound *b, const berth_op *op, const berth_op_call *call,
                             finding *f)
{
    for (int32_t k = 0; k < op->n_in && !f->n_operand; k++) {
        const char *name = outside_name(c->s, b->program, op->in[k]);
        if (!name || !berth_dtype_is_float(call->in[k].dtype)) continue;
        int64_t n_nan, n_inf;
        count_bad(&call->in[k], &n_nan, &n_inf);
        f->n_operand = n_nan + n_inf;
        if (f->n_operand) {
            strncpy(f->operand, name, sizeof f->operand - 1);
            f->operand[sizeof f->operand - 1] = 0;
        }
    }
}

static void scan_see(void *user, const berth_bound *b, int32_t index, const berth_op_call *call)
{
    scan *c = user;
    const berth_op *op = &b->program->ops[index];
    if (op->kind == BERTH_OP_COPY || berth_op_infos[op->kind].writes_state || op->kind == BERTH_OP_LOGIT_STATS ||
        !berth_dtype_is_float(call->out.dtype))
        return;
    if (c->is_constant) {
        c->is_constant[index] = all_equal(&call->out);
        return;
    }
    if (c->first.op >= 0 && c->first.op < index) return;
    finding f = {.op = index, .n = berth_tensor_elements(&call->out)};
    count_bad(&call->out, &f.n_nan, &f.n_inf);
    if (f.n_nan + f.n_inf == 0) return;
    find_bad_operand(c, b, op, call, &f);
    c->first = f;
    c->bound = b;
}

/* ---- words ------------------------------------------------------------------------------------------------------ */

static void say_op(const berth_session *s, const berth_bound *b, int32_t index, berth_error *err)
{
    const berth_program *p = b->program;
    const berth_op *op = &p->ops[index];
    const berth_value *out = &p->values[op->out];
    int32_t node = op->node >= 0 ? op->node : out->node;
    berth_error_append(err, "op %s (%s, program %s", berth_op_infos[op->kind].name, out->name, p->name);
    if (op->layer >= 0) berth_error_append(err, ", layer %d", (int)op->layer);
    if (node >= 0) berth_error_append(err, ", module %s", berth_model_data_nodes(s->core->plan->model)[node].path);
    berth_error_append(err, ") on device %s", s->core->exec.units[op->device].info->name);
    for (int32_t k = 0; k < op->n_in; k++) {
        const berth_value *w = &p->values[op->in[k]];
        if (w->kind != BERTH_VALUE_WEIGHT || w->param < 0) continue;
        berth_error_append(err, ", weight %s", berth_model_data_param(s->core->plan->model, w->param)->tensor);
        break;
    }
    if (err) err->device = op->device;
}

static void say_finding(const scan *c, berth_error *err)
{
    const finding *f = &c->first;
    if (f->op < 0) {
        berth_error_append(
            err, "; the same passes made again gave no bad value, so the fault does not repeat: suspect memory "
                 "or hardware");
        return;
    }
    berth_error_append(err, "; the first bad values came from ");
    say_op(c->s, c->bound, f->op, err);
    berth_error_append(err, ": %lld of %lld values are NaN, %lld infinite", (long long)f->n_nan, (long long)f->n,
                       (long long)f->n_inf);
    if (f->n_operand)
        berth_error_append(err, "; its operand %s itself holds %lld such values", f->operand, (long long)f->n_operand);
}

/* ---- diagnosis -------------------------------------------------------------------------------------------------- */

static void run_again(berth_session *s, scan *c, int32_t id, int64_t position, berth_error *err)
{
    const berth_watch watch = {.see = scan_see, .user = c};
    berth_status st = BERTH_OK;
    berth_error why = {0};
    if (position < 0) {
        st = berth_session_encode(s, &watch, &why);
        if (st == BERTH_OK && c->first.op < 0) st = berth_session_prefill(s, &watch, &why);
    } else {
        st = berth_session_decode(s, id, position, &watch, &why);
    }
    if (st != BERTH_OK) berth_error_append(err, "; looking for the cause failed: %s", why.message);
}

/* The op behind constant logits: from the logits back along operands that are constant too. */
static int32_t constant_source(const berth_program *p, const uint8_t *is_constant)
{
    int32_t op = -1;
    for (int32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == BERTH_OP_LOGIT_STATS) op = i;
    for (bool moved = op >= 0; moved;) {
        moved = false;
        for (int32_t k = 0; k < p->ops[op].n_in && !moved; k++) {
            int32_t v = p->ops[op].in[k];
            while (p->values[v].origin >= 0) v = p->values[v].origin;
            int32_t by = p->values[v].producer;
            if (by < 0 || by >= op || !is_constant[by]) continue;
            op = by;
            moved = true;
        }
    }
    return op;
}

static void diagnose_constant(berth_session *s, int32_t id, int64_t position, berth_error *err)
{
    const berth_program *p = s->replica->step.program;
    scan c = {.s = s, .first = {.op = -1}, .is_constant = calloc((size_t)p->n_ops + 1, 1)};
    if (!c.is_constant) return;
    run_again(s, &c, id, position, err);
    int32_t op = constant_source(p, c.is_constant);
    if (op < 0 || !c.is_constant[op]) {
        say_finding(&c, err);
    } else {
        bool is_logits = strcmp(p->values[p->ops[op].out].name, "logits") == 0;
        berth_error_append(err, is_logits ? "; nothing before the logits is constant, so it is " : "; constant from ");
        say_op(s, &s->replica->step, op, err);
    }
    free(c.is_constant);
}

berth_status berth_session_check_numbers(berth_session *s, int32_t id, int64_t position, berth_error *err)
{
    int32_t vocab = s->config->text.vocab;
    const float *bad = NULL;
    for (int32_t i = 0; i < s->n_logits && !bad; i++) {
        const float *st = s->replica->stats + (size_t)i * BERTH_LOGIT_STATS;
        bool finite = st[BERTH_STAT_NAN] == 0 && st[BERTH_STAT_INF] == 0;
        if (!finite || (st[BERTH_STAT_MIN] >= st[BERTH_STAT_MAX] && vocab > 1)) bad = st;
    }
    if (!bad) return BERTH_OK;
    float n_nan = bad[BERTH_STAT_NAN], n_inf = bad[BERTH_STAT_INF], low = bad[BERTH_STAT_MIN];
    const char *where = position < 0 ? "after the prompt" : "while generating";
    if (n_nan + n_inf > 0) {
        BERTH_FAIL(err, BERTH_NUMERIC,
                   "the logits %s (position %lld) are not finite: %.0f of %d are NaN, %.0f infinite", where,
                   (long long)(position < 0 ? s->request->n_ids - 1 : position), (double)n_nan, (int)vocab,
                   (double)n_inf);
        scan c = {.s = s, .first = {.op = -1}};
        run_again(s, &c, id, position, err);
        say_finding(&c, err);
    } else {
        BERTH_FAIL(err, BERTH_NUMERIC, "the logits %s (position %lld) are constant: all %d are %g", where,
                   (long long)(position < 0 ? s->request->n_ids - 1 : position), (int)vocab, (double)low);
        diagnose_constant(s, id, position, err);
    }
    return BERTH_NUMERIC;
}
