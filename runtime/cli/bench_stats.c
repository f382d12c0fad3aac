/* bench_stats.c - samples, their mean, spread and percentiles, and draws from a seed. */
#include <math.h>
#include <stdlib.h>

#include "cli/bench.h"

void bench_add(bench_samples *s, double x)
{
    if (s->n == s->cap) {
        const size_t cap = s->cap ? s->cap * 2 : 64;
        double *more = realloc(s->list, cap * sizeof *more);
        if (more == NULL) {
            s->failed = true;
            return;
        }
        s->list = more;
        s->cap = cap;
    }
    s->list[s->n++] = x;
}

void bench_samples_deinit(bench_samples *s)
{
    free(s->list);
    *s = (bench_samples){0};
}

double bench_mean(const bench_samples *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->n; i++) sum += s->list[i];
    return s->n > 0 ? sum / (double)s->n : 0;
}

static double squares(const bench_samples *s)
{
    const double mean = bench_mean(s);
    double sum = 0;
    for (size_t i = 0; i < s->n; i++) sum += (s->list[i] - mean) * (s->list[i] - mean);
    return sum;
}

double bench_deviation(const bench_samples *s)
{
    return s->n > 1 ? sqrt(squares(s) / (double)(s->n - 1)) : 0;
}

double bench_spread(const bench_samples *s)
{
    return s->n > 0 ? sqrt(squares(s) / (double)s->n) : 0;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_percentile(bench_samples *s, double p)
{
    if (s->n == 0) return 0;
    qsort(s->list, s->n, sizeof *s->list, ascending);
    const double at = p / 100 * (double)(s->n - 1);
    const size_t low = (size_t)at;
    if (low + 1 >= s->n) return s->list[s->n - 1];
    return s->list[low] + (at - (double)low) * (s->list[low + 1] - s->list[low]);
}

/* Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", figure 16. */
uint64_t bench_draw(bench_random *r)
{
    uint64_t z = r->state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

double bench_uniform(bench_random *r)
{
    return (double)(bench_draw(r) >> 11) * 0x1p-53;
}

double bench_exponential(bench_random *r, double rate)
{
    return -log1p(-bench_uniform(r)) / rate;
}
