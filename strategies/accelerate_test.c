/* accelerate_test.c - the engine against maps that accelerate itself made (tests/golden/placement), and against what it
 * cannot be given there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/placement_golden.h"

static const char *random_path = PLACEMENT_GOLDEN("accelerate_random.json");
static berth_json *golden, *random_trees, *odd_trees;

static int load_golden(void **state)
{
    (void)state;
    golden = golden_open(PLACEMENT_GOLDEN("placement_golden.json"));
    random_trees = golden_open(random_path);
    odd_trees = golden_open(PLACEMENT_GOLDEN("accelerate_odd.json"));
    return golden && random_trees && odd_trees ? 0 : 1;
}

static int drop_golden(void **state)
{
    (void)state;
    berth_json_destroy(golden);
    berth_json_destroy(random_trees);
    berth_json_destroy(odd_trees);
    return 0;
}

static const berth_json_node *section(const char *name)
{
    const berth_json_node *node = berth_json_get(berth_json_root(golden), name);
    assert_true(berth_json_size(node) > 0);
    return node;
}

typedef struct golden_request {
    golden_case c;
    berth_tree tree;
} golden_request;

static void read_request(const berth_json_node *c, golden_request *g)
{
    const berth_json_node *model = berth_json_get(c, "model");
    if (berth_json_as_string(model)) model = berth_json_get(section("models"), berth_json_as_string(model));
    berth_error err = {0};
    if (berth_tree_from_json(model, "golden", &g->tree, &err) != BERTH_OK) fail_msg("%s", err.message);
    golden_read(c, &g->tree, &g->c);
}

static void check_budgets(const char *id, const berth_json_node *expected, const berth_accelerate_result *r)
{
    int32_t i = 0;
    for (const berth_json_node *n = berth_json_first(expected); n; n = berth_json_next(n), i++) {
        double bytes;
        assert_true(i < r->n_budgets && berth_json_as_f64(berth_json_next(berth_json_first(n)), &bytes));
        if (r->budgets[i].device != golden_device(berth_json_first(n)) || r->budgets[i].bytes != bytes)
            fail_msg("%s: budget of %s is %.3f, not %.3f", id, golden_device_name(r->budgets[i].device),
                     r->budgets[i].bytes, bytes);
    }
    assert_int_equal(i, r->n_budgets);
}

static void check_map(const char *id, const char *what, const berth_json_node *expected, const berth_tree *t,
                      const berth_accelerate_entry *map, int32_t n)
{
    int32_t i = 0;
    for (const berth_json_node *e = berth_json_first(expected); e; e = berth_json_next(e), i++) {
        const char *path = berth_json_as_string(berth_json_first(e));
        int32_t device = golden_device(berth_json_next(berth_json_first(e)));
        if (i >= n || strcmp(berth_tree_path(t, map[i].entry), path) != 0 || map[i].device != device)
            fail_msg("%s: %s[%d] is %s on %s, not %s on %s", id, what, i,
                     i < n ? berth_tree_path(t, map[i].entry) : "(nothing)",
                     i < n ? golden_device_name(map[i].device) : "-", path, golden_device_name(device));
    }
    if (i != n) fail_msg("%s: %s has %d keys, not %d", id, what, n, i);
}

static void check_bytes(const char *id, const berth_json_node *expected, const golden_request *g,
                        const berth_accelerate_result *r)
{
    for (const berth_json_node *e = berth_json_first(expected); e; e = berth_json_next(e)) {
        const char *key = berth_json_key(e);
        double bytes, sum = 0;
        assert_true(berth_json_as_f64(e, &bytes));
        for (int32_t i = 0; i < g->tree.n_tensors; i++) {
            int32_t device;
            bool is_covered = berth_accelerate_device(&g->tree, r, g->tree.n_modules + i, &device);
            if (strcmp(is_covered ? golden_device_name(device) : "None", key) == 0)
                sum += (double)berth_accelerate_bits(&g->tree.tensors[i], g->c.req.dtype_bits) / 8;
        }
        if (sum != bytes) fail_msg("%s: %.3f bytes on %s, not %.3f", id, sum, key, bytes);
    }
}

static void check_derived(const char *id, const berth_json_node *d, const berth_accelerate_result *r)
{
    const struct {
        const char *key;
        double value;
    } fields[] = {
        {"total", r->total_bytes},         {"per_gpu_raw", r->share_bytes}, {"nosplit_max", r->no_split_bytes},
        {"mean_leaf", r->mean_leaf_bytes}, {"n_leaf", r->n_leaves},         {"buffer", r->buffer_bytes},
        {"per_gpu", r->budget_bytes}};
    for (size_t i = 0; d && i < sizeof fields / sizeof *fields; i++) {
        double expected;
        if (!berth_json_as_f64(berth_json_get(d, fields[i].key), &expected)) continue; /* not all were written down */
        if (fields[i].value != expected)
            fail_msg("%s: %s is %.3f, not %.3f", id, fields[i].key, fields[i].value, expected);
    }
}

