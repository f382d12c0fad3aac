/* conformance_test.c - what every strategy must do, over random module trees and machines.
 *
 * Judges answers tensor by tensor with its own arithmetic, never with chain.c's; small models are also cut in every possible
 * way, to see that what is refused does not fit and that what claims to be balanced is. A strategy that cannot do a thing is a row
 * of `rules` with its reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/registry.h"

enum { MAX_NODES = 160, MAX_DEVICES = 6, N_CASES = 600 };

/* What holds beyond the common rules. */
typedef struct rule {
    const char *name;
    bool
        is_contiguous; /* fits exactly when some cut into runs over the devices in order fits; replicate and single have rules of their own */
    bool is_balanced;  /* and its fullest device is as empty as any such cut's */
    bool takes_layers; /* BERTH_UNSUPPORTED is right for a model without KV cache */
    int32_t min_devices;
} rule;

static const rule rules[] = {
    {"sequential", true, false, false, 1},
    {"balanced", true, true, false, 1},
    {"balanced_low_0", true, false, false, 1},
    {"replicate=1", true, true, false, 1},
    {"replicate", false, false, false, 1},
    {"replicate=2", false, false, false, 2},
    {"single", false, false, false, 1},
    {"auto", false, false, false, 1},    /* one device first: fits where a cut fits, but is not balanced */
    {"optimal", false, false, false, 1}, /* other device orders too: see the test of its own */
    {"optimal=latency", false, false, false, 1},
    {"optimal=capacity", false, false, false, 1},
    {"internvl", false, false, true, 1}, /* these go by counts: what does not fit is refused, not moved */
    {"layer", false, false, true, 1},
    {"layer=1,0,2", false, false, true, 3},
    {"vllm", false, false, true, 1},
    {"sglang", false, false, true, 1},
    {"deepspeed", false, false, false, 1},
    {"deepspeed=uniform", false, false, false, 1},
    {"deepspeed=type:mod", false, false, false, 1},
};

/* A new line in registry.c needs a row above, with and without its arguments. */
static void every_strategy_has_a_row(void **state)
{
    (void)state;
    const size_t n_rules = sizeof rules / sizeof *rules;
    for (int32_t i = 0; i < berth_strategy_count(); i++) {
        const berth_strategy *s = berth_strategy_at(i);
        bool has_row = false;
        for (size_t r = 0; r < n_rules; r++) has_row |= berth_strategy_find(rules[r].name, NULL) == s;
        if (!has_row) fail_msg("%s is registered and has no row in `rules`", s->name);
    }
    for (size_t r = 0; r < n_rules; r++)
        if (!berth_strategy_find(rules[r].name, NULL)) fail_msg("%s is no strategy", rules[r].name);
}

static bool is_asked(const rule *r, int32_t n_devices)
{
    return strcmp(r->name, "layer=1,0,2") == 0 ? n_devices == 3 : n_devices >= r->min_devices;
}

/* ---- random models and machines ---- */

/* Wider than the ABI's struct, as a later host's would be. */
typedef struct wide_node {
    berth_node_view view;
    char later[24];
} wide_node;

typedef struct model {
    wide_node nodes[MAX_NODES];
    char paths[MAX_NODES][16];
    int32_t n;
    uint64_t own_kv[MAX_NODES];
    berth_device_view devices[MAX_DEVICES];
    berth_strategy_input in;
} model;

static uint64_t seed;

static uint32_t random_below(uint32_t n) /* xorshift64*: the same trees everywhere */
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (uint32_t)((seed * 0x2545F4914F6CDD1Du) >> 33) % n;
}

static int32_t add_node(model *m, int32_t parent)
{
    int32_t i = m->n++;
    m->nodes[i].view = (berth_node_view){.path = m->paths[i], .class_name = "", .parent = parent, .tied_to = -1};
    return i;
}

