/* load_test.c - weights come to every device as they stand in the files, whoever reads them and in whatever order the GPUs
 * carry out what was queued; whatever fails on the way ends all readers, says why, and leaves nothing behind. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exec/backend.h"
#include "failing.h"
#include "fixture.h"
#include "random.h"

enum { MOST_UNITS = 4 };

/* ---- threads that cannot be had ------------------------------------------------------------------------------------ */

static _Atomic int thread_fails_at; /* 1 = the next */

int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*body)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*body)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*body)(void *), void *arg)
{
    if (atomic_load(&thread_fails_at) > 0 && atomic_fetch_sub(&thread_fails_at, 1) == 1) return EAGAIN;
    return __real_pthread_create(t, a, body, arg);
}

/* ---- devices with places for a model's weights, shared out among them ---------------------------------------------- */

typedef struct bed {
    golden_model g;
    berth_machine machine;
    berth_cuda *cuda;
    berth_unit units[MOST_UNITS];
    bool *wanted[MOST_UNITS];
    berth_dtype compute;
    size_t used[MOST_UNITS]; /* of the arena, before anything is loaded */
    uint64_t charged[MOST_UNITS], bytes;
    berth_load_options options;
    pthread_t thread; /* that loads */
    uint64_t told;
} bed;

static void seen(void *user, uint64_t bytes)
{
    bed *b = user;
    assert_true(pthread_equal(b->thread, pthread_self()));
    assert_true(bytes > 0);
    b->told += bytes;
}

static void bed_open(bed *b, const char *model, const char *devices, berth_dtype compute)
{
    berth_error err = {0};
    *b = (bed){.compute = compute, .thread = pthread_self()};
    b->options = (berth_load_options){.n_cores = 8, .watch = {seen, b}};
    golden_open(&b->g, model);
    golden_must(berth_machine_parse(devices, &b->machine, &err), &err, devices);
    golden_must(berth_cuda_open(NULL, &b->cuda, &err), &err, "driver");
    const int32_t n = berth_model_data_n_params(b->g.data);
    for (int32_t d = 0; d < b->machine.n_devices; d++) {
        berth_unit *u = &b->units[d];
        u->info = &b->machine.devices[d];
        u->backend = berth_backend_of(u->info->kind);
        b->wanted[d] = calloc((size_t)n, sizeof(bool));
        for (int32_t i = 0; i < n; i++) b->wanted[d][i] = i % b->machine.n_devices == d || i % 5 == 0;
        uint64_t bytes, copied;
        berth_weights_measure(b->g.data, b->wanted[d], compute, &u->backend->weights, &bytes, &copied);
        const berth_unit_options o = {.cuda = b->cuda, .arena_bytes = copied, .kernels = berth_kernels_ref()};
        golden_must(u->backend->open(u, &o, &err), &err, "open");
        b->used[d] = u->arena.used;
        b->charged[d] = u->arena.charged;
    }
}

static void bed_forget(bed *b)
{
    for (int32_t d = 0; d < b->machine.n_devices; d++) {
        berth_weights_deinit(&b->units[d].weights);
        b->units[d].arena.used = b->used[d];
        b->units[d].arena.charged = b->charged[d];
    }
}

static void bed_close(bed *b)
{
    bed_forget(b);
    for (int32_t d = 0; d < b->machine.n_devices; d++) {
        b->units[d].backend->close(&b->units[d]);
        free(b->wanted[d]);
    }
    berth_cuda_close(b->cuda);
    berth_machine_deinit(&b->machine);
    golden_close(&b->g);
    world_is_empty("loading");
}

static berth_status bed_load(void *arg, berth_error *err)
{
    bed *b = arg;
    berth_load *load = NULL;
    b->told = b->bytes = 0;
    bed_forget(b);
    berth_status st = berth_load_create(&b->options, &load, err);
    for (int32_t d = 0; st == BERTH_OK && d < b->machine.n_devices; d++) {
        berth_unit *u = &b->units[d];
        st = u->backend->load(u, b->g.data, b->wanted[d], b->compute, load, err);
    }
    if (st == BERTH_OK) st = berth_load_run(load, err);
    berth_load_destroy(load);
    return st;
}

/* ---- what should be there ------------------------------------------------------------------------------------------ */

static void expect(const golden_model *g, const berth_param *p, berth_dtype to, uint8_t *out, size_t n)
{
    uint8_t *stored = malloc(p->n_bytes);
    const int fd = berth_model_data_shard(g->data, p->shard)->fd;
    assert_int_equal(pread(fd, stored, p->n_bytes, (off_t)p->offset), (ssize_t)p->n_bytes);
    for (size_t i = 0; i < n; i++) {
        float wide;
        berth_widen_f32(&wide, stored + i * berth_dtype_size(p->dtype), p->dtype, 1);
        const uint16_t half = to == BERTH_F16 ? berth_f32_to_f16(wide) : berth_f32_to_bf16(wide);
        if (to == p->dtype)
            memcpy(out + i * berth_dtype_size(to), stored + i * berth_dtype_size(to), berth_dtype_size(to));
        else
            memcpy(out + i * 2, &half, 2);
    }
    free(stored);
}

