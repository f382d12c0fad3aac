/* shards_test.c - weights in several files: the index that names them, and what must be refused of either. */
#include <sys/stat.h>

#include "model/model_fixture.h"
#include "tests/random.h"

#define SHARD2 "model-00002-of-00003.safetensors"
#define SHARD3 "model-00003-of-00003.safetensors"

static void indexes_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *words;
    } cases[] = {
        {SHARD2, "/etc/passwd", "invalid shard name|/etc/passwd"},
        {SHARD2, "../" SHARD2, "invalid shard name"},
        {SHARD2, "sub/../" SHARD2, "invalid shard name"},
        {SHARD2, SHARD2 "/", "invalid shard name"},
        {SHARD2, ".", "invalid shard name"},
        {SHARD2, "..", "invalid shard name"},
        {SHARD2, "", "invalid shard name"},
        {SHARD2, "a\\u0000", "invalid shard name"},
        {SHARD2, "a\\n", "invalid shard name"},
        {SHARD2, " ", "index.json|shard"},
        {SHARD2, SHARD3, "not in the shard that is named|listed in " SHARD3 ", found in " SHARD2},
        {"\"" SHARD2 "\"", "2", "weight_map|string"},
        {"\"" SHARD2 "\"", "\"" SHARD2 "\", \"zz\": \"" SHARD2 "\"", "1 listed tensor missing|zz (" SHARD2},
        {"\"weight_map\"", "\"weight_mop\"", "weight_map is missing"},
        {"\"weight_map\": {", "\"weight_map\": {}, \"x\": {", "weight_map is empty"},
        {"\"weight_map\": {", "\"weight_map\": [], \"x\": {", "weight_map"},
        {"\"weight_map\": {", "\"weight_map\": {}, \"weight_map\": {", "duplicate"},
        {"{", "[", "an object with weight_map expected"},
        {"\"language_model.model.norm.weight\"", "\"language_model.lm_head.weight\"", "twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f = fixture_copy("hostile/bases/shards");
        fixture_replace(&f, INDEX, cases[i].from, cases[i].to);
        char path[512], words[512];
        fixture_path(&f, INDEX, path);
        snprintf(words, sizeof words, "%s|%s", INDEX, cases[i].words);
        berth_model_data *m = NULL;
        berth_error err;
        assert_true(fixture_open(&f, &m, &err) != BERTH_OK);
        fixture_refused(&f, cases[i].to, err.status, words);
        fixture_destroy(&f);
    }
}

static void sound_indexes_open(void **state)
{
    (void)state;
    berth_model_data *want = fixture_golden("hostile/bases/hf");
    static const char *const edits[][2] = {
        {"\"total_size\": ", "\"total_size\": 1"}, /* a wrong total is common and harmless */
        {"\"metadata\": {", "\"metadata\": {\"x\": [[]], "},
        {"    \"language_model.model.norm.weight\": \"" SHARD2 "\",\n", ""}, /* in a shard, though not listed */
    };
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        fixture f = fixture_copy("hostile/bases/shards");
        fixture_replace(&f, INDEX, edits[i][0], edits[i][1]);
        berth_model_data *m = fixture_accepted(&f, edits[i][0]);
        assert_int_equal(berth_model_data_n_shards(m), 3);
        fixture_same_weights(m, want);
        berth_model_data_release(m);
        fixture_destroy(&f);
    }
    berth_model_data_release(want);
}

static void shards_are_checked(void **state)
{
    (void)state;
    fixture f = fixture_copy("hostile/bases/shards");
    char path[512], moved[512];
    size_t n = 0;
    char *shard = fixture_read(&f, SHARD2, &n);
    fixture_path(&f, SHARD2, path);
    fixture_write(&f, SHARD2, shard, n - 4097);
    fixture_refused(&f, "cut", BERTH_BAD_FILE, INDEX "|" SHARD2 "|short by");
    fixture_write(&f, SHARD2, "", 0);
    fixture_refused(&f, "empty", BERTH_BAD_FILE, INDEX "|" SHARD2 "|empty");
    fixture_remove(&f, SHARD2);
    fixture_refused(&f, "gone", BERTH_NOT_FOUND, INDEX "|" SHARD2);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    fixture_refused(&f, "outside", BERTH_BAD_FILE, INDEX "|" SHARD2);
    fixture_remove(&f, SHARD2);
    assert_int_equal(mkfifo(path, 0600), 0);
    fixture_refused(&f, "fifo", BERTH_BAD_FILE, INDEX "|" SHARD2 "|regular");
    fixture_remove(&f, SHARD2);
    fixture_write(&f, "blob", shard, n);
    assert_int_equal(symlink("blob", path), 0);
    berth_model_data_release(fixture_accepted(&f, "a link inside"));
    fixture_write(&f, "copy.safetensors", shard,
                  n); /* the second shard twice, and the index names one tensor of the copy */
    fixture_replace(&f, INDEX, SHARD2, "copy.safetensors");
    fixture_refused(&f, "twice", BERTH_BAD_FILE, INDEX "|in more than one shard|in both|copy.safetensors|" SHARD2);
    fixture_path(&f, INDEX, path);
    fixture_path(&f, "elsewhere.json", moved);
    assert_int_equal(rename(path, moved), 0);
    fixture_refused(&f, "no index", BERTH_NOT_FOUND, INDEX " is missing");
    free(shard);
    fixture_destroy(&f);
}

static void damaged_indexes_are_safe(void **state)
{
    (void)state;
    fixture f = fixture_copy("hostile/bases/shards");
    size_t n = 0;
    char *whole = fixture_read(&f, INDEX, &n), *copy = malloc(n);
    assert_non_null(copy);
    uint64_t seed = 0x9e3779b9;
    for (int round = 0; round < 600; round++) {
        memcpy(copy, whole, n);
        for (int k = 0; k < 2; k++) {
            static const char likely[] = "0123456789,:[]{}\"\\/.-";
            size_t at = test_random(&seed) % n;
            copy[at] = likely[test_random(&seed) % (sizeof likely - 1)];
        }
        fixture_write(&f, INDEX, copy, n);
        berth_model_data *m = NULL;
        berth_error err;
        berth_status status = fixture_open(&f, &m, &err);
        assert_true((status == BERTH_OK) == (m != NULL));
        if (status != BERTH_OK) assert_non_null(strstr(err.message, INDEX));
        berth_model_data_release(m);
    }
    free(copy);
    free(whole);
    fixture_destroy(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(indexes_are_checked),
        cmocka_unit_test(sound_indexes_open),
        cmocka_unit_test(shards_are_checked),
        cmocka_unit_test(damaged_indexes_are_safe),
    };
    return cmocka_run_group_tests_name("model_shards", tests, NULL, NULL);
}
