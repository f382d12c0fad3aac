/* plans_test.c - a hundred thousand answers over random trees and machines, right ones and ones spoiled in one of many
 * ways, against a judge of its own.
 *
 * Every answer that the judge calls wrong must be refused with the right kind of error, and none that it calls right.
 * The judge reads the rules as the ABI states them: it walks from each tensor to the root, and adds up each device's
 * storages name by name. It shares no code with placement.c and budget.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "program/placement.h"
#include "tests/random.h"

enum { MAX_NODES = 64, MAX_DEVICES = 5, TREES = 4000, PLANS = 25 }; /* TREES * PLANS answers */

/* ---- random trees ---- */

static uint64_t seed = 88172645463325252u;

static uint32_t below(uint32_t n)
{
    return test_random_below(&seed, n);
}

static berth_node_view nodes[MAX_NODES];
static char paths[MAX_NODES][16];
static uint64_t own_kv[MAX_NODES];
static int32_t n_nodes;
static berth_device_view devices[MAX_DEVICES];
static berth_strategy_input in;

static int32_t grow(int32_t parent, int depth)
{
    int32_t i = n_nodes++;
    snprintf(paths[i], sizeof paths[i], "node.%d", i);
    nodes[i] = (berth_node_view){.path = i ? paths[i] : "", .class_name = "Module", .parent = parent, .tied_to = -1};
    own_kv[i] = 0;
    uint32_t n_children = depth == 0 ? 0 : 1 + below(4);
    for (uint32_t c = 0; c < n_children && n_nodes < MAX_NODES; c++) grow(i, below(3) ? depth - 1 : 0);
    nodes[i].n_descendants = n_nodes - 1 - i;
    if (nodes[i].n_descendants > 0 && below(4) == 0) own_kv[i] = below(40);
    if (nodes[i].n_descendants > 0 && below(4) == 0) nodes[i].flags |= BERTH_NODE_NO_SPLIT;
    if (nodes[i].n_descendants == 0 && parent >= 0 && below(12) > 0) {
        nodes[i].class_name = "";
        nodes[i].flags = BERTH_NODE_TENSOR | (below(10) == 0 ? BERTH_NODE_BUFFER : 0u);
        nodes[i].weight_bytes = below(8) == 0 ? 0 : below(20) == 0 ? (uint64_t)1 << 40 : 1 + below(5000);
    }
    return i;
}

static void tie_some(void)
{
    for (int k = 0; k < 3; k++) {
        int32_t a = (int32_t)below((uint32_t)n_nodes), b = (int32_t)below((uint32_t)n_nodes);
        bool is_storage = false;
        for (int32_t i = 0; i < n_nodes; i++) is_storage |= nodes[i].tied_to == a;
        if (a == b || is_storage || nodes[b].tied_to >= 0 || !(nodes[a].flags & nodes[b].flags & BERTH_NODE_TENSOR))
            continue;
        nodes[a].tied_to = b;
        nodes[a].weight_bytes = 0;
    }
}

static void make_tree(void)
{
    n_nodes = 0;
    do {
        n_nodes = 0;
        grow(-1, 1 + (int)below(4));
    } while (n_nodes < 2);
    tie_some();
    for (int32_t i = 0; i < n_nodes; i++) nodes[i].kv_bytes_per_token = own_kv[i];
    for (int32_t i = n_nodes - 1; i > 0; i--) {
        nodes[nodes[i].parent].weight_bytes += nodes[i].weight_bytes;
        nodes[nodes[i].parent].kv_bytes_per_token += nodes[i].kv_bytes_per_token;
    }
    in = (berth_strategy_input){.struct_size = sizeof in,
                                .nodes = nodes,
                                .node_size = sizeof nodes[0],
                                .n_nodes = n_nodes,
                                .devices = devices,
                                .device_size = sizeof devices[0],
                                .n_devices = 1 + (int32_t)below(MAX_DEVICES),
                                .context_tokens = below(3) ? below(100) : 0,
                                .max_tiles = 1};
}

/* ---- answers ---- */

