/* bench_load.c - an engine under measurement, prompts of an exact length, and repetitions of one size. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/status.h"
#include "cli/bench.h"

/* ---- prompts --------------------------------------------------------------------------------------------------------- */

/* Texts of one token each that stay so side by side, in most vocabularies at least one of them. */
static const char *const units[] = {" the", " a", "the ", " x", "x", " 1", "1 ", "a", "e", "\n", "!"};

static berth_status count_tokens(berth_model *model, const char *text, size_t size, int32_t *out, berth_error *err)
{
    int32_t *ids;
    berth_status st = berth_model_tokenize(model, text, size, &ids, out, err);
    if (st == BERTH_OK) berth_free(ids);
    return st;
}

static char *repeated(const char *unit, int32_t n)
{
    const size_t len = strlen(unit);
    char *text = malloc(len * (size_t)n + 1);
    for (int32_t i = 0; text != NULL && i < n; i++) memcpy(text + len * (size_t)i, unit, len);
    if (text != NULL) text[len * (size_t)n] = '\0';
    return text;
}

static berth_status find_unit(bench_load *l, berth_error *err)
{
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        bool good = true;
        for (int32_t n = 1; n <= 64 && good; n *= 8) {
            int32_t counted;
            char *text = repeated(units[i], n);
            berth_status st = text != NULL ? count_tokens(l->setup.model, text, strlen(text), &counted, err)
                                           : BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a prompt");
            free(text);
            if (st != BERTH_OK) return st;
            good = counted == n;
        }
        if (good) {
            l->unit = units[i];
            return BERTH_OK;
        }
    }
    return BERTH_FAIL(err, BERTH_UNSUPPORTED, "no text of exactly one token was found in the vocabulary of this model");
}

static const char question[] = "Extract the fields as JSON.";

berth_status bench_prompt(const bench_load *l, int32_t n_tokens, cli_conversation *out, berth_error *err)
{
    if (n_tokens == BENCH_PICTURE)
        return cli_conversation_make(NULL, &l->image, 1, question, strlen(question), out, err);
    const int32_t n = n_tokens - l->form_tokens;
    if (n < 1)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "a prompt of %d tokens: the model's chat form alone takes %d; ask for %d or more",
                          (int)n_tokens, (int)l->form_tokens, (int)l->form_tokens + 1);
    char *text = repeated(l->unit, n);
    if (text == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a prompt of %d tokens", (int)n);
    berth_status st = cli_conversation_make(NULL, NULL, 0, text, strlen(text), out, err);
    free(text);
    return st;
}

void bench_request(const bench_load *l, const cli_conversation *c, int32_t n_new, berth_request *out)
{
    berth_request_init(out);
    out->turns = c->turns;
    out->n_turns = c->n_turns;
    out->max_new_tokens = n_new;
    out->ignore_stop = 1;
    out->no_prefix_cache = 1;
    out->quiet = 1;
    out->speculate = l->speculate;
}

/* ---- engine ---------------------------------------------------------------------------------------------------------- */

/* One request of one unit says what the form takes. */
static berth_status measure_form(bench_load *l, berth_error *err)
{
    cli_conversation c;
    berth_request r;
    berth_result result = {.struct_size = sizeof result};
    l->form_tokens = 0;
    berth_status st = bench_prompt(l, 1, &c, err);
    if (st != BERTH_OK) return st;
    bench_request(l, &c, 1, &r);
    st = berth_engine_run(l->engine, &r, &result, err);
    if (st == BERTH_OK) l->form_tokens = result.n_prompt_tokens - 1;
    berth_result_deinit(&result);
    cli_conversation_deinit(&c);
    return st;
}

