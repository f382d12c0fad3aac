/* serve_load.c - see serve_load.h. Tokens are told on the engine's thread, so a stream notes the time of each there. */
#include "bench/serve_load.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

enum { MOST_TOKENS = 4096 };

typedef struct stream {
    serve_engine *e;
    int32_t index, tokens, n;
    pthread_t thread;
    int64_t at[MOST_TOKENS]; /* [n] when each token came */
} stream;

struct serve_streams {
    int32_t n;
    stream streams[SERVE_STREAMS];
};

void serve_must(berth_status st, const berth_error *err)
{
    if (st == BERTH_OK) return;
    fprintf(stderr, "serve_bench: %s: %s\n", berth_status_name(st), err->message);
    exit(1);
}

void serve_start(serve_engine *e, const char *dir, const serve_setting *s, int32_t tokens, int32_t queue)
{
    berth_error err = {0};
    const berth_model_data_options of_model = {0};
    const berth_plan_config config = {.context = SERVE_PROMPT + tokens + 8, .n_seqs = s->n_seqs, .passes = s->passes};
    const berth_core_options options = {.queue = queue, .no_prefix_cache = true};
    berth_core_plan *plan = NULL;
    serve_must(berth_model_data_open(dir, &of_model, &e->model, &err), &err);
    serve_must(berth_machine_parse(s->devices, &e->machine, &err), &err);
    serve_must(berth_core_plan_create(e->model, &e->machine, s->strategy, NULL, 0, &config, &plan, &err), &err);
    serve_must(berth_core_create(plan, &options, &e->core, &err), &err);
}

void serve_stop(serve_engine *e)
{
    berth_core_destroy(e->core);
    berth_machine_deinit(&e->machine);
    berth_model_data_release(e->model);
}

static bool note_token(void *user, int32_t index, int32_t id, const float *logits)
{
    (void)index, (void)id, (void)logits;
    stream *s = user;
    if (s->n < MOST_TOKENS) s->at[s->n++] = berth_now_ns();
    return true;
}

static void *ask(void *arg)
{
    stream *s = arg;
    int32_t ids[SERVE_PROMPT];
    for (int32_t i = 0; i < SERVE_PROMPT; i++) ids[i] = (s->index * 131 + i * 7) % 1000;
    const berth_core_request q = {.ids = ids,
                                  .n_ids = SERVE_PROMPT,
                                  .image_token_id = -1,
                                  .max_new = s->tokens,
                                  .sampling = BERTH_SAMPLING_GREEDY,
                                  .on_token = note_token,
                                  .user = s};
    berth_core_result result;
    berth_error err = {0};
    serve_must(berth_core_run(s->e->core, &q, &result, &err), &err);
    berth_core_result_deinit(&result);
    return NULL;
}

serve_streams *serve_streams_begin(serve_engine *e, int32_t n_streams, int32_t tokens)
{
    serve_streams *s = calloc(1, sizeof *s);
    if (!s || n_streams > SERVE_STREAMS || tokens > MOST_TOKENS) exit(1);
    s->n = n_streams;
    for (int32_t i = 0; i < n_streams; i++) {
        s->streams[i] = (stream){.e = e, .index = i, .tokens = tokens};
        if (pthread_create(&s->streams[i].thread, NULL, ask, &s->streams[i]) != 0) exit(1);
    }
    return s;
}

void serve_streams_join(serve_streams *s)
{
    for (int32_t i = 0; i < s->n; i++) pthread_join(s->streams[i].thread, NULL);
}

void serve_streams_free(serve_streams *s)
{
    free(s);
}

double serve_rate(serve_streams *const *groups, int32_t n)
{
    int64_t first = INT64_MIN, last = INT64_MAX, tokens = 0;
    for (int32_t g = 0; g < n; g++) {
        for (int32_t i = 0; i < groups[g]->n; i++) {
            const stream *s = &groups[g]->streams[i];
            if (s->n < 4) return 0;
            if (s->at[1] > first) first = s->at[1];
            if (s->at[s->n - 2] < last) last = s->at[s->n - 2];
        }
    }
    for (int32_t g = 0; g < n; g++)
        for (int32_t i = 0; i < groups[g]->n; i++)
            for (int32_t k = 0; k < groups[g]->streams[i].n; k++)
                tokens += groups[g]->streams[i].at[k] > first && groups[g]->streams[i].at[k] <= last;
    return last > first ? (double)tokens / ((double)(last - first) * 1e-9) : 0;
}

double serve_rate_alone(serve_engine *e, int32_t n_streams, int32_t tokens)
{
    serve_streams *s = serve_streams_begin(e, n_streams, tokens);
    serve_streams_join(s);
    double rate = serve_rate(&s, 1);
    serve_streams_free(s);
    return rate;
}
