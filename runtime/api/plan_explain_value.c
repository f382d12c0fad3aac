/* plan_explain_value.c - values and ops of a finished program, told: who writes, who reads, what is copied and why. */
#include "api/plan_explain.h"
#include "program/check_internal.h"
#include "program/program_internal.h"

static void put_shape(berth_explainer *e, const berth_value *v)
{
    berth_buffer b = {0};
    berth_say_shape(v, &b);
    berth_facts_text(&e->facts, "shape", "%s", b.data != NULL ? b.data : "[]");
    if (b.failed) e->facts.out->failed = true;
    berth_buffer_deinit(&b);
}

/* An op in a row: number, kind, what it makes, module, device. */
static void put_op_row(berth_explainer *e, const berth_program *p, int32_t i)
{
    const berth_op *op = &p->ops[i];
    berth_facts_row(&e->facts);
    berth_facts_number(&e->facts, "op", i);
    berth_facts_text(&e->facts, "kind", "%s", berth_word_op(op->kind));
    berth_facts_text(&e->facts, "makes", "%s", berth_word_value(p, op->out));
    if (op->node >= 0) berth_facts_text(&e->facts, "module", "%s", berth_word_path(&e->env, op->node));
    berth_facts_text(&e->facts, "device", "%s", berth_explain_device(e, op->device));
    berth_facts_row_end(&e->facts);
}

static bool reads(const berth_op *op, int32_t value)
{
    for (int32_t k = 0; k < op->n_in; k++)
        if (op->in[k] == value) return true;
    return false;
}

static void put_readers(berth_explainer *e, const berth_program *p, int32_t value)
{
    berth_facts_list(&e->facts, "read_by");
    for (int32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind != BERTH_OP_COPY && reads(&p->ops[i], value)) put_op_row(e, p, i);
    berth_facts_list_end(&e->facts);
}

static void put_writer(berth_explainer *e, const berth_program *p, int32_t value)
{
    const berth_value *v = &p->values[value];
    if (v->kind == BERTH_VALUE_WEIGHT) {
        berth_facts_text(&e->facts, "written_by", "the weight file, at load");
    } else if (v->kind == BERTH_VALUE_INPUT) {
        berth_facts_text(&e->facts, "written_by", "the engine, before each pass");
    } else {
        berth_facts_list(&e->facts, "written_by");
        for (int32_t i = 0; i < p->n_ops; i++)
            if (p->ops[i].out == value) put_op_row(e, p, i);
        berth_facts_list_end(&e->facts);
    }
}

/* From the op that writes it to the last that reads it, and where it lies meanwhile. */
static void put_lifetime(berth_explainer *e, const berth_program *p, int32_t value)
{
    const berth_value *v = &p->values[value];
    int32_t last = v->producer;
    for (int32_t i = 0; i < p->n_ops; i++)
        if (reads(&p->ops[i], value)) last = i;
    berth_facts_bytes(&e->facts, "bytes", v->bytes);
    if (v->kind == BERTH_VALUE_WEIGHT || v->kind == BERTH_VALUE_STATE) {
        berth_facts_text(&e->facts, "lifetime", "as long as the engine");
        return;
    }
    berth_facts_number(&e->facts, "offset", (int64_t)v->offset);
    if (v->producer >= 0) berth_facts_number(&e->facts, "first_op", v->producer);
    berth_facts_number(&e->facts, "last_op", last);
    if (v->is_kept) berth_facts_text(&e->facts, "kept", "until the pass is over: the host may read it there");
    if (v->is_output) berth_facts_text(&e->facts, "output", "wanted in host memory when the pass is over");
}

static bool carries(const berth_explainer *e, const berth_program *p, int32_t copy, int32_t what)
{
    (void)e;
    return p->ops[copy].in[0] == what;
}

void berth_explain_value(berth_explainer *e, const berth_program *p, int32_t value)
{
    static const char *const kinds[] = {"weight", "input", "activation", "state"};
    const berth_value *v = &p->values[value];
    berth_facts *f = &e->facts;
    berth_facts_open(f, p == e->plan->core->replicas[e->replica].encode ? "encode_value" : "step_value");
    berth_facts_text(f, "name", "%s", v->name);
    berth_facts_text(f, "program", "%s", p->name);
    berth_facts_text(f, "kind", "%s", kinds[v->kind]);
    berth_facts_text(f, "dtype", "%s", berth_dtype_name(v->dtype));
    put_shape(e, v);
    berth_facts_text(f, "device", "%s", berth_explain_device(e, v->device));
    if (v->origin != BERTH_NO_VALUE) berth_facts_text(f, "copy_of", "%s", berth_word_value(p, v->origin));
    if (v->node >= 0) berth_facts_text(f, "module", "%s", berth_word_path(&e->env, v->node));
    berth_explain_why(e, v->producer >= 0 ? p->ops[v->producer].node : v->node);
    put_lifetime(e, p, value);
    put_writer(e, p, value);
    put_readers(e, p, value);
    berth_explain_copies(e, "copies", p, carries, value);
    berth_facts_close(f);
}

static void put_inputs(berth_explainer *e, const berth_program *p, const berth_op *op)
{
    berth_facts_list(&e->facts, "inputs");
    for (int32_t k = 0; k < op->n_in; k++) {
        const berth_value *v = &p->values[op->in[k]];
        berth_facts_row(&e->facts);
        berth_facts_text(&e->facts, "value", "%s", v->name);
        berth_facts_text(&e->facts, "dtype", "%s", berth_dtype_name(v->dtype));
        put_shape(e, v);
        berth_facts_text(&e->facts, "device", "%s", berth_explain_device(e, v->device));
        if (v->origin != BERTH_NO_VALUE)
            berth_facts_text(&e->facts, "copied_from", "%s", berth_explain_device(e, p->values[v->origin].device));
        berth_facts_row_end(&e->facts);
    }
    berth_facts_list_end(&e->facts);
}

void berth_explain_op(berth_explainer *e, const berth_program *p, int32_t i)
{
    const berth_op *op = &p->ops[i];
    berth_facts *f = &e->facts;
    berth_facts_open(f, "op");
    berth_facts_number(f, "number", i);
    berth_facts_text(f, "program", "%s", p->name);
    berth_facts_text(f, "kind", "%s", berth_word_op(op->kind));
    berth_facts_text(f, "makes", "%s", berth_word_value(p, op->out));
    if (op->node >= 0) berth_facts_text(f, "module", "%s", berth_word_path(&e->env, op->node));
    if (op->layer >= 0) berth_facts_number(f, "layer", op->layer);
    berth_facts_text(f, "device", "%s", berth_explain_device(e, op->device));
    if (op->kind == BERTH_OP_COPY)
        berth_facts_text(f, "why", "%s is read on %s and made on %s", berth_word_value(p, op->in[0]),
                         berth_explain_device(e, p->values[op->out].device),
                         berth_explain_device(e, p->values[op->in[0]].device));
    berth_explain_why(e, op->node);
    put_inputs(e, p, op);
    berth_facts_list(f, "waits_for");
    for (int32_t k = 0; k < op->n_waits; k++) put_op_row(e, p, p->waits[op->first_wait + k]);
    berth_facts_list_end(f);
    berth_facts_bytes(f, "workspace", op->workspace);
    berth_facts_close(f);
}
