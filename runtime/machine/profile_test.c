/* profile_test.c - the bundled profiles and machines with their sources, wearing them, and machine files written and
 * read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "machine/machine_internal.h"
#include "machine/profile.h"

#define MIB ((uint64_t)1 << 20)

static berth_core two_cores[2] = {{.number = 0}, {.number = 1, .core = 1}};
static const berth_host host = {.cores = two_cores, .n_cores = 2, .memory_bytes = 1024 * MIB};

/* ---- what is bundled --------------------------------------------------------------------------------------------- */

static const char *const confidences[] = {"measured", "published", "vendor", "computed", "unverified"};

/* Every number under `node` stands in an object with a source and a confidence. Gives how many there are. */
static int check_sources(const char *file, const char *key, const berth_json_node *node)
{
    const char *source = berth_json_as_string(berth_json_get(node, "source"));
    const char *confidence = berth_json_as_string(berth_json_get(node, "confidence"));
    if (berth_json_get(node, "value")) {
        bool known = false;
        for (size_t i = 0; confidence && i < sizeof confidences / sizeof *confidences; i++)
            known = known || strcmp(confidence, confidences[i]) == 0;
        if (!source || strlen(source) < 8 || !known) fail_msg("%s: %s has no source or confidence", file, key);
        return 1;
    }
    int n = 0;
    if (berth_json_type_of(node) == BERTH_JSON_NUMBER && strcmp(key, "between") != 0)
        fail_msg("%s: %s is a number without a source", file, key);
    for (const berth_json_node *e = berth_json_first(node); e; e = berth_json_next(e))
        n += check_sources(file, berth_json_key(e) ? berth_json_key(e) : key, e);
    return n;
}

static void every_bundled_figure_has_a_source(void **state)
{
    (void)state;
    assert_true(berth_n_bundled_profiles >= 19);
    for (int32_t i = 0; i < berth_n_bundled_profiles; i++) {
        const berth_bundled *b = &berth_bundled_profiles[i];
        berth_json *json;
        assert_int_equal(berth_json_parse((const char *)b->text, b->size, b->name, &json, NULL), BERTH_OK);
        const berth_json_node *root = berth_json_root(json);
        assert_string_equal(berth_json_as_string(berth_json_get(root, "name")), b->name);
        bool is_profile = berth_json_get(root, "peak_flops") != NULL;
        int n = check_sources(b->name, "", root);
        if (is_profile) assert_true(n >= 12);
        berth_json_destroy(json);
    }
}

static void bundled_profiles_are_whole(void **state)
{
    (void)state;
    for (int32_t i = 0; i < berth_n_bundled_profiles; i++) {
        const berth_bundled *b = &berth_bundled_profiles[i];
        berth_error err = {0};
        berth_worn w;
        if (berth_worn_find(b->name, NULL, &w, &err) != BERTH_OK) fail_msg("%s: %s", b->name, err.message);
        for (int32_t d = 0; d < w.n_devices; d++) {
            const berth_device *x = &w.devices[d];
            assert_true(x->profile[0] && x->capability >= 70 && x->bytes_per_second > 1e11);
            assert_true(x->flops[BERTH_F32] > 1e12 && x->flops[BERTH_F16] > 1e13 &&
                        x->host_link.bytes_per_second > 1e9);
            assert_int_equal(x->flops[BERTH_BF16] > 0, x->capability >= 80); /* emulated rates do not count */
            assert_int_equal(berth_device_has_dtype(x, BERTH_BF16), x->capability >= 80);
            assert_int_equal(x->context_bytes, 500 * MIB);
            assert_true(x->memory_bytes > 14000 * MIB);
        }
        berth_worn_deinit(&w);
    }
}

/* ---- wearing ----------------------------------------------------------------------------------------------------- */

/* "V100-SXM2-16GB:0[0!]" a device. */
static void describe(const berth_machine *m, char *out, size_t n)
{
    size_t len = 0;
    out[0] = '\0';
    for (int32_t i = 0; i < m->n_devices; i++) {
        const berth_device *d = &m->devices[i];
        len += (size_t)snprintf(out + len, n - len, "%s%s=%llu[", i ? " " : "", d->name,
                                (unsigned long long)(d->memory_bytes / MIB));
        for (int32_t k = 0; k < d->n_cores; k++)
            len += (size_t)snprintf(out + len, n - len, "%s%d", k ? "," : "", (int)d->cores[k]);
        len += (size_t)snprintf(out + len, n - len, "%s]", d->shares_cores ? "!" : "");
    }
}

