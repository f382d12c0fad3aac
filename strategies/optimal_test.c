/* optimal_test.c - optimal against every cut in every order, with times of whole requests and hops over unequal links.
 *
 * The judge knows nothing of chain.c, work.c or partition.c: it adds up each atom's figures itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/registry.h"
#include "tests/random.h"

enum { MOST_ATOMS = 9, MOST_DEVICES = 4, MOST_NODES = 1 + 2 * MOST_ATOMS, N_MODELS = 12000 };

typedef struct world {
    berth_node_view nodes[MOST_NODES];
    char paths[MOST_NODES][16];
    berth_device_view devices[MOST_DEVICES];
    berth_link_view links[MOST_DEVICES * MOST_DEVICES];
    berth_strategy_input in;
    int32_t n_atoms, n_vision; /* atoms before the embedding */
} world;

static uint64_t seed;

static uint32_t below(uint32_t n)
{
    return test_random_below(&seed, n);
}

/* A module that stays whole, with one tensor. */
static void add_atom(world *w, uint64_t elements, double per_token, double per_tile, uint64_t kv, double per_pair,
                     double scores_per_tile)
{
    int32_t i = w->in.n_nodes;
    snprintf(w->paths[i], sizeof w->paths[i], "m%d", i);
    snprintf(w->paths[i + 1], sizeof w->paths[i + 1], "m%d.w", i);
    w->nodes[i] = (berth_node_view){.path = w->paths[i],
                                    .class_name = "M",
                                    .parent = 0,
                                    .n_descendants = 1,
                                    .flags = BERTH_NODE_NO_SPLIT,
                                    .tied_to = -1,
                                    .weight_bytes = elements * 2,
                                    .kv_bytes_per_token = kv,
                                    .flops_per_token = per_token,
                                    .flops_per_tile = per_tile,
                                    .attention_flops_per_pair = per_pair,
                                    .attention_flops_per_tile = scores_per_tile};
    w->nodes[i + 1] = w->nodes[i];
    w->nodes[i + 1].path = w->paths[i + 1];
    w->nodes[i + 1].class_name = "";
    w->nodes[i + 1].parent = i;
    w->nodes[i + 1].n_descendants = 0;
    w->nodes[i + 1].flags = BERTH_NODE_TENSOR;
    w->nodes[i + 1].kv_bytes_per_token = 0;
    w->nodes[i + 1].n_elements = (int64_t)elements;
    w->nodes[i + 1].element_bits = 16;
    w->nodes[0].weight_bytes += elements * 2;
    w->nodes[0].kv_bytes_per_token += kv;
    w->nodes[0].flops_per_token += per_token;
    w->nodes[0].flops_per_tile += per_tile;
    w->nodes[0].attention_flops_per_pair += per_pair;
    w->nodes[0].attention_flops_per_tile += scores_per_tile;
    w->nodes[0].n_descendants += 2;
    w->in.n_nodes += 2;
    w->n_atoms++;
}

static void begin(world *w)
{
    *w = (world){.in = {.struct_size = sizeof w->in, .n_nodes = 1, .context_tokens = 1000, .max_tiles = 4}};
    w->nodes[0] = (berth_node_view){.path = "", .class_name = "Model", .parent = -1, .tied_to = -1};
    w->in.nodes = w->nodes;
    w->in.node_size = sizeof *w->nodes;
    w->in.devices = w->devices;
    w->in.device_size = sizeof *w->devices;
    w->in.links = w->links;
    w->in.link_size = sizeof *w->links;
}

static void add_random_machine(world *w)
{
    static const char *const names[MOST_DEVICES] = {"d:0", "d:1", "d:2", "d:3"};
    uint64_t total = w->nodes[0].weight_bytes + w->nodes[0].kv_bytes_per_token * 1000;
    w->in.n_devices = 1 + (int32_t)below(MOST_DEVICES);
    uint32_t kinds = 1 + below(3), least = 40 + below(80);
    for (int32_t d = 0; d < w->in.n_devices; d++) {
        uint64_t kind = below(kinds);
        w->devices[d] = (berth_device_view){
            .name = names[d],
            .budget_bytes = total * (least + 30 * kind) / 100 / (uint64_t)w->in.n_devices + total / 8 + 50,
            .reserved_bytes = 50,
            .flops = 1e12 * (double)(1 + kind),
            .bytes_per_second = 1e9 * (double)(kind == 1 ? 5 : 2),
            .physical = d};
        for (int32_t to = 0; to < w->in.n_devices; to++)
            if (to != d)
                w->links[w->in.n_links++] = (berth_link_view){.from = d,
                                                              .to = to,
                                                              .bytes_per_second = 1e6 * (double)(1 + below(1000)),
                                                              .latency_ns = below(3) ? 1000 * below(100) : 0};
    }
}

