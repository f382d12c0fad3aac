/* bench_env.c - where and with what a measurement was made. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/status.h"
#include "cli/bench.h"
#include "kernels/ops.h"
#include "machine/machine.h"

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

berth_status bench_env_read(const char *kernels, bench_env *out, berth_error *err)
{
    *out = (bench_env){.load = -1};
    berth_computer c;
    berth_status st = berth_computer_read(&c, err);
    if (st != BERTH_OK) return st;
    const berth_kernels *k = berth_kernels_cpu(kernels);
    const time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc) != NULL) strftime(out->date, sizeof out->date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    snprintf(out->cpu, sizeof out->cpu, "%s", c.cpu_model);
    snprintf(out->isa, sizeof out->isa, "%s", c.isa);
    snprintf(out->kernels, sizeof out->kernels, "%s", k != NULL ? k->name : "none");
    snprintf(out->build, sizeof out->build, "%s", BERTH_BUILD_TYPE);
    snprintf(out->compiler, sizeof out->compiler, "%s", COMPILER);
    out->cores = c.cores;
    out->threads = c.threads;
    out->memory_bytes = c.memory_bytes;
    if (getloadavg(&out->load, 1) != 1) out->load = -1;
    return BERTH_OK;
}

void bench_env_put(const bench_env *e, bench_record *r)
{
    bench_put_text(r, "build_version", NULL, berth_version());
    bench_put_text(r, "build_type", NULL, e->build);
    bench_put_text(r, "compiler", NULL, e->compiler);
    bench_put_text(r, "cpu_info", NULL, e->cpu);
    bench_put_text(r, "cpu_isa", NULL, e->isa);
    bench_put_text(r, "kernels", NULL, e->kernels);
    bench_put(r, "cpu_cores", NULL, BENCH_NUMBER, "%d", (int)e->cores);
    bench_put(r, "cpu_threads", NULL, BENCH_NUMBER, "%d", (int)e->threads);
    bench_put(r, "memory_bytes", NULL, BENCH_NUMBER, "%llu", (unsigned long long)e->memory_bytes);
    bench_put(r, "load_average", NULL, BENCH_NUMBER, "%.2f", e->load);
    bench_put_text(r, "test_time", NULL, e->date);
}

const char *bench_env_doubt(const bench_env *e)
{
    if (strstr(e->build, "Debug") != NULL || strstr(e->build, "sanitize") != NULL)
        return "this is a build for finding mistakes; its times mean little";
    if (e->load > 0.3 * e->threads) return "other programs keep this computer busy; times will be too long and vary";
    return NULL;
}
