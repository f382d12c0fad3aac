/* trace.c - the tap that gathers values, and the run behind it.
 *
 * Storage is laid out before the run: every value's whole shape follows from the program and the request, so a lane
 * that hands over a part only copies it. A value is written by one lane, so its parts come in order and need no lock.
 */
#include "lab/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/engine.h"
#include "api/prompt.h"
#include "base/checked.h"
#include "base/status.h"
#include "base/text.h"

enum { GLOB_MAX = 96, NEW_MAX = 1 << 24 };

/* ---- globs ------------------------------------------------------------------------------------------------------ */

/* The next glob of a list, cut at its comma; false at the end. One too long to be a name's glob is given cut, and
 * matches nothing. */
static bool next_glob(const char **at, char out[GLOB_MAX])
{
    *at += strspn(*at, ", ");
    const size_t len = strcspn(*at, ",");
    snprintf(out, GLOB_MAX, "%.*s", (int)(len < GLOB_MAX ? len : GLOB_MAX - 1), *at);
    *at += len;
    return len > 0;
}

bool berth_trace_wants(const char *globs, const char *name)
{
    char glob[GLOB_MAX];
    while (next_glob(&globs, glob)) {
        if (berth_glob_match(glob, name)) return true;
    }
    return false;
}

/* ---- storage ---------------------------------------------------------------------------------------------------- */

/* What of each symbol a whole request has. Sequences: the one. */
static berth_sizes whole_sizes(const berth_core_plan *plan, const berth_trace_request *q)
{
    const berth_model_config *config = berth_model_data_config(plan->model);
    berth_sizes s = {.value = {[BERTH_SYM_ONE] = 1, [BERTH_SYM_SEQS] = 1}};
    s.value[BERTH_SYM_TILES] = q->in->n_tiles;
    s.value[BERTH_SYM_FEATURES] = s.value[BERTH_SYM_IMAGE_ROWS] =
        config->has_vision ? (int64_t)q->in->n_tiles * config->vision.tokens_per_tile : 0;
    s.value[BERTH_SYM_TOKENS] = s.value[BERTH_SYM_LOGITS] = (int64_t)q->in->ids.len;
    return s;
}

static bool is_wanted(const berth_value *v, const char *globs)
{
    if (v->kind != BERTH_VALUE_ACTIVATION || v->origin != BERTH_NO_VALUE || v->n_dims < 1) return false;
    return globs != NULL ? berth_trace_wants(globs, v->name) : v->is_traced;
}

static berth_status add_value(const berth_value *v, const char *program, const berth_sizes *sizes, berth_trace *out,
                              berth_error *err)
{
    berth_traced *t = &out->values[out->n_values];
    *t = (berth_traced){.program = program, .dtype = v->dtype, .n_dims = v->n_dims};
    memcpy(t->name, v->name, sizeof t->name);
    for (int32_t i = 0; i < v->n_dims; i++) t->dims[i] = berth_dim_of(v->dims[i], sizes);
    if (!berth_value_bytes(v, sizes, &t->n_bytes))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "value %s of this request is too large to be held", v->name);
    t->data = malloc(t->n_bytes + 1);
    if (t->data == NULL)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for value %s, %zu bytes", v->name, t->n_bytes);
    out->n_values++;
    return BERTH_OK;
}

static berth_status add_values(const berth_program *p, const char *name, const char *globs, const berth_sizes *sizes,
                               berth_trace *out, berth_error *err)
{
    berth_status st = BERTH_OK;
    if (p == NULL) return st;
    for (int32_t i = 0; st == BERTH_OK && i < p->n_ops; i++) { /* by ops: the order in which values are made */
        const berth_value *v = &p->values[p->ops[i].out];
        if (is_wanted(v, globs)) st = add_value(v, name, sizes, out, err);
    }
    return st;
}

