/* golden_rows.c - see golden_rows.h. */
#include "text/golden_rows.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/sha256.h"
#include "text/test_folder.h"

golden_count golden_rows(const char *name, golden_row_fn judge, void *arg)
{
    golden_count count = {0};
    char path[512], *data = NULL;
    size_t size = 0;
    berth_error err = {0};
    snprintf(path, sizeof path, "%s%s", GOLDEN_TEXT, name);
    if (berth_file_read(path, (size_t)64 << 20, &data, &size, &err) != BERTH_OK) fail_msg("%s", err.message);
    int line = 0;
    for (char *at = data, *next; at < data + size; at = next) {
        char *end = memchr(at, '\n', (size_t)(data + size - at));
        next = end ? end + 1 : data + size;
        berth_json *row = NULL;
        line++;
        if (berth_json_parse(at, (size_t)((end ? end : next) - at), name, &row, &err) != BERTH_OK)
            fail_msg("%s:%d: %s", name, line, err.message);
        const berth_json_node *root = berth_json_root(row);
        bool optional = golden_bool(root, "optional"), right = judge(root, arg);
        if (optional)
            count.n_optional++, count.n_optional_wrong += !right;
        else
            count.n_rows++, count.n_wrong += !right;
        if (!right) print_error("%s:%d: wrong%s\n", name, line, optional ? " (optional)" : "");
        berth_json_destroy(row);
    }
    free(data);
    return count;
}

const char *golden_string(const berth_json_node *row, const char *key)
{
    return berth_json_as_string(berth_json_get(row, key));
}

int64_t golden_int(const berth_json_node *row, const char *key, int64_t by_default)
{
    int64_t value = by_default;
    const berth_json_node *node = berth_json_get(row, key);
    if (node) assert_true(berth_json_as_i64(node, &value));
    return value;
}

bool golden_bool(const berth_json_node *row, const char *key)
{
    bool value = false;
    return berth_json_as_bool(berth_json_get(row, key), &value) && value;
}

void golden_unhex(const char *hex, berth_buffer *out)
{
    size_t n = strlen(hex);
    assert_true(n % 2 == 0);
    for (size_t i = 0; i < n; i += 2) {
        unsigned byte;
        assert_int_equal(sscanf(hex + i, "%2x", &byte), 1);
        assert_true(berth_buffer_putc(out, (char)byte));
    }
    assert_true(berth_buffer_append(out, "", 0));
}

bool golden_bytes(const berth_json_node *row, const char *key, berth_buffer *out)
{
    char hex_key[64];
    const char *text = golden_string(row, key);
    if (text) return berth_buffer_puts(out, text);
    snprintf(hex_key, sizeof hex_key, "%s_hex", key);
    const char *hex = golden_string(row, strcmp(key, "text") == 0 && berth_json_get(row, "hex") ? "hex" : hex_key);
    if (!hex) return false;
    golden_unhex(hex, out);
    return true;
}

void golden_text(const berth_json_node *row, berth_buffer *out)
{
    const berth_json_node *parts = berth_json_get(row, "parts");
    if (!parts) {
        assert_true(golden_bytes(row, "text", out));
        return;
    }
    for (const berth_json_node *part = berth_json_first(parts); part; part = berth_json_next(part)) {
        berth_buffer unit = {0};
        int64_t times = 0;
        golden_unhex(berth_json_as_string(berth_json_first(part)), &unit);
        assert_true(berth_json_as_i64(berth_json_next(berth_json_first(part)), &times));
        for (int64_t i = 0; i < times; i++) assert_true(berth_buffer_append(out, unit.data, unit.len));
        berth_buffer_deinit(&unit);
    }
}

void golden_ids(const berth_json_node *list, berth_ids *out)
{
    for (const berth_json_node *node = berth_json_first(list); node; node = berth_json_next(node)) {
        int64_t id;
        assert_true(berth_json_as_i64(node, &id));
        assert_true(berth_ids_push(out, (int32_t)id));
    }
}

static bool same_range(const berth_json_node *list, const int32_t *ids, size_t n)
{
    berth_ids want = {0};
    golden_ids(list, &want);
    bool same = want.len == n && (!n || memcmp(want.data, ids, n * sizeof *ids) == 0);
    berth_ids_deinit(&want);
    return same;
}

bool golden_same_ids(const berth_json_node *row, const berth_ids *ids)
{
    const berth_json_node *list = berth_json_get(row, "ids");
    if (list) return same_range(list, ids->data, ids->len);
    if (ids->len < 8 || (size_t)golden_int(row, "n_ids", -1) != ids->len) return false;
    char hex[65]; /* of ids as little-endian 32-bit words, which is how this machine has them */
    assert_true(berth_sha256_hex(ids->data, ids->len * sizeof *ids->data, hex));
    return same_range(berth_json_get(row, "ids_head"), ids->data, 8) &&
           same_range(berth_json_get(row, "ids_tail"), ids->data + ids->len - 8, 8) &&
           strcmp(hex, golden_string(row, "ids_sha256")) == 0;
}

/* mixed/tokenizer-pairs.json under the name that a tokenizer has. */
static berth_tokenizer *pairs_tokenizer(void)
{
    test_folder f;
    berth_tokenizer *t = NULL;
    berth_error err = {0};
    test_folder_init(&f);
    test_folder_copy(&f, "tokenizer.json", GOLDEN_TEXT "mixed/tokenizer-pairs.json");
    berth_status st = berth_tokenizer_open(f.path, &t, &err);
    test_folder_deinit(&f);
    if (st != BERTH_OK) fail_msg("%s", err.message);
    return t;
}

berth_tokenizer *golden_tokenizer(const char *vocabulary)
{
    char dir[512];
    const char *outside = getenv("BERTH_TEST_QWEN2");
    if (strcmp(vocabulary, "mixed-pairs") == 0) return pairs_tokenizer();
    if (strcmp(vocabulary, "qwen2") != 0)
        snprintf(dir, sizeof dir, "%s%s", GOLDEN_TEXT, vocabulary);
    else if (outside && *outside)
        snprintf(dir, sizeof dir, "%s", outside);
    else
        return NULL;
    berth_tokenizer *t = NULL;
    berth_error err = {0};
    if (berth_tokenizer_open(dir, &t, &err) != BERTH_OK) fail_msg("%s", err.message);
    return t;
}
