/* gpus_test.c - device lists that name GPUs, on computers made up for the purpose. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "machine/machine_internal.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

/* ---- computers --------------------------------------------------------------------------------------------------- */

enum { MOST = 8 };

typedef struct computer {
    const char *name, *model;
    int32_t n, capability;
    uint64_t memory_bytes;
    bool has_peer;
    uint32_t prohibited; /* a bit a GPU */
} computer;

static const computer computers[] = {
    {"4xV100", "Tesla V100-SXM2-16GB", 4, 70, 16152 * MIB, true},
    {"2xA10", "NVIDIA A10", 2, 86, 22515 * MIB, false},
    {"8xH200", "NVIDIA H200", 8, 90, 143156 * MIB, true},
    {"1x?", "NVIDIA Unheard Of", 1, 120, 4096 * MIB, false},
    {"T4 forbidden", "Tesla T4", 2, 75, 15095 * MIB, false, 1u << 1},
    {"P100", "Tesla P100-PCIE-16GB", 1, 60, 16276 * MIB, false},
    {"T4 all forbidden", "Tesla T4", 2, 75, 15095 * MIB, false, 3},
};

typedef struct world {
    berth_core cores[4];
    berth_gpu_info list[MOST];
    bool peer[MOST * MOST];
    berth_gpus gpus;
    berth_host host;
} world;

static void make_world(const char *name, world *w)
{
    const computer *c = computers;
    while (strcmp(c->name, name) != 0) c++;
    memset(w, 0, sizeof *w);
    for (int32_t i = 0; i < 4; i++) w->cores[i] = (berth_core){.number = i, .core = i, .node = i / 2};
    for (int32_t i = 0; i < c->n; i++) {
        w->list[i] = (berth_gpu_info){.ordinal = i, .capability = c->capability, .memory_bytes = c->memory_bytes};
        w->list[i].mode = c->prohibited >> i & 1 ? BERTH_GPU_PROHIBITED : BERTH_GPU_SHARED;
        snprintf(w->list[i].name, sizeof w->list[i].name, "%s", c->model);
        for (int32_t k = 0; k < c->n; k++) w->peer[i * c->n + k] = c->has_peer && i != k;
    }
    w->gpus = (berth_gpus){.list = w->list, .peer = w->peer, .n = c->n, .driver = 12040};
    w->host = (berth_host){.cores = w->cores, .n_cores = 4, .memory_bytes = 24 * GIB, .gpus = &w->gpus};
}

/* "cuda:0.1@0=1024+166[2]": physical, MiB of memory and context, cores. */
static void describe(const berth_machine *m, char *out, size_t n)
{
    size_t len = 0;
    out[0] = '\0';
    for (int32_t i = 0; i < m->n_devices; i++) {
        const berth_device *d = &m->devices[i];
        len +=
            (size_t)snprintf(out + len, n - len, "%s%s@%d=%llu+%llu[", i ? " " : "", d->name, (int)d->physical,
                             (unsigned long long)(d->memory_bytes / MIB), (unsigned long long)(d->context_bytes / MIB));
        for (int32_t k = 0; k < d->n_cores; k++)
            len += (size_t)snprintf(out + len, n - len, "%s%d", k ? "," : "", (int)d->cores[k]);
        len += (size_t)snprintf(out + len, n - len, "]");
    }
}

/* ---- lists ------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *computer, *list, *expected;
} good_cases[] = {
    {"2xA10", "cuda:0", "cuda:0@0=22015+500[]"},
    {"2xA10", "cuda:1,cuda:0", "cuda:1@1=22015+500[] cuda:0@0=22015+500[]"},
    {"2xA10", "all", "cuda:0@0=22015+500[] cuda:1@1=22015+500[]"},
    {"2xA10", "all/mem=8GiB", "cuda:0@0=8192+500[] cuda:1@1=8192+500[]"},
    {"2xA10", "all*2/mem=8GiB",
     "cuda:0.0@0=8192+250[] cuda:0.1@0=8192+250[] cuda:1.0@1=8192+250[] cuda:1.1@1=8192+250[]"},
    {"2xA10", "cuda:1*2", "cuda:1.0@1=11007+250[] cuda:1.1@1=11007+250[]"},
    {"2xA10", "cuda:0*1", "cuda:0@0=22015+500[]"},
    {"2xA10", "cuda:0*2,1/mem=2015MiB", "cuda:0.0@0=20000+250[] cuda:0.1@0=2015+250[]"},
    {"2xA10", "cuda:0/mem=8GiB,cpu,cpu", "cuda:0@0=8192+500[] cpu:0@0=12288+0[0,1] cpu:1@1=12288+0[2,3]"},
    {"2xA10", "cpu,cuda:0/cores=3", "cpu:0@0=24576+0[0,1,2] cuda:0@0=22015+500[3]"},
    {"2xA10", "cuda:0,1xT4", "cuda:0@0=22015+500[] T4:0@0=14595+500[0,1,2,3]"},
    {"4xV100", "all", "cuda:0@0=15652+500[] cuda:1@1=15652+500[] cuda:2@2=15652+500[] cuda:3@3=15652+500[]"},
    {"1x?", "all", "cuda:0@0=3840+256[]"}, /* a small GPU's context is counted smaller */
    {"T4 forbidden", "all", "cuda:0@0=14595+500[]"},
};