static void make_world(world *w, uint64_t number)
{
    seed = number * 0x9E3779B97F4A7C15u + 1;
    begin(w);
    int32_t n_layers = 1 + (int32_t)below(4);
    w->n_vision = (int32_t)below(4);
    for (int32_t i = 0; i < w->n_vision; i++) {
        uint64_t elements = 1000 + below(200000);
        add_atom(w, elements, 0, 2.0 * (double)elements * (1 + below(1000)), 0, 0, 1e6 * below(200));
    }
    add_atom(w, 1000 + below(300000), 0, 0, 0, 0, 0); /* the embedding: held, but not read */
    for (int32_t i = 0; i < n_layers; i++) {
        uint64_t elements = 1000 + below(300000);
        add_atom(w, elements, 2.0 * (double)elements, 0, below(500), below(1000), 0);
    }
    uint64_t head = 1000 + below(300000);
    add_atom(w, head, 2.0 * (double)head, 0, 0, 0, 0);
    w->nodes[w->in.n_nodes - 2].kv_bytes_per_token = 0;
    if (w->nodes[w->in.n_nodes - 4].kv_bytes_per_token ==
        0) { /* the last layer has a cache, so that the head is seen */
        w->nodes[w->in.n_nodes - 4].kv_bytes_per_token = 7;
        w->nodes[0].kv_bytes_per_token += 7;
    }
    w->in.request_tiles = (int32_t)below(14);
    w->in.request_prompt_tokens = 1 + below(4000);
    w->in.request_new_tokens = 1 + below(900);
    w->in.hidden_bytes_per_token = 4 * below(5000);
    w->in.hidden_bytes_per_tile = 4 * below(100000);
    add_random_machine(w);
}

/* ---- the judge ---- */

static double stage(const world *w, int32_t d, int32_t from, int32_t to)
{
    double tiles = w->in.request_tiles, prompt = (double)w->in.request_prompt_tokens,
           made = (double)w->in.request_new_tokens, f[3] = {0}, b[3] = {0};
    for (int32_t a = from; a < to; a++) {
        const berth_node_view *v = &w->nodes[1 + 2 * a];
        bool is_head = a == w->n_atoms - 1;
        if (tiles > 0 && v->flops_per_tile > 0) {
            f[0] += tiles * (v->flops_per_tile + v->attention_flops_per_tile);
            b[0] += (double)v->weight_bytes;
        }
        f[1] += (is_head ? 1 : prompt) * v->flops_per_token;
        f[1] += v->attention_flops_per_pair * prompt * (prompt + 1) / 2; /* each token, with all before it */
        f[2] += made * v->flops_per_token + v->attention_flops_per_pair * made * (prompt + made / 2);
        b[1] += v->flops_per_token > 0 ? (double)v->weight_bytes : 0;
        b[2] += made * (v->flops_per_token > 0 ? (double)v->weight_bytes : 0) +
                made * (double)v->kv_bytes_per_token * (prompt + made / 2);
    }
    double sum = 0;
    for (int k = 0; k < 3; k++) sum += fmax(f[k] / w->devices[d].flops, b[k] / w->devices[d].bytes_per_second);
    return sum;
}

static bool has_room(const world *w, int32_t d, int32_t from, int32_t to)
{
    uint64_t bytes = 0;
    for (int32_t a = from; a < to; a++)
        bytes += w->nodes[1 + 2 * a].weight_bytes + w->nodes[1 + 2 * a].kv_bytes_per_token * 1000;
    return bytes + w->devices[d].reserved_bytes <= w->devices[d].budget_bytes;
}

static double hop(const world *w, int32_t from, int32_t to, int32_t cut)
{
    const berth_link_view *link = NULL;
    for (int32_t i = 0; i < w->in.n_links; i++)
        if (w->links[i].from == from && w->links[i].to == to) link = &w->links[i];
    assert_non_null(link);
    double token = (double)w->in.hidden_bytes_per_token, prompt = (double)w->in.request_prompt_tokens,
           made = (double)w->in.request_new_tokens;
    if (cut < w->n_vision)
        return w->in.request_tiles * (double)w->in.hidden_bytes_per_tile / link->bytes_per_second +
               1e-9 * link->latency_ns;
    if (cut == w->n_vision && cut > 0) return token * prompt / link->bytes_per_second + 1e-9 * link->latency_ns;
    return token * (prompt + made) / link->bytes_per_second + 1e-9 * (1 + made) * link->latency_ns;
}

