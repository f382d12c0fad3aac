/* serve_bench.c - many requests on one engine: what devices, passes in flight and replicas are worth, and what the
 * scheduler costs.
 *
 *   serve_bench [--dir DIR] [--rounds N] [--layers N] [--tokens N]
 *
 * A random bf16 Qwen2 of 12 layers, hidden 1024, on virtual devices of one core each. Each pair (A against B) runs in
 * turns, so that a disturbance meets both; a line gives the median of the rounds' ratios of tokens a second, and best
 * beside best. Before them a probe: two engines on a core each, the most that two cores give here. Then 10,000 requests at once on a queue of 1,024, each answer compared with the one it has alone; and what
 * an engine with nothing to do takes of the processor in two seconds. Needs two cores. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/engine_model.h"
#include "engine/engine.h"

enum {
    MOST_ROUNDS = 64,
    STREAMS = 8,
    PROMPT = 32,
    NEW = 48,
    FLOOD = 10000,
    FLOOD_THREADS = 8,
    FLOOD_KINDS = 16,
    FLOOD_NEW = 4
};

typedef struct setting {
    const char *name, *devices, *strategy;
    int32_t n_seqs, passes, streams;
} setting;

typedef struct engine {
    berth_model_data *model;
    berth_machine machine;
    berth_core *core;
} engine;

static void must(berth_status st, const berth_error *err)
{
    if (st == BERTH_OK) return;
    fprintf(stderr, "serve_bench: %s: %s\n", berth_status_name(st), err->message);
    exit(1);
}

static void start(engine *e, const char *dir, const setting *s, int64_t context, int32_t queue)
{
    berth_error err = {0};
    const berth_model_data_options of_model = {0};
    const berth_plan_config config = {.context = context, .n_seqs = s->n_seqs, .passes = s->passes};
    const berth_core_options options = {.queue = queue, .no_prefix_cache = true};
    berth_core_plan *plan = NULL;
    must(berth_model_data_open(dir, &of_model, &e->model, &err), &err);
    must(berth_machine_parse(s->devices, &e->machine, &err), &err);
    must(berth_core_plan_create(e->model, &e->machine, s->strategy, NULL, 0, &config, &plan, &err), &err);
    must(berth_core_create(plan, &options, &e->core, &err), &err);
}

static void stop(engine *e)
{
    berth_core_destroy(e->core);
    berth_machine_deinit(&e->machine);
    berth_model_data_release(e->model);
}

/* ---- streams ---------------------------------------------------------------------------------------------------- */

typedef struct stream { /* asks again and again until the time is over */
    engine *e;
    int32_t index, n_requests, new_tokens;
    int64_t n_tokens;
} stream;

static void *ask_on(void *arg)
{
    stream *s = arg;
    int32_t ids[PROMPT];
    for (int32_t k = 0; k < s->n_requests; k++) {
        for (int32_t i = 0; i < PROMPT; i++) ids[i] = (s->index * 131 + k * 17 + i * 7) % 1000;
        const berth_core_request q = {.ids = ids,
                                      .n_ids = PROMPT,
                                      .image_token_id = -1,
                                      .max_new = s->new_tokens,
                                      .sampling = BERTH_SAMPLING_GREEDY};
        berth_core_result result;
        berth_error err = {0};
        must(berth_core_run(s->e->core, &q, &result, &err), &err);
        s->n_tokens += result.n_ids;
        berth_core_result_deinit(&result);
    }
    return NULL;
}

/* New tokens a second of all streams together. */
static double rate(engine *e, int32_t n_streams, int32_t new_tokens)
{
    pthread_t threads[STREAMS];
    stream streams[STREAMS];
    int64_t begin = berth_now_ns(), tokens = 0;
    for (int32_t i = 0; i < n_streams; i++) {
        streams[i] = (stream){.e = e, .index = i, .n_requests = 1, .new_tokens = new_tokens};
        if (pthread_create(&threads[i], NULL, ask_on, &streams[i]) != 0) exit(1);
    }
    for (int32_t i = 0; i < n_streams; i++) {
        pthread_join(threads[i], NULL);
        tokens += streams[i].n_tokens;
    }
    return (double)tokens / ((double)(berth_now_ns() - begin) * 1e-9);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int32_t n)
{
    qsort(v, (size_t)n, sizeof *v, ascending);
    return v[n / 2];
}