static void lists_that_are_right(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good_cases / sizeof *good_cases; i++) {
        world w;
        berth_machine m;
        berth_error err = {0};
        char text[1024];
        make_world(good_cases[i].computer, &w);
        if (berth_machine_parse_on(&w.host, good_cases[i].list, NULL, &m, &err) != BERTH_OK)
            fail_msg("%s on %s: %s", good_cases[i].list, good_cases[i].computer, err.message);
        describe(&m, text, sizeof text);
        assert_string_equal(text, good_cases[i].expected);
        berth_machine_deinit(&m);
    }
}

static const struct {
    const char *computer, *list;
    berth_status status;
    const char *words;
} bad_cases[] = {
    {"2xA10", "cuda:2", BERTH_DEVICE_ERROR, "\"cuda:2\": there is no cuda:2; there are cuda:0 to cuda:1"},
    {"2xA10", "cpu,cuda:999", BERTH_DEVICE_ERROR, "there is no cuda:999"},
    {"1x?", "cuda:1", BERTH_DEVICE_ERROR, "the only GPU is cuda:0 (NVIDIA Unheard Of)"},
    {"2xA10", "cuda:0,cuda:0", BERTH_INVALID_ARGUMENT, "cuda:0 is named twice; cuda:0*2 makes two devices"},
    {"2xA10", "cuda:0*2,cuda:0", BERTH_INVALID_ARGUMENT, "named twice"},
    {"2xA10", "all,cuda:1", BERTH_INVALID_ARGUMENT, "cuda:1 is named twice"},
    {"2xA10", "all*33", BERTH_INVALID_ARGUMENT, "more than 64 devices"},
    {"2xA10", "cuda:0*65", BERTH_INVALID_ARGUMENT, "a count is 1 to 64"},
    {"2xA10", "cpu*60,cuda:0*5", BERTH_INVALID_ARGUMENT, "more than 64 devices"},
    {"2xA10", "cuda:0/mem=22GiB", BERTH_INVALID_ARGUMENT,
     "cuda:0 (NVIDIA A10): the limits of its devices are 22.00 GiB together, and it has 21.50 GiB beside the 500.00 "
     "MiB"},
    {"2xA10", "cuda:0*3/mem=8GiB", BERTH_INVALID_ARGUMENT, "are 24.00 GiB together"},
    {"2xA10", "cuda:0*64/mem=7000000TiB", BERTH_INVALID_ARGUMENT, "together"}, /* their sum does not fit 64 bits */
    {"2xA10", "cuda:0*2,0/mem=22015MiB", BERTH_INVALID_ARGUMENT, "leaves nothing for the others"},
    {"T4 forbidden", "cuda:1", BERTH_DEVICE_ERROR,
     "cuda:1 (Tesla T4) cannot be used: its compute mode is \"prohibited\""},
    {"T4 all forbidden", "all", BERTH_DEVICE_ERROR, "\"all\": cuda:0 (Tesla T4) cannot be used"},
    {"P100", "cuda:0", BERTH_DEVICE_ERROR, "has compute capability 6.0, and berth's kernels need 7.0"},
    {"2xA10", "cuda:0/cores=9", BERTH_INVALID_ARGUMENT, "core 9 is not one"},
};