static void check_case(const berth_json_node *c)
{
    const char *id = berth_json_as_string(berth_json_get(c, "id")),
               *raises = berth_json_as_string(berth_json_get(c, "raises"));
    golden_request g;
    berth_accelerate_result r;
    berth_error err = {0};
    read_request(c, &g);
    berth_status st = berth_accelerate_place(&g.c.req, &r, &err);
    if (raises) {
        if (st != BERTH_UNSUPPORTED || !r.raises || strcmp(r.raises, raises) != 0)
            fail_msg("%s: %s %s, not %s", id, berth_status_name(st), r.raises ? r.raises : err.message, raises);
        assert_non_null(strstr(err.message, raises));
    } else {
        if (st != BERTH_OK) fail_msg("%s: %s", id, err.message);
        check_budgets(id, berth_json_get(c, "capped_memory"), &r);
        check_derived(id, berth_json_get(c, "derived"), &r);
        if (berth_json_get(c, "raw_map"))
            check_map(id, "raw_map", berth_json_get(c, "raw_map"), &g.tree, r.raw, r.n_raw);
        golden_check_map(id, berth_json_get(c, "map"), &g.tree, &r);
        if (berth_json_get(c, "bytes")) check_bytes(id, berth_json_get(c, "bytes"), &g, &r);
    }
    berth_accelerate_deinit(&r);
    berth_tree_deinit(&g.tree);
}

static void maps_that_accelerate_made(void **state)
{
    (void)state;
    int32_t n = 0;
    for (const berth_json_node *c = berth_json_first(section("cases")); c; c = berth_json_next(c), n++) check_case(c);
    assert_true(n >= 95);
}

static void maps_of_random_trees(void **state)
{
    (void)state;
    int32_t n = 0;
    for (const berth_json_node *c = berth_json_first(section("fuzz")); c; c = berth_json_next(c), n++) check_case(c);
    assert_true(n >= 79);
}

static void maps_of_transformers_5(void **state)
{
    (void)state;
    int32_t n = 0;
    for (const berth_json_node *c = berth_json_first(section("transformers_v5")); c; c = berth_json_next(c), n++)
        check_case(c);
    assert_true(n >= 20);
}

/* Made by tests/golden/placement/make/accelerate_random.py; the map is in accelerate's own order there. */
static void maps_of_more_random_trees(void **state)
{
    (void)state;
    int32_t n = 0;
    const berth_json_node *c = berth_json_first(berth_json_get(berth_json_root(random_trees), "cases"));
    for (; c; c = berth_json_next(c), n++) check_case(c);
    assert_true(n >= 300);
}

/* The same, "odd": small types, every dtype, strange names, and each exception that accelerate raises. */
static void maps_of_odd_trees(void **state)
{
    (void)state;
    int32_t n = 0;
    const berth_json_node *c = berth_json_first(berth_json_get(berth_json_root(odd_trees), "cases"));
    for (; c; c = berth_json_next(c), n++) check_case(c);
    assert_true(n >= 150);
}

