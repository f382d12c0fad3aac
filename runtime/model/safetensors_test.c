/* safetensors_test.c - the reader against headers that are right, wrong, and randomly damaged; the writer against
 * the reader. */
#include "model/model_fixture.h"

#include <fcntl.h>

#include "model/names.h"
#include "model/safetensors.h"
#include "model/safetensors_internal.h"
#include "tests/random.h"

/* A file of this header and so many data bytes. */
static void put_file(const fixture *f, const char *header, size_t n, uint64_t length, size_t n_data)
{
    berth_buffer b = {0};
    for (int i = 0; i < 8; i++) berth_buffer_putc(&b, (char)(length >> (8 * i)));
    berth_buffer_append(&b, header, n);
    for (size_t i = 0; i < n_data; i++) berth_buffer_putc(&b, (char)i);
    assert_false(b.failed);
    fixture_write(f, "x.safetensors", b.data, b.len);
    berth_buffer_deinit(&b);
}

static berth_status open_file(const fixture *f, berth_safetensors **out, berth_error *err)
{
    memset(err, 0, sizeof *err);
    return berth_safetensors_open(f->dir, "x.safetensors", out, err);
}

#define A                            "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
#define ENTRY(dtype, shape, offsets) "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void refuses_what_the_format_forbids(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t n_data;
        const char *word;
    } cases[] = {
        {"null", 0, "JSON object"},
        {" {}", 0, "JSON object"},
        {"[]", 0, "JSON object"},
        {"{", 0, "JSON"},
        {"{}{}", 0, "JSON"},
        {"{" A ",}", 8, "JSON"},
        {"{'a':1}", 0, "JSON"},
        {"{\"a\":1}", 0, "must be an object"},
        {"{\"a\":{}}", 0, "missing dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", 1, "missing data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "missing shape"},
        {"{" A "," A "}", 8, "twice"},
        {"{" A ",\"\\u0061\":1}", 8, "twice"},
        {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "duplicate key dtype"},
        {"{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "name"},
        {"{\"__metadata__\":1}", 0, "__metadata__"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "string"},
        {"{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}", 0, "duplicate"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "twice"},
        {ENTRY("\"BF17\"", "[1]", "[0,1]"), 1, "unknown dtype \"BF17\""},
        {ENTRY("\"\"", "[1]", "[0,1]"), 1, "unknown dtype"},
        {ENTRY("\"U8\\u0000\"", "[1]", "[0,1]"), 1, "unknown dtype"},
        {ENTRY("7", "[1]", "[0,1]"), 1, "dtype must be a string"},
        {ENTRY("\"U8\"", "1", "[0,1]"), 1, "shape must be an array"},
        {ENTRY("\"U8\"", "[-1]", "[0,1]"), 1, "shape"},
        {ENTRY("\"U8\"", "[1.0]", "[0,1]"), 1, "shape"},
        {ENTRY("\"U8\"", "[[1]]", "[0,1]"), 1, "shape"},
        {ENTRY("\"U8\"", "[9223372036854775808]", "[0,1]"), 1, "shape"},
        {ENTRY("\"U8\"", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "dimensions"},
        {ENTRY("\"U8\"", "[4611686018427387904,4]", "[0,0]"), 0, "overflow"},
        {ENTRY("\"F32\"", "[4611686018427387905]", "[0,4]"), 4, "overflow"},
        {ENTRY("\"U8\"", "[2]", "[0,1]"), 1, "needs 2 bytes"},
        {ENTRY("\"F4\"", "[1]", "[0,1]"), 1, "needs 1 bytes"},
        {ENTRY("\"U8\"", "[1]", "[0]"), 1, "two integers"},
        {ENTRY("\"U8\"", "[1]", "[0,1,1]"), 1, "two integers"},
        {ENTRY("\"U8\"", "[1]", "[-1,0]"), 1, "two integers"},
        {ENTRY("\"U8\"", "[1]", "[0,1e0]"), 1, "two integers"},
        {ENTRY("\"U8\"", "[1]", "[0,\"1\"]"), 1, "two integers"},
        {ENTRY("\"U8\"", "[1]", "[0,18446744073709551617]"), 1, "two integers"},
        {ENTRY("\"U8\"", "[1]", "[1,0]"), 1, "end before they begin"},
        {ENTRY("\"U8\"", "[1]", "[4294967296,4294967297]"), 1, "beyond the end"},
        {ENTRY("\"U8\"", "[1]", "[0,1]"), 0, "beyond the end"},
        {ENTRY("\"U8\"", "[1]", "[1,2]"), 2, "gap"},
        {ENTRY("\"U8\"", "[1]", "[0,1]"), 2, "trailing"},
        {"{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "overlap"},
        {"{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "overlap"},
        {"{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[9,10]}}", 10, "gap"},
        {"{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}}", 8, "overlap"},
        {"{}", 1, "trailing"},
    };
    fixture f = fixture_create();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        berth_safetensors *st = NULL;
        berth_error err;
        put_file(&f, cases[i].header, strlen(cases[i].header), strlen(cases[i].header), cases[i].n_data);
        assert_int_equal(open_file(&f, &st, &err), BERTH_BAD_FILE);
        assert_null(st);
        if (!strstr(err.message, "x.safetensors") || !strstr(err.message, cases[i].word))
            fail_msg("%s: %s", cases[i].header, err.message);
    }
    fixture_destroy(&f);
}

static void accepts_what_the_format_allows(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t n_data, count;
    } cases[] = {
        {"{}", 0, 0},
        {"{}   \n\t", 0, 0},
        {"{\"__metadata__\":{\"a\":\"\\u001b\"}}", 0, 0},
        {"{\"__metadata__\":null}", 0, 0},
        {"{" A "}", 8, 1},
        {"{\"b\":{\"data_offsets\":[8,9],\"dtype\":\"BOOL\",\"shape\":[1,1]}," A "}", 9, 2},
        {ENTRY("\"F64\"", "[]", "[0,8]"), 8, 1},
        {ENTRY("\"F6_E2M3\"", "[4]", "[0,3]"), 3, 1},
        {ENTRY("\"F32\"", "[0,9223372036854775807]", "[0,0]"), 0, 1},
        {"{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[8,8]},\"c\":{\"dtype\":\"U8\",\"shape\":[0],"
         "\"data_offsets\":[0,0]}}",
         8, 3},
        {"{\"a\":{\"strides\":[[1],{\"x\":null}],\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 1},
    };
    fixture f = fixture_create();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        berth_safetensors *st = NULL;
        berth_error err;
        put_file(&f, cases[i].header, strlen(cases[i].header), strlen(cases[i].header), cases[i].n_data);
        if (open_file(&f, &st, &err) != BERTH_OK) fail_msg("%s: %s", cases[i].header, err.message);
        assert_int_equal(berth_safetensors_count(st), cases[i].count);
        berth_safetensors_close(st);
    }
    fixture_destroy(&f);
}

static void refuses_wrong_lengths_and_other_files(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *word;
    } cases[] = {
        {"", 0, "empty"},
        {"\2\0\0\0\0\0\0", 7, "too short"},
        {"\0\0\0\0\0\0\0\0{}", 10, "zero"},
        {"\3\0\0\0\0\0\0\0{}", 10, "beyond the end"},
        {"\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "over the format's limit"},
        {"\xf8\xff\xff\xff\xff\xff\xff\xff{}", 10, "over the format's limit"},
        {"\1\xe1\xf5\5\0\0\0\0{}", 10, "over the format's limit"},
        {"\0\xe1\xf5\5\0\0\0\0{}", 10, "beyond the end"},
        {"version https://git-lfs", 23, "LFS pointer"},
        {"GGUF\3\0\0\0\1\0\0\0", 12, "GGUF"},
        {"PK\3\4\0\0\0\0\1\0\0\0", 12, "zip"},
        {"{\"error\":\"no\"}", 14, "plain JSON"},
    };
    fixture f = fixture_create();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        berth_safetensors *st = NULL;
        berth_error err;
        fixture_write(&f, "x.safetensors", cases[i].bytes, cases[i].n);
        assert_int_equal(open_file(&f, &st, &err), BERTH_BAD_FILE);
        if (!strstr(err.message, cases[i].word)) fail_msg("case %zu: %s", i, err.message);
    }
    fixture_destroy(&f);
}

static void gives_tensors_as_stored(void **state)
{
    (void)state;
    fixture f = fixture_create();
    berth_safetensors *st = NULL;
    berth_error err;
    const char *header = "{\"b\":{\"dtype\":\"U8\",\"shape\":[1,3],\"data_offsets\":[8,11]}," A "}";
    put_file(&f, header, strlen(header), strlen(header), 11);
    assert_int_equal(open_file(&f, &st, &err), BERTH_OK);
    const berth_safetensor *b = berth_safetensors_find(st, "b");
    assert_non_null(b);
    assert_ptr_equal(b, berth_safetensors_at(st, 0));
    assert_int_equal(b->dtype, BERTH_U8);
    assert_string_equal(b->dtype_name, "U8");
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(b->dims[0], 1);
    assert_int_equal(b->dims[1], 3);
    assert_int_equal(b->n_bytes, 3);
    assert_int_equal(b->offset, 8 + strlen(header) + 8);
    unsigned char bytes[3];
    assert_int_equal(berth_safetensors_read(st, b, bytes, &err), BERTH_OK);
    assert_memory_equal(bytes, "\x8\x9\xa", 3);
    assert_null(berth_safetensors_find(st, "c"));
    assert_null(berth_safetensors_at(st, 2));
    char path[512];
    fixture_path(&f, "x.safetensors", path);
    assert_int_equal(truncate(path, (off_t)b->offset + 1), 0); /* cut while open: an error, not a fault */
    assert_int_equal(berth_safetensors_read(st, b, bytes, &err), BERTH_BAD_FILE);
    berth_safetensors_close(st);
    fixture_destroy(&f);
}

/* 100,000 tensors in reverse order of their data: nothing in the reader may be quadratic. */
static void reads_many_tensors(void **state)
{
    (void)state;
    enum { N = 100000 };
    fixture f = fixture_create();
    berth_buffer b = {0};
    berth_buffer_putc(&b, '{');
    for (int i = 0; i < N; i++) {
        berth_buffer_printf(&b, "%s\"layers.%d.weight\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                            i ? "," : "", i, N - 1 - i, N - i);
    }
    berth_buffer_putc(&b, '}');
    assert_false(b.failed);
    put_file(&f, b.data, b.len, b.len, N);
    berth_safetensors *st = NULL;
    berth_error err;
    assert_int_equal(open_file(&f, &st, &err), BERTH_OK);
    assert_int_equal(berth_safetensors_count(st), N);
    assert_int_equal(berth_safetensors_find(st, "layers.99999.weight")->offset, 8 + b.len);
    berth_safetensors_close(st);
    berth_buffer_deinit(&b);
    fixture_destroy(&f);
}

static void refuses_more_tensors_than_the_limit(void **state)
{
    (void)state;
    fixture f = fixture_create();
    berth_buffer b = {0};
    berth_buffer_putc(&b, '{');
    for (int i = 0; i <= BERTH_ST_MAX_TENSORS; i++) {
        berth_buffer_printf(&b, "%s\"%d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}", i ? "," : "", i);
    }
    berth_buffer_putc(&b, '}');
    assert_false(b.failed);
    put_file(&f, b.data, b.len, b.len, 0);
    berth_safetensors *st = NULL;
    berth_error err;
    assert_int_equal(open_file(&f, &st, &err), BERTH_BAD_FILE);
    assert_non_null(strstr(err.message, "limit of 262144 tensors"));
    berth_buffer_deinit(&b);
    fixture_destroy(&f);
}

static void writes_what_it_reads(void **state)
{
    (void)state;
    static const float floats[6] = {0, 1, -2, 3.5F, 1e-30F, 5};
    static const int64_t ids[2] = {7, -9};
    static const uint16_t halves[1] = {0x3c00};
    const berth_safetensors_entry entries[] = {
        {.name = "logits", .dtype = BERTH_F32, .n_dims = 2, .dims = {2, 3}, .data = floats, .n_bytes = 24},
        {.name = "h", .dtype = BERTH_BF16, .n_dims = 1, .dims = {1}, .data = halves, .n_bytes = 2},
        {.name = "a \"b\"\n", .dtype = BERTH_I64, .n_dims = 1, .dims = {2}, .data = ids, .n_bytes = 16},
        {.name = "none", .dtype = BERTH_U8, .n_dims = 2, .dims = {0, 4}, .n_bytes = 0},
    };
    fixture f = fixture_create();
    char path[512];
    fixture_path(&f, "x.safetensors", path);
    berth_error err = {0};
    assert_int_equal(berth_safetensors_write(path, entries, 4, &err), BERTH_OK);
    berth_safetensors *st = NULL;
    assert_int_equal(open_file(&f, &st, &err), BERTH_OK);
    assert_int_equal(berth_safetensors_count(st), 4);
    for (size_t i = 0; i < 4; i++) {
        const berth_safetensor *t = berth_safetensors_find(st, entries[i].name);
        assert_non_null(t);
        assert_int_equal(t->dtype, entries[i].dtype);
        assert_int_equal(t->n_dims, entries[i].n_dims);
        assert_memory_equal(t->dims, entries[i].dims, (size_t)t->n_dims * sizeof *t->dims);
        unsigned char bytes[32];
        assert_int_equal(t->n_bytes, entries[i].n_bytes);
        assert_int_equal(berth_safetensors_read(st, t, bytes, &err), BERTH_OK);
        if (t->n_bytes) assert_memory_equal(bytes, entries[i].data, t->n_bytes);
    }
    assert_int_equal(berth_safetensors_at(st, 0)->offset % 8, 0);
    berth_safetensors_close(st);
    fixture_destroy(&f);
}

static void writer_refuses_what_does_not_agree(void **state)
{
    (void)state;
    static const float one = 1;
    const berth_safetensors_entry good = {
        .name = "a", .dtype = BERTH_F32, .n_dims = 1, .dims = {1}, .data = &one, .n_bytes = 4};
    berth_safetensors_entry bad[7];
    for (size_t i = 0; i < 7; i++) bad[i] = good;
    bad[0].n_bytes = 8;
    bad[1].dims[0] = -1;
    bad[2].dtype = BERTH_DTYPE_COUNT;
    bad[3].name = "";
    bad[4].name = "\xff";
    bad[5].data = NULL;
    bad[6].n_dims = BERTH_MAX_DIMS + 1;
    fixture f = fixture_create();
    char path[512];
    fixture_path(&f, "x.safetensors", path);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(berth_safetensors_write(path, &bad[i], 1, NULL), BERTH_INVALID_ARGUMENT);
    const berth_safetensors_entry twice[] = {good, good};
    assert_int_equal(berth_safetensors_write(path, twice, 2, NULL), BERTH_INVALID_ARGUMENT);
    assert_int_not_equal(access(path, F_OK), 0); /* nothing is left behind */
    fixture_destroy(&f);
}

/* Damaged headers: a status and no fault; and what is accepted lies inside the file. */
static void damaged_headers_are_safe(void **state)
{
    (void)state;
    fixture f = fixture_create();
    size_t n = 0, accepted = 0;
    fixture source = {GOLDEN "hostile/bases/hf"};
    char *whole = fixture_read(&source, "model.safetensors", &n);
    size_t header = 8 + ((size_t)(unsigned char)whole[0] | (size_t)(unsigned char)whole[1] << 8);
    uint64_t seed = 0x5eed1234;
    char path[512];
    fixture_write(&f, "x.safetensors", whole, n);
    fixture_path(&f, "x.safetensors", path);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    char *copy = malloc(header);
    assert_non_null(copy);
    for (int round = 0; round < 3000; round++) {
        memcpy(copy, whole, header);
        for (uint64_t k = 1 + test_random(&seed) % 3; k > 0; k--) {
            static const char likely[] = "0123456789,:[]{}\"\\-e. ";
            size_t at = test_random(&seed) % header;
            copy[at] =
                test_random(&seed) % 4 ? likely[test_random(&seed) % (sizeof likely - 1)] : (char)test_random(&seed);
        }
        assert_int_equal(pwrite(fd, copy, header, 0), header);
        berth_safetensors *st = NULL;
        berth_error err;
        berth_status status = open_file(&f, &st, &err);
        assert_true((status == BERTH_OK) == (st != NULL));
        assert_true(status == BERTH_OK || strstr(err.message, "x.safetensors"));
        for (size_t i = 0; st && i < berth_safetensors_count(st); i++) {
            const berth_safetensor *t = berth_safetensors_at(st, i);
            assert_true(t->offset <= n && t->n_bytes <= n - t->offset);
        }
        accepted += st != NULL;
        berth_safetensors_close(st);
    }
    assert_true(accepted > 0 && accepted < 3000); /* names may change without harm; most else may not */
    close(fd);
    free(copy);
    free(whole);
    fixture_destroy(&f);
}

static void names_are_found_again(void **state)
{
    (void)state;
    berth_strings strings = {0};
    berth_name_table t = {0};
    char name[200];
    assert_int_equal(berth_names_find(&t, "x"), -1);
    for (int32_t i = 0; i < 20000; i++) {
        int32_t at = -1;
        int n = snprintf(name, sizeof name, "%.*s.%d", i % 150,
                         "............................................................................................."
                         ".......................................................",
                         i);
        assert_true(berth_names_add(&t, berth_strings_add(&strings, name, (size_t)n), i, &at));
        assert_int_equal(at, i);
        assert_true(berth_names_add(&t, name, i + 1, &at)); /* there already: the first value stays */
        assert_int_equal(at, i);
    }
    assert_int_equal(t.count, 20000);
    assert_int_equal(berth_names_find(&t, ".0"), 0);
    assert_int_equal(berth_names_find(&t, "0"), -1);
    assert_int_equal(berth_names_find(&t, name), 19999);
    berth_names_deinit(&t);
    berth_strings_deinit(&strings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_the_format_forbids),
        cmocka_unit_test(accepts_what_the_format_allows),
        cmocka_unit_test(refuses_wrong_lengths_and_other_files),
        cmocka_unit_test(gives_tensors_as_stored),
        cmocka_unit_test(reads_many_tensors),
        cmocka_unit_test(refuses_more_tensors_than_the_limit),
        cmocka_unit_test(writes_what_it_reads),
        cmocka_unit_test(writer_refuses_what_does_not_agree),
        cmocka_unit_test(damaged_headers_are_safe),
        cmocka_unit_test(names_are_found_again),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