typedef struct answer {
    int32_t n_replicas;
    int32_t device_of[MAX_DEVICES * MAX_NODES];
    char note[512];
} answer;

static void place_below(int32_t *device_of, int32_t i)
{
    if (nodes[i].n_descendants == 0 || below(4) == 0) {
        bool may_be_left = !(nodes[i].flags & BERTH_NODE_TENSOR) || (nodes[i].flags & BERTH_NODE_BUFFER);
        if (!may_be_left || below(2)) device_of[i] = (int32_t)below((uint32_t)in.n_devices);
        if (device_of[i] < 0 && nodes[i].n_descendants > 0) device_of[i] = 0;
        return;
    }
    for (int32_t c = i + 1; c <= i + nodes[i].n_descendants; c += 1 + nodes[c].n_descendants) place_below(device_of, c);
}

static void make_answer(answer *a)
{
    memset(a, 0, sizeof *a);
    memset(a->device_of, 0xFF, sizeof a->device_of);
    a->n_replicas = below(3) ? 1 : 1 + (int32_t)below((uint32_t)in.n_devices);
    for (int32_t r = 0; r < a->n_replicas; r++) place_below(a->device_of + r * n_nodes, 0);
    snprintf(a->note, sizeof a->note, "a note");
}

/* ---- the judge ---- */

typedef struct verdict {
    bool is_right, is_over_budget;
    uint64_t need[MAX_DEVICES]; /* reserve included; 0 where nothing is kept */
} verdict;

static int32_t placed_above(const int32_t *device_of, int32_t i, int *count)
{
    int32_t device = -1;
    *count = 0;
    for (; i >= 0; i = nodes[i].parent) {
        if (device_of[i] == -1) continue;
        if (*count == 0) device = device_of[i];
        ++*count;
    }
    return device;
}

static bool is_complete(const answer *a)
{
    for (int32_t r = 0; r < a->n_replicas; r++) {
        const int32_t *device_of = a->device_of + r * n_nodes;
        for (int32_t i = 0; i < n_nodes; i++) {
            int count;
            if (device_of[i] != -1 && (device_of[i] < 0 || device_of[i] >= in.n_devices)) return false;
            placed_above(device_of, i, &count);
            if (count > 1) return false;
            if (count == 0 && (nodes[i].flags & BERTH_NODE_TENSOR) && !(nodes[i].flags & BERTH_NODE_BUFFER))
                return false;
        }
    }
    return true;
}

/* The device of a module's own cache: where the module lies, or else its first part that lies anywhere. */
static int32_t device_of_cache(const int32_t *device_of, int32_t i)
{
    int count;
    int32_t device = placed_above(device_of, i, &count);
    for (int32_t k = i + 1; device < 0 && k <= i + nodes[i].n_descendants; k++) device = device_of[k];
    return device;
}

static void add_up(const answer *a, verdict *v)
{
    bool held[MAX_DEVICES][MAX_NODES] = {{false}}, used[MAX_DEVICES][MAX_DEVICES] = {{false}};
    for (int32_t r = 0; r < a->n_replicas; r++) {
        const int32_t *device_of = a->device_of + r * n_nodes;
        for (int32_t i = 0; i < n_nodes; i++) {
            int count;
            int32_t d = placed_above(device_of, i, &count), s = nodes[i].tied_to >= 0 ? nodes[i].tied_to : i;
            if (d >= 0 && (nodes[i].flags & BERTH_NODE_TENSOR) && nodes[s].weight_bytes > 0) {
                if (!held[d][s]) v->need[d] += nodes[s].weight_bytes;
                held[d][s] = used[d][r] = true;
            }
            d = own_kv[i] && in.context_tokens ? device_of_cache(device_of, i) : -1;
            if (d < 0) continue;
            v->need[d] += own_kv[i] * (uint64_t)in.context_tokens;
            used[d][r] = true;
        }
    }
    for (int32_t d = 0; d < in.n_devices; d++)
        for (int32_t r = 0; r < a->n_replicas; r++) v->need[d] += used[d][r] ? devices[d].reserved_bytes : 0;
}