static void grow(model *m, int32_t parent, int depth, bool is_small)
{
    int32_t i = add_node(m, parent);
    berth_node_view *view = &m->nodes[i].view;
    view->class_name = "Module";
    if (parent >= 0 && random_below(4) == 0) view->flags |= BERTH_NODE_NO_SPLIT;
    uint32_t n_tensors = random_below(3), n_children = depth == 0 ? 0 : random_below(is_small ? 3 : 5);
    if (parent < 0 && n_children == 0) n_children = 2;
    for (uint32_t t = 0; t < n_tensors && m->n < MAX_NODES; t++) {
        berth_node_view *tensor = &m->nodes[add_node(m, i)].view;
        tensor->flags = BERTH_NODE_TENSOR | (random_below(8) == 0 ? BERTH_NODE_BUFFER : 0u);
        tensor->n_elements = random_below(20) == 0 ? 0 : random_below(2) ? random_below(50) : random_below(2000);
        tensor->element_bits = 16;
        tensor->weight_bytes = (uint64_t)tensor->n_elements * 2;
    }
    if (n_children == 0 && parent >= 0 && random_below(3) == 0) m->own_kv[i] = random_below(30);
    for (uint32_t c = 0; c < n_children && m->n + 8 < MAX_NODES; c++) grow(m, i, depth - 1, is_small);
    view = &m->nodes[i].view;
    view->n_descendants = m->n - 1 - i;
}

static void tie_some(model *m)
{
    int32_t n_ties = (int32_t)random_below(4);
    for (int32_t k = 0; k < n_ties; k++) {
        int32_t a = (int32_t)random_below((uint32_t)m->n), b = (int32_t)random_below((uint32_t)m->n);
        berth_node_view *x = &m->nodes[a].view, *y = &m->nodes[b].view;
        bool is_target = false;
        for (int32_t i = 0; i < m->n; i++) is_target |= m->nodes[i].view.tied_to == a;
        if (a == b || is_target || !(x->flags & y->flags & BERTH_NODE_TENSOR) || x->tied_to >= 0 || y->tied_to >= 0)
            continue;
        x->tied_to = b;
        x->weight_bytes = 0;
        x->n_elements = y->n_elements;
    }
}

static void add_up(model *m)
{
    for (int32_t i = 0; i < m->n; i++) m->nodes[i].view.kv_bytes_per_token = m->own_kv[i];
    for (int32_t i = m->n - 1; i > 0; i--) {
        const berth_node_view *node = &m->nodes[i].view;
        m->nodes[node->parent].view.weight_bytes += node->weight_bytes;
        m->nodes[node->parent].view.kv_bytes_per_token += node->kv_bytes_per_token;
    }
}

static void make_machine(model *m)
{
    static const char *const names[MAX_DEVICES] = {"cpu:0", "cpu:1", "cpu:2", "cpu:3", "cpu:4", "cpu:5"};
    const berth_node_view *all = &m->nodes[0].view;
    uint64_t need = all->weight_bytes + all->kv_bytes_per_token * (uint64_t)m->in.context_tokens + 1;
    bool is_even = random_below(2);
    uint64_t one = need * (20 + random_below(200)) / 100 / (uint64_t)m->in.n_devices;
    for (int32_t d = 0; d < m->in.n_devices; d++) {
        uint64_t budget = is_even ? one : need * random_below(180) / 100 / (uint64_t)m->in.n_devices;
        uint64_t reserved = random_below(2) ? random_below(100) : 0;
        m->devices[d] =
            (berth_device_view){.name = names[d], .budget_bytes = budget + reserved, .reserved_bytes = reserved};
        if (random_below(8) == 0) m->devices[d].budget_bytes = reserved / 2;
    }
}

static void make_model(model *m, uint64_t number, bool is_small)
{
    memset(m, 0, sizeof *m);
    seed = (number + 1) * 0x9E3779B97F4A7C15u;
    for (int i = 0; i < 4; i++) random_below(2);
    for (int32_t i = 0; i < MAX_NODES; i++) snprintf(m->paths[i], sizeof m->paths[i], "node.%d", i);
    grow(m, -1, is_small ? 2 : 4, is_small);
    tie_some(m);
    add_up(m);
    m->in = (berth_strategy_input){.struct_size = sizeof m->in,
                                   .nodes = m->nodes,
                                   .node_size = sizeof *m->nodes,
                                   .n_nodes = m->n,
                                   .devices = m->devices,
                                   .device_size = sizeof *m->devices,
                                   .n_devices = 1 + (int32_t)random_below(is_small ? 3 : MAX_DEVICES),
                                   .context_tokens = (int64_t)random_below(2) * random_below(60),
                                   .max_tiles = 1};
    make_machine(m);
}

