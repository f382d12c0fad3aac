/* rules_test.c - the published schemes against numbers that their own code gives (tests/golden/placement), and the exact
 * partitioner against an exhaustive search. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "strategies/partition.h"
#include "strategies/placement_golden.h"
#include "strategies/rules.h"

enum { MOST = 256 };

static berth_json *golden;

static int load_golden(void **state)
{
    (void)state;
    golden = golden_open(PLACEMENT_GOLDEN("placement_golden.json"));
    return golden ? 0 : 1;
}

static int drop_golden(void **state)
{
    (void)state;
    berth_json_destroy(golden);
    return 0;
}

static const berth_json_node *first_of(const char *section)
{
    const berth_json_node *node = berth_json_get(berth_json_root(golden), section);
    assert_true(berth_json_size(node) > 0);
    return berth_json_first(node);
}

static int64_t number(const berth_json_node *object, const char *key)
{
    int64_t value;
    if (!berth_json_as_i64(berth_json_get(object, key), &value)) fail_msg("%s is not a number", key);
    return value;
}

/* A list of numbers; "cpu" reads as -1. Gives how many. */
static int32_t numbers(const berth_json_node *list, double *out)
{
    int32_t n = 0;
    for (const berth_json_node *e = berth_json_first(list); e; e = berth_json_next(e)) {
        assert_true(n < MOST);
        if (!berth_json_as_f64(e, &out[n])) out[n] = -1;
        n++;
    }
    return n;
}

static void same(const berth_json_node *entry, const char *key, const int32_t *got, int32_t n)
{
    double expected[MOST];
    const char *id = berth_json_as_string(berth_json_get(entry, "id"));
    int32_t n_expected = numbers(berth_json_get(entry, key), expected);
    if (n_expected != n) fail_msg("%s: %s has %d numbers, not %d", id, key, n_expected, n);
    for (int32_t i = 0; i < n; i++)
        if (expected[i] != got[i]) fail_msg("%s: %s[%d] is %d, not %g", id, key, i, got[i], expected[i]);
}

static void internvl_split_model(void **state)
{
    (void)state;
    int32_t device[MOST], n_phantom, n_seen = 0;
    for (const berth_json_node *e = first_of("split_model"); e; e = berth_json_next(e), n_seen++) {
        int32_t n_layers = (int32_t)number(e, "layers"), n_gpus = (int32_t)number(e, "gpus");
        assert_int_equal(berth_rule_internvl(n_layers, n_gpus, device, &n_phantom), number(e, "per_gpu"));
        assert_int_equal(n_phantom, berth_json_size(berth_json_get(e, "phantom_layers")));
        same(e, "layer_device", device, n_layers);
    }
    assert_true(n_seen >= 20);
}

static void llama_cpp_layer_split(void **state)
{
    (void)state;
    int32_t device[MOST], n_seen = 0;
    for (const berth_json_node *e = first_of("llama_cpp"); e; e = berth_json_next(e), n_seen++) {
        double wide[MOST];
        float weights[MOST];
        int32_t n_layers = (int32_t)number(e, "n_layer"), n = numbers(berth_json_get(e, "weights"), wide), output;
        for (int32_t i = 0; i < n; i++) weights[i] = (float)wide[i];
        const char *id = berth_json_as_string(berth_json_get(e, "id"));
        berth_rule_layer(n_layers, (int32_t)number(e, "ngl"), strstr(id, "/old") != NULL, weights, n, device);
        same(e, "layer_device", device, n_layers);
        int64_t expected = -1;
        berth_json_as_i64(berth_json_get(e, "output_device"), &expected);
        output = device[n_layers];
        if (output != expected) fail_msg("%s: head on %d, not %d", id, output, (int)expected);
    }
    assert_true(n_seen >= 11);
}

static void pipeline_stages_of_vllm_and_sglang(void **state)
{
    (void)state;
    int32_t counts[MOST], n_seen = 0;
    for (const berth_json_node *e = first_of("vllm_pp"); e; e = berth_json_next(e), n_seen++) {
        int32_t n_layers = (int32_t)number(e, "layers"), n = (int32_t)number(e, "stages");
        if (strcmp(berth_json_as_string(berth_json_get(e, "system")), "vllm-pp") == 0)
            berth_rule_vllm(n_layers, n, counts);
        else
            berth_rule_sglang(n_layers, n, counts);
        same(e, "counts", counts, n);
    }
    assert_true(n_seen >= 25);
}

