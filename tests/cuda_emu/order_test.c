/* order_test.c - 200 orders of execution give right data, and every wait and copy left out is found by one of them. The
 * second half tests the emulator: a lenient one would prove nothing about the backend. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "pipeline.h"

enum { SEEDS = 200 };

static emu_control emulator;
static void *image;

/* True: the data is right. */
static bool run(int seed, int dropped, int second, const char *more)
{
    char config[128];
    snprintf(config, sizeof config, "gpus=2;mem=1MiB;seed=%d;%s", seed, more);
    emulator.reset(config);
    berth_error err = {0};
    berth_cuda *cuda = NULL;
    bool right = false;
    const pipeline_options o = {.dropped = dropped, .first = 0, .second = second, .image = image};
    berth_status st = berth_cuda_open(NULL, &cuda, &err);
    if (st == BERTH_OK) st = pipeline_run(cuda, &o, &right, &err);
    if (st != BERTH_OK) fail_msg("%s", err.message);
    berth_cuda_close(cuda);
    emu_control_tidy(&emulator, config);
    return right;
}

static void every_order_gives_right_data(void **state)
{
    (void)state;
    for (int seed = 0; seed < SEEDS; seed++) {
        assert_true(run(seed, -1, 1, ""));
        assert_true(run(seed, -1, 0, ""));       /* two logical devices on one GPU */
        assert_true(run(seed, -1, 1, "peer=0")); /* the driver stages */
    }
}

static void everything_left_out_is_found(void **state)
{
    (void)state;
    for (int part = 0; part < N_PIPELINE_PARTS; part++) {
        int first_wrong = -1;
        for (int seed = 0; seed < SEEDS && first_wrong < 0; seed++) {
            if (!run(seed, part, 1, "")) first_wrong = seed;
        }
        if (first_wrong < 0) fail_msg("part %d was left out and no seed shows it", part);
    }
}

int main(void)
{
    image = read_image(TEST_KERNELS);
    emu_control_open(&emulator);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_order_gives_right_data),
        cmocka_unit_test(everything_left_out_is_found),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    emu_control_close(&emulator);
    free(image);
    return failed;
}