/* ---- running a strategy ---- */

typedef struct answer {
    berth_status status;
    berth_error err;
    berth_strategy_output out;
    int32_t device_of[MAX_DEVICES * MAX_NODES];
} answer;

static void run(const char *name, model *m, answer *a)
{
    const berth_strategy *s = berth_strategy_find(name, &m->in.argument);
    assert_non_null(s);
    memset(a, 0, sizeof *a);
    memset(a->device_of, 0xFF, sizeof a->device_of);
    a->out = (berth_strategy_output){
        .struct_size = sizeof a->out, .device_of = a->device_of, .max_replicas = m->in.n_devices};
    a->status = s->check ? s->check(&m->in, &a->err) : BERTH_OK;
    if (a->status == BERTH_OK) a->status = s->place(&m->in, &a->out, &a->err);
}

/* ---- judging ---- */

static const berth_node_view *node_of(const model *m, int32_t i)
{
    return &m->nodes[i].view;
}

/* The device of a tensor or module by its nearest placed ancestor-or-self; *count: how many are placed on that way. */
static int32_t device_by_ancestors(const model *m, const int32_t *device_of, int32_t i, int32_t *count)
{
    int32_t device = -1;
    *count = 0;
    for (; i >= 0; i = node_of(m, i)->parent) {
        if (device_of[i] < 0) continue;
        if (device < 0) device = device_of[i];
        ++*count;
    }
    return device;
}

static int32_t storage_of(const model *m, int32_t tensor)
{
    int32_t tied = node_of(m, tensor)->tied_to;
    return tied >= 0 ? tied : tensor;
}

/* Bytes on each device when tensor or module i lies on device[i] (-1: nothing of its own there). */
static void bytes_on_devices(const model *m, const int32_t *device, uint64_t *bytes)
{
    bool held[MAX_DEVICES][MAX_NODES] = {{false}};
    memset(bytes, 0, MAX_DEVICES * sizeof *bytes);
    for (int32_t i = 0; i < m->n; i++) {
        if (device[i] < 0) continue;
        bytes[device[i]] += m->own_kv[i] * (uint64_t)m->in.context_tokens;
        if (!(node_of(m, i)->flags & BERTH_NODE_TENSOR)) continue;
        int32_t storage = storage_of(m, i);
        if (!held[device[i]][storage]) bytes[device[i]] += node_of(m, storage)->weight_bytes;
        held[device[i]][storage] = true;
    }
}

static uint64_t room_of(const model *m, int32_t d)
{
    const berth_device_view *v = &m->devices[d];
    return v->budget_bytes > v->reserved_bytes ? v->budget_bytes - v->reserved_bytes : 0;
}

/* The node that no strategy may divide and that holds i, or i itself. Written down again here, from the ABI's words. */
static int32_t atom_of(const model *m, int32_t i)
{
    int32_t atom = i;
    for (int32_t a = i; a > 0; a = node_of(m, a)->parent) {
        const berth_node_view *v = node_of(m, a);
        bool owns_tensor = false, holds_no_split = false;
        for (int32_t k = a + 1; k <= a + v->n_descendants; k++) {
            owns_tensor |= node_of(m, k)->parent == a && (node_of(m, k)->flags & BERTH_NODE_TENSOR);
            holds_no_split |= (node_of(m, k)->flags & BERTH_NODE_NO_SPLIT) != 0;
        }
        if (v->flags & BERTH_NODE_NO_SPLIT || (owns_tensor && !holds_no_split)) atom = a;
    }
    return atom;
}

