/* engine.c - the engine handle and requests: conversation in, streamed text and numbers out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/status.h"

/* End tokens of the model's generation_config and of its chat form. */
static berth_status collect_stops(const berth_model *model, berth_engine *e, berth_error *err)
{
    const berth_model_config *config = berth_model_data_config(model->data);
    for (int32_t i = 0; i < config->generation.n_eos; i++) {
        if (!berth_ids_push(&e->stop_ids, config->generation.eos_ids[i]))
            return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for stop ids");
    }
    return berth_chat_stop_ids(e->tokenizer, config->chat, &e->stop_ids, err);
}

static berth_status engine_open(berth_engine *e, const berth_engine_options *o, berth_error *err)
{
    berth_model *model = e->plan->model;
    if (e->plan->owned == NULL)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "this plan was given to an engine already");
    const berth_model_config *config = berth_model_data_config(model->data);
    berth_status st = berth_model_tokenizer(model, &e->tokenizer, err);
    if (st == BERTH_OK) st = berth_chat_check(e->tokenizer, config->chat, config->has_vision, err);
    if (st == BERTH_OK) st = collect_stops(model, e, err);
    if (st != BERTH_OK) return st;
    e->image_token_id = config->has_vision ? berth_chat_image_id(e->tokenizer) : -1;
    const berth_core_options core = {.strict = o->strict != 0,
                                     .transport = o->transport,
                                     .progress = o->progress,
                                     .progress_user = o->progress_user};
    berth_core_plan *plan = e->plan->owned;
    e->plan->owned = NULL;
    e->plan->core = NULL;
    st = berth_core_create(plan, &core, &e->core, err);
    if (st == BERTH_OK) e->plan->core = berth_core_get_plan(e->core);
    return st;
}

berth_status berth_engine_create(berth_plan *take_plan, const berth_engine_options *options, berth_engine **out,
                                 berth_error *err)
{
    if (take_plan == NULL || out == NULL) {
        berth_plan_destroy(take_plan);
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_engine_create: plan and out must not be NULL");
    }
    *out = NULL;
    berth_engine_options o;
    berth_status st = berth_options_copy(&o, sizeof o, options, "berth_engine_options", err);
    berth_engine *e = st == BERTH_OK ? calloc(1, sizeof *e) : NULL;
    if (e == NULL) {
        berth_plan_destroy(take_plan);
        return st != BERTH_OK ? st : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for an engine handle");
    }
    e->plan = take_plan;
    st = engine_open(e, &o, err);
    if (st != BERTH_OK) {
        berth_engine_destroy(e);
        return st;
    }
    *out = e;
    return BERTH_OK;
}

void berth_engine_destroy(berth_engine *engine)
{
    if (engine == NULL) return;
    berth_core_destroy(engine->core);
    berth_ids_deinit(&engine->stop_ids);
    berth_plan_destroy(engine->plan);
    free(engine);
}

const berth_plan *berth_engine_plan(const berth_engine *engine)
{
    return engine == NULL ? NULL : engine->plan;
}

/* ---- requests -------------------------------------------------------------------------------------------------------- */

enum { DEFAULT_NEW_TOKENS = 512 };

void berth_request_init(berth_request *r)
{
    *r = (berth_request){.struct_size = sizeof *r, .temperature = 1.0f, .top_p = 1.0f, .repetition_penalty = 1.0f};
}

/* What on_token needs while a request runs: the text shown so far and who wants to see it. */
typedef struct stream {
    const berth_request *request;
    berth_stream_decoder decoder;
    berth_buffer text, fresh;
    int64_t begin_ns;
    bool out_of_memory;
} stream;

static bool stream_token(void *user, int32_t index, int32_t id, const float *logits)
{
    (void)logits;
    stream *s = user;
    s->fresh.len = 0;
    if (!berth_stream_decoder_push(&s->decoder, id, &s->fresh) ||
        !berth_buffer_append(&s->text, s->fresh.data, s->fresh.len)) {
        s->out_of_memory = true;
        return false;
    }
    if (s->request->on_token == NULL) return true;
    const berth_token token = {.id = id,
                               .index = index,
                               .text = s->fresh.data != NULL && s->fresh.len > 0 ? s->fresh.data : "",
                               .text_size = s->fresh.len,
                               .at_ns = berth_now_ns() - s->begin_ns};
    return s->request->on_token(s->request->on_token_user, &token) != 0;
}

