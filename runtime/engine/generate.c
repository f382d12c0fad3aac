/* generate.c - a request's way: checked, given a replica, its pictures encoded, its prompt computed, and then token
 * after token. */
#include <stdlib.h>

#include "base/clock.h"
#include "engine/session.h"

/* ---- checks ----------------------------------------------------------------------------------------------------- */

static berth_status check_tiles(const berth_core *core, const berth_core_request *q, berth_error *err)
{
    const berth_model_config *m = berth_model_data_config(core->plan->model);
    const berth_status bad = BERTH_INVALID_ARGUMENT;
    int32_t most = core->plan->config.max_tiles, n = q->n_tiles;
    if (n < 0 || (n > 0 && !q->pixels)) return BERTH_FAIL(err, bad, "%d image tiles without pixels", (int)n);
    if (n > 0 && !m->has_vision) return BERTH_FAIL(err, bad, "an image for a model that reads text only");
    if (n > most)
        return BERTH_FAIL(err, bad, "the images of the request have %d tiles; at most %d fit the feature store", (int)n,
                          (int)most);
    int64_t have = q->image_token_id >= 0 ? berth_count_id(q->ids, q->n_ids, q->image_token_id) : 0;
    int64_t want = n > 0 ? (int64_t)n * m->vision.tokens_per_tile : 0;
    if (have == want) return BERTH_OK;
    return BERTH_FAIL(
        err, bad, "the prompt has %lld image tokens (id %d), the images have %d tiles and need %lld: %d for each tile",
        (long long)have, (int)q->image_token_id, (int)n, (long long)want,
        m->has_vision ? (int)m->vision.tokens_per_tile : 0);
}

static berth_status check_ids(const int32_t *ids, int32_t n, int32_t besides, int32_t vocab, berth_error *err)
{
    for (int32_t i = 0; i < n; i++)
        if ((ids[i] < 0 || ids[i] >= vocab) && (besides < 0 || ids[i] != besides))
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                              "token id %d at position %d is outside the model's vocabulary of %d", (int)ids[i], (int)i,
                              (int)vocab);
    return BERTH_OK;
}

berth_status berth_core_check_request(const berth_core *core, const berth_core_request *q, berth_error *err)
{
    const berth_model_config *m = berth_model_data_config(core->plan->model);
    const berth_status bad = BERTH_INVALID_ARGUMENT;
    int64_t context = core->plan->config.context;
    if (q->n_ids < 1 || !q->ids) return BERTH_FAIL(err, bad, "the prompt is empty: at least one token is needed");
    if (q->n_ids > context)
        return BERTH_FAIL(
            err, bad,
            "the prompt has %d tokens, the context %lld: it is too long; shorten it or ask for a longer context",
            (int)q->n_ids, (long long)context);
    if (q->max_new < 0)
        return BERTH_FAIL(err, bad, "%d new tokens asked for; it must not be negative", (int)q->max_new);
    berth_status st = check_tiles(core, q, err);
    if (st == BERTH_OK) st = check_ids(q->ids, q->n_ids, q->n_tiles > 0 ? q->image_token_id : -1, m->text.vocab, err);
    if (st == BERTH_OK && q->n_forced > 0) st = check_ids(q->forced, q->n_forced, -1, m->text.vocab, err);
    return st == BERTH_OK ? berth_sampling_check(&q->sampling, err) : st;
}

/* ---- tokens ----------------------------------------------------------------------------------------------------- */

static bool is_stop(const berth_core_request *q, int32_t id)
{
    for (int32_t i = 0; i < q->n_stop; i++)
        if (q->stop_ids[i] == id) return true;
    return false;
}

static int32_t choose(berth_session *s, int32_t index, berth_core_result *out)
{
    const berth_core_request *q = s->request;
    int64_t start = berth_now_ns();
    int32_t id;
    if (index < q->n_forced)
        id = q->forced[index];
    else if (!q->sampling.sample && q->sampling.repetition_penalty == 1.0f)
        id = berth_session_argmax(s);
    else
        id = berth_sampler_next(s->sampler, berth_session_logits(s));
    berth_sampler_see(s->sampler, id);
    out->timing.sample_ns += berth_now_ns() - start;
    return id;
}