static void size_strings(void **state)
{
    (void)state;
    for (const berth_json_node *e = berth_json_first(berth_json_get(section("oneoff"), "size_strings")); e;
         e = berth_json_next(e)) {
        const char *text = berth_json_as_string(berth_json_first(e));
        int64_t expected, bytes = -1;
        bool is_size = berth_json_as_i64(berth_json_next(berth_json_first(e)), &expected);
        if (berth_accelerate_size(text, &bytes) != is_size || (is_size && bytes != expected))
            fail_msg("%s: %" PRId64, text, bytes);
    }
    static const struct {
        const char *text;
        int64_t bytes;
    } python[] = {{"1e3KB", 1000000}, {" 1.5 GB", 1500000000}, {"+1_0KiB", 10240}, {"1.GiB", 1073741824},
                  {".5MB", 500000},   {"1e0Gb", 125000000},    {"-0MB", 0},        {"10GIb", INT64_C(10737418240)}};
    for (size_t i = 0; i < sizeof python / sizeof *python; i++) {
        int64_t bytes = -1;
        if (!berth_accelerate_size(python[i].text, &bytes) || bytes != python[i].bytes)
            fail_msg("\"%s\" gave %" PRId64, python[i].text, bytes);
    }
    static const char *const wrong[] = {"",        "GB",
                                        "0x10GB",  "1.2.3GB",
                                        ".GB",     ".GB.",
                                        "inf GB",  "nanGB",
                                        "1__0GB",  "_1GB",
                                        "1_GB",    "1e GB",
                                        "1 0GB",   "-1GB",
                                        "1,5GB",   "e3GB",
                                        "10",      "10TB",
                                        "1e400GB", "- 1GB",
                                        "1._5GB",  "99999999999999999999GB"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int64_t bytes;
        if (berth_accelerate_size(wrong[i], &bytes)) fail_msg("\"%s\" gave %" PRId64, wrong[i], bytes);
    }
}

/* Budgets not given, one GPU: it is used to 0.9, and what a 16 GiB card then has no room for goes to the cpu. */
static void one_gpu_is_used_to_nine_tenths(void **state)
{
    (void)state;
    const berth_json_node *expected = berth_json_get(section("oneoff"), "single_gpu_0.9");
    berth_tree tree;
    berth_error err = {0};
    double cap;
    static const char *const classes[] = {"InternVisionModel", "LlamaDecoderLayer", "Qwen2DecoderLayer"};
    const berth_accelerate_budget budgets[] = {{BERTH_ACCELERATE_CPU, 68719476736.0}, {0, 17179869184.0}};
    assert_int_equal(berth_tree_from_json(berth_json_get(section("models"), "internvl3-8b"), "golden", &tree, &err),
                     BERTH_OK);
    berth_accelerate_request req = {.tree = &tree,
                                    .strategy = BERTH_ACCELERATE_BALANCED,
                                    .dtype_bits = 16,
                                    .no_split = classes,
                                    .n_no_split = 3,
                                    .budgets = budgets,
                                    .n_budgets = 2,
                                    .budgets_are_free_memory = true};
    berth_accelerate_result r;
    if (berth_accelerate_place(&req, &r, &err) != BERTH_OK) fail_msg("%s", err.message);
    assert_true(berth_json_as_f64(berth_json_get(expected, "cap"), &cap));
    assert_true(r.budgets[0].bytes == cap && r.budgets[0].device == 0);
    check_map("single_gpu_0.9", "map", berth_json_get(expected, "map"), &tree, r.map, r.n_map);
    berth_accelerate_deinit(&r);
    berth_tree_deinit(&tree);
}