berth_status bench_load_open(const cli_args *a, const cli_placement *p, int32_t n_seqs, int64_t context,
                             bench_load *out, berth_error *err)
{
    *out = (bench_load){.n_seqs = n_seqs,
                        .speculate = (int32_t)a->number[OPT_SPECULATE],
                        .image = a->n_list[OPT_IMAGE] > 0 ? a->list[OPT_IMAGE][0] : NULL};
    cli_args v = cli_placement_args(a, p);
    v.number[OPT_BATCH] = n_seqs;
    berth_status st =
        cli_setup_open(&v, false, false, context, out->image ? cli_parallel_tiles(&v, n_seqs) : 0, &out->setup, err);
    if (st == BERTH_OK) st = cli_engine_open(&v, &out->setup, &out->engine, err);
    if (st == BERTH_OK) st = berth_queue_create(out->setup.rt, &out->queue, err);
    if (st == BERTH_OK) st = find_unit(out, err);
    if (st == BERTH_OK) st = measure_form(out, err);
    if (st != BERTH_OK) bench_load_close(out);
    return st;
}

void bench_load_close(bench_load *l)
{
    for (int32_t i = 0; l->sessions != NULL && i < l->n_seqs; i++) berth_session_destroy(l->sessions[i]);
    free(l->sessions);
    berth_engine_destroy(l->engine);
    berth_queue_destroy(l->queue);
    cli_setup_close(&l->setup);
    *l = (bench_load){0};
}

/* ---- a repetition ---------------------------------------------------------------------------------------------------- */

typedef struct span { /* on berth_now_ns() */
    int64_t submitted, prefill_begin, first_token, end;
    int64_t n_prompt, n_reused, n_decoded; /* n_prompt: that were computed */
} span;

static void note(span *s, const berth_result *r)
{
    s->first_token = s->submitted + r->timings.first_token_ns;
    s->prefill_begin = s->first_token - r->timings.prefill_ns;
    s->end = s->first_token + r->timings.decode_ns;
    s->n_prompt = r->n_prompt_tokens - r->n_reused_tokens;
    s->n_reused = r->n_reused_tokens;
    s->n_decoded = r->n_tokens - 1;
}

static void sum_up(const span *spans, int32_t n, bench_rep *out)
{
    int64_t begin = INT64_MAX, first = INT64_MAX, last_first = 0, end = 0;
    for (int32_t i = 0; i < n; i++) {
        const span *s = &spans[i];
        begin = s->prefill_begin < begin ? s->prefill_begin : begin;
        first = s->first_token < first ? s->first_token : first;
        last_first = s->first_token > last_first ? s->first_token : last_first;
        end = s->end > end ? s->end : end;
        out->n_prompt += s->n_prompt;
        out->n_decoded += s->n_decoded;
    }
    out->prefill_ns = last_first - begin;
    out->decode_ns = end - first;
    out->both_ns = end - begin;
}

static berth_status collect(bench_load *l, int32_t n, bench_rep *out, berth_error *err)
{
    berth_status st = BERTH_OK;
    for (int32_t done = 0; st == BERTH_OK && done < n;) {
        berth_completion end = {.struct_size = sizeof end};
        st = berth_queue_next(l->queue, -1, &end, err);
        if (st != BERTH_OK || end.kind != BERTH_COMPLETION_END) continue;
        if (end.status != BERTH_OK) {
            st = end.status;
            *err = *end.error;
        } else {
            note(end.user, end.result);
            cli_stages_of(end.result, out->stages);
            out->n_tiles = end.result->n_tiles;
        }
        berth_completion_deinit(&end);
        done++;
    }
    return st;
}

/* n_seqs requests of n_prompt tokens, each on its session when `at_depth`, to their end; `spans` [n_seqs]. */
static berth_status run_once(bench_load *l, int32_t n_prompt, int32_t n_new, bool at_depth, span *spans, bench_rep *out,
                             berth_error *err)
{
    cli_conversation c;
    berth_request r;
    berth_status st = bench_prompt(l, n_prompt, &c, err);
    if (st != BERTH_OK) return st;
    bench_request(l, &c, n_new, &r);
    int32_t begun = 0;
    for (; st == BERTH_OK && begun < l->n_seqs; begun++) {
        uint64_t id;
        if (at_depth) st = berth_session_rewind(r.session = l->sessions[begun], 0, err);
        spans[begun].submitted = berth_now_ns();
        if (st == BERTH_OK) st = berth_engine_submit(l->engine, &r, l->queue, &spans[begun], &id, err);
    }
    if (st == BERTH_OK) st = collect(l, begun, out, err);
    cli_conversation_deinit(&c);
    return st;
}

