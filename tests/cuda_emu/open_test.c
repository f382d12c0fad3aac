/* open_test.c - what there is and what is missing: each machine gives its GPUs or one clear line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control.h"
#include "cuda/device.h"

static emu_control emulator;
static void *image;

static void the_gpus_are_listed(void **state)
{
    (void)state;
    static const int counts[] = {1, 2, 4, 8};
    for (size_t c = 0; c < 4; c++) {
        const int n = counts[c];
        char config[160];
        snprintf(config, sizeof config, "gpus=%d;mem=3MiB;cap.0=70;name.0=V100;peer.0.%d=0;mode.%d=3", n, n - 1, n - 1);
        emulator.reset(config);
        berth_error err = {0};
        berth_cuda *cuda = NULL;
        assert_int_equal(berth_cuda_open(NULL, &cuda, &err), BERTH_OK);
        assert_int_equal(berth_cuda_n_gpus(cuda), n);
        assert_int_equal(berth_cuda_version(cuda), 12040);
        for (int i = 0; i < n; i++) {
            const berth_gpu_info *g = berth_cuda_gpu(cuda, i);
            char pci[32];
            snprintf(pci, sizeof pci, "0000:%02X:00.0", i + 1);
            assert_int_equal(g->ordinal, i);
            assert_string_equal(g->name, i == 0 ? "V100" : "Emulated GPU");
            assert_string_equal(g->pci, pci);
            assert_int_equal(g->uuid[3], i);
            assert_int_equal(g->capability, i == 0 ? 70 : 80);
            assert_int_equal(g->memory_bytes, 3 << 20);
            assert_int_equal(g->mode, i == n - 1 ? BERTH_GPU_EXCLUSIVE : BERTH_GPU_SHARED);
            for (int k = 0; k < n; k++)
                assert_int_equal(berth_cuda_has_peer(cuda, i, k), i != k && !(i == 0 && k == n - 1));
        }
        berth_cuda_close(cuda);
        emu_report r;
        emulator.report(&r);
        assert_int_equal(r.contexts + r.misuses, 0); /* looking makes no context */
    }
}

static void a_configuration_may_be_a_file(void **state)
{
    (void)state;
    char config[64] = "@", *path = config + 1;
    snprintf(path, sizeof config - 1, "emu-config-XXXXXX");
    FILE *f = fdopen(mkstemp(path), "w");
    assert_non_null(f);
    fputs("gpus=4\ncap=70\nname.2=Odd One\n", f);
    fclose(f);
    emulator.reset(config);
    remove(path);
    berth_cuda *cuda = NULL;
    assert_int_equal(berth_cuda_open(NULL, &cuda, NULL), BERTH_OK);
    assert_int_equal(berth_cuda_n_gpus(cuda), 4);
    assert_int_equal(berth_cuda_gpu(cuda, 3)->capability, 70);
    assert_string_equal(berth_cuda_gpu(cuda, 2)->name, "Odd One");
    berth_cuda_close(cuda);
}

static const struct {
    const char *config, *path;
    berth_status status;
    int native_code;
    const char *words;
} broken[] = {
    {"gpus=0", NULL, BERTH_NOT_FOUND, 100, "CUDA_VISIBLE_DEVICES"},
    {"driver=11080", NULL, BERTH_UNSUPPORTED, 0, "serves CUDA 11.8, and 12.0 is needed"},
    {"init=34", NULL, BERTH_DEVICE_ERROR, 34, "stubs/"},
    {"init=2", NULL, BERTH_OUT_OF_MEMORY, 2, "close other programs"},
    {"init=46", NULL, BERTH_DEVICE_ERROR, 46, "held by another process"},
    {"init=802", NULL, BERTH_DEVICE_ERROR, 802, "fabricmanager"},
    {"init=803", NULL, BERTH_DEVICE_ERROR, 803, "reboot"},
    {"init=804", NULL, BERTH_DEVICE_ERROR, 804, "compatibility"},
    {"init=999", NULL, BERTH_DEVICE_ERROR, 999, "dmesg"},
    {"init=3", NULL, BERTH_DEVICE_ERROR, 3, "nvidia-smi"},
    {"", "no/such/libcuda.so.1", BERTH_NOT_FOUND, 0, "cannot be read"},
    {"", BROKEN_LIBRARY, BERTH_UNSUPPORTED, 0, "has no function cuInit"},
    {"", TEST_KERNELS, BERTH_UNSUPPORTED, 0, "has no function cuDriverGetVersion"},
    {"", __FILE__, BERTH_DEVICE_ERROR, 0, "does not load"},
};

