/* cmd_trace.c - `berth trace`: runs a model on given inputs and writes every named value to a safetensors file.
 *
 * The inputs come first, since the plan is made for just their tokens and tiles. They are read from a file, or made
 * from a conversation as `berth run` makes them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/status.h"
#include "cli/rows.h"
#include "cli/setup.h"
#include "lab/trace.h"
#include "model/safetensors.h"

enum { IDS_MAX = 1 << 24, TILES_MAX = 1 << 16 };

/* ---- inputs ------------------------------------------------------------------------------------------------------ */

static int64_t id_at(const unsigned char *bytes, berth_dtype dtype, int64_t i)
{
    int64_t wide;
    int32_t narrow;
    if (dtype == BERTH_I32) {
        memcpy(&narrow, bytes + 4 * i, sizeof narrow);
        return narrow;
    }
    memcpy(&wide, bytes + 8 * i, sizeof wide);
    return wide;
}

/* input_ids, i64 or i32, [n] or [1, n]. */
static berth_status read_ids(const berth_safetensors *f, berth_trace_inputs *in, berth_error *err)
{
    const berth_safetensor *t = berth_safetensors_find(f, "input_ids");
    const char *name = berth_safetensors_name(f);
    if (t == NULL)
        return BERTH_FAIL(err, BERTH_BAD_FILE, "%s: no tensor input_ids; it holds the prompt's token ids", name);
    const bool flat = t->n_dims == 1 || (t->n_dims == 2 && t->dims[0] == 1);
    const int64_t n = flat ? t->dims[t->n_dims - 1] : 0;
    if (n < 1 || n > IDS_MAX || (t->dtype != BERTH_I64 && t->dtype != BERTH_I32)) {
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "%s: input_ids must be i64 or i32 of shape [n] with 1 to %d ids; it is %s of %d dimensions",
                          name, IDS_MAX, t->dtype_name, (int)t->n_dims);
    }
    unsigned char *bytes = malloc(t->n_bytes);
    if (bytes == NULL || !berth_ids_reserve(&in->ids, (size_t)n)) {
        free(bytes);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %lld ids", (long long)n);
    }
    berth_status st = berth_safetensors_read(f, t, bytes, err);
    for (int64_t i = 0; st == BERTH_OK && i < n; i++) {
        const int64_t id = id_at(bytes, t->dtype, i);
        if (id < 0 || id > INT32_MAX) {
            st = BERTH_FAIL(err, BERTH_BAD_FILE, "%s: input_ids[%lld] is %lld, which is no token id", name,
                            (long long)i, (long long)id);
        } else {
            berth_ids_push(&in->ids, (int32_t)id);
        }
    }
    free(bytes);
    return st;
}

/* pixel_values, f32, [tiles, 3, side, side]; a file for text only has none. */
static berth_status read_pixels(const berth_safetensors *f, berth_trace_inputs *in, berth_error *err)
{
    const berth_safetensor *t = berth_safetensors_find(f, "pixel_values");
    if (t == NULL) return BERTH_OK;
    const bool right = t->dtype == BERTH_F32 && t->n_dims == 4 && t->dims[1] == 3 && t->dims[2] == t->dims[3] &&
                       t->dims[2] <= INT32_MAX && t->dims[0] <= TILES_MAX;
    if (!right)
        return BERTH_FAIL(err, BERTH_BAD_FILE,
                          "%s: pixel_values must be f32 of shape [tiles, 3, S, S] with at most %d tiles",
                          berth_safetensors_name(f), TILES_MAX);
    if (t->n_bytes == 0) return BERTH_OK;
    in->pixels = malloc(t->n_bytes);
    if (in->pixels == NULL)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %zu bytes of pixels", t->n_bytes);
    in->n_tiles = (int32_t)t->dims[0];
    in->side = (int32_t)t->dims[2];
    return berth_safetensors_read(f, t, in->pixels, err);
}

static berth_status read_inputs(const char *path, berth_trace_inputs *in, berth_error *err)
{
    berth_safetensors *f = NULL;
    berth_status st = berth_safetensors_open(NULL, path, &f, err);
    if (st == BERTH_OK) st = read_ids(f, in, err);
    if (st == BERTH_OK) st = read_pixels(f, in, err);
    berth_safetensors_close(f);
    return st;
}

