/* cmd_bench.c - berth bench: llama-bench's tests (pp, tg, pg) and vLLM's latencies under a request rate, over every placement and
 * batch size. Nothing is timed before all of them gave the same greedy tokens; then rows are written as they are measured. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/status.h"
#include "cli/bench.h"
#include "image/image.h"

enum { MAX_RATES = 256, CONTEXT_SLACK = 128, MAX_OUTPUTS = 2 };

typedef struct bench {
    const cli_args *args;
    cli_placements placements;
    bench_numbers sizes; /* requests at once */
    double rates[MAX_RATES];
    int32_t n_rates; /* 0 = no serving */
    bench_tests tests;
    bench_format formats[MAX_OUTPUTS]; /* on standard output; on standard error too */
    int32_t n_outputs;
    bench_env env;
    size_t n_written;
    int32_t n_begun; /* tests, for --progress */
} bench;

/* ---- options --------------------------------------------------------------------------------------------------------- */

static berth_status read_rates(bench *b, berth_error *err)
{
    const cli_args *a = b->args;
    if (!a->set[OPT_REQUEST_RATE]) {
        if (a->set[OPT_NUM_PROMPTS] || a->set[OPT_MAX_CONCURRENCY])
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                              "--num-prompts and --max-concurrency are for serving; give --request-rate");
        return BERTH_OK;
    }
    for (const char *p = a->text[OPT_REQUEST_RATE];; p++) {
        char *end;
        const double rate = strtod(p, &end);
        if (end == p || !(rate > 0) || (*end != ',' && *end != '\0') || b->n_rates == MAX_RATES)
            return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                              "--request-rate %s: expected requests a second, as in 0.5,2,inf",
                              a->text[OPT_REQUEST_RATE]);
        b->rates[b->n_rates++] = rate;
        p = end;
        if (*p == '\0') return BERTH_OK;
    }
}

static berth_status read_tests(bench *b, berth_error *err)
{
    const cli_args *a = b->args;
    const bench_tests *t = &b->tests;
    berth_status st = bench_tests_read(a, &b->tests, err);
    if (st != BERTH_OK) return st;
    if (b->n_rates == 0 && t->n == 0)
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "there is nothing to measure; give -p, -n, -pg or -i");
    if (b->n_rates > 0 && (t->n_gen < 1 || (t->n_prompt < 1 && a->n_list[OPT_IMAGE] == 0)))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "serving needs a prompt (-p) and generated tokens (-n), both over 0");
    if (b->n_rates > 0 && a->set[OPT_N_DEPTH])
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT,
                          "--n-depth is for tests, --request-rate for serving; give one of the two");
    return BERTH_OK;
}

static berth_status read_outputs(bench *b, berth_error *err)
{
    const cli_args *a = b->args;
    b->n_outputs = 1 + a->set[OPT_OUTPUT_ERR];
    berth_status st =
        bench_format_read(OPT_OUTPUT, a->set[OPT_OUTPUT] ? a->text[OPT_OUTPUT] : "md", &b->formats[0], err);
    if (st == BERTH_OK && a->set[OPT_OUTPUT_ERR])
        st = bench_format_read(OPT_OUTPUT_ERR, a->text[OPT_OUTPUT_ERR], &b->formats[1], err);
    return st;
}

/* A picture that cannot be read is told before anything is measured. */
static berth_status check_picture(const cli_args *a, berth_error *err)
{
    if (a->n_list[OPT_IMAGE] == 0) return BERTH_OK;
    if (a->n_list[OPT_IMAGE] > 1) return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "one --image is enough to measure");
    berth_image picture;
    berth_status st = berth_image_load(a->list[OPT_IMAGE][0], NULL, &picture, err);
    if (st == BERTH_OK) berth_image_deinit(&picture);
    return st;
}