static void lists_that_are_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_cases / sizeof *bad_cases; i++) {
        world w;
        berth_machine m;
        berth_error err = {0};
        make_world(bad_cases[i].computer, &w);
        berth_status st = berth_machine_parse_on(&w.host, bad_cases[i].list, NULL, &m, &err);
        if (st != bad_cases[i].status || !strstr(err.message, bad_cases[i].words) || strchr(err.message, '\n'))
            fail_msg("%s on %s gave %s: %s", bad_cases[i].list, bad_cases[i].computer, berth_status_name(st),
                     err.message);
        assert_null(m.devices);
    }
}

static void without_gpus(void **state)
{
    (void)state;
    static const struct {
        berth_error why;
        const char *list;
        berth_status status;
        const char *words;
    } cases[] = {
        {{.status = BERTH_NOT_FOUND, .message = "no driver; install it"}, "all", BERTH_OK, ""},
        {{.status = BERTH_NOT_FOUND, .message = "no driver; install it"},
         "cuda:0",
         BERTH_DEVICE_ERROR,
         "\"cuda:0\": no driver; install it; or wear"},
        {{.status = BERTH_NOT_FOUND, .native_code = 100, .native_api = "cuda", .message = "it sees no GPU"},
         "cuda:0",
         BERTH_DEVICE_ERROR,
         "it sees no GPU"},
        /* a driver that is there and does not do is not passed over */
        {{.status = BERTH_UNSUPPORTED, .message = "too old"}, "all", BERTH_DEVICE_ERROR, "\"all\": too old"},
        {{.status = BERTH_OUT_OF_MEMORY, .message = "none left"}, "all", BERTH_OUT_OF_MEMORY, "none left"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        world w;
        berth_machine m;
        berth_error err = {0};
        make_world("1x?", &w);
        w.gpus = (berth_gpus){.why = cases[i].why};
        berth_status st = berth_machine_parse_on(&w.host, cases[i].list, NULL, &m, &err);
        if (st != cases[i].status || !strstr(err.message, cases[i].words))
            fail_msg("case %zu gave %s: %s", i, berth_status_name(st), err.message);
        if (st == BERTH_OK) assert_string_equal(m.devices[0].name, "cpu:0");
        if (st != BERTH_OK) assert_int_equal(err.native_code, cases[i].why.native_code);
        berth_machine_deinit(&m);
    }
}

/* ---- what is known of them --------------------------------------------------------------------------------------- */

static void facts_and_predictions(void **state)
{
    (void)state;
    world w;
    berth_machine m;
    make_world("4xV100", &w);
    assert_int_equal(berth_machine_parse_on(&w.host, "all,cpu", NULL, &m, NULL), BERTH_OK);
    const berth_device *d = &m.devices[1];
    assert_int_equal(d->kind, BERTH_DEVICE_CUDA);
    assert_string_equal(d->model, "Tesla V100-SXM2-16GB");
    assert_string_equal(d->profile, "V100-SXM2-16GB");
    assert_string_equal(d->measured, "");
    assert_int_equal(d->capability, 70);
    assert_true(berth_device_has_dtype(d, BERTH_F16) && !berth_device_has_dtype(d, BERTH_BF16));
    assert_true(d->flops[BERTH_F16] > 9e13 && d->bytes_per_second > 7e11 && d->host_link.bytes_per_second == 12e9);
    assert_string_equal(berth_machine_link(&m, 0, 3).kind, "peer");
    assert_string_equal(berth_machine_link(&m, 0, 4).kind, "host");
    berth_machine_deinit(&m);
    make_world("8xH200", &w); /* one profile says how fast its peers are */
    assert_int_equal(berth_machine_parse_on(&w.host, "all", NULL, &m, NULL), BERTH_OK);
    assert_true(berth_machine_link(&m, 7, 2).bytes_per_second == 371e9);
    berth_machine_deinit(&m);
    make_world("2xA10", &w);
    assert_int_equal(berth_machine_parse_on(&w.host, "cuda:0*2,cuda:1", NULL, &m, NULL), BERTH_OK);
    assert_string_equal(berth_machine_link(&m, 0, 1).kind, "same GPU");
    assert_string_equal(berth_machine_link(&m, 1, 2).kind, "host");
    berth_machine_deinit(&m);
    make_world("1x?", &w); /* nothing is made up */
    assert_int_equal(berth_machine_parse_on(&w.host, "all*2", NULL, &m, NULL), BERTH_OK);
    assert_string_equal(m.devices[0].profile, "");
    assert_true(m.devices[0].flops[BERTH_F16] == 0 && m.devices[0].bytes_per_second == 0 && m.n_links == 0);
    berth_machine_deinit(&m);
}

/* ---- machine files ----------------------------------------------------------------------------------------------- */

static berth_status parse_text(const world *w, const char *text, berth_machine *out, berth_error *err)
{
    char path[] = "/tmp/berth-gpus-XXXXXX", list[64];
    close(mkstemp(path));
    assert_int_equal(berth_file_write(path, text, strlen(text), NULL), BERTH_OK);
    snprintf(list, sizeof list, "%s", path);
    berth_status st = berth_machine_parse_on(&w->host, list, NULL, out, err);
    unlink(path);
    return st;
}

static void what_is_saved_is_read_back(void **state)
{
    (void)state;
    static const char *const lists[][2] = {
        {"4xV100", "all,cpu"}, {"2xA10", "cuda:1*2/mem=2GiB/cores=1,cuda:0"}, {"1x?", "all*3"}};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        world w;
        berth_machine m, again;
        berth_error err = {0};
        make_world(lists[i][0], &w);
        assert_int_equal(berth_machine_parse_on(&w.host, lists[i][1], NULL, &m, NULL), BERTH_OK);
        berth_device *d = &m.devices[0];
        const berth_link_rate rate = {.kind = "peer", .bytes_per_second = 7.25e9, .latency_ns = 9, .is_measured = true};
        snprintf(d->measured, sizeof d->measured, "2026-11-21, driver for CUDA 12.4");
        d->flops[BERTH_F16] = 123.5e12;
        d->flops_measured = 1u << BERTH_F16;
        if (d->bytes_per_second > 0) d->bytes_per_second = 17e9; /* where none is known, one would bring links */
        d->is_read_measured = true;
        assert_true(berth_machine_set_link(&m, 0, 1, &rate) && berth_machine_settle_links(&m));
        berth_buffer one = {0}, two = {0};
        assert_int_equal(berth_machine_save(&m, &one, NULL), BERTH_OK);
        if (parse_text(&w, one.data, &again, &err) != BERTH_OK) fail_msg("%s: %s", lists[i][1], err.message);
        assert_int_equal(berth_machine_save(&again, &two, NULL), BERTH_OK);
        assert_string_equal(one.data, two.data);
        assert_string_equal(again.devices[0].name, m.devices[0].name);
        const berth_device *e = &again.devices[0];
        assert_string_equal(e->measured, "2026-11-21, driver for CUDA 12.4");
        assert_true(e->is_read_measured && e->flops_measured == 1u << BERTH_F16 && !e->host_link.is_measured);
        assert_true(berth_machine_link(&again, 0, 1).is_measured && !berth_machine_link(&again, 1, 0).is_measured);
        assert_string_equal(again.devices[1].measured, "");
        berth_buffer_deinit(&one);
        berth_buffer_deinit(&two);
        berth_machine_deinit(&m);
        berth_machine_deinit(&again);
    }
}