static void print_loop_share(const engine *e)
{
    berth_core_stats s;
    berth_core_get_stats(e->core, &s);
    printf("    scheduler: %.3f %% of the time with a pass in flight (%lld passes)\n",
           100.0 * (double)s.loop_ns / (double)s.busy_ns, (long long)s.n_step_passes);
}

static void compare(const char *dir, const setting *a, const setting *b, int32_t rounds, int32_t tokens)
{
    engine ea, eb;
    double ratio[MOST_ROUNDS], best_a = 0, best_b = 0, ra = 0, rb = 0;
    start(&ea, dir, a, PROMPT + tokens + 8, 0);
    start(&eb, dir, b, PROMPT + tokens + 8, 0);
    rate(&ea, 1, 4);
    rate(&eb, 1, 4);
    for (int32_t i = 0; i < rounds; i++) {
        ra = rate(&ea, a->streams, tokens);
        rb = rate(&eb, b->streams, tokens);
        ratio[i] = rb / ra;
        if (ra > best_a) best_a = ra;
        if (rb > best_b) best_b = rb;
    }
    printf("%s\n    against %s: %.3fx median of %d, %.3fx best beside best (%.1f against %.1f tokens/s)\n", b->name,
           a->name, median(ratio, rounds), (int)rounds, best_b / best_a, best_b, best_a);
    print_loop_share(&eb);
    stop(&ea);
    stop(&eb);
}

/* ---- what the machine allows ------------------------------------------------------------------------------------ */

typedef struct alone {
    engine e;
    int32_t tokens;
    double rate;
} alone;

static void *go_alone(void *arg)
{
    alone *a = arg;
    a->rate = rate(&a->e, 1, a->tokens);
    return NULL;
}

/* Two engines of one core each that know nothing of each other, against one of them: no scheduler can do better. */
static void probe(const char *dir, int32_t rounds, int32_t tokens)
{
    static alone both[2];
    const setting cores[2] = {{.devices = "cpu/cores=0", .strategy = "single", .n_seqs = 1},
                              {.devices = "cpu/cores=1", .strategy = "single", .n_seqs = 1}};
    double ratio[MOST_ROUNDS];
    for (int i = 0; i < 2; i++) {
        start(&both[i].e, dir, &cores[i], PROMPT + tokens + 8, 0);
        both[i].tokens = tokens;
        rate(&both[i].e, 1, 4);
    }
    for (int32_t k = 0; k < rounds; k++) {
        pthread_t threads[2];
        double one = rate(&both[k % 2].e, 1, tokens);
        for (int i = 0; i < 2; i++)
            if (pthread_create(&threads[i], NULL, go_alone, &both[i]) != 0) exit(1);
        for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
        ratio[k] = (both[0].rate + both[1].rate) / one;
    }
    printf("probe: two engines on a core each, against one: %.3fx median of %d\n", median(ratio, rounds), (int)rounds);
    for (int i = 0; i < 2; i++) stop(&both[i].e);
}

/* ---- a flood ---------------------------------------------------------------------------------------------------- */

typedef struct flood {
    engine *e;
    int32_t ids[FLOOD_KINDS][PROMPT], answers[FLOOD_KINDS][FLOOD_NEW];
    berth_core_request requests[FLOOD_KINDS];
    _Atomic int32_t n_done, n_same, n_cancelled, n_busy, n_failed, next;
    int64_t slowest_refusal_ns;
} flood;

typedef struct flood_one {
    flood *f;
    int32_t kind;
    berth_core_request q;
} flood_one;

