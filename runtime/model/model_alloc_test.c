/* model_alloc_test.c - every allocation made while a directory is opened fails: once, and from then on. The answer is
 * always "out of memory", never a fault, a leak (sanitizers look) or a half-open model. The linker puts these wrappers
 * in place of malloc and its kin. */
#include "model/model_fixture.h"

#include <cjson/cJSON.h>

#include "model/safetensors.h"
#include "tests/failing.h"

typedef berth_status (*attempt)(const char *path, berth_error *err);

static berth_status open_model(const char *path, berth_error *err)
{
    berth_model_data *m = NULL;
    berth_status status = berth_model_data_open(path, NULL, &m, err);
    assert_int_equal(status == BERTH_OK, m != NULL);
    berth_model_data_release(m);
    return status;
}

static berth_status write_file(const char *path, berth_error *err)
{
    const berth_safetensors_entry entries[] = {{.name = "a", .dtype = BERTH_U8, .data = "x", .n_bytes = 1},
                                               {.name = "b", .dtype = BERTH_U8, .data = "y", .n_bytes = 1}};
    return berth_safetensors_write(path, entries, 2, err);
}

static void run_out(attempt run, const char *path)
{
    for (int for_ever = 0; for_ever < 2; for_ever++) {
        berth_status status = BERTH_OUT_OF_MEMORY;
        long n = 0;
        while (status != BERTH_OK) {
            berth_error err = {0};
            faults.n_calls = 0;
            faults.fail_at = ++n;
            faults.for_ever = for_ever;
            status = run(path, &err);
            faults.fail_at = 0;
            if (status != BERTH_OK && status != BERTH_OUT_OF_MEMORY)
                fail_msg("%s, allocation %ld: %s", path, n, err.message);
        }
        assert_true(n > 3 && faults.n_calls == n - 1); /* the last run needed fewer than n, and reached its end */
    }
}

static void opening_runs_out_of_memory(void **state)
{
    (void)state;
    static const char *const models[] = {"hostile/bases/hf", "hostile/bases/shards", "hostile/bases/remote",
                                         "models/qwen2-text"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s%s", GOLDEN, models[i]);
        run_out(open_model, path);
    }
}

static void writing_runs_out_of_memory(void **state)
{
    (void)state;
    fixture f = fixture_create();
    char path[512];
    fixture_path(&f, "x.safetensors", path);
    run_out(write_file, path);
    fixture_destroy(&f);
}

int main(void)
{
    cJSON_Hooks hooks = {.malloc_fn = malloc, .free_fn = free};
    cJSON_InitHooks(&hooks);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_runs_out_of_memory),
        cmocka_unit_test(writing_runs_out_of_memory),
    };
    return cmocka_run_group_tests_name("model allocations", tests, NULL, NULL);
}
