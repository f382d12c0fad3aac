/* fused_test.c - ops that become one kernel: each still reads what it read apart, the logits keep their bits, and a step
 * takes as many launches less as there are such ops. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exec/fuse.h"
#include "fixture.h"

/* ---- memory ----------------------------------------------------------------------------------------------------- */

enum { CELL = 64 };

/* What lies in devices' memory, each cell by the content of the op that wrote it, as ops go one after another. */
typedef struct memory {
    const berth_program *p;
    uint64_t *cells[BERTH_MAX_DEVICES];
    uint64_t *contents; /* [n_ops] what each op gave */
} memory;

static uint64_t mix(uint64_t a, uint64_t b)
{
    a = (a ^ b) * 0x9E3779B97F4A7C15u;
    return a ^ a >> 29;
}

static bool in_arena(const berth_value *v)
{
    return v->kind == BERTH_VALUE_ACTIVATION && v->device >= 0;
}

/* As it lies in memory; `content` not 0: as if that had been written there. */
static uint64_t read_value(const memory *m, int32_t value, uint64_t content)
{
    const berth_value *v = &m->p->values[value];
    uint64_t all = (uint64_t)value;
    if (!in_arena(v)) return all;
    for (size_t at = v->offset / CELL; at * CELL < v->offset + v->bytes; at++)
        all = mix(all, content ? content : m->cells[v->device][at]);
    return all;
}

static void write_value(const memory *m, int32_t value, uint64_t content)
{
    const berth_value *v = &m->p->values[value];
    if (!in_arena(v)) return;
    for (size_t at = v->offset / CELL; at * CELL < v->offset + v->bytes; at++) m->cells[v->device][at] = content;
}

/* What op i gives of operands as they lie in memory, but for those whose makers gave them no memory: [0, n) of `makers`. */
static uint64_t content_of(const memory *m, int32_t i, const int32_t *makers, int32_t n)
{
    const berth_op *op = &m->p->ops[i];
    uint64_t content = (uint64_t)i + 1;
    for (int32_t k = 0; k < op->n_in; k++) {
        uint64_t of_operand = 0;
        for (int32_t j = 0; j < n && !of_operand; j++)
            if (makers[j] >= 0 && m->p->ops[makers[j]].out == op->in[k]) of_operand = m->contents[makers[j]];
        content = mix(content, read_value(m, op->in[k], of_operand));
    }
    return content;
}

static void carry_out(memory *m, int32_t i)
{
    m->contents[i] = content_of(m, i, NULL, 0);
    write_value(m, m->p->ops[i].out, m->contents[i]);
}

static bool share_memory(const berth_value *a, const berth_value *b)
{
    return in_arena(a) && in_arena(b) && a->device == b->device && a->offset < b->offset + b->bytes &&
           b->offset < a->offset + a->bytes;
}

/* Blocks of the kernel still read when others write: only what is added to may lie where the sum goes, at the same place. */
static void check_blocks(const berth_program *p, const berth_fusion *f)
{
    int32_t outs[BERTH_FUSED_LINEARS], n = 0;
    for (int32_t i = 0; i < f->n_linears && f->then < 0; i++) outs[n++] = p->ops[f->linears[i]].out;
    if (f->then >= 0) outs[n++] = p->ops[f->then].out;
    const int32_t x = f->norm >= 0 ? p->ops[f->norm].in[0] : p->ops[f->linears[0]].in[0];
    for (int32_t i = 0; i < n; i++) {
        assert_false(share_memory(&p->values[outs[i]], &p->values[x]));
        for (int32_t k = 0; k < i; k++) assert_false(share_memory(&p->values[outs[i]], &p->values[outs[k]]));
    }
    for (int32_t k = 0; f->norm < 0 && k < 2; k++) {
        const berth_value *a = &p->values[p->ops[f->then].in[k]], *y = &p->values[outs[0]];
        if (p->ops[f->then].in[k] != p->ops[f->linears[0]].out && share_memory(a, y)) {
            assert_int_equal(a->offset, y->offset);
            assert_int_equal(a->dtype, y->dtype);
        }
    }
}