static void lists_of_profiles(void **state)
{
    (void)state;
    static const struct {
        const char *list, *expected;
    } cases[] = {
        {"A10", "A10:0=22015[0,1]"},
        {"a10", "A10:0=22015[0,1]"},
        {"2xA10", "A10:0=22015[0] A10:1=22015[1]"},
        {"2xT4", "T4:0=14595[0] T4:1=14595[1]"},
        {"T4*2", "T4:0=14595[0] T4:1=14595[1]"},
        {"2xT4*2", "T4:0=14595[0!] T4:1=14595[1!] T4:2=14595[0!] T4:3=14595[1!]"},
        {"T4:3", "T4:3=14595[0,1]"},
        {"T4:3*2", "T4:3=14595[0] T4:4=14595[1]"},
        {"T4,cpu/mem=1GiB", "T4:0=14595[0] cpu:1=1024[1]"},
        {"2xT4/mem=8GiB", "T4:0=8192[0] T4:1=8192[1]"},
        {"2xT4,1/mem=8GiB", "T4:0=14595[0] T4:1=8192[1]"},
        {"2xT4,0/cores=1,1/cores=0", "T4:0=14595[1] T4:1=14595[0]"},
        {"cpu*2/mem=2GiB,0/mem=1GiB", "cpu:0=1024[0] cpu:1=2048[1]"},
        {"V100/cores=0", "V100-SXM2-16GB:0=15652[0]"},
        {"V100-16GB*2", "V100-SXM2-16GB:0=15652[0] V100-SXM2-16GB:1=15652[1]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        berth_machine m;
        berth_error err = {0};
        char text[512];
        if (berth_machine_parse_on(&host, cases[i].list, NULL, &m, &err) != BERTH_OK)
            fail_msg("%s: %s", cases[i].list, err.message);
        describe(&m, text, sizeof text);
        assert_string_equal(text, cases[i].expected);
        berth_machine_deinit(&m);
    }
}

static void lists_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *list, *says;
    } cases[] = {
        {"A11", "did you mean A10"},
        {"4xA11", "no profile or machine \"A11\""},
        {"0xA10", "a count is 1 to 64"},
        {"65xA10", "a count is 1 to 64"},
        {"99999999999xA10", "a count is 1 to 64"},
        {"40xA10*2", "a count is 1 to 64"},
        {"8xH200*9", "more than 64 devices"},
        {"A10:1000", "0 to 999"},
        {"A10:x", "0 to 999"},
        {"A10:0,T4:0", "T4:0 is named twice"},
        {"2xA10:0", "a machine has several devices"},
        {"4xV100-SXM2-16GB:0", "a machine has several devices"},
        {"A10,1/mem=1GiB", "there are fewer"},
        {"A10,0", "give it settings"},
        {"./nowhere.json", "nowhere.json"},
        {"A10/memory=1", "unknown setting"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        berth_machine m;
        berth_error err = {0};
        if (berth_machine_parse_on(&host, cases[i].list, NULL, &m, &err) == BERTH_OK)
            fail_msg("%s passes", cases[i].list);
        if (!strstr(err.message, cases[i].says))
            fail_msg("%s: wanted \"%s\", got \"%s\"", cases[i].list, cases[i].says, err.message);
        assert_null(m.devices);
    }
}

static double gbs(const berth_machine *m, int32_t a, int32_t b)
{
    return berth_machine_link(m, a, b).bytes_per_second / 1e9;
}

