/* cli_plan_test.c - berth plan and berth explain as their users meet them: what is printed, what is refused, and the exit code that says whether it fits. */
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/status.h"
#include "program.h"

#define LARGE  "-m " GOLDEN "plan/internvl3-8b -q "
#define NATIVE "-m " GOLDEN "models/ivl-native "

typedef struct told {
    const char *arguments;
    int code;
    const char *says[4]; /* on standard output, or, when it is refused, on standard error */
} told;

static const told cases[] = {
    {"plan " LARGE "-d cpu*4/mem=16GiB -s balanced", 0, {"a picture", "a token", "fits", "a context of 32768 tokens"}},
    {"plan " LARGE "-d cpu*4/mem=16GiB -s balanced",
     0,
     {"cpu:0 \u2192 cpu:1 ", "-   7.00 MiB  14.00 KiB\n", "of 13 tiles", "KV/token"}},
    {"plan " LARGE "-d cpu*4/mem=16GiB -s balanced -b 2 -c 100",
     0,
     {"contexts of 100 tokens", "2 conversations", "passes of 100 tokens, 4 tiles"}},
    {"plan " LARGE "-d 4xV100-SXM2-16GB -s replicate=2",
     0,
     {"replica 0\n", "V100-SXM2-16GB:0 \u2192 :1 ",
      "replica 1       as replica 0, on V100-SXM2-16GB:2, V100-SXM2-16GB:3"}},
    {"plan " LARGE "-d 4xV100-SXM2-16GB -s replicate=2 --replica 1", 0, {"replica 1\n", "V100-SXM2-16GB:2 \u2192 :3 "}},
    {"plan " LARGE "-d 4xV100-SXM2-16GB -s replicate=2 --replica 2", 2, {"--replica 2: the plan has 2"}},
    {"plan " LARGE "-d 4xV100-SXM2-16GB -s replicate=2 --replica 1 --print-device-map", 0, {"\"vision_model\": 2"}},
    {"plan " LARGE "-d 4xV100-SXM2-16GB -s replicate=2 --dot", 0, {" r0n", " r1n", "cluster_3"}},
    {"plan " LARGE "-d cuda:999", 5, {"device item \"cuda:999\""}}, /* whether there are GPUs or not */
    {"plan " LARGE "-d cpu*2 --max-memory cuda:0=1GiB", 2, {"no device \"cuda:0\"; there are cpu:0, cpu:1"}},
    {"plan " LARGE "--json --dot", 2, {"--json and --dot are two forms"}},
    {"plan " LARGE "--compare single --print-device-map", 2, {"two forms"}},
    {"plan " LARGE "--no-split A", 2, {"--no-split is for a tree"}},
    {"plan " LARGE "--modules x.json", 2, {"leave out --model"}},
    {"plan --modules x.json --compat accelerate", 2, {"needs --max-memory", "or else --devices"}},
    {"plan " LARGE "-d cpu*2/mem=9GiB -s balanced -c 32768",
     4,
     {"does not fit: cpu:", "bytes)", "a context of 2", "the strategy refuses"}},
    {"plan " LARGE "-d cpu*2/mem=4GiB -s balanced", 4, {"the weights alone are too large"}},
    {"plan " LARGE "-d cpu*2/mem=4GiB --device-map /dev/null", 3, {"/dev/null"}},
    {"plan -m " GOLDEN "plan/internvl3-8b -d cpu*4/mem=16GiB -s balanced",
     0,
     {"accelerate would put 7 modules elsewhere: mlp1.0 on cpu:3"}},
    {"plan -m " GOLDEN "plan/internvl3-8b -d cpu*2/mem=16GiB -s auto", 0, {"accelerate would put"}},
    {"plan " LARGE "-d cpu*4/mem=16GiB --dot", 0, {"digraph berth {", "subgraph cluster_0", "/tile", "/token"}},
    {"plan " LARGE "-d cpu*4/mem=16GiB --compare accelerate,balanced,layer=3,1,1,1",
     0,
     {"  balanced ", "  layer=3,1,1,1 ", "balance", "yes"}},
    {"plan " LARGE "-d cpu*2/mem=4GiB --compare single,balanced", 4, {"single misses", "balanced misses", " no\n"}},
    {"plan " LARGE "-d cpu*4 --compare good,single", 2, {"strategy \"good\" is not known"}},
    {"plan " LARGE "--compare ,", 2, {"--compare ,"}},
    {"plan " LARGE "--compare single -s auto", 2, {"leave out --strategy"}},
    {"plan " LARGE "-d cpu*4/mem=16GiB --place vision.*=cpu:3 --layers 7,7,7,7 --print-device-map",
     0,
     {"\"vision_model\": 3", "layers.6\": 0", "layers.7\": 1", "lm_head\": 3"}},
    {"plan " LARGE "-d cpu*4/mem=16GiB --place visin=cpu:3", 2, {"visin", "nearest name is \"vision\""}},
    {"plan " LARGE "-d cpu*4/mem=16GiB --layers 7,7,7,8", 2, {"add up to 29"}},
    {"explain " LARGE "-d cpu*4/mem=16GiB -s balanced text.layer.9",
     0,
     {"why: strategy balanced put language_model.model.layers.9 on cpu:1", "before: language_model.model.layers.8",
      "read_by"}},
    {"explain " LARGE "-d cpu*4/mem=16GiB --place text.layer.9=2 text.layer.9", 0, {"why: place text.layer.9=2 put"}},
    {"explain " LARGE "-d cpu*4/mem=16GiB step:41 --json", 0, {"\"schema\": \"berth.explain/1\"", "\"waits_for\""}},
    {"explain " LARGE "-d 4xV100-SXM2-16GB -s replicate=2 text.layer.3",
     0,
     {"replica: 0\n", "replica: 1\n", "rule: replicate: ", "V100-SXM2-16GB:1, left 7.49 GiB, would fit"}},
    {"explain " LARGE "-d cpu*2/mem=8GiB -s balanced text.layer.3", 0, {"would miss "}},
    {"explain " LARGE "text.layer.99", 2, {"the nearest names are", "text.layer.9"}},
    {"explain " LARGE, 2, {"name a module"}},
    {"explain text.layer.0", 2, {"-m DIR"}},
    {"run " NATIVE "-d cpu*2 --layers 1,1,1 -p x", 2, {"expected 2 numbers"}},
};