static void a_driver_that_does_not_do_is_one_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        emulator.reset(broken[i].config);
        berth_error err = {0};
        berth_cuda *cuda = NULL;
        const char *path = broken[i].path;
        char source[512];
        if (path && strcmp(path, __FILE__) == 0) { /* a file that is no library */
            snprintf(source, sizeof source, "%s/CMakeLists.txt", BERTH_SOURCE_DIR);
            path = source;
        }
        assert_int_equal(berth_cuda_open(path, &cuda, &err), broken[i].status);
        assert_null(cuda);
        if (!strstr(err.message, broken[i].words) || strchr(err.message, '\n')) fail_msg("row %zu: %s", i, err.message);
        assert_int_equal(err.native_code, broken[i].native_code);
    }
}

static void a_given_path_is_opened(void **state)
{
    (void)state;
    emulator.reset("gpus=3");
    berth_error err = {0};
    berth_cuda *cuda = NULL;
    assert_int_equal(berth_cuda_open(EMU_LIBRARY, &cuda, &err), BERTH_OK);
    assert_int_equal(berth_cuda_n_gpus(cuda), 3);
    berth_cuda_close(cuda);
}

static const struct {
    const char *config;
    int ordinal;
    size_t bytes;
    berth_status status;
    const char *words;
} refused[] = {
    {"mode=2", 0, 0, BERTH_DEVICE_ERROR, "prohibited"},
    {"mode=3;busy=1", 0, 0, BERTH_DEVICE_ERROR, "another process has it"},
    {"mem=1MiB", 0, (1 << 20) + 1, BERTH_DOES_NOT_FIT, "1048577 bytes were planned, 1048576 of 1048576 are free"},
    {"gpus=2", 2, 0, BERTH_INVALID_ARGUMENT, "cuda:0 to cuda:1"},
    {"gpus=2", -1, 0, BERTH_INVALID_ARGUMENT, "there are 2 GPUs"},
};

static void a_gpu_that_cannot_be_had_is_one_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        emulator.reset(refused[i].config);
        berth_error err = {0};
        berth_cuda *cuda = NULL;
        berth_gpu *gpu = NULL;
        assert_int_equal(berth_cuda_open(NULL, &cuda, &err), BERTH_OK);
        assert_int_equal(berth_gpu_open(cuda, refused[i].ordinal, refused[i].bytes, &gpu, &err), refused[i].status);
        assert_null(gpu);
        if (!strstr(err.message, refused[i].words)) fail_msg("row %zu: %s", i, err.message);
        berth_cuda_close(cuda);
        emu_report r;
        emulator.report(&r);
        assert_int_equal(r.contexts + r.allocations + r.misuses, 0);
    }
}

/* Exclusive mode, this process the only one: fine. */
static void an_exclusive_gpu_serves_its_one_process(void **state)
{
    (void)state;
    emulator.reset("mode=3");
    berth_error err = {0};
    berth_cuda *cuda = NULL;
    berth_gpu *gpu = NULL;
    assert_int_equal(berth_cuda_open(NULL, &cuda, &err), BERTH_OK);
    assert_int_equal(berth_gpu_open(cuda, 0, 4096, &gpu, &err), BERTH_OK);
    berth_gpu_close(gpu);
    berth_cuda_close(cuda);
}

static void peers_are_reached_where_the_matrix_says(void **state)
{
    (void)state;
    emulator.reset("gpus=3;mem=1MiB;peer.1.2=0");
    berth_error err = {0};
    berth_cuda *cuda = NULL;
    berth_gpu *gpu[3] = {0};
    assert_int_equal(berth_cuda_open(NULL, &cuda, &err), BERTH_OK);
    for (int i = 0; i < 3; i++) assert_int_equal(berth_gpu_open(cuda, i, 4096, &gpu[i], &err), BERTH_OK);
    for (int times = 0; times < 2; times++) {
        for (int from = 0; from < 3; from++) {
            for (int to = 0; to < 3; to++)
                assert_int_equal(berth_gpu_reach(gpu[from], gpu[to], &err),
                                 from == 1 && to == 2 ? BERTH_UNSUPPORTED : BERTH_OK);
        }
    }
    assert_non_null(strstr(err.message, "staged"));
    for (int i = 0; i < 3; i++) berth_gpu_close(gpu[i]);
    berth_cuda_close(cuda);
}

