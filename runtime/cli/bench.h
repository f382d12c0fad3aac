/* bench.h - what the parts of `berth bench` share: statistics, records and their formats, the environment, and requests whose
 * times are measured. */
#ifndef BERTH_CLI_BENCH_H
#define BERTH_CLI_BENCH_H

#include "cli/placements.h"
#include "cli/stages.h"

/* ---- statistics (bench_stats.c) -------------------------------------------------------------------------------------- */

typedef struct bench_samples {
    double *list; /* owned */
    size_t n, cap;
    bool failed; /* a sample was lost: no memory */
} bench_samples;

void bench_add(bench_samples *s, double x);
void bench_samples_deinit(bench_samples *s);
double bench_mean(const bench_samples *s);           /* 0 of nothing */
double bench_deviation(const bench_samples *s);      /* of a sample, n - 1, as llama-bench; 0 of fewer than 2 */
double bench_spread(const bench_samples *s);         /* of a population, n, as numpy.std and vLLM */
double bench_percentile(bench_samples *s, double p); /* 0 to 100, linear between neighbours, as numpy; sorts */

/* A fixed sequence of draws from a seed (splitmix64). */
typedef struct bench_random {
    uint64_t state;
} bench_random;
uint64_t bench_draw(bench_random *r);
double bench_uniform(bench_random *r);                  /* [0, 1) */
double bench_exponential(bench_random *r, double rate); /* seconds between arrivals of a Poisson process */

/* ---- tests (bench_tests.c) ------------------------------------------------------------------------------------------- */

enum { BENCH_NUMBERS = 256, BENCH_TESTS = 4096 };
typedef struct bench_numbers {
    int32_t list[BENCH_NUMBERS], n;
} bench_numbers;

/* Lists and ranges of a CLI_LIST option, or of `standard` where it is not given; each at least `min`. */
berth_status bench_numbers_read(const cli_args *a, cli_option o, const char *standard, int32_t min, bench_numbers *out,
                                berth_error *err);

typedef struct bench_test {
    char name[64];           /* as llama-bench writes it: "pp512 @ d4096" */
    int32_t n_prompt, n_gen; /* n_prompt BENCH_PICTURE: the picture */
    int32_t n_depth;         /* tokens in the context before */
} bench_test;

typedef struct bench_tests {
    bench_test list[BENCH_TESTS];
    int32_t n;
    int32_t n_prompt, n_gen; /* the first lengths: of serving */
} bench_tests;

/* May be none. */
berth_status bench_tests_read(const cli_args *a, bench_tests *out, berth_error *err);

/* ---- records (bench_record.c) ---------------------------------------------------------------------------------------- */

typedef enum bench_format { BENCH_MD, BENCH_CSV, BENCH_JSON, BENCH_JSONL, BENCH_SQL } bench_format;
berth_status bench_format_read(cli_option o, const char *name, bench_format *out, berth_error *err);

typedef enum bench_kind { BENCH_TEXT, BENCH_NUMBER, BENCH_LIST } bench_kind;
typedef struct bench_cell {
    const char *key;   /* static; NULL = for md alone */
    const char *title; /* its column in md; static; NULL = not shown there */
    bench_kind kind;
    char *value; /* owned; a list is JSON */
} bench_cell;

enum { BENCH_CELLS = 96 };
typedef struct bench_record { /* the same keys in the same order in every record of a run */
    bench_cell cells[BENCH_CELLS];
    int32_t n;
    bool failed; /* no memory */
} bench_record;