static void plans_say_what_they_should(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const told *c = &cases[i];
        program_result r = program_expect(NULL, c->code, c->arguments);
        const char *text = c->code == 0 || c->code == 4 ? r.out : r.err;
        for (int k = 0; k < 4 && c->says[k] != NULL; k++)
            if (strstr(text, c->says[k]) == NULL)
                fail_msg("berth %s: \"%s\" is not in:\n%s", c->arguments, c->says[k], text);
        program_deinit(&r);
    }
}

static berth_json *json_of(const char *arguments, int code)
{
    program_result r = program_expect(NULL, code, arguments);
    berth_json *json;
    berth_error err = {0};
    if (berth_json_parse(r.out, r.out_size, "output", &json, &err) != BERTH_OK) fail_msg("%s\n%s", err.message, r.out);
    program_deinit(&r);
    return json;
}

static void plans_in_json_have_their_fields(void **state)
{
    (void)state;
    berth_json *json = json_of("plan " LARGE "-d cpu*2/mem=9GiB -s balanced -c 32768 --json", 4);
    const berth_json_node *root = berth_json_root(json);
    int64_t n = -1;
    assert_string_equal(berth_json_as_string(berth_json_get(root, "schema")), "berth.plan/1");
    assert_true(berth_json_as_i64(berth_json_get(root, "missing_bytes"), &n) && n > 0);
    assert_non_null(strstr(berth_json_as_string(berth_json_get(root, "refusal")), "strategy balanced"));
    const berth_json_node *limits = berth_json_get(root, "limits"), *binds = berth_json_get(root, "binds");
    assert_true(berth_json_as_i64(berth_json_get(limits, "context"), &n) && n > 0 && n < 32768);
    assert_true(berth_json_as_i64(berth_json_get(binds, "room_bytes"), &n) && n < 0);
    const berth_json_node *replica = berth_json_first(berth_json_get(root, "replicas"));
    static const char *const crossings[] = {"per_picture", "per_prompt", "per_token"};
    for (size_t i = 0; i < 3; i++)
        assert_true(
            berth_json_as_i64(berth_json_get(berth_json_first(berth_json_get(replica, crossings[i])), "bytes"), &n));
    berth_json_destroy(json);
}

