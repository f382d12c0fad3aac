/* model_alloc_test.c - every allocation made while a directory is opened fails: once, and from then on. The answer is
 * always "out of memory", never a fault, a leak (sanitizers look) or a half-open model. */
#include "model/model_fixture.h"

#include <cjson/cJSON.h>

#include "model/safetensors.h"
#include "tests/failing.h"

static berth_status open_model(void *path, berth_error *err)
{
    berth_model_data *m = NULL;
    berth_status status = berth_model_data_open(path, NULL, &m, err);
    assert_int_equal(status == BERTH_OK, m != NULL);
    berth_model_data_release(m);
    return status;
}

static berth_status write_file(void *path, berth_error *err)
{
    const berth_safetensors_entry entries[] = {{.name = "a", .dtype = BERTH_U8, .data = "x", .n_bytes = 1},
                                               {.name = "b", .dtype = BERTH_U8, .data = "y", .n_bytes = 1}};
    return berth_safetensors_write(path, entries, 2, err);
}

static void opening_runs_out_of_memory(void **state)
{
    (void)state;
    static const char *const models[] = {"hostile/bases/hf", "hostile/bases/shards", "hostile/bases/remote",
                                         "models/qwen2-text"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s%s", GOLDEN, models[i]);
        assert_true(failing_each(models[i], open_model, path) > 3);
    }
}

static void writing_runs_out_of_memory(void **state)
{
    (void)state;
    fixture f = fixture_create();
    char path[512];
    fixture_path(&f, "x.safetensors", path);
    assert_true(failing_each("write", write_file, path) > 3);
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