/* As `berth run` prepares a request. The model is opened for its configuration and tokenizer alone. */
static berth_status make_inputs(const cli_args *a, berth_trace_inputs *in, berth_error *err)
{
    const berth_runtime_options runtime_options = {.struct_size = sizeof runtime_options};
    berth_runtime *rt = NULL;
    berth_model *model = NULL;
    cli_conversation c = {0};
    berth_status st = cli_conversation_read(a, &c, err);
    if (st == BERTH_OK) st = berth_runtime_create(&runtime_options, &rt, err);
    if (st == BERTH_OK) st = berth_model_open(rt, a->text[OPT_MODEL], NULL, &model, err);
    const int32_t max_tiles = a->set[OPT_MAX_TILES] ? (int32_t)a->number[OPT_MAX_TILES] : 0;
    if (st == BERTH_OK) st = berth_trace_inputs_make(model, c.turns, c.n_turns, max_tiles, in, err);
    cli_conversation_deinit(&c);
    berth_model_close(model);
    berth_runtime_destroy(rt);
    return st;
}

/* ---- output ------------------------------------------------------------------------------------------------------ */

typedef struct output {
    berth_safetensors_entry *entries; /* owned */
    size_t n;
    int64_t *ids, *new_ids; /* owned; widened, as the reference files have them */
    char (*step_names)[32]; /* owned */
    const char *globs;      /* what --values asks for; NULL = all */
} output;

static void output_deinit(output *o)
{
    free(o->entries);
    free(o->ids);
    free(o->new_ids);
    free(o->step_names);
}

static bool is_wanted(const output *o, const char *name)
{
    return o->globs == NULL || berth_trace_wants(o->globs, name);
}

static int64_t *widen(const int32_t *ids, size_t n)
{
    int64_t *wide = malloc((n + 1) * sizeof *wide);
    for (size_t i = 0; wide != NULL && i < n; i++) wide[i] = ids[i];
    return wide;
}

static void add_inputs(const berth_trace_inputs *in, output *o)
{
    if (in->pixels != NULL && is_wanted(o, "pixel_values")) {
        const size_t plane = (size_t)in->side * (size_t)in->side;
        o->entries[o->n++] = (berth_safetensors_entry){.name = "pixel_values",
                                                       .dtype = BERTH_F32,
                                                       .n_dims = 4,
                                                       .dims = {in->n_tiles, 3, in->side, in->side},
                                                       .data = in->pixels,
                                                       .n_bytes = (size_t)in->n_tiles * 3 * plane * sizeof(float)};
    }
    if (is_wanted(o, "input_ids"))
        o->entries[o->n++] = (berth_safetensors_entry){.name = "input_ids",
                                                       .dtype = BERTH_I64,
                                                       .n_dims = 1,
                                                       .dims = {(int64_t)in->ids.len},
                                                       .data = o->ids,
                                                       .n_bytes = in->ids.len * sizeof *o->ids};
}

/* What -n asks for is written whatever --values says. */
static void add_steps(const berth_trace *t, output *o)
{
    if (t->n_new == 0) return;
    o->entries[o->n++] = (berth_safetensors_entry){.name = "generated_ids",
                                                   .dtype = BERTH_I64,
                                                   .n_dims = 1,
                                                   .dims = {t->n_new},
                                                   .data = o->new_ids,
                                                   .n_bytes = (size_t)t->n_new * sizeof *o->new_ids};
    for (int32_t k = 0; k < t->n_new; k++) {
        snprintf(o->step_names[k], sizeof o->step_names[k], "logits.step.%d", (int)k);
        o->entries[o->n++] = (berth_safetensors_entry){.name = o->step_names[k],
                                                       .dtype = BERTH_F32,
                                                       .n_dims = 1,
                                                       .dims = {t->vocab},
                                                       .data = t->step_logits + (size_t)k * (size_t)t->vocab,
                                                       .n_bytes = (size_t)t->vocab * sizeof(float)};
    }
}

static berth_status fill_output(const berth_trace_inputs *in, const berth_trace *t, output *o, berth_error *err)
{
    o->entries = calloc((size_t)t->n_values + (size_t)t->n_new + 3, sizeof *o->entries);
    o->ids = widen(in->ids.data, in->ids.len);
    o->new_ids = widen(t->new_ids, (size_t)t->n_new);
    o->step_names = calloc((size_t)t->n_new + 1, sizeof *o->step_names);
    if (o->entries == NULL || o->ids == NULL || o->new_ids == NULL || o->step_names == NULL)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the list of %d values", (int)t->n_values);
    add_inputs(in, o);
    for (int32_t i = 0; i < t->n_values; i++) {
        const berth_traced *v = &t->values[i];
        berth_safetensors_entry *e = &o->entries[o->n++];
        *e = (berth_safetensors_entry){
            .name = v->name, .dtype = v->dtype, .n_dims = v->n_dims, .data = v->data, .n_bytes = v->n_bytes};
        memcpy(e->dims, v->dims, sizeof v->dims);
    }
    add_steps(t, o);
    return BERTH_OK;
}

