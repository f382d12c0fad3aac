/* machine_alloc_test.c - every allocation of reading a device list fails, once and from then on: an error that says so,
 * and nothing lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "machine/machine_internal.h"
#include "tests/failing.h"

static berth_core four_cores[4] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
static berth_gpu_info two_a10[2] = {
    {.ordinal = 0, .name = "NVIDIA A10", .capability = 86, .memory_bytes = (uint64_t)22 << 30},
    {.ordinal = 1, .name = "NVIDIA A10", .capability = 86, .memory_bytes = (uint64_t)22 << 30}};
static bool peers[4] = {false, true, true, false};
static const berth_gpus gpus = {.list = two_a10, .peer = peers, .n = 2, .driver = 12040};
static const berth_host host = {.cores = four_cores, .n_cores = 4, .memory_bytes = 1 << 30, .gpus = &gpus};

static void every_allocation_may_fail(void **state)
{
    (void)state;
    char path[] = "/tmp/berth-machine-XXXXXX", with_file[64];
    static const char text[] =
        "{\"schema\": \"berth.machine/1\", \"devices\": [{\"cores\": [1]}, {\"profile\": \"T4\"}],"
        " \"links\": [{\"between\": [0, 1]}]}";
    close(mkstemp(path));
    assert_int_equal(berth_file_write(path, text, strlen(text), NULL), BERTH_OK);
    snprintf(with_file, sizeof with_file, "%s,A10", path);
    const char *const lists[] = {"cpu*2,cpu/cores=1", "4xV100", "2xA100,A10/cores=0-1,0/cores=2",
                                 with_file,           "all",    "cuda:0*3/cores=0,cpu"};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        for (int for_ever = 0; for_ever < 2; for_ever++) {
            berth_status st = BERTH_OUT_OF_MEMORY;
            for (faults.fail_at = 1; st != BERTH_OK; faults.fail_at++) {
                berth_machine m;
                berth_error err = {0};
                faults.n_calls = 0;
                faults.for_ever = for_ever;
                st = berth_machine_parse_on(&host, lists[i], NULL, &m, &err);
                if (st != BERTH_OK && st != BERTH_OUT_OF_MEMORY)
                    fail_msg("%s, allocation %ld: %s", lists[i], faults.fail_at, err.message);
                if (st == BERTH_OK) assert_true(faults.fail_at > 2);
                berth_machine_deinit(&m);
            }
            faults.fail_at = 0;
        }
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_may_fail)};
    return cmocka_run_group_tests_name("devices without memory", tests, NULL, NULL);
}
