/* threads_test.c - two threads, each with two GPUs of its own, over one opened driver. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "graph_step.h"
#include "pipeline.h"

static emu_control emulator;
static void *image;

typedef struct job {
    berth_cuda *cuda;
    int first, n_right;
} job;

enum { ROUNDS = 20 };

static void *work(void *arg)
{
    job *j = arg;
    const pipeline_options o = {.dropped = -1, .first = j->first, .second = j->first + 1, .image = image};
    for (int i = 0; i < ROUNDS; i++) {
        bool right = false;
        if (pipeline_run(j->cuda, &o, &right, NULL) == BERTH_OK) j->n_right += right;
    }
    return NULL;
}

/* One allocates, loads and waits while the other captures. */
static void *capture(void *arg)
{
    job *j = arg;
    for (int i = 0; i < ROUNDS; i++) {
        bool right = false;
        if (step_run(j->cuda, image, j->first, j->first + 1, -1, &right, NULL) == BERTH_OK) j->n_right += right;
    }
    return NULL;
}

static void run_two(void *(*run)(void *arg))
{
    emulator.reset("gpus=4;mem=1MiB");
    berth_cuda *cuda = NULL;
    assert_int_equal(berth_cuda_open(NULL, &cuda, NULL), BERTH_OK);
    job jobs[2] = {{cuda, 0, 0}, {cuda, 2, 0}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, run, &jobs[i]), 0);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) assert_int_equal(jobs[i].n_right, ROUNDS);
    berth_cuda_close(cuda);
    emu_control_tidy(&emulator, "two threads");
}

static void threads_do_not_disturb_each_other(void **state)
{
    (void)state;
    run_two(work);
}

static void threads_capture_side_by_side(void **state)
{
    (void)state;
    run_two(capture);
}

int main(void)
{
    image = read_image(TEST_KERNELS);
    emu_control_open(&emulator);
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads_do_not_disturb_each_other),
                                       cmocka_unit_test(threads_capture_side_by_side)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    emu_control_close(&emulator);
    free(image);
    return failed;
}