/* At the fusion's first product; what is not its result is not written. */
static void carry_out_fused(memory *m, const berth_fusion *f)
{
    int32_t makers[1 + BERTH_FUSED_LINEARS] = {f->norm, -1, -1, -1};
    check_blocks(m->p, f);
    if (f->norm >= 0) m->contents[f->norm] = content_of(m, f->norm, NULL, 0);
    for (int32_t i = 0; i < f->n_linears; i++) m->contents[f->linears[i]] = content_of(m, f->linears[i], makers, 1);
    for (int32_t i = 0; i < f->n_linears; i++) makers[1 + i] = f->linears[i];
    if (f->then >= 0) m->contents[f->then] = content_of(m, f->then, makers, 1 + f->n_linears);
    for (int32_t i = 0; i < f->n_linears && f->then < 0; i++)
        write_value(m, m->p->ops[f->linears[i]].out, m->contents[f->linears[i]]);
    if (f->then >= 0) write_value(m, m->p->ops[f->then].out, m->contents[f->then]);
}

/* All ops in order; caller frees. */
static uint64_t *contents_of(const berth_program *p, const berth_fusions *f)
{
    memory m = {.p = p, .contents = calloc((size_t)p->n_ops, sizeof *m.contents)};
    for (int32_t d = 0; d < p->n_devices; d++)
        m.cells[d] = calloc(p->regions[d].activations / CELL + 1, sizeof *m.cells[d]);
    for (int32_t i = 0; i < p->n_ops; i++) {
        const int32_t of = f ? f->of[i] : -1;
        if (of < 0) carry_out(&m, i);
        if (of >= 0 && f->list[of].linears[0] == i) carry_out_fused(&m, &f->list[of]);
    }
    for (int32_t d = 0; d < p->n_devices; d++) free(m.cells[d]);
    return m.contents;
}

static int32_t check_program(const berth_program *p, const char *what)
{
    berth_fusions f;
    berth_error err = {0};
    golden_must(berth_fusions_init(&f, p, UINT64_MAX, &err), &err, what);
    uint64_t *apart = contents_of(p, NULL), *fused = contents_of(p, &f);
    for (int32_t i = 0; i < p->n_ops; i++)
        if (apart[i] != fused[i])
            fail_msg("%s: op %d (%s) reads something else", what, i, p->values[p->ops[i].out].name);
    free(apart);
    free(fused);
    const int32_t n = f.n;
    berth_fusions_deinit(&f);
    return n;
}

/* Norm with q, k, v; attention's product and its sum; norm, gate and up; the last product and its sum. The last norm and
 * the head, unless another device has it. */
static void ops_read_what_they_read_apart(void **state)
{
    (void)state;
    static const struct {
        const char *devices, *strategy;
        int32_t elsewhere; /* fusions that a border between devices prevents, at most */
    } places[] = {{"cpu", "single", 0}, {"cpu*2", "balanced", 4}, {"cpu*3", "balanced_low_0", 8}};
    for (int32_t m = 0; golden_names[m]; m++) {
        golden_model g;
        golden_open(&g, golden_names[m]);
        for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
            golden_engine e;
            berth_error err = {0};
            const berth_plan_config config = {.chunk = 7, .n_seqs = 2};
            golden_must(golden_plan(&e, &g, places[i].devices, places[i].strategy, &config, &err), &err, g.name);
            const berth_replica_plan *r = &e.plan->replicas[0];
            if (r->encode) check_program(r->encode, g.name);
            const int32_t most = 4 * berth_model_data_config(g.data)->text.n_layers + 1;
            assert_in_range(check_program(r->step, g.name), most - places[i].elsewhere, most);
            golden_stop(&e);
        }
        golden_close(&g);
    }
}

/* ---- runs ------------------------------------------------------------------------------------------------------- */

enum { TOKENS = 4 };

typedef struct told {
    kept_answer answer;
    uint64_t executed; /* launches, copies, waits and marks carried out for it */
} told;