/* Refuses a glob that names no value, so that a slip of the pen does not look like an empty answer. */
static berth_status check_globs(const char *globs, const berth_trace *t, berth_error *err)
{
    static const char *const others[] = {"pixel_values", "input_ids", "generated_ids", "logits.step.0"};
    char glob[GLOB_MAX];
    while (globs != NULL && next_glob(&globs, glob)) {
        bool found = false;
        for (int32_t i = 0; i < t->n_values && !found; i++) found = berth_glob_match(glob, t->values[i].name);
        for (size_t i = 0; i < sizeof others / sizeof others[0] && !found; i++)
            found = berth_glob_match(glob, others[i]);
        if (!found) {
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                              "\"%s\" names no value of this model; `berth plan --program` shows their names", glob);
        }
    }
    return BERTH_OK;
}

static berth_status lay_out(const berth_core_plan *plan, const berth_trace_request *q, berth_trace *out,
                            berth_error *err)
{
    const berth_replica_plan *replica = &plan->replicas[0]; /* all have the same values */
    const berth_sizes sizes = whole_sizes(plan, q);
    const size_t most = (size_t)replica->step->n_values + (replica->encode ? (size_t)replica->encode->n_values : 0);
    out->values = calloc(most, sizeof *out->values);
    if (out->values == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a trace of %zu values", most);
    berth_status st = BERTH_OK;
    if (q->in->n_tiles > 0) st = add_values(replica->encode, "encode", q->values, &sizes, out, err);
    if (st == BERTH_OK) st = add_values(replica->step, "step", q->values, &sizes, out, err);
    return st == BERTH_OK ? check_globs(q->values, out, err) : st;
}

/* ---- the tap ---------------------------------------------------------------------------------------------------- */

static berth_traced *find(berth_trace *t, const char *program, const char *name)
{
    for (int32_t i = 0; i < t->n_values; i++) {
        if (strcmp(t->values[i].name, name) == 0 && (program == NULL || strcmp(t->values[i].program, program) == 0))
            return &t->values[i];
    }
    return NULL;
}

static bool want(void *user, const char *name)
{
    return find(user, NULL, name) != NULL;
}

static void see(void *user, const char *program, const char *name, int64_t pass, const berth_tensor *tensor)
{
    (void)pass;
    berth_traced *t = find(user, program, name);
    if (t == NULL || tensor->dtype != t->dtype) return;
    const size_t bytes = (size_t)berth_tensor_elements(tensor) * berth_dtype_size(tensor->dtype);
    if (bytes == 0 || bytes > t->n_bytes - t->filled) return; /* a step behind the prompt */
    memcpy((char *)t->data + t->filled, tensor->data, bytes);
    t->filled += bytes;
}

static bool keep_token(void *user, int32_t index, int32_t id, const float *logits)
{
    berth_trace *t = user;
    t->new_ids[index] = id;
    memcpy(t->step_logits + (size_t)index * (size_t)t->vocab, logits, (size_t)t->vocab * sizeof *logits);
    t->n_new = index + 1;
    return true;
}

static berth_status check_whole(const berth_trace *t, berth_error *err)
{
    for (int32_t i = 0; i < t->n_values; i++) {
        const berth_traced *v = &t->values[i];
        if (v->filled != v->n_bytes)
            return BERTH_FAIL(err, BERTH_INTERNAL, "value %s: %zu of its %zu bytes were seen", v->name, v->filled,
                              v->n_bytes);
    }
    return BERTH_OK;
}

/* ---- inputs ----------------------------------------------------------------------------------------------------- */

berth_status berth_trace_inputs_make(berth_model *model, const berth_turn *turns, int32_t n_turns, int32_t max_tiles,
                                     berth_trace_inputs *out, berth_error *err)
{
    *out = (berth_trace_inputs){0};
    const berth_tokenizer *tokenizer = NULL;
    berth_prepared prepared;
    berth_status st = berth_model_tokenizer(model, &tokenizer, err);
    const berth_prepare_job job = {
        .model = model, .tokenizer = tokenizer, .turns = turns, .n_turns = n_turns, .max_tiles = max_tiles};
    if (st == BERTH_OK) st = berth_prepare(&job, &prepared, err);
    if (st != BERTH_OK) return st;
    *out = (berth_trace_inputs){.ids = prepared.ids,
                                .pixels = prepared.pixels,
                                .n_tiles = prepared.n_tiles,
                                .side = berth_model_data_config(model->data)->vision.image_size};
    prepared.ids = (berth_ids){0};
    prepared.pixels = NULL;
    berth_prepared_deinit(&prepared);
    return BERTH_OK;
}

void berth_trace_inputs_deinit(berth_trace_inputs *in)
{
    berth_ids_deinit(&in->ids);
    free(in->pixels);
    *in = (berth_trace_inputs){0};
}

berth_status berth_trace_inputs_check(const berth_trace_inputs *in, const berth_model *model, berth_error *err)
{
    const int32_t side = berth_model_data_config(model->data)->vision.image_size;
    if (in->n_tiles == 0 || in->side == side) return BERTH_OK;
    return BERTH_FAIL(err, BERTH_BAD_FILE, "pixel_values has tiles of %d pixels; this model takes %d", (int)in->side,
                      (int)side);
}

/* ---- run -------------------------------------------------------------------------------------------------------- */

static berth_status check_request(const berth_core_plan *plan, const berth_trace_request *q, berth_error *err)
{
    if (!plan->config.trace)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "this engine's plan was made without trace; values are not kept");
    if (q->in->ids.len < 1 || q->in->ids.len > INT32_MAX || q->in->n_tiles < 0 || q->n_new < 0 || q->n_new > NEW_MAX)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "a trace of %zu tokens, %d tiles and %d new tokens",
                          q->in->ids.len, (int)q->in->n_tiles, (int)q->n_new);
    return BERTH_OK;
}

