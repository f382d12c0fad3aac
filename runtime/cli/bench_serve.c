/* bench_serve.c - requests that arrive by a Poisson process, and what each waits for; the words and the arithmetic are those of vLLM's
 * benchmark (vllm/benchmarks/serve.py): TTFT to the first token, ITL between tokens, TPOT their mean in a request, E2EL to
 * the last. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/status.h"
#include "cli/bench.h"

typedef struct client {        /* one request */
    int64_t first_ns, last_ns; /* of its tokens, since it was submitted */
    int32_t n_tokens;
} client;

typedef struct serving {
    bench_load *load;
    const bench_serving *plan;
    bench_latencies *out;
    client *clients;
    int32_t n_begun, n_done;
    int64_t begin_ns, next_ns; /* when the next one arrives */
    bench_random random;
    cli_conversation conversation;
} serving;

static double ms(int64_t ns)
{
    return (double)ns / 1e6;
}

static void take_token(serving *s, const berth_completion *c)
{
    client *k = c->user;
    if (k->n_tokens++ == 0) {
        k->first_ns = c->token.at_ns;
        bench_add(&s->out->ttft, ms(c->token.at_ns));
    } else {
        bench_add(&s->out->itl, ms(c->token.at_ns - k->last_ns));
    }
    k->last_ns = c->token.at_ns;
}

static void take_end(serving *s, const berth_completion *c)
{
    const client *k = c->user;
    s->n_done++;
    if (c->status != BERTH_OK) {
        if (s->out->n_failed++ == 0)
            snprintf(s->out->first_failure, sizeof s->out->first_failure, "%.290s", c->error->message);
        return;
    }
    s->out->n_completed++;
    s->out->n_input += c->result->n_prompt_tokens;
    s->out->n_output += c->result->n_tokens;
    bench_add(&s->out->e2el, ms(k->last_ns));
    if (k->n_tokens > 1) bench_add(&s->out->tpot, ms(k->last_ns - k->first_ns) / (k->n_tokens - 1));
}

/* Submits what has arrived, as far as the limit on requests at once allows. */
static berth_status admit(serving *s, berth_error *err)
{
    const bench_serving *p = s->plan;
    berth_status st = BERTH_OK;
    while (st == BERTH_OK && s->n_begun < p->n_requests && berth_now_ns() >= s->next_ns &&
           (p->max_concurrency == 0 || s->n_begun - s->n_done < p->max_concurrency)) {
        berth_request r;
        uint64_t id;
        bench_request(s->load, &s->conversation, p->n_new, &r);
        r.quiet = 0;
        st = berth_engine_submit(s->load->engine, &r, s->load->queue, &s->clients[s->n_begun], &id, err);
        if (st == BERTH_BUSY) return BERTH_OK; /* tried again after the next completion */
        s->n_begun++;
        if (isfinite(p->rate)) s->next_ns += (int64_t)(bench_exponential(&s->random, p->rate) * 1e9);
    }
    return st;
}

/* How long a completion may be waited for: until the next arrival, unless that has to wait for a completion itself. */
static int64_t patience_ms(const serving *s)
{
    if (s->n_begun == s->plan->n_requests) return -1;
    const int64_t wait = s->next_ns - berth_now_ns();
    return wait > 0 ? wait / 1000000 : s->n_begun > s->n_done ? -1 : 0;
}

static berth_status run(serving *s, berth_error *err)
{
    berth_status st = BERTH_OK;
    s->begin_ns = s->next_ns = berth_now_ns();
    while (st == BERTH_OK && s->n_done < s->plan->n_requests) {
        st = admit(s, err);
        berth_completion c = {.struct_size = sizeof c};
        if (st == BERTH_OK) st = berth_queue_next(s->load->queue, patience_ms(s), &c, err);
        if (st != BERTH_OK) break;
        if (c.kind == BERTH_COMPLETION_TOKEN) take_token(s, &c);
        if (c.kind == BERTH_COMPLETION_END) take_end(s, &c);
        berth_completion_deinit(&c);
    }
    s->out->seconds = (double)(berth_now_ns() - s->begin_ns) / 1e9;
    return st;
}