/* Differing bytes over all devices. */
static uint64_t bed_compare(bed *b)
{
    uint64_t differ = 0;
    for (int32_t d = 0; d < b->machine.n_devices; d++) {
        berth_unit *u = &b->units[d];
        for (int32_t i = 0; i < berth_model_data_n_params(b->g.data); i++) {
            const berth_param *p = berth_model_data_param(b->g.data, i);
            assert_int_equal(u->weights.data[i] != NULL, b->wanted[d][i]);
            if (!b->wanted[d][i]) continue;
            const berth_dtype to = berth_weights_dtype(&u->weights, p);
            const size_t n = p->n_bytes / berth_dtype_size(p->dtype), bytes = n * berth_dtype_size(to);
            uint8_t *want = malloc(bytes), *got = malloc(bytes);
            berth_error err = {0};
            expect(&b->g, p, to, want, n);
            golden_must(u->backend->read(u, got, u->weights.data[i], bytes, &err), &err, "read");
            for (size_t k = 0; k < bytes; k++) differ += want[k] != got[k];
            if (u->weights.own_place[i]) b->bytes += bytes;
            free(want);
            free(got);
        }
    }
    return differ;
}

/* ---- tests --------------------------------------------------------------------------------------------------------- */

static void all_bytes_arrive_whoever_reads(void **state)
{
    (void)state;
    static const struct {
        const char *world, *devices, *model;
        berth_dtype compute;
        int32_t n_readers, n_cores;
        size_t piece_bytes;
    } rows[] = {{"gpus=1", "cuda:0", "ivl-native", BERTH_F32, 1, 8, 0},
                {"gpus=1", "cuda:0", "ivl-native", BERTH_F32, 0, 1, 4096},
                {"gpus=1", "cuda:0", "ivl-native", BERTH_F32, 0, 8, 0},
                {"gpus=1", "cuda:0", "ivl-native", BERTH_F32, 3, 8, 1000},
                {"gpus=1", "cuda:0", "ivl-native", BERTH_F16, 8, 8, 4096},
                {"gpus=2", "cuda:0,cuda:1", "ivl-tied", BERTH_BF16, 2, 8, 513},
                {"gpus=2", "cuda:0,cuda:1", "ivl-tied", BERTH_F32, 1, 8, 4096},
                {"gpus=2", "cuda:0*2,cuda:1", "ivl-remote", BERTH_F16, 0, 2, 65536},
                {"gpus=1", "cuda:0,cpu", "ivl-native", BERTH_F16, 4, 8, 4096},
                {"gpus=1", "cpu,cuda:0", "qwen2-text", BERTH_F32, 2, 8, 4096},
                {"gpus=1", "cpu*2/mem=64MiB,cuda:0", "qwen2-text", BERTH_BF16, 3, 8, 100}};
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        for (int seed = 0; seed < 3; seed++) {
            bed b;
            char config[96];
            berth_error err = {0};
            snprintf(config, sizeof config, "%s;mem=64MiB;seed=%d", rows[r].world, 100 * seed + (int)r);
            world_reset(config);
            bed_open(&b, rows[r].model, rows[r].devices, rows[r].compute);
            b.options.n_readers = rows[r].n_readers;
            b.options.n_cores = rows[r].n_cores;
            b.options.piece_bytes = rows[r].piece_bytes;
            if (seed == 1) /* from the disk, where there is one */
                for (int32_t s = 0; s < berth_model_data_n_shards(b.g.data); s++)
                    (void)posix_fadvise(berth_model_data_shard(b.g.data, s)->fd, 0, 0, POSIX_FADV_DONTNEED);
            golden_must(bed_load(&b, &err), &err, rows[r].devices);
            const uint64_t differ = bed_compare(&b);
            if (differ) fail_msg("row %d, seed %d: %llu bytes are wrong", (int)r, seed, (unsigned long long)differ);
            assert_true(b.told >= b.bytes && b.bytes > 0); /* more where some is mapped */
            bed_close(&b);
        }
    }
}

static void a_copy_that_brings_nothing_is_seen(void **state)
{
    (void)state;
    uint64_t random = 5;
    for (int i = 0; i < 6; i++) {
        bed b;
        char config[96];
        berth_error err = {0};
        snprintf(config, sizeof config, "gpus=2;mem=64MiB;seed=%d;skip_copy=%d", i,
                 1 + (int)test_random_below(&random, 60));
        world_reset(config);
        bed_open(&b, "qwen2-text", "cuda:0,cuda:1", BERTH_F32);
        b.options.n_readers = 2;
        b.options.piece_bytes = 2048;
        golden_must(bed_load(&b, &err), &err, "load");
        assert_true(bed_compare(&b) > 0);
        bed_close(&b);
    }
}

