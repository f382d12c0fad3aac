/* serve_turns.c - see serve_turns.h. */
#include "bench/serve_turns.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "bench/serve_load.h"
#include "exec/team.h"
#include "probe/cpu.h"

enum { PASSES = 24, BLOCK = 16384 };

struct serve_turns {
    char *data;
    size_t half;
    const berth_lane_probe *probe;
    _Atomic int32_t n_read; /* halves, in all */
    bool alone;             /* one reader reads both halves */
    float sum;              /* so that what is read is wanted */
};

typedef struct reader {
    serve_turns *turns;
    int32_t core;
} reader;

serve_turns *serve_turns_create(size_t bytes)
{
    serve_turns *t = calloc(1, sizeof *t);
    if (!t) exit(1);
    t->half = (bytes / 2 + BLOCK - 1) / BLOCK * BLOCK;
    t->data = aligned_alloc(BLOCK, 2 * t->half);
    if (!t->data) exit(1);
    memset(t->data, 0, 2 * t->half);
    t->probe = berth_lane_probe_widest();
    return t;
}

void serve_turns_free(serve_turns *t)
{
    if (!t) return;
    free(t->data);
    free(t);
}

static void *read_in_turn(void *arg)
{
    const reader *r = arg;
    serve_turns *t = r->turns;
    for (;;) {
        int32_t n = atomic_load(&t->n_read);
        if (n == 2 * PASSES) return NULL;
        if (!t->alone && n % 2 != r->core) continue;
        t->sum += t->probe->read(t->data + (size_t)(n % 2) * t->half, t->half, 1);
        atomic_store(&t->n_read, n + 1);
    }
}

/* Seconds of all passes by cores [first, first + n). */
static double seconds_on(serve_turns *t, int32_t first, int32_t n)
{
    reader readers[2];
    unsigned long threads[2];
    berth_error err = {0};
    atomic_store(&t->n_read, 0);
    t->alone = n == 1;
    int64_t begin = berth_now_ns();
    for (int32_t i = 0; i < n; i++) {
        readers[i] = (reader){.turns = t, .core = first + i};
        serve_must(berth_thread_start(&threads[i], read_in_turn, &readers[i], &readers[i].core, 1, NULL, &err), &err);
    }
    for (int32_t i = 0; i < n; i++) berth_thread_join(threads[i]);
    return (double)(berth_now_ns() - begin) * 1e-9;
}

double serve_turns_ratio(serve_turns *t, int32_t core)
{
    double alone = seconds_on(t, core, 1), in_turn = seconds_on(t, 0, 2);
    return alone / in_turn;
}
