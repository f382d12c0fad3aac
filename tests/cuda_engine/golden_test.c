/* golden_test.c - golden models on emulated GPUs: greedy tokens on one to eight of them, under every strategy and
 * transport, with cpu devices beside them, in random orders of execution. */
#include <stdio.h>

#include "fixture.h"
#include "strategies/registry.h"

static void one_gpu_gives_the_goldens(void **state)
{
    (void)state;
    for (int32_t i = 0; golden_names[i]; i++) {
        golden_model g;
        golden_open(&g, golden_names[i]);
        world_reset("gpus=1;mem=64MiB");
        const asked a = {.devices = "cuda:0", .plan = {.dtype = BERTH_PLAN_FP32}, .max_new = 3};
        world_gives_golden(&g, &a);
        golden_close(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_gpu_gives_the_goldens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