typedef struct asking {
    const char *model, *world, *devices;
    berth_plan_dtype dtype;
    bool head_is_apart; /* the logits take over the memory of its norm's x, which is fp32 and so not the result's */
} asking;

static void ask(const golden_model *g, const asking *q, const berth_core_options *options, told *out)
{
    golden_engine e;
    berth_error err = {0};
    berth_core_result r = {0};
    const berth_plan_config config = {.dtype = q->dtype, .context = g->cases[0].n_ids + TOKENS};
    kept_answer_init(&out->answer, g);
    world_reset(q->world);
    golden_must(golden_plan(&e, g, q->devices, "balanced", &config, &err), &err, q->devices);
    golden_must(golden_start(&e, options, &err), &err, q->devices);
    const uint64_t before = world_report().executed;
    berth_core_request request = golden_request(&g->cases[0], TOKENS);
    request.wants_logits = true;
    request.on_token = keep_answer;
    request.user = &out->answer;
    golden_must(berth_core_run(e.core, &request, &r, &err), &err, q->devices);
    out->executed = world_report().executed - before;
    berth_core_result_deinit(&r);
    golden_stop(&e);
    world_is_empty(q->devices);
    assert_int_equal(out->answer.n, TOKENS);
}

/* Of a layer in a step of one row: q, k and v go with their norm, and each of the two sums with its product; gate and up
 * with their norm and with what joins them. A prompt of more than 64 rows has the last norm and the head only. */
enum { LESS_A_LAYER = 3 + 1 + 3 + 1, LONG_PROMPT = 65 };

static void bits_are_those_of_ops_apart(void **state)
{
    (void)state;
    static const asking rows[] = {
        {"qwen2-text", "gpus=1;mem=32MiB;cap=80", "cuda:0", BERTH_PLAN_BF16, false},
        {"qwen2-text", "gpus=1;mem=32MiB;cap=70", "cuda:0", BERTH_PLAN_FP16, true},
        {"qwen2-text", "gpus=1;mem=32MiB;cap=90", "cuda:0", BERTH_PLAN_FP32, false},
        {"qwen2-text", "gpus=1;mem=32MiB;cap=86", "cuda:0*2", BERTH_PLAN_BF16, false},
        {"ivl-qwen3", "gpus=1;mem=32MiB;cap=75", "cuda:0", BERTH_PLAN_FP16, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        golden_model g;
        told fused, apart, single;
        golden_open(&g, rows[i].model);
        ask(&g, &rows[i], &(berth_core_options){0}, &fused);
        ask(&g, &rows[i], &(berth_core_options){.no_fusing = true}, &apart);
        ask(&g, &rows[i], &(berth_core_options){.no_graphs = true}, &single);
        const size_t bytes = (size_t)TOKENS * (size_t)fused.answer.vocab * sizeof *fused.answer.logits;
        if (memcmp(fused.answer.logits, apart.answer.logits, bytes) != 0) fail_msg("case %zu: other bits", i);
        if (memcmp(single.answer.logits, apart.answer.logits, bytes) != 0)
            fail_msg("case %zu: other bits without graphs", i);
        assert_memory_equal(fused.answer.ids, apart.answer.ids, TOKENS * sizeof *fused.answer.ids);
        const int32_t layers = berth_model_data_config(g.data)->text.n_layers;
        const int32_t less = (TOKENS - 1) * layers * LESS_A_LAYER + (rows[i].head_is_apart ? 0 : TOKENS);
        if (g.cases[0].n_ids >= LONG_PROMPT && strcmp(rows[i].devices, "cuda:0") == 0)
            assert_int_equal(apart.executed - fused.executed, less);
        assert_true(fused.executed < apart.executed);
        kept_answer_deinit(&fused.answer);
        kept_answer_deinit(&apart.answer);
        kept_answer_deinit(&single.answer);
        golden_close(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ops_read_what_they_read_apart),
        cmocka_unit_test(bits_are_those_of_ops_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