/* Types smaller than a byte, ties among three names, a module that names one parameter twice. */
static void sizes_in_parts_of_a_byte(void **state)
{
    (void)state;
    berth_tree t = {0};
    assert_int_equal(berth_tree_add_module(&t, "", "M", NULL), BERTH_OK);
    assert_int_equal(berth_tree_add_module(&t, "a", "M", NULL), BERTH_OK);
    assert_int_equal(berth_tree_add_tensor(&t, "mask", 3, "bool", true, NULL), BERTH_OK);
    assert_int_equal(berth_tree_add_module(&t, "b", "M", NULL), BERTH_OK);
    assert_int_equal(berth_tree_add_tensor(&t, "q", 3, "int4", false, NULL), BERTH_OK);
    assert_int_equal(berth_tree_add_tensor(&t, "w", 3, "f32", false, NULL), BERTH_OK);
    assert_int_equal(berth_tree_finish(&t, NULL), BERTH_OK);
    const berth_accelerate_budget budgets[] = {{0, 1.0}, {1, 7.5}};
    berth_accelerate_request req = {.tree = &t, .dtype_bits = 16, .budgets = budgets, .n_budgets = 2};
    berth_accelerate_result r;
    assert_int_equal(berth_accelerate_place(&req, &r, NULL), BERTH_OK);
    assert_true(r.total_bytes == 0.375 + 1.5 + 6);
    assert_int_equal(r.n_raw,
                     2); /* a on nothing but GPU 1: GPU 0 keeps 7.5 bytes for b, which then has no room beside a */
    assert_int_equal(r.raw[0].device, 1);
    assert_int_equal(r.raw[1].device, BERTH_ACCELERATE_DISK);
    berth_accelerate_deinit(&r);
    berth_tree_deinit(&t);
}

/* ---- trees that are wrong ---- */

static const struct tree_case {
    const char *json, *words; /* NULL words: right */
} tree_cases[] = {
    {"{\"modules\":[[\"\",\"M\",[],[]],[\"a\",\"A\",[[\"w\",1,\"bf16\"]],[[\"b\",1,\"i64\",1]]]],\"tied\":[]}", NULL},
    {"{\"modules\":[[\"\",\"M\",[],[]]]}", NULL},
    {"{\"modules\":[[\"\",\"M\",[],[]],[\"l\",\"L\",[],[]],[\"l.0\",\"B\",[],[]],[\"l.0.r\",\"L\",[],[]],[\"l.0.r.0\","
     "\"B\",[],[]]],"
     "\"repeat\":{\"l\":3,\"l.0.r\":2}}",
     NULL},
    {"{}", "has no list \"modules\""},
    {"{\"modules\":[]}", "the module tree is empty"},
    {"{\"modules\":[[\"a\",\"M\",[],[]]]}", "has the empty path"},
    {"{\"modules\":[[\"\",\"M\",[],[]],[\"\",\"M\",[],[]]]}", "has the empty path"},
    {"{\"modules\":[[\"\",\"M\",[],[]],[\"a.b\",\"M\",[],[]]]}", "does not stand below its parent"},
    {"{\"modules\":[[\"\",\"M\",[],[]],[\"a\",\"M\",[],[]],[\"b\",\"M\",[],[]],[\"a.c\",\"M\",[],[]]]}",
     "does not stand below its parent"},
    {"{\"modules\":[[\"\",\"M\",[],[]],[\"a\",\"M\",[],[]],[\"a\",\"M\",[],[]]]}", "\"a\" is in the tree twice"},
    {"{\"modules\":[[\"\",\"M\",[[\"a\",1,\"u8\"]],[]],[\"a\",\"M\",[],[]]]}", "\"a\" is in the tree twice"},
    {"{\"modules\":[[\"\",\"M\"]]}", "is not [path, class"},
    {"{\"modules\":[[\"\",\"M\",[[\"w\",-1,\"u8\"]],[]]]}", "size out of range"},
    {"{\"modules\":[[\"\",\"M\",[[\"w\",9007199254740991,\"u8\"]],[]]]}", "size out of range"},
    {"{\"modules\":[[\"\",\"M\",[[\"w\",1.5,\"u8\"]],[]]]}", "is not [path, class"},
    {"{\"modules\":[[\"\",\"M\",[[\"w\",1,\"bf17\"]],[]]]}", "has dtype \"bf17\""},
    {"{\"modules\":[[\"\",\"M\",[[\"w.x\",1,\"u8\"]],[]]]}", "has no dot"},
    {"{\"modules\":[[\"\",\"M\",[[\"\\u001b[2J\",1,\"bad\"]],[]]]}", "\\x1B[2J"},
    {"{\"modules\":[[\"\",\"M\",[[\"w\",1,\"u8\"]],[]]],\"tied\":[[\"w\",\"x\"]]}", "no parameter of that name"},
    {"{\"modules\":[[\"\",\"M\",[[\"w\",1,\"u8\"]],[]]],\"tied\":[[\"w\",\"w\"]]}", "two groups"},
    {"{\"modules\":[[\"\",\"M\",[],[[\"w\",1,\"u8\",1]]]],\"tied\":[[\"w\"]]}", "it is a buffer"},
    {"{\"modules\":[[\"\",\"M\",[],[]],[\"l\",\"L\",[],[]],[\"l.0\",\"B\",[],[]]],\"repeat\":{\"l\":0}}",
     "is not a count"},
    {"{\"modules\":[[\"\",\"M\",[],[]],[\"l\",\"L\",[],[]],[\"l.1\",\"B\",[],[]]],\"repeat\":{\"l\":2}}",
     "must hold exactly the module"},
    {"{\"modules\":[[\"\",\"M\",[],[]],[\"l\",\"L\",[],[]],[\"l.0\",\"B\",[],[]],[\"l.1\",\"B\",[],[]]],\"repeat\":{"
     "\"l\":2}}",
     "must hold exactly the module"},
};