static berth_status read_options(const cli_args *a, bench *b, berth_error *err)
{
    b->args = a;
    if (!a->set[OPT_MODEL])
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "no model given; -m DIR is required\nusage: %s",
                          cli_commands[CMD_BENCH].usage);
    if (a->set[OPT_DELAY] && !(a->real[OPT_DELAY] >= 0 && a->real[OPT_DELAY] <= 86400))
        return BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--delay %s: expected seconds, 0 to 86400", a->text[OPT_DELAY]);
    berth_status st = read_outputs(b, err);
    if (st == BERTH_OK) st = bench_numbers_read(a, OPT_BATCH_SIZE, "1", 1, &b->sizes, err);
    for (int32_t i = 0; st == BERTH_OK && i < b->sizes.n; i++) {
        if (b->sizes.list[i] > 4096)
            st = BERTH_FAIL(err, BERTH_INVALID_ARGUMENT, "--batch-size %d: at most 4096", (int)b->sizes.list[i]);
    }
    if (st == BERTH_OK) st = read_rates(b, err);
    if (st == BERTH_OK) st = read_tests(b, err);
    if (st == BERTH_OK) st = check_picture(a, err);
    return st == BERTH_OK ? cli_placements_read(a, &b->placements, err) : st;
}

/* Tokens of the longest request. A picture's are not known yet: then the plan's default, which has room for one. */
static int64_t context_of(const bench *b)
{
    int64_t most = b->n_rates > 0 ? b->tests.n_prompt + b->tests.n_gen : 0;
    for (int32_t i = 0; i < b->tests.n; i++) {
        const bench_test *t = &b->tests.list[i];
        const int64_t n = (int64_t)(t->n_prompt > 0 ? t->n_prompt : 0) + t->n_gen + t->n_depth;
        most = n > most ? n : most;
    }
    most += CONTEXT_SLACK;
    return b->args->n_list[OPT_IMAGE] > 0 && most < 4096 ? 0 : most;
}

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

static const char *last_name(const char *path)
{
    for (const char *p = path; *p; p++) {
        if (*p == '/' && p[1] != '/' && p[1] != '\0') path = p + 1;
    }
    return path;
}

static void put_head(const bench *b, const cli_placement *p, const bench_load *l, bench_record *r)
{
    const berth_plan *plan = berth_engine_plan(l->engine);
    bench_env_put(&b->env, r);
    bench_put_text(r, "model_filename", NULL, b->args->text[OPT_MODEL]);
    bench_put_text(r, "model", "model", last_name(b->args->text[OPT_MODEL]));
    bench_put_text(r, "strategy", "strategy", berth_plan_strategy(plan));
    bench_put_text(r, "devices", "devices", p->devices);
    bench_put(r, "n_devices", NULL, BENCH_NUMBER, "%d", (int)berth_plan_n_devices(plan));
    bench_put(r, "n_replicas", NULL, BENCH_NUMBER, "%d", (int)berth_plan_n_replicas(plan));
    bench_put_text(r, "dtype", "dtype", p->dtype);
    bench_put(r, "n_batch", "batch", BENCH_NUMBER, "%d", (int)l->n_seqs);
    bench_put(r, "n_draft", NULL, BENCH_NUMBER, "%d", (int)l->speculate);
}

/* Takes the text to standard output (0) or standard error (1). */
static berth_status put_out(int32_t where, bool failed, berth_buffer *take_out, berth_error *err)
{
    failed |= take_out->failed;
    bool written = true;
    if (!failed && take_out->len > 0) {
        written = where == 0 ? cli_write(take_out->data, take_out->len)
                             : fwrite(take_out->data, 1, take_out->len, stderr) == take_out->len;
    }
    berth_buffer_deinit(take_out);
    if (failed) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for a row");
    return written ? BERTH_OK : BERTH_FAIL(err, BERTH_INTERNAL, "the rows were not written");
}

static berth_status write_row(bench *b, const bench_record *r, const char *table, berth_error *err)
{
    berth_status st = BERTH_OK;
    for (int32_t i = 0; st == BERTH_OK && i < b->n_outputs; i++) {
        berth_buffer out = {0};
        bench_write(r, b->formats[i], b->n_written, table, &out);
        st = put_out(i, r->failed, &out, err);
    }
    b->n_written++;
    return st;
}

typedef struct measured { /* a test's repetitions */
    bench_samples ns, ts, stages[CLI_N_STAGES];
    int64_t n_prompt;
    int32_t n_tiles;
} measured;

