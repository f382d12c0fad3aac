/* base_test.c - the rules of runtime/base. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/json.h"

static void json_tree_round(void **state)
{
    (void)state;
    static const char text[] = "{\"a\": [1, 2.5, \"x\\ud83d\\ude00\\n\", true, null], \"b\": {\"c\": -7}}";
    berth_json *j;
    berth_error err;
    assert_int_equal(berth_json_parse(text, sizeof text - 1, "text", &j, &err), BERTH_OK);
    int64_t value;
    assert_true(berth_json_as_i64(berth_json_get(berth_json_get(berth_json_root(j), "b"), "c"), &value));
    assert_int_equal(value, -7);
    assert_int_equal(berth_json_size(berth_json_get(berth_json_root(j), "a")), 5);
    berth_json_destroy(j);
    static const char twice[] = "{\"a\": 1, \"\\u0061\": 2}";
    assert_int_equal(berth_json_parse(twice, sizeof twice - 1, "text", &j, &err), BERTH_BAD_FILE);
    assert_non_null(strstr(err.message, "already has"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(json_tree_round)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
