/* kernel_bench.c - the CPU kernels against what the machine itself can do.
 *
 *   kernel_bench [--json] [--set NAME] [--threads N] [--rounds N] [--ops] [--own-time]
 *
 * Probes: fused multiply-adds in registers, and the fastest plain read of the same weights, on all threads. Measures: one
 * decode step (1 token, 512 in the cache), a prefill of 512 tokens, a vision tower's tile, all with bf16 weights and all
 * their ops. In each round every measure runs right after its probe, and the ratio is of that pair. Printed: medians, and
 * the worst round. --ops also gives the time of each kind of op. --own-time: one thread, in the time it had the processor,
 * for machines that are busy with other work. Shapes: Qwen2.5-1.5B (fewer layers, the whole head) and InternViT-300M (fewer
 * layers). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/kernel_tape.h"
#include "kernels/test_team.h"
#include "probe/cpu.h"

enum { MAX_ROUNDS = 99 };

typedef struct options {
    const char *set;
    int32_t threads, rounds;
    bool json, ops, own_time;
} options;

typedef struct bench {
    berth_cpu_probe probe;
    bool own_time;
} bench;

typedef struct series {
    double value[MAX_ROUNDS];
    int n;
} series;

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(series s)
{
    qsort(s.value, (size_t)s.n, sizeof *s.value, ascending);
    return s.value[s.n / 2];
}

static double least(series s)
{
    qsort(s.value, (size_t)s.n, sizeof *s.value, ascending);
    return s.value[0];
}

static double seconds_of(const bench *b, berth_elapsed time)
{
    return b->own_time ? time.own : time.wall;
}

static double fma_rate(bench *b)
{
    double flops, seconds = seconds_of(b, berth_cpu_probe_fma(&b->probe, &flops));
    return flops / seconds;
}

static double tape_seconds(const bench *b, const kernel_tape *t)
{
    berth_elapsed begin = berth_elapsed_now();
    kernel_tape_run(t);
    return seconds_of(b, berth_elapsed_since(begin));
}

static void print_ops(const char *what, const kernel_tape *t)
{
    double ns[BERTH_OP_KIND_COUNT] = {0}, total = 0;
    for (int32_t i = 0; i < t->n_calls; i++) {
        int64_t begin = berth_now_ns();
        t->set->run[t->calls[i].kind](&t->calls[i]);
        ns[t->calls[i].kind] += (double)(berth_now_ns() - begin);
    }
    for (int k = 0; k < BERTH_OP_KIND_COUNT; k++) total += ns[k];
    for (int k = 0; k < BERTH_OP_KIND_COUNT; k++)
        if (ns[k] > 0)
            printf("  %s %-16s %9.3f ms %5.1f %%\n", what, berth_op_infos[k].name, ns[k] * 1e-6, 100 * ns[k] / total);
}

typedef struct measures {
    series fma, read, decode, decode_ratio, prefill, prefill_ratio, vision, vision_ratio;
} measures;

static void add(series *s, double value)
{
    s->value[s->n++] = value;
}

static void measure(bench *b, int32_t rounds, const kernel_tape *decode, const kernel_tape *prefill,
                    const kernel_tape *vision, measures *m)
{
    for (int32_t i = 0; i < rounds; i++) {
        double read = seconds_of(b, berth_cpu_probe_read(&b->probe)), step = tape_seconds(b, decode);
        double peak = fma_rate(b), prompt = tape_seconds(b, prefill);
        double peak_again = fma_rate(b), tile = tape_seconds(b, vision);
        add(&m->read, (double)b->probe.bytes / read);
        add(&m->decode, (double)b->probe.bytes / step);
        add(&m->decode_ratio, read / step);
        add(&m->fma, peak);
        add(&m->prefill, prefill->flops / prompt);
        add(&m->prefill_ratio, prefill->flops / prompt / peak);
        add(&m->vision, vision->flops / tile);
        add(&m->vision_ratio, vision->flops / tile / peak_again);
    }
}

static void report(const options *o, const bench *b, const char *set, const measures *m)
{
    static const char *const names[] = {"decode", "prefill_512", "vision_tile"};
    const series *values[] = {&m->decode, &m->prefill, &m->vision};
    const series *ratios[] = {&m->decode_ratio, &m->prefill_ratio, &m->vision_ratio};
    if (o->json) {
        printf("{\"set\": \"%s\", \"own_time\": %s, \"threads\": %d, \"rounds\": %d, \"probe\": \"%s\", \"read_way\": "
               "%d, \"read_gb_s\": "
               "%.3f, \"fma_gflop_s\": %.2f",
               set, o->own_time ? "true" : "false", b->probe.team->n_threads, m->fma.n, b->probe.probe->name,
               b->probe.read_way, median(m->read) * 1e-9, median(m->fma) * 1e-9);
        for (int i = 0; i < 3; i++)
            printf(", \"%s\": {\"%s\": %.3f, \"ratio\": %.4f, \"worst\": %.4f}", names[i], i ? "gflop_s" : "gb_s",
                   median(*values[i]) * 1e-9, median(*ratios[i]), least(*ratios[i]));
        printf("}\n");
        return;
    }
    printf("set %s, %d threads%s, %d rounds, medians\n", set, b->probe.team->n_threads,
           o->own_time ? " in its own time" : "", m->fma.n);
    printf("probe read   %8.2f GB/s     (way %d, %.0f MB)\n", median(m->read) * 1e-9, b->probe.read_way,
           (double)b->probe.bytes * 1e-6);
    printf("probe fma    %8.1f GFLOP/s  (%s)\n", median(m->fma) * 1e-9, b->probe.probe->name);
    for (int i = 0; i < 3; i++)
        printf("%-12s %8.2f %s  %5.1f %% of the probe, worst round %5.1f %%\n", names[i], median(*values[i]) * 1e-9,
               i ? "GFLOP/s" : "GB/s   ", 100 * median(*ratios[i]), 100 * least(*ratios[i]));
}

static bool parse(int argc, char **argv, options *o)
{
    *o = (options){.threads = (int32_t)sysconf(_SC_NPROCESSORS_ONLN), .rounds = 7};
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--json") == 0)
            o->json = true;
        else if (strcmp(argv[i], "--ops") == 0)
            o->ops = true;
        else if (strcmp(argv[i], "--own-time") == 0)
            o->own_time = true;
        else if (strcmp(argv[i], "--set") == 0 && more)
            o->set = argv[++i];
        else if (strcmp(argv[i], "--threads") == 0 && more)
            o->threads = atoi(argv[++i]);
        else if (strcmp(argv[i], "--rounds") == 0 && more)
            o->rounds = atoi(argv[++i]);
        else
            return false;
    }
    if (o->own_time) o->threads = 1;
    return o->threads > 0 && o->threads <= 64 && o->rounds > 0 && o->rounds <= MAX_ROUNDS;
}

int main(int argc, char **argv)
{
    static kernel_tape decode, prefill, vision;
    static measures m;
    options o;
    if (!parse(argc, argv, &o)) {
        fprintf(stderr, "usage: kernel_bench [--json] [--ops] [--own-time] [--set NAME] [--threads N] [--rounds N]\n");
        return 2;
    }
    const berth_kernels *set = berth_kernels_cpu(o.set);
    berth_team *team = berth_test_team_create(o.threads);
    if (!set || !team) {
        fprintf(stderr, "kernel_bench: this machine cannot run set \"%s\"\n", o.set ? o.set : "(default)");
        return 1;
    }
    kernel_language_shape shape = {1536, 12, 2, 128, 8960, 151674, 6, 1, 512};
    decode.set = prefill.set = vision.set = set;
    decode.team = prefill.team = vision.team = team;
    decode.dtype = prefill.dtype = vision.dtype = BERTH_BF16;
    kernel_tape_language(&decode, &shape, NULL);
    shape.n_layers = 2, shape.n_tokens = 512, shape.n_before = 0, shape.vocab = 1024;
    kernel_tape_language(&prefill, &shape, &decode);
    kernel_tape_vision(&vision, &(kernel_vision_shape){1024, 16, 4096, 448, 14, 2, 1, 1536});
    bench b = {.own_time = o.own_time};
    berth_cpu_probe_init(&b.probe, team, decode.weights, decode.weight_bytes);
    measure(&b, o.rounds, &decode, &prefill, &vision, &m);
    report(&o, &b, set->name, &m);
    if (o.ops) print_ops("decode ", &decode), print_ops("prefill", &prefill), print_ops("vision ", &vision);
    berth_test_team_destroy(team);
    kernel_tape_deinit(&decode);
    kernel_tape_deinit(&prefill);
    kernel_tape_deinit(&vision);
    return 0;
}