/* ---- at a depth ------------------------------------------------------------------------------------------------------ */

/* A session takes up a prompt where it goes apart from the one before: at the end of the text, so what is behind the text
 * is computed again. Two prompts say how much that is. */
static berth_status measure_tail(bench_load *l, berth_error *err)
{
    enum { SHORT = 8, LONG = 16 };
    int32_t reused = 0;
    berth_status st = BERTH_OK;
    for (int32_t extra = SHORT; st == BERTH_OK && extra <= LONG; extra += LONG - SHORT) {
        cli_conversation c;
        berth_request r;
        berth_result result = {.struct_size = sizeof result};
        st = bench_prompt(l, l->form_tokens + extra, &c, err);
        if (st != BERTH_OK) return st;
        bench_request(l, &c, 1, &r);
        r.session = l->sessions[0];
        st = berth_session_rewind(r.session, 0, err);
        if (st == BERTH_OK) st = berth_engine_run(l->engine, &r, &result, err);
        reused = result.n_reused_tokens;
        berth_result_deinit(&result);
        cli_conversation_deinit(&c);
    }
    if (st == BERTH_OK && reused < SHORT)
        st = BERTH_FAIL(err, BERTH_UNSUPPORTED, "--n-depth: this model's KV is not kept from one request to the next");
    l->tail_tokens = l->form_tokens + SHORT - reused;
    return st;
}

static berth_status need_sessions(bench_load *l, berth_error *err)
{
    if (l->sessions != NULL) return BERTH_OK;
    l->sessions = calloc((size_t)l->n_seqs, sizeof(berth_session *));
    if (l->sessions == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %d sessions", (int)l->n_seqs);
    berth_status st = BERTH_OK;
    for (int32_t i = 0; st == BERTH_OK && i < l->n_seqs; i++)
        st = berth_session_create(l->engine, &l->sessions[i], err);
    return st == BERTH_OK ? measure_tail(l, err) : st;
}

/* Generation at a depth begins behind a prompt that is the context. A prompt at a depth is the end of a longer one, whose
 * beginning the session has: it is put there, or cut back to, by a request that is not counted. */
static berth_status run_at_depth(bench_load *l, const bench_size *size, span *spans, bench_rep *out, berth_error *err)
{
    bench_rep ignored = {0};
    berth_status st = need_sessions(l, err);
    if (st != BERTH_OK) return st;
    if (size->n_prompt == 0) return run_once(l, size->n_depth, size->n_new, true, spans, out, err);
    const int32_t head = l->form_tokens - l->tail_tokens;
    if (size->n_depth <= head)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "a prompt behind %d tokens: what stands before a message alone has %d; ask for a depth of %d "
                          "or more",
                          (int)size->n_depth, (int)head, (int)head + 1);
    st = run_once(l, size->n_depth + l->tail_tokens, 1, true, spans, &ignored, err);
    if (st == BERTH_OK) st = run_once(l, size->n_depth + size->n_prompt, size->n_new, true, spans, out, err);
    for (int32_t i = 0; st == BERTH_OK && i < l->n_seqs; i++) {
        if (spans[i].n_reused == size->n_depth) continue;
        st = BERTH_FAIL(err, BERTH_INTERNAL, "%d tokens were to be in the context, %d were; give more --kv-tokens",
                        (int)size->n_depth, (int)spans[i].n_reused);
    }
    return st;
}

berth_status bench_run(bench_load *l, const bench_size *size, bench_rep *out, berth_error *err)
{
    *out = (bench_rep){0};
    span *spans = calloc((size_t)l->n_seqs, sizeof *spans);
    if (spans == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %d requests", (int)l->n_seqs);
    const int32_t n_prompt = size->n_prompt != 0 ? size->n_prompt : l->form_tokens + 1;
    berth_status st = size->n_depth > 0 ? run_at_depth(l, size, spans, out, err)
                                        : run_once(l, n_prompt, size->n_new, false, spans, out, err);
    if (st == BERTH_OK) sum_up(spans, l->n_seqs, out);
    free(spans);
    return st;
}
