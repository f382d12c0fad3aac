/* result.c - what a request that is over gives its caller. */
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/session.h"
#include "base/clock.h"
#include "base/status.h"

static const char *finish_name(berth_finish f)
{
    switch (f) {
    case BERTH_FINISH_STOP: return "stop";
    case BERTH_FINISH_LENGTH: return "length";
    case BERTH_FINISH_DEADLINE: return "deadline";
    default: return "cancelled";
    }
}

/* The text as it was streamed, its held-back bytes at the end; of an answer that the consumer cut, that of its part. */
static berth_status take_text(berth_call *c, berth_error *err)
{
    berth_core_result *core = &c->core_result;
    bool ok = true;
    if (c->cut >= 0 && c->cut < core->n_ids) {
        c->text.len = 0;
        core->n_ids = c->cut;
        ok = berth_tokenizer_decode(c->engine->tokenizer, core->ids, (size_t)c->cut, true, &c->text, err) == BERTH_OK;
    } else {
        ok = berth_stream_decoder_flush(&c->decoder, &c->text);
    }
    c->end->result.text = ok ? berth_buffer_take(&c->text) : NULL;
    if (c->end->result.text == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the answer's text");
    return BERTH_OK;
}

static berth_timings timings_of(const berth_call *c)
{
    const berth_core_timing *t = &c->core_result.timing;
    const int64_t before = c->core_ns > 0 ? c->core_ns - c->submitted_ns : 0;
    return (berth_timings){.image_ns = c->prepared.image_ns,
                           .tokenize_ns = c->prepared.tokenize_ns,
                           .encode_ns = t->encode_ns,
                           .prefill_ns = t->prefill_ns,
                           .decode_ns = t->decode_ns,
                           .first_token_ns = t->first_token_ns > 0 ? before + t->first_token_ns : 0,
                           .total_ns = c->ended_ns - c->submitted_ns};
}

static void fill(berth_call *c)
{
    berth_core_result *core = &c->core_result;
    berth_result *r = &c->end->result;
    r->struct_size = sizeof *r;
    r->token_ids = core->ids;
    r->n_tokens = core->n_ids;
    r->n_prompt_tokens = (int32_t)c->prepared.ids.len;
    r->n_tiles = c->prepared.n_tiles;
    r->replica = core->replica;
    r->finish_reason = c->cut >= 0 ? finish_name(BERTH_FINISH_CALLER) : finish_name(core->finish);
    r->timings = timings_of(c);
    r->edge_bytes = core->edge_bytes;
    r->edge_ns = core->edge_ns;
    r->n_devices = c->engine->n_devices;
    r->n_reused_tokens = core->n_reused;
    r->n_drafted = core->n_drafted;
    r->n_accepted = core->n_accepted;
    r->decode_image_ns = c->prepared.decode_ns;
    r->tiles_ns = c->prepared.tiles_ns;
    r->project_ns = core->timing.project_ns;
    r->queue_ns = c->core_ns > 0 ? c->core_ns - c->submitted_ns + core->timing.queue_ns : r->timings.total_ns;
    core->ids = NULL;
    core->edge_bytes = core->edge_ns = NULL;
}

/* What was said and answered; nothing of a request that ended before its first token. */
static berth_status remember(berth_call *c, berth_error *err)
{
    const berth_finish f = c->core_result.finish;
    if (c->end->result.n_tokens == 0 && (f == BERTH_FINISH_CANCELLED || f == BERTH_FINISH_DEADLINE)) return BERTH_OK;
    return berth_session_remember(c->request.session, c->request.turns, c->request.n_turns,
                                  c->prepared.pictures + c->n_known, c->end->result.text, err);
}

void berth_call_finish(berth_call *c)
{
    if (c->status == BERTH_OK && c->outbox.is_broken)
        c->status = BERTH_FAIL(&c->end->error, BERTH_OUT_OF_MEMORY, "no memory to deliver the answer's tokens");
    if (c->status == BERTH_OK) c->status = take_text(c, &c->end->error);
    if (c->status == BERTH_OK) fill(c);
    if (c->status == BERTH_OK && c->request.session != NULL) c->status = remember(c, &c->end->error);
    if (c->status != BERTH_OK) berth_result_deinit(&c->end->result);
    /* The core is done with these, and nobody else wants them. */
    berth_core_result_deinit(&c->core_result);
    berth_prepared_deinit(&c->prepared);
    free(c->copy);
    free(c->view);
    c->copy = c->view = NULL;
    if (c->request.session != NULL) berth_session_give_back(c->request.session);
    c->request.session = NULL;
}

void berth_result_deinit(berth_result *r)
{
    if (r == NULL) return;
    berth_result full;
    if (berth_output_check(r, offsetof(berth_result, text) + sizeof r->text, "berth_result", NULL) != BERTH_OK) return;
    berth_output_read(&full, sizeof full, r);
    free(full.text);
    free(full.token_ids);
    free(full.edge_bytes); /* edge_ns lies behind them */
    full = (berth_result){0};
    berth_output_write(r, &full, sizeof full);
}