static void add_rep(measured *m, const bench_test *t, const bench_rep *rep)
{
    int64_t ns = rep->both_ns, tokens = rep->n_prompt + rep->n_decoded;
    if (t->n_gen == 0) {
        ns = rep->prefill_ns;
        tokens = rep->n_prompt;
    } else if (t->n_prompt == 0) {
        ns = rep->decode_ns;
        tokens = rep->n_decoded;
    }
    bench_add(&m->ns, (double)ns);
    bench_add(&m->ts, ns > 0 ? (double)tokens * 1e9 / (double)ns : 0);
    for (int i = 0; i < CLI_N_STAGES; i++) bench_add(&m->stages[i], (double)rep->stages[i] / 1e6);
    m->n_tiles = rep->n_tiles;
}

static void put_measured(const bench *b, const bench_test *t, const measured *m, bench_record *r)
{
    const bool stages = b->args->n_list[OPT_IMAGE] > 0;
    static const char *const keys[CLI_N_STAGES] = {"decode_image_ms", "tiles_ms",   "tokenize_ms", "encode_ms",
                                                   "project_ms",      "prefill_ms", "decode_ms"};
    static const char *const titles[CLI_N_STAGES] = {"image ms", "tiles",   "tokenize", "encode",
                                                     "project",  "prefill", "decode"};
    bench_put(r, "n_prompt", NULL, BENCH_NUMBER, "%d", t->n_prompt > 0 ? (int)t->n_prompt : 0);
    bench_put(r, "n_gen", NULL, BENCH_NUMBER, "%d", (int)t->n_gen);
    bench_put(r, "n_depth", NULL, BENCH_NUMBER, "%d", (int)t->n_depth);
    bench_put(r, "n_tiles", NULL, BENCH_NUMBER, "%d", (int)m->n_tiles);
    bench_put_text(r, "test", "test", t->name);
    bench_put(r, "avg_ns", NULL, BENCH_NUMBER, "%.0f", bench_mean(&m->ns));
    bench_put(r, "stddev_ns", NULL, BENCH_NUMBER, "%.0f", bench_deviation(&m->ns));
    bench_put(r, "avg_ts", NULL, BENCH_NUMBER, "%.6f", bench_mean(&m->ts));
    bench_put(r, "stddev_ts", NULL, BENCH_NUMBER, "%.6f", bench_deviation(&m->ts));
    bench_put_samples(r, "samples_ns", &m->ns);
    bench_put_samples(r, "samples_ts", &m->ts);
    for (int i = 0; i < CLI_N_STAGES; i++)
        bench_put(r, keys[i], stages ? titles[i] : NULL, BENCH_NUMBER, "%.3f", bench_mean(&m->stages[i]));
    bench_put(r, NULL, "t/s", BENCH_LIST, "%.2f ± %.2f", bench_mean(&m->ts), bench_deviation(&m->ts));
}

/* ---- tests ----------------------------------------------------------------------------------------------------------- */

static void pause_before(const bench *b)
{
    if (!b->args->set[OPT_DELAY]) return;
    const double s = b->args->real[OPT_DELAY];
    struct timespec t = {.tv_sec = (time_t)s, .tv_nsec = (long)((s - floor(s)) * 1e9)};
    nanosleep(&t, NULL);
}

/* As llama-bench says it: which test of how many, and what of it. */
static void say_progress(const bench *b, const bench_test *t, const char *what, int32_t i, int32_t n)
{
    if (!b->args->set[OPT_PROGRESS]) return;
    const int32_t all = b->placements.n * b->sizes.n * b->tests.n;
    fprintf(stderr, "berth: test %d/%d: %s: %s", (int)b->n_begun, (int)all, t->name, what);
    if (n > 0) fprintf(stderr, " %d/%d", (int)i, (int)n);
    fputs("\n", stderr);
}

/* A run that is not counted, of a few tokens. */
static berth_status warm_up(bench *b, bench_load *l, const bench_test *t, bench_size size, berth_error *err)
{
    bench_rep rep;
    if (b->args->set[OPT_NO_WARMUP]) return BERTH_OK;
    say_progress(b, t, "warm-up", 0, 0);
    if (size.n_new > 8) size.n_new = 8;
    return bench_run(l, &size, &rep, err);
}

