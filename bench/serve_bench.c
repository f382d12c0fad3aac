/* serve_bench.c - many requests on one engine: what devices in a row, passes in flight and replicas are worth, and what
 * the scheduler costs.
 *
 *   serve_bench [--dir DIR] [--rounds N] [--layers N] [--tokens N] [--case N]
 *
 * A random bf16 Qwen2, hidden 1024, on virtual devices of one core each. A case is measured in turns, so that a
 * disturbance meets all alike: A, one device with so many rows in a pass; the probe, two engines like A on a core each
 * that know nothing of each other, the most that two cores give here; B. Where one stream goes over two devices the
 * probe is plain reading by two cores in turn (serve_turns.h). A line gives medians of the rounds' ratios.
 * Only the time in which every stream decodes counts (serve_load.h). Then a flood and a rest. Needs two cores. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/engine_model.h"
#include "bench/serve_load.h"
#include "bench/serve_turns.h"

enum { MOST_ROUNDS = 64, PASS_BYTES = 256 << 20 };

typedef struct row { /* of the table: B against A, each stream of A's passes of `rows` rows */
    int32_t rows;
    serve_setting b;
    bool in_turn; /* never two devices at once: the probe is two cores in turn */
} row;

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

static double scheduler_percent(const serve_engine *e)
{
    berth_core_stats s;
    berth_core_get_stats(e->core, &s);
    return s.busy_ns ? 100.0 * (double)s.loop_ns / (double)s.busy_ns : 0;
}

static double rate_of_two(serve_engine *both, int32_t rows, int32_t tokens)
{
    serve_streams *s[2];
    for (int i = 0; i < 2; i++) s[i] = serve_streams_begin(&both[i], rows, tokens);
    for (int i = 0; i < 2; i++) serve_streams_join(s[i]);
    double rate = serve_rate(s, 2);
    for (int i = 0; i < 2; i++) serve_streams_free(s[i]);
    return rate;
}

static void measure(const char *dir, const row *r, int32_t rounds, int32_t tokens)
{
    serve_engine both[2], b;
    double ratio[MOST_ROUNDS], probe[MOST_ROUNDS], reached[MOST_ROUNDS], best_a = 0, best_b = 0;
    static const char *const core[2] = {"cpu/cores=0", "cpu/cores=1"};
    for (int i = 0; i < 2; i++) {
        const serve_setting alone = {.devices = core[i], .strategy = "single", .n_seqs = r->rows, .passes = 1};
        serve_start(&both[i], dir, &alone, tokens, 0);
        serve_rate_alone(&both[i], 1, 4);
    }
    serve_start(&b, dir, &r->b, tokens, 0);
    serve_rate_alone(&b, 1, 4);
    serve_turns *turns = r->in_turn ? serve_turns_create(PASS_BYTES) : NULL;
    for (int32_t k = 0; k < rounds; k++) {
        double one = serve_rate_alone(&both[k % 2], r->rows, tokens);
        double two = turns ? one * serve_turns_ratio(turns, k % 2) : rate_of_two(both, r->rows, tokens);
        double now = serve_rate_alone(&b, r->b.streams, tokens);
        ratio[k] = now / one;
        probe[k] = two / one;
        reached[k] = now / two;
        if (one > best_a) best_a = one;
        if (now > best_b) best_b = now;
    }
    printf("%-54s %6.1f %6.1f  %5.3fx  %5.3fx  %5.3f  %.3f %%\n", r->b.name, best_a, best_b, median(ratio, rounds),
           median(probe, rounds), median(reached, rounds), scheduler_percent(&b));
    serve_turns_free(turns);
    for (int i = 0; i < 2; i++) serve_stop(&both[i]);
    serve_stop(&b);
}

static const char two[] = "cpu:0/cores=0,cpu:1/cores=1";
static const row rows[] = {
    {1, {"in a row, 1 stream", two, "optimal", 1, 1, 1}, .in_turn = true},
    {2, {"in a row, 4 streams in 2 passes of 2 rows", two, "optimal", 4, 2, 4}},
    {2, {"in a row, 6 streams in 3 passes of 2 rows", two, "optimal", 6, 3, 6}},
    {4, {"in a row, 8 streams in 2 passes of 4 rows", two, "optimal", 8, 2, 8}},
    {4, {"in a row, 12 streams in 3 passes of 4 rows", two, "optimal", 12, 3, 12}},
    {1, {"two replicas, a stream each", two, "replicate", 1, 1, 2}},
    {2, {"two replicas, 2 streams each", two, "replicate", 2, 1, 4}},
};

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
    int32_t rounds = 9, tokens = 64, only = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--dir") == 0) snprintf(dir, sizeof dir, "%s", argv[i + 1]);
        if (strcmp(argv[i], "--rounds") == 0) rounds = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--tokens") == 0) tokens = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--case") == 0) only = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--layers") == 0) shape.n_layers = atoi(argv[i + 1]);
    }
    if (rounds < 1 || rounds > MOST_ROUNDS || tokens < 4 || tokens > 1024 || shape.n_layers < 2) return 2;
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
    serve_must(engine_model_make(dir, &shape, &err), &err);
    serve_must(engine_model_make(small, &tiny, &err), &err);
    printf("%d layers of hidden %d; prompts of %d tokens, %d new ones; %d rounds\n", (int)shape.n_layers,
           (int)shape.hidden, SERVE_PROMPT, (int)tokens, (int)rounds);
    printf("%-54s %6s %6s  %6s  %6s  %5s  %s\n", "tokens a second, best; B/A; probe/A; B/probe; scheduler", "A", "B",
           "ratio", "probe", "part", "loop");
    for (int32_t i = 0; i < (int32_t)(sizeof rows / sizeof rows[0]); i++) {
        if (only && only != i + 1) continue;
        measure(dir, &rows[i], rounds, tokens);
        fflush(stdout);
    }
    if (only) return 0;
    serve_flood(small);
    serve_rest(small);
    return 0;
}