static verdict judge(const answer *a)
{
    verdict v = {0};
    if (a->n_replicas < 1 || a->n_replicas > in.n_devices || !is_complete(a)) return v;
    add_up(a, &v);
    for (int32_t d = 0; d < in.n_devices; d++) v.is_over_budget |= v.need[d] > devices[d].budget_bytes;
    v.is_right = !v.is_over_budget;
    return v;
}

/* Budgets that the answer just fits, or fits with room. */
static void make_budgets(const answer *a)
{
    for (int32_t d = 0; d < in.n_devices; d++)
        devices[d] = (berth_device_view){.name = (const char *[]){"cpu:0", "cpu:1", "cpu:2", "cpu:3", "cpu:4"}[d],
                                         .budget_bytes = UINT64_MAX,
                                         .reserved_bytes = below(2) ? below(3000) : 0};
    verdict v = judge(a);
    assert_true(v.is_right);
    for (int32_t d = 0; d < in.n_devices; d++) devices[d].budget_bytes = v.need[d] + (below(2) ? 0 : below(1000));
}

/* ---- spoiling ---- */

enum {
    AS_IT_IS,
    NO_SUCH_DEVICE,
    NEGATIVE,
    ANY_NUMBER,
    TAKEN_OUT,
    PUT_IN,
    MOVED,
    REPLICAS,
    BUDGET,
    NOISE,
    SMALL_NOISE,
    NOTE,
    WAYS
};

static void spoil(answer *a, int way)
{
    int32_t n = a->n_replicas * n_nodes, at = (int32_t)below((uint32_t)n), d = (int32_t)below((uint32_t)in.n_devices);
    int32_t placed = at;
    while (a->device_of[placed] < 0 && placed + 1 < n) placed++;
    switch (way) {
    case NO_SUCH_DEVICE: a->device_of[placed] = in.n_devices + (int32_t)below(3); break;
    case NEGATIVE: a->device_of[at] = -2 - (int32_t)below(5); break;
    case ANY_NUMBER:
        a->device_of[at] = below(2) ? (int32_t)(below(UINT32_MAX) * 2u + below(2)) : below(2) ? INT32_MIN : INT32_MAX;
        break;
    case TAKEN_OUT: a->device_of[placed] = -1; break;
    case PUT_IN: a->device_of[at] = d; break;
    case MOVED: a->device_of[placed] = d; break; /* right, or over a budget */
    case REPLICAS: a->n_replicas = (int32_t[]){0, -1, INT32_MIN, INT32_MAX, in.n_devices + 1}[below(5)]; break;
    case BUDGET:
        devices[d].budget_bytes -= devices[d].budget_bytes ? 1 + below((uint32_t)(devices[d].budget_bytes % 2000 + 1)) %
                                                                     devices[d].budget_bytes
                                                           : 0;
        break;
    case NOISE:
        for (int32_t i = 0; i < n; i++) a->device_of[i] = (int32_t)(below(UINT32_MAX) * 2u);
        break;
    case SMALL_NOISE:
        for (int32_t i = 0; i < n; i++) a->device_of[i] = (int32_t)below((uint32_t)in.n_devices + 2) - 1;
        break;
    case NOTE:
        for (size_t i = 0; i < sizeof a->note; i++) a->note[i] = (char)(1 + below(255));
        break;
    default: break;
    }
}

/* ---- asking ---- */

static const answer *current;

static berth_status answer_current(const berth_strategy_input *asked, berth_strategy_output *out, berth_error *err)
{
    (void)err;
    int32_t n = current->n_replicas < 1                   ? 1
                : current->n_replicas > out->max_replicas ? out->max_replicas
                                                          : current->n_replicas;
    memcpy(out->device_of, current->device_of, (size_t)n * (size_t)asked->n_nodes * sizeof *out->device_of);
    memcpy(out->note, current->note, sizeof out->note);
    out->n_replicas = current->n_replicas;
    return BERTH_OK;
}

