/* optimal.c - the provably best cut of the chain of atoms, for one of three ends:
 *   optimal, optimal=throughput: the slowest stage, or hop, as fast as can be (many requests in flight); among
 *   equals the fewest hops, then the shortest;
 *   optimal=latency: the least time for one request (few, fast devices; short hops);
 *   optimal=capacity: the longest context that can be made to fit.
 * A stage's time is that of a whole request (work.h: pictures, prompt, new tokens) where the host says what a
 * request is and knows all rates and the model's work; else its bytes by its device's memory rate; else by equal
 * rates. Devices may be taken in any order where that is better. Of many devices that
 * all differ not all orders can be looked at: then the note says how far from the best the answer can be, by a bound
 * that is proven for it. Tied tensors, KV cache and what is reserved count. Source: partition.h. */
#include "berth/strategy.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/partition.h"
#include "strategies/words.h"

#define MOST_GAP 0.02 /* beyond it an answer is not called near the best */
enum { MOST_TOKENS = 1 << 30 };

typedef enum objective { THROUGHPUT, LATENCY, CAPACITY, UNKNOWN } objective;

static objective read_objective(const char *argument)
{
    if (!argument || strcmp(argument, "throughput") == 0) return THROUGHPUT;
    if (strcmp(argument, "latency") == 0) return LATENCY;
    return strcmp(argument, "capacity") == 0 ? CAPACITY : UNKNOWN;
}

static berth_status optimal_check(const berth_strategy_input *in, berth_error *err)
{
    objective what = read_objective(in->argument);
    if (what == UNKNOWN)
        return berth_refuse(err, BERTH_INVALID_ARGUMENT,
                            "strategy optimal=END takes throughput, latency or capacity, and \"%.40s\" was given",
                            in->argument);
    return BERTH_OK;
}

/* What the search is given, owned. */
typedef struct setup {
    berth_partition_device *devices;
    berth_work work;
    berth_hops hops;
    bool rates_known, work_known;
    berth_partition_problem problem;
} setup;

static void setup_deinit(setup *s)
{
    free(s->devices);
    berth_work_deinit(&s->work);
    berth_hops_deinit(&s->hops);
}

/* Rates where all are known, else all 1. Gives whether they are known. */
static bool read_devices(const berth_strategy_input *in, berth_partition_device *devices)
{
    bool is_known = true;
    for (int32_t d = 0; d < in->n_devices; d++) {
        const berth_device_view *view = berth_device_at(in, d);
        devices[d] = (berth_partition_device){.room = berth_device_room(in, d), .rate = view->bytes_per_second};
        is_known = is_known && view->bytes_per_second > 0 && view->bytes_per_second < 1e30;
    }
    for (int32_t d = 0; d < in->n_devices && !is_known; d++) devices[d].rate = 1;
    return is_known;
}

static berth_status setup_init(setup *s, const berth_chain *c, const berth_strategy_input *in, berth_error *err)
{
    *s = (setup){.devices = calloc((size_t)in->n_devices, sizeof *s->devices)};
    if (!s->devices) return berth_refuse(err, BERTH_OUT_OF_MEMORY, "no memory for the list of devices");
    s->rates_known = read_devices(in, s->devices);
    s->work_known = berth_work_is_known(in);
    s->problem = (berth_partition_problem){.chain = c, .devices = s->devices, .n_devices = in->n_devices};
    berth_status st = berth_hops_init(&s->hops, c, in, s->work_known, err);
    if (st == BERTH_OK && s->work_known) st = berth_work_init(&s->work, c, in, err);
    if (st != BERTH_OK) return st;
    for (int32_t d = 0; d < in->n_devices && s->work_known; d++) s->devices[d].flops = berth_device_at(in, d)->flops;
    if (s->work_known) s->problem.work = &s->work;
    if (s->rates_known) s->problem.hops = &s->hops; /* seconds of hops mean nothing beside stages without rates */
    return BERTH_OK;
}

/* Seconds in hops, stage after stage; with the given order of devices in place of the one found where asked. */
static double hop_seconds(const setup *s, const berth_partition *p, bool in_given_order)
{
    double sum = 0;
    int32_t before = -1, n_used = 0;
    for (int32_t stage = 0; stage < p->n_devices; stage++) {
        if (p->bounds[stage] == p->bounds[stage + 1]) continue;
        int32_t device = in_given_order ? n_used++ : p->order[stage];
        if (before >= 0) sum += 1e-12 * berth_hop(&s->hops, before, device, p->bounds[stage]);
        before = device;
    }
    return sum;
}