static void comparisons_in_json_have_their_fields(void **state)
{
    (void)state;
    berth_json *json =
        json_of("plan " LARGE
                "-d cpu*4/mem=16GiB --compare accelerate,balanced,single,layer=3,1,1,1,accelerate=sequential --json",
                0);
    const berth_json_node *row = berth_json_first(berth_json_get(berth_json_root(json), "rows"));
    static const struct {
        const char *name;
        int64_t moved, hops, empty;
    } want[] = {{"accelerate", 0, 3, 0},
                {"balanced", 7, 3, 0},
                {"single", 29, 0, 3},
                {"layer=3,1,1,1", -1, 3, 0},
                {"accelerate=sequential", 29, 0, 3}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++, row = berth_json_next(row)) {
        int64_t n = -1;
        assert_string_equal(berth_json_as_string(berth_json_get(row, "strategy")), want[i].name);
        assert_true(berth_json_as_i64(berth_json_get(row, "moved"), &n) && (want[i].moved < 0 || n == want[i].moved));
        assert_true(berth_json_as_i64(berth_json_get(row, "hops_per_token"), &n) && n == want[i].hops);
        assert_true(berth_json_as_i64(berth_json_get(row, "bytes_per_token"), &n) && n == want[i].hops * 3584 * 4);
        assert_true(berth_json_as_i64(berth_json_get(row, "empty_devices"), &n) && n == want[i].empty);
    }
    assert_null(row);
    berth_json_destroy(json);
}

/* accelerate's 0.9 of a single GPU where it is given no max_memory (`oneoff` of placement_golden.json). */
static void trees_take_what_accelerate_would_find_free(void **state)
{
    (void)state;
    char path[512], arguments[640];
    snprintf(path, sizeof path, "%s/tree.json", test_folder());
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("{\"modules\": [[\"\", \"M\", [], []], [\"a\", \"A\", [[\"w\", 640, \"u8\"]], []],"
          " [\"b\", \"A\", [[\"w\", 300, \"u8\"]], []]]}",
          f);
    fclose(f);
    snprintf(arguments, sizeof arguments, "plan --modules %s --compat accelerate --devices cpu/mem=1000 --json", path);
    berth_json *json = json_of(arguments, 0);
    const berth_json_node *root = berth_json_root(json);
    double bytes;
    assert_true(berth_json_as_f64(berth_json_get(berth_json_get(root, "budgets"), "0"), &bytes));
    assert_true(bytes == 900);
    const berth_json_node *whole = berth_json_first(berth_json_get(root, "device_map"));
    assert_non_null(whole);
    assert_string_equal(berth_json_key(whole), "");
    assert_non_null(berth_json_as_string(whole));
    assert_string_equal(berth_json_as_string(whole), "cpu"); /* with 1000 bytes it would be on 0 */
    berth_json_destroy(json);
}

static void several_explanations_are_a_list(void **state)
{
    (void)state;
    berth_json *json = json_of("explain " LARGE "-d cpu*4/mem=16GiB -s replicate=2 text.layer.3 step:41 --json", 0);
    const berth_json_node *e = berth_json_first(berth_json_root(json));
    for (int64_t want = 0; want < 4; want++, e = berth_json_next(e)) {
        int64_t replica = -1;
        assert_true(berth_json_as_i64(berth_json_get(e, "replica"), &replica) && replica == want / 2);
        assert_true((berth_json_get(e, "op") != NULL) == (want % 2 == 1));
    }
    assert_null(e);
    berth_json_destroy(json);
}