static berth_status ask(const answer *a, bool as_plugin, berth_placement **out, berth_error *err)
{
    static const berth_strategy strategy = {
        .abi = BERTH_STRATEGY_ABI, .struct_size = sizeof strategy, .name = "test", .place = answer_current};
    current = a;
    if (!as_plugin) return berth_placement_make(&strategy, &in, out, err);
    return berth_placement_accept(&(berth_placement_answer){.strategy = "test",
                                                            .who = "strategy test",
                                                            .n_replicas = a->n_replicas,
                                                            .device_of = a->device_of,
                                                            .note = a->note},
                                  &in, out, err);
}

static void check_refusal(const verdict *v, berth_status st, const berth_error *err, int way)
{
    if (st != (v->is_over_budget ? BERTH_DOES_NOT_FIT : BERTH_INVALID_ARGUMENT))
        fail_msg("way %d: status %d: %s", way, st, err->message);
    assert_non_null(strstr(err->message, "strategy test"));
    if (!v->is_over_budget) return;
    int32_t worst = -1;
    uint64_t most = 0;
    for (int32_t d = 0; d < in.n_devices; d++) {
        uint64_t missing = v->need[d] > devices[d].budget_bytes ? v->need[d] - devices[d].budget_bytes : 0;
        if (missing > most) worst = d;
        if (missing > most) most = missing;
    }
    char where[32], bytes[48];
    snprintf(where, sizeof where, " on %s;", devices[worst].name);
    snprintf(bytes, sizeof bytes, "(%" PRIu64 " bytes)", most);
    if (!strstr(err->message, where) || !strstr(err->message, bytes)) fail_msg("%s %s: %s", where, bytes, err->message);
}

static void every_wrong_plan_is_refused_and_no_right_one(void **state)
{
    (void)state;
    static answer right, a;
    int n_right[WAYS] = {0}, n_wrong[WAYS] = {0}, n_over = 0;
    for (int t = 0; t < TREES; t++) {
        make_tree();
        for (int k = 0; k < PLANS; k++) {
            int way = k % 3 == 0 ? AS_IT_IS : (int)below(WAYS);
            make_answer(&right);
            make_budgets(&right);
            a = right;
            spoil(&a, way);
            verdict v = judge(&a);
            berth_placement *p;
            berth_error err = {0};
            berth_status st = ask(&a, k % 2, &p, &err);
            if ((st == BERTH_OK) != v.is_right)
                fail_msg("tree %d, way %d: %s: %s", t, way, v.is_right ? "right, and refused" : "wrong, and taken",
                         err.message);
            assert_int_equal(st == BERTH_OK, p != NULL);
            if (st != BERTH_OK) check_refusal(&v, st, &err, way);
            if (p && memcmp(p->device_of, a.device_of, (size_t)(a.n_replicas * n_nodes) * sizeof *p->device_of) != 0)
                fail_msg("another placement");
            if (p) assert_true(berth_utf8_valid(p->note, strlen(p->note)));
            if (p && way != NOTE) assert_string_equal(p->note, "a note");
            v.is_right ? n_right[way]++ : n_wrong[way]++;
            n_over += v.is_over_budget;
            berth_placement_destroy(p);
        }
    }
    int all_right = 0, all_wrong = 0;
    for (int w = 0; w < WAYS; w++) {
        all_right += n_right[w];
        all_wrong += n_wrong[w];
        bool must_be_right = w == AS_IT_IS || w == NOTE,
             must_be_wrong = w == NO_SUCH_DEVICE || w == NEGATIVE || w == REPLICAS;
        assert_int_equal(n_wrong[w] == 0, must_be_right);
        if (must_be_wrong && n_right[w] > n_wrong[w] / 10)
            fail_msg("way %d spoils too little: %d of %d right", w, n_right[w], n_right[w] + n_wrong[w]);
    }
    print_message("%d plans: %d right, %d wrong, of these %d over a budget\n", all_right + all_wrong, all_right,
                  all_wrong, n_over);
    assert_true(all_right > 30000 && all_wrong > 30000 && n_over > 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_wrong_plan_is_refused_and_no_right_one)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
