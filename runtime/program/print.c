/* print.c - a program for people and for other programs: one op a line, grouped by module, copies marked by an arrow;
 * or the whole as JSON.
 *
 * Reads any program that has passed check; placed and allotted or not. */
#include <string.h>

#include "base/text.h"
#include "program/check_internal.h"

const char *berth_word_symbol(berth_symbol s)
{
    static const char *const names[BERTH_SYM_COUNT] = {"1",    "tiles",      "features", "tokens",
                                                       "seqs", "image_rows", "logits",   "best"};
    return (unsigned)s < BERTH_SYM_COUNT ? names[s] : "?";
}

static void say_dim(berth_dim d, berth_buffer *out)
{
    if (d.sym == BERTH_SYM_ONE)
        berth_buffer_printf(out, "%lld", (long long)d.n);
    else if (d.n == 1)
        berth_buffer_puts(out, berth_word_symbol(d.sym));
    else
        berth_buffer_printf(out, "%lld*%s", (long long)d.n, berth_word_symbol(d.sym));
}

void berth_say_shape(const berth_value *v, berth_buffer *out)
{
    berth_buffer_putc(out, '[');
    for (int32_t i = 0; i < v->n_dims && i < BERTH_VALUE_DIMS; i++) {
        if (i) berth_buffer_puts(out, ", ");
        say_dim(v->dims[i], out);
    }
    berth_buffer_putc(out, ']');
}

/* ---- text ------------------------------------------------------------------------------------------------------- */

/* The module under which an op is shown: the nearest one that is not split (a layer), or its own. */
static int32_t group_of(const berth_pass_env *env, int32_t node)
{
    int32_t own = berth_word_module(env, node);
    for (int32_t i = own; i >= 0; i = env->nodes[i].parent)
        if (env->nodes[i].flags & BERTH_NODE_NO_SPLIT) return i;
    return own;
}

static void pad_to(berth_buffer *out, size_t start, size_t column)
{
    do berth_buffer_putc(out, ' ');
    while (!out->failed && out->len - start < column);
}

static void print_copy(const berth_program *p, const berth_pass_env *env, int32_t i, berth_buffer *out)
{
    const berth_op *op = &p->ops[i];
    const berth_value *from = &p->values[op->in[0]];
    size_t start = out->len;
    berth_buffer_printf(out, "==> %4d  copy", i);
    pad_to(out, start, 20);
    berth_buffer_printf(out, "%s", from->name);
    pad_to(out, start, 48);
    berth_say_shape(from, out);
    pad_to(out, start, 72);
    berth_buffer_printf(
        out, "%s -> %s", from->device == BERTH_DEVICE_HOST ? "host" : berth_word_device(env, from->device),
        p->values[op->out].device == BERTH_DEVICE_HOST ? "host" : berth_word_device(env, p->values[op->out].device));
    size_t bytes;
    char text[32];
    if (berth_value_bytes(from, &p->bounds, &bytes))
        berth_buffer_printf(out, ", up to %s", berth_format_bytes(bytes, text, sizeof text));
}

static void print_operands(const berth_program *p, const berth_op *op, berth_buffer *out)
{
    for (int32_t k = 0; k < op->n_in; k++) {
        const berth_value *v = &p->values[op->in[k]];
        berth_buffer_puts(out, k ? ", " : " <- ");
        if (v->kind != BERTH_VALUE_WEIGHT) {
            berth_buffer_puts(out, v->name);
            continue;
        }
        berth_buffer_puts(out, berth_dtype_name(v->dtype));
        berth_say_shape(v, out);
    }
}

static void print_op(const berth_program *p, const berth_pass_env *env, int32_t i, berth_buffer *out)
{
    const berth_op *op = &p->ops[i];
    const berth_value *v = &p->values[op->out];
    size_t start = out->len;
    berth_buffer_printf(out, "    %4d  %s", i, berth_word_device(env, op->device));
    pad_to(out, start, 20);
    berth_buffer_puts(out, v->name);
    pad_to(out, start, 48);
    berth_say_shape(v, out);
    pad_to(out, start, 72);
    berth_buffer_puts(out, berth_word_op(op->kind));
    print_operands(p, op, out);
}

static void print_waits(const berth_program *p, const berth_op *op, berth_buffer *out)
{
    for (int32_t k = 0; k < op->n_waits; k++)
        berth_buffer_printf(out, "%s%d", k ? ", " : "; waits for ", p->waits[op->first_wait + k]);
}

static void print_regions(const berth_program *p, const berth_pass_env *env, berth_buffer *out)
{
    for (int32_t d = 0; d < p->n_devices; d++) {
        char a[32], w[32];
        berth_buffer_printf(out, "  %s: activations %s, workspace %s\n", berth_word_device(env, d),
                            berth_format_bytes(p->regions[d].activations, a, sizeof a),
                            berth_format_bytes(p->regions[d].workspace, w, sizeof w));
    }
    char h[32];
    berth_buffer_printf(out, "  host: inputs and outputs %s\n", berth_format_bytes(p->host_bytes, h, sizeof h));
}