/* Tokens until something ends the answer. The logits of the prompt are there; `limit` > 0 tokens fit. */
static berth_status continue_text(berth_session *s, int32_t limit, int64_t started, berth_core_result *out,
                                  berth_error *err)
{
    const berth_core_request *q = s->request;
    for (;;) {
        int32_t index = out->n_ids, id = choose(s, index, out);
        out->ids[out->n_ids++] = id;
        if (index == 0) out->timing.first_token_ns = berth_now_ns() - started;
        bool go_on = !q->on_token || q->on_token(q->user, index, id, berth_session_logits(s));
        out->finish = BERTH_FINISH_CALLER;
        if (!go_on) return BERTH_OK;
        out->finish = BERTH_FINISH_STOP;
        if (index >= q->n_forced && is_stop(q, id)) return BERTH_OK;
        out->finish = BERTH_FINISH_LENGTH;
        if (out->n_ids == limit) return BERTH_OK;
        berth_status st = berth_session_may_go_on(s, err);
        if (st != BERTH_OK) return st;
        int64_t start = berth_now_ns(), position = (int64_t)q->n_ids + index;
        st = berth_session_decode(s, id, position, NULL, err);
        if (st == BERTH_OK) st = berth_session_check_numbers(s, id, position, err);
        out->timing.decode_ns += berth_now_ns() - start;
        if (st != BERTH_OK) return st;
    }
}

static berth_status answer(berth_session *s, int64_t started, berth_core_result *out, berth_error *err)
{
    const berth_core_request *q = s->request;
    int64_t room = s->core->plan->config.context - q->n_ids + 1;
    int32_t limit = q->max_new < room ? q->max_new : (int32_t)room;
    out->ids = calloc((size_t)limit + 1, sizeof *out->ids);
    if (!out->ids) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%d new tokens", (int)limit);
    int64_t start = berth_now_ns();
    berth_status st = berth_session_encode(s, NULL, err);
    int64_t encoded = berth_now_ns();
    out->timing.encode_ns = encoded - start;
    if (st == BERTH_OK) st = berth_session_prefill(s, NULL, err);
    if (st == BERTH_OK) st = berth_session_check_numbers(s, -1, -1, err);
    out->timing.prefill_ns = berth_now_ns() - encoded;
    if (st != BERTH_OK) return st;
    out->finish = BERTH_FINISH_LENGTH;
    return limit > 0 ? continue_text(s, limit, started, out, err) : BERTH_OK;
}

berth_status berth_replica_run(berth_replica *r, const berth_job *job, berth_core_result *out, berth_error *err)
{
    berth_core *core = r->core;
    size_t n_edges = (size_t)(core->exec.n_units + 1) * (size_t)(core->exec.n_units + 1);
    *out = (berth_core_result){.replica = r->index};
    out->edge_bytes = calloc(n_edges, sizeof *out->edge_bytes);
    if (!out->edge_bytes) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "%zu edges", n_edges);
    berth_session s;
    berth_status st = berth_session_init(&s, core, r, job->request, err);
    s.edge_bytes = out->edge_bytes;
    s.job = job;
    if (st == BERTH_OK) st = answer(&s, job->submitted_ns, out, err);
    berth_session_deinit(&s);
    out->timing.total_ns = berth_now_ns() - job->submitted_ns;
    if (st == BERTH_CANCELLED || st == BERTH_DEADLINE) {
        out->finish = st == BERTH_DEADLINE ? BERTH_FINISH_DEADLINE : BERTH_FINISH_CANCELLED;
        st = BERTH_OK;
    }
    if (st != BERTH_OK) berth_core_result_deinit(out);
    return st;
}

void berth_core_result_deinit(berth_core_result *r)
{
    free(r->ids);
    free(r->edge_bytes);
    *r = (berth_core_result){0};
}
