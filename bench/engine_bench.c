/* engine_bench.c - a whole engine on a random bf16 model of Qwen2.5-1.5B's shape, each measure beside its probe.
 *
 *   engine_bench [--json] [--dir DIR] [--layers N] [--untied] [--rounds N] [--tokens N] [--prompt N]
 *
 * Load: open + plan + create until a request could start, with the file's pages in memory; seven times. Decode: after each
 * token of one request comes a plain read of all weight bytes, from the same file's pages. Prefill: a prompt in one
 * pass between two runs of the multiply-add probe; operations as the program's costs say, but attention only over the
 * pairs that are not masked. Pipeline: tokens on two devices of one core each (sequential) and on one such device, taking
 * turns. The model is made in DIR (default: berth-engine-bench in $TMPDIR or /tmp) and stays there for the next run.
 * Printed: median of pairs, best beside best, and the median in own time (processor time of all threads), since a busy
 * machine disturbs the first most and the last least; own time does not see threads that wait for each other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "bench/engine_model.h"
#include "engine/engine.h"
#include "exec/team.h"
#include "probe/cpu.h"

enum { LOADS = 7, MOST = 1024, PIPELINE_PROMPT = 4, PIPELINE_TOKENS = 4, SPIN_NS = 50000 };

typedef struct options {
    char dir[4000];
    engine_model_shape shape;
    int32_t rounds, tokens, prompt;
    bool json;
} options;

typedef struct series {
    double value[MOST];
    int n;
} series;

typedef struct engine {
    berth_model_data *model;
    berth_machine machine;
    berth_core *core;
    double open_s, plan_s, create_s;
} engine;

typedef struct report {
    int32_t threads;
    size_t bytes;
    double load[4]; /* getloadavg before and after, of one and five minutes */
    series open, plan, create, ready;
    double first_ready, first_token,
        next_first_token;                    /* the first in this process; one token's pass on a fresh engine */
    series read, step, step_ratio, step_own; /* seconds, seconds; shares of the probe in wall-clock and own time */
    series fma, prefill, prefill_ratio, prefill_own; /* operations a second; shares of the probe, likewise */
    double prefill_flops;
    series one, two;   /* seconds a token */
    uint64_t parts[2]; /* weight bytes of the two devices */
} report;