static void judge_replica(const char *name, const model *m, const int32_t *device_of, uint64_t *total)
{
    int32_t device[MAX_NODES], of_atom[MAX_NODES];
    memset(of_atom, 0xFF, sizeof of_atom);
    for (int32_t i = 0; i < m->n; i++) {
        int32_t count;
        assert_true(device_of[i] >= -1 && device_of[i] < m->in.n_devices);
        device[i] = device_by_ancestors(m, device_of, i, &count);
        if (!(node_of(m, i)->flags & BERTH_NODE_TENSOR)) continue;
        if (count != 1) fail_msg("%s: %s is covered %d times", name, node_of(m, i)->path, count);
        int32_t atom = atom_of(m, i);
        if (of_atom[atom] >= 0 && of_atom[atom] != device[i]) fail_msg("%s splits %s", name, node_of(m, atom)->path);
        of_atom[atom] = device[i];
    }
    uint64_t bytes[MAX_DEVICES];
    bytes_on_devices(m, device, bytes);
    for (int32_t d = 0; d < m->in.n_devices; d++) total[d] += bytes[d];
}

static void judge_answer(const char *name, const model *m, const answer *a, uint64_t *total)
{
    memset(total, 0, MAX_DEVICES * sizeof *total);
    assert_true(a->out.n_replicas >= 1 && a->out.n_replicas <= a->out.max_replicas);
    assert_true(memchr(a->out.note, '\0', sizeof a->out.note) != NULL);
    for (int32_t r = 0; r < a->out.n_replicas; r++) judge_replica(name, m, a->device_of + r * m->n, total);
    bool any_empty = false;
    for (int32_t d = 0; d < m->in.n_devices; d++) {
        bool is_used = false;
        for (int32_t i = 0; i < a->out.n_replicas * m->n; i++) is_used |= a->device_of[i] == d;
        any_empty |= !is_used;
        if (total[d] > room_of(m, d))
            fail_msg("%s: device %d holds %" PRIu64 " of %" PRIu64, name, d, total[d], room_of(m, d));
    }
    if (any_empty != (strstr(a->out.note, "left empty") != NULL)) fail_msg("%s: note \"%s\"", name, a->out.note);
}

static void judge_refusal(const rule *r, const model *m, const answer *a)
{
    const char *name = r->name;
    if (r->takes_layers && a->status == BERTH_UNSUPPORTED) {
        assert_int_equal(m->nodes[0].view.kv_bytes_per_token, 0);
        return;
    }
    if (a->status != BERTH_DOES_NOT_FIT) fail_msg("%s: %s", name, a->err.message);
    assert_int_equal(a->err.status, BERTH_DOES_NOT_FIT);
    const char *missing = strstr(a->err.message, "missing: ");
    if (!missing || missing[9] < '0' || missing[9] > '9' || strncmp(missing, "missing: 0 bytes", 16) == 0)
        fail_msg("%s: \"%s\"", name, a->err.message);
    assert_non_null(strstr(a->err.message, "What helps: "));
}

/* ---- every cut of a small model ---- */

typedef struct cuts {
    int32_t atom[MAX_NODES]; /* of each node that owns bytes: its atom's place in the order; else -1 */
    int32_t n_atoms;
    bool any_fits;
    double least_fullness; /* of the fullest device, over the cuts that fit */
} cuts;

static double fullness(const model *m, const uint64_t *bytes)
{
    double most = 0;
    for (int32_t d = 0; d < m->in.n_devices; d++)
        if (bytes[d] > 0) {
            double f = room_of(m, d) == 0 ? 1e300 : (double)bytes[d] / (double)room_of(m, d);
            if (f > most) most = f;
        }
    return most;
}

static void try_cuts(const model *m, cuts *c, int32_t *bounds, int32_t d)
{
    if (d == m->in.n_devices) {
        int32_t device[MAX_NODES];
        uint64_t bytes[MAX_DEVICES];
        for (int32_t i = 0; i < m->n; i++) {
            device[i] = c->atom[i] < 0 ? -1 : 0;
            while (device[i] >= 0 && c->atom[i] >= bounds[device[i] + 1]) device[i]++;
        }
        bytes_on_devices(m, device, bytes);
        double f = fullness(m, bytes);
        if (f > 1) return;
        if (!c->any_fits || f < c->least_fullness) c->least_fullness = f;
        c->any_fits = true;
        return;
    }
    for (bounds[d] = bounds[d - 1]; bounds[d] <= c->n_atoms; bounds[d]++) try_cuts(m, c, bounds, d + 1);
}