static void files_of_other_computers(void **state)
{
    (void)state;
#define M "{\"schema\": \"berth.machine/1\", \"devices\": ["
    static const struct {
        const char *text, *words;
    } cases[] = {
        {M "{\"kind\": \"cuda\", \"physical\": 0, \"model\": \"Tesla T4\"}]}",
         "its cuda:0 is Tesla T4, and here that is NVIDIA A10"},
        {M "{\"kind\": \"cuda\", \"physical\": 5}]}", "there is no cuda:5"},
        {M "{\"kind\": \"cuda\"}]}", "\"physical\" is missing"},
        {M "{\"kind\": \"gpu\"}]}", "\"kind\" must be"},
        {M "{\"kind\": \"cuda\", \"physical\": 1, \"limit_bytes\": \"30GiB\"}]}", "are 30.00 GiB together"},
    };
    world w;
    make_world("2xA10", &w);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        berth_machine m;
        berth_error err = {0};
        if (parse_text(&w, cases[i].text, &m, &err) == BERTH_OK) fail_msg("case %zu passes", i);
        if (!strstr(err.message, cases[i].words)) fail_msg("case %zu: %s", i, err.message);
        assert_null(m.devices);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_that_are_right),
        cmocka_unit_test(lists_that_are_wrong),
        cmocka_unit_test(without_gpus),
        cmocka_unit_test(facts_and_predictions),
        cmocka_unit_test(what_is_saved_is_read_back),
        cmocka_unit_test(files_of_other_computers),
    };
    return cmocka_run_group_tests_name("GPUs", tests, NULL, NULL);
}