static void deepspeed_partitions(void **state)
{
    (void)state;
    int32_t bounds[MOST], n_seen = 0;
    for (const berth_json_node *e = first_of("deepspeed"); e; e = berth_json_next(e), n_seen++) {
        double weights[MOST];
        int32_t n = numbers(berth_json_get(e, "weights"), weights), n_parts = (int32_t)number(e, "parts");
        if (n > 0)
            assert_true(berth_rule_deepspeed_balanced(weights, n, n_parts, bounds));
        else
            berth_rule_deepspeed_uniform((int32_t)number(e, "items"), n_parts, bounds);
        same(e, "bounds", bounds, n_parts + 1);
    }
    assert_true(n_seen >= 8);
}

/* A chain of atoms with these bytes and nothing else. */
static void make_chain(berth_chain *c, const double *bytes, int32_t n)
{
    *c = (berth_chain){.n = n};
    c->weights = calloc((size_t)n + 1, sizeof *c->weights);
    c->kv = calloc((size_t)n + 1, sizeof *c->kv);
    assert_true(c->weights && c->kv);
    for (int32_t i = 0; i < n; i++) c->weights[i + 1] = c->weights[i] + (uint64_t)bytes[i];
}

static void exact_partitions(void **state)
{
    (void)state;
    int32_t n_seen = 0;
    for (const berth_json_node *e = first_of("optimal"); e; e = berth_json_next(e), n_seen++) {
        const char *id = berth_json_as_string(berth_json_get(e, "id")),
                   *atoms = berth_json_as_string(berth_json_get(e, "atoms"));
        double bytes[MOST], speed[MOST], room[MOST], load[MOST];
        int32_t n = 0, n_devices = numbers(berth_json_get(e, "speed"), speed);
        const berth_json_node *atom =
            berth_json_first(berth_json_get(berth_json_get(berth_json_root(golden), "atoms"), atoms));
        for (; atom; atom = berth_json_next(atom))
            assert_true(berth_json_as_f64(berth_json_next(berth_json_first(atom)), &bytes[n++]));
        assert_int_equal(numbers(berth_json_get(e, "cap"), room), n_devices);
        berth_partition_device devices[MOST];
        for (int32_t d = 0; d < n_devices; d++)
            devices[d] = (berth_partition_device){.room = (uint64_t)room[d], .rate = speed[d]};
        berth_chain c;
        berth_partition p;
        const berth_partition_problem problem = {.chain = &c, .devices = devices, .n_devices = n_devices};
        bool is_feasible = true;
        make_chain(&c, bytes, n);
        berth_json_as_bool(berth_json_get(e, "feasible"), &is_feasible);
        berth_status st = berth_partition_throughput(&problem, false, &p, NULL);
        assert_int_equal(st, is_feasible ? BERTH_OK : BERTH_DOES_NOT_FIT);
        if (is_feasible) {
            if (p.value != (double)number(e, "bottleneck_num") / (double)number(e, "bottleneck_den"))
                fail_msg("%s: %.3f", id, p.value);
            same(e, "bounds", p.bounds, n_devices + 1);
            numbers(berth_json_get(e, "load"), load);
            for (int32_t d = 0; d < n_devices; d++)
                assert_true((double)berth_chain_bytes(&c, p.bounds[d], p.bounds[d + 1]) == load[d]);
            double in_order = p.value;
            berth_partition_deinit(&p);
            assert_int_equal(berth_partition_throughput(&problem, true, &p, NULL), BERTH_OK);
            if (!(p.value <= in_order)) fail_msg("%s: a free order is slower", id);
        }
        berth_partition_deinit(&p);
        berth_chain_deinit(&c);
    }
    assert_true(n_seen >= 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(internvl_split_model),
        cmocka_unit_test(llama_cpp_layer_split),
        cmocka_unit_test(pipeline_stages_of_vllm_and_sglang),
        cmocka_unit_test(deepspeed_partitions),
        cmocka_unit_test(exact_partitions),
    };
    return cmocka_run_group_tests_name("rules", tests, load_golden, drop_golden);
}