static void arenas_are_taken_to_the_end(void **state)
{
    (void)state;
    emulator.reset("mem=1MiB");
    berth_error err = {0};
    berth_cuda *cuda = NULL;
    berth_gpu *a = NULL, *b = NULL;
    assert_int_equal(berth_cuda_open(NULL, &cuda, &err), BERTH_OK);
    assert_int_equal(berth_gpu_open(cuda, 0, 1000, &a, &err), BERTH_OK);
    assert_int_equal(berth_gpu_open(cuda, 0, 2000, &b, &err), BERTH_OK); /* a second logical device */
    berth_gpu_ptr first, second, third;
    assert_int_equal(berth_gpu_take(a, 1, &first, &err), BERTH_OK);
    assert_int_equal(berth_gpu_take(a, 744, &second, &err), BERTH_OK);
    assert_int_equal(second - first, BERTH_GPU_ALIGN);
    assert_int_equal(berth_gpu_take(a, 1, &third, &err), BERTH_INTERNAL);
    assert_int_equal(berth_gpu_take(a, SIZE_MAX, &third, &err), BERTH_INTERNAL);
    uint64_t free_bytes, total;
    assert_int_equal(berth_gpu_memory(b, &free_bytes, &total, &err), BERTH_OK);
    assert_int_equal(total, 1 << 20);
    assert_int_equal(free_bytes, (1 << 20) - 3000);
    berth_gpu_close(a);
    berth_gpu_close(b);
    berth_cuda_close(cuda);
}

/* ELF of another machine, text, and kernels for newer GPUs only. */
static void an_image_that_is_not_for_this_gpu_is_one_line(void **state)
{
    (void)state;
    char other[128] = "\177ELF\2\1\1", text[128] = ".version 8.0";
    other[18] = (char)190; /* EM_CUDA */
    const struct {
        const char *config;
        const void *image;
        const char *words;
    } rows[] = {{"cap=86", other, "this build has no kernels for it"},
                {"cap=86", text, "the image is damaged"},
                {"cap=60", image, "sm_60"}};
    for (size_t i = 0; i < 3; i++) {
        emulator.reset(rows[i].config);
        berth_error err = {0};
        berth_cuda *cuda = NULL;
        berth_gpu *gpu = NULL;
        berth_gpu_module *m = NULL;
        assert_int_equal(berth_cuda_open(NULL, &cuda, &err), BERTH_OK);
        assert_int_equal(berth_gpu_open(cuda, 0, 0, &gpu, &err), BERTH_OK);
        assert_int_equal(berth_gpu_module_load(gpu, rows[i].image, &m, &err), BERTH_UNSUPPORTED);
        if (!strstr(err.message, rows[i].words)) fail_msg("row %zu: %s", i, err.message);
        berth_gpu_close(gpu);
        berth_cuda_close(cuda);
    }
}

/* Uploads through three slots, many more than there are slots. */
static void a_ring_carries_more_than_it_holds(void **state)
{
    (void)state;
    enum { CHUNK = 512, CHUNKS = 40 };
    for (int seed = 0; seed < 50; seed++) {
        char config[64];
        snprintf(config, sizeof config, "mem=1MiB;seed=%d", seed);
        emulator.reset(config);
        berth_error err = {0};
        berth_cuda *cuda = NULL;
        berth_gpu *gpu = NULL;
        berth_gpu_stream *s = NULL;
        berth_gpu_ring *ring = NULL;
        berth_gpu_ptr at;
        assert_int_equal(berth_cuda_open(NULL, &cuda, &err), BERTH_OK);
        assert_int_equal(berth_gpu_open(cuda, 0, CHUNK * CHUNKS, &gpu, &err), BERTH_OK);
        assert_int_equal(berth_gpu_take(gpu, CHUNK * CHUNKS, &at, &err), BERTH_OK);
        assert_int_equal(berth_gpu_stream_create(gpu, &s, &err), BERTH_OK);
        assert_int_equal(berth_gpu_ring_create(gpu, 3, CHUNK, &ring, &err), BERTH_OK);
        for (int i = 0; i < CHUNKS; i++) {
            void *slot = NULL;
            assert_int_equal(berth_gpu_ring_next(ring, &slot, &err), BERTH_OK);
            memset(slot, i + 1, CHUNK);
            assert_int_equal(berth_gpu_ring_send(ring, s, at + (berth_gpu_ptr)i * CHUNK, CHUNK, &err), BERTH_OK);
        }
        assert_int_equal(berth_gpu_ring_send(ring, s, at, CHUNK + 1, &err), BERTH_INVALID_ARGUMENT);
        uint8_t back[CHUNK * CHUNKS]; /* unpinned: the call waits */
        assert_int_equal(berth_gpu_download(s, back, at, sizeof back, &err), BERTH_OK);
        for (int i = 0; i < CHUNKS * CHUNK; i++) assert_int_equal(back[i], i / CHUNK + 1);
        berth_gpu_ring_destroy(ring);
        berth_gpu_stream_destroy(s);
        berth_gpu_close(gpu);
        berth_cuda_close(cuda);
        emu_report r;
        emulator.report(&r);
        assert_int_equal(r.contexts + r.allocations + r.pinned + r.streams + r.events + r.misuses, 0);
    }
}

