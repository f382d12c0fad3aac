/* optimal.c - the provably best cut of the chain of atoms, for one of three ends:
 *   optimal, optimal=throughput: the slowest stage as fast as can be (many requests in flight);
 *   optimal=latency: the least time for one token (few, fast devices; a hop costs its link's latency);
 *   optimal=capacity: the longest context that can be made to fit.
 * A stage's time is its bytes by its device's memory rate, where the rates of all devices are known, else by equal rates. Devices may be taken in any order where that is better
 * (up to 12; latency: 8). Tied tensors, KV cache and what is reserved count. Source: partition.h. */
#include "berth/strategy.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/partition.h"
#include "strategies/words.h"

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
    if (what == LATENCY && in->n_devices > 8)
        return berth_refuse(err, BERTH_UNSUPPORTED,
                            "strategy optimal=latency looks at up to 8 devices, and %d were given; name the fastest 8",
                            in->n_devices);
    return BERTH_OK;
}

/* Rates where all are known, else all 1. Gives whether they are known. */
static bool read_devices(const berth_strategy_input *in, berth_partition_device *devices)
{
    bool is_known = true;
    for (int32_t d = 0; d < in->n_devices; d++) {
        double rate = berth_device_at(in, d)->bytes_per_second;
        devices[d] = (berth_partition_device){.room = berth_device_room(in, d), .rate = rate};
        is_known = is_known && rate > 0 && rate < 1e30;
    }
    for (int32_t d = 0; d < in->n_devices && !is_known; d++) devices[d].rate = 1;
    return is_known;
}

/* Latency of the link from a to b in seconds; 0 where none is given. */
static void read_hops(const berth_strategy_input *in, double *hops)
{
    for (int32_t i = 0; i < in->n_links; i++) {
        const berth_link_view *link = berth_link_at(in, i);
        bool is_known = link->latency_ns > 0 && link->latency_ns < 1e18;
        if (link->from < 0 || link->to < 0 || link->from >= in->n_devices || link->to >= in->n_devices || !is_known)
            continue;
        hops[link->from * in->n_devices + link->to] = link->latency_ns * 1e-9;
    }
}

/* Devices of which no two differ need no other order than the one given. */
static bool differ(const berth_partition_device *devices, int32_t n)
{
    for (int32_t d = 1; d < n; d++)
        if (devices[d].room != devices[0].room || devices[d].rate != devices[0].rate) return true;
    return false;
}

/* The order of the stages that hold something, where it is not the order given. */
static void note_order(const berth_strategy_input *in, berth_strategy_output *out, const berth_partition *p)
{
    char text[200] = "";
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
    if (p->n_devices > BERTH_PARTITION_FREE_ORDER)
        berth_note(out, "other orders of so many devices were not looked at");
    if (!is_given) berth_note(out, "the stages run in the order %s, which is better than the order given", text);
}

static berth_status run_objective(const berth_chain *c, const berth_strategy_input *in, berth_partition *p,
                                  bool *rates_known, berth_error *err)
{
    int32_t n = in->n_devices;
    berth_partition_device *devices = calloc((size_t)n, sizeof *devices);
    double *hops = calloc((size_t)n * (size_t)n, sizeof *hops);
    berth_status st = BERTH_OUT_OF_MEMORY;
    if (!devices || !hops) {
        berth_refuse(err, st, "no memory for the list of devices");
        goto out;
    }
    *rates_known = read_devices(in, devices);
    read_hops(in, hops);
    switch (read_objective(in->argument)) {
    case LATENCY: st = berth_partition_latency(c, devices, hops, n, p, err); break;
    case CAPACITY: st = berth_partition_capacity(c, devices, n, differ(devices, n), MOST_TOKENS, p, err); break;
    default: st = berth_partition_throughput(c, devices, n, differ(devices, n), p, err); break;
    }
out:
    free(devices);
    free(hops);
    return st;
}

static berth_status optimal_place(const berth_strategy_input *in, berth_strategy_output *out, berth_error *err)
{
    berth_chain chain;
    berth_partition p = {0};
    bool rates_known = false;
    berth_status st = berth_chain_init(&chain, in, err);
    if (st != BERTH_OK) return st;
    st = run_objective(&chain, in, &p, &rates_known, err);
    if (st == BERTH_DOES_NOT_FIT) st = berth_chain_refuse(&chain, in, 0, in->n_devices, "optimal", err);
    if (st == BERTH_OK) {
        bool is_capacity = read_objective(in->argument) == CAPACITY;
        out->n_replicas = 1;
        berth_chain_place(&chain, in, out, 0, 0, p.order, in->n_devices, p.bounds);
        if (is_capacity && p.value < MOST_TOKENS && chain.kv[chain.n] > 0)
            berth_note(out, "a context of up to %" PRId64 " tokens fits", (int64_t)p.value);
        if (!is_capacity && !rates_known)
            berth_note(out, "the devices' rates are not all known: equal rates were assumed");
        note_order(in, out, &p);
        berth_note_empty_devices(in, out);
    }
    berth_partition_deinit(&p);
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