bool berth_program_print(const berth_program *p, const berth_pass_env *env, berth_buffer *out)
{
    int32_t n_copies = 0, group = -1;
    for (int32_t i = 0; i < p->n_ops; i++) n_copies += p->ops[i].kind == BERTH_OP_COPY;
    berth_buffer_printf(out, "program %.15s: %d ops, of them %d copies, on %d devices; up to", p->name, p->n_ops,
                        n_copies, p->n_devices);
    for (int32_t s = 1; s < BERTH_SYM_COUNT; s++)
        if (p->bounds.value[s] > 0)
            berth_buffer_printf(out, " %lld %s", (long long)p->bounds.value[s], berth_word_symbol((berth_symbol)s));
    berth_buffer_putc(out, '\n');
    print_regions(p, env, out);
    for (int32_t i = 0; i < p->n_ops && !out->failed; i++) {
        const berth_op *op = &p->ops[i];
        if (op->kind == BERTH_OP_COPY) {
            print_copy(p, env, i, out);
        } else {
            int32_t of = group_of(env, op->node);
            if (of != group) berth_buffer_printf(out, "\n%s\n", of >= 0 ? berth_word_path(env, of) : "(no module)");
            group = of;
            print_op(p, env, i, out);
        }
        print_waits(p, op, out);
        berth_buffer_putc(out, '\n');
    }
    return !out->failed;
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

static void json_text(berth_buffer *out, const char *key, const char *text)
{
    berth_buffer_printf(out, "\"%s\": ", key);
    berth_buffer_json_string(out, text, strlen(text));
}

static void json_value(const berth_program *p, const berth_pass_env *env, int32_t i, berth_buffer *out)
{
    static const char *const kinds[] = {"weight", "input", "activation", "state"};
    const berth_value *v = &p->values[i];
    berth_buffer_puts(out, i ? ",\n  {" : "\n  {");
    json_text(out, "name", v->name);
    berth_buffer_printf(out, ", \"kind\": \"%s\", \"dtype\": \"%s\", \"shape\": [", kinds[v->kind],
                        berth_dtype_name(v->dtype));
    for (int32_t k = 0; k < v->n_dims; k++) {
        if (k) berth_buffer_puts(out, ", ");
        if (v->dims[k].sym != BERTH_SYM_ONE) berth_buffer_putc(out, '"');
        say_dim(v->dims[k], out);
        if (v->dims[k].sym != BERTH_SYM_ONE) berth_buffer_putc(out, '"');
    }
    berth_buffer_puts(out, "], ");
    json_text(out, "device", v->device == BERTH_DEVICE_HOST ? "host" : berth_word_device(env, v->device));
    if (v->origin != BERTH_NO_VALUE) {
        berth_buffer_puts(out, ", ");
        json_text(out, "copy_of", berth_word_value(p, v->origin));
    }
    if (v->layer >= 0) berth_buffer_printf(out, ", \"layer\": %d", v->layer);
    if (v->node >= 0) {
        berth_buffer_puts(out, ", ");
        json_text(out, "module", berth_word_path(env, v->node));
    }
    if (v->is_output) berth_buffer_puts(out, ", \"output\": true");
    if (v->is_kept) berth_buffer_puts(out, ", \"kept\": true");
    if (v->is_traced) berth_buffer_puts(out, ", \"traced\": true");
    berth_buffer_printf(out, ", \"bytes\": %zu", v->bytes);
    if (v->kind == BERTH_VALUE_ACTIVATION || v->kind == BERTH_VALUE_INPUT)
        berth_buffer_printf(out, ", \"offset\": %zu", v->offset);
    berth_buffer_putc(out, '}');
}

static void json_op(const berth_program *p, const berth_pass_env *env, int32_t i, berth_buffer *out)
{
    const berth_op *op = &p->ops[i];
    berth_buffer_printf(out, "%s\n  {\"op\": \"%s\", ", i ? "," : "", berth_word_op(op->kind));
    json_text(out, "device", berth_word_device(env, op->device));
    berth_buffer_puts(out, ", \"in\": [");
    for (int32_t k = 0; k < op->n_in; k++) {
        const char *name = berth_word_value(p, op->in[k]);
        if (k) berth_buffer_puts(out, ", ");
        berth_buffer_json_string(out, name, strlen(name));
    }
    berth_buffer_puts(out, "], ");
    json_text(out, "out", berth_word_value(p, op->out));
    if (op->node >= 0) {
        berth_buffer_puts(out, ", ");
        json_text(out, "module", berth_word_path(env, op->node));
    }
    if (op->layer >= 0) berth_buffer_printf(out, ", \"layer\": %d", op->layer);
    if (op->n_waits > 0) {
        berth_buffer_puts(out, ", \"waits\": [");
        for (int32_t k = 0; k < op->n_waits; k++)
            berth_buffer_printf(out, "%s%d", k ? ", " : "", p->waits[op->first_wait + k]);
        berth_buffer_putc(out, ']');
    }
    berth_buffer_printf(out, ", \"workspace\": %zu}", op->workspace);
}

bool berth_program_json(const berth_program *p, const berth_pass_env *env, berth_buffer *out)
{
    berth_buffer_putc(out, '{');
    json_text(out, "program", p->name);
    berth_buffer_puts(out, ", \"bounds\": {");
    for (int32_t s = 1; s < BERTH_SYM_COUNT; s++)
        berth_buffer_printf(out, "%s\"%s\": %lld", s > 1 ? ", " : "", berth_word_symbol((berth_symbol)s),
                            (long long)p->bounds.value[s]);
    berth_buffer_puts(out, "},\n \"devices\": [");
    for (int32_t d = 0; d < p->n_devices; d++) {
        berth_buffer_puts(out, d ? ", {" : "{");
        json_text(out, "name", berth_word_device(env, d));
        berth_buffer_printf(out, ", \"activation_bytes\": %zu, \"workspace_bytes\": %zu}", p->regions[d].activations,
                            p->regions[d].workspace);
    }
    berth_buffer_printf(out, "], \"host_bytes\": %zu,\n \"values\": [", p->host_bytes);
    for (int32_t i = 0; i < p->n_values && !out->failed; i++) json_value(p, env, i, out);
    berth_buffer_puts(out, "],\n \"ops\": [");
    for (int32_t i = 0; i < p->n_ops && !out->failed; i++) json_op(p, env, i, out);
    berth_buffer_puts(out, "]}\n");
    return !out->failed;
}