/* The list of what was written, for people or as JSON. */
static void describe(const cli_args *a, const output *o, const berth_trace *t, berth_buffer *out)
{
    const bool json = a->set[OPT_JSON];
    if (json) {
        berth_buffer_puts(out, "{\"out\":");
        cli_put_string(out, a->text[OPT_OUT], strlen(a->text[OPT_OUT]));
        berth_buffer_puts(out, ",\"generated_ids\":");
        cli_put_ints(out, t->new_ids, (size_t)t->n_new);
        berth_buffer_puts(out, ",\"values\":[");
    }
    for (size_t i = 0; i < o->n; i++) {
        const berth_safetensors_entry *e = &o->entries[i];
        berth_buffer_printf(out, json ? "%s{\"name\":\"%s\",\"dtype\":\"%s\",\"shape\":[" : "%s%-24s %-4s [",
                            json && i > 0 ? "," : "", e->name, berth_dtype_name(e->dtype));
        for (int32_t d = 0; d < e->n_dims; d++)
            berth_buffer_printf(out, "%s%lld", d ? (json ? "," : ", ") : "", (long long)e->dims[d]);
        berth_buffer_puts(out, json ? "]}" : "]\n");
    }
    if (json) berth_buffer_puts(out, "]}\n");
}

static berth_status write_trace(const cli_args *a, const berth_trace_inputs *in, const berth_trace *t,
                                berth_buffer *text, berth_error *err)
{
    output o = {.globs = a->set[OPT_VALUES] ? a->text[OPT_VALUES] : NULL};
    berth_status st = fill_output(in, t, &o, err);
    if (st == BERTH_OK) st = berth_safetensors_write(a->text[OPT_OUT], o.entries, o.n, err);
    if (st == BERTH_OK) describe(a, &o, t, text);
    if (st == BERTH_OK) st = cli_put_check(text, err);
    output_deinit(&o);
    return st;
}

/* ---- command ----------------------------------------------------------------------------------------------------- */

/* Engine and run, once the inputs are known. */
static berth_status trace_inputs(const cli_args *a, const berth_trace_inputs *in, berth_trace *t, berth_error *err)
{
    cli_setup setup = {0};
    berth_engine *engine = NULL;
    const int32_t n_new = a->set[OPT_MAX_TOKENS] ? (int32_t)a->number[OPT_MAX_TOKENS] : 0;
    const int64_t context = (int64_t)in->ids.len + n_new;
    berth_status st = cli_setup_open(a, false, true, context, in->n_tiles, &setup, err);
    if (st != BERTH_OK) return st;
    st = berth_trace_inputs_check(in, setup.model, err);
    if (st == BERTH_OK) st = cli_engine_open(a, &setup, &engine, err);
    if (st == BERTH_OK) {
        const berth_trace_request request = {
            .in = in, .n_new = n_new, .values = a->set[OPT_VALUES] ? a->text[OPT_VALUES] : NULL};
        st = berth_trace_run(engine, &request, t, err);
    }
    if (st == BERTH_OK && t->n_new < n_new && !a->set[OPT_QUIET])
        fprintf(stderr, "berth: warning: the context is full after %d of %d new tokens\n", (int)t->n_new, (int)n_new);
    berth_engine_destroy(engine);
    cli_setup_close(&setup);
    return st;
}

cli_exit cmd_trace(const cli_args *a)
{
    const bool from_text = a->set[OPT_PROMPT] || a->set[OPT_PROMPT_FILE] || a->n_list[OPT_IMAGE] > 0;
    if (!a->set[OPT_MODEL]) return cli_usage(CMD_TRACE, "no model given; -m DIR is required");
    if (!a->set[OPT_OUT]) return cli_usage(CMD_TRACE, "no output given; --out FILE is required");
    if (a->set[OPT_INPUTS] + a->set[OPT_MESSAGES] + from_text != 1)
        return cli_usage(CMD_TRACE, "give one input: --inputs FILE, --messages FILE, or -p TEXT with its pictures");
    berth_error err = {0};
    berth_trace_inputs in = {0};
    berth_trace t = {0};
    berth_buffer text = {0};
    berth_status st = cli_may_write(a, OPT_OUT, &err);
    if (st == BERTH_OK)
        st = a->set[OPT_INPUTS] ? read_inputs(a->text[OPT_INPUTS], &in, &err) : make_inputs(a, &in, &err);
    if (st == BERTH_OK) st = trace_inputs(a, &in, &t, &err);
    if (st == BERTH_OK) st = write_trace(a, &in, &t, &text, &err);
    cli_exit code = EXIT_OK;
    if (st != BERTH_OK) {
        code = cli_fail(&err);
    } else if (!cli_write(text.data, text.len)) {
        code = EXIT_RUN;
    }
    berth_buffer_deinit(&text);
    berth_trace_deinit(&t);
    berth_trace_inputs_deinit(&in);
    return code;
}