static berth_status check_request(const berth_request *r, berth_sampling *out, berth_error *err)
{
    if (r->max_new_tokens < 0)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "max_new_tokens = %d; give at least 1, or 0 for %d",
                          (int)r->max_new_tokens, DEFAULT_NEW_TOKENS);
    if (r->max_tiles < 0 || r->max_tiles > 1024)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "max_tiles = %d; give 1 to 1024, or 0 for the model's",
                          (int)r->max_tiles);
    *out = (berth_sampling){.sample = r->sample != 0,
                            .temperature = r->temperature,
                            .top_k = r->top_k,
                            .top_p = r->top_p,
                            .min_p = r->min_p,
                            .repetition_penalty = r->repetition_penalty,
                            .seed = r->seed};
    return berth_sampling_check(out, err);
}

static const char *finish_name(berth_finish f)
{
    switch (f) {
    case BERTH_FINISH_STOP: return "stop";
    case BERTH_FINISH_LENGTH: return "length";
    default: return "cancelled";
    }
}

/* Moves what the core gave and the stream gathered into the caller's result. */
static berth_status fill_result(const berth_engine *e, const berth_prepared *p, stream *s, berth_core_result *core,
                                berth_result *out, berth_error *err)
{
    s->fresh.len = 0;
    if (!berth_stream_decoder_flush(&s->decoder, &s->text)) s->out_of_memory = true;
    out->text = s->out_of_memory ? NULL : berth_buffer_take(&s->text);
    if (out->text == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the answer's text");
    const int64_t before = p->image_ns + p->tokenize_ns;
    out->token_ids = core->ids;
    out->n_tokens = core->n_ids;
    out->n_prompt_tokens = (int32_t)p->ids.len;
    out->n_tiles = p->n_tiles;
    out->replica = core->replica;
    out->finish_reason = finish_name(core->finish);
    out->timings = (berth_timings){.image_ns = p->image_ns,
                                   .tokenize_ns = p->tokenize_ns,
                                   .encode_ns = core->timing.encode_ns,
                                   .prefill_ns = core->timing.prefill_ns,
                                   .decode_ns = core->timing.decode_ns,
                                   .first_token_ns = before + core->timing.first_token_ns,
                                   .total_ns = berth_now_ns() - s->begin_ns};
    out->edge_bytes = core->edge_bytes;
    out->n_devices = e->plan->machine.n_devices;
    core->ids = NULL;
    core->edge_bytes = NULL;
    return BERTH_OK;
}

static berth_status run_prepared(berth_engine *e, const berth_request *r, const berth_sampling *sampling,
                                 const berth_prepared *p, stream *s, berth_result *out, berth_error *err)
{
    const berth_core_request core_request = {.ids = p->ids.data,
                                             .n_ids = (int32_t)p->ids.len,
                                             .image_token_id = e->image_token_id,
                                             .pixels = p->pixels,
                                             .n_tiles = p->n_tiles,
                                             .max_new = r->max_new_tokens > 0 ? r->max_new_tokens : DEFAULT_NEW_TOKENS,
                                             .stop_ids = e->stop_ids.data,
                                             .n_stop = r->ignore_stop ? 0 : (int32_t)e->stop_ids.len,
                                             .sampling = *sampling,
                                             .on_token = stream_token,
                                             .user = s,
                                             .cancel = r->cancel};
    berth_core_result core = {0};
    berth_status st = berth_core_run(e->core, &core_request, &core, err);
    if (st == BERTH_OK) st = fill_result(e, p, s, &core, out, err);
    berth_core_result_deinit(&core);
    return st;
}

berth_status berth_engine_run(berth_engine *engine, const berth_request *request, berth_result *out, berth_error *err)
{
    if (engine == NULL || request == NULL || out == NULL)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_engine_run: engine, request and out must not be NULL");
    if (out->struct_size != sizeof *out)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "berth_result: struct_size is %zu; set it to %zu",
                          out->struct_size, sizeof *out);
    *out = (berth_result){.struct_size = sizeof *out};
    berth_request r;
    berth_sampling sampling;
    berth_status st = berth_options_copy(&r, sizeof r, request, "berth_request", err);
    if (st == BERTH_OK) st = check_request(&r, &sampling, err);
    if (st != BERTH_OK) return st;
    stream s = {.request = &r, .begin_ns = berth_now_ns()};
    berth_stream_decoder_init(&s.decoder, engine->tokenizer, true);
    berth_prepared prepared;
    st = berth_prepare(engine->plan->model, engine->tokenizer, r.turns, r.n_turns, r.max_tiles, &prepared, err);
    if (st == BERTH_OK) {
        st = run_prepared(engine, &r, &sampling, &prepared, &s, out, err);
        berth_prepared_deinit(&prepared);
    }
    berth_buffer_deinit(&s.text);
    berth_buffer_deinit(&s.fresh);
    if (st != BERTH_OK) berth_result_deinit(out);
    return st;
}

void berth_result_deinit(berth_result *r)
{
    if (r == NULL) return;
    free(r->text);
    free(r->token_ids);
    free(r->edge_bytes);
    *r = (berth_result){.struct_size = r->struct_size};
}