berth_status bench_serve(bench_load *l, const bench_serving *plan, bench_latencies *out, berth_error *err)
{
    *out = (bench_latencies){0};
    serving s = {.load = l, .plan = plan, .out = out, .random = {plan->seed}};
    s.clients = calloc((size_t)plan->n_requests, sizeof *s.clients);
    if (s.clients == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for %d requests", plan->n_requests);
    berth_status st = bench_prompt(l, plan->n_prompt, &s.conversation, err);
    if (st == BERTH_OK) st = run(&s, err);
    if (st == BERTH_OK && (out->ttft.failed || out->itl.failed || out->e2el.failed || out->tpot.failed))
        st = BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the measurements");
    if (st == BERTH_OK && out->n_completed == 0)
        st = BERTH_FAIL(err, BERTH_INTERNAL, "no request was answered; the first: %s", out->first_failure);
    cli_conversation_deinit(&s.conversation);
    free(s.clients);
    if (st != BERTH_OK) bench_latencies_deinit(out);
    return st;
}

void bench_latencies_deinit(bench_latencies *l)
{
    bench_samples_deinit(&l->ttft);
    bench_samples_deinit(&l->tpot);
    bench_samples_deinit(&l->itl);
    bench_samples_deinit(&l->e2el);
}

static void put_metric(bench_record *r, const char *const keys[5], const char *const titles[5], bench_samples *s)
{
    const double values[5] = {bench_mean(s), bench_percentile(s, 50), bench_spread(s), bench_percentile(s, 90),
                              bench_percentile(s, 99)};
    for (int i = 0; i < 5; i++) bench_put(r, keys[i], titles[i], BENCH_NUMBER, "%.3f", values[i]);
}

void bench_latencies_put(bench_latencies *l, bench_record *r)
{
    const double seconds = l->seconds > 0 ? l->seconds : 1e-9;
    bench_put(r, "duration", NULL, BENCH_NUMBER, "%.4f", l->seconds);
    bench_put(r, "completed", "completed", BENCH_NUMBER, "%lld", (long long)l->n_completed);
    bench_put(r, "failed", "failed", BENCH_NUMBER, "%lld", (long long)l->n_failed);
    bench_put(r, "total_input_tokens", NULL, BENCH_NUMBER, "%lld", (long long)l->n_input);
    bench_put(r, "total_output_tokens", NULL, BENCH_NUMBER, "%lld", (long long)l->n_output);
    bench_put(r, "request_throughput", "req/s", BENCH_NUMBER, "%.4f", (double)l->n_completed / seconds);
    bench_put(r, "output_throughput", "out tok/s", BENCH_NUMBER, "%.2f", (double)l->n_output / seconds);
    bench_put(r, "total_token_throughput", NULL, BENCH_NUMBER, "%.2f", (double)(l->n_input + l->n_output) / seconds);
    put_metric(r, (const char *const[]){"mean_ttft_ms", "median_ttft_ms", "std_ttft_ms", "p90_ttft_ms", "p99_ttft_ms"},
               (const char *const[]){"TTFT mean", "median", NULL, "p90", "p99"}, &l->ttft);
    put_metric(r, (const char *const[]){"mean_tpot_ms", "median_tpot_ms", "std_tpot_ms", "p90_tpot_ms", "p99_tpot_ms"},
               (const char *const[]){"TPOT mean", "median", NULL, "p90", "p99"}, &l->tpot);
    put_metric(r, (const char *const[]){"mean_itl_ms", "median_itl_ms", "std_itl_ms", "p90_itl_ms", "p99_itl_ms"},
               (const char *const[]){"ITL mean", "median", NULL, "p90", "p99"}, &l->itl);
    put_metric(r, (const char *const[]){"mean_e2el_ms", "median_e2el_ms", "std_e2el_ms", "p90_e2el_ms", "p99_e2el_ms"},
               (const char *const[]){"E2EL mean", "median", NULL, "p90", "p99"}, &l->e2el);
}