/* A map of what the strategy would do with more memory is no map. */
static void no_map_of_a_refused_plan(void **state)
{
    (void)state;
    program_result r = program_expect(NULL, 4, "plan " LARGE "-d cpu*2/mem=4GiB -s balanced --print-device-map");
    assert_int_equal(r.out_size, 0);
    assert_non_null(strstr(r.err, "missing: "));
    program_deinit(&r);
}

static void without_utf8_the_drawing_is_ascii(void **state)
{
    (void)state;
    assert_int_equal(setenv("LC_ALL", "C", 1), 0);
    program_result r = program_expect(NULL, 0, "plan " LARGE "-d cpu*4/mem=16GiB -s balanced");
    assert_int_equal(setenv("LC_ALL", "C.UTF-8", 1), 0);
    for (size_t i = 0; i < r.out_size; i++) assert_true((unsigned char)r.out[i] < 0x80);
    assert_non_null(strstr(r.out, "cpu:0 -> cpu:1 "));
    assert_null(strstr(r.out, "\033"));
    program_deinit(&r);
}

/* What the program writes on a terminal of so many columns; owned. */
static char *on_terminal(unsigned short columns, const char *const *arguments)
{
    enum { MOST = 1 << 16 };
    const struct winsize size = {.ws_row = 50, .ws_col = columns};
    int fd, status;
    const pid_t child = forkpty(&fd, NULL, NULL, &size);
    assert_true(child >= 0);
    if (child == 0) {
        const char *argv[16] = {BERTH_PROGRAM};
        for (int i = 0; arguments[i] != NULL && i < 14; i++) argv[i + 1] = arguments[i];
        setenv("TERM", "xterm", 1);
        unsetenv("NO_COLOR");
        if (chdir(GOLDEN "plan") == 0) execv(BERTH_PROGRAM, (char **)(uintptr_t)argv);
        _exit(127);
    }
    char *text = calloc(1, MOST);
    assert_non_null(text);
    size_t len = 0;
    for (ssize_t n; len < MOST - 1 && (n = read(fd, text + len, MOST - 1 - len)) > 0;) len += (size_t)n;
    close(fd);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return text;
}

/* Columns of the line at `text`: characters without escapes. */
static int columns_of(const char *text, const char **end)
{
    int n = 0;
    for (; *text && *text != '\n'; text++) {
        if (*text == '\033') {
            text += strcspn(text, "m");
            continue;
        }
        n += *text != '\r' && ((unsigned char)*text & 0xc0) != 0x80;
    }
    *end = *text ? text + 1 : text;
    return n;
}

static void a_terminal_is_not_overrun(void **state)
{
    (void)state;
    static const char *const calls[][14] = {
        {"plan", "-m", "internvl3-8b", "-q", "-d", "4xV100-SXM2-16GB", "-s", "balanced"},
        {"plan", "-m", "internvl3-8b", "-d", "8xH200", "-s", "replicate=2"},
        {"plan", "-m", "internvl3-8b", "-q", "-d", "4xV100-SXM2-16GB", "--compare", "accelerate,layer=3,1,1,1,single"},
    };
    static const unsigned short widths[] = {200, 120, 100, 82};
    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
        for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
            char *text = on_terminal(widths[w], calls[c]);
            for (const char *line = text, *end = text; *line; line = end) {
                const int n = columns_of(line, &end);
                if (n > widths[w] && strncmp(line, "berth: ", 7) != 0) /* not a message */

                    fail_msg("%d columns on a terminal of %d: %.*s", n, widths[w], (int)(end - line), line);
            }
            assert_true(c == 2 || strstr(text, "\033[") != NULL);
            free(text);
        }
    }
}

int main(void)
{
    setenv("LC_ALL", "C.UTF-8", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trees_take_what_accelerate_would_find_free),
        cmocka_unit_test(several_explanations_are_a_list),
        cmocka_unit_test(no_map_of_a_refused_plan),
        cmocka_unit_test(without_utf8_the_drawing_is_ascii),
        cmocka_unit_test(a_terminal_is_not_overrun),
        cmocka_unit_test(plans_say_what_they_should),
        cmocka_unit_test(plans_in_json_have_their_fields),
        cmocka_unit_test(comparisons_in_json_have_their_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