static void add(series *s, double value)
{
    if (s->n < MOST) s->value[s->n++] = value;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* 0 = least, 0.5 = median, 1 = most. */
static double quantile(const series *s, double q)
{
    series c = *s;
    if (c.n == 0) return 0;
    qsort(c.value, (size_t)c.n, sizeof *c.value, ascending);
    return c.value[(int)(q * (c.n - 1) + 0.5)];
}

static void must(berth_status st, const berth_error *err)
{
    if (st == BERTH_OK) return;
    fprintf(stderr, "engine_bench: %s: %s\n", berth_status_name(st), err->message);
    exit(1);
}

static double since(int64_t begin_ns)
{
    return (double)(berth_now_ns() - begin_ns) * 1e-9;
}

/* ---- engines ---------------------------------------------------------------------------------------------------- */

static void start(engine *e, const char *dir, const char *devices, const char *strategy, int64_t context)
{
    berth_error err = {0};
    const berth_model_data_options of_model = {0};
    const berth_plan_config config = {.context = context};
    berth_core_plan *plan = NULL;
    int64_t begin = berth_now_ns();
    must(berth_model_data_open(dir, &of_model, &e->model, &err), &err);
    e->open_s = since(begin);
    begin = berth_now_ns();
    must(berth_machine_parse(devices, &e->machine, &err), &err);
    must(berth_core_plan_create(e->model, &e->machine, strategy, NULL, 0, &config, &plan, &err), &err);
    e->plan_s = since(begin);
    begin = berth_now_ns();
    must(berth_core_create(plan, NULL, &e->core, &err), &err);
    e->create_s = since(begin);
}

static void stop(engine *e)
{
    berth_core_destroy(e->core);
    berth_machine_deinit(&e->machine);
    berth_model_data_release(e->model);
}

/* `prompt` tokens, then `steps` passes of one token each. */
static berth_core_timing answer(const engine *e, int32_t prompt, int32_t steps,
                                bool (*on_token)(void *, int32_t, int32_t, const float *), void *user)
{
    berth_error err = {0};
    berth_core_result result;
    int32_t *ids = calloc((size_t)prompt, sizeof *ids), vocab = berth_model_data_config(e->model)->text.vocab;
    if (!ids) exit(1);
    for (int32_t i = 0; i < prompt; i++) ids[i] = (int32_t)(((int64_t)i * 7919 + 11) % vocab);
    const berth_core_request request = {.ids = ids,
                                        .n_ids = prompt,
                                        .image_token_id = -1,
                                        .max_new = steps + 1,
                                        .no_prefix_cache = true,
                                        .sampling = BERTH_SAMPLING_GREEDY,
                                        .on_token = on_token,
                                        .user = user};
    must(berth_core_run(e->core, &request, &result, &err), &err);
    berth_core_timing timing = result.timing;
    berth_core_result_deinit(&result);
    free(ids);
    return timing;
}

/* ---- measures --------------------------------------------------------------------------------------------------- */

static void measure_load(const options *o, report *r)
{
    engine e;
    start(&e, o->dir, "cpu", "single", 0); /* once per process: kernels are chosen, the computer is looked at */
    r->first_ready = e.open_s + e.plan_s + e.create_s;
    stop(&e);
    for (int i = 0; i < LOADS; i++) {
        start(&e, o->dir, "cpu", "single", 0);
        add(&r->open, e.open_s);
        add(&r->plan, e.plan_s);
        add(&r->create, e.create_s);
        add(&r->ready, e.open_s + e.plan_s + e.create_s);
        if (i + 1 < LOADS) stop(&e);
    }
    r->first_token = (double)answer(&e, 1, 0, NULL, NULL).prefill_ns * 1e-9;
    r->next_first_token = (double)answer(&e, 1, 0, NULL, NULL).prefill_ns * 1e-9;
    stop(&e);
}

static double prompt_flops(const berth_core *core, int64_t n_tokens)
{
    const berth_program *p = berth_core_get_plan(core)->replicas[0].step;
    berth_sizes sizes = p->bounds;
    double flops = 0;
    sizes.value[BERTH_SYM_TOKENS] = n_tokens;
    sizes.value[BERTH_SYM_SEQS] = sizes.value[BERTH_SYM_LOGITS] = 1;
    sizes.value[BERTH_SYM_IMAGE_ROWS] = sizes.value[BERTH_SYM_BEST] = 0;
    for (int32_t i = 0; i < p->n_ops; i++) {
        berth_op_call call;
        berth_program_shapes(p, &p->ops[i], &sizes, &call);
        if (call.kind == BERTH_OP_ATTENTION_PAGED) /* the op's cost is of the whole context, unmasked */
            flops += 4.0 * (double)berth_tensor_elements(&call.in[0]) * ((double)n_tokens + 1) / 2;
        else if (call.kind != BERTH_OP_COPY)
            flops += berth_op_cost_of(&call).flops;
    }
    return flops;
}

typedef struct turns { /* a token, a read, a token, a read, ... */
    berth_cpu_probe *probe;
    report *report;
    berth_elapsed begin; /* of the prompt */
    berth_elapsed prompt, resumed;
} turns;

static bool read_after_token(void *user, int32_t index, int32_t id, const float *logits)
{
    (void)id, (void)logits;
    turns *t = user;
    if (index == 0) t->prompt = berth_elapsed_since(t->begin);
    berth_elapsed step = berth_elapsed_since(t->resumed), read = berth_cpu_probe_read(t->probe);
    if (index > 0) { /* the first is the prompt's */
        add(&t->report->step, step.wall);
        add(&t->report->read, read.wall);
        add(&t->report->step_ratio, read.wall / step.wall);
        add(&t->report->step_own, read.own / step.own);
    }
    t->resumed = berth_elapsed_now();
    return true;
}

static void measure_tokens(const options *o, berth_cpu_probe *probe, report *r)
{
    engine e;
    start(&e, o->dir, "cpu", "single", o->prompt + o->tokens + 1);
    answer(&e, 1, 2, NULL, NULL); /* enters the pages */
    r->prefill_flops = prompt_flops(e.core, o->prompt);
    for (int32_t i = 0; i < o->rounds; i++) {
        turns t = {.probe = probe, .report = r};
        double flops;
        berth_elapsed before = berth_cpu_probe_fma(probe, &flops);
        t.begin = berth_elapsed_now();
        answer(&e, o->prompt, o->tokens, read_after_token, &t);
        berth_elapsed after = berth_cpu_probe_fma(probe, &flops);
        double rate = r->prefill_flops / t.prompt.wall, own = r->prefill_flops / t.prompt.own;
        add(&r->fma, flops / before.wall);
        add(&r->fma, flops / after.wall);
        add(&r->prefill, rate);
        add(&r->prefill_ratio, rate / (2 * flops / (before.wall + after.wall)));
        add(&r->prefill_own, own / (2 * flops / (before.own + after.own)));
    }
    stop(&e);
}

typedef struct pace {
    series *tokens;
    berth_elapsed resumed;
} pace;

static bool note_token(void *user, int32_t index, int32_t id, const float *logits)
{
    (void)id, (void)logits;
    pace *p = user;
    if (index > 0) add(p->tokens, berth_elapsed_since(p->resumed).wall);
    p->resumed = berth_elapsed_now();
    return true;
}

static void add_tokens(const engine *e, series *tokens)
{
    pace p = {.tokens = tokens};
    answer(e, PIPELINE_PROMPT, PIPELINE_TOKENS, note_token, &p);
}

/* Two devices, the first too small for the whole model. */
static void measure_pipeline(const options *o, report *r)
{
    char devices[160];
    berth_machine all;
    berth_error err = {0};
    must(berth_machine_parse("cpu", &all, &err), &err);
    int32_t n_cores = all.devices[0].n_cores, first = all.devices[0].cores[0];
    int32_t second = n_cores > 1 ? all.devices[0].cores[1] : -1;
    berth_machine_deinit(&all);
    if (n_cores < 2) return;
    engine one, two;
    int64_t context = PIPELINE_PROMPT + PIPELINE_TOKENS + 1;
    snprintf(devices, sizeof devices, "cpu/cores=%d", (int)first);
    start(&one, o->dir, devices, "sequential", context);
    unsigned long long limit = (unsigned long long)(0.6 * (double)berth_core_allocated(one.core, 0).total);
    snprintf(devices, sizeof devices, "cpu:0/cores=%d/mem=%llu,cpu:1/cores=%d", (int)first, limit, (int)second);
    start(&two, o->dir, devices, "sequential", context);
    for (int32_t d = 0; d < 2; d++) r->parts[d] = berth_core_allocated(two.core, d).weights;
    answer(&one, 1, 1, NULL, NULL); /* enters the pages */
    answer(&two, 1, 1, NULL, NULL);
    for (int32_t i = 0; i < 4 * o->rounds; i++) {
        add_tokens(&one, &r->one);
        add_tokens(&two, &r->two);
    }
    stop(&one);
    stop(&two);
}

/* ---- printing --------------------------------------------------------------------------------------------------- */

static void print_table(const options *o, const report *r)
{
    double gb = (double)r->bytes * 1e-9;
    printf("%.3f GB of weights, %d threads, %d rounds, load average %.1f before, %.1f after\n", gb, r->threads,
           o->rounds, r->load[0], r->load[2]);
    printf("ready        %8.2f ms median of %d (open %.2f, plan %.2f, create %.2f), best %.2f, first in the process "
           "%.2f\n",
           1e3 * quantile(&r->ready, 0.5), r->ready.n, 1e3 * quantile(&r->open, 0.5), 1e3 * quantile(&r->plan, 0.5),
           1e3 * quantile(&r->create, 0.5), 1e3 * quantile(&r->ready, 0), 1e3 * r->first_ready);
    printf("first pass   %8.1f ms for one token on a fresh engine, then %.1f ms\n", 1e3 * r->first_token,
           1e3 * r->next_first_token);
    printf("read probe   %8.1f ms median, best %.1f (%.2f GB/s)\n", 1e3 * quantile(&r->read, 0.5),
           1e3 * quantile(&r->read, 0), gb / quantile(&r->read, 0));
    printf("decode       %8.1f ms a token, best %.1f; of the probe: %.1f %% median of %d pairs, %.1f %% best beside "
           "best, %.1f %% in own time\n",
           1e3 * quantile(&r->step, 0.5), 1e3 * quantile(&r->step, 0), 100 * quantile(&r->step_ratio, 0.5), r->step.n,
           100 * quantile(&r->read, 0) / quantile(&r->step, 0), 100 * quantile(&r->step_own, 0.5));
    printf("fma probe    %8.1f GFLOP/s median, best %.1f\n", 1e-9 * quantile(&r->fma, 0.5),
           1e-9 * quantile(&r->fma, 1));
    printf(
        "prefill %-4d %8.1f GFLOP/s median, best %.1f (%.0f GFLOP); of the probe: %.1f %% median, %.1f %% best beside "
        "best, %.1f %% in own time\n",
        (int)o->prompt, 1e-9 * quantile(&r->prefill, 0.5), 1e-9 * quantile(&r->prefill, 1), 1e-9 * r->prefill_flops,
        100 * quantile(&r->prefill_ratio, 0.5), 100 * quantile(&r->prefill, 1) / quantile(&r->fma, 1),
        100 * quantile(&r->prefill_own, 0.5));
    if (r->one.n == 0) {
        printf("pipeline     needs two cores\n");
        return;
    }
    printf("one core     %8.1f ms a token, best %.1f\n", 1e3 * quantile(&r->one, 0.5), 1e3 * quantile(&r->one, 0));
    printf(
        "two devices  %8.1f ms a token, best %.1f (%.2f + %.2f GB); of one device's speed: %.1f %% by medians of %d, "
        "%.1f %% best beside best\n",
        1e3 * quantile(&r->two, 0.5), 1e3 * quantile(&r->two, 0), 1e-9 * (double)r->parts[0],
        1e-9 * (double)r->parts[1], 100 * quantile(&r->one, 0.5) / quantile(&r->two, 0.5), r->two.n,
        100 * quantile(&r->one, 0) / quantile(&r->two, 0));
}

static void print_series(const char *name, const series *s)
{
    printf(", \"%s\": {\"min\": %.6g, \"median\": %.6g, \"max\": %.6g, \"n\": %d}", name, quantile(s, 0),
           quantile(s, 0.5), quantile(s, 1), s->n);
}

static void print_json(const options *o, const report *r)
{
    printf("{\"weight_bytes\": %zu, \"threads\": %d, \"rounds\": %d, \"prompt\": %d, \"load_before\": %.2f, "
           "\"load_after\": %.2f, \"first_ready_s\": %.6g, \"first_pass_s\": %.6g, \"next_pass_s\": %.6g, "
           "\"prefill_flops\": %.6g, \"device_weight_bytes\": [%llu, %llu]",
           r->bytes, r->threads, o->rounds, o->prompt, r->load[0], r->load[2], r->first_ready, r->first_token,
           r->next_first_token, r->prefill_flops, (unsigned long long)r->parts[0], (unsigned long long)r->parts[1]);
    const struct {
        const char *name;
        const series *s;
    } all[] = {{"open_s", &r->open},
               {"plan_s", &r->plan},
               {"create_s", &r->create},
               {"ready_s", &r->ready},
               {"read_s", &r->read},
               {"token_s", &r->step},
               {"token_of_read", &r->step_ratio},
               {"token_of_read_own", &r->step_own},
               {"fma_flop_s", &r->fma},
               {"prefill_flop_s", &r->prefill},
               {"prefill_of_fma", &r->prefill_ratio},
               {"prefill_of_fma_own", &r->prefill_own},
               {"one_device_token_s", &r->one},
               {"two_devices_token_s", &r->two}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) print_series(all[i].name, all[i].s);
    printf("}\n");
}

/* ---- program ---------------------------------------------------------------------------------------------------- */

static bool parse(int argc, char **argv, options *o)
{
    const char *tmp = getenv("TMPDIR");
    *o = (options){.shape = {1536, 28, 12, 2, 128, 8960, 151936, true}, .rounds = 3, .tokens = 24, .prompt = 512};
    snprintf(o->dir, sizeof o->dir, "%s/berth-engine-bench", tmp && *tmp ? tmp : "/tmp");
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--json") == 0)
            o->json = true;
        else if (strcmp(argv[i], "--untied") == 0)
            o->shape.tied = false, o->shape.vocab = 151674;
        else if (strcmp(argv[i], "--dir") == 0 && more)
            snprintf(o->dir, sizeof o->dir, "%s", argv[++i]);
        else if (strcmp(argv[i], "--layers") == 0 && more)
            o->shape.n_layers = atoi(argv[++i]);
        else if (strcmp(argv[i], "--rounds") == 0 && more)
            o->rounds = atoi(argv[++i]);
        else if (strcmp(argv[i], "--tokens") == 0 && more)
            o->tokens = atoi(argv[++i]);
        else if (strcmp(argv[i], "--prompt") == 0 && more)
            o->prompt = atoi(argv[++i]);
        else
            return false;
    }
    return o->shape.n_layers > 0 && o->rounds > 0 && o->tokens > 0 && o->prompt > 0 && o->prompt <= 512 &&
           o->rounds * o->tokens <= MOST && 4 * o->rounds * PIPELINE_TOKENS <= MOST;
}