typedef struct verdict {
    double slowest, sum, hops; /* seconds */
    int32_t n_hops;
} verdict;

/* Stages in order, [bounds[s], bounds[s + 1]) on order[s]; false when something has no room. */
static bool judge(const world *w, const int32_t *order, const int32_t *bounds, int32_t n, verdict *out)
{
    *out = (verdict){0};
    for (int32_t s = 0, before = -1; s < n; s++) {
        if (bounds[s] == bounds[s + 1]) continue;
        if (!has_room(w, order[s], bounds[s], bounds[s + 1])) return false;
        double seconds = stage(w, order[s], bounds[s], bounds[s + 1]),
               here = before < 0 ? 0 : hop(w, before, order[s], bounds[s]);
        out->sum += seconds + here;
        out->hops += here;
        out->n_hops += before >= 0;
        out->slowest = fmax(out->slowest, fmax(seconds, here));
        before = order[s];
    }
    return true;
}

typedef struct best {
    double slowest, sum, hops;
    int32_t n_hops;
    bool any;
} best;

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b)) + 1e-10;
}

static void look(const world *w, int32_t *order, int32_t *bounds, int32_t chosen, int32_t d, best *b)
{
    int32_t n = w->in.n_devices;
    verdict v;
    for (int32_t k = 0; chosen < n && k < n; k++) {
        bool is_new = true;
        for (int32_t i = 0; i < chosen; i++) is_new &= order[i] != k;
        order[chosen] = k;
        if (is_new) look(w, order, bounds, chosen + 1, d, b);
    }
    if (chosen < n) return;
    if (d < n) {
        for (bounds[d] = bounds[d - 1]; bounds[d] <= w->n_atoms; bounds[d]++) look(w, order, bounds, chosen, d + 1, b);
        return;
    }
    if (!judge(w, order, bounds, n, &v)) return;
    bool is_better = !b->any || (v.slowest < b->slowest && !near(v.slowest, b->slowest)),
         is_equal = b->any && near(v.slowest, b->slowest);
    if (is_better || (is_equal && (v.n_hops < b->n_hops || (v.n_hops == b->n_hops && v.hops < b->hops)))) {
        b->slowest = is_better ? v.slowest : b->slowest;
        b->hops = v.hops;
        b->n_hops = v.n_hops;
    }
    b->sum = b->any && b->sum < v.sum ? b->sum : v.sum;
    b->any = true;
}

/* The strategy's answer as stages; every atom is a module that is placed itself. */
static berth_status ask(world *w, const char *argument, verdict *out, char note[512])
{
    static int32_t device_of[MOST_DEVICES * MOST_NODES];
    const char *given;
    berth_error err = {0};
    berth_strategy_output answer = {
        .struct_size = sizeof answer, .device_of = device_of, .max_replicas = w->in.n_devices};
    memset(device_of, 0xff, sizeof device_of);
    w->in.argument = argument;
    const berth_strategy *s = berth_strategy_find("optimal", &given);
    berth_status st = s->place(&w->in, &answer, &err);
    if (note) memcpy(note, answer.note, 512);
    if (st != BERTH_OK) return st;
    int32_t order[MOST_ATOMS], bounds[MOST_ATOMS + 1] = {0}, n = 0;
    for (int32_t a = 0; a < w->n_atoms; a++) {
        int32_t device = device_of[1 + 2 * a];
        assert_in_range(device, 0, w->in.n_devices - 1);
        if (n > 0 && order[n - 1] == device) {
            bounds[n] = a + 1;
            continue;
        }
        for (int32_t i = 0; i < n; i++) assert_int_not_equal(order[i], device); /* runs are contiguous */
        order[n++] = device;
        bounds[n] = a + 1;
    }
    assert_true(judge(w, order, bounds, n, out));
    return st;
}