static void all_cuts(const model *m, cuts *c)
{
    int32_t last = -1, bounds[MAX_DEVICES + 1] = {0};
    *c = (cuts){0};
    for (int32_t i = 0; i < m->n; i++) {
        int32_t atom = atom_of(m, i);
        c->atom[i] = -1;
        if (!(node_of(m, i)->flags & BERTH_NODE_TENSOR) && m->own_kv[i] == 0) continue;
        if (atom != last) c->n_atoms++;
        last = atom;
        c->atom[i] = c->n_atoms - 1;
    }
    bounds[m->in.n_devices] = c->n_atoms;
    try_cuts(m, c, bounds, 1);
}

/* ---- the tests ---- */

static void every_answer_is_complete_and_within_budgets(void **state)
{
    (void)state;
    static model m, untouched;
    static answer a;
    int32_t n_placed = 0, n_refused = 0;
    for (uint64_t number = 0; number < N_CASES; number++) {
        make_model(&m, number, false);
        for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
            if (!is_asked(&rules[r], m.in.n_devices)) continue;
            uint64_t total[MAX_DEVICES];
            m.in.argument = NULL;
            memcpy(&untouched, &m, sizeof m);
            run(rules[r].name, &m, &a);
            m.in.argument = NULL;
            assert_memory_equal(&untouched, &m, sizeof m);
            if (a.status == BERTH_OK)
                judge_answer(rules[r].name, &m, &a, total);
            else
                judge_refusal(&rules[r], &m, &a);
            *(a.status == BERTH_OK ? &n_placed : &n_refused) += 1;
        }
    }
    assert_true(n_placed > N_CASES && n_refused > N_CASES); /* the cases are no use if one side is rare */
}

static void answers_do_not_depend_on_names_or_on_the_call(void **state)
{
    (void)state;
    static model m;
    static answer first, second;
    for (uint64_t number = 0; number < N_CASES; number++) {
        for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
            make_model(&m, number, false);
            if (!is_asked(&rules[r], m.in.n_devices)) continue;
            bool by_class = strstr(rules[r].name, "type:") != NULL;
            run(rules[r].name, &m, &first);
            for (int32_t i = 0; i < m.n; i++) {
                snprintf(m.paths[i], sizeof m.paths[i], "%c%u", 'a' + (char)((i * 7) % 26), (unsigned)(m.n - i));
                if (!by_class) m.nodes[i].view.class_name = i % 2 ? "Zed" : "Alpha";
            }
            run(rules[r].name, &m, &second);
            assert_int_equal(first.status, second.status);
            assert_int_equal(first.out.n_replicas, second.out.n_replicas);
            assert_memory_equal(first.device_of, second.device_of, sizeof first.device_of);
        }
    }
}

static void what_is_refused_does_not_fit_and_balanced_is_best(void **state)
{
    (void)state;
    static model m;
    static answer a;
    cuts c;
    int32_t n_fit = 0, n_not = 0;
    for (uint64_t number = 0; number < N_CASES; number++) {
        make_model(&m, 100000 + number, true);
        all_cuts(&m, &c);
        *(c.any_fits ? &n_fit : &n_not) += 1;
        for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
            if (!rules[r].is_contiguous) continue;
            run(rules[r].name, &m, &a);
            if ((a.status == BERTH_OK) != c.any_fits)
                fail_msg("%s on small model %d: %s, but a cut %s", rules[r].name, (int)number,
                         berth_strategy_find(rules[r].name, NULL)->name, c.any_fits ? "fits" : "does not fit");
            if (a.status != BERTH_OK || !rules[r].is_balanced) continue;
            uint64_t total[MAX_DEVICES];
            judge_answer(rules[r].name, &m, &a, total);
            double f = fullness(&m, total);
            if (f > c.least_fullness * (1 + 1e-12))
                fail_msg("%s on small model %d: %g, and %g is possible", rules[r].name, (int)number, f,
                         c.least_fullness);
        }
    }
    assert_true(n_fit > N_CASES / 5 && n_not > N_CASES / 5);
}

/* ---- the best of all cuts and orders ---- */

typedef struct best {
    double throughput, latency; /* INFINITY = nothing fits */
} best;