static void count_end(void *user, berth_status st, berth_core_result *result, const berth_error *why)
{
    flood_one *one = user;
    flood *f = one->f;
    (void)why;
    if (st != BERTH_OK)
        atomic_fetch_add(&f->n_failed, 1);
    else if (result->finish == BERTH_FINISH_CANCELLED)
        atomic_fetch_add(&f->n_cancelled, 1);
    else
        atomic_fetch_add(&f->n_same, result->n_ids == FLOOD_NEW &&
                                         memcmp(result->ids, f->answers[one->kind], sizeof f->answers[0]) == 0);
    if (st == BERTH_OK && result->finish != BERTH_FINISH_CANCELLED) atomic_fetch_add(&f->n_done, 1);
    berth_core_result_deinit(result);
    free(one);
}

static void *pour(void *arg)
{
    flood *f = arg;
    for (int32_t i; (i = atomic_fetch_add(&f->next, 1)) < FLOOD;) {
        flood_one *one = calloc(1, sizeof *one);
        if (!one) exit(1);
        *one = (flood_one){.f = f, .kind = i % FLOOD_KINDS, .q = f->requests[i % FLOOD_KINDS]};
        one->q.on_end = count_end;
        one->q.user = one;
        uint64_t id = 0;
        berth_error err = {0};
        int64_t begin = berth_now_ns();
        if (berth_core_submit(f->e->core, &one->q, &id, &err) != BERTH_OK) {
            int64_t took = berth_now_ns() - begin;
            if (took > f->slowest_refusal_ns) f->slowest_refusal_ns = took;
            atomic_fetch_add(&f->n_busy, 1);
            free(one);
        } else if (i % 10 == 0) {
            berth_core_cancel(f->e->core, id);
        }
    }
    return NULL;
}

static void answer_alone(flood *f)
{
    for (int32_t k = 0; k < FLOOD_KINDS; k++) {
        for (int32_t i = 0; i < PROMPT; i++) f->ids[k][i] = (k * 131 + i * 7) % 400;
        f->requests[k] = (berth_core_request){.ids = f->ids[k],
                                              .n_ids = PROMPT,
                                              .image_token_id = -1,
                                              .max_new = FLOOD_NEW,
                                              .sampling = BERTH_SAMPLING_GREEDY};
        berth_core_result result;
        berth_error err = {0};
        must(berth_core_run(f->e->core, &f->requests[k], &result, &err), &err);
        memcpy(f->answers[k], result.ids, sizeof f->answers[k]);
        berth_core_result_deinit(&result);
    }
}

static void pour_all(const char *dir)
{
    static flood f;
    engine e;
    const setting s = {.devices = "cpu*2", .strategy = "replicate", .n_seqs = 16};
    start(&e, dir, &s, PROMPT + FLOOD_NEW + 8, 1024);
    f.e = &e;
    answer_alone(&f);
    pthread_t threads[FLOOD_THREADS];
    int64_t begin = berth_now_ns();
    for (int32_t i = 0; i < FLOOD_THREADS; i++)
        if (pthread_create(&threads[i], NULL, pour, &f) != 0) exit(1);
    for (int32_t i = 0; i < FLOOD_THREADS; i++) pthread_join(threads[i], NULL);
    stop(&e); /* waits for all */
    printf("%d requests at once from %d threads, queue 1024: %d completed, %d of them as alone, %d refused, %d "
           "cancelled, %d failed; %d lost; %.2f s; slowest refusal %.2f ms\n",
           FLOOD, FLOOD_THREADS, f.n_done, f.n_same, f.n_busy, f.n_cancelled, f.n_failed,
           FLOOD - f.n_done - f.n_busy - f.n_cancelled - f.n_failed, (double)(berth_now_ns() - begin) * 1e-9,
           (double)f.slowest_refusal_ns * 1e-6);
}

/* ---- nothing to do ---------------------------------------------------------------------------------------------- */