static void links_of_the_v100_quad(void **state)
{
    (void)state;
    berth_machine m;
    assert_int_equal(berth_machine_parse_on(&host, "4xV100-SXM2-16GB", NULL, &m, NULL), BERTH_OK);
    static const double wired[4][4] = {{0, 25, 25, 47.9}, {25, 0, 47.9, 25}, {25, 47.9, 0, 47.9}, {47.9, 25, 47.9, 0}};
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < 4; b++) assert_true(gbs(&m, a, b) == wired[a][b]);
    assert_string_equal(berth_machine_link(&m, 0, 3).kind, "NV2");
    berth_machine_deinit(&m);
    assert_int_equal(berth_machine_parse_on(&host, "4xV100-SXM2-16GB-all2all,4xV100-PCIe", NULL, &m, NULL), BERTH_OK);
    assert_int_equal(m.n_devices, 8);
    assert_true(gbs(&m, 0, 1) == 47.9 && gbs(&m, 4, 5) == 12.0 && gbs(&m, 0, 5) == 12.0);
    assert_true(berth_machine_link(&m, 4, 5).latency_ns == 15200);
    assert_string_equal(berth_machine_link(&m, 4, 5).kind, "host");
    berth_machine_deinit(&m);
    assert_int_equal(berth_machine_parse_on(&host, "2xA100,2xA10,cpu*2", NULL, &m, NULL), BERTH_OK);
    assert_true(gbs(&m, 0, 1) == 240 && gbs(&m, 2, 3) == 20.1 && gbs(&m, 1, 2) == 20.1 && gbs(&m, 2, 4) == 20.1);
    assert_true(gbs(&m, 4, 5) == 0); /* nothing is known of two parts of this computer */
    berth_machine_deinit(&m);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static void write_text(const char *path, const char *text)
{
    assert_int_equal(berth_file_write(path, text, strlen(text), NULL), BERTH_OK);
}

static char *saved(const berth_machine *m)
{
    berth_buffer b = {0};
    berth_error err = {0};
    if (berth_machine_save(m, &b, &err) != BERTH_OK) fail_msg("%s", err.message);
    return berth_buffer_take(&b);
}

static void what_is_saved_is_read_back(void **state)
{
    (void)state;
    static const char *const lists[] = {"cpu", "cpu*2/mem=1GiB", "4xV100-SXM2-16GB", "A10:3,cpu:1,2xH200"};
    char dir[] = "/tmp/berth-machine-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m.json", dir);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        berth_machine m, again;
        berth_error err = {0};
        assert_int_equal(berth_machine_parse(lists[i], &m, NULL), BERTH_OK);
        char *text = saved(&m);
        write_text(path, text);
        if (berth_machine_parse(path, &again, &err) != BERTH_OK) fail_msg("%s: %s", lists[i], err.message);
        char *text_again = saved(&again);
        assert_string_equal(text, text_again);
        assert_int_equal(m.n_links, again.n_links);
        free(text);
        free(text_again);
        berth_machine_deinit(&m);
        berth_machine_deinit(&again);
    }
    unlink(path);
    rmdir(dir);
}

/* A saved machine, edited to wear a profile, and a profile of one's own. */
static void files_can_be_edited_and_worn(void **state)
{
    (void)state;
    char dir[] = "/tmp/berth-machine-XXXXXX", path[96], profile[96], list[128];
    berth_machine m;
    berth_error err = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(profile, sizeof profile, "%s/X1.json", dir);
    snprintf(path, sizeof path, "%s/my machine.json", dir);
    write_text(profile, "{\"schema\": \"berth.profile/1\", \"name\": \"X1\", \"compute_capability\": \"9.9\","
                        " \"memory_bytes\": \"2GiB\", \"context_bytes\": 0, \"peak_flops\": {\"bf16\": 5e12}}");
    write_text(path, "{\"schema\": \"berth.machine/1\", \"devices\": [{\"number\": 7, \"cores\": [1, 900]},"
                     " {\"profile\": \"X1\", \"limit_bytes\": 1048576}, {\"profile\": \"T4\", \"cores\": [901]}],"
                     " \"links\": [{\"from\": 1, \"to\": 0, \"bytes_per_second\": {\"value\": 3e9}}]}");
    snprintf(list, sizeof list, "%s/cores=0,X1", path);
    if (berth_machine_parse_on(&host, list, dir, &m, &err) != BERTH_OK) fail_msg("%s", err.message);
    char text[512];
    describe(&m, text, sizeof text);
    assert_string_equal(text, "cpu:7=1024[0!] X1:0=1[0!] T4:1=14595[0!] X1:2=2048[1]");
    assert_true(gbs(&m, 1, 0) == 3 && m.devices[1].flops[BERTH_BF16] == 5e12 && m.devices[1].capability == 99);
    berth_machine_deinit(&m);
    if (berth_machine_parse_on(&host, path, dir, &m, &err) != BERTH_OK) fail_msg("%s", err.message);
    describe(&m, text, sizeof text);
    assert_string_equal(text, "cpu:7=1024[1] X1:0=1[0!] T4:1=14595[0!]");
    berth_machine_deinit(&m);
    unlink(path);
    unlink(profile);
    rmdir(dir);
}

