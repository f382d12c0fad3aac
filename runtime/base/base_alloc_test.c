/* base_alloc_test.c - every allocation of the base, one after another, fails: once, and from then on. cJSON gets
 * malloc as a hook. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "tests/failing.h"

static berth_status parse_tree(void *arg, berth_error *err)
{
    (void)arg;
    static char text[8000]; /* escapes, keys by the hundred, nesting: every place that allocates */
    size_t n = (size_t)snprintf(text, sizeof text, "{\"\\u00e9\": [\"\\n\\u00e9 and more\", {\"a\": {}}, 1, null]");
    for (int i = 0; i < 200; i++) n += (size_t)snprintf(text + n, sizeof text - n, ", \"\\u006bey%d\": %d", i, i);
    snprintf(text + n, sizeof text - n, "}");
    berth_json *j;
    berth_status status = berth_json_parse(text, strlen(text), "text", &j, err);
    assert_int_equal(status == BERTH_OK, j != NULL);
    berth_json_destroy(j);
    return status;
}

static berth_status fill_buffer(void *arg, berth_error *err)
{
    (void)arg;
    berth_buffer b = {0};
    berth_buffer_printf(&b, "%d %0*d", 5, 300, 7);
    berth_buffer_json_string(&b, "a\x01\xFF", 3);
    for (int i = 0; i < 300; i++) berth_buffer_puts(&b, "0123456789");
    bool failed = b.failed;
    char *text = berth_buffer_take(&b);
    assert_int_equal(failed, text == NULL);
    free(text);
    return failed ? BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "buffer") : BERTH_OK;
}

static berth_status read_own_source(void *arg, berth_error *err)
{
    (void)arg;
    char *data;
    size_t size;
    berth_status status =
        berth_file_read_in(BERTH_SOURCE_DIR "/runtime/base", "base_alloc_test.c", 1 << 20, &data, &size, err);
    assert_int_equal(status == BERTH_OK, data != NULL);
    free(data);
    return status;
}

static berth_status write_file(void *arg, berth_error *err)
{
    (void)arg;
    char path[64];
    snprintf(path, sizeof path, "/tmp/berth-alloc-test-%ld", (long)getpid());
    berth_status status = berth_file_write(path, "text", 4, err);
    int gone = access(path, F_OK);
    assert_int_equal(status == BERTH_OK, gone == 0);
    unlink(path);
    return status;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        failing_work *work;
        long at_least;
    } cases[] = {{"parse_tree", parse_tree, 400},
                 {"fill_buffer", fill_buffer, 4},
                 {"read", read_own_source, 2},
                 {"write", write_file, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        assert_true(failing_each(cases[c].name, cases[c].work, NULL) >= cases[c].at_least);
}

int main(void)
{
    cJSON_Hooks hooks = {.malloc_fn = malloc, .free_fn = free};
    cJSON_InitHooks(&hooks);
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_may_fail)};
    return cmocka_run_group_tests_name("alloc", tests, NULL, NULL);
}
