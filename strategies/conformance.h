/* conformance.h - random module trees and machines, and a judge of what strategies make of them.
 *
 * The judge adds up tensor by tensor with arithmetic of its own, never with chain.c's. */
#ifndef BERTH_STRATEGIES_CONFORMANCE_H
#define BERTH_STRATEGIES_CONFORMANCE_H

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
#include "tests/random.h"

enum { MAX_NODES = 160, MAX_DEVICES = 6, N_CASES = 600 };

/* ---- models and machines (conformance_model.c) ---- */

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
    uint64_t seed;
} model;

/* The model of that number; a small one has at most 3 devices, and few enough cuts to try them all. */
void make_model(model *m, uint64_t number, bool is_small);

static inline const berth_node_view *node_of(const model *m, int32_t i)
{
    return &m->nodes[i].view;
}

typedef struct answer {
    berth_status status;
    berth_error err;
    berth_strategy_output out;
    int32_t device_of[MAX_DEVICES * MAX_NODES];
} answer;

/* `name` with its argument; sets m->in.argument. */
void run(const char *name, model *m, answer *a);

/* ---- the judge (conformance_judge.c) ---- */

/* The device of a tensor or module by its nearest placed ancestor-or-self; *count: how many are placed on that way. */
int32_t device_by_ancestors(const model *m, const int32_t *device_of, int32_t i, int32_t *count);
/* bytes[MAX_DEVICES]: on each device when tensor or module i lies on device[i] (-1: nothing of its own there). */
void bytes_on_devices(const model *m, const int32_t *device, uint64_t *bytes);
uint64_t room_of(const model *m, int32_t d);
/* An answer must be complete, split nothing that is whole, and keep the budgets. total[MAX_DEVICES]: bytes on each
 * device. */
void judge_answer(const char *name, const model *m, const answer *a, uint64_t *total);
/* How full the fullest device is; 1 = to the budget. */
double fullness(const model *m, const uint64_t *bytes);

/* ---- every cut of a small model (conformance_judge.c) ---- */

typedef struct cuts {
    int32_t atom[MAX_NODES]; /* of each node that owns bytes: its atom's place in the order; else -1 */
    int32_t n_atoms;
    bool any_fits;
    double least_fullness; /* of the fullest device, over the cuts that fit */
} cuts;

/* Over the devices in their order. */
void all_cuts(const model *m, cuts *c);

#endif
