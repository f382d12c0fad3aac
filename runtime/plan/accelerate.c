/* accelerate.c - the placement that accelerate makes for a model, on berth's devices as its GPUs.
 *
 * accelerate counts weights and buffers in the type they are loaded in, in the order PyTorch registers modules; KV cache
 * and activations are no part of it, so its answer may fit by its own rules and still not fit. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "plan/plan_internal.h"
#include "strategies/accelerate.h"

enum { MAX_CLASSES = 16 };

/* ---- the tree as PyTorch has it ---------------------------------------------------------------------------------- */

static berth_status add_tensors(berth_tree *t, const berth_node_view *nodes, int32_t i, bool buffers, berth_error *err)
{
    uint32_t want = buffers ? BERTH_NODE_BUFFER : BERTH_NODE_TENSOR;
    for (int32_t c = i + 1; c <= i + nodes[i].n_descendants; c += 1 + nodes[c].n_descendants) {
        uint32_t flags = nodes[c].flags & (BERTH_NODE_BUFFER | BERTH_NODE_TENSOR);
        if (!flags || ((flags & BERTH_NODE_BUFFER) != 0) != buffers || !(flags & want)) continue;
        const char *dot = strrchr(nodes[c].path, '.');
        const char *dtype = nodes[c].element_bits == 16 ? "bf16" : nodes[c].element_bits == 8 ? "i8" : "f32";
        berth_status st =
            berth_tree_add_tensor(t, dot ? dot + 1 : nodes[c].path, nodes[c].n_elements, dtype, buffers, err);
        if (st != BERTH_OK) return st;
    }
    return BERTH_OK;
}

/* Registered behind what runs after it: the projector of the authors' own code, "mlp1". */
static bool is_registered_last(const berth_node_view *nodes, int32_t i)
{
    return strcmp(nodes[i].path, "mlp1") == 0;
}

static berth_status add_module(berth_tree *t, const berth_node_view *nodes, int32_t i, berth_error *err)
{
    berth_status st = berth_tree_add_module(t, nodes[i].path, nodes[i].class_name, err);
    if (st == BERTH_OK) st = add_tensors(t, nodes, i, false, err);
    if (st == BERTH_OK) st = add_tensors(t, nodes, i, true, err);
    for (int last = 0; last < 2; last++) {
        for (int32_t c = i + 1; st == BERTH_OK && c <= i + nodes[i].n_descendants; c += 1 + nodes[c].n_descendants) {
            if (nodes[c].flags & (BERTH_NODE_BUFFER | BERTH_NODE_TENSOR)) continue;
            if (is_registered_last(nodes, c) == (last == 1))
                st = add_module(t, nodes, c, err); /* as deep as the layout's table: 8 */
        }
    }
    return st;
}

static berth_status make_tree(const berth_strategy_input *in, berth_tree *t, berth_error *err)
{
    const berth_node_view *nodes = in->nodes; /* berth's own, so of this size */
    berth_status st = add_module(t, nodes, 0, err);
    if (st == BERTH_OK) st = berth_tree_finish(t, err);
    for (int32_t i = 0; st == BERTH_OK && i < in->n_nodes; i++) {
        if (nodes[i].tied_to < 0) continue;
        const char *names[] = {nodes[nodes[i].tied_to].path, nodes[i].path};
        st = berth_tree_tie(t, names, 2, err);
    }
    return st;
}

/* The classes not to be divided: those flagged, but for what lies inside another one. */
static int32_t collect_classes(const berth_strategy_input *in, const char **classes)
{
    int32_t n = 0;
    for (int32_t i = 0; i < in->n_nodes; i++) {
        const berth_node_view *node = berth_node_at(in, i);
        if (!(node->flags & BERTH_NODE_NO_SPLIT)) continue;
        int32_t k = 0;
        while (k < n && strcmp(classes[k], node->class_name) != 0) k++;
        if (k == n && n < MAX_CLASSES) classes[n++] = node->class_name;
        i += node->n_descendants;
    }
    return n;
}

/* ---- its answer as a placement ----------------------------------------------------------------------------------- */

/* Complete on the devices, or a refusal that names what was left out. */
static berth_status check_complete(const berth_tree *t, const berth_accelerate_result *r, int32_t dtype_bits,
                                   const char *rule, berth_error *err)
{
    int64_t bits = 0;
    int32_t first = -1, n = 0;
    for (int32_t i = 0; i < r->n_map; i++) {
        if (r->map[i].device >= 0) continue;
        if (n++ == 0) first = i;
    }
    if (n == 0) return BERTH_OK;
    for (int32_t k = 0; k < t->n_tensors; k++) {
        int32_t device;
        if (berth_accelerate_device(t, r, t->n_modules + k, &device) && device < 0)
            bits += berth_accelerate_bits(&t->tensors[k], dtype_bits);
    }
    const char *where = r->map[first].device == BERTH_ACCELERATE_DISK ? "disk" : "cpu";
    return BERTH_FAIL(
        err, BERTH_DOES_NOT_FIT,
        "accelerate's \"%s\" leaves %d modules (%" PRId64 " bytes) outside the devices, the first \"%s\" on %s; "
        "berth keeps every weight in a device's memory: give more memory, more devices, or leave out compat",
        rule, (int)n, bits / 8, berth_tree_path(t, r->map[first].entry), where);
}

