/* load_bench.c - how fast readers get a model's weights out of its files into memory for a GPU, without the GPU: what is
 * sent goes nowhere. Beside it the rate of memcpy by as many threads.
 *
 *   load_bench DIR [--dtype f16|bf16|f32] [--readers N]...     twice for each number: files cold (if the system lets them go), then warm
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "exec/load.h"

enum { MOST = 64, SLOTS = 2, ALIGN = 256, COPY_BYTES = 64 << 20, COPIES = 8 };

typedef struct lane {
    uint8_t *slots;
    size_t bytes;
    int next;
} lane;

static berth_status lane_open(void *user, size_t piece_bytes, void **out_lane, berth_error *err)
{
    (void)user;
    lane *l = calloc(1, sizeof *l);
    uint8_t *slots = aligned_alloc(4096, (SLOTS * piece_bytes + 4095) & ~(size_t)4095);
    if (!l || !slots) {
        free(l);
        free(slots);
        return BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "slots of %zu bytes", piece_bytes);
    }
    memset(slots, 1, SLOTS * piece_bytes); /* pinned memory is there from the beginning */
    *l = (lane){.slots = slots, .bytes = piece_bytes};
    *out_lane = l;
    return BERTH_OK;
}

static berth_status lane_next(void *arg, void **out, berth_error *err)
{
    (void)err;
    lane *l = arg;
    *out = l->slots + (size_t)l->next * l->bytes;
    l->next = (l->next + 1) % SLOTS;
    return BERTH_OK;
}

static berth_status lane_send(void *arg, void *dst, size_t bytes, berth_error *err)
{
    (void)arg;
    (void)dst;
    (void)bytes;
    (void)err;
    return BERTH_OK;
}

static berth_status lane_close(void *arg, berth_error *err)
{
    (void)err;
    lane *l = arg;
    free(l->slots);
    free(l);
    return BERTH_OK;
}

static const berth_load_way nowhere = {lane_open, lane_next, lane_send, lane_close};

/* ---- the probe ----------------------------------------------------------------------------------------------------- */

static void *copy_body(void *arg)
{
    uint8_t *from = arg, *to = from + COPY_BYTES;
    for (int i = 0; i < COPIES; i++) memcpy(to, from, COPY_BYTES);
    return NULL;
}

static double copy_rate(int32_t n)
{
    pthread_t threads[MOST];
    uint8_t *memory = malloc((size_t)n * 2 * COPY_BYTES);
    if (!memory) return 0;
    memset(memory, 1, (size_t)n * 2 * COPY_BYTES);
    int64_t began = berth_now_ns();
    int32_t runs = 0;
    while (runs < n && pthread_create(&threads[runs], NULL, copy_body, memory + (size_t)runs * 2 * COPY_BYTES) == 0)
        runs++;
    for (int32_t i = 0; i < runs; i++) pthread_join(threads[i], NULL);
    double rate = (double)runs * COPIES * COPY_BYTES / (double)(berth_now_ns() - began);
    free(memory);
    return rate;
}

/* ---- a load -------------------------------------------------------------------------------------------------------- */

typedef struct setup {
    berth_model_data *model;
    bool *wanted;
    berth_dtype dtype;
} setup;

static berth_status load_once(const setup *s, int32_t n_readers, double *out_rate, berth_error *err)
{
    static const berth_weight_rules rules = {.copies_all = true, .align = ALIGN};
    const berth_load_options options = {.n_readers = n_readers, .n_cores = MOST};
    const berth_load_target target = {.name = "nowhere", .way = &nowhere};
    uint64_t bytes, copied;
    berth_weights_measure(s->model, s->wanted, s->dtype, &rules, &bytes, &copied);
    berth_arena arena;
    berth_weights weights = {0};
    berth_load *load = NULL;
    /* addresses that nobody follows */
    berth_status st =
        berth_arena_init_over(&arena, "nowhere", (void *)(uintptr_t)ALIGN, copied, ALIGN, UINT64_MAX, err);
    if (st == BERTH_OK) st = berth_weights_init(&weights, s->model, s->wanted, s->dtype, &rules, &arena, NULL, err);
    if (st == BERTH_OK) st = berth_load_create(&options, &load, err);
    if (st == BERTH_OK) st = berth_load_add(load, &weights, &target, err);
    int64_t began = berth_now_ns();
    if (st == BERTH_OK) st = berth_load_run(load, err);
    if (st == BERTH_OK) *out_rate = (double)berth_load_bytes(load) / (double)(berth_now_ns() - began);
    berth_load_destroy(load);
    berth_weights_deinit(&weights);
    return st;
}

static void forget_files(const setup *s)
{
    for (int32_t i = 0; i < berth_model_data_n_shards(s->model); i++)
        (void)posix_fadvise(berth_model_data_shard(s->model, i)->fd, 0, 0, POSIX_FADV_DONTNEED);
}

static berth_status measure(const setup *s, int32_t n_readers, berth_error *err)
{
    double cold = 0, warm = 0;
    forget_files(s);
    berth_status st = load_once(s, n_readers, &cold, err);
    for (int i = 0; st == BERTH_OK && i < 3; i++) {
        double rate;
        st = load_once(s, n_readers, &rate, err);
        if (st == BERTH_OK && rate > warm) warm = rate;
    }
    if (st == BERTH_OK) printf("%7d  %10.2f  %10.2f  %10.2f\n", (int)n_readers, cold, warm, copy_rate(n_readers));
    return st;
}

int main(int argc, char **argv)
{
    setup s = {.dtype = BERTH_F32};
    int32_t readers[MOST], n = 0;
    berth_error err = {0};
    for (int i = 2; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--readers") == 0 && n < MOST) readers[n++] = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--dtype") == 0)
            s.dtype = strcmp(argv[i + 1], "f16") == 0    ? BERTH_F16
                      : strcmp(argv[i + 1], "bf16") == 0 ? BERTH_BF16
                                                         : BERTH_F32;
    }
    if (argc < 2 || argc % 2 != 0) {
        fputs("usage: load_bench DIR [--dtype f16|bf16|f32] [--readers N]...   (f32: as stored)\n", stderr);
        return 2;
    }
    if (n == 0)
        for (int32_t r = 1; r <= 8; r *= 2) readers[n++] = r;
    berth_status st = berth_model_data_open(argv[1], NULL, &s.model, &err);
    if (st == BERTH_OK) {
        const size_t n_params = (size_t)berth_model_data_n_params(s.model);
        s.wanted = calloc(n_params + 1, sizeof *s.wanted);
        for (size_t i = 0; s.wanted && i < n_params; i++) s.wanted[i] = true;
        st = s.wanted ? BERTH_OK : BERTH_FAIL(&err, BERTH_OUT_OF_MEMORY, "%zu weights", n_params);
    }
    printf("readers   cold GB/s   warm GB/s  memcpy GB/s\n");
    for (int32_t i = 0; st == BERTH_OK && i < n; i++)
        st = readers[i] >= 1 && readers[i] <= MOST
                 ? measure(&s, readers[i], &err)
                 : BERTH_FAIL(&err, BERTH_INVALID_ARGUMENT, "--readers: from 1 to %d", MOST);
    if (st != BERTH_OK) fprintf(stderr, "load_bench: %s\n", err.message);
    free(s.wanted);
    berth_model_data_release(s.model);
    return st == BERTH_OK ? 0 : 1;
}