static void no_cut_in_any_order_is_better(void **state)
{
    (void)state;
    static world w;
    int32_t n_fit = 0, n_not = 0, n_hops = 0;
    for (uint64_t number = 0; number < N_MODELS; number++) {
        int32_t order[MOST_DEVICES], bounds[MOST_DEVICES + 1] = {0};
        best b = {0};
        verdict v;
        make_world(&w, number);
        bounds[w.in.n_devices] = w.n_atoms;
        look(&w, order, bounds, 0, 1, &b);
        *(b.any ? &n_fit : &n_not) += 1;
        berth_status st = ask(&w, NULL, &v, NULL);
        assert_int_equal(st, b.any ? BERTH_OK : BERTH_DOES_NOT_FIT);
        if (st != BERTH_OK) continue;
        if (!near(v.slowest, b.slowest))
            fail_msg("model %d: slowest stage or hop %.12g, and %.12g is possible", (int)number, v.slowest, b.slowest);
        if (v.n_hops > b.n_hops || (v.n_hops == b.n_hops && v.hops > b.hops + 1e-9))
            fail_msg("model %d: %d hops of %.12g s, and %d of %.12g s are possible", (int)number, v.n_hops, v.hops,
                     b.n_hops, b.hops);
        n_hops += v.n_hops > 0;
        assert_int_equal(ask(&w, "latency", &v, NULL), BERTH_OK);
        if (!near(v.sum, b.sum)) fail_msg("model %d: %.12g s, and %.12g is possible", (int)number, v.sum, b.sum);
    }
    assert_true(n_fit > N_MODELS / 2 && n_not > N_MODELS / 20 && n_hops > N_MODELS / 4);
}

/* ---- a V100 quad ---- */

/* One half of a DGX-1: two links 0-3, 1-2 and 2-3, one link 0-1, 0-2 and 1-3. */
static void make_quad(world *w)
{
    static const char *const names[MOST_DEVICES] = {"V100:0", "V100:1", "V100:2", "V100:3"};
    begin(w);
    w->n_vision = 1;
    add_atom(w, 304012288, 0, 0.62e12, 0, 0, 0.1e12);
    add_atom(w, 543599616, 0, 0, 0, 0, 0);
    for (int i = 0; i < 6; i++) add_atom(w, 1087000000, 2.0 * 1087000000, 0, 9557, 67000, 0);
    add_atom(w, 543599616, 2.0 * 543599616, 0, 0, 0, 0);
    w->in.context_tokens = 4096;
    w->in.request_tiles = 13;
    w->in.request_prompt_tokens = 3448;
    w->in.request_new_tokens = 600;
    w->in.hidden_bytes_per_token = 4 * 3584;
    w->in.hidden_bytes_per_tile = 4 * 1025 * 1024;
    w->in.n_devices = 4;
    for (int32_t d = 0; d < 4; d++) {
        w->devices[d] = (berth_device_view){.name = names[d],
                                            .budget_bytes = (uint64_t)14 << 30,
                                            .flops = 75e12,
                                            .bytes_per_second = 765e9,
                                            .physical = d};
        for (int32_t to = 0; to < 4; to++) {
            bool has_two = d + to == 3 || d + to == 5; /* 0-3, 1-2, 2-3 */
            if (to != d)
                w->links[w->in.n_links++] = (berth_link_view){
                    .from = d, .to = to, .bytes_per_second = has_two ? 47.9e9 : 25e9, .latency_ns = 7200};
        }
    }
}

static void a_quad_runs_0_3_2_1(void **state)
{
    (void)state;
    static world w;
    char note[512];
    verdict v;
    make_quad(&w);
    assert_int_equal(ask(&w, NULL, &v, note), BERTH_OK);
    assert_int_equal(v.n_hops, 3);
    if (!strstr(note, "V100:0, V100:3, V100:2, V100:1, which is better than the order given: hops take"))
        fail_msg("%s", note);
    assert_non_null(strstr(note, "for a request of 13 tiles, 3448 tokens and 600 new ones"));
    assert_int_equal(ask(&w, "latency", &v, note), BERTH_OK);
    assert_int_equal(v.n_hops, 1);                                  /* two of them hold it */
    assert_non_null(strstr(note, "V100:0, V100:3 are left empty")); /* 1-2 has two links */
    for (int32_t i = 0; i < w.in.n_links; i++) w.links[i].bytes_per_second = 47.9e9;
    assert_int_equal(ask(&w, NULL, &v, note), BERTH_OK);
    assert_null(strstr(note, "order"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_cut_in_any_order_is_better),
        cmocka_unit_test(a_quad_runs_0_3_2_1),
    };
    return cmocka_run_group_tests_name("optimal", tests, NULL, NULL);
}
