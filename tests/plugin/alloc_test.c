/* alloc_test.c - every allocation of a plug-in's call, one after another, fails: an error each time, nothing leaked, no
 * child and no descriptor left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "plugin/plugin.h"
#include "small_model.h"
#include "tests/failing.h"

static int count_descriptors(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static berth_status call_once(bool isolated, berth_error *err)
{
    const berth_plugin_options o = {
        .dir = PLUGIN_DIR, .isolated = isolated, .host = STRATEGY_HOST, .timeout_ms = 600000};
    berth_strategy_input in = small_input();
    berth_placement *p = NULL;
    char *path;
    *err = (berth_error){0};
    berth_status st = berth_plugin_find("good=2", &o, &path, &in.argument, err);
    if (st == BERTH_OK) st = berth_plugin_place(path, &o, &in, &p, err);
    assert_int_equal(st == BERTH_OK, p != NULL);
    berth_placement_destroy(p);
    free(path);
    return st;
}

static berth_status list_once(berth_error *err)
{
    berth_plugin_names names;
    *err = (berth_error){0};
    berth_status st = berth_plugin_names_read(PLUGIN_DIR, &names, err);
    berth_plugin_names_deinit(&names);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    int before = count_descriptors();
    for (int way = 0; way < 3; way++) {
        berth_error err;
        faults.fail_at = faults.n_calls = 0;
        assert_int_equal(way == 2 ? list_once(&err) : call_once(way, &err), BERTH_OK);
        long n = faults.n_calls;
        assert_true(n >= 8);
        for (long at = 1; at <= n; at++) {
            faults.fail_at = at;
            faults.n_calls = 0;
            berth_status st = way == 2 ? list_once(&err) : call_once(way, &err);
            faults.fail_at = 0;
            if (st == BERTH_OK && faults.n_calls < at)
                continue; /* an answer that came in fewer parts takes fewer allocations */
            if (st != BERTH_OUT_OF_MEMORY) fail_msg("way %d, allocation %ld: status %d: %s", way, at, st, err.message);
            assert_int_equal(err.status, st);
            assert_int_equal(count_descriptors(), before);
            assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