static const struct {
    const char *config;
    size_t bytes;
    const char *words; /* of the copy from 1 to 0; NULL = it is true */
} links[] = {
    {"", 100000, NULL},
    {"", 1, NULL},
    {"peer=0", 70000, NULL},
    {"lie.0.1=1", 100000, NULL}, /* the other direction */
    {"lie.1.0=1", 100000, "of 4096 bytes 4096 are wrong, the first at 0 (0x00 for 0x01): zeros arrived"},
    {"lie.1.0=2", 100, "of 100 bytes 100 are wrong, the first at 0 (0xa5 for 0x01): nothing arrived"},
    {"lie.1.0=3", 65535, NULL}, /* spoils large copies only */
    {"lie.1.0=3", 65536, "of 65536 bytes 16 are wrong, the first at 0 (0x41 for 0x01): other bytes arrived"},
};

static void a_link_that_lies_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
        char config[96];
        snprintf(config, sizeof config, "gpus=2;mem=1MiB;%s", links[i].config);
        emulator.reset(config);
        berth_error err = {0};
        berth_cuda *cuda = NULL;
        berth_gpu *gpu[2] = {0};
        berth_gpu_ptr at[2];
        assert_int_equal(berth_cuda_open(NULL, &cuda, &err), BERTH_OK);
        for (int g = 0; g < 2; g++) {
            assert_int_equal(berth_gpu_open(cuda, g, links[i].bytes, &gpu[g], &err), BERTH_OK);
            assert_int_equal(berth_gpu_take(gpu[g], links[i].bytes, &at[g], &err), BERTH_OK);
        }
        const berth_status st = berth_gpu_prove(gpu[1], at[1], gpu[0], at[0], links[i].bytes, &err);
        assert_int_equal(st, links[i].words ? BERTH_MISMATCH : BERTH_OK);
        if (links[i].words && !strstr(err.message, links[i].words)) fail_msg("row %zu: %s", i, err.message);
        for (int g = 0; g < 2; g++) berth_gpu_close(gpu[g]);
        berth_cuda_close(cuda);
        emu_report r;
        emulator.report(&r);
        assert_int_equal(r.contexts + r.allocations + r.streams + r.misuses, 0);
    }
}

int main(void)
{
    image = read_image(TEST_KERNELS);
    emu_control_open(&emulator);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gpus_are_listed),
        cmocka_unit_test(a_configuration_may_be_a_file),
        cmocka_unit_test(a_driver_that_does_not_do_is_one_line),
        cmocka_unit_test(a_given_path_is_opened),
        cmocka_unit_test(a_gpu_that_cannot_be_had_is_one_line),
        cmocka_unit_test(an_exclusive_gpu_serves_its_one_process),
        cmocka_unit_test(peers_are_reached_where_the_matrix_says),
        cmocka_unit_test(arenas_are_taken_to_the_end),
        cmocka_unit_test(an_image_that_is_not_for_this_gpu_is_one_line),
        cmocka_unit_test(a_ring_carries_more_than_it_holds),
        cmocka_unit_test(a_link_that_lies_is_found),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    emu_control_close(&emulator);
    free(image);
    return failed;
}