/* The order of the stages that hold something, where it is not the order given. */
static void note_order(const berth_strategy_input *in, berth_strategy_output *out, const setup *known,
                       const berth_partition *p)
{
    char text[200] = "", why[100] = "";
    size_t len = 0;
    int32_t last = -1;
    bool is_given = true;
    for (int32_t s = 0; s < p->n_devices; s++) {
        if (p->bounds[s] == p->bounds[s + 1]) continue;
        is_given = is_given && p->order[s] > last;
        last = p->order[s];
        const char *name = berth_device_at(in, last)->name;
        if (len + strlen(name) + 3 < sizeof text)
            len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", len ? ", " : "", name);
    }
    if (is_given) return;
    double now = hop_seconds(known, p, false), given = hop_seconds(known, p, true);
    if (now < given)
        snprintf(why, sizeof why, ": hops take %.3g ms %s, and %.3g ms in that one", 1e3 * now,
                 known->work_known ? "a request" : "a token", 1e3 * given);
    berth_note(out, "the stages run in the order %s, which is better than the order given%s", text, why);
}

static void note_value(const berth_strategy_input *in, berth_strategy_output *out, const setup *s,
                       const berth_partition *p, objective what)
{
    if (what != CAPACITY && !s->rates_known)
        berth_note(out, "the devices' rates are not all known: equal rates were assumed");
    else if (what != CAPACITY && s->work_known)
        berth_note(out,
                   "predicted from rates: %s %.3g s for a request of %d tiles, %" PRId64 " tokens and %" PRId64
                   " new ones",
                   what == LATENCY ? "all stages and hops take" : "the slowest stage takes", p->value,
                   (int)in->request_tiles, in->request_prompt_tokens, in->request_new_tokens);
}

/* Where not all orders were looked at: how far from the best it can be. */
static void note_proof(berth_strategy_output *out, const setup *s, const berth_partition *p, objective what)
{
    double gap = what == CAPACITY ? p->bound / p->value - 1 : 1 - p->bound / p->value;
    bool is_best = p->bound == p->value || p->value == 0;
    if (what == LATENCY && gap < 1e-9) is_best = true; /* sums in another order differ in the last bits */
    if (!is_best && p->bound == 0)
        berth_note(out, "other orders of so many devices were not looked at");
    else if (!is_best && gap <= MOST_GAP)
        berth_note(out, "within %.2g %% of the best of all orders, proven", 100 * (gap > 1e-4 ? gap : 1e-4));
    else if (!is_best)
        berth_note(out, "no order is proven the best: one up to %.3g %% %s is not ruled out", 100 * gap,
                   what == CAPACITY ? "longer" : "faster");
    if (what == THROUGHPUT && s->problem.hops && !p->hops_are_least)
        berth_note(out, "of orders as good by that, one with fewer or shorter hops is not ruled out");
}

static berth_status find(const setup *s, objective what, berth_partition *p, berth_error *err)
{
    switch (what) {
    case LATENCY: return berth_partition_latency(&s->problem, p, err);
    case CAPACITY: return berth_partition_capacity(&s->problem, true, MOST_TOKENS, p, err);
    default: return berth_partition_throughput(&s->problem, true, p, err);
    }
}

static berth_status optimal_place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    berth_chain chain;
    berth_partition p = {0};
    setup s;
    objective what = read_objective(in->argument);
    berth_status st = berth_chain_init(&chain, in, err);
    if (st != BERTH_OK) return st;
    st = setup_init(&s, &chain, in, err);
    if (st == BERTH_OK) st = find(&s, what, &p, err);
    if (st == BERTH_DOES_NOT_FIT) st = berth_chain_refuse(&chain, in, 0, in->n_devices, "optimal", err);
    if (st == BERTH_OK) {
        out->n_replicas = 1;
        berth_chain_place(&chain, in, out, 0, 0, p.order, in->n_devices, p.bounds);
        if (what == CAPACITY && p.value < MOST_TOKENS && chain.kv[chain.n] > 0)
            berth_note(out, "a context of up to %" PRId64 " tokens fits", (int64_t)p.value);
        note_order(in, out, &s, &p);
        note_value(in, out, &s, &p, what);
        note_proof(out, &s, &p, what);
        berth_note_empty_devices(in, out);
    }
    berth_partition_deinit(&p);
    setup_deinit(&s);
    berth_chain_deinit(&chain);
    return st;
}

const berth_strategy berth_strategy_optimal = {
    .abi = BERTH_STRATEGY_ABI,
    .struct_size = sizeof(berth_strategy),
    .name = "optimal",
    .about = "the provably best cut; optimal=throughput, optimal=latency, optimal=capacity",
    .check = optimal_check,
    .place = optimal_place,
};