static double own_ms(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return 1e3 * (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-3 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void rest(const char *dir)
{
    engine e;
    const setting s = {.devices = "cpu*2", .strategy = "replicate", .n_seqs = 4};
    start(&e, dir, &s, 64, 0);
    rate(&e, 2, 8);
    const struct timespec settle = {.tv_nsec = 100000000}, two_seconds = {.tv_sec = 2};
    nanosleep(&settle, NULL);
    double before = own_ms();
    nanosleep(&two_seconds, NULL);
    printf("idle: %.2f ms of processor time in 2 s\n", own_ms() - before);
    stop(&e);
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    char dir[4000], small[4100];
    snprintf(dir, sizeof dir, "%s/berth-serve-bench", tmp ? tmp : "/tmp");
    engine_model_shape shape = {.hidden = 1024,
                                .n_layers = 12,
                                .n_heads = 16,
                                .n_kv_heads = 4,
                                .head_dim = 64,
                                .ffn = 2816,
                                .vocab = 2048,
                                .tied = false};
    int32_t rounds = 9, tokens = NEW;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--dir") == 0) snprintf(dir, sizeof dir, "%s", argv[i + 1]);
        if (strcmp(argv[i], "--rounds") == 0) rounds = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--tokens") == 0) tokens = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--layers") == 0) shape.n_layers = atoi(argv[i + 1]);
    }
    if (rounds < 1 || rounds > MOST_ROUNDS || tokens < 1 || tokens > 1024 || shape.n_layers < 2) return 2;
    snprintf(small, sizeof small, "%s-small", dir);
    const engine_model_shape tiny = {.hidden = 64,
                                     .n_layers = 2,
                                     .n_heads = 4,
                                     .n_kv_heads = 2,
                                     .head_dim = 16,
                                     .ffn = 128,
                                     .vocab = 512,
                                     .tied = false};
    berth_error err = {0};
    must(engine_model_make(dir, &shape, &err), &err);
    must(engine_model_make(small, &tiny, &err), &err);
    const char *one = "cpu/cores=0", *two = "cpu:0/cores=0,cpu:1/cores=1";
    const setting one1 = {"one device, one stream", one, "single", 1, 1, 1};
    const setting two1 = {"two devices in a row, one stream", two, "optimal", 1, 1, 1};
    const setting one2 = {"one device, rows of 2 in a pass", one, "single", 2, 1, 4};
    const setting two4 = {"two devices in a row, 4 streams, 2 passes of 2 rows", two, "optimal", 4, 2, 4};
    const setting two6 = {"two devices in a row, 6 streams, 3 passes of 2 rows", two, "optimal", 6, 3, 6};
    const setting two8p = {"two devices in a row, 8 streams, 4 passes of 2 rows", two, "optimal", 8, 4, 8};
    const setting one4 = {"one device, 4 rows in a pass", one, "single", 4, 1, 4};
    const setting two8 = {"two devices in a row, 8 streams, 2 passes of 4 rows", two, "optimal", 8, 2, 8};
    const setting oneq = {"one device, a request at a time", one, "single", 1, 1, 4};
    const setting twor = {"two replicas, a request at a time each", two, "replicate", 1, 1, 4};
    printf("%d layers of hidden %d; prompts of %d tokens, %d new ones; %d rounds\n", (int)shape.n_layers,
           (int)shape.hidden, PROMPT, (int)tokens, (int)rounds);
    probe(dir, rounds, tokens);
    compare(dir, &one1, &two1, rounds, tokens);
    compare(dir, &one2, &two4, rounds, tokens);
    compare(dir, &one2, &two6, rounds, tokens);
    compare(dir, &one2, &two8p, rounds, tokens);
    compare(dir, &one4, &two4, rounds, tokens);
    compare(dir, &one4, &two8, rounds, tokens);
    compare(dir, &oneq, &twor, rounds, tokens);
    pour_all(small);
    rest(small);
    return 0;
}