static berth_status to_placement(const berth_tree *t, const berth_accelerate_result *r, const char *rule,
                                 const berth_strategy_input *in, berth_placement **out, berth_error *err)
{
    berth_buffer map = {0};
    berth_buffer_putc(&map, '{');
    for (int32_t i = 0; i < r->n_map; i++) {
        const char *path = berth_tree_path(t, r->map[i].entry);
        if (i > 0) berth_buffer_putc(&map, ',');
        berth_buffer_json_string(&map, path, strlen(path));
        berth_buffer_printf(&map, ":%d", (int)r->map[i].device);
    }
    berth_buffer_putc(&map, '}');
    berth_status st = map.failed ? BERTH_FAIL(err, BERTH_OUT_OF_MEMORY, "accelerate's map")
                                 : berth_placement_from_map(map.data, map.len, "accelerate's map", in, out, err);
    berth_buffer_deinit(&map);
    if (st == BERTH_OK) snprintf((*out)->strategy, sizeof(*out)->strategy, "accelerate=%s", rule);
    return st;
}

/* The budgets it set itself out of what the devices have, as a note. */
static void put_note(const berth_accelerate_result *r, const berth_strategy_input *in, berth_placement *out)
{
    char bytes[32];
    berth_buffer note = {0};
    for (int32_t i = 0; i < r->n_budgets && r->budget_bytes > 0; i++) {
        const berth_accelerate_budget *b = &r->budgets[i];
        if (b->device < 0 || b->device >= in->n_devices) continue;
        berth_buffer_printf(&note, "%s%s %s",
                            note.len ? ", " : "accelerate's budgets: ", berth_device_at(in, b->device)->name,
                            berth_format_bytes((uint64_t)b->bytes, bytes, sizeof bytes));
    }
    if (note.data && !note.failed && note.len < sizeof out->note) memcpy(out->note, note.data, note.len + 1);
    berth_buffer_deinit(&note);
}

/* What the weights are loaded in: 16 bits where the largest tensor has them, else as they are. */
static int32_t loaded_bits(const berth_strategy_input *in)
{
    int64_t most = -1;
    int32_t bits = 0;
    for (int32_t i = 0; i < in->n_nodes; i++) {
        const berth_node_view *node = berth_node_at(in, i);
        if (!(node->flags & BERTH_NODE_TENSOR) || node->n_elements <= most) continue;
        most = node->n_elements;
        bits = node->element_bits;
    }
    return bits == 16 ? 16 : 0;
}

/* What get_max_memory() finds: each device's memory, and the host's as "cpu", whose size decides nothing on devices. */
static int32_t collect_budgets(const berth_strategy_input *in, berth_accelerate_budget *budgets)
{
    static const double any_size = 4e18;
    for (int32_t d = 0; d < in->n_devices; d++)
        budgets[d] = (berth_accelerate_budget){.device = d, .bytes = (double)berth_device_at(in, d)->budget_bytes};
    budgets[in->n_devices] = (berth_accelerate_budget){.device = BERTH_ACCELERATE_CPU, .bytes = any_size};
    return in->n_devices + 1;
}

berth_status berth_plan_accelerate(const berth_strategy_input *in, const char *rule, bool limits_asked,
                                   berth_placement **out, berth_error *err)
{
    const char *classes[MAX_CLASSES];
    berth_accelerate_budget budgets[BERTH_MAX_DEVICES + 1];
    berth_accelerate_strategy strategy = BERTH_ACCELERATE_SEQUENTIAL;
    berth_tree tree = {0};
    berth_accelerate_result r = {0};
    berth_status st = berth_accelerate_strategy_named(rule, &strategy, err);
    if (st == BERTH_OK) st = make_tree(in, &tree, err);
    const berth_accelerate_request request = {.tree = &tree,
                                              .strategy = strategy,
                                              .dtype_bits = loaded_bits(in),
                                              .no_split = classes,
                                              .n_no_split = collect_classes(in, classes),
                                              .budgets = budgets,
                                              .n_budgets = collect_budgets(in, budgets),
                                              .budgets_are_free_memory = !limits_asked};
    if (st == BERTH_OK) st = berth_accelerate_place(&request, &r, err);
    if (st == BERTH_OK) st = check_complete(&tree, &r, request.dtype_bits, rule, err);
    if (st == BERTH_OK) st = to_placement(&tree, &r, rule, in, out, err);
    if (st == BERTH_OK) put_note(&r, in, *out);
    berth_accelerate_deinit(&r);
    berth_tree_deinit(&tree);
    return st;
}