/* The bytes a token reads, in a mapping of the program's own: the file from its weights on, whole pages. An untied
 * embedding comes first in the file and is left out, since a token reads one row of it. */
static const char *map_weights(const options *o, size_t *out_bytes, void **out_base, size_t *out_length)
{
    int fd = -1;
    berth_error err = {0};
    uint64_t header = 0;
    must(berth_file_open_in(o->dir, ENGINE_MODEL_FILE, &fd, out_length, &err), &err);
    void *p = mmap(NULL, *out_length, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED) {
        perror("engine_bench: the weights");
        exit(1);
    }
    memcpy(&header, p, sizeof header);
    size_t first = sizeof header + (size_t)header;
    if (!o->shape.tied) first += (size_t)(o->shape.vocab * o->shape.hidden) * 2;
    *out_bytes = *out_length - first;
    *out_base = p;
    size_t aligned = first / 4096 * 4096;
    madvise((char *)p + aligned, *out_length - aligned, MADV_WILLNEED);
    return (const char *)p + aligned;
}

int main(int argc, char **argv)
{
    static report r;
    options o;
    berth_error err = {0};
    if (!parse(argc, argv, &o)) {
        fprintf(stderr, "usage: engine_bench [--json] [--dir DIR] [--layers N] [--untied] [--rounds N] [--tokens N] "
                        "[--prompt N, at most 512]\n");
        return 2;
    }
    must(engine_model_make(o.dir, &o.shape, &err), &err);
    r.threads = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    if (r.threads > 64) r.threads = 64;
    berth_team *team = NULL;
    must(berth_cpu_team_create(r.threads, NULL, 0, false, SPIN_NS, NULL, &team, &err), &err);
    void *base;
    size_t length;
    berth_cpu_probe probe;
    const char *weights = map_weights(&o, &r.bytes, &base, &length);
    berth_cpu_probe_init(&probe, team, weights, r.bytes);
    if (getloadavg(r.load, 2) != 2) r.load[0] = 0;
    measure_load(&o, &r);
    measure_tokens(&o, &probe, &r);
    measure_pipeline(&o, &r);
    if (getloadavg(r.load + 2, 2) != 2) r.load[2] = 0;
    (o.json ? print_json : print_table)(&o, &r);
    berth_cpu_team_destroy(team);
    munmap(base, length);
    return 0;
}