static void trees_right_and_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof tree_cases / sizeof *tree_cases; i++) {
        const struct tree_case *c = &tree_cases[i];
        berth_json *json;
        berth_tree t;
        berth_error err = {0};
        assert_int_equal(berth_json_parse(c->json, strlen(c->json), "test", &json, &err), BERTH_OK);
        berth_status st = berth_tree_from_json(berth_json_root(json), "tree.json", &t, &err);
        if ((st == BERTH_OK) != !c->words || (c->words && !strstr(err.message, c->words)))
            fail_msg("%s: %s", c->json, err.message);
        if (st == BERTH_OK && i == 2) {
            assert_int_equal(t.n_modules, 2 + 3 * (1 + 1 + 2));
            assert_true(berth_tree_find(&t, "l.2.r.1") >= 0 && berth_tree_find(&t, "l.2.r.2") < 0);
        }
        berth_tree_deinit(&t);
        berth_json_destroy(json);
    }
}

static void budgets_that_are_wrong(void **state)
{
    (void)state;
    berth_tree t = {0};
    assert_int_equal(berth_tree_add_module(&t, "", "M", NULL), BERTH_OK);
    assert_int_equal(berth_tree_finish(&t, NULL), BERTH_OK);
    const berth_accelerate_budget wrong[][2] = {{{0, -1}, {1, 1}},
                                                {{0, (double)NAN}, {1, 1}},
                                                {{0, (double)INFINITY}, {1, 1}},
                                                {{0, 1}, {0, 2}},
                                                {{-4, 1}, {1, 1}}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        berth_accelerate_request req = {.tree = &t, .budgets = wrong[i], .n_budgets = 2};
        berth_accelerate_result r;
        assert_int_equal(berth_accelerate_place(&req, &r, NULL), BERTH_INVALID_ARGUMENT);
        assert_null(r.raises);
    }
    berth_accelerate_request req = {.tree = &t}; /* nothing to place, nowhere to place it */
    berth_accelerate_result r;
    assert_int_equal(berth_accelerate_place(&req, &r, NULL), BERTH_OK);
    assert_int_equal(r.n_map, 0);
    berth_accelerate_deinit(&r);
    berth_tree_deinit(&t);
}

/* accelerate_test [FILE]: FILE, with more random trees, instead of the bundled one. */
int main(int argc, char **argv)
{
    if (argc > 1) random_path = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_that_accelerate_made),
        cmocka_unit_test(maps_of_random_trees),
        cmocka_unit_test(maps_of_transformers_5),
        cmocka_unit_test(maps_of_more_random_trees),
        cmocka_unit_test(maps_of_odd_trees),
        cmocka_unit_test(size_strings),
        cmocka_unit_test(one_gpu_is_used_to_nine_tenths),
        cmocka_unit_test(sizes_in_parts_of_a_byte),
        cmocka_unit_test(trees_right_and_wrong),
        cmocka_unit_test(budgets_that_are_wrong),
    };
    return cmocka_run_group_tests_name("accelerate", tests, load_golden, drop_golden);
}