void bench_put_text(bench_record *r, const char *key, const char *title, const char *value);
void bench_put(bench_record *r, const char *key, const char *title, bench_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
void bench_put_samples(bench_record *r, const char *key, const bench_samples *s);
void bench_record_deinit(bench_record *r);

/* One record; `index` from 0, the first one brings the head. `table` is the name for sql. */
void bench_write(const bench_record *r, bench_format format, size_t index, const char *table, berth_buffer *out);
void bench_write_end(bench_format format, size_t n, berth_buffer *out);

/* ---- environment (bench_env.c) --------------------------------------------------------------------------------------- */

typedef struct bench_env {
    char cpu[96], isa[64], kernels[32], build[64], compiler[64], date[32];
    int32_t cores, threads;
    double load; /* of the last minute, before the first measurement */
    uint64_t memory_bytes;
} bench_env;

berth_status bench_env_read(const char *kernels, bench_env *out, berth_error *err);
void bench_env_put(const bench_env *e, bench_record *r);

/* What makes numbers of this build or moment doubtful, as a sentence; NULL = nothing. */
const char *bench_env_doubt(const bench_env *e);

/* ---- requests (bench_load.c) ----------------------------------------------------------------------------------------- */

typedef struct bench_load { /* an engine under measurement */
    cli_setup setup;
    berth_engine *engine;
    berth_queue *queue;
    int32_t n_seqs;
    int32_t form_tokens;      /* tokens of a prompt beside its text */
    const char *unit;         /* text of one token, however often it is repeated; static */
    int32_t speculate;        /* --speculate */
    const char *image;        /* the picture of BENCH_PICTURE, or NULL; borrowed */
    berth_session **sessions; /* owned; [n_seqs] that hold the context of tests at a depth; NULL = not needed yet */
    int32_t tail_tokens;      /* tokens of a prompt behind its text; with `sessions` */
} bench_load;

/* Opens model, plan and engine under one placement, for n_seqs requests of at most `context` tokens. */
berth_status bench_load_open(const cli_args *a, const cli_placement *p, int32_t n_seqs, int64_t context,
                             bench_load *out, berth_error *err);
void bench_load_close(bench_load *l);

/* A prompt of exactly n tokens, the chat form included, or with BENCH_PICTURE the picture and a short question. Error:
 * BERTH_INVALID_ARGUMENT when the form alone has more tokens. */
enum { BENCH_PICTURE = -1 };
berth_status bench_prompt(const bench_load *l, int32_t n_tokens, cli_conversation *out, berth_error *err);

/* A greedy request that generates n_new tokens whatever they are, and takes nothing from a cache. */
void bench_request(const bench_load *l, const cli_conversation *c, int32_t n_new, berth_request *out);

typedef struct bench_rep {        /* one repetition: all its requests together; nanoseconds */
    int64_t prefill_ns;           /* from the first prompt's first pass to the last prompt's end */
    int64_t decode_ns;            /* from the first first token to the last token */
    int64_t both_ns;              /* from the first prompt's first pass to the last token */
    int64_t n_prompt, n_decoded;  /* tokens; of each answer all but the first, which the prefill makes */
    int64_t stages[CLI_N_STAGES]; /* of one request */
    int32_t n_tiles;
} bench_rep;

typedef struct bench_size { /* of a request */
    int32_t n_prompt;       /* 0: the shortest prompt there is, or at a depth that context itself */
    int32_t n_new;
    int32_t n_depth; /* tokens that are in the context already and are not counted */
} bench_size;

/* Runs n_seqs requests of this size at once to their end. */
berth_status bench_run(bench_load *l, const bench_size *size, bench_rep *out, berth_error *err);

/* ---- checking (bench_reference.c, bench_check.c) --------------------------------------------------------------------- */

enum { BENCH_CHECKS = 4 };
typedef struct bench_reference { /* greedy tokens that every placement of one arithmetic must give */
    char arithmetic[160];
    int32_t *ids[BENCH_CHECKS]; /* owned; NULL = not known yet */
    int32_t n[BENCH_CHECKS];
    char who[BENCH_CHECKS][200]; /* gave them */
} bench_reference;

/* Sets the tokens of a check, or compares with them. Error: BERTH_MISMATCH naming both, the token and its place. */
berth_status bench_reference_take(bench_reference *ref, int32_t check, const char *who, const int32_t *ids, int32_t n,
                                  berth_error *err);
void bench_reference_deinit(bench_reference *ref);

/* Asks the checks of an engine, n_seqs at once. Errors: as bench_reference_take. */
berth_status bench_check(bench_load *l, const char *who, bench_reference *ref, berth_error *err);

/* ---- serving (bench_serve.c) ----------------------------------------------------------------------------------------- */

typedef struct bench_serving {
    int32_t n_requests, n_prompt, n_new;
    int32_t max_concurrency; /* requests under way at most; 0 = no limit of ours */
    double rate;             /* requests a second; infinity = all at once */
    uint64_t seed;
} bench_serving;

typedef struct bench_latencies { /* milliseconds; vLLM's words */
    bench_samples ttft, tpot, itl, e2el;
    int64_t n_completed, n_failed, n_input, n_output;
    double seconds;
    char first_failure[300];
} bench_latencies;

berth_status bench_serve(bench_load *l, const bench_serving *s, bench_latencies *out, berth_error *err);
void bench_latencies_deinit(bench_latencies *l);
void bench_latencies_put(bench_latencies *l, bench_record *r);

#endif