static void try_orders(const model *m, const cuts *c, int32_t *order, int32_t n_chosen, int32_t *bounds, int32_t d,
                       best *b)
{
    int32_t n = m->in.n_devices;
    if (n_chosen < n) { /* a permutation first */
        for (int32_t k = 0; k < n; k++) {
            bool is_new = true;
            for (int32_t i = 0; i < n_chosen; i++) is_new &= order[i] != k;
            order[n_chosen] = k;
            if (is_new) try_orders(m, c, order, n_chosen + 1, bounds, d, b);
        }
        return;
    }
    if (d < n) {
        for (bounds[d] = bounds[d - 1]; bounds[d] <= c->n_atoms; bounds[d]++)
            try_orders(m, c, order, n_chosen, bounds, d + 1, b);
        return;
    }
    int32_t device[MAX_NODES];
    uint64_t bytes[MAX_DEVICES];
    double slowest = 0, sum = 0;
    for (int32_t i = 0; i < m->n; i++) {
        int32_t stage = 0;
        while (c->atom[i] >= bounds[stage + 1]) stage++;
        device[i] = c->atom[i] < 0 ? -1 : order[stage];
    }
    bytes_on_devices(m, device, bytes);
    for (int32_t k = 0; k < n; k++) {
        if (bytes[k] > room_of(m, k)) return;
        double seconds = (double)bytes[k] / m->devices[k].bytes_per_second;
        sum += seconds;
        if (seconds > slowest) slowest = seconds;
    }
    int32_t before = -1; /* hops between devices that hold atoms */
    for (int32_t s = 0; s < n; s++) {
        if (bounds[s] == bounds[s + 1]) continue;
        if (before >= 0) sum += 1e-9 * (1 + 2 * before + 3 * order[s]);
        before = order[s];
    }
    if (slowest < b->throughput) b->throughput = slowest;
    if (sum < b->latency) b->latency = sum;
}

static void optimal_is_best_of_all_cuts_and_orders(void **state)
{
    (void)state;
    static model m;
    static answer a;
    int32_t n_fit = 0, n_not = 0;
    for (uint64_t number = 0; number < N_CASES; number++) {
        make_model(&m, 400000 + number, true);
        berth_link_view links[9];
        for (int32_t d = 0; d < m.in.n_devices; d++) m.devices[d].bytes_per_second = 1e9 * (1 + random_below(4));
        for (int32_t k = 0; k < m.in.n_devices * m.in.n_devices; k++) {
            int32_t from = k / m.in.n_devices, to = k % m.in.n_devices;
            links[k] = (berth_link_view){.from = from, .to = to, .latency_ns = 1 + 2 * from + 3 * to};
        }
        m.in.links = links;
        m.in.link_size = sizeof *links;
        m.in.n_links = m.in.n_devices * m.in.n_devices;
        cuts c;
        all_cuts(&m, &c);
        best b = {INFINITY, INFINITY};
        int32_t order[MAX_DEVICES], bounds[MAX_DEVICES + 1] = {0};
        bounds[m.in.n_devices] = c.n_atoms;
        try_orders(&m, &c, order, 0, bounds, 1, &b);
        *(b.latency < INFINITY ? &n_fit : &n_not) += 1;
        uint64_t total[MAX_DEVICES];
        run("optimal", &m, &a);
        assert_int_equal(a.status == BERTH_OK, b.throughput < INFINITY);
        if (a.status == BERTH_OK) {
            double slowest = 0;
            judge_answer("optimal", &m, &a, total);
            for (int32_t d = 0; d < m.in.n_devices; d++)
                slowest = fmax(slowest, (double)total[d] / m.devices[d].bytes_per_second);
            if (slowest != b.throughput)
                fail_msg("small model %d: slowest stage %g, and %g is possible", (int)number, slowest, b.throughput);
        }
        run("optimal=latency", &m, &a);
        assert_int_equal(a.status == BERTH_OK, b.latency < INFINITY);
        if (a.status == BERTH_OK) {
            judge_answer("optimal=latency", &m, &a, total);
            double sum =
                0; /* hops are not seen here: the sum of stage times is a lower bound that must not be beaten by more than them */
            for (int32_t d = 0; d < m.in.n_devices; d++) sum += (double)total[d] / m.devices[d].bytes_per_second;
            int32_t before = -1;
            for (int32_t i = 0; i < m.n; i++) {
                int32_t count, device = device_by_ancestors(&m, a.device_of, i, &count);
                if (c.atom[i] < 0 || device == before) continue;
                if (before >= 0) sum += 1e-9 * (1 + 2 * before + 3 * device);
                before = device;
            }
            if (fabs(sum - b.latency) > 1e-6 * b.latency)
                fail_msg("small model %d: %g s, and %g is possible", (int)number, sum, b.latency);
        }
    }
    assert_true(n_fit > N_CASES / 5 && n_not > N_CASES / 10);
}

