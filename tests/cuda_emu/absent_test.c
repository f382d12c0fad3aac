/* absent_test.c - a computer without any NVIDIA library: each missing library is one line with what to do. Runs without
 * the emulator; where a real driver is installed it says SKIP for it. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cuda/device.h"

static void no_driver_is_one_line(void **state)
{
    (void)state;
    void *there = dlopen("libcuda.so.1", RTLD_LAZY);
    if (there) {
        dlclose(there);
        skip();
    }
    berth_error err = {0};
    berth_cuda *cuda = NULL;
    assert_int_equal(berth_cuda_open(NULL, &cuda, &err), BERTH_NOT_FOUND);
    assert_null(cuda);
    assert_non_null(strstr(err.message, "libcuda.so.1"));
    assert_non_null(strstr(err.message, "install NVIDIA's driver"));
    assert_null(strchr(err.message, '\n'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_driver_is_one_line)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