static void broken_files_are_refused(void **state)
{
    (void)state;
#define P "{\"schema\": \"berth.profile/1\", \"name\": \"X\", "
#define M "{\"schema\": \"berth.machine/1\", "
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "line 1"},
        {"[]", "\"schema\" must be"},
        {"{\"schema\": \"berth.profile/2\"}", "\"schema\" must be"},
        {P "\"memory_bytes\": 5}", "\"compute_capability\" is missing"},
        {P "\"compute_capability\": 8}", "\"compute_capability\" must be text"},
        {P "\"compute_capability\": \"8.6.1\"}", "\"compute_capability\" must be text"},
        {P "\"compute_capability\": \"8.6\"}", "\"memory_bytes\" is missing"},
        {P "\"compute_capability\": \"8.6\", \"memory_bytes\": -1}", "\"memory_bytes\" must be a number of bytes"},
        {P "\"compute_capability\": \"8.6\", \"memory_bytes\": \"16GB?\"}",
         "\"memory_bytes\" must be a number of bytes"},
        {P "\"compute_capability\": \"8.6\", \"memory_bytes\": 5, \"context_bytes\": 5}", "leaves nothing"},
        {P "\"compute_capability\": \"8.6\", \"memory_bytes\": 5, \"read_fraction\": 2}", "at most 1"},
        {P "\"compute_capability\": \"8.6\", \"memory_bytes\": 5, \"peak_flops\": {\"fp16\": \"fast\"}}",
         "\"fp16\" must be a number"},
        {P "\"compute_capability\": \"8.6\", \"memory_bytes\": 5, \"host_link\": {\"latency_ns\": -1}}",
         "\"latency_ns\" must be"},
        {"{\"schema\": \"berth.profile/1\", \"name\": \"a,b\", \"compute_capability\": \"8.6\", \"memory_bytes\": 5}",
         "\"name\" must be"},
        {"{\"schema\": \"berth.profile/1\", \"compute_capability\": \"8.6\", \"memory_bytes\": 5}", "\"name\" must be"},
        {M "\"devices\": []}", "1 to 64 devices"},
        {M "\"devices\": [5]}", "list of objects"},
        {M "\"devices\": [{\"profile\": \"nope\"}]}", "no profile or machine"},
        {M "\"devices\": [{\"profile\": \"2xA10\"}]}", "a machine cannot be one of its devices"},
        {M "\"devices\": [{\"profile\": 5}]}", "must be a profile's name"},
        {M "\"devices\": [{\"number\": 1000}]}", "0 to 999"},
        {M "\"devices\": [{\"limit_bytes\": 0}]}", "larger than 0"},
        {M "\"devices\": [{\"cores\": [-1]}]}", "core numbers"},
        {M "\"devices\": [{}, {}], \"links\": [{\"between\": [0, 2]}]}", "two of the devices"},
        {M "\"devices\": [{}, {}], \"links\": [{\"between\": [0]}]}", "two of the devices"},
        {M "\"devices\": [{}, {}], \"links\": [{\"from\": 1, \"to\": 1}]}", "two of the devices"},
        {M "\"devices\": [{}, {}], \"links\": 5}", "list of links"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        berth_worn w;
        berth_error err = {0};
        assert_int_equal(berth_worn_parse(cases[i].text, strlen(cases[i].text), "x.json", NULL, &w, &err),
                         BERTH_BAD_FILE);
        if (!strstr(err.message, cases[i].says) || !strstr(err.message, "x.json"))
            fail_msg("case %zu: wanted \"%s\", got \"%s\"", i, cases[i].says, err.message);
        assert_null(w.devices);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bundled_figure_has_a_source),
        cmocka_unit_test(bundled_profiles_are_whole),
        cmocka_unit_test(lists_of_profiles),
        cmocka_unit_test(lists_that_are_refused),
        cmocka_unit_test(links_of_the_v100_quad),
        cmocka_unit_test(what_is_saved_is_read_back),
        cmocka_unit_test(files_can_be_edited_and_worn),
        cmocka_unit_test(broken_files_are_refused),
    };
    return cmocka_run_group_tests_name("profiles", tests, NULL, NULL);
}
