/* json_mutation_test.c - no mutation of a good text makes the strict reader and the tree disagree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "tests/random.h"

/* Writes the text again in one plain form, without spaces. False where the reader refuses it. */
static bool rewrite(const char *text, size_t n, berth_buffer *out)
{
    berth_json_reader r;
    berth_json_reader_init(&r, text, n);
    bool first = true, after_key = false;
    berth_json_event event;
    for (;;) {
        event = berth_json_read(&r);
        if (event == BERTH_JSON_END || event == BERTH_JSON_ERROR) break;
        bool closes = event == BERTH_JSON_END_OBJECT || event == BERTH_JSON_END_ARRAY;
        if (!first && !after_key && !closes) berth_buffer_putc(out, ',');
        first = event == BERTH_JSON_BEGIN_OBJECT || event == BERTH_JSON_BEGIN_ARRAY;
        after_key = event == BERTH_JSON_KEY;
        switch (event) {
        case BERTH_JSON_BEGIN_OBJECT: berth_buffer_putc(out, '{'); break;
        case BERTH_JSON_END_OBJECT: berth_buffer_putc(out, '}'); break;
        case BERTH_JSON_BEGIN_ARRAY: berth_buffer_putc(out, '['); break;
        case BERTH_JSON_END_ARRAY: berth_buffer_putc(out, ']'); break;
        case BERTH_JSON_NUM: berth_buffer_append(out, r.text, r.len); break;
        case BERTH_JSON_TRUE: berth_buffer_puts(out, "true"); break;
        case BERTH_JSON_FALSE: berth_buffer_puts(out, "false"); break;
        case BERTH_JSON_NIL: berth_buffer_puts(out, "null"); break;
        default: berth_buffer_json_string(out, r.text, r.len); break;
        }
        if (after_key) berth_buffer_putc(out, ':');
    }
    berth_json_reader_deinit(&r);
    return event == BERTH_JSON_END;
}

static const char config_seed[] = "{\"architectures\": [\"InternVLChatModel\"], \"dynamic_image_size\": true, \"eps\": "
                                  "1e-06, \"llm_config\": {\"hidden_size\": 896, "
                                  "\"rope_scaling\": {\"factor\": 2.0, \"type\": \"dynamic\"}, \"x\": null}}";
static const char header_seed[] =
    "{\"__metadata__\":{\"format\":\"pt\"},\"a.weight\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
    "\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[12,16]}}";
static const char tokenizer_seed[] =
    "{\"vocab\":{\"\xC4\xA0the\":1,\"\\\"\":2,\"\\\\n\":3,\"\xE6\xBC\xA2\xE5\xAD\x97\":4,\"\\ud83d\\ude00\":5},"
    "\"merges\":[\"\xC4\xA0 t\",[\"h\",\"e\"]]}";
static const char nested_seed[] = "[[[[-0.5e-7,[]],{}],\"\\u00e9\\u6f22\\t\"],true,false,null,12345678901234567890]";
static const char *const seeds[] = {config_seed, header_seed, tokenizer_seed, nested_seed};

static size_t mutate(char *text, size_t n, size_t cap, uint64_t *random)
{
    static const char pool[] = "{}[]:,\"\\u0dD8 \n-+.eE1\x80\xC3\xFF\x01tfn";
    for (uint64_t edits = 1 + test_random(random) % 4; edits; edits--) {
        size_t at = n ? test_random(random) % n : 0;
        char byte = test_random(random) % 4 ? pool[test_random(random) % (sizeof pool - 1)] : (char)test_random(random);
        switch (test_random(random) % 5) {
        case 0: /* insert */
            if (n == cap) break;
            memmove(text + at + 1, text + at, n - at);
            text[at] = byte;
            n++;
            break;
        case 1: /* delete */
            if (n == 0) break;
            memmove(text + at, text + at + 1, n - at - 1);
            n--;
            break;
        case 2: /* cut, sometimes */
            if (test_random(random) % 8 == 0) n = at;
            break;
        case 3: /* repeat a piece */ {
            size_t len = n - at < 12 ? n - at : 12;
            if (n + len > cap) break;
            memmove(text + at + len, text + at, n - at);
            n += len;
            break;
        }
        default:
            if (n) text[at] = byte;
        }
    }
    return n;
}

static berth_status parse(const char *text, size_t n, berth_error *err)
{
    berth_json *j;
    berth_status status = berth_json_parse(text, n, "text", &j, err);
    assert_int_equal(status == BERTH_OK, j != NULL);
    berth_json_destroy(j);
    return status;
}

/* What the reader takes can be written and taken again, to the same text, and the tree takes it too, unless a key comes
 * twice or U+0000 would end a string. Whether the reader takes it. */
static bool agree_on(const char *text, size_t n)
{
    berth_buffer once = {0}, twice = {0};
    berth_error err;
    berth_status status = parse(text, n, &err);
    bool is_read = rewrite(text, n, &once);
    if (is_read) {
        assert_true(rewrite(once.data, once.len, &twice));
        assert_string_equal(once.data, twice.data);
        if (status != BERTH_OK) assert_true(strstr(err.message, "already has") || strstr(err.message, "U+0000"));
        assert_int_equal(parse(once.data, once.len, NULL), status);
    } else {
        assert_int_equal(status, BERTH_BAD_FILE);
    }
    berth_buffer_deinit(&once);
    berth_buffer_deinit(&twice);
    return is_read;
}

static void mutations_never_split_reader_and_tree(void **state)
{
    (void)state;
    uint64_t random = 20250101;
    int n_accepted = 0;
    for (int round = 0; round < 12000; round++) {
        char text[1024];
        const char *seed = seeds[(size_t)round % (sizeof seeds / sizeof *seeds)];
        size_t n = strlen(seed);
        memcpy(text, seed, n);
        n = mutate(text, n, sizeof text, &random);
        char *exact = malloc(n ? n : 1); /* the sanitizer sees one byte too far */
        assert_non_null(exact);
        memcpy(exact, text, n);
        n_accepted += agree_on(exact, n);
        free(exact);
    }
    assert_true(n_accepted > 500); /* the mutations are mild enough to test both sides */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutations_never_split_reader_and_tree),
    };
    return cmocka_run_group_tests_name("json_mutation", tests, NULL, NULL);
}