static berth_status run(berth_engine *engine, const berth_trace_request *q, berth_trace *out, berth_error *err)
{
    const berth_core_plan *plan = berth_core_get_plan(engine->core);
    size_t n_logits;
    out->vocab = berth_model_data_config(plan->model)->text.vocab;
    if (!berth_mul_size((size_t)q->n_new, (size_t)out->vocab, &n_logits) || n_logits > SIZE_MAX / sizeof(float))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "the logits of %d new tokens cannot be held", (int)q->n_new);
    out->new_ids = calloc((size_t)q->n_new + 1, sizeof *out->new_ids);
    out->step_logits = malloc(n_logits * sizeof(float) + 1);
    if (out->new_ids == NULL || out->step_logits == NULL)
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the logits of %d new tokens", (int)q->n_new);
    const berth_tap tap = {.want = want, .see = see, .user = out};
    const berth_core_request request = {
        .ids = q->in->ids.data,
        .n_ids = (int32_t)q->in->ids.len,
        .image_token_id = engine->image_token_id,
        .pixels = q->in->pixels,
        .n_tiles = q->in->n_tiles,
        .max_new = q->n_new,
        .sampling = BERTH_SAMPLING_GREEDY,
        .on_token = keep_token,
        .wants_logits = true,
        .user = out,
        .tap = &tap,
    };
    berth_core_result result;
    berth_status st = berth_core_run(engine->core, &request, &result, err);
    if (st != BERTH_OK) return st;
    berth_core_result_deinit(&result);
    return check_whole(out, err);
}

berth_status berth_trace_run(berth_engine *engine, const berth_trace_request *request, berth_trace *out,
                             berth_error *err)
{
    *out = (berth_trace){0};
    const berth_core_plan *plan = berth_core_get_plan(engine->core);
    berth_status st = check_request(plan, request, err);
    if (st == BERTH_OK) st = lay_out(plan, request, out, err);
    if (st == BERTH_OK) st = run(engine, request, out, err);
    if (st != BERTH_OK) berth_trace_deinit(out);
    return st;
}

void berth_trace_deinit(berth_trace *t)
{
    for (int32_t i = 0; i < t->n_values; i++) free(t->values[i].data);
    free(t->values);
    free(t->new_ids);
    free(t->step_logits);
    *t = (berth_trace){0};
}
