/* placement_golden.c - see placement_golden.h. */
#include "strategies/placement_golden.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

berth_json *golden_open(const char *path)
{
    char *text;
    size_t size;
    berth_json *out = NULL;
    berth_error err = {0};
    berth_status st = berth_file_read(path, (size_t)64 << 20, &text, &size, &err);
    if (st == BERTH_OK) {
        st = berth_json_parse(text, size, path, &out, &err);
        free(text);
    }
    if (st != BERTH_OK) print_error("%s\n", err.message);
    return out;
}

int32_t golden_device(const berth_json_node *node)
{
    int64_t number;
    if (berth_json_as_i64(node, &number)) return (int32_t)number;
    const char *name = berth_json_as_string(node);
    assert_non_null(name);
    return strcmp(name, "cpu") == 0    ? BERTH_ACCELERATE_CPU
           : strcmp(name, "disk") == 0 ? BERTH_ACCELERATE_DISK
                                       : BERTH_ACCELERATE_MPS;
}

const char *golden_device_name(int32_t device)
{
    static const char *const names[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8"};
    if (device >= 0 && device < 9) return names[device];
    return device == BERTH_ACCELERATE_CPU ? "cpu" : device == BERTH_ACCELERATE_DISK ? "disk" : "?";
}

void golden_read(const berth_json_node *c, const berth_tree *tree, golden_case *g)
{
    memset(g, 0, sizeof *g);
    const char *strategy = berth_json_as_string(berth_json_get(c, "strategy"));
    double dtype_bytes = 0; /* 0.5: four bits */
    berth_json_as_f64(berth_json_get(c, "dtype_bytes"), &dtype_bytes);
    g->req = (berth_accelerate_request){.tree = tree,
                                        .strategy = strcmp(strategy, "sequential") == 0 ? BERTH_ACCELERATE_SEQUENTIAL
                                                    : strcmp(strategy, "balanced_low_0") == 0
                                                        ? BERTH_ACCELERATE_BALANCED_LOW_0
                                                        : BERTH_ACCELERATE_BALANCED,
                                        .dtype_bits = (int32_t)(dtype_bytes * 8),
                                        .no_split = g->classes,
                                        .budgets = g->budgets};
    const char *system = berth_json_as_string(berth_json_get(c, "system"));
    if (system && strcmp(system, "transformers-v5a") == 0) g->req.flavour = BERTH_TRANSFORMERS_5_0;
    if (system && strcmp(system, "transformers-v5b") == 0) g->req.flavour = BERTH_TRANSFORMERS_5_X;
    berth_json_as_bool(berth_json_get(c, "fallback"), &g->req.fallback);
    const berth_json_node *n;
    for (n = berth_json_first(berth_json_get(c, "no_split")); n; n = berth_json_next(n))
        g->classes[g->req.n_no_split++] = berth_json_as_string(n);
    for (n = berth_json_first(berth_json_get(c, "max_memory")); n; n = berth_json_next(n)) {
        berth_accelerate_budget *b = &g->budgets[g->req.n_budgets++];
        b->device = golden_device(berth_json_first(n));
        assert_true(berth_json_as_f64(berth_json_next(berth_json_first(n)), &b->bytes));
    }
}

void golden_check_map(const char *id, const berth_json_node *expected, const berth_tree *t,
                      const berth_accelerate_result *r)
{
    int32_t n = 0;
    for (const berth_json_node *e = berth_json_first(expected); e; e = berth_json_next(e), n++) {
        const char *path = berth_json_as_string(berth_json_first(e));
        int32_t device = golden_device(berth_json_next(berth_json_first(e))), i = 0;
        while (i < r->n_map && strcmp(berth_tree_path(t, r->map[i].entry), path) != 0) i++;
        if (i == r->n_map || r->map[i].device != device)
            fail_msg("%s: map has not %s on %s", id, path, golden_device_name(device));
    }
    if (n != r->n_map) fail_msg("%s: map has %d keys, not %d", id, r->n_map, n);
}