static berth_status run_test(bench *b, const cli_placement *p, bench_load *l, const bench_test *t, berth_error *err)
{
    const int32_t reps = b->args->set[OPT_REPETITIONS] ? (int32_t)b->args->number[OPT_REPETITIONS] : 5;
    /* the prefill makes the first token, so N decoded ones are asked for with one more */
    const int32_t n_new = t->n_prompt == 0 ? t->n_gen + 1 : t->n_gen > 0 ? t->n_gen : 1;
    const bench_size size = {.n_prompt = t->n_prompt, .n_new = n_new, .n_depth = t->n_depth};
    measured m = {0};
    bench_rep rep;
    bench_record row = {0};
    berth_status st = BERTH_OK;
    b->n_begun++;
    pause_before(b);
    st = warm_up(b, l, t, size, err);
    for (int32_t i = 0; st == BERTH_OK && i < reps; i++) {
        say_progress(b, t, "run", i + 1, reps);
        st = bench_run(l, &size, &rep, err);
        if (st == BERTH_OK) add_rep(&m, t, &rep);
    }
    if (st == BERTH_OK) {
        put_head(b, p, l, &row);
        put_measured(b, t, &m, &row);
        st = write_row(b, &row, "test", err);
    } else {
        berth_error_prefix(err, "%s: ", t->name);
    }
    bench_record_deinit(&row);
    bench_samples_deinit(&m.ns);
    bench_samples_deinit(&m.ts);
    for (int i = 0; i < CLI_N_STAGES; i++) bench_samples_deinit(&m.stages[i]);
    return st;
}

static berth_status run_serving(bench *b, const cli_placement *p, bench_load *l, double rate, berth_error *err)
{
    const cli_args *a = b->args;
    const bench_serving plan = {
        .n_requests = a->set[OPT_NUM_PROMPTS] ? (int32_t)a->number[OPT_NUM_PROMPTS] : 100,
        .n_prompt = a->n_list[OPT_IMAGE] > 0 ? BENCH_PICTURE : b->tests.n_prompt,
        .n_new = b->tests.n_gen,
        .max_concurrency = a->set[OPT_MAX_CONCURRENCY] ? (int32_t)a->number[OPT_MAX_CONCURRENCY] : 0,
        .rate = rate,
        .seed = a->unsigned_number[OPT_SEED],
    };
    const bench_size size = {.n_prompt = plan.n_prompt, .n_new = 2};
    bench_rep rep;
    bench_latencies latencies;
    bench_record row = {0};
    pause_before(b);
    berth_status st = a->set[OPT_NO_WARMUP] ? BERTH_OK : bench_run(l, &size, &rep, err);
    if (st == BERTH_OK) st = bench_serve(l, &plan, &latencies, err);
    if (st != BERTH_OK) return st;
    put_head(b, p, l, &row);
    if (isfinite(rate))
        bench_put(&row, "request_rate", "rate", BENCH_NUMBER, "%g", rate);
    else
        bench_put(&row, "request_rate", NULL, BENCH_LIST, "\"inf\"");
    if (!isfinite(rate)) bench_put(&row, NULL, "rate", BENCH_LIST, "inf");
    bench_put(&row, "num_prompts", NULL, BENCH_NUMBER, "%d", (int)plan.n_requests);
    bench_put(&row, "max_concurrency", NULL, BENCH_NUMBER, "%d", (int)plan.max_concurrency);
    bench_put(&row, "seed", NULL, BENCH_NUMBER, "%llu", (unsigned long long)plan.seed);
    bench_latencies_put(&latencies, &row);
    if (latencies.n_failed > 0 && !a->set[OPT_QUIET])
        fprintf(stderr, "berth: %lld requests failed; the first: %s\n", (long long)latencies.n_failed,
                latencies.first_failure);
    st = write_row(b, &row, "serving", err);
    bench_record_deinit(&row);
    bench_latencies_deinit(&latencies);
    return st;
}

static berth_status measure(bench *b, const cli_placement *p, int32_t n_seqs, berth_error *err)
{
    bench_load l;
    berth_status st = bench_load_open(b->args, p, n_seqs, context_of(b), &l, err);
    if (st != BERTH_OK) return st;
    for (int32_t i = 0; st == BERTH_OK && b->n_rates == 0 && i < b->tests.n; i++)
        st = run_test(b, p, &l, &b->tests.list[i], err);
    for (int32_t i = 0; st == BERTH_OK && i < b->n_rates; i++) st = run_serving(b, p, &l, b->rates[i], err);
    bench_load_close(&l);
    return st;
}