/* Capacity: the context it names fits, and one token more does not in any cut or order. */
static void capacity_is_the_longest_context(void **state)
{
    (void)state;
    static model m;
    static answer a;
    int32_t n_seen = 0;
    for (uint64_t number = 0; number < N_CASES; number++) {
        make_model(&m, 500000 + number, true);
        for (int32_t d = 0; d < m.in.n_devices; d++) m.devices[d].bytes_per_second = 1;
        run("optimal=capacity", &m, &a);
        const char *words = strstr(a.out.note, "a context of up to ");
        if (a.status != BERTH_OK || !words) continue;
        long long tokens = atoll(words + strlen("a context of up to "));
        assert_true(tokens >= m.in.context_tokens);
        for (int more = 0; more < 2; more++) {
            m.in.context_tokens = tokens + more;
            cuts c;
            all_cuts(&m, &c);
            best b = {INFINITY, INFINITY};
            int32_t order[MAX_DEVICES], bounds[MAX_DEVICES + 1] = {0};
            bounds[m.in.n_devices] = c.n_atoms;
            try_orders(&m, &c, order, 0, bounds, 1, &b);
            if ((b.throughput < INFINITY) != !more)
                fail_msg("small model %d: %lld tokens + %d", (int)number, tokens, more);
        }
        n_seen++;
    }
    assert_true(n_seen > 50);
}

static void low_0_uses_device_0_only_without_need_of_the_others(void **state)
{
    (void)state;
    static model m;
    static answer a;
    int32_t n_used = 0, n_free = 0;
    for (uint64_t number = 0; number < 8 * N_CASES; number++) {
        make_model(&m, 200000 + number, true);
        if (m.in.n_devices < 2) continue;
        run("balanced_low_0", &m, &a);
        if (a.status != BERTH_OK) continue;
        uint64_t total[MAX_DEVICES];
        judge_answer("balanced_low_0", &m, &a, total);
        m.devices[0].budget_bytes = 0;
        cuts c;
        all_cuts(&m, &c);
        if ((total[0] == 0) != c.any_fits)
            fail_msg("small model %d: %" PRIu64 " bytes on device 0", (int)number, total[0]);
        *(total[0] > 0 ? &n_used : &n_free) += 1;
    }
    assert_true(n_used > 20 && n_free > 20);
}

static void one_device_strategies_take_one_device(void **state)
{
    (void)state;
    static model m;
    static answer single, chosen, cut;
    for (uint64_t number = 0; number < N_CASES; number++) {
        make_model(&m, 300000 + number, false);
        run("single", &m, &single);
        run("auto", &m, &chosen);
        run("balanced", &m, &cut);
        if (single.status == BERTH_OK) {
            assert_true(single.device_of[0] >= 0);
            assert_true(chosen.status == BERTH_OK && chosen.device_of[0] >= 0);
        } else {
            assert_int_equal(chosen.status, cut.status);
            assert_memory_equal(chosen.device_of, cut.device_of, sizeof cut.device_of);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_strategy_has_a_row),
        cmocka_unit_test(every_answer_is_complete_and_within_budgets),
        cmocka_unit_test(answers_do_not_depend_on_names_or_on_the_call),
        cmocka_unit_test(what_is_refused_does_not_fit_and_balanced_is_best),
        cmocka_unit_test(optimal_is_best_of_all_cuts_and_orders),
        cmocka_unit_test(capacity_is_the_longest_context),
        cmocka_unit_test(low_0_uses_device_0_only_without_need_of_the_others),
        cmocka_unit_test(one_device_strategies_take_one_device),
    };
    return cmocka_run_group_tests_name("strategies_conformance", tests, NULL, NULL);
}
