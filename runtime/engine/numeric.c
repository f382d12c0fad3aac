/* numeric.c - are the logits usable, and if not, where did it begin?
 *
 * Every step's LOGIT_STATS is looked at. When it is bad, the passes that led to it are made again and every op's output
 * is looked at: for NaN and infinity, or, where the logits are constant, for constancy. Only the passes that can matter
 * are made again: while tokens are decoded, all earlier logits were good, and a bad key or value would have made its
 * own token's logits bad. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/core.h"

typedef struct finding { /* of one op's output */
    int32_t op;          /* -1: none */
    int64_t n, n_nan, n_inf;
    char operand[192]; /* a weight or input that is itself bad; "" = none */
    int64_t n_operand;
} finding;

typedef struct scan {
    const berth_active *a;
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
static const char *outside_name(const berth_active *a, const berth_program *p, int32_t v)
{
    while (p->values[v].origin >= 0) v = p->values[v].origin;
    const berth_value *x = &p->values[v];
    if (x->kind == BERTH_VALUE_WEIGHT && x->param >= 0)
        return berth_model_data_param(a->replica->core->plan->model, x->param)->tensor;
    return x->kind == BERTH_VALUE_INPUT ? x->name : NULL;
}

static void find_bad_operand(const scan *c, const berth_bound *b, const berth_op *op, const berth_op_call *call,
                             finding *f)
{
    for (int32_t k = 0; k < op->n_in && !f->n_operand; k++) {
        const char *name = outside_name(c->a, b->program, op->in[k]);
        if (!name || !berth_dtype_is_float(call->in[k].dtype)) continue;
        int64_t n_nan = 0, n_inf = 0;
        berth_tensor t = call->in[k];
        void *owned;
        if (berth_exec_fetch(&c->a->replica->core->exec, op->device, &t, &owned, NULL) != BERTH_OK) continue;
        count_bad(&t, &n_nan, &n_inf);
        free(owned);
        f->n_operand = n_nan + n_inf;
        if (f->n_operand) {
            strncpy(f->operand, name, sizeof f->operand - 1);
            f->operand[sizeof f->operand - 1] = 0;
        }
    }
}

static bool scan_wants(void *user, const berth_bound *b, int32_t index)
{
    const berth_op *op = &b->program->ops[index];
    (void)user;
    return op->kind != BERTH_OP_COPY && !berth_op_infos[op->kind].writes_state && op->kind != BERTH_OP_LOGIT_STATS &&
           op->kind != BERTH_OP_LOGIT_BEST && berth_dtype_is_float(b->program->values[op->out].dtype);
}

static void scan_see(void *user, const berth_bound *b, int32_t index, const berth_op_call *call)
{
    scan *c = user;
    const berth_op *op = &b->program->ops[index];
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

static void say_op(const berth_active *a, const berth_bound *b, int32_t index, berth_error *err)
{
    const berth_program *p = b->program;
    const berth_op *op = &p->ops[index];
    const berth_value *out = &p->values[op->out];
    int32_t node = op->node >= 0 ? op->node : out->node;
    berth_error_append(err, "op %s (%s, program %s", berth_op_infos[op->kind].name, out->name, p->name);
    if (op->layer >= 0) berth_error_append(err, ", layer %d", (int)op->layer);
    if (node >= 0)
        berth_error_append(err, ", module %s", berth_model_data_nodes(a->replica->core->plan->model)[node].path);
    berth_error_append(err, ") on device %s", a->replica->core->exec.units[op->device].info->name);
    for (int32_t k = 0; k < op->n_in; k++) {
        const berth_value *w = &p->values[op->in[k]];
        if (w->kind != BERTH_VALUE_WEIGHT || w->param < 0) continue;
        berth_error_append(err, ", weight %s", berth_model_data_param(a->replica->core->plan->model, w->param)->tensor);
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
    say_op(c->a, c->bound, f->op, err);
    berth_error_append(err, ": %lld of %lld values are NaN, %lld infinite", (long long)f->n_nan, (long long)f->n,
                       (long long)f->n_inf);
    if (f->n_operand)
        berth_error_append(err, "; its operand %s itself holds %lld such values", f->operand, (long long)f->n_operand);
}

/* ---- diagnosis -------------------------------------------------------------------------------------------------- */

/* The tiles from `first` on that fit one pass; the first not encoded yet. Tiles without pixels were made by others, and
 * their features were good. */
static int32_t encode_again(berth_active *a, berth_pass *p, int32_t first, const berth_watch *watch, berth_error *err,
                            berth_status *st)
{
    const berth_core_request *q = a->request;
    int32_t t = first;
    berth_pass_begin(p, BERTH_ENCODE);
    for (; t < q->n_tiles && p->n_items < a->replica->core->plan->config.tiles; t++)
        if (a->tile_blocks[t] >= 0 && (q->tile_pixels ? q->tile_pixels[t] != NULL : q->pixels != NULL))
            berth_pass_add_tile(p, a, t);
    if (p->n_items > 0) *st = berth_pass_start(p, NULL, watch, err);
    if (p->n_items > 0 && *st == BERTH_OK) *st = berth_pass_finish(p, err);
    return t;
}

static void run_again(berth_active *a, scan *c, berth_error *err)
{
    const berth_watch watch = {.see = scan_see, .user = c, .wants = scan_wants};
    berth_pass *p = &a->replica->passes[0];
    berth_status st = BERTH_OK;
    berth_error why = {0};
    bool is_prompt = a->result.n_ids == 0;
    /* from the beginning, since what was there already may be to blame; but not without its pictures */
    int64_t first = a->request->n_tiles == 0 ? 0 : a->result.n_reused;
    int64_t at = is_prompt ? first : a->sick_first, end = is_prompt ? a->request->n_ids : at + a->n_sick;
    int32_t chunk = a->replica->core->plan->config.chunk;
    for (int32_t t = 0; is_prompt && st == BERTH_OK && t < a->request->n_tiles && c->first.op < 0;)
        t = encode_again(a, p, t, &watch, &why, &st);
    while (at < end && st == BERTH_OK && c->first.op < 0) {
        int32_t n = end - at < chunk ? (int32_t)(end - at) : chunk;
        berth_pass_begin(p, BERTH_STEP);
        berth_pass_add_rows(p, a, at, n, at + n == end ? BERTH_LOGITS_LAST : BERTH_LOGITS_NONE);
        st = berth_pass_start(p, NULL, &watch, &why);
        if (st == BERTH_OK) st = berth_pass_finish(p, &why);
        at += n;
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

static void diagnose_constant(berth_active *a, berth_error *err)
{
    const berth_bound *step = &a->replica->passes[0].bound[BERTH_STEP];
    const berth_program *p = step->program;
    scan c = {.a = a, .first = {.op = -1}, .is_constant = calloc((size_t)p->n_ops + 1, 1)};
    if (!c.is_constant) return;
    run_again(a, &c, err);
    int32_t op = constant_source(p, c.is_constant);
    if (op < 0 || !c.is_constant[op]) {
        say_finding(&c, err);
    } else {
        bool is_logits = strcmp(p->values[p->ops[op].out].name, "logits") == 0;
        berth_error_append(err, is_logits ? "; nothing before the logits is constant, so it is " : "; constant from ");
        say_op(a, step, op, err);
    }
    free(c.is_constant);
}

bool berth_numeric_is_bad(const float *stats, int32_t vocab)
{
    bool finite = stats[BERTH_STAT_NAN] == 0 && stats[BERTH_STAT_INF] == 0;
    return !finite || (stats[BERTH_STAT_MIN] >= stats[BERTH_STAT_MAX] && vocab > 1);
}

void berth_numeric_diagnose(berth_active *a)
{
    const float *bad = a->sick_stats;
    int32_t vocab = a->replica->core->config->text.vocab;
    float n_nan = bad[BERTH_STAT_NAN], n_inf = bad[BERTH_STAT_INF], low = bad[BERTH_STAT_MIN];
    bool is_prompt = a->result.n_ids == 0;
    const char *where = is_prompt ? "after the prompt" : "while generating";
    long long position = (long long)(is_prompt ? a->request->n_ids - 1 : a->sick_first);
    berth_error err = {0};
    if (n_nan + n_inf > 0) {
        BERTH_FAIL(&err, BERTH_NUMERIC,
                   "the logits %s (position %lld) are not finite: %.0f of %d are NaN, %.0f infinite", where, position,
                   (double)n_nan, (int)vocab, (double)n_inf);
        scan c = {.a = a, .first = {.op = -1}};
        run_again(a, &c, &err);
        say_finding(&c, &err);
    } else {
        BERTH_FAIL(&err, BERTH_NUMERIC, "the logits %s (position %lld) are constant: all %d are %g", where, position,
                   (int)vocab, (double)low);
        diagnose_constant(a, &err);
    }
    a->n_sick = 0;
    berth_blocks_forget_all(&a->replica->kv); /* rows before the bad logits may be bad too, and known to others */
    berth_blocks_forget_all(&a->replica->features);
    berth_active_fail(a, BERTH_NUMERIC, &err);
}