static void without_memory_nothing_is_left(void **state)
{
    (void)state;
    static const int32_t readers[] = {1, 3};
    for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++) {
        bed b;
        world_reset("gpus=2;mem=64MiB");
        bed_open(&b, "qwen2-text", "cuda:0,cpu/mem=64MiB,cuda:1", BERTH_BF16);
        b.options.n_readers = readers[i];
        assert_true(failing_each("loading", bed_load, &b) > 10);
        assert_int_equal(bed_compare(&b), 0);
        bed_close(&b);
    }
}

static void threads_that_cannot_be_had_are_an_error(void **state)
{
    (void)state;
    bed b;
    world_reset("gpus=2;mem=64MiB");
    bed_open(&b, "qwen2-text", "cuda:0,cuda:1", BERTH_F32);
    b.options.n_readers = 3;
    b.options.piece_bytes = 64;
    for (int n = 1; n <= 6; n++) {
        berth_error err = {0};
        atomic_store(&thread_fails_at, n);
        assert_int_equal(bed_load(&b, &err), BERTH_DEVICE_ERROR);
        if (!strstr(err.message, n <= 3 ? "reader cuda:0" : "reader cuda:1")) fail_msg("%s", err.message);
    }
    berth_error err = {0};
    golden_must(bed_load(&b, &err), &err, "with threads");
    assert_int_equal(atomic_load(&thread_fails_at), 0);
    assert_int_equal(bed_compare(&b), 0);
    bed_close(&b);
}

/* The n-th driver call of the loading fails with this code; 0: none. Whether it came. *out_calls: the loading's. */
static bool load_failing(uint64_t n, int code, berth_status *out_status, uint64_t *out_calls)
{
    bed b;
    char config[96];
    berth_error err = {0};
    snprintf(config, sizeof config, "gpus=2;mem=64MiB;seed=%llu", (unsigned long long)n);
    world_reset(config);
    bed_open(&b, "qwen2-text", "cuda:0,cuda:1", BERTH_F32);
    b.options.n_readers = 2;
    b.options.piece_bytes = 4096;
    const uint64_t before = world_report().calls;
    world_fail_after(n, code);
    *out_status = bed_load(&b, &err);
    world_fail_after(0, 0);
    *out_calls = world_report().calls - before;
    const bool came = world_report().n_failed > 0, is_lost = came && code != 1 && code != 2;
    assert_int_equal(*out_status, err.status);
    if (*out_status != BERTH_OK && !strstr(err.message, "weights of device cuda:")) fail_msg("%s", err.message);
    if (*out_status != BERTH_OK && !came) fail_msg("nothing failed, and yet: %s", err.message);
    /* Where a call that ends things failed, all has arrived; but a lost GPU gives nothing to be compared. */
    if (*out_status == BERTH_OK && !is_lost) assert_int_equal(bed_compare(&b), 0);
    bed_close(&b);
    return came;
}

/* How many calls a loading takes depends on how often its two readers ask whether a slot is free: so many as the first one
 * took are gone through, and the last ones need not come. */
static void each_driver_call_may_fail(void **state)
{
    (void)state;
    static const int codes[] = {1, 2, 46, 700, 999};
    berth_status st;
    uint64_t n_calls, ignored, n_failed = 0, n_came = 0, i = 0;
    assert_false(load_failing(0, 0, &st, &n_calls));
    assert_int_equal(st, BERTH_OK);
    for (uint64_t call = 1; call <= n_calls; call += n_calls / 30 + 1, i++) {
        n_came += load_failing(call, codes[i % 5], &st, &ignored);
        n_failed += st != BERTH_OK;
    }
    print_message("%llu of %llu failed calls were errors\n", (unsigned long long)n_failed, (unsigned long long)n_came);
    assert_true(n_came > 10 && n_failed > n_came / 2);
}

static void a_file_cut_short_is_an_error(void **state)
{
    (void)state;
    for (int32_t readers = 1; readers <= 4; readers += 3) {
        char dir[64], path[128];
        bed b;
        berth_error err = {0};
        golden_copy("qwen2-text", dir);
        snprintf(path, sizeof path, "%s/model.safetensors", dir);
        world_reset("gpus=1;mem=64MiB");
        bed_open(&b, "qwen2-text", "cuda:0", BERTH_F32);
        golden_close(&b.g);
        golden_open_at(&b.g, "qwen2-text", dir);
        b.options.n_readers = readers;
        const berth_param *p = berth_model_data_param(b.g.data, 3);
        assert_int_equal(truncate(path, (off_t)(p->offset + p->n_bytes / 2)), 0);
        assert_int_equal(bed_load(&b, &err), BERTH_BAD_FILE);
        if (!strstr(err.message, "model.safetensors") || !strstr(err.message, "changed meanwhile") ||
            !strstr(err.message, "cuda:0"))
            fail_msg("%s", err.message);
        bed_close(&b);
        golden_remove(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_bytes_arrive_whoever_reads), cmocka_unit_test(a_copy_that_brings_nothing_is_seen),
        cmocka_unit_test(without_memory_nothing_is_left), cmocka_unit_test(threads_that_cannot_be_had_are_an_error),
        cmocka_unit_test(each_driver_call_may_fail),      cmocka_unit_test(a_file_cut_short_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