/* ---- command --------------------------------------------------------------------------------------------------------- */

/* The reference of an arithmetic, new or known; there are at most as many as placements. */
static bench_reference *reference_of(bench_reference *refs, const char *arithmetic)
{
    while (refs->arithmetic[0] != '\0' && strcmp(refs->arithmetic, arithmetic) != 0) refs++;
    snprintf(refs->arithmetic, sizeof refs->arithmetic, "%s", arithmetic);
    return refs;
}

static berth_status check_one(bench *b, const cli_placement *p, int32_t n_seqs, bench_reference *refs, berth_error *err)
{
    bench_load l;
    char who[200], arithmetic[160];
    berth_status st = bench_load_open(b->args, p, n_seqs, context_of(b), &l, err);
    if (st != BERTH_OK) return st;
    snprintf(who, sizeof who, "%s on %s, %d at once,", p->strategy, p->devices, (int)n_seqs);
    cli_placement_arithmetic(berth_engine_plan(l.engine), p, arithmetic, sizeof arithmetic);
    st = bench_check(&l, who, reference_of(refs, arithmetic), err);
    bench_load_close(&l);
    return st;
}

static berth_status check_all(bench *b, berth_error *err)
{
    if (b->placements.n * b->sizes.n == 1) return BERTH_OK;
    bench_reference *refs = calloc((size_t)b->placements.n + 1, sizeof *refs);
    if (refs == NULL) return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "no memory for the check of the placements");
    berth_status st = BERTH_OK;
    for (int32_t i = 0; st == BERTH_OK && i < b->placements.n; i++) {
        for (int32_t k = 0; st == BERTH_OK && k < b->sizes.n; k++)
            st = check_one(b, &b->placements.list[i], b->sizes.list[k], refs, err);
    }
    for (int32_t i = 0; i < b->placements.n; i++) bench_reference_deinit(&refs[i]);
    free(refs);
    return st;
}

static void say_environment(const bench *b)
{
    if (b->args->set[OPT_QUIET]) return;
    const bench_env *e = &b->env;
    fprintf(stderr, "berth %s (%s, %s), %s, %d cores, %d threads, kernels %s, load %.2f, %s\n", berth_version(),
            e->build, e->compiler, e->cpu[0] ? e->cpu : "unknown processor", (int)e->cores, (int)e->threads, e->kernels,
            e->load, e->date);
    if (bench_env_doubt(e) != NULL) fprintf(stderr, "berth: warning: %s\n", bench_env_doubt(e));
}

static berth_status run_all(bench *b, berth_error *err)
{
    berth_status st = bench_env_read(b->args->set[OPT_KERNELS] ? b->args->text[OPT_KERNELS] : NULL, &b->env, err);
    if (st != BERTH_OK) return st;
    say_environment(b);
    st = check_all(b, err);
    for (int32_t i = 0; st == BERTH_OK && i < b->placements.n; i++) {
        for (int32_t k = 0; st == BERTH_OK && k < b->sizes.n; k++)
            st = measure(b, &b->placements.list[i], b->sizes.list[k], err);
    }
    for (int32_t i = 0; b->n_written > 0 && i < b->n_outputs; i++) { /* also behind rows that stand alone */
        berth_buffer end = {0};
        berth_error late = {0};
        bench_write_end(b->formats[i], b->n_written, &end);
        const berth_status ended = put_out(i, false, &end, &late);
        if (st == BERTH_OK && ended != BERTH_OK) {
            st = ended;
            *err = late;
        }
    }
    return st;
}

cli_exit cmd_bench(const cli_args *a)
{
    berth_error err = {0};
    bench *b = calloc(1, sizeof *b);
    if (b == NULL) return BERTH_FAIL(&err, BERTH_OUT_OF_MEMORY, "no memory for a measurement"), cli_fail(&err);
    berth_status st = read_options(a, b, &err);
    if (st == BERTH_OK) st = run_all(b, &err);
    cli_placements_deinit(&b->placements);
    free(b);
    return st == BERTH_OK ? EXIT_OK : cli_fail(&err);
}
